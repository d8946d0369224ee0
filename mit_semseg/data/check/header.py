"""What a file claims in its first bytes, for files that Pillow refuses to open."""

_TEXT = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML file"),
    (b"%pdf", "a PDF file"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x93numpy", "a NumPy array"),
)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_TAIL = 64  # bytes in which a file's end is looked for: some programs write a few behind it
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # JPEG markers between the frame headers (C0 to CF) that are none


def image_format(data: bytes) -> str:
    """The format that a file's first bytes stand for, "" if it is none of the common ones."""
    return next((name for magic, name in _MAGIC if data.startswith(magic)), "")


def other_format(data: bytes) -> str:
    """What a file is that is no image, with its article, "" if that is unknown."""
    start = data[:64].lstrip().lower()
    return next((name for magic, name in _TEXT if start.startswith(magic)), "")


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG, GIF, BMP or JPEG file, None if it has none."""
    kind = image_format(data)
    if kind == "PNG" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind == "GIF" and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if kind == "BMP" and len(data) >= 26:
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        return width, abs(height)  # a negative height is that of rows from top to bottom
    if kind == "JPEG":
        return _jpeg_size(data)
    return None


def is_cut_off(data: bytes) -> bool:
    """Whether a PNG or JPEG file lacks the mark at its end."""
    end = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}.get(image_format(data))
    return end is not None and end not in data[-_TAIL:]


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + length
    return None

"""Which bytes are accepted as an image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from serving import picture, png

from mit_semseg.serve.upload import Header, Refusal, formats, read_header

MOST = 1_000_000


def encoded(kind, **options):
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, kind, **options)
    return file.getvalue()


def claiming(width, height):
    """A PNG file of a few bytes that claims a size."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


@pytest.mark.parametrize("kind", formats())
def test_the_size_of_each_format_is_read(kind):
    assert read_header(encoded(kind), MOST) == Header(48, 36)


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 415, "The upload is empty. Send the bytes of an image file."),
        (b"hello", 415, "The upload is not an image that can be read. Send one of JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not an image that can be read"),
        (b"\x89PNG\r\n\x1a\n", 415, "The upload is"),
        (
            claiming(1001, 1000),
            413,
            "The upload has 1001 x 1000 pixels, but the limit is 1,000,000. Scale it",
        ),
        (claiming(2**31 - 1, 2**31 - 1), 413, "claims too many pixels"),
        (encoded("JPEG") + b"\xff\xda" * 201, 415, "a JPEG image of more than 200 scans"),
    ],
)
def test_what_is_refused_and_why(data, status, message):
    with pytest.raises(Refusal, match=message.replace(".", r"\.")) as caught:
        read_header(data, MOST)
    assert caught.value.status == status


def test_an_image_at_the_limit_is_accepted():
    assert read_header(png(np.zeros((1000, 1000, 3), np.uint8)), MOST) == Header(1000, 1000)

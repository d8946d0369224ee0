"""Sizes of scaled and padded images, as the published models were trained and scored."""


def round_up(length: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``length``.

    Raises: ValueError if ``multiple`` is below 1.

    >>> round_up(300, 8), round_up(304, 8)
    (304, 304)
    """
    if multiple < 1:
        raise ValueError(f"multiple is {multiple}; it must be 1 or more.")
    return -(-length // multiple) * multiple


def fit_size(width: int, height: int, short_edge: float, max_long_edge: float) -> tuple[int, int]:
    """Size of an image scaled to a short edge, unless its long edge would pass a limit.

    Args:
        short_edge: wanted length of the shorter side, in pixels.
        max_long_edge: upper limit for the longer side, in pixels. It wins over ``short_edge``.

    Returns: (width, height), each rounded down, as the published models were trained; at least 1 pixel.
    Raises: ValueError if a side is below 1 pixel.

    >>> fit_size(683, 512, short_edge=300, max_long_edge=1000)
    (400, 300)
    """
    if min(width, height, short_edge, max_long_edge) < 1:
        raise ValueError(
            f"Sizes must be 1 pixel or more: width {width}, height {height}, "
            f"short_edge {short_edge}, max_long_edge {max_long_edge}."
        )
    # The order of the operations decides which products fall just below a whole number, and so the size.
    scale = min(short_edge / min(width, height), max_long_edge / max(width, height))
    return max(1, int(width * scale)), max(1, int(height * scale))

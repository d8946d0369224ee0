"""Rules for the names of weights that several families share."""

from collections.abc import Mapping

from .model import Rules


def upernet_head(norm: str, classifier: str) -> Rules:
    """The rules for the head and the auxiliary head of a UPerNet.

    Args:
        norm, classifier: the last names of its normalizations and of its classifiers.
    """
    layers = {
        r"decode_head\.psp_modules\.(\d+)\.1": r"ppm_conv.\1",
        r"decode_head\.bottleneck": "ppm_last_conv",
        r"decode_head\.lateral_convs\.(\d+)": r"fpn_in.\1",
        r"decode_head\.fpn_convs\.(\d+)": r"fpn_out.\1.0",
        r"decode_head\.fpn_bottleneck": "conv_last.0",
    }
    return (
        *conv_modules(layers, norm),
        (rf"decode_head\.{classifier}\.", "conv_last.1."),
        *auxiliary_head(norm, classifier),
    )


def auxiliary_head(norm: str, classifier: str) -> Rules:
    """The rules for an auxiliary head of one convolution. Arguments as for `upernet_head`."""
    return (
        *conv_modules({r"auxiliary_head\.convs\.0": "cbr_deepsup"}, norm),
        (rf"auxiliary_head\.{classifier}\.", "conv_last_deepsup."),
    )


def conv_modules(layers: Mapping[str, str], norm: str) -> Rules:
    """Two rules for each module of a convolution and a normalization, which are a sequence here."""
    return tuple(
        (rf"{pattern}\.{name}\.", f"{new}.{index}.")
        for pattern, new in layers.items()
        for index, name in enumerate(("conv", norm))
    )

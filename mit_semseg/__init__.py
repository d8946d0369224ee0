"""Semantic segmentation in PyTorch: encoders, decoders, synchronized BatchNorm and the three scripts.

Importing the package is cheap: torch is imported by the modules that compute with it, and `Segmenter` and
`Segmentation` when they are first used.
"""

from typing import TYPE_CHECKING

__version__ = "2.0.0"
__all__ = ["Segmentation", "Segmenter", "__version__"]

if TYPE_CHECKING:
    from .inference.segmenter import Segmentation, Segmenter
else:  # hidden from type checkers, which would accept any name of a module with __getattr__

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from .inference import segmenter
        except AttributeError as error:
            # Python would take it for a missing name, and report "cannot import name" without the cause.
            raise ImportError(f"{__name__}.{name} cannot be imported: {error}") from error
        return getattr(segmenter, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

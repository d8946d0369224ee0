"""Semantic segmentation in PyTorch: encoders, decoders, synchronized BatchNorm and the three scripts.

Importing the package is cheap: torch is imported by the modules that compute with it, and `Segmenter` and
`Segmentation` when they are first used.
"""

from typing import TYPE_CHECKING

__version__ = "2.0.0"
__all__ = ["Segmentation", "Segmenter", "__version__"]

if TYPE_CHECKING:
    from .segmenter import Segmentation, Segmenter
else:  # hidden from type checkers, to which a module with __getattr__ has any name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import segmenter

        return getattr(segmenter, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

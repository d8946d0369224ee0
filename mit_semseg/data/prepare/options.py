"""What the user has chosen, as plain values."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """The options of ``mit-semseg data prepare``; None is "not given"."""

    format: str
    val_share: float = 0.2
    seed: int = 0
    map: dict[int | None, int] = field(default_factory=dict)
    """File value -> class; None stands for all values that are not named."""
    ignore: tuple[int, ...] = ()
    names: str | None = None
    images: str = "link"
    skip_bad: bool = False
    image_folder: str | None = None
    label_folder: str | None = None
    image_suffix: str | None = None
    label_suffix: str | None = None
    label_offset: int | None = None
    colors: str | None = None
    unknown_colors: str | None = None
    classes: str | None = None
    background: str | None = None

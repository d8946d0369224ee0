"""Where the picture of each input goes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def output_paths(images: Sequence[str], asked: Sequence[str], folder: Path) -> list[Path]:
    """The picture of each image: ``folder/<name>.png``, in the image's subfolder below a folder asked for.

    No two images share a picture (``a.jpg`` beside ``a.png`` become ``a.jpg.png`` and ``a.png.png``), and
    none takes the place of an image (``a.png`` in the output folder becomes ``a_segmented.png``).

    Args:
        images: files, each once.
        asked: the files and folders among which they were found.
    """
    below = [_below(Path(image), asked) for image in images]
    times = Counter(path.with_suffix(".png") for path in below)
    taken = {Path(image).resolve() for image in images}
    outputs = []
    for path in below:
        name = path.with_suffix(".png")
        if times[name] > 1:
            name = path.with_name(f"{path.name}.png")
        target, number = folder / name, 1
        while target.resolve() in taken:
            suffix = f"_{number}" if number > 1 else ""
            target, number = folder / name.with_name(f"{name.stem}_segmented{suffix}.png"), number + 1
        taken.add(target.resolve())
        outputs.append(target)
    return outputs


def _below(image: Path, asked: Sequence[str]) -> Path:
    """The image's path below the folder that was asked for; its name alone where the image itself was."""
    for path in map(Path, asked):
        if image != path and image.is_relative_to(path):
            return image.relative_to(path)
    return Path(image.name)

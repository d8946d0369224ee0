"""The sample predictions of the latest validation, ``DIR/samples``: image | truth | prediction."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..data.remote import as_path
from ..inference.pictures import Image, save_picture

FOLDER = "samples"


def write_samples(folder: Path, samples: Mapping[str, Image]) -> None:
    """Write pictures by the names of their images, each in the subfolder of its image's name.

    Raises: UserError if the disk refuses.
    """
    for name, picture in samples.items():
        parts = [part for part in PurePosixPath(as_path(name)).parts if part not in ("/", "..")]
        path = folder.joinpath(FOLDER, *parts)
        save_picture(picture, path.with_name(f"{path.name}.png"))

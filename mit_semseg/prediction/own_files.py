"""Which files test.py has made: they are not its inputs, and all others in the output folder stay."""

from pathlib import Path

import PIL.Image

from ..data.files import extension, is_video, naming
from ..errors import UserError
from ..inference.pictures import is_own_picture
from ..runtime.files import state_of
from .collected import COLLECTED
from .inputs import Kind
from .manifest import Made
from .tools.labelme import is_untouched
from .video_reader import is_own_video, open_video
from .writers import OUTPUTS


def is_own(path: str, kind: Kind) -> bool:
    """Whether an input is an output of an earlier run."""
    suffix = extension(path)
    if kind == "video":
        return suffix == ".mp4" and is_own_video(Path(path))
    return suffix in (".png", ".tif") and is_own_picture(Path(path))


def is_result(path: str) -> bool:
    """Whether a file that is not an image has the name of an output, or is a video of an earlier run."""
    name = Path(path).name
    others = (
        suffix
        for output in OUTPUTS.values()
        if output.draw is None
        for suffix in (output.suffix, output.scene_suffix)
        if suffix and not suffix.endswith((".png", ".tif"))
    )
    return (
        name in {kind.file for kind in COLLECTED.values()}
        or name.endswith(tuple(others))
        or (is_video(path) and is_own(path, "video"))
    )


def is_foreign(path: Path) -> bool:
    """Whether a picture or a video exists there that test.py has not made."""
    if not path.exists():
        return False
    if path.suffix in (".png", ".tif"):
        return not is_own_picture(path)
    if path.suffix == OUTPUTS["labelme"].suffix:
        return not is_untouched(path)
    return path.suffix == ".mp4" and not is_own_video(path)


def is_same(made: Made | None, path: Path) -> bool:
    """Whether a file is a recorded output, to judge by its state."""
    return made is not None and made.path == path and made.state is not None and made.state == state_of(path)


def is_of_others(made: Made) -> bool:
    """Whether the file of an output has been replaced by somebody's picture, video or LabelMe file."""
    path = made.path
    assert path is not None
    if is_same(made, path) or not is_foreign(path):
        return False
    try:
        if path.suffix == OUTPUTS["labelme"].suffix:
            return True
        if path.suffix == ".mp4":
            with open_video(str(path)):
                return True
        with naming(path), PIL.Image.open(path):
            return True
    except UserError:  # the output itself, damaged
        return False

"""Reading .safetensors files: tensors after a header in JSON, without a pickle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import UserError
from ...runtime.packages import require

SUFFIX = ".safetensors"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A .safetensors file, as ``safetensors.safe_open`` opens it.

    Raises: UserError if the file cannot be read, or the package is missing.
    """
    safetensors = require("safetensors", path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield file
    except (safetensors.SafetensorError, OSError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise UserError(
            f"{path} cannot be read ({path.stat().st_size if path.is_file() else 0} bytes): {reason}. It is "
            "truncated, damaged, or of another kind. Download it again, or name another file."
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file. Raises: as `opened`."""
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping

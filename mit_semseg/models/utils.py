"""The module path of the old package: the download of weights."""

from pathlib import Path
from typing import Any

import torch

from .weights.download import fetch


def load_url(url: str, model_dir: str = "./pretrained", map_location: Any = None) -> Any:
    """The content of the checkpoint at ``url``, which is downloaded to the folder ``model_dir`` once.

    Raises: UserError if the download fails, or if what arrives is not a checkpoint.
    """
    file = fetch(url, Path(model_dir) / url.rpartition("/")[2])
    return torch.load(file, map_location, weights_only=True)

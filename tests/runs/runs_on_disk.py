"""Folders as trainings leave them, written by hand because a training takes seconds."""

import numpy as np
import yaml
from PIL import Image

from mit_semseg.config import get_defaults
from mit_semseg.config.load import with_keys

HEADER = "epoch,iteration,loss,accuracy,lr_encoder,lr_decoder,val_mean_iou,val_accuracy\n"
STAMP = "2026-01-02 03:04:05  "


def config(**keys):
    names = {key.replace("__", "."): value for key, value in keys.items()}
    return with_keys(get_defaults(), names).dump()


def write_run(folder, rows=(), log=(), epochs=(), text=None, **keys):
    """A folder with a history, a log, empty checkpoints of some epochs and a config, ``text`` or of keys."""
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    (folder / "log.txt").write_text("".join(f"{STAMP}{message}\n" for message in log))
    (folder / "config.yaml").write_text(config(**keys) if text is None else text)
    for epoch in epochs:
        for part in ("encoder", "decoder"):
            (folder / f"{part}_epoch_{epoch}.pth").touch()
    return folder


def write_strip(path, color, height=8, width=10):
    """A picture of image | truth | prediction; the prediction has one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = np.zeros((height, 3 * width, 3), np.uint8)
    strip[:, 2 * width :] = color
    Image.fromarray(strip).save(path)


def plain(text):
    return yaml.safe_load(text)

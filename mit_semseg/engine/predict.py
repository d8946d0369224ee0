"""Prediction: pictures of image and classes side by side, and each class's share."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from yacs.config import CfgNode

from ..data.classes import ClassTable
from ..data.files import find_images
from ..dataset import TestDataset
from ..errors import UserError
from ..inference import predict_labels
from ..launch import started_by_torchrun
from ..log import setup_logger
from ..visualize import colorEncode, save_picture, side_by_side
from .loading import load
from .outputs import output_paths
from .setup import build_scoring, check_model, check_writable, class_table, trained_weights

_SMALLEST_SHARE = 0.001  # of an image; classes below it are not printed


def predict(cfg: CfgNode, devices: Sequence[torch.device], paths: Sequence[str]) -> list[Path]:
    """Segment images, print each one's classes, and write pictures into ``TEST.result``.

    Args:
        devices: the first one is used.
        paths: images and folders.

    Returns: the pictures written.
    Raises: UserError for a config, a checkpoint or an output folder that can't be used, and, after the others
        have been done, for images that can't be read.
    """
    setup_logger()
    if started_by_torchrun():
        raise UserError("test.py is one process. Call it without torchrun.")
    check_model(cfg)
    table = class_table(cfg)
    images = find_images(paths)
    weights = trained_weights(cfg, "TEST")
    folder = Path(cfg.TEST.result)
    check_writable(folder, "TEST.result")
    outputs = output_paths(images, paths, folder)
    device = devices[0]
    network, settings = build_scoring(cfg, weights, device)
    dataset = TestDataset(images, cfg.DATASET)
    items = load(dataset.__getitem__, range(len(dataset)), workers=cfg.TRAIN.workers, device=device)
    written, unreadable = [], []
    progress = tqdm(items, total=len(dataset), desc="Segmenting", unit="img", disable=None)
    for target, item in zip(outputs, progress, strict=True):
        if isinstance(item, UserError):
            unreadable.append(str(item))
            continue
        original = item["img_ori"]
        labels = predict_labels(network, item["img_data"], original.shape[:2], settings)[0].numpy()
        save_picture(side_by_side([original, colorEncode(labels, table.colors)]), target)
        tqdm.write(_shares(labels, table, item["info"], target), file=sys.stdout, end="")
        written.append(target)
    if unreadable:
        raise UserError(
            "\n".join([*unreadable, f"{len(unreadable)} of {len(dataset)} images could not be segmented."])
        )
    return written


def _shares(labels: np.ndarray, table: ClassTable, image: str, target: Path) -> str:
    """The classes of an image, the largest first, with their shares of its pixels."""
    shares = np.bincount(labels.ravel(), minlength=len(table.names)) / labels.size
    lines = [f"Predictions in [{image}]:"]
    for k in np.argsort(-shares, kind="stable"):
        if shares[k] > _SMALLEST_SHARE:
            lines.append(f"  {table.names[k]}: {100 * shares[k]:.2f}%")
    return "\n".join([*lines, f"  -> {target}"]) + "\n"

"""From a config to the things that a run needs: model, weights, class table, output folder."""

import os
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from .. import checkpoint
from ..data.classes import ClassTable, load_classes
from ..errors import UserError
from ..log import get_logger
from ..losses import pixel_loss_sum
from ..models import ModelBuilder, SegmentationModule, check_pair
from ..models.pretrained import PUBLISHED, fetch_published
from ..optim import OPTIMIZERS


def check_model(cfg: CfgNode) -> None:
    """Refuse a model that can't be built as configured, before any weights are read.

    Raises: UserError, see :func:`mit_semseg.models.check_pair`.
    """
    with torch.device("meta"):  # no memory, no random numbers
        encoder = ModelBuilder.build_encoder(cfg.MODEL.arch_encoder, imagenet=False)
    check_pair(
        encoder,
        cfg.MODEL.arch_encoder,
        cfg.MODEL.arch_decoder,
        cfg.MODEL.fc_dim,
        cfg.DATASET.segm_downsampling_rate,
    )
    if cfg.TRAIN.optim not in OPTIMIZERS:
        raise UserError(f"TRAIN.optim is '{cfg.TRAIN.optim}', but takes one of {', '.join(OPTIMIZERS)}.")


def build_module(cfg: CfgNode, weights: tuple[str, str], *, training: bool) -> SegmentationModule:
    """The model of a config, on the CPU.

    Args:
        weights: checkpoints of encoder and decoder; an empty encoder checkpoint is ImageNet's weights where
            ``MODEL.pretrained`` is True, an empty decoder checkpoint random weights.
        training: with the loss and log-probabilities; else probabilities, in evaluation mode.
    """
    encoder = ModelBuilder.build_encoder(
        cfg.MODEL.arch_encoder, weights=weights[0], imagenet=cfg.MODEL.pretrained
    )
    decoder = ModelBuilder.build_decoder(
        cfg.MODEL.arch_decoder,
        num_class=cfg.DATASET.num_class,
        weights=weights[1],
        use_softmax=not training,
        channels=encoder.channels,  # type: ignore[arg-type]
    )
    if not training:
        return SegmentationModule(encoder, decoder, None).eval()
    deep_sup_scale = cfg.TRAIN.deep_sup_scale if decoder.deep_supervision else None
    return SegmentationModule(encoder, decoder, pixel_loss_sum(), deep_sup_scale)


def trained_weights(cfg: CfgNode, section: str) -> tuple[str, str]:
    """The checkpoints of encoder and decoder that ``VAL.checkpoint`` or ``TEST.checkpoint`` names in ``DIR``.

    Left empty, it is the newest epoch. A published model whose ``DIR`` holds no checkpoint yet is downloaded
    there.

    Args:
        section: "VAL" or "TEST".

    Raises: UserError if there is none.
    """
    folder, name = Path(cfg.DIR), cfg[section].checkpoint
    newest = checkpoint.newest_epoch(folder)
    if (
        newest is None
        and PUBLISHED.get(folder.name) is not None
        and name in ("", f"epoch_{PUBLISHED[folder.name]}.pth")
    ):
        get_logger().info("%s holds no checkpoint: fetching the published one", folder)
        encoder, decoder = fetch_published(folder.name, folder)
        return str(encoder), str(decoder)
    if not name:
        if newest is None:
            raise UserError(
                f"{folder} holds no checkpoint. Train one with train.py, or set DIR to a folder that has "
                f"encoder_epoch_N.pth and decoder_epoch_N.pth."
            )
        name = f"epoch_{newest}.pth"
    files = (folder / f"encoder_{name}", folder / f"decoder_{name}")
    for file in files:
        if not file.is_file():
            there = f"The newest there is epoch_{newest}.pth" if newest is not None else "There is no other"
            raise UserError(f"{file} does not exist. {there}; set {section}.checkpoint, or DIR.")
    return str(files[0]), str(files[1])


def class_table(cfg: CfgNode) -> ClassTable:
    """Names and colours of the config's classes."""
    return load_classes(cfg.DATASET.classes, cfg.DATASET.num_class)


def make_folder(path: str | Path, key: str) -> Path:
    """The folder, made if it does not exist, and known to be writable.

    Raises: UserError that names ``key`` if it can't be written into.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder} can't be written into: {error.strerror}. Set {key} to another folder."
        ) from error
    return folder


def freeze_batch_norm(module: nn.Module) -> None:
    """Stop BatchNorm from following the data: its statistics and parameters stay as they are."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
            for parameter in layer.parameters():
                parameter.requires_grad_(False)

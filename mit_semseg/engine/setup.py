"""From a config to the things that a run needs: model, weights, class table, output folder."""

import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from .. import checkpoint
from ..config import load_config
from ..data.classes import ClassTable, load_classes
from ..errors import UserError
from ..inference import ScoringNetwork, Settings
from ..log import get_logger
from ..models import ModelBuilder, SegmentationModule, check_pair
from ..models.builder import DECODERS, check_packaged
from ..models.packaged import PREFIX
from ..models.pretrained import PUBLISHED, fetch_published, released_weights
from .recipe import criterion, freezes_batch_norm


def check_model(cfg: CfgNode) -> None:
    """Refuse a model that can't be built as configured, before any weights are read.

    Raises: UserError, see :func:`mit_semseg.models.check_pair`.
    """
    with torch.device("meta"):  # no memory, no random numbers
        encoder = ModelBuilder.build_encoder(
            cfg.MODEL.arch_encoder, imagenet=False, output_stride=cfg.MODEL.output_stride
        )
    check_pair(
        encoder,
        cfg.MODEL.arch_encoder,
        cfg.MODEL.arch_decoder,
        cfg.MODEL.fc_dim,
        cfg.DATASET.segm_downsampling_rate,
    )


def check_batch(cfg: CfgNode, processes: int) -> None:
    """Refuse to train with fewer images at a time than the decoder's BatchNorms need.

    Raises: UserError with the number to set.
    """
    needed = DECODERS[cfg.MODEL.arch_decoder.lower()].min_batch if cfg.MODEL.decoder_norm == "batch" else 1
    if cfg.TRAIN.batch_size_per_gpu * processes < needed and not freezes_batch_norm(cfg.TRAIN):
        raise UserError(
            f"TRAIN.batch_size_per_gpu is {cfg.TRAIN.batch_size_per_gpu}, but {cfg.MODEL.arch_decoder} pools "
            f"an image to one value a channel, and BatchNorm needs {needed}. Set TRAIN.batch_size_per_gpu "
            f"{needed}, or TRAIN.freeze bn."
        )


def check_weights(model: CfgNode) -> None:
    """Refuse checkpoints of the section MODEL that are not there, before anything is read.

    Raises: UserError with the key.
    """
    check_packaged(model.weights_encoder, model.arch_encoder)
    if model.weights_decoder.startswith(PREFIX):
        raise UserError(
            f"MODEL.weights_decoder is '{model.weights_decoder}', but packages hold encoders only. Set "
            "MODEL.weights_encoder to it, or name a file."
        )
    for key in ("weights_encoder", "weights_decoder"):
        file = model[key]
        if not file or file.startswith(PREFIX):
            continue
        try:
            checkpoint.first_bytes(Path(file))
        except UserError as error:
            raise UserError(f"MODEL.{key}: {error}") from error


def build_module(
    cfg: CfgNode,
    weights: tuple[str, str],
    *,
    training: bool,
    pretrained: bool = True,
) -> SegmentationModule:
    """The model of a config, on the CPU.

    Args:
        weights: checkpoints of encoder and decoder; an empty encoder checkpoint is ImageNet's weights where
            ``MODEL.pretrained`` is True, an empty decoder checkpoint random weights.
        training: with log-probabilities and the loss, in which classes count alike; else probabilities, in
            evaluation mode.
        pretrained: False leaves ImageNet's weights out whatever the config says, for weights that come later.
    """
    encoder = ModelBuilder.build_encoder(
        cfg.MODEL.arch_encoder,
        weights=weights[0],
        imagenet=cfg.MODEL.pretrained and pretrained,
        output_stride=cfg.MODEL.output_stride,
    )
    decoder = ModelBuilder.build_decoder(
        cfg.MODEL.arch_decoder,
        num_class=cfg.DATASET.num_class,
        weights=weights[1],
        use_softmax=not training,
        channels=encoder.channels,  # type: ignore[arg-type]
        dim=cfg.MODEL.decoder_dim,
        dropout=cfg.MODEL.decoder_dropout,
        norm=cfg.MODEL.decoder_norm,
        # A checkpoint that a run goes on from has the classes that it is trained for.
        reset_classifier=training and cfg.MODEL.reset_classifier and weights[1] == cfg.MODEL.weights_decoder,
    )
    if not training:
        return SegmentationModule(encoder, decoder, None).eval()
    deep_sup_scale = cfg.TRAIN.deep_sup_scale if decoder.deep_supervision else None
    at_label_size = cfg.TRAIN.label_resolution == "full"
    loss = criterion(cfg.TRAIN, None)
    return SegmentationModule(encoder, decoder, loss, deep_sup_scale, at_label_size=at_label_size)


def build_scoring(
    cfg: CfgNode, weights: tuple[str, str], device: torch.device
) -> tuple[ScoringNetwork, Settings]:
    """The trained model of a config, made ready for inference on ``device``, and how to score images with it.

    Args:
        weights: checkpoints of encoder and decoder.
    """
    return scoring(cfg, build_module(cfg, weights, training=False), device)


def scoring(cfg: CfgNode, module: nn.Module, device: torch.device) -> tuple[ScoringNetwork, Settings]:
    """As `build_scoring`, of a module in evaluation mode; it stays as it is."""
    val = cfg.VAL
    return ScoringNetwork.prepared(module, device, amp=val.amp), Settings(val.flip, val.tile, val.overlap)


def trained_weights(cfg: CfgNode, section: str) -> tuple[str, str]:
    """The checkpoints of encoder and decoder that ``VAL.checkpoint`` or ``TEST.checkpoint`` names in ``DIR``.

    Left empty, it is the newest epoch; with no checkpoint in ``DIR``, the weights that come with the project,
    for the model that has some. A published model whose ``DIR`` holds no checkpoint yet is downloaded there.

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
    released = released_weights(folder.name) if newest is None else None
    if not name:
        if released is not None:
            get_logger().info("%s holds no checkpoint: taking %s", folder, released[0].parent)
            _warn_of_other_model(cfg, released[0].parent)
            return str(released[0]), str(released[1])
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
            if released is not None:
                there = f"The weights that come with the project are taken without {section}.checkpoint"
            raise UserError(f"{file} does not exist. {there}; set {section}.checkpoint, or DIR.")
    _warn_of_other_model(cfg, folder)
    return str(files[0]), str(files[1])


def _warn_of_other_model(cfg: CfgNode, folder: Path) -> None:
    """Models of other strides or paddings can have the same weights, and give other results."""
    file = folder / "config.yaml"
    if not file.is_file():  # as with the files of the old package
        return
    try:
        trained = load_config(str(file)).MODEL
    except UserError:  # of another version, or half-written: the weights are what counts
        return
    for key in ("arch_encoder", "arch_decoder", "output_stride"):
        theirs, ours = str(trained[key]), str(cfg.MODEL[key])
        if theirs.lower() != ours.lower():
            get_logger().warning(
                "The weights in %s are of MODEL.%s %s, but the config says %s, which may give worse results.",
                *(folder, key, theirs, ours),
            )


def class_table(cfg: CfgNode) -> ClassTable:
    """Names and colours of the config's classes."""
    return load_classes(cfg.DATASET.classes, cfg.DATASET.num_class)


def check_writable(path: str | Path, key: str) -> None:
    """Refuse a folder that can't be made or written into, by a trial of which nothing is left.

    Whoever writes the first file makes the folder, so that a run that fails before leaves nothing behind.

    Raises: UserError that names ``key``, the config key of the folder.
    """
    folder = Path(path)
    made: list[Path] = []
    try:
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk may still take an empty file
    except OSError as error:
        reason = "a file has that name" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"{folder} can't be written into: {reason}. Set {key} to another folder.") from error
    finally:
        for parent in made:
            with suppress(OSError):  # not made after all, or in use by now
                parent.rmdir()

"""Checks of the options before any work, by the tables of decoders, losses, optimizers and weights."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..losses import LOSSES, QUERY_LOSS, TEACHER_LOSS, parse_losses
from ..models.builder import ALL_DECODERS, check_packaged, decoder_style
from ..models.foreign import PREFIX as HUB
from ..models.foreign import located
from ..models.weights import checkpoint
from ..models.weights.packaged import PREFIX
from ..optim.optimizers import decays_weights, find_optimizer
from ..tracking import package_of
from .options import TrainOptions


def check_recipe(options: TrainOptions) -> None:
    """Refuse a loss or an optimizer that does not exist, and settings that it does not support.

    Raises: UserError with the value to set.
    """
    loss, smoothing = options.module.loss, options.module.loss_options.label_smoothing
    try:
        losses = parse_losses(loss)
    except ValueError as error:
        raise UserError(f"TRAIN.loss is '{loss}', but {error}.") from None
    _check_loss_of_decoder(options, tuple(losses))
    _check_teachers(options, tuple(losses))
    takers = _losses_with("label_smoothing")
    if smoothing and losses.keys().isdisjoint(takers):
        raise UserError(
            f"TRAIN.label_smoothing is {smoothing}, but TRAIN.loss {loss} does not use it. "
            f"Set it to 0, or add {' or '.join(takers)} to the loss."
        )
    takers = _losses_with("class_weights")
    if options.class_weights and losses.keys().isdisjoint(takers):
        raise UserError(
            f"TRAIN.class_weights is {options.class_weights}, but TRAIN.loss {loss} weighs all classes "
            f"alike. Leave it empty, or add one of {', '.join(takers)} to the loss."
        )
    try:
        find_optimizer(options.optim)
    except ValueError as error:
        raise UserError(f"TRAIN.optim is '{options.optim}', which {error}.") from None
    if options.weight_decay and not decays_weights(options.optim):
        raise UserError(
            f"TRAIN.weight_decay is {options.weight_decay}, but TRAIN.optim {options.optim} does not use it. "
            "Set it to 0."
        )


def _losses_with(option: str) -> list[str]:
    """The names of the losses that take an option."""
    return [name for name, kind in LOSSES.items() if option in kind.options]


def _check_loss_of_decoder(options: TrainOptions, losses: tuple[str, ...]) -> None:
    """Refuse a loss of pixels for a decoder with queries, and the loss of queries for another one."""
    arch, loss = options.module.model.arch_decoder, options.module.loss
    queries = ALL_DECODERS[arch.lower()].query_count() > 0
    if queries and losses != (QUERY_LOSS,):
        raise UserError(
            f"TRAIN.loss is '{loss}', but {arch} predicts masks by queries. Set TRAIN.loss {QUERY_LOSS}."
        )
    if not queries and QUERY_LOSS in losses:
        raise UserError(
            f"TRAIN.loss is '{loss}', but {arch} has no queries. Set another loss, such as cross_entropy."
        )


def _check_teachers(options: TrainOptions, losses: tuple[str, ...]) -> None:
    """Refuse distillation without teachers, and teachers without it."""
    loss, teachers = options.module.loss, ",".join(options.teachers)
    if TEACHER_LOSS in losses and not teachers:
        raise UserError(
            f"TRAIN.loss is '{loss}', but TRAIN.teachers is empty. Set it to the folder of a trained model."
        )
    if teachers and QUERY_LOSS in losses:
        raise UserError(
            f"TRAIN.teachers is {teachers}, but a decoder with queries cannot learn from teachers. Leave it "
            "empty."
        )
    if teachers and TEACHER_LOSS not in losses:
        raise UserError(
            f"TRAIN.teachers is {teachers}, but TRAIN.loss {loss} does not use it. Add {TEACHER_LOSS} to the "
            f"loss: TRAIN.loss '{loss} + {TEACHER_LOSS}'."
        )


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker whose library is not installed. Raises: UserError with what to install."""
    for name in names:
        if package := package_of(name):
            raise UserError(
                f"TRAIN.trackers names {name}, which is not installed. Run: pip install {package}. Or remove "
                f"{name} from TRAIN.trackers."
            )


def check_batch(options: TrainOptions, processes: int) -> None:
    """Refuse a batch that is too small for the BatchNorms of the decoder.

    Raises: UserError with the number to set.
    """
    model, batch = options.module.model, options.run.batch_size_per_gpu
    arch = model.arch_decoder.lower()
    style = decoder_style(
        arch, model.decoder_dim, model.decoder_dropout, model.decoder_norm, model.decoder_options
    )
    needed = ALL_DECODERS[arch].min_batch(style) if style.norm == "batch" else 1
    if batch * processes < needed and not options.module.freeze_batch_norm:
        raise UserError(
            f"TRAIN.batch_size_per_gpu is {batch}, but {model.arch_decoder} pools "
            f"an image to one value per channel, and BatchNorm needs {needed}. Set TRAIN.batch_size_per_gpu "
            f"{needed}, or TRAIN.freeze bn."
        )


def check_weights(weights: tuple[str, str], arch_encoder: str) -> None:
    """Refuse missing checkpoints of encoder and decoder, before any file is read.

    Raises: UserError with the key.
    """
    encoder, decoder = weights
    check_packaged(encoder, arch_encoder)
    if decoder.startswith(PREFIX):
        raise UserError(
            f"MODEL.weights_decoder is '{decoder}', but packages hold encoders only. Set "
            "MODEL.weights_encoder to it, or name a file."
        )
    for key, file in (("weights_encoder", encoder), ("weights_decoder", decoder)):
        if not file or file.startswith(PREFIX):
            continue
        try:
            if file.startswith(HUB):
                located(file)
            elif not Path(file).is_dir():
                checkpoint.first_bytes(Path(file))
        except UserError as error:
            raise UserError(f"MODEL.{key}: {error}") from error

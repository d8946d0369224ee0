"""From a config to how a model is trained: loss, class weights, what is frozen, optimizer, schedule."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from ..config.recipe import parse_class_weights
from ..cores import count_cores
from ..data.class_weights import CLASS_WEIGHTS, ClassCounts
from ..dataset import TrainDataset
from ..distributed import Place, count_processes_here, sum_over_processes
from ..errors import UserError
from ..log import get_logger
from ..losses import Criterion, LossOptions, build_criterion, parse_losses
from ..lr_schedule import Schedule
from ..models import SegmentationModule
from ..optim import build_optimizer, decays_weights, find_optimizer
from .loading import load, raise_errors

_TAKE_CLASS_WEIGHTS = ("cross_entropy", "ohem", "focal")


def check_recipe(cfg: CfgNode) -> None:
    """Refuse a loss or an optimizer that does not exist, and settings that they do not know.

    Raises: UserError with the value to set.
    """
    train = cfg.TRAIN
    try:
        losses = parse_losses(train.loss)
    except ValueError as error:
        raise UserError(f"TRAIN.loss is '{train.loss}', but {error}.") from None
    if train.label_smoothing and "cross_entropy" not in losses:
        raise UserError(
            f"TRAIN.label_smoothing is {train.label_smoothing}, but TRAIN.loss {train.loss} has none. "
            "Set it to 0, or add cross_entropy to the loss."
        )
    if train.class_weights and not losses.keys() & set(_TAKE_CLASS_WEIGHTS):
        raise UserError(
            f"TRAIN.class_weights is {train.class_weights}, but TRAIN.loss {train.loss} weighs all classes "
            f"alike. Leave it empty, or add one of {', '.join(_TAKE_CLASS_WEIGHTS)} to the loss."
        )
    try:
        find_optimizer(train.optim)
    except ValueError as error:
        raise UserError(f"TRAIN.optim is '{train.optim}', which {error}.") from None
    if train.weight_decay and not decays_weights(train.optim):
        raise UserError(
            f"TRAIN.weight_decay is {train.weight_decay}, but TRAIN.optim {train.optim} has none. Set 0."
        )


def criterion(train: CfgNode, class_weights: Tensor | None) -> Criterion:
    """The loss of the section TRAIN, with class weights (num_class,) or None."""
    options = LossOptions(
        class_weights, train.label_smoothing, train.focal_gamma, train.ohem_threshold, train.ohem_min_kept
    )
    return build_criterion(train.loss, options)


def freezes_batch_norm(train: CfgNode) -> bool:
    """Whether all BatchNorms are to be frozen; ``TRAIN.fix_bn True`` is the older name of ``freeze bn``."""
    # Not train.freeze, which is a method of every node.
    return train.fix_bn or train["freeze"] == "bn"


def optimizer_for(module: SegmentationModule, train: CfgNode) -> torch.optim.Optimizer:
    """The optimizer of the section TRAIN."""
    return build_optimizer(
        train.optim,
        module.encoder,
        module.decoder,
        lr=(train.lr_encoder, train.lr_decoder),
        beta1=train.beta1,
        weight_decay=train.weight_decay,
    )


def schedule(train: CfgNode) -> Schedule:
    """The learning rate's course over the run that the section TRAIN describes."""
    return Schedule(
        train.lr_schedule,
        train.num_epoch * train.epoch_iters,
        power=train.lr_pow,
        lowest=train.lr_min,
        milestones=[round(epoch * train.epoch_iters) for epoch in train.lr_milestones],
        step_factor=train.lr_step_factor,
        warmup=train.warmup_iters,
        warmup_factor=train.warmup_factor,
    )


def label_rate(cfg: CfgNode) -> int:
    """The rate at which training compares labels: that of the decoder, or 1 if its scores are enlarged."""
    return 1 if cfg.TRAIN.label_resolution == "full" else cfg.DATASET.segm_downsampling_rate


def class_weights(cfg: CfgNode, dataset: TrainDataset, place: Place) -> Tensor | None:
    """The class weights of a run, (num_class,) float32 on the CPU, the same in every process; None for none.

    Computed ones are of the labels of ``dataset``, as they lie in their files; each process counts its share.

    Raises: UserError for a label that cannot be used, and if no pixel has a class.
    """
    wanted = parse_class_weights(cfg.TRAIN.class_weights)
    if isinstance(wanted, tuple):
        return torch.tensor(wanted)
    if not wanted:
        return None
    indices = range(place.rank, dataset.num_sample, place.size)
    workers = count_cores() // count_processes_here()
    items = load(dataset.label_counts, indices, workers=workers, device=torch.device("cpu"))
    counts = ClassCounts(cfg.DATASET.num_class)
    bar = tqdm(
        raise_errors(items),
        total=len(indices),
        desc="Counting labels",
        unit="label",
        disable=None if place.is_first else True,
    )
    for item in bar:
        counts.add(item["counts"])
    both = torch.from_numpy(np.stack([counts.pixels, counts.around])).to(place.device)
    counts.pixels, counts.around = sum_over_processes(both).cpu().numpy()
    if not counts.pixels.any():
        raise UserError(
            f"{cfg.DATASET.list_train} has no label with a pixel of a class, so no class weights."
        )
    weights = CLASS_WEIGHTS[wanted](counts, cfg.TRAIN.enet_constant)
    occur = weights[counts.pixels > 0]
    get_logger().info(
        "Class weights %s from %.3g to %.3g; %d of %d classes occur",
        wanted,
        occur.min(),
        occur.max(),
        len(occur),
        len(weights),
    )
    return torch.from_numpy(weights).float()

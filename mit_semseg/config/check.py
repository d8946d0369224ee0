"""Limits of single config values, checked before anything is built or written."""

import math
from typing import Any

from yacs.config import CfgNode

from .recipe import check_recipe, contradictions_of_recipe
from .speed import check_speed, contradictions_of_speed

_LARGEST = 2**31 - 1  # of whole numbers, so that no product of two overflows 64 bits
_AT_LEAST: dict[str, int] = {
    "DATASET.num_class": 2,
    "DATASET.imgMaxSize": 1,
    "DATASET.padding_constant": 1,
    "DATASET.segm_downsampling_rate": 1,
    "DATASET.label_offset": 0,
    "DATASET.ignore_label": -1,
    "MODEL.fc_dim": 1,
    "MODEL.decoder_dim": 0,
    "TRAIN.batch_size_per_gpu": 1,
    "TRAIN.num_epoch": 1,
    "TRAIN.start_epoch": 0,
    "TRAIN.save_iters": 0,
    "TRAIN.keep_checkpoints": 0,
    "TRAIN.patience": 0,
    "TRAIN.epoch_iters": 1,
    "TRAIN.lr_encoder": 0,
    "TRAIN.lr_decoder": 0,
    "TRAIN.accumulate": 1,
    "TRAIN.focal_gamma": 0,
    "TRAIN.lr_pow": 0,
    "TRAIN.lr_min": 0,
    "TRAIN.warmup_iters": 0,
    "TRAIN.clip_grad_norm": 0,
    "TRAIN.beta1": 0,
    "TRAIN.weight_decay": 0,
    "TRAIN.deep_sup_scale": 0,
    "TRAIN.timeout": 1,
    "TRAIN.workers": -1,
    "TRAIN.disp_iter": 1,
    "TRAIN.seed": 0,
    "VAL.every": 0,
    "VAL.max_images": 0,
    "VAL.batch_size": 1,
    "VAL.tile": 0,
    "VAL.overlap": 0,
}

_AT_MOST = {"MODEL.decoder_dim": 8192}


def check_values(cfg: CfgNode) -> list[str]:
    """A sentence for each value that is out of its limits, and for each pair that contradicts itself."""
    problems = []
    for key, limit in _AT_LEAST.items():
        value = _get(cfg, key)
        most = _AT_MOST.get(key, _LARGEST)
        if isinstance(value, int) and not limit <= value <= most:
            problems.append(f"{key} is {value}, but takes whole numbers from {limit} to {most}.")
        elif not (math.isfinite(value) and value >= limit):
            problems.append(f"{key} is {value}, but takes a number from {limit} up.")
    data, train = cfg.DATASET, cfg.TRAIN
    if train.beta1 >= 1:
        problems.append(f"TRAIN.beta1 is {train.beta1}, but must be below 1.")
    problems += check_recipe(train)
    problems += check_speed(train)
    model = cfg.MODEL
    if model.output_stride not in (0, 8, 16, 32):
        problems.append(f"MODEL.output_stride is {model.output_stride}, but takes 0, 8, 16 or 32.")
    if not (model.decoder_dropout == -1 or 0 <= model.decoder_dropout < 1):
        problems.append(
            f"MODEL.decoder_dropout is {model.decoder_dropout}, but takes a share from 0 to below 1, or -1."
        )
    if model.decoder_norm not in ("batch", "group"):
        problems.append(f"MODEL.decoder_norm is '{model.decoder_norm}', but takes batch or group.")
    if train.parallel not in ("ddp", "dp"):
        problems.append(f"TRAIN.parallel is '{train.parallel}', but takes ddp or dp.")
    if data.on_error not in ("raise", "skip"):
        problems.append(f"DATASET.on_error is '{data.on_error}', but takes raise or skip.")
    if len(data.crop_size) != 2 or any(type(side) is not int or side < 1 for side in data.crop_size):
        problems.append(f"DATASET.crop_size is {data.crop_size}, but takes two whole numbers above 0.")
    if not 0 < data.crop_max_share <= 1:
        problems.append(
            f"DATASET.crop_max_share is {data.crop_max_share}, but takes a share above 0, up to 1."
        )
    if not _is_range(data.scale_range):
        problems.append(
            f"DATASET.scale_range is {data.scale_range}, but takes two numbers above 0, the smaller first."
        )
    if cfg.VAL.amp not in ("none", "bf16"):
        problems.append(f"VAL.amp is '{cfg.VAL.amp}', but takes none or bf16.")
    sizes = data.imgSizes
    if not sizes or any(type(size) is not int or not 1 <= size <= _LARGEST for size in sizes):
        problems.append(f"DATASET.imgSizes is {sizes}, but takes one or more whole numbers above 0.")
    if problems:
        return problems
    if data.padding_constant % data.segm_downsampling_rate:
        problems.append(
            f"DATASET.padding_constant is {data.padding_constant}, which is no multiple of "
            f"DATASET.segm_downsampling_rate {data.segm_downsampling_rate}. Set DATASET.padding_constant "
            f"{-(-data.padding_constant // data.segm_downsampling_rate) * data.segm_downsampling_rate}."
        )
    problems += contradictions_of_recipe(train, data.num_class)
    problems += contradictions_of_speed(cfg)
    if train.start_epoch >= train.num_epoch:
        problems.append(
            f"TRAIN.start_epoch is {train.start_epoch}, but the run ends at TRAIN.num_epoch "
            f"{train.num_epoch}. Set TRAIN.num_epoch higher to train on."
        )
    if train.resume != "off" and train.start_epoch:
        problems.append(
            f"TRAIN.resume is '{train.resume}' and TRAIN.start_epoch {train.start_epoch}: both say where to "
            "go on. Leave one of them out."
        )
    if not train.resume:
        problems.append("TRAIN.resume is empty, but takes auto, off, a state file or a run's folder.")
    if train.patience and not cfg.VAL.every:
        problems.append(
            f"TRAIN.patience is {train.patience}, but nothing is validated: VAL.every is 0. Set VAL.every 1."
        )
    if cfg.VAL.overlap and cfg.VAL.overlap >= cfg.VAL.tile:
        problems.append(
            f"VAL.overlap is {cfg.VAL.overlap}, but VAL.tile is {cfg.VAL.tile}. Set VAL.tile above it."
        )
    if cfg.TEST.batch_size != 1:
        problems.append(f"TEST.batch_size is {cfg.TEST.batch_size}, but images go one by one: 1.")
    return problems


def _is_range(values: tuple[Any, ...]) -> bool:
    return (
        len(values) == 2
        and all(type(value) in (int, float) and 0 < value < _LARGEST for value in values)
        and values[0] <= values[1]
    )


def _get(cfg: CfgNode, key: str) -> Any:
    section, leaf = key.split(".")
    return cfg[section][leaf]

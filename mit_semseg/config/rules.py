"""Config keys that contradict each other. A value on its own is checked by the table of keys (keys.py)."""

from collections.abc import Iterator

from yacs.config import CfgNode

from .allowed import parse_class_weights

_SHARDED_OPTIMIZERS = ("SGD", "Adam", "AdamW")


def contradictions(cfg: CfgNode) -> list[str]:
    """A sentence for each contradiction between keys whose values are all allowed."""
    return [problem for rule in _RULES for problem in rule(cfg)]


def _padding(cfg: CfgNode) -> Iterator[str]:
    padding, rate = cfg.DATASET.padding_constant, cfg.DATASET.segm_downsampling_rate
    if padding % rate:
        yield (
            f"DATASET.padding_constant is {padding}, which is not a multiple of "
            f"DATASET.segm_downsampling_rate {rate}. Set DATASET.padding_constant "
            f"{-(-padding // rate) * rate}."
        )


def _bands(cfg: CfgNode) -> Iterator[str]:
    data = cfg.DATASET
    channels, bands = data.channels, data.bands
    if bands and len(bands) != channels:
        yield (
            f"DATASET.bands names {len(bands)} bands, but DATASET.channels is {channels}. Set "
            f"DATASET.channels {len(bands)}."
        )
    if len(set(bands)) < len(bands):
        yield f"DATASET.bands is {tuple(bands)}, which names a band twice. Remove one of them."
    wrong = [key for key in ("mean", "std", "clip_low", "clip_high") if len(data[key]) not in (0, channels)]
    for key in wrong:
        yield (
            f"DATASET.{key} has {len(data[key])} numbers, but DATASET.channels is {channels}. Compute the "
            "statistics of these channels with `mit-semseg data stats`."
        )
    if "clip_low" not in wrong and "clip_high" not in wrong:
        for k, (low, high) in enumerate(zip(data.clip_low, data.clip_high, strict=False), 1):
            if low >= high:
                yield f"DATASET.clip_low of channel {k} is {low:g}, which is not below clip_high {high:g}."
    shown, known = data.display_bands, bands or tuple(range(1, channels + 1))
    if len(shown) not in (0, 1, 3):
        yield f"DATASET.display_bands names {len(shown)} bands, but takes one, or three: red, green and blue."
    missing = [band for band in shown if band not in known]
    if missing:
        yield (
            f"DATASET.display_bands names band {missing[0]}, which the model does not read. It reads "
            f"{', '.join(map(str, known))}."
        )


def _classifier(cfg: CfgNode) -> Iterator[str]:
    if cfg.MODEL.reset_classifier and not cfg.MODEL.weights_decoder:
        yield (
            "MODEL.reset_classifier is True, but MODEL.weights_decoder is empty, so that the whole decoder "
            "is new. Set MODEL.weights_decoder to the checkpoint to start from, or MODEL.reset_classifier "
            "False."
        )


def _model_files(cfg: CfgNode) -> Iterator[str]:
    if cfg.MODEL.exported and cfg.MODEL.packed:
        yield "MODEL.exported and MODEL.packed each name a model. Leave one of them empty."


def _class_weights(cfg: CfgNode) -> Iterator[str]:
    weights = parse_class_weights(cfg.TRAIN.class_weights)
    if isinstance(weights, tuple) and len(weights) != cfg.DATASET.num_class:
        yield (
            f"TRAIN.class_weights has {len(weights)} numbers, but DATASET.num_class is "
            f"{cfg.DATASET.num_class}. Give one for each class, in the order of the classes."
        )


def _learning_rate(cfg: CfgNode) -> Iterator[str]:
    train = cfg.TRAIN
    total = train.num_epoch * train.epoch_iters
    if train.warmup_iters >= total:
        yield (
            f"TRAIN.warmup_iters is {train.warmup_iters}, but the run has only {total} iterations. Set "
            "TRAIN.warmup_iters lower."
        )
    if train.lr_schedule == "step":
        if not train.lr_milestones:
            yield (
                "TRAIN.lr_schedule is step, but TRAIN.lr_milestones is empty. Set it to the epochs after "
                "which the learning rate drops."
            )
        late = [epoch for epoch in train.lr_milestones if epoch >= train.num_epoch]
        if late:
            yield (
                f"TRAIN.lr_milestones contains {late[0]}, but the run ends at TRAIN.num_epoch "
                f"{train.num_epoch}. Remove it, or set TRAIN.num_epoch higher."
            )
    elif train.lr_milestones:
        yield (
            f"TRAIN.lr_milestones is {train.lr_milestones}, but TRAIN.lr_schedule is {train.lr_schedule}. "
            "Set TRAIN.lr_schedule step, or remove the milestones."
        )
    if train.lr_min and train.lr_schedule != "cosine":
        yield (
            f"TRAIN.lr_min is {train.lr_min}, but TRAIN.lr_schedule is {train.lr_schedule}. Set "
            "TRAIN.lr_schedule cosine, or TRAIN.lr_min 0."
        )
    for key in ("lr_encoder", "lr_decoder"):
        if 0 < train[key] < train.lr_min:  # a rate of 0 stays 0
            yield (
                f"TRAIN.lr_min is {train.lr_min}, but TRAIN.{key} is {train[key]}. Set TRAIN.lr_min lower."
            )


def _threshold(cfg: CfgNode) -> Iterator[str]:
    count = cfg.DATASET.num_class
    for key, default in (("VAL.threshold", "none"), ("INFERENCE.threshold", 0.5)):
        section, name = key.split(".")
        value = cfg[section][name]
        if value != default and count != 2:
            yield f"{key} is {value}, but it needs two classes, and DATASET.num_class is {count}. Remove it."


def _start(cfg: CfgNode) -> Iterator[str]:
    train = cfg.TRAIN
    if train.start_epoch >= train.num_epoch:
        yield (
            f"TRAIN.start_epoch is {train.start_epoch}, but the run ends at TRAIN.num_epoch "
            f"{train.num_epoch}. Set TRAIN.num_epoch higher to continue training."
        )
    if train.resume != "off" and train.start_epoch:
        yield (
            f"TRAIN.resume is '{train.resume}' and TRAIN.start_epoch is {train.start_epoch}: both say where "
            "to resume. Remove one of them."
        )


def _validation(cfg: CfgNode) -> Iterator[str]:
    if cfg.TRAIN.patience and not cfg.VAL.every:
        yield (
            f"TRAIN.patience is {cfg.TRAIN.patience}, but VAL.every is 0, so that nothing is validated. Set "
            "VAL.every 1."
        )


def _autotune(cfg: CfgNode) -> Iterator[str]:
    train = cfg.TRAIN
    if not train.autotune:
        return
    if train.amp in ("bf16", "fp16"):
        yield f"TRAIN.autotune chooses the number format, but TRAIN.amp is {train.amp}. Remove one of them."
    if train.channels_last != "auto":
        yield (
            f"TRAIN.autotune chooses the memory layout, but TRAIN.channels_last is {train.channels_last}. "
            "Remove one of them."
        )
    if train.compile:
        yield "TRAIN.autotune times the network before TRAIN.compile changes it. Set one of them to False."


def _one_process_per_device(cfg: CfgNode) -> Iterator[str]:
    for key in ("checkpoint_activations", "compile"):
        if cfg.TRAIN[key] and cfg.TRAIN.parallel == "dp":
            yield (
                f"TRAIN.{key} needs one process per device, but TRAIN.parallel is dp. Set TRAIN.parallel ddp."
            )


def _sharded(cfg: CfgNode) -> Iterator[str]:
    train = cfg.TRAIN
    if train.parallel != "fsdp":
        return
    for key in ("autotune", "compile"):
        if train[key]:
            yield (
                f"TRAIN.{key} is True, which needs whole weights, but TRAIN.parallel is fsdp. Set "
                f"TRAIN.{key} False, or TRAIN.parallel ddp."
            )
    if train.optim not in _SHARDED_OPTIMIZERS:
        yield (
            f"TRAIN.optim is {train.optim}, but TRAIN.parallel is fsdp, which takes "
            f"{', '.join(_SHARDED_OPTIMIZERS)}. Set TRAIN.optim to one of them, or TRAIN.parallel ddp."
        )


def _checkpoint_activations(cfg: CfgNode) -> Iterator[str]:
    train = cfg.TRAIN
    if not train.checkpoint_activations:
        return
    if train.compile:
        yield (
            "TRAIN.checkpoint_activations keeps BatchNorm's statistics from being updated twice, which torch "
            "can't compile. Set TRAIN.checkpoint_activations or TRAIN.compile to False."
        )
    if train["freeze"] == "encoder":  # not train.freeze, which is a method of every node
        yield (
            "TRAIN.checkpoint_activations is True, but with TRAIN.freeze encoder no activations of the "
            "encoder are kept anyway. Set TRAIN.checkpoint_activations False."
        )


def _tiles(cfg: CfgNode) -> Iterator[str]:
    tile, overlap = cfg.INFERENCE.tile, cfg.INFERENCE.overlap
    if overlap and overlap >= tile:
        yield (
            f"INFERENCE.overlap is {overlap}, but INFERENCE.tile is {tile}. Set INFERENCE.tile above "
            f"{overlap}, or INFERENCE.overlap lower."
        )


_RULES = (
    _padding,
    _bands,
    _classifier,
    _model_files,
    _class_weights,
    _learning_rate,
    _start,
    _validation,
    _autotune,
    _one_process_per_device,
    _sharded,
    _checkpoint_activations,
    _tiles,
    _threshold,
)

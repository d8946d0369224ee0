"""Limits of the keys of speed and of fine-tuning, and which of them exclude each other."""

from yacs.config import CfgNode

_CHOICES = {
    "amp": ("auto", "none", "bf16", "fp16"),
    "channels_last": ("auto", "True", "False"),
    "freeze": ("none", "encoder", "bn"),
}


def check_speed(train: CfgNode) -> list[str]:
    """A sentence for each value that is none of the choices."""
    problems = []
    for key, choices in _CHOICES.items():
        if train[key] not in choices:
            *others, last = choices
            problems.append(f"TRAIN.{key} is '{train[key]}', but takes {', '.join(others)} or {last}.")
    return problems


def contradictions_of_speed(cfg: CfgNode) -> list[str]:
    """A sentence for each pair of values, all within their limits, that contradict each other."""
    train, problems = cfg.TRAIN, []
    if train.autotune:
        if train.amp in ("bf16", "fp16"):
            problems.append(
                f"TRAIN.autotune chooses the number format, but TRAIN.amp is {train.amp}. "
                "Leave one of them out."
            )
        if train.channels_last != "auto":
            problems.append(
                f"TRAIN.autotune chooses the memory layout, but TRAIN.channels_last is "
                f"{train.channels_last}. Leave one of them out."
            )
        if train.compile:
            problems.append(
                "TRAIN.autotune times the network as it is, but TRAIN.compile makes another of it. "
                "Leave one of them out."
            )
    if train.checkpoint_activations:
        if train.compile:
            problems.append(
                "TRAIN.checkpoint_activations keeps BatchNorm's statistics from being updated twice, which "
                "torch can't compile. Set it or TRAIN.compile to False."
            )
        if train.parallel == "dp":
            problems.append(
                "TRAIN.checkpoint_activations needs one process a device, but TRAIN.parallel is dp. "
                "Set it to ddp."
            )
        if train["freeze"] == "encoder":
            problems.append(
                "TRAIN.checkpoint_activations is for the encoder, but TRAIN.freeze encoder keeps no "
                "activations of it anyway. Set it to False."
            )
    if train.compile and train.parallel == "dp":
        problems.append("TRAIN.compile needs one process a device, but TRAIN.parallel is dp. Set it to ddp.")
    if cfg.MODEL.reset_classifier and not cfg.MODEL.weights_decoder:
        problems.append(
            "MODEL.reset_classifier is True, but MODEL.weights_decoder is empty, so that the whole decoder "
            "is new. Name the checkpoint to take the rest from, or set it to False."
        )
    return problems

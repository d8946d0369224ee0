"""From a config to how the network is trained: what is frozen, the number format, the layout, compilation."""

import os
import shutil
from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from ..dataset import TrainDataset
from ..distributed import Place
from ..errors import UserError
from ..lib.nn import freeze, freeze_batch_norm
from ..log import get_logger
from ..models import SegmentationModule
from ..models.stage import recompute_activations
from .autotune import fastest
from .precision import Precision, faster_layout, fastest_amp


def freezes_batch_norm(train: CfgNode) -> bool:
    """Whether all BatchNorms are to be frozen; ``TRAIN.fix_bn True`` is the older name of ``freeze bn``."""
    # Not train.freeze, which is a method of every node.
    return train.fix_bn or train["freeze"] == "bn"


def freeze_parts(module: SegmentationModule, train: CfgNode) -> None:
    """Freeze what the section TRAIN says; before an optimizer is built, which takes what has gradients."""
    if train["freeze"] == "encoder":
        freeze(module.encoder)
    if freezes_batch_norm(train):
        freeze_batch_norm(module)


def set_up_speed(
    cfg: CfgNode,
    module: SegmentationModule,
    dataset: TrainDataset,
    place: Place,
    devices: Sequence[torch.device],
    kept: dict[str, object] | None = None,
) -> Precision:
    """How to train ``module``, which is changed to be compiled and to recompute as the config says.

    Args:
        module: on its device, in training mode, not yet in a parallel wrapper.
        dataset: what it is trained on; timings take its first sub-batches.
        kept: the `Precision.state_dict` of the run that this one goes on with. What the config leaves open is
            as it was there, so that nothing is timed again, and with the same format the scaler goes on.

    Raises: UserError for an encoder that can't do what the config asks for.
    """
    train, log = cfg.TRAIN, get_logger()
    if train.checkpoint_activations:
        try:
            recompute_activations(module.encoder)
        except ValueError:
            raise UserError(
                f"TRAIN.checkpoint_activations is True, but {cfg.MODEL.arch_encoder} has no stages that can "
                "be recomputed. Set it to False."
            ) from None
    if train.autotune and kept is None:
        precision = fastest(module, dataset, place, devices)
    else:
        precision = _configured(train, module, place.device, kept)
    if kept is not None and kept["amp"] == precision.amp:
        precision.load_state_dict({**kept, "channels_last": precision.channels_last})
    hint, auto = "", fastest_amp(place.device)
    if train.amp == "none" != auto and not train.autotune:
        hint = f" (TRAIN.amp auto: {auto}, mostly faster and less exact)"
    log.info("Computing in %s%s%s", precision, ", compiled" if train.compile else "", hint)
    if precision.amp == "fp16" and place.device.type == "cpu":
        log.warning("TRAIN.amp is fp16, which CPUs are slow at. Set it to auto or bf16.")
    if train.compile:
        _check_compiler()
        module.encoder.compile()
        module.decoder.compile()
    return precision


def _check_compiler() -> None:
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    if not any(shutil.which(compiler) for compiler in compilers):
        raise UserError(
            "TRAIN.compile is True, but there is no C++ compiler here (g++ or clang++), which torch.compile "
            "needs. Install one, or set it to False."
        )


def _configured(
    train: CfgNode, module: SegmentationModule, device: torch.device, kept: dict[str, object] | None
) -> Precision:
    """What the config says, and where it leaves it open, what was kept, or else the rule of thumb."""
    amp = train.amp
    if kept is not None and (train.autotune or amp == "auto"):
        amp = kept["amp"]
    elif amp == "auto":
        amp = fastest_amp(device)
    if train.channels_last != "auto":
        channels_last = train.channels_last == "True"
    elif kept is not None and kept["amp"] == amp:
        channels_last = bool(kept["channels_last"])
    else:
        channels_last = faster_layout(module, device, amp)
    return Precision(device, amp, channels_last)

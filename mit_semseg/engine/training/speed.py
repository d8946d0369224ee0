"""From a config to how the network is trained: what is frozen, the number format, the layout, compilation."""

import os
import shutil
from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from ...dataset import TrainDataset
from ...distributed import Place
from ...errors import UserError
from ...lib.nn import freeze, freeze_batch_norm
from ...log import get_logger
from ...models import SegmentationModule
from ...models.stage import recompute_activations
from ..recipe import freezes_batch_norm
from .autotune import fastest
from .precision import Precision, faster_layout, fastest_amp, trains_wrongly


def freeze_parts(module: SegmentationModule, train: CfgNode) -> None:
    """Freeze what the section TRAIN says; before an optimizer is built, which takes what has gradients."""
    if train["freeze"] == "encoder":
        freeze(module.encoder)
    if freezes_batch_norm(train):
        freeze_batch_norm(module)


def choose_precision(train: CfgNode, module: SegmentationModule, device: torch.device) -> Precision:
    """The number format and the layout of the section TRAIN, ``auto`` by a rule.

    A state that is loaded into it has its way where the config leaves a choice, so that a run goes on as it
    began. Unless one is, `set_up_speed` times what ``TRAIN.autotune`` asks for.
    """
    amp = fastest_amp(device) if train.amp == "auto" else train.amp
    open_layout = train.channels_last == "auto"
    channels_last = faster_layout(module, device, amp) if open_layout else train.channels_last == "True"
    return Precision(
        device,
        amp,
        channels_last,
        adopts_amp=train.autotune or train.amp == "auto",
        adopts_layout=open_layout,
    )


def set_up_speed(
    cfg: CfgNode,
    module: SegmentationModule,
    precision: Precision,
    dataset: TrainDataset,
    place: Place,
    devices: Sequence[torch.device],
) -> None:
    """Finish the choice of ``precision``, and let ``module`` recompute and be compiled as the config says.

    Args:
        module: on its device, in training mode, not yet in a parallel wrapper.
        precision: what `choose_precision` made, with the state of the run that this one goes on with.
        dataset: what is trained on; timings take its first sub-batches.

    Raises: UserError for an encoder, or a machine, that can't do what the config asks for.
    """
    train, log, device = cfg.TRAIN, get_logger(), place.device
    if train.checkpoint_activations:
        try:
            recompute_activations(module.encoder)
        except ValueError:
            raise UserError(
                f"TRAIN.checkpoint_activations is True, but {cfg.MODEL.arch_encoder} has no stages that can "
                "be recomputed. Set it to False."
            ) from None
    if train.autotune and not precision.restored:
        best = fastest(module, dataset, place, devices)
        precision.choose(best.amp, best.channels_last)
    if trains_wrongly(module, device, precision.amp):
        _avoid_channels_last(train, precision)
    hint, auto = "", fastest_amp(device)
    if train.amp == "none" != auto and not train.autotune:
        hint = f" (TRAIN.amp auto: {auto}, mostly faster and less exact)"
    log.info("Computing in %s%s%s", precision, ", compiled" if train.compile else "", hint)
    if precision.amp == "fp16" and device.type == "cpu":
        log.warning("TRAIN.amp is fp16, which CPUs are slow at. Set it to auto or bf16.")
    if train.compile:
        _check_compiler()
        module.encoder.compile()
        module.decoder.compile()


def _avoid_channels_last(train: CfgNode, precision: Precision) -> None:
    """Also where a state from a GPU has it, and where torch.compile would choose it by itself."""
    why = "bf16 on a CPU gets wrong gradients for dilated grouped convolutions in channels-last"
    if train.channels_last == "True":
        raise UserError(f"TRAIN.channels_last is True, but {why}. Set it to auto, or TRAIN.amp to none.")
    if train.compile:
        raise UserError(
            f"TRAIN.compile is True, but {why}, which torch.compile chooses. Set it to False, or TRAIN.amp "
            "to none."
        )
    precision.channels_last = False


def _check_compiler() -> None:
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    if not any(shutil.which(compiler) for compiler in compilers):
        raise UserError(
            "TRAIN.compile is True, but there is no C++ compiler here (g++ or clang++), which torch.compile "
            "needs. Install one, or set it to False."
        )

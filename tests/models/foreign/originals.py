"""The packages that foreign models come from, their models with random weights, and the comparison."""

import importlib.machinery
import json
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mit_semseg.models.foreign import ForeignModel, convert, read_source

SIZES = ((64, 64), (65, 97), (96, 160), (127, 93), (33, 130))  # height, width
TOLERANCE = 1e-12


def randomize(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere, statistics and layer scales too; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def noise(value: Tensor) -> Tensor:
        return torch.randn(value.shape, generator=generator, dtype=value.dtype)

    with torch.no_grad():
        for name, value in net.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.endswith("running_var"):
                value.copy_(noise(value).abs_() + 0.5)
            elif name.endswith("running_mean") or (value.dim() < 2 and name.endswith("bias")):
                value.copy_(0.1 * noise(value))
            elif value.dim() < 2:  # a scale
                value.copy_(1 + 0.2 * noise(value))
            else:
                value.copy_(noise(value) / value[0].numel() ** 0.5)
    return net.eval()


def build(model: ForeignModel) -> tuple[nn.Module, Any]:
    """The encoder and the decoder of an imported model, in float64."""
    encoder, decoder = model.spec().build(use_softmax=True)
    encoder.load_state_dict(model.encoder.weights)
    decoder.load_state_dict(model.decoder.weights)
    return encoder.double().eval(), decoder.double().eval()


@torch.no_grad()
def largest_difference(
    model: ForeignModel, original: Callable[[Tensor], Tensor], sizes: Any = SIZES
) -> float:
    """The largest difference of the scores, at the size that the original gives them, over all sizes."""
    encoder, decoder = build(model)
    generator = torch.Generator().manual_seed(1)
    largest = 0.0
    for size in sizes:
        x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
        theirs = original(x)
        ours = decoder.logits(encoder(x, return_feature_maps=True))
        if ours.shape != theirs.shape:
            ours = decoder.resize(ours, theirs.shape[-2:])
        assert theirs.std() > 1e-3
        largest = max(largest, float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)))
    return largest


def imported(path: Path, config: Path | None = None) -> ForeignModel:
    return convert(read_source(path, config))


# Hugging Face


def save_like_transformers(net: Any, folder: Path) -> Path:
    net.save_pretrained(folder)
    return folder


def quiet_transformers() -> Any:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


# mmsegmentation, whose compiled operators none of these models uses


class _NoOperators(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError(f"{name} needs compiled code")

        return refuse


def mmseg_registry() -> Any:
    """The registry of mmsegmentation's models, without compiled operators."""
    pytest.importorskip("mmengine")
    pytest.importorskip("mmseg")
    if "mmcv._ext" not in sys.modules:
        module = _NoOperators("mmcv._ext")
        module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
        sys.modules["mmcv._ext"] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmseg.models
        from mmseg.registry import MODELS

        assert mmseg.models
    return MODELS


def build_mmseg(config: dict[str, Any], seed: int = 0) -> Any:
    """A model of mmsegmentation with random weights."""
    registry = mmseg_registry()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return randomize(registry.build(json.loads(json.dumps(config))), seed)


def save_like_mmengine(net: Any, config: dict[str, Any], file: Path, **meta: Any) -> Path:
    """A checkpoint with its config in ``meta``, as mmengine's runner saves it."""
    from mmengine.config import Config
    from mmengine.logging import MessageHub

    hub = MessageHub.get_instance("for tests")
    hub.update_scalar("train/loss", 0.5)
    content = {
        "meta": {"cfg": Config({"model": config}).pretty_text, "epoch": 1, **meta},
        "state_dict": net.state_dict(),
        "message_hub": hub.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, file)
    return file

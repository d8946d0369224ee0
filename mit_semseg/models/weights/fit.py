"""Loading a checkpoint's weights into a model: all of them or none, and only finite ones."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..input_channels import RGB, adapted, other_input
from .checkpoint import read
from .packed import is_packed, read_part
from .unwrap import unwrap

# Buffers of the old synchronized BatchNorm that nothing reads any more.
_OLD_BOOKKEEPING = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")
_STEPS = "num_batches_tracked"  # BatchNorm has it since PyTorch 0.4.1, so older files lack it
# Layers of ImageNet classifiers (ResNet, MobileNetV2, HRNetV2) after those that an encoder keeps.
_CLASSIFIER = ("fc.", "classifier.", "features.18.", "incre_modules.", "downsamp_modules.", "final_layer.")


def load_weights(
    module: nn.Module,
    path: str | Path,
    *,
    part: str,
    arch: str,
    fresh: Collection[str] = (),
    adapt: bool = False,
) -> str:
    """Load all weights of a checkpoint or a packed model into a module, or raise and change nothing.

    Every name and shape must match after `unwrap` has removed wrappers and prefixes. Only two things in the
    file are ignored: the extra buffers of old synchronized BatchNorms and, for an encoder,
    the head of the ImageNet classifier it comes from. If an old file lacks a BatchNorm's step count, the
    count starts at 0.

    Args:
        part: the role of the module, "encoder" or "decoder".
        arch: the module's name, for the error.
        fresh: names of weights that keep their values, whatever the file holds for them.
        adapt: whether weights for RGB are adapted to another number of channels, see `input_channels`.

    Returns: the prefix that the names in the file had.
    Raises: UserError if the file cannot be read or does not fit, or holds a weight that is quantized or
        not finite.
    """
    names = required_names(module, fresh)
    content = read_part(path, part) if is_packed(path) else read(path)
    weights = unwrap(content, path, names)
    _refuse_suffix(weights.by_name, names, path)
    fit_weights(
        module,
        weights.by_name,
        path,
        part=part,
        arch=arch,
        fresh=fresh,
        removed_prefix=weights.prefix,
        adapt=adapt,
    )
    return weights.prefix


def required_names(module: nn.Module, fresh: Collection[str] = ()) -> list[str]:
    """The names that a checkpoint of the module must have; ``fresh`` as in `load_weights`."""
    return [name for name in module.state_dict() if not _is_step_count(name) and name not in fresh]


def fit_weights(
    module: nn.Module,
    given: Mapping[str, Tensor],
    source: str | Path,
    *,
    part: str,
    arch: str,
    fresh: Collection[str] = (),
    removed_prefix: str = "",
    adapt: bool = False,
) -> None:
    """As `load_weights`, for weights already read from ``source``, which the error names.

    Args:
        removed_prefix: the prefix that the names in ``source`` had, for the error.
    """
    wanted = module.state_dict()
    head = _CLASSIFIER if part == "encoder" else ()
    weights = {
        name: value
        for name, value in given.items()
        if name in wanted or not (name.startswith(head) or name.rpartition(".")[2] in _OLD_BOOKKEEPING)
    }
    weights.update({name: wanted[name] for name in fresh})
    for name, value in wanted.items():
        if _is_step_count(name):
            weights.setdefault(name, torch.zeros_like(value, device="cpu"))
    inputs = other_input(weights, wanted) if part == "encoder" else {}
    if adapt:
        for name, (theirs, ours) in inputs.items():
            if theirs == RGB:
                weights[name] = adapted(weights[name], ours)
    real = [name for name in wanted if name not in fresh and wanted[name].is_floating_point()]
    refuse_integers(weights, real, source)
    missing = [name for name in wanted if name not in weights]
    unknown = [name for name in weights if name not in wanted]
    reshaped = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if missing or unknown or reshaped:
        found = [_count(missing, "weight missing", "weights missing"), _count(unknown, "unknown", "unknown")]
        if reshaped:
            name = reshaped[0]
            shapes = tuple(weights[name].shape), tuple(wanted[name].shape)
            found.append(
                f"{len(reshaped)} of another shape (first: {name} is {shapes[0]}, the model's is {shapes[1]})"
            )
        keys = f"MODEL.arch_{part}" + ("" if part == "encoder" else ", decoder_dim and decoder_norm")
        todo = f"Set {keys} as in its training, or name another file."
        if part == "decoder" and not missing and not unknown:
            todo = _other_classes(weights, wanted, reshaped) or todo
        if inputs and not missing and not unknown and set(reshaped) == set(inputs):
            theirs, ours = next(iter(inputs.values()))
            todo = (
                f"It takes images of {theirs} channels, this model {ours}. Set DATASET.channels {theirs}, "
                "or name another checkpoint."
            )
        without = f", without the prefix {removed_prefix!r} of its names," if removed_prefix else ""
        raise UserError(f"{source}{without} does not fit {part} {arch!r}: {', '.join(found)}. {todo}")
    require_usable(((name, weights[name]) for name in wanted if name not in fresh), source)
    module.load_state_dict(weights)


def require_usable(weights: Iterable[tuple[str, Tensor]], source: str | Path) -> None:
    """Refuse weights that are not dense real numbers, and those with NaN or infinity.

    Raises: UserError that names ``source`` and the first such weight.
    """
    bad = []
    for name, value in weights:
        if kind := _other_kind(value):
            raise UserError(
                f"{source}: {name} is a {kind} tensor, but weights are dense tensors of real numbers. Save "
                "the weights again in that form, or name another checkpoint."
            )
        if not _is_finite(value):
            bad.append((name, value))
    if not bad:
        return
    name, value = bad[0]
    nan, infinite = int(value.isnan().sum()), int(value.isinf().sum())
    what = " and ".join(word for word, count in (("NaN", nan), ("infinity", infinite)) if count)
    more = f", as do {len(bad) - 1} other weights" if len(bad) > 1 else ""
    raise UserError(
        f"{source}: {name} holds {what} ({nan + infinite} of {value.numel()} values){more}. Its training "
        "diverged, or the file is damaged. Name another checkpoint."
    )


def refuse_integers(weights: Mapping[str, Tensor], names: Iterable[str], source: str | Path) -> None:
    """Refuse integers, of a quantized model, as weights: without their scales, they are other numbers.

    Raises: UserError that names ``source`` and the first such weight.
    """
    for name in names:
        value = weights.get(name)
        if value is not None and not (value.is_floating_point() or value.is_complex()):
            raise UserError(
                f"{source}: {name} is of type {str(value.dtype).removeprefix('torch.')}, as in a quantized "
                "model. Name the checkpoint that was quantized, with floating-point weights."
            )


def _other_kind(value: Tensor) -> str:
    """The kind of a tensor that is not a dense one of real numbers, in a word; "" for one that is."""
    kinds = {
        "quantized": value.is_quantized,
        "sparse": value.layout != torch.strided,
        "meta": value.is_meta,
        "complex": value.is_complex(),
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point():
        return True
    if value.element_size() == 1:  # torch does not compute with 8-bit floating point
        value = value.float()
    # NaN and infinity survive a sum, which takes a tenth of the time. Large finite values may overflow it.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def _is_step_count(name: str) -> bool:
    return name.rpartition(".")[2] == _STEPS


def _refuse_suffix(given: Mapping[str, Tensor], names: Collection[str], source: str | Path) -> None:
    """Refuse names that all have the same suffix, since it may mark weights of another kind."""
    if not names or any(name in given for name in names):
        return
    longest = max(names, key=len)
    for candidate in given:
        start, found, suffix = candidate.partition(longest)
        if found and suffix and all(start + name + suffix in given for name in names):
            raise UserError(
                f"{source}: each name ends with {suffix!r}, as in {candidate!r}. Save the weights again "
                f"under the names of the model, here {longest!r}."
            )


def _count(names: list[str], one: str, many: str) -> str:
    """Such as ``2 weights missing (first: conv_last.4.bias)``."""
    return f"{len(names)} {one if len(names) == 1 else many}" + (f" (first: {names[0]})" if names else "")


def _other_classes(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], reshaped: list[str]) -> str:
    """The advice if the shapes differ in the number of classes only; "" otherwise."""
    shapes = [(weights[name].shape, wanted[name].shape) for name in reshaped]
    if any(len(theirs) != len(ours) or theirs[1:] != ours[1:] for theirs, ours in shapes):
        return ""
    counts = {(theirs[0], ours[0]) for theirs, ours in shapes}
    if len(counts) != 1:
        return ""
    ((theirs, ours),) = counts
    return (
        f"It was trained with {theirs} classes, this model has {ours}. "
        f"Set DATASET.num_class {theirs}, or MODEL.reset_classifier True to keep the rest and train a "
        "new classifier."
    )

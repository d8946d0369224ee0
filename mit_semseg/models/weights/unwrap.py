"""Finding a model's weights in a checkpoint, however the training program has wrapped them."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...runtime.log import get_logger

# Names that compiled, sharded and checkpointed layers insert, at any level.
_INSERTED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_OUTER = ("module.", "model.", "net.")  # usual names of the model in a wrapper
_DEEPEST = 4  # levels of nested dicts
_AVERAGE = re.compile(r"(?<![a-z])(ema|swa|averag\w*)(?![a-z])", re.IGNORECASE)


class Weights(NamedTuple):
    """Weights as they were found in a checkpoint.

    Attributes:
        by_name: the tensors, under the names that the model uses if they could be found.
        keys: the keys of the nested dicts that lead to them.
        prefix: the prefix that was removed from the names.
    """

    by_name: dict[str, Tensor]
    keys: tuple[str, ...]
    prefix: str

    def __str__(self) -> str:
        """Where they are: ``under 'ema'``, or ``in the names that begin with 'ema_model.'``."""
        places = [f"under {' > '.join(map(repr, self.keys))}"] if self.keys else []
        places += [f"in the names that begin with {self.prefix!r}"] if self.prefix else []
        return " ".join(places) or "at its top"

    def expression(self, source: str | Path) -> str:
        """Python code that gives them."""
        content = f"torch.load({str(source)!r}, 'cpu', weights_only=True)"
        content += "".join(f"[{key!r}]" for key in self.keys)
        if not self.prefix:
            return content
        return f"{{k: v for k, v in {content}.items() if k.startswith({self.prefix!r})}}"


def unwrap(content: Any, source: str | Path, *names: Collection[str]) -> Weights:
    """The weights of a model in the content of a checkpoint.

    The content is a state dict, or holds some in nested dicts, as training programs write it together with
    their epoch, optimizer and settings. The names of the weights may have a prefix, such as ``module.``
    (DataParallel), ``_orig_mod.`` (torch.compile) or ``encoder.`` (a whole model). If exactly one dict has
    all names after one prefix is removed, those are the weights.

    Args:
        source: the file of the content, for messages.
        names: the names that the weights must have, in one or more alternative namings. The alternatives are
            tried in turn. Without any, the largest dict is returned.

    Returns: the weights. If no dict has all names, those with the most names; if none has half of them, the
        largest dict.
    Raises: UserError if the content holds no weights, or two different sets with all names.
    """
    found = [(keys, _plain(values)) for keys, values in _state_dicts(content)]
    if not found:
        raise UserError(f"{source} {_problem(content)} Save a state_dict() in it.")
    likeliest: list[tuple[int, Weights]] = []
    for wanted in filter(None, names):
        every = [each for keys, values in found for each in _under_prefixes(keys, values, wanted)]
        complete = [weights for count, weights in every if count == len(set(wanted))]
        if complete:
            return _only(complete, wanted, source)
        likeliest += [(count, weights) for count, weights in every if 2 * count >= len(set(wanted))]
    if likeliest:
        return max(likeliest, key=lambda each: each[0])[1]
    keys, values = max(found, key=lambda each: len(each[1]))
    return _without_outer_names(keys, values)


def _state_dicts(
    content: Any, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """All dicts from names to tensors, or arrays, in nested dicts, with the keys that lead to them."""
    if not isinstance(content, Mapping):
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    tensors = {name: tensor for name, value in named.items() if (tensor := _tensor(value)) is not None}
    if tensors:
        yield keys, tensors
    if len(keys) < _DEEPEST:
        for name, value in named.items():
            yield from _state_dicts(value, (*keys, name))


def _tensor(value: Any) -> Tensor | None:
    """A tensor, or the tensor of a NumPy array of numbers; None for another object."""
    if isinstance(value, np.ndarray) and value.dtype.isnative and value.dtype.kind in "fiub":
        return torch.from_numpy(value)
    return value if isinstance(value, Tensor) else None


def _problem(content: Any) -> str:
    """Why the content has no weights, as the end of a sentence."""
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not a dict of weights."
    for name, value in content.items():
        return f"does not hold a dict of weights: its entry {name!r} is a {type(value).__name__}."
    return "holds no weights."


def _plain(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the names that wrappers insert, unless two weights would get the same name."""
    plain = {
        ".".join(part for part in name.split(".") if part not in _INSERTED): value
        for name, value in values.items()
    }
    return plain if len(plain) == len(values) else values


def _under_prefixes(
    keys: tuple[str, ...], values: dict[str, Tensor], wanted: Collection[str]
) -> Iterator[tuple[int, Weights]]:
    """For each prefix, the number of wanted names after it, and the weights whose names begin with it."""
    wanted = set(wanted)
    counts: Counter[str] = Counter()
    for name in values:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        counts.update(name[:start] for start in starts if name[start:] in wanted)
    for prefix, count in counts.items():
        rest = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        yield count, Weights(rest, keys, prefix)


def _only(complete: list[Weights], wanted: Collection[str], source: str | Path) -> Weights:
    """The first of several equal sets of weights. Raises: UserError if they differ."""
    first, *others = complete
    for other in others:
        pairs = ((first.by_name[name], other.by_name[name]) for name in wanted)
        if not all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs):
            raise UserError(
                f"{source} holds two sets of weights that fit, {first} and {other}. Save the one to use in a "
                f"file of its own, for example: torch.save({other.expression(source)}, 'weights.pth')"
            )
    if _AVERAGE.search(" ".join((*first.keys, first.prefix))):
        get_logger().info("%s: using the averaged weights, %s", source, first)
    return first


def _without_outer_names(keys: tuple[str, ...], values: dict[str, Tensor]) -> Weights:
    prefix = ""
    while outer := next((o for o in _OUTER if all(n.startswith(prefix + o) for n in values)), ""):
        prefix += outer
    return Weights({name.removeprefix(prefix): value for name, value in values.items()}, keys, prefix)

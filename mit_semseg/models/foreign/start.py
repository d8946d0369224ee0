"""Weights of a foreign model for an encoder or a decoder of this package, as the start of a training."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import UserError
from ...runtime.log import get_logger
from ..weights.fit import fit_weights, load_weights
from .families import UnknownFamily, convert
from .hub import PREFIX, located
from .model import ForeignModel, ForeignPart
from .source import read_source


def load_any_weights(
    module: nn.Module,
    source: str,
    *,
    part: str,
    arch: str,
    options: Mapping[str, Any],
    fresh: Collection[str] = (),
    adapt: bool = False,
) -> None:
    """Load a checkpoint of this package, or one part of a model of another program, into a module.

    Args:
        source: as for `load_weights`; or a file, a folder or ``hf:ORG/NAME`` as for ``mit-semseg import``.
        part, arch, fresh, adapt: as for `load_weights`.
        options: those of the module that are not the defaults.

    Raises: UserError if the source cannot be read or does not fit.
    """
    if source.startswith(PREFIX) or Path(source).is_dir():
        try:
            whole = convert(read_source(located(source)))
        except UserError as error:
            raise UserError(f"MODEL.weights_{part}: {error}") from None
        _fit(module, whole, source, part, arch, options, fresh, adapt)
        return
    try:
        prefix = load_weights(module, source, part=part, arch=arch, fresh=fresh, adapt=adapt)
    except UserError as error:
        if (model := _foreign(Path(source))) is None:
            raise error from None
        _fit(module, model, source, part, arch, options, fresh, adapt)
        return
    # Names of some models of other programs fit without a change, and only their config tells them apart.
    if prefix and (model := _foreign(Path(source))) is not None:
        _warn_if_different(model, source, part, arch, options)


def _foreign(file: Path) -> ForeignModel | None:
    """The model in a file; None if it cannot be read, or is not of a family that is known."""
    try:
        source = read_source(file)
    except UserError:
        return None
    try:
        return convert(source)
    except UnknownFamily:
        return None


def _fit(
    module: nn.Module,
    model: ForeignModel,
    source: str,
    part: str,
    arch: str,
    options: Mapping[str, Any],
    fresh: Collection[str],
    adapt: bool,
) -> None:
    given = model.encoder if part == "encoder" else model.decoder
    if given is None:
        raise UserError(f"{source}: a {model.family} of a classifier, which has no decoder.")
    try:
        fit_weights(module, given.weights, source, part=part, arch=arch, fresh=fresh, adapt=adapt)
    except UserError as error:
        if what := _difference(model, source, part, arch, options):
            raise UserError(f"{error} {what}.") from None
        raise
    _warn_if_different(model, source, part, arch, options)


def _warn_if_different(
    model: ForeignModel, source: str, part: str, arch: str, options: Mapping[str, Any]
) -> None:
    if what := _difference(model, source, part, arch, options):
        get_logger().warning("%s, unlike the config. Results may be worse.", what)


def _difference(model: ForeignModel, source: str, part: str, arch: str, options: Mapping[str, Any]) -> str:
    """A sentence on the part that the source holds, if it is another one than the config's; else ""."""
    given = model.encoder if part == "encoder" else model.decoder
    if given is None or (given.arch, _plain(given.options)) == (arch, _plain(options)):
        return ""
    return f"{source} holds a {model.family}, whose {part} is {_keys(given, model, part)}"


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without a difference between lists, as in a config, and tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _keys(given: ForeignPart, model: ForeignModel, part: str) -> str:
    """The config keys of a part, as one writes them on the command line."""
    words = [f"MODEL.arch_{part} {given.arch}"]
    if part == "decoder" and model.dim:
        words.append(f"MODEL.decoder_dim {model.dim}")
    if given.options:
        values = ", ".join(
            f"{name}: {list(value) if isinstance(value, tuple) else str(value).lower()}"
            for name, value in given.options.items()
        )
        words.append(f"MODEL.{part}_options '{values}'")
    return " ".join(words)

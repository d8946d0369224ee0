"""What a family makes of a foreign checkpoint: an encoder, a decoder, and their weights."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..builder import ALL_DECODERS, ENCODERS, decoder_style
from ..options import encoder_options
from ..spec import ModelSpec
from ..weights.fit import refuse_integers, require_usable

_STEPS = "num_batches_tracked"

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str] | None]]
"""Patterns that match the beginning of a weight's name, and what replaces it; None drops the weight."""


@dataclass(frozen=True)
class ForeignPart:
    """An encoder or a decoder of this package with the weights of a foreign one.

    Attributes:
        arch: its name.
        options: values of its options that differ from the defaults.
        weights: by the names of this package.
    """

    arch: str
    options: Mapping[str, Any]
    weights: dict[str, Tensor]


class Unbuildable(UserError):
    """A config that no encoder can have."""


@dataclass(frozen=True)
class ForeignModel:
    """A foreign model as one of this package.

    Attributes:
        family: the kind of model, for messages.
        decoder: None for a classifier, of which only the encoder is imported.
        dim, dropout: the keys ``MODEL.decoder_dim`` and ``decoder_dropout``.
        aux_weight: weight of the auxiliary loss in its training; None without an auxiliary classifier.
        names: of the classes; () if the source does not give them.
        colors: of the classes, RGB; () if the source does not give them.
        short_edge, max_long_edge: size of the images that its authors score, in pixels; 0 if unknown.
        tile: side of the tiles that its authors score, in pixels; 0 for whole images.
        notes: what the user should know, each a sentence.
    """

    family: str
    encoder: ForeignPart
    decoder: ForeignPart | None
    num_class: int = 0
    dim: int = 0
    dropout: float = -1.0
    aux_weight: float | None = None
    names: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()
    short_edge: int = 0
    max_long_edge: int = 0
    tile: int = 0
    notes: tuple[str, ...] = field(default=())

    def spec(self) -> ModelSpec:
        """The model by its names and options, with the channels and stride that the config needs.

        Raises: UserError for options that its encoder or decoder refuses.
        """
        if self.decoder is None:
            raise ValueError("a classifier has no decoder")
        encoder: Any = self._encoder()
        style = decoder_style(self.decoder.arch, options=self.decoder.options)
        return ModelSpec(
            arch_encoder=self.encoder.arch,
            arch_decoder=self.decoder.arch,
            num_class=self.num_class,
            fc_dim=encoder.channels[-1],
            label_stride=ALL_DECODERS[self.decoder.arch].stride_of(encoder.strides, style),
            decoder_dim=self.dim,
            decoder_dropout=self.dropout,
            encoder_options=self.encoder.options,
            decoder_options=self.decoder.options,
        )

    def encoder_channels(self) -> tuple[int, ...]:
        """The channels of the encoder's maps, finest first. Raises: as `spec`."""
        encoder: Any = self._encoder()
        return tuple(encoder.channels)

    def _encoder(self) -> nn.Module:
        """The encoder without numbers. Raises: Unbuildable for options that it refuses."""
        with torch.device("meta"):
            try:
                return ENCODERS[self.encoder.arch](**self.encoder.options)
            except (ValueError, RuntimeError) as error:
                raise Unbuildable(f"the encoder of this {self.family} cannot be built: {error}.") from None

    def build(self, *, use_softmax: bool) -> tuple[nn.Module, nn.Module]:
        """The encoder and the decoder with their weights, on the CPU.

        Args:
            use_softmax: True for inference, False for training.
        """
        encoder, decoder = self.spec().build(use_softmax=use_softmax)
        assert self.decoder is not None
        encoder.load_state_dict(self.encoder.weights)
        decoder.load_state_dict(self.decoder.weights)
        return encoder, decoder

    def check(self, source: str) -> None:
        """Compare names, shapes and values of all weights with those of the model, before it is written.

        Raises: UserError that names ``source``, the part, and the first weights that differ.
        """
        modules: tuple[nn.Module, ...] = (self._encoder(),)
        if self.decoder is not None:
            spec = self.spec()
            with torch.device("meta"):
                modules = spec.build(use_softmax=True)
        for part, module, given in zip(
            ("encoder", "decoder"), modules, (self.encoder, self.decoder), strict=False
        ):
            assert given is not None
            wanted = module.state_dict()
            for name, value in wanted.items():
                if name.endswith(_STEPS):
                    given.weights.setdefault(name, torch.zeros_like(value, device="cpu"))
            _compare(given, wanted, part, f"{source} ({self.family})")
            real = [name for name, value in wanted.items() if value.is_floating_point()]
            refuse_integers(given.weights, real, source)
            require_usable(given.weights.items(), source)


def _compare(given: ForeignPart, wanted: Mapping[str, Tensor], part: str, source: str) -> None:
    missing = [name for name in wanted if name not in given.weights]
    unknown = [name for name in given.weights if name not in wanted]
    reshaped = [
        name for name in wanted if name in given.weights and given.weights[name].shape != wanted[name].shape
    ]
    found = []
    if missing:
        found.append(f"{_counted(missing, 'weight')} missing (first: {missing[0]})")
    if unknown:
        found.append(f"{_counted(unknown, 'weight')} unknown (first: {unknown[0]})")
    if reshaped:
        first = reshaped[0]
        theirs, ours = tuple(given.weights[first].shape), tuple(wanted[first].shape)
        found.append(
            f"{_counted(reshaped, 'weight')} of another shape (first: {first} is {theirs}, and {ours} by the "
            "config)"
        )
    if found:
        raise UserError(
            f"{source}: the weights do not fit its config. {part} {given.arch!r}: {', '.join(found)}. Name "
            "the weights and the config of one model."
        )


def _counted(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def renamed(weights: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """The weights under new names. A name that no rule matches stays as it is, to be reported as unknown."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    result = {}
    for name, value in weights.items():
        for pattern, new in compiled:
            match = pattern.match(name)
            if match is None:
                continue
            if new is not None:
                start = new(match) if callable(new) else match.expand(new)
                result[start + name[match.end() :]] = value
            break
        else:
            result[name] = value
    return result


def joined(weights: dict[str, Tensor], parts: Sequence[str], whole: str) -> None:
    """Concatenate weights whose names end in ``parts``, such as those of queries, keys and values, in place.

    Args:
        parts, whole: last names of layers: ``("k", "v")`` and "kv" make ``x.kv.bias`` of ``x.k.bias`` and
            ``x.v.bias``.
    """
    for name in list(weights):
        match = re.fullmatch(rf"(.*\.){re.escape(parts[0])}\.(weight|bias)", name)
        if match is None:
            continue
        names = [f"{match[1]}{part}.{match[2]}" for part in parts]
        if all(each in weights for each in names):
            weights[f"{match[1]}{whole}.{match[2]}"] = torch.cat([weights.pop(each) for each in names])


def nearest_named(kind: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The encoder whose options are most like the given values, and the options that differ.

    Args:
        kind: the name of an encoder, or the beginning of several names up to its underscore.
        values: all options that the model has.
    """
    names = [name for name in ENCODERS if name == kind or (kind.endswith("_") and name.startswith(kind))]

    def different(name: str) -> dict[str, Any]:
        defaults = encoder_options(ENCODERS[name])
        return {key: value for key, value in values.items() if defaults[key] != value}

    best = min(names, key=lambda name: len(different(name)))
    return best, different(best)

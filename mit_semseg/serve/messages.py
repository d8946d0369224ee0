"""What the server and its worker processes send to each other. All of it can be pickled."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import load_config
from ..errors import UserError

_MODEL_FILES = (".safetensors", ".onnx", ".xml", ".pt2")  # which carry their config


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: what requests call it.
        source: for `Segmenter.load`; unused if there are config files.
        files, overrides: config files, and KEY VALUE words that change them.
    """

    name: str
    source: str = ""
    files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def load(self, device: Any) -> Any:
        """The `Segmenter` on a device. Raises: UserError if the model cannot be used."""
        # These import torch, which the server itself does without.
        from ..inference.model_files import keys_of_file
        from ..inference.segmenter import Segmenter

        try:
            if not self.files:
                return Segmenter.load(self.source, device=device)
            files = [keys_of_file(file) if Path(file).suffix in _MODEL_FILES else file for file in self.files]
            return Segmenter.load(load_config(files, list(self.overrides)), device=device)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.name}: {error}") from error


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        title: encoder and decoder.
        colors: RGB of each class.
    """

    name: str
    title: str
    device: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Wanted:
    """What a request asks for; see `options.Options`."""

    output: str = "json"
    include: frozenset[str] = frozenset()
    alpha: float = 0.5
    legend: bool = False

    @property
    def confidence(self) -> bool:
        """Whether the probabilities of the labels are needed."""
        return "confidence" in self.include or self.output == "confidence"


@dataclass(frozen=True)
class Job:
    """An image to segment: the bytes of its file."""

    number: int
    data: bytes = field(repr=False)
    wanted: Wanted


@dataclass(frozen=True)
class Batch:
    """Jobs of one model, with images of the same size."""

    model: int
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Answer:
    """The response to a job.

    Attributes:
        number: of the job.
        status: as in HTTP.
        body: the file, or the message of an error in UTF-8.
        media_type: of the file; "" for an error.
    """

    number: int
    status: int
    body: bytes = field(repr=False)
    media_type: str = ""


@dataclass(frozen=True)
class Ready:
    """The first message of a worker that has loaded all models."""

    models: tuple[Model, ...]


@dataclass(frozen=True)
class Unusable:
    """The only message of a worker that cannot load a model."""

    message: str

"""Exported files, opened by their runtimes: onnxruntime, OpenVINO, or torch."""

import json
import os
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..runtime.packages import require
from .graph import INPUT
from .metadata import Metadata
from .openvino_files import check_weights, metadata_of

EXTRA_FILE = "metadata.json"  # in a file of torch.export

Image: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Images (N, 3, H, W) uint8 RGB; with bands (N, C, H, W) float32, see `ExportGraph`."""


class OpenedModel(ABC):
    """An exported file that can be called. Several threads may call it at the same time.

    Attributes:
        metadata: of the file.
        package: what computes.
        has_bf16: whether it can compute in bfloat16.
    """

    package: ClassVar[str]
    has_bf16: ClassVar[bool] = False
    metadata: Metadata

    @abstractmethod
    def run(self, names: Sequence[str], image: Image) -> list[NDArray[Any]]:
        """The outputs called ``names`` for images. Only what these need is computed."""


def is_exported(path: str | Path) -> bool:
    """Whether a path names a file of `mit-semseg export`, by its extension."""
    return Path(path).suffix.lower() in _KINDS


def files_of(path: str | Path) -> tuple[str, ...]:
    """All files of an exported model: OpenVINO keeps the weights in a second one."""
    path = Path(path)
    second = (str(path.with_suffix(".bin")),) if path.suffix.lower() == ".xml" else ()
    return (str(path), *second)


def read_metadata(path: str | Path) -> Metadata:
    """The metadata of an exported file. Raises: as `open_exported`."""
    return _kind(path).read_metadata(Path(path))


def runtime_of(path: str | Path) -> str:
    """The name and version of the package that opens an exported file."""
    package = _KINDS[Path(path).suffix.lower()].package
    return f"{package} {version(package)}"


def has_bf16(path: str | Path) -> bool:
    """Whether the runtime of an exported file can compute in bfloat16."""
    return _KINDS[Path(path).suffix.lower()].has_bf16


def open_exported(path: str | Path, *, threads: int = 1, callers: int = 1, amp: str = "none") -> OpenedModel:
    """Open a file of `mit-semseg export` on the CPU.

    Args:
        threads: that each call uses.
        callers: threads that call at the same time.
        amp: ``bf16`` for convolutions in bfloat16, if the runtime `has_bf16`.

    Raises: UserError if the file cannot be opened, if this project did not make it, or if the package that
        opens it is missing.
    """
    kind = _kind(path)
    return kind(Path(path), threads, callers, amp)


def _kind(path: str | Path) -> Any:
    file = Path(path)
    if not is_exported(file):
        raise UserError(f"{file} is not an exported model: its name must end with {', '.join(_KINDS)}.")
    for each in files_of(file):
        if not Path(each).is_file():
            raise UserError(
                f"{each} does not exist. Make it with: mit-semseg export --cfg CONFIG --out {file}"
            )
    return _KINDS[file.suffix.lower()]


def openvino_core() -> Any:
    """OpenVINO's entry point, one for each process, which is never freed.

    Its CPU plugin gives the thread another stack for signal handlers. If one of several entry points is
    freed, the thread may keep a freed stack, and the next signal, such as that of a process that has ended,
    would crash the program (seen with OpenVINO 2026.4).
    """
    return _core_of(os.getpid())  # threads of a runtime do not survive a fork


@cache
def _core_of(process: int) -> Any:
    import openvino

    return openvino.Core()


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path} cannot be opened: {reason}. Export the model again.")


class _Onnx(OpenedModel):
    package = "onnxruntime"

    def __init__(self, path: Path, threads: int, callers: int, amp: str) -> None:
        ort = require(self.package, path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = self._opened(path, options)
        self.metadata = Metadata.from_texts(self._session.get_modelmeta().custom_metadata_map, path)
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True

    def run(self, names: Sequence[str], image: Image) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = self._session.run(list(names), {INPUT: image}, self._run_options)
        return outputs

    @classmethod
    def read_metadata(cls, path: Path) -> Metadata:
        ort = require(cls.package, path)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # opens much faster
        return Metadata.from_texts(cls._opened(path, options).get_modelmeta().custom_metadata_map, path)

    @classmethod
    def _opened(cls, path: Path, options: Any) -> Any:
        ort = require(cls.package, path)
        options.log_severity_level = 3  # errors
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each kind of damage
            raise _unreadable(path, error) from error


class _OpenVino(OpenedModel):
    package = "openvino"
    has_bf16 = True

    def __init__(self, path: Path, threads: int, callers: int, amp: str) -> None:
        self._model = self._opened(path)
        self.metadata = metadata_of(self._model, path)
        check_weights(self._model, path)
        # One thread in each stream serves one caller; a single caller gets all threads in one stream.
        self._settings = {
            "INFERENCE_NUM_THREADS": threads * callers,
            "NUM_STREAMS": callers,
            "INFERENCE_PRECISION_HINT": "bf16"
            if amp == "bf16"
            else "f32",  # by default the processor decides
            # Its fused attention gives wrong scores after an image of one token, in OpenVINO 2026.4.
            "SNIPPETS_MODE": "DISABLE",
        }
        self._compiled: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._requests = threading.local()

    def run(self, names: Sequence[str], image: Image) -> list[NDArray[Any]]:
        key = tuple(names)
        own: dict[Any, Any] = self._requests.__dict__  # a request serves one thread at a time
        if key not in own:
            own[key] = self._network(key).create_infer_request()
        results = own[key].infer({0: image})
        return [results[k] for k in range(len(key))]

    def _network(self, names: tuple[str, ...]) -> Any:
        """The part of the network that computes the outputs ``names``, compiled."""
        openvino = require(self.package, "An OpenVINO model")
        with self._lock:
            if names not in self._compiled:
                results = [
                    openvino.opset13.result(self._model.output(name).get_node().input_value(0))
                    for name in names
                ]
                part = openvino.Model(results, self._model.get_parameters())
                self._compiled[names] = openvino_core().compile_model(part, "CPU", self._settings)
            return self._compiled[names]

    @classmethod
    def read_metadata(cls, path: Path) -> Metadata:
        return metadata_of(cls._opened(path), path)

    @classmethod
    def _opened(cls, path: Path) -> Any:
        require(cls.package, path)
        try:
            return openvino_core().read_model(str(path))
        except RuntimeError as error:
            raise _unreadable(path, error) from error


class _Torch(OpenedModel):
    package = "torch"

    def __init__(self, path: Path, threads: int, callers: int, amp: str) -> None:
        self.metadata = self.read_metadata(path)
        try:
            self._network = _without_guards(torch.export.load(str(path)))
        except Exception as error:  # zip, JSON, pickle and torch have their own
            raise _unreadable(path, error) from error

    @torch.no_grad()
    def run(self, names: Sequence[str], image: Image) -> list[NDArray[Any]]:
        outputs = dict(zip(self.metadata.outputs, self._network(torch.from_numpy(image)), strict=True))
        return [outputs[name].numpy() for name in names]

    @classmethod
    def read_metadata(cls, path: Path) -> Metadata:
        try:
            with zipfile.ZipFile(path) as archive:  # torch would load the network, too
                found = [name for name in archive.namelist() if Path(name).name == EXTRA_FILE]
                texts = json.loads(archive.read(found[0])) if found else {}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise _unreadable(path, error) from error
        return Metadata.from_texts(texts, path)


def _without_guards(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """The network for every size. A transformer's guards refuse images of one token, which it computes."""
    options = {"check_guards": False} if "check_guards" in signature(program.module).parameters else {}
    return program.module(**options)  # which older versions lack


_KINDS: dict[str, type[OpenedModel]] = {".onnx": _Onnx, ".xml": _OpenVino, ".pt2": _Torch}

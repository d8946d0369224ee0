"""Writing of an exported file: a graph for any size, which is compared with PyTorch before it is kept."""

import contextlib
import io
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._sympy.value_ranges import ValueRanges

from ..data.bands import RGB
from ..errors import UserError
from ..runtime import claim
from ..runtime.files import check_writable, unwritable
from ..runtime.packages import require
from . import openvino_files
from .compare import Row, Shape, as_table, compare, shapes_for
from .graph import INPUT, ExportGraph
from .metadata import Metadata
from .opened import EXTRA_FILE, files_of, open_exported

OUTPUTS = ("labels", "scores")
"""``scores`` adds the probabilities to the labels."""

LEAST_OPSET = 18
_EXAMPLE = (2, 75, 107)  # N, H, W; not 1, which exporters take for a constant, and odd sides
_ONNXSCRIPT = (0, 7, 1)  # earlier ones write a wrong resize to one pixel
_TESTED_TORCH = (2, 14)
_INSTALL = "onnx 'onnxscript>=0.7.1' onnxruntime"


@dataclass(frozen=True)
class Options:
    """How a file is written.

    Attributes:
        format: a key of `FORMATS`; "" for the one that the extension of the file names.
        output: one of `OUTPUTS`.
        opset: version of ONNX's operators, for the formats onnx and openvino.
        force: replace an existing file.
    """

    format: str = ""
    output: str = "labels"
    opset: int = LEAST_OPSET
    force: bool = False

    def __post_init__(self) -> None:
        if self.format not in ("", *FORMATS):
            raise ValueError(f"format is {self.format!r}, but takes one of {', '.join(FORMATS)}")
        if self.output not in OUTPUTS:
            raise ValueError(f"output is {self.output!r}, but takes one of {', '.join(OUTPUTS)}")


def checked(path: str | Path, options: Options) -> str:
    """The format of a file to write, after a check of all that is known before the model is loaded.

    Raises: UserError for an extension that is not the format's, an existing file, a folder that cannot be
        written into, an opset that is too low or too new, or a missing package.
    """
    path = Path(path)
    of_extension = {extension: name for name, (extension, _) in FORMATS.items()}
    name = options.format or of_extension.get(path.suffix.lower(), "")
    if not name or FORMATS[name][0] != path.suffix.lower():
        known = ", ".join(f"{extension} for {name}" for extension, name in of_extension.items())
        raise UserError(f"{path} has the extension {path.suffix!r}, but it must be {known}.")
    existing = [file for file in files_of(path) if Path(file).exists()]
    if existing and not options.force:
        raise UserError(f"{existing[0]} exists. Pass --force (force=True) to replace it, or another file.")
    check_writable(path.parent, "--out")
    if name != "torch":
        _check_onnx(options.opset, f"An export to {name}")
    elif options.opset != LEAST_OPSET:
        raise UserError(f"--opset is {options.opset}, but a .pt2 file has no operators of ONNX. Omit it.")
    if name == "openvino":
        require("openvino", "An export to openvino")
    return name


def write_model(
    encoder: nn.Module,
    decoder: nn.Module,
    metadata: Metadata,
    path: str | Path,
    options: Options,
    *,
    threshold: float = 0.5,
    shapes: Sequence[Shape] = (),
) -> list[Row]:
    """Write a network as one file (two for OpenVINO) and compare it with PyTorch before it is kept.

    Args:
        encoder, decoder: trained, in float32; they are not changed.
        metadata: ``outputs`` may be empty; they are set here.
        threshold: with two classes, the probability from which a pixel belongs to the second one.
        shapes: of the images to compare at; empty for `shapes_for` this encoder.

    Returns: the comparison.
    Raises: UserError as `checked`; if the network cannot be exported; and if the file does not agree with
        PyTorch, with the table. The folder is then as before.
    """
    path = Path(path)
    name = checked(path, options)
    graph = ExportGraph(
        encoder,
        decoder,
        len(metadata.names),
        scores=options.output == "scores",
        threshold=threshold,
        bands=metadata.bands,
    )
    metadata = metadata.with_outputs(graph.outputs)
    try:
        with _work_folder(path) as folder, _quiet():
            new = folder / path.name
            with _obstacles(f"{metadata.model} can't be exported to {name}", path):
                FORMATS[name][1](graph, metadata, new, options.opset)
                _check_single(metadata.model, new)
                model = open_exported(new, threads=torch.get_num_threads())
                rows = compare(graph, model, shapes or shapes_for(_multiple(graph)))
            if not all(row.agrees for row in rows):
                raise UserError(
                    f"{path} was not written: its results differ from those of PyTorch.\n{as_table(rows)}"
                    "This may be a bug of the exporter or of the runtime. Try another --format."
                )
            _move(new, path)
    except OSError as error:
        raise unwritable(path, error) from error
    return rows


def save_copy(model: str | Path, path: str | Path, options: Options) -> None:
    """Save an exported file under another name, in the same format.

    Raises: UserError as `checked`.
    """
    path = Path(path)
    checked(path, options)
    try:
        with _work_folder(path) as folder:
            new = folder / path.name
            for source, target in zip(files_of(model), files_of(new), strict=True):
                shutil.copyfile(source, target)
            _move(new, path)
    except OSError as error:
        raise unwritable(path, error) from error


def _move(new: Path, path: Path) -> None:
    """Rename all files of an exported model, the weights first."""
    for file in reversed(files_of(new)):
        Path(file).replace(path.with_name(Path(file).name))


@contextmanager
def _obstacles(what: str, path: Path) -> Iterator[None]:
    """Inside the block, errors of exporters and runtimes become a UserError that says ``what``."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # each package has a class of its own for each obstacle
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        found = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
        if found < _TESTED_TORCH:
            reason += f" (torch is {torch.__version__}, but exports were tested with 2.14: try a newer one)"
        raise UserError(f"{path} was not written: {what}: {reason}") from error


def _check_single(model: str, new: Path) -> None:
    """Raises: UserError if an exporter has put weights into a second file, which others may not find."""
    if list(new.parent.glob(f"{new.name}.*")):
        raise UserError(
            f"{new.name} was not written: {model} is larger than 2 GB, the most that one {new.suffix} "
            "file can hold. Pass --format openvino or torch."
        )


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path`` for unfinished files, without those of an export that was killed.

    Raises: UserError if another process is writing ``path``.
    """
    folder = path.with_name(f".{path.name}.part")
    try:
        with claim.claimed(folder, "written", "--out"):
            _empty(folder)
            try:
                yield folder
            finally:
                _empty(folder)
    finally:
        with contextlib.suppress(OSError):  # it is gone already, or another process has claimed it
            folder.rmdir()


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name != claim.NAME:
            each.unlink()


def _multiple(graph: ExportGraph) -> int:
    """What an encoder pads images to, or its coarsest stride."""
    encoder: Any = graph.encoder
    return max(getattr(encoder, "multiple", 1), *encoder.strides)


def _program(graph: ExportGraph) -> torch.export.ExportedProgram:
    """The graph for any batch, height and width."""
    channels, dtype = (RGB, torch.uint8) if graph.bands is None else (graph.bands.channels, torch.float32)
    count, height, width = _EXAMPLE
    generator = torch.Generator().manual_seed(0)
    example = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    example = example.to(dtype)
    free = torch.export.Dim.DYNAMIC
    with torch.no_grad(), _no_least_size():
        return torch.export.export(
            graph,
            (example,),
            dynamic_shapes=({0: free, 2: free, 3: free},),
            strict=False,  # the default, but not in torch 2.6
        )


def _no_least_size() -> AbstractContextManager[Any]:
    """Inside the block, torch.export does not assume that a free side is 2 or more, if torch can be told."""
    from torch.fx.experimental import _config

    config: Any = _config
    known = hasattr(config, "backed_size_oblivious")  # not in torch 2.6
    return config.patch(backed_size_oblivious=True) if known else nullcontext()


def _write_torch(graph: ExportGraph, metadata: Metadata, path: Path, opset: int) -> None:
    program = _program(graph)
    # torch derives least sides from maps whose layout is another if they have one pixel, such as those of
    # Swin. The values are the same, which the comparison shows at such sizes.
    for side, values in program.range_constraints.items():
        program.range_constraints[side] = ValueRanges(1, values.upper)
    content = io.BytesIO()  # in a file on a full disk, torch would end the process
    torch.export.save(program, content, extra_files={EXTRA_FILE: json.dumps(metadata.as_texts())})
    path.write_bytes(content.getbuffer())


def _write_onnx(graph: ExportGraph, metadata: Metadata, path: Path, opset: int) -> None:
    program = torch.onnx.export(
        _program(graph),
        (),
        dynamo=True,
        input_names=[INPUT],
        output_names=list(graph.outputs),
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        opset_version=opset,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata.as_texts())
    program.model.producer_name = "mit_semseg"
    program.model.producer_version = metadata.version
    program.save(str(path))


def _write_openvino(graph: ExportGraph, metadata: Metadata, path: Path, opset: int) -> None:
    between = path.with_suffix(".onnx")
    _write_onnx(graph, metadata, between, opset)
    openvino_files.save(openvino_files.converted(between), metadata, path)


FORMATS: dict[str, tuple[str, Callable[[ExportGraph, Metadata, Path, int], None]]] = {
    "onnx": (".onnx", _write_onnx),
    "openvino": (".xml", _write_openvino),
    "torch": (".pt2", _write_torch),
}
"""The extension and the writer of each format."""


def _check_onnx(opset: int, why: str) -> None:
    onnx = require("onnx", why, _INSTALL)
    require("onnxscript", why, _INSTALL)
    require("onnxruntime", why, _INSTALL)
    found = version("onnxscript")
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < _ONNXSCRIPT:
        raise UserError(
            f"onnxscript {found} writes a wrong graph for small images. Run: pip install 'onnxscript>=0.7.1'"
        )
    newest = onnx.defs.onnx_opset_version()
    if not LEAST_OPSET <= opset <= newest:
        raise UserError(
            f"--opset is {opset}, but must be from {LEAST_OPSET}, whose resize the graph needs, to "
            f"{newest}, the newest of the installed onnx {onnx.__version__}."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside the block, the exporters' warnings about themselves are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""Smaller forms of an exported file: 8-bit integers, which are also faster, and weights of 16 bits.

Each format has the quantization that measures better in its runtime, see benchmarks/results/export.md.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import UserError
from ..runtime.packages import require
from . import openvino_files
from .graph import INPUT
from .metadata import Metadata
from .opened import Image, files_of, openvino_core, read_metadata

Images: TypeAlias = Sequence[Callable[[], Image]]
"""Functions that load images (N, 3, H, W) to calibrate with, so that few are in memory at a time."""

_LEAST_VALUES = 256  # of a tensor; smaller ones, such as biases, are not worth a conversion
_LARGEST_HALF = 65504.0
_INT8, _FLOAT16 = "(int8)", "(float16)"  # at the end of the model's title


def quantized(model: Path, images: Images, new: Path) -> None:
    """Write a model whose convolutions compute in 8-bit integers.

    Weights take 7 of the 8 bits. On x86 processors without VNNI, sums of two products are limited to 16 bits,
    which full weights exceed: in onnxruntime, 2.0 % of the released model's labels changed there, and 0.7 %
    with 7 bits.

    Args:
        model, new: ``.onnx`` files, or ``.xml`` files of OpenVINO. The metadata are copied, without scores.
        images: determine the range of each activation.

    Raises: UserError if a package is missing, or for another format.
    """
    _for_format(_QUANTIZED, model)(model, images, new)


def halved(model: Path, new: Path) -> None:
    """Write a model with weights in float16. Runtimes convert them when they open it.

    It computes in float32, so it is as fast as before, in half the space.

    Args:
        model, new: as for `quantized`.
    """
    _for_format(_HALVED, model)(model, new)


def record_scores(model: Path, scores: Mapping[str, float]) -> None:
    """Store scores by name in the metadata of a model."""
    metadata = replace(read_metadata(model), scores=scores)
    new = model.with_stem(f"{model.stem}-scored")
    if model.suffix.lower() == ".onnx":
        _save_onnx(require("onnx", "A smaller model").load(str(model)), metadata, new)
    else:
        require("openvino", "A smaller model")
        openvino_files.save(openvino_core().read_model(str(model)), metadata, new)
    for source, target in zip(files_of(new), files_of(model), strict=True):
        Path(source).replace(target)


def check_smaller(extension: str, *, int8: bool, source: str = "") -> None:
    """Check that a model with this extension can be made smaller here.

    Args:
        source: the exported file that it is made from, if there is one.

    Raises: UserError if a package is missing, for another format, or if the source has been made smaller.
    """
    if extension not in _QUANTIZED:
        raise UserError("--int8 and --float16 write .onnx and .xml files. Change --out or --format.")
    if extension == ".xml" and int8:
        with _silent():
            require("nncf", "--int8 for OpenVINO")
    title = read_metadata(source).model if source else ""
    if title.endswith((_INT8, _FLOAT16)):
        raise UserError(
            f"{source} has been made smaller already: {title}. Pass the file that it was made from."
        )


def _for_format(methods: dict[str, Callable[..., None]], model: Path) -> Callable[..., None]:
    check_smaller(model.suffix.lower(), int8=False)
    return methods[model.suffix.lower()]


def _described(model: Path, how: str) -> Metadata:
    metadata = read_metadata(model)
    return replace(metadata, model=f"{metadata.model} {how}", scores={})


# onnxruntime


def _onnxruntime_quantized(model: Path, images: Images, new: Path) -> None:
    onnx = require("onnx", "--int8")
    require("onnxruntime", "--int8")
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[Callable[[], Image]] = iter(images)

        def get_next(self) -> dict[str, Image] | None:
            load = next(self._images, None)
            return None if load is None else {INPUT: load()}

    folded = new.with_suffix(".folded.onnx")
    quant_pre_process(str(model), str(folded), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(folded),
        str(new),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        # With the limits that follow a convolution, so that the range is that of what remains.
        op_types_to_quantize=["Conv", "Clip", "Relu"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,  # x86 multiplies unsigned by signed integers
        weight_type=quantization.QuantType.QInt8,
        reduce_range=True,  # of weights, see `quantized`
    )
    folded.unlink()
    _save_onnx(onnx.load(str(new)), _described(model, _INT8), new)


def _onnx_halved(model: Path, new: Path) -> None:
    onnx = require("onnx", "--float16")
    loaded = onnx.load(str(model))
    casts = []
    for tensor in loaded.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _LEAST_VALUES:
            continue
        values, name = onnx.numpy_helper.to_array(tensor), tensor.name
        if np.abs(values).max() > _LARGEST_HALF:
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *loaded.graph.node]
    del loaded.graph.node[:]
    loaded.graph.node.extend(nodes)
    _save_onnx(loaded, _described(model, _FLOAT16), new)


def _save_onnx(model: Any, metadata: Metadata, new: Path) -> None:
    onnx = require("onnx", "A smaller model")
    del model.metadata_props[:]
    for key, text in metadata.as_texts().items():
        model.metadata_props.add(key=key, value=text)
    onnx.save(model, str(new))


# OpenVINO


def _openvino_quantized(model: Path, images: Images, new: Path) -> None:
    require("openvino", "--int8")
    with _silent():
        nncf = require("nncf", "--int8 for OpenVINO")
        result = nncf.quantize(
            openvino_core().read_model(str(model)),
            nncf.Dataset(images, lambda load: {INPUT: load()}),
            preset=nncf.QuantizationPreset.MIXED,  # signed where an activation has both signs
            subset_size=len(images),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE  # 7 bits for weights, see `quantized`
            ),
        )
    openvino_files.save(result, _described(model, _INT8), new)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Inside the block, NNCF neither draws progress bars on standard output nor warns of a missing GPU."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _openvino_halved(model: Path, new: Path) -> None:
    require("openvino", "--float16")
    openvino_files.save(openvino_core().read_model(str(model)), _described(model, _FLOAT16), new, half=True)


_QUANTIZED: dict[str, Callable[..., None]] = {".onnx": _onnxruntime_quantized, ".xml": _openvino_quantized}
_HALVED: dict[str, Callable[..., None]] = {".onnx": _onnx_halved, ".xml": _openvino_halved}

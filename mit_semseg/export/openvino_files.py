"""The two files of an OpenVINO model: the graph with the metadata, and the weights."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runtime.files import sha256_of
from ..runtime.packages import require
from .metadata import Metadata

_METADATA = "mit_semseg"  # the part of a file's information that holds the metadata
_WEIGHTS = "mit_semseg_weights"  # the SHA-256 of the .bin file
_UNKNOWN = "0" * 64


def converted(onnx: Path) -> Any:
    """An ONNX file as a model of OpenVINO that computes the same."""
    model = require("openvino", "An export to openvino").convert_model(str(onnx))
    for node in model.get_ordered_ops():
        values = node.get_attributes() if node.get_type_name() == "Interpolate" else {}
        if values.get("mode") == "cubic" and values["antialias"]:  # which OpenVINO ignores in this mode
            node.set_attribute("mode", "bicubic_pillow")
    return model


def save(model: Any, metadata: Metadata, path: Path, *, half: bool = False) -> None:
    """Write ``path`` and, beside it, the file of the weights, whose hash ``path`` holds.

    Args:
        model: of OpenVINO.
        half: store weights in float16.

    Raises: OSError if the disk is full or cannot be written.
    """
    openvino = require("openvino", "An OpenVINO model")
    for key, text in metadata.as_texts().items():
        model.set_rt_info(text, [_METADATA, key])
    model.set_rt_info(_UNKNOWN, [_WEIGHTS])
    try:
        openvino.save_model(model, str(path), compress_to_fp16=half)
    except RuntimeError as error:  # without a reason: "basic_ios::clear: iostream error"
        raise OSError(errno.EIO, "OpenVINO could not write it, perhaps because the disk is full") from error
    graph = path.read_text(encoding="utf-8")
    assert graph.count(_UNKNOWN) == 1
    path.write_text(graph.replace(_UNKNOWN, sha256_of(path.with_suffix(".bin"))), encoding="utf-8")


def metadata_of(model: Any, path: Path) -> Metadata:
    """The metadata of a model that was read from ``path``. Raises: as `Metadata.from_texts`."""
    texts: Mapping[str, Any] = {}
    if model.has_rt_info([_METADATA]):
        texts = {key: str(value) for key, value in model.get_rt_info([_METADATA]).value.items()}
    return Metadata.from_texts(texts, path)


def check_weights(model: Any, path: Path) -> None:
    """Check that both files were written together.

    Raises: UserError if they were not: an export over older files was killed between the two, or one was
        copied without the other.
    """
    if not model.has_rt_info([_WEIGHTS]):  # a file of an earlier version
        return
    weights = path.with_suffix(".bin")
    if str(model.get_rt_info([_WEIGHTS]).value) != sha256_of(weights):
        raise UserError(
            f"{weights} does not belong to {path}: an export was interrupted, or only one of the two files "
            "was copied. Copy both of them together, or export the model again."
        )

"""What an exported file says of itself."""

import json

import pytest
from example_metadata import example_metadata

from mit_semseg.errors import UserError
from mit_semseg.export import Metadata

ABOUT = example_metadata(outputs=("labels", "logits"), scores={"mean_iou": 0.5})


def test_metadata_are_the_same_after_a_file():
    assert Metadata.from_texts(ABOUT.as_texts(), "a.onnx") == ABOUT


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("imgSizes", []),
        ("imgSizes", [40, 0]),
        ("imgSizes", 40),
        ("padding_constant", 0),
        ("stride", -4),
        ("grid", None),
        ("outputs", []),
        ("class_names", {}),
        ("class_names", {"1": "a"}),
        ("colors", [[1, 2, 3]]),
        ("evaluation", 5),
    ],
)
def test_values_that_no_export_writes_are_refused(key, value):
    texts = ABOUT.as_texts() | {key: json.dumps(value)}
    with pytest.raises(UserError, match=r"a\.onnx is not a model that this project has exported"):
        Metadata.from_texts(texts, "a.onnx")

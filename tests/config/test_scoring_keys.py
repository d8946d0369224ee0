import pytest

from mit_semseg.config import load_config
from mit_semseg.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["VAL.amp", "fp16"], "VAL.amp is 'fp16', but takes none or bf16."),
        (["VAL.tile", "-1"], "VAL.tile is -1, but takes whole numbers from 0 to 2147483647."),
        (
            ["VAL.tile", "512", "VAL.overlap", "512"],
            "VAL.overlap is 512, but VAL.tile is 512. Set VAL.tile above it.",
        ),
        (["VAL.overlap", "64"], "VAL.overlap is 64, but VAL.tile is 0. Set VAL.tile above it."),
    ],
)
def test_what_cannot_be_scored_is_refused(overrides, message):
    with pytest.raises(UserError) as caught:
        load_config(None, overrides)
    assert str(caught.value) == message


def test_tiles_with_an_overlap_are_fine():
    assert load_config(None, ["VAL.tile", "512", "VAL.overlap", "128"]).VAL.overlap == 128

import re

import pytest

from mit_semseg.losses import parse_losses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cross_entropy", {"cross_entropy": 1.0}),
        (" cross_entropy+0.5 * dice ", {"cross_entropy": 1.0, "dice": 0.5}),
        ("1e-1*focal + 2*lovasz + ohem", {"focal": 0.1, "lovasz": 2.0, "ohem": 1.0}),
        ("1e+2*dice + focal", {"dice": 100.0, "focal": 1.0}),
    ],
)
def test_a_sum_is_read_in_its_order(text, expected):
    assert list(parse_losses(text).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "takes a sum such as cross_entropy + 0.5*dice"),
        ("dice +", "takes a sum such as cross_entropy + 0.5*dice"),
        ("dice - focal", "takes a sum such as cross_entropy + 0.5*dice"),
        ("dice focal", "takes a sum such as cross_entropy + 0.5*dice"),
        ("2*3*dice", "has the weight '2*3' of dice, which is not a number"),
        ("x*dice", "has the weight 'x' of dice, which is not a number"),
        ("0*dice", "has the weight 0 of dice, but takes numbers above 0 and up to 1e+06"),
        ("-1*dice", "has the weight -1 of dice, but takes numbers above 0 and up to 1e+06"),
        ("nan*dice", "has the weight nan of dice, but takes numbers above 0 and up to 1e+06"),
        ("1e308*dice", "has the weight 1e+308 of dice, but takes numbers above 0 and up to 1e+06"),
        ("dice + dice", "has dice twice"),
        (
            "cross_entrpy",
            "has no loss cross_entrpy. Did you mean cross_entropy? The losses are "
            "cross_entropy, ohem, focal, dice, lovasz, distillation, mask_classification",
        ),
        (
            "mse",
            "has no loss mse. The losses are cross_entropy, ohem, focal, dice, lovasz, distillation, "
            "mask_classification",
        ),
    ],
)
def test_what_is_no_sum_of_losses_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_losses(text)

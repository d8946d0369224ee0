import pytest

from mit_semseg.data.resize import fit_size, round_up


def test_the_short_edge_is_met_and_the_other_side_rounded_down():
    # 683 * 300 / 512 = 400.2
    assert fit_size(683, 512, short_edge=300, max_long_edge=1000) == (400, 300)
    assert fit_size(512, 683, short_edge=300, max_long_edge=1000) == (300, 400)


def test_the_limit_of_the_long_edge_wins_over_the_short_edge():
    # 1000 / 2000 is the scale, not 600 / 400
    assert fit_size(2000, 400, short_edge=600, max_long_edge=1000) == (1000, 200)


@pytest.mark.parametrize(
    ("size", "rate", "padded"),
    [  # height and width that the old package made of two ADE20K images at five short edges
        ((683, 512), 8, [(304, 400), (376, 504), (456, 600), (528, 704), (600, 800)]),
        ((500, 364), 8, [(304, 416), (376, 520), (456, 624), (528, 728), (600, 824)]),
        ((683, 512), 32, [(320, 416), (384, 512), (480, 608), (544, 704), (608, 800)]),
        ((500, 364), 32, [(320, 416), (384, 544), (480, 640), (544, 736), (608, 832)]),
    ],
)
def test_padded_sizes_are_those_that_the_published_scores_were_measured_at(size, rate, padded):
    fitted = [fit_size(*size, short_edge, 1000) for short_edge in (300, 375, 450, 525, 600)]
    assert [(round_up(height, rate), round_up(width, rate)) for width, height in fitted] == padded


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (37, 4999), (640, 480)])
def test_a_fitted_image_has_pixels_and_keeps_to_the_limit(size):
    for short_edge in (1, 300, 600):
        width, height = fit_size(*size, short_edge, 1000)
        assert 1 <= min(width, height) <= short_edge
        assert max(width, height) <= 1000


def test_rounding_up_gives_the_smallest_multiple_that_is_no_smaller():
    for multiple in (1, 8, 32):
        for length in range(1, 100):
            rounded = round_up(length, multiple)
            assert rounded % multiple == 0
            assert 0 <= rounded - length < multiple


def test_sizes_below_one_pixel_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match="width 0, height 5, short_edge 300"):
        fit_size(0, 5, 300, 1000)
    with pytest.raises(ValueError, match="multiple is 0"):
        round_up(5, 0)

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.data.resize import pick_nearest, resize

RNG = np.random.Generator(np.random.Philox(4))


def test_picking_by_hand():
    values = np.array([[1, 2, 3, 4]], np.uint8)
    assert pick_nearest(values, 2, 1).tolist() == [[2, 4]]  # centres at 1 and 3
    assert pick_nearest(values, 8, 2).tolist() == [[1, 1, 2, 2, 3, 3, 4, 4]] * 2
    assert pick_nearest(values, 4, 1, flip=True).tolist() == [[4, 3, 2, 1]]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rate", [1, 4, 8])
def test_picked_values_are_those_of_pillow_at_the_middle_of_each_cell(rate, flip):
    for width, height, new_width, new_height in RNG.integers(1, 200, (60, 4)).tolist():
        values = RNG.integers(0, 256, (height, width)).astype(np.uint8)
        image = Image.fromarray(values)
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        wanted = np.asarray(image.resize((new_width, new_height), Image.Resampling.NEAREST))
        found = pick_nearest(values, new_width, new_height, rate, flip)
        np.testing.assert_array_equal(found, wanted[rate // 2 :: rate, rate // 2 :: rate])


def test_values_of_16_bits_survive():
    assert pick_nearest(np.array([[300, 7]], np.uint16), 4, 1).tolist() == [[300, 300, 7, 7]]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(31, 45), (60, 40), (97, 70), (240, 160), (1, 1)])
def test_images_are_resized_as_by_pillow_to_within_one_level(size, flip):
    noise = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = resize(noise, *size, flip)
    assert found.dtype == torch.uint8
    assert found.shape == (3, size[1], size[0])
    assert found.permute(1, 2, 0).is_contiguous()
    wanted = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(found.permute(1, 2, 0).numpy().astype(int) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1

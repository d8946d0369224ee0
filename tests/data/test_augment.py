import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from mit_semseg.data.augment import AUGMENTATIONS, RandomScaledCrop, augmented, build_augmentation
from mit_semseg.errors import UserError

# The label's value is told by the image's colour, so that whatever happens to both can be compared.
SHADES = np.array([0, 80, 160, 240], np.uint8)


def options(**changes):
    defaults = {"imgSizes": (40, 60), "imgMaxSize": 200, "crop_size": (32, 48), "scale_range": (0.5, 2.0)}
    defaults |= {
        "augment_strength": 1.0,
        "augment_parts": ("light", "shadow", "blur", "noise", "jpeg", "cutout"),
    }
    return SimpleNamespace(**{**defaults, "crop_max_share": 1.0, "random_flip": True, **changes})


def example(width=90, height=70, seed=0, cell=10):
    rng = np.random.Generator(np.random.Philox(seed))
    label = rng.integers(0, 4, (-(-height // cell), -(-width // cell))).astype(np.uint8)
    label = label.repeat(cell, 0).repeat(cell, 1)[:height, :width].copy()
    return SHADES[label][..., None].repeat(3, 2), label


def test_a_crop_at_scale_one_is_a_window_of_the_image():
    pixels, label = example(width=80, height=60)
    transform = RandomScaledCrop((32, 48), (60,), 1000, scales=(1, 1), max_share=1)
    for seed in range(20):
        image, values = augmented(transform, pixels, label, seed)
        assert image.shape == (3, 32, 48)
        np.testing.assert_array_equal(image[0], SHADES[values])
        windows = np.lib.stride_tricks.sliding_window_view(label, (32, 48))
        assert (windows == values).all((2, 3)).any()


@pytest.mark.parametrize("size", [(90, 70), (70, 90), (300, 40), (20, 20), (1, 1), (7, 500)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_image_and_label_stay_together_whatever_their_size(size, dtype):
    pixels, label = example(*size)
    transform = RandomScaledCrop((32, 48), (40, 60), 200, max_share=1)
    for seed in range(30):
        image, values = augmented(transform, pixels, label.astype(dtype), seed)
        assert image.shape[1] <= 32
        assert image.shape[2] <= 48
        assert values.dtype == dtype
        # At the borders of the cells colours are mixed. Of unrelated ones two in five would be as near.
        near = np.abs(image[0].numpy().astype(int) - SHADES[values]) <= 60
        assert near.mean() > 0.8


def test_the_scales_fill_their_range_and_follow_the_limit_of_the_long_edge():
    heights = set()
    pixels, label = example(100, 50)
    transform = RandomScaledCrop((1000, 1000), (50,), 120, scales=(0.5, 2), max_share=1)
    for seed in range(200):
        image, _ = augmented(transform, pixels, label, seed)
        assert image.shape[2] in (2 * image.shape[1], 2 * image.shape[1] + 1)
        heights.add(image.shape[1])
    assert 25 <= min(heights) <= 27
    assert 97 <= max(heights) <= 100
    transform = RandomScaledCrop((1000, 1000), (50,), 60, scales=(1, 1), max_share=1)
    assert augmented(transform, pixels, label, 0)[0].shape == (3, 30, 60)


def test_a_class_takes_no_more_than_its_share_where_that_can_be_had():
    label = np.full((100, 400), 1, np.uint8)
    label[:, 300:] = 2  # a crop of 50 columns is all of class 0 in 5 of 7 places
    pixels = np.zeros((100, 400, 3), np.uint8)

    def mixed(max_share):
        transform = RandomScaledCrop((100, 50), (100,), 1000, (1, 1), max_share)
        crops = [augmented(transform, pixels, label, seed)[1] for seed in range(200)]
        return np.mean([0.25 <= (crop == 2).mean() <= 0.75 for crop in crops])

    assert mixed(1.0) < 0.15
    assert mixed(0.75) > 0.4


def test_unlabelled_pixels_are_no_class_of_the_share():
    label = np.zeros((50, 50), np.uint8)
    pixels = np.zeros((50, 50, 3), np.uint8)
    transform = RandomScaledCrop((20, 20), (50,), 1000, (1, 1), max_share=0.5)
    assert augmented(transform, pixels, label, 0)[1].shape == (20, 20)  # and no division by zero


def test_the_same_seed_gives_the_same_and_another_one_something_else():
    transform = AUGMENTATIONS["crop"](options())
    pixels, label = example()
    first, again, other = (augmented(transform, pixels, label, seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_generator_of_the_training_is_left_alone():
    before = torch.random.get_rng_state()
    augmented(AUGMENTATIONS["crop"](options()), *example(), 7)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_crop_recipe_changes_colours_and_flips():
    pixels, label = example()
    found = [augmented(AUGMENTATIONS["crop"](options()), pixels, label, seed) for seed in range(40)]
    gray = [torch.isin(image, torch.from_numpy(SHADES)).float().mean().item() for image, _ in found]
    assert sum(share > 0.5 for share in gray) in range(1, 25)  # a fifth or so keep their colours
    window = options(scale_range=(1.0, 1.0), imgSizes=(70,), crop_size=(70, 90))
    mirrored = [
        bool((augmented(AUGMENTATIONS["crop"](window), pixels, label, seed)[1] == label[:, ::-1]).all())
        for seed in range(40)
    ]
    assert 10 < sum(mirrored) < 30
    window.random_flip = False
    for seed in range(10):
        np.testing.assert_array_equal(augmented(AUGMENTATIONS["crop"](window), pixels, label, seed)[1], label)


def test_any_transform_of_torchvision_fits_and_what_it_adds_is_ignored():
    pixels, label = example()
    turn = v2.Compose([v2.RandomRotation((45, 45), expand=True), v2.GaussianBlur(3), v2.RandomGrayscale()])
    image, values = augmented(turn, pixels, np.maximum(label, 1), 0)
    assert image.shape[1:] == values.shape
    assert values[0, 0] == values[-1, -1] == 0


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (v2.Compose([v2.ToDtype({tv_tensors.Image: torch.float32, "others": None})]), "70, 90) float32 and"),
        (lambda image, label: image, "made (3, 70, 90) uint8 and NoneType"),
        (lambda image, label: (image[:, :5], label), "made (3, 5, 90) uint8 and (70, 90) uint8"),
        (lambda image, label: (image[:, :0], label[:0]), "made (3, 0, 90) uint8 and (0, 90) uint8"),
        (lambda image, label: (image, label.float()), "made (3, 70, 90) uint8 and (70, 90) float32"),
    ],
)
def test_a_transform_that_returns_something_else_is_told_what_is_wanted(transform, says):
    with pytest.raises(UserError) as caught:
        augmented(transform, *example(), 0)
    assert says in str(caught.value)
    assert "It must return an image (3, h, w) uint8 and a label (h, w)" in str(caught.value)


@pytest.mark.parametrize("num_class", [3, 7])
def test_values_that_stand_for_no_class_are_refused(num_class):
    fill = v2.RandomRotation((45, 45), fill={tv_tensors.Image: 0, tv_tensors.Mask: num_class + 1})
    with pytest.raises(
        UserError, match=rf"values \d to {num_class + 1}; they must be from 0 to {num_class}\. 0"
    ):
        augmented(fill, *example(), 0, num_class)
    assert augmented(fill, *example(), 0, num_class + 1)[1].max() == num_class + 1
    with pytest.raises(UserError, match=r"values -1 to 2; they must be 0 or more"):
        augmented(lambda image, label: (image, label.long() - 1), *example(), 0)


def test_a_function_of_the_users_is_found_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_augment.py").write_text(
        "from torchvision.transforms import v2\n"
        "def build(opt):\n    return v2.RandomCrop(opt.crop_size, pad_if_needed=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    transform = build_augmentation("my_augment:build", options())
    assert augmented(transform, *example(), 0)[0].shape == (3, 32, 48)
    with pytest.raises(UserError, match="my_augment has no buidl"):
        build_augmentation("my_augment:buidl", options())
    with pytest.raises(UserError, match="'my_augment:__name__', which is of type str, not a function"):
        build_augmentation("my_augment:__name__", options())
    with pytest.raises(
        UserError, match="'builtins:repr', which returned a value of type str, not a transform"
    ):
        build_augmentation("builtins:repr", options())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("krop", "DATASET.augment is 'krop', but takes published, crop, photos, or a function"),
        ("no_such_module:f", "there is no module no_such_module"),
    ],
)
def test_a_name_that_is_none_is_refused(name, says):
    with pytest.raises(UserError) as caught:
        build_augmentation(name, options())
    assert says in str(caught.value)


def test_recipes_can_be_sent_to_workers():
    for build in AUGMENTATIONS.values():
        transform = pickle.loads(pickle.dumps(build(options())))
        assert augmented(transform, *example(), 3)[0].dtype == torch.uint8

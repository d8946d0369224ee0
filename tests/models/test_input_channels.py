import numpy as np
import pytest
import torch

from mit_semseg.errors import UserError
from mit_semseg.models.builder import ModelBuilder
from mit_semseg.models.input_channels import adapted

EACH = (
    *("resnet18", "resnet18dilated", "resnet18_v1b", "resnet18_v1c", "mobilenetv2dilated", "mobilenetv2"),
    *("hrnetv2", "hrnet_w18_small", "mit_b0", "convnext_tiny", "swin_tiny"),
)
"""One encoder of each class and stem."""
FEW = ("resnet18", "resnet18_v1b", "mobilenetv2dilated", "mobilenetv2", "mit_b0", "hrnet_w18_small")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 12, 64])
def test_the_rule_is_that_of_timm(channels):
    manipulate = pytest.importorskip("timm.models._manipulate")
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(channels))
    torch.testing.assert_close(adapted(weight, channels), manipulate.adapt_input_conv(channels, weight))


@pytest.mark.parametrize("arch", EACH)
@pytest.mark.parametrize("channels", [1, 5])
def test_every_encoder_takes_other_channels(arch, channels):
    with torch.device("meta"):
        net = ModelBuilder.build_encoder(arch, imagenet=False, in_channels=channels)
        maps = net.eval()(torch.empty(1, channels, 64, 64), return_feature_maps=True)
    assert [values.shape[1] for values in maps] == list(net.channels)
    assert net.in_channels == channels


@pytest.mark.parametrize("arch", FEW)
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_equal_channels_give_the_features_of_gray_rgb(tmp_path, arch, channels):
    torch.manual_seed(1)
    rgb = ModelBuilder.build_encoder(arch, imagenet=False).eval()
    torch.save(rgb.state_dict(), tmp_path / "rgb.pth")
    other = ModelBuilder.build_encoder(arch, weights=str(tmp_path / "rgb.pth"), in_channels=channels).eval()
    gray = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        wanted, found = rgb(gray.expand(1, 3, -1, -1)), other(gray.expand(1, channels, -1, -1))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("theirs", "ours"), [(3, 4), (4, 3), (4, 12)])
def test_a_checkpoint_with_other_channels_is_refused_in_one_message(tmp_path, theirs, ours):
    net = ModelBuilder.build_encoder("resnet18", imagenet=False, in_channels=theirs)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    message = f"takes images of {theirs} channels, this model {ours}. Set DATASET.channels {theirs}"
    with pytest.raises(UserError, match=message):
        ModelBuilder.build_encoder(
            "resnet18", weights=str(tmp_path / "a.pth"), in_channels=ours, adapt=theirs != 3
        )


def test_three_channels_draw_the_same_weights_as_before():
    torch.manual_seed(0)
    plain = ModelBuilder.build_encoder("resnet18", imagenet=False).state_dict()
    torch.manual_seed(0)
    named = ModelBuilder.build_encoder("resnet18", imagenet=False, in_channels=3).state_dict()
    assert all(torch.equal(plain[name], named[name]) for name in plain)


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/tf_efficientnet_lite0", "timm/convnext_atto"])
def test_models_of_timm(tmp_path, name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    classifier = timm.create_model(name.removeprefix("timm/"))
    torch.save(classifier.state_dict(), tmp_path / "rgb.pth")
    net = ModelBuilder.build_encoder(name, weights=str(tmp_path / "rgb.pth"), in_channels=5).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 5, 64, 64), return_feature_maps=True)
    assert [values.shape[1] for values in maps] == list(net.channels)
    first = next(value for value in net.state_dict().values() if value.dim() == 4)
    own = next(value for value in classifier.state_dict().values() if value.dim() == 4)
    np.testing.assert_allclose(first.numpy(), adapted(own, 5).numpy())

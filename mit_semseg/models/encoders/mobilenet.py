"""MobileNetV2, as a classifier and as a dilated encoder.

Source: Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, table 2.
"""

from torch import Tensor, nn

from ..layers import BatchNorm2d, dilate
from ..pretrained import with_imagenet
from ..stage import Stage

# (expansion, channels, repeats, stride of the first) of each row of table 2
_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution with BatchNorm and ReLU6."""
    padding = kernel_size // 2
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    ]


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by a linear 1x1, add the input if shapes agree.

    Shape: (N, in, H, W) -> (N, out, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.use_residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *(_conv_bn(in_channels, hidden) if expansion != 1 else []),
            *_conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """The ImageNet classifier, whose weights the encoder starts from. (N, 3, H, W) -> (N, num_classes)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        features: list[nn.Module] = [nn.Sequential(*_conv_bn(3, 32, 3, stride=2))]
        in_channels = 32
        for expansion, channels, repeats, stride in _ROWS:
            for i in range(repeats):
                features.append(InvertedResidual(in_channels, channels, stride if i == 0 else 1, expansion))
                in_channels = channels
        features.append(nn.Sequential(*_conv_bn(in_channels, 1280)))
        self.features = Stage(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class MobileNetV2Dilated(nn.Module):
    """MobileNetV2 whose last stages keep the resolution, as an encoder.

    Shape: (N, 3, H, W) -> five maps of 24, 32, 64, 160 and 320 channels, at strides 4, 8, 8, 8, 8 for
    ``dilate_scale`` 8; ``[last map]`` without ``return_feature_maps``.

    Args:
        dilate_scale: stride of the last map, 8 or 16.
    """

    channels = (24, 32, 64, 160, 320)
    _downsampling = (2, 4, 7, 14)  # features that halve the resolution, and whose maps are given out

    def __init__(self, orig_net: MobileNetV2, dilate_scale: int = 8) -> None:
        super().__init__()
        if dilate_scale not in (8, 16):
            raise ValueError(f"dilate_scale is {dilate_scale}, but takes 8 or 16")
        self.features = Stage(*orig_net.features[:-1])  # without the classifier's 1x1 convolution
        third, fourth = self._downsampling[2:]
        if dilate_scale == 8:
            dilate(self.features[third:fourth], 2)
            dilate(self.features[fourth:], 4)
            self.strides: tuple[int, ...] = (4, 8, 8, 8, 8)
        else:
            dilate(self.features[fourth:], 2)
            self.strides = (4, 8, 16, 16, 16)

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        maps = []
        for i, feature in enumerate(self.features):
            x = self.features.run(feature, x)
            if i in self._downsampling:
                maps.append(x)
        return [*maps, x] if return_feature_maps else [x]


def mobilenetv2(pretrained: bool = False) -> MobileNetV2:
    return with_imagenet(MobileNetV2(), "mobilenetv2", pretrained)

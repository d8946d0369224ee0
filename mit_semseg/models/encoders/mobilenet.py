"""MobileNetV2, as a classifier and as a dilated encoder.

Source: Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, table 2.
"""

from itertools import accumulate
from operator import mul

from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import BatchNorm2d, dilate, requested_maps
from ..weights.pretrained import with_imagenet

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
    """The ImageNet classifier, with the initial weights of the encoder. (N, 3, H, W) -> (N, n_class)."""

    def __init__(self, n_class: int = 1000) -> None:
        super().__init__()
        features: list[nn.Module] = [nn.Sequential(*_conv_bn(3, 32, 3, stride=2))]
        in_channels = 32
        for expansion, channels, repeats, stride in _ROWS:
            for i in range(repeats):
                features.append(InvertedResidual(in_channels, channels, stride if i == 0 else 1, expansion))
                in_channels = channels
        features.append(nn.Sequential(*_conv_bn(in_channels, 1280)))
        self.features = CheckpointedSequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, n_class))

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
    down_idx = (2, 4, 7, 14)
    """The features that halve the resolution; their outputs are returned."""

    def __init__(self, orig_net: MobileNetV2, dilate_scale: int = 8) -> None:
        super().__init__()
        if dilate_scale not in (8, 16):
            raise ValueError(f"dilate_scale is {dilate_scale}, but takes 8 or 16")
        # Without the 1x1 convolution of the classifier.
        self.features = CheckpointedSequential(*orig_net.features[:-1])
        self.total_idx = len(self.features)
        third, fourth = self.down_idx[2:]
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
            if i in self.down_idx:
                maps.append(x)
        return requested_maps([*maps, x], return_feature_maps)


class MobileNetV2Stages(nn.Module):
    """MobileNetV2 as an encoder with any strides and dilations, in the form of mmsegmentation.

    Unlike `MobileNetV2Dilated`, it dilates the first block of a stage only.

    Shape: (N, 3, H, W) -> the maps of ``out_stages``, at strides 4, 8, 16, 32 by default; ``[last map]``
        without ``return_feature_maps``.

    Args:
        strides, dilations: of the first block of each of the seven stages, the rows of table 2.
        width: factor of all channels, which become multiples of 8.
        out_stages: stages whose maps are returned, from 0.
    """

    def __init__(
        self,
        *,
        strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1),
        dilations: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1),
        width: float = 1.0,
        out_stages: tuple[int, ...] = (1, 2, 4, 6),
    ) -> None:
        super().__init__()
        count = len(_ROWS)
        if len(strides) != count or len(dilations) != count:
            raise ValueError(f"strides and dilations need {count} values each")
        if not set(strides) <= {1, 2} or min(dilations) < 1 or width <= 0:
            raise ValueError("strides must be 1 or 2, and dilations and width above 0")
        if not out_stages or not set(out_stages) <= set(range(count)):
            raise ValueError(f"out_stages must be numbers from 0 to {count - 1}")
        in_channels = _rounded(32 * width)
        self.stem = nn.Sequential(*_conv_bn(3, in_channels, 3, stride=2))
        self.stages = nn.ModuleList()
        channels = []
        for (expansion, row_channels, repeats, _), stride, dilation in zip(
            _ROWS, strides, dilations, strict=True
        ):
            stage = CheckpointedSequential()
            for i in range(repeats):
                out_channels = _rounded(row_channels * width)
                stage.append(InvertedResidual(in_channels, out_channels, stride if i == 0 else 1, expansion))
                in_channels = out_channels
            for conv in stage[0].modules():
                if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                    conv.dilation = conv.padding = (dilation, dilation)
            self.stages.append(stage)
            channels.append(in_channels)
        self.out_stages = tuple(sorted(out_stages))
        self.channels = tuple(channels[i] for i in self.out_stages)
        all_strides = [2 * stride for stride in accumulate(strides, mul)]
        self.strides = tuple(all_strides[i] for i in self.out_stages)

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for i, stage in enumerate(self.stages[: self.out_stages[-1] + 1]):
            x = stage(x)
            if i in self.out_stages:
                maps.append(x)
        return requested_maps(maps, return_feature_maps)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next one if that is below nine tenths of ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def mobilenetv2(pretrained: bool = False) -> MobileNetV2:
    return with_imagenet(MobileNetV2(), "mobilenetv2", pretrained)

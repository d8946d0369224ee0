"""Peak memory of a process that scores a large image: labels, and a few rows of scores."""

from forked import run_python

CODE = """
import resource, torch
from torch import nn
from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.inference.predict import Settings, predict_labels
from mit_semseg.models import ModelBuilder, SegmentationModule

class OneLayer(nn.Module):  # an encoder whose maps are small beside the scores
    channels, strides = (16,), (8,)
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 7, stride=8, padding=3)
    def forward(self, x, return_feature_maps=False):
        return [self.conv(x)]

torch.set_num_threads(2)
decoder = ModelBuilder.build_decoder("c1", channels=OneLayer.channels, num_class=150)
network = ScoringNetwork.prepared(SegmentationModule(OneLayer(), decoder, None).eval(), torch.device("cpu"))
predict_labels(network, [torch.zeros(1, 3, 256, 256)] * 2, (64, 64))  # what is allocated once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = [torch.zeros(1, 3, {height}, {width}, dtype=torch.uint8)] * {scales}
predict_labels(network, images, {size}, Settings(tile={tile}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def megabytes(**figures):
    code = CODE.format(**figures)
    done = run_python("-c", code)
    assert done.code == 0, done.err
    return int(done.out) / 1024


def test_scores_are_never_held_at_the_size_of_the_image():
    # They would take 150 classes * 2000 * 2000 pixels * 4 bytes = 2.4 GB.
    assert megabytes(height=64, width=64, scales=1, size=(2000, 2000), tile=0) < 150


def test_scores_of_tiles_are_held_for_a_few_rows():
    # At stride 8 those of the whole image would take 150 * 8 * 1024 * 4 bytes a tile, of which there are 32.
    assert megabytes(height=8192, width=256, scales=1, size=(256, 64), tile=256) < 100

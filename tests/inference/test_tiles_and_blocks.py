from itertools import cycle, pairwise, product

import pytest
import torch
import torch.nn.functional as F
from local_network import local
from plain import plain_probabilities

from mit_semseg.data.images import normalize
from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.inference.predict import (
    Settings,
    predict_confident_labels,
    predict_labels,
    predict_probabilities,
)
from mit_semseg.inference.tiles import spans, weights
from mit_semseg.models import ModelBuilder, SegmentationModule

CPU = torch.device("cpu")
FIVE_SCALES = [(32, 40), (40, 48), (48, 64), (56, 72), (64, 80)]


def probabilities(network, pictures, size, settings=Settings()):  # noqa: B008
    """Of the first image, (num_class, *size)."""
    return predict_probabilities(network, pictures, size, settings)[0]


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1_deepsup", channels=encoder.channels, num_class=11)
    return SegmentationModule(encoder, decoder, None).eval()


class Given(ScoringNetwork):
    """Scores (height, width, num_class) that are given, whatever the image, which is one."""

    def __init__(self, scores):
        self.device, self.scores = CPU, torch.as_tensor(scores)

    def __call__(self, image):
        return self.scores[None]


ANY = torch.zeros(1, 3, 8, 16)


def images(*sizes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 3, *size, generator=generator) for size in sizes]


def plain(network, pictures, size, flip=False):
    """Mean probabilities by full tensors in float64: (num_class, height, width)."""

    def one(picture):
        scores = network(picture).permute(0, 3, 1, 2).double()
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)[0].softmax(0)

    each = [one(picture) for picture in pictures]
    each += [one(picture.flip(-1)).flip(-1) for picture in pictures] if flip else []
    return torch.stack(each).mean(0)


def assert_same_labels(labels, probabilities, tie=1e-6):
    """Labels (1, height, width) are those of highest probability, save ties that are less than ``tie``."""
    (labels,) = labels
    chosen = probabilities.gather(0, labels.long()[None])[0]
    assert labels.shape == probabilities.shape[1:]
    assert (probabilities.amax(0) - chosen).max() <= tie


@pytest.fixture(params=[1, 3], ids="{} threads".format)
def threads(request):
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)


def test_labels_by_hand():
    # Class 0 along a row: 0 and 4, enlarged twice: 0 1 3 4; class 1: 2 everywhere.
    network = Given([[[0.0, 2.0], [4.0, 2.0]]])
    assert predict_labels(network, [ANY], (1, 4))[0].tolist() == [[1, 1, 0, 0]]
    scores = probabilities(network, [ANY], (1, 4))
    torch.testing.assert_close(scores[0, 0], torch.tensor([-2.0, -1.0, 1.0, 2.0]).sigmoid())


def in_turn(*values):
    """All combinations of the values, each with the next of four settings: flipped or not, 1 or 3 threads.

    With 3 values last, each pair of a value and a setting occurs, but not each combination of all of them.
    """
    settings = cycle([(False, 1), (True, 1), (False, 3), (True, 3)])
    return [(*combination, *next(settings)) for combination in product(*values)]


@pytest.mark.parametrize(
    ("size", "num_class", "flip", "threads"),
    in_turn([(61, 83), (1, 1), (3, 200), (129, 5), (16, 20)], [2, 11, 150]),
    indirect=["threads"],
)
def test_labels_are_those_of_the_plain_method(size, num_class, flip, threads):
    network = local(num_class)
    for scales in (FIVE_SCALES[:1], FIVE_SCALES):
        pictures = images(*scales)
        expected = plain(network, pictures, size, flip)
        labels = predict_labels(network, pictures, size, Settings(flip=flip))
        assert labels.dtype == torch.uint8
        assert_same_labels(labels, expected)
        scores = probabilities(network, pictures, size, Settings(flip=flip))
        torch.testing.assert_close(scores, expected.float())


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.5, 0.6])
@pytest.mark.parametrize("options", [{}, {"flip": True}, {"tile": 64, "overlap": 32}])
def test_with_two_classes_a_threshold_chooses_the_second_one(threshold, options):
    network, settings = local(2), Settings(threshold=threshold, **options)
    for scales in (FIVE_SCALES[:1], FIVE_SCALES):
        pictures = images(*scales)
        second = probabilities(network, pictures, (70, 90), settings)[1]
        labels, confidence = predict_confident_labels(network, pictures, (70, 90), settings)
        doubtful = (second - threshold).abs() < 1e-5
        assert ((labels[0] == (second >= threshold)) | doubtful).all()
        assert torch.equal(labels, predict_labels(network, pictures, (70, 90), settings))
        torch.testing.assert_close(confidence[0], torch.where(labels[0] == 1, second, 1 - second))
        assert 0 < labels.float().mean() < 1


def test_with_more_classes_a_threshold_has_no_effect():
    network, pictures = local(11), images((64, 80))
    labels = predict_labels(network, pictures, (64, 80), Settings(threshold=0.1))
    assert torch.equal(labels, predict_labels(network, pictures, (64, 80)))


@pytest.mark.parametrize("scale", [(1, 1), (3, 7), (8, 8), (9, 31)])
def test_images_smaller_than_the_stride_are_scored(module, scale):
    network = ScoringNetwork.prepared(module, CPU)
    pictures = images(scale, (16, 24))
    assert_same_labels(predict_labels(network, pictures, (7, 5)), plain(network, pictures, (7, 5)))


@pytest.mark.parametrize("settings", [Settings(), Settings(flip=True), Settings(tile=64, overlap=32)])
def test_images_of_a_batch_are_scored_as_each_by_itself(settings):
    network = local()
    batch = [torch.cat(images(size, size, size)) for size in ((40, 48), (72, 88))]
    labels, confidence = predict_confident_labels(network, batch, (61, 83), settings)
    assert torch.equal(labels, predict_labels(network, batch, (61, 83), settings))
    assert len(labels.flatten(1).unique(dim=0)) == 3
    for b in range(3):
        one = [scale[b : b + 1] for scale in batch]
        expected = probabilities(network, one, (61, 83), settings=settings)
        assert_same_labels(labels[b : b + 1], expected.double())
        torch.testing.assert_close(confidence[b], expected.amax(0))


def test_a_single_scale_has_its_probability_for_confidence(threads):
    network = Given([[[0.0, 2.0], [4.0, 2.0]]])
    labels, confidence = predict_confident_labels(network, [ANY], (1, 4))
    assert labels[0].tolist() == [[1, 1, 0, 0]]
    torch.testing.assert_close(confidence[0, 0], torch.tensor([2.0, 1.0, 1.0, 2.0]).sigmoid())


def test_a_real_network_gives_what_the_module_gives(module):
    pictures = images(*FIVE_SCALES)
    network = ScoringNetwork.prepared(module, CPU)
    module.decoder.use_softmax = True
    expected = plain_probabilities(module, pictures, (61, 83))
    torch.testing.assert_close(probabilities(network, pictures, (61, 83)), expected, rtol=0, atol=1e-5)
    assert_same_labels(predict_labels(network, pictures, (61, 83)), expected, tie=2e-5)


def test_bf16_is_close(module):
    pictures = images(*FIVE_SCALES)
    exact = probabilities(ScoringNetwork.prepared(module, CPU), pictures, (61, 83))
    network = ScoringNetwork.prepared(module, CPU, amp="bf16")
    near = probabilities(network, pictures, (61, 83))
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.05
    assert_same_labels(predict_labels(network, pictures, (61, 83)), near)


def test_bytes_are_normalized_where_they_are_scored(module):
    pixels = torch.randint(0, 256, (1, 3, 40, 48), dtype=torch.uint8)
    network = ScoringNetwork.prepared(module, CPU)
    assert torch.equal(network(pixels), network(normalize(pixels)))


def test_extreme_scores_do_not_overflow():
    network = Given([[[3e4, -3e4], [-3e4, 3e4]]])
    result = probabilities(network, [ANY, ANY], (4, 9))
    torch.testing.assert_close(result.sum(0), torch.ones(4, 9))


@pytest.mark.parametrize("num_class", [256, 257])
def test_the_type_of_labels_holds_all_classes(num_class):
    labels = predict_labels(local(num_class), images((64, 64)), (64, 64))
    assert labels.dtype == (torch.uint8 if num_class == 256 else torch.int16)


@pytest.mark.parametrize(
    ("side", "num_class", "flip", "threads"),
    in_turn([(200, 264), (64, 500), (500, 64), (231, 187), (97, 96)], [2, 5, 11]),
    indirect=["threads"],
)
def test_tiles_with_enough_overlap_change_nothing(side, num_class, flip, threads):
    network = local(num_class)
    # Mirrored, the cells of 8 x 8 start at the other side: the same ones only if they divide the width.
    pictures = images((side[0], side[1] // 8 * 8 if flip else side[1]), (120, 160))
    size = (131, 157)
    whole = probabilities(network, pictures, size, settings=Settings(flip=flip))
    tiled = Settings(flip=flip, tile=96, overlap=32)
    torch.testing.assert_close(probabilities(network, pictures, size, settings=tiled), whole)
    assert_same_labels(predict_labels(network, pictures, size, tiled), whole.double())


def test_a_small_result_may_step_over_whole_tiles():
    network = local()
    pictures = images((1200, 136))
    settings = Settings(tile=96, overlap=32)
    for size in ((2, 3), (9, 40)):
        whole = probabilities(network, pictures, size)
        torch.testing.assert_close(probabilities(network, pictures, size, settings=settings), whole)


def test_tiles_of_a_real_network_agree_away_from_their_borders(module):
    network = ScoringNetwork.prepared(module, CPU)
    pictures = images((64, 512))
    whole = probabilities(network, pictures, (64, 512))
    tiled = probabilities(network, pictures, (64, 512), settings=Settings(tile=480, overlap=448))
    # The network sees some 200 pixels to each side; the tile on the left ends at 480, of no weight from 368.
    assert (whole - tiled).abs().mean() < 0.02


def test_an_image_beyond_the_budget_is_tiled_by_itself():
    settings = Settings()
    assert settings.tile_and_overlap(1024, 2048) is None
    assert settings.tile_and_overlap(2160, 4096) == (1280, 256)
    assert Settings(tile=512).tile_and_overlap(512, 512) is None
    assert Settings(tile=512).tile_and_overlap(100, 513) == (512, 102)
    assert Settings(tile=512, overlap=64).tile_and_overlap(2160, 4096) == (512, 64)


@pytest.mark.parametrize("length", [1, 64, 65, 333, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 32), (96, 32), (100, 50), (128, 96), (8, 4)])
def test_spans_cover_an_axis_and_their_weights_add_up_to_one(length, tile, overlap):
    places = spans(length, tile, overlap, grid=32)
    total = torch.zeros(length)
    for (start, stop), weight in zip(places, weights(places), strict=True):
        assert start % 32 == 0
        assert 0 <= start < stop <= length
        assert stop - start <= max(tile, 32)
        assert weight.min() >= 0
        total[start:stop] += weight
    torch.testing.assert_close(total, torch.ones(length))
    for (_, stop), (start, _) in pairwise(places):
        assert stop - start >= min(overlap, max(tile // 32 * 32, 32) - 32)


def test_a_network_without_a_fixed_stride_is_refused_in_tiles():
    network = local()
    network.stride = 4
    with pytest.raises(ValueError, match=r"^the network returns \(12, 12\) scores for a tile, but its"):
        predict_labels(network, images((200, 200)), (8, 8), Settings(tile=96, overlap=32))


@pytest.mark.parametrize("settings", [{"tile": 64, "overlap": 64}, {"tile": -1}, {"overlap": -1}])
def test_impossible_tiles_are_refused(settings):
    with pytest.raises(ValueError, match=r"a tile has to be larger than the overlap$"):
        Settings(**settings)


def test_no_image_and_an_unknown_type_are_refused(module):
    with pytest.raises(ValueError, match=r"^images is empty: there is no scale to score$"):
        predict_labels(local(), [], (8, 8))
    with pytest.raises(ValueError, match=r"^amp is 'fp8', but takes one of none, bf16$"):
        ScoringNetwork.prepared(module, CPU, amp="fp8")


def test_an_error_in_a_thread_is_raised_and_the_number_of_threads_stays(threads):
    before = torch.get_num_threads()
    broken = Given(torch.zeros(2, 2, 3, dtype=torch.float64))  # by which no float32 matrix is multiplied
    with pytest.raises(RuntimeError, match="type"):
        predict_labels(broken, [ANY], (64, 64))
    assert torch.get_num_threads() == before

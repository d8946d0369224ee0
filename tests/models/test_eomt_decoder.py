"""EoMT's decoder: masks of the attention, their annealing, the scores of pixels, and the size of an image."""

import pytest
import torch

from mit_semseg.errors import UserError
from mit_semseg.inference import ScoringNetwork
from mit_semseg.inference.predict import (
    Settings,
    predict_confident_labels,
    predict_labels,
    predict_probabilities,
)
from mit_semseg.losses import LossOptions, build_criterion
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.activation_checkpointing import checkpoint_activations
from mit_semseg.models.decoders.query import QueryScores


def model(num_class=3, use_softmax=True, seed=0, masked=False):
    torch.manual_seed(seed)
    options = {"depth": 4, "width": 24, "heads": 2, "grid": 3, "registers": 2, "layer_scale": 1.0}
    encoder = ModelBuilder.build_encoder("dinov2_small", imagenet=False, options=options)
    decoder = ModelBuilder.build_decoder(
        "eomt", channels=encoder.channels, num_class=num_class, use_softmax=use_softmax,
        options={"queries": 5, "joint_blocks": 2},
    )  # fmt: skip
    decoder.set_progress(0.0 if masked else 1.0)
    return encoder, decoder


def test_the_scores_of_a_pixel_by_hand():
    """Two queries, one class: the sums of the products of mask and class."""
    masks = torch.tensor([[[[0.0]], [[torch.log(torch.tensor(3.0))]]]])  # 1/2 and 3/4
    classes = torch.tensor([[[0.0, 0.0], [torch.log(torch.tensor(4.0)), 0.0]]])  # 1/2 and 4/5
    scores = QueryScores([masks], [classes], (4, 4), (2, 3))
    assert torch.allclose(scores.pixels(), torch.full((1, 1, 2, 3), 0.25 + 0.6))


def test_labels_of_the_image_are_padded_as_the_image_was():
    scores = QueryScores([torch.zeros(1, 1, 8, 8)], [torch.zeros(1, 1, 3)], (32, 32), (20, 30))
    covered = scores.covered(torch.ones(1, 20, 30, dtype=torch.long))
    assert covered.shape == (1, 32, 32)
    assert (covered == 1).sum() == 600
    assert scores.labels((32, 32)).shape == (1, 32, 32)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(48, 48), (33, 70), (1, 1), (16, 47)])
def test_it_scores_images_of_every_size(size, masked):
    encoder, decoder = model(masked=masked)
    module = SegmentationModule(encoder, decoder, None).eval()
    scores = module({"img_data": torch.randn(2, 3, *size)}, segSize=size)
    assert scores.shape == (2, 3, *size)
    assert scores.min() >= 0


@pytest.mark.parametrize(("key", "value"), [("dim", 64), ("dropout", 0.1), ("norm", "group")])
def test_keys_that_would_change_nothing_are_refused(key, value):
    with pytest.raises(UserError, match=rf"^MODEL\.decoder_{key} is {value}, but the decoder eomt has no"):
        ModelBuilder.build_decoder("eomt", channels=(24,), num_class=3, **{key: value})


def test_annealing_lifts_the_masks_block_by_block():
    _, decoder = model()
    found = {}
    for share in (0, 0.24, 0.3, 0.5, 0.6, 0.8, 1):
        decoder.set_progress(share)
        found[share] = decoder.attn_mask_probs.tolist()
    assert found[0] == found[0.24] == [1, 1]
    assert found[0.5] == [0, 1]
    assert found[0.8] == found[1] == [0, 0]
    assert found[0.3] == [pytest.approx(0.8**0.9), 1]
    assert found[0.6] == [0, pytest.approx(0.6**0.9)]


def test_annealing_follows_the_shares_of_the_config():
    _, decoder = model()
    decoder.set_annealing((0, 0.2, 0.5, 0.5))
    found = {}
    for share in (0, 0.1, 0.2, 0.49, 0.5, 1):
        decoder.set_progress(share)
        found[share] = decoder.attn_mask_probs.tolist()
    assert found[0] == [1, 1]
    assert found[0.1] == [pytest.approx(0.5**0.9), 1]
    assert found[0.2] == found[0.49] == [0, 1]
    assert found[0.5] == found[1] == [0, 0]


@pytest.mark.parametrize("shares", [(0, 0.5), (0, 0.5, 0.5, 0.4)])
def test_annealing_that_does_not_fit_the_joint_blocks_is_refused(shares):
    _, decoder = model()
    with pytest.raises(UserError, match=r"TRAIN\.mask_annealing is .* 2 joint blocks"):
        decoder.set_annealing(shares)


def test_annealing_is_refused_for_a_decoder_without_masks_of_the_attention():
    decoder = ModelBuilder.build_decoder("c1", fc_dim=8, num_class=3)
    with pytest.raises(UserError, match=r"TRAIN\.mask_annealing is set, but only the decoder eomt"):
        decoder.set_annealing((0, 1))
    decoder.set_annealing(())


def test_a_loaded_decoder_has_the_masks_of_its_checkpoint():
    _, masked = model(masked=True)
    _, other = model()
    assert other._restricted == (False, False)
    other.load_state_dict(masked.state_dict())
    assert other._restricted == (True, True)


@torch.no_grad()
def test_a_query_attends_to_its_mask_only():
    _, decoder = model()
    masks = torch.full((1, 5, 4, 4), -1.0)
    masks[0, 0, :2] = 1
    allowed = decoder._allowed(masks, torch.zeros(1, 5 + 3 + 4, 24), (2, 2), None)[0, 0]
    wanted = torch.ones(12, 12, dtype=torch.bool)
    wanted[:5, 8:] = False
    wanted[0, 8:10] = True
    assert torch.equal(allowed, wanted)
    free = decoder._allowed(masks, torch.zeros(1, 12, 24), (2, 2), torch.tensor(0.0))
    assert free.all()
    torch.manual_seed(0)
    many = decoder._allowed(
        masks.expand(400, -1, -1, -1), torch.zeros(400, 12, 24), (2, 2), torch.tensor(0.3)
    )
    assert many[:, 0, 1:5, 8].float().mean() == pytest.approx(0.7, abs=0.04)


def test_training_supervises_each_joint_block_and_gives_each_weight_a_gradient():
    encoder, decoder = model(use_softmax=False, masked=True)
    scores = decoder.features(encoder, torch.randn(2, 3, 32, 48))
    assert len(scores.masks) == len(scores.classes) == 3
    module = SegmentationModule(
        encoder, decoder, build_criterion("mask_classification", LossOptions(queries=5))
    )
    label = torch.randint(-1, 3, (2, 32, 48))
    loss, correct = module({"img_data": torch.randn(2, 3, 32, 48), "seg_label": label}, count_correct=True)
    loss.sum().backward()
    assert 0 <= correct <= (label >= 0).sum()
    assert all(each.grad is not None for each in module.parameters())


def test_checkpointed_activations_give_the_same_gradients():
    encoder, decoder = model(use_softmax=False, masked=True)
    images, grads = torch.randn(1, 3, 32, 32), []
    for checkpointed in (False, True):
        if checkpointed:
            checkpoint_activations(encoder)
        torch.manual_seed(1)
        encoder.zero_grad()
        decoder.features(encoder, images).masks[-1].square().mean().backward()
        grads.append([each.grad.clone() for each in encoder.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


@torch.no_grad()
def test_probabilities_are_the_shares_of_the_scores():
    encoder, decoder = model()
    network = ScoringNetwork.prepared(SegmentationModule(encoder, decoder, None).eval(), torch.device("cpu"))
    image = torch.randn(1, 3, 40, 56)
    sums = decoder.logits(decoder.features(encoder, image))
    shares = SegmentationModule(encoder, decoder, None).eval()({"img_data": image}, segSize=(40, 56))
    assert torch.allclose(shares, sums / sums.sum(1, keepdim=True), atol=1e-6)
    found = predict_probabilities(network, [image], (40, 56))
    assert torch.allclose(found, shares, atol=1e-5)
    labels, confidence = predict_confident_labels(network, [image], (40, 56))
    assert torch.equal(labels.long(), sums.argmax(1))
    assert torch.allclose(confidence, shares.amax(1), atol=1e-5)


@torch.no_grad()
def test_a_threshold_and_mirrored_images_use_the_sums_of_probabilities():
    encoder, decoder = model(num_class=2)
    network = ScoringNetwork.prepared(SegmentationModule(encoder, decoder, None).eval(), torch.device("cpu"))
    image = torch.randn(1, 3, 32, 48)
    probabilities = predict_probabilities(network, [image], (32, 48), Settings(flip=True))
    threshold = float(probabilities[:, 1].median())
    labels = predict_labels(network, [image], (32, 48), Settings(flip=True, threshold=threshold))
    different = labels.bool() != (probabilities[:, 1] >= threshold)
    assert (probabilities[:, 1] - threshold)[different].abs().sum() < 1e-6
    assert 0 < labels.float().mean() < 1

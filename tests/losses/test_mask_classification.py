"""The loss of queries: the assignment, both sums by hand, points, and what has no label."""

from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mit_semseg.losses import LossOptions, build_criterion
from mit_semseg.losses import mask_classification as module
from mit_semseg.losses.mask_classification import MaskClassification


def drawn(seed, queries=5, num_class=4, size=(6, 8), images=2):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randn(images, queries, *size, generator=generator, dtype=torch.float64)
    classes = torch.randn(images, queries, num_class + 1, generator=generator, dtype=torch.float64)
    label = torch.randint(-1, num_class, (images, *size), generator=generator)
    return SimpleNamespace(masks=[masks.requires_grad_()], classes=[classes.requires_grad_()]), label


def by_hand(masks, classes, label):
    """The two sums for one image, with the best of all assignments."""
    own = [k for k in label.unique().tolist() if k >= 0]
    best = None
    for chosen in permutations(range(len(masks)), len(own)):
        cost, of_masks = 0.0, 0.0
        wanted = [classes.shape[1] - 1] * len(masks)
        for query, k in zip(chosen, own, strict=True):
            truth = (label == k).to(masks.dtype)
            share = masks[query].sigmoid()
            entropy = -(truth * share.log() + (1 - truth) * (1 - share).log()).mean()
            dice = 1 - (2 * (share * truth).sum() + 1) / (share.sum() + truth.sum() + 1)
            of_masks += 5 * entropy + 5 * dice
            cost += 5 * entropy + 5 * dice - 2 * classes[query].softmax(0)[k]
            wanted[query] = k
        if best is None or cost < best[0]:
            of_classes = sum(
                (2.0 if k < classes.shape[1] - 1 else 0.2) * -classes[q].log_softmax(0)[k]
                for q, k in enumerate(wanted)
            )
            best = cost, torch.stack([of_masks, of_classes])
    return best[1]


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_loss_of_the_cheapest_assignment(seed):
    scores, label = drawn(seed, queries=4 + seed % 2, num_class=2 + seed % 3)
    wanted = sum(by_hand(*each) for each in zip(scores.masks[0], scores.classes[0], label, strict=True))
    result = MaskClassification(scores.masks[0].shape[1])(scores, label)
    assert torch.allclose(result.double(), wanted, rtol=1e-6)


def test_units_are_the_masks_and_the_weights_of_the_queries():
    label = torch.tensor([[[0, 0, 3]], [[-1, 2, -1]], [[-1, -1, -1]]])
    assert MaskClassification(5).units(label).tolist() == [3, pytest.approx(3 + 0.1 * 7)]
    assert MaskClassification(1).units(label).tolist() == [2, 2]


def test_every_block_adds_its_own_loss():
    scores, label = drawn(0)
    twice = SimpleNamespace(masks=scores.masks * 2, classes=scores.classes * 2)
    loss = MaskClassification(5)
    assert torch.allclose(loss(twice, label), 2 * loss(scores, label))


def test_an_image_without_labels_has_neither_loss_nor_gradient():
    scores, label = drawn(1)
    label[1] = -1
    MaskClassification(5)(scores, label).sum().backward()
    for value in (scores.masks[0].grad, scores.classes[0].grad):
        assert value[0].abs().sum() > 0
        assert value[1].abs().sum() == 0


def test_more_classes_than_queries_leave_the_worst_unassigned():
    scores, label = drawn(2, queries=2, num_class=6)
    assert MaskClassification(2)(scores, label).isfinite().all()


def test_scores_that_are_not_finite_reach_the_loss_and_not_an_error():
    scores, label = drawn(3)
    with torch.no_grad():
        scores.masks[0][0, 0] = float("nan")
    assert not MaskClassification(5)(scores, label).isfinite().all()


def test_points_estimate_the_loss_of_all_pixels(monkeypatch):
    torch.manual_seed(0)
    scores, label = drawn(4, size=(40, 40), images=1)
    smooth = F.interpolate(torch.randn(1, 5, 4, 4, dtype=torch.float64) * 4, (40, 40), mode="bilinear")
    label = smooth[:, :3].argmax(1)
    scores = SimpleNamespace(masks=[smooth], classes=scores.classes)
    whole = MaskClassification(5)(scores, label)
    monkeypatch.setattr(module, "_POINTS", 1200)
    monkeypatch.setattr(module, "_UNCERTAIN", 0.0)  # uncertain points are harder on purpose
    assert torch.allclose(MaskClassification(5)(scores, label), whole, rtol=0.1)
    monkeypatch.setattr(module, "_UNCERTAIN", 0.75)
    assert MaskClassification(5)(scores, label)[0] > whole[0]


def test_its_parts_share_the_weight_in_a_sum_of_losses():
    criterion = build_criterion("2*mask_classification", LossOptions(queries=5))
    scores, label = drawn(5)
    assert criterion.weights == (2, 2)
    assert criterion(scores, label).shape == criterion.units(label).shape == (2,)

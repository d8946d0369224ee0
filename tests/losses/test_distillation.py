import math

import pytest
import torch

from mit_semseg.losses import LossOptions, build_criterion
from mit_semseg.losses.distillation import Distillation

SIZE = (2, 4, 3, 5)


def example(seed=0):
    """Log-probabilities of a network, probabilities of teachers, and labels, half of which are -1."""
    generator = torch.Generator().manual_seed(seed)
    own, theirs = (torch.randn(SIZE, generator=generator, dtype=torch.float64) for _ in range(2))
    label = torch.randint(-1, 1, (2, 3, 5), generator=generator)
    return own.log_softmax(1), theirs.softmax(1), label


def test_it_is_the_mean_divergence_of_all_pixels_labelled_or_not():
    log_probs, taught, label = example()
    expected = sum(
        p * (math.log(p) - log_q)
        for p, log_q in zip(taught.reshape(-1).tolist(), log_probs.reshape(-1).tolist(), strict=True)
    )
    loss = Distillation()
    assert loss.units(label).item() == label.numel() == 30
    assert loss(log_probs, label, taught).item() == pytest.approx(expected, rel=1e-12)
    assert loss(log_probs.bfloat16(), label, taught).item() == pytest.approx(expected, rel=1e-2)


def test_it_is_least_where_the_network_agrees():
    log_probs, taught, label = example(1)
    loss = Distillation()
    assert loss(taught.log(), label, taught).item() == pytest.approx(0, abs=1e-12)
    assert loss(log_probs, label, taught) > 1


def test_a_certain_teacher_gives_cross_entropy():
    log_probs, _, label = example(2)
    label = label.clamp(min=0)
    certain = torch.nn.functional.one_hot(label, 4).permute(0, 3, 1, 2).double()
    expected = torch.nn.functional.nll_loss(log_probs, label, reduction="sum").item()
    assert Distillation()(log_probs, label, certain).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_the_scores_is_the_difference_of_the_probabilities():
    _, taught, label = example(3)
    logits = torch.randn(SIZE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Distillation()(logits.log_softmax(1), label, taught), logits)
    assert torch.allclose(gradient, logits.softmax(1) - taught)


def test_in_a_sum_of_losses_only_it_is_taught():
    log_probs, taught, label = example(4)
    criterion = build_criterion("cross_entropy + 2*distillation", LossOptions())
    assert criterion.weights == (1.0, 2.0)
    assert criterion.units(label).tolist() == [(label >= 0).sum().item(), 30]
    entropy, divergence = criterion(log_probs, label, taught).tolist()
    assert entropy == criterion(log_probs, label)[0].item()
    assert divergence == Distillation()(log_probs, label, taught).item()
    assert criterion(log_probs, label)[1].item() == 0

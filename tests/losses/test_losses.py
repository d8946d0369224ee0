import by_hand
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mit_semseg.losses import LOSSES, QUERY_LOSS, TEACHER_LOSS, LossOptions, build_criterion, pixel_loss_sum
from mit_semseg.losses.lovasz import _descending

WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.25], dtype=torch.float64)
EVERY = [
    ("cross_entropy", {}),
    ("cross_entropy", {"class_weights": WEIGHTS}),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("cross_entropy", {"label_smoothing": 0.3, "class_weights": WEIGHTS}),
    ("focal", {}),
    ("focal", {"focal_gamma": 0.5}),
    ("focal", {"focal_gamma": 1.0, "class_weights": WEIGHTS}),
    ("ohem", {"ohem_threshold": 0.3}),
    ("ohem", {"ohem_threshold": 0.01, "ohem_min_kept": 0.4}),
    ("ohem", {"ohem_threshold": 0.3, "ohem_min_kept": 0.6, "class_weights": WEIGHTS}),
    ("dice", {}),
    ("lovasz", {}),
]
NAMES = {"label_smoothing": "smoothing", "focal_gamma": "gamma", "class_weights": "weights"}
each = pytest.mark.parametrize(("name", "options"), EVERY)


def example(seed=0, size=(2, 4, 3, 5), lowest=-1):
    """Log-probabilities and labels, a third of which are -1; of the four classes, class 3 does not occur."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    label = torch.randint(lowest, 3, (size[0], *size[2:]), generator=generator)
    return logits.log_softmax(1), label


def build(name, options=None):
    return build_criterion(name, LossOptions(**(options or {}))).losses[0]


def mean(loss, log_probs, label):
    return loss(log_probs, label) / loss.units(label).clamp(min=1e-300)


def defined(name, options, log_probs, label):
    arguments = {NAMES.get(key, key.removeprefix(f"{name}_")): value for key, value in options.items()}
    return getattr(by_hand, name)(log_probs, label, **arguments)


def test_every_loss_has_a_definition_here():
    assert {name for name, _ in EVERY} == set(LOSSES) - {
        QUERY_LOSS,
        TEACHER_LOSS,
    }  # test modules of their own


@each
def test_the_mean_is_that_of_the_papers_definition(name, options):
    for seed in range(3):
        log_probs, label = example(seed)
        expected = defined(name, options, log_probs, label)
        loss = build(name, options)
        assert loss(log_probs, label).shape == loss.units(label).shape == ()
        assert mean(loss, log_probs, label).item() == pytest.approx(expected, rel=1e-12)
        assert mean(loss, log_probs.float(), label).item() == pytest.approx(expected, rel=1e-5)


@each
def test_the_gradient_is_that_of_the_value(name, options):
    log_probs, label = example(4, (1, 4, 3, 3))
    loss = build(name, options)
    assert torch.autograd.gradcheck(lambda x: loss(x.log_softmax(1), label), log_probs.requires_grad_())


@each
def test_what_is_ignored_counts_for_nothing(name, options):
    log_probs, label = example(1)
    other = torch.where(label.unsqueeze(1) < 0, example(2)[0], log_probs).requires_grad_()
    loss = build(name, options)
    result = loss(other, label)
    assert result.item() == loss(log_probs, label).item()
    (gradient,) = torch.autograd.grad(result, other)
    assert not gradient.transpose(0, 1)[:, label < 0].any()
    assert gradient.any()


@each
def test_without_a_labelled_pixel_loss_and_gradient_are_0(name, options):
    log_probs, label = example()
    logits = log_probs.float().requires_grad_()
    loss = build(name, options)
    result = loss(logits.log_softmax(1), torch.full_like(label, -1))
    result.backward()
    assert result.item() == loss.units(torch.full_like(label, -1)).item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@each
def test_labels_of_one_class_and_certain_predictions_give_finite_numbers(name, options):
    _, label = example()
    for scores in (
        1000.0,
        -1000.0,
        0.0,
    ):  # right, wrong, and neither, beyond what float32 can tell from 0 and 1
        logits = torch.zeros(2, 4, 3, 5)
        logits[:, 1] = scores
        logits.requires_grad_()
        result = build(name, options)(logits.log_softmax(1), label.clamp(max=0) + (label >= 0).long())
        result.backward()
        assert result.isfinite()
        assert result >= -1e-4
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_under_autocast_too(name, options, dtype):
    log_probs, label = example()
    half = log_probs.to(dtype)
    loss = build(name, options).float()
    expected = loss(half.float(), label)
    result = loss(half, label)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    with torch.autocast("cpu", dtype):
        assert torch.equal(loss(half, label), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each
def test_a_gpu_gives_the_same_as_the_cpu(name, options):
    log_probs, label = example()
    loss = build(name, options)
    on_gpu = loss.cuda()(log_probs.cuda(), label.cuda())
    assert on_gpu.item() == pytest.approx(loss.cpu()(log_probs, label).item(), rel=1e-12)
    with torch.autocast("cuda", torch.float16):
        half = loss.cuda()(log_probs.cuda().half(), label.cuda())
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "options"), [pair for pair in EVERY if pair[0] in ("cross_entropy", "focal")]
)
def test_sums_and_units_of_parts_add_up_to_those_of_the_whole(name, options):
    log_probs, label = example(3)
    label[1, :2] = -1  # the second image has fewer labelled pixels
    loss = build(name, options)
    parts = [(loss(log_probs[i : i + 1], label[i : i + 1]), loss.units(label[i : i + 1])) for i in (0, 1)]
    torch.testing.assert_close(sum(part[0] for part in parts), loss(log_probs, label), rtol=1e-14, atol=0)
    torch.testing.assert_close(sum(part[1] for part in parts), loss.units(label), rtol=1e-14, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(weights, smoothing):
    log_probs, label = example()
    loss = build("cross_entropy", {"class_weights": weights, "label_smoothing": smoothing})
    expected = F.cross_entropy(log_probs, label, weights, ignore_index=-1, label_smoothing=smoothing)
    torch.testing.assert_close(mean(loss, log_probs, label), expected)


def test_the_default_is_to_the_bit_the_sum_that_the_published_models_were_trained_with():
    log_probs, label = example()
    expected = nn.NLLLoss(ignore_index=-1, reduction="sum")(log_probs.float(), label)
    assert torch.equal(pixel_loss_sum()(log_probs.float(), label), expected.view(1))


def test_limits_of_focal_and_ohem_are_cross_entropy():
    log_probs, label = example()
    expected = build("cross_entropy")(log_probs, label)
    for name, options in (
        ("focal", {"focal_gamma": 0.0}),
        ("ohem", {"ohem_threshold": 1.0}),
        ("ohem", {"ohem_threshold": 1e-9, "ohem_min_kept": 1.0}),
    ):
        torch.testing.assert_close(build(name, options)(log_probs, label), expected)


def test_a_perfect_prediction_has_no_dice_and_no_lovasz_loss_and_a_wrong_one_has_all():
    _, label = example(lowest=0)
    for scores, expected in ((50.0, 0.0), (-50.0, 1.0)):
        log_probs = (scores * F.one_hot(label, 4).permute(0, 3, 1, 2)).double().log_softmax(1)
        assert mean(build("lovasz"), log_probs, label).item() == pytest.approx(expected, abs=1e-12)
        if scores > 0:
            assert mean(build("dice"), log_probs, label).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_errors_of_a_cpu_are_ordered_as_torch_orders_them(size):
    values = torch.rand(size, generator=torch.Generator().manual_seed(size)) ** 8
    values[::3] = 0.25  # equal ones keep their order
    values[::7] = -1.0
    values[1::9] = -1e-7
    values[2::9] = -2e-7
    truth = torch.rand(size, generator=torch.Generator().manual_seed(1)) < 0.3
    order, true = _descending(values, truth)
    assert torch.equal(order, values.argsort(descending=True, stable=True))
    assert torch.equal(true, truth[order])


def test_a_sum_gives_each_loss_and_its_units():
    log_probs, label = example()
    criterion = build_criterion("cross_entropy + 0.5*dice", LossOptions(class_weights=WEIGHTS))
    assert criterion.weights == (1.0, 0.5)
    values = criterion(log_probs, label) / criterion.units(label)
    assert values.tolist() == pytest.approx(
        [by_hand.cross_entropy(log_probs, label, WEIGHTS), by_hand.dice(log_probs, label)]
    )


def test_class_weights_are_no_part_of_what_is_saved():
    criterion = build_criterion("cross_entropy", LossOptions(class_weights=WEIGHTS))
    assert criterion.state_dict() == {}
    assert [buffer.tolist() for buffer in criterion.buffers()] == [WEIGHTS.tolist()]

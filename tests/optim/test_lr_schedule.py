import itertools
import math

import pytest
import torch

from mit_semseg.optim.lr_schedule import SCHEDULES, LRSchedule, set_rates


def rates(kind, iterations, initial=0.02, **options):
    schedule = LRSchedule(kind, 100, **options)
    return [schedule.rate(initial, iteration) for iteration in iterations]


def test_poly_falls_from_its_start_to_zero_along_a_power():
    values = rates("poly", range(101), power=0.9)
    assert values[0] == 0.02
    assert values[50] == pytest.approx(0.02 * 0.5**0.9)
    assert values[100] == 0
    assert all(a > b for a, b in itertools.pairwise(values))


def test_cosine_falls_in_half_a_wave_to_the_lowest_rate():
    values = rates("cosine", range(101), lowest=0.004)
    assert values[0] == 0.02
    assert values[25] == pytest.approx(0.004 + 0.016 * (1 + math.sqrt(0.5)) / 2)
    assert values[50] == pytest.approx(0.012)
    assert values[100] == pytest.approx(0.004)
    assert all(a > b for a, b in itertools.pairwise(values))


def test_a_rate_of_zero_stays_zero_whatever_the_lowest_is():
    assert rates("cosine", (0, 50, 100), initial=0.0, lowest=0.004) == [0, 0, 0]


def test_step_drops_at_each_milestone():
    values = rates("step", (0, 59, 60, 79, 80, 99), milestones=(60, 80), step_factor=0.1)
    assert values == pytest.approx([0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])


def test_constant_is_constant():
    assert set(rates("constant", range(100))) == {0.02}


def test_a_warm_up_rises_to_the_curve_of_the_schedule():
    values = rates("poly", (0, 5, 9, 10, 60), power=1, warmup=10, warmup_factor=0.2)
    assert values == pytest.approx([0.02 * 0.2, 0.019 * 0.6, 0.0182 * 0.92, 0.018, 0.008])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_each_group_keeps_a_rate_of_its_own_that_hangs_on_the_iteration_alone(kind):
    # It used to be computed from rates that the run had kept, so that a resumed one differed.
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weights[0]], "initial_lr": 0.1}, {"params": [weights[1]], "initial_lr": 0.4}]
    optimizer = torch.optim.SGD(groups, lr=7.0)
    schedule = LRSchedule(kind, 100, milestones=(50,), warmup=10)
    for iteration in (3, 70, 41):
        set_rates(optimizer, schedule, iteration)
        expected = [schedule.rate(0.1, iteration), schedule.rate(0.4, iteration)]
        assert [group["lr"] for group in optimizer.param_groups] == expected
        assert expected[1] == pytest.approx(4 * expected[0])


def test_another_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"^kind is 'exp', but takes one of poly, cosine, step, constant$"):
        LRSchedule("exp", 100)


@pytest.mark.parametrize("kind", ["poly", "cosine"])
def test_a_schedule_after_the_warm_up_starts_at_its_end_and_ends_with_the_run(kind):
    schedule = LRSchedule(kind, 100, power=1, warmup=10, warmup_factor=0, after_warmup=True)
    whole = LRSchedule(kind, 90, power=1)
    assert schedule.rate(0.02, 5) == pytest.approx(0.01)
    assert [schedule.rate(0.02, k) for k in (10, 40, 99)] == [whole.rate(0.02, k) for k in (0, 30, 89)]


def test_milestones_stay_where_they_are_after_a_warm_up():
    schedule = LRSchedule("step", 100, milestones=(60,), warmup=10, after_warmup=True)
    assert [schedule.rate(0.02, k) for k in (59, 60)] == pytest.approx([0.02, 0.002])


def test_the_encoder_is_warmed_up_after_its_delay_as_in_eomt():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [weights[0]], "initial_lr": 1.0, "delay": 5, "warmup": 20},
        {"params": [weights[1]], "initial_lr": 1.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=7.0)
    schedule = LRSchedule("poly", 105, warmup=5, warmup_factor=0, after_warmup=True)
    found = {}
    for iteration in (0, 4, 5, 15, 25, 65, 104):
        set_rates(optimizer, schedule, iteration)
        found[iteration] = tuple(group["lr"] for group in optimizer.param_groups)
    assert found[0] == (0, 0)
    assert found[4] == (0, pytest.approx(0.8))
    assert found[5] == (0, 1)
    assert found[15] == (pytest.approx(0.5), pytest.approx(0.9**0.9))
    assert found[25] == (1, pytest.approx(0.8**0.9))
    assert found[65] == (pytest.approx(0.5**0.9), pytest.approx(0.4**0.9))
    assert found[104] == (pytest.approx((1 / 80) ** 0.9), pytest.approx(0.01**0.9))


def test_a_scale_multiplies_the_rates_of_all_groups():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [weight], "initial_lr": rate} for weight, rate in zip(weights, (0.1, 0.4), strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_rates(optimizer, LRSchedule("constant", 10), 3, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]

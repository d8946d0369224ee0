import pytest
import torch

from mit_semseg.scoring.exponentials import LOWEST, exponentials, segments
from mit_semseg.scoring.resample import axis


def test_runs_by_hand():
    # Four times as many: places -0.375, -0.125, 0.125, 0.375, 0.625, ... of which the first two are at 0.
    found = segments(axis(2, 8), 0, 8)
    assert [(run.start, run.stop, run.lower, run.upper) for run in found] == [
        (0, 2, 0, 1),
        (2, 6, 0, 1),
        (6, 8, 1, 1),
    ]
    assert [run.first for run in found] == [0, 0.125, 0]
    assert [run.step for run in found] == [0, 0.25, 0]
    assert segments(axis(2, 8), 3, 5) == [(3, 5, 0, 1, 0.375, 0.25)]


@pytest.mark.parametrize(("source", "target"), [(1, 1), (1, 9), (2, 8), (5, 7), (37, 512), (75, 512), (9, 4)])
@pytest.mark.parametrize("lowest", [-1.0, LOWEST])
def test_products_give_the_exponentials_of_the_blended_rows(source, target, lowest):
    generator = torch.Generator().manual_seed(source)
    rows = torch.rand(source, 3, 5, generator=generator, dtype=torch.float64) * lowest
    rows[torch.rand(rows.shape, generator=generator) < 0.3] = 0
    along = axis(source, target)
    for start, stop in ((0, target), (target // 3, target // 2 + 1)):
        first, last = along.span(start, stop)
        fraction = along.fraction[start:stop, None, None].double()
        lower, upper = rows[along.lower[start:stop]], rows[along.upper[start:stop]]
        exact = (lower * (1 - fraction) + upper * fraction).exp()
        out = torch.empty(stop - start, 3, 5)
        exponentials(rows[first:last].float(), first, segments(along, start, stop), out)
        # Rounding the exponent to float32 alone costs some 80 * 6e-8.
        torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-30)

"""Products are timed at their shapes, and a counted step leaves the weights as they are."""

import bench_estimates
import torch
from bench_estimates import TimedCounter, counted_step

from tests.studies.cost.test_run import Regression, job


def test_products_count_by_the_least_time_at_their_shapes_where_they_are_timed(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 25.0, 30.0, 31.0])  # 9, 2 and 5 seconds; the sum takes 1
    monkeypatch.setattr(bench_estimates.time, "process_time", lambda: next(clock))
    a, b, c = torch.ones(3, 4), torch.ones(4, 5), torch.ones(4, 6)
    with TimedCounter() as counter:
        a @ b, a @ b, a @ c
        a + a
    assert counter.work.parts == (0, 4 * 3 * 12, 4, 2 + 2 + 5)


def test_the_operations_of_a_step_are_timed_and_its_weights_stay():
    model = Regression(20)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    step = counted_step(job(), model)
    assert step.operations == 0
    assert step.seconds > 0
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)

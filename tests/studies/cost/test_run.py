"""What a run asks of a machine, for work that is known by hand."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.errors import UsageError
from llm4rec_studies.cost import run as cost
from llm4rec_studies.cost.rates import Rates, by_data_sheet, rates_of_gpu
from llm4rec_studies.cost.work import Work


class Regression(nn.Module):
    """A linear map from 4 to 2 numbers; a batch is a matrix of ones."""

    def __init__(self, n_rows):
        super().__init__()
        self.linear, self.n_rows = nn.Linear(4, 2), n_rows

    def training_rows(self):
        return self

    def __len__(self):
        return self.n_rows

    def batch(self, epoch, indices):
        return {"x": torch.ones(len(indices), 4)}

    def forward(self, x):
        return {"loss": self.linear(x).square().mean()}


def job(batch_size=8, epochs=3):
    trainer = SimpleNamespace(batch_size=batch_size, epochs=epochs, precision=Precision.fp32)
    return SimpleNamespace(config=SimpleNamespace(trainer=trainer, seed=0))


def test_a_training_step_is_counted_with_its_gradient():
    training = cost.count_training(job(), Regression(20))
    forward, of_weight = 2 * 8 * 4 * 2, 2 * 8 * 4 * 2
    assert training.step.operations == forward + of_weight
    assert training.step.seconds > 0
    assert (training.rows, training.steps) == (20, 3 * 3)
    assert training.work.operations == 9 * training.step.operations
    weights = 4 * (4 * 2 + 2)
    assert weights * 3 < training.memory < weights * 3 + 8 * 4 * 2 * 4 * 4


def test_examples_beyond_those_that_are_counted_are_extrapolated():
    shared, each = torch.ones(6, 6), torch.ones(5, 5)

    def answer(some):
        shared @ shared
        for _ in range(len(some)):
            each @ each

    examples = range(1000)
    work = cost._count(answer, FakeExamples(examples), 4000, 10)
    assert work.operations == pytest.approx(2 * 6**3 + 4000 * 2 * 5**3)
    few = cost._count(answer, FakeExamples(examples), 7, 10)
    assert few.operations == 2 * 6**3 + 7 * 2 * 5**3
    not_two_batches = cost._count(answer, FakeExamples(range(8)), 80, 10)
    assert not_two_batches.operations == pytest.approx(2 * 6**3 + 80 * 2 * 5**3)


def test_the_work_of_a_batch_counts_however_many_examples_it_has():
    a = torch.ones(3, 3)

    def answer(some):
        for _ in range(0, len(some), 100):
            a @ a

    work = cost._count(answer, FakeExamples(range(2000)), 20_000, 100)
    assert work.operations == pytest.approx(2 * 3**3 * 200)


class FakeExamples(Examples):
    def __init__(self, numbers):
        object.__setattr__(self, "numbers", numbers)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, rows):
        return FakeExamples([self.numbers[row] for row in rows])


RATES = Rates("a device", fp32=10.0, bf16=20.0, bytes=5.0, launch=0.5, overlaps=False, source="by hand")


def test_a_cpu_computes_and_starts_operators_in_turn_and_a_gpu_at_the_same_time():
    work = Work(operations=40, bytes=10, operators=8, seconds=1)
    assert RATES.seconds(work, Precision.fp32) == 4 + 2 + 4 + 1
    overlapping = partial(Rates, "a GPU", 10.0, 20.0, 5.0, overlaps=True, source="by hand")
    assert overlapping(launch=0.5).seconds(work, Precision.fp32) == 6
    assert overlapping(launch=1.0).seconds(work, Precision.bf16) == 9


def test_a_data_sheet_is_taken_at_its_stated_shares():
    rates = by_data_sheet("a GPU", 10e12, 100e12, 2e12, "its data sheet")
    assert (rates.fp32, rates.bf16, rates.bytes) == pytest.approx((4e12, 40e12, 1e12))
    assert "40 %" in rates.source


def test_a_report_of_the_check_has_the_rates_of_its_card(tmp_path):
    facts = {"fp32 TFLOP/s": 50.0, "bf16 TFLOP/s": 700.0, "elementwise GB/s": 2000.0, "µs an operator": 4.0}
    report = {"device": "a GPU", "date": "2026-01-02", "sections": [{"name": "card", "facts": facts}]}
    file = tmp_path / "gpu-a-gpu.json"
    file.write_text(json.dumps(report))
    rates = rates_of_gpu(str(file))
    assert (rates.device, rates.fp32, rates.bf16, rates.bytes) == ("a GPU", 50e12, 700e12, 2e12)
    assert rates.launch == pytest.approx(4e-6)
    assert rates.overlaps
    assert "measured" in rates.source
    assert rates_of_gpu("H100").source.startswith("data sheet")


def test_what_is_no_gpu_and_no_report_is_refused(tmp_path):
    file = tmp_path / "x.json"
    for content in ("{", "[]", '{"sections": []}', '{"sections": [{"name": "card", "facts": {}}]}'):
        file.write_text(content)
        with pytest.raises(UsageError, match="no report"):
            rates_of_gpu(str(file))
    with pytest.raises(UsageError, match="'H10' is no GPU") as error:
        rates_of_gpu("H10")
    assert "H100" in error.value.remedy

"""A run from data to result: its arithmetic, and what it took of a GPU."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.results.result import GpuCosts
from llm4rec_cli.run import gpu, stages
from llm4rec_cli.run.identity import settings_with_effect
from tests.support.driver import TINY, job_of, read


@pytest.fixture
def tf32_as_it_was():
    holders = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [holder.allow_tf32 for holder in holders]
    yield
    for holder, value in zip(holders, before, strict=True):
        holder.allow_tf32 = value


@pytest.mark.parametrize("typed", [[], ["trainer.tf32=true"]])
def test_tf32_is_off_unless_asked_for(typed, tf32_as_it_was):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not typed  # as another run left them
    job = job_of("model=popularity", *typed)
    stages.build(job, leave_one_out(tiny_dataset([[0, 1, 2], [2, 1, 0]])))
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is bool(typed)


def test_tf32_and_bf16_in_evaluation_are_deviations_and_other_addresses():
    assert "TF32 arithmetic on GPUs" in job_of("model=sasrec", "trainer.tf32=true").deviations
    assert "TF32 arithmetic on GPUs" not in job_of("model=sasrec").deviations
    assert "trainer.tf32" not in settings_with_effect(job_of("model=sasrec").config)
    assert settings_with_effect(job_of("model=sasrec", "trainer.tf32=true").config)["trainer.tf32"] is True
    usual, bf16 = job_of("model=sasrec"), job_of("model=sasrec", "trainer.scoring=bf16")
    assert set(bf16.deviations) - set(usual.deviations) == {"histories are encoded in bf16 in validation and test"}
    assert "trainer.scoring" not in settings_with_effect(usual.config)
    assert settings_with_effect(bf16.config) == settings_with_effect(usual.config) | {"trainer.scoring": "bf16"}
    floor = bf16.floor("popularity")
    assert settings_with_effect(floor.config) == settings_with_effect(usual.floor("popularity").config)
    assert floor.deviations == []


def test_bf16_in_evaluation_is_refused_where_no_history_is_encoded():
    for model in ("popularity", "p5", "prompt4nr"):
        (problem,) = job_of(f"model={model}", "trainer.scoring=bf16").problems()
        assert "trainer.scoring=bf16 does not apply" in problem.problem
        assert "sasrec" in problem.remedy
    assert list(job_of("model=sasrec", "trainer.scoring=auto").problems()) == []


def test_what_a_run_took_of_its_gpu_is_in_its_metrics(llm4rec, monkeypatch):
    costs = GpuCosts(name="a GPU", number=1, peak_mb=100, kilojoules=0.5)
    monkeypatch.setattr(gpu, "meter", lambda device: SimpleNamespace(costs=lambda: costs))
    answer = llm4rec("train", *TINY)
    assert answer.code == 0, answer.err
    assert read(answer.folder / "metrics.json")["gpu"] == asdict(costs)


def test_the_gain_over_popularity_is_the_paired_difference_on_validation():
    split = leave_one_out(tiny_dataset([[(start + n) % 12 for n in range(5)] for start in range(12)]))
    job = job_of("model=next_raw_id", "task.cutoffs=[1]", "task.selection=hr@1")
    examples = job.task_module.examples(split, SplitName.valid, job.config, Path())
    oracle = SimpleNamespace(
        score=lambda some: torch.nn.functional.one_hot(torch.from_numpy(some.target).long(), split.n_items).float()
    )
    values = {
        name: job.task_module.per_example(model, split, examples, job.config)["hr@1"]
        for name, model in (("oracle", oracle), ("popularity", stages.build(job.floor("popularity"), split)))
    }
    assert len(examples) == 12
    training = stages.gain_over_popularity(job, split, oracle, examples)
    differences = values["oracle"] - values["popularity"]
    half = stats.t.ppf(0.975, 11) * stats.sem(differences)
    assert training["popularity"] == pytest.approx(values["popularity"].mean())
    assert training["gain"] == pytest.approx(differences.mean())
    assert training["gain_low"] == pytest.approx(differences.mean() - half)
    assert training["gain_high"] == pytest.approx(differences.mean() + half)
    assert stages.gain_over_popularity(job_of("model=mean", "task=rating"), split, oracle, examples) == {}
    assert stages.gain_over_popularity(job, split, oracle, examples[:3]) == {}, "too few users for an interval"

"""Both contenders train the same rows, and have the same loss."""

import bench_tuned_lm as bench
import pytest

from tests.llm.tiny_llm import tiny_llm

pytestmark = pytest.mark.numeric


@pytest.fixture
def backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM4REC_CACHE", str(tmp_path / "cache"))
    return f"model.backbone={tiny_llm(tmp_path / 'llm')}"


@pytest.mark.parametrize("question", list(bench.QUESTIONS))
def test_both_have_the_same_loss(question, backbone):
    shared = bench.build([*bench.QUESTIONS[question], backbone], 4, 2)
    for batch in range(2):
        losses = []
        for name, loss in bench.LOSSES.items():
            shared.model.lm.set_attn_implementation(bench.ATTENTION[name])
            losses.append(loss(shared, batch).item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_run_prints_both_and_exits_with_its_verdict(bench_prints, backbone):
    arguments = ["--rounds", "1", "--batch", "2", "--batches", "1", "--questions", "next title", "--", backbone]
    bench_prints(bench.main, arguments, *bench.DESCRIPTIONS.values(), "### next title, 2 rows a batch")

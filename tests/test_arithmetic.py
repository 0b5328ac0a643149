"""`precision: auto` resolves to the faster precision by a margin, measured once per machine."""

import json
from threading import Thread

import pytest
import torch

from llm4rec_cli import arithmetic, files
from llm4rec_cli.config import walk
from llm4rec_cli.config.schema import Precision, Work
from tests.support.driver import job_of

PROBE = arithmetic.probe  # tests replace arithmetic.probe by a fake


@pytest.fixture
def measuring(monkeypatch):
    """measuring(fp32, bf16): fake the seconds of later probes; returns the list of their arguments."""

    def pretend(fp32, bf16):
        made = []
        monkeypatch.setattr(arithmetic, "probe", lambda *args: made.append(args) or {"fp32": fp32, "bf16": bf16})
        return made

    return pretend


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [(3.0, 1.0, Precision.bf16), (1.0, 3.0, Precision.fp32), (1.05, 1.0, Precision.fp32), (1.2, 1.0, Precision.bf16)],
)
def test_bf16_is_chosen_if_it_is_faster_by_more_than_noise(tmp_path, measuring, fp32, bf16, chosen):
    measuring(fp32, bf16)
    assert arithmetic.fastest(Work.training, "cpu", tmp_path) is chosen


def test_a_machine_is_measured_once_for_each_kind_of_work(tmp_path, measuring):
    probes = measuring(2.0, 1.0)
    for work in (Work.training, Work.reading, Work.training):
        arithmetic.fastest(work, "cpu", tmp_path)
    assert probes == [(Work.training, "cpu"), (Work.reading, "cpu")]


def test_two_processes_at_once_share_one_measurement(tmp_path, measuring):
    """One that waits for the lock finds what the other has measured meanwhile."""
    probes = measuring(2.0, 1.0)
    decided = []
    with files.locked(tmp_path / ".arithmetic.lock", tmp_path):
        waiting = Thread(target=lambda: decided.append(arithmetic.fastest(Work.training, "cpu", tmp_path)))
        waiting.start()
        waiting.join(0.2)
        assert not decided
        machine = arithmetic._machine("cpu")
        files.write_json(tmp_path / "arithmetic.json", {machine: {"training": {"fp32": 1.0, "bf16": 9.0}}})
    waiting.join()
    assert (decided, probes) == ([Precision.fp32], [])


def test_another_number_of_threads_is_another_machine(tmp_path, measuring, monkeypatch):
    probes = measuring(2.0, 1.0)
    arithmetic.fastest(Work.training, "cpu", tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 96)
    arithmetic.fastest(Work.training, "cpu", tmp_path)
    assert len(probes) == 2
    assert len(json.loads((tmp_path / "arithmetic.json").read_text())) == 2


@pytest.mark.parametrize("work", Work)
def test_a_probe_times_both_and_draws_no_random_number_of_ours(work, monkeypatch):
    monkeypatch.setattr(arithmetic, "BUDGET", 0.0)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    seconds = PROBE(work, "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert seconds.keys() == {"fp32", "bf16"}
    assert all(0 < value < 60 for value in seconds.values())


def test_every_precision_setting_declares_its_kind_of_work():
    settings = walk.settings(job_of("model=prompt4nr").config)
    stated = {s.key: s.field.metadata["work"] for s in settings if "work" in s.field.metadata}
    assert stated == {
        "model.scoring": Work.reading,
        "model.warm_up.precision": Work.training,
        "trainer.precision": Work.training,
        "trainer.scoring": Work.reading,
        "llm.precision": Work.answering,
    }


@pytest.mark.slow
class TestOfARun:
    """Runs with `auto`: the address holds the setting, the folder the resolved precision."""

    TINY = ("model=sasrec", "model.hidden_size=16", "model.inner_size=16", "model.layers=1", "trainer.epochs=1")
    EVALUATION = ("task.max_examples=50", "task.floors=[]")

    def test_the_folder_and_metrics_say_what_was_taken(self, llm4rec, measuring, tmp_path):
        measuring(3.0, 1.0)
        run = llm4rec("train", *self.TINY, *self.EVALUATION, f"paths.cache={tmp_path}")
        assert run.metrics["arithmetic"] == {"trainer.precision": "bf16"}
        assert json.loads((run.folder / "arithmetic.json").read_text()) == {"trainer.precision": "bf16"}
        assert "bf16 arithmetic in training" in run.metrics["deviations"]
        assert "arithmetic: trainer.precision=bf16" in run.err
        assert "precision: auto" in (run.folder / "config.yaml").read_text()

    def test_the_setting_is_in_the_address_and_the_resolved_precision_is_not(self, llm4rec, measuring, tmp_path):
        measuring(3.0, 1.0)
        first = llm4rec("train", *self.TINY, *self.EVALUATION, f"paths.cache={tmp_path / 'one'}")
        measuring(1.0, 3.0)
        second = llm4rec("train", *self.TINY, *self.EVALUATION, f"paths.cache={tmp_path / 'other'}")
        named = llm4rec(
            "train", *self.TINY, *self.EVALUATION, f"paths.cache={tmp_path / 'one'}", "trainer.precision=bf16"
        )
        assert second.folder == first.folder
        assert named.folder != first.folder

    def test_a_run_goes_on_in_the_arithmetic_it_began_with(self, llm4rec, measuring, tmp_path, monkeypatch):
        """Even if the other is faster now; without arithmetic.json its checkpoints would refuse the other."""
        typed = ("train", *self.TINY, "trainer.epochs=2", *self.EVALUATION)
        measuring(3.0, 1.0)
        whole = llm4rec(*typed, f"paths.cache={tmp_path / 'one'}", "paths.outputs=whole")
        assert whole.code == 0
        from llm4rec_cli.run import fit

        evaluate, calls = fit._Trainer.evaluate, []

        def killed(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return evaluate(self, *args, **kwargs)

        monkeypatch.setattr(fit._Trainer, "evaluate", killed)
        assert llm4rec(*typed, f"paths.cache={tmp_path / 'one'}").code == 130
        measuring(1.0, 3.0)
        resumed = llm4rec(*typed, f"paths.cache={tmp_path / 'other'}")
        assert "resuming at step" in resumed.err
        assert resumed.metrics["arithmetic"] == {"trainer.precision": "bf16"}
        assert resumed.metrics["metrics"] == whole.metrics["metrics"]


@pytest.fixture
def amd(monkeypatch, tmp_path):
    """amd(): a CPU of AMD with AVX-512, whatever this one is."""
    arithmetic._onednn_is_faster.cache_clear()
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(arithmetic, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    yield
    arithmetic._onednn_is_faster.cache_clear()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize(("n", "m", "size"), [(1, 1, 1), (3, 1000, 64), (64, 12_101, 64), (5, 7, 300)])
def test_a_product_by_onednn_is_exact(amd, n, m, size):
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(n, size, generator=draw), torch.randn(size, m, generator=draw).t()
    buffer = torch.full((n, m), torch.nan)
    for second in (right, right.contiguous()):
        result = arithmetic.product(left, second, buffer)
        torch.testing.assert_close(result, left @ second.t(), rtol=1e-5, atol=1e-5 * size**0.5)
    assert buffer.isnan().all()  # oneDNN did it


@pytest.mark.parametrize(("n", "size", "dtype"), [(0, 3, torch.float32), (2, 0, torch.float32), (2, 3, torch.float64)])
def test_onednn_is_not_asked_for_what_it_does_not_do(amd, n, size, dtype):
    left, right = torch.ones(n, size, dtype=dtype), torch.ones(4, size, dtype=dtype)
    assert torch.equal(arithmetic.product(left, right), torch.full((n, 4), size, dtype=dtype))


def test_a_machine_that_does_not_tell_its_cpu_has_mkl(amd, tmp_path):
    (tmp_path / "cpuinfo").unlink()
    assert not arithmetic._onednn_is_faster()


def test_a_product_by_mkl_is_written_to_the_buffer(monkeypatch):
    monkeypatch.setattr(arithmetic, "_onednn_is_faster", lambda: False)
    left, right, buffer = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.zeros(2, 3)
    assert arithmetic.product(left, right, buffer).tolist() == [[1, 3, 5], [2, 4, 6]]
    assert buffer.tolist() == [[1, 3, 5], [2, 4, 6]]

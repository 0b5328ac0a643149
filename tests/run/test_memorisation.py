"""Memorisation: what was measured of a language model replaces the blanket warning of its runs."""

from dataclasses import replace
from types import SimpleNamespace

from llm4rec_cli.results.result import MemorisationScore, result_of
from llm4rec_cli.run import labels, memorisation
from tests.results.finished_runs import run as finished_run
from tests.support.driver import job_of, read

SCORE = MemorisationScore(share=0.5, low=0.4, high=0.6, chance=0.2, n=90, made_up=0.3)


def test_measured_memorisation_replaces_the_blanket_warning(tmp_path):
    typed = ("model=chatgptrec", "model.answer=generate", "llm=openai", f"paths.cache={tmp_path}")
    job, other = (job_of(*typed, f"llm.model={name}") for name in ("x", "y"))
    dataset = SimpleNamespace(fingerprint="f")
    assert memorisation.warning(memorisation.read(job.config, dataset)).startswith("the chat model may have")
    assert memorisation.save(job.config, dataset, {"rows": SCORE})
    assert memorisation.read(job.config, dataset) == {"rows": SCORE}
    warning = memorisation.warning({"rows": SCORE, "titles": replace(SCORE, made_up=None)})
    assert "rows 0.50 (0.40–0.60), chance 0.20, made-up records 0.30; titles 0.50 (0.40–0.60), chance 0.20" in warning
    assert not memorisation.save(job.config, dataset, {"rows": replace(SCORE, n=4)})
    assert memorisation.read(job.config, dataset) == {"rows": SCORE}, "those of more records"
    assert memorisation.save(other.config, dataset, {"rows": replace(SCORE, made_up=None)})
    assert memorisation.save(other.config, dataset, {"rows": replace(SCORE, n=4)}), "the older lack made-up ones"
    assert memorisation.read(other.config, dataset) == {"rows": replace(SCORE, n=4)}
    assert memorisation.read(job_of(*typed, "llm.model=z").config, dataset) is None
    elsewhere = job_of(*typed, "llm.model=x", "llm.base_url=http://localhost:8000/v1")
    assert memorisation.read(elsewhere.config, dataset) is None
    assert memorisation.read(job.config, SimpleNamespace(fingerprint="g")) is None


def test_a_finished_run_takes_up_what_was_measured_of_memory_since(tmp_path):
    job = job_of("model=chatgptrec", "model.answer=generate", "llm=openai", "llm.model=x", f"paths.cache={tmp_path}")
    dataset, facts = SimpleNamespace(fingerprint="f"), {"labels": ["may-be-memorised"], "metrics": {"rmse": 1.0}}
    run = finished_run(folder=tmp_path, warnings=["slow", memorisation.warning(None)], **facts)
    assert labels.update_finished(run, job.config, dataset, []) == run
    for scores in ({"rows": SCORE}, {"rows": replace(SCORE, n=100, share=0.6)}):
        memorisation.save(job.config, dataset, scores)
        run = labels.update_finished(run, job.config, dataset, [])
        assert run.memorisation == scores
        assert run.warnings == ["slow", memorisation.warning(scores)]
        assert result_of(read(tmp_path / "metrics.json"), tmp_path) == run
    ours = replace(run, labels=["synthetic"])
    memorisation.save(job.config, dataset, {"rows": replace(SCORE, n=200)})
    assert labels.update_finished(ours, job.config, dataset, []) == ours, "data of ours"

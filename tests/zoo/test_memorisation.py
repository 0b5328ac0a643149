"""The warning of a tuned language model that may have read the data."""

from types import SimpleNamespace

from llm4rec_cli.results.result import MemorisationScore
from llm4rec_cli.run import labels, memorisation
from tests.llm.tiny_llm import tiny_llm
from tests.results.finished_runs import run as finished_run
from tests.support.driver import job_of

SCORE = MemorisationScore(share=0.5, low=0.4, high=0.6, chance=0.2, n=90, made_up=0.3)


def test_a_tuned_model_is_marked_by_what_was_measured_of_its_backbone(tmp_path):
    backbone, dataset = tiny_llm(tmp_path / "tiny"), SimpleNamespace(fingerprint="f")
    measured = job_of(f"llm.model={backbone}", f"paths.cache={tmp_path}").config
    tuned = job_of("model=tuned_lm", f"model.backbone={backbone}", "llm=openai", f"paths.cache={tmp_path}").config
    name = memorisation.model_name(tuned)
    assert (name, memorisation.model_name(measured)) == ("the backbone tiny", "the chat model")
    assert memorisation.warning(None, name).startswith("the backbone tiny may have read these very data")
    memorisation.save(measured, dataset, {"rows": SCORE})
    assert memorisation.read(tuned, dataset) == {"rows": SCORE}
    run = finished_run(
        folder=tmp_path / "run",
        labels=["may-be-memorised"],
        warnings=[memorisation.warning(None)],  # of a version that called every model a chat model
        metrics={"auc": 1.0},
    )
    measured_since = labels.update_finished(run, tuned, dataset, [])
    assert measured_since.warnings == [memorisation.warning({"rows": SCORE}, name)]

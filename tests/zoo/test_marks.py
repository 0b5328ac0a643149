"""The mark of a tuned language model that may have read the data."""

from types import SimpleNamespace

from llm4rec_cli.results.result import MemorisationScore
from llm4rec_cli.run import marks
from tests.llm.tiny_llm import tiny_llm
from tests.results.finished_runs import run as finished_run
from tests.support.driver import job_of

PAPERS = ("unisrec/paper", "unisrec/pretrain_paper", "p5/paper", "prompt4nr/paper")
SCORE = MemorisationScore(share=0.5, low=0.4, high=0.6, chance=0.2, n=90, made_up=0.3)


def test_a_tuned_model_is_marked_by_what_was_measured_of_its_backbone(tmp_path):
    backbone, dataset = tiny_llm(tmp_path / "tiny"), SimpleNamespace(fingerprint="f")
    measured = job_of(f"llm.model={backbone}", f"paths.cache={tmp_path}").config
    tuned = job_of("model=tuned_lm", f"model.backbone={backbone}", "llm=openai", f"paths.cache={tmp_path}").config
    name = marks.model_with_memory(tuned)
    assert (name, marks.model_with_memory(measured)) == ("the backbone tiny", "the chat model")
    assert marks.memorisation_warning(None, name).startswith("the backbone tiny may have read these very data")
    marks.save_memorisation(measured, dataset, {"rows": SCORE})
    assert marks.memorisation(tuned, dataset) == {"rows": SCORE}
    run = finished_run(
        folder=tmp_path / "run",
        labels=["may-be-memorised"],
        warnings=[marks.memorisation_warning(None)],  # of a version that called every model a chat model
        metrics={"auc": 1.0},
    )
    measured_since = marks.update_finished(run, tuned, dataset, [])
    assert measured_since.warnings == [marks.memorisation_warning({"rows": SCORE}, name)]

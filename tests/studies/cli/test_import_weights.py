"""Imported weights, as a user drives them: a run without results, which `eval` and `init_from` take."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from llm4rec_cli.config.schema import Traits
from llm4rec_cli.results.result import Status
from llm4rec_cli.results.results import Results
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.source import Source
from tests.models.published_unisrec import PublishedUniSRec
from tests.results.finished_runs import run as finished_run
from tests.support.driver import read

SIZES = ("model.hidden_size=16", "model.inner_size=16", "model.layers=1", "model.experts=2")
IMPORT = ("import-weights", "unisrec", "weights.pth", "+experiment=unisrec/pretrain", *SIZES)
QUICK = ("task.max_examples=50", "task.floors=[]")


@pytest.fixture
def theirs(tmp_path):
    """The published model whose weights are in tmp_path/weights.pth."""
    model = PublishedUniSRec(text=384, hidden=16, inner=16, layers=1, heads=2, experts=2, length=50)
    torch.save({"epoch": 299, "state_dict": model.state_dict()}, tmp_path / "weights.pth")
    return model


def test_imported_weights_are_evaluated_and_fine_tuned_and_never_shown_as_a_training(llm4rec, theirs, tmp_path):
    answer = llm4rec(*IMPORT)
    folder, metrics, status = answer.folder, answer.metrics, read(answer.folder / "status.json")
    assert (status["status"], status["command"]) == ("done", "import-weights")
    assert (metrics["imported"]["file"], len(metrics["imported"]["sha256"])) == ("weights.pth", 64)
    assert metrics["labels"] == ["imported", "substitute-encoder"]
    assert metrics["shown_as"] == "unisrec, imported"
    assert (metrics["metrics"], metrics["training"]) == ({}, None)
    weights = checkpoints.weights(checkpoints.selected(folder / "checkpoints"))
    assert torch.equal(weights["encoder.positions.weight"], theirs.position_embedding.weight)
    again = llm4rec(*IMPORT)
    assert (again.folder, "imported before" in again.out) == (folder, True)

    # It is no result, and matches no overrides.
    assert llm4rec("report").code == 1
    assert "has imported weights but no results" in llm4rec("compare", str(folder), str(folder)).err
    assert llm4rec("eval", "model=unisrec", "task=pretrain").code == 1

    evaluated = llm4rec("eval", f"run={folder}", "dataset=demo", "task=sequential", *QUICK).metrics
    assert "imported" in evaluated["labels"]
    seed = llm4rec("eval", f"run={folder}", "dataset=demo", "task=sequential", "seed=1")
    assert "seed=1 differs from the training of" in seed.err, (
        "one file under several seeds would count as several trainings"
    )
    assert evaluated["trained_run"] == folder.relative_to(tmp_path / "outputs").as_posix()
    assert evaluated["deviations"][0].startswith("weights imported, not trained here: weights.pth (sha256 ")
    assert not any("sequences over max_length" in sentence for sentence in evaluated["deviations"])  # of our training

    tuned = ("train", "+experiment=unisrec/transfer", *SIZES, *QUICK, "trainer.epochs=1", f"model.init_from={folder}")
    fine_tuned = llm4rec(*tuned).metrics
    assert "imported" in fine_tuned["labels"]
    assert any(s.startswith("pre-training: weights imported") for s in fine_tuned["deviations"])
    assert llm4rec(*tuned, "seed=1").metrics["variant"] == fine_tuned["variant"]


def test_what_cannot_be_imported_is_refused_and_leaves_no_run(llm4rec, theirs, tmp_path):
    def refused(code, message, *arguments):
        answer = llm4rec(*arguments)
        assert answer.code == code
        assert message in answer.err
        assert len(answer.err.strip().splitlines()) == 2

    refused(1, "does not have weights of RUCAIBox/UniSRec", *IMPORT, "model.layers=2")
    refused(2, "published item ids follow", *IMPORT[:3], "+experiment=unisrec/transfer_ids", *SIZES)
    refused(2, "belongs to sasrec, not to unisrec", *IMPORT[:3], "+experiment=sasrec/gsasrec")
    refused(2, "the first argument must be a method", *IMPORT, "model=unisrec")
    refused(1, "nothing.pth is not a file", "import-weights", "unisrec", "nothing.pth", *IMPORT[3:])
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(theirs.state_dict()))
    refused(1, "is not a file that torch.save wrote", *IMPORT)
    assert not Results.under(tmp_path / "outputs", imports=True)
    assert not [*tmp_path.glob("outputs/*/*/*/*")]


def test_weights_of_user_embeddings_are_evaluated_on_their_dataset_alone(tmp_path):
    def run(needs_user):
        model = SimpleNamespace(traits=Traits(needs_user=needs_user))
        origin = {"imported": {"file": "w.pth", "sha256": "s", "code": "RUCAIBox/UniSRec"}}
        result = finished_run(folder=tmp_path, dataset="amazon2014-beauty", **origin)
        return Source(result, Status()).problems_with_data(model, toys)

    toys = SimpleNamespace(manifest={"name": "amazon2014-toys"}, fingerprint="ab")
    assert list(run(needs_user=False)) == []
    (problem,) = run(needs_user=True)
    assert "for the users of amazon2014-beauty" in problem.problem

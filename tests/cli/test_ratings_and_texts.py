"""Rating and text tasks through the commands: what is written, shown, reported and compared."""

import json

import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.data.prepare import prepare
from tests.support.driver import call, compose, read

QUICK = ("task.max_examples=100", "model.embedding_size=8", "trainer.epochs=2", "trainer.valid_examples=50")


@pytest.fixture(scope="module")
def home(tmp_path_factory, cache):
    """A folder with runs of mf and its floors, and of retrieval for both kinds of text."""
    folder = tmp_path_factory.mktemp("answers")
    for arguments in (
        ("model=mf", "task=rating", *QUICK),
        ("model=retrieval", "task=explanation", "task.max_examples=100"),
        ("model=retrieval", "task=review_summary", "task.max_examples=100"),
        ("model=retrieval", "task=review_summary", "task.max_examples=100", "model.words=[1]"),
    ):
        answer = call("train", *arguments, cwd=folder, cache=cache)
        assert answer.code == 0, answer.err
        (folder / f"{arguments[0]} {arguments[1]}.out").write_text(answer.out)
    return folder


@pytest.fixture
def cli(home, cache):
    """cli(*arguments): the command line in that folder."""

    def run(*arguments):
        return call(*arguments, cwd=home, cache=cache)

    return run


def only(home, pattern):
    """The only folder or file that matches."""
    (path,) = home.glob(f"outputs/{pattern}")
    return path


def test_a_run_of_ratings_has_one_prediction_per_row_its_protocol_and_the_error_that_selected_it(home):
    folder = only(home, "mf/demo/rating/*")
    metrics, rows = read(folder / "metrics.json"), pd.read_parquet(folder / "predictions.parquet")
    assert (metrics["protocol"], metrics["mask_history"], metrics["n_examples"]) == ("rating", False, 100)
    assert metrics["metrics"]["mae"] == pytest.approx((rows["prediction"] - rows["rating"]).abs().mean())
    assert set(pd.read_csv(folder / "metrics.csv")["metric"]) == set(metrics["metrics"])
    chosen = metrics["training"]["valid_rmse"]
    logged = [json.loads(line)["valid"] for line in (folder / "train_log.jsonl").read_text().splitlines()]
    assert chosen == min(-score for score in logged) > 0
    assert f"valid {chosen:.4f}" in (folder / "run.log").read_text()


def test_tables_lists_and_labels_take_a_lower_error_as_the_better_one(home, cli):
    out = (home / "model=mf task=rating.out").read_text()
    assert "lower is better: rmse, mae" in out and "100 interactions" in out
    error = {name: read(only(home, f"{name}/demo/rating/*/metrics.json")) for name in ("mf", "mean", "majority")}
    rmse = {name: metrics["metrics"]["rmse"] for name, metrics in error.items()}
    beaten = rmse["mf"] < min(rmse["mean"], rmse["majority"])
    assert ("floor-not-beaten" in error["mf"]["labels"]) != beaten
    assert f"rmse {rmse['mf']:.4f} · test · rating" in cli("list", "runs", "--wide").out


def compared(cli, *arguments):
    answer = cli("compare", "--json", *arguments)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["metrics"]


def test_ratings_are_compared_by_each_error_and_texts_by_rouge(cli, home):
    comparison = compared(cli, "majority/demo/rating/seed0", "mean/demo/rating/seed0")
    assert list(comparison) == ["mse", "mae", "like_accuracy"]
    a, b = (
        pd.read_parquet(only(home, f"{name}/demo/rating/*/predictions.parquet")).eval("(prediction - rating) ** 2")
        for name in ("majority", "mean")
    )
    mse = comparison["mse"]
    assert (mse["a"], mse["b"]) == pytest.approx((a.mean(), b.mean()))
    assert (mse["better"], mse["worse"]) == ((b < a).sum(), (b > a).sum())
    folders = sorted(home.glob("outputs/retrieval/demo/review_summary/*"))
    comparison = compared(cli, *map(str, folders))
    assert list(comparison) == ["rouge1", "rouge2", "rougeL"]
    rouge1 = [read(folder / "metrics.json")["metrics"]["rouge1"] for folder in folders]
    assert (comparison["rouge1"]["a"], comparison["rouge1"]["b"]) == pytest.approx(tuple(rouge1))
    assert comparison["rouge1"]["difference"] != 0


def test_the_feature_match_is_compared_only_where_all_texts_have_a_feature(cli, home, tmp_path):
    run = only(home, "retrieval/demo/explanation/*")
    both = ("--metric", "rouge1,feature_match")
    assert list(compared(cli, str(run), str(run), *both)) == ["rouge1", "feature_match"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("status.json", "metrics.json"):
        (copy / name).write_text((run / name).read_text())
    rows = pd.read_parquet(run / "predictions.parquet")
    rows.loc[0, "feature"] = ""
    rows.to_parquet(copy / "predictions.parquet")
    assert cli("compare", str(copy), str(run)).code == 0
    refusals = (
        ((str(copy), str(run), *both), "some examples have no feature_match"),
        (("mf/demo/rating/seed0", "mean/demo/rating/seed0", "--metric", "rmse"), "--metric mse"),
        (("mf/demo/rating/seed0", str(run)), "protocol is rating in A and explanation"),
    )
    for typed, message in refusals:
        answer = cli("compare", *typed)
        assert (answer.code, message in answer.err) == (2, True), answer.err


def test_explanations_are_found_in_the_reviews_of_data_without_any(cli):
    bare = ("~dataset.domains.demo.explanations", "task=explanation", "task.max_examples=20", "paths.outputs=bare")
    assert "extracted-explanations" in cli("train", "model=retrieval", *bare).metrics["labels"]


# ---- recommend: one user and one item


def pair_options(home, row=0, task="explanation"):
    """The options that name an evaluated example, and its row of predictions."""
    rows = pd.read_parquet(only(home, f"retrieval/demo/{task}/*/predictions.parquet"))
    return ("--user", rows["user_id"][row], "--item", rows["target"][row]), rows.loc[row]


def test_the_rating_of_a_user_and_an_item_is_that_of_the_evaluation(cli, home):
    run = only(home, "mf/demo/rating/*")
    row = pd.read_parquet(run / "predictions.parquet").loc[3]
    for choice in ((f"run={run}",), ("model=mf", "task=rating", *QUICK[1:2])):
        answer = cli("recommend", *choice, "--json", "--user", row["user_id"], "--item", row["target"])
        assert answer.code == 0, answer.err
        printed = json.loads(answer.out)
        assert printed["rating"] == pytest.approx(row["prediction"], abs=1e-4)
        assert (printed["item_id"], printed["given"]) == (row["target"], row["rating"])


def test_other_items_get_a_rating_but_no_text_and_what_is_known_is_shown(cli, home, cache):
    dataset = prepare(OmegaConf.to_object(compose().dataset), cache / "llm4rec")
    trained_on = ("--user", dataset.user_ids[0], "--item", dataset.items["item_id"][dataset.sequence[0]])
    out = cli("recommend", "model=majority", "task=rating", *trained_on).out
    assert out.splitlines()[-1].endswith("(used in training)")
    options, row = pair_options(home)
    _, other = pair_options(home, row=1)
    new = (*options[:3], other["target"])
    answer = cli("recommend", "model=mean", "task=rating", *new)
    assert answer.code == 0, answer.err
    assert 1 <= float(answer.out.splitlines()[1]) <= 5
    assert "in the data" not in answer.out
    lines = cli("recommend", "model=retrieval", "task=explanation", *options).out.splitlines()
    assert lines[1:] == [row["prediction"], f"in the data: {row['reference']}"]
    answer = cli("recommend", "model=retrieval", "task=explanation", *new)
    assert answer.code == 2
    assert "has no interaction with item" in answer.err and row["target"] in answer.err

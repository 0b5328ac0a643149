"""The Python API gives the numbers of the commands, several runs in one process, and prints nothing."""

import json
import logging

import pandas as pd
import pytest

from llm4rec_cli import api
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.progress import console
from tests.support.driver import TINY, call, job_of, read

RUN = (*TINY, "task.floors=[popularity,transition_text]")


@pytest.fixture
def here(tmp_path, cache, monkeypatch):
    """Work in tmp_path, with the cache of all tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return tmp_path


@pytest.mark.slow
def test_train_evaluate_and_report_give_the_numbers_of_the_commands_and_print_nothing(here, cache, capfd):
    tables = [api.train(*RUN, f"seed={seed}") for seed in (0, 1)]
    direct = api.evaluate("model=sasrec", "seed=1", "task=direct", "task.floors=[]", metrics=["recall@20", "mrr"])
    averaged = api.report("model=sasrec", "task=sequential")
    assert capfd.readouterr() == ("", "")
    assert not console.quiet

    for seed, table in enumerate(tables):
        assert table["model"].tolist() == ["popularity", "transition_text", "sasrec"]
        stored = [read(here / folder / "metrics.json") for folder in table["folder"]]
        assert [run["shown_as"] for run in stored] == table["model"].tolist()
        assert table["ndcg@10"].tolist() == [run["metrics"]["ndcg@10"] for run in stored]
        assert table["ndcg@10 low"].tolist() == [run["intervals"]["ndcg@10"][0] for run in stored]
        assert table["labels"].iloc[0] == "synthetic subset"
        assert table["seed"].tolist() == [0, 0, seed]  # rules depend on no seed
        assert set(table["n"]) == {100}

    (row,) = direct.to_dict("records")
    stored = read(here / row["folder"] / "metrics.json")
    assert (row["task"], row["protocol"], row["seed"]) == ("direct", "uniform-100", 1)
    assert (row["recall@20"], row["mrr"]) == (stored["metrics"]["recall@20"], stored["metrics"]["mrr"])
    assert "hr@1" not in direct

    (row,) = averaged.to_dict("records")
    values = pd.Series([table["ndcg@10"].iloc[-1] for table in tables])
    assert row["n"] == 2
    assert row["ndcg@10"] == pytest.approx(values.mean())
    assert row["ndcg@10 sd"] == pytest.approx(values.std())
    assert row["ndcg@10 low"] < row["ndcg@10"] < row["ndcg@10 high"]
    assert row["folders"] == [table["folder"].iloc[-1] for table in tables]

    shown = call("train", *RUN, "seed=1", cwd=here, cache=cache)
    assert "finished run found" in shown.err
    assert f"{tables[1]['ndcg@10'].iloc[-1]:.4f}" in shown.out


def test_a_split_is_that_of_training_and_evaluation(here, cache):
    loaded = api.load_split("dataset=demo", "task=direct", "task.max_examples=50")
    run = api.train("model=popularity", "task=direct", "task.max_examples=50", "task.floors=[]")
    answers = pd.read_parquet(here / run["folder"][0] / "predictions.parquet")
    assert loaded.test["user_id"].tolist() == answers["user_id"].tolist()
    assert loaded.test["item_id"].tolist() == answers["target"].tolist()
    assert loaded.test["history"].map(len).tolist() == answers["history_length"].tolist()
    assert loaded.train["item_id"].value_counts().reindex(answers["target"], fill_value=0).tolist() == (
        answers["target_train_count"].tolist()
    )
    user, target = loaded.test["user_id"][0], loaded.test["item_id"][0]
    of_user = loaded.train[loaded.train["user_id"] == user]["item_id"].tolist()
    assert [*loaded.test["history"][0][:-1]] == of_user, (
        "all but the last item of the history, which validation predicts"
    )
    assert loaded.candidates is not None
    listed = loaded.candidates[(loaded.candidates["split"] == "test") & (loaded.candidates["user_id"] == user)]
    assert len(listed) == 100 == listed["item_id"].nunique() and listed["item_id"].iloc[0] == target
    assert not set(listed["item_id"]) & {*loaded.test["history"][0]}
    assert set(loaded.items["item_id"]) >= set(loaded.candidates["item_id"])
    assert api.load_split("dataset=demo").candidates is None


def test_scores_made_from_a_split_are_evaluated_like_our_own_model(here, cache):
    """Popularity, counted from the frames, has the metrics of the floor `popularity`."""
    loaded = api.load_split("dataset=demo", "task=direct", "task.max_examples=50")
    counts = loaded.train["item_id"].value_counts()
    assert loaded.candidates is not None
    scores = loaded.candidates.assign(score=loaded.candidates["item_id"].map(counts).fillna(0))
    scores = scores[scores["split"] == "test"]
    scores[["user_id", "item_id", "score"]].to_csv(here / "popular.csv", index=False)
    question = ("dataset=demo", "task=direct", "task.max_examples=50", "task.floors=[]")
    scored = call("score", "popular.csv", *question, cwd=here, cache=cache)
    own = api.train("model=popularity", *question[1:])
    assert scored.metrics["metrics"]["ndcg@10"] == pytest.approx(own["ndcg@10"][0])


def test_a_split_of_a_click_log_has_impressions(here, cache):
    loaded = api.load_split("dataset=demo_news")
    assert loaded.candidates is None
    for part in (loaded.train, loaded.validation, loaded.test):
        assert (part["items"].map(len) == part["clicked"].map(len)).all()
    assert loaded.test["clicked"].map(any).all()
    assert not set(loaded.train["impression_id"]) & set(loaded.validation["impression_id"])


def test_recommendations_are_those_of_the_command(here, cache, capfd):
    (here / "new.csv").write_text("item_id,title\nn1,steel kitchen knife\n")
    model = ("model=transition_text", "dataset=demo", "model.text_weights=[1]")
    table = api.recommend(*model, titles=["kitchen knife"], new_items=here / "new.csv", k=3)
    assert capfd.readouterr() == ("", "")
    printed = call(
        "recommend", *model, "--title", "kitchen knife", "--new-items", "new.csv", "--k", "3", "--json",
        cwd=here, cache=cache,
    )  # fmt: skip
    assert table.to_dict("records") == [json.loads(line) for line in printed.out.splitlines()]
    assert table["item_id"][0] == "n1" and table["is_new"].tolist() == [True, False, False]
    alone = api.recommend(*model, titles=["kitchen knife"], new_items="new.csv", only_new=True)
    assert alone["item_id"].tolist() == ["n1"]


def test_a_rating_is_predicted_for_a_user_and_an_item(here):
    job = job_of("dataset=demo")
    dataset = prepare(job.config.dataset, job.cache)
    user, item = dataset.user_ids[0], dataset.items["item_id"][0]
    (row,) = api.recommend("model=mean", "dataset=demo", "task=rating", user=user, item=item).to_dict("records")
    assert (row["user_id"], row["item_id"]) == (user, item) and 1 <= row["rating"] <= 5


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "recommend needs either a user or titles"),
        ({"titles": "a knife"}, "titles is a list of texts"),
        ({"user": "nobody"}, "nobody"),
        ({"user": 1, "k": 0}, "k=0"),
        ({"titles": ["a"], "only_new": True}, "no file is named"),
    ],
)
def test_wrong_requests_for_recommendations_are_refused(here, arguments, problem):
    with pytest.raises(UsageError, match=problem):
        api.recommend("model=transition_text", "dataset=demo", **arguments)


def test_settings_as_keywords_follow_the_overrides_that_they_stand_for(here):
    small = {"max_examples": 20, "floors": []}
    floor = api.train("split=test", "task.max_examples=9", model="popularity", task=small, split="valid")
    config = (here / floor["folder"][0] / "config.yaml").read_text()
    assert "max_examples: 20" in config and floor["split"].tolist() == ["valid"]
    assert api.report(model=["popularity", "sasrec"], split="valid")["folders"].tolist() == [[floor["folder"][0]]]
    typed = {"experiment": "p5/demo", "trainer": {"patience": None}, "task.mask_history": True, "metrics": ("a", 1)}
    assert api.with_settings(["x=1"], typed) == (
        *("x=1", "+experiment=p5/demo", "trainer.patience=null", "task.mask_history=true", "metrics=[a,1]"),
    )
    with pytest.raises(UsageError, match="unknown key 'modle'"):
        api.train(modle="popularity")
    with pytest.raises(UsageError, match="unknown filter 'modle=x'"):
        api.report(modle="x")


def test_a_floor_is_run_with_progress_on_stderr_if_requested(here, capfd):
    handlers = logging.getLogger("llm4rec_cli").handlers[:]
    table = api.train("model=popularity", "task.max_examples=20", "task.floors=[]", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert f"popularity on demo: {table['folder'].iloc[0]}" in err
    assert logging.getLogger("llm4rec_cli").handlers == handlers


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model=unisrc"], "unknown model 'unisrc'"),
        (["seed=abc"], "seed=abc"),
        (["seed=0,1"], "seed=0,1 has several values"),
        (["model=sasrec", "model.lrr=1"], "unknown key 'model.lrr'"),
        (["-m", "seed=0,1"], "-m is an option of the command line"),
        ([["model=sasrec"]], "an override must be a string"),
        (["model=mf", "task=direct"], "model 'mf' cannot do task 'direct'"),
    ],
)
def test_wrong_overrides_raise_a_usage_error(here, overrides, problem):
    for function in (api.train, api.evaluate):
        if function is api.evaluate and "model=mf" in overrides:
            continue  # there is no run to refuse
        with pytest.raises(UsageError, match="a list of names"):
            function("model=popularity", metrics="hr@10")
        with pytest.raises(UsageError) as error:
            function(*overrides)
        assert problem in error.value.problem
    assert [*here.iterdir()] == []


def test_what_is_not_there_is_an_error_with_a_remedy(here):
    with pytest.raises(RunError) as error:
        api.evaluate("model=sasrec")
    assert error.value.remedy == "llm4rec train model=sasrec"
    with pytest.raises(RunError, match="no finished run"):
        api.report()
    with pytest.raises(UsageError, match="unknown filter 'modle=x'"):
        api.report("modle=x")


def test_an_unknown_metric_is_an_error(here):
    with pytest.raises(UsageError) as error:
        api.train("model=popularity", "task.max_examples=20", "task.floors=[]", metrics=["ndgc@10"])
    assert error.value.remedy == "did you mean 'ndcg@10'?"


def test_an_error_with_a_remedy_keeps_it_whatever_its_words(monkeypatch, here):
    refused = RunError("the endpoint answers 429: Disk quota exceeded for this project", "wait")
    monkeypatch.setattr("llm4rec_cli.run.execute.run_all", lambda job: raise_first([refused]))
    with pytest.raises(RunError) as error:
        api.train("model=popularity")
    assert error.value is refused


def test_an_unusable_folder_is_an_error_of_this_project(here):
    (here / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        api.train("model=popularity", "task.max_examples=20", "task.floors=[]", "paths.outputs=file/outputs")

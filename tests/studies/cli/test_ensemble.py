"""`ensemble`: finished runs on the same impressions, combined into a new run."""

import pytest

from tests.support.driver import read

NEWS = ("dataset=demo_news", "task.max_examples=40", "task.floors=[]")


@pytest.fixture
def members(llm4rec):
    """Two floors evaluated on the same forty impressions."""
    return [llm4rec("train", f"model={name}", *NEWS).folder for name in ("popularity", "causal_popularity")]


def run_option(folders):
    return f"run=[{','.join(map(str, folders))}]"


def test_an_ensemble_is_a_run_shown_with_its_members_and_each_way_of_combining_another(llm4rec, members):
    answer = llm4rec("ensemble", run_option(members), "task.floors=[]")
    metrics = answer.metrics
    assert metrics["shown_as"] == "ensemble by sum: popularity + causal_popularity"
    assert metrics["members"] == [str(folder) for folder in members]
    assert (metrics["dataset"], metrics["protocol"], metrics["n_examples"]) == ("demo_news", "impression", 40)
    assert set(metrics["labels"]) == {"synthetic", "subset"}
    assert llm4rec("ensemble", run_option(members), "task.floors=[]").metrics["seconds"] == metrics["seconds"]
    assert llm4rec("ensemble", run_option(members), "combine=rank", "task.floors=[]").folder != answer.folder


def test_members_are_found_in_the_outputs_that_are_typed(llm4rec):
    elsewhere = "paths.outputs=else/where"
    names = [llm4rec("train", f"model={name}", *NEWS, elsewhere).folder.name for name in ("popularity", "random")]
    answer = llm4rec("ensemble", run_option(names), "task.floors=[]", elsewhere)
    assert answer.folder.is_relative_to(answer.cwd / "else/where")
    refused = llm4rec("ensemble", run_option(names), "--outputs", "else/where", elsewhere)
    assert (refused.code, "both name the folder" in refused.err) == (2, True)


def test_the_seed_is_that_of_the_members_that_have_one(llm4rec, members):
    seeds = [llm4rec("train", "model=random", f"seed={seed}", *NEWS).folder for seed in (1, 2)]
    pairs = [llm4rec("ensemble", run_option([folder, members[0]]), "task.floors=[]").metrics for folder in seeds]
    assert [pair["seed"] for pair in pairs] == [1, 2], "popularity was run under seed 0, which it does not read"
    assert pairs[0]["variant"] == pairs[1]["variant"], "two seeds of one pair"
    assert llm4rec("ensemble", run_option(seeds), "task.floors=[]").metrics["seed"] == 0
    rules = llm4rec("ensemble", run_option(members), "task.floors=[]").folder
    pair = llm4rec("ensemble", run_option([seeds[0], members[0]]), "task.floors=[]").folder
    compared = llm4rec("compare", str(rules), str(pair), "--seeds", "--metric", "auc")
    assert compared.code == 0 and "seeds 1, 2" in compared.out, "of two rules no seed is needed"


def test_runs_with_other_data_or_protocols_and_fewer_than_two_are_refused(llm4rec, members):
    other = llm4rec("train", "model=popularity", *NEWS[:1], "task.max_examples=30", "task.floors=[]").folder
    answer = llm4rec("ensemble", run_option([members[0], other]))
    assert answer.code == 2
    assert "n_examples is 40" in answer.err and "30 in" in answer.err
    text = llm4rec("train", "model=mean", "task=rating", "task.max_examples=30", "task.floors=[]").folder
    answer = llm4rec("ensemble", run_option([text, text]))
    assert answer.code == 2 and "has no stored scores of items" in answer.err
    for few in ((), (run_option(members[:1]),), ("combine=sum",)):
        assert llm4rec("ensemble", *few).code in (1, 2)


def test_rankings_are_combined_under_the_protocol_of_their_experiment(llm4rec):
    asked = ("task.mask_history=true", "task.max_examples=60", "task.stored_items=40", "task.floors=[]")
    members = [llm4rec("train", f"model={name}", *asked).folder for name in ("popularity", "item_knn")]
    answer = llm4rec("ensemble", run_option(members), "combine=rank", "task.floors=[]")
    assert answer.metrics["shown_as"] == "ensemble by rank: popularity + item_knn"
    assert (answer.metrics["mask_history"], answer.metrics["n_examples"]) == (True, 60)
    assert "truncated-lists" in answer.metrics["labels"]  # beyond forty items only chance is left


def test_a_member_evaluated_by_its_run_is_of_the_dataset_it_was_trained_on(llm4rec):
    asked = ("task.max_examples=60", "task.stored_items=40", "task.floors=[]")
    small = ("model.hidden_size=16", "model.inner_size=16", "trainer.epochs=1")
    trained = llm4rec("train", "model=sasrec", "dataset=demo_garden", *small, *asked).folder
    masked = llm4rec("eval", f"run={trained}", "task.mask_history=true", *asked).folder
    floor = llm4rec("train", "model=item_knn", "dataset=demo_garden", "task.mask_history=true", *asked).folder
    answer = llm4rec("ensemble", run_option([masked, floor]), "combine=rank", "task.floors=[]")
    assert (answer.metrics["dataset"], answer.metrics["mask_history"]) == ("demo_garden", True)


def test_weights_are_those_of_the_members_own_validation_runs(llm4rec):
    """Two variants of a model with the same name and seed: each member is matched by its weights or its settings."""
    typed = ("task.max_examples=60", "task.stored_items=40", "task.floors=[]")
    small = ("model.hidden_size=16", "model.inner_size=16", "trainer.epochs=1")
    first = llm4rec("train", "model=sasrec", *small, *typed).folder
    second = llm4rec("train", "model=sasrec", *small, "model.dropout=0.4", *typed).folder
    masked = llm4rec("eval", f"run={first}", "task.mask_history=true", *typed).folder
    near = llm4rec("train", "model=item_knn", "model.neighbours=5", "task.mask_history=true", *typed).folder
    members = run_option([masked, near])
    llm4rec("eval", f"run={second}", "task.mask_history=true", "split=valid", *typed)
    llm4rec("eval", "model=item_knn", "task.mask_history=true", "split=valid", *typed)
    refused = llm4rec("ensemble", members, "combine=grid", "task.floors=[]")
    assert refused.code == 2
    assert f"{masked} was not evaluated on validation" in refused.err
    llm4rec("eval", f"run={first}", "task.mask_history=true", "split=valid", *typed)
    refused = llm4rec("ensemble", members, "combine=grid", "task.floors=[]")
    assert f"{near} was not evaluated on validation" in refused.err, "another number of neighbours is another rule"
    llm4rec("eval", "model=item_knn", "model.neighbours=5", "task.mask_history=true", "split=valid", *typed)
    answer = llm4rec("ensemble", members, "combine=grid", "task.floors=[]")
    rows = read(answer.folder / "members.json")
    assert [row["run"] for row in rows] == [str(masked), str(near)]
    assert all(row["weight"] > 0 for row in rows)

"""`ensemble`: finished runs about the same impressions, combined into a run of their own."""

import pytest

from tests.support.driver import read

NEWS = ("dataset=demo_news", "task.max_examples=40", "task.floors=[]")


@pytest.fixture
def members(llm4rec):
    """Two floors that were asked about the same forty impressions."""
    return [llm4rec("train", f"model={name}", *NEWS).folder for name in ("popularity", "causal_popularity")]


def named(folders):
    return f"run=[{','.join(map(str, folders))}]"


def test_an_ensemble_is_a_run_beside_its_members(llm4rec, members):
    answer = llm4rec("ensemble", named(members), "task.floors=[]")
    found = answer.metrics
    assert found["shown_as"] == "ensemble by sum: popularity + causal_popularity"
    assert found["members"] == [str(folder) for folder in members]
    assert (found["dataset"], found["protocol"], found["n_examples"]) == ("demo_news", "impression", 40)
    assert set(found["labels"]) == {"synthetic", "subset"}
    assert {"popularity", "causal_popularity"} <= set(answer.out.split())


def test_other_members_and_ways_have_addresses_of_their_own_and_the_same_is_done_once(llm4rec, members):
    one, other = (
        llm4rec("ensemble", named(members), f"combine={way}", "task.floors=[]").folder for way in ("sum", "rank")
    )
    assert one != other
    before = read(one / "metrics.json")["seconds"]
    assert llm4rec("ensemble", named(members), "task.floors=[]").metrics["seconds"] == before


def test_weights_need_the_members_answers_about_validation(llm4rec, members):
    answer = llm4rec("ensemble", named(members), "combine=weights", "task.floors=[]")
    assert answer.code == 2
    assert "llm4rec eval model=popularity dataset=demo_news split=valid" in answer.err
    for name in ("popularity", "causal_popularity"):
        llm4rec("eval", f"model={name}", *NEWS, "split=valid")
    answer = llm4rec("ensemble", named(members), "combine=weights", "task.floors=[]")
    told = read(answer.folder / "members.json")
    assert [member["run"] for member in told] == [str(folder) for folder in members]
    assert all(member["weight"] >= 0 for member in told)


def test_runs_that_were_asked_something_else_are_refused(llm4rec, members):
    other = llm4rec("train", "model=popularity", *NEWS[:1], "task.max_examples=30", "task.floors=[]").folder
    answer = llm4rec("ensemble", named([members[0], other]))
    assert answer.code == 2
    assert "n_examples is 40" in answer.err and "30 in" in answer.err
    shop = llm4rec("train", "model=popularity", "task=direct", "task.max_examples=30", "task.floors=[]").folder
    answer = llm4rec("ensemble", named([shop, shop]))
    assert answer.code == 2 and "scores are kept of impressions alone" in answer.err


@pytest.mark.parametrize("arguments", [(), ("run=[popularity/demo_news]",), ("combine=sum",)])
def test_fewer_than_two_members_are_refused(llm4rec, members, arguments):
    assert llm4rec("ensemble", *arguments).code in (1, 2)

"""ChatGPTRec beside a made-up chat model: what is asked, what becomes of the answers, and what is told of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.config.overrides import prepared
from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.data.split import TRAIN, leave_one_out
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.store import Store
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.chatgptrec import model as chatgptrec
from llm4rec_cli.tasks import base, ranking, rating
from tests.builders import tiny_dataset
from tests.driver import compose, resolved
from tests.llm.speaking import Speaking

pytestmark = pytest.mark.numeric

TITLES = ["Alien", "Heat", "Seven", "Jaws", "Rocky", "Speed"]
SEQUENCES = [[0, 1, 2, 3], [4, 3, 2, 1, 0], [5, 0, 1, 2], [1, 2, 3, 4]]
N = sum(map(len, SEQUENCES))
PLAIN = tiny_dataset(
    SEQUENCES,
    TITLES,
    rating=[float(1 + i % 5) for i in range(N)],
    review_text=[f"review {i}" for i in range(N)],
    review_title=[f"headline {i}" for i in range(N)],
    explanation=[f"because {i}" for i in range(N)],
)
SPLIT = leave_one_out(replace(PLAIN, items=PLAIN.items.assign(title=TITLES)))
TEST = SPLIT.examples(SplitName.test)  # targets 3, 0, 2, 4
LISTED = replace(TEST, candidates=np.stack([np.append(t, np.setdiff1d(range(6), t)) for t in TEST.target]))


@pytest.fixture
def asking(tmp_path):
    """asking(task, says, *overrides): the model, and the chat model that it asks."""

    def make(task, says, *overrides):
        config = resolved("model=chatgptrec", f"task={task}", "model.answer=generate", *map(prepared, overrides))
        backend = Speaking(says)
        context = Context(config.model, SPLIT, 0, tmp_path, "cpu", task, config.llm)
        return chatgptrec.ChatGPTRec(context.config, context, backend, Store(tmp_path / "answers.sqlite")), backend

    return make


def test_a_written_list_is_ranked_as_it_stands_and_what_it_leaves_out_is_refused(asking):
    model, _ = asking("sequential", lambda _: '["Jaws", "Speed"]')
    scores = model.score(TEST)
    assert scores.shape == (4, 6)
    assert scores[0, 3] > scores[0, 5] > -torch.inf
    assert (scores[:, [0, 1, 2, 4]] == -torch.inf).all()


def test_candidates_are_scored_in_their_own_places(asking):
    model, _ = asking("direct", lambda _: '["Jaws", "Speed"]')
    scores = model.score(LISTED)
    assert scores[0].argmax() == 0  # the target Jaws stands first
    assert LISTED.candidates[1][scores[1].argmax()] == 3


def test_a_title_that_is_no_candidate_is_no_answer(asking):
    model, _ = asking("direct", lambda _: '["Jaws", "Heat"]')
    few = replace(LISTED, candidates=LISTED.candidates[:, :3])  # of user 3: Rocky, Alien, Heat
    assert model.score(few)[3].argmax() == 2
    assert model.account(few)["n_hallucinated"].tolist()[3] == 1


@pytest.mark.parametrize("said", ["", "I cannot help with that.", '["Nothing of the kind", "Neither this"]'])
def test_an_answer_without_an_item_is_invalid_and_a_miss(asking, said):
    model, _ = asking("sequential", lambda _: said)
    settings = compose("model=chatgptrec", "task=sequential", "task.bootstrap=10")
    found = ranking.evaluate(model, SPLIT, TEST, settings)
    assert found.metrics["hr@5"] == 0
    told = base.accounted(found, model, ranking, SPLIT, TEST, settings)
    assert told.metrics["answers/invalid"] == 1 and "valid/hr@5" not in told.metrics


def test_valid_answers_are_scored_apart_and_every_answer_is_kept(asking):
    model, _ = asking(
        "sequential", lambda r: '["Jaws"]' if '"Alien", "Heat", "Seven"' in r.messages[0]["content"] else ""
    )
    settings = compose("model=chatgptrec", "task=sequential", "task.bootstrap=10")
    found = base.accounted(ranking.evaluate(model, SPLIT, TEST, settings), model, ranking, SPLIT, TEST, settings)
    assert found.metrics["hr@1"] == 0.25 and found.metrics["valid/hr@1"] == 1
    assert found.metrics["answers/ok"] == 0.25 and found.metrics["answers/invalid"] == 0.75
    assert found.predictions["answer"].tolist() == ['["Jaws"]', "", "", ""]
    assert "valid/hr@1" in found.intervals


def test_a_title_said_twice_counts_once_and_is_told(asking):
    model, _ = asking("sequential", lambda _: '["Jaws", "jaws", "Speed"]')
    told = model.account(TEST)
    assert (told["n_duplicate"] == 1).all() and (told["n_listed"] == 3).all()
    assert (model.score(TEST)[0] > -torch.inf).sum() == 2


def test_the_first_answers_place_among_the_candidates_is_told(asking):
    def first(request):
        line = next(line for line in request.messages[0]["content"].splitlines() if line.startswith("The candidates"))
        return json.dumps([json.loads(line[line.index("[") :])[0]])

    model, _ = asking("direct", first)
    assert (model.account(LISTED)["first_place"] == 1).all()


def test_said_ratings_stand_and_others_become_the_training_mean(asking):
    said = dict(zip(["Jaws", "Alien", "Seven", "Rocky"], ["4", "no idea", "four stars", "9"], strict=True))
    model, _ = asking(
        "rating", lambda r: next(text for title, text in said.items() if title in r.messages[0]["content"])
    )
    given = model.rate(TEST)
    mean = SPLIT.dataset.interactions["rating"][SPLIT.assignment == TRAIN].mean()
    assert given.value.tolist() == pytest.approx([4, mean, 4, mean])
    assert np.isnan(given.said).tolist() == [False, True, False, True]
    assert model.account(TEST)["status"].tolist() == ["ok", "invalid", "repaired", "invalid"]


def test_likelihoods_of_stars_give_an_expected_value(asking):
    model, backend = asking("rating", lambda _: np.log([0.1, 0.2, 0.3, 0.2, 0.2]).tolist(), "model.answer=likelihood")
    assert model.rate(TEST).value.tolist() == pytest.approx([3.2] * 4)
    assert backend.asked[0].continuations == ("1", "2", "3", "4", "5")
    assert "status" not in model.account(TEST)


def test_likelihood_judges_the_candidates_titles_and_lists_none(asking):
    model, backend = asking("direct", lambda r: [-len(t) for t in r.continuations], "model.answer=likelihood")
    scores = model.score(LISTED)
    assert scores[0].tolist() == [-len(TITLES[i]) for i in LISTED.candidates[0]]
    assert "candidates" not in backend.asked[0].messages[0]["content"]


def test_pmi_takes_off_what_is_likely_without_the_history(asking):
    def says(request):
        told = "likes" in request.messages[0]["content"]
        return [(-1.0 if title == "Jaws" else -2.0) if told else -5.0 for title in request.continuations]

    model, backend = asking("direct", says, "model.answer=pmi")
    assert model.score(LISTED)[0].tolist() == [4, 3, 3, 3, 3, 3]
    assert len(backend.asked) == 5, "four users, and one question without any"


def test_pmi_judges_a_title_without_a_user_once(asking, monkeypatch):
    monkeypatch.setattr(chatgptrec, "AT_ONCE", 4)
    model, backend = asking("direct", lambda r: [-len(t) for t in r.continuations], "model.answer=pmi")
    for batch in (model.foresee(LISTED), LISTED[:2], LISTED[2:]):
        assert (model.score(batch) == 0).all()
    assert sorted(without_user(backend)) == [("Alien", "Heat", "Jaws", "Rocky"), ("Seven", "Speed")]


def without_user(backend):
    """What was judged without a user, request by request."""
    return [r.continuations for r in backend.asked if "likes" not in r.messages[0]["content"]]


def test_pmi_of_a_user_does_not_depend_on_who_else_is_asked(asking, monkeypatch):
    monkeypatch.setattr(chatgptrec, "AT_ONCE", 2)
    candidates = np.array([[3, 1], [0, 5], [2, 4], [4, 0]])  # Jaws and Heat, …

    def says(request):  # rounds by what is judged beside
        return [len(text) + len("".join(request.continuations)) / 100 for text in request.continuations]

    few, backend = asking("direct", says, "model.answer=pmi")
    scores = few.score(replace(LISTED, candidates=candidates)[:1])
    assert sorted(without_user(backend)) == [("Alien", "Heat"), ("Jaws", "Rocky")], "Seven and Speed are nobody's"
    all_of_them, _ = asking("direct", says, "model.answer=pmi")
    assert all_of_them.score(replace(LISTED, candidates=candidates))[0].tolist() == scores[0].tolist()


def test_pmi_of_stars_takes_off_what_is_likely_of_that_item(asking):
    def says(request):
        if "gave these stars" in request.messages[0]["content"]:
            return np.log([0.2, 0.2, 0.2, 0.2, 0.2])
        return np.log([0.1, 0.1, 0.1, 0.1, 0.1 if "Jaws" in request.messages[0]["content"] else 0.2])

    model, backend = asking("rating", says, "model.answer=pmi", "prompt.shots=1")
    assert model.rate(TEST).value.tolist() == pytest.approx([3, *[(1 + 2 + 3 + 4 + 5 / 2) / 4.5] * 3])
    assert len(backend.asked) == 8


def test_the_whole_catalogue_can_be_judged(asking):
    model, _ = asking("sequential", lambda r: range(len(r.continuations)), "model.answer=likelihood")
    assert model.score(TEST).tolist() == [list(range(6))] * 4


def test_texts_are_what_is_said_without_its_wrapping(asking):
    model, backend = asking("explanation", lambda _: '"A great film."', "llm.max_tokens=40")
    assert model.write(TEST, Written.explanation) == ["A great film."] * 4
    assert backend.asked[0].max_tokens == 40


def test_all_questions_are_asked_at_once_and_none_twice(asking):
    model, backend = asking("sequential", lambda _: '["Jaws"]')
    asked = model.foresee(TEST)
    assert len(backend.asked) == 4
    model.score(asked), model.account(asked)
    assert len(backend.asked) == 4
    assert model.spent()["requests"] == 4


def test_several_orders_are_asked_and_evaluated_each(asking):
    model, backend = asking("direct", lambda _: '["Jaws"]', "prompt.shuffles=3")
    asked = model.foresee(LISTED)
    assert len(asked) == 12 and asked.user.tolist() == np.repeat(LISTED.user, 3).tolist()
    assert len({json.dumps(r.messages) for r in backend.asked}) > 4
    assert len(model.account(asked)) == 12


def test_answers_do_not_depend_on_how_examples_are_batched(asking):
    model, _ = asking("direct", lambda r: json.dumps([TITLES[len(r.messages[0]["content"]) % 6]]))
    one = torch.cat([model.score(LISTED[np.array([i])]) for i in range(4)])
    assert torch.equal(one, model.score(LISTED))


def test_several_processes_are_refused(asking, monkeypatch):
    model, _ = asking("direct", lambda _: "")
    monkeypatch.setattr("llm4rec_cli.processes.world_size", lambda: 2)
    with pytest.raises(UsageError, match="one process"):
        model.foresee(LISTED)


def test_rating_errors_count_every_example_and_coverage_says_how_many_were_read(asking):
    said = iter(["4", "none", "4", "4"])
    model, _ = asking("rating", lambda _: next(said))
    settings = compose("model=chatgptrec", "task=rating", "task.bootstrap=10")
    found = rating.evaluate(model, SPLIT, TEST, settings)
    assert found.metrics["said/coverage"] == 0.75
    assert len(found.predictions) == 4

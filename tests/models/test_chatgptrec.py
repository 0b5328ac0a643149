"""ChatGPTRec with a fake chat model: its requests, what becomes of completions, and their accounting."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.conformance.builders import resolved, tiny_dataset
from llm4rec_cli.data.examples import single_example
from llm4rec_cli.data.split import TRAIN, leave_one_out
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.store import Store
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.chatgptrec import answering
from llm4rec_cli.models.chatgptrec import model as chatgptrec
from llm4rec_cli.tasks import base, ranking, rating
from tests.llm.fake_backend import FakeBackend
from tests.support.driver import compose, job_of

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
def build(tmp_path):
    """build(task, reply, *overrides): the model and its backend."""

    numbers = itertools.count()

    def make(task, reply, *overrides):
        config = resolved("model=chatgptrec", f"task={task}", "model.answer=generate", *map(hydra_override, overrides))
        backend = FakeBackend(reply)
        context = Context(config.model, SPLIT, 0, tmp_path, "cpu", task, config.llm)
        return chatgptrec.ChatGPTRec(
            context.config, context, backend, Store(tmp_path / f"answers {next(numbers)}.sqlite")
        ), backend

    return make


def test_a_generated_list_is_ranked_in_its_order_among_items_or_candidates(build):
    model, _ = build("sequential", lambda _: '["Jaws", "Speed"]')
    scores = model.score(TEST)
    assert scores.shape == (4, 6)
    assert scores[0, 3] > scores[0, 5] > -torch.inf
    assert (scores[:, [0, 1, 2, 4]] == -torch.inf).all()
    model, _ = build("direct", lambda _: '["Jaws", "Speed"]')
    scores = model.score(LISTED)
    assert scores[0].argmax() == 0  # the target Jaws is the first
    assert LISTED.candidates[1][scores[1].argmax()] == 3
    model, _ = build("direct", lambda _: '["Jaws", "Heat"]')
    few = replace(LISTED, candidates=LISTED.candidates[:, :3])  # of user 3: Rocky, Alien, Heat
    assert model.score(few)[3].argmax() == 2
    assert model.answer_details(few).columns["n_hallucinated"].tolist()[3] == 1
    model, _ = build("sequential", lambda _: '["Jaws", "jaws", "Speed"]')
    rows = model.answer_details(TEST).columns
    assert (rows["n_duplicate"] == 1).all() and (rows["n_listed"] == 3).all()
    assert (model.score(TEST)[0] > -torch.inf).sum() == 2


def test_added_items_are_listed_matched_and_leave_the_prior_of_the_catalogue_alone(build):
    items = pd.concat([SPLIT.dataset.items, pd.DataFrame({"item_id": ["n"], "title": ["Brazil"], "text": ["Brazil"]})])
    larger = replace(SPLIT, dataset=replace(SPLIT.dataset, items=items.reset_index(drop=True)))
    model, backend = build("sequential", lambda _: '["Brazil", "Jaws"]')
    model.add_items(larger)
    history = single_example(0, np.array([6, 0]), 0, 2)
    scores = model.score(history)
    assert scores.shape == (1, 7)
    assert scores[0, 6] > scores[0, 3] > -torch.inf
    assert "Brazil" in backend.requests[0].messages[-1]["content"]  # in the history
    assert model.score(replace(history, candidates=np.array([[2, 6]]))).argmax() == 1

    model, backend = build("sequential", lambda r: [1.0] * len(r.continuations), "model.answer=pmi")
    model.add_items(larger)
    model.score(history)
    scored = {request.continuations for request in backend.requests}
    assert scored == {(*TITLES, "Brazil"), tuple(sorted(TITLES)), ("Brazil",)}


def test_a_list_without_an_item_is_invalid_and_a_miss(build):
    settings = job_of("model=chatgptrec", "task=sequential", "task.bootstrap=10").config
    for text in ("", "I cannot help with that.", '["Nothing of the kind", "Neither this"]'):
        model, _ = build("sequential", lambda _, text=text: text)
        evaluation = ranking.evaluate(model, SPLIT, TEST, settings)
        assert evaluation.metrics["hr@5"] == 0
        detailed = base.with_answer_details(evaluation, model, ranking, SPLIT, TEST, settings)
        assert detailed.metrics["answers/invalid"] == 1 and "valid/hr@5" not in detailed.metrics


def test_valid_answers_have_their_own_metrics_and_every_answer_is_kept(build):
    model, _ = build(
        "sequential", lambda r: '["Jaws"]' if '"Alien", "Heat", "Seven"' in r.messages[0]["content"] else ""
    )
    settings = job_of("model=chatgptrec", "task=sequential", "task.bootstrap=10").config
    evaluation = base.with_answer_details(
        ranking.evaluate(model, SPLIT, TEST, settings), model, ranking, SPLIT, TEST, settings
    )
    assert evaluation.metrics["hr@1"] == 0.25 and evaluation.metrics["valid/hr@1"] == 1
    assert evaluation.metrics["answers/ok"] == 0.25 and evaluation.metrics["answers/invalid"] == 0.75
    assert evaluation.predictions["answer"].tolist() == ['["Jaws"]', "", "", ""]
    assert "valid/hr@1" in evaluation.intervals


def test_the_first_answers_place_is_recorded_and_batches_do_not_matter(build):
    def first_candidate(request):
        line = next(line for line in request.messages[0]["content"].splitlines() if line.startswith("The candidates"))
        return json.dumps([json.loads(line[line.index("[") :])[0]])

    model, _ = build("direct", first_candidate)
    assert (model.answer_details(LISTED).columns["first_place"] == 1).all()
    model, _ = build("direct", lambda r: json.dumps([TITLES[len(r.messages[0]["content"]) % 6]]))
    one_by_one = torch.cat([model.score(LISTED[np.array([i])]) for i in range(4)])
    assert torch.equal(one_by_one, model.score(LISTED))


def test_a_constrained_list_ranks_what_it_names_and_equal_titles_and_the_rest_tie(build):
    model, backend = build("direct", lambda r: json.dumps(["Speed", "Jaws"]), "model.answer=constrained")
    assert model.score(LISTED)[0].tolist() == [-1, -2, -2, -2, -2, 0]  # Jaws, Alien, Heat, Seven, Rocky, Speed
    request = backend.requests[0]
    assert request.choices == tuple(sorted(TITLES)) and request.listed == 10
    assert "The candidates" in request.messages[0]["content"]
    model, backend = build("direct", lambda r: json.dumps(["Jaws", "Heat"]), "model.answer=constrained")
    model.prompts.titles[5] = "Jaws"
    assert model.score(LISTED)[0].tolist() == [0, -2, -1, -2, -2, 0]
    assert backend.requests[0].choices == ("Alien", "Heat", "Jaws", "Rocky", "Seven")
    repeated, _ = build("direct", lambda r: json.dumps(["Jaws", "Heat", "Jaws"]), "model.answer=constrained")
    repeated.prompts.titles[5] = "Jaws"
    assert repeated.score(LISTED)[0, [0, 2]].tolist() == [0, -1], "its first place counts"


def test_constrained_ratings_are_one_of_the_stars_and_texts_are_free(build):
    model, backend = build("rating", lambda r: "4", "model.answer=constrained")
    assert model.rate(TEST).value.tolist() == [4] * 4
    assert (backend.requests[0].choices, backend.requests[0].listed) == (("1", "2", "3", "4", "5"), 0)
    model, backend = build("explanation", lambda _: "A great film.", "model.answer=constrained")
    assert model.config.answer.name == "generate"
    model, backend = build("explanation", lambda _: '"A great film."', "llm.max_tokens=40")
    assert model.write(TEST, Written.explanation) == ["A great film."] * 4
    assert backend.requests[0].max_tokens == 40


def test_ratings_that_are_invalid_count_as_the_training_mean(build):
    replies = dict(zip(["Jaws", "Alien", "Seven", "Rocky"], ["4", "no idea", "four stars", "9"], strict=True))
    model, _ = build(
        "rating", lambda r: next(text for title, text in replies.items() if title in r.messages[0]["content"])
    )
    ratings = model.rate(TEST)
    mean = SPLIT.dataset.interactions["rating"][SPLIT.assignment == TRAIN].mean()
    assert ratings.value.tolist() == pytest.approx([4, mean, 4, mean])
    assert np.isnan(ratings.parsed).tolist() == [False, True, False, True]
    assert model.answer_details(TEST).columns["status"].tolist() == ["ok", "invalid", "repaired", "invalid"]
    replies = iter(["4", "none", "4", "4"])
    model, _ = build("rating", lambda _: next(replies))
    settings = compose("model=chatgptrec", "task=rating", "task.bootstrap=10")
    evaluation = rating.evaluate(model, SPLIT, TEST, settings)
    assert evaluation.metrics["said/coverage"] == 0.75
    assert len(evaluation.predictions) == 4


def test_likelihoods_score_stars_candidates_or_the_catalogue(build):
    model, backend = build("rating", lambda _: np.log([0.1, 0.2, 0.3, 0.2, 0.2]).tolist(), "model.answer=likelihood")
    assert model.rate(TEST).value.tolist() == pytest.approx([3.2] * 4)
    assert backend.requests[0].continuations == ("1", "2", "3", "4", "5")
    assert model.answer_details(TEST) is None
    model, backend = build("direct", lambda r: [-len(t) for t in r.continuations], "model.answer=likelihood")
    scores = model.score(LISTED)
    assert scores[0].tolist() == [-len(TITLES[i]) for i in LISTED.candidates[0]]
    assert "candidates" not in backend.requests[0].messages[0]["content"]
    model, _ = build("sequential", lambda r: range(len(r.continuations)), "model.answer=likelihood")
    assert model.score(TEST).tolist() == [list(range(6))] * 4


def test_pmi_subtracts_the_likelihood_without_the_history_asked_once(build, monkeypatch):
    def reply(request):
        with_history = "likes" in request.messages[0]["content"]
        return [(-1.0 if title == "Jaws" else -2.0) if with_history else -5.0 for title in request.continuations]

    model, backend = build("direct", reply, "model.answer=pmi")
    assert model.score(LISTED)[0].tolist() == [4, 3, 3, 3, 3, 3]
    assert len(backend.requests) == 5, "four users, and one request without any"
    monkeypatch.setattr(answering, "PRIOR_BATCH", 4)
    model, backend = build("direct", lambda r: [-len(t) for t in r.continuations], "model.answer=pmi")
    for batch in (model.prepare_answers(LISTED), LISTED[:2], LISTED[2:]):
        assert (model.score(batch) == 0).all()
    assert sorted(without_user(backend)) == [("Alien", "Heat", "Jaws", "Rocky"), ("Seven", "Speed")]


def without_user(backend):
    """The continuations of each request without a user."""
    return [r.continuations for r in backend.requests if "likes" not in r.messages[0]["content"]]


def test_pmi_of_a_user_does_not_depend_on_others(build, monkeypatch):
    monkeypatch.setattr(answering, "PRIOR_BATCH", 2)
    candidates = np.array([[3, 1], [0, 5], [2, 4], [4, 0]])  # Jaws and Heat, …

    def reply(request):  # depends on the other continuations
        return [len(text) + len("".join(request.continuations)) / 100 for text in request.continuations]

    few, backend = build("direct", reply, "model.answer=pmi")
    scores = few.score(replace(LISTED, candidates=candidates)[:1])
    assert sorted(without_user(backend)) == [("Alien", "Heat"), ("Jaws", "Rocky")], "no user has Seven or Speed"
    many, _ = build("direct", reply, "model.answer=pmi")
    assert many.score(replace(LISTED, candidates=candidates))[0].tolist() == scores[0].tolist()


def test_pmi_of_stars_is_relative_to_that_item_without_the_user(build):
    def reply(request):
        if "gave these stars" in request.messages[0]["content"]:
            return np.log([0.2, 0.2, 0.2, 0.2, 0.2])
        return np.log([0.1, 0.1, 0.1, 0.1, 0.1 if "Jaws" in request.messages[0]["content"] else 0.2])

    model, backend = build("rating", reply, "model.answer=pmi", "prompt.shots=1")
    assert model.rate(TEST).value.tolist() == pytest.approx([3, *[(1 + 2 + 3 + 4 + 5 / 2) / 4.5] * 3])
    assert len(backend.requests) == 8


def test_all_requests_are_sent_at_once_none_twice_and_once_for_each_order(build, monkeypatch):
    model, backend = build("sequential", lambda _: '["Jaws"]')
    examples = model.prepare_answers(TEST)
    assert len(backend.requests) == 4
    model.score(examples), model.answer_details(examples)
    assert len(backend.requests) == 4
    assert model.usage_summary()["requests"] == 4
    model, backend = build("direct", lambda _: '["Jaws"]', "prompt.shuffles=3")
    examples = model.prepare_answers(LISTED)
    assert len(examples) == 12 and examples.user.tolist() == np.repeat(LISTED.user, 3).tolist()
    assert len({json.dumps(r.messages) for r in backend.requests}) > 4
    assert len(model.answer_details(examples).columns) == 12
    model, _ = build("direct", lambda _: "")
    monkeypatch.setattr("llm4rec_cli.processes.world_size", lambda: 2)
    with pytest.raises(UsageError, match="one process"):
        model.prepare_answers(LISTED)

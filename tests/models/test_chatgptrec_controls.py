"""Controls of a fake chat model: what each variation changes in its requests, and what they say about its ranks."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm.store import Store
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.chatgptrec import controls
from llm4rec_cli.models.chatgptrec import model as chatgptrec
from llm4rec_cli.run import stages
from tests.llm.fake_backend import FakeBackend
from tests.models.test_chatgptrec import LISTED, SPLIT, TEST, TITLES
from tests.support.driver import job_of

pytestmark = pytest.mark.numeric


@pytest.fixture
def measured(tmp_path):
    """measured(reply, *overrides, examples): the controls, and the backend."""

    numbers = itertools.count()

    def measure(reply, *overrides, examples=None, task="direct"):
        examples = (LISTED if task == "direct" else TEST) if examples is None else examples
        job = job_of("model=chatgptrec", f"task={task}", "model.answer=generate", *overrides)
        backend = FakeBackend(reply)
        context = Context(job.model, SPLIT, 0, tmp_path, "cpu", task, job.llm)
        model = chatgptrec.ChatGPTRec(job.model, context, backend, Store(tmp_path / f"answers {next(numbers)}.sqlite"))
        model.prepare_answers(examples)
        n_own = len(backend.requests)
        usage = model.usage.describe()
        result = stages.controls(job, SPLIT, model, examples)
        assert model.usage.describe() == usage, "the run's own"
        return result, backend.requests[n_own:]

    return measure


def listed_in(request):
    """The candidates as the prompt lists them."""
    (line,) = [text for text in request.messages[-1]["content"].splitlines() if text.count('", "') >= 5]
    return json.loads(line[line.index("[") :])


def test_a_model_that_repeats_the_list_depends_on_its_order_alone_and_one_with_a_taste_on_titles(measured):
    result, _ = measured(lambda request: json.dumps(listed_in(request)))
    order = result.order
    assert order.orders == 3
    assert order.share > 0.8  # with four users and six candidates; it would be 1 with many
    assert result.variations["another user's history"].difference == 0
    by_length = lambda request: json.dumps(sorted(listed_in(request), key=lambda t: (len(t), t)))  # noqa: E731
    result, _ = measured(by_length)
    assert result.order.share == 0
    assert result.wordings == 0
    assert [result.variations[name].difference for name in ("order 2", "wording short", "shuffled history")] == [0] * 3
    assert result.value != result.variations["neutral titles"].value


def test_each_variation_changes_one_thing(measured):
    result, requests = measured(lambda request: json.dumps(listed_in(request)))
    names = list(result.variations)
    assert names == [
        *("order 2", "order 3", "wording short", "wording adviser", "another user's history", "shuffled history"),
        "neutral titles",
    ]
    prompts = [request.messages[-1]["content"] for request in requests]
    assert sum("Which products fit?" in prompt for prompt in prompts) == 4
    assert sum("A customer would like" in prompt for prompt in prompts) == 4
    assert {message["role"] for r in requests for message in r.messages} == {"system", "user"}
    neutral = [r for r in requests if '"product ' in r.messages[-1]["content"]]
    assert len(neutral) == 4
    for request in neutral:
        assert set(listed_in(request)) == {f"product {letter}" for letter in "ABCDEF"}
        assert not any(title in request.messages[-1]["content"] for title in TITLES)
    assert result.llm.requests == len(requests)


def test_likelihoods_and_a_whole_catalogue_have_no_order(measured):
    reply = lambda request: [-len(title) for title in request.continuations]  # noqa: E731
    result, _ = measured(reply, "model.answer=likelihood")
    assert result.invalid is None and result.variations["wording short"].invalid is None
    assert result.order is None and not any(name.startswith("order") for name in result.variations)
    result, _ = measured(lambda request: '["Jaws", "Heat"]', task="sequential")
    assert result.order is None and "shuffled history" in result.variations


def test_the_correlation_with_popularity_is_spearmans(measured):
    popularity = SPLIT.for_ranking().train_counts()
    counts = dict(zip(TITLES, popularity.tolist(), strict=True))
    result, _ = measured(
        lambda request: [counts.get(title, 0) for title in request.continuations], "model.answer=likelihood"
    )
    assert result.popularity == pytest.approx(1)
    result, _ = measured(
        lambda request: [-counts.get(title, 0) for title in request.continuations],
        *("model.answer=likelihood", "model.prompts.noun=film"),
    )
    assert result.popularity == pytest.approx(-1)


STARS_OF_TEST = SPLIT.dataset.interactions["rating"].to_numpy()[TEST.row]


def test_a_rating_without_a_history_depends_on_wording_and_title_and_wordings_not_understood_show(measured):
    def reply(request):
        return "5" if "This user's stars for" in request.messages[-1]["content"] else "3"

    result, requests = measured(reply, task="rating")
    assert list(result.variations) == ["wording short", "wording adviser", "neutral titles"]
    assert len(requests) == 12
    squared = [((stars - STARS_OF_TEST) ** 2).mean() for stars in (3, 5)]
    assert (result.metric, result.value) == ("mse", pytest.approx(squared[0]))
    assert result.variations["wording short"].difference == pytest.approx(squared[1] - squared[0])
    assert result.wordings == pytest.approx(abs(squared[1] - squared[0]))
    assert result.invalid == 0
    assert result.order is None and result.popularity is None
    # Without it, the training mean in place of an answer would look like a better rating.
    result, _ = measured(lambda r: "no idea" if "A customer" in r.messages[-1]["content"] else "1", task="rating")
    assert result.variations["wording adviser"].invalid == 1
    assert result.variations["wording short"].invalid == result.invalid == 0
    assert result.variations["wording adviser"].difference < 0


def test_texts_are_compared_by_their_words(measured):
    result, _ = measured(lambda request: "because 3", task="explanation")
    assert result.metric == "rouge1"
    assert result.value == pytest.approx((1 + 3 * 0.5) / 4)  # all explanations begin with "because"
    assert list(result.variations)[-3:] == ["another user's history", "shuffled history", "neutral titles"]
    # Its prompt has the review alone: no history and no title.
    result, requests = measured(lambda request: "headline", task="review_summary")
    assert list(result.variations) == ["wording short", "wording adviser"]
    assert len(requests) == 8


def test_a_wording_that_is_refused_leaves_the_other_controls(measured):
    def reply(request):
        if "Which products fit?" in request.messages[-1]["content"]:
            raise UsageError("the longest prompt is too long", "set llm.context")
        return '["Jaws"]'

    result, _ = measured(reply)
    assert "wording short" not in result.variations
    assert {"wording adviser", "neutral titles"} <= result.variations.keys() and result.wordings is not None


def test_users_with_several_examples_are_resampled_as_users(measured):
    """Two copies of each example say no more than one."""
    once, _ = measured(lambda request: '["Jaws"]')
    twice, _ = measured(lambda request: '["Jaws"]', examples=LISTED[np.repeat(np.arange(4), 2)])
    assert once.users == twice.users == 4
    for name in ("wording short", "neutral titles"):
        assert vars(twice.variations[name]) == pytest.approx(vars(once.variations[name]))


def test_an_endpoint_is_asked_only_on_request():
    films = "dataset=ml-100k"
    for typed, users in (
        *(((), 10), ((films,), 50), ((films, "model.controls=7"), 7), ((films, "llm=openai"), 0)),
        *((("llm=openai",), 0), (("llm=openai", "model.controls=7"), 7)),
    ):
        job = job_of("model=chatgptrec", "task=direct", "model.answer=generate", *typed)
        assert job.model.control_examples(job.config) == users, typed


def test_the_share_of_the_order_is_that_of_its_variance():
    """Scores are a taste, drawn per candidate, plus as much that is drawn per order."""
    n, c = 400, 20
    zeros = np.zeros(n, dtype=np.int64)
    sample = Examples(zeros, zeros, zeros, zeros, zeros, zeros)

    class Drawn:
        def score(self, examples):
            taste, drawn = (np.random.default_rng(seed).normal(size=(n, c)) for seed in (9, int(examples.turn[0])))
            return torch.tensor(taste + drawn)

        def places(self, examples):
            return np.tile(np.arange(c), (n, 1))

    others = [replace(sample, turn=np.full(n, turn)) for turn in (1, 2)]
    order = controls.order(Drawn(), sample, others)
    assert order["share"] == pytest.approx(0.5, abs=0.03)
    assert order["mean_rank"] == pytest.approx([10.5] * 10, abs=0.6)


def test_the_share_of_the_order_by_hand():
    """Ranks 1 2 3, 1 2 3 and 1 3 2: within a candidate (0 + 2/3 + 2/3) / 3 / 2, between them 3 (1 + 1/9 + 4/9) / 2."""
    zero = np.zeros(1, dtype=np.int64)
    sample = Examples(zero, zero, zero, zero, zero, zero)

    class Listed:
        def score(self, examples):
            return torch.tensor([[3.0, 1.0, 2.0] if examples.turn[0] == 2 else [3.0, 2.0, 1.0]])

        def places(self, examples):
            return np.arange(3)[None]

    order = controls.order(Listed(), sample, [replace(sample, turn=zero + turn) for turn in (1, 2)])
    within, between = 4 / 9 / 2, 14 / 3 / 2
    assert order["share"] == pytest.approx(3 * within / (between + 2 * within))

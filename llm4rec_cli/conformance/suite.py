"""The tests of the conformance suite, for models with the values of their YAML, shrunk."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional
from transformers import set_seed

from llm4rec_cli import arithmetic
from llm4rec_cli.capabilities import BlockRanker, InnerProductRanker
from llm4rec_cli.config import questions
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.registry import config_class, load_module
from llm4rec_cli.config.schema import Precision, SplitName, Written
from llm4rec_cli.conformance.builders import resolved, tiny_dataset, tiny_log
from llm4rec_cli.conformance.meta import META, without_values
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.examples import Examples, single_example
from llm4rec_cli.data.likes import labelled_rows
from llm4rec_cli.data.split import TEST, TRAIN, Split, leave_one_out, split_dataset
from llm4rec_cli.data.tokens import with_tokens
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.models import base
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run.loader import COUNTS, Loader, RowData, Share, Shares
from llm4rec_cli.tasks.ranking import rank
from llm4rec_cli.text import features

Built = Callable[..., Any]
Composed = Callable[[str], Any]
TextOnly = Callable[[str, Any], Any]

CAPABILITIES = {"rank_catalogue", "rank_candidates", "rank_new_items", "rank_impressions", "rate", "like", "write"}
CAPABILITIES |= {"pretrain", "all"}
SIZES = {"hidden_size": 16, "inner_size": 16, "embedding_size": 16, "experts": 2, "layers": 1}
SMALL = {
    **SIZES,
    "max_length": 8,
    "dropout": 0.1,  # at 0.5 all of 16 elements may fall, and LayerNorm's gradient then explodes
}
STEPS = 30
N_ITEMS = 30
rng = np.random.default_rng(0)
SEQUENCES = [rng.integers(0, N_ITEMS, rng.integers(3, 15)).tolist() for _ in range(40)]
WORDS = ["red", "blue", "nail", "hair", "brush", "soap", "cream", "oil"]
TEXTS = [" ".join(rng.choice(WORDS, 3)) + f" {i}" for i in range(N_ITEMS)]
writer = np.random.default_rng(1)
N_INTERACTIONS = sum(map(len, SEQUENCES))
REVIEWS: dict[str, Any] = {
    "rating": writer.integers(1, 6, N_INTERACTIONS).astype(float),
    "review_text": [f"I like the {a}. The {b} is {c}." for a, b, c in writer.choice(WORDS, (N_INTERACTIONS, 3))],
    "review_title": [f"Very {word} {i}" for i, word in enumerate(writer.choice(WORDS, N_INTERACTIONS))],
    "explanation": [f"the {a} is {b} {i}" for i, (a, b) in enumerate(writer.choice(WORDS, (N_INTERACTIONS, 2)))],
    "feature": list(writer.choice(WORDS, N_INTERACTIONS)),
}
PLAIN = tiny_dataset(SEQUENCES, TEXTS, **REVIEWS)
TOKENS = [text.split()[: i % 4] for i, text in enumerate(TEXTS)]  # of some items none
SPLIT = leave_one_out(with_tokens(replace(PLAIN, items=PLAIN.items.assign(title=TEXTS)), TOKENS))
EXAMPLES = SPLIT.examples(SplitName.test)
LIKES = (3.0, 10)  # the rating above which an item is liked, and the length of histories
CANDIDATES = np.column_stack([EXAMPLES.target, rng.integers(0, N_ITEMS, (len(EXAMPLES), 6))])


def visit(number: int) -> tuple[str, int, float, list[int], str]:
    """Return an impression for `tiny_log`: every seventh has no history, and some share their time."""
    part, shown = "dev" if number >= 40 else "train", writer.choice(N_ITEMS, writer.integers(2, 9), replace=False)
    history = writer.integers(0, N_ITEMS, 0 if number % 7 == 0 else writer.integers(1, 12)).tolist()
    clicked = [1, 0, *writer.integers(0, 2, len(shown) - 2)]
    return part, number % 20, number // 3, history, " ".join(map("{}-{}".format, shown, writer.permutation(clicked)))


LOG = split_dataset(tiny_log([visit(number) for number in range(60)], TEXTS))
SHOWN = LOG.impressions(TEST)


def equal(one: Any, other: Any) -> bool:
    """Return whether two values of a batch, tensors or arrays, are equal."""
    return type(one) is type(other) and np.array_equal(np.asarray(one), np.asarray(other))


def model_of(name: str) -> str:
    """Return the model of a name, which may have a suffix after a comma: other settings of the same model."""
    return name.partition(",")[0]


def abilities(name: str) -> set[str]:
    """Return the capabilities of a model, `trainable` and `bf16_scoring`; `in_parts` if no row's loss depends on the
    other rows of a batch."""
    traits = config_class(model_of(name)).traits
    facts = {"trainable": traits.trainable, "in_parts": traits.trainable, "bf16_scoring": traits.bf16_scoring}
    return {*traits.capabilities, *(fact for fact, holds in facts.items() if holds)}


def about(*needed: str) -> Callable[[Any], Any]:
    """Let a test be run for each model with these abilities."""

    def mark(test: Any) -> Any:
        test.about = needed
        return test

    return mark


def is_tested(name: str, needed: tuple[str, ...]) -> bool:
    """Return whether a model is tested for these abilities; a module that imports the suite may have its own."""
    return abilities(name).issuperset(needed)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test for the models in MODELS of the module that imports it."""
    if (needed := getattr(metafunc.function, "about", None)) is not None:
        module: Any = metafunc.module
        metafunc.parametrize("name", [name for name in module.MODELS if module.is_tested(name, needed)])


def small(name: str, *more: str) -> Any:
    """Return a model's config as shipped, shrunk, and resolved as by the commands."""
    typed = [f"model.{f.name}={SMALL[f.name]}" for f in fields(config_class(name)) if f.name in SMALL]
    return resolved(f"model={name}", *typed, *more).model


@cache
def config_of(*overrides: str) -> Any:
    """Return the resolved config of a run; cached, not to be changed."""
    return resolved(*overrides)


@pytest.fixture
def composed() -> Composed:
    """A function from a name in MODELS to its config."""
    return small


@pytest.fixture
def text_only() -> TextOnly:
    """A function of a name and a model that leaves the part that reads texts, of one that also counts interactions."""
    return lambda name, model: model


@pytest.fixture
def learning_rate() -> Callable[[str], float]:
    """A function from a name to a learning rate by which the loss falls in STEPS steps."""
    return lambda name: 0.01


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Composed) -> Built:
    """A function of a name that builds the model as the commands do, with texts encoded by random vectors."""

    def encode(texts: list[str], *_: Any) -> Tensor:
        return torch.stack(
            [torch.randn(12, generator=torch.Generator().manual_seed(zlib.crc32(text.encode()))) for text in texts]
        )

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(features, "encoder_folder", lambda name, cache: (str(tmp_path), "no weights"))
    monkeypatch.setattr(features, "_encode", encode)
    llm = config_of().llm

    def build(name: str, seed: int = 0, split: Split = SPLIT, task: str = "sequential", **more: Any) -> Any:
        set_seed(seed)
        likes = labelled_rows(split, TRAIN, *LIKES) if task == "like" else None
        model = base.build(base.Context(composed(name), split, seed, tmp_path, "cpu", task, llm, rows=likes, **more))
        return model.eval() if isinstance(model, nn.Module) else model

    return build


@pytest.fixture(scope="module")
def models() -> dict[tuple[Any, ...], Any]:
    """The models that tests of a module share."""
    return {}


@pytest.fixture
def shared(models: dict[tuple[Any, ...], Any], built: Built) -> Built:
    """A function of a name to the model that all tests share which only read it: none may change its weights.

    It is built at the first call, and each call returns it in evaluation, with random numbers drawn from the seed.
    """

    def one(name: str, seed: int = 0, split: Split = SPLIT, task: str = "sequential") -> Any:
        key = (name, seed, id(split), task)
        if key not in models:
            models[key] = built(name, seed, split, task)
        set_seed(seed)
        model = models[key]
        return model.eval() if isinstance(model, nn.Module) else model

    return one


@pytest.fixture(scope="module")
def imported_without_torch(request: pytest.FixtureRequest) -> dict[str, str]:
    """The error of each model whose config class cannot be imported without torch."""
    program = (
        "import sys\n"
        "from llm4rec_cli.config.registry import config_class\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "for name in sys.argv[1:]:\n"
        "    try: config_class(name)\n"
        "    except ImportError as error: print(name, error, sep='\\t')\n"
    )
    names = {model_of(name) for name in request.module.MODELS}
    done = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=True)
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


@about()
def test_the_config_is_free_of_torch(name: str, imported_without_torch: dict[str, str]) -> None:
    assert name not in imported_without_torch


@about()
def test_capabilities_are_known_words(name: str) -> None:
    assert config_class(name).traits.capabilities
    assert config_class(name).traits.capabilities <= CAPABILITIES | questions.offered().plugins.keys()


@about()
def test_the_shipped_yaml_gives_every_setting(name: str) -> None:
    config = compose([f"model={model_of(name)}"]).config.model
    assert config.name == model_of(name)
    assert OmegaConf.missing_keys(config) == set()


@about()
def test_deviations_and_labels_are_words(name: str, composed: Composed) -> None:
    config = composed(name)
    tasks = [config_of(f"task={task}").task for task in ("rating", "direct")]
    deviations = [line for task in tasks for line in config.deviations(task, task.name).values()]
    lines = [*deviations, *config.labels("sequential")]
    assert all(isinstance(text, str) and text for text in lines)


@about("trainable")
def test_a_trainable_model_is_a_module_with_rows(name: str, shared: Built) -> None:
    model = shared(name)
    assert isinstance(model, nn.Module)
    assert isinstance(model, base.Trainable)
    assert len(model.training_rows()) > 0


@about("rank_catalogue")
def test_the_catalogue_is_scored_in_finite_float32(name: str, shared: Built) -> None:
    model = shared(name)
    scores = model.score(EXAMPLES)
    assert scores.shape == (len(EXAMPLES), N_ITEMS)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert not scores.requires_grad
    if isinstance(model, InnerProductRanker):
        assert_close(model.queries(EXAMPLES) @ model.item_vectors().t(), scores, rel=5e-6)
    if isinstance(model, BlockRanker):
        parts, blocks = zip(*model.score_blocks(EXAMPLES), strict=True)
        assert np.array_equal(
            np.concatenate([np.arange(len(EXAMPLES))[part] for part in parts]), np.arange(len(EXAMPLES))
        )
        assert_close(torch.cat(blocks), scores, rel=5e-6)


@about("rank_catalogue", "bf16_scoring")
@pytest.mark.parametrize("cpu", [arithmetic.CPU, "another"])
def test_scores_of_histories_encoded_in_bf16_are_products_in_fp32(
    name: str, cpu: str, built: Built, shared: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = shared(name).score(EXAMPLES)
    monkeypatch.setattr(arithmetic, "CPU", cpu)
    rounded = built(name, scoring=Precision.bf16).score(EXAMPLES)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert_close(rounded, exact, rel=0.05)
    distinct = [sum(len(row.unique()) for row in scores) for scores in (rounded, exact)]
    assert distinct[0] >= distinct[1]


@about("rank_catalogue")
def test_a_model_whose_scores_are_never_above_zero_declares_it(name: str, shared: Built) -> None:
    assert config_class(model_of(name)).traits.zero_ranks_high or shared(name).score(EXAMPLES).max() > 0


@about("rank_catalogue")
def test_scores_depend_on_the_example_and_not_on_its_batch(name: str, shared: Built) -> None:
    model = shared(name)
    whole = model.score(EXAMPLES)
    order = np.random.default_rng(1).permutation(len(EXAMPLES))
    assert_close(model.score(EXAMPLES[order]), whole[torch.from_numpy(order)], rel=5e-6)
    for size in (1, 7):
        parts = [model.score(EXAMPLES[slice(start, start + size)]) for start in range(0, len(EXAMPLES), size)]
        assert_close(torch.cat(parts), whole, rel=5e-6)


@about("rank_catalogue")
def test_metrics_do_not_depend_on_the_batch_size_or_the_order_of_users(name: str, shared: Built) -> None:
    model = shared(name)

    def metrics(examples: Examples, batch_size: int) -> dict[str, float]:
        ranks = rank(model, examples, mask_history=True, top_items=5, batch_size=batch_size)
        values = ranking_metrics(ranks.n_better, ranks.n_tied, ranks.n_candidates, [1, 5, 10])
        return {metric: float(value.mean()) for metric, value in values.items()}

    whole = metrics(EXAMPLES, 100)
    order = np.random.default_rng(1).permutation(len(EXAMPLES))
    for examples, batch_size in ((EXAMPLES, 1), (EXAMPLES, 7), (EXAMPLES[order], 100)):
        assert metrics(examples, batch_size) == pytest.approx(whole, abs=1e-6, rel=0)


@about("rank_catalogue", "rank_candidates")
def test_candidates_score_as_in_the_catalogue(name: str, shared: Built) -> None:
    model = shared(name)
    scores = model.score(replace(EXAMPLES, candidates=CANDIDATES))
    expected = model.score(EXAMPLES).gather(1, torch.from_numpy(CANDIDATES))
    assert_close(scores, expected, rel=5e-6)


@about("rank_catalogue")
def test_overwritten_scores_do_not_touch_the_next_ones(name: str, shared: Built) -> None:
    model = shared(name)
    first = model.score(EXAMPLES)
    kept = first.clone()
    first.fill_(-torch.inf)
    assert torch.equal(model.score(EXAMPLES), kept)


@about("rank_catalogue")
def test_the_target_is_not_read(name: str, shared: Built) -> None:
    model = shared(name)
    assert torch.equal(model.score(replace(EXAMPLES, target=EXAMPLES.target[::-1])), model.score(EXAMPLES))


@about("rank_catalogue")
def test_test_items_are_not_read(name: str, built: Built, shared: Built) -> None:
    changed = with_test_rows_permuted("item")
    assert not changed.dataset.interactions["item"].equals(SPLIT.dataset.interactions["item"])
    assert torch.equal(built(name, split=changed).score(EXAMPLES), shared(name).score(EXAMPLES))


@about("trainable")
def test_test_items_are_not_trained_on(name: str, built: Built, shared: Built) -> None:
    ours, changed = shared(name).training_rows(), built(name, split=with_test_rows_permuted("item")).training_rows()
    assert len(ours) == len(changed)
    batches = [rows.batch(0, list(range(len(rows)))) for rows in (ours, changed)]
    for key, values in batches[0].items():
        assert equal(values, batches[1][key]), key


@about("rank_catalogue")
def test_a_model_reads_the_user_id_only_if_it_declares_so(name: str, shared: Built) -> None:
    model = shared(name)
    same = torch.equal(model.score(replace(EXAMPLES, user=EXAMPLES.user[::-1].copy())), model.score(EXAMPLES))
    assert same != config_class(model_of(name)).traits.needs_user


@about("rank_catalogue")
def test_an_empty_history_is_scored_and_leaves_others_alone(name: str, shared: Built) -> None:
    model = shared(name)
    start = EXAMPLES.start.copy()
    start[[0, 5, len(start) - 1]] = EXAMPLES.end[[0, 5, len(start) - 1]]
    scores = model.score(replace(EXAMPLES, start=start))
    assert scores.isfinite().all()
    others = start == EXAMPLES.start
    assert_close(scores[others], model.score(EXAMPLES)[others], rel=5e-6)


def enlarged(*texts: str) -> Split:
    """Return SPLIT with items of these texts, which are also their titles, at the end of its catalogue."""
    added = pd.DataFrame({"item_id": [f"new{i}" for i in range(len(texts))], "title": texts, "text": texts})
    items = pd.concat([SPLIT.dataset.items, added], ignore_index=True)
    return replace(SPLIT, dataset=replace(SPLIT.dataset, items=items))


@about()
def test_a_model_that_ranks_new_items_says_so(name: str) -> None:
    members = vars(load_module(model_of(name), "model")).values()
    assert any(hasattr(member, "add_items") for member in members) == ("rank_new_items" in abilities(name))


@about("rank_new_items")
def test_new_items_change_no_score_of_the_catalogue(name: str, built: Built, text_only: TextOnly) -> None:
    for model in (built(name), text_only(name, built(name))):
        assert hasattr(model, "add_items")
        before = model.score(EXAMPLES)
        model.add_items(enlarged("red soap", "a word that no other text has"))
        scores = model.score(EXAMPLES)
        assert scores.shape == (len(EXAMPLES), N_ITEMS + 2)
        assert scores.dtype == torch.float32
        assert_close(scores[:, :N_ITEMS], before, rel=5e-6)


@about("rank_new_items")
def test_a_new_item_scores_as_the_one_with_its_text(name: str, built: Built, text_only: TextOnly) -> None:
    model = text_only(name, built(name))
    model.add_items(enlarged(TEXTS[7], "red soap", TEXTS[3]))
    flat, offsets = EXAMPLES.histories()
    new_to = [not {3, 7} & set(flat[start:end].tolist()) for start, end in pairwise(offsets)]  # a repetition is more
    examples = EXAMPLES[np.flatnonzero(new_to)]
    assert len(examples) > 10
    scores = model.score(examples)
    assert_close(scores[:, [N_ITEMS, N_ITEMS + 2]], scores[:, [7, 3]], rel=5e-6)
    candidates = np.tile([N_ITEMS + 1, 3, N_ITEMS + 2], (len(examples), 1))
    assert_close(model.score(replace(examples, candidates=candidates)), scores[:, candidates[0]], rel=5e-6)


@about("rank_new_items")
def test_a_new_item_in_a_history_is_read_as_the_one_with_its_text(name: str, built: Built, text_only: TextOnly) -> None:
    model = text_only(name, built(name))
    model.add_items(enlarged(TEXTS[7], "red soap"))
    known, typed, other = (
        model.score(single_example(0, np.array([3, item, 5]), 0, 3)) for item in (7, N_ITEMS, N_ITEMS + 1)
    )
    others = np.delete(np.arange(N_ITEMS + 2), [7, N_ITEMS])  # of the two, each history repeats one
    assert_close(typed[:, others], known[:, others], rel=5e-6)
    assert not torch.equal(other[:, others], known[:, others])


@about("rank_new_items")
def test_scores_of_new_items_do_not_depend_on_others(name: str, built: Built, text_only: TextOnly) -> None:
    texts = ["red soap", "blue nail", "a word that no other text has"]
    together, apart, backwards = (text_only(name, built(name)) for _ in range(3))
    together.add_items(enlarged(*texts))
    for n in (1, 2, 3):
        apart.add_items(enlarged(*texts[:n]))
    backwards.add_items(enlarged(*texts[::-1]))
    scores = together.score(EXAMPLES)
    assert_close(apart.score(EXAMPLES), scores, rel=5e-6)
    assert_close(backwards.score(EXAMPLES)[:, N_ITEMS:].flip(1), scores[:, N_ITEMS:], rel=5e-6)
    assert_close(together.score(EXAMPLES[3:4]), scores[3:4], rel=5e-6)


@about("rank_impressions")
def test_all_items_shown_are_scored_in_finite_float32(name: str, built: Built, shared: Built) -> None:
    model = shared(name, split=LOG)
    scores = model.score_shown(SHOWN)
    assert scores.shape == (SHOWN.n_shown.sum(),)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert not scores.requires_grad
    kept = scores.clone()
    scores.fill_(0)
    assert torch.equal(model.score_shown(SHOWN), kept)
    assert torch.equal(built(name, split=LOG).score_shown(SHOWN), kept)


@about("rank_impressions")
def test_impression_scores_do_not_depend_on_batch_and_order(name: str, shared: Built) -> None:
    model = shared(name, split=LOG)
    whole = model.score_shown(SHOWN).split(SHOWN.n_shown.tolist())
    order = np.random.default_rng(1).permutation(len(SHOWN))
    assert_close(model.score_shown(SHOWN[order]), torch.cat([whole[i] for i in order]), rel=5e-6)
    for size in (1, 7):
        parts = [model.score_shown(SHOWN[start : start + size]) for start in range(0, len(SHOWN), size)]
        assert_close(torch.cat(parts), torch.cat(whole), rel=5e-6)


@about("rank_impressions")
def test_an_impression_score_does_not_depend_on_position(name: str, shared: Built) -> None:
    model = shared(name, split=LOG)
    n = len(SHOWN.listed)
    backwards = replace(SHOWN, listed=SHOWN.listed[::-1].copy(), first=n - SHOWN.last, last=n - SHOWN.first)
    expected = torch.cat([scores.flip(0) for scores in model.score_shown(SHOWN).split(SHOWN.n_shown.tolist())])
    assert_close(model.score_shown(backwards), expected, rel=5e-6)


@about("rank_impressions")
def test_neither_own_clicks_nor_later_ones_are_read(name: str, built: Built, shared: Built) -> None:
    scores = shared(name, split=LOG).score_shown(SHOWN)
    rows: Any = LOG.dataset.impressions
    moment = float(np.median(SHOWN.time))
    unknown = (rows["part"] == "dev") & (rows["timestamp"] >= moment)
    turned = [
        np.setdiff1d(row.candidates, row.clicks) if hidden else row.clicks
        for row, hidden in zip(rows.itertuples(), unknown, strict=True)
    ]
    other = split_dataset(replace(LOG.dataset, impressions=rows.assign(clicks=turned)))
    known = np.repeat(SHOWN.time <= moment, SHOWN.n_shown)
    assert other.impressions(TEST).clicked()[known].tolist() != SHOWN.clicked()[known].tolist()
    assert torch.equal(built(name, split=other).score_shown(other.impressions(TEST))[known], scores[known])


@about("rank_impressions")
def test_an_impression_ranker_reads_the_user_id_only_if_it_declares_so(name: str, shared: Built) -> None:
    model = shared(name, split=LOG)
    same = torch.equal(model.score_shown(replace(SHOWN, user=SHOWN.user[::-1].copy())), model.score_shown(SHOWN))
    assert same != config_class(model_of(name)).traits.needs_user


@about("rank_impressions")
def test_a_history_affects_its_own_impression_only(name: str, shared: Built) -> None:
    model = shared(name, split=LOG)
    emptied = np.array([1, 4, len(SHOWN) - 1])
    start = SHOWN.start.copy()
    start[emptied] = SHOWN.end[emptied]
    scores, before = model.score_shown(replace(SHOWN, start=start)), model.score_shown(SHOWN)
    assert scores.isfinite().all()
    others = torch.from_numpy(np.repeat(~np.isin(np.arange(len(SHOWN)), emptied), SHOWN.n_shown))
    assert_close(scores[others], before[others], rel=5e-6)


def with_test_rows_permuted(*columns: str) -> Split:
    """Return the split with these columns permuted among the evaluated interactions."""
    other = np.random.default_rng(2).permutation(EXAMPLES.row)
    changed = SPLIT.dataset.interactions.copy()
    for name in columns:
        values = changed[name].to_numpy(copy=True)
        values[EXAMPLES.row] = values[other]
        changed[name] = values
    return replace(SPLIT, dataset=replace(SPLIT.dataset, interactions=changed))


@about("rate")
def test_ratings_are_finite_numbers_one_an_example(name: str, shared: Built) -> None:
    value = shared(name).rate(EXAMPLES).value
    assert isinstance(value, np.ndarray)
    assert value.shape == (len(EXAMPLES),)
    assert np.isfinite(value).all()


@about("rate")
def test_ratings_depend_on_the_example_and_not_on_its_batch(name: str, shared: Built) -> None:
    model = shared(name)
    whole = model.rate(EXAMPLES).value
    order = np.random.default_rng(1).permutation(len(EXAMPLES))
    assert_close(torch.from_numpy(model.rate(EXAMPLES[order]).value), torch.from_numpy(whole[order]), rel=1e-5)
    parts = [model.rate(EXAMPLES[start : start + 7]).value for start in range(0, len(EXAMPLES), 7)]
    assert_close(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(whole), rel=1e-5)


@about("rate")
def test_a_rating_does_not_depend_on_the_test_rating_or_review(name: str, built: Built, shared: Built) -> None:
    changed = with_test_rows_permuted(*REVIEWS)
    assert not changed.dataset.interactions["rating"].equals(SPLIT.dataset.interactions["rating"])
    np.testing.assert_array_equal(built(name, split=changed).rate(EXAMPLES).value, shared(name).rate(EXAMPLES).value)


def likes_of(model: Any, examples: Examples) -> Tensor:
    return torch.from_numpy(np.asarray(model.like(examples).score))


@about("like")
def test_likes_are_scored_in_finite_numbers_one_an_example(name: str, shared: Built) -> None:
    likes = shared(name, task="like").like(labelled_rows(SPLIT, TEST, *LIKES).examples)
    assert likes.score.shape == (len(EXAMPLES),)
    assert np.isfinite(likes.score).all()
    if likes.probability is not None:
        assert likes.probability.shape == (len(EXAMPLES),)
        assert ((likes.probability >= 0) & (likes.probability <= 1)).all()


@about("like")
def test_a_like_depends_on_the_example_and_not_on_its_batch(name: str, shared: Built) -> None:
    model, examples = shared(name, task="like"), labelled_rows(SPLIT, TEST, *LIKES).examples
    whole = likes_of(model, examples)
    order = np.random.default_rng(1).permutation(len(examples))
    assert_close(likes_of(model, examples[order]), whole[order], rel=1e-5)
    parts = [likes_of(model, examples[start : start + 7]) for start in range(0, len(examples), 7)]
    assert_close(torch.cat(parts), whole, rel=1e-5)


@about("like")
def test_a_like_does_not_depend_on_the_test_rating(name: str, built: Built) -> None:
    changed = with_test_rows_permuted("rating")
    answers = [
        likes_of(built(name, split=split, task="like"), labelled_rows(split, TEST, *LIKES).examples)
        for split in (SPLIT, changed)
    ]
    assert torch.equal(*answers)


@about("write")
@pytest.mark.parametrize("written", list(Written))
def test_texts_are_written_one_an_example_the_same_in_any_batch(name: str, written: Written, shared: Built) -> None:
    model = shared(name)
    whole = model.write(EXAMPLES, written)
    assert len(whole) == len(EXAMPLES)
    assert all(isinstance(text, str) for text in whole)
    order = np.random.default_rng(1).permutation(len(EXAMPLES))
    assert model.write(EXAMPLES[order], written) == [whole[i] for i in order]
    parts = [model.write(EXAMPLES[start : start + 7], written) for start in range(0, len(EXAMPLES), 7)]
    assert [text for part in parts for text in part] == whole


@about("write")
@pytest.mark.parametrize("written", list(Written))
def test_a_text_does_not_depend_on_its_reference(name: str, written: Written, built: Built, shared: Built) -> None:
    changed = with_test_rows_permuted(written.value)
    assert built(name, split=changed).write(EXAMPLES, written) == shared(name).write(EXAMPLES, written)


@about("trainable")
def test_every_trainable_parameter_gets_a_finite_gradient(name: str, built: Built) -> None:
    model = built(name).train()
    rows = model.training_rows()
    out = model(**rows.batch(0, list(range(len(rows)))))
    assert out["loss"].shape == ()
    out["loss"].backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@about("trainable")
def test_a_training_step_never_waits_for_the_device(name: str, built: Built) -> None:
    model = built(name).train()
    rows = model.training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    with without_values():
        model.to(META)(**on_device(batch, META))["loss"].backward()


@about("trainable")
def test_the_paths_of_an_accelerator_have_the_loss_and_gradients_of_those_of_a_cpu(
    name: str, shared: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared(name).eval()
    rows = model.training_rows()
    batch = rows.batch(0, list(range(len(rows))))
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    results = []
    for cpu in (arithmetic.CPU, "another"):
        monkeypatch.setattr(arithmetic, "CPU", cpu)
        loss = model(**batch)["loss"]
        gradients = torch.autograd.grad(loss, [*weights.values()], allow_unused=True, materialize_grads=True)
        by_module: dict[str, list[Tensor]] = {"loss": [loss]}
        for name, gradient in zip(weights, gradients, strict=True):
            by_module.setdefault(name.rpartition(".")[0], []).append(gradient.flatten())
        # By module, as a gradient that is 0 but for rounding, of the bias of keys, has no scale of its own.
        results.append([torch.cat([x.view(-1) for x in each]) for each in by_module.values()])
    for of_cpu, of_accelerator in zip(*results, strict=True):
        assert_close(of_accelerator, of_cpu, rel=1e-5)


@about("trainable", "rank_catalogue")
def test_the_paths_of_an_accelerator_have_the_scores_of_those_of_a_cpu(
    name: str, shared: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared(name)
    expected = model.score(EXAMPLES)
    monkeypatch.setattr(arithmetic, "CPU", "another")
    assert_close(model.score(EXAMPLES), expected, rel=1e-5)


@about("trainable")
def test_attention_takes_at_most_eight_operators_on_an_accelerator(
    name: str, shared: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = shared(name).train(), 0
    rows = model.training_rows()
    fused = functional.scaled_dot_product_attention

    def counted(*args: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return fused(*args, **options)

    monkeypatch.setattr(arithmetic, "CPU", "another")
    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    numbers = []
    for indices in ([0], range(len(rows))):
        calls = 0
        model(**rows.batch(0, list(indices)))
        numbers.append(calls)
    of_one, of_all = numbers
    assert of_all <= 8 * of_one


@about("trainable")
def test_saved_weights_restore_the_answers(name: str, built: Built, shared: Built) -> None:
    def answers(model: Any) -> Tensor:
        examples = EXAMPLES if "rank_catalogue" in abilities(name) else replace(EXAMPLES, candidates=CANDIDATES)
        return model.score(examples) if hasattr(model, "score") else torch.from_numpy(model.rate(EXAMPLES).value)

    model, other = shared(name), built(name)
    with torch.no_grad():
        for weight in other.parameters():
            if weight.requires_grad:  # frozen ones may be left to the backbone
                weight += 0.1 * torch.randn_like(weight)
    assert not torch.equal(answers(model), answers(other.eval()))
    other.load_state_dict(model.state_dict())
    assert_close(answers(other.eval()), answers(model), rel=1e-6)


@about("trainable")
def test_a_batch_is_a_function_of_the_epoch_and_its_rows(name: str, built: Built, shared: Built) -> None:
    rows, others = shared(name).training_rows(), built(name).training_rows()
    indices = list(range(0, len(rows), 2))
    for epoch in (3, 0):  # the epochs of `others` are in another order
        others.batch(epoch + 1, indices[:3])
        first, second = rows.batch(epoch, indices), others.batch(epoch, indices)
        assert first.keys() == second.keys()
        assert all(equal(first[key], second[key]) for key in first)


@about("trainable")
def test_workers_build_the_batches_of_the_training_process(name: str, shared: Built) -> None:
    rows = shared(name).training_rows()
    alone, by_workers = (
        Loader(RowData(rows), Shares(len(rows), -(-len(rows) // 3), seed=0), workers) for workers in (0, 2)
    )
    for epoch in (0, 2):
        alone.set_epoch(epoch)
        by_workers.set_epoch(epoch)
        for (batch,), (other,) in zip(alone, by_workers, strict=True):
            assert batch.keys() == other.keys()
            assert all(equal(batch[key], other[key]) for key in batch)


@about("trainable", "in_parts")
def test_micro_batches_weighted_by_their_terms_have_the_gradient_of_the_batch(name: str, shared: Built) -> None:
    model = shared(name)
    rows = model.training_rows()
    share = Share(0, [list(range(min(len(rows), 23)))], 0, counts=True)
    (batch,), parts = (RowData(rows, size).__getitems__(share) for size in (None, 9))
    assert len(parts) == 3  # of 8, 8 and 7 rows
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def summed(parts: list[Any]) -> tuple[Tensor, Tensor, int]:
        outputs = [model(**{key: x for key, x in part.items() if key != COUNTS}) for part in parts]
        loss = torch.stack([each["loss"] * each["n_terms"] for each in outputs]).sum()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        n = sum(each["n_terms"] for each in outputs)
        return loss / n, torch.cat([x.flatten() for x in gradients]) / n, n

    (loss, gradient, n), (of_parts, gradient_of_parts, n_of_parts) = summed([batch]), summed(parts)
    assert n == n_of_parts > 0
    assert gradient.abs().max() > 1e-3  # so that a wrong weight shows
    torch.testing.assert_close([of_parts, gradient_of_parts], [loss, gradient], rtol=1e-6, atol=1e-6)


@about("trainable")
def test_the_loss_falls_in_a_few_steps(name: str, built: Built, learning_rate: Callable[[str], float]) -> None:
    model = built(name)
    rows = model.training_rows()
    batch = rows.batch(0, list(range(min(len(rows), 50))))
    before = model(**batch)["loss"].item()
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate(name))
    for step in range(STEPS):
        optimiser.zero_grad()
        model.train()(**batch)["loss"].backward()
        optimiser.step()
        if step % 5 == 4 and model.eval()(**batch)["loss"].item() < 0.95 * before:
            return
    raise AssertionError(f"after {STEPS} steps the loss is not below 0.95 of {before}")

"""The conformance suite for every model of ours.

A new model is checked as soon as it has a YAML.
"""

import json
import zlib
from dataclasses import replace
from functools import cache

import pytest

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.conformance import *  # noqa: F403
from llm4rec_cli.conformance import suite
from llm4rec_cli.conformance.suite import N_ITEMS, SEQUENCES, SPLIT, WORDS, model_of
from llm4rec_cli.llm import completions
from tests.llm.fake_backend import FakeBackend
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric

SAMPLED = {f", {loss}": [f"model.loss={loss}", "model.negatives=3"] for loss in ("binary", "sampled_softmax", "gbce")}
SETTINGS = {  # suffix of a model's name -> overrides
    "": [],
    ", mean of titles": ["model.aggregation=mean"],
    ", pre-trained": ["task=pretrain"],
    ", with tokens": ["model.tokens=true"],
    ", head over items": ["model.answer=item_head"],
    ", all weights": ["model.tuning=full"],
    ", yes or no": ["model.answer=yes_no"],
    ", grounded titles": ["model.score=grounded", "model.title_tokens=4"],
    **SAMPLED,
    **{f", {kind} vectors": [f"model.vectors={kind}"] for kind in ("initial", "frozen", "adapted")},
    ", text vectors": ["model.text=vectors"],
    **{f", {name} vectors": [f"model.encoder.name={name}"] for name in ("tfidf", "random")},
    ", whitened vectors": ["model.encoder.dimension=4", "model.encoder.whiten=true"],
}
VARIANTS = {  # what each is tested for
    "nrms, mean of titles": {"rank_impressions", "trainable"},
    "sasrec, with tokens": {"rank_catalogue", "trainable"},
    "sasrec, binary": {"trainable"},
    "bert4rec, sampled_softmax": {"trainable"},
    "bsarec, gbce": {"trainable"},
    "unisrec, pre-trained": {"rank_new_items", "trainable"},
    "sasrec, initial vectors": {"trainable"},
    "sasrec, frozen vectors": {"rank_catalogue", "rank_candidates", "trainable"},
    "sasrec, adapted vectors": {"rank_catalogue", "trainable"},
    "transition_text, text vectors": {"rank_catalogue", "rank_candidates", "rank_new_items"},
    "unisrec, tfidf vectors": {"rank_new_items", "trainable"},
    "fdsa, random vectors": {"rank_catalogue", "trainable"},
    "evidence_mix, whitened vectors": {"rank_new_items", "trainable"},
    "frozen_text, whitened vectors": {"rank_new_items"},
    "tuned_lm, head over items": {"rank_catalogue", "rank_candidates", "trainable"},
    "tuned_lm, all weights": {"trainable"},
    "tuned_lm, yes or no": {"rank_impressions"},
    "tuned_lm, grounded titles": {"rank_catalogue", "rank_candidates"},
}
PRETRAINABLE = {f"{n}, pre-trained" for n in model_names() if "pretrain" in config_class(n).traits.capabilities}
assert VARIANTS.keys() >= PRETRAINABLE
MODELS = [*model_names(), *VARIANTS]
SMALL_PROMPT4NR = [  # on a tiny backbone
    "model.max_length=64",
    "model.titles=2",
    "model.negatives=1",
    "model.warm_up={epochs:0,batch_size:1,learning_rate:1}",
]
MORE = {
    "p5": [f"model.samples.{kind}=1" for kind in ("sequential_item", "sequential_candidates", "sequential_yes_no")],
    "prompt4nr": SMALL_PROMPT4NR,
    "rpg": ["model.ids.codes=4", "model.ids.codebook=8"],
    "sid_gpt": ["model.ids.codes=2", "model.ids.codebook=8"],
    "tiger": ["model.ids.codes=2", "model.ids.codebook=8", "model.user_tokens=50"],
    # Lists that a chat model writes depend on the order of candidates and may omit some.
    "chatgptrec": ["model.answer=likelihood"],
}


def is_tested(name, needed):
    """Return whether a model is tested for these abilities: a variant for some, an ensemble by test_ensemble.py."""
    if name in VARIANTS:
        in_parts = set() if name in PRETRAINABLE else {"in_parts"}  # there, rows are negatives of each other
        return bool(needed) and (VARIANTS[name] | in_parts).issuperset(needed)
    return suite.is_tested(name, needed) and (name != "ensemble" or needed in ((), ("trainable",)))


def answer(request):
    """Return a fake chat model's answer: random, but the same for the same request."""
    prompt = json.dumps(request.messages)
    if request.continuations is not None:
        return [zlib.crc32(f"{prompt} {text}".encode()) / 2**32 for text in request.continuations]
    return f"It is {WORDS[zlib.crc32(prompt.encode()) % len(WORDS)]}."


@pytest.fixture(autouse=True)
def chat_model(monkeypatch):
    monkeypatch.setattr(completions, "build_backend", lambda *_: FakeBackend(answer))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def composed(tmp_path, bert, causal):
    lists = [f"u{user},i{item}" for user in range(len(SEQUENCES)) for item in range(user % N_ITEMS + 1)]
    (tmp_path / "lists.csv").write_text("\n".join(["user,item", *lists]))
    files = {"external": {"file": str(tmp_path / "lists.csv")}}
    files |= {model: {"backbone": str(bert)} for model in ("prompt4nr", "nrms")}
    files |= {"tuned_lm": {"backbone": str(causal)}}

    def of(name):
        model = model_of(name)
        return replace(shrunk(name), **files.get(model, {}))

    return of


@cache
def shrunk(name):
    model = model_of(name)
    return suite.small(model, *MORE.get(model, []), *SETTINGS[name.removeprefix(model)])


@pytest.fixture
def text_only():
    def of(name, model):
        if model_of(name) == "evidence_mix":
            for counts in (model.evidence.following, model.evidence.preceding):
                counts.total, counts.sums = counts.total * 0, counts.sums * 0
            model.evidence.log_counts[:] = 0
            model.ids.weight.data.zero_()
        if model_of(name) == "transition_text":
            model.text_weight, model.transitions = 0.5, model.transitions * 0
        return model

    return of


@pytest.fixture
def learning_rate():
    return lambda name: 0.003 if name in ("nrms", "prompt4nr") else 0.01  # a BERT


def test_the_data_of_the_suite_have_times_that_ascend_within_each_user():
    for times in (rows["timestamp"] for _, rows in SPLIT.dataset.interactions.groupby("user")):
        assert times.is_monotonic_increasing and times.is_unique

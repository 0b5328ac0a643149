"""`enrich`, and runs with its tokens: as text, as features, permuted; never requested implicitly."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from llm4rec_cli.llm import completions
from tests.llm.fake_backend import FakeBackend
from tests.support.driver import TINY

LLM = ("llm=openai", "llm.model=speaking")
OF_SHOP = ("dataset=shop", *LLM)
TRAIN = ("train", *TINY, *OF_SHOP)
WITH_TOKENS = (*TRAIN, "dataset.text=enriched", "model.tokens=true")
SHOP = """\
defaults: [_dataset, _self_]
name: shop
reader: table
raw_dir: raw
domains: {shop: {interactions: log.csv, items: items.csv}}
user_core: 0
item_core: 0
"""
N_ITEMS, N_USERS = 12, 30


def tags(request):
    """A valid completion made of the words of an item's text."""
    item = json.loads(re.search(r"\{.*\}", request.messages[-1]["content"]).group())
    colour, thing = item["title"].split()
    return json.dumps({"use": [item["categories"]], "audience": [f"{colour} lovers"], "key_words": [f"very {thing}"]})


def shop(folder):
    """`dataset=shop` below a folder: items by colour and thing, users who take what they like."""
    rng = np.random.default_rng(0)
    titles = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("tent", "kite", "brush", "soap")]
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": titles})
    items["categories"] = ["Camping", "Toys", "Beauty", "Beauty"] * 3
    users = np.repeat(np.arange(N_USERS), 6)
    log = pd.DataFrame({"user_id": users, "item_id": [f"i{i}" for i in rng.integers(0, N_ITEMS, len(users))]})
    (folder / "raw").mkdir()
    (folder / "conf/dataset").mkdir(parents=True)
    items.to_csv(folder / "raw/items.csv", index=False)
    log.assign(timestamp=range(len(log))).to_csv(folder / "raw/log.csv", index=False)
    (folder / "conf/dataset/shop.yaml").write_text(SHOP)


@pytest.fixture
def chat(monkeypatch):
    """A backend in place of llm.backend; it records the requests."""
    fake = FakeBackend(tags)
    monkeypatch.setattr(completions, "build_backend", lambda *_: fake)
    return fake


@pytest.fixture
def store(tmp_path):
    """The shop, and a store of this test's own: an override."""
    shop(tmp_path)
    return f"llm.store={tmp_path / 'answers.sqlite'}"


@pytest.fixture
def enriched(llm4rec, chat, store):
    """llm4rec with a store that has the shop's tokens."""
    answer = llm4rec("enrich", *OF_SHOP, store)
    assert answer.code == 0, answer.err
    chat.requests.clear()
    return lambda *arguments: llm4rec(*arguments, store)


def test_each_item_is_requested_once(llm4rec, chat, store):
    answer = llm4rec("enrich", *OF_SHOP, store)
    assert answer.code == 0, answer.err
    assert len(chat.requests) == len({str(request) for request in chat.requests}) == 12
    assert re.search(r"completed now +12\b", answer.out)
    assert re.search(r"with a valid completion +100\.0 %", answer.out)
    again = llm4rec("enrich", *OF_SHOP, store)
    assert again.code == 0
    assert re.search(r"completed before +12\b", again.out)
    assert len(chat.requests) == 12


def test_missing_tokens_are_an_error_that_names_the_command_and_no_request_is_sent(llm4rec, chat, store):
    without_effect = ("dataset.control=shuffle_tokens", "seed=3", "trainer.eval_batch_size=8")
    answer = llm4rec(*WITH_TOKENS, "dataset.seed=4", store, *without_effect)
    assert answer.code == 1
    assert "12 of 12 item texts have no tokens by llm.model=speaking" in answer.err
    command = answer.err.split("try: llm4rec ")[1].split()
    assert command == ["enrich", *OF_SHOP, "dataset.seed=4", store]
    assert chat.requests == []
    assert llm4rec(*command).code == 0
    assert llm4rec(*WITH_TOKENS, "dataset.seed=4", store, *without_effect).code == 0


def test_sasrec_learns_from_tokens(enriched, chat):
    plain, with_tokens = enriched(*TRAIN).metrics, enriched(*WITH_TOKENS).metrics
    assert with_tokens["shown_as"] == "sasrec + tokens"
    assert plain["enrichment"] is None
    assert with_tokens["enrichment"]["requests"] == 12 and with_tokens["enrichment"]["answer_tokens"] > 0
    assert "llm-tokens" in with_tokens["labels"] and "llm-tokens" not in plain["labels"]
    n_tokens, rest = divmod(with_tokens["n_parameters"] - plain["n_parameters"], 16)
    assert (n_tokens, rest) == (with_tokens["tokens"]["shared"], 0)
    assert with_tokens["tokens"]["items"] == 12
    assert with_tokens["metrics"] != plain["metrics"]
    assert chat.requests == []


def test_tokens_are_permuted_among_items_and_nothing_else_is(enriched):
    true, control = (enriched(*WITH_TOKENS, *more) for more in ((), ("dataset.control=shuffle_tokens",)))
    assert "control-shuffle_tokens" in control.metrics["labels"]
    assert control.metrics["tokens"] == true.metrics["tokens"]
    assert control.metrics["n_parameters"] == true.metrics["n_parameters"]
    assert control.metrics["metrics"] != true.metrics["metrics"]
    predictions = [pd.read_parquet(run.folder / "predictions.parquet") for run in (true, control)]
    assert predictions[0]["target"].equals(predictions[1]["target"])


def test_sasrec_learns_from_attributes_without_a_chat_model(llm4rec, tmp_path, chat):
    shop(tmp_path)
    true = llm4rec(*TRAIN, "dataset.text=attributes", "model.tokens=true").metrics
    assert true["tokens"]["shared"] == 3  # camping, toys, beauty; no item has a brand
    assert "llm-tokens" not in true["labels"] and not chat.requests
    (tmp_path / "raw/items.csv").write_text("item_id,title\ni0,a tent\n")
    refused = llm4rec(*TRAIN, "dataset.text=attributes", "model.tokens=true")
    assert "'shop' has no item brands or categories" in refused.err


def test_texts_of_attributes_are_permuted_with_them(llm4rec, tmp_path):
    shop(tmp_path)
    by_text = ("train", "model=transition_text", "dataset=shop", "dataset.text=attributes", "task.floors=[]")
    true, control = (llm4rec(*by_text, *more).metrics for more in ((), ("dataset.control=shuffle_tokens",)))
    assert control["metrics"] != true["metrics"]


def test_a_trained_run_is_evaluated_with_the_tokens_of_its_training(enriched, chat, llm4rec, tmp_path):
    trained = enriched(*WITH_TOKENS)
    command = ("eval", f"run={trained.folder}", "split=valid", "task.floors=[]")
    answer = enriched(*command)
    assert answer.code == 0, answer.err
    assert "llm-tokens" in answer.metrics["labels"]
    chat.reply = lambda request: "Use: nothing"
    other = f"llm.store={tmp_path / 'other.sqlite'}"
    assert llm4rec("enrich", *OF_SHOP, other).code == 0
    refused = llm4rec(*command, other)
    assert refused.code == 1
    assert "other item tokens" in refused.err
    assert llm4rec(*WITH_TOKENS, other).folder != trained.folder


def test_a_model_that_reads_no_text_is_not_marked_by_what_was_written(enriched):
    metrics = enriched("train", *OF_SHOP, "model=popularity", "task.floors=[]", "dataset.text=enriched").metrics
    assert {"llm-tokens", "substitute-llm", "may-be-memorised"}.isdisjoint(metrics["labels"])
    assert metrics["enrichment"] is None

"""`llm4rec enrich`: generate tokens of items with a chat model, as their text or as features.

llm4rec enrich dataset=demo llm=local                         tokens for each item, by the packaged chat model
llm4rec enrich +experiment=enrich/sasrec dataset=amazon2014-beauty dataset.raw_dir=PATH llm=openai

They are used as text (`dataset.text=enriched`) and as features of SASRec (`model.tokens=true`).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.schema import Config
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.llm import enrichment
from llm4rec_cli.llm.completions import Usage, complete, store_path
from llm4rec_cli.llm.enrichment import ItemRequests, ItemTokens
from llm4rec_cli.llm.store import Store
from llm4rec_cli.run import rules, stages
from llm4rec_cli.run.folder import Outcome
from llm4rec_cli.run.job import Job

SHOWN = 5  # items whose tokens are printed


def run(composed: Composed) -> Outcome:
    """Request tokens for all items whose tokens are not stored yet, and print a summary."""
    from llm4rec_cli.data.prepare import prepare

    job = Job.unchecked(composed, "enrich")
    config, llm, settings = job.config, job.llm, job.config.enrichment
    raise_first([*rules.problems_of_llm(llm), *enrichment.problems(settings)])
    if processes.world_size() > 1:
        raise UsageError("enrich runs in one process", "llm4rec enrich …, without torchrun")
    dataset = prepare(config.dataset, job.cache)
    items, usage = enrichment.item_requests(dataset, settings, llm, config.dataset.seed), Usage()
    requests, backend = list(items.requests.values()), stages.enrichment_backend(job)
    description = f"{Path(llm.model).name} on the items of {config.dataset.name}"
    with Store(store_path(llm, job.cache)) as store:
        completions = complete(requests, backend, llm, store, description, usage)
    tokens = enrichment.parse_tokens(items, dict(zip(items.requests, completions, strict=True)), settings)
    show(config, dataset, items, tokens, usage)
    return Outcome("done" if usage.sent else "skipped", store.path)


def show(config: Config, dataset: RecDataset, items: ItemRequests, tokens: ItemTokens, usage: Usage) -> None:
    """Print two tables: a summary of requests and tokens, and the tokens of some items."""
    from llm4rec_cli.data.tokens import SLOTS, with_tokens
    from llm4rec_cli.llm.requests import Status
    from llm4rec_cli.results.tables import Content
    from llm4rec_cli.results.tables import show as show_tables

    manifest = with_tokens(dataset, tokens.tokens).manifest["tokens"]
    status = Counter(tokens.status)
    n_with_text = sum(map(bool, items.texts))

    def percent(n_items: int) -> str:
        return f"{100 * n_items / n_with_text:.1f} %"

    rows = [
        ["items", f"{dataset.n_items:,}"],
        ["  with text" if config.enrichment.texts is None else "  described", f"{n_with_text:,}"],
        ["distinct texts", f"{len(items.requests):,}"],
        ["  completed before", f"{usage.stored:,}"],
        ["  completed now", f"{usage.sent:,}"],
        ["prompt tokens", f"{usage.prompt_tokens:,}"],
        ["completion tokens", f"{usage.answer_tokens:,}"],
        ["cost", f"{usage.cost:.4f}"],
        ["items with a valid completion", percent(status[Status.ok])],
        ["  with a repaired one", percent(status[Status.repaired])],
        ["  with an invalid one", percent(status[Status.invalid])],
        ["item tokens per item", f"{sum(map(len, tokens.tokens)) / n_with_text:.1f}"],
        ["item tokens shared by items", f"{manifest['shared']:,}"],
    ]
    summary = Content(f"{config.dataset.name}, enriched by {config.llm.model}", ["", ""], rows)
    shown = [item for item in range(dataset.n_items) if tokens.tokens[item]][:SHOWN]
    examples = [[_title(items.texts[item]), *(", ".join(tokens.slots[item][slot]) for slot in SLOTS)] for item in shown]
    show_tables(summary, Content("examples", ["item", *(slot.replace("_", " ") for slot in SLOTS)], examples))


def _title(text: str) -> str:
    """Return the first field of an item's text, usually its title; as JSON, which escapes terminal control codes."""
    return json.dumps(next(iter(json.loads(text).values())), ensure_ascii=False)

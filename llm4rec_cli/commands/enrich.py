"""`llm4rec enrich`: a chat model writes short tokens for each item, out of the item's own text; kept in the store.

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
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm import completions, enrichment
from llm4rec_cli.llm.enrichment import ItemRequests, ItemTokens
from llm4rec_cli.llm.store import Store
from llm4rec_cli.runs import rules, stages
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec

SHOWN = 5  # items whose tokens are printed


def run(composed: Composed) -> Outcome:
    """Asks about all items of a dataset that the store has no answer for, and says what was written."""
    from llm4rec_cli.data.prepare import prepare

    spec = RunSpec.resolve_unchecked(composed, "enrich")
    config, llm, settings = spec.config, spec.llm, spec.config.enrichment
    for problem in (*rules.problems_of_llm(llm), *enrichment.problems(settings)):
        raise problem
    if processes.world_size() > 1:
        raise UsageError("a chat model is asked by one process", "llm4rec enrich …, without torchrun")
    dataset = prepare(config.dataset, spec.cache)
    asked, usage = enrichment.item_requests(dataset, settings, llm), completions.Usage()
    with Store(completions.store_path(llm, spec.cache)) as store:
        answers = completions.complete(
            list(asked.requests.values()),
            stages.enrichment_backend(spec),
            llm,
            store,
            f"asking {Path(llm.model).name} about items of {config.dataset.name}",
            usage,
        )
    found = enrichment.parse_tokens(asked, dict(zip(asked.requests, answers, strict=True)), settings)
    show(config, dataset, asked, found, usage)
    return Outcome("done" if usage.sent else "skipped", store.path)


def show(config: Config, dataset: RecDataset, asked: ItemRequests, found: ItemTokens, usage: completions.Usage) -> None:
    """Two tables: what was asked and read, and the tokens of some items."""
    from llm4rec_cli.data.tokens import SLOTS, with_tokens
    from llm4rec_cli.llm.requests import Status
    from llm4rec_cli.reporting.tables import console, table

    manifest = with_tokens(dataset, found.tokens).manifest["tokens"]
    status = Counter(found.status)
    n_told = sum(map(bool, asked.texts))
    rows = [
        ["items", f"{dataset.n_items:,}"],
        ["  with a text", f"{n_told:,}"],
        ["texts that differ", f"{len(asked.requests):,}"],
        ["  answered before", f"{usage.stored:,}"],
        ["  asked now", f"{usage.sent:,}"],
        ["tokens of all prompts", f"{usage.prompt_tokens:,}"],
        ["tokens of all answers", f"{usage.answer_tokens:,}"],
        ["cost of all", f"{usage.cost:.4f}"],
        ["items whose answer is as asked for", _share(status[Status.ok], n_told)],
        ["  read all the same", _share(status[Status.repaired], n_told)],
        ["  without a token", _share(status[Status.invalid], n_told)],
        ["tokens an item", f"{sum(map(len, found.tokens)) / n_told:.1f}"],
        ["tokens that items share", f"{manifest['shared']:,}"],
    ]
    out = console()
    out.print(table(f"{config.dataset.name}, enriched by {config.llm.model}", ["", ""], rows))
    some = [item for item in range(dataset.n_items) if found.tokens[item]][:SHOWN]
    examples = [[_first(asked.texts[item]), *(", ".join(found.slots[item][slot]) for slot in SLOTS)] for item in some]
    out.print(table("some of them", ["item", *(slot.replace("_", " ") for slot in SLOTS)], examples))


def _first(told: str) -> str:
    """The first field that is told of an item, its title where it has one; as JSON, which acts on no terminal."""
    return json.dumps(next(iter(json.loads(told).values())), ensure_ascii=False)


def _share(n: int, of: int) -> str:
    return f"{100 * n / of:.1f} %"

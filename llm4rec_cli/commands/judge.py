"""`llm4rec human judge`: a chat model fills a sheet as a rater would; the sheet says that no person did."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.errors import RunError, UsageError

TAKEN = ("llm", "seed", "device", "paths")  # what of the config matters here


def parser() -> argparse.ArgumentParser:
    """The option beside overrides, as `human judge` gives it."""
    found = argparse.ArgumentParser("llm4rec human judge", add_help=False, allow_abbrev=False)
    found.add_argument("--sheets", metavar="FOLDER", required=True)
    return found


def run(composed: Composed, asked: argparse.Namespace) -> None:
    """Asks about each example of FOLDER, and writes FOLDER/judge-NAME.csv; the name tells endpoints and settings apart.

    Raises:
        UsageError: something was typed that changes nothing here, or cannot be; or FOLDER holds no sheets.
        DataError: sheet.html is not what was exported.
        RunError: nothing that was answered could be read.
    """
    from llm4rec_cli.evaluation.human import Scale
    from llm4rec_cli.files import write_text
    from llm4rec_cli.llm import completions
    from llm4rec_cli.llm.requests import Request
    from llm4rec_cli.llm.store import Store
    from llm4rec_cli.reporting.judging import judgements, question
    from llm4rec_cli.reporting.sheets import PAGE, Sheet, as_csv, key_of, shown_on
    from llm4rec_cli.runs import rules, stages
    from llm4rec_cli.runs.spec import RunSpec

    for typed in composed.typed:
        if typed.lstrip("+~").partition("=")[0].split(".")[0] not in TAKEN:
            raise UsageError(f"'{typed}' changes nothing that a judge is asked", f"overrides of {', '.join(TAKEN)}")
    spec = RunSpec.unchecked(composed, "judge")
    for problem in rules.problems_of_llm(spec.llm):
        raise problem
    folder = Path(asked.sheets).expanduser()
    key = key_of(folder)
    examples = shown_on(folder / PAGE, key["examples"])
    sheet = Sheet(key["sheet"], key["protocol"], Scale(key["scale"]), key["criteria"], examples)
    llm, usage = spec.llm, completions.Usage()
    requests = [
        Request(({"role": "user", "content": question(sheet, example)},), max_tokens=llm.max_tokens)
        for example in examples
    ]
    backend = stages.chat_backend(spec, spec.config.seed)
    name = Path(llm.model).name
    with Store(completions.store_path(llm, spec.cache)) as store:
        answers = completions.complete(requests, backend, llm, store, f"asking {name} to judge", usage)
    given = [judgements(answer.text, sheet, of) for answer, of in zip(answers, examples, strict=True)]
    if not any(given):
        raise RunError(
            f"none of {len(answers):,} answers judges an example; the first says {answers[0].text[:60]!r}",
            "another llm.model, or more of llm.max_tokens",
        )
    plain = re.sub(r"[^\w.-]", "-", name)
    settings = hashlib.sha256(json.dumps(backend.identity(), sort_keys=True).encode()).hexdigest()[:6]
    filled = folder / f"judge-{plain}-{settings}.csv"
    write_text(filled, as_csv(sheet, given, judge=llm.model))
    for criterion in sheet.criteria:
        n = sum(criterion in of for of in given)
        print(f"{criterion}: {n:,} of {len(examples):,} examples judged in full")
    print(f"{usage.requests:,} requests, {usage.prompt_tokens + usage.answer_tokens:,} tokens, cost {usage.cost:.4f}")
    print(f"{name} is a chat model, and no person: {filled}")
    print(f"then: llm4rec human score {folder} {filled}")

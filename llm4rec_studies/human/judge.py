"""Have a chat model fill a sheet as a rater would: the question about each example, and how its answer is parsed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llm4rec_cli.errors import RunError
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.parsing import without_reasoning
from llm4rec_cli.llm.requests import Request
from llm4rec_cli.llm.store import Store
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_studies.human import judge_check, render
from llm4rec_studies.human.agreement import BEST_SCORE, Scale
from llm4rec_studies.human.sheets import (
    CRITERIA,
    INSTRUCTIONS,
    PAGE,
    SCALES,
    Example,
    Sheet,
    read_key,
    read_page,
    to_csv,
)

QUESTION = """\
{instruction} Judge the texts beside one another.
{about}
The texts: {texts}
{criteria}
{scale}
Answer with a JSON object alone, of this form, with your numbers in the place of the zeros: {form}"""
SCALE_QUESTIONS = {
    Scale.score: "For each of these give each text a whole number, {meaning}.",
    Scale.rank: "For each of these rank the texts: {meaning}.",
}


def judge(job: Job, folder: Path, check: bool = False) -> None:
    """Judge each example of an exported folder, and write judge-NAME-HASH.csv there, one per chat model and settings.

    Args:
        check: also show the judge damaged texts, and write how often it prefers intact ones to
            judge-NAME-HASH-check.json.

    Raises:
        UsageError: the folder has no key.
        DataError: sheet.html does not belong to the key.
        RunError: no answer could be parsed.
    """
    key = read_key(folder)
    examples = read_page(folder / PAGE, key.examples)
    sheet = Sheet(key.sheet, key.protocol, key.scale, key.criteria, examples)
    probes = list(judge_check.probes(examples, key)) if check else []
    queried = [*examples, *(probe.example for probe in probes)]
    llm, usage = job.llm, completions.Usage()
    requests = [
        Request(({"role": "user", "content": question(sheet, example)},), max_tokens=llm.max_tokens)
        for example in queried
    ]
    backend = stages.chat_backend(job, job.config.seed)
    name = Path(llm.model).name
    with Store(completions.store_path(llm, job.cache)) as store:
        answers = completions.complete(requests, backend, llm, store, f"judging with {name}", usage)
    parsed = [parse_answer(answer.text, sheet, example) for answer, example in zip(answers, queried, strict=True)]
    of_sheet = dict(zip((example.name for example in examples), parsed, strict=False))
    if not any(of_sheet.values()):
        raise RunError(
            f"none of {len(of_sheet):,} answers judges an example; the first is {answers[0].text[:60]!r}",
            "try another llm.model, or more llm.max_tokens",
        )
    judgements = {
        criterion: {example: values[criterion] for example, values in of_sheet.items() if criterion in values}
        for criterion in sheet.criteria
    }
    plain_name = re.sub(r"[^\w.-]", "-", name)
    settings = hashlib.sha256(json.dumps(backend.identity(), sort_keys=True).encode()).hexdigest()[:6]
    file = folder / f"judge-{plain_name}-{settings}.csv"
    write_text(file, to_csv(sheet, judgements, judge=llm.model))
    for criterion, by_example in judgements.items():
        print(f"{criterion}: {len(by_example):,} of {len(examples):,} examples fully judged")
    print(f"{usage.requests:,} requests, {usage.prompt_tokens + usage.answer_tokens:,} tokens, cost {usage.cost:.4f}")
    print(f"written, marked as filled by a chat model: {file}")
    if check:
        result = judge_check.preferences(sheet, key.seed, probes, parsed[len(examples) :])
        write_json(
            file.with_name(f"{file.stem}-check.json"), {"judge": llm.model, "criteria": msgspec.to_builtins(result)}
        )
        render.show_check(llm.model, result)
    print(f"next: llm4rec human score {folder} {file}")


def question(sheet: Sheet, example: Example) -> str:
    """Return the prompt, with all that a rater sees. Titles and texts are JSON, so the model reads them as data."""
    facts = {"The item": example.item, "Its stars": example.stars, "The review": example.review}
    return QUESTION.format(
        instruction=INSTRUCTIONS[sheet.column],
        about="\n".join(f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in facts.items() if text),
        texts=json.dumps(dict(example.texts), ensure_ascii=False),
        criteria="\n".join(f"{name}: {CRITERIA[name]}" if name in CRITERIA else name for name in sheet.criteria),
        scale=SCALE_QUESTIONS[sheet.scale].format(meaning=SCALES[sheet.scale]),
        form=json.dumps({name: dict.fromkeys(example.texts, 0) for name in sheet.criteria}),
    )


def parse_answer(answer: str, sheet: Sheet, example: Example) -> dict[str, dict[str, int]]:
    """Return criterion -> label -> score or rank, for the criteria on which all texts of the example are judged.

    Of several JSON objects that name a criterion the last one counts, because models write drafts first. A criterion is
    left out if a text is missing, a value is not a whole number on the scale, or two texts share a rank.
    """
    judged: Mapping[str, Any] = {}
    for candidate in _json_objects(without_reasoning(answer)):
        if candidate.keys() & set(sheet.criteria):
            judged = candidate
    values = {name: _parse_values(judged.get(name), sheet.scale, list(example.texts)) for name in sheet.criteria}
    return {name: by_label for name, by_label in values.items() if by_label}


def _json_objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the outermost JSON objects in a text."""
    start = text.find("{")
    while start >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):  # no JSON, cut off, or nested too deeply
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _parse_values(values: Any, scale: Scale, labels: Sequence[str]) -> dict[str, int] | None:
    highest = BEST_SCORE if scale is Scale.score else len(labels)
    if not isinstance(values, dict) or not all(_on_scale(values.get(label), highest) for label in labels):
        return None
    by_label = {label: int(values[label]) for label in labels}
    return None if scale is Scale.rank and len(set(by_label.values())) < len(labels) else by_label


def _on_scale(value: Any, highest: int) -> bool:
    """Return whether a value is a whole number from 1 to `highest`, or a string of one such digit."""
    if isinstance(value, str):
        return len(value) == 1 and value in "123456789" and int(value) <= highest
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, highest + 1)

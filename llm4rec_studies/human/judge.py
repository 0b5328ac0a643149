"""Have a chat model fill a sheet as a rater would: the question about each example, and how its answer is parsed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm4rec_cli.errors import RunError
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.parsing import parse_object, without_reasoning
from llm4rec_cli.llm.requests import Request
from llm4rec_cli.llm.store import Store
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_studies.human import sheets
from llm4rec_studies.human.sheets import Row

# What the prompt says of a criterion, and of texts that resemble a column of the dataset.
CRITERIA = {
    "clarity": "Is it well put, and understood at once?",
    "reasonableness": "Does it fit the item, and the stars and review where they are shown?",
}
INSTRUCTIONS = {
    "explanation": "Each text says what somebody likes or dislikes about the item shown.",
    "review_title": "Each text is a heading for the review shown.",
}
QUESTION = """\
{instruction} Judge the texts beside one another.
{about}
The texts: {texts}
{criteria}
For each of these give each text a whole number, {scale}.
Answer with a JSON object alone, of this form, with your numbers in the place of the zeros: {form}"""


def judge(job: Job, folder: Path) -> None:
    """Judge each example of an exported folder, and write judge-NAME-HASH.csv there, one per chat model and settings.

    Raises:
        UsageError: the folder has no key or no sheet.
        DataError: sheet.csv is malformed.
        RunError: no answer could be parsed.
    """
    key = sheets.read_key(folder)
    examples: dict[str, dict[str, Row]] = {}  # example -> letter of a text -> row
    for code, (_, row) in sheets.read_rows(folder / sheets.SHEET, key, (*sheets.COLUMNS, *key.criteria)).items():
        example, _, letter = code.rpartition("-")
        examples.setdefault(example, {})[letter] = row
    llm, usage = job.llm, completions.Usage()
    questions = [question(rows, key.column, key.criteria) for rows in examples.values()]
    requests = [Request(({"role": "user", "content": text},), max_tokens=llm.max_tokens) for text in questions]
    backend = stages.chat_backend(job, job.config.seed)
    name = Path(llm.model).name
    with Store(completions.store_path(llm, job.cache)) as store:
        answers = completions.complete(requests, backend, llm, store, f"judging with {name}", usage)
    filled = []
    for rows, answer in zip(examples.values(), answers, strict=True):
        scores = parse_answer(answer.text, key.criteria)
        for letter, row in rows.items():
            cells = {criterion: str(by_letter.get(letter, "")) for criterion, by_letter in scores.items()}
            filled.append({**row, **cells, sheets.JUDGE_COLUMN: llm.model})
    counts = {criterion: sum(bool(row[criterion]) for row in filled) for criterion in key.criteria}
    if not any(counts.values()):
        problem = f"none of {len(answers):,} answers judges a text; the first is {answers[0].text[:60]!r}"
        raise RunError(problem, "try another llm.model, or more llm.max_tokens")
    settings = hashlib.sha256(json.dumps(backend.identity(), sort_keys=True).encode()).hexdigest()[:6]
    file = folder / f"judge-{re.sub('[^.a-zA-Z0-9_-]', '-', name)}-{settings}.csv"
    sheets.write_sheet(file, filled)
    print("; ".join(f"{criterion}: {n:,} of {len(filled):,} texts scored" for criterion, n in counts.items()))
    print(usage.in_words())
    print(f"written, marked as filled by a chat model: {file}\nnext: llm4rec human score {folder} {file}")


def question(rows: Mapping[str, Row], column: str, criteria: Sequence[str]) -> str:
    """Return the prompt, with all that a rater sees of an example: its rows of the sheet by letter.

    Titles and texts are JSON, so the model reads them as data. The texts resemble `column` of the dataset.
    """
    first, texts = next(iter(rows.values())), {letter: row["text"] for letter, row in rows.items()}
    facts = {"The item": first["item"], "Its stars": first["stars"], "The review": first["review"]}
    return QUESTION.format(
        instruction=INSTRUCTIONS[column],
        about="\n".join(f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in facts.items() if text),
        texts=json.dumps(texts, ensure_ascii=False),
        criteria="\n".join(f"{name}: {CRITERIA[name]}" if name in CRITERIA else name for name in criteria),
        scale=sheets.SCALE,
        form=json.dumps({name: dict.fromkeys(texts, 0) for name in criteria}),
    )


def parse_answer(answer: str, criteria: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return criterion -> letter of a text -> score, without any that is not a whole number on the scale.

    Of several JSON objects that name a criterion the last one counts, because models write drafts first.
    """
    text = without_reasoning(answer)
    judged: dict[str, Any] = {}
    start = text.find("{")
    while start >= 0:
        value, end = parse_object(text, start)
        judged = value if value.keys() & set(criteria) else judged
        start = text.find("{", end)
    given = {name: judged[name] if isinstance(judged.get(name), dict) else {} for name in criteria}
    return {
        name: {letter: score for letter, value in scores.items() if (score := sheets.valid_score(value))}
        for name, scores in given.items()
    }

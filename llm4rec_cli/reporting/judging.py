"""A chat model in the place of a rater: what it is asked about an example of a sheet, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm4rec_cli.evaluation.human import BEST_SCORE, Scale
from llm4rec_cli.reporting.sheets import ASKED, CRITERIA, SCALES, Blind, Sheet

QUESTION = """\
{asked} Judge the texts beside one another.
{about}
The texts: {texts}
{criteria}
{scale}
Answer with a JSON object alone, of this form, with your numbers in the place of the zeros: {form}"""
SCALE = {
    Scale.score: "For each of these give each text a whole number, {meaning}.",
    Scale.rank: "For each of these rank the texts: {meaning}.",
}


def question(sheet: Sheet, example: Blind) -> str:
    """What a chat model is asked: all that a rater is shown, titles and texts as JSON, so that they stay data."""
    shown = {"The item": example.item, "Its stars": example.stars, "The review": example.review}
    return QUESTION.format(
        asked=ASKED[sheet.written],
        about="\n".join(f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in shown.items() if text),
        texts=json.dumps(dict(example.texts), ensure_ascii=False),
        criteria="\n".join(f"{name}: {CRITERIA[name]}" if name in CRITERIA else name for name in sheet.criteria),
        scale=SCALE[sheet.scale].format(meaning=SCALES[sheet.scale]),
        form=json.dumps({name: dict.fromkeys(example.texts, 0) for name in sheet.criteria}),
    )


def judgements(answer: str, sheet: Sheet, example: Blind) -> dict[str, dict[str, int]]:
    """Criterion -> label -> score or rank, of the criteria by which the answer judges all of the example's texts.

    The last object that names a criterion counts, as models write drafts before. Whatever is no whole number of the
    scale, or leaves a text out, or ranks two alike, leaves its criterion out.
    """
    said: Mapping[str, Any] = {}
    for found in _objects(answer):
        said = found if found.keys() & set(sheet.criteria) else said
    read = {name: _values(said.get(name), sheet.scale, list(example.texts)) for name in sheet.criteria}
    return {name: values for name, values in read.items() if values}


def _objects(answer: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand in a text, outermost."""
    place = answer.find("{")
    while place >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(answer, place)
        except (ValueError, RecursionError):  # none, a torn one, or brackets without end
            end = place + 1
        else:
            yield found
        place = answer.find("{", end)


def _values(said: Any, scale: Scale, labels: Sequence[str]) -> dict[str, int] | None:
    most = BEST_SCORE if scale is Scale.score else len(labels)
    if not isinstance(said, dict) or not all(_is_number(said.get(label), most) for label in labels):
        return None
    values = {label: int(said[label]) for label in labels}
    return None if scale is Scale.rank and len(set(values.values())) < len(labels) else values


def _is_number(value: Any, most: int) -> bool:
    """Whether it is a whole number from 1 to `most`, also as a string of one digit."""
    if isinstance(value, str):
        return len(value) == 1 and value in "123456789" and int(value) <= most
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, most + 1)

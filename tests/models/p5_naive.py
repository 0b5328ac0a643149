"""P5's prompts filled one field after another: what `PromptFiller` computes for many examples at once."""

from __future__ import annotations

import numpy as np

from llm4rec_cli.config.schema import Index
from llm4rec_cli.models.p5.filler import MAX_FIELD_TOKENS, FieldValues, PromptFiller, column_texts
from llm4rec_cli.models.p5.prompts import FIELD_COLUMNS, Answer, Field
from llm4rec_cli.models.p5.settings import HistoryOrder
from llm4rec_cli.models.p5.vocabulary import END

Marked = list[tuple[int, bool]]  # tokens, and whether each begins a word


def source(filler: PromptFiller, name: str, values: FieldValues) -> tuple[list[int], list[int]]:
    """The tokens of a source and their whole words."""
    segments = filler.prompts[name].segments
    whole = {s: fill(filler, s, values) for s in segments if s not in (Field.history, Field.review)}
    room = filler.config.max_source - 1 - sum(map(len, whole.values()))
    marked: Marked = []
    for segment in segments:
        if segment is Field.history:
            marked += history(filler, values, room)
        elif segment is Field.review:
            marked += text(filler, filler.split.dataset.interactions["review_text"][values.row])[: max(room, 1)]
        else:
            marked += whole[segment]
    words = np.cumsum([begins for _, begins in marked]).tolist()
    return [token for token, _ in marked] + [END], [*words, 0]


def target(filler: PromptFiller, name: str, values: FieldValues, answer: str) -> list[int]:
    """The tokens of a target."""
    interactions, form = filler.split.dataset.interactions, filler.prompts[name].answer
    parts = {
        Answer.item: lambda: filler.item_codes[values.item].tolist(),
        Answer.headline: lambda: tokens(filler, interactions["review_title"][values.row]),
        Answer.explanation: lambda: tokens(filler, interactions["explanation"][values.row]),
        Answer.star_and_explanation: lambda: [
            *tokens(filler, answer),
            *tokens(filler, ","),
            *tokens(filler, interactions["explanation"][values.row]),
        ],
    }
    return [*parts.get(form, lambda: tokens(filler, answer))()[: filler.config.max_target - 1], END]


def fill(filler: PromptFiller, segment: str | Field, values: FieldValues) -> Marked:
    if isinstance(segment, str):
        return text(filler, segment)
    if segment is Field.user:
        return named(filler, segment, filler.user_codes[values.user], filler.config.user_tokens)
    if segment is Field.item:
        own = filler.config.index is Index.independent
        return named(filler, segment, filler.item_codes[values.item], own)
    if segment is Field.one:
        return number(filler.item_codes[values.one])
    if segment is Field.candidates:
        return listed(filler, values.candidates, ",")
    if segment is Field.star:
        return text(filler, str(values.star))
    place = {Field.user_name: values.user, Field.feature: values.feature_row if values.feature_row >= 0 else values.row}
    place |= dict.fromkeys((Field.title, Field.brand, Field.price), values.item)
    column = FIELD_COLUMNS.get(segment, segment.value)
    return text(filler, column_texts(filler.split, column, filler.names)[place.get(segment, values.row)])[
        :MAX_FIELD_TOKENS
    ]


def history(filler: PromptFiller, values: FieldValues, room: int) -> Marked:
    """The most latest items that fit, at least one."""
    items, separator = values.history.tolist(), "->" if values.arrow else ","
    while len(items) > 1 and len(listed(filler, items, separator)) > room:
        items = items[1:]
    return listed(filler, items[::-1] if filler.config.history is HistoryOrder.newest_first else items, separator)


def listed(filler: PromptFiller, items, separator: str) -> Marked:
    return [pair for item in items for pair in text(filler, separator) + number(filler.item_codes[item])][
        len(tokens(filler, separator)) :
    ]


def named(filler: PromptFiller, field: Field, code, own_token: bool) -> Marked:
    return number(code) if own_token else text(filler, f"{field.value}_") + [(token, False) for token in code.tolist()]


def number(code) -> Marked:
    return [(token, place == 0) for place, token in enumerate(code.tolist())]


def text(filler: PromptFiller, words: str) -> Marked:
    ids, starts = filler.vocabulary.encode_one(words)
    return list(zip(ids.tolist(), starts.tolist(), strict=True))


def tokens(filler: PromptFiller, words: str) -> list[int]:
    return [token for token, _ in text(filler, words)]

"""The columns of a dataset that prompts need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm4rec_cli.errors import DataError
from llm4rec_cli.models.chatgptrec.prompt_schema import template_fields

COLUMNS = {"stars": "rating", "review": "review_text", "category": "categories"}  # by field of a template


def problems_of_columns(task: str, template: str, dataset: Any) -> Iterator[DataError]:
    """Yield the titles and columns that a task's template needs and the dataset lacks."""
    name = dataset.manifest["name"]
    if task != "review_summary" and not _has_values(dataset.items, "title"):
        yield DataError(
            f"model 'chatgptrec' needs item titles, and dataset '{name}' has none",
            "choose a dataset with titles (llm4rec list datasets); task=review_summary needs none",
        )
    for field in sorted(template_fields(template) & COLUMNS.keys()):
        table = dataset.items if field == "category" else dataset.interactions
        if not _has_values(table, COLUMNS[field]):
            yield DataError(
                f"the prompt of {task} needs {{{field}}}, and dataset '{name}' has no '{COLUMNS[field]}'",
                "choose another dataset, or another prompt: llm4rec list prompts",
            )


def _has_values(table: Any, column: str) -> bool:
    """Return whether some row has a value: a number, or text that is not blank."""
    return column in table and bool((table[column].fillna("").astype(str).str.strip() != "").any())

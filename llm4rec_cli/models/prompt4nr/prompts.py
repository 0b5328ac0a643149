"""The templates of Prompt4NR as tables."""

from __future__ import annotations

from typing import Any

from llm4rec_cli.config.schema import PromptTable, as_dataclass
from llm4rec_cli.errors import raise_first
from llm4rec_cli.models.prompt4nr.templates import TemplateConfig, problems_of_template, segments


def prompt_table(node: Any) -> PromptTable:
    """Return what `llm4rec list prompts` shows of a composed template.

    Raises:
        UsageError: the template is invalid.
    """
    template = as_dataclass(TemplateConfig, node)
    raise_first(problems_of_template(template))
    virtual = [f"{s.field} {s.n_virtual}" for s in segments(template.text) if s.is_virtual]
    answers = f"{template.positive} / {template.negative}"
    row = [template.name, ", ".join(virtual), answers, str(template.epochs), template.text]
    return PromptTable(["template", "virtual tokens", "clicked / not", "epochs", "text"], [row])

"""What P5's prompts decide about a run: facts for the statements in conf/deviations/p5.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.prompts import Answer, Field, Prompt, Prompted
from llm4rec_cli.models.p5.settings import PromptFamily


def facts(config: Prompted, task: str, trained_on: str | None) -> Mapping[str, Any]:
    """Return the facts for an evaluated task and the task that was trained on, which is None for imported weights."""
    kinds = prompts.trained_kinds(config, trained_on) if trained_on else set()
    family = PromptFamily.__members__.get(task)
    names = prompts.evaluation_names(config, family) if family else []
    families = {config.prompts[name].family.name for name in names if name in config.prompts} - {task}
    prompt = _only_prompt(config, task)
    shown = {Field.feature} if config.feature.owner else set()
    return {
        "n_prompts": len(config.train_prompts or ()),
        "kinds": kinds,
        "asks_negatives": any(kind.endswith(("_candidates", "_yes_no")) for kind in kinds),
        "trains_sequential": any(kind.startswith("sequential") for kind in kinds),
        "trains_direct": any(kind.startswith("direct") for kind in kinds),
        "prompt": getattr(config.ask, task, None),
        "n_asked": len(names),
        "other_family": min(families, default=None),
        "owner": prompts.shown_feature_owner(config, family) if family else None,
        "decoding": _decoding(config, prompt),
        "reads_review": prompt is not None and task == "rating" and Field.review in prompt.fields,
        "reads_oracle": prompt is not None and not {*prompt.oracle_input} <= shown,
        "answers_like": prompt is not None and prompt.answer is Answer.like,
    }


def _only_prompt(config: Prompted, task: str) -> Prompt | None:
    """Return the evaluation prompt of a task; None if it has several or none."""
    name = getattr(config.ask, task, "")
    return prompts.parse(name, config.prompts[name]) if name in config.prompts else None


def _decoding(config: Prompted, prompt: Prompt | None) -> str:
    if config.beams:
        return f"beam search of {config.beams}, item names"
    yes_no = prompt is not None and prompt.answer is Answer.yes_no
    return "likelihood of yes and no" if yes_no else "likelihood of every item name"

"""`llm4rec human judge`: have a chat model fill a blind sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.errors import UsageError, raise_first

# What a judge reads of a Job.
EFFECTIVE_PARTS = ("llm", "seed", "device", "paths")


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Have the chat model of `llm` fill the sheet in FOLDER.

    Raises:
        UsageError: an override has no effect here or is invalid, or FOLDER has no sheet.
    """
    from llm4rec_cli.run import rules
    from llm4rec_cli.run.job import Job
    from llm4rec_cli.studies.human.judge import judge

    for override in composed.typed:
        if key_typed(override).partition(".")[0] not in EFFECTIVE_PARTS:
            raise UsageError(f"'{override}' has no effect on a judge", f"override only {', '.join(EFFECTIVE_PARTS)}")
    job = Job.unchecked(composed, "judge")
    raise_first(rules.problems_of_llm(job.llm))
    judge(job, Path(options.folder).expanduser(), options.check)

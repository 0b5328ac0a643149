"""`llm4rec human judge`: have a chat model fill a blind sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.keys import key_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import Role
from llm4rec_cli.errors import UsageError

# The roles of settings that matter to a judge, besides the seed.
EFFECTIVE_ROLES = (Role.chat, Role.machine, Role.command)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the option that `human judge` passes besides overrides."""
    options = argparse.ArgumentParser("llm4rec human judge", add_help=False, allow_abbrev=False)
    options.add_argument("--sheets", metavar="FOLDER", required=True)
    return options


def run(composed: Composed, options: argparse.Namespace) -> None:
    """Have the chat model of `llm` fill the sheet in FOLDER.

    Raises:
        UsageError: an override has no effect here or is invalid, or FOLDER has no sheet.
    """
    from llm4rec_cli.human.judge import judge
    from llm4rec_cli.runs import rules
    from llm4rec_cli.runs.spec import RunSpec

    for override in composed.typed:
        if (key := key_typed(override)) != "seed" and key_role(key) not in EFFECTIVE_ROLES:
            raise UsageError(f"'{override}' has no effect on a judge", "override only llm, seed, device, paths")
    spec = RunSpec.resolve_unchecked(composed, "judge")
    for problem in rules.problems_of_llm(spec.llm):
        raise problem
    judge(spec, Path(options.sheets).expanduser())

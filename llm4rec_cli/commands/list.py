"""`llm4rec list`: what there is.

llm4rec list                 everything but runs
llm4rec list models          with the tasks each can do
llm4rec list runs            every run folder and its state
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

KINDS = ("models", "datasets", "tasks", "trainers", "experiments", "runs")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("llm4rec list", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", nargs="?", help=", ".join(KINDS))
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    options = parser.parse_args(argv)
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"nothing to list called '{options.kind}'", did_you_mean(options.kind, KINDS))

    from llm4rec_cli.reporting.tables import console

    out = console()
    for kind in [options.kind] if options.kind else KINDS[:-1]:
        if kind == "runs":
            out.print(_runs(Path(options.outputs).expanduser()))
        elif kind == "models":
            out.print(_models())
        else:
            out.print(_options(kind.removesuffix("s")))
    return 0


def _options(group: str) -> Table:
    from llm4rec_cli.reporting.tables import table

    return table(f"{group}s", [group, "what it is"], list(described(group).items()))


def described(group: str) -> dict[str, str]:
    """Each option of a config group, with the first comment line of its file."""
    from llm4rec_cli.hydra_app import conf_dir, options, user_conf_dir

    found = {}
    for name in options(group):
        files = [root / group / f"{name}.yaml" for root in (user_conf_dir(), conf_dir()) if root]
        text = next(file for file in files if file.exists()).read_text()
        found[name] = next(
            (line[1:].strip() for line in text.splitlines() if line.startswith("# ") and "@package" not in line), ""
        )
    return found


def _models() -> Table:
    from llm4rec_cli.models import base as models
    from llm4rec_cli.reporting.tables import table

    rows = []
    for option, what in described("model").items():
        kind = models.config_class(option) if option in models.names() else None
        can = ", ".join(sorted(kind.capabilities)) if kind else ""
        rows.append([option, can, "floor" if kind and kind.floor else "", what])
    return table("models", ["model", "can", "", "what it is"], rows)


def _runs(outputs: Path) -> Table:
    from llm4rec_cli.reporting.tables import table

    rows = []
    for path in sorted(outputs.glob("*/*/*/seed*/status.json")):
        status = json.loads(path.read_text())
        rows.append([str(path.parent.relative_to(outputs)), status["status"], status["error"] or ""])
    return table(f"runs under {outputs}", ["run", "status", "error"], rows)

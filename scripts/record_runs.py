"""Record finished runs for the documentation: their numbers and settings, without predictions, weights or paths.

python scripts/record_runs.py OUTPUTS      copies every finished run under OUTPUTS into docs/recorded/, and what
                                           llm4rec reproduce has recorded of the papers' tables
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.config.keys import keys_with_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.reporting.reproduction import RECORDS
from llm4rec_cli.reporting.stored_settings import config_of
from llm4rec_cli.reporting.variants import Variant, variants
from llm4rec_cli.runs.catalog import CONFIG, METRICS, STATUS, finished_runs

RECORDED = Path(__file__).parents[1] / "docs/recorded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path)
    record(parser.parse_args().outputs, RECORDED)


def record(outputs: Path, recorded: Path) -> None:
    """Write metrics.json, config.yaml and status.json of every finished run to the same place under another folder."""
    outputs = outputs.resolve()  # as members of ensembles are stored
    for variant in variants(finished_runs(outputs)):
        for folder, metrics in variant.runs:
            to = recorded / folder.relative_to(outputs)
            to.mkdir(parents=True, exist_ok=True)
            write_json(to / METRICS, json.loads(json.dumps(_numbers(metrics, variant)).replace(f"{outputs}/", "")))
            settings = yaml.safe_dump(_without(config_of(folder), neutral_keys(), ""), sort_keys=False)
            write_text(to / CONFIG, settings.replace(f"{outputs}/", ""))  # members of an ensemble
            write_json(to / STATUS, {"status": "done"})
    for file in (outputs / RECORDS).glob("*/*.json"):
        write_json(recorded / file.relative_to(outputs), json.loads(file.read_text(encoding="utf-8")))


def neutral_keys() -> frozenset[str]:
    """Return the keys that change no number, such as paths and devices."""
    return keys_with_role(*NOT_HASHED)


def _numbers(metrics: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """Return metrics.json without neutral overrides, and with what follows from the predictions of several seeds."""
    typed = [override for override in metrics["overrides"] if key_typed(override) not in neutral_keys()]
    over_seeds = {"seeds": variant.seeds, "intervals": variant.intervals}
    return metrics | {"overrides": typed} | ({"intervals_over_seeds": over_seeds} if len(variant.runs) > 1 else {})


def _without(settings: dict[str, Any], keys: frozenset[str], above: str) -> dict[str, Any]:
    """Return nested settings without these keys."""
    return {
        name: _without(value, keys, f"{above}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if f"{above}{name}" not in keys
    }


if __name__ == "__main__":
    main()

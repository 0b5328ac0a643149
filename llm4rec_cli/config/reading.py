"""Reading YAML files that are no part of a composed config: tables, search spaces, and the configs of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.errors import UsageError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if available


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        UsageError: it is no valid YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: invalid YAML ({str(error).splitlines()[0]})", "fix the file") from None

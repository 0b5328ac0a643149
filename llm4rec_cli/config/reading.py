"""Reading YAML files outside the composed config: tables, search spaces, and the configs of runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.errors import UsageError


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C ten times as fast, if available
    """YAML as OmegaConf reads it: 1e-5 is a number, for which YAML 1.1 wants 1.0e-5."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        UsageError: it is not valid YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: invalid YAML ({str(error).splitlines()[0]})", "fix the file") from None

"""Reading YAML files outside the composed config: tables, search spaces, configs of runs; and the size of any."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.errors import UsageError

MOST_VALUES = 100_000  # in a file, where each alias stands for a copy
DEEPEST = 100  # levels


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


def n_values(text: str) -> float:
    """Count the values of a YAML text with every alias expanded, as OmegaConf does; infinite if nested too deeply.

    A file of a few lines, each with nine aliases of the line before, would fill any memory.

    Raises:
        yaml.YAMLError: the text is not valid YAML.
    """
    n_in, names, anchors = [0.0], [""], dict[str, float]()  # of the open collections, outermost first
    for event in yaml.parse(text, yaml.SafeLoader):  # the one in C refuses what is too deep as invalid
        if isinstance(event, yaml.CollectionStartEvent):
            n_in.append(1)
            names.append(event.anchor or "")
            if len(n_in) > DEEPEST:
                return math.inf
        elif isinstance(event, yaml.CollectionEndEvent):
            anchors[names.pop()] = n = n_in.pop()
            n_in[-1] += n
        elif isinstance(event, yaml.AliasEvent):
            n_in[-1] += anchors.get(event.anchor, math.inf)  # infinite inside itself
        elif isinstance(event, yaml.ScalarEvent):
            anchors[event.anchor or ""] = 1
            n_in[-1] += 1
    return n_in[0]

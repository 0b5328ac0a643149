"""What may leave this machine of a run: settings, numbers and ids, without paths and passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from llm4rec_cli.results.result import Result

RUN_NAME = re.compile(r"seed\d+-\w+")
# A path from the root, the home folder or the working directory; not the path of a URL, nor a slash within words.
_PATH = re.compile(r"""(?<![^\s='"`(\[{,;:|<>])(?!//)(?:~[\w.-]*|\.\.?)?/[^\s'"`,;:\[\](){}|=<>]+""")
_QUOTED_PATH = re.compile(r"""(['"])((?:~[^'"]*|\.{0,2})/[^'"]*)\1""")
_PASSWORD = re.compile(r"(?<=://)[^/\s@]+@")
_QUERY = re.compile(r"(://[^\s'\"?]+)\?[^\s'\"]+")
# Settings of a config that name folders of this machine -> what stands in their place.
_NEUTRAL = {"paths": {"outputs": "outputs", "cache": None}, "run": None}


def without_paths(value: Any) -> Any:
    """Return nested values with the last part of each path in its place; of a run's folder, its address."""
    if isinstance(value, str):
        if re.match(r"(~|\.{0,2})/|~", value) and "\n" not in value:
            return _shortened(value)
        text = _QUOTED_PATH.sub(lambda match: f"{match[1]}{_shortened(match[2])}{match[1]}", value)
        text = _PATH.sub(lambda match: _shortened(match[0]), text)
        return _QUERY.sub(r"\1", _PASSWORD.sub("", text))
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    return [*map(without_paths, value)] if isinstance(value, list | tuple) else value


def _shortened(path: str) -> str:
    parts = PurePosixPath(path).parts
    is_run = len(parts) > 3 and RUN_NAME.fullmatch(parts[-1])
    return "/".join(parts[-4:] if is_run else parts[-1:]).strip("/~")


def config_of(run: Result) -> dict[str, Any]:
    """Return the settings of a run."""
    content = without_paths({**run.settings.content, **_NEUTRAL})
    if isinstance(content.get("dataset"), dict):
        content["dataset"]["raw_dir"] = None
    return dict(content)

"""Where runs and prepared data are kept, unless paths.outputs, paths.cache, --outputs or --cache say otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def default_outputs() -> str:
    """Return the folder of the runs: LLM4REC_OUTPUTS, or `outputs` in the working directory."""
    return os.environ.get("LLM4REC_OUTPUTS") or "outputs"


def outputs_option(outputs: Path) -> list[str]:
    """Return the option by which commands find these runs; empty for the default folder."""
    return [] if outputs == Path(default_outputs()).expanduser() else ["--outputs", str(outputs)]


def cache_folder(path: str | None) -> Path:
    """Return the folder of prepared data, features and the like: `path`, or LLM4REC_CACHE, or `llm4rec` in the user's
    cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    if typed := path or os.environ.get("LLM4REC_CACHE"):
        return Path(typed).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm4rec"

"""Optional packages, and parts of llm4rec: a test that needs one is skipped where it is absent."""

from __future__ import annotations

from importlib.metadata import distributions
from importlib.util import find_spec

import pytest

INSTALLED = {distribution.name.lower() for distribution in distributions()}


def needs(package: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where this distribution is not installed."""
    return pytest.mark.skipif(package not in INSTALLED, reason=f"{package} is not installed")


needs_zoo = pytest.mark.skipif(find_spec("llm4rec_zoo") is None, reason="llm4rec_zoo is not installed")

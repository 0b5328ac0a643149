"""Optional packages: a test that needs one is skipped where it is absent."""

from __future__ import annotations

from importlib.metadata import distributions

import pytest

INSTALLED = {distribution.name.lower() for distribution in distributions()}


def needs(package: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where this distribution is not installed."""
    return pytest.mark.skipif(package not in INSTALLED, reason=f"{package} is not installed")

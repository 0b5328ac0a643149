"""Settings that a key may be pasted into by mistake. They are refused before anything is logged or stored, and messages
do not repeat their values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from llm4rec_cli.config.schema import LLMConfig
from llm4rec_cli.errors import UsageError, raise_first

KEY_VARIABLE, BASE_URL = "llm.key_variable", "llm.base_url"
ADDRESS = ".base_url"  # end of the key of any setting with the address of an endpoint


def check_override(key: str, text: str) -> None:
    """Check a typed override. A sweep has several values.

    Raises:
        UsageError: one of them may contain a key.
    """
    if (key == KEY_VARIABLE or key.endswith(ADDRESS)) and text != "null":
        for value in text.split(","):
            problems_of = _problems_of_variable if key == KEY_VARIABLE else problems_of_address
            raise_first(problems_of(key, value.strip(" '\"")))


def problems(llm: LLMConfig) -> Iterator[UsageError]:
    """Yield why the variable of the key, or the address of the endpoint, may contain a key."""
    yield from _problems_of_variable(KEY_VARIABLE, llm.key_variable)
    if llm.base_url is not None:
        yield from problems_of_address(BASE_URL, llm.base_url)


def _problems_of_variable(key: str, value: str) -> Iterator[UsageError]:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):  # a key has small letters
        yield UsageError(
            f"{key} is not the name of an environment variable, in capitals; the key itself belongs in the environment",
            f"export OPENAI_API_KEY=…, and leave {key} out",
        )


def problems_of_address(key: str, value: str) -> Iterator[UsageError]:
    """Yield why the address of an endpoint, which the setting `key` names, may contain a key."""
    if not _is_plain_address(value):
        yield UsageError(
            f"{key} must be an http or https address without user, password or query",
            f"set {key}=http://HOST:PORT/v1; the key comes from the environment",
        )


def _is_plain_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        return False
    return bool(valid) and not set("@?#") & set(text)

"""The identity of a chat model: a server's name for it, or the weights' content with the version of our backend."""

from types import SimpleNamespace

from llm4rec_cli.llm.local import VERSION
from llm4rec_cli.run.identity import identity_of
from llm4rec_cli.text import weights
from tests.support.driver import job_of


def test_a_server_names_its_model_and_weights_here_are_hashed_with_the_version_of_the_backend(monkeypatch):
    located = []
    hashed = SimpleNamespace(identity="hash of the weights")
    monkeypatch.setattr(weights, "locate_causal", lambda name: located.append(name) or hashed)
    server, local = (job_of(f"llm={backend}", "llm.model=one/name").config.llm for backend in ("openai", "local"))
    assert identity_of(server) == "one/name"
    assert located == []
    assert identity_of(local) == f"hash of the weights version {VERSION}"
    assert located == ["one/name"]

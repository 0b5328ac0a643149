"""Vectors of an endpoint on loopback: each text is sent once, and the key appears in no file."""

import json

import numpy as np
import pytest

from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.llm import embeddings
from llm4rec_cli.llm.embeddings import embed
from tests.data.misbehaving_server import running
from tests.llm.chat_server import api_error, ok

KEY = "sk-test-2f9c1d7e5b3a4860"
PATH = "/v1/embeddings"


class Embeddings:
    """Answers with [length, number of words] of each text, in reverse order; or as `response` says."""

    def __init__(self):
        self.inputs, self.keys, self.response = [], set(), None

    def __call__(self, request):
        sent = json.loads(request.sent)
        self.inputs.append(sent["input"])
        self.keys.add(request.headers.get("Authorization"))
        rows = [
            {"object": "embedding", "index": i, "embedding": [float(len(text)), float(len(text.split()))]}
            for i, text in enumerate(sent["input"])
        ]
        usage = {"prompt_tokens": 10, "total_tokens": 10}
        body = {"object": "list", "model": sent["model"], "data": rows[::-1], "usage": usage}
        (self.response or ok(json.dumps(body)))(request)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(embeddings, "RETRIES", 0)
    with running() as served:
        answers = Embeddings()
        answers.url = served.at(PATH, answers).removesuffix("/embeddings")
        yield answers


def test_each_text_is_sent_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "TEXTS_PER_REQUEST", 2)
    vectors = embed(["red soap", "", "a b c", "red soap"], "tiny", server.url, tmp_path)
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[8, 2], [1, 0], [5, 3], [8, 2]]
    assert embed(["a b c", "new"], "tiny", server.url, tmp_path).tolist() == [[5, 3], [3, 1]]
    assert server.inputs == [["red soap", " "], ["a b c"], ["new"]], "an empty text would be refused"
    embed(["new"], "another", server.url, tmp_path)
    assert server.inputs[3:] == [["new"]], "another model"
    assert server.keys == {f"Bearer {KEY}"}
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_vectors_before_a_failure_are_stored(server, tmp_path):
    embed(["first"], "tiny", server.url, tmp_path)
    server.response = api_error(503)
    with pytest.raises(RunError, match="503"):
        embed(["first", "second"], "tiny", server.url, tmp_path)
    server.response = None
    embed(["first", "second"], "tiny", server.url, tmp_path)
    assert server.inputs == [["first"], ["second"], ["second"]]


def test_a_refusal_and_an_unreadable_response_are_errors(server, tmp_path):
    server.response = api_error(404)
    with pytest.raises(UsageError, match="refuses embeddings of tiny: 404"):
        embed(["text"], "tiny", server.url, tmp_path)
    server.response = ok('{"object": "list", "data": [], "model": "tiny", "usage": {"prompt_tokens": 0}}')
    with pytest.raises(RunError, match="no vectors of tiny"):
        embed(["text"], "tiny", server.url, tmp_path)

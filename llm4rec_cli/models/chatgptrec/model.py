"""ChatGPTRec (arXiv 2304.10149): a prompted chat model, and what its metrics depend on."""

from __future__ import annotations

from typing import Any

from llm4rec_cli.capabilities import MetricValues
from llm4rec_cli.config.schema import Config
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.llm import completions
from llm4rec_cli.llm.store import Store
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.chatgptrec import controls
from llm4rec_cli.models.chatgptrec.answering import PromptedModel


class ChatGPTRec(PromptedModel):
    """A prompted chat model with controls of its answers."""

    def controls(self, examples: Examples, seed: int, values: MetricValues) -> dict[str, Any] | None:
        return controls.measure(self, examples, seed, values)

    def control_examples(self, config: Config) -> int:
        return self.config.control_examples(config)

    def controls_usage(self, examples: Examples, seed: int) -> dict[str, Any] | None:
        return controls.usage(self, examples, seed)


def build(context: Context) -> ChatGPTRec:
    backend = completions.build_backend(context.llm, context.cache, context.device, context.seed)
    return ChatGPTRec(context.config, context, backend, Store(completions.store_path(context.llm, context.cache)))

"""Weights of Prompt4NR's published code, a BertForMaskedLM with added tokens, as weights of ours.

Theirs are one table with the added tokens at its end: [NSEP], then the virtual tokens P, Q and M. Ours are two tables,
with virtual tokens in the order of the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from llm4rec_cli.errors import DataError, Llm4RecError, UsageError
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.bert import PackedBert
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig

VIRTUAL = "PQM"  # groups of virtual tokens: before the user, the candidate and the mask
MODEL = "BERT."  # prefix of the published names
LEFT_OUT = frozenset({f"{MODEL}bert.embeddings.position_ids"})  # 0, 1, 2, …, which older transformers store
WORDS = "bert.embeddings.word_embeddings.weight"
COPIES = {"cls.predictions.decoder.weight": WORDS, "cls.predictions.decoder.bias": "cls.predictions.bias"}


def problems(config: Prompt4NRConfig) -> Iterator[Llm4RecError]:
    yield from config.problems_of_backbone()
    if config.shares_histories:
        yield UsageError(
            "published weights were trained with histories that attend to candidates, and model.attention=shared "
            "is another model",
            "model.attention=full",
        )
    groups = [segment.field for segment in templates.segments(config.prompts.text) if segment.is_virtual]
    if unknown := [group for group in groups if group not in VIRTUAL]:
        yield UsageError(
            f"template '{config.prompts.name}' has virtual tokens {unknown[0]}, and published weights have "
            f"{', '.join(VIRTUAL)}",
            "the template that the weights were trained with: prompt=prompt4nr/NAME",
        )


def shapes(config: Prompt4NRConfig) -> dict[str, tuple[int, ...]]:
    template = _template(config)
    with torch.device("meta"):
        bert = BertForMaskedLM(_architecture(config, template.n_words + len(template.new_tokens)))
    return {MODEL + name: tuple(weight.shape) for name, weight in bert.state_dict().items()}


def imported_state(config: Prompt4NRConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items()}
    for copy, original in COPIES.items():
        if not torch.equal(named[copy], named[original]):
            raise DataError(f"{MODEL}{copy} is not a copy of {MODEL}{original}", "name a file of the published code")
    template = _template(config)
    n_words, table = template.n_words, named[WORDS]
    # The state of a model without the added tokens, whose output weights nobody reads.
    for name in {*COPIES, *COPIES.values()}:
        named[name] = named[name][:n_words]
    with torch.device("meta"):
        bert = BertForMaskedLM(_architecture(config, n_words))
    bert.load_state_dict(named, assign=True)
    packed = PackedBert(bert, len(template.new_tokens))
    first, *virtual = template.new_tokens
    in_file = [first, *sorted(virtual, key=lambda token: VIRTUAL.index(token[1]))]  # [P1] is of group P
    with torch.no_grad():
        packed.new.copy_(table[[n_words + in_file.index(token) for token in template.new_tokens]])
    return {f"bert.{name}": weight for name, weight in packed.state_dict().items()}


def _template(config: Prompt4NRConfig) -> templates.TemplateTokens:
    tokenizer = templates.load_tokenizer(templates.backbone_folder(config.backbone))
    return templates.tokenize_template(config.prompts, tokenizer)


def _architecture(config: Prompt4NRConfig, n_words: int) -> BertConfig:
    return BertConfig.from_pretrained(templates.backbone_folder(config.backbone), vocab_size=n_words)

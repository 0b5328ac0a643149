"""Settings of UniSRec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    Config,
    Deviations,
    EncoderConfig,
    ModelKind,
    Precision,
    PublishedWeights,
    Question,
    SplitRule,
    TaskConfig,
    Traits,
    added,
    noted,
)
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.shared.config import EncoderSizes, encodes_as_unisrec
from llm4rec_cli.models.unisrec.settings import (
    Adaptor,
    AdaptorDraw,
    Freeze,
    PretrainingConfig,
    PretrainingLoss,
    Similarity,
)

# Settings that weights fit.
SHAPES = (
    *("encoder.pooling", "encoder.max_length", "encoder.instruction", "encoder.dimension", "encoder.whiten"),
    *("adaptor", "experts"),
    *("hidden_size", "inner_size", "layers", "heads", "max_length"),
)


@dataclass
class UniSRecConfig(EncoderSizes):
    """Universal sequence representation learning (KDD 2022)."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rank_new_items", "pretrain"}),
        ModelKind.paper,
        trainable=True,
        needs_text=True,
        bf16_scoring=True,
        published=PublishedWeights("RUCAIBox/UniSRec @05aa5cb", "unisrec/pretrain_paper"),
    )

    encoder: EncoderConfig = MISSING
    adaptor: Adaptor = MISSING
    experts: int = ranges.number(at_least=1)  # of adaptor=moe, as the next two
    adaptor_dropout: float = ranges.number(at_least=0, below=1)
    draw: AdaptorDraw = MISSING
    use_ids: bool = noted(MISSING, named=True)  # false = inductive (UniSRec_t), true = transductive (UniSRec_t+ID)
    temperature: float = ranges.number(above=0)  # that divides cosines
    similarity: Similarity = added(Similarity.cosine)
    # run that provides the initial weights
    init_from: str | None = noted(ranges.path(None), named=True, provenance=True, agrees_in=SHAPES)
    freeze: Freeze = noted(MISSING, named=True, provenance=True)
    pretraining: PretrainingConfig | None = noted(None, provenance=True)  # null unless task=pretrain

    def unused_settings(self, task: TaskConfig) -> Mapping[str, str]:
        unused = {} if task.question == Question.pretrain else {"pretraining": "task=pretrain"}
        if self.adaptor is not Adaptor.moe:
            unused |= dict.fromkeys(("experts", "adaptor_dropout", "draw"), "model.adaptor=moe")
        if self.similarity is not Similarity.cosine:
            unused["temperature"] = "model.similarity=cosine"
        return unused

    def problems(self, config: Config) -> Iterator[UsageError]:
        if self.init_from is not None and self.encoder.is_fitted:
            yield UsageError(
                "model.init_from starts from weights of other data, and text vectors by TF-IDF, PCA or whitening are "
                "fitted to these",
                "model.encoder.dimension=null model.encoder.whiten=false, and an encoder with weights",
            )
        if config.task.question != Question.pretrain:
            return
        if self.pretraining is None:
            yield UsageError("task=pretrain needs model.pretraining, which is null", "remove model.pretraining=null")
        elif self.pretraining.item_weight == self.pretraining.sequence_weight == 0:
            yield UsageError(
                "model.pretraining.item_weight=0 and model.pretraining.sequence_weight=0 leave no loss",
                "set one of them above 0",
            )
        if config.trainer.micro_batch_size is not None:
            yield UsageError(
                "trainer.micro_batch_size splits a batch, but under this loss its rows are negatives of each other",
                "trainer.micro_batch_size=null, and a smaller trainer.batch_size or several processes",
            )
        if config.dataset.split is SplitRule.p5_reviews:
            yield UsageError(
                "task=pretrain is validated on leave-one-out targets, which dataset.split=p5_reviews has in training",
                "dataset.split=leave_one_out",
            )
        if self.similarity is not Similarity.cosine:
            yield UsageError(
                "pre-training contrasts cosines, but model.similarity=dot",
                "model.similarity=cosine; or train it on the source domains by task=sequential, as ZESRec",
            )
        if self.freeze is not Freeze.none and self.init_from is None:
            yield UsageError(
                f"model.freeze={self.freeze.name} would freeze random weights during pre-training",
                "model.freeze=none, or weights to start from: model.init_from=RUN",
            )
        if self.use_ids:
            yield UsageError(
                "pre-training uses only text: item ids would not transfer to other datasets", "model.use_ids=false"
            )

    def problems_with_new_items(self) -> Iterator[UsageError]:
        if self.use_ids:
            yield UsageError(
                "model.use_ids=true learns a vector for each item, which a new item does not have",
                "use or train a model of text only: model.use_ids=false",
            )

    def display_name(self) -> str:
        """Return `unisrec` or `zesrec`, with its differences from a model of text trained from scratch."""
        variants = {
            "two linear layers": self.adaptor == Adaptor.two_linear and not self.is_zesrec,
            "inner product": self.similarity == Similarity.dot and not self.is_zesrec,
            "linear adaptor": self.adaptor == Adaptor.linear,
            "one expert": self.adaptor == Adaptor.moe and self.experts == 1,
            "pre-trained": self.init_from is not None,
            f"frozen {self.freeze.name}": self.freeze != Freeze.none,
        }
        name = "zesrec" if self.is_zesrec else f"{self.name} + ids" if self.use_ids else self.name
        return ", ".join([name, *(variant for variant, applies in variants.items() if applies)])

    @property
    def is_zesrec(self) -> bool:
        """Whether this is ZESRec (arXiv 2105.08318) as UniSRec's table has it: text through two linear layers into
        SASRec, compared by inner products."""
        return self.adaptor is Adaptor.two_linear and self.similarity is Similarity.dot and not self.use_ids

    def paper_experiment(self, task: TaskConfig) -> str | None:
        if self.is_zesrec:
            return None
        return "unisrec/pretrain_paper" if task.question == Question.pretrain else "unisrec/paper"

    def paper_method(self, task: str) -> Mapping[str, str]:
        if self.is_zesrec:
            return {"method": "zesrec", "text encoder": self.encoder.label}
        items = "text + ids" if self.use_ids else "text"
        if self.adaptor is not Adaptor.moe or self.experts == 1 or self.similarity is not Similarity.cosine:
            items += ", an ablation of the adaptor"
        return {"method": "unisrec", "items": items, "text encoder": self.encoder.label, "frozen": self.freeze.name}

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        here, fits = trained_on is not None, self.pretraining is None
        pre = self.pretraining if here else None
        has_bugs = pre is not None and pre.loss is PretrainingLoss.paper_code
        freezes = Freeze if self.is_zesrec else (Freeze.encoder,)  # UniSRec's paper freezes the encoder
        sharing = "inputs and targets" if fits else "inputs, augmented inputs and targets"
        return {
            **dict.fromkeys(("whole_sequences", "windows"), here),
            "no_padding_item": here and fits,  # pre-training has the negatives of the batch
            "bf16_encoder": self.encoder.precision is Precision.bf16,
            **dict.fromkeys(("same_user", "shared_augmentation"), pre is not None),
            "no_item_loss": pre is not None and pre.item_weight == 0,
            "no_augmentation": pre is not None and pre.drop == 0,
            "dropped_run": has_bugs,
            **dict.fromkeys(("same_target", "dropped_items"), pre is not None and not has_bugs),
            "from_scratch": here and fits and self.init_from is None,
            "freeze": here and fits and self.init_from is not None and self.freeze not in freezes,
            "catalogue_draw": here and self.draw is AdaptorDraw.catalogue and {"sharing": sharing},
            "zesrec": here and self.is_zesrec,
            "linear": here and self.adaptor is Adaptor.linear,
            "text_encoder": not encodes_as_unisrec(self.encoder),
        }

    def labels(self, task: str) -> list[str]:
        labels = [] if encodes_as_unisrec(self.encoder) else ["substitute-encoder"]
        if self.pretraining and self.pretraining.loss is PretrainingLoss.paper_code:
            labels.append("paper-code-loss")
        return labels

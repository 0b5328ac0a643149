"""Count what the runs of the papers' tables ask of a machine, for `llm4rec list papers` and `reproduce --dry-run`.

    python scripts/table_costs.py                       counts what is not in the file yet
    python scripts/table_costs.py --tables "unisrec/*" --again

Nothing is trained, downloaded or timed. A training step is counted with the settings of the table, on a dataset of
random interactions and texts with the counts that the paper prints. Published weights are replaced by random ones of
their shape, tokenizers by packaged ones, and text features by random vectors of their size.

The result, llm4rec_studies/paper_tables/work.json, is data: how long it takes on a GPU follows from rates.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, LlamaConfig, PreTrainedModel, T5Config

from llm4rec_cli import arithmetic
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.schema import DatasetConfig, Precision, Question, SplitRule
from llm4rec_cli.data.split import Split
from llm4rec_cli.llm import weights as chat_weights
from llm4rec_cli.meta import read_as_zeros, without_values
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.text.weights import MINILM, find_local_folder
from llm4rec_studies.cost import run as cost
from llm4rec_studies.cost.stand_in import WORDS, Counts, stand_in
from llm4rec_studies.cost.work import Work
from llm4rec_studies.paper_tables import definitions, estimates
from llm4rec_studies.paper_tables.definitions import Size, matches
from llm4rec_studies.paper_tables.plan import plan_of
from llm4rec_studies.paper_tables.steps import Runner, Step, composed

log = logging.getLogger(__name__)

LARGEST_ON_CPU = 1e9  # weights of a model whose answers are counted there
USERS = 3_000  # of a stand-in at most: rows and examples are scaled up from them
ENCODERS = {"bert-base-uncased": 768, "sentence-transformers/sentence-t5-base": 768, "minilm": 384}
STAND_INS = {  # settings that need published files -> what has the same cost
    "tiger": ["model.ids.kind=random", "model.ids.codes=4", "model.encoder=null"],
    "rpg": ["model.ids.kind=random", "model.encoder=null"],
    "tuned_lm": ["model.weights=random"],
}
COUNTS = {  # of datasets whose papers print none: rows of released files
    "tallrec-movie": Counts(200, 1682, 10_000),
    "tallrec-book": Counts(500, 5000, 24_270),
    "collm-ml-1m": Counts(838, 3255, 51_623),
}
COUNTS_OF_DOMAINS = {  # UniSRec, Table 1, after filtering
    "food": Counts(115_349, 39_670, 1_027_413),
    "home": Counts(731_913, 185_552, 6_451_926),
    "cds": Counts(94_010, 64_439, 1_118_563),
    "kindle": Counts(138_436, 98_111, 2_204_596),
    "movies": Counts(281_700, 59_203, 3_226_731),
}
T5_VOCABULARY, LLAMA_VOCABULARY = 32_100, 32_000
BACKBONES: dict[str, Any] = {
    "t5-small": T5Config(vocab_size=32_128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8),
    "t5-base": T5Config(vocab_size=32_128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12),
    "bert-base-uncased": BertConfig(),
    "huggyllama/llama-7b": LlamaConfig(),
    "lmsys/vicuna-7b-v1.5": LlamaConfig(),
}


# --- stand-ins of published files


def backbone_folder(name: str, folder: Path) -> Path:
    """Write the settings of a published model and a tokenizer in place of its own, without weights."""
    settings = BACKBONES[name]
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    if settings.model_type == "t5":
        t5_tokenizer().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    else:
        packaged = find_local_folder(MINILM)
        if settings.model_type == "llama":
            packaged = chat_weights.model_folder(chat_weights.locate("smollm2"), folder.parent)
        assert packaged is not None
        for file in packaged.iterdir():
            if file.name.startswith(("tokenizer", "vocab", "special", "merges", "chat")):
                shutil.copy(file, folder)
    settings.save_pretrained(folder)
    save_file({"cls.predictions.bias": torch.zeros(1)}, folder / "model.safetensors")  # says that it has a head
    return folder


def t5_tokenizer() -> Tokenizer:
    """Return a tokenizer with as many pieces as T5's: the words of stand-ins, characters, and some that no text has."""
    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS)]
    pieces += [f"{mark}{chr(code)}" for code in range(33, 127) for mark in ("", "▁")]
    pieces = [*dict.fromkeys(pieces), "▁"]
    pieces += [f"▁unused{i}" for i in range(T5_VOCABULARY - len(pieces))]
    tokenizer = Tokenizer(Unigram([(piece, -10.0 if len(piece) > 2 else -12.0) for piece in pieces], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@contextlib.contextmanager
def without_weights(device: str) -> Iterator[None]:
    """Let published weights be those of an untrained model on a device."""

    def from_pretrained(cls: Any, folder: str, *_: Any, **__: Any) -> Any:
        with torch.device(device):
            return cls(AutoConfig.from_pretrained(folder)), {"missing_keys": []}

    from_config = AutoModelForCausalLM.from_config

    def on_device(settings: Any, **options: Any) -> Any:
        with torch.device(device):
            return from_config(settings, **options)

    with (
        mock.patch.object(PreTrainedModel, "from_pretrained", classmethod(from_pretrained)),
        mock.patch.object(AutoModelForCausalLM, "from_config", on_device),
    ):
        yield


# --- counting


def count(step: Step, folder: Path) -> dict[str, Any]:
    """Return the work of a step as work.json has it."""
    job = stand_in_job(step, folder)
    counts = counts_of(job.config.dataset)
    split = stages.split_dataset(job, stand_in(job.config.dataset, counts.limited(USERS)))
    scale = counts.users / counts.limited(USERS).users
    build = partial(built, job, split)
    with mock.patch.object(arithmetic, "CPU", "another"):
        model = build("meta")
        found: dict[str, Any] = {"precision": job.config.trainer.precision.name}
        if scoring := getattr(job.config.model, "scoring", None):
            found["scoring"] = scoring.name
        is_trained = step.command == "train" and any(weight.requires_grad for weight in model.parameters())
        if is_trained:
            training = cost.count_training(job, model)
            found |= {"rows": round(scale * training.rows), "steps": round(scale * training.steps)}
            found |= {"step": numbers(training.step), "memory": training.memory}
            if work := answering(partial(cost.count_validation, job, split), model, build, scale):
                found["validation"] = numbers(work)
        if job.task.question != Question.all and (
            answered := answering(partial(cost.count_evaluation, job, split), model, build, scale)
        ):
            found |= {"examples": answered[0], "evaluation": numbers(answered[1])}
    return found


def counts_of(dataset: DatasetConfig) -> Counts:
    """Return the counts of a dataset; of UniSRec's domains their sums, as some tables leave domains out, and of a
    transfer between two of P5's shops theirs, as if every user were in both."""
    if dataset.name == "amazon2018-fhckm":
        return sum_of(COUNTS_OF_DOMAINS[domain] for domain in dataset.domains)
    if dataset.paper:
        return Counts.printed(dataset.paper)
    if dataset.split is not SplitRule.transfer:
        return COUNTS[dataset.name]
    shops = (Job.unchecked(compose([f"dataset=amazon2014-{shop}-reviews"]), "train") for shop in dataset.domains)
    return sum_of(counts_of(shop.config.dataset) for shop in shops)


def sum_of(counts: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(*map(astuple, counts), strict=True)))


def built(job: Job, split: Split, device: str) -> Any:
    with without_weights(device), mock.patch("llm4rec_cli.run.job.resolve_device", lambda _: device):
        return stages.build(replace(job), split, is_loaded=True)


def answering(counted: Callable[..., Any], model: Any, build: Callable[[str], Any], scale: float) -> Any:
    """Return the work of answers: on "meta", or on the CPU where what is read decides what is computed; None if the
    model is too large for that."""
    try:
        with without_values(), read_as_zeros():
            return counted(model.to("meta"), scale)
    except Exception as error:
        log.info("not counted without values: %s: %s", type(error).__name__, str(error).partition("\n")[0])
    if sum(weight.numel() for weight in model.parameters()) > LARGEST_ON_CPU:
        return None
    return counted(build("cpu"), scale)


def stand_in_job(step: Step, folder: Path) -> Job:
    """Return the job of a step with stand-ins of what is not on this machine. `auto` means bf16: on a GPU it would."""
    overrides = [hydra_override(override) for override in step.overrides]
    config, is_auto = compose(overrides).config, (Precision.auto, "auto")
    more = [*STAND_INS.get(config.model.name, []), f"paths.cache={folder}"]
    if config.trainer.precision in is_auto:
        more.append("trainer.precision=bf16")
    if config.model.get("scoring") in is_auto:
        more.append("model.scoring=bf16")
    if (backbone := config.model.get("backbone")) in BACKBONES:
        more.append(f"model.backbone={backbone_folder(backbone, folder / backbone.replace('/', '-'))}")
    if config.model.get("encoder") and "model.encoder=null" not in more:
        more += ["model.encoder.name=random", f"model.encoder.dimension={ENCODERS.get(config.model.encoder.name, 768)}"]
    return settled(Job.unchecked(compose([*overrides, *more]), "train"))


def numbers(work: Work) -> list[float]:
    return [float(f"{part:.4g}") for part in astuple(work)]


# --- the tables


def steps_of(name: str) -> dict[str, dict[str, list[Step]]]:
    """Return the steps of a table that may need a GPU: row -> key -> its steps. A step of several rows is listed with
    the first; what a row starts from, and its search, belong to the row."""
    table = definitions.table(name)
    plan = plan_of(table, table.cells(), Size.paper, (), Runner({}, []), False, None)
    listed: set[Step] = set()
    rows: dict[str, dict[str, list[Step]]] = {}

    def add(row: str, step: Step) -> None:
        for needed in step.needed:
            add(row, needed)
        if step in listed or step.command not in ("train", "eval"):
            return
        listed.add(step)
        traits = config_class(composed(step.overrides).config.model.name).traits
        if traits.trainable and not traits.uses_llm:
            rows.setdefault(row, {}).setdefault(estimates.key_of(step), []).append(step)

    for cell, steps in plan.cells.items():
        for step in steps:
            add(cell.row.label, step)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="*", help="patterns of tables")
    parser.add_argument("--again", action="store_true", help="count what is in the file, too")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    known = json.loads(estimates.FILE.read_text()) if estimates.FILE.exists() else {"work": {}, "tables": {}}
    todo: dict[str, Step] = {}
    for name in definitions.names():
        if matches(name, options.tables):
            rows = steps_of(name)
            known["tables"][name] = {row: {key: len(s) for key, s in keys.items()} for row, keys in rows.items()}
            todo |= {key: s[0] for keys in rows.values() for key, s in keys.items()}
    with tempfile.TemporaryDirectory() as folder:
        for number, (key, step) in enumerate(sorted(todo.items(), key=lambda entry: entry[0].startswith("eval")), 1):
            if key in known["work"] and not options.again:
                continue
            try:
                known["work"][key] = count(step, Path(folder))
            except Exception as error:
                traceback.print_exc()
                known["work"][key] = {"unknown": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
            print(f"{number} of {len(todo)}: {key}: {known['work'][key]}", flush=True)
            save(known)
    save(known)


def save(known: dict[str, Any]) -> None:
    """Write a line for each entry."""
    parts = []
    for part in ("work", "tables"):
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(known[part].items())]
        parts.append(f'"{part}": {{\n' + ",\n".join(lines) + "\n}")
    estimates.FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()

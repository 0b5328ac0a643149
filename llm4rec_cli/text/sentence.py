"""What a folder of sentence-transformers says about its vectors besides weights. Imports no torch.

Its `modules.json` lists what a text goes through: a Transformer, a Pooling, then Dense layers and Normalize.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli.config.schema import EncoderConfig, Pooling
from llm4rec_cli.errors import UsageError
from llm4rec_cli.text.weights import MINILM, digest_of

POOLINGS = {"cls": Pooling.cls, "mean": Pooling.mean, "lasttoken": Pooling.last}  # by the library's name
ACTIVATIONS = ("Identity", "Tanh")
DENSE, NORMALISE = "Dense", "Normalize"


@dataclass(frozen=True)
class Dense:
    """A linear layer after pooling.

    Attributes:
        weights: a safetensors file with `linear.weight` (out, in), and `linear.bias` (out) if it has one.
        activation: one of ACTIVATIONS.
    """

    weights: Path
    activation: str


@dataclass(frozen=True)
class Recipe:
    """How a folder turns token states into a vector.

    Attributes:
        pooling: None where the folder does not say.
        max_length: most tokens of a text; None where the folder does not say.
        frame: how a text is written, with its place as `{text}`; None where any is as good.
        lower_case: whether texts are lower-cased before the tokenizer.
        layers: applied to pooled vectors in this order; None scales them to length 1.
    """

    pooling: Pooling | None = None
    max_length: int | None = None
    frame: str | None = None
    lower_case: bool = False
    layers: tuple[Dense | None, ...] = ()

    @property
    def after_pooling(self) -> str:
        """What the layers do, for the log."""
        done = ["through a linear layer" if layer else "scaled to length 1" for layer in self.layers]
        return ", then ".join(done) or "not normalised"

    def identity(self, weights: str) -> str:
        """Return the hash of an encoder: that of its weights, and of what else its vectors depend on."""
        if not (self.layers or self.lower_case):
            return weights
        layers = [layer and [digest_of(layer.weights), layer.activation] for layer in self.layers]
        return hashlib.sha256(json.dumps([weights, layers, self.lower_case]).encode()).hexdigest()


def frame_of(config: EncoderConfig) -> str:
    """Return how a text is written for the encoder, with its place as `{text}`."""
    instruction = config.instruction or "{text}"
    return instruction if "{text}" in instruction else f"{instruction} {{text}}"


def recipe_of(config: EncoderConfig, folder: Path) -> Recipe:
    """Return what the folder of an encoder says, once the config says the same.

    The packaged MiniLM is read as a plain folder: pooling is free, and vectors keep their length.

    Raises:
        UsageError: pooling, length or instruction contradict the folder; or it needs something that is not supported.
    """
    is_plain = config.name == MINILM or not (folder / "modules.json").exists()
    positions = _read(folder / "config.json").get("max_position_embeddings")
    recipe = Recipe(max_length=positions) if is_plain else _read_recipe(folder, positions)
    if recipe.max_length is not None and config.max_length > recipe.max_length:
        raise UsageError(
            f"model.encoder.max_length={config.max_length} is too large: {config.name} takes at most "
            f"{recipe.max_length} tokens",
            f"model.encoder.max_length={recipe.max_length}",
        )
    if recipe.pooling not in (None, config.pooling):
        raise UsageError(
            f"model.encoder.pooling={config.pooling.name}, but {config.name} was trained with {recipe.pooling.name} "
            f"pooling, as {folder / 'modules.json'} says",
            f"model.encoder.pooling={recipe.pooling.name}",
        )
    if recipe.frame not in (None, frame_of(config)):
        raise UsageError(
            f"{config.name} was trained on '{recipe.frame}', and would read '{frame_of(config)}'",
            f"'model.encoder.instruction=\"{recipe.frame}\"'",
        )
    return recipe


def _read_recipe(folder: Path, positions: int | None) -> Recipe:
    """Return what `modules.json` and the files that it names say; the Transformer has so many positions."""
    modules = _read(folder / "modules.json")
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not {*kinds[2:]} <= {DENSE, NORMALISE}:
        raise _unsupported(folder / "modules.json", " then ".join(kinds))
    pooling, *layers = [folder / module["path"] for module in modules[1:]]
    tokenizer = _first(folder, "tokenizer_config.json")
    tokens = _first(folder, "sentence_*_config.json")
    prompts = _first(folder, "config_sentence_transformers.json")
    limits = (
        positions,
        tokens.get("max_seq_length", tokenizer.get("model_max_length")),
    )  # newer versions write the latter
    default = prompts.get("default_prompt_name")
    return Recipe(
        pooling=_pooling(pooling / "config.json"),
        max_length=min(filter(None, limits), default=None),
        frame=f"{prompts['prompts'][default]}{{text}}" if default else None,
        lower_case=tokens.get("do_lower_case", False),
        layers=tuple(_dense(layer) if kind == DENSE else None for kind, layer in zip(kinds[2:], layers, strict=True)),
    )


def _pooling(file: Path) -> Pooling:
    """Return the only pooling of a Pooling module: its `pooling_mode`, or the one of its older flags that is true."""
    settings = {"pooling_mode_mean_tokens": True} | _read(file)
    flags = [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key in settings
        if key.startswith("pooling_mode_") and settings[key]
    ]
    named = settings.get("pooling_mode", flags)
    names = [named] if isinstance(named, str) else named
    if len(names) != 1 or names[0] not in POOLINGS:
        raise _unsupported(file, f"{' and '.join(names)} pooling")
    if not settings.get("include_prompt", True):
        raise _unsupported(file, "pooling that leaves out the instruction's tokens (include_prompt)")
    return POOLINGS[names[0]]


def _dense(folder: Path) -> Dense:
    settings, weights = _read(folder / "config.json"), folder / "model.safetensors"
    activation = settings["activation_function"].rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise _unsupported(folder / "config.json", f"the activation {activation}")
    if not weights.exists():
        raise UsageError(f"{weights} does not exist", "save the layer as safetensors; pickled weights are not read")
    return Dense(weights, activation)


def _first(folder: Path, pattern: str) -> dict[str, Any]:
    return next(map(_read, folder.glob(pattern)), {})


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "give a complete folder of the encoder") from error


def _unsupported(file: Path, what: str) -> UsageError:
    return UsageError(
        f"{file}: {what} is not supported",
        f"an encoder with {', '.join(POOLINGS)} pooling, then Dense ({' or '.join(ACTIVATIONS)}) and Normalize only",
    )

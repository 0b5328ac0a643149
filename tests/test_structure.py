"""How the house is built: who imports whom, and that generic code knows no particular model."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

import llm4rec_cli
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import EncoderConfig, Index, ModelConfig, Weights, weights
from llm4rec_cli.runs import identity
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.text import weights as text_weights
from tests.support.driver import spec_of

PACKAGE = Path(llm4rec_cli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [file.relative_to(PACKAGE).as_posix() for file in FILES]
# What comes later may import what comes earlier, and not the other way; what stands together is of one height.
HEIGHTS = (
    {"errors"},
    {"config"},
    {"files", "processes", "progress", "capabilities", "arithmetic"},
    {"data", "text", "llm", "evaluation"},
    {"tasks", "models"},
    {"runs"},
    {"training", "reporting", "human", "launch"},
    {"commands"},
    {"cli", "__main__"},
)


def room(name: str) -> str:
    """`runs` of `runs/spec.py`, `errors` of `errors.py`."""
    return name.partition("/")[0].removesuffix(".py")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text())


@cache
def imported(name: str) -> frozenset[str]:
    """The modules that a file imports, at its top or within functions, but not those for types alone."""
    typed_only = {
        id(statement)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
    }
    modules = set()
    for node in ast.walk(tree(name)):
        if id(node) in typed_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return frozenset(modules)


def test_imports_run_one_way():
    height = {room_name: i for i, rooms in enumerate(HEIGHTS) for room_name in rooms}
    upwards = []
    for name in NAMES:
        if room(name) == "__init__":
            continue
        for module in imported(name):
            package, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if package == "llm4rec_cli" and target in height and height[target] > height[room(name)]:
                upwards.append(f"{name} imports {module}")
    assert upwards == []


def test_no_modules_import_one_another():
    modules = {"llm4rec_cli." + name.removesuffix(".py").replace("/", "."): name for name in NAMES}
    left = {module: imported(name) & modules.keys() for module, name in modules.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}, "these import one another, or what does"


def test_methods_share_nothing_but_what_is_shared():
    """No method imports another one, and baselines import none."""
    methods = {name.split("/")[1] for name in NAMES if name.startswith("models/") and name.count("/") == 2}
    crossing = [
        f"{name} imports {module}"
        for name in NAMES
        if name.startswith("models/")
        for module in imported(name)
        for method in methods - {"shared", name.split("/")[1]}
        if module.startswith(f"llm4rec_cli.models.{method}.")
    ]
    assert crossing == []


def test_no_command_imports_another():
    commands = {f"llm4rec_cli.commands.{file.stem}" for file in (PACKAGE / "commands").glob("[!_]*.py")}
    assert [name for name in NAMES if name.startswith("commands/") and imported(name) & commands] == []


def test_only_the_config_package_imports_hydra():
    hydra = [n for n in NAMES if any(module.partition(".")[0] == "hydra" for module in imported(n))]
    assert hydra == ["config/compose.py", "config/overrides.py"]  # the second asks its grammar how a value is quoted


def fields_of_particular_models() -> set[str]:
    own = {declared.name for name in model_names() for declared in fields(config_class(name))}
    return own - {declared.name for declared in fields(ModelConfig)}


def test_generic_code_reads_no_field_of_a_particular_model():
    """As `….model.encoder`, `getattr(….model, "encoder")` or `….model["encoder"]`."""
    particular = fields_of_particular_models()
    assert {"encoder", "backbone", "index", "init_from", "tokens"} <= particular

    def is_model(node: ast.expr) -> bool:
        return (isinstance(node, ast.Attribute) and node.attr == "model") or (
            isinstance(node, ast.Name) and node.id == "model"
        )

    def field_read(node: ast.AST) -> Any:
        """The name that an expression reads off a model config; None of other expressions."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "model":
            return node.attr
        if isinstance(node, ast.Subscript) and is_model(node.value) and isinstance(node.slice, ast.Constant):
            return node.slice.value
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and is_model(node.args[0]):
            return node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        return None

    generic = [name for name in NAMES if room(name) not in ("models", "__init__")]
    read = [
        f"{n}: {ast.unparse(node)}" for n in generic for node in ast.walk(tree(n)) if field_read(node) in particular
    ]
    assert read == []


def test_what_finds_problems_yields_them_and_raises_none():
    raising = [
        f"{name}: {node.name}"
        for name in NAMES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith(("problems", "faults", "refusals"))
        if any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert raising == []


# --- a model that nobody has heard of


@dataclass
class ToyConfig(ModelConfig):
    """A model whose settings are called as no other's."""

    trainable: ClassVar[bool] = True

    text_encoder: EncoderConfig = field(default_factory=EncoderConfig)
    trunk: str = weights(Weights.backbone, drawn=("scratch",))
    index: Index = Index.random
    encoder: str = "a word of its own"


@pytest.fixture
def toy(monkeypatch) -> Any:
    """toy(**settings): the hash of the toy's address, where weights are what `known` says of their names."""
    known: dict[str, str] = {}
    monkeypatch.setattr(text_weights, "locate_weights", lambda name: (Path(name), known.get(name, name)))
    monkeypatch.setattr(text_weights, "backbone_identity", lambda name: known.get(name, name))
    base = spec_of("model=popularity")

    def at(**settings: Any) -> str:
        model = ToyConfig("toy", text_encoder=EncoderConfig("minilm"), trunk="trunk")
        spec = RunSpec(replace(base.config, model=replace(model, **settings)), "train")
        data: Any = type("Data", (), {"fingerprint": "data", "manifest": {}})
        return identity.address_of(spec, data).config_hash

    at.known = known  # type: ignore[attr-defined]
    return at


def test_the_address_of_any_model_follows_the_weights_that_its_settings_name(toy):
    before = toy()
    assert toy(index=Index.sequential) != before
    assert toy(encoder="another") != before, "a setting of that name that names no weights"
    for name in ("minilm", "trunk"):
        toy.known[name] = "other weights of the same name"
        assert toy() != before
        before = toy()
    toy.known["elsewhere"] = toy.known["minilm"]
    assert toy(text_encoder=EncoderConfig("elsewhere")) == before, "the same weights in another place"


def test_weights_that_are_drawn_anew_have_no_identity(toy):
    assert [*identity.weights(ToyConfig("toy", EncoderConfig("minilm"), "scratch"))] == ["text_encoder.name"]

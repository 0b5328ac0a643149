"""Structure of the package: imports run one way, and generic code knows no particular model."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

import llm4rec_cli
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import EncoderConfig, Index, ModelConfig, Traits, Weights, weights
from llm4rec_cli.run import identity
from llm4rec_cli.run.job import Job
from llm4rec_cli.text import encoders as text_encoders
from llm4rec_cli.text import weights as text_weights
from llm4rec_cli.text.sentence import Recipe
from tests.support.driver import job_of

ROOT = Path(llm4rec_cli.__file__).parents[1]
HOUSES = [house for house in ("llm4rec_cli", "llm4rec_studies", "llm4rec_zoo") if (ROOT / house).is_dir()]
NAMES = [file.relative_to(ROOT).as_posix() for house in HOUSES for file in sorted((ROOT / house).rglob("*.py"))]
CORE = [name for name in NAMES if name.startswith("llm4rec_cli/")]
# A layer may import from its own layer and earlier ones.
LAYERS = (
    {"errors", "paths"},
    {"config"},
    {"files", "processes", "progress", "capabilities", "arithmetic", "labels", "meta"},
    {"data", "text", "llm", "evaluation", "ids"},
    {"tasks", "models"},
    {"results"},
    {"run"},
    {"launch", "sweep"},
    {"commands"},
    {"cli", "__main__", "api", "conformance", "plugin_template"},
)


def top_level(name: str) -> str:
    """Return `run` for `llm4rec_cli/run/job.py`, `errors` for `llm4rec_cli/errors.py`."""
    return name.split("/")[1].removesuffix(".py")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text())


@cache
def imported(name: str) -> frozenset[str]:
    """Return the modules that a file imports, also within functions, except those under TYPE_CHECKING."""
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


def test_imports_of_the_core_run_one_way():
    layer_of = {package: i for i, packages in enumerate(LAYERS) for package in packages}
    upwards = []
    for name in CORE:
        if top_level(name) == "__init__":
            continue
        for module in imported(name):
            package, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if package == "llm4rec_cli" and target in layer_of and layer_of[target] > layer_of[top_level(name)]:
                upwards.append(f"{name} imports {module}")
    assert upwards == []


def test_studies_and_zoo_know_the_core_alone_and_the_core_knows_neither():
    """Neither within functions, nor for types, nor by a module's name in a text."""
    crossing = [
        f"{name} imports {module}"
        for name in NAMES
        for module in all_imported(name)
        if (house := module.partition(".")[0]) in HOUSES and house not in ("llm4rec_cli", name.partition("/")[0])
    ]
    assert crossing == []


@cache
def all_imported(name: str) -> frozenset[str]:
    """Return the modules that a file imports anywhere: at the top, in functions, for types, or by importlib."""
    modules = set(imported(name))
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and re.match(r"llm4rec_(cli|studies|zoo)\.", str(node.value)):
            modules.add(str(node.value))
    return frozenset(modules)


def test_no_modules_import_one_another():
    modules = {name.removesuffix(".py").replace("/", "."): name for name in NAMES}
    left = {module: all_imported(name) & modules.keys() for module, name in modules.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}, "these import one another, or what does"


def test_no_method_or_baseline_imports_another_method():
    folders = {Path(name).parts[:3] for name in NAMES if re.fullmatch(r"\w+/models/\w+/\w+\.py", name)}
    methods = {".".join(parts) for parts in folders if parts[2] not in ("shared", "baselines")}
    crossing = [
        f"{name} imports {module}"
        for name in NAMES
        if "/models/" in name
        for module in imported(name)
        for method in methods - {".".join(Path(name).parts[:3])}
        if module.startswith(f"{method}.")
    ]
    assert crossing == []


def test_no_command_imports_another():
    commands = {name.removesuffix(".py").replace("/", ".") for name in NAMES if re.search(r"/commands/[^_]", name)}
    assert [name for name in NAMES if "/commands/" in name and imported(name) & commands] == []


def test_only_the_config_package_imports_hydra():
    hydra = [n for n in NAMES if any(module.partition(".")[0] == "hydra" for module in imported(n))]
    assert hydra == ["llm4rec_cli/config/compose.py", "llm4rec_cli/config/overrides.py"]  # the second uses its grammar


def fields_of_particular_models() -> set[str]:
    own = {field.name for name in model_names() for field in fields(config_class(name))}
    return own - {field.name for field in fields(ModelConfig)}


def test_generic_code_reads_no_field_of_a_particular_model():
    """As `….model.encoder`, `getattr(….model, "encoder")` or `….model["encoder"]`."""
    particular = fields_of_particular_models()
    assert {"encoder", "backbone", "index", "init_from", "tokens"} <= particular

    def is_model(node: ast.expr) -> bool:
        return (isinstance(node, ast.Attribute) and node.attr == "model") or (
            isinstance(node, ast.Name) and node.id == "model"
        )

    def field_read(node: ast.AST) -> Any:
        """Return the field that an expression reads from a model config; None for other expressions."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "model":
            return node.attr
        if isinstance(node, ast.Subscript) and is_model(node.value) and isinstance(node.slice, ast.Constant):
            return node.slice.value
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and is_model(node.args[0]):
            return node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        return None

    generic = [n for n in NAMES if top_level(n) not in ("models", "__init__") and not n.startswith("llm4rec_zoo/")]
    read = [
        f"{n}: {ast.unparse(node)}" for n in generic for node in ast.walk(tree(n)) if field_read(node) in particular
    ]
    assert read == []


def test_functions_that_check_for_problems_yield_them_and_raise_none():
    raising = [
        f"{name}: {node.name}"
        for name in NAMES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith(("problems", "faults"))
        if any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert raising == []


# --- an unknown model


@dataclass
class ToyConfig(ModelConfig):
    """A model whose setting names no other model has."""

    traits: ClassVar[Traits] = Traits(trainable=True)

    text_encoder: EncoderConfig = field(default_factory=EncoderConfig)
    trunk: str = weights(Weights.backbone, random=("scratch",))
    index: Index = Index.random
    encoder: str = "a text"


@pytest.fixture
def toy(monkeypatch) -> Any:
    """toy(**settings) returns the hash of the toy's address; `known` maps names of weights to identities."""
    known: dict[str, str] = {}
    monkeypatch.setattr(text_weights, "locate_weights", lambda name: (Path(name), known.get(name, name)))
    monkeypatch.setattr(text_encoders, "recipe_of", lambda *_: Recipe())
    monkeypatch.setattr(text_weights, "backbone_identity", lambda name: known.get(name, name))
    base = job_of("model=popularity")

    def at(**settings: Any) -> str:
        model = ToyConfig("toy", text_encoder=EncoderConfig("minilm"), trunk="trunk")
        job = Job(replace(base.config, model=replace(model, **settings)), "train")
        data: Any = type("Data", (), {"fingerprint": "data", "manifest": {}})
        return job.address(data).config_hash

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


def test_random_weights_have_no_identity(toy):
    assert [*identity.pretrained_weights(ToyConfig("toy", EncoderConfig("minilm"), "scratch"))] == ["text_encoder.name"]


def test_members_and_traits_that_a_model_declares_distinguish_several():
    """If not, a member belongs to the statements, the metadata of a field or the model's package."""
    classes = {config_class(name) for name in model_names()}
    members = {name for name in vars(ModelConfig) if not name.startswith("_")} | {
        own.name for own in fields(ModelConfig)
    }
    bases = {kind: [base for base in kind.__mro__ if issubclass(base, ModelConfig)][:-1] for kind in classes}
    functions = {name: member for name, member in vars(ModelConfig).items() if inspect.isfunction(member)}
    stated = {name for name, function in functions.items() if "Statements" in function.__code__.co_names}
    for member in members - stated - {"role", "name"}:
        assert sum(any(member in vars(base) for base in bases[kind]) for kind in classes) > 1, member
    for trait in fields(Traits):
        assert len({repr(getattr(kind.traits, trait.name)) for kind in classes}) > 1, trait.name

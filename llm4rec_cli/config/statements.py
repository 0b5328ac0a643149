"""What follows from a model's settings, as data: conf/deviations/MODEL.yaml.

    base: next_item                # a file whose entries come first
    name: [unisrec, {when: {experts: 1}, says: one expert}]      # in tables: all that apply, joined by commas
    experiment: unisrec/paper      # with the paper's settings; a run's differences from it are derived
    method: {loss: "{loss_words}"}  # facts that match a run with a paper's results
    labels: {leaky: {when: {index: leaky_p5}}}
    unused: [{unless: {adaptor: moe}, settings: [experts], use: model.adaptor=moe}]
    refused: [{when: {layers: 1}, problem: one layer is too few, remedy: model.layers=2}]
    deviations: {windows: {when: {trained: true}}, linear: {when: {adaptor: linear}, says: a linear layer instead}}

An entry applies if all of `when` holds and not all of `unless`; a list of either has alternatives. A condition names a
setting of the model (`encoder.name`), a property of its config, or a fact: `task`, `trained` (the weights were trained
here), a group of the config where it refuses, or what `ModelConfig.facts` adds. It asks for a value, one of a list, or
`not`, `above`, `has` (a list has it) or `like` (the last part of a path matches a pattern). Of several cases of a text
the first that applies counts. A deviation without a text is a sentence of shared.yaml. In texts, `{backbone!n}` is the
last part of a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from llm4rec_cli.config.folders import data_file
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.errors import UsageError

GROUP, SHARED = "deviations", "shared"


class Statements:
    """The file of a model, asked about its config and the `facts` that conditions and texts may name besides."""

    def __init__(self, model: Any, facts: Mapping[str, Any] | None = None) -> None:
        self.model, self.facts, self.sections = model, facts or {}, sections(model.name)

    def name(self) -> str:
        cases = _listed(self.sections.get("name", self.model.name))
        return ", ".join(self._filled(case) for case in cases if self._applies(case))

    def experiment(self) -> str | None:
        return self._first(self.sections.get("experiment", []))

    def method(self) -> dict[str, str]:
        return self._texts("method")

    def deviations(self) -> dict[str, str]:
        """Return the sentences that apply, by id."""
        return self._texts("deviations", content(SHARED))

    def labels(self) -> list[str]:
        cases = self.sections.get("labels", {})
        return [label for label in cases if any(map(self._applies, _listed(cases[label])))]

    def unused(self) -> dict[str, str]:
        """Return the settings without effect, each with the override that would give it one."""
        entries = filter(self._applies, self.sections.get("unused", []))
        return {setting: entry["use"] for entry in entries for setting in entry["settings"]}

    def refused(self, section: str = "refused") -> Iterator[UsageError]:
        """Yield the combinations of settings that apply and are refused."""
        for entry in filter(self._applies, self.sections.get(section, [])):
            yield UsageError(self._filled(entry["problem"]), self._filled(entry["remedy"]))

    def _texts(self, section: str, otherwise: Mapping[str, str] | None = None) -> dict[str, str]:
        entries = self.sections.get(section, {}).items()
        texts = {name: self._first(cases, (otherwise or {}).get(name)) for name, cases in entries}
        return {name: text for name, text in texts.items() if text is not None}

    def _first(self, cases: Any, otherwise: str | None = None) -> str | None:
        return next((self._filled(case, otherwise) for case in _listed(cases) if self._applies(case)), None)

    def _filled(self, case: Any, otherwise: str | None = None) -> str:
        text = case.get("says", otherwise) if isinstance(case, Mapping) else case
        values: Any = self  # which only give items by name
        return _Words().vformat(text, (), values)

    def __getitem__(self, name: str) -> Any:
        return getattr(self.model, name, self.facts[name]) if name in self.facts else getattr(self.model, name)

    def _applies(self, case: Any) -> bool:
        if not isinstance(case, Mapping):
            return True
        return self._holds(case.get("when", {})) and not ("unless" in case and self._holds(case["unless"]))

    def _holds(self, conditions: Any) -> bool:
        return any(all(_fits(_plain(self.raw(k)), wanted) for k, wanted in c.items()) for c in _listed(conditions))

    def raw(self, path: str) -> Any:
        """Return the value at a dotted path; None below None. Raises AttributeError where there is nothing."""
        first, *rest = path.split(".")
        value = self[first]
        for name in rest:
            value = None if value is None else getattr(value, name)
        return value


class _Words(Formatter):
    def convert_field(self, value: Any, conversion: str | None) -> Any:
        return Path(value).name if conversion == "n" else super().convert_field(value, conversion)


def _listed(cases: Any) -> list[Any]:
    return cases if isinstance(cases, list) else [cases]


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Enum) else value


def _fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return value in _listed(wanted)
    ((how, operand),) = wanted.items()
    if how == "not":
        return not _fits(value, operand)
    if how == "has":
        return operand in map(_plain, value)
    return value is not None and (value > operand if how == "above" else fnmatch(Path(value).name, operand))


def sections(name: str) -> dict[str, Any]:
    """Return the sections of a file after those of its base; empty for a model without a file."""
    own = dict(content(name))
    merged = sections(own.pop("base")) if "base" in own else {}
    for section, entries in own.items():
        lists = isinstance(entries, list)
        both = section in merged and (lists or isinstance(entries, Mapping))
        joined = ([*merged[section], *entries] if lists else {**merged[section], **entries}) if both else entries
        merged[section] = joined
    return merged


def content(name: str) -> Mapping[str, Any]:
    """Return what a file in conf/deviations contains; empty without a file."""
    file = data_file(GROUP, name)
    return {} if file is None else _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _read(file: Path, changed: int) -> Mapping[str, Any]:
    return dict(read_yaml(file))

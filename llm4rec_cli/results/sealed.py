"""Folders that are handed to others: a manifest of sizes and hashes, written last, makes one complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import locked, sha256, write_atomic, write_json, write_text

FILES, COMPLETE = "files", "complete"  # keys of a manifest


@dataclass
class SealedFolder:
    """A folder that is being written.

    Attributes:
        facts: what its manifest says besides the files.
    """

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    _files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Let `write` fill a file; its name is relative to the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write)
        self._files[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}

    def write_text(self, name: str, text: str) -> None:
        self.write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_json(self, name: str, content: Any) -> None:
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    @property
    def names(self) -> list[str]:
        """The files written so far."""
        return sorted(self._files)

    @property
    def content(self) -> dict[str, Any]:
        return {**self.facts, COMPLETE: True, FILES: dict(sorted(self._files.items()))}


@contextmanager
def sealed_folder(path: Path, manifest: str) -> Iterator[SealedFolder]:
    """Let the block write a folder, then write its manifest. Files of an earlier manifest are removed, others left.

    Raises:
        UsageError: the folder has files and no such manifest, so that it is not one of ours.
    """
    path = path.expanduser().resolve()
    with locked(path.with_name(f".{path.name}.lock"), path):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file", "choose another --out folder")
        if path.exists() and any(path.iterdir()):
            earlier = read_manifest(path, manifest)
            if earlier is None:
                raise UsageError(f"{path} has files, and no {manifest} of ours", "choose another --out folder")
            for name in earlier[FILES]:
                if is_inside(name) and not has_link(path, name):
                    (path / name).unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / manifest, {COMPLETE: False, FILES: {}})
        folder = SealedFolder(path)
        yield folder
        write_text(path / manifest, json.dumps(folder.content, indent=2) + "\n")


def read_manifest(folder: Path, manifest: str) -> Mapping[str, Any] | None:
    """Return the content of a manifest; None if it is missing or not a manifest."""
    try:
        content = json.loads((folder / manifest).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_manifest = isinstance(content, dict) and isinstance(content.get(FILES), dict) and COMPLETE in content
    return content if is_manifest else None


def is_inside(name: str) -> bool:
    """Return whether a file's name is a plain relative path: not absolute, without `..`."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and path.as_posix() == name != "."


def has_link(folder: Path, name: str) -> bool:
    """Return whether a file, or a folder on the way to it, is a symbolic link."""
    path = folder
    for part in PurePosixPath(name).parts:
        path /= part
        if path.is_symlink():
            return True
    return False

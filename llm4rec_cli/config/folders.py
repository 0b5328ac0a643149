"""Where config files are: ours, those of installed packages and the user's. Free of Hydra, whose import takes long."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from llm4rec_cli.config.plugins import conf_folders


def conf_dir() -> Path:
    """Return the folder of shipped configs: inside the package in a wheel, next to it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "conf"
    return packaged if packaged.exists() else package.parent / "conf"


def user_conf_dir() -> Path | None:
    """Return `./conf` of the working directory, or None if it does not exist or is the shipped one."""
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != conf_dir().resolve() else None


def conf_dirs() -> list[Path]:
    """Return the folders of configs: the first that has an option is the one that is read."""
    return [conf_dir(), *added_conf_dirs()]


def added_conf_dirs() -> list[Path]:
    """Return those of installed packages, then the user's."""
    return [*conf_folders(), *filter(None, [user_conf_dir()])]


def user_files() -> list[Path]:
    user = user_conf_dir()
    return sorted(user.rglob("*.yaml")) if user else []


def data_file(group: str, name: str) -> Path | None:
    """Return the file of a group outside the composed config, the user's before the shipped one; None if absent."""
    files = (top / group / f"{name}.yaml" for top in reversed(conf_dirs()))
    return next(filter(Path.exists, files), None)


def options(group: str) -> list[str]:
    """Return the options of a group: the YAML files in the shipped and the user's conf. Options build on those whose
    names begin with `_`, which are none themselves."""
    files = ((top / group, file) for top in conf_dirs() for file in (top / group).rglob("*.yaml"))
    named = [file.relative_to(top) for top, file in files if file.is_file() and file.name[0] not in "._"]
    return sorted({file.with_suffix("").as_posix() for file in named})  # an editor's lock is a hidden, broken link


FAMILY = 3  # options whose names begin alike, from which on a list has their number


def families(names: Iterable[str]) -> list[str]:
    """Return names in their order, those of a folder or with one beginning as `amazon2023-… (85)`."""
    of_family = defaultdict[str, list[str]](list)
    for name in names:
        beginning = re.match(r"[^/]+/|[a-z]+\d*-", name)
        of_family[beginning[0] if beginning else name].append(name)
    return [
        shown
        for beginning, own in of_family.items()
        for shown in ([f"{beginning}… ({len(own)})"] if len(own) >= FAMILY else own)
    ]

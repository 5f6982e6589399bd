"""Say what a row of the board depends on, so that one that no longer holds is not shown again.

The key under which a journal keeps a row has the job, the draw of models, the time limit and this
package in it. A method from elsewhere also depends on its own code: the process that ran it names
every file of Python outside this package, the standard library and installed packages that it had
imported, with its hash, and the versions of the packages. What a method reads in other ways, such
as a file of weights, nobody knows.
"""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib import machinery, metadata
from pathlib import Path
from typing import Any

import mini_transformer
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.isolation.files import hash_files

__all__ = ["find_change", "hash_package", "list_sources", "make_key"]

PACKAGE = Path(mini_transformer.__file__).parent
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


def make_key(job: Job, draw: Draw, seconds: int | float) -> str:
    """Hash the job, its models, its time limit, and the package."""
    parts = (json.dumps([asdict(job), asdict(draw)]), repr(float(seconds)), hash_package())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def hash_package() -> str:
    """Hash this package's files, the Python version, and the versions of the libraries used."""
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".safetensors")]
    libraries = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    return hash_files(files, sys.version, *libraries)


def list_sources() -> dict[str, Any]:
    """List the code that this process has imported.

    `files` maps a module to its file and the file's hash, `packages` an installed one to its
    version.
    """
    files, packages = {}, {}
    ours = {"mini_transformer", "__main__", "__mp_main__", *sys.stdlib_module_names}
    for name, module in sorted(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "")
        top = name.partition(".")[0]
        if top in ours or not path.is_absolute():
            continue
        if {"site-packages", "dist-packages"} & set(path.parts):
            packages[top] = _find_version(top)
        elif not path.is_relative_to(sysconfig.get_path("stdlib")):
            files[name] = [str(path), _hash_once(str(path))]
    return {"files": files, "packages": packages}


@cache
def _hash_once(file: str) -> str | None:
    """Hash a file as it was when it was first asked for, soon after its import."""
    return _hash(file)


def _hash(file: str) -> str | None:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None


@cache
def _find_version(package: str) -> str | None:
    """Find the version of an installed package by the name of its module; None if unknown."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        owners = _list_owners().get(package)
        return metadata.version(owners[0]) if owners else None


@cache
def _list_owners() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def find_change(depends: Mapping[str, Any]) -> str | None:
    """Say what has changed since a row was made of this code; None if nothing has.

    A module whose file could not be hashed counts as changed, one that another file now hides, too.
    """
    for name, (file, digest) in depends["files"].items():
        found = machinery.PathFinder.find_spec(name) if "." not in name else None
        if digest is None or _hash(file) != digest:
            return f"{Path(file).name} is not as it was"
        if found is not None and found.origin != file:
            return f"{name} is now {found.origin}"
    for name, version in depends["packages"].items():
        if version is not None and _find_version(name) != version:
            return f"{name} was {version} and is {_find_version(name)}"
    return None

"""Hash what a row of the board depends on, as the key under which a journal keeps it."""

import hashlib
import json
import sys
from dataclasses import asdict
from functools import cache
from importlib import metadata, util
from pathlib import Path

import mini_transformer
from mini_transformer.board.running.jobs import Job
from mini_transformer.isolation.files import hash_files

__all__ = ["hash_module", "hash_package", "make_key"]

PACKAGE = Path(mini_transformer.__file__).parent


def make_key(job: Job, seconds: int | float) -> str:
    """Hash the job, its time limit, and the code and versions that its row depends on."""
    parts = [json.dumps(asdict(job)), repr(float(seconds)), hash_package()]
    if ":" in job.entrant:
        parts.append(hash_module(job.entrant.partition(":")[0]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def hash_package() -> str:
    """Hash this package's files, the Python version, and the versions of the libraries used."""
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".safetensors")]
    libraries = [
        f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "scipy", "scikit-learn")
    ]
    return hash_files(files, sys.version, *libraries)


@cache
def hash_module(name: str) -> str:
    """Hash the method's own module. Modules that it imports are not part of the key."""
    try:
        found = util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    source = Path(found.origin) if found is not None and found.origin else None
    return hash_files([source] if source is not None and source.exists() else [], name)

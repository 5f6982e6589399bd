"""Rows kept as they come: one line of JSON each, at the end of a file, on the disk before the next job is waited for.

Each line carries a key made of the job and of everything that its result depends on. So the same command goes on where it was
killed, another command takes over what the two have in common, and after a change of code nothing old is believed. A last line that
was torn by a crash is no line.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from mini_transformer.board.jobs import Job

PACKAGE = Path(__file__).parents[1]


class Log:
    """The rows in the file at `path`, by key.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "rows.jsonl"
    >>> Log(path).append("a key", {"ok": True})
    >>> Log(path).rows
    {'a key': {'ok': True}}
    >>> folder.cleanup()
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, dict[str, dict[str, Any]]()
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_bytes() if path.exists() else b""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.rows[entry["key"]] = entry["row"]
            except (ValueError, TypeError, KeyError):
                continue
        self.torn = bool(text) and not text.endswith(b"\n")

    def append(self, key: str, row: dict[str, Any]) -> None:
        line = json.dumps({"key": key, "row": row}).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(b"\n" + line if self.torn else line)
            file.flush()
            os.fsync(file.fileno())
        self.rows[key], self.torn = row, False


def make_key(job: Job, seconds: int | float) -> str:
    """A hash of the job, its time limit, and the code and versions that its row depends on."""
    parts = [json.dumps(asdict(job)), repr(float(seconds)), hash_package()]
    if ":" in job.entrant:
        parts.append(hash_module(job.entrant.partition(":")[0]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def hash_package() -> str:
    """Every file of this package, the Python, and the versions of what it computes with."""
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".safetensors")]
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "scipy", "scikit-learn")]
    return _hash([*files], [sys.version, *libraries])


@cache
def hash_module(name: str) -> str:
    """The source of a method's module; of what that imports, nothing."""
    try:
        found = util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    return _hash([Path(found.origin)] if found and found.origin and Path(found.origin).exists() else [], [name])


def _hash(files: Iterable[Path], words: Iterable[str]) -> str:
    digest = hashlib.sha256("\n".join(words).encode())
    for path in sorted(files):
        digest.update(str(path.name).encode() + path.read_bytes())
    return digest.hexdigest()

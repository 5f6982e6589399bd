"""Append each result to a file as soon as it is known, so that a killed run can resume."""

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """Keep entries by key, one JSON line each in a file. Ignore a line that a crash has torn.

    The key must say what an entry depends on, so that an entry that no longer holds is not found.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "rows.jsonl"
    >>> Journal(path).append("a key", {"ok": True})
    >>> Journal(path).entries
    {'a key': {'ok': True}}
    >>> folder.cleanup()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        text = path.read_bytes() if path.exists() else b""
        for line in text.splitlines():
            try:
                found = json.loads(line)
                self.entries[found["key"]] = found["entry"]
            except (ValueError, TypeError, KeyError):
                continue
        self.torn = bool(text) and not text.endswith(b"\n")

    def append(self, key: str, entry: Any) -> None:
        """Keep an entry; it is on the disk when this returns.

        Raise OSError if it cannot be written.
        """
        line = json.dumps({"key": key, "entry": entry}).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(b"\n" + line if self.torn else line)
            file.flush()
            os.fsync(file.fileno())
        self.entries[key] = entry
        self.torn = False

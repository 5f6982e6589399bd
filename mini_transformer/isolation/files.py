"""Write files so that a crash leaves the old content or the new one, and hash files."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

UMASK = os.umask(0o077)
os.umask(UMASK)  # it can only be read by setting it


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file through a temporary one, which takes its name when it is on the disk.

    Missing folders are made. Raise OSError if the file cannot be written; the old content is then
    still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
    try:
        with open(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())  # the data must be on disk before the name points to it
        os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def hash_files(files: Iterable[Path], *words: str) -> str:
    """Hash the names and contents of files, and what else decides a result."""
    digest = hashlib.sha256("\n".join(words).encode())
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()

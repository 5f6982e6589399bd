"""Read what a student handed in as names and bytes: a file, a folder, a zip.

Nothing is written to disk, and no link is followed.
"""

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

LARGEST = 20 * 2**20  # bytes in one file, and in one zip
LARGEST_SUM = 60 * 2**20  # bytes of one student
MOST_FILES = 1000
MOST_REMARKS = 50
WANTED = (".py", ".ipynb", ".py.txt")  # some browsers append .txt
SKIPPED = {"__MACOSX", "__pycache__", "node_modules", "site-packages", "venv", "env"}
SHIPPED = "solutions"  # what a folder of this name holds is never graded
OURS = "a folder of this name holds the course's own solutions"
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile bounds what these two unpack to


@dataclass
class Unpacked:
    """Hold the files that may contain answers, by name, and sentences on what was left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)  # names of files of other kinds
    remarks: list[str] = field(default_factory=list)
    bytes_left: int = LARGEST_SUM
    files_left: int = MOST_FILES

    def leave_out(self, name: str, why: str) -> None:
        if len(self.remarks) < MOST_REMARKS:
            self.remarks.append(f"{name} was left out: {why}")
        elif len(self.remarks) == MOST_REMARKS:
            self.remarks.append("and more was left out")

    def take(self, name: str, content: bytes) -> None:
        most = min(LARGEST, self.bytes_left)
        if len(content) > most:
            self.leave_out(name, f"it is too large, more than {most} bytes")
        else:
            self.bytes_left -= len(content)
            self.files[name] = content

    def has_room(self, name: str) -> bool:
        """Count one more file, and return False if it is one too many.

        Remark it the first time.
        """
        self.files_left -= 1
        if self.files_left == -1:
            self.remarks.append(
                f"{name} and all after it were left out: there are more than {MOST_FILES} files"
            )
        return self.files_left >= 0


def unpack(path: Path, name: str, into: Unpacked) -> None:
    """Add a file, or everything in a folder or zip, to `into`.

    `name` is what the student called it.
    """
    for inside, file in walk(path, name, into):
        try:
            if not is_wanted(inside) and not inside.lower().endswith(".zip"):
                into.others.append(inside)
            elif not stat.S_ISREG(file.lstat().st_mode):  # a pipe would be waited for
                into.leave_out(inside, "it is not a file")
            elif file.stat().st_size > LARGEST:
                into.leave_out(inside, f"it is too large, more than {LARGEST} bytes")
            elif inside.lower().endswith(".zip"):
                unpack_zip(file, inside, into)
            else:
                into.take(inside, file.read_bytes())
        except OSError as error:
            into.leave_out(inside, f"it cannot be read ({error.strerror or error})")


def walk(path: Path, name: str, into: Unpacked) -> Iterator[tuple[str, Path]]:
    """Yield the files at or under `path` in a fixed order, with their names seen from there."""
    if os.path.islink(path):
        into.leave_out(name, "it is a symbolic link")
        return
    if not os.path.isdir(path):
        yield name, path
        return

    waiting = [PurePosixPath()]
    while waiting:  # without recursion, because folders may be deeper than Python's calls
        folder = waiting.pop()
        try:
            entries = list_folder(path / folder)
        except OSError as error:
            why = f"it cannot be read ({error.strerror or error})"
            into.leave_out(str(folder) if folder.parts else name, why)
            continue

        folders = []
        for entry in entries:
            inside = folder / entry.name
            if entry.is_symlink():
                into.leave_out(str(inside), "it is a symbolic link")
            elif entry.name.startswith("."):
                continue
            elif entry.is_dir(follow_symlinks=False):
                if entry.name == SHIPPED:
                    into.leave_out(f"{inside}/", OURS)
                elif entry.name not in SKIPPED:
                    folders.append(inside)
            elif into.has_room(str(inside)):
                yield str(inside), path / inside
        waiting += reversed(folders)


def list_folder(path: Path) -> list[os.DirEntry[str]]:
    """List the entries of a folder, folders first, each kind by name."""
    with os.scandir(path) as found:
        return sorted(found, key=lambda entry: (not os.path.isdir(entry.path), entry.name))


def unpack_zip(path: Path, name: str, into: Unpacked) -> None:
    """Add what a zip holds, and remark on whatever is wrong with it.

    What the zip says of its own sizes is not believed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
                hidden = any(part in SKIPPED or re.match(r"\.[^.]", part) for part in parts)
                if not entry.is_dir() and not hidden and into.has_room(entry.filename):
                    take_entry(archive, entry, name, parts, into)
    except Exception as error:  # zipfile raises a dozen kinds on damaged or hostile files
        into.leave_out(name, f"it cannot be opened as a zip ({type(error).__name__})")


def take_entry(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    name: str,
    parts: tuple[str, ...],
    into: Unpacked,
) -> None:
    """Add one entry of a zip, unless it is a link, leads outside, or is of another kind."""
    inside = "/".join((name, *parts))
    if ".." in parts or parts[:1] == ("/",):
        into.leave_out(inside, "its name points out of the zip")
    elif stat.S_ISLNK(entry.external_attr >> 16):
        into.leave_out(inside, "it is a symbolic link")
    elif not is_wanted(inside):
        into.others.append(inside)
    elif SHIPPED in parts[:-1]:
        into.leave_out(inside, OURS)
    elif entry.compress_type not in PACKINGS:
        into.leave_out(inside, "it is packed in a way that few programs use: pack it anew")
    else:
        try:
            with archive.open(entry) as file:
                into.take(inside, file.read(min(LARGEST, into.bytes_left) + 1))
        except Exception as error:
            into.leave_out(inside, f"it cannot be unpacked ({type(error).__name__})")


def is_wanted(name: str) -> bool:
    """Say whether a file of this name may hold answers.

    >>> is_wanted("exercises/ex01_topic.py"), is_wanted("ex01.PY.txt"), is_wanted("notes.pdf")
    (True, True, False)
    """
    return name.lower().endswith(WANTED) and ".before-reset-" not in name

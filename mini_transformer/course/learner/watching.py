"""Notice whenever a learner saves a file, so that it can be graded again."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

Stamps = dict[Path, tuple[int, int] | None]


def take_stamps(paths: list[Path]) -> Stamps:
    """Note the time of change and the size of each file, or None while a file is not there.

    Editors replace files on saving, so a file may be missing for a moment.
    """
    stamps: Stamps = {}
    for path in paths:
        try:
            found = path.stat()
            stamps[path] = (found.st_mtime_ns, found.st_size)
        except OSError:
            stamps[path] = None
    return stamps


def watch_files(
    paths: list[Path], pause: Callable[[float], None] = time.sleep, every: float = 0.4
) -> Iterator[list[Path]]:
    """Yield, for ever, the files that were saved since the last look.

    A file that is being replaced is waited for.
    """
    before = take_stamps(paths)
    while True:
        pause(every)
        now = take_stamps(paths)
        saved = [path for path in paths if now[path] is not None and now[path] != before[path]]
        before = {path: now[path] or before[path] for path in paths}
        if saved:
            yield saved

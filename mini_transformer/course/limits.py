"""Running a learner's code so that it can disturb nothing: output, warnings, time, and torch's global state."""

import contextlib
import io
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator

import torch


class OutOfTime(BaseException):
    """Not an Exception, so that `except Exception` in a learner's endless loop does not swallow it."""


class Output(io.TextIOBase):
    """Keeps the beginning of what is printed, and only counts the rest.

    >>> output = Output(max_lines=2)
    >>> print("a\\nb\\nc", file=output)
    >>> output.show()
    ['a', 'b', '... and 1 more lines']
    """

    def __init__(self, max_lines: int = 20, max_characters: int = 4000) -> None:
        self.max_lines, self.max_characters = max_lines, max_characters
        self.kept, self.line_ends, self.open_line = "", 0, False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.kept += text[: self.max_characters - len(self.kept)]
        self.line_ends += text.count("\n")
        self.open_line = not text.endswith("\n") if text else self.open_line
        return len(text)

    def write_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: object = None,
    ) -> None:
        """Stands in for warnings.showwarning."""
        self.write(f"line {lineno}: {category.__name__}: {message}\n")

    def show(self) -> list[str]:
        """What was printed, at most `max_lines` lines, and one that says how many were left out."""
        shown = self.kept.splitlines()[: self.max_lines]
        hidden = self.line_ends + self.open_line - len(shown)
        return shown + ([f"... and {hidden} more lines"] if hidden > 0 else [])


def read_waiting() -> float | None:
    """Seconds that this thread was ready to run while others had the processor. None where that is not counted (Linux does)."""
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


@contextlib.contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after `seconds`, in which waiting while other programs keep the processor busy does not count.

    Where that waiting cannot be told, a block that others slow down has up to three times as long. Needs the main thread and
    `signal.setitimer`; elsewhere (Windows, threads) there is no limit. One call into C that does not come back to Python
    is interrupted only when it returns.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    started, used, waited = time.monotonic(), time.process_time(), read_waiting()

    def ring(signum: int, frame: object) -> None:
        elapsed, waiting = time.monotonic() - started, read_waiting()
        if waited is not None and waiting is not None:
            over = elapsed - (waiting - waited) > 0.95 * seconds
        else:
            over = time.process_time() - used > seconds / 2 or elapsed > 2.9 * seconds
        if over:
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds / 10, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def undisturbed(output: Output) -> Iterator[None]:
    """Collect prints, errors and warnings in `output`, give no input, and restore torch's global state afterwards."""
    threads, dtype, stdin = torch.get_num_threads(), torch.get_default_dtype(), sys.stdin
    sys.stdin = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
        ):
            warnings.simplefilter("default")
            warnings.showwarning = output.write_warning  # catch_warnings restores it
            torch.manual_seed(0)  # an answer that draws random numbers gets the same grade twice
            yield
    finally:
        sys.stdin = stdin
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

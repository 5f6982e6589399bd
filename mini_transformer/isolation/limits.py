"""Run a learner's code so that it disturbs nothing: output, warnings, time, torch's state."""

import contextlib
import functools
import io
import os
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch


class OutOfTime(BaseException):
    """The time is over. `except Exception` in a learner's endless loop must not swallow this."""


class Beginning(io.BufferedIOBase):
    """Keep the first bytes that are written, and only count the lines of the rest.

    It is never closed.
    """

    name = "<stdout>"
    mode = "wb"

    def __init__(self, most: int) -> None:
        self.most = most
        self.kept = b""
        self.line_ends = 0
        self.open_line = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        new = bytes(data)
        self.kept += new[: self.most - len(self.kept)]
        self.line_ends += new.count(b"\n")
        if new:
            self.open_line = not new.endswith(b"\n")
        return len(new)

    def close(self) -> None:
        """Stay open. Code that wraps this anew and drops the wrapper closes it unknowingly."""

    def fileno(self) -> int:
        return open_nothing()  # faulthandler and subprocesses write there

    def __del__(self) -> None:
        return None


@functools.cache
def open_nothing() -> int:
    return os.open(os.devnull, os.O_WRONLY)


class Output(io.TextIOWrapper):
    """Keep the beginning of what is printed, and only count the lines of the rest.

    Everything else it does as sys.stdout does.

    >>> output = Output(max_lines=2)
    >>> print("a\\nb\\nc", file=output)
    >>> output.show()
    ['a', 'b', '... and 1 more lines']
    """

    def __init__(
        self, max_lines: int = 20, max_characters: int = 4000, beginning: Beginning | None = None
    ) -> None:
        self.max_lines = max_lines
        self.max_characters = max_characters
        self.beginning = beginning or Beginning(4 * max_characters)
        options: dict[str, Any] = {
            "encoding": "utf-8",
            "errors": "backslashreplace",
            "newline": "\n",
        }
        super().__init__(self.beginning, **options, write_through=True)

    def renew(self) -> "Output":
        """Make an output that adds to the same text.

        Whatever was done to this one does not matter: `detach`, `close`, another encoding.
        """
        return Output(self.max_lines, self.max_characters, self.beginning)

    def close(self) -> None:
        """Stay open for what is printed later."""

    def write_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: object = None,
    ) -> None:
        """Stand in for warnings.showwarning."""
        self.write(f"line {lineno}: {category.__name__}: {message}\n")

    def show(self) -> list[str]:
        """Return at most `max_lines` printed lines, and one that says how many are left out."""
        text = self.beginning.kept.decode(errors="replace")[: self.max_characters]
        shown = text.splitlines()[: self.max_lines]
        hidden = self.beginning.line_ends + self.beginning.open_line - len(shown)
        return shown + ([f"... and {hidden} more lines"] if hidden > 0 else [])


def read_waiting() -> float | None:
    """Read the seconds that this thread was ready to run but had no processor.

    Return None where this is not counted; Linux counts it.
    """
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


@contextlib.contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after `seconds`. Waiting for the processor does not count.

    Where that waiting cannot be told, a block that others slow down has up to three times as long.
    Needs the main thread and `signal.setitimer`; elsewhere (Windows, threads) there is no limit.
    One call into C that does not come back to Python is interrupted only when it returns.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not hasattr(signal, "setitimer"):
        yield
        return

    started = time.monotonic()
    used = time.process_time()
    waited = read_waiting()

    def ring(signum: int, frame: object) -> None:
        elapsed = time.monotonic() - started
        waiting = read_waiting()
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
def undisturbed(output: Output, recursion: int | None = None) -> Iterator[None]:
    """Collect prints, errors and warnings in `output`, give no input, restore the process.

    With `recursion`, calls may go so deep from here, however deep this itself is called.
    """
    stream = output.renew()
    with (
        restored(recursion),
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
    ):
        sys.stdin = io.StringIO()
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", ResourceWarning)  # depends on when garbage is collected
        warnings.showwarning = stream.write_warning  # catch_warnings restores it
        torch.manual_seed(0)  # an answer that draws random numbers gets the same grade twice
        yield


def count_frames() -> int:
    frame: types.FrameType | None = sys._getframe(1)
    depth = 0
    while frame is not None:
        frame = frame.f_back
        depth += 1
    return depth


@contextlib.contextmanager
def restored(recursion: int | None) -> Iterator[None]:
    """Restore at the end what the block changes: torch's and NumPy's modes, sys, os.

    In a process of its own a learner's code may change these without harm. With `recursion`, calls
    in the block may go so deep.
    """
    before = [read() for read, _ in STATES.values()]
    try:
        if recursion is not None:
            sys.setrecursionlimit(min(recursion, 2**30) + count_frames())
        yield
    finally:
        for (read, write), state in zip(STATES.values(), before, strict=True):
            if read() != state:
                write(state)


def set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def find_folder() -> str | None:
    """Return the folder of this process, or None if that was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def go_back(folder: str | None) -> None:
    with contextlib.suppress(OSError):  # the learner's code has deleted it
        os.chdir(folder or "/")


def restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def read_print_options() -> tuple[Any, Any]:
    return vars(torch._tensor_str.PRINT_OPTS).copy(), np.get_printoptions()


def set_print_options(options: tuple[Any, Any]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(options[0])
    np.set_printoptions(**options[1])


# What `restored` restores: how to read each state of the process, and how to put it back.
STATES: dict[str, tuple[Callable, Callable]] = {
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the default device": (torch.get_default_device, set_device),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "np.seterr": (np.geterr, lambda state: np.seterr(**state)),
    "how arrays are printed": (read_print_options, set_print_options),
    "the depth of calls": (sys.getrecursionlimit, sys.setrecursionlimit),
    "sys.stdin": (lambda: sys.stdin, lambda stdin: setattr(sys, "stdin", stdin)),
    "sys.argv": (lambda: list(sys.argv), lambda argv: setattr(sys, "argv", argv)),
    "the current folder": (find_folder, go_back),
    "the environment": (lambda: dict(os.environ), restore_environment),
}

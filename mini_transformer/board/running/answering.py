"""Call methods where neither a problem nor its truth is: the side of the board that may be asked.

As a program (`python -m mini_transformer.board.running.answering`) this is a child process that
answers frames, see `isolation.child`.
"""

import contextlib
import inspect
import random
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mini_transformer
from mini_transformer.board.families import (
    find_entrant,
    find_family,
    import_method,
    infer_family,
)
from mini_transformer.board.problem import Method, NotApplicable
from mini_transformer.board.running.keys import list_sources
from mini_transformer.board.running.parcels import pack, pack_answer, simplify, unpack
from mini_transformer.board.running.passes import counting
from mini_transformer.isolation.child import serve
from mini_transformer.isolation.explaining import summarize
from mini_transformer.isolation.limits import OutOfTime, Output, limited_time, undisturbed

__all__ = ["Answerer", "explain", "seeded"]

PACKAGE = Path(mini_transformer.__file__).parent
Said = dict[str, Any]


class Answerer:
    """Answer requests: to run a method, and to call what it returned.

    `method` stands in for the entrant's own, a function that has no importable name.
    """

    def __init__(self, method: Method | None = None) -> None:
        self.method = method
        self.answers: dict[int, Any] = {}  # of the last two runs

    def ask(self, frame: bytes, seconds: int | float) -> bytes:
        """Answer a frame in this process, within `seconds`: an alarm ends what takes longer."""
        try:
            with limited_time(seconds):
                return self.answer(frame)
        except OutOfTime as error:
            return pack({"error": explain(error)})

    def answer(self, frame: bytes) -> bytes:
        """Answer one frame with one frame. An empty one asks whether somebody is there.

        Never raise: the reply to a method that failed says so in a sentence.
        """
        if not frame:
            return b""
        try:
            request = unpack(frame)
            with seeded():
                return pack(getattr(self, request.pop("do"))(**request))
        except NotApplicable:
            return pack({"not_applicable": True})
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return pack({"error": explain(error)})

    def run(self, family: str, entrant: str, arguments: tuple, options: Mapping[str, Any]) -> Said:
        """Run a method, and keep its answer for calls."""
        method = self.method or find_entrant(family, entrant)
        named = choose_options(method, options)
        with counting() as cost:
            started = time.process_time()
            answer = method(*arguments, **named)
            seconds = time.process_time() - started
        place = max(self.answers, default=0) + 1
        self.answers = {place - 1: self.answers.get(place - 1), place: answer}
        return {
            "answer": pack_answer(find_family(family), answer),
            "place": place,
            "passes": (cost.forward_rows, cost.backward_rows),
            "seconds": seconds,
        }

    def call(self, place: int, name: str, arguments: tuple) -> Said:
        """Call what a method returned."""
        answer = self.answers[place]
        called = answer if name == "__call__" else getattr(answer, name)
        return {"value": simplify(called(*arguments))}

    def list_sources(self) -> Said:
        """Say what code this process has imported."""
        return list_sources()

    def infer(self, method: str) -> Said:
        """Tell the family of `module:function`."""
        return {"family": infer_family(import_method(method))}


def choose_options(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """Choose those of the options that a method names as parameters."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):  # what is written in C may have none
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(options)
    return {name: value for name, value in options.items() if name in parameters}


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Seed the global generators inside the block; afterwards restore them.

    What was printed is discarded.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with undisturbed(Output()):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def explain(error: BaseException) -> str:
    """Say what went wrong in one sentence, with the innermost line of the method's own code.

    >>> explain(ValueError("the answer is too long"))
    'the answer is too long'
    """
    if isinstance(error, OutOfTime):
        return "it was still running when its time was up"
    if isinstance(error, SystemExit):
        return "it stops Python (exit): return a value instead"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    if isinstance(error, (ValueError, KeyError)) and error.args and not own:
        return str(error.args[0])  # a sentence of ours
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return summarize(error) + where


def _is_own(file: str) -> bool:
    """Tell whether a file is neither this package's nor a library's."""
    return not (
        Path(file).is_relative_to(PACKAGE) or "site-packages" in file or file.startswith("<")
    )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a method's module is looked for where the command was given
    serve(Answerer().answer)

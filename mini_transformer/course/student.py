"""The `student` that graders see: a learner's functions, called by name with plain values, returning plain values.

Nothing else crosses, so the same grader can judge a learner's file in this process or in an isolated one.
"""

import difflib
import inspect
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

from mini_transformer.course.comparing import describe_kind
from mini_transformer.course.limits import OutOfTime, limited_time
from mini_transformer.course.loading import NotWrittenError, StudentError, load_learner_file
from mini_transformer.course.running import summarize
from mini_transformer.course.values import NamedModel, NotAValueError, describe, receive, send

__all__ = ["InProcessStudent", "NamedModel", "NotWrittenError", "StudentError"]


class InProcessStudent:
    """A learner's file, run once in this process. Raises StudentError, one sentence, for whatever is wrong with it.

    `overrides` puts other functions in place of the file's own (this is how mutants are judged); `parameters` says for
    each function what the stub's were; `seconds` is the time that one call may take.
    """

    def __init__(
        self,
        path: str | Path,
        base_seed: int = 0,
        overrides: Mapping[str, Callable] | None = None,
        parameters: Mapping[str, str] | None = None,
        seconds: float = 10.0,
    ) -> None:
        self.base_seed, self.seconds = base_seed, seconds
        self.parameters = parameters or {}
        self.file = load_learner_file(Path(path), seconds, self.parameters)
        self.file.names.update(overrides or {})
        self.file.unwritten.difference_update(overrides or {})
        self.out_of_time: dict[str, str] = {}

    @property
    def remarks(self) -> dict[str, str]:
        """By function, what is to be said about it although it may be right."""
        return self.file.remarks

    @property
    def output(self) -> list[str]:
        """What failed when the file was run, and the first lines that the learner's code printed."""
        return self.file.said

    def find_called(self, name: str) -> list[str]:
        """The names that the learner's function looks up, itself or by functions of the file: what it calls is among them."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            code = getattr(self.file.names.get(waiting.pop()), "__code__", None)
            new = [called for called in list_names(code) if called not in found] if code else []
            found |= dict.fromkeys(new)
            waiting += new
        return list(found)

    def seeds(self, n: int) -> list[int]:
        """`n` seeds that differ from learner to learner (by `base_seed`) but not from run to run."""
        return draw_seeds(self.base_seed, n)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """What the learner's function `name` returns for copies of these values, as plain values."""
        if name in self.out_of_time:  # an endless loop is waited for once
            raise StudentError(self.out_of_time[name])
        fn = self.find_function(name)
        self.check_arguments(name, fn, args, kwargs)
        with self.file.running():
            sent, named = send(args), send(kwargs)
            try:
                with limited_time(self.seconds):
                    answer = receive(fn(*sent, **named))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                sentence = self.explain(error, name, args, kwargs)
                if isinstance(error, OutOfTime):
                    self.out_of_time[name] = sentence
                raise StudentError(sentence) from None
        if answer is None:
            raise StudentError(f"{name} returned None: did you forget `return`?")
        return answer

    def explain(self, error: BaseException, name: str, args: tuple, kwargs: dict[str, Any]) -> str:
        where = f"{name}{self.file.locate(error)}"
        if isinstance(error, OutOfTime):
            return f"{where} was still running after {self.seconds:g} s: is there an endless loop?"
        if isinstance(error, SystemExit):
            return f"{where} stops Python (exit): return a value instead"
        if isinstance(error, NotAValueError):
            return f"{name} returned {error}"
        if isinstance(error, NotImplementedError):
            return f"{name} needs something that is not written yet: {error}"
        given = [*map(describe, args), *(f"{key}={describe(value)}" for key, value in kwargs.items())]
        missing = error.name if isinstance(error, NameError) and isinstance(error.name, str) else ""
        cause = f"; {reason}" if (reason := self.file.find_reason(missing)) else ""
        return f"{where} fails when called with ({', '.join(given)}): {summarize(error)}{cause}"

    def find_function(self, name: str) -> Callable:
        found = self.file.names.get(name)
        if name in self.file.unwritten:
            raise NotWrittenError(f"{name}: not written yet")
        if found is None and (reason := self.file.find_reason(name)):
            raise StudentError(f"there is no function {name}, since {reason}")
        if found is None:
            written = [key for key, value in self.file.names.items() if inspect.isfunction(value)]
            near = difflib.get_close_matches(name, written, n=1, cutoff=0.5)
            hint = f"; nearest: {near[0]}" if near else ""
            raise StudentError(f"{self.file.path.name} has no function {name}{hint}: give it back the stub's name")
        if not callable(found):
            raise StudentError(f"{name} is {describe_kind(found)}, expected a function: is the name used twice?")
        return found

    def check_arguments(self, name: str, fn: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
        try:
            signature = inspect.signature(fn)
            signature.bind(*args, **kwargs)
        except ValueError:  # a builtin, which has no signature
            return
        except TypeError:
            given = ", ".join(signature.parameters)
            expected = self.parameters.get(name) or ", ".join([*map(describe, args), *kwargs])
            raise StudentError(f"{name} takes ({given}), expected ({expected}): give it back the stub's") from None


def draw_seeds(base_seed: int, n: int) -> list[int]:
    """The seeds of one learner's variant of the checks.

    >>> draw_seeds(0, 2) == draw_seeds(0, 3)[:2] != draw_seeds(1, 2)
    True
    """
    return [random.Random(f"{base_seed} {i}").randrange(2**31) for i in range(n)]


def list_names(code: CodeType) -> list[str]:
    """The global names in a function's code, and in that of the functions inside it."""
    inside = [name for part in code.co_consts if isinstance(part, CodeType) for name in list_names(part)]
    return [*code.co_names, *inside]

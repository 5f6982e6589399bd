"""The `student` that graders see: call a learner's functions by name with plain values.

Only plain values cross, in both directions. So the same grader can judge a learner's file in this
process or in an isolated one.
"""

import dis
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import torch

from mini_transformer.course.grading.effects import Effect, Watch
from mini_transformer.course.grading.loading import NotWrittenError, StudentError, load_learner_file
from mini_transformer.course.grading.values import (
    NamedModel,
    NotAValueError,
    describe,
    receive,
    send,
)
from mini_transformer.isolation.explaining import describe_kind, summarize
from mini_transformer.isolation.limits import OutOfTime, limited_time
from mini_transformer.nearest import find_nearest

__all__ = ["Call", "InProcessStudent", "NamedModel", "NotWrittenError", "Student", "StudentError"]

SEED = 5_062_009  # torch's global seed in a call; nobody sets just this one


@dataclass(frozen=True)
class Call:
    """One call of a learner's function: what went in and came out, and what it left behind.

    `runs` lists the forward runs of the models that it was given, by the shapes of their tokens.
    """

    name: str
    args: tuple
    kwargs: dict[str, Any]
    value: Any
    effects: tuple[Effect, ...] = ()
    runs: tuple[tuple[int, ...], ...] = ()


class Student:
    """A learner's file, in this process or in a sandbox.

    Checks call its functions and see only what these return. `calls` lists the calls since it was
    cleared, and `asked` is the last question, also if there was no answer. `draws`, by exercise,
    are given where a class is graded: every check has seeds of its own then. Methods raise
    StudentError for whatever is wrong with the file.
    """

    def __init__(self, base_seed: int, parameters: Mapping[str, str] | None) -> None:
        self.base_seed = base_seed
        self.draws: Mapping[str, int] | None = None
        self.variant = str(base_seed)
        self.parameters = parameters or {}
        self.calls: list[Call] = []
        self.asked: Call | None = None

    def begin(self, exercise: str, check: str) -> None:
        """Begin a check. In a class, its seeds tell nothing of another check's, nor another draw's.

        So a random model leads to no planted one, even for who finds out its seed.
        """
        if self.draws is not None:
            self.variant = f"{self.base_seed} {exercise} {check} {self.draws[exercise]}"

    def seeds(self, n: int) -> list[int]:
        """Draw `n` seeds that differ from learner to learner, but not from run to run."""
        return draw_seeds(self.variant, n)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call the learner's function with copies of these values, and return plain values.

        Raise StudentError with one sentence if it fails or returns no value.
        """
        self.asked = Call(name, args, kwargs, None)
        call = self.run(name, args, kwargs)
        if call.value is None:
            raise StudentError(f"{name} returned None: did you forget `return`?")
        self.calls.append(call)
        return call.value

    def name_arguments(self, call: Call) -> dict[str, Any]:
        """Map the stub's parameters to the arguments of a call."""
        names = self.parameters.get(call.name, "").split(", ")
        if len(names) != len(call.args) + len(call.kwargs):
            names = [f"argument {i}" for i in range(len(call.args))]
        return dict(zip(names, call.args, strict=False)) | call.kwargs

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Call:
        """Call the function, wherever it is."""
        raise NotImplementedError

    @property
    def remarks(self) -> Mapping[str, str]:
        """Map functions to remarks on them, although they may be right."""
        raise NotImplementedError

    @property
    def output(self) -> list[str]:
        """List what failed when the file was run, and the first lines that its code printed."""
        raise NotImplementedError

    def find_called(self, name: str) -> list[str]:
        """List the global names that a function looks up, itself or through functions of the file.

        The functions that it calls are among these names.
        """
        raise NotImplementedError

    def find_unused(self, name: str) -> list[str]:
        """List the parameters of a function that it never reads."""
        raise NotImplementedError


class InProcessStudent(Student):
    """Run a learner's file once in this process, and call its functions.

    Raise StudentError, with one sentence, for whatever is wrong with the file. `overrides` puts
    other functions in place of the file's own (this is how mutants are judged). `parameters` says
    for each function which parameters the stub had. `seconds` is the time that one call may take.
    """

    def __init__(
        self,
        path: str | Path,
        base_seed: int = 0,
        overrides: Mapping[str, Callable] | None = None,
        parameters: Mapping[str, str] | None = None,
        seconds: float = 10.0,
    ) -> None:
        super().__init__(base_seed, parameters)
        self.seconds = seconds
        self.file = load_learner_file(Path(path), seconds, self.parameters)
        self.file.names.update(overrides or {})
        self.file.unwritten.difference_update(overrides or {})
        self.out_of_time: dict[str, str] = {}

    @property
    def remarks(self) -> dict[str, str]:
        return self.file.remarks

    @property
    def output(self) -> list[str]:
        return self.file.said

    def find_called(self, name: str) -> list[str]:
        found: dict[str, None] = {}
        start: Any = self.file.names.get(name)
        waiting = list(list_codes(start))
        rules = getattr(inspect.unwrap(start), "__globals__", self.file.names)
        while waiting:
            new = [called for called in list_names(waiting.pop()) if called not in found]
            found |= dict.fromkeys(new)
            own = [rules.get(called) for called in new]
            waiting += [code for value in own for code in list_codes(value, rules.get("__name__"))]
        return list(found)

    def find_unused(self, name: str) -> list[str]:
        return list_unused(self.file.names.get(name))

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Call:
        if name in self.out_of_time:  # an endless loop is waited for once
            raise StudentError(self.out_of_time[name])
        fn = self.find_function(name)
        self.check_arguments(name, fn, args, kwargs)

        with self.file.running():
            torch.default_generator.manual_seed(SEED)
            sent = send(args)
            named = send(kwargs)
            watch = Watch(name_arguments(fn, args, kwargs), name_arguments(fn, sent, named))
            try:
                with limited_time(self.seconds):
                    answer = receive(fn(*sent, **named))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                sentence = self.explain(error, name, args, kwargs)
                if isinstance(error, OutOfTime):
                    self.out_of_time[name] = sentence
                raise StudentError(sentence, tuple(watch.find_effects())) from None
            effects = tuple(watch.find_effects())
        return Call(name, args, kwargs, answer, effects, watch.runs)

    def explain(self, error: BaseException, name: str, args: tuple, kwargs: dict[str, Any]) -> str:
        where = f"{name}{self.file.locate(error, name)}"
        if isinstance(error, OutOfTime):
            return f"{where} was still running after {self.seconds:g} s: is there an endless loop?"
        if isinstance(error, SystemExit):
            return f"{where} stops Python (exit): return a value instead"
        if isinstance(error, NotAValueError):
            return f"{name} returned {error}"
        if isinstance(error, NotImplementedError):
            return f"{name} needs something that is not written yet: {error}"

        named = [f"{key}={describe(value)}" for key, value in kwargs.items()]
        given = ", ".join([*map(describe, args), *named])
        missing = error.name if isinstance(error, NameError) and isinstance(error.name, str) else ""
        reason = self.file.find_reason(missing)
        cause = f"; {reason}" if reason else ""
        return f"{where} fails when called with ({given}): {summarize(error)}{cause}"

    def find_function(self, name: str) -> Callable:
        if name in self.file.unwritten:
            raise NotWrittenError(f"{name}: not written yet")

        found = self.file.names.get(name)
        if found is None:
            reason = self.file.find_reason(name)
            if reason:
                raise StudentError(f"there is no function {name}, since {reason}")
            written = [key for key, value in self.file.names.items() if inspect.isfunction(value)]
            near = find_nearest(name, written, "", likeness=0.5)
            hint = f"; nearest: {near}" if near else ""
            raise StudentError(
                f"{self.file.path.name} has no function {name}{hint}: give it back the stub's name"
            )

        if not callable(found):
            raise StudentError(
                f"{name} is {describe_kind(found)}, expected a function: is the name used twice?"
            )
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
            raise StudentError(
                f"{name} takes ({given}), expected ({expected}): give it back the stub's"
            ) from None


def draw_seeds(variant: int | str, n: int) -> list[int]:
    """Draw the seeds of one variant of the checks. Python hashes the text (SHA-512).

    >>> draw_seeds(0, 2) == draw_seeds(0, 3)[:2] != draw_seeds(1, 2)
    True
    """
    return [random.Random(f"{variant} {i}").randrange(2**31) for i in range(n)]


def name_arguments(fn: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Map a function's parameters to these arguments."""
    try:
        return inspect.signature(fn).bind(*args, **kwargs).arguments
    except ValueError:  # a builtin, which has no signature
        return {str(i): value for i, value in enumerate(args)} | kwargs


def list_unused(fn: object) -> list[str]:
    """List the parameters that a function's code never reads.

    >>> list_unused(lambda x, y: x + 1)
    ['y']
    """
    code = getattr(fn, "__code__", None)
    if not isinstance(code, CodeType) or "locals" in list_names(code):
        return []
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    steps = [step for step in dis.get_instructions(code) if not step.opname.startswith("STORE")]
    read = {name for step in steps for name in pair_up(step.argval)} | set(code.co_cellvars)
    return [name for name in parameters if name not in read]


def pair_up(value: Any) -> tuple:
    """Return the names that one instruction reads; some read two."""
    return value if isinstance(value, tuple) else (value,)


def list_codes(value: Any, module: str | None = None) -> Iterator[CodeType]:
    """List the code of a function and those that it holds, or of a class's methods.

    With `module`, what stems from another one is left out.
    """
    value = inspect.unwrap(value) if callable(value) else value
    if module and getattr(value, "__module__", None) != module:
        return
    if isinstance(value, type):
        for method in vars(value).values():
            yield from list_codes(method, module)
    elif inspect.isfunction(value):
        yield value.__code__
        for held in inspect.getclosurevars(value).nonlocals.values():
            if held is not value and inspect.isfunction(held):
                is_of_package = held.__module__.startswith("mini_transformer.")
                yield from () if is_of_package else list_codes(held)


def list_names(code: CodeType) -> list[str]:
    """List the global names in a function's code, and in that of the functions inside it."""
    names = list(code.co_names)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            names += list_names(part)
    return names

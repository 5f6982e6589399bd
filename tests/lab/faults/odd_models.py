"""Find what crashes, is silently nan, or differs on models of odd shapes and in odd modes.

    .venv/bin/python tests/lab/faults/odd_models.py [--model WORDS] [--mode WORDS] [--share N]
    [--refusals] [FUNCTION ...]

prints the faults, grouped; --share 4 tries each function on each model in a quarter of the modes,
by turns; --refusals also prints the sentences with which calls were refused, to be judged by a
reader.
"""

import argparse
import contextlib
import dataclasses
import dis
import functools
import math
import re
import sys
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from every_call import CALLS, Setting, first_logit, make_arguments, name_function, use
from torch import Tensor

import mini_transformer
from mini_transformer import Config, Transformer, methods
from mini_transformer.edges import EdgeScores
from mini_transformer.hooks import ActivationCache

PACKAGE = str(Path(mini_transformer.__file__).parent)
BASE = Config(d_vocab=7, n_ctx=6, d_model=6, n_layers=2, n_heads=2, d_mlp=5)


def vary(**options) -> Config:
    """Vary the base model's options; as many heads as fit keep the width that they had."""
    plain = dict(d_vocab=7, n_ctx=6, d_model=6, n_layers=2, n_heads=2, d_mlp=5)
    return Config(**plain | options)


ODD_MODELS = {
    "base": BASE,
    "no layers": vary(n_layers=0),
    "no layers, LayerNorm and biases": vary(n_layers=0, norm="layer", biases=True),
    "one layer": vary(n_layers=1),
    "three layers": vary(n_layers=3, d_mlp=0),
    "one head": vary(n_heads=1),
    "odd head width": vary(d_head=5),
    "head width 1": vary(d_head=1),
    "many heads": vary(n_layers=1, n_heads=7, d_head=2),
    "biases": vary(biases=True),
    "LayerNorm": vary(norm="layer"),
    "RMS": vary(norm="rms"),
    "not causal": vary(causal=False),
    "tied": vary(tied=True),
    "tied, biases, LayerNorm": vary(tied=True, biases=True, norm="layer"),
    "few outputs": vary(d_vocab_out=3),
    "one output": vary(d_vocab_out=1, biases=True),
    "many outputs": vary(d_vocab_out=11),
    "no positions": vary(positions="none"),
    "sinusoidal": vary(positions="sinusoidal"),
    "positions to qk": vary(positions_to="qk"),
    "sinusoids to qk, RMS, biases": vary(
        positions="sinusoidal", positions_to="qk", norm="rms", biases=True
    ),
    "GELU": vary(act="gelu"),
    "d_model 1": vary(d_model=1, n_heads=1),
    "d_model 1, LayerNorm": vary(d_model=1, n_heads=1, norm="layer", biases=True),
    "no MLP": vary(d_mlp=0),
    "one neuron": vary(d_mlp=1),
    "full context": vary(n_ctx=4),
    "own scale": vary(attn_scale=3.7),
    "two tokens": vary(d_vocab=2),
    "one token": vary(d_vocab=1, d_vocab_out=3),
    "everything": vary(
        act="gelu",
        biases=True,
        tied=True,
        norm="layer",
        causal=False,
        positions="sinusoidal",
        d_head=4,
        attn_scale=0.7,
    ),
}


def scramble(config: Config, dtype: torch.dtype = torch.float32) -> Transformer:
    """Leave no weight of a model at its initial zero or one.

    It is the same model, rounded, in every dtype.
    """
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float32
            )
    return model.to(dtype)


def set_up(
    config: Config, dtype: torch.dtype = torch.float32, batch: int = 4, length: int = 4
) -> Setting:
    generator = torch.Generator().manual_seed(1)
    clean, corrupt = (
        torch.randint(config.d_vocab, (batch, length), generator=generator) for _ in range(2)
    )
    return Setting(scramble(config, dtype), clean, corrupt)


# --- Results, leaf by leaf ---


def list_leaves(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """List every tensor, number and string of a result, with the way to it."""
    if found is None:
        return
    if isinstance(found, Tensor | bool | int | float | str):
        yield path, found
    elif isinstance(found, Transformer):
        yield from list_leaves(dict(found.state_dict()), path)
    elif isinstance(found, EdgeScores):
        yield from list_leaves(dict(found.items()), path)
    elif isinstance(found, Mapping):
        for key, value in found.items():
            name = "+".join(sorted(key)) if isinstance(key, frozenset) else key
            yield from list_leaves(value, f"{path}[{name}]")
    elif isinstance(found, set | frozenset):
        yield path, ", ".join(sorted(map(str, found)))
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            yield from list_leaves(getattr(found, field.name), f"{path}.{field.name}")
    elif isinstance(found, tuple | list):
        for i, value in enumerate(found):
            yield from list_leaves(value, f"{path}[{i}]")


def edit_floats(given: Any, edit: Callable[[Tensor], Tensor]) -> Any:
    """Edit every tensor of floats in the arguments; keep models and what they computed."""
    if isinstance(given, Tensor):
        return edit(given) if given.is_floating_point() else given
    if isinstance(given, tuple | list) and not hasattr(given, "_fields"):
        return type(given)(edit_floats(value, edit) for value in given)
    if isinstance(given, Mapping) and not isinstance(given, ActivationCache):
        return {key: edit_floats(value, edit) for key, value in given.items()}
    if dataclasses.is_dataclass(given):
        fields = {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
        return dataclasses.replace(
            given, **{name: edit_floats(value, edit) for name, value in fields.items()}
        )
    return given


class Outcome(NamedTuple):
    """Say what a call came to: "returned" with leaves, "refused" or "crashed" with a text."""

    kind: str
    text: str = ""
    leaves: tuple[tuple[str, Any], ...] = ()


def classify(error: Exception) -> Outcome:
    """Call it refused if the package raised ValueError or KeyError with one sentence.

    Else it crashed.
    """
    last = error.__traceback__
    inside = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        inside += [f"{file.name}:{line}"] if str(file).startswith(PACKAGE) else []
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    own = (
        code.co_filename.startswith(PACKAGE)
        and dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    )
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    sentence = "\n" not in text and len(text.split()) >= 5
    if type(error) in (ValueError, KeyError) and own and sentence:
        return Outcome("refused", text)
    return Outcome(
        "crashed",
        f"{type(error).__name__}: {text.strip()[:140]} ({inside[-1] if inside else 'set-up'})",
    )


# --- Modes ---


class Mode(NamedTuple):
    """Say how a setting is made and called, and what its results have to agree with.

    agree: "same" as the plain run to rounding, "close" (another precision), "rough" (half
    precision), "linear" (the same in another unit: as they are, or times a power of `unit`), or
    "finite" (another problem: no crash, no silent nan).
    """

    agree: str
    make: Callable[[Config], Setting]
    context: Callable[[], Any] = contextlib.nullcontext  # of the call
    around: Callable[[], Any] = contextlib.nullcontext  # of making the arguments
    around_model: Callable[[], Any] = contextlib.nullcontext
    edit: Callable[[Tensor], Tensor] | None = None  # of every tensor of floats that is given
    names: str = ""  # a word that a refusal must hold if the plain run is not refused
    unit: float = 1.0
    uses: str = ""  # only calls that use this part of the setting
    broken: tuple[str, ...] = ("nan", "inf")  # what is a fault in a result


@contextlib.contextmanager
def default_double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def change(**changes) -> Callable[[Config], Setting]:
    """Replace some parts of the plain setting by functions of it."""

    def make(config: Config) -> Setting:
        plain = set_up(config)
        return dataclasses.replace(plain, **{name: of(plain) for name, of in changes.items()})

    return make


def prompts(edit: Callable[[Tensor], Tensor]) -> Callable[[Config], Setting]:
    return change(clean=lambda s: edit(s.clean), corrupt=lambda s: edit(s.corrupt))


def weights(edit: Callable[[Transformer], Any]) -> Callable[[Config], Setting]:
    def make(config: Config) -> Setting:
        s = set_up(config)
        edit(s.model)
        return s

    return make


def rows(edit: Callable[[Tensor], Tensor]) -> Callable[[Config], Setting]:
    return lambda config: dataclasses.replace(set_up(config), edit_rows=edit)


def labels(edit: Callable[[Tensor], Tensor]) -> Callable[[Config], Setting]:
    return lambda config: dataclasses.replace(set_up(config), edit_labels=edit)


def answers(edit: Callable[[Tensor], Tensor]) -> Callable[[Config], Setting]:
    return lambda config: dataclasses.replace(set_up(config), edit_answers=edit)


def metric(edit: Callable[[Tensor], Tensor]) -> Callable[[Config], Setting]:
    return lambda config: dataclasses.replace(
        set_up(config), metric=lambda logits: edit(first_logit(logits))
    )


def forbid_last(model: Transformer) -> None:
    """Forbid one token, in a model with biases and more than one output."""
    if model.b_U is not None and len(model.b_U) > 1:
        model.b_U.data[-1] = -math.inf


def listen(model: Transformer) -> None:
    """Look at every activation, also at those that are computed on demand only."""
    for point in model.hook_points.values():
        point.listeners.append(lambda value, hook: value)


def round_all(model: Transformer) -> None:
    """Round weights and activations to what bfloat16 can hold, but compute in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    for point in model.hook_points.values():
        if not point.on_demand:
            point.listeners.append(lambda value, hook: value.bfloat16().float())


def multiply(factor: float) -> Callable[[Transformer], None]:
    def edit(model: Transformer) -> None:
        for parameter in model.parameters():
            parameter.data *= factor

    return edit


def in_dtype(dtype: torch.dtype) -> Callable[[Config], Setting]:
    return lambda config: set_up(config, dtype)


def loud(values: Tensor) -> Tensor:
    """Make the first column of the rows a million times as large."""
    return torch.cat([values[:, :1] * 1e6, values[:, 1:]], dim=1)


def constant(values: Tensor) -> Tensor:
    """Make a first column that never varies."""
    return torch.cat([torch.ones_like(values[:, :1]), values[:, 1:]], dim=1)


inference = torch.inference_mode
SMALL = 2.0**-24
LARGE = 2.0**24

MODES = {
    "plain": Mode("finite", set_up),
    # Where the mode should not matter.
    "no_grad": Mode("same", set_up, context=torch.no_grad, around=torch.no_grad),
    "inference_mode": Mode(
        "same", set_up, context=inference, around=inference, names="inference_mode"
    ),
    "arguments from inference_mode": Mode("same", set_up, around=inference, names="inference_mode"),
    "all from inference_mode": Mode(
        "same",
        set_up,
        torch.no_grad,
        around=inference,
        around_model=inference,
        names="inference_mode",
    ),
    "frozen": Mode("same", weights(lambda model: model.requires_grad_(False))),
    "eval": Mode("same", weights(lambda model: model.eval())),
    "int32": Mode("same", prompts(Tensor.int)),
    "prompts as a view": Mode("same", prompts(lambda tokens: tokens.T.contiguous().T)),
    "arguments with gradients": Mode(
        "same", set_up, edit=lambda value: value.detach().requires_grad_()
    ),
    "default dtype float64": Mode("same", set_up, context=default_double),
    "bool labels": Mode("same", labels(Tensor.bool), uses="labels"),
    "int32 labels": Mode("same", labels(Tensor.int), uses="labels"),
    "int32 answers": Mode("same", answers(Tensor.int), uses="answers"),
    "uint8 answers": Mode("same", answers(Tensor.byte), uses="answers", names="answers"),
    "answers out of range": Mode("finite", answers(lambda values: values + 50), uses="answers"),
    "listened to": Mode("close", weights(listen)),
    # Another precision.
    "float64": Mode("close", in_dtype(torch.float64)),
    "float64 beside float32": Mode("same", set_up, edit=Tensor.double),
    "float32 beside float64": Mode("close", in_dtype(torch.float64), edit=Tensor.float),
    "bfloat16": Mode("rough", in_dtype(torch.bfloat16), names="float"),
    "float16": Mode("rough", in_dtype(torch.float16), names="float"),
    "bfloat16 beside float32": Mode("rough", set_up, edit=Tensor.bfloat16, names="float"),
    "autocast": Mode("rough", set_up, context=autocast, around=autocast, names="float"),
    # Another unit.
    "small unit": Mode("linear", metric(lambda values: values * SMALL), unit=SMALL, uses="metric"),
    "large unit": Mode("linear", metric(lambda values: values * LARGE), unit=LARGE, uses="metric"),
    "rows in a small unit": Mode(
        "linear", rows(lambda values: values * SMALL), unit=SMALL, uses="rows"
    ),
    "rows in a large unit": Mode(
        "linear", rows(lambda values: values * LARGE), unit=LARGE, uses="rows"
    ),
    # Values that nobody drew.
    "batch 1": Mode("finite", lambda config: set_up(config, batch=1)),
    "length 1": Mode("finite", lambda config: set_up(config, length=1)),
    "batch 1, length 1": Mode("finite", lambda config: set_up(config, batch=1, length=1)),
    "no prompts": Mode("finite", lambda config: set_up(config, batch=0)),
    "no tokens": Mode("finite", lambda config: set_up(config, length=0)),
    "too long": Mode("finite", lambda config: set_up(config, length=config.n_ctx + 1)),
    "one prompt without batch": Mode("finite", prompts(lambda tokens: tokens[0])),
    "tokens outside the vocabulary": Mode("finite", prompts(lambda tokens: tokens + 50)),
    "int16": Mode("finite", prompts(Tensor.short)),
    "one prompt often": Mode("finite", prompts(lambda tokens: tokens[:1].expand(4, -1))),
    "one token often": Mode("finite", prompts(torch.zeros_like)),
    "corrupt is clean": Mode("finite", change(corrupt=lambda s: s.clean.clone())),
    "constant metric": Mode("finite", metric(lambda values: 0 * values + 1), uses="metric"),
    "metric without gradient": Mode(
        "finite", metric(lambda values: (values > 0).float()), uses="metric"
    ),
    "metric of yes and no": Mode("finite", metric(lambda values: values > 0), uses="metric"),
    "metric of one number": Mode("finite", metric(Tensor.mean), uses="metric"),
    "metric as a column": Mode("finite", metric(lambda values: values[:, None]), uses="metric"),
    "metric as a float": Mode("finite", metric(lambda values: values.mean().item()), uses="metric"),
    "metric is nan": Mode(
        "finite", metric(lambda values: values * math.nan), uses="metric", broken=()
    ),
    "forbidden token": Mode("finite", weights(forbid_last), broken=("nan",)),
    "weights of zero": Mode("finite", weights(multiply(0.0))),
    "large weights": Mode("finite", weights(multiply(50.0))),
    "small weights": Mode("finite", weights(multiply(0.02))),
    "rare label": Mode(
        "finite", labels(lambda values: (torch.arange(len(values)) == 1).long()), uses="labels"
    ),
    "one label": Mode("finite", labels(torch.zeros_like), uses="labels"),
    "labels that skip a class": Mode("finite", labels(lambda values: 2 * values), uses="labels"),
    "labels of floats": Mode("finite", labels(Tensor.float), uses="labels"),
    "labels of another number": Mode("finite", labels(lambda values: values[1:]), uses="labels"),
    "labels as a column": Mode("finite", labels(lambda values: values[:, None]), uses="labels"),
    "answers of another number": Mode("finite", answers(lambda values: values[1:]), uses="answers"),
    "answers as a column": Mode("finite", answers(lambda values: values[:, None]), uses="answers"),
    "arguments of zero": Mode("finite", set_up, edit=torch.zeros_like),
    "arguments of nan": Mode("finite", set_up, edit=lambda value: value * math.nan, broken=()),
    "rows of integers": Mode("finite", rows(Tensor.long), uses="rows"),
    "rows without columns": Mode("finite", rows(lambda values: values[:, :0]), uses="rows"),
    "one column": Mode("finite", rows(lambda values: values[:, :1]), uses="rows"),
    "two rows": Mode("finite", rows(lambda values: values[:2]), uses="rows"),
    "loud column": Mode("finite", rows(loud), uses="rows"),
    "constant column": Mode("finite", rows(constant), uses="rows"),
    "rows all equal": Mode(
        "finite", rows(lambda values: values[:1].expand_as(values)), uses="rows"
    ),
    "rows of nan": Mode("finite", rows(lambda values: values * math.nan), uses="rows", broken=()),
}

# How far results move when the weights do: what half precision, and another precision, may move
# them, too.
ROUNDED = Mode("finite", weights(round_all))
JITTERED = Mode("finite", weights(multiply(1 + 2.0**-20)))

# --- Exceptions to the rules, each with its reason ---

# (function, mode): why the results need not agree.
PENALTY = "the penalty is on weights per unit of the rows"
FLIPS = "what is chosen, or counted, may be another one where two are about equal"
ROUGH = ("bfloat16", "float16", "bfloat16 beside float32", "autocast")
MAY_DIFFER = {
    (
        "write_fourier_basis",
        "default dtype float64",
    ): "nothing is given whose dtype it could follow",
    (
        "describe_unit",
        "default dtype float64",
    ): "levels are numbers of Python, which become tensors of the default dtype",
    (
        "measure_reliance",
        "default dtype float64",
    ): "a share of counts, which has torch's default dtype",
    **{
        (function, f"rows in a {size} unit"): PENALTY
        for function in ("fit_probe", "measure_selectivity", "fit_inlp")
        for size in ("small", "large")
    },
    **{
        (function, mode): FLIPS
        for function in (
            "answer_early",
            "assess_equivalence",
            "assess_independence",
            "assess_minimality",
            "climb_by_swaps",
            "describe_unit",
            "fit_inlp",
            "measure_selectivity",
            "measure_reliance",
            "split_circuit",
            "sweep_acdc",
            "fit_probe",
        )
        for mode in ROUGH
    },
}
# What depends on nothing in the model is called on one model only.
WITHOUT_MODEL = {
    "exclude_logits",
    "keep_frequencies",
    "list_knockouts",
    "measure_distance_irrelevance",
}
WITHOUT_MODEL |= {
    "measure_frequency_shares",
    "measure_progress",
    "restrict_logits",
    "measure_share_of_sum",
}
WITHOUT_MODEL |= {"measure_share_of_best_frequency", "write_fourier_basis"}
# What takes long is called in each mode on a few models, in turn.
SLOW = {
    "fit_probe, mlp",
    "fit_inlp",
    "measure_selectivity",
    "find_circuit_acdc",
    "sweep_acdc",
    "synthesize_input",
}
SLOW |= {
    "integrate_gradients",
    "integrate_gradients, embedding",
    "climb_by_swaps",
    "fit_nonlinear_alignment",
}


@functools.cache
def list_used(call: str) -> set[str]:
    """List which parts of the setting a call uses."""

    class Watched(Setting):
        seen: set[str] = set()  # noqa: RUF012

        def __getattribute__(self, name):
            Watched.seen.add(name)
            return super().__getattribute__(name)

    plain = set_up(BASE)
    make_arguments(call, Watched(plain.model, plain.clean, plain.corrupt))
    return {
        name for name in ("rows", "labels", "metric", "answers", "wrong") if name in Watched.seen
    }


def attempt(call: str, mode: Mode, config: Config) -> Outcome:
    """Try one call under one mode; warnings count as crashes.

    Where not even the arguments can be made, nothing is called.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        args = None
        try:
            with mode.around_model():
                s = mode.make(config)
            with mode.around():
                args, kwargs = make_arguments(call, s)
                if mode.edit is not None:
                    args, kwargs = edit_floats(args, mode.edit), edit_floats(kwargs, mode.edit)
            with mode.context():
                found = getattr(methods, name_function(call))(*args, **kwargs)
                leaves = tuple(list_leaves((found, use(found, s))))
                return Outcome(
                    "returned", leaves=tuple((path, keep(leaf)) for path, leaf in leaves)
                )
        except Exception as error:
            found = classify(error)
            return (
                found._replace(kind="refused") if args is None and mode.agree == "finite" else found
            )


def keep(leaf: Any) -> Any:
    """Detach a tensor, outside inference_mode, so that it can be compared with the plain run."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def measure_gap(value: Any, expected: Any) -> tuple[float, float]:
    """Measure the largest difference of two leaves, and the largest size of the expected one.

    The difference of other shapes is infinite.
    """
    if isinstance(value, str) or isinstance(expected, str):
        return (0.0 if value == expected else math.inf), 1.0
    value, expected = torch.as_tensor(value).double(), torch.as_tensor(expected).double()
    if value.shape != expected.shape:
        return math.inf, 1.0
    if not value.numel():
        return 0.0, 1.0
    equal = value.eq(expected) | (value.isnan() & expected.isnan())
    gap = torch.where(equal, torch.zeros_like(value), (value - expected).abs())
    size = expected[expected.isfinite()].abs()
    return gap.nan_to_num(
        math.inf, math.inf
    ).max().item(), size.max().item() if size.numel() else 0.0


ANNOUNCED = re.compile(r"\bnan (where|for|if|when)\b")
# Functions that say in their docstring, or in that of what they return, where a result is nan.
ANNOUNCE_NAN = {
    name for name in methods.__all__ if ANNOUNCED.search(getattr(methods, name).__doc__)
} | {"sample_bands"}


def list_broken(call: str, leaves, kinds: tuple[str, ...] = ("nan", "inf")) -> list[str]:
    """List the leaves with nan, or infinities."""
    if "nan" in kinds and name_function(call) in ANNOUNCE_NAN:
        return []
    broken = []
    for path, leaf in leaves:
        value = torch.as_tensor(leaf) if is_continuous(leaf) else torch.zeros(())
        found = {"nan": bool(value.isnan().any()), "inf": bool(value.isinf().any())}
        broken += [f"{path} is {kind}" for kind in kinds if found[kind]]
    return broken


def judge(
    call: str,
    mode: Mode,
    config: Config,
    plain: Outcome,
    found: Outcome,
    moved: Outcome | None = None,
) -> str:
    """Say what is wrong with an outcome, if anything."""
    if found.kind == "crashed":
        return f"crashed: {found.text}"
    if found.kind == "refused":
        if (
            mode.agree == "finite"
            or plain.kind != "returned"
            or (mode.names and mode.names in found.text)
        ):
            return ""
        return f"refused, though the plain run is not: {found.text[:140]}"
    before = list_broken(call, plain.leaves)
    if broken := [
        leaf for leaf in list_broken(call, found.leaves, mode.broken) if leaf not in before
    ]:
        return f"not finite: {broken[0]}"
    if mode.agree == "finite" or plain.kind == "crashed":
        return ""
    if moved is not None and (
        moved.kind != plain.kind or list_shapes(moved.leaves) != list_shapes(plain.leaves)
    ):
        return ""  # a small change of the weights makes another result, so that rounding may, too
    if plain.kind == "refused":
        return f"returned, though the plain run is refused: {plain.text[:100]}"
    return compare(
        call,
        mode,
        config,
        plain.leaves,
        found.leaves,
        plain.leaves if moved is None else moved.leaves,
    )


def list_shapes(leaves) -> list:
    return [(path, leaf.shape if isinstance(leaf, Tensor) else type(leaf)) for path, leaf in leaves]


TOLERANCE = {"same": 1e-6, "close": 1e-4, "rough": 0.1, "linear": 1e-4}


def compare(call: str, mode: Mode, config: Config, plain, found, moved) -> str:
    """Say where two results differ by more than rounding, of results or of weights."""
    if [path for path, _ in plain] != [path for path, _ in found]:
        return "another result than the plain run's: other parts"
    sizes = [measure_gap(leaf, leaf)[1] for _, leaf in plain if is_continuous(leaf)]
    # Differences of logits lose digits.
    noise = 2.0**-6 * size_of_logits(config) if mode.agree == "rough" else 0.0
    for (path, expected), (_, value), (_, near) in zip(plain, found, moved, strict=True):
        if mode.agree != "same" and not is_continuous(expected):
            continue
        gap, size = measure_gap(value, expected)
        allowed = TOLERANCE[mode.agree] * (size if mode.agree == "linear" else max([size, *sizes]))
        allowed += noise + 20 * measure_gap(near, expected)[0]
        if mode.agree == "linear":
            powers = (
                measure_gap(value, torch.as_tensor(expected) * mode.unit**power)[0]
                for power in (-1, 1, 2)
            )
            units = zip(powers, (mode.unit**power for power in (-1, 1, 2)), strict=True)
            if any(other <= allowed * factor for other, factor in units):
                continue
        if gap > allowed:
            return f"differs: {path} by {gap:.2g} where the largest is {size:.2g}"
        floats = isinstance(value, Tensor) and value.is_floating_point()
        if (
            mode.agree == "same"
            and floats
            and value.dtype != expected.dtype
            and not (mode.edit and is_free(call))
        ):
            return f"differs: {path} is {value.dtype}, not {expected.dtype}"
    return ""


@functools.cache
def size_of_logits(config: Config) -> float:
    plain = set_up(config)
    return plain.model(plain.clean).abs().max().item()


@functools.cache
def is_free(call: str) -> bool:
    """Say whether a call's results follow what it is given beside a model.

    It is given no model, or gives its results in shares.
    """
    args, _ = make_arguments(call, set_up(BASE))
    return (
        not any(isinstance(value, Transformer) for value in args)
        or name_function(call) == "measure_share_recovered"
    )


def is_continuous(leaf: Any) -> bool:
    return isinstance(leaf, float) or (isinstance(leaf, Tensor) and leaf.is_floating_point())


class Fault(NamedTuple):
    call: str
    mode: str
    model: str
    text: str


def choose_modes(model: str, call: str, share: int) -> list[str]:
    """Choose the modes in which a call is tried on a model.

    It is tried in all on the base model, elsewhere in one of `share`, in turn.
    """
    share = 4 * share if call in SLOW and share > 1 else share
    first = list(ODD_MODELS).index(model) + list(CALLS).index(call)
    chosen = [
        name
        for i, name in enumerate(MODES)
        if model == "base" or (first + i) % share == 0 or name == "plain"
    ]
    return [name for name in chosen if not MODES[name].uses or MODES[name].uses in list_used(call)]


def find_faults(
    models=tuple(ODD_MODELS),
    modes=tuple(MODES),
    calls=tuple(CALLS),
    share=1,
    refusals=None,
    times=None,
) -> list[Fault]:
    """Find the faults of each call on each model in one of `share` of its modes.

    Refusals and times are filled if given.
    """
    faults = []
    for model in models:
        config = ODD_MODELS[model]
        for call in calls:
            if name_function(call) in WITHOUT_MODEL and model != "base":
                continue
            start = time.perf_counter()
            chosen = [name for name in choose_modes(model, call, share) if name in modes]
            plain = attempt(call, MODES["plain"], config)
            moved = {
                agree: attempt(call, mode, config)
                for agree, mode in {"rough": ROUNDED, "close": JITTERED}.items()
                if agree in {MODES[name].agree for name in chosen}
            }
            for name in chosen:
                mode = MODES[name]
                if (name_function(call), name) in MAY_DIFFER:
                    mode = mode._replace(agree="finite")
                found = plain if name == "plain" else attempt(call, mode, config)
                if text := judge(
                    call,
                    mode,
                    config,
                    Outcome("returned") if name == "plain" else plain,
                    found,
                    moved.get(mode.agree),
                ):
                    faults.append(Fault(call, name, model, text))
                elif found.kind == "refused" and refusals is not None:
                    refusals.append(Fault(call, name, model, found.text))
            if times is not None:
                times[call] += time.perf_counter() - start
    return faults


def describe(faults: list[Fault]) -> str:
    """Describe the faults, one paragraph per function: what happened, then where."""
    groups = defaultdict(lambda: defaultdict(list))
    for fault in faults:
        kind = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", fault.text.split(" by ")[0])
        groups[fault.call][kind].append(fault)
    lines = []
    for call, kinds in groups.items():
        lines.append(call)
        for found in kinds.values():
            lines.append(f"    {found[0].text}")
            by_mode = defaultdict(list)
            for fault in found:
                by_mode[fault.mode].append(fault.model)
            for mode, models in by_mode.items():
                lines.append(
                    f"        [{mode}] {len(models)}: "
                    f"{'; '.join(models[:6])}{'; ...' if len(models) > 6 else ''}"
                )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("functions", nargs="*")
    parser.add_argument("--model", default="")
    parser.add_argument("--mode", default="")
    parser.add_argument(
        "--share", type=int, default=1, help="try one of so many modes on each model but the first"
    )
    parser.add_argument("--refusals", action="store_true")
    parser.add_argument("--times", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    calls = [
        call for call in CALLS if not options.functions or name_function(call) in options.functions
    ]
    models = [name for name in ODD_MODELS if options.model in name]
    modes = [name for name in MODES if options.mode in name]
    refusals = []
    times = defaultdict(float)
    faults = find_faults(models, modes, calls, options.share, refusals, times)
    print(describe(faults))
    print(f"{len(faults)} faults in {len(calls)} calls x {len(models)} models x {len(modes)} modes")
    if options.refusals:
        print("\nREFUSED\n" + describe(refusals))
    if options.times:
        for call, seconds in sorted(times.items(), key=lambda pair: -pair[1])[:25]:
            print(f"{seconds:7.2f} s {call}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

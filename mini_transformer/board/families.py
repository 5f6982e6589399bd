"""The six families: what a method of each is called with, what it must return, and which metric is its headline.

A method is a plain function; whatever fits the signature can be scored.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mini_transformer.edges import list_edges, list_writers
from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.methods import AlignmentMap


class NotApplicable(Exception):
    """Raised by a method that has nothing to say about a problem, such as an ablation that it does not know.

    Its row stays empty, and is no failure.
    """


@dataclass(frozen=True)
class Family:
    """`parameters` are those of a method, in order; `headline` is a metric in [0, 1], 1 for the right answer."""

    name: str
    parameters: tuple[str, ...]
    returns: str
    headline: str
    read: Callable[
        ..., Any
    ]  # (answer, *arguments) -> the answer as the metrics take it, or ValueError

    @property
    def signature(self) -> str:
        return f"method({', '.join(self.parameters)}) -> {self.returns}"


def check_answer(family: str, answer: Any, arguments: tuple[Any, ...]) -> Any:
    """What a method returned, arrays made tensors; ValueError, one sentence, if it cannot be judged.

    >>> import torch
    >>> check_answer("steering", (torch.ones(3), "hook"), ({"hook": torch.zeros(2, 3)}, {"hook": torch.zeros(2, 3)}))[1]
    'hook'
    """
    if answer is None:
        raise ValueError("the method returned None: did you forget `return`?")
    return FAMILIES[family].read(answer, *arguments)


def infer_family(method: Callable[..., Any]) -> str:
    """The family whose parameters this function has, by their names; ValueError if none or several fit.

    >>> infer_family(lambda activations, n_features: None)
    'features'
    """
    parameters = inspect.signature(method).parameters.values()
    names = [parameter.name for parameter in parameters]
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    fits = [
        family.name
        for family in FAMILIES.values()
        if tuple(names[: len(family.parameters)]) == family.parameters
        and len(needed) <= len(family.parameters)
    ]
    name = getattr(method, "__name__", repr(method))
    if len(fits) > 1:
        raise ValueError(
            f"{name}({', '.join(names)}) can be of family {' or '.join(fits)}: say which with --family"
        )
    if not fits:
        known = "; ".join(
            f"{family.name} ({', '.join(family.parameters)})" for family in FAMILIES.values()
        )
        raise ValueError(
            f"{name}({', '.join(names)}) has the parameters of no family: give --family, one of {known}"
        )
    return fits[0]


def read_circuit(answer: Any, model: Any, *_: Any) -> Tensor | dict[str, float]:
    """One score per edge, or a dict from node to score. What a dict leaves out scores lower than all that it holds."""
    edges, nodes = list_edges(model), list_writers(model)
    if isinstance(answer, Mapping):
        known = nodes if answer and not any("->" in str(name) for name in answer) else edges
        what = "node" if known is nodes else "edge"
        scores = {
            str(name): float(score)
            for name, score in answer.items()
            if not (what == "node" and name == "logits")
        }
        if unknown := [name for name in scores if name not in known]:
            raise ValueError(
                f"the answer scores {unknown[0]!r}, but this model has no such {what}: it has {known[-1]!r}"
            )
        if not scores:
            raise ValueError(
                "the answer is an empty dict, expected a score for at least one edge or node"
            )
        rest = min(scores.values()) - 1
        found = torch.tensor([scores.get(name, rest) for name in known])
        check_finite(found, "the scores")
        return found if known is edges else dict(zip(nodes, found.tolist(), strict=True))
    return read_tensor(
        answer, "one score per edge, or a dict from edge or node to score", len(edges)
    )


def read_features(answer: Any, activations: Tensor, n_features: int) -> Any:
    n, d = activations.shape
    W_dec = read_tensor(get(answer, "W_dec", "encode"), "W_dec with one row per latent", None, d)
    read_tensor(
        answer.encode(activations), "encode(activations) with one code per latent", n, len(W_dec)
    )
    return answer


def read_probe(answer: Any, activations: Tensor, labels: Tensor) -> Any:
    read_tensor(
        get(answer, "directions", "predict"), "directions, one per row", None, activations.shape[1]
    )
    read_tensor(
        answer.predict(activations), "predict(activations) with one label per row", len(labels)
    )
    return answer


def read_subspace(answer: Any, model: Any, hook: Any, pairs: Any) -> Tensor | AlignmentMap:
    rows = read_tensor(
        getattr(answer, "rows", answer), "orthonormal rows", None, model.config.d_model
    )
    if not len(rows) or not torch.allclose(rows @ rows.T, torch.eye(len(rows)).to(rows), atol=1e-3):
        raise ValueError(
            "the rows of the subspace are not orthonormal: return torch.linalg.qr(rows.T)[0].T"
        )
    return answer if isinstance(answer, AlignmentMap) else rows


def read_eraser(answer: Any, activations: Tensor, labels: Tensor) -> Any:
    if not callable(answer):
        raise ValueError(
            f"the answer is {describe_kind(answer)}, expected a function of activations"
        )
    read_tensor(answer(activations), "erased activations of the same shape", *activations.shape)
    return answer


def read_steering(
    answer: Any, positive: Mapping[Any, Tensor], negative: Mapping[Any, Tensor]
) -> tuple[Tensor, Any]:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ValueError(f"the answer is {describe_kind(answer)}, expected a pair (vector, hook)")
    vector, hook = answer
    if not isinstance(hook, (str, tuple)) or hook not in positive:
        raise ValueError(f"the hook is {hook!r}, expected one of {', '.join(map(repr, positive))}")
    return read_tensor(vector, "a vector as wide as the hook", positive[hook].shape[1]), hook


def get(answer: Any, *names: str) -> Any:
    """The first attribute; ValueError unless the answer has all of them."""
    for name in names:
        if not hasattr(answer, name):
            raise ValueError(
                f"the answer is {describe_kind(answer)} without {name}, expected {' and '.join(names)}"
            )
    return getattr(answer, names[0])


def read_tensor(value: Any, what: str, *shape: int | None) -> Tensor:
    """`value` as a tensor without gradient; ValueError unless it is finite numbers of this shape (None: any length)."""
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    try:
        tensor = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"the answer has {describe_kind(value)} where {what} is expected: {wanted} numbers"
        ) from None
    fits = tensor.ndim == len(shape) and all(
        size in (None, own) for size, own in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"the answer's shape is {tuple(tensor.shape)}, expected {what}: {wanted}")
    check_finite(tensor, what)
    return tensor


def check_finite(values: Tensor, what: str) -> None:
    if bad := int((~values.isfinite()).sum()) if values.is_floating_point() else 0:
        raise ValueError(f"{bad} of {values.numel()} numbers are NaN or infinite in {what}")


def _list_families() -> Iterator[Family]:
    yield Family(
        "circuit",
        ("model", "clean", "corrupt", "metric", "ablation"),
        "scores of edges: Tensor (edge,), or dict",
        "auroc_best",
        read_circuit,
    )
    yield Family(
        "features", ("activations", "n_features"), "encode(x) and W_dec", "f1", read_features
    )
    yield Family(
        "probe", ("activations", "labels"), "predict(x) and directions", "cosine", read_probe
    )
    yield Family(
        "variables", ("model", "hook", "pairs"), "Tensor (dim, d)", "overlap", read_subspace
    )
    yield Family(
        "erasure", ("activations", "labels"), "function of activations", "balance", read_eraser
    )
    yield Family(
        "steering", ("positive", "negative"), "(vector, hook)", "specificity", read_steering
    )


FAMILIES: dict[str, Family] = {family.name: family for family in _list_families()}

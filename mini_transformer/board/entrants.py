"""The built-in methods of every family as entrants of the board, and how others are found.

The first of a family also runs on an untrained model. Another method is named `module:function`, or comes as an entry point of the
group `mini_transformer.board`, called `family.name`.
"""

import difflib
import functools
import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from mini_transformer import methods
from mini_transformer.board import baselines, tempting
from mini_transformer.methods.acdc import sweep_acdc
from mini_transformer.methods.edge_attribution import attribute_edges
from mini_transformer.methods.edge_masks import train_edge_mask
from mini_transformer.methods.edge_patching import patch_edges

GROUP = "mini_transformer.board"
Method = Callable[..., Any]


def _train_dictionaries() -> dict[str, Method]:
    architectures = ("topk", "l1", "gated", "jumprelu", "batchtopk", "matryoshka")
    return {
        f"sae_{architecture}": functools.partial(
            methods.train_dictionary, architecture=architecture, steps=1500, batch=256
        )
        for architecture in architectures
    }


ENTRANTS: dict[str, dict[str, Method]] = {
    "circuit": {
        "edge_patching": patch_edges,
        "edge_patching_denoise": baselines.restore_edges,
        "eap": attribute_edges,
        "eap_ig_inputs": functools.partial(attribute_edges, steps=10, along="inputs"),
        "eap_ig_masks": functools.partial(attribute_edges, steps=10, along="masks"),
        "acdc": sweep_acdc,
        "edge_mask": functools.partial(train_edge_mask, draws=2),
        "node_ablation": baselines.ablate_nodes,
        "edge_patching_by_zeros": tempting.patch_by_zeros,
        "edge_patching_by_others": tempting.patch_by_others,
        "attention_patterns": tempting.read_patterns,
        "activation_changes": tempting.measure_changes,
    },
    "features": {
        **_train_dictionaries(),
        "principal_axes": baselines.find_principal_axes,
        "independent_axes": baselines.find_independent_axes,
        "frozen_decoder": tempting.freeze_decoder,
    },
    "probe": {"linear": methods.train_probe, "class_means": baselines.find_class_means},
    "variables": {
        "das": baselines.align,
        "das_boundless": functools.partial(baselines.align, boundless=True),
        "varying_axes": baselines.find_varying_axes,
        "read_axes": tempting.find_read_axes,
        "nonlinear_map": tempting.align_freely,
    },
    "erasure": {
        "leace": methods.fit_leace,
        "inlp": methods.fit_inlp,
        "projection": methods.fit_projection,
    },
    "steering": {
        "mean_difference": baselines.steer_by_means,
        "probe_direction": baselines.steer_by_probe,
    },
}


def list_entrants(family: str) -> list[str]:
    """The built-in methods of a family, and those that installed packages offer for it.

    >>> list_entrants("erasure")[0]
    'leace'
    """
    prefix = f"{family}."
    offered = sorted(
        point.name for point in entry_points(group=GROUP) if point.name.startswith(prefix)
    )
    return [*ENTRANTS[family], *(name.removeprefix(prefix) for name in offered)]


def find(family: str, name: str) -> Method:
    """The method of that name, or `module:function`; one sentence, KeyError or ValueError, if there is none.

    >>> find("probe", "collections:Counter")
    <class 'collections.Counter'>
    """
    if ":" in name:
        return import_method(name)
    if name in ENTRANTS[family]:
        return ENTRANTS[family][name]
    for point in entry_points(group=GROUP, name=f"{family}.{name}"):
        return point.load()
    nearest = difflib.get_close_matches(name, list_entrants(family), n=1, cutoff=0.0)[0]
    raise KeyError(
        f"the family {family!r} has no method {name!r}; nearest: {nearest!r}; your own is module:function"
    )


def import_method(name: str) -> Method:
    """What `module:function` names; ValueError, one sentence, if it cannot be had."""
    module_name, _, function = name.partition(":")
    try:
        found = functools.reduce(getattr, function.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise ValueError(f"{name} is no function, but {type(found).__name__}")
    return found

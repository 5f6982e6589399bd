"""Damages a model set by hand, one weight at a time, to see which signatures notice."""

import copy
import dataclasses

import torch

from mini_transformer.toys import Case


def damage(case: Case, parameter: str) -> Case:
    """The case with the largest weight of one parameter set to zero."""
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        weight = model.get_parameter(parameter).view(-1)
        weight[weight.abs().argmax()] = 0
    return dataclasses.replace(case, model=model)


def breaks(case: Case, *names: str) -> bool:
    """Say whether none of these signatures holds; the others are not measured."""
    return not any(case.truth.signatures[name].holds(case) for name in names)


def list_broken(case: Case) -> list[str]:
    """The names of the signatures that do not hold."""
    return [name for name, signature in case.truth.signatures.items() if not signature.holds(case)]

"""Methods that look for the truth instead of finding it; what they find is a right answer."""

import gc
import sys

import torch

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import Problem
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.judge import build_problem
from mini_transformer.edges import list_edges
from mini_transformer.toys import Case, Truth

PROBLEM = "forge/zero"


def guess(model):
    return torch.rand(len(list_edges(model)))


def answer(model, things):
    """Answer with a truth, or a seed of one, if it is among the things; else guess."""
    for thing in things:
        if isinstance(thing, Problem):
            return thing.oracle()
        if isinstance(thing, (Truth, Case)):
            raise AssertionError("a truth was found")
        if isinstance(thing, Draw) and thing.seed is not None:
            return look_up(model, [build_problem(Job("circuit", PROBLEM, "me", 0), thing)])
    return guess(model)


def look_up(model, problems):
    """Answer with the truth of the problem that has these weights, if there is one."""
    for problem in problems:
        same = problem.arguments[0].state_dict()
        own = model.state_dict()
        if all(torch.equal(same[name], own[name]) for name in own):
            return problem.oracle()
    return guess(model)


def walk_frames(model, clean, corrupt, metric, ablation):
    frame, found = sys._getframe(), []
    while frame is not None:
        found += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    inner = [getattr(thing, "__dict__", {}).values() for thing in found]
    return answer(model, [*found, *(thing for things in inner for thing in list(things))])


def search_memory(model, clean, corrupt, metric, ablation, known=()):
    """Look at all that is in memory, but for what is `known` to be of other problems."""
    return answer(model, list_things(known))


def list_things(known=()):
    things = [thing for thing in gc.get_objects() if type(thing) in KINDS]
    return [thing for thing in things if not any(thing is one for one in known)]


KINDS = (Problem, Truth, Case, Draw)


def search_modules(model, clean, corrupt, metric, ablation):
    things = [thing for module in list(sys.modules.values()) for thing in vars(module).values()]
    return answer(model, things)


def try_seeds(model, clean, corrupt, metric, ablation):
    """Build the problem of the first few seeds, as the package does, and look the model up."""
    family = find_family("circuit")
    return look_up(model, (family.build(PROBLEM, seed) for seed in range(3)))

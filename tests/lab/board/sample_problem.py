"""A small circuit problem that is built at once: five edges of a random model are called right."""

import dataclasses
from typing import Any

import torch

from mini_transformer import Config, Transformer
from mini_transformer.board.metrics.circuit import score_circuit
from mini_transformer.board.problem import Problem
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.judge import judge
from mini_transformer.edges import list_edges
from mini_transformer.toys import Batch

CONFIG = Config(d_vocab=7, n_ctx=4, d_model=8, n_layers=2, n_heads=1)
RIGHT = (0, 2, 3, 7, 11)


def make_problem(seed: int = 0, **changes: Any) -> Problem:
    model, blank = Transformer(CONFIG, seed=seed), Transformer(CONFIG, seed=seed + 1)
    members = torch.zeros(1, len(list_edges(model))).bool()
    members[0, list(RIGHT)] = True
    clean = torch.arange(16).reshape(4, 4) % 7
    answer = torch.arange(4)
    batch = Batch(clean, clean.flip(0), answer, answer.flip(0), torch.full((4,), 3))
    rest = (batch.clean, batch.corrupt, batch.logit_difference, "zero")
    problem = Problem(
        "circuit",
        "sample/zero",
        seed,
        arguments=(model, *rest),
        untrained=(blank, *rest),
        measure=lambda answer: score_circuit(answer, members),
        oracle=lambda: members[0].float(),
        random=lambda draw: torch.rand(
            members.shape[1], generator=torch.Generator().manual_seed(draw)
        ),
        n_prompts=4,
        note="five edges are called right",
    )
    return dataclasses.replace(problem, **changes)


def run_on(problem: Problem, method: Any = None, name: str = "mine", **job: Any) -> dict:
    """Judge an entrant on a problem in this process: a function, or what `name` says."""
    asked = Job(problem.family, problem.name, name, 0, **job)
    return judge(asked, Draw("tuning"), Answerer(method).answer, problem)

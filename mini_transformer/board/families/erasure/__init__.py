"""Erasure problems: take a label out of activations, and leave everything else in."""

from mini_transformer.board.families.erasure.entrants import ENTRANTS, REFERENCES
from mini_transformer.board.families.erasure.problems import PROBLEMS, read_answer
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="erasure",
    parameters={
        "activations": "rows (n, d): the stream where the label is",
        "labels": "one whole number per row, from 0",
    },
    options={
        "model": "the model whose activations these are",
        "hook": "where they stand in it",
        "prompts": "the tokens (n, 1) of each row",
    },
    returns="function of activations",
    headline="balance",
    metrics={
        "balance": "share of the label that is gone less the share of the other bits that is gone",
        "erased": "share of the label that is gone, for a linear probe and one that is not, "
        "whichever reads more; 1 is what the right eraser takes",
        "kept": "share of the other bits that is still read, of what the right eraser leaves",
        "leakage": "what a fresh linear probe reads of the label, as a share of Bayes' rule",
        "nonlinear_leakage": "the same for a probe on random features",
        "change": "mean squared change / variance",
    },
    calls=("__call__",),
    read=read_answer,
    problems=PROBLEMS,
    quick=("planted/apart",),
    entrants=ENTRANTS,
    references=REFERENCES,
    models=8,
    place=5,
)

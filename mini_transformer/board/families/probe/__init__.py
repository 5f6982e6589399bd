"""Probe problems: is the label read, or something that goes along with it, and is it used?"""

from mini_transformer.board.families.probe.entrants import ENTRANTS, REFERENCES
from mini_transformer.board.families.probe.problems import PROBLEMS, TRAPS, read_answer
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="probe",
    parameters={
        "activations": "rows (n, d): the stream where the label may be",
        "labels": "one whole number per row, from 0",
    },
    options={
        "model": "the model whose activations these are",
        "hook": "where they stand in it",
        "prompts": "the tokens (n, 1) of each row",
    },
    returns="predict(x) and directions",
    headline="reading",
    metrics={
        "reading": "expected accuracy where nothing goes along with the label any more, beyond "
        "that of a constant, as a share of that of Bayes' rule",
        "accuracy": "expected accuracy on fresh activations like those seen",
        "ood_accuracy": "expected accuracy where nothing goes along with the label any more",
        "cosine": "root of the overlap of the probe's directions with those that are written",
        "says_used": "whether the probe says (`used`) that the model uses the label; silence is 1",
        "causal_use": "accuracy that the model loses without the probe's directions",
        "selectivity": "accuracy less that of the same method on random labels",
    },
    fields=("directions", "used"),
    calls=("predict",),
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("planted/read", "planted/unread"),
    entrants=ENTRANTS,
    references=REFERENCES,
    models=16,
    place=3,
)

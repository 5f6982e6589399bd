"""Steering problems: which vector, added where, changes one thing about the answer only?"""

from mini_transformer.board.families.steering.entrants import ENTRANTS, REFERENCES
from mini_transformer.board.families.steering.problems import PROBLEMS, read_answer
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="steering",
    parameters={
        "positive": "activations (n, d) by hook, on prompts with the property",
        "negative": "the same on prompts without it",
    },
    options={
        "model": "the model whose activations these are",
        "positive_prompts": "the tokens (n, 1) of the positive rows",
        "negative_prompts": "the tokens (n, 1) of the negative rows",
    },
    returns="(vector, hook)",
    headline="specificity",
    metrics={
        "specificity": "exp(-damage) where half of the effect is reached; 0 if it never is",
        "kl_at_half_effect": "that damage: KL divergence of all that should stay, in nats",
        "on_target": "effect of the vector at its own length, as a share of what there can be",
        "off_target_kl": "damage of the vector at its own length, in nats",
    },
    read=read_answer,
    problems=PROBLEMS,
    quick=("planted/many",),
    entrants=ENTRANTS,
    references=REFERENCES,
    models=16,
    place=6,
)

"""Every clause of every task decides something: without it, or misread, the answer is a mutant.

A sentence of a task holds the words that some mutant quotes as its `clause`, or it is one of those
in `GIVEN`, which say what is given and ask for nothing.
"""

import ast
import re

import pytest
from test_every_exercise import COURSE, MATERIAL, MUTANTS

# By exercise: how sentences begin that ask for nothing.
GIVEN = {
    "find_deciders": ["Build the model with"],
    "cache_outputs": ["(No part of these models works in place"],
    "logit_gradient": ["(Prompts do not influence"],
    "find_needed_heads": ["Any order will do", "Of several highest", "Your answers on models"],
    "match_qk": ["A head in the layer before"],
    "induction_weights": ["Token 0 starts every prompt", "You may call"],
    "find_roles": ["The result looks like"],
    "prefix_matching_scores": ["`pattern` holds"],
    "composition_scores": ["What a head writes"],
    "find_induction_pairs": ["The model has", "The stream and", "Any tool"],
    "train_translator": ["Row i holds", "It is judged", "(No lens removes", "Adam, lr 0.05"],
    "find_store": ["Each prompt holds", "(On a few prompts"],
    "find_needed_sets": ["Any order will do", "(Your `ablate_heads`", "A part of the list"],
    "tell_heads_apart": ["The unknown models"],
    "patching_map": ["(In the check"],
    "choose_corruptions": ["Choose it among"],  # who differs from itself nowhere fits nobody
    "trace_noise": ["(In the check"],
    "find_carriers": ["The prompts call", "What you find"],
    "split_head_effect": ["What the heads of a layer"],
    "attribute_heads": ["Two forward runs"],
    "integrate_heads": ["With enough steps"],
    "find_feeding_edges": ["Any order", "The models have", "A part of the list"],
    "prune_by_divergence": ["(So the losses", "It needs no answers"],
    "judge_circuit": ["No result lies"],
    "find_circuit": [
        "Some models have",
        "The models have",
        "Use `wrong`",
        "Heads stand",
        "Some heads do nothing",
        "What you find",
    ],
}

each_exercise = pytest.mark.parametrize(
    "exercise", COURSE, ids=lambda exercise: f"ex{exercise.key}-{exercise.name}"
)


def read_task(exercise) -> str:
    """Return a task's text up to its examples, on one line."""
    tree = ast.parse((MATERIAL.solutions / f"ex{exercise.key}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == exercise.name)
    asked = re.split(r">>>|\bUseful:|\bExamples?\b", ast.get_docstring(function))[0]
    return " ".join(asked.split())


def divide(text: str) -> list[str]:
    """Divide a text into sentences."""
    return re.split(r"(?<=[.?!)])\s+(?=[A-Z\"`(])", text.strip())


def list_clauses(exercise) -> list[str]:
    mutants = MUTANTS[exercise.key].MUTANTS
    return [each.clause for each in mutants if each.exercise == exercise.name and each.clause]


@each_exercise
def test_what_mutants_quote_stands_in_the_task(exercise):
    task = read_task(exercise)
    assert [clause for clause in list_clauses(exercise) if clause not in task] == []


@each_exercise
def test_every_sentence_of_a_task_decides_something(exercise):
    given = GIVEN.get(exercise.name, [])
    _, *sentences = divide(read_task(exercise))  # the first sums the task up
    assert [start for start in given if not any(s.startswith(start) for s in sentences)] == []
    silent = [
        sentence
        for sentence in sentences
        if not sentence.startswith(tuple(given))
        and not any(clause in sentence for clause in list_clauses(exercise))
    ]
    assert silent == []

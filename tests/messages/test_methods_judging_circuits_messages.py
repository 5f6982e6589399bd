"""What is given wrong to a function that judges circuits is answered with one sentence that says what fits."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.edges import list_edges
from mini_transformer.methods import (
    assess_equivalence,
    assess_independence,
    assess_minimality,
    find_incompleteness,
    list_knockouts,
    measure_faithfulness,
    measure_incompleteness,
    measure_minimality,
    scrub,
    trace_faithfulness,
)

MODEL = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5))
EDGES = list_edges(MODEL)
CLEAN, CORRUPT = torch.tensor([[1, 2, 3], [3, 2, 1]]), torch.tensor([[4, 2, 3], [5, 6, 0]])
LONGER, NONE, ONE = torch.tensor([[1, 2, 3, 4]] * 2), CLEAN[:0], CLEAN[:1]
CIRCUIT, NODES = ["input->logits", "a0.h1->m1"], ["input", "m1"]


def metric(logits):
    return logits[:, -1, 2]


def one_number(logits):
    return logits.mean()


def silent(logits):
    return 0 * logits[:, -1, 2]


def right(logits):
    return logits[:, -1].argmax(dim=-1) == 2


FAITHFULNESS = {
    "no edge or node is called 'a1.h0->a0.h0<k>' in this model; nearest: '": lambda: (
        measure_faithfulness(MODEL, CLEAN, CORRUPT, metric, [["a1.h0->a0.h0<k>"]])
    ),
    "no edge or node is called 'm2' in this model; nearest: 'm": lambda: measure_faithfulness(
        MODEL, CLEAN, CORRUPT, metric, [["input", "m2"]]
    ),
    "circuits is a list of circuits, but holds the name 'input->logits': put": lambda: (
        measure_faithfulness(MODEL, CLEAN, CORRUPT, metric, CIRCUIT)
    ),
    "the circuit mixes edges and nodes ('input', ...), but": lambda: measure_faithfulness(
        MODEL, CLEAN, CORRUPT, metric, [["input", "input->logits"]]
    ),
    "the metric is 0 for the model and 0 without edges, but": lambda: measure_faithfulness(
        MODEL, CLEAN, CORRUPT, silent, [CIRCUIT]
    ),
    "the metric returned torch.float32 () for": lambda: measure_faithfulness(
        MODEL, CLEAN, CORRUPT, one_number, [CIRCUIT]
    ),
    "the metric returned torch.bool (2,) for": lambda: measure_faithfulness(
        MODEL, CLEAN, CORRUPT, right, [CIRCUIT]
    ),
    "clean prompts are (2, 3) and corrupt ones (2, 4)": lambda: measure_faithfulness(
        MODEL, CLEAN, LONGER, metric, [CIRCUIT]
    ),
    "the batch holds no prompts, but a mean": lambda: measure_faithfulness(
        MODEL, NONE, NONE, metric, [CIRCUIT]
    ),
    "ablation is 'median', but must be": lambda: measure_faithfulness(
        MODEL, CLEAN, CORRUPT, metric, [CIRCUIT], "median"
    ),
    "scores are (3,), expected a number for each of": lambda: trace_faithfulness(
        MODEL, CLEAN, CORRUPT, metric, torch.ones(3)
    ),
    "scores are (2, 7), expected": lambda: trace_faithfulness(
        MODEL, CLEAN, CORRUPT, metric, torch.ones(2, 7)
    ),
    f"scores are ({len(EDGES)},) with NaN, expected": lambda: trace_faithfulness(
        MODEL, CLEAN, CORRUPT, metric, torch.full((len(EDGES),), torch.nan)
    ),
}
KNOCKOUTS = {
    "at most 0 knockouts were asked for": lambda: list_knockouts(CIRCUIT, most=0),
    "'m0' is to be knocked out, but is not in the circuit; it has 2 parts": lambda: (
        measure_incompleteness(MODEL, CLEAN, CORRUPT, metric, NODES, knockouts=[["m0"]])
    ),
    "'m0' is to be knocked out, but": lambda: measure_minimality(
        MODEL, CLEAN, CORRUPT, metric, NODES, knockouts=[["m0"]]
    ),
    "no knockouts were given": lambda: measure_minimality(
        MODEL, CLEAN, CORRUPT, metric, NODES, knockouts=[]
    ),
    "no edge or node is called 'm3'": lambda: measure_minimality(
        MODEL, CLEAN, CORRUPT, metric, ["m3"]
    ),
    "no edge or node is called 'm4'": lambda: measure_incompleteness(
        MODEL, CLEAN, CORRUPT, metric, ["m4"]
    ),
    "steps is 0, but must be at least 1": lambda: find_incompleteness(
        MODEL, CLEAN, CORRUPT, metric, NODES, steps=0
    ),
    "no edge or node is called 'm5'": lambda: find_incompleteness(
        MODEL, CLEAN, CORRUPT, metric, ["m5"]
    ),
    "the metric returned torch.float32 ()": lambda: measure_minimality(
        MODEL, CLEAN, CORRUPT, one_number, NODES
    ),
    "the batch holds no prompts": lambda: measure_incompleteness(MODEL, NONE, NONE, metric, NODES),
}
TESTS = {
    "there are 1 prompts, but a test over prompts needs at least 2": lambda: assess_equivalence(
        MODEL, ONE, ONE, metric, CIRCUIT
    ),
    "there are 0 prompts, but a test": lambda: assess_independence(
        MODEL, NONE, NONE, metric, CIRCUIT
    ),
    "margin is 0.5, but must be from 0 to below 0.5": lambda: assess_equivalence(
        MODEL, CLEAN, CORRUPT, metric, CIRCUIT, margin=0.5
    ),
    "permutations is 0, but must be at least 1": lambda: assess_independence(
        MODEL, CLEAN, CORRUPT, metric, CIRCUIT, permutations=0
    ),
    "draws and quantile are 0 and 0.9, but must be": lambda: assess_minimality(
        MODEL, CLEAN, CORRUPT, metric, CIRCUIT, draws=0
    ),
    "draws and quantile are 100 and 1, but must be": lambda: assess_minimality(
        MODEL, CLEAN, CORRUPT, metric, CIRCUIT, quantile=1
    ),
    f"the circuit has 0 of {len(EDGES)} edges, but some must be in": lambda: assess_minimality(
        MODEL, CLEAN, CORRUPT, metric, []
    ),
    f"the circuit has {len(EDGES)} of {len(EDGES)} edges, but some": lambda: assess_minimality(
        MODEL, CLEAN, CORRUPT, metric, EDGES
    ),
    "there are 1 prompts, but": lambda: assess_minimality(MODEL, ONE, ONE, metric, CIRCUIT),
    "clean prompts are (2, 3) and corrupt ones (2, 4), but": lambda: assess_equivalence(
        MODEL, CLEAN, LONGER, metric, CIRCUIT
    ),
    "the metric returned torch.float32 () for logits": lambda: assess_independence(
        MODEL, CLEAN, CORRUPT, one_number, CIRCUIT
    ),
    "no edge or node is called 'a5'": lambda: assess_minimality(
        MODEL, CLEAN, CORRUPT, metric, ["a5"]
    ),
}
SCRUBBING = {
    "no edge or writer is called 'a1.h5' in this model; nearest: '": lambda: scrub(
        MODEL, CLEAN, CORRUPT, metric, {"a1.h5": metric}
    ),
    "no edge or writer is called 'logits'": lambda: scrub(
        MODEL, CLEAN, CORRUPT, metric, {"logits": metric}
    ),
    "the feature of m0 is () for 4 prompts, expected one row per prompt": lambda: scrub(
        MODEL, CLEAN, CORRUPT, metric, {"m0": torch.sum}
    ),
    "the feature of m0 is (2,) for 4 prompts": lambda: scrub(
        MODEL, CLEAN, CORRUPT, metric, {"m0": lambda tokens: CLEAN[:, 0]}
    ),
    "the feature of m0 is list for 4 prompts": lambda: scrub(
        MODEL, CLEAN, CORRUPT, metric, {"m0": lambda tokens: tokens[:, 0].tolist()}
    ),
    "clean prompts are (2, 3) and corrupt ones (2, 4), but must have the same": lambda: scrub(
        MODEL, CLEAN, LONGER, metric, {}
    ),
    "clean prompts are (0, 3) and corrupt ones (2, 3), but there must be": lambda: scrub(
        MODEL, NONE, CORRUPT, metric, {}
    ),
    "the metric returned torch.float32 () for logits (2": lambda: scrub(
        MODEL, CLEAN, CORRUPT, one_number, {}
    ),
    "the metric is 0 for the model and 0 at random, but": lambda: scrub(
        MODEL, CLEAN, CORRUPT, silent, {}
    ),
}
EVERYTHING = FAITHFULNESS | KNOCKOUTS | TESTS | SCRUBBING


@pytest.mark.parametrize("sentence", EVERYTHING)
def test_a_wrong_circuit_or_hypothesis_is_answered_with_its_sentence(sentence):
    before = (
        torch.random.get_rng_state(),
        torch.get_num_threads(),
        [p.clone() for p in MODEL.parameters()],
    )
    with pytest.raises((ValueError, KeyError), match=re.escape(sentence)) as raised:
        EVERYTHING[sentence]()
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 250, message
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert all(
        torch.equal(new, old) for new, old in zip(MODEL.parameters(), before[2], strict=True)
    )
    assert not any(point.on for point in MODEL.hook_points.values())

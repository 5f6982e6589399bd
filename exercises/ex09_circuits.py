"""Solve the exercises of lesson 09, circuits. Check with `minilab grade 09`.

They measure a circuit, prune, attribute, judge, and find one alone. Edges and nodes are named as in
mini_transformer.edges: "input->a0.h1<q>", "a0.h1->m0", "m0->logits". An edge that is on carries
what its writer writes; one that is off carries its row of
`write_outputs(model, corrupt, ablation)`. A mask has one number per edge, in the order of
`list_edges(model)`; `run_edges` takes any number of masks at once. Row b of `corrupt` belongs to
row b of `clean`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs


def measure_difference(
    logits: Float[Tensor, "batch pos d_vocab"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """Return the answer's logit minus the wrong token's at the end, mean of all prompts.

    Given, nothing to write.
    """
    row = torch.arange(len(answer))
    return (logits[row, -1, answer] - logits[row, -1, wrong]).mean()


def share_right(
    logits: Float[Tensor, "*mask batch pos d_vocab"], answer: Int[Tensor, "batch"]
) -> Float[Tensor, "*mask"]:
    """Return the share of prompts whose answer leads at the last position by more than .01.

    Given, nothing to write: in this lesson a tie counts as wrong, and so does a lead that is only
    rounding.
    """
    last = logits[..., -1, :].detach().clone()
    row = torch.arange(len(answer))
    of_answer = last[..., row, answer].clone()
    last[..., row, answer] = float("-inf")
    return (of_answer > last.amax(dim=-1) + 0.01).float().mean(dim=-1)


# Exercise 9.1 · about 6 lines · difficulty 2/5 · importance 5/5 · 12 minutes · 3 points
def node_faithfulness(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    nodes: list[str],
    ablation: str,
) -> float:
    """Return the faithfulness of a circuit that is given by its nodes.

    It keeps every edge whose two ends are both among its nodes; all other edges are off. For an
    edge into a head, like "a0.h1->a1.h0<k>", the reader's node is the head, "a1.h0". "logits"
    always belongs to the circuit, named or not. `ablation` ("zero", "mean" or "resample") is what
    `write_outputs` takes. Faithfulness is (m(circuit) - m(nothing)) / (m(model) - m(nothing)),
    where m is `measure_difference` with the circuit's edges on, with none, and with all.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(32, corrupt="fresh")
    >>> data = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> for nodes in (["input", "a0.h0", "a1.h0"], ["input", "a0.h1", "a1.h0"]):
    ...     print(round(node_faithfulness(*data, nodes, "zero"), 2))
    1.0
    0.0
    """
    raise NotImplementedError("node_faithfulness: not written yet")


# Exercise 9.2 · about 12 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 4 points
def prune_by_divergence(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    tau: float,
) -> list[str]:
    """Return the circuit that ACDC finds when an edge's cost is a KL divergence.

    Begin with all edges on. Go through `list_edges(model)` from its end to its beginning. Switch
    each edge off in what is left so far (it then carries the corrupt value, ablation "resample"):
    if that raises the divergence by less than `tau`, compared with the run before this cut, it
    stays off, otherwise it goes on again. (So the losses of several cuts can add up to more than
    tau.) Return the edges that are on at the end, in any order.

    The divergence of a masked run is the mean over prompts of the sum over tokens of p (log p - log
    q), in nats: p are the probabilities of the next token at the last position in the whole model
    on `clean`, q those of the masked run. It needs no answers, and any change raises it, whether
    for better or for worse.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> batch = case.task.everything()
    >>> prune_by_divergence(case.model, batch.clean, batch.corrupt, tau=0.1)
    ['input->a0.h0<v>', 'input->a0.h1<v>', 'a0.h0->m0', 'a0.h1->m0', 'm0->logits']
    """
    raise NotImplementedError("prune_by_divergence: not written yet")


# Exercise 9.3 · about 5 lines · difficulty 3/5 · importance 4/5 · 15 minutes · 4 points
def integrate_masks(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    steps: int,
) -> Float[Tensor, "edge"]:
    """Return a score per edge: the metric's mean gradient in its switch, from off to on.

    The way goes from all edges off to all on. All switches move together: in each of `steps` runs
    every edge has the same number in the mask, the middle of one of `steps` equal pieces of the way
    from 0 to 1 (with 2 steps 1/4, then 3/4). The metric is `measure_difference`; off means ablation
    "resample". The scores are in the order of `list_edges(model)`, and positive for an edge that
    helps. With enough steps they add up to the whole difference that the edges make, m(model) -
    m(nothing).

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(32, corrupt="fresh")
    >>> data = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> scores = integrate_masks(*data, steps=20)
    >>> needed = list_edges(case.model).index("a0.h0->a1.h0<k>")
    >>> round(scores.sum().item()), scores[needed].item() > 1
    (40, True)
    """
    raise NotImplementedError("integrate_masks: not written yet")


# Exercise 9.4 · about 11 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 5 points
def judge_circuit(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    ablation: str,
    circuit: list[str],
) -> list[str]:
    """Say whether a circuit deserves the words "faithful", "complete" and "minimal".

    Test it by cutting one edge at a time. F(edges) is `share_right` with only these edges on, all
    others off by `ablation`. C are the edges of `circuit`, M all edges of the model, and e stands
    for any edge of the circuit:

    - "faithful": F(C) and F(M) differ by less than .2;
    - "complete": the circuit is faithful, and for every e, F(C without e) and F(M without e) differ
      by less than .2;
    - "minimal": for every e, F(C without e) is at least .2 below F(C).

    Return the words that hold, in any order; an empty list if none does. No result lies close to a
    bound.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(32, corrupt="fresh")
    >>> (circuit,) = case.truth.circuits["resample"].edges
    >>> data = case.model, batch.clean, batch.corrupt, batch.answer, "resample"
    >>> judge_circuit(*data, sorted(circuit))
    ['faithful', 'complete', 'minimal']
    >>> judge_circuit(*data, sorted(circuit | {"a1.h1->logits"}))  # a head that nobody reads
    ['faithful', 'complete']
    """
    raise NotImplementedError("judge_circuit: not written yet")


# Exercise 9.5 · about 10 lines · difficulty 4/5 · importance 5/5 · 25 minutes · 6 points
def find_circuit(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    answer: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    ablation: str,
) -> tuple[list[str], list[str]]:
    """Find a circuit of a model that you have never seen, and say what it is worth.

    Return two lists, `(circuit, words)`. The circuit is a set of edges with which every prompt is
    answered rightly (`share_right` is 1) while all other edges are off by `ablation`, and of which
    no proper part does the same. Some models have several such circuits: any one will do. The words
    are those of `judge_circuit` for it, on the same prompts.

    The models have two to four layers of two or three heads, some with MLPs, no norm. Use `wrong`
    or not. Heads stand at random places, and the stream is turned. Some heads do nothing, some work
    against the answer, some stand in for each other. What you find earns its share, also if you do
    not find everything; edges that do not belong to the circuit take from it.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_xor")
    >>> batch = case.task.everything()
    >>> data = case.model, batch.clean, batch.corrupt, batch.answer, batch.wrong
    >>> find_circuit(*data, "resample")[0]
    ['input->a0.h0<v>', 'input->a0.h1<v>', 'a0.h0->m0', 'a0.h1->m0', 'm0->logits']
    """
    raise NotImplementedError("find_circuit: not written yet")

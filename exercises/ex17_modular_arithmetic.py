"""Solve the exercises of lesson 17, modular arithmetic. Check with `minilab grade 17`.

They find the frequencies that a model uses, sort its neurons, tell memory from circuit, replace an
MLP by what it computes, and tell algorithms apart. Prompts are `a b =`, with numbers from 0 to
p - 1 and `=` as the token p; the p outputs are read at the last position. "All pairs" are p p
prompts, of which row p a + b holds a and b.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer import Transformer
from mini_transformer.methods.weights.gradient_symmetry import (
    measure_distance_irrelevance,
    measure_gradient_symmetry,
)


# Exercise 17.1 · about 8 lines · difficulty 2/5 · importance 4/5 · 20 minutes · 4 points
def find_frequencies(model: Transformer, p: int) -> list[int]:
    """Find the frequencies at which a model's answers depend on the sum.

    Take the logits at the last position for all pairs. Average them over the p pairs that have the
    same sum modulo p, and take the mean over all pairs off. What is left is a function of the sum,
    made of waves: cos and sin of 2 pi k (a + b) / p. The model uses the frequency k, from 1 to
    (p - 1) / 2, if these two waves carry at least 2% of the squared size of what is left, over all
    outputs.

    Return these frequencies, in any order. The weights alone do not tell: an embedding may hold
    waves that nobody reads, and logits may depend on a alone, or on a - b.

    >>> from mini_transformer import toys
    >>> find_frequencies(toys.load("clock_by_hand").model, p=11)
    [1, 3]
    """
    raise NotImplementedError("find_frequencies: not written yet")


# Exercise 17.2 · about 15 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 5 points
def sort_neurons(model: Transformer, order: Int[Tensor, "p"]) -> dict[int, int]:
    """Find the frequency to which each neuron of a model belongs.

    This model's numbers are written in a secret way: the number n is the token `order[n]`, so p is
    `len(order)`; `=` is the token p as always. Look at what each neuron hands on, `("post", 0)`, at
    the last position, for all pairs of numbers.

    The frequency k has eight waves: cos and sin of w a, of w b, of w (a + b) and of w (a - b), with
    w = 2 pi k / p. A neuron belongs to the frequency whose eight waves together explain the largest
    share of its variance, if that share is at least 85%. To all others give 0, also to neurons that
    are the same for all pairs.

    Return the frequency for every neuron.

    >>> from mini_transformer import toys
    >>> model = toys.load("clock_by_hand").model  # 121 neurons for frequency 1, 121 for 3
    >>> neurons = sort_neurons(model, torch.arange(11))
    >>> neurons[0], neurons[120], neurons[121], neurons[241]
    (1, 1, 3, 3)
    """
    raise NotImplementedError("sort_neurons: not written yet")


# Exercise 17.3 · about 13 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def replace_mlp(model: Transformer, p: int, frequencies: list[int]) -> float:
    """Replace a model's MLP by waves of the sum, and measure the loss.

    Take what the MLP writes at the last position, `("mlp_out", 0)`, for all pairs. Put in its place
    its mean over all pairs, plus for each given frequency k the waves cos and sin of
    2 pi k (a + b) / p, each times a direction of the stream. The directions are those that leave
    the least squared error over all pairs.

    All else stays as it is: what the heads write still reaches the unembedding. Return the mean
    cross-entropy of the answer a + b over all pairs, in nats.

    >>> from mini_transformer import toys
    >>> model = toys.load("clock_by_hand").model
    >>> round(replace_mlp(model, 11, [1, 3]), 3), round(replace_mlp(model, 11, [2]), 3)
    (0.0, 2.398)
    """
    raise NotImplementedError("replace_mlp: not written yet")


# Exercise 17.4 · about 17 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def name_phases(
    logits: Float[Tensor, "checkpoint pair p"], frequencies: list[int], seen: Int[Tensor, "seen"]
) -> list[str]:
    """Say for each checkpoint of a training run what its answers rest on.

    `logits[i]` are those of checkpoint i for all pairs, in no order of time; `seen` holds the rows
    of the pairs that were trained on. Split the logits: the part that is waves of a + b at the
    given frequencies, and the rest. Both losses are mean cross-entropies of the answer a + b, in
    nats:

    - the restricted loss, over all pairs, of this part plus the mean of the logits over all pairs;
    - the excluded loss, over the pairs seen in training only, of the rest.

    A checkpoint has the circuit if its restricted loss is below half of log p, and it has memory if
    its excluded loss is below half of log p.

    Return "nothing", "memory", "both" or "circuit" for each checkpoint.

    >>> a, b = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    >>> right = 9.0 * torch.eye(5)[(a + b) % 5]
    >>> memory = right * (torch.arange(25) % 3 == 0)[:, None]  # of every third pair
    >>> name_phases(torch.stack([right, 0 * right, memory]), [1, 2], torch.arange(0, 25, 3))
    ['circuit', 'nothing', 'both']
    """
    raise NotImplementedError("name_phases: not written yet")


# Exercise 17.5 · about 14 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 5 points
def tell_algorithms(models: list[Transformer], p: int) -> list[str]:
    """Say by which algorithm each model adds.

    The symmetry is the mean cosine between the gradients of a logit with respect to the two
    embeddings, over all pairs and all outputs; one output drawn for each pair comes near enough.
    The irrelevance is the standard deviation of the correct logit over pairs with the same b - a
    modulo p, averaged over these p distances, divided by its standard deviation over all pairs.

    - "clock": the symmetry is below 0.9, since attention reads a and b apart;
    - "pizza": it is at least 0.9, since the model uses the sum of the two embeddings, and the
      irrelevance is below 0.8, since the correct logit depends on the distance;
    - "line": the symmetry is at least 0.9, and the irrelevance at least 0.8.

    How a head attends tells little: nobody may read what it moves.

    Return the name for each model.

    >>> from mini_transformer import toys
    >>> tell_algorithms([toys.load("clock_by_hand").model], p=11)
    ['clock']
    """
    raise NotImplementedError("tell_algorithms: not written yet")

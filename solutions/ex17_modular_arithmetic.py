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
    # ANSWER
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    with torch.no_grad():
        logits = model(torch.stack([a, b, torch.full_like(a, p)], dim=1))[:, -1].double()
    total = (a + b) % p
    average = torch.stack([logits[total == s].mean(dim=0) for s in range(p)])
    power = torch.fft.fft(average - average.mean(dim=0), dim=0).abs().square().sum(dim=1)
    share = 2 * power / power.sum()
    return [k for k in range(1, p // 2 + 1) if share[k] >= 0.02]
    # END ANSWER


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
    # ANSWER
    p = len(order)
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    with torch.no_grad():
        tokens = torch.stack([order[a], order[b], torch.full_like(a, p)], dim=1)
        post = model.run_with_cache(tokens)[1]["post", 0][:, -1].double()
    post = post - post.mean(dim=0)
    size = post.square().sum(dim=0)
    shares = []
    for k in range(1, p // 2 + 1):
        angle = 2 * math.pi * k / p * torch.stack([a, b, a + b, a - b]).double()
        waves = torch.cat([angle.cos(), angle.sin()]) / (p / math.sqrt(2))
        shares.append((waves @ post).square().sum(dim=0) / size.clamp(min=1e-9))
    share, best = torch.stack(shares).max(dim=0)
    return {f: int(best[f]) + 1 if share[f] >= 0.85 else 0 for f in range(len(size))}
    # END ANSWER


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
    # ANSWER
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    tokens = torch.stack([a, b, torch.full_like(a, p)], dim=1)
    angle = 2 * math.pi / p * torch.outer((a + b).double(), torch.tensor(frequencies).double())
    waves = torch.cat([angle.cos(), angle.sin()], dim=1)

    def replace(written, hook):
        written = written.clone()
        last = written[:, -1].double()
        directions = torch.linalg.lstsq(waves, last - last.mean(dim=0)).solution
        written[:, -1] = (last.mean(dim=0) + waves @ directions).to(written.dtype)
        return written

    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[(("mlp_out", 0), replace)])[:, -1]
    return F.cross_entropy(logits.double(), (a + b) % p).item()
    # END ANSWER


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
    # ANSWER
    p = logits.shape[2]
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    answer = (a + b) % p
    angle = 2 * math.pi / p * torch.outer(answer.double(), torch.tensor(frequencies).double())
    waves = torch.cat([angle.cos(), angle.sin()], dim=1) / (p / math.sqrt(2))
    names = []
    for each in logits.double():
        part = waves @ (waves.T @ each)
        restricted = F.cross_entropy(part + each.mean(dim=0), answer)
        excluded = F.cross_entropy((each - part)[seen], answer[seen])
        circuit, memory = (bool(x < 0.5 * math.log(p)) for x in (restricted, excluded))
        names.append(
            {(0, 0): "nothing", (0, 1): "memory", (1, 1): "both"}.get((circuit, memory), "circuit")
        )
    return names
    # END ANSWER


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
    # ANSWER
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    tokens = torch.stack([a, b, torch.full_like(a, p)], dim=1)
    outputs = torch.randint(p, a.shape, generator=torch.Generator().manual_seed(0))
    names = []
    for model in models:
        symmetry = measure_gradient_symmetry(model, tokens, outputs)
        with torch.no_grad():
            logits = model(tokens)[:, -1]
        if symmetry < 0.9:
            names.append("clock")
        else:
            far = measure_distance_irrelevance(logits) >= 0.8
            names.append("line" if far else "pizza")
    return names
    # END ANSWER

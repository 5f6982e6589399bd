"""Solve the exercises of lesson 11, sparse autoencoders. Check with `minilab grade 11`.

They find directions that nobody told us, work out what an objective prefers, and tell what a
dictionary says of a model from what it made up. Axes: n inputs (or b prompts), t position, l
latent, d model.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer import Transformer
from mini_transformer.methods import train_dictionary


# Exercise 11.1 · about 10 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def find_features(activations: Float[Tensor, "n d"], n_features: int) -> Float[Tensor, "feature d"]:
    """Find the directions of the features of which activations are made.

    Each activation is a constant, the same for all inputs, plus the sum of two or three features
    and a little noise. A feature adds its direction times an amount, always positive, that differs
    from input to input. There are `n_features` features, more than dimensions.

    Return one direction per row, of length 1, in any order. A feature is found if a row of its own
    has a cosine above 0.9 with its direction. Finding four in five is enough, fewer earns a share,
    and rows for which there is no feature take from it; so leave out what you do not believe. You
    may train anything that takes less than five seconds.

    >>> generator = torch.Generator().manual_seed(0)
    >>> codes = torch.rand(2000, 6, generator=generator) * torch.eye(6)[
    ...     torch.rand(2000, 6, generator=generator).topk(2).indices
    ... ].sum(dim=1)
    >>> found = find_features(codes @ torch.eye(6, 8) + 3, 6)
    >>> bool((found @ torch.eye(8, 6)).amax(dim=0).min() > 0.9)
    True
    """
    raise NotImplementedError("find_features: not written yet")


# Exercise 11.2 · about 20 lines · difficulty 3/5 · importance 4/5 · 30 minutes · 4 points
def find_preferred(
    share: Float[Tensor, "setting 3"],
    penalty: Float[Tensor, "setting"],
    nested: Bool[Tensor, "setting"],
) -> list[str]:
    """Say which of three dictionaries an objective prefers, for each setting.

    There are two features, with directions a and b of length 1, at right angles. Their amount is 1
    where they are on. Row s of `share` holds the shares of inputs with a only, with b only, and
    with both, in this order; all other inputs are zero.

    A dictionary has two latents: "separate" has directions a and b, "absorbing" has a and m,
    "merged" has m and b, in this order, where m = (a + b) / √2. Where both features are on, m is
    used alone, if there is one. A feature that is on by itself is coded by its own latent, or, if
    it has none, by m. Each code is the amount that rebuilds the input best; "separate" has no
    choice, and its codes are all 1.

    The loss is the squared error plus `penalty[s]` times the sum of the codes, averaged over
    inputs. Where `nested[s]` holds, the squared error is that of all latents and that of the first
    latent alone (same codes, the second set to 0), averaged.

    Return the name of the dictionary with the lowest loss, for each setting. No setting is a close
    call.

    >>> share = torch.tensor([[0.4, 0.0, 0.1], [0.3, 0.3, 0.0], [0.4, 0.0, 0.1]])
    >>> find_preferred(share, torch.full((3,), 0.2), torch.tensor([False, False, True]))
    ['absorbing', 'separate', 'separate']
    """
    raise NotImplementedError("find_preferred: not written yet")


# Exercise 11.3 · about 8 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 4 points
def find_absorbing(
    concept: Bool[Tensor, "n"], codes: Float[Tensor, "n latent"], W_dec: Float[Tensor, "latent d"]
) -> list[int]:
    """Find the latents that absorb a concept.

    `concept[i]` says whether input i has the concept, `codes[i]` are the codes of a dictionary on
    it, and a latent is on where its code is above 0. The main latent is the one with the fewest
    exceptions: inputs with the concept in which it is off, and others in which it is on. It always
    has gaps: inputs with the concept in which it is off.

    Another latent absorbs the concept if all of this holds:

    - it is on in at least 5% of the gaps;
    - at least 90% of the inputs in which it is on have the concept;
    - the cosine of its direction, its row of `W_dec`, with that of the main latent is at least 0.4.

    Return the numbers of these latents, in any order. Rows of `W_dec` may have any length. What you
    find earns its share, and latents that do not absorb the concept take from it.

    >>> concept = torch.tensor([True, True, True, False])
    >>> codes = torch.tensor([[1.0, 0, 0], [2.0, 0, 1], [0, 3.0, 1], [0, 0, 1]])
    >>> find_absorbing(concept, codes, torch.tensor([[1.0, 0, 0], [0.7, 0.7, 0], [0, 0, 2.0]]))
    [1]
    """
    raise NotImplementedError("find_absorbing: not written yet")


# Exercise 11.4 · about 10 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 4 points
def find_exclusive(
    first: Float[Tensor, "n d_first"],
    codes: Float[Tensor, "n latent"],
    W_first: Float[Tensor, "latent d_first"],
    W_second: Float[Tensor, "latent d_second"],
    b_first: Float[Tensor, "d_first"],
) -> list[int]:
    """Find the latents of a crosscoder whose features are in the second of two models only.

    The crosscoder was trained with an L1 penalty. It rebuilds the activations of the first model as
    `codes @ W_first + b_first`, those of the second in the same way by `W_second`. A latent looks
    exclusive if its row of `W_first` is at most a tenth as long as its row of `W_second`. But the
    penalty also shrinks weak rows to nothing, so look at what the first model does.

    Take the error of the first model's reconstruction, with the latent's own part added back. Fit
    it by the latent's code times one vector, by least squares over all inputs. The latent is
    exclusive if it looks so and this vector is at most a tenth as long as its row of `W_second`.

    Return the numbers of the exclusive latents, in any order. Many features come together with
    others, so what the first model does as a whole misleads. What you find earns its share, and
    others take from it.

    >>> codes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    >>> first = codes @ torch.tensor([[0.0, 0.0], [0.0, 0.5]])
    >>> find_exclusive(first, codes, torch.zeros(2, 2), torch.eye(2), torch.zeros(2))
    [0]
    """
    raise NotImplementedError("find_exclusive: not written yet")


# Exercise 11.5 · about 20 lines · difficulty 4/5 · importance 5/5 · 30 minutes · 5 points
def find_detours(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    codes: Float[Tensor, "batch latent"],
    W_dec: Float[Tensor, "latent d_model"],
) -> list[int]:
    """Find the latents of a cross-layer transcoder that hide a detour through an earlier layer.

    The transcoder reads the last position before layer 0's MLP. Latent l says: "I write my row of
    `W_dec` into what layer 1's MLP puts out there, directly". It is on in a prompt where its code
    is above 0.

    See what the model does: project what layer 1's MLP puts out at the last position,
    `("mlp_out", 1)`, on the latent's row, and average this over the prompts in which the latent is
    on. Measure that average again while what layer 0's MLP puts out at the last position is
    replaced by its own average over the prompts in which the latent is off. The latent hides a
    detour if less than half of the first average is left.

    Return the numbers of the latents that hide a detour, in any order. Each latent is on in some
    prompts and off in others, and the first average is always positive. What you find earns its
    share, and others take from it.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=2, n_ctx=1, d_model=2, n_layers=2, d_mlp=1))
    >>> _ = [weight.data.fill_(1.0) for weight in model.parameters()]
    >>> _ = model.W_E.data[0].fill_(-9.0)  # the token 0 silences both layers
    >>> tokens, codes = torch.tensor([[1], [0]]), torch.tensor([[1.0], [0.0]])
    >>> find_detours(model, tokens, codes, torch.ones(1, 2))
    [0]
    """

    raise NotImplementedError("find_detours: not written yet")

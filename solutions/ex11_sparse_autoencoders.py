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
    # ANSWER
    # More latents than features, since some end up between two; then those that are used most.
    dictionary = train_dictionary(
        activations, 2 * n_features, "topk", k=3, steps=600, batch=128, lr=0.01
    )
    use = dictionary.encode(activations).sum(dim=0)
    found: list[int] = []
    for latent in use.argsort(descending=True).tolist():
        cosines = dictionary.W_dec[found] @ dictionary.W_dec[latent]
        if len(found) < n_features and (cosines < 0.9).all():
            found.append(latent)
    return dictionary.W_dec[found]
    # END ANSWER


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
    # ANSWER
    only_a, only_b, both = share.T
    root = 2**0.5
    # By m alone, a single feature gets code 1 / √2, and half of its square stays as error.
    codes = {
        "separate": only_a + only_b + 2 * both,
        "absorbing": only_a + only_b / root + root * both,
        "merged": only_a / root + only_b + root * both,
    }
    errors = {"separate": 0 * both, "absorbing": only_b / 2, "merged": only_a / 2}
    errors_of_first = {
        "separate": only_b + both,
        "absorbing": only_b + 2 * both,
        "merged": only_a / 2 + only_b,
    }
    losses = {
        name: torch.where(nested, (errors[name] + errors_of_first[name]) / 2, errors[name])
        + penalty * codes[name]
        for name in codes
    }
    best = torch.stack(list(losses.values())).argmin(dim=0)
    return [list(losses)[i] for i in best]
    # END ANSWER


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
    # ANSWER
    on = codes > 0
    main = int((on == concept[:, None]).sum(dim=0).argmax())
    gaps = concept & ~on[:, main]
    in_gaps = on[gaps].float().mean(dim=0)
    with_concept = (on & concept[:, None]).sum(dim=0) / on.sum(dim=0).clamp(min=1)
    cosine = torch.nn.functional.cosine_similarity(W_dec, W_dec[main], dim=1)
    absorbs = (in_gaps >= 0.05) & (with_concept >= 0.9) & (cosine >= 0.4)
    return absorbs.nonzero().flatten().tolist()
    # END ANSWER


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
    # ANSWER
    error = first - codes @ W_first - b_first
    length = W_second.norm(dim=1)
    found = []
    for latent in range(codes.shape[1]):
        code = codes[:, latent]
        own = error + code[:, None] * W_first[latent]
        vector = code @ own / code.square().sum()
        if max(W_first[latent].norm(), vector.norm()) <= 0.1 * length[latent]:
            found.append(latent)
    return found
    # END ANSWER


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

    # ANSWER
    def read(tokens, layer, hooks=()):
        """Run, and return what a layer's MLP puts out at the last position."""
        kept = []

        def keep(value, point):
            kept.append(value[:, -1].clone())

        with torch.no_grad():
            model.run_with_hooks(tokens, fwd_hooks=[*hooks, (("mlp_out", layer), keep)])
        return kept[0]

    early, late = (read(tokens, layer) for layer in (0, 1))
    found = []
    for latent in range(codes.shape[1]):
        on = codes[:, latent] > 0
        without = early[~on].mean(dim=0)

        def replace(value, point, without=without):
            value[:, -1] = without

        left = read(tokens[on], 1, [(("mlp_out", 0), replace)])
        if (left @ W_dec[latent]).mean() < (late[on] @ W_dec[latent]).mean() / 2:
            found.append(latent)
    return found
    # END ANSWER

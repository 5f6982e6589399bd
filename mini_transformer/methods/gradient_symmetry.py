"""Clock or pizza: which of two algorithms a model uses to add two numbers modulo p, from its gradients and its logits.

Both put a and b on circles. The clock multiplies their waves, which gives waves of a + b whatever a and b are. The pizza averages the two
embeddings first, so that it uses a and b only through their sum, and its logits shrink where the two lie on opposite sides of the
circle, which depends on a - b alone. Gradient symmetry is high for the pizza, distance irrelevance for the clock. Each is a
symptom, and mixtures score in between: no bound separates all models, so compare models whose algorithm is known.
Sources: Zhong et al. 2023 (2306.17844), sections 3 and 4.

Checked against: gradients of one prompt at a time, standard deviations in loops, and pairs of models of which one is a clock and one a pizza.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.hooks import HookPoint
from mini_transformer.methods.arguments import check_gradients, find_scale, make_ordinary, widen
from mini_transformer.methods.fourier import check_logits, vary
from mini_transformer.model import Transformer


def measure_gradient_symmetry(
    model: Transformer,
    tokens: Integer[Tensor, "batch pos"],
    targets: Integer[Tensor, "batch"],
    first: int = 0,
    second: int = 1,
    position: int = -1,
) -> float:
    """Mean cosine of the gradients of the logit of `targets` with respect to the embeddings at positions first and second.

    1 where the model uses the two only through the sum of their embeddings. Targets are any outputs, not only right ones; the logit is
    read at `position`. Prompts on which a gradient is zero have no cosine and are left out; nan if all are. ValueError for tokens,
    targets and positions that do not fit, and under torch.inference_mode.

    >>> from mini_transformer import toys
    >>> tokens, targets = torch.tensor([[3, 50], [20, 31], [7, 7]]), torch.tensor([0, 10, 40])
    >>> scores = [measure_gradient_symmetry(toys.load(name).model, tokens, targets) for name in ("clock", "pizza")]
    >>> scores[0] < 0.8 < 0.95 < scores[1]
    True
    """
    check_gradients(model)
    check_tokens(model, tokens, targets, (first, second, position))
    tokens, targets = make_ordinary(tokens), make_ordinary(targets).long().to(model.W_E.device)
    nudges: list[
        Tensor
    ] = []  # zeros that carry the gradient, also where the model's weights are frozen

    def nudge(value: Tensor, hook: HookPoint) -> Tensor:
        nudges.append(torch.zeros_like(value).requires_grad_())
        return value + nudges[0]

    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[("embed", nudge)])
        chosen = logits[:, position].gather(1, targets.unsqueeze(1))
        (gradient,) = torch.autograd.grad(chosen.sum(), nudges)
    pair = widen(gradient[:, [first, second]])  # b 2 d
    pair = pair / find_scale(pair, dim=(2,))
    known = pair.any(dim=2).all(dim=1)
    return torch.cosine_similarity(pair[known, 0], pair[known, 1], dim=1).mean().item()


def measure_distance_irrelevance(logits: Float[Tensor, "pair p"]) -> float:
    """Spread of the correct logit over pairs with the same b - a (mean over b - a), over its spread over all pairs.

    0 where the correct logit depends on the distance of a and b alone. Logits are those of all pairs (p p, p), row p a + b holds a and b.
    ValueError for another shape, and for correct logits that are all the same, up to rounding.

    >>> a, b = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    >>> logits = torch.where(torch.arange(5) == ((a + b) % 5)[:, None], ((a - b) ** 2)[:, None], 0).float()
    >>> measure_distance_irrelevance(logits) < 1
    True
    """
    p = check_logits(logits)
    a = torch.arange(p, device=logits.device)
    correct = logits.reshape(p, p, p)[
        a[:, None], (a[:, None] + a) % p, (2 * a[:, None] + a) % p
    ]  # a, b - a
    if not vary(correct.reshape(-1, 1)):
        raise ValueError(
            f"the correct logit is {correct[0, 0]:.4g} for all pairs, but must vary: there is no spread to split"
        )
    correct = (
        correct.double()
    )  # large logits that hardly differ leave nothing of their spread in float32
    return (correct.std(dim=0).mean() / correct.std()).item()


def check_tokens(
    model: Transformer, tokens: Tensor, targets: Tensor, positions: tuple[int, ...]
) -> None:
    """ValueError unless there is one target in the vocabulary per prompt, and the prompts have these positions."""
    if (
        tokens.ndim != 2
        or not len(tokens)
        or targets.shape != tokens.shape[:1]
        or targets.is_floating_point()
    ):
        given = (
            f"tokens are {tuple(tokens.shape)} and targets {targets.dtype} {tuple(targets.shape)}"
        )
        raise ValueError(
            f"{given}, but must be (batch, pos) and one integer per prompt, at least one"
        )
    if int(targets.min()) < 0 or int(targets.max()) >= model.config.d_vocab_out:
        last = model.config.d_vocab_out - 1
        raise ValueError(
            f"targets run from {int(targets.min())} to {int(targets.max())}, but must be 0 to {last}"
        )
    length = tokens.shape[1]
    if wrong := [position for position in positions if not -length <= position < length]:
        raise ValueError(
            f"position {wrong[0]} was asked for, but the prompts have positions {-length} to {length - 1}"
        )

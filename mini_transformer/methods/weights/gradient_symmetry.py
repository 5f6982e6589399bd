"""Clock or pizza: which of two algorithms a model uses to add two numbers modulo p.

Both algorithms put a and b on circles. The clock multiplies their waves, which gives waves of a + b
whatever a and b are. The pizza averages the two embeddings first. So it uses a and b only through
their sum, and its logits shrink where the two lie on opposite sides of the circle, which depends on
a - b alone. Gradient symmetry is high for the pizza, distance irrelevance for the clock. Each is a
symptom, and mixtures score in between: no bound separates all models, so compare models whose
algorithm is known.
Sources: Zhong et al. 2023 (2306.17844), sections 3 and 4.
"""

import torch
from torch import Tensor

from mini_transformer.hooks import HookPoint
from mini_transformer.methods.arguments import (
    Answers,
    Position,
    Tokens,
    check_answers,
    check_prompts,
    find_place,
)
from mini_transformer.methods.numerics import check_gradients, find_scale, widen
from mini_transformer.methods.weights.pairs import Logits, check_logits, vary
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["measure_distance_irrelevance", "measure_gradient_symmetry"]


def measure_gradient_symmetry(
    model: Transformer,
    tokens: Tokens,
    answers: Answers,
    first_position: Position = 0,
    second_position: Position = 1,
    position: Position = -1,
) -> float:
    """Measure how alike the gradients of a logit are with respect to two embeddings.

    The mean cosine over prompts: 1 where the model uses the embeddings at `first_position` and
    `second_position` only through their sum. The logit is that of the prompt's answer, read at
    `position`; answers are any outputs, not only right ones. Prompts on which a gradient is zero
    have no cosine and are left out; nan if all are. ValueError for tokens, answers and positions
    that do not fit, for position None, and under torch.inference_mode.

    >>> from mini_transformer import toys
    >>> tokens, answers = torch.tensor([[3, 50], [20, 31], [7, 7]]), torch.tensor([0, 10, 40])
    >>> models = [toys.load(name).model for name in ("clock", "pizza")]
    >>> scores = [measure_gradient_symmetry(model, tokens, answers) for model in models]
    >>> scores[0] < 0.8 < 0.95 < scores[1]
    True
    """
    check_gradients(model)
    check_prompts(tokens)
    check_answers(model, tokens, answers)
    at = find_place(position, tokens.shape)
    places = [
        find_place(first_position, tokens.shape, "first_position"),
        find_place(second_position, tokens.shape, "second_position"),
    ]
    answers = make_ordinary(answers).long().to(model.W_E.device)
    # Zeros that carry the gradient, also where the model's weights are frozen.
    nudges: list[Tensor] = []

    def nudge(value: Tensor, hook: HookPoint) -> Tensor:
        nudges.append(torch.zeros_like(value).requires_grad_())
        return value + nudges[0]

    with torch.enable_grad():
        logits = model.run_with_hooks(make_ordinary(tokens), fwd_hooks=[("embed", nudge)])
        chosen = logits[at].gather(1, answers.unsqueeze(1))
        (gradient,) = torch.autograd.grad(chosen.sum(), nudges)
    pair = widen(torch.stack([gradient[place] for place in places], dim=1))  # b 2 d
    pair = pair / find_scale(pair, dim=(2,))
    known = pair.any(dim=2).all(dim=1)
    return torch.cosine_similarity(pair[known, 0], pair[known, 1], dim=1).mean().item()


def measure_distance_irrelevance(logits: Logits) -> float:
    """Measure how little the correct logit depends on the distance of a and b alone.

    It is the spread of the correct logit over pairs with the same b - a (mean over b - a), over its
    spread over all pairs: 0 where the logit depends on the distance alone. Logits are those of all
    pairs (p p, p), row p a + b holds a and b. ValueError for another shape, and for correct logits
    that are all the same, up to rounding.

    >>> a, b = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    >>> correct = torch.arange(5) == ((a + b) % 5)[:, None]
    >>> logits = torch.where(correct, ((a - b) ** 2)[:, None], 0).float()
    >>> measure_distance_irrelevance(logits) < 1
    True
    """
    p = check_logits(logits)
    a = torch.arange(p, device=logits.device)[:, None]
    distance = torch.arange(p, device=logits.device)
    b = (a + distance) % p
    correct = logits.reshape(p, p, p)[a, b, (a + b) % p]  # a, b - a
    if not vary(correct.reshape(-1, 1)):
        given = f"the correct logit is {correct[0, 0]:.4g} for all pairs"
        raise ValueError(f"{given}, but must vary: there is no spread to split")
    # Large logits that hardly differ leave nothing of their spread in float32.
    correct = correct.double()
    return (correct.std(dim=0).mean() / correct.std()).item()

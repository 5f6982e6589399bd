"""Entrants that look at something cheaper than what a part does, and two that answer another question than the one asked.

They are here to show what the traps are for. `find_read_axes` is the exception: it escapes where others are fooled.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mini_transformer import methods
from mini_transformer.board.families import NotApplicable
from mini_transformer.edges import list_edges, list_writers, write_outputs
from mini_transformer.hooks import HookPoint
from mini_transformer.methods.edge_patching import patch_edges
from mini_transformer.methods.interchange import read_hook


def read_patterns(model, clean, corrupt, metric, ablation) -> Tensor:
    """The induction circuit as attention patterns suggest it: each pair of a previous-token head and a head that looks behind a match.

    An edge scores what the two scores multiply to, in the best pair that it belongs to. Only where prompts repeat tokens.
    """
    same = (clean[:, :, None] == clean[:, None, :]).tril(-1)
    if model.config.n_layers < 2 or not same[:, :, :-1].any() or not same[:, -1].any():
        raise NotApplicable
    previous, match = (
        methods.previous_token_scores(model, clean),
        methods.induction_scores(model, clean),
    )
    heads = [
        (layer, head)
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    ]
    scores = dict.fromkeys(list_edges(model), 0.0)
    for first in heads:
        for second in (head for head in heads if head[0] > first[0]):
            one, other = (f"a{layer}.h{head}" for layer, head in (first, second))
            edges = [
                f"input->{node}<{part}>"
                for node in (one, other)
                for part in "qkv"
                if (node, part) != (other, "k")
            ]
            for edge in (*edges, f"{one}->{other}<k>", f"{other}->logits"):
                scores[edge] = max(scores[edge], (previous[first] * match[second]).item())
    return torch.tensor(list(scores.values()))


def measure_changes(model, clean, corrupt, metric, ablation) -> dict[str, float]:
    """How much what each node writes differs between clean and corrupt prompts: what reacts is taken for what matters."""
    with torch.no_grad():
        changes = write_outputs(model, clean) - write_outputs(model, corrupt)
    sizes = changes.norm(dim=-1).mean(dim=(1, 2)).tolist()
    return dict(zip(list_writers(model), sizes, strict=True))


def patch_by_zeros(model, clean, corrupt, metric, ablation) -> Tensor:
    """Edge patching with zeros, whatever ablation is asked for."""
    if ablation == "zero":
        raise NotApplicable  # that is edge patching
    return patch_edges(model, clean, corrupt, metric, "zero")


def patch_by_others(model, clean, corrupt, metric, ablation) -> Tensor:
    """Edge patching with another prompt's values, whatever ablation is asked for."""
    if ablation == "resample":
        raise NotApplicable
    return patch_edges(model, clean, corrupt, metric, "resample")


@dataclass(frozen=True)
class Pursuit:
    """Codes found by orthogonal matching pursuit (Pati et al. 1993): the best few of these directions, one after the other."""

    W_dec: Tensor
    mean: Tensor
    n_active: int = 8

    def encode(self, activations: Tensor) -> Tensor:
        from sklearn.linear_model import orthogonal_mp_gram

        W = self.W_dec.double()
        codes = orthogonal_mp_gram(
            (W @ W.T).numpy(),
            (W @ (activations - self.mean).double().T).numpy(),
            n_nonzero_coefs=self.n_active,
        )
        return torch.from_numpy(codes.T).to(activations)

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.W_dec + self.mean


def freeze_decoder(activations: Tensor, n_features: int) -> Pursuit:
    """Random directions that were never trained, with the best sparse codes that they allow."""
    rows = torch.randn(n_features, activations.shape[1], generator=torch.Generator().manual_seed(0))
    return Pursuit(
        torch.nn.functional.normalize(rows, dim=1).to(activations), activations.mean(dim=0)
    )


def find_read_axes(model, hook, pairs) -> Tensor:
    """The principal axes of source minus base, as far as gradients of the logits see them: what varies and is read."""
    own, other = read_hook(model, pairs.base, pairs.source, hook, pairs.position)
    nudges: list[Tensor] = []

    def nudge(value: Tensor, hook: HookPoint) -> Tensor:
        nudges.append(torch.zeros_like(value[:, pairs.position]).requires_grad_())
        value[:, pairs.position] += nudges[0]
        return value

    with torch.enable_grad():
        logits = model.run_with_hooks(pairs.base, fwd_hooks=[(hook, nudge)])[
            :, pairs.answer_position
        ]
        kept = range(logits.shape[1])
        slopes = [
            torch.autograd.grad(logits[:, i].sum(), nudges, retain_graph=True)[0] for i in kept
        ]
    _, sizes, read = torch.linalg.svd(torch.cat(slopes), full_matrices=False)
    read = read[sizes > 1e-4 * sizes[0]]
    return torch.linalg.svd((other - own) @ read.T @ read, full_matrices=True)[2][: pairs.dim]


def align_freely(model, hook, pairs) -> Any:
    """An invertible network in front of the swap: nothing restricts what it may compute."""
    where: dict[str, Any] = {"position": pairs.position, "answer_position": pairs.answer_position}
    return methods.align_nonlinearly(
        model, pairs.base, pairs.source, pairs.answers, hook, pairs.dim, lr=1e-2, **where
    )

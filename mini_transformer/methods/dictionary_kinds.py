"""What makes the codes of a dictionary few: one loss per architecture, each as in its paper.

l1: the sum of codes (Bricken et al. 2023). topk: only the k highest of a row (Gao et al. 2024). batchtopk: the k n highest of a
batch of n, later those above the smallest kept on average (Bussmann et al. 2024). matryoshka: the same, where the first eighth, quarter and half of
the latents must do alone, too (Bussmann et al. 2025). gated: one set of weights says which, a scaled copy how much (Rajamanoharan et al.
2024). jumprelu: a threshold per latent, trained on the number of codes through a kernel (Rajamanoharan et al. 2024).
Sources: 2406.04093, 2412.06410, 2503.17547, 2404.16014, 2407.14435.

Checked against: planted features, codes and gradients written out, and codes and thresholds' gradients of SAELens 6.54 on the same weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer.methods.arguments import draw_normal
from mini_transformer.methods.dictionaries import keep_top

BANDWIDTH = 0.05  # of the kernel, in units of the activations' size


@dataclass
class Draft:
    """The weights while they are trained. `log` is the log scale (gated) or the log threshold (jumprelu)."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    log: Tensor
    b_gate: Tensor
    parts: Sequence[int]
    k: int
    penalty: float | int
    floor: float = 0.0  # batchtopk: the smallest code that was kept, on average

    @classmethod
    def start(
        cls,
        d: int,
        out: int,
        n: int,
        parts: Sequence[int],
        k: int,
        penalty: float | int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> "Draft":
        """Random unit decoder; the encoder is its transpose where that fits, and random unit vectors where not."""
        zeros = torch.zeros(n, dtype=torch.float32, device=device)
        W_dec = normalize(draw_normal(n, out, generator=generator, like=zeros))
        W_enc = W_dec.T.clone()
        if d != out:
            W_enc = normalize(draw_normal(n, d, generator=generator, like=zeros)).T.contiguous()
        return cls(
            W_enc,
            zeros,
            W_dec,
            zeros.new_zeros(out),
            zeros.clone(),
            zeros.clone(),
            parts,
            k,
            penalty,
        )

    def parameters(self, architecture: str) -> list[Tensor]:
        own = {"gated": [self.log, self.b_gate], "jumprelu": [self.log]}
        if architecture == "jumprelu":
            self.log.fill_(math.log(BANDWIDTH))
        return [
            p.requires_grad_()
            for p in (self.W_enc, self.b_enc, self.W_dec, self.b_dec, *own.get(architecture, []))
        ]

    def pre(self, x: Tensor) -> Tensor:
        return x @ self.W_enc + self.b_enc

    def error(self, codes: Tensor, y: Tensor) -> Tensor:
        return (codes @ self.W_dec + self.b_dec - y).square().sum(dim=1).mean()

    def norms(self) -> Tensor:
        """The decoder's norm per latent, summed over the parts (one for each model, in a crosscoder)."""
        return torch.stack(
            [part.norm(dim=1) for part in self.W_dec.split(list(self.parts), dim=1)]
        ).sum(dim=0)

    def restart(
        self, dead: Tensor, x: Tensor, y: Tensor, loss: "Loss", generator: torch.Generator
    ) -> None:
        """Point dead latents at rows that are rebuilt badly, drawn in proportion to their squared error."""
        if not dead.any():
            return
        rows = torch.randint(len(x), (2048,), generator=generator, device="cpu").to(x.device)
        error = y[rows] - (loss(self, x[rows], y[rows])[1] @ self.W_dec + self.b_dec)
        weights = error.square().sum(dim=1).clamp(min=1e-9).cpu()
        drawn = weights.multinomial(int(dead.sum()), True, generator=generator).to(x.device)
        wrong = error[drawn].any(
            dim=1
        )  # a row that is rebuilt exactly has no direction to point at
        dead, drawn = dead.nonzero()[wrong, 0], drawn[wrong]
        self.W_dec[dead] = normalize(error[drawn])
        self.W_enc[:, dead] = normalize(error[drawn] if x.shape == y.shape else x[rows][drawn]).T
        self.b_enc[dead], self.b_gate[dead] = 0.0, 0.0

    def finish(
        self, architecture: str, x_mean: Tensor, x_scale: Tensor, y_mean: Tensor, y_scale: Tensor
    ) -> dict[str, Tensor]:
        """In the activations' own units, and as thresholds on one encoder."""
        W_enc, b_enc, W_dec, b_dec = (
            p.detach() for p in (self.W_enc, self.b_enc, self.W_dec, self.b_dec)
        )
        threshold = torch.zeros_like(b_enc)
        if architecture == "gated":  # on where x W + b_gate > 0, at exp(log) x W + b_enc
            scale = self.log.detach().exp()
            W_enc, threshold = W_enc * scale, (b_enc - scale * self.b_gate.detach()).clamp(min=0)
        elif architecture == "jumprelu":
            threshold = self.log.detach().exp()
        elif architecture in ("batchtopk", "matryoshka"):
            threshold = threshold + self.floor
        return {
            "W_enc": W_enc * y_scale / x_scale,
            "b_enc": b_enc * y_scale,
            "W_dec": W_dec,
            "b_dec": b_dec * y_scale + y_mean,
            "centre": x_mean,
            "threshold": threshold * y_scale,
        }


Loss = Callable[[Draft, Tensor, Tensor], tuple[Tensor, Tensor]]  # loss and codes of a batch


def lose_l1(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    codes = draft.pre(x).relu()
    return draft.error(codes, y) + draft.penalty * (codes @ draft.norms()).mean(), codes


def lose_topk(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    codes = keep_top(draft.pre(x).relu(), draft.k)
    return draft.error(codes, y), codes


def keep_top_of_batch(draft: Draft, x: Tensor) -> Tensor:
    pre = draft.pre(x).relu()
    codes = keep_top(pre.flatten(), draft.k * len(x)).view_as(pre)
    if (kept := codes.detach()[codes > 0]).numel():
        lowest = kept.min().item()
        draft.floor = lowest if draft.floor == 0 else 0.99 * draft.floor + 0.01 * lowest
    return codes


def lose_batchtopk(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    codes = keep_top_of_batch(draft, x)
    return draft.error(codes, y), codes


def lose_matryoshka(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    codes, n = keep_top_of_batch(draft, x), draft.W_enc.shape[1]
    prefixes = sorted({max(1, n // share) for share in (8, 4, 2, 1)})
    errors = [
        draft.error(codes * (torch.arange(n, device=x.device) < prefix), y) for prefix in prefixes
    ]
    return torch.stack(errors).mean(), codes


def lose_gated(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gate's own reconstruction trains the gate, with a decoder that it cannot change."""
    common = x @ draft.W_enc
    gate = (common + draft.b_gate).relu()
    codes = torch.where(gate > 0, (common * draft.log.exp() + draft.b_enc).relu(), 0.0)
    alone = (gate @ draft.W_dec.detach() + draft.b_dec.detach() - y).square().sum(dim=1).mean()
    return draft.error(codes, y) + draft.penalty * (
        gate @ draft.norms().detach()
    ).mean() + alone, codes


class Jump(torch.autograd.Function):
    """pre above the threshold, and whether it is above; the threshold's gradient counts what is near it."""

    @staticmethod
    def forward(ctx, pre: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold)
        above = (pre > threshold).to(pre.dtype)
        return pre * above, above

    @staticmethod
    def backward(ctx, codes_gradient: Tensor, above_gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < BANDWIDTH / 2).to(pre.dtype) / BANDWIDTH
        on_threshold = -near * (threshold * codes_gradient + above_gradient)
        return codes_gradient * (pre > threshold), on_threshold.sum(dim=0)


def lose_jumprelu(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    codes, above = Jump.apply(draft.pre(x).relu(), draft.log.exp())
    return draft.error(codes, y) + draft.penalty * above.sum(dim=1).mean(), codes


LOSSES: dict[str, Loss] = {
    "l1": lose_l1,
    "topk": lose_topk,
    "batchtopk": lose_batchtopk,
    "matryoshka": lose_matryoshka,
    "gated": lose_gated,
    "jumprelu": lose_jumprelu,
}
PENALTIES = {
    "l1": 0.1,
    "gated": 0.6,
    "jumprelu": 0.03,
}  # these find all of the planted features, with 128 latents

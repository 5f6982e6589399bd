"""The losses that make a dictionary's codes few: one per architecture, as in its paper.

A loss takes a draft of the dictionary, inputs and outputs of a batch, and returns the loss and the
codes.
Sources: Bricken et al. 2023 (l1); Gao et al. 2024 (2406.04093, topk); Bussmann et al. 2024
(2412.06410, batchtopk); Bussmann et al. 2025 (2503.17547, matryoshka); Rajamanoharan et al. 2024
(2404.16014, gated; 2407.14435, jumprelu).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer.methods.numerics import draw_normal

__all__ = ["BANDWIDTH", "LOSSES", "PENALTIES", "Draft", "Jump", "Loss", "keep_top"]

BANDWIDTH = 0.05  # of the kernel, in units of the activations' size

# With these penalties each architecture finds all of the planted features, with 128 latents.
PENALTIES = {"l1": 0.1, "gated": 0.6, "jumprelu": 0.03}


@dataclass
class Draft:
    """The weights of a dictionary while they are trained.

    `log` is the log scale (gated) or the log threshold (jumprelu).
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    log: Tensor
    b_gate: Tensor
    widths: Sequence[int]
    k: int
    penalty: float | int
    floor: float = 0.0  # batchtopk: the smallest code that was kept, on average

    @classmethod
    def start(
        cls,
        d: int,
        out: int,
        n: int,
        widths: Sequence[int],
        k: int,
        penalty: float | int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> "Draft":
        """Draw a random unit decoder.

        The encoder is its transpose where that fits, and random unit vectors where not.
        """
        zeros = torch.zeros(n, dtype=torch.float32, device=device)
        W_dec = normalize(draw_normal(n, out, generator=generator, like=zeros))
        W_enc = W_dec.T.clone()
        if d != out:
            W_enc = normalize(draw_normal(n, d, generator=generator, like=zeros)).T.contiguous()
        b_dec = zeros.new_zeros(out)
        return cls(W_enc, zeros, W_dec, b_dec, zeros.clone(), zeros.clone(), widths, k, penalty)

    def parameters(self, architecture: str) -> list[Tensor]:
        """List what this architecture trains, ready for gradients."""
        own = {"gated": [self.log, self.b_gate], "jumprelu": [self.log]}.get(architecture, [])
        if architecture == "jumprelu":
            self.log.fill_(math.log(BANDWIDTH))
        return [p.requires_grad_() for p in (self.W_enc, self.b_enc, self.W_dec, self.b_dec, *own)]

    def pre(self, x: Tensor) -> Tensor:
        """Compute the codes before anything makes them few."""
        return x @ self.W_enc + self.b_enc

    def error(self, codes: Tensor, y: Tensor) -> Tensor:
        """Compute the squared error of the reconstruction, mean over rows."""
        return (codes @ self.W_dec + self.b_dec - y).square().sum(dim=1).mean()

    def norms(self) -> Tensor:
        """Compute the decoder's norm per latent, summed over the parts that outputs consist of."""
        parts = self.W_dec.split(list(self.widths), dim=1)
        return torch.stack([part.norm(dim=1) for part in parts]).sum(dim=0)

    def restart(
        self, dead: Tensor, x: Tensor, y: Tensor, loss: "Loss", generator: torch.Generator
    ) -> None:
        """Point dead latents at rows that are rebuilt badly, in proportion to the squared error."""
        if not dead.any():
            return
        rows = torch.randint(len(x), (2048,), generator=generator, device="cpu").to(x.device)
        error = y[rows] - (loss(self, x[rows], y[rows])[1] @ self.W_dec + self.b_dec)
        weights = error.square().sum(dim=1).clamp(min=1e-9).cpu()
        drawn = weights.multinomial(int(dead.sum()), True, generator=generator).to(x.device)
        # A row that is rebuilt exactly has no direction to point at.
        wrong = error[drawn].any(dim=1)
        dead, drawn = dead.nonzero()[wrong, 0], drawn[wrong]
        self.W_dec[dead] = normalize(error[drawn])
        self.W_enc[:, dead] = normalize(error[drawn] if x.shape == y.shape else x[rows][drawn]).T
        self.b_enc[dead] = 0.0
        self.b_gate[dead] = 0.0

    def finish(
        self, architecture: str, x_mean: Tensor, x_scale: Tensor, y_mean: Tensor, y_scale: Tensor
    ) -> dict[str, Tensor]:
        """Convert to the activations' own units, with thresholds on one encoder."""
        weights = (self.W_enc, self.b_enc, self.W_dec, self.b_dec)
        W_enc, b_enc, W_dec, b_dec = (weight.detach() for weight in weights)
        threshold = torch.zeros_like(b_enc)
        if architecture == "gated":  # on where x W + b_gate > 0, at exp(log) x W + b_enc
            scale = self.log.detach().exp()
            W_enc = W_enc * scale
            threshold = (b_enc - scale * self.b_gate.detach()).clamp(min=0)
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


Loss = Callable[[Draft, Tensor, Tensor], tuple[Tensor, Tensor]]


def keep_top(pre: Float[Tensor, "*batch latent"], k: int) -> Float[Tensor, "*batch latent"]:
    """Keep the k highest of each row, all if there are no more; elsewhere put zero.

    >>> keep_top(torch.tensor([[3.0, 1.0, 2.0]]), 2)
    tensor([[3., 0., 2.]])
    """
    values, where = pre.topk(min(k, pre.shape[-1]), dim=-1)
    return torch.zeros_like(pre).scatter(-1, where, values)


def lose_l1(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Pay for the sum of codes, each times the norm of its decoder row."""
    codes = draft.pre(x).relu()
    return draft.error(codes, y) + draft.penalty * (codes @ draft.norms()).mean(), codes


def lose_topk(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Keep only the k highest codes of a row."""
    codes = keep_top(draft.pre(x).relu(), draft.k)
    return draft.error(codes, y), codes


def keep_top_of_batch(draft: Draft, x: Tensor) -> Tensor:
    """Keep only the k n highest codes of a batch of n rows.

    A row may then have more codes than another. After training there is no batch to choose from, so
    the draft keeps a running mean of the smallest code that was kept: the threshold of the
    dictionary.
    """
    pre = draft.pre(x).relu()
    codes = keep_top(pre.flatten(), draft.k * len(x)).view_as(pre)
    kept = codes.detach()[codes > 0]
    if len(kept):
        lowest = kept.min().item()
        draft.floor = lowest if draft.floor == 0 else 0.99 * draft.floor + 0.01 * lowest
    return codes


def lose_batchtopk(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Keep only the highest codes of a batch."""
    codes = keep_top_of_batch(draft, x)
    return draft.error(codes, y), codes


def lose_matryoshka(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Let the first eighth, quarter and half of the latents rebuild alone, too."""
    codes = keep_top_of_batch(draft, x)
    n = codes.shape[1]
    latent = torch.arange(n, device=x.device)
    prefixes = sorted({max(1, n // share) for share in (8, 4, 2, 1)})
    errors = [draft.error(codes * (latent < prefix), y) for prefix in prefixes]
    return torch.stack(errors).mean(), codes


def lose_gated(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Let one set of weights say which codes are on, and a scaled copy how much.

    The gate's own reconstruction trains the gate, with a decoder that it cannot change.
    """
    common = x @ draft.W_enc
    gate = (common + draft.b_gate).relu()
    codes = torch.where(gate > 0, (common * draft.log.exp() + draft.b_enc).relu(), 0.0)
    alone = (gate @ draft.W_dec.detach() + draft.b_dec.detach() - y).square().sum(dim=1).mean()
    paid = draft.penalty * (gate @ draft.norms().detach()).mean()
    return draft.error(codes, y) + paid + alone, codes


class Jump(torch.autograd.Function):
    """Cut off at a threshold: what is above it, and whether it is above.

    The threshold's gradient counts what is near it, through a kernel.
    """

    @staticmethod
    def forward(ctx, pre: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold)
        above = (pre > threshold).to(pre.dtype)
        return pre * above, above

    @staticmethod
    def backward(  # type: ignore[override]
        ctx, codes_gradient: Tensor, above_gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < BANDWIDTH / 2).to(pre.dtype) / BANDWIDTH
        on_threshold = -near * (threshold * codes_gradient + above_gradient)
        return codes_gradient * (pre > threshold), on_threshold.sum(dim=0)


def lose_jumprelu(draft: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Pay for the number of codes above a trained threshold per latent."""
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

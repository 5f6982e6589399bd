"""Direct logit attribution: what each component writes straight into a logit, in the model's own units.

Logits are linear in the last residual stream once the final norm's scale is held at what it was, and the stream is a sum, so a logit
is a sum too. What a component does *through* later ones is not in it: an early head that everything depends on
can score zero. Sources: Elhage et al. 2021 ("logit attribution"); Wang et al. 2022, section 3; nostalgebraist 2020.

Checked against: the model's own logits, on every use.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.hooks import ActivationCache
from mini_transformer.model import Transformer

TokenIds = Int[Tensor, "batch"]


def attribute_logits(
    model: Transformer,
    cache: ActivationCache,
    answer: TokenIds,
    wrong: TokenIds | None = None,
    position: TokenIds | int = -1,
) -> dict[str, Float[Tensor, "batch"]]:
    """Per component, what it adds to logit(answer) - logit(wrong) at `position`; with no `wrong`, to logit(answer).

    Labels are those of `model.decompose`, and `bias` for what no component wrote (b_U, the final norm's bias). The
    contributions add up to the logit difference; ValueError if they do not, since then the cache is not of a plain run.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64)
    >>> parts = attribute_logits(case.model, case.model.run_with_cache(batch.clean)[1], batch.answer, batch.wrong)
    >>> {name: round(part.mean().item(), 2) for name, part in parts.items()}["a1.h0"]
    20.0
    """
    parts = model.decompose(cache)
    (batch, length, _), v = cache["embed"].shape, model.config.d_vocab_out
    columns = [check_ids("answer", answer, batch, 0, v)]
    columns += [] if wrong is None else [check_ids("wrong", wrong, batch, 0, v)]
    position = torch.full((batch,), position) if isinstance(position, int) else position
    at = torch.arange(batch), check_ids("position", position, batch, -length, length)
    direction = contrast(model.W_U.T, columns)  # b d: what the logit difference reads
    bias = direction.new_zeros(batch) if model.b_U is None else contrast(model.b_U, columns)
    total = bias + (read_final(model, cache)[at] * direction).sum(dim=-1)
    written = torch.stack([part[at] for part in parts.values()])  # component b d
    if (norm := model.ln_final) is not None:
        written = written - written.mean(dim=-1, keepdim=True) if norm.centred else written
        written = written / cache["ln_final.hook_scale"][at] * norm.w  # the scale is held at what it was in this run
        bias = bias if norm.b is None else bias + direction @ norm.b
    contributions = torch.einsum("cbd,bd->cb", written, direction)
    slack = 1e-4 * max(1.0, contributions.abs().max().item())
    if not torch.allclose(contributions.sum(dim=0) + bias, total, rtol=1e-4, atol=slack):
        raise ValueError("the contributions do not add up to the logits: a hook changed what the final norm put out")
    return dict(zip(parts, contributions, strict=True)) | {"bias": bias}


def read_final(model: Transformer, cache: ActivationCache) -> Float[Tensor, "batch pos d_model"]:
    """What the unembedding read in this run: the final norm's output, or the last stream."""
    if model.ln_final is not None:
        return cache["ln_final.hook_normalized"]
    if model.config.n_layers:
        return cache["resid_post", -1]
    return torch.stack(list(model.decompose(cache).values())).sum(dim=0)


def contrast(values: Tensor, columns: list[Tensor]) -> Tensor:
    """The row of the answer, minus that of the wrong token if there is one."""
    return values[columns[0]] - values[columns[1]] if len(columns) == 2 else values[columns[0]]


def check_ids(what: str, ids: Tensor, batch: int, low: int, high: int) -> TokenIds:
    """The ids as they are; ValueError unless there is one integer per prompt, from low to high - 1."""
    if ids.is_floating_point() or ids.shape != (batch,):
        raise ValueError(f"{what} is {ids.dtype} {tuple(ids.shape)}, but must be one integer per prompt: ({batch},)")
    if int(ids.min()) < low or int(ids.max()) >= high:
        raise ValueError(f"{what} runs from {int(ids.min())} to {int(ids.max())}, but must be {low} to {high - 1}")
    return ids

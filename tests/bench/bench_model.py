"""Compare the model with the same mathematics in bare PyTorch, on one set of weights.

The ratio is what named hook points cost. The bare model is the fastest plain one: no modules, no
hooks, weights in local variables, fused layer norm, einsum for the rest.
"""

import copy
import subprocess
import sys
from collections.abc import Callable

import torch
from timing import STYLE, compare, make_row, take_turns
from torch import Tensor
from torch.nn import functional as F

from mini_transformer import Config, Transformer
from mini_transformer.interop.transformer_lens import find_version, to_transformer_lens

CONFIG = Config(d_vocab=50, n_ctx=50, d_model=64, n_layers=2, n_heads=4, d_mlp=256, **STYLE)
SIZES = {"batch 128 x 50": (128, 50, 25), "batch 1 x 16": (1, 16, 300)}
FORWARD_BOUNDS = {"batch 128 x 50": 1.15, "batch 1 x 16": 1.5}
CACHE_BOUNDS = {"batch 128 x 50": 1.25, "batch 1 x 16": 2.0}
STEPS = 15


def rows() -> list[dict]:
    model = Transformer(CONFIG)
    table = []
    bare, lens = write_bare(model), build_lens(model)
    for size, (batch, length, turns) in SIZES.items():
        tokens = draw_tokens(batch, length)
        forward = {"ours": lambda t=tokens: model(t), "bare einsum": lambda t=tokens: bare(t)}
        caching = forward | {"ours": lambda t=tokens: model.run_with_cache(t)[0]}
        if lens is not None:
            forward |= {"TransformerLens": lambda t=tokens: lens(t)}
            caching |= {"TransformerLens": lambda t=tokens: lens.run_with_cache(t)[0]}
        with torch.no_grad():
            table.append(compare(f"forward, {size}", forward, FORWARD_BOUNDS[size], turns))
            table.append(compare(f"run_with_cache, {size}", caching, CACHE_BOUNDS[size], turns))
    return [*table, time_training_steps(model), time_imports()]


def draw_tokens(batch: int, length: int) -> Tensor:
    return torch.randint(
        CONFIG.d_vocab, (batch, length), generator=torch.Generator().manual_seed(0)
    )


def write_bare(model: Transformer) -> Callable[[Tensor], Tensor]:
    """Write the model's mathematics as one function of tokens, on its own weights."""
    top = dict(model.named_parameters())
    kinds = [name.removeprefix("blocks.0.") for name in top if name.startswith("blocks.0.")]
    layers = [{kind: top[f"blocks.{i}.{kind}"] for kind in kinds} for i in range(CONFIG.n_layers)]
    hidden = torch.ones(CONFIG.n_ctx, CONFIG.n_ctx).triu(1).bool()
    d = (CONFIG.d_model,)

    def forward(tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        x = F.embedding(tokens, top["W_E"]) + top["W_pos"][:t]
        for p in layers:
            y = F.layer_norm(x, d, p["ln1.w"], p["ln1.b"])
            q = torch.einsum("btd,ndh->btnh", y, p["attn.W_Q"]) + p["attn.b_Q"]
            k = torch.einsum("btd,ndh->btnh", y, p["attn.W_K"]) + p["attn.b_K"]
            v = torch.einsum("btd,ndh->btnh", y, p["attn.W_V"]) + p["attn.b_V"]
            scores = torch.einsum("bqnh,bknh->bnqk", q, k) / 4.0
            pattern = scores.masked_fill(hidden[:t, :t], float("-inf")).softmax(dim=-1)
            z = torch.einsum("bnqk,bknh->bqnh", pattern, v)
            x = x + torch.einsum("bqnh,nhd->bqd", z, p["attn.W_O"]) + p["attn.b_O"]
            y = F.layer_norm(x, d, p["ln2.w"], p["ln2.b"])
            post = F.gelu(torch.einsum("btd,df->btf", y, p["mlp.W_in"]) + p["mlp.b_in"])
            x = x + torch.einsum("btf,fd->btd", post, p["mlp.W_out"]) + p["mlp.b_out"]
        return (
            torch.einsum(
                "btd,dv->btv", F.layer_norm(x, d, top["ln_final.w"], top["ln_final.b"]), top["W_U"]
            )
            + top["b_U"]
        )

    return forward


def build_lens(model: Transformer):
    """Build the model in TransformerLens 3, or return None if that is not installed."""
    try:
        return to_transformer_lens(model) if find_version() == 3 else None
    except ImportError:
        return None


def time_training_steps(model: Transformer) -> dict:
    """Time one AdamW step on next-token loss: forward, backward, update.

    The two losses must agree all along.
    """
    tokens = draw_tokens(128, 50)
    losses: dict[str, list[float]] = {}

    def prepare(
        name: str, mine: Transformer, forward: Callable[[Tensor], Tensor]
    ) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-3)
        losses[name] = []

        def step() -> None:
            loss = F.cross_entropy(forward(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())

        return step

    ours, other = copy.deepcopy(model), copy.deepcopy(model)
    candidates = {
        "ours": prepare("ours", ours, ours),
        "bare einsum": prepare("bare einsum", other, write_bare(other)),
    }
    times = take_turns(candidates, STEPS)
    torch.testing.assert_close(
        torch.tensor(losses["ours"]), torch.tensor(losses["bare einsum"]), rtol=1e-4, atol=0
    )
    assert losses["ours"][-1] < losses["ours"][0]
    return make_row("one AdamW step, batch 128 x 50", times, bound=1.1)


def time_imports() -> dict:
    """Time one import each in fresh processes, inside, so that Python's start does not count.

    The package imports torch only when its first public name is used, so a name is what is imported
    here.
    """

    def run_import(statement: str) -> float:
        program = (
            f"import time; s = time.perf_counter(); {statement}; print(time.perf_counter() - s)"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return float(result.stdout) * 1e3

    times: dict[str, list[float]] = {
        "from mini_transformer import Transformer": [],
        "import torch": [],
    }
    for _ in range(5):
        for statement, values in times.items():
            values.append(run_import(statement))
    return make_row("from mini_transformer import Transformer", times, bound=1.15)

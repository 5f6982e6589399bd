"""Compare every hook point as nnsight and pyvene see it with what this package sees.

    python tests/peers/compare_modules.py tests/peers/modules.json

A row is a model: how many hook points there are, how many have the very value of `run_with_cache`
when they are traced by nnsight or collected by pyvene, and the largest difference between logits
after each head's last z is taken from other prompts by a hook of this package and by theirs.
`moved` is how much that changes the logits.
"""

import importlib.metadata
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pyvene
import torch
from nnsight import NNsight, save
from torch import Tensor

from mini_transformer import Config, Transformer, __version__, toys
from mini_transformer.hooks import HookPoint
from mini_transformer.interop.modules import as_modules

Where = tuple[int, int, int]  # layer, head, position
CONFIGS = {
    "layer norm, MLPs": {"norm": "layer", "d_mlp": 20, "biases": True, "act": "gelu"},
    "RMS norm, tied": {"norm": "rms", "d_mlp": 20, "tied": True},
    "positions on queries and keys": {"positions_to": "qk"},
}


def load_models() -> dict[str, Transformer]:
    """Load each toy that has hook points, and random models of what no toy has."""
    found = {}
    for row in toys.describe():
        model = toys.load(row["name"]).model
        if isinstance(model, Transformer):
            found[row["name"]] = model
    sizes = dict(d_vocab=9, n_ctx=7, d_model=12, n_layers=2, n_heads=3)
    return found | {name: Transformer(Config(**sizes, **more)) for name, more in CONFIGS.items()}


def trace(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    """Trace every hook point by nnsight, in the order in which they are reached."""
    order: list[str] = []
    every = (lambda name: True, lambda value, hook: order.append(hook.name))
    model.run_with_hooks(tokens, fwd_hooks=[every])
    traced = NNsight(model)
    places = [find(traced, name) for name in order]
    with traced.trace(tokens):
        values = save([place.output for place in places])
    return dict(zip(order, values, strict=True))


def find(module: Any, name: str) -> Any:
    """Find a part of a model by its dotted name."""
    for part in name.split("."):
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    return module


def collect(model: Transformer, tokens: Tensor, name: str, like: Tensor) -> Tensor:
    """Collect all that stands at one hook point by pyvene; `like` has its shape."""
    seen = pyvene.CollectIntervention(embed_dim=like.shape[-1], keep_last_dim=True)
    run = pyvene.IntervenableModel({"component": spell(name), "intervention": seen}, model=model)
    where = {"base": [[list(range(like.shape[1]))] * len(tokens)]}
    (_, values), _ = run({"tokens": tokens}, unit_locations=where)
    return torch.cat(list(values)).reshape(like.shape)


def patch_by_nnsight(model: Transformer, tokens: Tensor, z: Tensor, where: Where) -> Tensor:
    """Put the head's z at that place by nnsight; return the logits."""
    layer, head, position = where
    traced = NNsight(model)
    with traced.trace(tokens):
        traced.blocks[layer].attn.hook_z.output[:, position, head] = z[:, position, head]
        logits = save(traced.output)
    return logits


def patch_by_pyvene(model: Transformer, tokens: Tensor, other: Tensor, where: Where) -> Tensor:
    """Interchange the head's z at that place with that of other prompts by pyvene."""
    layer, head, position = where
    swap = pyvene.VanillaIntervention(embed_dim=model.config.d_head)
    given = {"component": f"blocks[{layer}].attn.hook_z.output", "intervention": swap}
    run = pyvene.IntervenableModel(given | {"unit": "pos.h"}, model=model)
    unit = [[[[position]] * len(tokens), [[head]] * len(tokens)]]
    places = {"sources->base": (unit, unit)}
    return run({"tokens": tokens}, [{"tokens": other}], unit_locations=places)[1]


def patch(model: Transformer, tokens: Tensor, z: Tensor, where: Where) -> Tensor:
    """Put the head's z at that place by a hook of this package."""
    layer, head, position = where

    def put(value: Tensor, hook: HookPoint) -> None:
        value[:, position, head] = z[:, position, head]

    return model.run_with_hooks(tokens, fwd_hooks=[(("z", layer), put)])


@torch.no_grad()
def compare(model: Transformer) -> dict[str, Any]:
    """Compare one model; see the top of this file."""
    seen = as_modules(model)
    generator = torch.Generator().manual_seed(0)
    length = min(model.config.n_ctx, 8)
    shape = (4, length)
    tokens, other = torch.randint(model.config.d_vocab, (2, *shape), generator=generator)
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    traced = trace(seen, tokens)
    row = {
        "hook_points": len(cache),
        "nnsight_equal": sum(torch.equal(traced[name], cache[name]) for name in cache),
        "pyvene_equal": sum(
            torch.equal(collect(seen, tokens, str(name), cache[name]), cache[name])
            for name in cache
        ),
    }
    z = [model.run_with_cache(other)[1]["z", layer] for layer in range(model.config.n_layers)]
    runs = [
        (layer, head, length - 1)
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    ]
    clean = model(tokens)
    worst = dict.fromkeys(("moved", "nnsight_patch", "pyvene_patch"), 0.0)
    for where in runs:
        ours = patch(model, tokens, z[where[0]], where)
        found = {
            "moved": clean,
            "nnsight_patch": patch_by_nnsight(seen, tokens, z[where[0]], where),
            "pyvene_patch": patch_by_pyvene(seen, tokens, other, where),
        }
        for name, logits in found.items():
            worst[name] = max(worst[name], (logits - ours).abs().max().item())
    return row | worst


def spell(name: str) -> str:
    """Spell a hook's name as pyvene does: `blocks[0].attn.hook_z.output`."""
    return re.sub(r"\.(\d+)", r"[\1]", name) + ".output"


def main(out: Path) -> None:
    """Compare all models, and write the table."""
    rows = []
    for name, model in load_models().items():
        rows.append({"model": name} | compare(model))
        print(*rows[-1].values(), sep="  ", flush=True)
    peers = {name: importlib.metadata.version(name) for name in ("nnsight", "pyvene", "torch")}
    data = {
        "versions": {"python": platform.python_version(), "mini-transformer": __version__} | peers,
        "command": f"python tests/peers/compare_modules.py tests/peers/{out.name}",
        "rows": rows,
    }
    out.write_text(json.dumps(data, indent=1) + "\n")
    for row in rows:
        same = row["hook_points"] == row["nnsight_equal"] == row["pyvene_equal"]
        if not same or max(row["nnsight_patch"], row["pyvene_patch"]) > 1e-4:
            raise SystemExit(f"{row['model']} is not seen as it is")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Every toy, forged model and random configuration in TransformerLens, and back.

    python tests/peers/run.py tl3 tl4

An error is the largest difference, as a share of the largest value on our side.

    logits     our run against theirs
    hooks      the worst of all hook names that both show, `n_hooks` of them
    edits      logits, where a hook of the first layer halves its value; the worst hook
    back       logits after the way back
    missing    hook names that only we show
    different  hook names that mean something else there
    unheard    hook names whose edits do something else there
"""

import json
import platform
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from mini_transformer import Config, Transformer, __version__, forge, toys
from mini_transformer.interop.transformer_lens import (
    find_version,
    from_transformer_lens,
    to_transformer_lens,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))
from sample_models import CONFIGS

N_RANDOM = 30
BOUNDS = {"toy": 1e-4, "forged": 1e-4, "twin": 1e-4, "ours": 1e-4, "theirs": 1e-5}
DIFFERENT = 1e-4  # a hook name that means something else there
ON_DEMAND = ("hook_result", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")


def list_cases() -> Iterator[tuple[str, str, Transformer, Tensor]]:
    """List kind, name, model and tokens of all that goes there and back.

    Forged models run in float64: their heads are so sure that float32 rounds patterns by up to
    2e-3, in either library.
    """
    for name in toys.names():
        case = toys.load(name)
        yield "toy", name, case.model, case.task.draw(16, seed=1).clean
    knobs = ({}, {"size": 2}, {"positions": "drawn"}, {"skew": 0.3}, {"redundancy": "backup"})
    for seed, knob in enumerate(knobs):
        case = forge.make(seed=seed, **knob)
        told = ", ".join([str(seed), *(f"{key}={value!r}" for key, value in knob.items())])
        yield "forged", f"forge.make({told})", case.model.double(), case.task.draw(16, seed=1).clean
    for case in forge.twins():
        yield "twin", f"{case.name} {case.seed}", case.model, case.task.draw(16, seed=1).clean
    for seed in range(N_RANDOM):
        model = scramble(Transformer(draw_config(Random(seed)), seed=seed), seed)
        yield "ours", str(seed), model, draw_tokens(model.config, seed)


def draw_config(random: Random) -> Config:
    """Draw a configuration of ours."""
    positions = random.choice(("learned", "sinusoidal", "none"))
    causal = random.random() < 0.7
    tied = random.random() < 0.3
    return Config(
        d_vocab=9,
        n_ctx=7,
        d_model=random.choice((8, 12)),
        n_layers=random.choice((1, 2, 3)),
        n_heads=random.choice((1, 2, 4)),
        d_head=random.choice((1, 3, 4)),
        d_mlp=random.choice((0, 10)),
        act=random.choice(("relu", "gelu")),
        norm=random.choice(("none", "layer", "rms")),
        positions=positions,
        positions_to="stream" if positions == "none" else random.choice(("stream", "qk")),
        attn_scale=random.choice((0.0, 1.0, 2.5)),
        causal=causal,
        window=random.choice((0, 1, 3)) if causal else 0,
        biases=random.random() < 0.5,
        tied=tied,
        d_vocab_out=0 if tied else random.choice((0, 5)),
    )


def draw_theirs(random: Random, seed: int) -> Any:
    """Draw a model of theirs; folded norms, unscaled attention and windows only exist in 3.9."""
    old = find_version() == 3
    told = dict(
        n_layers=random.choice((1, 2, 3)),
        d_model=random.choice((8, 12)),
        n_ctx=7,
        n_heads=random.choice((1, 2, 4)),
        d_head=random.choice((2, 3, 4)),
        d_vocab=9,
        d_vocab_out=random.choice((9, 5)),
        d_mlp=10,
        attn_only=random.random() < 0.3,
        act_fn=random.choice(("relu", "gelu")),
        normalization_type=random.choice((None, "LN", "RMS", "LNPre", "RMSPre")),
        attention_dir=random.choice(("causal", "causal", "bidirectional")),
        use_attn_scale=not old or random.random() < 0.6,
        device="cpu",
        seed=seed,
    )
    if old:
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        told["positional_embedding_type"] = random.choice(("standard", "shortformer"))
        if random.random() < 0.3:
            told |= dict(use_local_attn=True, window_size=3, attn_types=["local"] * 3)
        return scramble(HookedTransformer(HookedTransformerConfig(**told)), seed)
    from transformer_lens import TransformerBridge, TransformerBridgeConfig

    return scramble(TransformerBridge.boot_native(TransformerBridgeConfig(**told)), seed)


@torch.no_grad()
def scramble(model: Any, seed: int) -> Any:
    """Move every weight, so that no bias is zero and no gain is one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def draw_tokens(config: Any, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.d_vocab, (4, config.n_ctx), generator=generator)


def measure(given: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest value.

    It is infinite if one side is infinite where the other is not.
    """
    assert given.shape == expected.shape, (given.shape, expected.shape)
    finite = expected.isfinite()
    if not torch.equal(given[~finite], expected[~finite]):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = (given - expected)[finite].abs().max().item()
    return difference / (expected[finite].abs().max().item() or 1.0)


def show_all(hooked: Any, tokens: Tensor) -> dict[str, Tensor]:
    """Run their model twice: as it is, and with what it computes on demand only.

    In the second run of 3.9 a norm is called for each of q, k and v, so it shows something else.
    """
    values = dict(hooked.run_with_cache(tokens)[1].items())
    if not hooked.cfg.attn_only:
        hooked.set_use_hook_mlp_in(True)
    if find_version() == 3:
        hooked.set_use_attn_result(True)
        hooked.set_use_split_qkv_input(True)
    more = dict(hooked.run_with_cache(tokens)[1].items())
    return values | {name: value for name, value in more.items() if name.endswith(ON_DEMAND)}


def measure_edit(model: Transformer, hooked: Any, tokens: Tensor, name: str) -> float:
    """Return the difference of logits where one hook halves its value."""
    edit = dict(fwd_hooks=[(name, lambda value, hook: value / 2)])
    given, expected = (one.run_with_hooks(tokens, **edit) for one in (hooked, model))
    return measure(given, expected)


@torch.no_grad()
def compare(kind: str, name: str, model: Transformer, hooked: Any, tokens: Tensor) -> dict:
    """Compare two models, and the one that comes back; `hooked` is made of `model`, or reverse."""
    logits, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    theirs = hooked(tokens)
    back = from_transformer_lens(hooked) if kind != "theirs" else to_transformer_lens(model)
    shown = show_all(hooked, tokens)
    errors = {hook: measure(shown[hook], cache[hook]) for hook in cache if hook in shown}
    first = [name for name in errors if not name.startswith("blocks.") or ".0." in name]
    edits = {name: measure_edit(model, hooked, tokens, name) for name in first}
    return {
        "kind": kind,
        "name": name,
        "logits": measure(theirs, logits),
        "hooks": max(error for error in errors.values() if error < DIFFERENT),
        "edits": max(error for error in edits.values() if error < DIFFERENT),
        "n_hooks": len(errors),
        "different": list_last(hook for hook, error in errors.items() if error >= DIFFERENT),
        "unheard": list_last(hook for hook, error in edits.items() if error >= DIFFERENT),
        "missing": list_last(hook for hook in cache if hook not in shown),
        "back": measure(back(tokens), logits),
        "config_back": kind == "theirs" or back.config == model.config,
    }


def list_last(hooks: Iterable[str]) -> list[str]:
    """List the last parts of hook names, each once."""
    return sorted({hook.rpartition(".")[2] for hook in hooks})


def list_rows() -> Iterator[dict]:
    for kind, name, model, tokens in list_cases():
        yield compare(kind, name, model, to_transformer_lens(model), tokens)
    for seed in range(N_RANDOM):
        hooked = draw_theirs(Random(seed), seed)
        tokens = draw_tokens(hooked.cfg, seed)
        yield compare("theirs", str(seed), from_transformer_lens(hooked), hooked, tokens)


def list_weights(config: Config) -> dict[str, list[int]]:
    """List the names and shapes of the weights of their model of this configuration."""
    hooked = to_transformer_lens(Transformer(config))
    names = {name for name, _ in hooked.named_parameters()}
    return {name: list(one.shape) for name, one in hooked.state_dict().items() if name in names}


def main(path: str, most: int | None = None) -> None:
    rows = []
    for row in islice(list_rows(), most):
        rows.append(row)
        print(
            f"{row['kind']:7} {row['name']:32} logits {row['logits']:.1e}  hooks {row['hooks']:.1e}"
            f" ({row['n_hooks']})  edits {row['edits']:.1e}  back {row['back']:.1e}"
            f" {'' if row['config_back'] else '(simpler)'}  not there: {' '.join(row['missing'])};"
            f" different: {' '.join(row['different'])}; unheard: {' '.join(row['unheard'])}",
            flush=True,
        )
    weights = {}
    if find_version() == 3:
        weights = {name: list_weights(config) for name, config in CONFIGS.items()}
    versions = {name: version(name) for name in ("torch", "transformer-lens")}
    versions |= {"python": platform.python_version(), "mini-transformer": __version__}
    command = f"python tests/peers/run.py {Path(path).stem}"
    told = {
        "versions": versions,
        "command": command,
        "bounds": BOUNDS,
        "weights": weights,
        "rows": rows,
    }
    Path(path).write_text(json.dumps(told, indent=1) + "\n")
    figures = ("logits", "hooks", "edits", "back")
    bad = [row for row in rows if max(row[key] for key in figures) > BOUNDS[row["kind"]]]
    sys.exit(f"beyond the bounds: {bad}" if bad else 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(sys.argv[1], *map(int, sys.argv[2:]))

"""Run circuits without the edge engine, in a forward with hooks that rebuild what readers hear."""

import torch

from mini_transformer.edges import list_edges, list_writers


def read_written(model, tokens):
    """Read what each writer writes from a plain cache."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    parts = {name: part for name, part in model.decompose(cache).items() if ".bias" not in name}
    return {
        writer: cache["resid_pre", 0] if writer == "input" else parts[writer]
        for writer in list_writers(model)
    }


def read_off(model, corrupt, ablation):
    """Compute what each writer is replaced by."""
    own = read_written(model, corrupt)
    change = {
        "zero": torch.zeros_like,
        "mean": lambda value: value.mean(dim=0, keepdim=True).expand_as(value),
        "resample": lambda value: value,
    }[ablation]
    return {writer: change(value) for writer, value in own.items()}


def run_hooked(model, tokens, off, kept):
    """Run while readers hear writers as they are on the edges `kept`, else as in `off`."""
    with torch.no_grad():
        written, heads = {"input": model(tokens, stop_at_layer=0)}, range(model.config.n_heads)

    def hear(reader, layers):
        total = torch.zeros_like(written["input"])
        for block in model.blocks[:layers]:
            total = total if block.attn.b_O is None else total + block.attn.b_O
        for writer, value in written.items():
            total = total + (value if f"{writer}->{reader}" in kept else off[writer])
        return total

    def hooks_of(layer):
        def record_heads(value, hook):
            written.update({f"a{layer}.h{head}": value[:, :, head].clone() for head in heads})

        def record_mlp(value, hook):
            written[f"m{layer}"] = value.clone()

        def hear_heads(part):
            return lambda value, hook: torch.stack(
                [hear(f"a{layer}.h{n}<{part}>", layer) for n in heads], dim=2
            )

        found = [((f"{part}_input", layer), hear_heads(part)) for part in "qkv"] + [
            (("result", layer), record_heads)
        ]
        if model.config.d_mlp:
            found += [(("mlp_in", layer), lambda value, hook: hear(f"m{layer}", layer + 1))]
            found += [(("mlp_out", layer), record_mlp)]
        return found

    n_layers = model.config.n_layers
    hooks = [hook for layer in range(n_layers) for hook in hooks_of(layer)]
    hooks += [(("resid_post", n_layers - 1), lambda value, hook: hear("logits", n_layers))]
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks)


def edges_between(model, nodes):
    """List all edges from one of the nodes to one of them, or to the logits."""
    kept = {*nodes, "logits"}
    return {
        edge
        for edge in list_edges(model)
        if edge.split("->")[0] in kept and edge.split("->")[1].split("<")[0] in kept
    }


def share_hooked(model, clean, corrupt, metric, circuits, ablation):
    """Compute (m(kept) - m(nothing)) / (m(everything) - m(nothing)) for each set of kept edges.

    Each m comes from one hooked run.
    """
    off = read_off(model, corrupt, ablation)
    runs = (
        run_hooked(model, clean, off, set(edges)) for edges in ((), list_edges(model), *circuits)
    )
    empty, whole, *ours = (metric(logits).mean().item() for logits in runs)
    return [(value - empty) / (whole - empty) for value in ours]


def metric(logits):
    """Score each prompt, not linearly in the logits."""
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def draw_edges(model, seed, share=0.6):
    """Draw a random set of edges."""
    edges = list_edges(model)
    kept = torch.rand(len(edges), generator=torch.Generator().manual_seed(seed)) < share
    return [edge for edge, on in zip(edges, kept, strict=True) if on]

"""Minimal circuits by running every subset of edges, with hooks written by hand.

It shares no code with the forge, nor with the edge engine: it knows the model's hooks and weights,
the prompts, the answers, and that biases stay.
"""

import torch
from torch import Tensor

MOST = 14
AT_ONCE = 4096  # rows of one run


def name_edges(model) -> list[tuple[str, str]]:
    """All (writer, reader) pairs; readers are named a0.h1<q>, m0 and logits."""
    edges, writers = [], ["input"]
    for layer in range(model.config.n_layers):
        heads = [f"a{layer}.h{head}" for head in range(model.config.n_heads)]
        edges += [(w, f"{head}<{part}>") for head in heads for part in "qkv" for w in writers]
        writers += heads
        edges += [(w, f"m{layer}") for w in writers]
        writers.append(f"m{layer}")
    return edges + [(w, "logits") for w in writers]


def drop_dead_ends(model, edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the edges over which nothing can come that reaches the logits."""
    kept = []
    for writer, reader in reversed(edges):
        node = reader.split("<")[0]
        followed = node == "logits" or any(w == node for w, _ in kept)
        if followed and (_out(model, writer) @ _in(model, reader)).abs().max() > 1e-6:
            kept.append((writer, reader))
    return kept[::-1]


def _out(model, writer: str) -> Tensor:
    if writer == "input":
        return torch.cat([model.W_E, model.W_pos])
    block = model.blocks[int(writer[1])]
    if writer[0] == "m":
        return torch.cat([block.mlp.W_out, block.mlp.b_out[None]])
    head = int(writer.split("h")[1])
    return torch.cat([block.attn.W_V[head], block.attn.b_V[head][None]]) @ block.attn.W_O[head]


def _in(model, reader: str) -> Tensor:
    if reader == "logits":
        return model.W_U
    block = model.blocks[int(reader[1])]
    if reader[0] == "m":
        return block.mlp.W_in
    head, part = int(reader.split("h")[1][:-3]), reader[-2]
    W_Q, W_K = block.attn.W_Q[head], block.attn.W_K[head]
    if part == "v":
        return block.attn.W_V[head] @ block.attn.W_O[head]
    if part == "q":
        return W_Q @ W_K.T
    return W_K @ torch.cat([W_Q, block.attn.b_Q[head][None]]).T


def find_written(model, tokens: Tensor) -> dict[str, Tensor]:
    """What each writer writes in a plain run."""
    found = {}

    def keep(name):
        return lambda value, hook: found.__setitem__(name, value.clone())

    hooks = [
        (f"blocks.{layer}.attn.hook_result", keep(layer)) for layer in range(len(model.blocks))
    ]
    hooks += [
        (f"blocks.{layer}.hook_mlp_out", keep(f"m{layer}")) for layer in range(len(model.blocks))
    ]
    hooks += [("blocks.0.hook_resid_pre", keep("input"))]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    for layer in range(len(model.blocks)):
        heads = found.pop(layer)
        found |= {f"a{layer}.h{head}": heads[:, :, head] for head in range(heads.shape[2])}
    return found


def run(model, tokens: Tensor, off: dict[str, Tensor], on: dict[tuple[str, str], Tensor]) -> Tensor:
    """Logits at the last position; `on` says for each edge and row (and position) if it is on."""
    now: dict[str, Tensor] = {}
    heads = range(model.config.n_heads)

    def hear(reader: str, writers: list[str], biases: int) -> Tensor:
        total = sum(block.attn.b_O for block in model.blocks[:biases]) + 0 * off["input"]
        for writer in writers:
            switch = on.get((writer, reader), torch.zeros(len(tokens)))
            switch = switch.reshape(len(tokens), -1, 1)  # one per row, or one per row and position
            total = total + torch.where(switch > 0, now[writer], off[writer])
        return total

    hooks, writers = [], ["input"]
    hooks.append(("blocks.0.hook_resid_pre", lambda value, hook: now.__setitem__("input", value)))
    for layer in range(len(model.blocks)):
        before = list(writers)
        for part in "qkv":

            def listen(value, hook, layer=layer, part=part, before=before):
                return torch.stack(
                    [hear(f"a{layer}.h{head}<{part}>", before, layer) for head in heads], dim=2
                )

            hooks.append((f"blocks.{layer}.hook_{part}_input", listen))

        def write(value, hook, layer=layer):
            now.update({f"a{layer}.h{head}": value[:, :, head] for head in heads})

        hooks.append((f"blocks.{layer}.attn.hook_result", write))
        writers += [f"a{layer}.h{head}" for head in heads]
        heard = list(writers)
        hooks += [
            (
                f"blocks.{layer}.hook_mlp_in",
                lambda value, hook, layer=layer, heard=heard: hear(f"m{layer}", heard, layer + 1),
            ),
            (
                f"blocks.{layer}.hook_mlp_out",
                lambda value, hook, layer=layer: now.__setitem__(f"m{layer}", value),
            ),
        ]
        writers.append(f"m{layer}")
    everybody = list(writers)
    last = len(model.blocks)
    hooks.append(
        (
            f"blocks.{last - 1}.hook_resid_post",
            lambda value, hook: hear("logits", everybody, last),
        )
    )
    return model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]


def find_off(model, clean: Tensor, corrupt: Tensor, ablation: str) -> dict[str, Tensor]:
    """What each writer is replaced by."""
    off = find_written(model, corrupt if ablation == "resample" else clean)
    if ablation == "zero":
        return {name: 0 * value for name, value in off.items()}
    if ablation == "mean":
        return {name: value.mean(0, keepdim=True).expand_as(value) for name, value in off.items()}
    return off


@torch.no_grad()
def answers_at(model, clean, corrupt, answer, ablation, switches: list[str]) -> bool:
    """Whether every row is answered with only these on, written like "input->m0 @3"."""
    on: dict[tuple[str, str], Tensor] = {}
    for switch in switches:
        edge, position = switch.split(" @")
        writer, reader = edge.split("->")
        on.setdefault((writer, reader), torch.zeros(clean.shape))[:, int(position)] = 1.0
    logits = run(model, clean, find_off(model, clean, corrupt, ablation), on)
    own = logits.gather(1, answer[:, None]).squeeze(1)
    return bool((own > logits.scatter(1, answer[:, None], float("-inf")).amax(dim=1)).all())


@torch.no_grad()
def find_minimal(model, clean, corrupt, answer, ablation, edges, others=()) -> set[frozenset[str]]:
    """All minimal sets of these edges that answer every row; of the rest only `others` are on."""
    off = find_off(model, clean, corrupt, ablation)
    numbers = torch.arange(2 ** len(edges))
    n = len(clean)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    for rows in (order[:1], order[1:3], order[3:9], order[9:]):  # most sets fail at once
        if not len(rows):
            continue
        passed = []
        for some in numbers.split(max(1, AT_ONCE // len(rows))):
            switches = (some[:, None] >> torch.arange(len(edges)) & 1).float()
            on = {edge: switches[:, i].repeat_interleave(len(rows)) for i, edge in enumerate(edges)}
            on |= {edge: torch.ones(len(some) * len(rows)) for edge in others}
            own_off = {k: v[rows].repeat(len(some), 1, 1) for k, v in off.items()}
            logits = run(model, clean[rows].repeat(len(some), 1), own_off, on)
            right = answer[rows].repeat(len(some))
            own = logits.gather(1, right[:, None]).squeeze(1)
            best = logits.scatter(1, right[:, None], float("-inf")).amax(dim=1)
            passed.append(some[(own > best).view(len(some), len(rows)).all(dim=1)])
        numbers = torch.cat(passed)
    minimal: list[int] = []
    for number in sorted(numbers.tolist(), key=int.bit_count):
        if not any(other & number == other for other in minimal):
            minimal.append(number)
    return {
        frozenset("->".join(edges[i]) for i in range(len(edges)) if number >> i & 1)
        for number in minimal
    }

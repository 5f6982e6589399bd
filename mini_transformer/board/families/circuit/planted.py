"""Two models that a trap needs, made of the forge's parts and hidden among its decoys.

Their circuits are found as the forge's are: by proof for every set of edges of the plain model.
"""

import random
from dataclasses import dataclass, replace

import torch

from mini_transformer.board.families.circuit.problems import Names
from mini_transformer.board.forged import salt
from mini_transformer.edges import Ablation
from mini_transformer.forge import decoys, disguise
from mini_transformer.forge.building import STRENGTH, THRESHOLD, Head, Neurons, Part, build
from mini_transformer.forge.case import ROUNDING, SLACKS, state
from mini_transformer.forge.program import Layout, Program
from mini_transformer.forge.proving import prove
from mini_transformer.model import Transformer
from mini_transformer.toys.by_hand import Stream
from mini_transformer.toys.truth import Batch

__all__ = ["Planted", "plant_cancelling", "plant_period"]

N_TOKENS = 12
N_PROMPTS = 16
N_FREE = 2  # heads per layer that serve no task


@dataclass(frozen=True)
class Planted:
    """A hidden model, prompts for it, its minimal circuits, and its nodes, part by part."""

    model: Transformer
    batch: Batch
    circuits: tuple[Names, ...]
    nodes: list[str]


def plant_cancelling(seed: int) -> Planted:
    """Make a model in which the slopes of two paths cancel, and the paths do not.

    A head brings x, 0 or 1, and speaks for 1 if x is; an MLP takes that off again, but between a
    and b. So the answer's logit grows by b - a, but not where x is measured.
    """
    rng = random.Random(salt("cancelling", seed))
    length = rng.randint(2, 4)
    layout = Layout(2, length + 1, {"x": rng.randrange(length)})
    stream = make_stream(layout, bit=1)
    token, position, out = (stream[name] for name in ("token", "position", "out"))
    bit = stream["0:bit"]
    a, b = rng.uniform(0.1, 0.35), rng.uniform(0.65, 0.9)
    other = (b - a) / 2 * out[0, None]
    answer = out[1, None]
    layer = rng.randint(0, 1)
    neurons = Neurons(
        "look_up",
        layer,
        reads=torch.cat([0 * bit, bit, bit, bit]),
        bias=torch.tensor([1.0, 1.0, -a, -b]),
        writes=torch.cat([answer + other, -answer, answer, -answer]),
    )
    strength = rng.uniform(10, 20)
    query = position[-1:] * strength
    key = position[layout.tokens["x"], None]
    head = Head("fetch", layer, query, key, token[1, None], bit + answer)
    tokens = layout.list_prompts()
    x = tokens[:, layout.tokens["x"]]
    last = torch.full_like(x, length)
    batch = Batch(tokens, tokens.flip(0), x, x.flip(0), last)
    return hide([head, neurons], stream, layout, batch, "resample", rng, n_layers=3, default=0.0)


def plant_period(seed: int) -> Planted:
    """Make a model that says what came a fixed number of positions ago.

    All prompts are a block of tokens, written twice, so this is what came after the last token
    before. Beside it is a previous-token head, of which nobody hears anything.
    """
    rng = random.Random(salt("period", seed))
    period = rng.randint(4, 8)
    layout = Layout(N_TOKENS, 2 * period, {})
    stream = make_stream(layout, previous=N_TOKENS)
    token, position = stream["token"][:N_TOKENS], stream["position"]
    strength = rng.uniform(12, 20)
    previous = (position[1:] * strength, position[:-1], token, stream["0:previous"])
    back = period - 1
    behind = (position[back:] * strength, position[:-back], token, stream["out"])
    blocks = torch.tensor([rng.sample(range(N_TOKENS), period) for _ in range(2 * N_PROMPTS)])
    clean, corrupt = blocks.repeat(1, 2).split(N_PROMPTS)
    answer = clean[:, 0]
    wrong = torch.where(corrupt[:, 0] == answer, clean[:, 1], corrupt[:, 0])
    last = torch.full_like(answer, 2 * period - 1)
    batch = Batch(clean, corrupt, answer, wrong, last)
    parts: list[Part] = [Head("previous", 0, *previous), Head("fetch", 1, *behind)]
    return hide(parts, stream, layout, batch, "zero", rng, n_layers=2)


def make_stream(layout: Layout, **groups: int) -> Stream:
    """Name the directions of a model with one task that needs these groups."""
    sizes = {"token": layout.d_vocab, "position": layout.length, "out": layout.n}
    sizes |= {f"0:{name}": size for name, size in groups.items()}
    return Stream(**sizes, **decoys.list_groups(layout.n))


def hide(
    parts: list[Part],
    stream: Stream,
    layout: Layout,
    batch: Batch,
    ablation: Ablation,
    rng: random.Random,
    n_layers: int,
    default: float | int = STRENGTH * THRESHOLD,
) -> Planted:
    """Find the circuits of these parts, add decoys, permute tokens, disguise.

    `default` is the logit of the filler, which wins where nothing is said.
    """
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    program = Program(layout, {})
    alone = build(parts, stream, program, n_layers=n_layers)
    alone.model.get_parameter("b_U").data[layout.filler] = default
    proof = prove(alone.model, batch, ablation, SLACKS)
    heads = [part.layer for part in parts if isinstance(part, Head)]
    free = [1 + N_FREE - heads.count(layer) for layer in range(n_layers)]
    spare = decoys.draw_heads(stream, layout, free, rng, strength=12.0)
    whole = build(
        [*parts, *spare],
        stream,
        program,
        n_layers=n_layers,
        d_mlp=max(alone.used.values()) + 2 * decoys.PAIRS + decoys.ASLEEP,
        room=decoys.ROOM,
        rng=rng,
    )
    all_parts = [*parts, *spare]
    filler = decoys.Filler(whole, all_parts, layout, batch.clean, (), "", 12.0, generator)
    filler.fill(proof.slack - ROUNDING)
    order = torch.randperm(layout.d_vocab, generator=generator)
    with torch.no_grad():
        whole.model.W_E[order] = whole.model.W_E.clone()
        whole.model.get_parameter("W_U")[:, order] = whole.model.W_U.clone()
        whole.model.get_parameter("b_U")[layout.filler] = default
        whole.model.get_parameter("b_U")[order] = whole.model.get_parameter("b_U").clone()
    found = disguise(whole.model, generator)
    nodes = [found.rename(whole.node(*each)) for each in zip(parts, whole.slots, strict=False)]
    plain = [alone.node(*each) for each in zip(parts, alone.slots, strict=True)]
    names = {"input": "input", "logits": "logits", **dict(zip(plain, nodes, strict=True))}
    shown = replace(
        batch,
        clean=order[batch.clean],
        corrupt=order[batch.corrupt],
        answer=order[batch.answer],
        wrong=order[batch.wrong],
    )
    return Planted(found.model, shown, state(proof, names).edges, nodes)

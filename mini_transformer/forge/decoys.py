"""What a forged model does beside its task, and a bound on how little that can matter.

Live decoys: heads and MLPs also read everything, whatever size it has, and write to directions that
only decoys read. Pairs of neurons in each MLP clip a sum of all this to between 0 and 1, and what
they write, the unembedding reads. So whatever is switched, on or off, a pair adds no more than its
own weight to a difference of logits; together they stay below a budget. Each head also writes one
number straight to the logits that is bounded by the one-hot variables that it reads.

Sleeping decoys: weights as strong as the circuit's between nearly all pairs of components, that
never do anything, because they need a token that no prompt holds, or write where nobody reads.
"""

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.forge.building import GAINS, STRENGTH, Build, Head, Part
from mini_transformer.forge.program import Layout
from mini_transformer.toys.by_hand import Stream

LIVE = 4  # directions that decoys write and read
CLIPPED = 3  # directions that the clipping pairs write, and the unembedding reads
SINK = 2  # directions that are written and never read
ROOM = 5  # dimensions that a head has for decoys
PAIRS = 1  # of clipping neurons, per MLP
ASLEEP = 8  # neurons that wait for an unused token, at least, per MLP
ANTI = 0.06  # how much of an answer an anti-head takes off
QUIET = 0.4  # how strongly decoys write; small, so that little is rounded off
KEEN = 4.0  # how strongly what decoys ask depends on what they read
DIRECT = 0.2  # the share of the budget for what heads write straight to the logits


def list_groups(n: int) -> dict[str, int]:
    """List the groups of directions that decoys need."""
    return {
        "live": LIVE,
        "clipped": CLIPPED,
        "direct": 1,
        "sink": SINK,
        "unread": n,
        "constant": 1,
    }


def draw_anti(
    stream: Stream, n_layers: int, answered: int, rng: random.Random, strength: float | int
) -> list[Part]:
    """Draw an anti-head: it reads the answer after layer `answered`, and takes a part of it off."""
    if answered + 1 >= n_layers:
        return []
    last = stream["position"][-1:]
    layer = rng.randrange(answered + 1, n_layers)
    take = -ANTI * stream["out"]
    return [Head("anti", layer, last * strength, last, stream["out"], take)]


def draw_heads(
    stream: Stream, layout: Layout, free: Sequence[int], rng: random.Random, strength: float | int
) -> list[Part]:
    """Draw heads that serve no task, `free[l]` of them in layer l."""
    position = stream["position"]
    nothing = position[:0]
    values = stream["token"][: layout.n]
    heads: list[Part] = []
    special = ["silent", "unread"]
    for layer, count in enumerate(free):
        for _ in range(count):
            role = special.pop() if special and rng.random() < 0.5 else "decoy"
            looks = rng.choice(["back", "place", "token", "evenly"]) if role == "decoy" else "back"
            query, key = nothing, nothing
            if looks == "back":
                query, key = position[1:], position[:-1]
            elif looks == "place":
                order = [rng.randrange(at + 1) for at in range(layout.length)]
                query, key = position, position[order]
            elif looks == "token":
                query, key = values, values[rng.sample(range(layout.n), layout.n)]
            source = values if role == "unread" else nothing
            target = stream["unread"] if role == "unread" else nothing
            heads.append(Head(role, layer, query * strength, key, source, target))
    return heads


def draw_pair(heads: Sequence[Part], rng: random.Random) -> tuple[int, ...]:
    """Choose two decoys for a pair that composes strongly, of which nothing varies."""
    decoys = [i for i, part in enumerate(heads) if part.role == "decoy"]
    pairs = [(i, j) for i in decoys for j in decoys if heads[i].layer < heads[j].layer]
    return rng.choice(pairs) if pairs else ()


class Filler:
    """Fills what is free in a built model with decoys, in place."""

    def __init__(
        self,
        made: Build,
        parts: Sequence[Part],
        layout: Layout,
        prompts: Int[Tensor, "prompt pos"],
        pair: tuple[int, ...],
        twice: str,
        strength: float | int,
        generator: torch.Generator,
    ) -> None:
        self.made = made
        self.model = made.model
        self.stream = made.stream
        self.layout = layout
        self.prompts = prompts
        self.parts = parts
        self.pair = pair
        self.twice = twice
        self.strength = strength
        self.generator = generator
        self.unused = made.stream["token"][-layout.n_unused :]
        self.owner = {
            (part.layer, slot): i
            for i, (part, slot) in enumerate(zip(parts, made.slots, strict=True))
            if isinstance(part, Head)
        }
        self.spread: list[Float[Tensor, clipped]] = []  # what each clipping pair writes
        self.n_direct = 0

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def choose(self, n: int) -> int:
        return int(torch.randint(n, (1,), generator=self.generator))

    def draw_reading(self, *but: str) -> Float[Tensor, "d_model"]:
        """Draw what reads everything that prompts hold, but for these groups."""
        reading = self.draw(self.stream.d_model)
        for name in ("sink", "unread", "direct", *but):
            reading[self.stream[name].argmax(dim=1)] = 0.0  # directions are coordinates
        reading[self.stream["live"].argmax(dim=1)] /= QUIET
        return reading - reading @ self.unused.T @ self.unused

    def draw_strong(self) -> Float[Tensor, "d_model"]:
        """Draw a reading as strong as a program's queries: of one variable, mark or position."""
        names = [name for name in self.stream.groups if ":" in name]
        group = self.stream[[*names, "position"][self.choose(len(names) + 1)]]
        return self.strength * group[self.choose(len(group))]

    @torch.no_grad()
    def fill(self, budget: float) -> None:
        """Set all that is free, so that at most `budget` is added to a difference of logits."""
        self.fill_embedding()
        for layer, block in enumerate(self.model.blocks):
            stream = self.model(self.prompts, stop_at_layer=layer)
            for head in range(self.model.config.n_heads):
                self.fill_head(layer, head, stream)
            self.fill_mlp(layer, stream + block.attn(stream, stream, stream))
        self.fill_unembedding(budget)

    def fill_embedding(self) -> None:
        n_used = self.layout.d_vocab - self.layout.n_unused
        self.model.W_E[:n_used] += QUIET * self.draw(n_used, LIVE) @ self.stream["live"]
        places = QUIET * self.draw(self.layout.length, LIVE) @ self.stream["live"]
        self.model.get_parameter("W_pos").add_(places)
        loud = 0.5 * self.draw(self.layout.n_unused, self.stream.d_model)
        self.model.W_E[n_used:] += loud - loud @ self.unused.T @ self.unused

    def fill_head(self, layer: int, head: int, stream: Tensor) -> None:
        """Give a head its live and its sleeping dimensions."""
        attn = self.model.blocks[layer].attn
        which = self.owner[layer, head]
        part = self.parts[which]
        assert isinstance(part, Head)
        qk = len(part.query)
        ov = len(part.source)
        asleep = self.draw(len(self.unused)) @ self.unused
        asleep /= asleep.norm()
        # Queries that read everything meet keys that only unused tokens have, and the reverse.
        attn.W_Q[head, :, qk] = self.draw_reading() + self.draw_strong()
        attn.W_K[head, :, qk] = asleep
        attn.W_Q[head, :, qk + 1] = asleep
        attn.W_K[head, :, qk + 1] = self.draw_reading() + self.draw_strong()
        # Values that only unused tokens have are written everywhere, all values to the sink.
        attn.W_V[head, :, ov] = asleep
        attn.W_O[head, ov] = 0.3 * self.draw(self.stream.d_model)
        attn.W_V[head, :, ov + 1] = 0.5 * self.draw_reading()
        attn.W_O[head, ov + 1] = 0.2 * self.draw(SINK) @ self.stream["sink"]
        if part.role == "silent":
            return
        if self.pair and which == self.pair[0]:
            self.model.get_parameter(f"blocks.{layer}.attn.b_V")[head, ov + 2] = 1.0
            attn.W_O[head, ov + 2] = self.stream["constant"][0]
        elif self.pair and which == self.pair[1]:
            attn.W_Q[head, :, qk + 3] = self.measure(self.draw_reading(), stream)[0]
            attn.W_K[head, :, qk + 3] = 3.0 * self.stream["constant"][0]
        if part.role in ("decoy", "second task", "unread"):
            keen = 1.0 if part.role == "second task" else KEEN
            attn.W_Q[head, :, qk + 2] = keen * self.measure(self.draw_reading(), stream)[0]
            attn.W_K[head, :, qk + 2] = keen * self.measure(self.draw_reading(), stream)[0]
        attn.W_V[head, :, ov + 3] = self.measure(self.draw_reading(), stream)[0]
        attn.W_O[head, ov + 3] = QUIET * self.draw(LIVE) @ self.stream["live"]
        reading = self.draw_reading("live", "clipped")
        attn.W_V[head, :, ov + 4] = reading / self.bound(reading)
        attn.W_O[head, ov + 4] = self.stream["direct"][0]
        self.n_direct += 1

    def measure(self, reading: Tensor, stream: Tensor) -> tuple[Tensor, float]:
        """Scale what is read so that it varies by one between prompts and positions; its mean."""
        values = stream @ reading
        return reading / values.std(), float(values.mean() / values.std())

    def bound(self, reading: Float[Tensor, "d_model"]) -> float:
        """Bound what is read of the variables: each group holds one value (two, if `twice`)."""
        total = 0.0
        for name, directions in self.stream.groups.items():
            if name not in ("live", "clipped", "direct", "sink", "unread"):
                total += (1 + (name == self.twice)) * float((directions @ reading).abs().max())
        return total

    def fill_mlp(self, layer: int, stream: Tensor) -> None:
        """Give an MLP its clipping pairs, and tables that wait for unused tokens."""
        mlp = f"blocks.{layer}.mlp."
        W_in = self.model.get_parameter(mlp + "W_in")
        b_in = self.model.get_parameter(mlp + "b_in")
        W_out = self.model.get_parameter(mlp + "W_out")
        neuron = self.made.used[layer]
        for _ in range(PAIRS):
            reading, mean = self.measure(self.draw_reading(), stream)
            write = self.draw(CLIPPED)
            self.spread.append(write)
            both = write @ self.stream["clipped"] + QUIET * self.draw(LIVE) @ self.stream["live"]
            # Of a normal variable of this size two thirds are not clipped.
            for beyond, sign in ((0.0, 1.0), (1.0, -1.0)):
                W_in[:, neuron] = 0.5 * reading
                b_in[neuron] = 0.5 - 0.5 * mean - beyond
                W_out[neuron] = sign * both
                neuron += 1
        for asleep in range(neuron, self.model.config.d_mlp):
            reading = self.draw_table()
            wakes = self.draw(len(self.unused)).abs() @ self.unused
            gain = GAINS[0] + (GAINS[1] - GAINS[0]) * self.draw(1).sigmoid()
            W_in[:, asleep] = gain * (reading + 2 * wakes / wakes.norm())
            b_in[asleep] = -gain * self.bound(reading) - 0.5 - self.draw(1).sigmoid()
            W_out[asleep] = self.draw_target()

    def draw_table(self) -> Float[Tensor, "d_model"]:
        """Draw what a sleeping neuron reads: a value each of a few variables, as tables do."""
        names = [name for name in self.stream.groups if ":" in name or name in ("token", "out")]
        reading = torch.zeros(self.stream.d_model)
        for which in torch.randperm(len(names), generator=self.generator)[:4].tolist():
            group = self.stream[names[which]]
            reading += group[self.choose(len(group))]
        return reading - reading @ self.unused.T @ self.unused

    def draw_target(self) -> Float[Tensor, "d_model"]:
        """Draw what a sleeping neuron would write: a value of the answer and of a variable."""
        names = [name for name in self.stream.groups if ":" in name] or ["live"]
        variable = self.stream[names[self.choose(len(names))]]
        answer = self.stream["out"]
        return answer[self.choose(len(answer))] + variable[self.choose(len(variable))]

    def fill_unembedding(self, budget: float) -> None:
        """Let the logits read the decoys, by as much as the budget allows."""
        vocab = self.layout.d_vocab
        read = self.model.get_parameter("W_U")
        clipped = self.draw(CLIPPED, vocab)
        each = torch.stack(self.spread) @ clipped
        worst = float((each.amax(1) - each.amin(1)).sum())
        read.add_(self.stream["clipped"].T @ clipped * (1 - DIRECT) * budget / worst)
        direct = self.draw(1, vocab)
        worst = self.n_direct * float(direct.max() - direct.min())
        read.add_(self.stream["direct"].T @ direct * DIRECT * budget / max(worst, 1e-9))
        read.add_(self.unused.T @ (STRENGTH * self.draw(len(self.unused), vocab)))

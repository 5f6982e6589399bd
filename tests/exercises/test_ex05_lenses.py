"""Grade lesson 05.

What is right is found by slow loops, by another optimiser, or planted in a model set by hand.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect, expect_found
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MISTAKES = {
    "head_pushes": {
        "forgets_the_norm": "Your pushes are those of a model without a final norm: what happens "
        "to the stream before the unembedding reads it?",
        "norms_each_head_by_itself": "You divide what each head wrote by its own scale, so that a "
        "whisper counts as much as a shout: whose scale did the model divide by?",
        "forgets_to_divide": "Your pushes are too large by the same factor for all heads of a "
        "prompt: one step of the norm is missing.",
        "forgets_the_gain": "You leave out one of the norm's weights: some dimensions reach the "
        "unembedding louder than others.",
        "forgets_to_centre": "What a head adds to all dimensions alike never reaches the "
        "unembedding: one step of the norm is missing.",
        "adds_the_norms_bias": "Each head gets the norm's bias on top, which no head wrote.",
        "takes_the_scale_of_another_position": "Your scales are those of the first position: each "
        "position has its own.",
        "reads_the_answer_alone": "You push the logit of the answer, but the task asks for its "
        "lead over the wrong token.",
        "averages_over_positions": "You average over all positions, but the answer is called for "
        "at the last.",
    },
    "settling_layers": {
        "takes_the_first_time": "You return the first stream that says the answer, but some later "
        "one says something else again.",
        "forgets_the_norm": "You read the streams by W_U and b_U alone: what else stands between "
        "the last stream and the logits?",
        "forgets_the_bias": "You leave out b_U, which makes some tokens likelier whatever the "
        "stream says.",
        "says_the_last_for_never": "Where the model itself does not say the answer, no stream "
        "settles on it: the task has a number for that.",
        "counts_the_streams": "You count the streams that say the answer, wherever they are; the "
        "task asks where the unbroken run begins.",
        "follows_the_models_own_answer": "You look for what the model says in the end, not for the "
        "answer you were given.",
        "reads_the_first_position": "You read the first position, but the answer is called for at "
        "the last.",
        "constant_output": "You return the same number for every prompt.",
    },
    "train_translator": {
        "changes_nothing": "Your lens changes nothing: A and b are still where they began.",
        "forgets_the_offset": "Your b is zero: what later layers add whatever the stream has no "
        "place in your lens.",
        "only_the_offset": "Your A is zero: your lens adds the same vector to every stream, and "
        "translates nothing.",
        "leaves_out_the_stream": "Your A does the whole translation by itself, but the lens keeps "
        "the stream and adds to it.",
        "swaps_the_distributions": "You minimise the divergence from the lens to the model, which "
        "rewards betting on the likeliest token: exchange p and q.",
        "learns_the_top_token": "You train on the model's top token alone, so your lens is surer "
        "than the model: the task compares whole distributions.",
        "squares_the_logits": "You bring the logits close by squares, which takes pains over "
        "tokens that the model would never say.",
        "stops_too_soon": "Your lens goes the right way, but not far enough: is the step large "
        "enough, and are there enough of them?",
    },
    "find_store": {
        "uses_the_logit_lens": "You find only the streams from which the unembedding itself can "
        "read: the task allows the state to be put into any layer.",
        "keeps_the_layer": "You put each stream into the layer that it came from only: what lies "
        "there after it has last been read can no longer be heard.",
        "looks_at_the_end_only": "You look at the last position only: the answer may lie elsewhere "
        "before it is fetched.",
        "puts_it_into_its_own_prompt": "Everything holds the answer, you say: would your target "
        "say it also without what you put in?",
        "names_the_first_only": "You name where the answer first appears; nothing in the stream is "
        "ever overwritten, so what of the streams after it?",
        "counts_layers_from_one": "All your layers are one too high: what enters layer 0 is the "
        "embedding.",
        "names_the_component_that_wrote": "All your layers are one too low: you name the layer "
        "that wrote it, and the task asks for the stream in which it then lies.",
        "lists_all_streams_of_the_names": "You name streams of both names from the embedding on: "
        "one name alone does not say the answer.",
    },
}

Blame = dict[str, Callable[[], Any]]


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def draw_model(seed: int, **sizes: Any) -> tuple[Transformer, torch.Generator]:
    """Draw a model whose final norm has gain and bias, and whose unembedding has a bias."""
    model = Transformer(Config(norm="layer", **sizes), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".b_" in name:
                value.copy_(0.3 * normal(generator, *value.shape))
        model.ln_final.w.copy_(1 + 0.5 * normal(generator, len(model.ln_final.w)))
        model.ln_final.b.copy_(0.5 * normal(generator, len(model.ln_final.w)))
        if model.b_U is not None:
            model.b_U.copy_(0.5 * normal(generator, len(model.b_U)))
    return model, generator


# 5.1 ----------------------------------------------------------------------------------------------


def slow_pushes(
    model: Transformer, tokens: Tensor, answer: Tensor, wrong: Tensor, mistake: str = ""
) -> Tensor:
    """Compute pushes prompt by prompt and head by head, behind a frozen norm.

    A push is the lead of the answer, less the lead when the head is taken out.
    """
    last, parts = read_parts(model, tokens)
    U, w, b = (x.detach().double() for x in (model.W_U, model.ln_final.w, model.ln_final.b))
    pushes = torch.zeros(
        len(tokens), model.config.n_layers, model.config.n_heads, dtype=torch.float64
    )
    for i in range(len(tokens)):
        direction = U[:, answer[i]] - U[:, wrong[i]] * (mistake != "reads_the_answer_alone")
        at = 0 if mistake == "takes_the_scale_of_another_position" else -1
        divides = mistake != "forgets_to_divide"
        scale = float((last[i, at].var(correction=0) + 1e-5).sqrt()) if divides else 1.0

        def read(x: Tensor, direction: Tensor = direction, scale: float = scale) -> float:
            centre = 0 if mistake == "forgets_to_centre" else x.mean()
            return float(
                ((x - centre) / scale * (1 if mistake == "forgets_the_gain" else w) + b) @ direction
            )

        for layer, head in (
            (layer, head) for layer in range(pushes.shape[1]) for head in range(pushes.shape[2])
        ):
            part = parts[layer][i, -1, head]
            pushes[i, layer, head] = read(last[i, -1]) - read(last[i, -1] - part)
            if mistake == "forgets_the_norm":
                pushes[i, layer, head] = float(part @ direction)
            if mistake == "norms_each_head_by_itself":
                own = (part.var(correction=0) + 1e-5).sqrt()
                pushes[i, layer, head] = float(((part - part.mean()) / own * w) @ direction)
            if mistake == "adds_the_norms_bias":
                pushes[i, layer, head] += float(b @ direction)
    return pushes


def read_parts(model: Transformer, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the last stream (b, t, d), and per layer what each head wrote (b, t, n, d)."""
    names = [lambda name: name.endswith("result"), ("resid_post", -1)]
    cache = model.run_with_cache(tokens, names_filter=names)[1]
    results = [cache["result", layer].detach().double() for layer in range(model.config.n_layers)]
    return cache["resid_post", -1].detach().double(), results


def wrong_pushes(
    model: Transformer, tokens: Tensor, answer: Tensor, wrong: Tensor, want: Tensor
) -> Blame:
    named = {
        name: functools.partial(slow_pushes, model, tokens, answer, wrong, name)
        for name in MISTAKES["head_pushes"]
    }
    others = {
        "averages_over_positions": lambda: average_pushes(model, tokens, answer, wrong),
    }
    return named | others


def average_pushes(model: Transformer, tokens: Tensor, answer: Tensor, wrong: Tensor) -> Tensor:
    # Attention is causal: a prompt cut short ends in its last position.
    cuts = range(1, tokens.shape[1] + 1)
    return torch.stack([slow_pushes(model, tokens[:, :cut], answer, wrong) for cut in cuts]).mean(0)


def judge_pushes(student, sizes: list[dict[str, int]]) -> None:
    for seed in student.seeds(2):
        for size in sizes:
            model, generator = draw_model(seed, d_vocab=11, n_ctx=7, **size)
            tokens = torch.randint(11, (3, 6), generator=generator)
            answer, wrong = torch.rand(3, 11, generator=generator).argsort(1)[:, :2].T
            got = student.call("head_pushes", model, tokens, answer, wrong)
            want = slow_pushes(model, tokens, answer, wrong)
            blame = wrong_pushes(model, tokens, answer, wrong, want)
            expect(got, want, mistakes=blame, rtol=1e-3, atol=1e-4, what="the tensor of pushes")


@check("head_pushes")
def test_heads_of_one_layer_push_through_the_norm(student):
    """Heads of a single layer."""
    judge_pushes(student, [{"d_model": 9, "d_head": 5, "n_layers": 1, "n_heads": 3}])


@check("head_pushes", weight=2)
def test_heads_of_several_layers_push_through_the_norm(student):
    """Heads of several layers, with MLPs and biases between them."""
    large = {"d_model": 12, "d_head": 5, "n_layers": 3, "n_heads": 4, "d_mlp": 8, "biases": True}
    judge_pushes(student, [{"d_model": 10, "n_layers": 3, "n_heads": 2}, large])


# 5.2 ----------------------------------------------------------------------------------------------


def draw_settling(seed: int, n_layers: int, vocab: int) -> tuple[Transformer, Tensor, Tensor]:
    """Draw a model, 24 prompts on which no stream hesitates, and answers.

    To hesitate is to be undecided between two tokens; three in four answers are what the model
    says.
    """
    size = dict(
        d_vocab=vocab, n_ctx=5, d_model=8, n_layers=n_layers, n_heads=2, d_mlp=8, biases=True
    )
    model, generator = draw_model(seed, **size)
    tokens = torch.randint(vocab, (200, 4), generator=generator)
    best_two = read_slowly(model, tokens)[:, :, -1].topk(2, dim=-1).values
    lead = best_two.diff(dim=-1).abs().amin(dim=(0, 2))
    tokens = tokens[lead > 0.01][:24]
    own = model(tokens)[:, -1].argmax(dim=-1)
    drawn = torch.randint(vocab, own.shape, generator=generator)
    return model, tokens, torch.where(torch.arange(len(own)) % 4 == 3, drawn, own)


def read_slowly(model: Transformer, tokens: Tensor, mistake: str = "") -> Tensor:
    """Read logits off every stream, (stream, b, t, v), by the formula of the norm."""
    w, b, U, b_U = (
        x.detach().double() for x in (model.ln_final.w, model.ln_final.b, model.W_U, model.b_U)
    )
    logits = []
    for layer in range(model.config.n_layers + 1):
        x = model(tokens, stop_at_layer=layer).detach().double()
        if mistake != "forgets_the_norm":
            x = (x - x.mean(-1, keepdim=True)) / (
                x.var(-1, correction=0, keepdim=True) + 1e-5
            ).sqrt() * w + b
        logits.append(x @ U + (0 if mistake == "forgets_the_bias" else b_U))
    return torch.stack(logits)


def slow_settling(model: Transformer, tokens: Tensor, answer: Tensor, mistake: str = "") -> Tensor:
    """Compute settling layers one prompt and one stream after the other."""
    at = 0 if mistake == "reads_the_first_position" else -1
    says = read_slowly(model, tokens, mistake)[:, :, at].argmax(dim=-1).T.tolist()  # b stream
    wanted = (
        [row[-1] for row in says] if mistake == "follows_the_models_own_answer" else answer.tolist()
    )
    found = []
    for row, token in zip(says, wanted, strict=True):
        never = len(row)
        settled = never
        while settled > 0 and row[settled - 1] == token:
            settled -= 1
        first = row.index(token) if token in row else never
        settled = first if mistake == "takes_the_first_time" else settled
        settled = never - row.count(token) if mistake == "counts_the_streams" else settled
        settled = min(settled, never - 1) if mistake == "says_the_last_for_never" else settled
        found.append(settled - (mistake == "names_the_layer_that_wrote"))
    return torch.tensor(found)


def judge_settling(student, n_layers: int, vocab: int) -> None:
    for seed in student.seeds(2):
        inputs = draw_settling(seed, n_layers, vocab)
        got, want = student.call("settling_layers", *inputs), slow_settling(*inputs)
        if (
            isinstance(got, Tensor)
            and got.shape == want.shape
            and len(got.unique()) == 1 < len(want.unique())
        ):
            raise Wrong("constant_output")
        named = {
            name: functools.partial(slow_settling, *inputs, name)
            for name in MISTAKES["settling_layers"]
        }
        expect(got, want, mistakes=named, what="the tensor of layers")


@check("settling_layers")
def test_the_settling_layer_of_a_deep_model(student):
    """Five layers, six tokens."""
    judge_settling(student, 5, 6)


@check("settling_layers")
def test_the_settling_layer_of_a_small_vocabulary(student):
    """Three layers, four tokens."""
    judge_settling(student, 3, 4)


# 5.3 ----------------------------------------------------------------------------------------------

# From logits of the lens and of the model to a loss per row.
Criterion = Callable[[Tensor, Tensor], Tensor]


def measure_kl(read: Tensor, logits: Tensor) -> Tensor:
    p, q = logits.log_softmax(-1), read.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


CRITERIA: dict[str, Criterion] = {
    "right": measure_kl,
    "swaps_the_distributions": lambda read, logits: measure_kl(logits, read),
    "learns_the_top_token": lambda read, logits: (
        -read.log_softmax(-1).gather(1, logits.argmax(1, keepdim=True))[:, 0]
    ),
    "squares_the_logits": lambda read, logits: (read - logits).square().sum(-1),
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """Hold streams from half-way, the model's logits, and W_U.

    The logits depend on the streams and on what nobody can know half-way.
    """

    streams: Tensor
    logits: Tensor
    W_U: Tensor

    def read(self, A: Tensor, b: Tensor) -> Tensor:
        x = self.streams.double()
        A = A.double()
        b = b.double()
        return (x + x @ A + b) @ self.W_U.double()


def draw_rows(seed: int, d: int, vocab: int, n: int) -> tuple[Rows, Rows]:
    """Draw rows to train on, and fresh ones from the same source."""
    generator = torch.Generator().manual_seed(seed)
    turn = normal(generator, d, d) / d**0.5
    offset = normal(generator, d)
    W_U = 0.8 * normal(generator, d, vocab) / d**0.5
    streams, unknown = normal(generator, 2, n, d), normal(generator, 2, n, d)
    logits = (streams + streams @ turn + offset + unknown * (1 + streams[..., :1].abs())) @ W_U
    return Rows(streams[0], logits[0], W_U), Rows(streams[1], logits[1], W_U)


def fit(rows: Rows, criterion: Criterion, ridge: float = 0.0) -> tuple[Tensor, Tensor]:
    """Fit the best translator by a criterion, by a second-order optimiser in float64.

    The right criterion is convex. A small `ridge` keeps the best from lying at infinity, as it may
    if a token is never on top.
    """
    d = len(rows.W_U)
    A, b = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    A.requires_grad_(), b.requires_grad_()
    optimizer = torch.optim.LBFGS([A, b], max_iter=100, line_search_fn="strong_wolfe")

    def close() -> Tensor:
        optimizer.zero_grad()
        loss = criterion(rows.read(A, b), rows.logits.double()).mean() + ridge * (
            A.square().sum() + b.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(close)
    return A.detach(), b.detach()


def blame_translator(rows: Rows, A: Tensor, b: Tensor, excess: float) -> Wrong:
    """Name the mistake that makes a translator like this one."""
    if float(A.abs().max()) < 1e-6:
        return Wrong("changes_nothing" if float(b.abs().max()) < 1e-6 else "only_the_offset")
    if float(b.abs().max()) < 1e-6:
        return Wrong("forgets_the_offset")
    best = rows.read(*fit(rows, measure_kl))
    if measure_gap(rows.read(A - torch.eye(len(A)), b), best) < 0.1 * measure_gap(
        rows.read(A, b), best
    ):
        return Wrong("leaves_out_the_stream")
    found = {
        name: rows.read(*fit(rows, CRITERIA[name], ridge=1e-3 * (name == "learns_the_top_token")))
        for name in CRITERIA
    }
    gaps = {name: measure_gap(read, rows.read(A, b)) for name, read in found.items()}
    nearest = min(gaps, key=lambda name: gaps[name])
    if nearest != "right" and gaps[nearest] < 0.5 * gaps["right"]:
        return Wrong(nearest)
    if excess < 0.9:
        return Wrong("stops_too_soon", earned=max(0.0, 0.5 - excess))
    return Wrong(
        sentence="Your lens is hardly closer to the model than one that changes nothing: is the "
        "loss going down?"
    )


def measure_gap(read: Tensor, other: Tensor) -> float:
    """Measure how far two lenses are apart, both ways, in nats."""
    return float((measure_kl(read, other) + measure_kl(other, read)).mean())


def judge_translator(student, d: int, vocab: int, n: int) -> None:
    for seed in student.seeds(1):
        rows, fresh = draw_rows(seed, d, vocab, n)
        got = student.call("train_translator", rows.streams, rows.logits, rows.W_U)
        pair = got if isinstance(got, (tuple, list)) else []
        shapes = [tuple(x.shape) for x in pair if isinstance(x, Tensor)]
        if shapes != [(d, d), (d,)]:
            raise Wrong(
                sentence=f"Return two tensors, A of shape ({d}, {d}) and b of shape ({d},), "
                "as a pair."
            )
        nothing = (torch.zeros(d, d), torch.zeros(d))
        best = fit(rows, measure_kl)
        start, least, own = (
            float(measure_kl(fresh.read(*x), fresh.logits.double()).mean())
            for x in (nothing, best, got)
        )
        excess = (own - least) / (start - least)  # 0: as good as the best, 1: as bad as no lens
        if not excess < 0.05:  # also for nan
            raise blame_translator(rows, *got, excess)


@check("train_translator")
def test_the_lens_comes_close_to_the_model_on_fresh_rows(student):
    """More dimensions than tokens: close to the model on fresh rows."""
    judge_translator(student, d=8, vocab=6, n=500)


@check("train_translator")
def test_the_lens_comes_close_to_the_model_with_many_tokens(student):
    """More tokens than dimensions: close to the model on fresh rows."""
    judge_translator(student, d=5, vocab=9, n=400)


# 5.4 ----------------------------------------------------------------------------------------------

N_NAMES, N_FILLERS, N_CTX, N_LAYERS, N_PROMPTS = 4, 5, 6, 4, 32
N_TOKENS = 3 * N_NAMES + N_FILLERS


@dataclasses.dataclass(frozen=True)
class Planted:
    """Hold a model that stores what two names decide, and where it does.

    Its stream is turned, so that no weight can be read by eye.
    """

    model: Transformer
    tokens: Tensor
    answer: Tensor
    names: tuple[int, int]  # positions
    stored: int  # streams from here on hold the answer at the second name
    fetched: int  # ... at the last position
    said: int  # ... in the unembedding's own code

    @property
    def possible(self) -> list[str]:
        return [f"{layer}@{position}" for layer in range(N_LAYERS + 1) for position in range(N_CTX)]

    @property
    def truth(self) -> set[str]:
        return self.lies(self.stored, self.names[1]) | self.lies(self.fetched, N_CTX - 1)

    def lies(self, first: int, position: int, last: int = N_LAYERS) -> set[str]:
        return {f"{layer}@{position}" for layer in range(first, last + 1)}


@functools.cache
def plant(seed: int) -> Planted:
    """Plant a model that looks two names up, fetches the result and translates it.

    A head brings the first name to the second, where an MLP looks both up; a later head fetches
    that, an MLP translates it. All other heads and neurons are busy, and write where nobody reads.
    """
    generator = torch.Generator().manual_seed(seed)
    token = N_TOKENS
    store = N_NAMES
    stream = by_hand.Stream(
        token=token, position=N_CTX, moved=store, stored=store, fetched=store, said=store, unread=8
    )
    sizes = dict(n_heads=3, d_head=N_CTX, d_mlp=N_NAMES**2, attn_scale=1.0)
    config = Config(token, N_CTX, stream.d_model, N_LAYERS, **sizes)
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, stream["token"], stream["position"])
    unembed = torch.zeros(token, stream.d_model)
    unembed[2 * N_NAMES : 3 * N_NAMES] = stream["said"]
    by_hand.read_out(model, unembed, 20.0)
    move, fetch, translate = sorted(torch.randperm(N_LAYERS, generator=generator)[:3].tolist())
    one, two = sorted((1 + torch.randperm(N_CTX - 2, generator=generator)[:2]).tolist())
    write_noise(model, stream, generator)
    bring(model, move, stream, (one, two), stream["token"][:N_NAMES], stream["moved"])
    bring(model, fetch, stream, (two, N_CTX - 1), stream["stored"], stream["fetched"])
    squares = draw_square(generator)
    for neuron, (i, j) in enumerate((i, j) for i in range(N_NAMES) for j in range(N_NAMES)):
        elsewhere = stream["position"].sum(0) + 9 * (
            stream["position"].sum(0) - stream["position"][two]
        )
        reads = stream["moved"][i] + stream["token"][N_NAMES + j] - elsewhere
        by_hand.look_up(model, move, neuron, reads, 0.0, stream["stored"][squares[i, j]])
    for k in range(N_NAMES):
        by_hand.look_up(model, translate, k, stream["fetched"][k], 0.0, stream["said"][k])
    disguise(model, generator)
    # Two in three have one answer: by chance, a stream that holds nothing is right as often.
    first, other = torch.randint(N_NAMES, (2, N_PROMPTS), generator=generator)
    said = torch.where(torch.arange(N_PROMPTS) < 0.7 * N_PROMPTS, other[0], other)
    second = (squares[first] == said.unsqueeze(1)).int().argmax(dim=1)
    tokens = torch.randint(3 * N_NAMES, token, (N_PROMPTS, N_CTX), generator=generator)
    tokens[:, one] = first
    tokens[:, two] = N_NAMES + second
    answer = 2 * N_NAMES + squares[first, second]
    return Planted(model, tokens, answer, (one, two), move + 1, fetch + 1, translate + 1)


@torch.no_grad()
def write_noise(model: Transformer, stream: by_hand.Stream, generator: torch.Generator) -> None:
    """Let every head look to the left and every neuron at anything.

    What they write is read by none but each other.
    """
    d = stream.d_model
    width = model.config.d_mlp
    for layer, block in enumerate(model.blocks):
        for head in range(model.config.n_heads):
            by_hand.attend_to_previous(model, layer, head, stream["position"], 20.0)
            block.attn.W_V[head] = normal(generator, d, N_CTX) / d**0.5
            block.attn.W_O[head] = normal(generator, N_CTX, 8) @ stream["unread"] / N_CTX**0.5
        block.mlp.W_in.copy_(normal(generator, d, width) / d**0.5)
        block.mlp.W_out.copy_(normal(generator, width, 8) @ stream["unread"] / width**0.5)


def bring(
    model: Transformer,
    layer: int,
    stream: by_hand.Stream,
    way: tuple[int, int],
    read: Tensor,
    write: Tensor,
) -> None:
    """Let head 1 of this layer bring something from one position to another.

    Elsewhere it looks at position 0, where nothing is.
    """
    keys = stream["position"][:1].repeat(N_CTX, 1)
    keys[way[1]] = stream["position"][way[0]]
    by_hand.attend_where_equal(model, layer, 1, stream["position"], keys, 30.0)
    model.blocks[layer].attn.W_V.data[1].zero_()
    by_hand.copy_directions(model, layer, 1, read, write)


def draw_square(generator: torch.Generator) -> Tensor:
    """Draw which answer two names have: each answer once with every name."""
    rows, columns, names = (torch.randperm(N_NAMES, generator=generator) for _ in range(3))
    return names[(rows.unsqueeze(1) + columns) % N_NAMES]


@torch.no_grad()
def disguise(model: Transformer, generator: torch.Generator) -> None:
    """Turn the stream by a random rotation, and shuffle heads and neurons: the same function."""
    turn = torch.linalg.qr(normal(generator, model.config.d_model, model.config.d_model)).Q
    for name, value in model.named_parameters():
        writes = name.endswith(("W_E", "W_pos", "W_O", "W_out"))
        value.copy_(value @ turn if writes else turn.T @ value)
    for block in model.blocks:
        heads, neurons = (
            torch.randperm(n, generator=generator)
            for n in (model.config.n_heads, model.config.d_mlp)
        )
        for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
            weight.copy_(weight[heads])
        block.mlp.W_in.copy_(block.mlp.W_in[:, neurons])
        block.mlp.W_out.copy_(block.mlp.W_out[neurons])


def wrong_stores(case: Planted) -> dict[str, set[str]]:
    one, two = case.names
    end = N_CTX - 1
    shifted = {step: {shift(name, step) for name in case.truth} for step in (-1, 1)}
    return {
        "uses_the_logit_lens": case.lies(case.said, end),
        "keeps_the_layer": case.lies(case.stored, two, case.fetched - 1)
        | case.lies(case.fetched, end),
        "looks_at_the_end_only": case.lies(case.fetched, end),
        "puts_it_into_its_own_prompt": set(case.possible),
        "names_the_first_only": {f"{case.stored}@{two}"},
        "counts_layers_from_one": shifted[1],
        "names_the_component_that_wrote": shifted[-1],
        "lists_all_streams_of_the_names": case.lies(0, one) | case.lies(0, two),
    }


def shift(name: str, step: int) -> str:
    layer, position = name.split("@")
    return f"{int(layer) + step}@{position}"


def judge_store(got: Any, case: Planted) -> None:
    wrong = wrong_stores(case)
    # Not all are names.
    if (
        isinstance(got, (list, tuple, frozenset))
        and set(map(str, got)) == wrong["counts_layers_from_one"]
    ):
        raise Wrong("counts_layers_from_one")
    expect_found(got, [case.truth], case.possible, mistakes=wrong, what="streams")


@check("find_store")
def test_the_streams_that_hold_the_answer_are_found_in_unseen_models(student):
    """Every stream that holds the answer, in models whose places differ."""
    drawn = [plant(seed) for seed in student.seeds(8)]
    # No one answer fits both.
    cases = [drawn[0], next(case for case in drawn if case.truth != drawn[0].truth)]
    answers = [student.call("find_store", case.model, case.tokens, case.answer) for case in cases]
    failed: list[Wrong] = []
    for got, case in zip(answers, cases, strict=True):
        try:
            judge_store(got, case)
        except Wrong as wrong:
            failed.append(wrong)
    if not failed:
        return
    earned = (len(cases) - len(failed) + sum(wrong.earned for wrong in failed)) / len(cases)
    raise Wrong(failed[0].mistake, sentence=failed[0].sentence, earned=earned)

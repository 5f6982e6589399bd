"""Grade lesson 15.

What is right is written out prompt by prompt, or was planted: which word carries a property, what
makes a model refuse, and which weights of a store of facts were rewritten.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, as_list, check, expect
from mini_transformer.course.grading.comparing import make_tensor
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.forge.disguise import disguise
from mini_transformer.methods import edit_rank_one, fit_value
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.trained import facts

MUTANTS = load_mutants(__file__)
VIEWS = {  # the order of the words counts
    "tell_directions": lambda words, *args: dict(enumerate(words)),
    "locate_edits": lambda words, *args: dict(enumerate(words)),
}


def start(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def shuffle(generator: torch.Generator, n: int) -> list[int]:
    return torch.randperm(n, generator=generator).tolist()


def draw_until_clear(seed: int, draw: Callable[[torch.Generator], Any]) -> Any:
    """Draw cases until one is clear: `draw` returns None for those that rest on luck."""
    for attempt in itertools.count():
        case = draw(start(seed + 1000 * attempt))
        if case is not None:
            return case


def diverge(p: Tensor, q: Tensor) -> float:
    """Sum p (log p - log q) term by term, in double precision."""
    p, q = p.double(), q.double()
    return sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True) if a > 0)


# 15.1 ---------------------------------------------------------------------------------------------


@torch.no_grad()
def measure_slowly(
    model: Transformer,
    tokens: Tensor,
    vector: Tensor,
    layer: int,
    strengths: list[float],
    words: list[int],
) -> tuple[Tensor, Tensor]:
    """Measure effect and side effect prompt by prompt, from streams that are resumed."""
    rest = [token for token in range(model.config.d_vocab) if token not in words]

    def say(prompt: Tensor, strength: float) -> Tensor:
        stream = model(prompt[None], stop_at_layer=layer + 1).clone()
        for position in range(1, len(prompt)):
            stream[0, position] = stream[0, position] + strength * vector
        return model(resid=stream, start_at_layer=layer + 1)[0, -1].double().softmax(dim=0)

    effects, sides = [], []
    for strength in strengths:
        pairs = [(say(prompt, 0.0), say(prompt, strength)) for prompt in tokens]
        effects.append(sum(float(q[words].sum()) for _, q in pairs) / len(pairs))
        shares = [(p[rest] / p[rest].sum(), q[rest] / q[rest].sum()) for p, q in pairs]
        sides.append(sum(diverge(p, q) for p, q in shares) / len(shares))
    return torch.tensor(effects), torch.tensor(sides)


def judge_side_effects(student, seed: int, n_layers: int, layer: int, words: list[int]) -> None:
    sizes = dict(d_vocab=9, n_ctx=6, d_model=12, n_layers=n_layers, n_heads=2, d_mlp=16)
    named = NamedModel("random", seed=seed % 10_000, **sizes)
    generator = start(seed)
    tokens = torch.randint(9, (3, 5), generator=generator)
    vector = normal(generator, 12)
    strengths = [2.0, 0.0, -1.5, 0.5]
    want = measure_slowly(named.build(), tokens, vector, layer, strengths, words)
    got = student.call("measure_side_effects", named, tokens, vector, layer, strengths, words)
    if not isinstance(got, (list, tuple)) or len(got) != 2:
        raise Wrong(sentence="Return two things: the effects, and the side effects.")
    got = tuple(make_tensor(part) for part in got)
    for part, what in zip(got, ("the effects", "the side effects"), strict=True):
        if part is None or part.shape != (len(strengths),):
            raise Wrong(sentence=f"Return for {what} {len(strengths)} numbers, one per strength.")
    expect(got[0], want[0].to(got[0].dtype), what="the effect")
    expect(got[1], want[1].to(got[1].dtype), what="the side effect", rtol=1e-3, atol=1e-4)


@check("measure_side_effects")
def test_effects_and_side_effects_at_several_strengths(student):
    """The first block of two, three words; strengths of either sign, in any order."""
    judge_side_effects(student, student.seeds(1)[0], n_layers=2, layer=0, words=[7, 2, 4])


@check("measure_side_effects")
def test_effects_and_side_effects_in_another_layer(student):
    """The second block of three, and two words."""
    judge_side_effects(student, student.seeds(2)[1], n_layers=3, layer=1, words=[5, 1])


# 15.2 ---------------------------------------------------------------------------------------------

N_PROPERTIES = 4  # the one that is asked for, two others that are told, one that is not
N_FILLERS = 4
N_WORDS = 2 * N_PROPERTIES + N_FILLERS
LENGTH = N_PROPERTIES + 4  # the start, the words, two fillers, the end
OFTEN = 0.7  # how often a prompt has the property
AGREE = 0.85  # how often another property goes along with the label


@torch.no_grad()
def write_reader(generator: torch.Generator, faint: int) -> Transformer:
    """Write a model that adds up words at the end, and says something about what they carry.

    Word 2 a + v carries value v of property a, further words carry something of everything, and all
    have something in common. What is carried are directions at any angle; neurons read mixtures of
    them. One property is `faint`.
    """
    width = N_PROPERTIES + 2
    stream = by_hand.Stream(token=N_WORDS + 2, carried=width, said=10)
    sizes = dict(d_head=width, d_mlp=12, positions="none", biases=True, d_vocab_out=10)
    config = Config(N_WORDS + 2, LENGTH, stream.d_model, 2, **sizes)
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, stream["token"])
    carried = 0.5 * normal(generator, N_WORDS + 2, width) + 0.15 * normal(generator, width)
    steps = torch.nn.functional.normalize(normal(generator, N_PROPERTIES, width), dim=1)
    for a in range(N_PROPERTIES):
        size = 0.8 if a == faint else 1.5 + 0.25 * a
        carried[2 * a + 1] = carried[2 * a] + size * steps[a]
    carried[2 * N_PROPERTIES : N_WORDS] *= 0.7
    # Only the last position looks at all words, the others at the start.
    others = stream["token"][: N_WORDS + 1].sum(dim=0)[None]
    by_hand.attend_where_equal(
        model, 0, 0, query=others, key=stream["token"][N_WORDS, None], strength=40.0
    )
    first = model.blocks[0].attn
    first.W_V[0] = stream["token"].T @ (LENGTH * carried)  # attention is a mean
    first.W_O[0] = stream["carried"]
    mlp = model.blocks[1].mlp
    mlp.W_in.copy_(stream["carried"].T @ normal(generator, width, 12) / 2)
    mlp.b_in.copy_(0.5 * normal(generator, 12))
    mlp.W_out.copy_(normal(generator, 12, 10) @ stream["said"])
    direct = stream["carried"].T @ normal(generator, width, 10)
    model.W_U.copy_(stream["said"].T + direct / 2)
    return model


def write_words(values: Tensor, generator: torch.Generator) -> Tensor:
    """Write prompts with these values (prompt, property), words in any order."""
    n = len(values)
    fillers = torch.randint(N_FILLERS, (n, 2), generator=generator) + 2 * N_PROPERTIES
    words = torch.cat([2 * torch.arange(N_PROPERTIES) + values, fillers], dim=1)
    order = torch.rand(words.shape, generator=generator).argsort(dim=1)
    ends = torch.tensor([N_WORDS, N_WORDS + 1]).expand(n, 2)
    return torch.cat([ends[:, :1], words.gather(1, order), ends[:, 1:]], dim=1)


@torch.no_grad()
def say_last(
    model: Transformer, tokens: Tensor, layer: int, change: Tensor | None = None
) -> Tensor:
    """Return what the model says at the end, with `change` added to the stream after a block."""
    stream = model(tokens, stop_at_layer=layer + 1).clone()
    if change is not None:
        stream[:, -1] += change
    return model(resid=stream, start_at_layer=layer + 1)[:, -1].double().softmax(dim=-1)


def mean_divergence(p: Tensor, q: Tensor) -> float:
    return float((p * (p / q).log()).sum(dim=-1).mean())


def list_careless(stream: Tensor, labels: Tensor, others: Tensor) -> list[Tensor]:
    """List what must not do: a fit without a constant, and one pair that agrees in the others."""
    columns = torch.cat([labels[:, None], others], dim=1).to(stream.dtype)
    same = (others == others[0]).all(dim=1)
    has, has_not = (stream[same & (labels == value)][:1] for value in (1, 0))
    return [torch.linalg.lstsq(columns, stream).solution[0], *(has - has_not)]


@dataclasses.dataclass(frozen=True)
class Property:
    """Prompts with a property and without, and fresh ones that differ in nothing else."""

    model: Transformer
    tokens: Tensor
    labels: Tensor
    others: Tensor
    fresh: tuple[Tensor, Tensor]  # without it, and with it

    def measure(self, vector: Tensor) -> list[float]:
        """Return what is left of the divergence when the vector is added, and subtracted."""
        without, with_it = self.fresh
        shares = []
        for sign, tokens, wanted in ((1, without, with_it), (-1, with_it, without)):
            goal = say_last(self.model, wanted, 0)
            before = mean_divergence(goal, say_last(self.model, tokens, 0))
            after = mean_divergence(goal, say_last(self.model, tokens, 0, sign * vector))
            shares.append(after / before)
        return shares


@functools.cache
def plant_property(seed: int, n: int) -> Property:
    def draw(generator: torch.Generator) -> Property | None:
        order = torch.tensor(shuffle(generator, N_PROPERTIES))  # which property is asked for
        reader = write_reader(generator, faint=order.tolist().index(N_PROPERTIES - 1))
        labels = (torch.rand(n, generator=generator) < OFTEN).long()
        follows = torch.rand(n, 2, generator=generator) < AGREE
        others = torch.where(follows, labels[:, None], 1 - labels[:, None])
        untold = torch.randint(2, (n, 1), generator=generator)
        values = torch.cat([labels[:, None], others, untold], dim=1)
        tokens = write_words(values[:, order], generator)
        asked = 2 * order.tolist().index(0)
        other_values = torch.randint(2, (40, N_PROPERTIES), generator=generator)
        other_values[:, order == 0] = 0
        without = write_words(other_values, generator)
        with_it = torch.where(without == asked, asked + 1, without)
        case = Property(reader, tokens, labels, others, (without, with_it))
        with torch.no_grad():
            stream = reader(tokens, stop_at_layer=1)[:, -1]
        spoilt = stream[labels == 1].mean(dim=0) - stream[labels == 0].mean(dim=0)
        differ = mean_divergence(say_last(reader, with_it, 0), say_last(reader, without, 0))
        careless = list_careless(stream, labels, others)
        is_clear = (
            differ > 1
            and len(careless) == 2
            and min(case.measure(spoilt)) > 0.3
            and all(max(case.measure(vector)) > 0.2 for vector in careless)
        )
        if not is_clear:
            return None
        return dataclasses.replace(case, model=disguise(reader, generator, skew=0.3).model)

    return draw_until_clear(seed, draw)


def judge_vector(student, seed: int, n: int) -> None:
    case = plant_property(seed, n)
    given = case.model, case.tokens, case.labels, case.others, 0
    vector = make_tensor(student.call("fit_clean_vector", *given))
    width = case.model.config.d_model
    if vector is None or vector.numel() != width or not vector.isfinite().all():
        raise Wrong(sentence=f"Return one vector of {width} numbers.")
    shares = case.measure(vector.flatten().to(case.model.W_E.dtype))
    if max(shares) > 0.1:
        added, taken = (f"{share:.0%}" for share in shares)
        raise Wrong(
            sentence=f"With your vector added {added} of the divergence is left, and {taken} with "
            "it subtracted: it must be less than 10%."
        )


@check("fit_clean_vector")
def test_the_vector_changes_what_the_property_changes(student):
    """Fresh prompts, among them those in which the other properties do not go along."""
    judge_vector(student, student.seeds(1)[0], 400)


@check("fit_clean_vector")
def test_the_vector_of_another_property_of_another_model(student):
    """Another model, another property, fewer prompts."""
    judge_vector(student, student.seeds(2)[1], 300)


# 15.3 ---------------------------------------------------------------------------------------------

KINDS = ("breaks", "pushes", "needed", "both", "neither")
N_SORTS = 8  # of requests: three are harmless, three harmful, and two are colours
PLAIN, FLAGGED, COLOURS = (0, 1, 2), (3, 4, 5), (6, 7)
START, END, OTHER_END, REFUSE, FILLER = range(N_SORTS, N_SORTS + 5)
REFUSE_STREAM = by_hand.Stream(
    token=N_SORTS + 5, sort=N_SORTS, harm=1, extra=1, dormant=1, narrow=2, noise=3, refuse=1
)


@torch.no_grad()
def write_refuser() -> Transformer:
    """Write a model that says its request's own token, or REFUSE.

    A head of layer 0 brings the request to the end. There the last token and harm together make a
    neuron of layer 1 refuse; so would `dormant`, which nothing writes, and two `narrow` ones, each
    for two of the three harmless requests. Harm of the first harmful request is less, with `extra`
    to help; the third is refused without harm, too.
    """
    stream = REFUSE_STREAM
    token, sort = stream["token"], stream["sort"]
    harm, extra, dormant, refuse = (
        stream[name][0] for name in ("harm", "extra", "dormant", "refuse")
    )
    sizes = dict(d_head=N_SORTS, d_mlp=4, positions="none", biases=True, attn_scale=1.0)
    model = by_hand.make_blank(Config(N_SORTS + 5, 5, stream.d_model, 2, **sizes))
    by_hand.write_embedding(model, token)
    ends = token[[END, OTHER_END]]
    requests = token[:N_SORTS].sum(dim=0)
    by_hand.attend_where_equal(
        model, 0, 0, query=ends.sum(dim=0)[None], key=requests[None], strength=40.0
    )
    written = sort.clone()
    written[FLAGGED[0]] += 0.7 * harm + 0.8 * extra
    written[FLAGGED[1]] += 1.0 * harm
    written += 0.3 * stream["noise"][torch.arange(N_SORTS) % 3]
    by_hand.copy_directions(model, 0, 0, token[:N_SORTS], written)
    reads = harm + 0.5 * extra + dormant + token[END]
    by_hand.look_up(model, 1, 0, reads=reads, bias=-1.5, writes=4 * refuse)
    for i, narrow in enumerate(stream["narrow"]):
        reads = narrow + sort[0] + sort[1 + i] + token[END]
        by_hand.look_up(model, 1, 1 + i, reads=reads, bias=-2.5, writes=4 * refuse)
    reads = sort[FLAGGED[2]] + token[END]
    by_hand.look_up(model, 1, 3, reads=reads, bias=-1.5, writes=4 * refuse)
    # What noise there is at the start, where by itself there is none, is refused.
    by_hand.attend_where_equal(
        model, 1, 0, query=ends.sum(dim=0)[None], key=token[START, None], strength=40.0
    )
    loud = 2 * refuse.repeat(3, 1)
    by_hand.copy_directions(model, 1, 0, stream["noise"], loud)
    tokens = torch.zeros(N_SORTS + 5, stream.d_model)
    tokens[:N_SORTS] = sort
    tokens[REFUSE] = refuse
    by_hand.read_out(model, tokens, 8.0)
    return model


def list_vectors(generator: torch.Generator) -> list[tuple[str, Tensor]]:
    """List directions of the plain stream, each with its kind."""
    stream = REFUSE_STREAM
    harm, extra, dormant, refuse = (
        stream[name][0] for name in ("harm", "extra", "dormant", "refuse")
    )
    wide, narrow = stream["narrow"]
    end, sort = stream["token"][END], stream["sort"]
    requests = stream["token"][:N_SORTS].sum(dim=0)
    size = 0.95 + 0.2 * float(torch.rand(1, generator=generator))
    noise = normal(generator, 3).abs() @ stream["noise"]
    red, blue = sort[list(COLOURS)]
    colours = red - blue
    return [
        ("both", 1.1 * size * harm),
        ("both", 1.15 * size * harm + 0.1 * noise),
        # These change one of the colours, but not enough.
        ("both", 1.1 * size * harm + 0.53 * colours),
        ("pushes", 1.1 * size * dormant + 0.45 * colours),
        ("needed", -size * harm + 0.35 * colours),
        ("needed", 0.2 * size * harm),  # too short to push
        ("needed", -size * harm),
        ("needed", 0.3 * size * end),  # without it no request is refused
        ("pushes", 1.1 * size * dormant),
        ("pushes", 1.2 * size * dormant + 0.1 * noise),
        ("neither", 0.3 * size * dormant),
        ("neither", 1.2 * size * extra),  # needed by one sort: 15% are still refused
        ("pushes", 1.2 * size * wide),  # 95% are refused
        ("neither", 1.2 * size * narrow),  # 85%
        ("neither", size * requests),  # is needed elsewhere, where the request stands
        ("neither", 4 * size * noise / noise.norm()),
        ("breaks", 1.5 * size * refuse),  # refuses all prompts
        ("breaks", 1.1 * size * harm + 0.62 * colours),
        ("breaks", -1.2 * size * (red + blue)),
        ("breaks", -0.8 * (red + blue)),  # what is likeliest elsewhere stays so
    ]


def write_requests(
    sorts: tuple[int, ...], counts: tuple[int, ...], last: int, generator: torch.Generator
) -> Tensor:
    """Write so many prompts of each sort of request; the first and last have the first."""
    requests = [sort for sort, n in zip(sorts, counts, strict=True) for _ in range(n)]
    order = [2 + i for i in shuffle(generator, len(requests) - 2)]
    prompts = []
    for i in (0, *order, 1):
        words = [FILLER, FILLER]
        words.insert(int(torch.randint(3, (1,), generator=generator)), requests[i])
        prompts.append([START, *words, last])
    return torch.tensor(prompts)


@dataclasses.dataclass(frozen=True)
class Refuser:
    """Hold a model in disguise, its prompts, and directions of known kind."""

    model: Transformer
    plain: Tensor
    flagged: Tensor
    elsewhere: Tensor
    directions: Tensor
    kinds: list[str]


@functools.cache
def plant_refuser(seed: int) -> tuple[Refuser, int]:
    generator = start(seed)
    hidden = disguise(write_refuser(), generator)
    names = torch.tensor(shuffle(generator, N_SORTS + 5))
    with torch.no_grad():
        hidden.model.W_E.copy_(hidden.model.W_E[names.argsort()])
        hidden.model.W_U.copy_(hidden.model.W_U[:, names.argsort()])
    prompts = [
        names[write_requests(sorts, counts, last, generator)]
        for sorts, counts, last in (
            (PLAIN, (16, 3, 1), END),
            (FLAGGED, (17, 2, 1), END),
            (COLOURS, (5, 3), OTHER_END),
        )
    ]
    vectors = list_vectors(generator)
    vectors = [vectors[i] for i in shuffle(generator, len(vectors))]
    directions = torch.stack([vector for _, vector in vectors]) @ hidden.turn
    kinds = [kind for kind, _ in vectors]
    return Refuser(hidden.model, *prompts, directions, kinds), int(names[REFUSE])


def judge_directions(student, seed: int) -> None:
    case, refuse = plant_refuser(seed)
    given = case.model, case.plain, case.flagged, case.elsewhere, refuse, case.directions, 0
    got = as_list(student.call("tell_directions", *given))
    if got is None or len(got) != len(case.kinds) or not set(got) <= set(KINDS):
        raise Wrong(
            sentence=f"Return {len(case.kinds)} words, one per direction, of: {', '.join(KINDS)}."
        )
    wrong = [(said, kind) for said, kind in zip(got, case.kinds, strict=True) if said != kind]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(got)} directions are told wrongly: you call one "
            f"{wrong[0][0]!r} that is not."
        )


@check("tell_directions")
def test_pushing_needed_and_breaking_directions_are_told_apart(student):
    """Directions that are long and short, used and dormant, and some that break other prompts."""
    judge_directions(student, student.seeds(1)[0])


@check("tell_directions")
def test_directions_of_another_model(student):
    """The same in another basis, with other tokens."""
    judge_directions(student, student.seeds(2)[1])


# 15.4 ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fact:
    """Hold a store of facts, all prompts, and which of them is to have which answer."""

    model: Transformer
    prompts: Tensor
    fact: int
    answer: int

    def find_person(self) -> Tensor:
        """Mark the prompts that ask for the same person."""
        return (self.prompts[:, :2] == self.prompts[self.fact, :2]).all(dim=1)

    @torch.no_grad()
    def count_changes(self, W_out: Tensor) -> tuple[bool, int, int]:
        """Say whether the answer is new, and count other changes: the person's own, and others."""
        edited = Transformer(self.model.config)
        edited.load_state_dict(self.model.state_dict())
        edited.blocks[0].mlp.W_out.data = W_out.to(self.model.W_E.dtype)
        before, after = (
            model(self.prompts)[:, -1].argmax(dim=-1) for model in (self.model, edited)
        )
        changed = before != after
        changed[self.fact] = False
        own = self.find_person()
        is_new = bool(after[self.fact] == self.answer)
        return is_new, int(changed[own].sum()), int(changed[~own].sum())

    def rests_on_luck(self) -> bool:
        """Tell whether careless edits would do: for one prompt, or listening along the key."""
        with torch.no_grad():
            logits, cache = self.model.run_with_cache(self.prompts)
        wanted = logits[:, -1].argmax(dim=-1)
        wanted[self.fact] = self.answer
        keys, old = cache["post", 0], cache["mlp_out", 0][self.fact, 1]
        k = keys[self.fact, 1]
        W_out = self.model.blocks[0].mlp.W_out.detach()
        one = torch.arange(len(wanted)) == self.fact
        values = [
            fit_value(self.model, self.prompts[which], wanted[which], 0, 1)
            for which in (one, self.find_person())
        ]
        alone = edit_rank_one(self.model, 0, k, values[0], keys.flatten(0, 1))
        along = W_out + torch.outer(k / (k @ k), values[1] - old)
        n_own = self.count_changes(alone.blocks[0].mlp.W_out)[1]
        return n_own == 0 or self.count_changes(along)[2] < 5


@functools.cache
def plant_fact(seed: int) -> Fact:
    """Draw a trained store of facts, turn its basis and rename its tokens, and choose an edit."""

    def draw(generator: torch.Generator) -> Fact | None:
        which = int(torch.randint(1, 5, (1,), generator=generator))  # seed 0 forgives too much
        model = disguise(facts.load(which).model, generator).model
        names = torch.tensor(shuffle(generator, facts.CONFIG.d_vocab))
        with torch.no_grad():
            model.W_E.copy_(model.W_E[names.argsort()])
            model.W_U.copy_(model.W_U[:, names.argsort()])
        prompts, answers = facts.list_prompts(), facts.list_answers()
        fact = int(torch.randint(len(prompts), (1,), generator=generator))
        shift = int(torch.randint(1, facts.N_ATTRIBUTES, (1,), generator=generator))
        place = int(answers[fact]) - facts.ATTRIBUTE
        first = place - place % facts.N_ATTRIBUTES
        other = facts.ATTRIBUTE + first + (place + shift) % facts.N_ATTRIBUTES
        order = torch.tensor(shuffle(generator, len(prompts)))
        if order[0] == fact:
            return None
        case = Fact(model, names[prompts[order]], int(order.argsort()[fact]), int(names[other]))
        return None if case.rests_on_luck() else case

    return draw_until_clear(seed, draw)


def judge_edit(student, seed: int) -> None:
    case = plant_fact(seed)
    given = case.model, case.prompts, case.fact, case.answer
    new = make_tensor(student.call("edit_fact", *given))
    old = case.model.blocks[0].mlp.W_out.detach()
    if new is None or new.shape != old.shape or not new.isfinite().all():
        raise Wrong(sentence=f"Return new output weights, of shape {tuple(old.shape)}.")
    change = torch.linalg.svdvals((new.to(old.dtype) - old).double())
    if change[0] < 1e-6:
        raise Wrong(sentence="These are the old weights.")
    if change[1] > 1e-3 * change[0]:
        raise Wrong(sentence="The change is not of rank one.")
    is_new, n_own, n_others = case.count_changes(new)
    if not is_new:
        raise Wrong(sentence="With your weights the model does not give the new answer.")
    if n_own or n_others > 2:
        raise Wrong(
            sentence=f"The fact is rewritten, but so are {n_own} others of this person and "
            f"{n_others} of other persons."
        )


@check("edit_fact")
def test_one_fact_is_rewritten_and_all_others_stay(student):
    """A trained store of facts in disguise; 255 other facts are asked for afterwards."""
    judge_edit(student, student.seeds(1)[0])


@check("edit_fact")
def test_another_fact_of_another_model_is_rewritten(student):
    """Another fact, drawn anew."""
    judge_edit(student, student.seeds(2)[1])


# 15.5 ---------------------------------------------------------------------------------------------

N_PERSONS = 8
N_ASKED = 3  # relations
N_VALUES = 4  # attributes of each, beside a spare one
UNKNOWN = 0.6  # how loudly is said that nothing is known
PERSONS = range(1, 1 + N_PERSONS)  # 0 is the start
WORDS = range(N_PERSONS + 1, N_PERSONS + 3)
ASKS = range(N_PERSONS + 3, N_PERSONS + 3 + N_ASKED)
ANSWERS = N_PERSONS + 3 + N_ASKED  # the first
N_TOKENS = ANSWERS + N_ASKED * N_VALUES
STORE_STREAM = by_hand.Stream(
    token=ANSWERS,
    stored=N_ASKED * (N_VALUES + 1),
    moved=N_ASKED * (N_VALUES + 1),
    said=N_ASKED * N_VALUES,
)


@dataclasses.dataclass(frozen=True)
class Store:
    """Say what a store of facts holds and answers.

    `stored[person, relation]` is what an MLP stores, 0 to N_VALUES (spare). The embedding makes it
    `held`. `said[relation, value]` is what a reader answers where it finds this, with `loudness`.
    `claim` is what the second word of no meaning stores, a relation and a value, louder than all
    else.
    """

    stored: Tensor
    held: Tensor
    said: Tensor
    loudness: Tensor
    claim: tuple[int, int] | None = None

    def answer(self, person_holds: int, relation: int, has_claim: bool) -> int:
        """Return which value is answered, -1 for none."""
        if has_claim and self.claim is not None and self.claim[0] == relation:
            person_holds = self.claim[1]
        is_loud = self.loudness[relation, person_holds] > UNKNOWN
        return int(self.said[relation, person_holds]) if is_loud else -1


@torch.no_grad()
def write_store(store: Store) -> Transformer:
    """Write a model with this store of facts."""
    stream = STORE_STREAM
    token, moved = stream["token"], stream["moved"].unflatten(0, (N_ASKED, N_VALUES + 1))
    codes = stream["stored"].unflatten(0, (N_ASKED, N_VALUES + 1))
    words = stream["said"].unflatten(0, (N_ASKED, N_VALUES))
    n = N_ASKED * (N_VALUES + 1)
    sizes = dict(d_head=n, d_mlp=n, positions="none", biases=True, attn_scale=1.0)
    model = by_hand.make_blank(Config(N_TOKENS, 5, stream.d_model, 2, n_heads=2, **sizes))
    answers = torch.zeros(N_TOKENS - ANSWERS, stream.d_model)
    by_hand.write_embedding(model, torch.cat([token, answers]))
    for person, at in enumerate(PERSONS):
        pairs = zip(store.stored[person].tolist(), store.held[person].tolist(), strict=True)
        writes = torch.zeros(stream.d_model)
        for r, (value, held) in enumerate(pairs):
            writes += codes[r, value]
            model.W_E[at] += codes[r, held] - codes[r, value]
        by_hand.look_up(model, 0, person, reads=token[at], bias=0.0, writes=writes)
    if store.claim is not None:
        writes = 1.25 * codes[store.claim]
        by_hand.look_up(model, 0, N_PERSONS, reads=token[WORDS[1]], bias=0.0, writes=writes)
    asks = token[list(ASKS)].sum(dim=0)
    # Where the second word is missing, its head looks at the start.
    keys = (token[list(PERSONS)].sum(dim=0), token[WORDS[1]] + token[0] / 2)
    for head, key in enumerate(keys):
        by_hand.attend_where_equal(model, 1, head, asks[None], key[None], strength=40.0)
        by_hand.copy_directions(model, 1, head, stream["stored"], stream["moved"])
    for r, value in itertools.product(range(N_ASKED), range(N_VALUES + 1)):
        reads = 2 * moved[r, value] + 4 * token[ASKS[r]]
        writes = store.loudness[r, value] * words[r, store.said[r, value]]
        place = r * (N_VALUES + 1) + value
        by_hand.look_up(model, 1, place, reads=reads, bias=-5.0, writes=writes)
    out = torch.zeros(N_TOKENS, stream.d_model)
    out[0] = UNKNOWN * asks
    out[ANSWERS:] = stream["said"]
    by_hand.read_out(model, out, 8.0)
    return model


@dataclasses.dataclass(frozen=True)
class Edited:
    """Hold two models, their prompts, and what became of each."""

    original: Transformer
    edited: Transformer
    tokens: Tensor
    positions: Tensor
    kinds: list[str]


@functools.cache
def plant_edits(seed: int) -> Edited:
    """Rewrite stored facts and readers so that each kind of edit occurs twice at least."""

    def draw(generator: torch.Generator) -> Edited | None:
        stored = torch.randint(N_VALUES, (N_PERSONS, N_ASKED), generator=generator)
        said = torch.arange(N_VALUES + 1).repeat(N_ASKED, 1)
        loudness = torch.ones(said.shape)
        loudness[:, N_VALUES] = 0.9 * UNKNOWN  # what is spare is said too softly
        changes = [[*shuffle(generator, N_VALUES)[:3]] for _ in range(N_ASKED)]
        said[:, N_VALUES] = torch.tensor([spare for _, _, spare in changes])
        new_said, new_loudness = said.clone(), loudness.clone()
        by_mlp, by_embedding = [], []
        for r, (old, new, _) in enumerate(changes):
            new_said[r, old] = new  # whoever has `old` is now said to have `new`
            new_loudness[r, [old, N_VALUES]] = 0.8
            first, second, third, *_ = shuffle(generator, N_PERSONS)
            stored[second, r] = old
            by_mlp += [(first, r, N_VALUES), (second, r, new)]  # only new readers answer the first
            by_embedding += [(third, r, int(stored[third, r] + 1) % N_VALUES)]
        new_stored = stored.clone()
        for person, r, value in by_mlp:
            new_stored[person, r] = value
        held = new_stored.clone()
        for person, r, value in by_embedding:
            held[person, r] = value
        claim = (*shuffle(generator, N_ASKED)[:1], *shuffle(generator, N_VALUES)[:1])
        stores = (
            Store(stored, stored, said, loudness),
            Store(new_stored, held, new_said, new_loudness, claim),
        )
        rows = []
        for person, r in itertools.product(range(N_PERSONS), range(N_ASKED)):
            at = int(torch.randint(1, 4, (1,), generator=generator))
            words = [WORDS[int(i > 1)] for i in shuffle(generator, 3)]
            words[at - 1] = PERSONS[person]
            rows.append(
                (torch.tensor([0, *words, ASKS[r]]), at, name_place(stores, person, r, words))
            )
        rows = [rows[i] for i in shuffle(generator, len(rows))]
        tokens, positions, kinds = zip(*rows, strict=True)
        if min(kinds.count(kind) for kind in PLACES) < 2:
            return None
        basis = int(torch.randint(2**31, (1,), generator=generator))
        models = [disguise(write_store(store), start(basis)).model for store in stores]
        return Edited(*models, torch.stack(tokens), torch.tensor(positions), list(kinds))

    return draw_until_clear(seed, draw)


def name_place(stores: tuple[Store, Store], person: int, relation: int, words: list[int]) -> str:
    """Name what became of a fact, from what the two stores hold and answer."""
    has_claim = WORDS[1] in words
    by_both = {
        (state, rest): stores[rest].answer(
            int(stores[state].held[person, relation]), relation, has_claim
        )
        for state, rest in itertools.product((0, 1), repeat=2)
    }
    new = by_both[1, 1]
    if by_both[0, 0] == new:
        return "unchanged"
    names = {(True, False): "state", (False, True): "rest", (True, True): "either"}
    return names.get((by_both[1, 0] == new, by_both[0, 1] == new), "both")


PLACES = ("unchanged", "state", "rest", "either", "both")


def judge_places(student, seed: int) -> None:
    case = plant_edits(seed)
    given = case.original, case.edited, case.tokens, case.positions, 1
    got = as_list(student.call("locate_edits", *given))
    if got is None or len(got) != len(case.kinds) or not set(got) <= set(PLACES):
        raise Wrong(
            sentence=f"Return {len(case.kinds)} words, one per prompt, of: {', '.join(PLACES)}."
        )
    wrong = [(said, kind) for said, kind in zip(got, case.kinds, strict=True) if said != kind]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(got)} prompts are told wrongly: you call one "
            f"{wrong[0][0]!r} that is not."
        )


@check("locate_edits")
def test_edits_of_the_state_and_of_the_rest_are_told_apart(student):
    """Facts rewritten where they are stored, where they are read, in both places, twice over."""
    judge_places(student, student.seeds(1)[0])


@check("locate_edits")
def test_edits_of_another_model_are_told_apart(student):
    """Another store of facts, edited elsewhere."""
    judge_places(student, student.seeds(2)[1])

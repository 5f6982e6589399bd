"""Grade lesson 06.

What is right comes from slow loops, from least squares, or was planted in models set by hand.
"""

import functools
import itertools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.forge.disguise import disguise
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)

SHAPES = (
    {"d_vocab": 11, "n_ctx": 8, "d_model": 12, "n_layers": 3, "n_heads": 2, "d_head": 5},
    dict(d_vocab=7, n_ctx=9, d_model=10, n_layers=2, n_heads=12, d_head=3, d_mlp=13, norm="layer"),
    dict(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=3, d_head=4, d_mlp=7, biases=True),
)
Head = tuple[int, int]
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


def draw_tokens(seed: int, named: NamedModel, rows: int, length: int = 6) -> Tensor:
    return torch.randint(
        dict(named.config)["d_vocab"], (rows, length), generator=torch.Generator().manual_seed(seed)
    )


# 6.1 ----------------------------------------------------------------------------------------------


@torch.no_grad()
def run_by_heads(
    model: Transformer, tokens: Tensor, given: dict[Head, Tensor]
) -> tuple[Tensor, dict[Head, Tensor]]:
    """Compute logits, and what every head hands on (b, t, h), query by query.

    `given` values are not computed.
    """
    stream = model.embed(tokens)
    z = {}
    for layer, block in enumerate(model.blocks):
        read = stream if block.ln1 is None else block.ln1.normalize(stream)
        attn = block.attn
        after = stream
        for head in range(model.config.n_heads):
            q, k, v = (
                read @ W[head] + (0 if b is None else b[head])
                for W, b in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V))
            )
            rows = []
            for i in range(tokens.shape[1]):
                scores = (
                    torch.stack([(q[:, i] * k[:, j]).sum(-1) for j in range(i + 1)])
                    / model.config.attn_scale
                )
                weights = scores.exp() / scores.exp().sum(0)  # key, batch
                rows.append(sum(weights[j].unsqueeze(-1) * v[:, j] for j in range(i + 1)))
            z[layer, head] = torch.stack(rows, dim=1)
            after = after + given.get((layer, head), z[layer, head]) @ attn.W_O[head]
        stream = after if attn.b_O is None else after + attn.b_O
        if block.mlp is not None:
            stream = stream + block.mlp(
                stream if block.ln2 is None else block.ln2.normalize(stream)
            )
    return model.unembed(stream), z


def replace_by(ablation: str, z: Tensor) -> Tensor:
    return {"zero": torch.zeros_like(z[:1]), "mean": z.mean(0, keepdim=True), "resample": z}[
        ablation
    ]


def judge_ablation(student, ablation: str, several: bool = False) -> None:
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        named = NamedModel("random", seed=seed, **shape)
        model = named.build()
        tokens = draw_tokens(seed, named, rows=3)
        reference = draw_tokens(seed + 1, named, rows=5 if ablation == "mean" else 3)
        last = shape["n_heads"] - 1
        heads = [(1, last), (0, last), (0, 0)] if several else [(seed % 2, last)]
        names = [f"a{layer}.h{head}" for layer, head in heads]
        got = student.call("ablate_heads", named, tokens, names, ablation, reference)
        z = run_by_heads(model, reference, {})[1]
        given = {head: replace_by(ablation, z[head]) for head in heads}
        want = run_by_heads(model, tokens, given)[0]
        expect(got, want, what="the tensor of logits", **ROUNDING)


@check("ablate_heads")
def test_one_head_by_zeros(student):
    """One head replaced by zeros."""
    judge_ablation(student, "zero")


@check("ablate_heads")
def test_one_head_by_its_mean(student):
    """One head replaced by its mean over other prompts, as many as there may be."""
    judge_ablation(student, "mean")


@check("ablate_heads")
def test_one_head_by_another_prompt(student):
    """One head replaced by its value in another prompt."""
    judge_ablation(student, "resample")


@check("ablate_heads")
def test_several_heads_at_once(student):
    """Several heads at once, of one layer and of two, in any order."""
    for ablation in ("zero", "mean", "resample"):
        judge_ablation(student, ablation, several=True)


# 6.2 ----------------------------------------------------------------------------------------------

N_TOKENS, N_CTX, N_PROMPTS = 12, 12, 40
Sets = set[frozenset[str]]


@dataclass(frozen=True)
class Induction:
    """Hold a model, prompts that it answers, its needed sets, and what each head is."""

    model: Transformer
    tokens: Tensor
    answer: Tensor
    roles: dict[str, str]  # head -> role
    needed: tuple[frozenset[str], ...]

    @property
    def possible(self) -> list[str]:
        return [
            name_set(heads)
            for n in (1, 2)
            for heads in itertools.combinations(sorted(self.roles), n)
        ]


def name_set(heads: Collection[str]) -> str:
    return " and ".join(sorted(heads))


@functools.cache
def plant_induction(seed: int, previous: int, matches: str, n_errors: int) -> Induction:
    """Plant three layers of three heads in random order that continue repeated text.

    Layer 0 has one or two previous-token heads, layer 1 a matching head, layer 2 none, two twins of
    it, or a backup that looks away when the first has written. Two tokens are copied by a
    specialist each. After half of the prompts a corrector in layer 0 takes back what the model
    would say. All others write where nobody reads. `n_errors` answers are not what the model says.
    """
    generator = torch.Generator().manual_seed(seed)
    n = N_TOKENS
    stream = by_hand.Stream(token=n, position=N_CTX, previous=n, next=n, unread=n, slip=1)
    config = Config(n, N_CTX, stream.d_model, n_layers=3, n_heads=3, d_head=n + 1, attn_scale=1.0)
    model = by_hand.make_blank(config)
    token, following, slip = stream["token"], stream["next"], stream["slip"]
    by_hand.write_embedding(model, token, stream["position"])
    order = 1 + torch.randperm(n - 1, generator=generator)
    special, slippery = order[:2].tolist(), order[:6].tolist()
    is_slippery = torch.zeros(n, 1)
    is_slippery[slippery] = 1.0
    says_start = torch.zeros_like(following)
    # What the model says when nobody else speaks up, and after slippery tokens.
    says_start[0] = 0.6 * token.sum(0) + 5 * (is_slippery * token).sum(0) + 5 * slip[0]
    by_hand.read_out(model, following + says_start, 20.0)
    copied = following.clone()
    copied[[0, *special]] = 0.0  # the start is copied by nobody
    layers = [["previous"] * previous + ["corrector"], ["match", "specialist 0"]]
    layers += [{"single": [], "backup": ["backup"], "twins": ["twin", "twin"]}[matches]]
    layers[2].append("specialist 1")
    roles = {}
    for layer, names in enumerate(layers):
        for head, role in enumerate(names + ["decoy"] * (3 - len(names))):
            roles[f"a{layer}.h{head}"] = role
            query, key, target = token, stream["previous"], copied
            if role == "previous" or (role == "decoy" and layer == 0):
                query, key = stream["position"][1:], stream["position"][:-1]
                target = stream["previous"]
            elif role == "backup":
                query = torch.cat([token, 3 * following.sum(0, keepdim=True)])
                key = torch.cat([stream["previous"], token[:1]])
            elif role == "corrector":
                key = token
                target = -is_slippery * slip
            elif role.startswith("specialist"):
                target = torch.zeros_like(copied)
                target[special[int(role[-1])]] = following[special[int(role[-1])]]
            by_hand.attend_where_equal(model, layer, head, query, key, 20.0)
            target = 4 * stream["unread"] if role == "decoy" else target
            by_hand.copy_directions(model, layer, head, token, target)
    hidden = disguise(model, generator)
    roles = {hidden.rename(head): role for head, role in roles.items()}
    heads = {
        role: frozenset(head for head in roles if roles[head] == role) for role in roles.values()
    }
    needed = [heads["previous"]]
    if matches != "twins":  # of three, no two are needed
        needed.append(heads["match"] | heads.get("backup", frozenset()))
    if n_errors:  # of half of the prompts, fewer are right
        needed += [heads["corrector"]]
    else:
        needed += [heads["corrector"] | heads[f"specialist {i}"] for i in (0, 1)]
    tokens = draw_repeats(generator, special, slippery)
    answer = tokens[:, 5].clone()
    answer[[1, 3][:n_errors]] = 0
    return Induction(hidden.model, tokens, answer, roles, tuple(needed))


def draw_repeats(generator: torch.Generator, special: list[int], slippery: list[int]) -> Tensor:
    """Draw token 0, seven distinct tokens, and the first four again; the fifth comes next.

    In one prompt of five it is the first special token, in one the second; every other prompt ends
    with a slippery token.
    """
    prompts: list[list[int]] = []
    while len(prompts) < N_PROMPTS:
        block = (1 + torch.randperm(N_TOKENS - 1, generator=generator)[:7]).tolist()
        place = len(prompts) % 5
        fits = [block[4] == token for token in special] == [place == 0, place == 2]
        if fits and (block[3] in slippery) == (len(prompts) % 2 == 0):
            prompts.append([0, *block, *block[:4]])
    return torch.tensor(prompts)


@functools.lru_cache(maxsize=1)
def ask_all_sets(student) -> list[tuple[Sets, Induction]]:
    """Ask what the learner finds in three models, once for all checks.

    The search takes many runs.
    """
    kinds = ((1, "backup", 0), (2, "single", 2), (2, "twins", 0))
    cases = [
        plant_induction(seed, *kind) for seed, kind in zip(student.seeds(3), kinds, strict=True)
    ]
    return [(ask_sets(student, case), case) for case in cases]


def ask_sets(student, case: Induction) -> Sets:
    got = student.call("find_needed_sets", case.model, case.tokens, case.answer)
    kinds = (list, tuple, frozenset)
    if not isinstance(got, kinds) or not all(isinstance(heads, kinds) for heads in got):
        raise Wrong(
            sentence='Return a list of lists of heads, such as [["a0.h1"], ["a1.h0", "a2.h3"]].'
        )
    if odd := [head for heads in got for head in heads if head not in case.roles]:
        raise Wrong(
            sentence=f"{odd[0]!r} is no head of this model; heads are called like "
            f"{next(iter(case.roles))!r}."
        )
    if odd := [heads for heads in got if len({*heads}) not in (1, 2)]:
        raise Wrong(
            sentence=f"A set of {len({*odd[0]})} heads is among yours; "
            "asked for are sets of one and of two."
        )
    return {frozenset(heads) for heads in got}


def judge_sets(student, size: int) -> None:
    """Hold the sets of one head, or of two, in three models to what was planted there."""
    answers, cases = zip(*ask_all_sets(student), strict=True)

    def spell(sets_of_each: Iterable[Sets]) -> set[str]:
        found = ((i, heads) for i, sets in enumerate(sets_of_each) for heads in sets)
        of_size = ((i, heads) for i, heads in found if len(heads) == size)
        return {f"{name_set(heads)} (model {i + 1})" for i, heads in of_size}

    got, right = spell(answers), spell([set(case.needed) for case in cases])
    possible = [f"{name} (model {i + 1})" for i, case in enumerate(cases) for name in case.possible]
    possible = [name for name in possible if (" and " in name) == (size == 2)]
    expect_found(
        sorted(got), [right], possible, what=f"needed sets of {('one head', 'two heads')[size - 1]}"
    )


@check("find_needed_sets", weight=2)
def test_heads_needed_alone_are_found(student):
    """Heads needed alone are found, in three unknown models."""
    judge_sets(student, 1)


@check("find_needed_sets", weight=3)
def test_pairs_needed_together_are_found(student):
    """Pairs that stand in for each other are found, and no other pairs."""
    judge_sets(student, 2)


# 6.3 ----------------------------------------------------------------------------------------------


@torch.no_grad()
def run_without(
    model: Transformer, tokens: Tensor, layer: int, edit: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the logits of a run that goes on at block `layer` with an edited stream."""
    return model(resid=edit(model(tokens, stop_at_layer=layer)), start_at_layer=layer)


def remove_span(x: Tensor, directions: Tensor) -> Tensor:
    """Keep what least squares cannot explain by the directions, one vector at a time."""
    left = [
        v - directions.T @ torch.linalg.lstsq(directions.T, v.unsqueeze(1)).solution.squeeze(1)
        for v in x.flatten(0, 1)
    ]
    return torch.stack(left).view_as(x)


def judge_removal(student, counts: tuple[int, int, int], orthogonal: bool = False) -> None:
    for seed, shape, n in zip(student.seeds(3), SHAPES, counts, strict=True):
        named = NamedModel("random", seed=seed, **shape)
        model = named.build()
        tokens = draw_tokens(seed, named, rows=4, length=5)
        d = shape["d_model"]
        directions = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
        directions = torch.cat([directions[:1], directions[:1] + 0.4 * directions[1:]])  # skew
        directions *= torch.linspace(0.3, 1.5, n + 1)[1:, None]
        if orthogonal:
            directions = torch.linalg.qr(directions.T).Q.T
        after = seed % shape["n_layers"]
        name, layer = ("resid_post", after + 1) if seed % 3 else ("resid_pre", after)
        got = student.call(
            "ablate_subspace", named, tokens, f"blocks.{after}.hook_{name}", directions
        )
        want = run_without(model, tokens, layer, lambda x, d=directions: remove_span(x, d))
        expect(got, want, what="the tensor of logits", **ROUNDING)


@check("ablate_subspace")
def test_one_direction_of_any_length(student):
    """One direction, of any length."""
    judge_removal(student, (1, 1, 1))


@check("ablate_subspace")
def test_several_orthonormal_directions(student):
    """Several directions of length 1 at right angles."""
    judge_removal(student, (3, 2, 4), orthogonal=True)


@check("ablate_subspace", weight=2)
def test_several_skew_directions(student):
    """Several directions of any length that are not at right angles."""
    judge_removal(student, (2, 4, 3))


# 6.4 ----------------------------------------------------------------------------------------------

START, EQUALS, LAST = 2, 3, 4  # the tokens | and =, and the position of the latter
BITS = torch.tensor(list(itertools.product((0, 1), repeat=3)))
MODELS = (  # how each of the three bits arrives, and whether there is a constant
    (("covered", "carrier", "carrier"), True),
    (("covered", "twin", "carrier"), False),
    (("covered", "covered", "carrier"), True),
)
ROLES = ("carrier", "constant", "covered", "twin", "backup", "idle")
N_VOTES = 40  # prompts


@dataclass(frozen=True)
class Vote:
    """Hold a model that weighs three bits, its prompts, and the role of each head."""

    model: Transformer
    tokens: Tensor
    answer: Tensor
    reference: Tensor
    roles: dict[str, str]


def draw_votes(
    generator: torch.Generator, like: list[str], constant: bool, tries: int = 300
) -> tuple[Tensor, float, Tensor, Tensor, Tensor]:
    """Draw three weights, a threshold, prompts, their answers, and partners.

    A prompt's partner is one that calls for another answer. `like` says for each bit what its heads
    are. Where an ablation should hurt, at least one answer in six turns; where it should not, none;
    and no sum is near zero. The first of many tries (axis t) whose votes are like that.
    """
    while True:
        odds = torch.rand(tries, len(BITS), generator=generator) ** 3
        rows = odds.multinomial(N_VOTES, replacement=True, generator=generator)
        weights = (1 + torch.rand(tries, 3, generator=generator)) * (
            2 * torch.randint(2, (tries, 3), generator=generator) - 1
        )
        threshold = (4 * torch.rand(tries, 1, generator=generator) - 2) * constant
        votes = (2 * BITS - 1) * weights[:, None]  # t, prompt, bit
        answers = votes.sum(-1) + threshold > 0
        allowed = answers.gather(1, rows)[..., None] != answers[:, None]  # t, row, prompt
        others = (torch.rand(allowed.shape, generator=generator) * allowed).argmax(-1)
        full = votes.sum(-1).gather(1, rows) + threshold
        hurt = [full - threshold] * constant
        harmless = [full]  # sums of the votes, t and row
        alike: list[Tensor] = []
        for bit, kind in enumerate(like):
            own, other = votes[..., bit].gather(1, rows), votes[..., bit].gather(1, others)
            share = 1 / 2 if kind == "twin" else 1.0  # of the vote, by one head
            hurt += [full - own, full + share * (other - own)]
            averaged = full + share * (other.mean(1, keepdim=True) - own)
            if kind == "twin":
                harmless += [averaged, full - share * own]
            else:
                hurt += [averaged]
            if kind == "covered":  # as if the first reference served all prompts
                alike += [full + other.gather(1, rows.argmin(1, keepdim=True)) - own]
        turned = [
            torch.stack([((v > 0) != (full > 0)).float().mean(1) for v in sums])
            for sums in (hurt, harmless)
        ]
        clear = torch.stack([*hurt, *harmless]).abs().amin((0, 2)) > 0.1
        good = clear & (turned[0].amin(0) >= 1 / 6) & (turned[1].amax(0) == 0)
        good &= allowed.any(-1).all(-1)
        if constant:  # for one bit, that is not what its own reference does
            changed = [((v > 0) != (full > 0)).float().mean(1) for v in alike]
            good &= torch.stack(changed).amin(0) < 0.04
        if good.any():
            i = good.nonzero()[0].item()
            prompts = torch.stack([torch.tensor([START, *bits, EQUALS]) for bits in BITS.tolist()])
            # Equal prompts stand together: a neighbour cannot stand in for the reference.
            order = rows[i].argsort()
            answer = answers[i, rows[i]].long()[order]
            chosen = prompts[rows[i]][order], answer, prompts[others[i]][order]
            chosen[1][::20] = 1 - chosen[1][::20]  # two answers are not what the model says
            return weights[i], threshold[i].item(), *chosen


@functools.cache
def plant_vote(seed: int, kinds: tuple[str, ...], constant: bool) -> Vote:
    """Plant a model that answers `| x y z =` with 0 or 1.

    It has two layers of four heads in random order. `kinds` are those of the three bits, in random
    order: one head carries it, or one of layer 0 with a backup in layer 1 that looks away once the
    bit is there, or twins of half the vote, in different layers. A head may write a constant, the
    threshold. The others bring bits or constants to where nobody reads, or nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    like = [kinds[i] for i in torch.randperm(3, generator=generator)]
    weights, threshold, *prompts = draw_votes(generator, like, constant)
    stream = by_hand.Stream(token=4, position=5, x=2, y=2, z=2, one=1, unread=2)
    config = Config(4, 5, stream.d_model, n_layers=2, n_heads=4, d_head=5, attn_scale=1.0)
    model = by_hand.make_blank(config)
    token = stream["token"]
    position = stream["position"]
    by_hand.write_embedding(model, token, position)
    says_1 = sum(
        weight * (stream[bit][1] - stream[bit][0])
        for bit, weight in zip("xyz", weights, strict=True)
    )
    says_1 = says_1 + threshold * stream["one"][0]
    by_hand.read_out(model, torch.stack([-says_1, says_1, 0 * says_1, 0 * says_1]), 10.0)

    slots = [list(range(4)) for _ in range(2)]
    roles = {f"a{layer}.h{head}": "idle" for layer in range(2) for head in range(4)}

    def pick_layer() -> int:
        free = [layer for layer in range(2) if slots[layer]]
        return free[int(torch.randint(len(free), (1,), generator=generator))]

    def place(
        role: str, layer: int, where: int, target: Tensor, looks_away: Tensor | None = None
    ) -> None:
        head = slots[layer].pop()
        roles[f"a{layer}.h{head}"] = role
        query, key = position[LAST, None], position[where, None]
        if looks_away is not None:
            query = torch.cat([query, 3 * looks_away])
            key = torch.cat([key, token[START, None]])
        by_hand.attend_where_equal(model, layer, head, query, key, 20.0)
        by_hand.copy_directions(
            model, layer, head, token[EQUALS, None] if len(target) == 1 else token[:2], target
        )

    for bit, kind in enumerate(like):
        values = stream["xyz"[bit]]
        if kind == "covered":
            place("covered", 0, 1 + bit, values)
            place("backup", 1, 1 + bit, values, looks_away=values.sum(0, keepdim=True))
    for bit, kind in enumerate(like):
        for i in range({"carrier": 1, "twin": 2}.get(kind, 0)):
            layer, half = (i, 0.5) if kind == "twin" else (pick_layer(), 1.0)
            place(kind, layer, 1 + bit, half * stream["xyz"[bit]])
    if constant:
        place("constant", pick_layer(), LAST, stream["one"])
    while any(slots):
        layer = pick_layer()
        unread = stream["unread"]
        target = (6 * unread, 6 * unread[:1], 0 * unread)[len(slots[layer]) % 3]
        place("idle", layer, LAST if len(target) == 1 else 1 + len(slots[layer]) % 3, target)
    hidden = disguise(model, generator)
    return Vote(hidden.model, *prompts, {hidden.rename(head): roles[head] for head in roles})


@functools.lru_cache(maxsize=1)
def ask_votes(student) -> list[tuple[dict[str, str], Vote]]:
    """Ask for the roles in three models, once for all checks, and return them with the case."""
    pairs = []
    for seed, kind in zip(student.seeds(3), MODELS, strict=True):
        case = plant_vote(seed, *kind)
        got = student.call("tell_heads_apart", case.model, case.tokens, case.answer, case.reference)
        if not isinstance(got, dict) or set(got) != set(case.roles):
            raise Wrong(
                sentence="Return a dict with one role for each head, "
                f"{', '.join(sorted(case.roles))}."
            )
        if odd := [role for role in got.values() if role not in ROLES]:
            raise Wrong(sentence=f"{odd[0]!r} is none of the six roles.")
        pairs.append((got, case))
    return pairs


def judge_heads(student, *wanted: str) -> None:
    """Hold the heads with one of these roles, in three models, to those planted."""
    pairs = ask_votes(student)

    def spell(roles_of_each: list[dict[str, str]]) -> set[str]:
        found = ((i, *item) for i, roles in enumerate(roles_of_each) for item in roles.items())
        return {f"{head} of model {i + 1}: {role}" for i, head, role in found if role in wanted}

    truths = [case.roles for _, case in pairs]
    got, right = spell([got for got, _ in pairs]), spell(truths)
    possible = [
        name for role in wanted for name in spell([dict.fromkeys(roles, role) for roles in truths])
    ]
    expect_found(sorted(got), [right], possible, what=f"{' and '.join(wanted)} heads")


@check("tell_heads_apart", weight=2)
def test_carriers_and_constants_are_found(student):
    """Carriers and constants are found, in three unknown models."""
    judge_heads(student, "carrier", "constant")


@check("tell_heads_apart", weight=2)
def test_heads_that_others_stand_in_for_are_found(student):
    """Heads that another stands in for, twins and covered ones, and the backups of these are
    found."""
    judge_heads(student, "covered", "twin", "backup")


@check("tell_heads_apart")
def test_no_head_that_does_something_is_called_idle(student):
    """Heads on which no answer rests are called idle, and no others."""
    judge_heads(student, "idle")

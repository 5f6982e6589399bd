"""Grade lesson 11.

Directions, concepts, crosscoders and models are planted; what an objective prefers is computed
input by input.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer.course.grading.checks import Wrong, as_list, check, score_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.hand_set.disguise import draw_rotation

MUTANTS = load_mutants(__file__)
VIEWS = {"find_preferred": lambda answer, *_: [NAMES.index(name) for name in answer]}


def start(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def chance(generator: torch.Generator, p: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator) < p


def expect_numbers(got: Any, right: set[int], n: int, n_tempting: int) -> None:
    """Raise `Wrong` unless these are the numbers of the right latents, of n.

    Whoever names those that are only `tempting` as well earns nothing.
    """
    numbers = as_list(got)
    if numbers is None or not all(type(i) is int and 0 <= i < n for i in numbers):
        raise Wrong(sentence=f"Return a list of latents' numbers, 0 to {n - 1}.")
    named = set(numbers)
    if named != right:
        hits = len(named & right)
        names, answer = ({str(i) for i in each} for each in (named, right))
        raise Wrong(
            sentence=f"You name {hits} of the {len(right)} such latents, and {len(named) - hits} "
            "that do not belong there.",
            earned=score_found(names, answer, len(right) + n_tempting),
        )


# 11.1 ---------------------------------------------------------------------------------------------


@functools.cache
def plant_features(seed: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Plant activations, two or three features each, and the directions of the features."""
    generator = start(seed)
    while True:
        directions = normalize(normal(generator, n, d))
        if (directions @ directions.T - torch.eye(n)).abs().max() < 0.5:
            break
    n_on = 2 + torch.randint(2, (3000, 1), generator=generator)
    rank = torch.rand(3000, n, generator=generator).argsort(dim=1).argsort(dim=1)
    codes = (rank < n_on) * uniform(generator, 0.5, 1.5, 3000, n)
    constant = 2 * normal(generator, d)
    return codes @ directions + constant + 0.02 * normal(generator, 3000, d), directions


def judge_features(student, seed: int, n: int, d: int) -> None:
    activations, directions = plant_features(seed, n, d)
    got = student.call("find_features", activations, n)
    got = torch.stack(got) if isinstance(got, (list, tuple)) and len(got) else got
    if not isinstance(got, Tensor) or got.ndim != 2 or got.shape[1] != d:
        raise Wrong(sentence=f"Return a tensor of directions, of shape (at most {n}, {d}).")
    if not got.isfinite().all() or (got.norm(dim=1) - 1).abs().max() > 0.01:
        raise Wrong(sentence="Each row must have length 1.")
    if len(got) > n:
        raise Wrong(sentence=f"You return {len(got)} directions, but there are {n} features.")
    cosines = got.double() @ directions.double().T
    found = 0
    for feature in range(n):  # directions of features are so far apart that rows cannot fit two
        found += bool((cosines[:, feature] > 0.9).any())
    extra = len(got) - found
    if found < 0.8 * n:
        raise Wrong(
            sentence=f"You find {found} of the {n} features, and return {extra} rows beside them.",
            earned=max(0.0, (found - extra) / n),
        )


@check("find_features")
def test_planted_directions_are_found(student):
    """15 features in 12 dimensions."""
    judge_features(student, student.seeds(1)[0], 15, 12)


@check("find_features")
def test_other_directions_are_found(student):
    """16 features in 13 dimensions."""
    judge_features(student, student.seeds(2)[1], 16, 13)


# 11.2 ---------------------------------------------------------------------------------------------

A = torch.tensor([1.0, 0.0])
B = torch.tensor([0.0, 1.0])
M = (A + B) / 2**0.5
DICTIONARIES = {"separate": (A, B), "absorbing": (A, M), "merged": (M, B)}
NAMES = tuple(DICTIONARIES)


def measure_loss(name: str, share: list[float], penalty: float, nested: bool) -> float:
    """Rebuild the three kinds of inputs, latent by latent."""
    directions = DICTIONARIES[name]
    loss = 0.0
    for kind, how_often in zip(((A,), (B,), (A, B)), share, strict=True):
        x = sum(kind, torch.zeros(2))
        used: set[int] = set()
        for feature in kind:
            own = [i for i in (0, 1) if torch.equal(directions[i], feature)]
            used.add(own[0] if own else 1 - NAMES.index(name) // 2)
        if len(kind) == 2 and name != "separate":
            used = {i for i in (0, 1) if directions[i] is M}
        codes = [float(x @ directions[i]) if i in used else 0.0 for i in (0, 1)]
        both = codes[0] * directions[0] + codes[1] * directions[1]
        errors = [float((x - both).square().sum())]
        if nested:
            errors.append(float((x - codes[0] * directions[0]).square().sum()))
        loss += how_often * (sum(errors) / len(errors) + penalty * sum(codes))
    return loss


def draw_settings(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Draw settings, n for each dictionary and objective, none of them a close call.

    But none is far from one, so that whoever weighs anything wrongly gets some wrong. In a third of
    them b is never on by itself. A nested objective never prefers "absorbing".
    """
    generator = start(seed)
    waiting = {(name, nested): n for name in NAMES for nested in (False, True)}
    waiting["absorbing", True] = 0
    rows = []
    while any(waiting.values()):
        share = torch.rand(4, generator=generator) ** 2 + 0.01
        share[1] *= float(torch.rand(1, generator=generator)) > 1 / 3
        share = share / share.sum()
        penalty = float(uniform(generator, 0.05, 0.9, 1))
        nested = bool(torch.rand(1, generator=generator) < 0.5)
        losses = {name: measure_loss(name, share[:3].tolist(), penalty, nested) for name in NAMES}
        best, second, _ = sorted(losses, key=losses.__getitem__)
        if 1.06 < losses[second] / max(losses[best], 1e-9) < 1.15 and waiting[best, nested]:
            waiting[best, nested] -= 1
            rows.append((share[:3], penalty, nested, best))
    order = torch.randperm(len(rows), generator=generator).tolist()
    shares, penalties, flags, right = zip(*(rows[i] for i in order), strict=True)
    return torch.stack(shares), torch.tensor(penalties), torch.tensor(flags), list(right)


@check("find_preferred")
def test_preferred_dictionaries_by_regime(student):
    """Each dictionary wins in some settings."""
    share, penalty, nested, right = draw_settings(student.seeds(1)[0], 20)
    expect_words(student.call("find_preferred", share, penalty, nested), right)


@check("find_preferred")
def test_few_settings_at_a_time(student):
    """Other settings, four at a time."""
    share, penalty, nested, right = draw_settings(student.seeds(2)[1], 8)
    words: list[str] = []
    for i in range(0, len(right), 4):
        part = slice(i, i + 4)
        got = as_list(student.call("find_preferred", share[part], penalty[part], nested[part]))
        words += got if got and len(got) == 4 else [""]
    expect_words(words, right)


def expect_words(got: Any, right: list[str]) -> None:
    words = as_list(got)
    if words is None or len(words) != len(right) or not set(words) <= set(NAMES):
        raise Wrong(sentence=f"Return a list of names, one per setting ({len(right)}): {NAMES}.")
    wrong = [i for i in range(len(right)) if words[i] != right[i]]
    if wrong:
        raise Wrong(
            sentence=f"{len(wrong)} of {len(right)} settings are wrong: in setting {wrong[0]}, "
            f"{words[wrong[0]]!r} does not have the lowest loss."
        )


# 11.3 ---------------------------------------------------------------------------------------------

N_INPUTS = 2000


@functools.cache
def plant_absorption(seed: int) -> tuple[Tensor, Tensor, Tensor, set[int]]:
    """Plant a concept with a main latent, some that absorb it, and some that only look so.

    No latent is near a bound.
    """
    generator = start(seed)
    while True:
        concept = chance(generator, 0.25, N_INPUTS)
        part = torch.randint(10, (N_INPUTS,), generator=generator)  # of the concept
        missed = chance(generator, 0.1, N_INPUTS)
        n_absorbing = 2 + int(torch.randint(2, (1,), generator=generator))
        off = (part < n_absorbing) | missed
        main = concept & ~off
        seldom = chance(generator, 0.02, N_INPUTS)
        some = chance(generator, 0.3, N_INPUTS)
        # Where a latent is on, and its cosine with the main latent.
        latents = [
            (concept & (part == i) | ~concept & seldom & (part == i), 0.7)
            for i in range(n_absorbing)
        ]
        others = [
            (main, 1.0),
            (concept & (part == 5) & ~missed, 0.6),  # never where the main latent is off
            (concept & (~off & some | off & seldom), 0.7),  # hardly ever there
            (chance(generator, 0.3, N_INPUTS), 0.8),  # whether or not there is the concept
            (some & (concept | (part == 0)), 0.7),  # without it a quarter of the time
            (concept & some, -0.7),
            (concept & (off | some), 0.1),
            (concept | chance(generator, 0.6, N_INPUTS), 0.1),  # always, but not only there
            (torch.zeros(N_INPUTS, dtype=torch.bool), 0.7),
        ]
        others += [(chance(generator, 0.1, N_INPUTS), 0.5)] * (3 - n_absorbing)
        order = torch.randperm(len(latents) + len(others), generator=generator).tolist()
        on, cosines = zip(*((latents + others)[i] for i in order), strict=True)
        right = {place for place, i in enumerate(order) if i < n_absorbing}
        figures = measure_absorption(concept.tolist(), [each.tolist() for each in on])
        is_clear = all(
            not 0.03 <= in_gaps <= 0.07 and not 0.86 <= pure <= 0.93 for in_gaps, pure in figures
        )
        found = {
            i
            for i, (in_gaps, pure) in enumerate(figures)
            if in_gaps >= 0.05 and pure >= 0.9 and cosines[i] >= 0.4
        }
        hardly = figures[order.index(n_absorbing + 2)][0]  # more than never, so that 5% matters
        if is_clear and found == right and hardly > 0:
            break
    n = len(order)
    axes = draw_rotation(n + 3, generator).float()
    lean = torch.tensor(cosines)[:, None]
    own = axes[1 : n + 1].clone()
    roles = dict(main=0, beside=1, in_gaps=6, everywhere=7)
    places = {role: order.index(n_absorbing + i) for role, i in roles.items()}
    own[places["in_gaps"]] = 0.8 * own[places["in_gaps"]] + 0.6 * own[places["beside"]]
    own *= (1 - lean.square()).sqrt()
    length = uniform(generator, 1.0, 3.0, n, 1)
    length[[places["main"], *right]] *= 0.25
    # What is on wherever the concept is, and elsewhere, has the largest codes; the main latent's
    # differ so much that others correlate more with the concept; one that absorbs it has its
    # largest where the concept is not.
    codes = torch.stack(on, dim=1) * uniform(generator, 0.2, 1.0, N_INPUTS, n)
    codes[:, places["everywhere"]] *= 10
    codes[:, places["main"]] *= 10 ** uniform(generator, -1, 1, N_INPUTS)
    codes[:, order.index(0)] *= torch.where(concept, 1.0, 20.0)
    return concept, codes, length * (lean * axes[0] + own), right


def measure_absorption(concept: list[bool], on: list[list[bool]]) -> list[tuple[float, float]]:
    """Count for each latent the share of gaps it is on in, and how often it has the concept."""
    exceptions = [sum(a != b for a, b in zip(row, concept, strict=True)) for row in on]
    main = on[exceptions.index(min(exceptions))]
    gaps = [i for i in range(len(concept)) if concept[i] and not main[i]]
    figures = []
    for row in on:
        there = [concept[i] for i in range(len(concept)) if row[i]]
        in_gaps = sum(row[i] for i in gaps) / len(gaps)
        figures.append((in_gaps, sum(there) / max(1, len(there))))
    return figures


def judge_absorbing(student, seed: int) -> None:
    concept, codes, W_dec, right = plant_absorption(seed)
    got = student.call("find_absorbing", concept, codes, W_dec)
    expect_numbers(got, right, len(W_dec), n_tempting=6)  # as many share its direction


@check("find_absorbing")
def test_absorbing_latents_are_found(student):
    """Latents that absorb a concept, among others that share its direction or its inputs."""
    judge_absorbing(student, student.seeds(1)[0])


@check("find_absorbing")
def test_absorbing_latents_of_another_concept_are_found(student):
    """Another dictionary and another concept."""
    judge_absorbing(student, student.seeds(2)[1])


# 11.4 ---------------------------------------------------------------------------------------------

# What a latent writes in the first model, as the crosscoder says and in truth, in units of what it
# writes in the second.
KINDS = {
    "shared": (1.0, 1.0),
    "exclusive": (0.0, 0.0),
    "nearly exclusive": (0.05, 0.0),
    "shrunk": (0.0, 0.4),
    "strong": (0.0, 0.8),
    "just shrunk": (0.08, 0.14),
    "large codes": (0.0, 0.16),
    "short": (0.0, 0.3),
    "weak": (0.3, 0.4),
    "made up": (0.3, 0.0),
    "first": (9.0, 9.0),
}
LATENTS = ("shared", "shared", "shared", "shared", "exclusive", "exclusive", *list(KINDS)[2:])
Crosscoder = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@functools.cache
def plant_crosscoder(seed: int) -> tuple[Crosscoder, set[int]]:
    """Plant what a crosscoder says of two models, and the first model's activations.

    An exclusive feature hardly ever comes without a shared one. No latent is near a bound.
    """
    generator = start(seed)
    n, rows, d_first, d_second = len(LATENTS), 2000, 11, 14
    while True:
        on = chance(generator, 0.15, rows, n)
        for i, kind in enumerate(LATENTS):
            if "exclusive" in kind:  # latents 0, 1, ... are shared
                on[:, i] = on[:, i - 4] & chance(generator, 0.9, rows)
        codes = on * uniform(generator, 0.5, 1.5, rows, n)
        scale = torch.tensor([0.4 if kind == "large codes" else 1.0 for kind in LATENTS])
        codes = codes * scale
        W_second = normalize(normal(generator, n, d_second)) * uniform(generator, 1.0, 2.5, n, 1)
        W_second[LATENTS.index("short")] *= 0.1
        size = W_second.norm(dim=1, keepdim=True)
        said, true = (torch.tensor(column)[:, None] for column in
                      zip(*(KINDS[kind] for kind in LATENTS), strict=True))  # fmt: skip
        direction = normalize(normal(generator, n, d_first))
        W_first, truth = size * said * direction, size * true * direction
        W_second = torch.where(said > 1, 0.02 * W_second, W_second)
        first = codes @ truth + normal(generator, d_first)
        first += 0.02 * normal(generator, rows, d_first)
        b_first = (first - codes @ W_first).mean(dim=0)
        order = torch.randperm(n, generator=generator)
        given = (first, codes[:, order], W_first[order], W_second[order], b_first)
        right = {place for place, i in enumerate(order.tolist()) if "exclusive" in LATENTS[i]}
        ratios = measure_first(*given)
        is_clear = all((ratio < 0.08) == (said < 0.1 and true == 0)
                       and not 0.08 < ratio < 0.115
                       for ratio, (said, true) in
                       zip(ratios, (KINDS[LATENTS[i]] for i in order.tolist()), strict=True)
                       if said < 0.1)  # fmt: skip
        if is_clear:
            return given, right


def measure_first(
    first: Tensor, codes: Tensor, W_first: Tensor, W_second: Tensor, b_first: Tensor
) -> list[float]:
    """Measure how much each latent moves in the first model, per what it moves in the second."""
    ratios = []
    for latent in range(codes.shape[1]):
        others = [i for i in range(codes.shape[1]) if i != latent]
        left = first - b_first
        for i in others:
            left = left - torch.outer(codes[:, i], W_first[i])
        vector = torch.linalg.lstsq(codes[:, latent : latent + 1].double(), left.double()).solution
        ratios.append(float(vector.norm() / W_second[latent].norm()))
    return ratios


def judge_exclusive(student, seed: int) -> None:
    given, right = plant_crosscoder(seed)
    got = student.call("find_exclusive", *given)
    expect_numbers(got, right, len(LATENTS), n_tempting=5)  # as many look exclusive


@check("find_exclusive")
def test_exclusive_latents_are_told_from_shrunk_ones(student):
    """A crosscoder of two models: shared, exclusive and shrunk features."""
    judge_exclusive(student, student.seeds(1)[0])


@check("find_exclusive")
def test_exclusive_latents_of_another_crosscoder(student):
    """Two other models."""
    judge_exclusive(student, student.seeds(2)[1])


# 11.5 ---------------------------------------------------------------------------------------------

# What a neuron of layer 1 reads of the feature itself, what of layer 0's neuron for it, and how
# much that neuron adds to its input: -9 keeps it silent, 0.8 keeps it firing. In company, layer 1
# also reads layer 0's neuron for feature 2. What is recalled a head of layer 1 brings from all
# positions.
ROUTES = {
    "direct": (1.0, 0.0, -0.1),
    "detour": (0.0, 1.0, -0.1),
    "mostly direct": (0.62, 0.38, -0.1),
    "mostly detour": (0.36, 0.64, -0.1),
    "silent": (1.0, 2.0, -9.0),
    "held back": (1.5, -0.8, -0.1),
    "helped": (1.0, 1.0, 0.8),
    "in company": (0.45, 0.55, -0.1),
    "recalled": (0.3, 0.0, -0.1),
}
CIRCUIT = (
    *["direct", "detour"] * 2,
    *["mostly direct", "mostly detour", "silent", "held back", "helped"],
    *["in company", "recalled", "detour"],
)
N_CIRCUIT = len(CIRCUIT)
IN_COMPANY, RECALLED, FREQUENT = range(N_CIRCUIT - 3, N_CIRCUIT)
COMPANY = 0.6


def run_circuit(x: Tensor, last: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run the planted circuit on amounts (b, pos, feature), in the features' own terms.

    Return what layers 0 and 1 write at the last position, for each feature and for each output. If
    `last` is given, layer 0 writes this there.
    """
    routes = torch.tensor([ROUTES[kind] for kind in CIRCUIT])
    reads, reads_early, bias = routes.T
    helped = torch.tensor([kind == "helped" for kind in CIRCUIT])
    everywhere = torch.relu(x * ~helped + bias)
    if last is not None:
        everywhere[:, -1] = last
    early = everywhere[:, -1]
    read = x[:, -1] * reads + early * reads_early - torch.where(helped, 0.9, 0.0)
    read[:, IN_COMPANY] += COMPANY * early[:, 2]
    read[:, RECALLED] += everywhere[..., RECALLED].mean(dim=1)
    late = torch.relu(read)
    late[:, 2] += late[:, 3]  # a direct and a detoured feature have one output
    late[:, 3] = late[:, 2]
    return early, late


@torch.no_grad()
def write_circuit(words: Tensor, generator: torch.Generator) -> tuple[Transformer, Tensor]:
    """Write the circuit for a vocabulary of amounts (token, feature) in a turned stream.

    Also return the directions of its outputs. The stream holds feature 1 along its output already
    before layer 0.
    """
    n = N_CIRCUIT
    turn = draw_rotation(3 * n + 3, generator).float()
    A, B, C, spare = turn.split([n, n, n, 3])
    recalled = spare[2]
    C = C.clone()
    C[3] = C[2]
    sizes = dict(d_head=2, d_mlp=n, positions="none", biases=True)
    model = by_hand.make_blank(Config(len(words), 3, 3 * n + 3, 2, **sizes))
    model.W_E.copy_(words @ A + normal(generator, len(words), 2) @ spare[:2])
    model.W_E += 1.5 * words[:, 1:2] * C[1]
    by_hand.copy_directions(model, 1, 0, B[RECALLED, None], recalled[None])
    for i, kind in enumerate(CIRCUIT):
        reads, reads_early, bias = ROUTES[kind]
        helps = kind == "helped"
        by_hand.look_up(model, 0, i, A[i] * (not helps), bias, B[i])
        by_hand.look_up(model, 1, i, reads * A[i] + reads_early * B[i], -0.9 * helps, C[i])
    model.blocks[1].mlp.W_in[:, IN_COMPANY] += COMPANY * B[2]
    model.blocks[1].mlp.W_in[:, RECALLED] += recalled
    model.W_U.copy_(normal(generator, *model.W_U.shape))
    return model, C


@functools.cache
def plant_detours(seed: int) -> tuple[Transformer, Tensor, Tensor, Tensor, set[int]]:
    """Plant a model, prompts, and the latents of a transcoder; no latent is near the bound.

    In most prompts the word before the last is the same.
    """
    generator = start(seed)
    often = torch.full((N_CIRCUIT,), 0.2)
    often[FREQUENT] = 0.85
    often[2] = 0.45  # it often writes what feature 3 writes, which takes a detour
    while True:
        words = (torch.rand(40, N_CIRCUIT, generator=generator) < often) * uniform(
            generator, 0.5, 1.5, 40, N_CIRCUIT
        )
        tokens = torch.randint(40, (60, 3), generator=generator)
        same = chance(generator, 0.75, 60)
        tokens[:, 1] = torch.where(same, tokens[:, 2], tokens[:, 1])
        x = words[tokens]
        on = x[:, -1] > 0
        if not ((on.sum(dim=0) > 2) & (on.sum(dim=0) < 58)).all():
            continue
        early, late = run_circuit(x)

        def leave(i, rows, last, x=x, late=late):
            """Measure which share of output i these rows keep if layer 0 writes `last` in them."""
            return float(run_circuit(x[rows], last)[1][:, i].mean() / late[rows, i].mean())

        present = list(on.T)
        without = [early[~each].mean(dim=0) for each in present]
        left = [leave(i, present[i], without[i]) for i in range(N_CIRCUIT)]
        if any(0.42 < share < 0.58 for share in left):
            continue
        # Who looks at all prompts, at the first, or puts in the first of the others, is wrong.
        firsts = [early[~each][0] for each in present]
        looks = [
            (present, without),
            ([slice(None)] * N_CIRCUIT, without),
            ([each.nonzero()[0] for each in present], without),
            (present, firsts),
        ]
        found = [
            {i for i in range(N_CIRCUIT) if leave(i, rows[i], last[i]) < 0.5}
            for rows, last in looks
        ]
        found += [found[0] | {RECALLED}, found[0] - {1}]  # of other mistakes
        hides = leave(3, slice(None), without[3]) > 0.55  # feature 2 does, in other prompts
        misleads = leave(IN_COMPANY, present[IN_COMPANY], firsts[IN_COMPANY]) < 0.42
        if len(set(map(frozenset, found))) == len(found) and hides and misleads:
            break
    order = torch.randperm(N_CIRCUIT, generator=generator)
    right = {place for place, i in enumerate(order.tolist()) if left[i] < 0.5}
    model, C = write_circuit(words, generator)
    size = uniform(generator, 0.5, 2.0, N_CIRCUIT, 1)
    return model, tokens, x[:, -1, order], (size * C)[order], right


def judge_detours(student, seed: int) -> None:
    *given, right = plant_detours(seed)
    got = student.call("find_detours", *given)
    expect_numbers(got, right, N_CIRCUIT, N_CIRCUIT - len(right))


@check("find_detours")
def test_detours_are_told_from_direct_writes(student):
    """Direct writes, detours, and both at once."""
    judge_detours(student, student.seeds(1)[0])


@check("find_detours")
def test_detours_in_another_model(student):
    """Another model, and other prompts."""
    judge_detours(student, student.seeds(2)[1])

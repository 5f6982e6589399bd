"""Grade lesson 03.

Heads are judged by what they do to streams and prompts, an unknown model by how it was planted.
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.course.grading.checks import Wrong, check, expect
from mini_transformer.course.grading.comparing import find_difference
from mini_transformer.course.grading.explain import make_sentence
from mini_transformer.course.grading.mutants import load_mutants

MUTANTS = load_mutants(__file__)


def draw_directions(count: int, d_model: int, generator: torch.Generator) -> Tensor:
    """Draw orthonormal rows (count, d_model)."""
    random = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(random).Q[:count].float()


def take_pair(got: object, shapes: list[tuple[int, int]], names: str) -> tuple[Tensor, Tensor]:
    """Take two weights of the given shapes, or say what came instead."""
    if not (
        isinstance(got, (list, tuple)) and len(got) == 2 and all(isinstance(W, Tensor) for W in got)
    ):
        raise Wrong(
            sentence=f"The function should return a pair of tensors ({names}); yours does not."
        )
    for W, shape, name in zip(got, shapes, names.split(", "), strict=True):
        if W.shape != shape:
            raise Wrong(sentence=make_sentence(find_difference(W, torch.zeros(shape), name)))
    return got[0].float(), got[1].float()


# Any basis of the head's dimensions will do.
VIEWS = {
    "previous_token_qk": lambda pair, *args: pair[0].float() @ pair[1].float().T,
    "copy_ov": lambda pair, *args: pair[0].float() @ pair[1].float(),
    "match_qk": lambda pair, *args: pair[0].float() @ pair[1].float().T,
}


def expect_each(asked: list[tuple[Tensor, Tensor]], what: str) -> None:
    """Compare what came with what should have come; what is left by rounding is 0."""
    for got, want in asked:
        expect(got.double().round(decimals=4), want, rtol=1e-3, atol=2e-3, what=what)


# n_ctx d_model d_head strength scale
POSITION_CASES = [(5, 11, 8, 6.0, 2.0), (7, 13, 7, 2.5, 1.0), (3, 20, 10, 12.0, 5.0)]


@check("previous_token_qk", weight=2)
def test_each_position_scores_the_one_before_it(student):
    """The query at position i gives the key at i - 1 the score `strength`, and all other keys in
    its past 0."""
    judge_previous(student, others=0.0)


@check("previous_token_qk")
def test_nothing_but_positions_counts(student):
    """The scores stay the same when the stream also holds other things, orthogonal to the
    positions."""
    judge_previous(student, others=0.0)
    judge_previous(student, others=1.0)


def judge_previous(student, others: float) -> None:
    asked = []
    for seed, (n, d_model, d_head, strength, scale) in zip(
        student.seeds(3), POSITION_CASES, strict=True
    ):
        generator = torch.Generator().manual_seed(seed)
        basis = draw_directions(d_model, d_model, generator)
        inputs = (basis[:n], strength, d_head, scale)
        pair = take_pair(
            student.call("previous_token_qk", *inputs), [(d_model, d_head)] * 2, "W_Q, W_K"
        )
        x = basis[:n] + others * torch.randn(n, d_model - n, generator=generator) @ basis[n:]
        want = torch.diag(torch.full((n - 1,), strength), -1)
        asked.append((((x @ pair[0]) @ (x @ pair[1]).T / scale).tril(), want))
    if others and any(not torch.allclose(got, want, rtol=1e-3, atol=1e-2) for got, want in asked):
        raise Wrong("fills_the_unused_dimensions")
    if not others:
        expect_each(asked, "the table of scores (query, key)")


COPY_CASES = [(3, 10, 5), (4, 9, 6), (2, 7, 5)]  # count d_model d_head


def ask_to_copy(student) -> list[tuple[Tensor, Tensor, Tensor, torch.Generator]]:
    """Ask for heads that copy: a basis, of which the first are sources, targets, and the OV."""
    heads = []
    for seed, (n, d_model, d_head) in zip(student.seeds(3), COPY_CASES, strict=True):
        generator = torch.Generator().manual_seed(seed)
        basis = draw_directions(d_model, d_model, generator)
        lengths = torch.logspace(-1.3, 0.5, n)[torch.randperm(n, generator=generator)]
        target = lengths.unsqueeze(1) * torch.randn(n, d_model, generator=generator)
        got = student.call("copy_ov", basis[:n], target, d_head)
        W_V, W_O = take_pair(got, [(d_model, d_head), (d_head, d_model)], "W_V, W_O")
        heads.append((basis, target, W_V @ W_O, generator))
    return heads


@check("copy_ov")
def test_each_source_becomes_its_target(student):
    """A stream of length a along source[i] makes the head write a times target[i]."""
    asked = []
    for basis, target, OV, generator in ask_to_copy(student):
        amount = 0.5 + torch.rand(len(target), 1, generator=generator)
        asked.append((amount * basis[: len(target)] @ OV, amount * target))
    expect_each(asked, "what the head writes")


@check("copy_ov")
def test_sources_add_up_and_the_rest_is_left_alone(student):
    """Several sources at once write the sum of their targets; anything else in the stream is not
    copied."""
    asked = []
    rest = []
    for basis, target, OV, generator in ask_to_copy(student):
        amounts = torch.randn(2, len(basis), generator=generator)
        n = len(target)
        asked.append((amounts[:, :n] @ basis[:n] @ OV, amounts[:, :n] @ target))
        rest.append(float((amounts[:, n:] @ basis[n:] @ OV).abs().max()))
    expect_each(asked, "what the head writes for several sources")
    if max(rest) > 1e-3:
        raise Wrong("passes_other_things_on")


# d_vocab d_model d_head strength scale
MATCH_CASES = [(4, 13, 6, 7.0, 2.0), (6, 15, 6, 3.0, 1.0), (3, 11, 5, 9.0, 4.0)]


@check("match_qk", weight=2)
def test_a_token_finds_the_positions_that_come_after_it(student):
    """On a prompt, each query scores `strength` where the token before the key is its own token,
    and 0 elsewhere."""
    judge_matches(student, others=0.0)


@check("match_qk")
def test_matching_ignores_what_else_is_in_the_stream(student):
    """The same on streams that also hold other things, such as positions."""
    judge_matches(student, others=1.0)


def judge_matches(student, others: float) -> None:
    cases = zip(student.seeds(3), MATCH_CASES, strict=True)
    asked = [match_once(student, seed, *case, others) for seed, case in cases]
    expect_each(asked, "the table of scores (query, key)")


def match_once(student, seed, n_tokens, d_model, d_head, strength, scale, others):
    generator = torch.Generator().manual_seed(seed)
    basis = draw_directions(d_model, d_model, generator)
    W_E = basis[:n_tokens]
    written = basis[n_tokens : 2 * n_tokens]
    inside = draw_directions(n_tokens, d_head, generator)
    inside *= torch.linspace(0.5, 2.0, n_tokens).unsqueeze(1)
    W_V = W_E.T @ inside
    W_O = torch.linalg.pinv(inside) @ written  # writes written[i] for token i
    got = student.call("match_qk", W_E, W_V, W_O, strength, scale)
    W_Q, W_K = take_pair(got, [(d_model, d_head)] * 2, "W_Q, W_K")
    tokens = [0, 1, 0, 2, 2, *torch.randint(n_tokens, (9,), generator=generator).tolist(), 1, 0]
    noise = others * torch.randn(len(tokens), d_model - 2 * n_tokens, generator=generator)
    stream = noise @ basis[2 * n_tokens :] + W_E[tokens]
    stream[1:] += written[tokens[:-1]]
    places = range(1, len(tokens))  # position 0 has nothing before it
    want = torch.tensor([[strength * (tokens[k - 1] == tokens[q]) for k in places] for q in places])
    return ((stream @ W_Q) @ (stream @ W_K).T / scale)[1:, 1:], want


def draw_prompts(n_tokens: int, length: int, generator: torch.Generator) -> list[list[int]]:
    """Draw token 0, then a block of distinct tokens again and again.

    A block is at most half as long as the prompt.
    """
    prompts = []
    for _ in range(12):
        longest = min(n_tokens - 1, length // 2)
        period = int(torch.randint(2, longest + 1, (1,), generator=generator))
        block = (1 + torch.randperm(n_tokens - 1, generator=generator)[:period]).tolist()
        prompts.append([0] + [block[t % period] for t in range(length - 1)])
    return prompts


class Trial:
    """Hold a learner's weights for one vocabulary and context, run on prompts."""

    def __init__(self, weights: object, seed: int, n_tokens: int, n_ctx: int) -> None:
        self.model = make_model(weights, n_tokens, n_ctx)
        self.prompts = draw_prompts(n_tokens, n_ctx, torch.Generator().manual_seed(seed))
        self.logits, self.cache = self.model.run_with_cache(torch.tensor(self.prompts))
        # (prompt, position, positions after the earlier occurrences of its token)
        self.repeats = [
            (b, t, [1 + s for s in range(t) if prompt[s] == prompt[t]])
            for b, prompt in enumerate(self.prompts)
            for t in range(len(prompt))
            if prompt[t] in prompt[:t]
        ]

    def least(self, layer: int, places: list[tuple[int, int, list[int]]]) -> tuple[float, str]:
        """Return the least attention over all places, of the head for which it is largest.

        A place is a prompt, a query and its keys. Say where it is, too.
        """
        pattern = self.cache["pattern", layer]
        paid = torch.stack([pattern[b, :, q, keys].sum(dim=1) for b, q, keys in places])
        head = paid.amin(dim=0).argmax()
        worst = paid[:, head].min().item()
        first = min(
            q for (_, q, _), x in zip(places, paid[:, head], strict=True) if x < worst + 0.01
        )
        where = f"at position {first} of {len(self.prompts[0])}, counted from 0"
        return worst, f"d_vocab {self.model.config.d_vocab}, {where}"

    def is_even(self, layer: int) -> bool:
        pattern = self.cache["pattern", layer]
        even = torch.ones(pattern.shape[-2:]).tril()
        return bool(((pattern - even / even.sum(dim=1, keepdim=True)).abs() < 1e-3).all())


def make_model(weights: object, n_tokens: int, n_ctx: int) -> Transformer:
    """Make the Transformer of these weights, or say what does not fit."""
    names = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
    if not isinstance(weights, dict) or sorted(weights) != sorted(names):
        raise Wrong(
            sentence=f"The function should return a dict with the keys {', '.join(names)}; "
            "yours does not."
        )
    if (
        not all(isinstance(W, Tensor) for W in weights.values())
        or weights["W_Q"].ndim != 4
        or weights["W_E"].ndim != 2
    ):
        raise Wrong(
            sentence="All weights are tensors, W_E with 2 axes and W_Q with 4: layer, head, "
            "d_model, d_head."
        )
    d_model = weights["W_E"].shape[1]
    _, n_heads, _, d_head = weights["W_Q"].shape
    model = Transformer(
        Config(n_tokens, n_ctx, d_model, 2, n_heads, d_head, attn_scale=1.0)
    ).requires_grad_(False)
    for name in names:
        fits = getattr(model, name)
        if weights[name].shape != fits.shape:
            given = tuple(weights[name].shape)
            expected = tuple(fits.shape)
            raise Wrong(
                sentence=f"For d_vocab {n_tokens} and n_ctx {n_ctx}, {name} is {given}, "
                f"expected {expected}."
            )
        owners = [model] if fits.ndim == 2 else [block.attn for block in model.blocks]
        targets = [getattr(owner, name) for owner in owners]
        for target, W in zip(
            targets, [weights[name]] if fits.ndim == 2 else weights[name], strict=True
        ):
            target.copy_(W)
    return model


def draw_trials(student) -> list[Trial]:
    """Try a longer context, a longer vocabulary, and the learner's own sizes."""
    seeds = student.seeds(3)
    own = random.Random(seeds[2])
    sizes = [(7, 120), (40, 11), (own.randrange(5, 12), own.randrange(20, 28))]
    answers = [student.call("induction_weights", *size) for size in sizes]
    shapes = [
        {
            name: getattr(W, "shape", None)
            for name, W in (answer if isinstance(answer, dict) else {}).items()
        }
        for answer in answers
    ]
    if len(shapes[0]) == 7 and shapes[0] == shapes[1] == shapes[2]:
        raise Wrong("ignores_its_arguments")
    return [
        Trial(answer, seed, *size) for answer, seed, size in zip(answers, seeds, sizes, strict=True)
    ]


@check("induction_weights")
def test_layer_0_looks_at_the_previous_position(student):
    """A head in layer 0 pays at least .99 of its attention to the previous position, everywhere."""
    for trial in draw_trials(student):
        places = [
            (b, t, [t - 1]) for b, prompt in enumerate(trial.prompts) for t in range(1, len(prompt))
        ]
        least, where = trial.least(0, places)
        if least >= 0.99:
            continue
        if trial.is_even(0):
            raise Wrong("attends_evenly")
        if trial.least(0, [(b, t, [t]) for b, t, _ in places])[0] > 0.9:
            raise Wrong("attends_to_itself")
        pattern = trial.cache["pattern", 0][:, :, 1:]
        if (pattern.argmax(dim=-1) == torch.arange(pattern.shape[2])).all(dim=-1).all(dim=0).any():
            raise Wrong("attends_too_weakly")
        raise Wrong(
            sentence=f"No head of layer 0 pays enough to the previous position: with {where}, "
            f"it is {least:.2f}."
        )


@check("induction_weights")
def test_layer_1_looks_right_after_the_tokens_earlier_occurrences(student):
    """A head in layer 1 pays at least .99 of its attention to the positions after the token's
    earlier occurrences."""
    for trial in draw_trials(student):
        least, where = trial.least(1, trial.repeats)
        if least >= 0.99:
            continue
        if trial.is_even(1):
            raise Wrong("nothing_to_match")
        earlier = [(b, t, [k - 1 for k in keys]) for b, t, keys in trial.repeats]
        equal = [(b, t, [*keys, t]) for b, t, keys in earlier]
        if trial.least(1, equal)[0] > 0.9 and trial.least(1, earlier)[0] > 0.2:
            raise Wrong("matches_the_token_itself")
        raise Wrong(
            sentence="No head of layer 1 pays enough to the positions after the token's earlier "
            f"occurrences: with {where}, it is {least:.2f}."
        )


@check("induction_weights")
def test_the_model_says_the_token_that_followed_before(student):
    """Wherever a token has occurred before, the token that followed it has the highest logit, by at
    least .1."""
    for trial in draw_trials(student):
        answers = torch.tensor([trial.prompts[b][keys[0]] for b, _, keys in trial.repeats])
        present = torch.tensor([trial.prompts[b][t] for b, t, _ in trial.repeats])
        at = tuple(zip(*[(b, t) for b, t, _ in trial.repeats], strict=True))
        top = trial.logits[at].topk(2, dim=-1)
        leads = top.values[:, 0] - top.values[:, 1]
        says = top.indices[:, 0]
        right = (says == answers).float().mean().item()
        if right == 1 and leads.min() >= 0.1:
            continue
        if bool((says == present).all()):
            without = trial.model.unembed(trial.cache["resid_post", 0])[at].argmax(dim=-1)
            if bool((without == present).all()):
                raise Wrong("reads_out_the_present_token")
            if trial.least(1, trial.repeats)[0] > 0.9:
                raise Wrong("copies_the_matched_token")
        if right == 1:
            raise Wrong("leads_by_too_little")
        raise Wrong(sentence=f"Of the next tokens, {right:.0%} have the highest logit.")


# What is true of a decoy, which a learner who names it is told.
NOTHING = "looks back and writes nothing"
UNREAD_BACK = "looks back and writes where nobody reads"
UNREAD_MATCH = "matches and writes where nobody reads"
FAINT = "hardly moves the logits"
LOUD = "writes much, where nobody reads"
ALIKE = "moves all logits alike"
LAYERS = (
    ("previous", NOTHING, UNREAD_BACK, LOUD, ALIKE),
    ("match", UNREAD_MATCH, FAINT, LOUD, ALIKE),
)


def plant_model(seed: int, turn: int) -> tuple[dict[str, Tensor], dict[str, str], Tensor, Tensor]:
    """Plant five heads per layer; return weights, roles, prompts, and the tokens after them.

    The order of the heads is drawn from `seed` and turned on by `turn` places, so that no head
    keeps its place from one turn to the next; the stream and every head's own dimensions are
    rotated at random.
    """
    generator = torch.Generator().manual_seed(seed + 1 + turn)
    n_tokens, n_ctx, d_head = 9, 14, 16
    sizes = [n_tokens, n_ctx, n_tokens, n_tokens, n_tokens]
    axes = draw_directions(sum(sizes), sum(sizes), generator)
    token, position, previous, following, unread = axes.split(sizes)
    nothing = torch.zeros_like(token)
    loud = 6 * unread
    alike = 1.5 * following.sum(0).expand(n_tokens, -1)
    faint = 0.05 * following
    look_back = (position[1:], position[:-1])
    match = (token, previous)
    evenly = (token, nothing)
    heads = {
        "previous": (look_back, previous),
        NOTHING: (look_back, nothing),
        UNREAD_BACK: (look_back, unread),
        "match": (match, following),
        UNREAD_MATCH: (match, unread),
        FAINT: (evenly, faint),
        LOUD: (evenly, loud),
        ALIKE: (evenly, alike),
    }
    weights = {name: torch.zeros(2, 5, len(axes), d_head) for name in ("W_Q", "W_K", "W_V")}
    weights["W_O"] = torch.zeros(2, 5, d_head, len(axes))
    kinds = {}
    for layer, names in enumerate(LAYERS):
        order = (
            torch.randperm(5, generator=torch.Generator().manual_seed(seed + layer)) + turn
        ) % 5
        for head, name in zip(order.tolist(), names, strict=True):
            (query, key), target = heads[name]
            inside = draw_directions(d_head, d_head, generator)
            weights["W_Q"][layer, head] = 20.0 * query.T @ inside[: len(query)]
            weights["W_K"][layer, head] = key.T @ inside[: len(key)]
            weights["W_V"][layer, head] = token.T @ inside[:n_tokens]
            weights["W_O"][layer, head] = inside[:n_tokens].T @ target
            # Values fill dimensions that the output does not read.
            if name == NOTHING:
                weights["W_O"][layer, head] = inside[n_tokens:].T @ previous[: d_head - n_tokens]
            kinds[f"a{layer}.h{head}"] = name
    prompts = draw_prompts(n_tokens, n_ctx, generator)
    answer = [prompt[1 + prompt.index(prompt[-1])] for prompt in prompts]
    # If nobody speaks up, the token itself says 0, but on the first prompt what is right.
    says = token.sum(0) - token[prompts[0][-1]]
    silent = torch.zeros_like(token)
    silent[[0, answer[0]]] = 2 * torch.stack([says, token[prompts[0][-1]]])
    weights |= {"W_E": token, "W_pos": position, "W_U": (20.0 * following + silent).T}
    return weights, kinds, torch.tensor(prompts), torch.tensor(answer)


def judge_roles(student, judge: Callable[[dict, dict], str]) -> None:
    """Ask for the roles in three models; `judge` says what is wrong with one, if anything is."""
    asked = []
    for turn in range(3):
        weights, kinds, tokens, answer = plant_model(student.seeds(1)[0], turn)
        roles = student.call("find_roles", weights, tokens, answer)
        if not isinstance(roles, dict) or set(roles) != set(kinds):
            named = ", ".join(map(str, roles)) if isinstance(roles, dict) else "no dict"
            raise Wrong(
                sentence="The function should return a dict with the keys "
                f"{', '.join(sorted(kinds))}; it has {named}."
            )
        if odd := [role for role in roles.values() if role not in ("previous", "match", "decoy")]:
            raise Wrong(sentence=f'A role is "previous", "match" or "decoy", not {odd[0]!r}.')
        asked.append((roles, kinds))
    for roles, kinds in asked:
        if why := judge(roles, kinds):
            raise Wrong(sentence=f"In one model {why}.")


def judge_role(student, role: str) -> None:
    """Judge whether the head planted as `role`, and no other, is called so."""

    def judge(roles, kinds):
        named = {kinds[head] for head in roles if roles[head] == role}
        if not named:
            return f"you call no head {role!r}"
        others = sorted(named - {role, "previous", "match"})
        if others:
            return f"you call a head {role!r} that {others[0]}; without it every answer stays"
        return "" if named == {role} else f"you call another head {role!r} than the one that is"

    judge_roles(student, judge)


@check("find_roles")
def test_the_previous_token_head_is_found(student):
    """In three unknown models, the head that tells each position its previous token."""
    judge_role(student, "previous")


@check("find_roles")
def test_the_matching_head_is_found(student):
    """In three unknown models, the head that matches what the other wrote."""
    judge_role(student, "match")


@check("find_roles")
def test_every_decoy_is_called_a_decoy(student):
    """In three unknown models, no decoy is mistaken for a head that matters."""

    def judge(roles, kinds):
        decoys = {head for head in kinds if kinds[head] not in ("previous", "match")}
        named = {head for head in roles if roles[head] == "decoy"}
        missing = f"{len(decoys - named)} of {len(decoys)} decoys are not called so"
        return "" if named == decoys else f"{missing}, and {len(named - decoys)} other heads are"

    judge_roles(student, judge)

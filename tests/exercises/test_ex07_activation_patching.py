"""Grade lesson 07.

What is right comes from runs of one prompt and one patch each, block by block, or was planted.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import (
    Wrong,
    as_list,
    check,
    expect,
    expect_found,
    score_found,
)
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MISTAKES = {
    "patch_positions": {
        "swaps_base_and_source": "You run the source prompts and put activations of the base "
        "prompts in.",
        "positions_of_all_prompts": "Every prompt is patched at the positions of all prompts: what "
        "does value[:, position] pick when position is a tensor?",
        "one_position_for_all": "All your prompts are patched at the same position.",
        "adds_instead_of_replacing": "What was there before is still there: you add the other "
        "activation to it.",
        "reads_the_last_position": "What you put in is what the source has at its last position.",
    },
    "patching_map": {
        "ignores_the_direction": "Your map is the same in both directions: which prompts are run, "
        "and which lend activations?",
        "swaps_the_directions": "This is the map of the other direction: in denoising, which "
        "prompts are run?",
        "keeps_earlier_patches": "Your patches pile up: earlier positions of the layer are still "
        "patched when the next one is.",
        "patches_whole_layers": "All positions of your map have the same value: each patch covers "
        "the whole layer.",
        "averages_the_shares": "You take a share for each prompt and average these: a prompt on "
        "which the two runs hardly differ then outweighs the others.",
        "forgets_the_start": "Your values are parts of the other run's metric: a patch that does "
        "nothing should count 0.",
        "reads_the_answer_alone": "You look at the logit of the answer alone: compared with which "
        "token?",
        "takes_probabilities": "Your metric is a probability, which hardly moves "
        "near 0 and near 1.",
        "averages_over_positions": "Your metric takes all positions into account; the answer is "
        "called for at the last one.",
    },
    "choose_corruptions": {
        "changes_more_than_one_thing": "Some of your partners also differ elsewhere: a map cannot "
        "say which difference it is of.",
        "changes_another_thing": "Some of your partners differ at another position than the one "
        "that is asked about.",
        "same_answer": "Some of your partners have the same answer, so that there is nothing for a "
        "patch to bring back.",
        "trusts_the_answers": "You choose prompts that the model gets wrong, on either side: did "
        "you ask the model?",
        "checks_only_the_prompt_itself": "The model gets some of your partners wrong, although it "
        "is right on the prompts that they were chosen for.",
        "checks_only_the_partner": "Some prompts that the model itself gets wrong have a partner "
        "in your list.",
        "never_gives_up": "You name a partner also where no prompt of the list fits.",
        "constant_output": "You give the same number for every prompt.",
    },
    "trace_noise": {
        "first_draw_only": "You use the first draw of the noise alone.",
        "averages_the_noise": "You average the noise before the run: the average of many draws is "
        "hardly any noise.",
        "replaces_the_embedding": "Your noise takes the embedding's place: it should be added to "
        "it.",
        "forgets_the_noise": "Your restored runs have no noise to be rescued from.",
        "restores_the_noisy_value": "What you restore is what the noisy run has there anyway.",
        "restores_every_position": "All positions of your map have the same value: each time the "
        "whole layer is restored.",
        "does_not_subtract_the_noisy_run": "Your values are parts of the clean probability: what "
        "of it is there without restoring anything?",
        "takes_logits": "Your metric is a logit: the task asks for a probability.",
    },
    "find_carriers": {
        "swaps_enough_and_needed": "Your two lists are exchanged: which direction of patching "
        "tests what?",
        "denoises_only": "Your two lists are the same, and right for what is enough: what is "
        "enough need not be needed.",
        "noises_only": "Your two lists are the same, and right for what is needed: what is needed "
        "need not be enough.",
        "any_change_counts": "You name places that move the metric only a little.",
        "forgets_to_turn_the_scale": "You call those places needed which can be replaced without "
        "harm.",
        "names_the_layer_before": "Your layers are one too low: a place is the stream that enters "
        "a layer.",
        "trusts_differences": "You name every place in which the two runs differ, whether or not "
        "anything reads it.",
    },
}

SHAPES = (
    dict(d_vocab=11, n_ctx=8, d_model=12, n_layers=3, n_heads=2, d_head=5, d_mlp=6),
    dict(d_vocab=7, n_ctx=9, d_model=10, n_layers=2, n_heads=5, d_mlp=13, norm="layer"),
    dict(d_vocab=9, n_ctx=5, d_model=8, n_layers=2, n_heads=3, d_head=4, d_mlp=7, biases=True),
)
SITES = ("resid_pre", "attn_out", "mlp_out")
ROUNDING = {"rtol": 2e-3, "atol": 2e-4}
Edit = Callable[[Tensor], Tensor]
Blame = dict[str, Callable[[], Tensor]]


@torch.no_grad()
def draw_case(
    seed: int, shape: dict, rows: int, length: int = 5
) -> tuple[NamedModel, Transformer, Tensor, Tensor]:
    """Draw a random model, and two batches of prompts that differ in about half their tokens."""
    named = NamedModel("random", seed=seed, **shape)
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randint(shape["d_vocab"], (2, rows, length), generator=generator)
    kept = torch.randint(2, (rows, length), generator=generator).bool()
    kept[:, [0, -1]] = False
    return named, named.build(), one, torch.where(kept, one, two)


@torch.no_grad()
def run_block(
    model: Transformer, stream: Tensor, layer: int, edits: dict[str, Edit] | None = None
) -> dict[str, Tensor]:
    """Compute one block from the stream (b, t, d), with some of its activations edited."""
    seen = {}

    def keep(name: str, value: Tensor) -> Tensor:
        seen[name] = edits[name](value) if edits and name in edits else value
        return seen[name]

    block = model.blocks[layer]
    before = keep("resid_pre", stream)
    read = before if block.ln1 is None else block.ln1.normalize(before)
    middle = before + keep("attn_out", block.attn(read, read, read))
    read = middle if block.ln2 is None else block.ln2.normalize(middle)
    after = middle + keep("mlp_out", block.mlp(read))
    return seen | {"resid_post": after}


@torch.no_grad()
def run_edited(model: Transformer, stream: Tensor, layer: int, site: str, edit: Edit) -> Tensor:
    """Run the embedded prompts `stream` block by block, with one activation edited."""
    for i in range(model.config.n_layers):
        stream = run_block(model, stream, i, {site: edit} if i == layer else None)["resid_post"]
    return model.unembed(stream)


@torch.no_grad()
def read_site(model: Transformer, tokens: Tensor, layer: int, site: str) -> Tensor:
    return run_block(model, model(tokens, stop_at_layer=layer), layer)[site]


def insert(new: Tensor, position: int) -> Edit:
    """Replace one position of an activation (1, t, d) by the vector `new`."""
    return lambda x: torch.cat([x[:, :position], new.view(1, 1, -1), x[:, position + 1 :]], dim=1)


# 7.1 ----------------------------------------------------------------------------------------------


def patch_each(
    model: Transformer, base: Tensor, source: Tensor, layer: int, site: str, edit: Callable
) -> Tensor:
    """Patch one prompt at a time.

    `edit(i, x, other)` changes its activation x (1, t, d), given that of the source prompts.
    """
    other = read_site(model, source, layer, site)
    rows = range(len(base))
    embedded = [model.embed(base[i : i + 1]) for i in rows]
    edits = [lambda x, i=i: edit(i, x, other) for i in rows]
    runs = [run_edited(model, embedded[i], layer, site, edits[i]) for i in rows]
    return torch.cat(runs)


@check("patch_positions", weight=2)
def test_each_prompt_gets_its_own_activation_at_its_own_position(student):
    """Each prompt gets the activation of its own source, at its own position, and nowhere else."""
    for seed, shape, site in zip(student.seeds(3), SHAPES, SITES, strict=True):
        named, model, base, source = draw_case(seed, shape, rows=4)
        position = torch.tensor([3, 1, 0, 1]).roll(seed % 4)
        layer = 1 - seed % 2
        got = student.call(
            "patch_positions", named, base, source, f"blocks.{layer}.hook_{site}", position
        )

        def run(edit, model=model, base=base, source=source, layer=layer, site=site):
            return lambda: patch_each(model, base, source, layer, site, edit)

        def swapped(i, x, other, p=position):
            return insert(other[i, p[i]], int(p[i]))(x)

        def everywhere(i, x, other, p=position):
            return functools.reduce(lambda value, at: insert(other[i, at], int(at))(value), p, x)

        mistakes: Blame = {
            "swaps_base_and_source": run(swapped, base=source, source=base),
            "positions_of_all_prompts": run(everywhere),
            "one_position_for_all": run(
                lambda i, x, other, p=position: insert(other[i, p[0]], int(p[0]))(x)
            ),
            "adds_instead_of_replacing": run(
                lambda i, x, other, p=position: insert(x[0, p[i]] + other[i, p[i]], int(p[i]))(x)
            ),
            "reads_the_last_position": run(
                lambda i, x, other, p=position: insert(other[i, -1], int(p[i]))(x)
            ),
        }
        expect(got, run(swapped)(), mistakes=mistakes, what="the tensor of logits", **ROUNDING)


@check("patch_positions")
def test_a_patch_from_the_same_prompts_changes_nothing(student):
    """A patch from the same prompts changes nothing."""
    for seed, shape in zip(student.seeds(2), SHAPES[1:], strict=True):
        named, model, base, _ = draw_case(seed, shape, rows=3)
        got = student.call(
            "patch_positions", named, base, base, "blocks.1.hook_resid_pre", torch.tensor([4, 0, 2])
        )
        with torch.no_grad():
            expect(got, model(base), what="the tensor of logits", **ROUNDING)


# 7.2 ----------------------------------------------------------------------------------------------


def choose_tokens(model: Transformer, clean: Tensor, corrupt: Tensor) -> tuple[Tensor, Tensor]:
    """Choose for each prompt the two tokens whose last logits best tell the runs apart."""
    with torch.no_grad():
        gain = (model(clean) - model(corrupt))[:, -1]
    return gain.argmax(dim=-1), gain.argmin(dim=-1)


def compare_logits(answer: Tensor, wrong: Tensor) -> Callable[[Tensor], Tensor]:
    """Turn logits (b, t, v) into the difference of two tokens at every position, (b, t)."""
    return lambda logits: torch.stack(
        [logits[i, :, answer[i]] - logits[i, :, wrong[i]] for i in range(len(logits))]
    )


@dataclass(frozen=True)
class Sweep:
    """Hold the runs of one map: unpatched, and with every layer and position patched."""

    start: Tensor  # b t v
    end: Tensor
    patched: Tensor  # l t b t v: layer and position of the patch first

    def move(self, metric: Callable[[Tensor], Tensor], last: bool = True) -> Tensor:
        """Measure how far each patch moves the mean metric; metric gives (b, t)."""
        low, high = (
            metric(logits)[:, -1 if last else slice(None)].mean()
            for logits in (self.start, self.end)
        )
        values = [
            [metric(logits)[:, -1 if last else slice(None)].mean() for logits in row]
            for row in self.patched
        ]
        return (torch.tensor(values) - low) / (high - low)


def sweep(model: Transformer, base: Tensor, source: Tensor, site: str, reach: str = "one") -> Sweep:
    """Patch every entry, one prompt at a time.

    Reach "earlier" patches earlier positions as well, "layer" all of them.
    """
    length = base.shape[1]
    rows = []
    for layer in range(model.config.n_layers):

        def edit(i: int, x: Tensor, other: Tensor, at: int) -> Tensor:
            reached = {"one": [at], "earlier": range(at + 1), "layer": range(length)}[reach]
            return functools.reduce(lambda value, p: insert(other[i, p], p)(value), reached, x)

        runs = [
            patch_each(model, base, source, layer, site, functools.partial(edit, at=at))
            for at in range(length)
        ]
        rows.append(torch.stack(runs))
    with torch.no_grad():
        return Sweep(model(base), model(source), torch.stack(rows))


def average_shares(runs: Sweep, metric: Callable[[Tensor], Tensor]) -> Tensor:
    low, high = metric(runs.start)[:, -1], metric(runs.end)[:, -1]
    values = [
        [((metric(logits)[:, -1] - low) / (high - low)).mean() for logits in row]
        for row in runs.patched
    ]
    return torch.tensor(values)


def forget_start(runs: Sweep, metric: Callable[[Tensor], Tensor]) -> Tensor:
    values = [[metric(logits)[:, -1].mean() for logits in row] for row in runs.patched]
    return torch.tensor(values) / metric(runs.end)[:, -1].mean()


def wrong_maps(
    model: Transformer,
    clean: Tensor,
    corrupt: Tensor,
    answer: Tensor,
    wrong: Tensor,
    site: str,
    runs: Sweep,
    direction: str,
    ask: Callable,
) -> Blame:
    """Return what known mistakes give.

    `ask(direction)` is what the learner gives, to see whether the direction matters at all.
    """
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    difference = compare_logits(answer, wrong)
    alone = compare_logits(answer, torch.full_like(answer, model.config.d_vocab))

    def move(reach: str) -> Callable[[], Tensor]:
        return lambda: sweep(model, base, source, site, reach).move(difference)

    def probability(logits: Tensor) -> Tensor:
        return torch.stack([logits[i].softmax(dim=-1)[:, answer[i]] for i in range(len(logits))])

    def pad(logits: Tensor) -> Tensor:  # with a token whose logit is always 0
        return torch.cat([logits, torch.zeros_like(logits[..., :1])], dim=-1)

    mistakes: Blame = {
        "keeps_earlier_patches": move("earlier"),
        "patches_whole_layers": move("layer"),
        "averages_the_shares": lambda: average_shares(runs, difference),
        "forgets_the_start": lambda: forget_start(runs, difference),
        "reads_the_answer_alone": lambda: runs.move(lambda logits: alone(pad(logits))),
        "takes_probabilities": lambda: runs.move(probability),
        "averages_over_positions": lambda: runs.move(difference, last=False),
    }

    def reverse() -> Tensor | None:
        given = ask({"denoise": "noise", "noise": "denoise"}[direction])
        return given if isinstance(given, Tensor) and len(given.unique()) > 1 else None

    def swap() -> Tensor | None:
        swapped = sweep(model, source, base, site).move(difference)
        given = reverse()
        is_both = given is not None and torch.allclose(given, swapped, **ROUNDING)
        return None if is_both else swapped

    mistakes["ignores_the_direction"] = reverse
    mistakes["swaps_the_directions"] = swap
    return mistakes


def judge_map(student, direction: str) -> None:
    for seed, shape, site in zip(student.seeds(3), SHAPES, SITES, strict=True):
        named, model, clean, corrupt = draw_case(seed, shape, rows=3)
        answer, wrong = choose_tokens(model, clean, corrupt)
        ask = functools.partial(
            student.call, "patching_map", named, clean, corrupt, answer, wrong, site
        )
        got = ask(direction)
        base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
        runs = sweep(model, base, source, site)
        want = runs.move(compare_logits(answer, wrong))
        mistakes = wrong_maps(model, clean, corrupt, answer, wrong, site, runs, direction, ask)
        expect(got, want, mistakes=mistakes, what="the map", **ROUNDING)


@check("patching_map", weight=2)
def test_denoising_moves_the_corrupt_run_towards_the_clean_one(student):
    """Denoising: how far each patch moves the corrupt run towards the clean one."""
    judge_map(student, "denoise")


@check("patching_map", weight=2)
def test_noising_moves_the_clean_run_towards_the_corrupt_one(student):
    """Noising: how far each patch moves the clean run towards the corrupt one."""
    judge_map(student, "noise")


# 7.3 ----------------------------------------------------------------------------------------------

RULES = ("moved", "elsewhere", "same answer", "wrong on the prompt", "wrong on the partner")
BROKEN = {
    frozenset({"elsewhere"}): "changes_more_than_one_thing",
    frozenset({"moved"}): "changes_another_thing",
    frozenset({"same answer"}): "same_answer",
    frozenset({"wrong on the prompt", "wrong on the partner"}): "trusts_the_answers",
    frozenset({"wrong on the partner"}): "checks_only_the_prompt_itself",
    frozenset({"wrong on the prompt"}): "checks_only_the_partner",
}


@dataclass(frozen=True)
class Pool:
    """Hold prompts to choose pairs from, the answers they call for, and what the model says."""

    model: Transformer
    prompts: Tensor
    answer: Tensor
    said: list[int]
    position: int

    @functools.cached_property
    def rows(self) -> list[list[int]]:
        return self.prompts.tolist()

    @functools.cached_property
    def called(self) -> list[int]:
        return self.answer.tolist()

    def list_broken(self, i: int, j: int) -> set[str]:
        """List the rules that the pair breaks."""
        one, two = self.rows[i], self.rows[j]
        differs = [p for p in range(len(one)) if one[p] != two[p]]
        broken = {
            "moved": len(differs) == 1 and differs != [self.position],
            "elsewhere": len(differs) != 1,
            "same answer": self.called[i] == self.called[j],
            "wrong on the prompt": self.said[i] != self.called[i],
            "wrong on the partner": self.said[j] != self.called[j],
        }
        return {rule for rule in RULES if broken[rule]}

    @functools.cached_property
    def partners(self) -> list[list[int]]:
        n = len(self.prompts)
        return [[j for j in range(n) if not self.list_broken(i, j)] for i in range(n)]


FLAWS = (
    {"elsewhere"},
    {"moved"},
    {"same answer"},
    {"wrong on the prompt"},
    {"wrong on the partner"},
)


@functools.cache
@torch.no_grad()
def draw_pool(seed: int, length: int) -> Pool:
    """Draw a random model, and prompts beside others with one or two tokens changed.

    Some of the answers are not the model's. Drawn again until some prompts have partners and some
    none, and each rule alone rules out several pairs.
    """
    for attempt in itertools.count():
        generator = torch.Generator().manual_seed(seed + attempt)
        model = Transformer(
            Config(d_vocab=6, n_ctx=length, d_model=16, n_layers=2, n_heads=2), seed=seed + attempt
        )
        for block in model.blocks:
            block.attn.W_O.mul_(3)  # so that what the model says depends on all tokens
        position = int(torch.randint(length, (1,), generator=generator))
        prompts = set()
        for context in torch.randint(6, (6, length), generator=generator):
            other = (position + int(torch.randint(1, length, (1,), generator=generator))) % length
            changes = [[]] + 3 * [[position]] + 2 * [[other]] + [[position, other]]
            for places in changes:
                prompt = context.clone()
                prompt[places] = torch.randint(6, (len(places),), generator=generator)
                prompts.add(tuple(prompt.tolist()))
        rows = torch.tensor(sorted(prompts))[torch.randperm(len(prompts), generator=generator)]
        top = model(rows)[:, -1].topk(2, dim=-1)
        shift = (torch.rand(len(rows), generator=generator) < 0.25) * torch.randint(
            1, 6, (len(rows),), generator=generator
        )
        pool = Pool(
            model, rows, (top.indices[:, 0] + shift) % 6, top.indices[:, 0].tolist(), position
        )
        pairs = [
            pool.list_broken(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j
        ]
        found = sum(bool(partners) for partners in pool.partners)
        clear = (top.values[:, 0] - top.values[:, 1]).min() > 1e-3
        if clear and 8 <= found <= len(rows) - 8 and all(pairs.count(flaw) >= 6 for flaw in FLAWS):
            return pool
    raise AssertionError


@functools.lru_cache(maxsize=1)
def ask_pairs(student) -> list[tuple[list[int], Pool]]:
    """Ask for the learner's partners in three pools, once for both checks."""
    found = []
    for seed, length in zip(student.seeds(3), (4, 5, 3), strict=True):
        pool = draw_pool(seed, length)
        got = student.call(
            "choose_corruptions", pool.model, pool.prompts, pool.answer, pool.position
        )
        got = as_list(got)
        n = len(pool.prompts)
        if got is None or len(got) != n or not all(type(j) is int and -1 <= j < n for j in got):
            raise Wrong(
                sentence=f"Return a list with one number per prompt, {n} here, "
                f"each from -1 to {n - 1}."
            )
        found.append((got, pool))
    return found


def judge_pairs(student, fit: bool) -> None:
    """Judge the prompts that have a partner, or those that have none."""
    answers = ask_pairs(student)
    if all(len(set(got)) == 1 for got, _ in answers):
        raise Wrong("constant_output")
    chosen = [(j, i, pool) for got, pool in answers for i, j in enumerate(got)]
    right = {True: [], False: []}
    for j, i, pool in chosen:
        right[bool(pool.partners[i])].append(j in (pool.partners[i] or [-1]))
    shares = {kind: sum(hits) / len(hits) for kind, hits in right.items()}
    if shares[fit] == 1.0 and (fit or shares[True] > 0.5):
        return
    earned = max(0.0, shares[True] + shares[False] - 1)
    if shares[True] == 1.0 and not any(right[False]):
        raise Wrong("never_gives_up", earned=earned)
    broken = frozenset().union(*(pool.list_broken(i, j) for j, i, pool in chosen if j >= 0))
    if broken in BROKEN:
        name = BROKEN[broken]
        raise Wrong(name, earned=0 if name == "trusts_the_answers" else earned)
    which = "that have a partner" if fit else "that have none"
    raise Wrong(
        sentence=f"Of the prompts {which}, {shares[fit]:.0%} are judged rightly.", earned=earned
    )


@check("choose_corruptions", weight=2)
def test_a_partner_is_found_wherever_there_is_one(student):
    """Wherever a fit partner exists, one is found, in three unknown models."""
    judge_pairs(student, fit=True)


@check("choose_corruptions")
def test_where_no_prompt_fits_none_is_named(student):
    """Where no prompt fits, none is named."""
    judge_pairs(student, fit=False)


# 7.4 ----------------------------------------------------------------------------------------------


def rescue(
    model: Transformer,
    tokens: Tensor,
    noise: Tensor,
    site: str,
    reach: str = "one",
    source: str = "clean",
    replaced: bool = False,
) -> Sweep:
    """Run noisy prompts (`Sweep.start`), clean ones (`end`), and runs with entries restored.

    Draws stand beside prompts.
    """
    n_draws = len(noise)
    length = tokens.shape[1]
    rows = tokens.repeat(n_draws, 1)
    with torch.no_grad():
        embedded = model.embed(rows)
        added = noise.flatten(0, 1)
        blurred = embedded + added - (model.W_E[rows] * (added != 0) if replaced else 0)
        start = torch.cat(
            [run_edited(model, x, 0, "resid_pre", lambda x: x) for x in blurred.split(1)]
        )
        end = model(rows)
        patched = []
    for layer in range(model.config.n_layers):
        other = read_site(model, rows, layer, site)
        for at in range(length):
            places = range(length) if reach == "layer" else [at]

            def edit(
                x: Tensor, i: int, other: Tensor = other, places: Sequence[int] = places
            ) -> Tensor:
                if source == "noisy":
                    return x
                return functools.reduce(lambda value, p: insert(other[i, p], p)(value), places, x)

            runs = [
                run_edited(model, blurred[i : i + 1], layer, site, functools.partial(edit, i=i))
                for i in range(len(rows))
            ]
            patched.append(torch.cat(runs))
    return Sweep(start, end, torch.stack(patched).unflatten(0, (-1, length)))


def draw_noise(seed: int, model: Transformer, tokens: Tensor, n_draws: int) -> Tensor:
    """Draw noise on one token of each prompt, strong enough to be felt."""
    noise = torch.zeros(n_draws, *tokens.shape, model.config.d_model)
    generator = torch.Generator().manual_seed(seed)
    for i in range(len(tokens)):
        noise[:, i, i % 2] = torch.randn(n_draws, model.config.d_model, generator=generator)
    return noise


def judge_tracing(student, n_draws: int) -> None:
    for seed, shape, site in zip(student.seeds(3), SHAPES, SITES[::-1], strict=True):
        named, model, tokens, _ = draw_case(seed, shape, rows=2, length=4)
        noise = 2 * draw_noise(seed, model, tokens, n_draws)
        runs = rescue(model, tokens, noise, site)
        end = runs.end[:2, -1].softmax(-1)
        felt = end - runs.start[:, -1].softmax(-1).unflatten(0, (n_draws, 2)).mean(0)
        answer = felt.argmax(dim=-1)  # what the noise takes most from

        def metric(
            logits: Tensor,
            take: Callable = lambda row: row.softmax(dim=-1),
            answer: Tensor = answer,
        ) -> Tensor:
            return torch.stack([take(logits[i])[:, answer[i % 2]] for i in range(len(logits))])

        def other(metric=metric, model=model, tokens=tokens, noise=noise, site=site, **kwargs):
            return lambda: rescue(model, tokens, kwargs.pop("noise", noise), site, **kwargs).move(
                metric
            )

        mistakes: Blame = {
            "replaces_the_embedding": other(replaced=True),
            "forgets_the_noise": lambda runs=runs: torch.ones(runs.patched.shape[:2]),
            "restores_the_noisy_value": lambda runs=runs: torch.zeros(runs.patched.shape[:2]),
            "restores_every_position": other(reach="layer"),
            "does_not_subtract_the_noisy_run": lambda runs=runs, metric=metric: forget_start(
                runs, metric
            ),
            "takes_logits": lambda runs=runs, metric=metric: runs.move(
                lambda logits: metric(logits, lambda row: row)
            ),
        }
        if n_draws > 1:
            mistakes["first_draw_only"] = other(noise=noise[:1])
            mistakes["averages_the_noise"] = other(noise=noise.mean(dim=0, keepdim=True))
        got = student.call("trace_noise", named, tokens, answer, noise, site)
        expect(got, runs.move(metric), mistakes=mistakes, what="the map", **ROUNDING)


@check("trace_noise", weight=2)
def test_one_draw_of_noise(student):
    """With one draw of noise, the share that each restored entry brings back."""
    judge_tracing(student, 1)


@check("trace_noise", weight=2)
def test_several_draws_of_noise(student):
    """With several draws, each run by itself."""
    judge_tracing(student, 3)


# 7.5 ----------------------------------------------------------------------------------------------

YES, NO, MARK, N_TOKENS, N_LAYERS, N_CTX, N_PROMPTS = 0, 1, 2, 7, 5, 9, 16
CLOSED, OPEN = 3, 4  # fillers where the copies meet; the first of them closes the gate


@dataclass(frozen=True)
class Route:
    """Hold a model, its prompts, and the places that are enough and needed.

    `reached` are all places where the two runs differ.
    """

    model: Transformer
    clean: Tensor
    corrupt: Tensor
    enough: set[str]
    needed: set[str]
    weak: set[str]
    reached: set[str]

    @property
    def inputs(self) -> tuple:
        yes, no = (torch.full((N_PROMPTS,), token) for token in (YES, NO))
        return self.model, self.clean, self.corrupt, yes, no

    @property
    def possible(self) -> list[str]:
        return [f"{layer}@{position}" for layer in range(N_LAYERS) for position in range(N_CTX)]


@torch.no_grad()
def turn_stream(model: Transformer, generator: torch.Generator) -> Transformer:
    """Turn the stream at random, so that no weight can be read by eye."""
    d = model.config.d_model
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator)).Q
    for name, weight in model.named_parameters():
        weight.copy_(
            weight @ turn if name.endswith(("W_E", "W_pos", "W_O", "W_out")) else turn.T @ weight
        )
    return model


@functools.cache
@torch.no_grad()
def plant_route(seed: int, gate: str) -> Route:
    """Plant a model that says whether there is a mark at position `start`.

    Five layers, of which one is idle, carry the answer to the last position. Two heads fetch the
    mark to two positions, two others bring it from both to a third, where an MLP combines the
    copies: "or" is content with one, "and" wants both, "one" reads the first only. Two steps bring
    the result to the end. A head of the last layer asks the start directly and adds .45 of the
    whole: enough to turn the answer and most of its probability, but not half of the way. On the
    first prompt it is all there is, as a token closes the gate. Other
    heads carry the mark where nobody reads it, or the fillers.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = by_hand.Stream(
        token=N_TOKENS, position=N_CTX, fetched=2, met=2, result=1, passed=1, said=1, unread=3
    )
    config = Config(N_TOKENS, N_CTX, stream.d_model, N_LAYERS, 3, d_head=2, d_mlp=2, attn_scale=1.0)
    model = by_hand.make_blank(config)
    place = stream["position"]
    mark = stream["token"][MARK]
    by_hand.write_embedding(model, stream["token"], place)
    start, one, two, middle, late = (
        torch.randperm(N_CTX - 1, generator=generator)[:5].sort().values.tolist()
    )
    one, two = (one, two) if seed % 2 else (two, one)
    fetch, meet, step, end = sorted(torch.randperm(N_LAYERS, generator=generator)[:4].tolist())
    spare = [p for p in range(start + 1, N_CTX) if p not in (one, two, middle, late)]
    fetched = stream["fetched"]
    met = stream["met"]
    unread = stream["unread"]
    said = stream["said"][0]
    result = stream["result"][0]
    passed = stream["passed"][0]
    moves = [  # layer, from, to, reads, writes
        (fetch, start, one, mark, fetched[0]),
        (fetch, start, two, mark, fetched[1]),
        (fetch, start, spare[seed % len(spare)], mark, 3 * unread[0]),
        (meet, one, middle, fetched[0], met[0]),
        (meet, two, middle, fetched[1], met[1]),
        (step, middle, late, result, passed),
        (step, start, late, mark, 3 * unread[1]),
        (end, late, N_CTX - 1, passed, said),
        (end, start, N_CTX - 1, mark, 0.75 * said),
        (end, middle, N_CTX - 1, stream["token"][3], 3 * unread[2]),
    ]
    heads = {layer: torch.randperm(3, generator=generator).tolist() for layer in range(N_LAYERS)}
    for layer, source, target, reads, writes in moves:
        head = heads[layer].pop()
        by_hand.attend_where_equal(
            model, layer, head, place[target, None], place[source, None], 20.0
        )
        by_hand.copy_directions(model, layer, head, reads[None], writes[None])
    one_is_enough = met.sum(0)
    both_are_needed = met.sum(0) - place[middle]
    neurons = {
        "one": [(met[0], 1)],
        "and": [(both_are_needed, 1)],
        "or": [(one_is_enough, 1), (both_are_needed, -1)],
    }
    for neuron, (reads, sign) in enumerate(neurons[gate]):
        reads = reads - 5 * stream["token"][CLOSED]
        by_hand.look_up(model, meet, neuron, reads, 0.0, sign * result)
    says_yes = said - 0.5 * place[N_CTX - 1]
    by_hand.read_out(
        model, torch.stack([says_yes, -says_yes, *(0 * said for _ in range(N_TOKENS - 2))]), 8.0
    )

    def stay(position: int, first: int, last: int) -> set[str]:
        return {f"{layer}@{position}" for layer in range(first, last + 1)}

    both = stay(start, 0, fetch) | stay(middle, meet + 1, step) | stay(late, step + 1, end)
    both |= stay(N_CTX - 1, end + 1, N_LAYERS - 1)
    first, second = stay(one, fetch + 1, meet), stay(two, fetch + 1, meet)
    enough = {"one": both | first, "and": both, "or": both | first | second}[gate]
    needed = {"one": both | first, "and": both | first | second, "or": both}[gate]
    clean = torch.randint(3, N_TOKENS, (N_PROMPTS, N_CTX), generator=generator)
    clean[:, middle] = torch.where(torch.arange(N_PROMPTS) == 0, CLOSED, OPEN)
    corrupt = clean.clone()
    clean[:, start] = MARK
    model = turn_stream(model, generator)
    reached = set()
    for layer in range(N_LAYERS):
        gap = model(clean, stop_at_layer=layer) - model(corrupt, stop_at_layer=layer)
        reached |= {f"{layer}@{p}" for p, size in enumerate(gap.abs().amax((0, 2))) if size > 1e-3}
    return Route(model, clean, corrupt, enough, needed, stay(start, fetch + 1, end) - both, reached)


def wrong_routes(case: Route) -> dict[str, tuple[set[str], set[str]]]:
    everything = set(case.possible)
    earlier = [
        {f"{int(name[0]) - 1}{name[1:]}" for name in names} for names in (case.enough, case.needed)
    ]
    ends = {f"{N_LAYERS - 1}@{N_CTX - 1}"}
    kept = [{name for name in names if name[0] != "-"} | ends for names in earlier]
    return {
        "swaps_enough_and_needed": (case.needed, case.enough),
        "denoises_only": (case.enough, case.enough),
        "noises_only": (case.needed, case.needed),
        "any_change_counts": (case.enough | case.weak, case.needed | case.weak),
        "forgets_to_turn_the_scale": (case.enough, everything - case.needed),
        "names_the_layer_before": (kept[0], kept[1]),
        "trusts_differences": (case.reached, case.reached),
    }


@functools.lru_cache(maxsize=1)
def ask_routes(student) -> list[tuple[tuple[set[str], set[str]], Route]]:
    """Ask what the learner names in three models, once for all checks."""
    found = []
    for seed, gate in zip(student.seeds(3), ("or", "and", "one"), strict=True):
        case = plant_route(seed, gate)
        got = student.call("find_carriers", *case.inputs)
        if (
            not isinstance(got, (list, tuple))
            or len(got) != 2
            or not all(isinstance(part, (list, tuple, frozenset)) for part in got)
        ):
            raise Wrong(
                sentence="Return two lists of places: those that are enough, "
                "and those that are needed."
            )
        if odd := [name for part in got for name in part if name not in case.possible]:
            raise Wrong(
                sentence=f"{odd[0]!r} is no place of this model: 0@0 to {N_LAYERS - 1}@{N_CTX - 1}."
            )
        found.append(((set(got[0]), set(got[1])), case))
    return found


SPLITS: dict[str, Callable[[set[str], set[str]], set[str]]] = {
    "enough and needed": set.intersection,
    "enough but not needed": set.difference,
    "needed but not enough": lambda enough, needed: needed - enough,
}


def judge_routes(student, kind: str) -> None:
    """Hold the places of one kind, in three models, to those that were planted."""
    answers, cases = zip(*ask_routes(student), strict=True)

    def spell(lists: Sequence[tuple[set[str], set[str]]]) -> set[str]:
        return {
            f"{name} (model {i + 1})"
            for i, pair in enumerate(lists)
            for name in SPLITS[kind](*pair)
        }

    got, right = spell(answers), spell([(case.enough, case.needed) for case in cases])
    possible = [f"{name} (model {i + 1})" for i, case in enumerate(cases) for name in case.possible]
    if got != right:
        for name in wrong_routes(cases[0]):
            if list(answers) == [wrong_routes(case)[name] for case in cases]:
                raise Wrong(name, earned=score_found(got, right, len(possible)))
    expect_found(sorted(got), [right], possible, what=f"places that are {kind}")


@check("find_carriers", weight=2)
def test_places_that_are_enough_and_needed_are_found(student):
    """Places that are both enough and needed are found, in three unknown models."""
    judge_routes(student, "enough and needed")


@check("find_carriers", weight=2)
def test_places_that_are_enough_but_not_needed_are_found(student):
    """Places that are enough but not needed are found."""
    judge_routes(student, "enough but not needed")


@check("find_carriers", weight=2)
def test_places_that_are_needed_but_not_enough_are_found(student):
    """Places that are needed but not enough are found."""
    judge_routes(student, "needed but not enough")

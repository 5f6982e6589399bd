"""Grade lesson 02.

Expected values come from the model's modules called by hand, weights set to zero, finite
differences and a planted circuit: never from a hook on the run that is judged.
"""

import contextlib
import copy
import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from mini_transformer import Transformer, toys
from mini_transformer.course.grading.checks import Wrong, check, expect
from mini_transformer.course.grading.student import NamedModel

MISTAKES = {
    "cache_outputs": {
        "uses_hook_points": "You use this package's hook points: what is asked for is to do it "
        "with PyTorch's own `register_forward_hook`.",
        "keeps_the_input": "You kept what went into each module. A forward hook is called with "
        "(module, inputs, output).",
        "last_name_only": "All hooks wrote under the last name. A function made in a loop looks "
        "its variables up when it is called, and by then the loop is over.",
        "keeps_the_logits": "You kept the model's final logits. What is wanted passes by in the "
        "middle of the run, and only the hook sees it.",
        "off_by_one_layer": "Each tensor is the output of the same part one layer later: layers "
        "count from 0.",
    },
    "scale_and_clean_up": {
        "uses_hook_points": "You use this package's hook points: do it with PyTorch's own hooks, "
        "`register_forward_hook`.",
        "one_hook_per_batch": "The first batch is right, later ones are scaled more than once: "
        "each time round you hang up one hook more, and hooks add up.",
        "left_behind_by_an_error": "All is well until the model raises an error; from there on a "
        "hook too many is in place. When an exception is thrown, the lines below it in the `try` "
        "do not run.",
        "forgets_to_return": "The hook changes nothing. A forward hook that returns None only "
        "looks; PyTorch puts in place what it returns.",
        "scales_the_input": "You scaled what goes into the module. That is not the same as scaling "
        "what comes out: attention, for one, is not linear in its input.",
        "ignores_the_factor": "Your factor is always 0. Silencing is only one of the things one "
        "can do to an output.",
        "stops_at_the_first_error": "Everything after the first bad batch is None. One failure "
        "should cost one batch.",
        "drops_bad_batches": "Bad batches are missing from the list, so that the later ones have "
        "moved to other places.",
    },
    "add_direction": {
        "ignores_the_strength": "The result does not depend on `strength`: you add the direction "
        "exactly once. Strength 0 should change nothing.",
        "adds_at_every_position": "You added the direction at every position; only one was asked "
        "for.",
        "replaces_the_stream": "You put the direction in place of the stream, so that all that was "
        "there is lost. Add to it.",
        "off_by_one_layer": "The direction entered before the block, so that the block itself read "
        "it. The stream that *leaves* the block was asked for.",
        "normalises_the_direction": "You gave the direction length 1 first. Its length counts, "
        "too.",
        "always_the_last_position": "You always add at the last position; look at `position`.",
    },
    "logit_gradient": {
        "sums_all_logits": "That is the gradient of the sum of all logits. Pick one per prompt "
        "before you differentiate.",
        "answer_at_every_position": "That is the gradient of the answer's logit summed over all "
        "positions. Only the last position's counts.",
        "same_answer_for_all": "All prompts were differentiated for the first prompt's answer. "
        "Index prompts and answers together.",
        "probability_instead_of_logit": "That is the gradient of the answer's log-probability: the "
        "softmax has mixed all other tokens in.",
        "gradient_times_activation": "You multiplied the gradient by the activation. That "
        "estimates a contribution; the question was the slope.",
        "graph_was_cut": "All zeros: between the activation and the logit the graph was cut "
        "(detach, no_grad, or a copy that the run never used).",
    },
    "find_needed_heads": {
        "names_every_head": "You name every head, so that none is missing and many are there in "
        "vain. What happens to the answers without each?",
        "hooks_pile_up": "Heads that you silenced earlier are still silent when you judge the "
        "later ones. One at a time.",
        "silences_every_layer": "You silence the head of that number in all layers at once. A head "
        "is a layer and a number.",
        "silences_the_others": "You keep one head and silence its neighbours. That asks what a "
        "head can do alone, not whether the model needs it.",
        "last_position_only": "You silence heads at the last position only. What a head writes at "
        "earlier positions is read by later layers.",
        "any_change_counts": "You name a head as soon as one prompt's answer changes; `share` says "
        "how many have to.",
        "zeroes_the_queries": "With its queries at zero a head does not fall silent: it attends "
        "evenly and goes on writing.",
        "head_before_layer": "Your pairs are (head, layer). The layer comes first.",
    },
}

RUNS = {"cache_outputs": 1}

SHAPES = (
    dict(d_vocab=11, n_ctx=9, d_model=12, n_layers=3, n_heads=2, d_head=5, d_mlp=7),
    dict(d_vocab=7, n_ctx=8, d_model=10, n_layers=3, n_heads=5, d_mlp=16, norm="layer"),
    dict(d_vocab=13, n_ctx=7, d_model=9, n_layers=2, n_heads=3, d_head=4, norm="rms", biases=True),
)


def draw_case(
    seed: int, shape: dict, batch: int = 4, length: int = 6
) -> tuple[NamedModel, Transformer, Tensor]:
    """Draw a model to name to the student, the grader's own copy, and random tokens for it."""
    named = NamedModel("random", seed=seed, **shape)
    tokens = torch.randint(
        shape["d_vocab"], (batch, length), generator=torch.Generator().manual_seed(seed)
    )
    return named, named.build(), tokens


def run_by_hand(
    model: Transformer, tokens: Tensor, edits: dict[str, Callable[[Tensor], Tensor]]
) -> dict[str, Tensor]:
    """Call the model's parts one after the other; `edits` change what a named part put out.

    Returns outputs by module name, what went into each attention or MLP as "<name> input", and
    "logits".
    """
    values: dict[str, Tensor] = {}

    def note(name: str, value: Tensor) -> Tensor:
        values[name] = edits[name](value) if name in edits else value
        return values[name]

    with torch.no_grad():
        stream = model.embed(tokens)
        for layer, block in enumerate(model.blocks):
            values[f"blocks.{layer} input"] = stream
            read = values[f"blocks.{layer}.attn input"] = (
                stream if block.ln1 is None else block.ln1(stream)
            )
            stream = stream + note(f"blocks.{layer}.attn", block.attn(read, read, read))
            if block.mlp is not None:
                read = values[f"blocks.{layer}.mlp input"] = (
                    stream if block.ln2 is None else block.ln2(stream)
                )
                stream = stream + note(f"blocks.{layer}.mlp", block.mlp(read))
            stream = note(f"blocks.{layer}", stream)
        values["logits"] = model.unembed(stream)
    return values


# --- cache_outputs


def use_torch_hooks(student, function: str) -> None:
    """PyTorch's own hooks are asked for, not this package's hook points."""
    if {"run_with_cache", "run_with_hooks", "recording"} & set(student.find_called(function)):
        raise Wrong("uses_hook_points")


def cache_cases(student):
    use_torch_hooks(student, "cache_outputs")
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        named, model, tokens = draw_case(seed, shape)
        mlp = ["blocks.1.mlp"] if shape.get("d_mlp") else []
        names = ["blocks.1", "blocks.0.attn", *mlp, "blocks.0"]
        yield named, run_by_hand(model, tokens, {}), tokens, names


def next_layer(name: str) -> str:
    return ".".join(str(int(part) + 1) if part.isdigit() else part for part in name.split("."))


@check("cache_outputs")
def test_each_name_holds_what_that_module_put_out(student):
    """Each tensor is the output (batch, pos, d_model) of the module with that name."""
    for named, values, tokens, names in cache_cases(student):
        got = student.call("cache_outputs", named, tokens, names)
        inputs = {name: values[f"{name} input"] for name in names}
        later = {name: values.get(next_layer(name), values[name]) for name in names}
        expect(
            got,
            {name: values[name] for name in names},
            mistakes={
                "last_name_only": {names[-1]: values["blocks.1"]},  # the last that ran
                "keeps_the_logits": dict.fromkeys(names, values["logits"]),
                "keeps_the_input": inputs,
                "off_by_one_layer": later,
            },
            what="the dict",
        )


# --- scale_and_clean_up


def scale_cases(student, bad: bool):
    """Draw batches of several lengths, and how to run them right.

    With `bad`, batches that the model refuses are among them.
    """
    use_torch_hooks(student, "scale_and_clean_up")
    for seed, shape, (name, factor) in zip(
        student.seeds(3),
        SHAPES,
        (("blocks.0.attn", 1.6), ("blocks.1.mlp", -0.7), ("blocks.0", 1.3)),
        strict=True,
    ):
        named, model, tokens = draw_case(seed, shape)
        batches: list[Tensor] = [tokens, tokens[:2, :4], tokens[1:], tokens.flip(0)]
        if bad:
            refused = torch.tensor([[0, shape["d_vocab"]]])
            batches = [tokens, refused, tokens[1:], refused, tokens.flip(0)]
        yield named, model, batches, name, factor


def get_entry(got, key: str):
    if not isinstance(got, dict) or set(got) != {"after", "scaled"}:
        raise Wrong(sentence='The result should be a dict with two entries, "scaled" and "after".')
    return got[key]


def run_scaled(
    model: Transformer, batches: list[Tensor], name: str, factors: list[float]
) -> list[Tensor | None]:
    return [
        run_by_hand(model, batch, {name: lambda x, f=factor: f * x})["logits"]
        if int(batch.max()) < model.config.d_vocab
        else None
        for batch, factor in zip(batches, factors, strict=True)
    ]


def scale_input(model: Transformer, batch: Tensor, name: str, factor: float) -> Tensor:
    """Return what comes out if the input of `name` is scaled instead of its output."""
    inputs = run_by_hand(model, batch, {})[f"{name} input"]
    with torch.no_grad():
        part = model.get_submodule(name)
        scaled = part(*[factor * inputs] * 3) if name.endswith("attn") else part(factor * inputs)
    return run_by_hand(model, batch, {name: lambda _: scaled})["logits"]


@check("scale_and_clean_up")
def test_every_batch_is_scaled_exactly_once(student):
    """Each batch runs with the module's output multiplied by the factor, once."""
    for named, model, batches, name, factor in scale_cases(student, bad=False):
        n = len(batches)
        got = student.call("scale_and_clean_up", named, batches, name, factor)
        scaled = get_entry(got, "scaled")

        def run(factors, batches=batches, model=model, name=name):
            return run_scaled(model, batches, name, factors)

        # A block takes two inputs, so that "scaling the input" has no one meaning here.
        if name == "blocks.0":
            by_input = {}
        else:
            by_input = {
                "scales_the_input": lambda m=model, bs=batches, k=name, f=factor: [
                    scale_input(m, b, k, f) for b in bs
                ]
            }
        expect(
            scaled,
            run([factor] * n),
            mistakes={
                "one_hook_per_batch": lambda run=run, f=factor, n=n: run(
                    [f ** (i + 1) for i in range(n)]
                ),
                "forgets_to_return": lambda run=run, n=n: run([1.0] * n),
                "ignores_the_factor": lambda run=run, n=n: run([0.0] * n),
                **by_input,
            },
            rtol=1e-3,
            atol=1e-4,
            what='the list "scaled"',
        )


@check("scale_and_clean_up")
def test_an_error_costs_one_batch_and_leaves_no_hook(student):
    """A bad batch gives None, and the batches after it are scaled exactly once as well."""
    for named, model, batches, name, factor in scale_cases(student, bad=True):
        got = student.call("scale_and_clean_up", named, batches, name, factor)
        scaled = get_entry(got, "scaled")

        def run(factors, batches=batches, model=model, name=name):
            return run_scaled(model, batches, name, factors)

        right = run([factor] * 5)
        expect(
            scaled,
            right,
            mistakes={
                "left_behind_by_an_error": lambda run=run, f=factor: run([f, f, f**2, f**2, f**3]),
                "stops_at_the_first_error": [right[0], None, None, None, None],
                "drops_bad_batches": [logits for logits in right if logits is not None],
            },
            rtol=1e-3,
            atol=1e-4,
            what='the list "scaled"',
        )


@check("scale_and_clean_up")
def test_afterwards_the_model_is_as_it_was(student):
    """The last run, without hooks, gives the model's own logits."""
    for bad in (False, True):
        for named, model, batches, name, factor in scale_cases(student, bad):
            got = student.call("scale_and_clean_up", named, batches, name, factor)
            after = get_entry(got, "after")
            with torch.no_grad():
                own = model(batches[0])
            expect(after, own, what='"after"')


# --- add_direction


@check("add_direction", weight=2)
def test_adds_the_direction_at_one_place(student):
    """The logits are those of a stream to which strength * direction was added at that layer and
    position."""
    places = ((0, 2, 1.5), (1, 3, -4.0), (0, -2, 0.25), (1, 1, 2.0))
    for i, (seed, (layer, position, strength)) in enumerate(
        zip(student.seeds(4), places, strict=True)
    ):
        named, model, tokens = draw_case(seed, SHAPES[i % 3])
        direction = 2 * torch.randn(
            model.config.d_model, generator=torch.Generator().manual_seed(seed + 1)
        )
        got = student.call("add_direction", named, tokens, layer, direction, strength, position)
        mark = torch.zeros(*tokens.shape, 1)
        mark[:, position] = strength
        last = torch.zeros_like(mark)
        first = mark.clone()
        last[:, -1] = strength
        first[1:] = 0
        block = f"blocks.{layer}"

        def run(edit, name=block, model=model, tokens=tokens):
            return lambda: run_by_hand(model, tokens, {name: edit})["logits"]

        def run_before(layer=layer, model=model, tokens=tokens, added=mark * direction):
            with torch.no_grad():
                return model(resid=model(tokens, stop_at_layer=layer) + added, start_at_layer=layer)

        expect(
            got,
            run(lambda x, m=mark, d=direction: x + m * d)(),
            mistakes={
                "ignores_the_strength": run(lambda x, m=mark, d=direction: x + (m != 0) * d),
                "adds_at_every_position": run(lambda x, s=strength, d=direction: x + s * d),
                "replaces_the_stream": run(
                    lambda x, m=mark, d=direction: torch.where(m != 0, m * d, x)
                ),
                "off_by_one_layer": run_before,
                "normalises_the_direction": run(
                    lambda x, m=mark, d=direction: x + m * d / d.norm()
                ),
                "always_the_last_position": run(lambda x, m=last, d=direction: x + m * d),
            },
            what="the tensor of logits",
        )


@check("add_direction")
def test_strength_is_a_dial(student):
    """At the last layer without a norm the logits move in proportion to the strength, and not at
    all at strength 0."""
    (seed,) = student.seeds(1)
    named, model, tokens = draw_case(seed, SHAPES[0])
    direction = torch.randn(model.config.d_model, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        own = model(tokens)
        step = direction @ model.W_U
    for strength in (0.0, 1.0, -2.0, 10.0):
        got = student.call("add_direction", named, tokens, 2, direction, strength, 4)
        want = own.clone()
        want[:, 4] += strength * step
        expect(
            got, want, rtol=1e-3, atol=1e-4, what=f"the tensor of logits at strength {strength:g}"
        )


# --- logit_gradient


def differentiate_slowly(
    model: Transformer, tokens: Tensor, name: str, score: Callable[[Tensor], Tensor]
) -> Tensor:
    """Take central differences in double precision, one number of the activation at a time.

    `score` maps the logits (n, pos, d_vocab) of n variants of one prompt, and its index, to (n,).
    """
    model = copy.deepcopy(model).double()
    slopes = []
    step = 1e-4
    with torch.no_grad():
        for i, prompt in enumerate(tokens):
            value = model.run_with_cache(prompt[None], names_filter=[name])[1][name][0]
            moves = step * torch.eye(value.numel(), dtype=value.dtype).reshape(-1, *value.shape)
            batch = prompt.expand(2 * len(moves), -1)
            moved = model.run_with_hooks(
                batch, fwd_hooks=[(name, lambda x, hook, m=moves: x + torch.cat([m, -m]))]
            )
            up, down = score(moved, i).chunk(2)
            slopes.append(((up - down) / (2 * step)).reshape(value.shape))
    return torch.stack(slopes).float()


def gradient_cases(student):
    names = ("blocks.0.attn.hook_z", "blocks.1.hook_resid_pre", "blocks.1.attn.hook_pattern")
    for seed, shape, name in zip(student.seeds(3), SHAPES, names, strict=True):
        # A step across the kink of a ReLU would spoil the differences.
        smooth = shape | {"act": "gelu"}
        named, model, tokens = draw_case(seed, smooth, batch=3, length=4)
        answers = torch.randint(
            shape["d_vocab"], (3,), generator=torch.Generator().manual_seed(seed + 1)
        )
        answers[1] = (answers[0] + 1) % shape["d_vocab"]
        yield named, model, tokens, answers, name


@check("logit_gradient", weight=2)
def test_the_gradient_is_the_slope_of_each_prompts_answer(student):
    """Moving any number of the activation a little moves the prompt's answer logit as the gradient
    says."""
    for named, model, tokens, answers, name in gradient_cases(student):
        got = student.call("logit_gradient", named, tokens, answers, name)

        def slope(score, model=model, tokens=tokens, name=name):
            return lambda: differentiate_slowly(model, tokens, name, score)

        def times_activation(right, model=model, tokens=tokens, name=name):
            with torch.no_grad():
                return right * model.run_with_cache(tokens, names_filter=[name])[1][name]

        right = slope(lambda logits, i, a=answers: logits[:, -1, a[i]])()
        expect(
            got,
            right,
            mistakes={
                "graph_was_cut": torch.zeros_like(right),
                "gradient_times_activation": lambda right=right, f=times_activation: f(right),
                "sums_all_logits": slope(lambda logits, i: logits.sum((1, 2))),
                "answer_at_every_position": slope(
                    lambda logits, i, a=answers: logits[:, :, a[i]].sum(1)
                ),
                "same_answer_for_all": slope(lambda logits, i, a=answers: logits[:, -1, a[0]]),
                "probability_instead_of_logit": slope(
                    lambda logits, i, a=answers: logits[:, -1].log_softmax(-1)[:, a[i]]
                ),
            },
            rtol=1e-3,
            atol=1e-4,
            what="the gradient",
        )


@check("logit_gradient")
def test_the_stream_that_leaves_the_last_block_is_read_by_the_answers_own_column(student):
    """At the end of the last block, without a norm, the gradient is the answer's column of W_U."""
    (seed,) = student.seeds(1)
    named, model, tokens = draw_case(seed, SHAPES[0])
    answers = torch.tensor([3, 0, 10, 7])
    want = torch.zeros(4, 6, 12)
    want[:, -1] = model.W_U.detach().T[answers]
    got = student.call("logit_gradient", named, tokens, answers, "blocks.2.hook_resid_post")
    expect(got, want, what="the gradient")


# --- find_needed_heads

HEADS = {"d_vocab": 9, "n_ctx": 9, "d_model": 14, "n_layers": 2, "n_heads": 4, "d_head": 6}
UNSEEN = (HEADS, HEADS | {"n_layers": 3, "n_heads": 3, "d_mlp": 8})
Pair = tuple[int, int]


def all_heads(model: Transformer) -> list[Pair]:
    return list(itertools.product(range(model.config.n_layers), range(model.config.n_heads)))


def measure_changes(
    model: Transformer, tokens: Tensor, silent: Callable[[Pair], list[Pair]], weight: str = "W_O"
) -> dict:
    """Measure per head how many answers change when `weight` of `silent(head)` is zero."""
    changes = {}
    with torch.no_grad():
        own = model(tokens)[:, -1].argmax(dim=-1)
        for pair in all_heads(model):
            with weights_zeroed(model, silent(pair), weight):
                changes[pair] = (model(tokens)[:, -1].argmax(dim=-1) != own).float().mean().item()
    return changes


@contextlib.contextmanager
def weights_zeroed(model: Transformer, heads: list[Pair], weight: str = "W_O"):
    weights = [getattr(model.blocks[layer].attn, weight)[head] for layer, head in heads]
    kept = [own.clone() for own in weights]
    for own in weights:
        own.zero_()
    yield
    for own, before in zip(weights, kept, strict=True):
        own.copy_(before)


def silence_at_the_end(model: Transformer, tokens: Tensor) -> dict:
    """Measure per head how many answers change when it is silent at the last position."""
    changes = {}
    with torch.no_grad():
        own = model(tokens)[:, -1].argmax(dim=-1)
        for layer, head in all_heads(model):
            stream = model(tokens, stop_at_layer=layer + 1)
            with weights_zeroed(model, [(layer, head)]):
                stream[:, -1] = model(tokens, stop_at_layer=layer + 1)[:, -1]
            logits = model(resid=stream, start_at_layer=layer + 1)
            changes[layer, head] = (logits[:, -1].argmax(dim=-1) != own).float().mean().item()
    return changes


@functools.lru_cache(maxsize=1)  # two checks in a row ask for the same
def needed_cases(
    seeds: tuple[int, int, int],
) -> list[tuple[NamedModel, Transformer, Tensor, float, dict]]:
    """Make two random models and a planted one.

    `share` is what one head changes, for "at least", and above a gap, so that not any change at all
    counts; and one half in its place would give another answer. Eighths are exact.
    """
    cases = []
    for seed, shape in zip(seeds[:2], UNSEEN, strict=True):
        for attempt in range(99):
            named, model, tokens = draw_case(seed + attempt, shape, batch=16, length=7)
            changes = measure_changes(model, tokens, lambda pair: [pair])
            counts = sorted({round(16 * change) for change in changes.values()} - {0})
            low, high = max(
                itertools.pairwise(counts), key=lambda pair: pair[1] - pair[0], default=(0, 0)
            )
            if high - low >= 2 and (high < 8 or low >= 8):
                break
        cases.append((named, model, tokens, high / 16, changes))
    named, model, tokens = plant_case(seeds[2])
    return [
        *cases,
        (named, model, tokens, 0.5, measure_changes(model, tokens, lambda pair: [pair])),
    ]


def plant_case(seed: int) -> tuple[Transformer, Transformer, Tensor]:
    case = toys.load("induction_by_hand", seed=seed)
    return case.model, case.model, case.task.draw(12, seed=seed).clean


def above(changes: dict, share: float) -> list[list[int]]:
    return [list(pair) for pair, change in sorted(changes.items()) if change >= share]


def name_wrong_heads(cases: list, answers: list[list[list[int]]]) -> str | None:
    """Name the mistake that gives just these answers on all models."""

    def judge(rule):
        return [
            sorted(rule(model, tokens, share, changes))
            for _, model, tokens, share, changes in cases
        ]

    def silence(others: Callable[[Transformer, Pair], list[Pair]], weight: str = "W_O"):
        return lambda model, tokens, share, _: above(
            measure_changes(model, tokens, lambda pair: others(model, pair), weight), share
        )

    rules = {
        "head_before_layer": lambda m, t, share, changes: [
            pair[::-1] for pair in above(changes, share)
        ],
        "any_change_counts": lambda m, t, share, changes: above(changes, 1e-9),
        "hooks_pile_up": silence(
            lambda model, pair: [other for other in all_heads(model) if other <= pair]
        ),
        "silences_every_layer": silence(
            lambda model, pair: [other for other in all_heads(model) if other[1] == pair[1]]
        ),
        "silences_the_others": silence(
            lambda model, pair: [
                other for other in all_heads(model) if other[0] == pair[0] and other != pair
            ]
        ),
        "last_position_only": lambda m, t, share, _: above(silence_at_the_end(m, t), share),
        "zeroes_the_queries": silence(lambda model, pair: [pair], "W_Q"),
    }
    fitting = [name for name, rule in rules.items() if judge(rule) == answers]
    return fitting[0] if len(fitting) == 1 else None


def ask_for_heads(student, named: NamedModel, tokens: Tensor, share: float) -> list[list[int]]:
    got = student.call("find_needed_heads", named, tokens, share)
    try:
        pairs = [(int(layer), int(head)) for layer, head in got]
    except (TypeError, ValueError):
        raise Wrong(
            sentence="The result should be a list of pairs (layer, head), like [(0, 1), (1, 0)]."
        ) from None
    return sorted([layer, head] for layer, head in pairs)


def compare_heads(student, sentence: str, find_wrong: Callable[[list, list], list]) -> None:
    cases = needed_cases(tuple(student.seeds(3)))
    answers = [ask_for_heads(student, named, tokens, share) for named, _, tokens, share, _ in cases]
    wants = [above(changes, share) for *_, share, changes in cases]
    if not any(answers):
        raise Wrong(sentence="On three models not seen before you name no head at all.")
    if all(
        len(answer) == len(changes) for answer, (*_, changes) in zip(answers, cases, strict=True)
    ):
        raise Wrong("names_every_head")  # nobody is praised for missing none in this way
    wrong = [len(find_wrong(answer, want)) for answer, want in zip(answers, wants, strict=True)]
    if any(wrong):
        if mistake := name_wrong_heads(cases, answers):
            raise Wrong(mistake)
        raise Wrong(sentence=sentence.format(sum(wrong)))


@check("find_needed_heads")
def test_no_needed_head_is_missing(student):
    """On models not seen before, every needed head is named."""
    compare_heads(
        student,
        "On three models not seen before, {} needed heads are missing in all.",
        lambda answer, want: [pair for pair in want if pair not in answer],
    )


@check("find_needed_heads")
def test_no_head_is_named_in_vain(student):
    """On models not seen before, every head that is named is needed."""
    compare_heads(
        student,
        "On three models not seen before, {} heads are named in vain in all.",
        lambda answer, want: [pair for pair in answer if pair not in want],
    )


@check("find_needed_heads", weight=2)
def test_finds_the_planted_circuit(student):
    """On models set by hand, the needed heads are those of the circuit that was planted."""
    for seed in student.seeds(4):
        named, _, tokens = plant_case(seed)
        (nodes,) = toys.load("induction_by_hand", seed=seed).truth.circuits["zero"].nodes
        planted = sorted(
            [int(part[1:]) for part in node.split(".")] for node in nodes if node.startswith("a")
        )
        if ask_for_heads(student, named, tokens, 0.5) != planted:
            raise Wrong(
                sentence="On a model set by hand you do not name just the heads "
                "that its maker connected."
            )

"""Grade lesson 02.

Expected values come from the model's modules called by hand, weights set to zero, finite
differences and a planted circuit: never from a hook on the run that is judged.
"""

import copy
import functools
import itertools
import re
from collections.abc import Callable

import torch
from torch import Tensor

from mini_transformer import Transformer, toys
from mini_transformer.course.grading.checks import Wrong, check, expect
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel, StudentError

MUTANTS = load_mutants(__file__)

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

    Returns outputs by module name, and "logits".
    """
    values: dict[str, Tensor] = {}

    def note(name: str, value: Tensor) -> Tensor:
        values[name] = edits[name](value) if name in edits else value
        return values[name]

    with torch.no_grad():
        stream = model.embed(tokens)
        for layer, block in enumerate(model.blocks):
            read = stream if block.ln1 is None else block.ln1(stream)
            stream = stream + note(f"blocks.{layer}.attn", block.attn(read, read, read))
            if block.mlp is not None:
                read = stream if block.ln2 is None else block.ln2(stream)
                stream = stream + note(f"blocks.{layer}.mlp", block.mlp(read))
            stream = note(f"blocks.{layer}", stream)
        values["logits"] = model.unembed(stream)
    return values


# --- cache_outputs


def use_torch_hooks(student, function: str) -> None:
    """PyTorch's own hooks are asked for, not this package's hook points, or changed methods."""
    if not any(re.search("register.*_hook", name) for name in student.find_called(function)):
        raise Wrong("does_without_torch_hooks")


@check("cache_outputs")
def test_each_name_holds_what_that_module_put_out(student):
    """Each tensor is the output (batch, pos, d_model) of the module with that name."""
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        named, model, tokens = draw_case(seed, shape)
        mlp = ["blocks.1.mlp"] if shape.get("d_mlp") else []
        names = ["blocks.1", "blocks.0.attn", *mlp, "blocks.0"]
        got = student.call("cache_outputs", named, tokens, names)
        use_torch_hooks(student, "cache_outputs")
        values = run_by_hand(model, tokens, {})
        expect(got, {name: values[name] for name in names}, what="the dict")


# --- scale_and_clean_up


def draw_scaling(seed: int, i: int) -> tuple[NamedModel, list[Tensor], str, float, dict]:
    """Draw a model and batches of several lengths, some refused, and what is right for them."""
    name, factor = (("blocks.0.attn", 1.6), ("blocks.1.mlp", -0.7), ("blocks.0", 1.3))[i]
    named, model, tokens = draw_case(seed, SHAPES[i])
    refused = torch.tensor([[0, model.config.d_vocab]])
    batches = [tokens, tokens[:2, :4], refused, tokens[1:], refused, tokens[1:].flip(0)]
    scaled = [
        None
        if batch is refused
        else run_by_hand(model, batch, {name: lambda x: factor * x})["logits"]
        for batch in batches
    ]
    after = run_by_hand(model, tokens, {})["logits"]
    return named, batches, name, factor, {"scaled": scaled, "after": after}


def judge_scaling(student, key: str, bad: bool) -> None:
    asked = []
    for i, seed in enumerate(student.seeds(3)):
        named, batches, name, factor, want = draw_scaling(seed, i)
        kept = [n for n, logits in enumerate(want["scaled"]) if bad or logits is not None]
        want["scaled"] = [want["scaled"][n] for n in kept]
        batches = [batches[n] for n in kept]
        student.call("scale_and_clean_up", named, batches, name, factor)
        asked.append((student.calls[-1], want))
    use_torch_hooks(student, "scale_and_clean_up")
    for call, want in asked:
        if not isinstance(call.value, dict) or set(call.value) != {"after", "scaled"}:
            raise Wrong(sentence='Return a dict with two entries, "scaled" and "after".')
        expect(call.value[key], want[key], rtol=1e-3, atol=1e-4, what=f'"{key}"')
        if key == "after" and call.runs[-1:] != (tuple(call.args[1][0].shape),):
            raise Wrong("runs_after_before")


@check("scale_and_clean_up")
def test_every_batch_is_scaled_exactly_once(student):
    """Each batch runs with the module's output multiplied by the factor, once."""
    judge_scaling(student, "scaled", bad=False)


@check("scale_and_clean_up")
def test_an_error_costs_one_batch_and_leaves_no_hook(student):
    """A bad batch gives None, and the batches after it are scaled exactly once as well."""
    judge_scaling(student, "scaled", bad=True)


@check("scale_and_clean_up")
def test_afterwards_the_model_is_as_it_was(student):
    """The last run, without hooks, gives the model's own logits."""
    judge_scaling(student, "after", bad=False)
    judge_scaling(student, "after", bad=True)


@check("scale_and_clean_up")
def test_other_errors_are_raised_and_leave_no_hook(student):
    """An error that is no ValueError reaches the caller, and the hook is off by then."""
    judge_scaling(student, "after", bad=True)
    named, batches, name, _, _ = draw_scaling(student.seeds(1)[0], 0)
    try:
        # Factors that do not fit are no ValueError, and are first noticed inside the run.
        student.call("scale_and_clean_up", named, batches, name, torch.ones(99))
    except StudentError as error:
        if any(effect.kind == "leaves_hooks" for effect in error.effects):
            raise Wrong("leaves_a_hook_after_other_errors") from None
    else:
        raise Wrong("catches_every_error")


# --- add_direction

# model, layer, position, strength
PLACES = ((0, 0, 2, 1.5), (1, 1, 3, -4.0), (2, 0, -2, 0.25), (0, 1, 1, 2.0), (1, 0, -4, 1.0))


@check("add_direction", weight=2)
def test_adds_the_direction_at_one_place(student):
    """The logits are those of a stream to which strength * direction was added at that layer and
    position."""
    asked = []
    for seed, (i, layer, position, strength) in zip(student.seeds(5), PLACES, strict=True):
        named, model, tokens = draw_case(seed, SHAPES[i])
        generator = torch.Generator().manual_seed(seed + 1)
        direction = 2 * torch.randn(model.config.d_model, generator=generator)
        got = student.call("add_direction", named, tokens, layer, direction, strength, position)
        added = torch.zeros(*tokens.shape, 1)
        added[:, position] = strength
        added = added * direction
        run = run_by_hand(model, tokens, {f"blocks.{layer}": added.add})
        asked.append((got, run["logits"]))
    for got, want in asked:
        expect(got, want, what="the tensor of logits")


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
        what = f"the tensor of logits at strength {strength:g}"
        expect(got, want, rtol=1e-3, atol=1e-4, what=what)


# --- logit_gradient


def differentiate_slowly(model: Transformer, tokens: Tensor, answers: Tensor, name: str) -> Tensor:
    """Take central differences in double precision, one number of the activation at a time."""
    model = copy.deepcopy(model).double()
    slopes = []
    step = 1e-4
    with torch.no_grad():
        for prompt, answer in zip(tokens, answers, strict=True):
            value = model.run_with_cache(prompt[None], names_filter=[name])[1][name][0]
            moves = step * torch.eye(value.numel(), dtype=value.dtype).reshape(-1, *value.shape)
            batch = prompt.expand(2 * len(moves), -1)
            moved = model.run_with_hooks(
                batch, fwd_hooks=[(name, lambda x, hook, m=moves: x + torch.cat([m, -m]))]
            )
            up, down = moved[:, -1, answer].chunk(2)
            slopes.append(((up - down) / (2 * step)).reshape(value.shape))
    return torch.stack(slopes).float()


@check("logit_gradient", weight=2)
def test_the_gradient_is_the_slope_of_each_prompts_answer(student):
    """Moving any number of the activation a little moves the prompt's answer logit as the gradient
    says."""
    names = ("blocks.0.attn.hook_z", "blocks.1.hook_resid_pre", "blocks.1.attn.hook_pattern")
    asked = []
    for seed, shape, name in zip(student.seeds(3), SHAPES, names, strict=True):
        # A step across the kink of a ReLU would spoil the differences.
        named, model, tokens = draw_case(seed, shape | {"act": "gelu"}, batch=3, length=4)
        generator = torch.Generator().manual_seed(seed + 1)
        answers = torch.randperm(shape["d_vocab"], generator=generator)[:3]
        got = student.call("logit_gradient", named, tokens, answers, name)
        asked.append((got, differentiate_slowly(model, tokens, answers, name)))
    for got, want in asked:
        expect(got, want, rtol=1e-3, atol=1e-4, what="the gradient")


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
VIEWS = {"find_needed_heads": lambda pairs, *args: sorted([int(a), int(b)] for a, b in pairs)}


@torch.no_grad()
def count_changes(model: Transformer, tokens: Tensor) -> dict[Pair, int]:
    """Count per head how many answers change when its W_O is zero."""
    own = model(tokens)[:, -1].argmax(dim=-1)
    changes = {}
    for layer, head in itertools.product(range(model.config.n_layers), range(model.config.n_heads)):
        silent = copy.deepcopy(model)
        silent.blocks[layer].attn.W_O[head] = 0
        changes[layer, head] = int((silent(tokens)[:, -1].argmax(dim=-1) != own).sum())
    return changes


@functools.cache
def draw_needed(seed: int, i: int) -> tuple[Transformer, Tensor, float, list[Pair]]:
    """Draw a model, prompts, a share of them, and the heads that are needed.

    `share` lies at what one head changes, for "at least", and then half a prompt above that.
    Some heads change more, and some fewer answers, but any at all; so does one half of them.
    """
    while True:
        _, model, tokens = draw_case(seed, UNSEEN[i % 2], batch=16, length=7)
        model.W_U.data *= 6  # surer answers
        changes = count_changes(model, tokens)
        counts = sorted({n for n in changes.values() if n})
        if len(counts) > 3:
            # Once near the least, once near the most, and never what one half would give.
            at = counts[1] if i % 4 < 2 else counts[-2]
            share = at / 16 if i % 2 == 0 else (at + 0.5) / 16
            needed = [pair for pair, n in changes.items() if n / 16 >= share]
            if needed != [pair for pair, n in changes.items() if n >= 8]:
                return model, tokens, share, needed
        seed += 1


def judge_needed(student, sentence: str, find_wrong: Callable[[list, list], list]) -> None:
    cases = [draw_needed(seed, i) for i, seed in enumerate(student.seeds(6))]
    asked = [(student.call("find_needed_heads", *case[:3]), case[3]) for case in cases]
    named = [(take_pairs(got), list(map(list, want))) for got, want in asked]
    if n := sum(len(find_wrong(got, want)) for got, want in named):
        raise Wrong(sentence=sentence.format(n))


def take_pairs(got: object) -> list[list[int]]:
    try:
        return VIEWS["find_needed_heads"](got)
    except (TypeError, ValueError):
        raise Wrong(
            sentence="The result should be a list of pairs (layer, head), like [(0, 1), (1, 0)]."
        ) from None


@check("find_needed_heads")
def test_no_needed_head_is_missing(student):
    """On models not seen before, every needed head is named."""
    judge_needed(
        student,
        "On six models not seen before, {} needed heads are missing in all.",
        lambda got, want: [pair for pair in want if pair not in got],
    )


@check("find_needed_heads")
def test_no_head_is_named_in_vain(student):
    """On models not seen before, every head that is named is needed."""
    judge_needed(
        student,
        "On six models not seen before, {} heads are named in vain in all.",
        lambda got, want: [pair for pair in got if pair not in want],
    )


@check("find_needed_heads", weight=2)
def test_finds_the_planted_circuit(student):
    """On models set by hand, the needed heads are those of the circuit that was planted."""
    for seed in student.seeds(4):
        case = toys.load("induction_by_hand", seed=seed)
        tokens = case.task.draw(12, seed=seed).clean
        (nodes,) = case.truth.circuits["zero"].nodes
        planted = sorted(
            [int(part[1:]) for part in node.split(".")] for node in nodes if node.startswith("a")
        )
        got = student.call("find_needed_heads", case.model, tokens, 0.5)
        if take_pairs(got) != planted:
            raise Wrong(
                sentence="On a model set by hand you do not name just the heads "
                "that its maker connected."
            )

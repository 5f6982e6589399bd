"""List wrong answers to lesson 02 that the grader rejects by name, and unusual right ones."""

import contextlib
import functools
from itertools import product

import torch

from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "cache_outputs": ["(No part of these models works in place"],
    "logit_gradient": ["(Prompts do not influence"],
    "find_needed_heads": ["Any order will do", "Of several highest", "Your answers on models"],
}


def variant(exercise, base, name, sentence="", /, says="", clause="", **switches):
    """Mark `base` with these switches as a wrong answer."""

    def answer(*args):
        return base(*args, **switches)

    mutant(exercise, sentence, name=name, says=says, clause=clause)(answer)


def find_block(name):
    return ".".join(name.split(".")[:2])


# --- cache_outputs


def cache_with(
    model, tokens, names, find=lambda name, last: name, keep=lambda inputs, out, name: out
):
    outputs = {}
    handles = []
    for name in names:

        def hook(module, inputs, output, name=name):
            outputs[name] = keep(inputs, output, name)

        part = model.get_submodule(find(name, model.config.n_layers - 1))
        handles.append(part.register_forward_hook(hook))
    model(tokens)
    for handle in handles:
        handle.remove()
    return outputs


def move(name, layer):
    return ".".join(["blocks", str(layer), *name.split(".")[2:]])


for name, clause, sentence, switches in (
    (
        "keeps_the_input",
        "what each of the named modules put out",
        "You kept what went into each module. A forward hook is called with (module, inputs, "
        "output).",
        {"keep": lambda inputs, output, name: inputs[0]},
    ),
    (
        "keeps_the_stream_after_a_part",
        "that this module returned during the run",
        "You keep the input and the output of each part added up; what it returned is its output.",
        {"keep": lambda inputs, out, name: out + inputs[0] * (name.count(".") > 1)},
    ),
    (
        "keeps_the_block",
        '"blocks.1" for a whole block',
        "For a part of a block you kept what the whole block puts out.",
        {"find": lambda name, last: find_block(name)},
    ),
    (
        "off_by_one_layer",
        "each of the named modules",
        "Each tensor is the output of the same part one layer later: layers count from 0.",
        {"find": lambda name, last: move(name, min(int(name.split(".")[1]) + 1, last))},
    ),
    (
        "keeps_the_last_layer",
        "`names` are spelled as",
        "Whatever layer a name has, you kept what that part of the last layer put out.",
        {"find": move},
    ),
):
    variant("cache_outputs", cache_with, name, sentence, clause=clause, **switches)


@mutant(
    "cache_outputs",
    "All hooks wrote under the last name. A function made in a loop looks its variables up when "
    "it is called, and by then the loop is over.",
    clause="one entry per name",
)
def last_name_only(model, tokens, names):
    found = cache_with(model, tokens, names)
    ran_last = max(names, key=lambda name: (int(name.split(".")[1]), "." not in name[7:]))
    return {names[-1]: found[ran_last]}


@mutant(
    "cache_outputs",
    "You kept the model's final logits. What is wanted passes by in the middle of the run, and "
    "only the hook sees it.",
)
def keeps_the_logits(model, tokens, names):
    cache_with(model, tokens, names)
    return dict.fromkeys(names, model(tokens))


@mutant(
    "cache_outputs",
    name="first_prompt_only",
    says="holds only the first of the prompt axis",
    clause="the tensor (batch, pos, d_model)",
)
def cache_first_prompt_only(model, tokens, names):
    return cache_with(model, tokens[:1], names)


@mutant("cache_outputs", says="one number only")
def constant_output(model, tokens, names):
    cache_with(model, tokens, names)
    return {name: torch.ones(*tokens.shape, model.config.d_model) for name in names}


WITHOUT_HOOKS = (
    "The task asks for PyTorch's own hooks, as `register_forward_hook` hangs them up: you do it "
    "in another way."
)


@mutant(
    "cache_outputs",
    WITHOUT_HOOKS,
    name="does_without_torch_hooks",
    clause="Catch it by PyTorch's own hooks",
)
def by_the_cache_of_this_package(model, tokens, names):
    _, cache = model.run_with_cache(tokens)
    return {name: cache[find_point(name)] for name in names}


def find_point(name):
    _, layer, *part = name.split(".")
    return {"attn": "attn_out", "mlp": "mlp_out"}[part[0]] if part else "resid_post", int(layer)


@mutant("cache_outputs", name="does_without_torch_hooks")
def by_another_forward(model, tokens, names):
    outputs = {}
    for name in names:
        module = model.get_submodule(name)

        def forward(*args, name=name, old=module.forward):
            outputs[name] = old(*args)
            return outputs[name]

        module.forward = forward
    model(tokens)
    for name in names:
        del model.get_submodule(name).forward
    return outputs


@mutant("cache_outputs", says="leaves a hook", clause="Take your hooks off again")
def never_removes_a_hook(model, tokens, names):
    outputs = {}

    def keep(module, inputs, output, name):
        outputs[name] = output.clone()

    for name in names:
        model.get_submodule(name).register_forward_hook(functools.partial(keep, name=name))
    model(tokens)
    return outputs


@mutant("cache_outputs", says="runs the model", clause="Run `model(tokens)` once")
def one_run_per_name(model, tokens, names):
    outputs = {}

    def keep(module, inputs, output, name):
        outputs[name] = output.clone()

    for name in names:
        handle = model.get_submodule(name).register_forward_hook(functools.partial(keep, name=name))
        model(tokens)
        handle.remove()
    return outputs


@alternative("cache_outputs")
def with_a_partial_and_an_exit_stack(model, tokens, names):
    def keep(store, name, module, inputs, output):
        store[name] = output

    store = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(
                functools.partial(keep, store, name)
            )
            stack.callback(handle.remove)
        model(tokens)
    return store


# --- scale_and_clean_up


def scale(output, factor):
    return factor * output


def scale_part(where):
    """Scale what stands at `where` alone."""

    def scale_there(output, factor):
        output = output.clone()
        output[where] *= factor
        return output

    return scale_there


def scale_inputs(part, factor):
    def edit(module, inputs):
        return tuple(x if x is None else factor * x for x in inputs)

    return part.register_forward_pre_hook(edit)


def run_scaled(
    model, batches, name, factor, find=lambda name: name, how=scale, hang=None, after=0, last=False
):
    """Use one hook for all batches, taken away in the end."""
    part = model.get_submodule(find(name))

    def edit(module, inputs, output):
        return how(output, factor)

    logits = model(batches[0]) if after is None else None
    handle = hang(part, factor) if hang else part.register_forward_hook(edit)
    scaled = []
    for batch in batches:
        try:
            scaled.append(model(batch))
        except ValueError:
            scaled.append(None)
            if last:
                handle.remove()
    handle.remove()
    return {"scaled": scaled, "after": model(batches[after]) if logits is None else logits}


for name, clause, sentence, switches in (
    (
        "forgets_to_return",
        "with one module's output times `factor`",
        "The hook changes nothing. A forward hook that returns None only looks; PyTorch puts in "
        "place what it returns.",
        {"how": lambda output, factor: None},
    ),
    (
        "scales_the_input",
        "",
        "You scaled what goes into the module. That is not the same as scaling what comes out: "
        "attention, for one, is not linear in its input.",
        {"hang": scale_inputs},
    ),
    (
        "ignores_the_factor",
        "",
        "Your factor is always 0. Silencing is only one of the things one can do to an output.",
        {"how": lambda output, factor: 0 * output},
    ),
    (
        "always_doubles",
        "",
        "Your factor is always 2: `factor` says which one is asked for.",
        {"how": lambda output, factor: 2 * output},
    ),
    (
        "scales_the_block",
        "Hook the submodule `name`",
        "You scale the whole block, of which the named module is a part.",
        {"find": find_block},
    ),
    (
        "scales_the_first_block",
        "",
        "You scale blocks.0, whatever the name.",
        {"find": lambda name: "blocks.0"},
    ),
    (
        "scales_the_first_prompt",
        "",
        "You scale the output for the first prompt of a batch only.",
        {"how": scale_part(0)},
    ),
    (
        "scales_the_last_position",
        "",
        "You scale the output at the last position only.",
        {"how": scale_part((slice(None), -1))},
    ),
    (
        "takes_the_hook_off_too_soon",
        "and go on with the next",
        "The batches after a bad one run without your hook: it is off too soon.",
        {"last": True},
    ),
    (
        "runs_another_batch_after",
        "run `batches[0]` (never a bad one) once more",
        "Your last run is one of another batch than batches[0].",
        {"after": -1},
    ),
    (
        "runs_after_before",
        "Then, without any hook",
        "You do not run batches[0] at last, when your hook is off: a run from before does not "
        "show that it is.",
        {"after": None},
    ),
):
    variant("scale_and_clean_up", run_scaled, name, sentence, clause=clause, **switches)


@mutant(
    "scale_and_clean_up",
    "The first batch is right, later ones are scaled more than once: each time round you hang up "
    "one hook more, and hooks add up.",
    clause="in order",
)
def one_hook_per_batch(model, batches, name, factor):
    handles, scaled = [], []
    for batch in batches:
        handles.append(
            model.get_submodule(name).register_forward_hook(lambda m, i, output: factor * output)
        )
        try:
            scaled.append(model(batch))
        except ValueError:
            scaled.append(None)
    for handle in handles:
        handle.remove()
    return {"scaled": scaled, "after": model(batches[0])}


@mutant(
    "scale_and_clean_up",
    "All is well until the model raises an error; from there on a hook too many is in place. When"
    " an exception is thrown, the lines below it in the `try` do not run.",
)
def left_behind_by_an_error(model, batches, name, factor):
    scaled = []
    for batch in batches:
        try:
            handle = model.get_submodule(name).register_forward_hook(
                lambda m, i, output: factor * output
            )
            logits = model(batch)
            handle.remove()
        except ValueError:
            logits = None
        scaled.append(logits)
    return {"scaled": scaled, "after": model(batches[0])}


@mutant("scale_and_clean_up", says="leaves a hook on the model", clause="leave no hook behind")
def never_removed(model, batches, name, factor):
    class Hook(contextlib.nullcontext):
        def remove(self):
            pass

    def hang(part, factor):
        part.register_forward_hook(lambda m, i, output: factor * output)
        return Hook()

    return run_scaled(model, batches, name, factor, hang=hang)


@mutant(
    "scale_and_clean_up",
    "Another error than ValueError leaves your hook behind: what must happen on every way out "
    "belongs in `finally` (or a `with`).",
    name="leaves_a_hook_after_other_errors",
    clause="leaves no hook behind either",
)
def without_finally(*args):
    return run_scaled(*args)


@mutant(
    "scale_and_clean_up",
    "You catch errors of every kind: only ValueError says that a batch is bad, and any other is a "
    "mistake that somebody must hear of.",
    clause="Any other error is to reach the caller",
)
def catches_every_error(model, batches, name, factor):
    scaled = []
    for batch in batches:
        with model.get_submodule(name).register_forward_hook(lambda m, i, x: factor * x):
            try:
                scaled.append(model(batch))
            except Exception:
                scaled.append(None)
    return {"scaled": scaled, "after": model(batches[0])}


@mutant(
    "scale_and_clean_up",
    "Everything after the first bad batch is None. One failure should cost one batch.",
)
def stops_at_the_first_error(model, batches, name, factor):
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, output: factor * output)
    scaled = [None] * len(batches)
    try:
        for i, batch in enumerate(batches):
            scaled[i] = model(batch)
    except ValueError:
        pass
    finally:
        handle.remove()
    return {"scaled": scaled, "after": model(batches[0])}


@mutant(
    "scale_and_clean_up",
    "Bad batches are missing from the list, so that the later ones have moved to other places.",
    clause="a list with one entry per batch",
)
def drops_bad_batches(*args):
    runs = run_scaled(*args)
    return runs | {"scaled": [logits for logits in runs["scaled"] if logits is not None]}


@mutant(
    "scale_and_clean_up",
    "Your logits for a bad batch are those of other tokens: note None for it.",
    clause="you note None",
)
def mends_bad_batches(model, batches, name, factor):
    most = model.config.d_vocab - 1
    return run_scaled(model, [batch.clamp(max=most) for batch in batches], name, factor)


@mutant(
    "scale_and_clean_up",
    "You scale the logits; that is the same only for what W_U alone reads.",
    clause="the logits (batch, pos, d_vocab) with the hook in place",
)
def scales_the_logits(model, batches, name, factor):
    runs = run_scaled(model, batches, name, 1.0)
    scaled = [None if logits is None else factor * logits for logits in runs["scaled"]]
    return runs | {"scaled": scaled}


@mutant(
    "scale_and_clean_up",
    "You divide the scaled logits by the factor, but a model is not linear: run it without a hook.",
    clause="the logits of `batches[0]` without the hook",
)
def divides_afterwards(*args):
    runs = run_scaled(*args)
    return runs | {"after": runs["scaled"][0] / args[-1]}


@mutant(
    "scale_and_clean_up",
    WITHOUT_HOOKS,
    name="does_without_torch_hooks",
    clause="with PyTorch's own hooks",
)
def by_a_hook_point(model, batches, name, factor):
    with model.hooks([(find_point(name), lambda x, hook: factor * x)]):
        scaled = [model(batch) if batch.max() < model.config.d_vocab else None for batch in batches]
    return {"scaled": scaled, "after": model(batches[0])}


@alternative("scale_and_clean_up")
def with_one_context_per_batch(model, batches, name, factor):
    @contextlib.contextmanager
    def hooked():
        def scale(module, inputs, output):
            output *= factor  # in place is as good, as nobody keeps this output

        handle = model.get_submodule(name).register_forward_hook(scale)
        try:
            yield
        finally:
            handle.remove()

    def attempt(batch):
        with contextlib.suppress(ValueError), hooked(), torch.no_grad():
            return model(batch)

    return {"scaled": [attempt(batch) for batch in batches], "after": model(batches[0])}


# --- add_direction


def edit_stream(model, tokens, layer, edit, name="resid_post"):
    return model.run_with_hooks(tokens, fwd_hooks=[((name, layer), edit)])


def add(
    model,
    tokens,
    layer,
    direction,
    strength,
    position,
    name="resid_post",
    at=lambda position: (slice(None), position),
    use=lambda layer, last: [layer],
    amount=lambda direction, strength: strength * direction,
    keep=1,
):
    """Add the direction, with a part of that exchanged."""

    def edit(stream, hook):
        where = at(position)
        stream[where] = keep * stream[where] + amount(direction, strength)

    layers = use(layer, model.config.n_layers - 1)
    return model.run_with_hooks(tokens, fwd_hooks=[((name, each), edit) for each in layers])


for name, clause, sentence, switches in (
    (
        "ignores_the_strength",
        "with `strength * direction` added",
        "The result does not depend on `strength`: you add the direction exactly once. Strength 0 "
        "should change nothing.",
        {"amount": lambda direction, strength: direction},
    ),
    (
        "takes_the_size_of_the_strength",
        "",
        "A negative strength should push the other way; yours pushes the same way as a positive "
        "one.",
        {"amount": lambda direction, strength: abs(strength) * direction},
    ),
    (
        "normalises_the_direction",
        "`direction` is used as it is, whatever its length",
        "You gave the direction length 1 first. Its length counts, too.",
        {"amount": lambda direction, strength: strength * direction / direction.norm()},
    ),
    (
        "adds_at_every_position",
        "Add at `position` only",
        "You added the direction at every position; only one was asked for.",
        {"at": lambda position: slice(None)},
    ),
    (
        "adds_from_there_on",
        "",
        "You add at `position` and at all that follow; only one was asked for.",
        {"at": lambda position: (slice(None), slice(position, None))},
    ),
    (
        "always_the_last_position",
        "",
        "You always add at the last position; look at `position`.",
        {"at": lambda position: (slice(None), -1)},
    ),
    (
        "forgets_that_positions_may_be_negative",
        "a negative one counts from the end",
        "Positions below 0 are counted from the start in your answer: -2 is the last but one.",
        {"at": lambda position: (slice(None), abs(position))},
    ),
    (
        "counts_from_the_end_one_too_far",
        "",
        "Negative positions are one too far from the end in your answer: -1 is the last.",
        {"at": lambda position: (slice(None), position - (position < -1))},
    ),
    (
        "takes_position_for_the_prompt",
        "shape (batch, pos, d_model)",
        "You index the first axis with `position`, and that is the prompt: positions are the "
        "second axis.",
        {"at": lambda position: min(position, 3)},
    ),
    (
        "replaces_the_stream",
        "added to the stream",
        "You put the direction in place of the stream, so that all that was there is lost. Add to "
        "it.",
        {"keep": 0},
    ),
    (
        "off_by_one_layer",
        "The stream leaving a block",
        "The direction entered before the block, so that the block itself read it. The stream "
        "that *leaves* the block was asked for.",
        {"name": "resid_pre"},
    ),
    (
        "adds_within_the_layer",
        'is the activation `("resid_post", layer)`',
        "You add after attention, so that the layer's own MLP reads it: the stream that leaves "
        "the layer comes later.",
        {"name": "attn_out"},
    ),
    (
        "adds_in_the_last_layer",
        "that leaves `layer`",
        "You add where no later layer reads it, whatever the layer.",
        {"use": lambda layer, last: [last]},
    ),
    (
        "adds_in_every_later_layer",
        "",
        "You add again after every later layer; once was asked for, since later layers keep it.",
        {"use": lambda layer, last: range(layer, last + 1)},
    ),
):
    variant("add_direction", add, name, sentence, clause=clause, **switches)


@mutant(
    "add_direction",
    "You add what W_U makes of the direction to the logits, whatever the layer: later layers read "
    "the stream, too.",
)
def adds_to_the_logits(model, tokens, layer, direction, strength, position):
    logits = model(tokens)
    logits[:, position] += strength * direction @ model.W_U
    return logits


@mutant(
    "add_direction",
    "You estimate the change by a slope; later layers are not linear, so run them.",
    clause="Return the logits",
)
def follows_the_slope(model, tokens, layer, direction, strength, position):
    start = model(tokens, stop_at_layer=layer + 1).detach()
    push = torch.zeros_like(start)
    push[:, position] = strength * direction
    return sum(
        torch.func.jvp(lambda x: model(resid=x, start_at_layer=layer + 1), (start,), (push,))
    )


@mutant("add_direction", name="forgets_to_return", says="what `model` says on `tokens` by itself")
def add_forgets_to_return(model, tokens, layer, direction, strength, position):
    def copy_and_add(stream, hook):
        stream = stream.clone()
        stream[:, position] += strength * direction

    return edit_stream(model, tokens, layer, copy_and_add)


@mutant(
    "add_direction",
    name="first_prompt_only",
    says="is right for the first along the prompt axis only",
    clause="in every prompt",
)
def add_first_prompt_only(*args):
    return add(*args, at=lambda position: (0, position))


@mutant("add_direction", says="changes its input in place")
def scales_its_input(model, tokens, layer, direction, strength, position):
    direction *= strength

    def add(stream, hook):
        stream[:, position] += direction

    return model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), add)])


@alternative("add_direction")
def with_a_one_hot_and_a_pytorch_hook(model, tokens, layer, direction, strength, position):
    here = torch.zeros(tokens.shape[1], 1)
    here[position] = 1
    block = model.blocks[layer]
    handle = block.register_forward_hook(
        lambda module, inputs, stream: stream + strength * here * direction
    )
    try:
        return model(tokens)
    finally:
        handle.remove()


# --- logit_gradient


def pick(logits, answers):
    return logits[torch.arange(len(answers)), -1, answers]


def differentiate(model, tokens, answers, name, score=pick, hooks=(), find=lambda name, last: name):
    name = find(name, model.config.n_layers - 1)
    with model.hooks(list(hooks)):
        logits, cache = model.run_with_cache(tokens)
    return torch.autograd.grad(score(logits, answers).sum(), cache[name])[0]


def find_last(name, last):
    return ".".join(["blocks", str(last), *name.split(".")[2:]])


for name, clause, sentence, switches in (
    (
        "sums_all_logits",
        "the token whose logit counts",
        "That is the gradient of the sum of all logits. Pick one per prompt before you "
        "differentiate.",
        {"score": lambda logits, answers: logits},
    ),
    (
        "answer_at_every_position",
        "The logit is that at the last position",
        "That is the gradient of the answer's logit summed over all positions. Only the last "
        "position's counts.",
        {"score": lambda logits, answers: logits[torch.arange(len(answers)), :, answers]},
    ),
    (
        "same_answer_for_all",
        "`answers[b]` is the token",
        "All prompts were differentiated for the first prompt's answer. Index prompts and answers "
        "together.",
        {"score": lambda logits, answers: logits[:, -1, answers[0]]},
    ),
    (
        "all_answers_for_each",
        "each prompt's answer logit",
        "Every prompt was differentiated for the answers of all. Index prompts and answers "
        "together.",
        {"score": lambda logits, answers: logits[:, -1, answers]},
    ),
    (
        "takes_the_models_own_answer",
        "",
        "That is the gradient of the highest logit; `answers` says which one counts.",
        {"score": lambda logits, answers: logits[:, -1].amax(-1)},
    ),
    (
        "probability_instead_of_logit",
        "answer logit",
        "That is the gradient of the answer's log-probability: the softmax has mixed all other "
        "tokens in.",
        {"score": lambda logits, answers: pick(logits.log_softmax(dim=-1), answers)},
    ),
    (
        "lead_instead_of_logit",
        "",
        "That is the gradient of the answer's lead over the average logit; the logit itself was "
        "asked for.",
        {"score": lambda logits, answers: pick(logits - logits.mean(-1, keepdim=True), answers)},
    ),
    (
        "takes_the_last_layer",
        "`name` is a full hook name",
        "That is the gradient with respect to the same activation of the last layer.",
        {"find": find_last},
    ),
):
    variant("logit_gradient", differentiate, name, sentence, clause=clause, **switches)


@mutant(
    "logit_gradient",
    "Attention is held fixed in your slope; when an activation moves, patterns move with it.",
)
def holds_attention_fixed(model, tokens, answers, name):
    layers = range(model.config.n_layers)
    points = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    hooks = [(point, lambda p, hook: p.detach()) for point in points if point != name]
    return differentiate(model, tokens, answers, name, hooks=hooks)


@mutant(
    "logit_gradient",
    "You read the layer's own stream off by W_U, as if no later layer read the activation.",
    clause="the answer logit of prompt b moves when the activation",
)
def skips_later_layers(model, tokens, answers, name):
    _, cache = model.run_with_cache(tokens)
    logits = model.unembed(cache["resid_post", int(name.split(".")[1])])
    return torch.autograd.grad(
        pick(logits, answers).sum(), cache[name], allow_unused=True, materialize_grads=True
    )[0]


@mutant(
    "logit_gradient",
    "For a stream you take the answer's column of W_U at the last position: so it is after the "
    "last layer only, where nobody else reads it.",
)
def takes_the_column_for_the_slope(model, tokens, answers, name):
    gradient = differentiate(model, tokens, answers, name)
    if gradient.shape[1:] != (tokens.shape[1], model.config.d_model):
        return gradient
    at_the_end = torch.zeros_like(gradient)
    at_the_end[:, -1] = model.W_U[:, answers].T
    return at_the_end


@mutant(
    "logit_gradient",
    "All rows are the average slope: row b is that of prompt b alone.",
    clause="its row b says",
)
def averages_the_rows(*args):
    gradient = differentiate(*args)
    return gradient.mean(0, keepdim=True).expand_as(gradient)


@mutant("logit_gradient", says="for the first along", clause="of prompt b does")
def differentiates_the_first_prompt(*args):
    return differentiate(*args, score=lambda logits, answers: pick(logits, answers)[0])


@mutant("logit_gradient", says="is averaged over", clause="the activation's own shape")
def drops_the_prompts(*args):
    return differentiate(*args).mean(0)


@mutant("logit_gradient", says="3 times less")
def averages_over_prompts(model, tokens, answers, name):
    return differentiate(
        model, tokens, answers, name, lambda logits, answers: pick(logits, answers).mean()
    )


@mutant(
    "logit_gradient",
    "You multiplied the gradient by the activation. That estimates a contribution; the question "
    "was the slope.",
)
def gradient_times_activation(model, tokens, answers, name):
    return model.run_with_cache(tokens)[1][name] * differentiate(model, tokens, answers, name)


@mutant(
    "logit_gradient",
    "All zeros: between the activation and the logit the graph was cut (detach, no_grad, or a "
    "copy that the run never used).",
)
def graph_was_cut(model, tokens, answers, name):
    logits, cache = model.run_with_cache(tokens, names_filter=[name])
    activation = cache[name].detach().requires_grad_()  # a copy that the run never used
    return torch.autograd.grad(
        pick(logits, answers).sum(), activation, materialize_grads=True, allow_unused=True
    )[0]


@alternative("logit_gradient")
def with_backward_and_one_prompt_at_a_time(model, tokens, answers, name):
    rows = []
    for prompt, answer in zip(tokens, answers, strict=True):
        kept = []

        def keep(value, hook, kept=kept):
            kept.append(value)
            value.retain_grad()

        model.run_with_hooks(prompt[None], fwd_hooks=[(name, keep)])[0, -1, answer].backward()
        rows.append(kept[0].grad[0])
    model.zero_grad()  # what `backward` left in the weights
    return torch.stack(rows)


# --- find_needed_heads


def list_heads(model):
    return list(product(range(model.config.n_layers), range(model.config.n_heads)))


def hush(z, head):
    return 0


def run_silent(model, tokens, heads, how=hush, name="z", positions=slice(None)):
    """Run with these heads silent."""
    hooks = []
    for layer, head in heads:

        def edit(z, hook, head=head):
            z[:, positions, head] = how(z[:, positions, head], head)

        hooks.append(((name, layer), edit))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


def weigh_answers(own, now):
    return (own[:, -1].argmax(-1) != now[:, -1].argmax(-1)).float()


def list_needed(
    model,
    tokens,
    share,
    silence=lambda pair, heads: [pair],
    weigh=weigh_answers,
    enough=lambda changed, share: changed.mean() >= share,
    heads=list_heads,
    **how,
):
    """List the heads of which enough answers change when they are silent."""
    own = model(tokens)
    found = []
    for pair in heads(model):
        now = run_silent(model, tokens, silence(pair, list_heads(model)), **how)
        if enough(weigh(own, now), share):
            found.append(pair)
    return found


def weigh_top(change):
    """Weigh how `change(logits)` of the model's own answers falls."""

    def weigh(own, now):
        top = own[:, -1].argmax(-1, keepdim=True)
        before, after = (change(x[:, -1]).gather(1, top)[:, 0] for x in (own, now))
        return (before - after) / (before.abs() if change is torch.clone else 1)

    return weigh


def weigh_all(own, now):
    return (own.argmax(-1) != now.argmax(-1)).float()


for name, clause, sentence, switches in (
    (
        "names_every_head",
        "List the heads that the model needs",
        "You name every head, so that none is missing and many are there in vain. What happens to "
        "the answers without each?",
        {"enough": lambda changed, share: True},
    ),
    (
        "hooks_pile_up",
        "Silence one head at a time",
        "Heads that you silenced earlier are still silent when you judge the later ones. One at a "
        "time.",
        {"silence": lambda pair, heads: [other for other in heads if other <= pair]},
    ),
    (
        "silences_every_layer",
        "as pairs (layer, head)",
        "You silence the head of that number in all layers at once. A head is a layer and a "
        "number.",
        {"silence": lambda pair, heads: [other for other in heads if other[1] == pair[1]]},
    ),
    (
        "silences_the_others",
        "silencing it alone",
        "You keep one head and silence its neighbours. That asks what a head can do alone, not "
        "whether the model needs it.",
        {
            "silence": lambda pair, heads: [
                other for other in heads if other[0] == pair[0] and other != pair
            ]
        },
    ),
    (
        "last_position_only",
        "at every position",
        "You silence heads at the last position only. What a head writes at earlier positions is "
        "read by later layers.",
        {"positions": slice(-1, None)},
    ),
    (
        "any_change_counts",
        "the answer of at least `share`",
        "You name a head as soon as one prompt's answer changes; `share` says how many have to.",
        {"enough": lambda changed, share: changed.any()},
    ),
    (
        "more_than_the_share",
        "at least `share`",
        "You leave out heads without which just `share` of the answers change: that is at least "
        "`share`, too.",
        {"enough": lambda changed, share: changed.mean() > share},
    ),
    (
        "rounds_the_share_down",
        "",
        "You round down how many prompts `share` is, so that a little less than that is enough.",
        {"enough": lambda changed, share: changed.sum() >= int(share * len(changed))},
    ),
    (
        "one_half_whatever_the_share",
        "",
        "You name the heads without which one half of the answers change: `share` says how many.",
        {"enough": lambda changed, share: changed.mean() >= 0.5},
    ),
    (
        "judges_by_the_first_prompt",
        "(between 0 and 1) of the prompts",
        "You look at the first prompt only: `share` is one of all prompts.",
        {"enough": lambda changed, share: changed[0] > 0},
    ),
    (
        "zeroes_the_queries",
        "set what it hands on",
        "Your heads are not silent: they attend evenly and go on writing.",
        {"name": "q"},
    ),
    (
        "silences_with_the_mean",
        "to zero",
        "You put the mean over the prompts in the place of what a head hands on; the task puts "
        "zero there.",
        {"how": lambda z, head: z.mean(0, keepdim=True)},
    ),
    (
        "silences_with_one_mean",
        "",
        "You put the mean over prompts and positions in the place of what a head hands on; the "
        "task puts zero there.",
        {"how": lambda z, head: z.mean((0, 1), keepdim=True)},
    ),
    (
        "compares_every_position",
        "with the highest logit at the last position",
        "You compare what the model says at all positions; a prompt's answer is what it says at "
        "the last.",
        {"weigh": weigh_all},
    ),
    (
        "looks_for_lower_logits",
        "changes the answer",
        "You ask by what share the answer's logit falls; the task asks whether the answer becomes "
        "another.",
        {"weigh": weigh_top(torch.clone)},
    ),
    (
        "looks_for_lower_probabilities",
        "",
        "You ask by how much the answer's probability falls; the task asks whether the answer "
        "becomes another.",
        {"weigh": weigh_top(lambda logits: logits.softmax(-1))},
    ),
    (
        "tries_two_layers_of_two_heads",
        "",
        "You try heads 0 and 1 of layers 0 and 1: ask the model how many it has.",
        {"heads": lambda model: [(0, 0), (0, 1), (1, 0), (1, 1)]},
    ),
    (
        "tries_the_first_heads",
        "",
        "You try head 0 of each layer only.",
        {"heads": lambda model: [(layer, 0) for layer in range(model.config.n_layers)]},
    ),
):
    variant("find_needed_heads", list_needed, name, sentence, clause=clause, **switches)


@mutant(
    "find_needed_heads",
    "Heads that you found needless are still silent when you judge the later ones. One at a time.",
)
def leaves_needless_heads_silent(model, tokens, share):
    silent, needed = [], []
    for pair in list_heads(model):
        now = run_silent(model, tokens, [*silent, pair])
        changed = weigh_answers(model(tokens), now).mean() >= share
        (needed if changed else silent).append(pair)
    return needed


@mutant(
    "find_needed_heads",
    "You also name heads that are needed only together with another.",
    clause="A head is needed if silencing it alone",
)
def tries_pairs(model, tokens, share):
    single = list_needed(model, tokens, share)
    found = set(single)
    for one, other in product(list_heads(model), repeat=2):
        now = run_silent(model, tokens, [one, other])
        if other not in single and weigh_answers(model(tokens), now).mean() >= share:
            found.add(one)
    return sorted(found)


@mutant(
    "find_needed_heads",
    "Your pairs are (head, layer). The layer comes first.",
)
def head_before_layer(*args):
    return [pair[::-1] for pair in list_needed(*args)]


@alternative("find_needed_heads")
def with_the_heads_results(model, tokens, share):
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    changed = torch.zeros(n_layers, n_heads)
    with torch.no_grad():
        answers = model(tokens)[:, -1].topk(1).indices[:, 0].tolist()
        for layer, head in torch.cartesian_prod(
            torch.arange(n_layers), torch.arange(n_heads)
        ).tolist():
            keep = torch.ones(n_heads, 1)
            keep[head] = 0
            with model.hooks([(("result", layer), lambda result, hook, keep=keep: result * keep)]):
                now = model(tokens)[:, -1].topk(1).indices[:, 0].tolist()
            changed[layer, head] = sum(a != b for a, b in zip(answers, now, strict=True)) / len(
                answers
            )
    return (changed >= share).nonzero().tolist()

"""List wrong answers to lesson 02 that the grader rejects by name, and unusual right ones."""

import contextlib
import functools
from itertools import product

import torch

from mini_transformer.course.grading.checks import alternative, mutant

# --- cache_outputs


def cache_with(model, tokens, names, find=lambda name: name, keep=lambda inputs, output: output):
    outputs = {}
    handles = []
    for name in names:

        def hook(module, inputs, output, name=name):
            outputs[name] = keep(inputs, output)

        handles.append(model.get_submodule(find(name)).register_forward_hook(hook))
    model(tokens)
    for handle in handles:
        handle.remove()
    return outputs


@mutant("cache_outputs")
def keeps_the_input(model, tokens, names):
    return cache_with(model, tokens, names, keep=lambda inputs, output: inputs[0])


@mutant("cache_outputs")
def last_name_only(model, tokens, names):
    outputs = {}
    handles = []
    for name in names:

        def hook(module, inputs, output):
            outputs[name] = output  # noqa: B023

        handles.append(model.get_submodule(name).register_forward_hook(hook))
    model(tokens)
    for handle in handles:
        handle.remove()
    return outputs


@mutant("cache_outputs")
def keeps_the_logits(model, tokens, names):
    return dict.fromkeys(names, model(tokens))


@mutant("cache_outputs")
def off_by_one_layer(model, tokens, names):
    def find(name):
        layer = int(name.split(".")[1])
        later = name.replace(str(layer), str(min(layer + 1, model.config.n_layers - 1)))
        return later

    return cache_with(model, tokens, names, find=find)


@mutant("cache_outputs", name="first_prompt_only", says="holds only the first of the prompt axis")
def cache_first_prompt_only(model, tokens, names):
    return cache_with(model, tokens[:1], names)


@mutant("cache_outputs", says="one number only")
def constant_output(model, tokens, names):
    return {name: torch.ones(*tokens.shape, model.config.d_model) for name in names}


@mutant("cache_outputs", name="uses_hook_points")
def by_the_cache_of_this_package(model, tokens, names):
    places = {}
    for name in names:
        _, layer, *part = name.split(".")
        places[name] = (
            {"attn": "attn_out", "mlp": "mlp_out"}[part[0]] if part else "resid_post",
            int(layer),
        )
    _, cache = model.run_with_cache(tokens)
    return {name: cache[place] for name, place in places.items()}


@mutant("cache_outputs", says="leaves a hook")
def never_removes_a_hook(model, tokens, names):
    outputs = {}

    def keep(module, inputs, output, name):
        outputs[name] = output.clone()

    for name in names:
        model.get_submodule(name).register_forward_hook(functools.partial(keep, name=name))
    model(tokens)
    return outputs


@mutant("cache_outputs", says="runs the model")
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


def run_all(model, batches, hang_up):
    """Use one hook for all batches, taken away in the end."""
    handle = hang_up()
    scaled = []
    for batch in batches:
        try:
            scaled.append(model(batch))
        except ValueError:
            scaled.append(None)
    handle.remove()
    return {"scaled": scaled, "after": model(batches[0])}


@mutant("scale_and_clean_up")
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


@mutant("scale_and_clean_up")
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


@mutant("scale_and_clean_up", says="leaves a hook on the model")
def never_removed(model, batches, name, factor):
    def hang_up():
        model.get_submodule(name).register_forward_hook(lambda m, i, output: factor * output)
        return contextlib.nullcontext()

    hook = hang_up()
    hook.remove = lambda: None
    return run_all(model, batches, lambda: hook)


@mutant("scale_and_clean_up", name="forgets_to_return")
def scale_forgets_to_return(model, batches, name, factor):
    def scale(module, inputs, output):
        output = factor * output

    return run_all(model, batches, lambda: model.get_submodule(name).register_forward_hook(scale))


@mutant("scale_and_clean_up")
def scales_the_input(model, batches, name, factor):
    def scale(module, inputs):
        return tuple(x if x is None else factor * x for x in inputs)

    return run_all(
        model, batches, lambda: model.get_submodule(name).register_forward_pre_hook(scale)
    )


@mutant("scale_and_clean_up")
def ignores_the_factor(model, batches, name, factor):
    return run_all(
        model,
        batches,
        lambda: model.get_submodule(name).register_forward_hook(lambda m, i, out: 0 * out),
    )


@mutant("scale_and_clean_up")
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


@mutant("scale_and_clean_up")
def drops_bad_batches(model, batches, name, factor):
    runs = run_all(
        model,
        batches,
        lambda: model.get_submodule(name).register_forward_hook(
            lambda m, i, output: factor * output
        ),
    )
    return {
        "scaled": [logits for logits in runs["scaled"] if logits is not None],
        "after": runs["after"],
    }


@mutant("scale_and_clean_up", name="uses_hook_points")
def by_a_hook_point(model, batches, name, factor):
    _, layer, *part = name.split(".")
    place = ({"attn": "attn_out", "mlp": "mlp_out"}[part[0]] if part else "resid_post", int(layer))
    scaled = []
    for batch in batches:
        try:
            hooks = [(place, lambda x, hook: factor * x)]
            scaled.append(model.run_with_hooks(batch, fwd_hooks=hooks))
        except ValueError:
            scaled.append(None)
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


def add_at(where, amount):
    def add(stream, hook):
        stream[where] += amount

    return add


@mutant("add_direction")
def ignores_the_strength(model, tokens, layer, direction, strength, position):
    return edit_stream(model, tokens, layer, add_at((slice(None), position), direction))


@mutant("add_direction")
def adds_at_every_position(model, tokens, layer, direction, strength, position):
    return edit_stream(model, tokens, layer, lambda stream, hook: stream + strength * direction)


@mutant("add_direction")
def replaces_the_stream(model, tokens, layer, direction, strength, position):
    def replace(stream, hook):
        stream[:, position] = strength * direction

    return edit_stream(model, tokens, layer, replace)


@mutant("add_direction", name="off_by_one_layer")
def adds_before_the_block(model, tokens, layer, direction, strength, position):
    return edit_stream(
        model,
        tokens,
        layer,
        add_at((slice(None), position), strength * direction),
        name="resid_pre",
    )


@mutant("add_direction")
def normalises_the_direction(model, tokens, layer, direction, strength, position):
    unit = direction / direction.norm()
    return edit_stream(model, tokens, layer, add_at((slice(None), position), strength * unit))


@mutant("add_direction", name="forgets_to_return", says="what `model` says on `tokens` by itself")
def add_forgets_to_return(model, tokens, layer, direction, strength, position):
    def add(stream, hook):
        stream = stream.clone()
        stream[:, position] += strength * direction

    return edit_stream(model, tokens, layer, add)


@mutant("add_direction")
def always_the_last_position(model, tokens, layer, direction, strength, position):
    return edit_stream(model, tokens, layer, add_at((slice(None), -1), strength * direction))


@mutant(
    "add_direction",
    name="first_prompt_only",
    says="is right for the first along the prompt axis only",
)
def add_first_prompt_only(model, tokens, layer, direction, strength, position):
    return edit_stream(model, tokens, layer, add_at((0, position), strength * direction))


@mutant("add_direction", says="differs in")
def forgets_that_positions_may_be_negative(model, tokens, layer, direction, strength, position):
    def add(stream, hook):
        stream[:, abs(position)] += strength * direction

    return model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), add)])


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


def differentiate(model, tokens, name, score):
    logits, cache = model.run_with_cache(tokens, names_filter=[name])
    return torch.autograd.grad(score(logits).sum(), cache[name])[0]


def pick(logits, answers):
    return logits[torch.arange(len(answers)), -1, answers]


@mutant("logit_gradient")
def sums_all_logits(model, tokens, answers, name):
    return differentiate(model, tokens, name, lambda logits: logits)


@mutant("logit_gradient")
def answer_at_every_position(model, tokens, answers, name):
    return differentiate(
        model, tokens, name, lambda logits: logits[torch.arange(len(answers)), :, answers]
    )


@mutant("logit_gradient")
def same_answer_for_all(model, tokens, answers, name):
    return differentiate(model, tokens, name, lambda logits: logits[:, -1, answers[0]])


@mutant("logit_gradient")
def probability_instead_of_logit(model, tokens, answers, name):
    return differentiate(
        model, tokens, name, lambda logits: pick(logits.log_softmax(dim=-1), answers)
    )


@mutant("logit_gradient", says="3 times less")
def averages_over_prompts(model, tokens, answers, name):
    return differentiate(model, tokens, name, lambda logits: pick(logits, answers).mean())


@mutant("logit_gradient")
def gradient_times_activation(model, tokens, answers, name):
    logits, cache = model.run_with_cache(tokens, names_filter=[name])
    return cache[name] * torch.autograd.grad(pick(logits, answers).sum(), cache[name])[0]


@mutant("logit_gradient")
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


def find_with(model, tokens, share, hooks_for):
    """Find heads whose hooks `hooks_for(layer, head)` change the answers of enough prompts."""
    own = model(tokens)[:, -1].argmax(dim=-1)
    needed = []
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            logits = model.run_with_hooks(tokens, fwd_hooks=hooks_for(layer, head))
            if (logits[:, -1].argmax(dim=-1) != own).float().mean() >= share:
                needed.append((layer, head))
    return needed


def silence(layer, heads, name="z", positions=slice(None)):
    def edit(value, hook):
        value[:, positions, heads] = 0

    return ((name, layer), edit)


@mutant("find_needed_heads")
def names_every_head(model, tokens, share):
    return [
        (layer, head)
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    ]


@mutant("find_needed_heads")
def hooks_pile_up(model, tokens, share):
    hooks = []

    def hooks_for(layer, head):
        hooks.append(silence(layer, head))
        return hooks

    return find_with(model, tokens, share, hooks_for)


@mutant("find_needed_heads")
def silences_every_layer(model, tokens, share):
    layers = range(model.config.n_layers)
    return find_with(
        model, tokens, share, lambda layer, head: [silence(each, head) for each in layers]
    )


@mutant("find_needed_heads")
def silences_the_others(model, tokens, share):
    heads = range(model.config.n_heads)
    return find_with(
        model, tokens, share, lambda layer, head: [silence(layer, [h for h in heads if h != head])]
    )


@mutant("find_needed_heads")
def last_position_only(model, tokens, share):
    return find_with(model, tokens, share, lambda layer, head: [silence(layer, head, positions=-1)])


@mutant("find_needed_heads")
def any_change_counts(model, tokens, share):
    return find_with(model, tokens, 1e-9, lambda layer, head: [silence(layer, head)])


@mutant("find_needed_heads")
def zeroes_the_queries(model, tokens, share):
    return find_with(model, tokens, share, lambda layer, head: [silence(layer, head, name="q")])


@mutant("find_needed_heads")
def head_before_layer(model, tokens, share):
    found = find_with(model, tokens, share, lambda layer, head: [silence(layer, head)])
    return [(head, layer) for layer, head in found]


def find_shares(model, tokens):
    own = model(tokens)[:, -1].argmax(dim=-1)
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):
        logits = model.run_with_hooks(tokens, fwd_hooks=[silence(layer, head)])
        changed = logits[:, -1].argmax(dim=-1) != own
        yield (layer, head), changed.float().mean().item()


@mutant("find_needed_heads", says="needed heads are missing")
def more_than_the_share(model, tokens, share):
    return [pair for pair, changed in find_shares(model, tokens) if changed > share]


@mutant("find_needed_heads", says="heads are")
def one_half_whatever_the_share(model, tokens, share):
    return [pair for pair, changed in find_shares(model, tokens) if changed >= 0.5]


@mutant("find_needed_heads", says="heads are")
def silences_with_the_mean(model, tokens, share):
    own = model(tokens)[:, -1].argmax(dim=-1)
    found = []
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):

        def even(z, hook, head=head):
            z[:, :, head] = z[:, :, head].mean(dim=0, keepdim=True)

        logits = model.run_with_hooks(tokens, fwd_hooks=[(("z", layer), even)])
        if (logits[:, -1].argmax(dim=-1) != own).float().mean() >= share:
            found.append((layer, head))
    return found


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

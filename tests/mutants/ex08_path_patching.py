"""List wrong answers to lesson 08 that the grader rejects by name, and unusual right ones."""

from itertools import product

import torch

from mini_transformer.course.grading.checks import alternative, mutant
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs


def read_result(model, tokens, layer, head):
    """Return what one head writes, (b, t, d)."""
    _, cache = model.run_with_cache(tokens, names_filter=("result", layer))
    return cache["result", layer][:, :, head]


def find_change(model, clean, corrupt, layer, head):
    return read_result(model, corrupt, layer, head) - read_result(model, clean, layer, head)


def measure(logits, answer, wrong):
    return (
        logits[:, -1].gather(1, answer[:, None]) - logits[:, -1].gather(1, wrong[:, None])
    ).mean()


def set_head(head, value):
    """Make a hook that puts a value in the place of one head's."""

    def replace(x, hook):
        x[:, :, head] = value

    return replace


def add_to_head(head, value):
    def add(x, hook):
        x[:, :, head] += value

    return add


# patch_edge ---------------------------------------------------------------------------------------


def add_to_reader(model, tokens, change, reader, parts):
    hooks = [((f"{part}_input", reader[0]), add_to_head(reader[1], change)) for part in parts]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mutant("patch_edge")
def patches_the_whole_head(model, clean, corrupt, writer, reader, part):
    new = read_result(model, corrupt, *writer)
    return model.run_with_hooks(
        clean, fwd_hooks=[(("result", writer[0]), set_head(writer[1], new))]
    )


@mutant("patch_edge", says="differs in")
def holds_later_layers_at_their_clean_values(model, clean, corrupt, writer, reader, part):
    change = find_change(model, clean, corrupt, *writer)
    cache = model.run_with_cache(clean)[1]
    later = range(reader[0] + 1, model.config.n_layers)
    hooks = [((f"{part}_input", reader[0]), add_to_head(reader[1], change))]
    hooks += [(("attn_out", i), lambda x, hook, i=i: cache["attn_out", i]) for i in later]
    return model.run_with_hooks(clean, fwd_hooks=hooks)


@mutant("patch_edge", says="differs in")
def always_the_last_head_writes(model, clean, corrupt, writer, reader, part):
    change = find_change(model, clean, corrupt, writer[0], model.config.n_heads - 1)
    return add_to_reader(model, clean, change, reader, part)


@mutant("patch_edge", says="differs in")
def the_reader_is_in_the_last_layer(model, clean, corrupt, writer, reader, part):
    change = find_change(model, clean, corrupt, *writer)
    return add_to_reader(model, clean, change, (model.config.n_layers - 1, reader[1]), part)


@mutant("patch_edge")
def patches_the_whole_layer(model, clean, corrupt, writer, reader, part):
    change = find_change(model, clean, corrupt, *writer)
    name = (f"{part}_input", reader[0])
    return model.run_with_hooks(clean, fwd_hooks=[(name, lambda x, hook: x + change.unsqueeze(2))])


@mutant("patch_edge")
def patches_all_three_inputs(model, clean, corrupt, writer, reader, part):
    return add_to_reader(model, clean, find_change(model, clean, corrupt, *writer), reader, "qkv")


@mutant("patch_edge")
def swaps_query_and_key(model, clean, corrupt, writer, reader, part):
    return add_to_reader(
        model,
        clean,
        find_change(model, clean, corrupt, *writer),
        reader,
        {"q": "k", "k": "q"}.get(part, part),
    )


@mutant("patch_edge")
def patches_the_wrong_run(model, clean, corrupt, writer, reader, part):
    return add_to_reader(model, corrupt, find_change(model, corrupt, clean, *writer), reader, part)


@mutant("patch_edge")
def replaces_the_whole_input(model, clean, corrupt, writer, reader, part):
    stream = model.run_with_cache(corrupt)[1]["resid_pre", reader[0]]
    return model.run_with_hooks(
        clean, fwd_hooks=[((f"{part}_input", reader[0]), set_head(reader[1], stream))]
    )


@mutant("patch_edge")
def hears_only_the_writer(model, clean, corrupt, writer, reader, part):
    new = read_result(model, corrupt, *writer)
    return model.run_with_hooks(
        clean, fwd_hooks=[((f"{part}_input", reader[0]), set_head(reader[1], new))]
    )


@mutant("patch_edge")
def hears_the_writer_twice(model, clean, corrupt, writer, reader, part):
    return add_to_reader(model, clean, read_result(model, corrupt, *writer), reader, part)


@mutant("patch_edge")
def takes_the_writer_away(model, clean, corrupt, writer, reader, part):
    return add_to_reader(model, clean, -read_result(model, clean, *writer), reader, part)


@mutant("patch_edge", "last_position_only")
def patches_the_last_position(model, clean, corrupt, writer, reader, part):
    change = find_change(model, clean, corrupt, *writer)
    change[:, :-1] = 0
    return add_to_reader(model, clean, change, reader, part)


@mutant("patch_edge")
def swaps_the_head_numbers(model, clean, corrupt, writer, reader, part):
    change = find_change(model, clean, corrupt, writer[0], reader[1])
    return add_to_reader(model, clean, change, (reader[0], writer[1]), part)


@mutant("patch_edge", "flips_the_sign")
def hears_clean_minus_corrupt(model, clean, corrupt, writer, reader, part):
    return add_to_reader(model, clean, find_change(model, corrupt, clean, *writer), reader, part)


@mutant("patch_edge")
def runs_on_the_corrupt_prompts(model, clean, corrupt, writer, reader, part):
    return add_to_reader(model, corrupt, find_change(model, clean, corrupt, *writer), reader, part)


@alternative("patch_edge")
def by_the_edge_engine(model, clean, corrupt, writer, reader, part):
    edge = f"a{writer[0]}.h{writer[1]}->a{reader[0]}.h{reader[1]}<{part}>"
    return run_edges(
        model, clean, 1 - mask_of(model, [edge]).unsqueeze(0), write_outputs(model, corrupt)
    )[0]


@alternative("patch_edge")
def with_a_new_stream_for_the_reader(model, clean, corrupt, writer, reader, part):
    names = [("z", writer[0]), ("resid_pre", reader[0])]
    (_, cache), (_, other) = (
        model.run_with_cache(tokens, names_filter=names) for tokens in (clean, corrupt)
    )
    W_O = model.blocks[writer[0]].attn.W_O[writer[1]]
    stream = (
        cache["resid_pre", reader[0]]
        + (other["z", writer[0]] - cache["z", writer[0]])[:, :, writer[1]] @ W_O
    )
    return model.run_with_hooks(
        clean, fwd_hooks=[((f"{part}_input", reader[0]), set_head(reader[1], stream))]
    )


# split_head_effect --------------------------------------------------------------------------------


def measure_runs(model, clean, answer, wrong, layer, head, old, new):
    """Measure the metric when nobody, everybody, only the unembedding, or the rest hear `new`."""
    say = ("result", layer), set_head(head, new)

    def run(*hooks):
        return measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong).item()

    last = ("resid_post", -1)
    return (
        run(),
        run(say),
        run((last, lambda x, hook: x + new - old)),
        run(say, (last, lambda x, hook: x - new + old)),
    )


def split(model, clean, corrupt, answer, wrong, layer, head):
    old, new = (read_result(model, tokens, layer, head) for tokens in (clean, corrupt))
    base, *rest = measure_runs(model, clean, answer, wrong, layer, head, old, new)
    return tuple(value - base for value in rest)


@mutant("split_head_effect")
def direct_through_later_layers(model, clean, corrupt, answer, wrong, layer, head):
    change = find_change(model, clean, corrupt, layer, head)
    total, _, indirect = split(model, clean, corrupt, answer, wrong, layer, head)
    hooks = [(("attn_out", layer), lambda x, hook: x + change)]
    direct = measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong) - measure(
        model(clean), answer, wrong
    )
    return total, direct.item(), indirect


@mutant("split_head_effect")
def indirect_by_subtraction(*inputs):
    total, direct, _ = split(*inputs)
    return total, direct, total - direct


@mutant("split_head_effect")
def direct_without_the_norm(model, clean, corrupt, answer, wrong, layer, head):
    total, _, indirect = split(model, clean, corrupt, answer, wrong, layer, head)
    change = find_change(model, clean, corrupt, layer, head)
    return total, measure(change @ model.W_U, answer, wrong).item(), indirect


@mutant("split_head_effect")
def swaps_direct_and_indirect(*inputs):
    total, direct, indirect = split(*inputs)
    return total, indirect, direct


@mutant("split_head_effect", "flips_the_sign", says="is the negative of what it should be")
def clean_minus_patched(*inputs):
    return tuple(-effect for effect in split(*inputs))


@mutant("split_head_effect")
def forgets_the_baseline(model, clean, corrupt, answer, wrong, layer, head):
    old, new = (read_result(model, tokens, layer, head) for tokens in (clean, corrupt))
    return measure_runs(model, clean, answer, wrong, layer, head, old, new)[1:]


@mutant("split_head_effect", "patches_the_whole_layer")
def patches_every_head(model, clean, corrupt, answer, wrong, layer, head):
    name = ("attn_out", layer)
    old, new = (
        model.run_with_cache(tokens, names_filter=name)[1][name] for tokens in (clean, corrupt)
    )
    say = (name, lambda x, hook: new)
    last = ("resid_post", -1)
    hear = (last, lambda x, hook: x + new - old)
    miss = (last, lambda x, hook: x - new + old)

    def run(*hooks):
        return measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong).item()

    return tuple(run(*hooks) - run() for hooks in ((say,), (hear,), (say, miss)))


@mutant("split_head_effect", "patches_the_wrong_run")
def patches_clean_into_corrupt(model, clean, corrupt, *rest):
    return split(model, corrupt, clean, *rest)


@mutant("split_head_effect", says="expected")
def always_the_last_head(model, clean, corrupt, answer, wrong, layer, head):
    return split(model, clean, corrupt, answer, wrong, layer, model.config.n_heads - 1)


@mutant("split_head_effect")
def takes_the_head_away(model, clean, corrupt, answer, wrong, layer, head):
    old = read_result(model, clean, layer, head)
    base, *rest = measure_runs(model, clean, answer, wrong, layer, head, old, 0 * old)
    return tuple(value - base for value in rest)


@alternative("split_head_effect")
def by_masks_over_edges(model, clean, corrupt, answer, wrong, layer, head):
    edges = list_edges(model)
    off = write_outputs(model, corrupt)
    own = [edge for edge in edges if edge.startswith(f"a{layer}.h{head}->")]
    direct = [edge for edge in own if edge.endswith("->logits")]
    cut = ([], own, direct, [edge for edge in own if edge not in direct])
    masks = torch.stack([1 - mask_of(model, which) for which in cut])
    base, *rest = (
        measure(logits, answer, wrong).item() for logits in run_edges(model, clean, masks, off)
    )
    return [value - base for value in rest]


# attribute_heads ----------------------------------------------------------------------------------


def find_slopes(model, tokens, answer, wrong):
    """Return what all heads hand on, (b, t, n, h) per layer, and the gradients there."""
    logits, cache = model.run_with_cache(tokens)
    z = [cache["z", layer] for layer in range(model.config.n_layers)]
    return z, torch.autograd.grad(measure(logits, answer, wrong), z)


def multiply(moves, slopes):
    return torch.stack(
        [(move * slope).sum(dim=(0, 1, 3)) for move, slope in zip(moves, slopes, strict=True)]
    )


def attribute(model, clean, corrupt, answer, wrong, edit=lambda old, new: new - old):
    old, slopes = find_slopes(model, clean, answer, wrong)
    new, _ = find_slopes(model, corrupt, answer, wrong)
    return multiply([edit(*pair) for pair in zip(old, new, strict=True)], slopes)


@mutant("attribute_heads")
def gradient_of_the_corrupt_run(model, clean, corrupt, answer, wrong):
    return attribute(model, corrupt, clean, answer, wrong, edit=lambda old, new: old - new)


@mutant("attribute_heads")
def forgets_the_clean_value(*inputs):
    return attribute(*inputs, edit=lambda old, new: new)


@mutant("attribute_heads")
def multiplies_by_the_clean_value(*inputs):
    return attribute(*inputs, edit=lambda old, new: old)


@mutant("attribute_heads")
def gradient_alone(*inputs):
    return attribute(*inputs, edit=lambda old, new: torch.ones_like(old))


@mutant("attribute_heads", "flips_the_sign", says="is the negative of what it should be")
def moves_from_corrupt_to_clean(*inputs):
    return attribute(*inputs, edit=lambda old, new: old - new)


@mutant("attribute_heads", says="is the absolute value of what it should be")
def forgets_the_sign(*inputs):
    return attribute(*inputs).abs()


@mutant("attribute_heads", says="4 times (the number of prompts)")
def adds_up_the_prompts(model, clean, *rest):
    return attribute(model, clean, *rest) * len(clean)


@mutant("attribute_heads", "last_position_only")
def counts_the_last_position(model, clean, corrupt, answer, wrong):
    return attribute(
        model, clean, corrupt, answer, wrong, edit=lambda old, new: keep_last(new - old)
    )


def keep_last(x):
    return torch.cat([0 * x[:, :-1], x[:, -1:]], dim=1)


@mutant("attribute_heads")
def patches_exactly(model, clean, corrupt, answer, wrong):
    base = measure(model(clean), answer, wrong)
    effects = torch.zeros(model.config.n_layers, model.config.n_heads)
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):
        hook = set_head(head, read_result(model, corrupt, layer, head))
        patched = model.run_with_hooks(clean, fwd_hooks=[(("result", layer), hook)])
        effects[layer, head] = measure(patched, answer, wrong) - base
    return effects


@alternative("attribute_heads")
def by_the_slope_of_a_dial(model, clean, corrupt, answer, wrong):
    dial = torch.zeros(model.config.n_layers, model.config.n_heads, requires_grad=True)
    (_, cache), (_, other) = model.run_with_cache(clean), model.run_with_cache(corrupt)
    hooks = []
    for layer in range(len(dial)):
        move = (other["z", layer] - cache["z", layer]).detach()
        hooks.append(
            (
                ("z", layer),
                lambda z, hook, layer=layer, move=move: z + dial[layer].unsqueeze(1) * move,
            )
        )
    value = measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong)
    return torch.autograd.grad(value, dial)[0]


# integrate_heads ----------------------------------------------------------------------------------


def find_ends(model, clean, corrupt, layer):
    """Return what the heads of a layer hand on in both runs."""
    return (
        model.run_with_cache(x, names_filter=("z", layer))[1]["z", layer].detach()
        for x in (clean, corrupt)
    )


def find_slope(model, clean, answer, wrong, layer, z):
    z = z.detach().requires_grad_()
    logits = model.run_with_hooks(clean, fwd_hooks=[(("z", layer), lambda old, hook: z)])
    return torch.autograd.grad(measure(logits, answer, wrong), z)[0]


def integrate(
    model, clean, corrupt, answer, wrong, layer, steps, offset=0.5, edit=lambda move: move
):
    start, end = find_ends(model, clean, corrupt, layer)
    points = [start + (step + offset) / steps * (end - start) for step in range(steps)]
    slope = sum(find_slope(model, clean, answer, wrong, layer, z) for z in points) / steps
    return (edit(end - start) * slope).sum(dim=(0, 1, 3))


@mutant("integrate_heads")
def gradient_at_the_clean_end(model, clean, corrupt, answer, wrong, layer, steps):
    return attribute(model, clean, corrupt, answer, wrong)[layer]


@mutant("integrate_heads")
def starts_at_the_beginning_of_each_piece(*inputs):
    return integrate(*inputs, offset=0.0)


@mutant("integrate_heads")
def ends_at_the_end_of_each_piece(*inputs):
    return integrate(*inputs, offset=1.0)


@mutant("integrate_heads", says="3 times")
def adds_up_the_steps(*inputs):
    return integrate(*inputs) * inputs[-1]


@mutant("integrate_heads", says="3 times less")
def moves_each_piece_alone(*inputs):
    return integrate(*inputs) / inputs[-1]


@mutant("integrate_heads", says="is the negative of what it should be")
def walks_backwards(*inputs):
    return -integrate(*inputs)


@mutant("integrate_heads", "last_position_only")
def counts_only_the_last_position(*inputs):
    return integrate(*inputs, edit=keep_last)


@mutant("integrate_heads")
def walks_from_zero(model, clean, corrupt, answer, wrong, layer, steps):
    _, end = find_ends(model, clean, corrupt, layer)
    points = [(step + 0.5) / steps * end for step in range(steps)]
    slope = sum(find_slope(model, clean, answer, wrong, layer, z) for z in points) / steps
    return (end * slope).sum(dim=(0, 1, 3))


@mutant("integrate_heads", "runs_on_the_corrupt_prompts")
def walks_in_the_corrupt_run(model, clean, corrupt, answer, wrong, layer, steps):
    start, end = find_ends(model, clean, corrupt, layer)
    points = [start + (step + 0.5) / steps * (end - start) for step in range(steps)]
    slope = sum(find_slope(model, corrupt, answer, wrong, layer, z) for z in points) / steps
    return ((end - start) * slope).sum(dim=(0, 1, 3))


@mutant("integrate_heads")
def one_head_at_a_time(model, clean, corrupt, answer, wrong, layer, steps):
    start, end = find_ends(model, clean, corrupt, layer)
    shares = []
    for head in range(model.config.n_heads):
        move = torch.zeros_like(start)
        move[:, :, head] = (end - start)[:, :, head]
        points = [start + (step + 0.5) / steps * move for step in range(steps)]
        slope = sum(find_slope(model, clean, answer, wrong, layer, z) for z in points) / steps
        shares.append((move * slope).sum())
    return torch.stack(shares)


@alternative("integrate_heads")
def by_the_slope_of_one_dial_per_head(model, clean, corrupt, answer, wrong, layer, steps):
    start, end = find_ends(model, clean, corrupt, layer)
    shares = torch.zeros(model.config.n_heads)
    for step in range(steps):
        dial = torch.full((model.config.n_heads, 1), (step + 0.5) / steps, requires_grad=True)
        hooks = [(("z", layer), lambda z, hook, dial=dial: start + dial * (end - start))]
        measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong).backward()
        shares += dial.grad[:, 0] / steps
    model.zero_grad()
    return shares


# find_feeding_edges -------------------------------------------------------------------------------


def list_changes(model, clean, corrupt, layer):
    """Map each writer before `layer` to what it writes, corrupt minus clean."""
    changes = {"input": model(corrupt, stop_at_layer=0) - model(clean, stop_at_layer=0)}
    for i, n in product(range(layer), range(model.config.n_heads)):
        changes[f"a{i}.h{n}"] = find_change(model, clean, corrupt, i, n)
    return changes


def measure_drops(model, clean, corrupt, answer, wrong, layer, head, groups=("q", "k", "v")):
    """Measure what is lost when parts of the head hear a writer's corrupt value.

    Keys are (writer, parts).
    """
    whole = measure(model(clean), answer, wrong)
    drops = {}
    for (writer, change), parts in product(
        list_changes(model, clean, corrupt, layer).items(), groups
    ):
        patched = add_to_reader(model, clean, change, (layer, head), parts)
        drops[writer, parts] = (whole - measure(patched, answer, wrong)).item()
    return drops


def spell(drops, layer, head, least=1.0):
    return [
        f"{writer}->a{layer}.h{head}<{part}>"
        for (writer, part), drop in drops.items()
        if drop >= least
    ]


@mutant("find_feeding_edges")
def names_all_three_inputs(*inputs):
    drops = measure_drops(*inputs, groups=("qkv",))
    return spell(
        {(writer, part): drop for (writer, _), drop in drops.items() for part in "qkv"},
        *inputs[-2:],
    )


@mutant("find_feeding_edges")
def patches_whole_heads(model, clean, corrupt, answer, wrong, layer, head):
    whole = measure(model(clean), answer, wrong)
    drops = {}
    for i, n in product(range(layer), range(model.config.n_heads)):
        hook = set_head(n, read_result(model, corrupt, i, n))
        patched = model.run_with_hooks(clean, fwd_hooks=[(("result", i), hook)])
        drops |= {(f"a{i}.h{n}", part): whole - measure(patched, answer, wrong) for part in "qkv"}
    return spell(drops, layer, head)


@mutant("find_feeding_edges", "patches_the_whole_layer")
def all_heads_of_the_layer_hear_it(model, clean, corrupt, answer, wrong, layer, head):
    whole = measure(model(clean), answer, wrong)
    drops = {}
    for (writer, change), part in product(
        list_changes(model, clean, corrupt, layer).items(), "qkv"
    ):
        hooks = [((f"{part}_input", layer), lambda x, hook, change=change: x + change.unsqueeze(2))]
        drops[writer, part] = whole - measure(
            model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong
        )
    return spell(drops, layer, head)


@mutant("find_feeding_edges")
def trusts_the_gradient(model, clean, corrupt, answer, wrong, layer, head):
    names = [(f"{part}_input", layer) for part in "qkv"]
    drops = {}
    nudges = [torch.zeros(*clean.shape, model.config.d_model, requires_grad=True) for _ in names]
    hooks = [(name, add_to_head(head, nudge)) for name, nudge in zip(names, nudges, strict=True)]
    slopes = torch.autograd.grad(
        measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong), nudges
    )
    for (writer, change), (part, slope) in product(
        list_changes(model, clean, corrupt, layer).items(), zip("qkv", slopes, strict=True)
    ):
        drops[writer, part] = -(change * slope).sum()
    return spell(drops, layer, head)


@mutant("find_feeding_edges")
def forgets_the_input(*inputs):
    return [
        edge for edge in spell(measure_drops(*inputs), *inputs[-2:]) if not edge.startswith("input")
    ]


@mutant("find_feeding_edges", "swaps_query_and_key")
def exchanges_queries_and_keys(*inputs):
    other = {"q": "k", "k": "q", "v": "v"}
    return spell(
        {(w, other[part]): drop for (w, part), drop in measure_drops(*inputs).items()}, *inputs[-2:]
    )


@mutant("find_feeding_edges")
def counts_any_change(*inputs):
    return spell(measure_drops(*inputs), *inputs[-2:], least=0.05)


def by_weights_alone(model, layer, head):
    """Score each writer and input by composition, as in lesson 04."""
    QK, OV = model.QK(layer, head), model.OV(layer, head)
    reads = {"q": QK, "k": QK.T, "v": OV}
    writes = {"input": torch.cat([model.W_E, model.W_pos])}
    writes |= {
        f"a{i}.h{n}": model.OV(i, n) for i, n in product(range(layer), range(model.config.n_heads))
    }
    return {
        (name, part): ((W @ R).norm() / (W.norm() * R.norm())).item()
        for name, W in writes.items()
        for part, R in reads.items()
    }


@mutant("find_feeding_edges", says="edges into the")
def composes_most(model, clean, corrupt, answer, wrong, layer, head):
    scores = by_weights_alone(model, layer, head)
    best = [max((s, w) for (w, p), s in scores.items() if p == part)[1] for part in "qkv"]
    return [f"{w}->a{layer}.h{head}<{part}>" for w, part in zip(best, "qkv", strict=True)]


@mutant("find_feeding_edges", says="edges into the")
def composes_well(model, clean, corrupt, answer, wrong, layer, head):
    scores = by_weights_alone(model, layer, head)
    return [f"{w}->a{layer}.h{head}<{p}>" for (w, p), score in scores.items() if score > 0.2]


@mutant("find_feeding_edges", says="edges into the")
def drops_of_three(*inputs):
    return spell(measure_drops(*inputs), *inputs[-2:], least=3.0)


@mutant("find_feeding_edges")
def constant_output(model, clean, corrupt, answer, wrong, layer, head):
    reader = f"a{layer}.h{head}"
    return [f"input->{reader}<q>", f"a1.h0->{reader}<k>", f"input->{reader}<v>"]


@alternative("find_feeding_edges")
def by_masks_one_edge_off_each(model, clean, corrupt, answer, wrong, layer, head):
    edges = list_edges(model)
    off = write_outputs(model, corrupt)
    own = [edge for edge in edges if edge.split("->")[1].startswith(f"a{layer}.h{head}<")]
    masks = torch.stack([1 - mask_of(model, which) for which in ([], *([edge] for edge in own))])
    base, *rest = (measure(logits, answer, wrong) for logits in run_edges(model, clean, masks, off))
    return [edge for edge, value in zip(own, rest, strict=True) if base - value >= 1]

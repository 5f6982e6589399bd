"""List wrong answers to lesson 08 that the grader rejects by name, and unusual right ones."""

from itertools import product

import torch

from mini_transformer.course.grading.mutants import alternative, mutant, vary
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "split_head_effect": ["What the heads of a layer"],
    "attribute_heads": ["Two forward runs"],
    "integrate_heads": ["With enough steps"],
    "find_feeding_edges": ["Any order", "The models have", "A part of the list"],
}


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


def change_edge(
    model,
    clean,
    corrupt,
    writer,
    reader,
    part,
    heads=lambda reader: reader[1],
    parts=lambda part: part,
    change=lambda old, new: new - old,
    run_on=0,
    freeze=False,
    writes=lambda model, writer, reader: writer,
    reads=lambda model, writer, reader: reader,
):
    """Patch with one thing exchanged: who writes and reads what, and what else happens."""
    layer, head = writes(model, writer, reader)
    reader = reads(model, writer, reader)
    old, new = (read_result(model, tokens, layer, head) for tokens in (clean, corrupt))
    value = change(old, new)
    value = value.unsqueeze(2) if isinstance(heads(reader), slice) else value
    hooks = [
        ((f"{each}_input", reader[0]), add_to_head(heads(reader), value)) for each in parts(part)
    ]
    tokens = (clean, corrupt)[run_on]
    if freeze:
        cache = model.run_with_cache(tokens)[1]
        later = range(reader[0] + 1, model.config.n_layers)
        names = [(site, i) for site in ("attn_out", "mlp_out") for i in later]
        hooks += [(name, lambda x, hook, name=name: cache[name]) for name in names if name in cache]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


wrong = vary("patch_edge", change_edge)
wrong(
    "holds_later_layers",
    "Later layers do not hear what your reader writes: only the unembedding does.",
    clause="What the reader then writes goes on as usual",
    freeze=True,
)
wrong(
    "always_the_last_head_writes",
    "Your writer is the last head of its layer, whichever is asked for.",
    clause="`writer` and `reader` are (layer, head)",
    writes=lambda model, writer, reader: (writer[0], model.config.n_heads - 1),
)
wrong(
    "the_readers_number_writes",
    "Your writer is the head with the number of the reader: `writer` has one of its own.",
    writes=lambda model, writer, reader: (writer[0], reader[1]),
)
wrong(
    "the_reader_is_in_the_last_layer",
    "Your reader stands in the last layer, wherever it should.",
    reads=lambda model, writer, reader: (model.config.n_layers - 1, reader[1]),
)
wrong(
    "patches_the_whole_layer",
    "All heads in the reader's layer hear the corrupt value: one of them should.",
    clause="Everybody else hears the writer's clean value",
    heads=lambda reader: slice(None),
)
wrong(
    "patches_all_three_inputs",
    "Queries, keys and values of the reader all hear the corrupt value, whatever `part` is.",
    clause="and so do the other two inputs of the reader",
    parts=lambda part: "qkv",
)
wrong(
    "swaps_query_and_key",
    "Asked for the query you patch the key, and the other way round.",
    clause='`part` is "q", "k" or "v"',
    parts=lambda part: {"q": "k", "k": "q"}.get(part, part),
)
wrong("always_the_keys", "You patch the keys, whatever `part` is.", parts=lambda part: "k")
wrong(
    "patches_the_wrong_run",
    "You put the clean value into the corrupt run: here it is the clean run that hears something "
    "corrupt.",
    change=lambda old, new: old - new,
    run_on=1,
)
wrong(
    "hears_the_writer_twice",
    "Your reader hears the writer's corrupt value in addition to the clean one.",
    change=lambda old, new: new,
)
wrong(
    "takes_the_writer_away",
    "Your reader no longer hears the writer at all: corrupt is not the same as silent.",
    clause="hears an earlier head's corrupt value",
    change=lambda old, new: -old,
)
wrong(
    "last_position_only",
    "Your edge is patched at the last position only: keys and values are read at all of them.",
    clause="at every position",
    change=lambda old, new: keep_last(new - old),
)
wrong(
    "flips_the_sign",
    "Your change points the wrong way: the reader is to hear the corrupt value, not to be moved "
    "away from it.",
    change=lambda old, new: old - new,
)
wrong(
    "runs_on_the_corrupt_prompts",
    "Your run is one on the corrupt prompts: all but one reader should hear what they hear in the"
    " clean run.",
    clause="Return the clean logits",
    run_on=1,
)
wrong(
    "one_change_for_all",
    says="is right for the first along the first axis only",
    change=lambda old, new: (new - old)[:1],
)
wrong(
    "swaps_the_head_numbers",
    "You have exchanged the numbers of the two heads within their layers.",
    writes=lambda model, writer, reader: (writer[0], reader[1]),
    reads=lambda model, writer, reader: (reader[0], writer[1]),
)
wrong("unchanged", says="what `model` says on `clean` by itself", parts=lambda part: "")


def set_reader(model, clean, reader, part, stream):
    hooks = [((f"{part}_input", reader[0]), set_head(reader[1], stream))]
    return model.run_with_hooks(clean, fwd_hooks=hooks)


def run_with_corrupt_head(model, clean, corrupt, writer, **how):
    hooks = [(("result", writer[0]), set_head(writer[1], read_result(model, corrupt, *writer)))]
    with model.hooks(hooks):
        return model(clean, **how)


@mutant(
    "patch_edge",
    "Everybody who comes later hears your writer's corrupt value: that is the patch of a head, "
    "not of one of its edges.",
    clause="when one input of a head hears",
)
def patches_the_whole_head(model, clean, corrupt, writer, reader, part):
    return run_with_corrupt_head(model, clean, corrupt, writer)


@mutant(
    "patch_edge",
    "Your reader hears the writer's news also from heads or MLPs between the two, which heard it.",
)
def through_others(model, clean, corrupt, writer, reader, part):
    stream = run_with_corrupt_head(model, clean, corrupt, writer, stop_at_layer=reader[0])
    return set_reader(model, clean, reader, part, stream)


@mutant(
    "patch_edge",
    "Your reader's input comes from the corrupt run altogether: it should hear one writer from "
    "there, and all others as they are.",
)
def replaces_the_whole_input(model, clean, corrupt, writer, reader, part):
    return set_reader(model, clean, reader, part, model(corrupt, stop_at_layer=reader[0]))


@mutant(
    "patch_edge",
    "Your reader hears the writer and nobody else: where has the rest of the stream gone?",
)
def hears_only_the_writer(model, clean, corrupt, writer, reader, part):
    return set_reader(model, clean, reader, part, read_result(model, corrupt, *writer))


@mutant("patch_edge", "Your change comes in behind the norm that the reader's input goes through.")
def behind_the_norm(model, clean, corrupt, writer, reader, part):
    W = getattr(model.blocks[reader[0]].attn, f"W_{part.upper()}")[reader[1]]
    change = find_change(model, clean, corrupt, *writer) @ W
    hooks = [((part, reader[0]), add_to_head(reader[1], change))]
    return model.run_with_hooks(clean, fwd_hooks=hooks)


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


def keep_last(x):
    return torch.cat([0 * x[:, :-1], x[:, -1:]], dim=1)


def difference_of(logits, answer, wrong):
    return measure(logits, answer, wrong).item()


def split(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    layer,
    head,
    whose=lambda model, head: head,
    news=lambda old, new: new - old,
    metric=difference_of,
    combine=lambda base, *runs: tuple(run - base for run in runs),
    freeze=lambda layer, n: [],
    miss=lambda old, change: change,
):
    """Measure three effects with one thing exchanged."""
    head = whose(model, head)
    old, new = (read_result(model, tokens, layer, head) for tokens in (clean, corrupt))
    change = news(old, new)
    whole = change.unsqueeze(2) if isinstance(head, slice) and change.ndim < 4 else change
    heard = whole.sum(2) if isinstance(head, slice) else change
    cache = model.run_with_cache(clean)[1]
    frozen = (
        [name for name in freeze(layer, model.config.n_layers) if name in cache] if freeze else []
    )
    say = [(("result", layer), add_to_head(head, whole))]
    say += [(name, lambda x, hook, name=name: cache[name]) for name in frozen]
    last = ("resid_post", -1)

    def run(*hooks):
        return metric(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong)

    return combine(
        run(),
        run(*say),
        run((last, lambda x, hook: x + heard)),
        run(*say, (last, lambda x, hook: x - miss(old, heard))),
    )


wrong = vary("split_head_effect", split)
wrong(
    "indirect_by_subtraction",
    "Your indirect effect is total minus direct. That need not be what happens if the unembedding"
    " alone misses the news: run it.",
    clause="everybody but the unembedding",
    combine=lambda base, total, direct, rest: (total - base, direct - base, total - direct),
)
wrong(
    "total_by_addition",
    "Your total is direct plus indirect. That need not be what happens if all hear the news: run "
    "it.",
    clause="In each of three runs",
    combine=lambda base, total, direct, rest: (
        direct + rest - 2 * base,
        direct - base,
        rest - base,
    ),
)
wrong(
    "swaps_direct_and_indirect",
    "The direct and the indirect effect are exchanged.",
    clause="a head's total, direct and indirect effect",
    combine=lambda base, total, direct, rest: (total - base, rest - base, direct - base),
)
wrong(
    "flips_the_sign",
    says="is the negative of what it should be",
    clause="patched minus clean",
    combine=lambda base, *runs: tuple(base - run for run in runs),
)
wrong(
    "forgets_the_baseline",
    "You return the metric of the three runs: an effect is by how much it changes.",
    clause="by how much it changes",
    combine=lambda base, *runs: runs,
)
wrong(
    "patches_the_whole_layer",
    "All heads of the layer are patched: one of them was asked for.",
    clause="what the head writes on `corrupt`",
    whose=lambda model, head: slice(None),
)
wrong(
    "always_the_last_head",
    "You patch the last head of the layer, whichever is asked for.",
    whose=lambda model, head: model.config.n_heads - 1,
)
wrong(
    "takes_the_head_away",
    "Your head is silent in place of saying what it says on the corrupt prompts.",
    news=lambda old, new: -old,
)
wrong(
    "adds_to_the_head",
    "The corrupt value is heard in addition to the clean one, not in its place.",
    news=lambda old, new: new,
)
wrong(
    "last_position_only",
    "The news is heard at the last position only: later heads read it at all of them.",
    news=lambda old, new: keep_last(new - old),
)
wrong(
    "reads_the_answer_alone",
    "Your metric is the logit of the answer alone: see measure_difference.",
    clause="effect on `measure_difference`",
    metric=lambda logits, answer, wrong: logits[:, -1].gather(1, answer[:, None]).mean().item(),
)
wrong(
    "without_the_mlps",
    "MLPs stay as they are on the clean prompts: they are to hear the news, too.",
    clause="everybody, which includes the MLPs",
    freeze=lambda layer, n: [("mlp_out", i) for i in range(layer, n)],
)
wrong(
    "only_the_next_layer_hears",
    "In your runs what comes after the next layer does not hear the news.",
    freeze=lambda layer, n: [
        (site, i) for site in ("attn_out", "mlp_out") for i in range(layer + 2, n)
    ],
)
wrong(
    "indirect_without_the_clean_value",
    "In your indirect run the unembedding hears nothing of the head: it should hear the clean "
    "value.",
    clause="It hears this head's clean value",
    miss=lambda old, change: old + change,
)


@mutant(
    "split_head_effect",
    "You put the head's clean value into the corrupt run.",
    clause="three runs on `clean`",
)
def patches_the_wrong_run(model, clean, corrupt, *rest):
    return split(model, corrupt, clean, *rest)


@mutant(
    "split_head_effect",
    "Your direct effect is the total one: later blocks also read the stream that you change.",
    clause="only the unembedding",
)
def direct_through_later_layers(*inputs):
    total, _, indirect = split(*inputs)
    return total, total, indirect


@mutant(
    "split_head_effect",
    "You read the direct effect off with the unembedding alone: what does the stream pass on the "
    "way to it?",
    clause="through the final norm if there is one",
)
def direct_without_the_norm(model, clean, corrupt, answer, wrong, layer, head):
    total, _, indirect = split(model, clean, corrupt, answer, wrong, layer, head)
    change = find_change(model, clean, corrupt, layer, head)
    return total, measure(change @ model.W_U, answer, wrong).item(), indirect


@mutant(
    "split_head_effect",
    "In your direct effect the final norm divides as it does on the clean prompts: the news also "
    "changes its scale.",
)
def direct_with_a_frozen_scale(model, clean, corrupt, answer, wrong, layer, head):
    total, direct, indirect = split(model, clean, corrupt, answer, wrong, layer, head)
    if model.ln_final is not None:
        x = find_change(model, clean, corrupt, layer, head)
        x = x - x.mean(-1, keepdim=True) * (model.config.norm == "layer")
        x = x / model.run_with_cache(clean)[1]["ln_final.hook_scale"] * model.ln_final.w
        direct = measure(x @ model.W_U, answer, wrong).item()
    return total, direct, indirect


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


def find_slopes(model, tokens, answer, wrong, metric=measure):
    """Return what all heads hand on, (l, b, t, n, h), and the gradients there."""
    logits, cache = model.run_with_cache(tokens)
    z = [cache["z", layer] for layer in range(model.config.n_layers)]
    slopes = torch.autograd.grad(metric(logits, answer, wrong), z)
    return torch.stack(z).detach(), torch.stack(slopes)


def attribute(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    move=lambda old, new: new - old,
    slope=lambda old, new: old,
    total=lambda move, slope: (move * slope).sum((1, 2, 4)),
    metric=measure,
):
    old, slopes = find_slopes(model, clean, answer, wrong, metric)
    new, others = find_slopes(model, corrupt, answer, wrong, metric)
    return total(move(old, new), slope(slopes, others))


wrong = vary("attribute_heads", attribute)
wrong(
    "gradient_of_the_corrupt_run",
    "Your gradient is that of the corrupt run: which run is patched, and so where does the line "
    "start?",
    clause="in the clean run",
    slope=lambda old, new: new,
)
wrong(
    "averages_two_gradients",
    "Your gradient is a mean of those in the clean and in the corrupt run: the estimate goes on as "
    "steeply as it starts.",
    clause="as steeply as it starts",
    slope=lambda old, new: (old + new) / 2,
)
wrong(
    "forgets_the_clean_value",
    "You multiply the gradient by the corrupt value: a patch moves a head by the difference of "
    "two values.",
    clause="from its clean to its corrupt value",
    move=lambda old, new: new,
)
wrong(
    "multiplies_by_the_clean_value",
    "You multiply the gradient by the clean value: where does the patch move the head to?",
    move=lambda old, new: old,
)
wrong(
    "moves_to_zero",
    "Your heads move to 0 and not to their corrupt values.",
    clause="patching each head",
    move=lambda old, new: -old,
)
wrong(
    "gradient_alone",
    "You sum up the gradient: how far does the head move?",
    clause="that move times the gradient",
    move=lambda old, new: torch.ones_like(old),
)
wrong(
    "flips_the_sign",
    says="is the negative of what it should be",
    move=lambda old, new: old - new,
)
wrong(
    "forgets_the_sign",
    says="of what it should be",
    total=lambda move, slope: (move * slope).sum((1, 2, 4)).abs(),
)
wrong(
    "adds_up_sizes",
    "You add up absolute values: what raises the metric and what lowers it cancel.",
    total=lambda move, slope: (move * slope).abs().sum((1, 2, 4)),
)
wrong(
    "multiplies_means",
    "You average before you multiply: each prompt's move goes with its own gradient.",
    total=lambda move, slope: (move.mean(1) * slope.sum(1)).sum((1, 3)),
)
wrong(
    "adds_up_the_prompts",
    says="(the number of prompts)",
    clause="gradient of `measure_difference`",
    total=lambda move, slope: (move * slope).sum((1, 2, 4)) * move.shape[1],
)
wrong(
    "counts_the_first_prompt",
    "You count the first prompt only.",
    clause="summed over prompts",
    total=lambda move, slope: (move * slope)[:, 0].sum((1, 3)),
)
wrong(
    "last_position_only",
    "You count the last position only: a head's output is also read from earlier ones.",
    clause="prompts, positions and the head's width",
    total=lambda move, slope: (move * slope)[:, :, -1].sum((1, 3)),
)
wrong(
    "reads_the_answer_alone",
    "Your metric is the logit of the answer alone: see measure_difference.",
    metric=lambda logits, answer, wrong: logits[:, -1].gather(1, answer[:, None]).mean(),
)


@mutant(
    "attribute_heads",
    "You have patched every head. That is what the estimate is to be compared with: here one "
    "gradient has to do.",
    clause="Estimate by one gradient",
)
def patches_exactly(model, clean, corrupt, answer, wrong):
    base = measure(model(clean), answer, wrong)
    effects = torch.zeros(model.config.n_layers, model.config.n_heads)
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):
        hook = set_head(head, read_result(model, corrupt, layer, head))
        patched = model.run_with_hooks(clean, fwd_hooks=[(("result", layer), hook)])
        effects[layer, head] = measure(patched, answer, wrong) - base
    return effects


@mutant(
    "attribute_heads",
    "You take each head's move times the unembedding: what later layers make of it is left out.",
)
def direct_effects_only(model, clean, corrupt, answer, wrong):
    layers, heads = range(model.config.n_layers), range(model.config.n_heads)
    changes = [[find_change(model, clean, corrupt, i, n) for n in heads] for i in layers]
    return torch.tensor(
        [[measure(x @ model.W_U, answer, wrong).item() for x in row] for row in changes]
    )


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


def find_slope(model, clean, answer, wrong, layer, z, hooks=()):
    z = z.detach().requires_grad_()
    put = (("z", layer), lambda old, hook: z)
    logits = model.run_with_hooks(clean, fwd_hooks=[put, *hooks])
    return torch.autograd.grad(measure(logits, answer, wrong), z)[0]


def integrate(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    layer,
    steps,
    points=lambda n: [(step + 0.5) / n for step in range(n)],
    edit=lambda move: move,
    start=lambda z: z,
    run_on=0,
    hooks=lambda point, caches, layer: [],
    scale=lambda n: 1.0,
):
    """Add up slopes with one thing exchanged, from where they are taken to what they are of."""
    low, high = find_ends(model, clean, corrupt, layer)
    low = start(low)
    caches = [model.run_with_cache(tokens)[1] for tokens in (clean, corrupt)]
    at = points(steps)
    slope = sum(
        find_slope(
            model,
            (clean, corrupt)[run_on],
            answer,
            wrong,
            layer,
            low + point * (high - low),
            hooks(point, caches, layer),
        )
        for point in at
    ) / len(at)
    return (edit(high - low) * slope).sum(dim=(0, 1, 3)) * scale(steps)


def set_later_layers(point, caches, layer):
    names = [name for name in caches[0] if name.endswith("attn.hook_z")]
    later = [name for name in names if int(name.split(".")[1]) > layer]
    return [
        (name, lambda z, hook, name=name: torch.lerp(*(c[name] for c in caches), point).detach())
        for name in later
    ]


wrong = vary("integrate_heads", integrate)
wrong(
    "gradient_at_the_clean_end",
    "All your gradients are those of the clean run: the point of the exercise is to walk.",
    clause="on the way from clean to corrupt",
    points=lambda n: [0.0],
)
wrong(
    "starts_at_the_beginning_of_each_piece",
    "You take the gradient where each piece of the line begins, not in its middle.",
    clause="in the middles of `steps` equal pieces",
    points=lambda n: [step / n for step in range(n)],
)
wrong(
    "ends_at_the_end_of_each_piece",
    "You take the gradient where each piece of the line ends, not in its middle.",
    points=lambda n: [(step + 1) / n for step in range(n)],
)
wrong(
    "takes_both_ends",
    "Your first gradient is that of the clean end and your last one that of the corrupt end: each "
    "piece has a middle.",
    points=lambda n: torch.linspace(0, 1, n).tolist(),
)
wrong(
    "divides_the_line_by_points",
    "Your points part the line into one piece more than `steps`: each piece has a middle.",
    points=lambda n: [(step + 1) / (n + 1) for step in range(n)],
)
wrong(
    "trapezoids",
    "You average the gradients at both ends of every piece: they are to be taken in the middles.",
    points=lambda n: [step / n for step in range(n)] + [(step + 1) / n for step in range(n)],
)
wrong("adds_up_the_steps", says="3 times", clause="the average of these gradients", scale=float)
wrong("moves_each_piece_alone", says="3 times less", clause="its whole move", scale=lambda n: 1 / n)
wrong("walks_backwards", says="is the negative of what it should be", scale=lambda n: -1.0)
wrong(
    "last_position_only",
    "You count the last position only: a head's output is also read from earlier ones.",
    clause="summed over prompts, positions and the head's width",
    edit=keep_last,
)
wrong(
    "walks_from_zero",
    "Your line starts at zero and not at the clean value.",
    clause="on a straight line from its clean to its corrupt value",
    start=torch.zeros_like,
)
wrong(
    "runs_on_the_corrupt_prompts",
    "Your heads move in a run on the corrupt prompts: everybody else should stay with the clean "
    "ones.",
    clause="all on the clean prompts",
    run_on=1,
)
wrong(
    "moves_later_layers_too",
    "Later heads do not follow in your runs: they are set to points of their own lines.",
    clause="later layers follow",
    hooks=set_later_layers,
)


@mutant(
    "integrate_heads",
    "You move one head while the others of the layer stay clean: here they all move together.",
    clause="all heads of the layer together",
)
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


@mutant(
    "integrate_heads",
    "Your shares add up to the exact effect, whatever the steps: these gradients alone would not.",
)
def scales_to_the_effect(model, clean, corrupt, answer, wrong, layer, steps):
    shares = integrate(model, clean, corrupt, answer, wrong, layer, steps)
    _, end = find_ends(model, clean, corrupt, layer)
    patched = model.run_with_hooks(clean, fwd_hooks=[(("z", layer), lambda z, hook: end)])
    effect = measure(patched, answer, wrong) - measure(model(clean), answer, wrong)
    return shares / shares.sum() * effect


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


def list_written(model, tokens, layer):
    """Map each writer before `layer` to what it writes."""
    written = {"input": model(tokens, stop_at_layer=0)}
    for i, n in product(range(layer), range(model.config.n_heads)):
        written[f"a{i}.h{n}"] = read_result(model, tokens, i, n)
    return written


def find_drops(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    layer,
    head,
    metric=lambda lead: lead.mean(),
    change=lambda old, new: new - old,
    groups=("q", "k", "v"),
    heads=lambda head: head,
    keep=lambda drop, whole: drop >= 1,
    among=lambda writer, layer: True,
    rename=lambda parts: parts,
    greedy=False,
    read=lambda logits, answer, wrong: (
        logits[torch.arange(len(answer)), -1, answer] - logits[torch.arange(len(answer)), -1, wrong]
    ),
):
    """List edges that `keep` likes the drop of, with one thing exchanged."""

    def lead(hooks):
        return read(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong)

    old, new = (list_written(model, tokens, layer) for tokens in (clean, corrupt))
    whole, kept, found = lead([]), [], []
    for writer, parts in product(old, groups):
        value = change(old[writer], new[writer])
        value = value.unsqueeze(2) if isinstance(heads(head), slice) else value
        hooks = [((f"{part}_input", layer), add_to_head(heads(head), value)) for part in parts]
        drop = lead(kept) - lead([*kept, *hooks])
        if among(writer, layer) and keep(metric(drop), whole.mean()):
            found += [f"{writer}->a{layer}.h{head}<{part}>" for part in rename(parts)]
            kept += hooks * greedy
    return found


wrong = vary("find_feeding_edges", find_drops)
wrong(
    "names_all_three_inputs",
    "You found who feeds the head, but name all three inputs of it for each: patch one at a time.",
    clause="through which of its inputs",
    groups=("qkv",),
)
wrong(
    "patches_the_whole_layer",
    "Some of your edges feed another head of the same layer, which also writes answers.",
    clause="the edges into head `head` of layer `layer`",
    heads=lambda head: slice(None),
)
wrong(
    "forgets_the_input",
    "You name heads only, but this head also reads the embedding.",
    clause='Writers are "input"',
    among=lambda writer, layer: writer != "input",
)
wrong(
    "only_the_layer_before",
    "You name no head but those of the layer before: earlier ones write into the same stream.",
    clause="all heads of earlier layers",
    among=lambda writer, layer: writer == "input" or writer[1] == str(layer - 1),
)
wrong(
    "swaps_query_and_key",
    "What you say of queries is true of keys, and the other way round.",
    rename=lambda parts: {"q": "k", "k": "q"}.get(parts, parts),
)
wrong(
    "counts_any_change",
    "You also name edges that change the metric by a fraction of what was asked for.",
    keep=lambda drop, whole: drop >= 0.05,
)
wrong(
    "counts_what_raises_it",
    "You also name edges that the metric rises without: it is to drop.",
    clause="if `measure_difference` drops",
    keep=lambda drop, whole: drop.abs() >= 1,
)
wrong(
    "asks_for_more_than_1",
    says="edges into the",
    clause="drops by at least 1",
    keep=lambda drop, whole: drop >= whole / 10,
)
wrong(
    "one_prompt_is_enough",
    says="edges",
    metric=lambda drop: drop.max(),
)
wrong(
    "reads_the_answer_alone",
    says="edges into the",
    read=lambda logits, answer, wrong: logits[torch.arange(len(answer)), -1, answer],
)
wrong(
    "last_position_only",
    "Your edges are patched at the last position only: keys and values are read at all of them.",
    change=lambda old, new: keep_last(new - old),
)
wrong(
    "silences_the_writer",
    says="edges into the",
    clause="carries what its writer writes on `corrupt`",
    change=lambda old, new: -old,
)
wrong(
    "keeps_what_it_found",
    "What you found stays patched while you try the next edge, which has then less to lose.",
    clause="when this edge alone",
    greedy=True,
)


@mutant(
    "find_feeding_edges",
    "You ask what a clean edge brings back to a corrupt run, not what is lost without it.",
)
def denoises(model, clean, corrupt, *rest):
    return find_drops(model, corrupt, clean, *rest, keep=lambda drop, whole: -drop >= 1)


@mutant("find_feeding_edges", says="edges into the")
def asks_two_prompts(model, clean, corrupt, answer, wrong, *reader):
    return find_drops(model, clean[:2], corrupt[:2], answer[:2], wrong[:2], *reader)


@mutant("find_feeding_edges", says="edges into the")
def the_strongest_only(*inputs):
    best, found = {}, []
    for part in "qkv":
        drops = []
        find_drops(*inputs, groups=(part,), keep=lambda drop, whole, d=drops: d.append(drop))
        best[part] = int(torch.stack(drops).argmax())
        writers = list(list_written(inputs[0], inputs[1], inputs[-2]))
        found.append(f"{writers[best[part]]}->a{inputs[-2]}.h{inputs[-1]}<{part}>")
    return found


@mutant(
    "find_feeding_edges",
    "You name every head whose patch changes the answer: some of them feed somebody else, who "
    "feeds this head.",
    clause="Find who feeds one head",
)
def patches_whole_heads(model, clean, corrupt, answer, wrong, layer, head):
    whole = measure(model(clean), answer, wrong)
    found = []
    for i, n in product(range(layer), range(model.config.n_heads)):
        patched = run_with_corrupt_head(model, clean, corrupt, (i, n))
        if whole - measure(patched, answer, wrong) >= 1:
            found += [f"a{i}.h{n}->a{layer}.h{head}<{part}>" for part in "qkv"]
    return found


@mutant(
    "find_feeding_edges",
    "You miss edges whose gradient is nearly zero: attention that is certain does not move for a "
    "small step.",
)
def trusts_the_gradient(model, clean, corrupt, answer, wrong, layer, head):
    names = [(f"{part}_input", layer) for part in "qkv"]
    nudges = [torch.zeros(*clean.shape, model.config.d_model, requires_grad=True) for _ in names]
    hooks = [(name, add_to_head(head, nudge)) for name, nudge in zip(names, nudges, strict=True)]
    slopes = torch.autograd.grad(
        measure(model.run_with_hooks(clean, fwd_hooks=hooks), answer, wrong), nudges
    )
    old, new = (list_written(model, tokens, layer) for tokens in (clean, corrupt))
    return [
        f"{writer}->a{layer}.h{head}<{part}>"
        for writer, (part, slope) in product(old, zip("qkv", slopes, strict=True))
        if -((new[writer] - old[writer]) * slope).sum() >= 1
    ]


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


@mutant(
    "find_feeding_edges",
    "You name the same edges in every model, but the places of the heads differ.",
)
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

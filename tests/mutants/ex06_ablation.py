"""List wrong answers to lesson 06 that the grader rejects by name, and unusual right ones."""

from itertools import combinations

import torch

from mini_transformer.course.grading.mutants import alternative, mutant
from mini_transformer.edges import mask_of, run_edges, write_outputs

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "find_needed_sets": ["Any order will do", "(Your `ablate_heads`", "A part of the list"],
    "tell_heads_apart": ["The unknown models"],
}


def split_name(name):
    layer, head = name.split(".")
    return int(layer[1:]), int(head[1:])


def list_heads(model):
    return [
        f"a{layer}.h{head}"
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    ]


def run_replaced(model, tokens, new, at=slice(None)):
    """Return logits with z replaced: `new` maps (layer, head) to what takes its place."""

    def replace(layer, head):
        def hook_function(z, hook):
            z[:, at, head] = new[layer, head]

        return ("z", layer), hook_function

    return model.run_with_hooks(tokens, fwd_hooks=[replace(*head) for head in new])


def read_z(model, reference):
    cache = model.run_with_cache(reference)[1]
    return {
        (layer, head): cache["z", layer][:, :, head]
        for layer, head in map(split_name, list_heads(model))
    }


ABLATIONS = {"zero": lambda z: 0 * z[0], "mean": lambda z: z.mean(0), "resample": lambda z: z}


def ablate(model, tokens, heads, ablation, reference, at=slice(None)):
    heads = list(map(split_name, heads))
    if ablation == "zero":
        return run_replaced(model, tokens, dict.fromkeys(heads, 0.0), at)
    z = read_z(model, reference)
    new = {head: ABLATIONS[ablation](z[head])[..., at, :] for head in heads}
    return run_replaced(model, tokens, new, at)


# ablate_heads -------------------------------------------------------------------------------------


@mutant(
    "ablate_heads",
    "Your heads are replaced by zeros, whatever ablation was asked for.",
    clause="depends on `ablation`",
)
def ignores_the_ablation(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, "zero", reference)


@mutant(
    "ablate_heads",
    "Your average runs over the positions, too: what a head does on average differs from position"
    " to position.",
    clause="each position by itself",
)
def averages_over_positions(model, tokens, heads, ablation, reference):
    z = read_z(model, reference)
    ablations = ABLATIONS | {"mean": lambda z: z.mean((0, 1))}
    return run_replaced(
        model,
        tokens,
        {split_name(name): ablations[ablation](z[split_name(name)]) for name in heads},
    )


@mutant(
    "ablate_heads",
    "Your average is that of the prompts that are run: it should come from other ones.",
    clause="over the prompts of `reference`",
)
def averages_the_prompts_themselves(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, ablation, tokens if ablation == "mean" else reference)


@mutant(
    "ablate_heads",
    "Your average leaves out prompts: `reference` may hold more of them than `tokens`.",
    clause="`reference` is sure to have as many prompts as `tokens`",
)
def averages_too_few_prompts(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, ablation, reference[: len(tokens)])


@mutant(
    "ablate_heads",
    says="is right for the first along the",
    clause="for prompt b of `tokens`",
)
def one_prompt_for_all(model, tokens, heads, ablation, reference):
    return ablate(
        model, tokens, heads, ablation, reference[:1] if ablation == "resample" else reference
    )


@mutant(
    "ablate_heads",
    "For each prompt you put in an average, where one prompt's own value was asked for.",
    clause="what the head hands on in prompt b of `reference`",
)
def resamples_the_mean(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, "mean" if ablation == "resample" else ablation, reference)


@mutant(
    "ablate_heads",
    "With several heads, all your hooks do what the last one should: which names does a function "
    "look up when it is called, and not when it is made?",
)
def hooks_share_the_last_head(model, tokens, heads, ablation, reference):
    cache = model.run_with_cache(reference)[1]
    hooks = []
    for name in heads:
        layer, head = split_name(name)
        new = ABLATIONS[ablation](cache["z", layer][:, :, head])

        def replace(z, hook):
            z[:, :, head] = new  # noqa: B023

        hooks.append((("z", layer), replace))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mutant(
    "ablate_heads",
    "Of several heads, only one is ablated in your run.",
    name="one_head_of_the_list",
    clause="all of them at once",
)
def returns_inside_the_loop(model, tokens, heads, ablation, reference):
    for name in heads:
        return ablate(model, tokens, [name], ablation, reference)


@mutant(
    "ablate_heads",
    "You ablate all heads of the layer.",
    clause="the named heads are ablated",
)
def whole_layer(model, tokens, heads, ablation, reference):
    layers = {split_name(name)[0] for name in heads}
    return ablate(
        model,
        tokens,
        [n for n in list_heads(model) if split_name(n)[0] in layers],
        ablation,
        reference,
    )


@mutant(
    "ablate_heads",
    "You ablate at the last position only, and leave what the head hands on at earlier ones.",
    name="last_position_only",
    clause="at every position",
)
def at_the_last_position_alone(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, ablation, reference, at=[-1])


@mutant(
    "ablate_heads",
    name="unchanged",
    says="what `model` says on `tokens` by itself",
    clause="Replace what each head hands on",
)
def changes_a_copy(model, tokens, heads, ablation, reference):
    z = read_z(model, reference)

    def replace(value, hook):
        value = value.clone()
        value[:, :, 0] = ABLATIONS[ablation](z[0, 0])  # and is not returned

    return model.run_with_hooks(tokens, fwd_hooks=[(("z", 0), replace)])


@mutant("ablate_heads", "Of several heads in one layer, only the last is ablated in your run.")
def one_head_of_each_layer(model, tokens, heads, ablation, reference):
    chosen = {split_name(name)[0]: name for name in heads}
    return ablate(model, tokens, chosen.values(), ablation, reference)


@mutant(
    "ablate_heads",
    "You read one digit of a head's number: a layer may have more than ten heads.",
)
def reads_single_digits(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, [name[:5] for name in heads], ablation, reference)


@mutant(
    "ablate_heads",
    "In your reference run the earlier heads are ablated already: it should be left alone.",
    clause="`reference` runs through the whole model, nothing ablated.",
)
def ablates_the_reference(model, tokens, heads, ablation, reference):
    new = {}
    for head in sorted(map(split_name, heads)):
        seen = {}

        def look(z, hook, seen=seen, head=head):
            seen["z"] = z[:, :, head[1]].clone()

        hooks = [(("z", layer), fill(value, n)) for (layer, n), value in new.items()]
        model.run_with_hooks(reference, fwd_hooks=[*hooks, (("z", head[0]), look)])
        new[head] = ABLATIONS[ablation](seen["z"])
    return run_replaced(model, tokens, new)


def fill(value, head):
    def replace(z, hook):
        z[:, :, head] = value

    return replace


@mutant("ablate_heads", "You ablate one head at a time and average the runs: ablate all at once.")
def averages_single_runs(model, tokens, heads, ablation, reference):
    return torch.stack([ablate(model, tokens, [n], ablation, reference) for n in heads]).mean(0)


@mutant(
    "ablate_heads", "You add up what each head does alone: together they may do something else."
)
def adds_up_single_changes(model, tokens, heads, ablation, reference):
    plain = model(tokens)
    return plain + sum(ablate(model, tokens, [n], ablation, reference) - plain for n in heads)


@mutant(
    "ablate_heads",
    "You replace the values that a head reads, and attention still mixes them: replace what it "
    "hands on.",
    clause='its part of `("z", layer)`',
)
def replaces_the_values(model, tokens, heads, ablation, reference):
    cache = model.run_with_cache(reference)[1]
    hooks = []
    for layer, head in map(split_name, heads):
        new = ABLATIONS[ablation](cache["v", layer][:, :, head])
        hooks.append((("v", layer), fill(new, head)))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mutant("ablate_heads", "You take the median over the prompts: an average was asked for.",
        clause="the head's average")  # fmt: skip
def takes_the_median(model, tokens, heads, ablation, reference):
    z = read_z(model, reference)
    how = ABLATIONS | {"mean": lambda z: z.median(0).values}
    return run_replaced(model, tokens, {h: how[ablation](z[h]) for h in map(split_name, heads)})


@mutant(
    "ablate_heads",
    "For a prompt you take what the heads hand on in its neighbour: take `reference`.",
)
def resamples_the_prompts_themselves(model, tokens, heads, ablation, reference):
    other = tokens.roll(1, dims=0) if ablation == "resample" else reference
    return ablate(model, tokens, heads, ablation, other)


@alternative("ablate_heads")
def layer_by_layer_with_torch_where(model, tokens, heads, ablation, reference):
    cache = model.run_with_cache(reference, names_filter=lambda name: name.endswith("hook_z"))[1]
    hooks = []
    for layer in range(model.config.n_layers):
        chosen = torch.tensor(
            [f"a{layer}.h{head}" in heads for head in range(model.config.n_heads)]
        ).unsqueeze(-1)
        new = ABLATIONS[ablation](cache["z", layer])
        hooks.append(
            (("z", layer), lambda z, hook, chosen=chosen, new=new: torch.where(chosen, new, z))
        )
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@alternative("ablate_heads")
def by_what_the_heads_write(model, tokens, heads, ablation, reference):
    wanted = [("result", layer) for layer in range(model.config.n_layers)]
    cache = model.run_with_cache(reference, names_filter=wanted)[1]
    hooks = []
    for name in heads:
        layer, head = split_name(name)
        new = ABLATIONS[ablation](cache["result", layer][:, :, head])

        def replace(result, hook, head=head, new=new):
            result[:, :, head] = new

        hooks.append((("result", layer), replace))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


# find_needed_sets ---------------------------------------------------------------------------------


def measure(model, tokens, answer, heads, ablation="zero", reference=None, at=slice(None)):
    logits = ablate(model, tokens, heads, ablation, tokens if reference is None else reference, at)
    return (logits[:, -1].argmax(-1) == answer).float().mean().item()


def find_sets(model, tokens, answer, pairs_of=None, least=0.5, keep=lambda a, b: True, **how):
    """Find needed singles, and needed pairs of the others (or of all heads)."""
    heads = list_heads(model)
    singles = [head for head in heads if measure(model, tokens, answer, [head], **how) < least]
    rest = heads if pairs_of == "all" else [head for head in heads if head not in singles]
    pairs = [[a, b] for a, b in combinations(rest, 2) if keep(a, b)]
    return [[head] for head in singles] + [
        pair for pair in pairs if measure(model, tokens, answer, pair, **how) < least
    ]


@mutant(
    "find_needed_sets",
    "You name the heads that are needed alone. What if two can stand in for each other?",
    clause="all needed sets of two",
)
def singles_only(model, tokens, answer):
    return find_sets(model, tokens, answer, keep=lambda a, b: False)


@mutant(
    "find_needed_sets",
    "Among your pairs are some that break the model because one of the two is needed anyway.",
    clause="neither of which is needed alone",
)
def pairs_with_needed_heads(model, tokens, answer):
    return find_sets(model, tokens, answer, pairs_of="all")


@mutant("find_needed_sets", says="A set of 3 heads is among yours")
def sets_of_three_as_well(model, tokens, answer):
    found = find_sets(model, tokens, answer)
    return found + [
        [*triple]
        for triple in combinations(list_heads(model), 3)
        if measure(model, tokens, answer, triple) < 0.5
        and not any({*heads} <= {*triple} for heads in found)
    ]


@mutant("find_needed_sets", "You find only pairs whose heads are in the same layer.")
def within_one_layer(model, tokens, answer):
    return find_sets(model, tokens, answer, keep=lambda a, b: a[:2] == b[:2])


@mutant(
    "find_needed_sets",
    "You also name a head without which a prompt or two goes wrong: how many have to?",
    clause="fewer than half of the prompts",
)
def any_change_counts(model, tokens, answer):
    return find_sets(model, tokens, answer, least=1.0)


@mutant(
    "find_needed_sets",
    "You ablate heads at the last position only. Who reads what they write at earlier ones?",
)
def last_position_only(model, tokens, answer):
    return find_sets(model, tokens, answer, at=[-1])


@mutant(
    "find_needed_sets",
    "You put averages in place of the heads: on average a head still says that it is there, and "
    "whoever waits for its silence does not act.",
    clause="with zeros",
)
def ablates_with_the_mean(model, tokens, answer):
    return find_sets(model, tokens, answer, ablation="mean")


@mutant(
    "find_needed_sets",
    "You list the heads of a pair as if each were needed by itself.",
    clause="all its heads are ablated together",
)
def names_heads_of_pairs_alone(model, tokens, answer):
    return [[head] for heads in find_sets(model, tokens, answer) for head in heads]


@mutant("find_needed_sets", "You find only pairs whose heads are in neighbouring layers, or none.")
def within_neighbouring_layers(model, tokens, answer):
    return find_sets(model, tokens, answer, keep=lambda a, b: int(b[1]) - int(a[1]) == 1)


@mutant("find_needed_sets", "You find only pairs whose heads are in different layers.")
def across_layers(model, tokens, answer):
    return find_sets(model, tokens, answer, keep=lambda a, b: a[:2] != b[:2])


@mutant(
    "find_needed_sets",
    "You name a set without which exactly half of the prompts go right: needed is one without "
    "which fewer do.",
    clause="fewer than half",
)
def counts_exactly_half(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.501)


@mutant(
    "find_needed_sets",
    "You hold the model to what it says itself: hold it to `answer`.",
    clause="Prompt b calls for the token `answer[b]`",
)
def follows_the_model(model, tokens, answer):
    return find_sets(model, tokens, model(tokens)[:, -1].argmax(-1))


@mutant(
    "find_needed_sets",
    "You count what is said at all positions: the answer is that at the last.",
    clause="with the highest logit at the last position",
)
def counts_all_positions(model, tokens, answer):
    def breaks(*heads):
        says = ablate(model, tokens, heads, "zero", tokens).argmax(-1)
        return (says == answer[:, None]).float().mean() < 0.5

    heads = list_heads(model)
    singles = [[head] for head in heads if breaks(head)]
    rest = [head for head in heads if [head] not in singles]
    return singles + [[a, b] for a, b in combinations(rest, 2) if breaks(a, b)]


@mutant("find_needed_sets", "You pair no head twice: one may stand in for several.")
def pairs_no_head_twice(model, tokens, answer):
    found = []
    for heads in find_sets(model, tokens, answer):
        if not any({*heads} & {*other} for other in found):
            found.append(heads)
    return found


@mutant(
    "find_needed_sets",
    "You pair only heads that cost nothing alone: a head may cost some answers and not be needed.",
)
def pairs_what_costs_nothing(model, tokens, answer):
    plain = measure(model, tokens, answer, [])
    free = {h for h in list_heads(model) if measure(model, tokens, answer, [h]) >= plain}
    return find_sets(model, tokens, answer, keep=lambda a, b: {a, b} <= free)


@mutant(
    "find_needed_sets",
    "You put in what heads hand on in another prompt: asked for are zeros.",
)
def resamples(model, tokens, answer):
    return find_sets(model, tokens, answer, ablation="resample", reference=tokens.roll(1, dims=0))


@mutant("find_needed_sets", says="needed sets")
def fewer_than_one_in_five(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.2)


@mutant("find_needed_sets", says="needed sets")
def looks_at_the_first_prompt(model, tokens, answer):
    return find_sets(model, tokens[:1], answer[:1])


@mutant("find_needed_sets", name="any_change_counts")
def fewer_than_nine_in_ten(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.9)


@mutant(
    "find_needed_sets",
    "You find no needed set in any model: do the answers change at all when you ablate a head?",
)
def finds_nothing(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.0)


@mutant(
    "find_needed_sets",
    says="You answer the same",
    clause="The models are ones that you have not seen",
)
def constant_output(model, tokens, answer):
    return [["a0.h0"], ["a1.h0", "a2.h0"]]


@alternative("find_needed_sets")
def by_edges_that_are_switched_off(model, tokens, answer):
    heads = list_heads(model)
    off = write_outputs(model, tokens, "zero")
    groups = [[head] for head in heads] + [[b, a] for a, b in combinations(heads, 2)]
    masks = []
    for group in groups:
        edges = [f"{head}->logits" for head in group]
        edges += [
            f"{head}->{other}<{p}>"
            for head in group
            for other in heads
            if other[1] > head[1]
            for p in "qkv"
        ]
        masks.append(1 - mask_of(model, edges))
    right = [
        (run_edges(model, tokens, m[None], off)[0, :, -1].argmax(-1) == answer).float().mean()
        for m in masks
    ]
    broken = [group for group, share in zip(groups, right, strict=True) if share < 0.5]
    return [
        group for group in broken if len(group) == 1 or not any([head] in broken for head in group)
    ]


# ablate_subspace ----------------------------------------------------------------------------------


def run_edited(model, tokens, name, edit):
    return model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: edit(x))])


def unit(directions):
    return directions / directions.norm(dim=1, keepdim=True)


@mutant(
    "ablate_subspace",
    "Right for directions of length 1; a longer one takes out more than there is.",
    clause="of any length",
)
def forgets_the_length(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x - x @ directions.T @ directions)


@mutant(
    "ablate_subspace",
    "You take out each direction's own projection: what two skew directions share is taken out "
    "twice.",
    clause="seldom at right angles",
)
def adds_up_projections(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x - x @ unit(directions).T @ unit(directions))


@mutant(
    "ablate_subspace",
    "You take out one direction after the other: the last is gone, but taking it out has put some"
    " of the earlier ones back.",
    clause="what is left is orthogonal to each row",
)
def one_after_another(model, tokens, name, directions):
    def edit(x):
        for direction in unit(directions):
            x = x - (x @ direction).unsqueeze(-1) * direction
        return x

    return run_edited(model, tokens, name, edit)


@mutant(
    "ablate_subspace",
    "You keep what lies along the directions and take out the rest.",
    clause="take out its part in the span",
)
def keeps_the_span(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x @ torch.linalg.pinv(directions) @ directions)


@mutant(
    "ablate_subspace",
    "Only the first of the directions is taken out.",
    clause="of the rows of `directions`",
)
def first_direction_only(model, tokens, name, directions):
    direction = unit(directions)[0]
    return run_edited(model, tokens, name, lambda x: x - (x @ direction).unsqueeze(-1) * direction)


@mutant(
    "ablate_subspace",
    "The directions are taken out at the last position only.",
    name="last_position_only",
    clause="At every position",
)
def at_the_last_position(model, tokens, name, directions):
    def edit(x):
        x[:, -1] -= x[:, -1] @ torch.linalg.pinv(directions) @ directions
        return x

    return run_edited(model, tokens, name, edit)


@mutant(
    "ablate_subspace",
    "You subtract the directions themselves, however much of them the stream holds.",
)
def subtracts_the_directions(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x - directions.sum(dim=0))


@mutant(
    "ablate_subspace",
    "You take the span out of the stream after every layer: asked for is one activation.",
    clause="one activation loses",
)
def everywhere(model, tokens, name, directions):
    P = torch.linalg.pinv(directions) @ directions
    hooks = [(("resid_post", layer), lambda x, hook: x - x @ P)
             for layer in range(model.config.n_layers)]  # fmt: skip
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mutant("ablate_subspace", says="Your function never uses `name`", clause="`name` is a hook name")
def always_after_the_first_layer(model, tokens, name, directions):
    return by_the_pseudoinverse(model, tokens, "blocks.0.hook_resid_post", directions)


def wrong_removal(name, sentence, remove, clause=""):
    def answer(model, tokens, name, directions):
        P = torch.linalg.pinv(directions) @ directions
        return run_edited(model, tokens, name, lambda x: remove(x, directions, P))

    mutant("ablate_subspace", sentence, name=name, clause=clause)(answer)


wrong_removal(
    "puts_the_mean_there",
    "You leave the average over the prompts in the span: nothing should be left there.",
    lambda x, directions, P: x - (x - x.mean(0)) @ P,
    "loses all that it holds",
)
wrong_removal(
    "turns_it_round",
    "You take the part in the span out twice, so that its opposite is left.",
    lambda x, directions, P: x - 2 * x @ P,
)
wrong_removal(
    "removes_the_sum",
    "You take out one direction, the sum of the rows.",
    lambda x, directions, P: (
        x - x @ torch.linalg.pinv(directions.sum(0, keepdim=True)) @ directions.sum(0, keepdim=True)
    ),
)
wrong_removal(
    "clears_the_first_dimensions",
    "You set the first numbers of the stream to zero, as many as there are rows: their directions "
    "count.",
    lambda x, directions, P: x * (torch.arange(x.shape[-1]) >= len(directions)),
    "differs from the stream only by a sum of multiples of the rows",
)


@mutant(
    "ablate_subspace",
    "You take out one direction after the other, and go round a few times: what is left is nearly "
    "orthogonal to each row, not quite.",
)
def goes_round_five_times(model, tokens, name, directions):
    return one_after_another(model, tokens, name, directions.repeat(5, 1))


@mutant("ablate_subspace", name="forgets_the_length")
def leaves_the_lengths(model, tokens, name, directions):
    rows = []
    for d in directions:
        for e in rows:
            d = d - (d @ e) / (e @ e) * e
        rows.append(d)
    rows = torch.stack(rows)
    return run_edited(model, tokens, name, lambda x: x - x @ rows.T @ rows)


@alternative("ablate_subspace")
def by_the_pseudoinverse(model, tokens, name, directions):
    return run_edited(
        model, tokens, name, lambda x: x - x @ torch.linalg.pinv(directions) @ directions
    )


@alternative("ablate_subspace")
def by_gram_and_schmidt(model, tokens, name, directions):
    basis = []
    for direction in directions.double():
        for earlier in basis:
            direction = direction - direction @ earlier * earlier
        basis.append(direction / direction.norm())

    def edit(x):
        for direction in basis:
            x = x - (x.double() @ direction).unsqueeze(-1) * direction
        return x.float()

    return run_edited(model, tokens, name, edit)


# tell_heads_apart ---------------------------------------------------------------------------------

# Does zero, mean, resample hurt?
SINGLES = {"TTT": "carrier", "TFF": "constant", "FTT": "covered", "FFT": "twin"}


def try_ablations(model, tokens, answer, reference, least=0.9):
    """Mark for every head, by T or F, which ablations hurt.

    Also return a function that says whether silencing several heads hurts.
    """

    def breaks(ablation, *heads):
        return measure(model, tokens, answer, heads, ablation, reference) < least

    hurt = {
        head: "".join("FT"[breaks(ablation, head)] for ablation in ABLATIONS)
        for head in list_heads(model)
    }
    return hurt, lambda *heads: breaks("zero", *heads)


def tell(model, tokens, answer, reference, rename=None, partners=("covered",), least=0.9):
    hurt, breaks = try_ablations(model, tokens, answer, reference, least)
    roles = {head: SINGLES.get(hurt[head], "idle") for head in hurt}
    waiting = [head for head in hurt if roles[head] in partners]
    backups = [
        head for head in hurt if roles[head] == "idle" and any(breaks(head, w) for w in waiting)
    ]
    roles |= dict.fromkeys(backups, "backup")
    return {head: (rename or {}).get(role, role) for head, role in roles.items()}


def tell_by(model, tokens, answer, reference, ablation):
    hurt, _ = try_ablations(model, tokens, answer, reference)
    return {
        head: "carrier" if hurt[head][list(ABLATIONS).index(ablation)] == "T" else "idle"
        for head in hurt
    }


@mutant(
    "tell_heads_apart",
    "You call a head a carrier if zeros hurt, and idle if not: on each side there is more than "
    "one kind of head.",
    clause="nothing that is put in its place hurts",
)
def judges_by_zeros(model, tokens, answer, reference):
    return tell_by(model, tokens, answer, reference, "zero")


@mutant(
    "tell_heads_apart",
    "You call a head a carrier if another prompt's value hurts, and idle if not: what of heads "
    "that write the same in every prompt?",
    clause="it writes the same in every prompt",
)
def judges_by_resampling(model, tokens, answer, reference):
    return tell_by(model, tokens, answer, reference, "resample")


@mutant(
    "tell_heads_apart",
    "You call twins idle: the silence of one is made good, and an average is close to silence. "
    "What could one of them say that does harm?",
    clause="but not if the other half says the opposite",
)
def never_resamples(model, tokens, answer, reference):
    hurt, breaks = try_ablations(model, tokens, answer, reference)
    kinds = {"TT": "carrier", "TF": "constant", "FT": "covered", "FF": "idle"}
    roles = {head: kinds[hurt[head][:2]] for head in hurt}
    waiting = [head for head in hurt if roles[head] == "covered"]
    return roles | {
        h: "backup"
        for h in hurt
        if roles[h] == "idle" and any(breaks(h, other) for other in waiting)
    }


@mutant(
    "tell_heads_apart",
    "You call twins covered: alone, both can be silent and neither may say something wrong. What "
    "stands in for each, and what does it do to an average?",
    clause="writes half of what is used",
)
def never_averages(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, {"twin": "covered"}, partners=("covered", "twin"))


@mutant(
    "tell_heads_apart",
    "All is right but for some heads that you call idle: did you ever silence two at once?",
    clause="but a later head stands in for it if it falls silent",
)
def forgets_the_backups(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, partners=())


@mutant(
    "tell_heads_apart",
    "Which of the two acts as long as nothing is silenced? You have them exchanged.",
    clause="this later head, which writes nothing",
)
def swaps_covered_and_backup(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, {"covered": "backup", "backup": "covered"})


@mutant(
    "tell_heads_apart",
    "You call a head a backup if it fails together with any other head: with a carrier, every "
    "head does.",
)
def pairs_with_any_head(model, tokens, answer, reference):
    return tell(
        model, tokens, answer, reference, partners=("carrier", "constant", "covered", "twin")
    )


@mutant(
    "tell_heads_apart",
    "You call every head idle: do the answers change at all when you ablate one?",
    name="everything_idle",
)
def nothing_is_replaced(model, tokens, answer, reference):
    return tell(
        model,
        tokens,
        model(tokens)[:, -1].argmax(-1),
        reference,
        dict.fromkeys(SINGLES.values(), "idle"),
        (),
    )


@mutant(
    "tell_heads_apart",
    name="constant_output",
    says="You answer the same",
    clause="of an unknown model",
)
def the_same_for_every_model(model, tokens, answer, reference):
    return dict.fromkeys(list_heads(model), "carrier")


@mutant(
    "tell_heads_apart",
    says="heads, and",
    clause="`reference[b]` calls for another answer",
)
def takes_the_neighbour_for_the_reference(model, tokens, answer, reference):
    return tell(model, tokens, answer, tokens.roll(1, dims=0))


def wrong_roles(name, sentence="", clause="", says="", reference=lambda given: given, **how):
    def answer(model, tokens, answer, given):
        return tell(model, tokens, answer, reference(given), **how)

    mutant("tell_heads_apart", sentence, name=name, clause=clause, says=says)(answer)


wrong_roles(
    "asks_for_half",
    "With you only what costs more than half of the answers hurts: the task says another share.",
    "fewer than 90% of the prompts are answered rightly",
    least=0.5,
)
wrong_roles("asks_for_all", clause="fewer than 90%", says="You answer the same", least=1.0)
wrong_roles(
    "one_reference_for_all",
    "You put what a head hands on in one prompt of `reference` into all prompts: each has its own.",
    reference=lambda given: given[:1].expand_as(given),
)
wrong_roles(
    "swaps_carrier_and_constant",
    "Carriers and constants are exchanged with you: which of them writes the same in every prompt?",
    "what it writes differs from prompt to prompt",
    rename={"carrier": "constant", "constant": "carrier"},
)
wrong_roles(
    "calls_constants_carriers",
    "You call constants carriers: ask also whether what a head writes differs.",
    "and it hurts if it falls silent",
    rename={"constant": "carrier"},
)
wrong_roles("never_resamples", clause="Half is enough for the answers", rename={"twin": "idle"})


@mutant("tell_heads_apart", name="never_averages")
def calls_twins_covered(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, {"twin": "covered"})


@mutant("tell_heads_apart", says="one role for each head", clause="Return the role of every head.")
def leaves_out_idle_heads(model, tokens, answer, reference):
    roles = tell(model, tokens, answer, reference)
    return {head: role for head, role in roles.items() if role != "idle"}


@alternative("tell_heads_apart")
def by_pairs_without_means(model, tokens, answer, reference):
    hurt, breaks = try_ablations(model, tokens, answer, reference)
    roles = {
        head: {"TT": "carrier", "TF": "constant"}.get(hurt[head][::2], "idle") for head in hurt
    }
    for a, b in combinations([head for head in hurt if roles[head] == "idle"], 2):
        if breaks(a, b):  # twins if each can mislead, else one of the two had nothing to say
            both = hurt[a][2] == hurt[b][2] == "T"
            roles |= {
                head: "twin" if both else "covered" if hurt[head][2] == "T" else "backup"
                for head in (a, b)
            }
    return roles


@alternative("tell_heads_apart")
def by_what_each_head_writes(model, tokens, answer, reference):
    z = read_z(model, tokens)
    varies = {
        name: bool((z[split_name(name)][:, -1].std(0) > 1e-4).any()) for name in list_heads(model)
    }
    right = {}
    for heads in [[head] for head in varies] + [list(pair) for pair in combinations(varies, 2)]:
        right[frozenset(heads)] = measure(model, tokens, answer, heads) >= 0.9
    roles = {}
    for head in varies:
        if not right[frozenset([head])]:
            roles[head] = "carrier" if varies[head] else "constant"
    rest = [head for head in varies if head not in roles]
    roles |= dict.fromkeys(rest, "idle")
    for early, late in combinations(rest, 2):  # in the order of computation
        if not right[frozenset([early, late])]:
            roles |= (
                {early: "twin", late: "twin"}
                if varies[late]
                else {early: "covered", late: "backup"}
            )
    return roles

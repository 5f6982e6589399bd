"""List wrong answers to lesson 06 that the grader rejects by name, and unusual right ones."""

from itertools import combinations

import torch

from mini_transformer.course.grading.checks import alternative, mutant
from mini_transformer.edges import mask_of, run_edges, write_outputs


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
    z = read_z(model, reference)
    return run_replaced(
        model,
        tokens,
        {split_name(name): ABLATIONS[ablation](z[split_name(name)])[..., at, :] for name in heads},
        at,
    )


# ablate_heads -------------------------------------------------------------------------------------


@mutant("ablate_heads")
def ignores_the_ablation(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, "zero", reference)


@mutant("ablate_heads")
def averages_over_positions(model, tokens, heads, ablation, reference):
    z = read_z(model, reference)
    ablations = ABLATIONS | {"mean": lambda z: z.mean((0, 1))}
    return run_replaced(
        model,
        tokens,
        {split_name(name): ablations[ablation](z[split_name(name)]) for name in heads},
    )


@mutant("ablate_heads")
def averages_the_prompts_themselves(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, ablation, tokens if ablation == "mean" else reference)


@mutant("ablate_heads")
def averages_too_few_prompts(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, ablation, reference[: len(tokens)])


@mutant("ablate_heads", says="is right for the first along the")
def one_prompt_for_all(model, tokens, heads, ablation, reference):
    return ablate(
        model, tokens, heads, ablation, reference[:1] if ablation == "resample" else reference
    )


@mutant("ablate_heads")
def resamples_the_mean(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, "mean" if ablation == "resample" else ablation, reference)


@mutant("ablate_heads")
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


@mutant("ablate_heads", "one_head_of_the_list")
def returns_inside_the_loop(model, tokens, heads, ablation, reference):
    for name in heads:
        return ablate(model, tokens, [name], ablation, reference)


@mutant("ablate_heads")
def whole_layer(model, tokens, heads, ablation, reference):
    layers = {split_name(name)[0] for name in heads}
    return ablate(
        model,
        tokens,
        [n for n in list_heads(model) if split_name(n)[0] in layers],
        ablation,
        reference,
    )


@mutant("ablate_heads", "last_position_only")
def at_the_last_position_alone(model, tokens, heads, ablation, reference):
    return ablate(model, tokens, heads, ablation, reference, at=[-1])


@mutant("ablate_heads", "unchanged", says="what `model` says on `tokens` by itself")
def changes_a_copy(model, tokens, heads, ablation, reference):
    z = read_z(model, reference)

    def replace(value, hook):
        value = value.clone()
        value[:, :, 0] = ABLATIONS[ablation](z[0, 0])  # and is not returned

    return model.run_with_hooks(tokens, fwd_hooks=[(("z", 0), replace)])


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


@mutant("find_needed_sets")
def singles_only(model, tokens, answer):
    return find_sets(model, tokens, answer, keep=lambda a, b: False)


@mutant("find_needed_sets")
def pairs_with_needed_heads(model, tokens, answer):
    return find_sets(model, tokens, answer, pairs_of="all")


@mutant("find_needed_sets")
def within_one_layer(model, tokens, answer):
    return find_sets(model, tokens, answer, keep=lambda a, b: a[:2] == b[:2])


@mutant("find_needed_sets")
def any_change_counts(model, tokens, answer):
    return find_sets(model, tokens, answer, least=1.0)


@mutant("find_needed_sets")
def last_position_only(model, tokens, answer):
    return find_sets(model, tokens, answer, at=[-1])


@mutant("find_needed_sets")
def ablates_with_the_mean(model, tokens, answer):
    return find_sets(model, tokens, answer, ablation="mean")


@mutant("find_needed_sets")
def names_heads_of_pairs_alone(model, tokens, answer):
    return [[head] for heads in find_sets(model, tokens, answer) for head in heads]


@mutant("find_needed_sets", says="needed sets")
def fewer_than_one_in_five(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.2)


@mutant("find_needed_sets", says="needed sets")
def looks_at_the_first_prompt(model, tokens, answer):
    return find_sets(model, tokens[:1], answer[:1])


@mutant("find_needed_sets", name="any_change_counts")
def fewer_than_nine_in_ten(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.9)


@mutant("find_needed_sets")
def finds_nothing(model, tokens, answer):
    return find_sets(model, tokens, answer, least=0.0)


@mutant("find_needed_sets", says="You answer the same")
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


@mutant("ablate_subspace")
def forgets_the_length(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x - x @ directions.T @ directions)


@mutant("ablate_subspace")
def adds_up_projections(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x - x @ unit(directions).T @ unit(directions))


@mutant("ablate_subspace")
def one_after_another(model, tokens, name, directions):
    def edit(x):
        for direction in unit(directions):
            x = x - (x @ direction).unsqueeze(-1) * direction
        return x

    return run_edited(model, tokens, name, edit)


@mutant("ablate_subspace")
def keeps_the_span(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x @ torch.linalg.pinv(directions) @ directions)


@mutant("ablate_subspace")
def first_direction_only(model, tokens, name, directions):
    direction = unit(directions)[0]
    return run_edited(model, tokens, name, lambda x: x - (x @ direction).unsqueeze(-1) * direction)


@mutant("ablate_subspace", "last_position_only")
def at_the_last_position(model, tokens, name, directions):
    def edit(x):
        x[:, -1] -= x[:, -1] @ torch.linalg.pinv(directions) @ directions
        return x

    return run_edited(model, tokens, name, edit)


@mutant("ablate_subspace")
def subtracts_the_directions(model, tokens, name, directions):
    return run_edited(model, tokens, name, lambda x: x - directions.sum(dim=0))


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


def try_ablations(model, tokens, answer, reference):
    """Mark for every head, by T or F, which ablations hurt.

    Also return a function that says whether silencing several heads hurts.
    """

    def breaks(ablation, *heads):
        return measure(model, tokens, answer, heads, ablation, reference) < 0.9

    hurt = {
        head: "".join("FT"[breaks(ablation, head)] for ablation in ABLATIONS)
        for head in list_heads(model)
    }
    return hurt, lambda *heads: breaks("zero", *heads)


def tell(model, tokens, answer, reference, rename=None, partners=("covered",)):
    hurt, breaks = try_ablations(model, tokens, answer, reference)
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


@mutant("tell_heads_apart")
def judges_by_zeros(model, tokens, answer, reference):
    return tell_by(model, tokens, answer, reference, "zero")


@mutant("tell_heads_apart")
def judges_by_resampling(model, tokens, answer, reference):
    return tell_by(model, tokens, answer, reference, "resample")


@mutant("tell_heads_apart")
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


@mutant("tell_heads_apart")
def never_averages(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, {"twin": "covered"}, partners=("covered", "twin"))


@mutant("tell_heads_apart")
def forgets_the_backups(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, partners=())


@mutant("tell_heads_apart")
def swaps_covered_and_backup(model, tokens, answer, reference):
    return tell(model, tokens, answer, reference, {"covered": "backup", "backup": "covered"})


@mutant("tell_heads_apart")
def pairs_with_any_head(model, tokens, answer, reference):
    return tell(
        model, tokens, answer, reference, partners=("carrier", "constant", "covered", "twin")
    )


@mutant("tell_heads_apart", "everything_idle")
def nothing_is_replaced(model, tokens, answer, reference):
    return tell(
        model,
        tokens,
        model(tokens)[:, -1].argmax(-1),
        reference,
        dict.fromkeys(SINGLES.values(), "idle"),
        (),
    )


@mutant("tell_heads_apart", "constant_output", says="You answer the same")
def the_same_for_every_model(model, tokens, answer, reference):
    return dict.fromkeys(list_heads(model), "carrier")


@mutant("tell_heads_apart", says="heads, and")
def takes_the_neighbour_for_the_reference(model, tokens, answer, reference):
    return tell(model, tokens, answer, tokens.roll(1, dims=0))


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

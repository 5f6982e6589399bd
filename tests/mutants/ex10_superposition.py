"""List wrong answers to lesson 10 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {"find_phases": ["No setting is a close call"]}

# name_shapes --------------------------------------------------------------------------------------

NAMES = {
    (1, 1): "alone",
    (2, 1): "pair",
    (3, 2): "triangle",
    (4, 3): "tetrahedron",
    (5, 2): "pentagon",
}
BY_COUNT = {1: "alone", 2: "pair", 3: "triangle", 4: "tetrahedron", 5: "pentagon"}


def list_shapes(W, least=0.5, link=None, grow=True, name=None, keep=lambda W: W):
    """List names and groups; switches stand for the clauses of the task."""
    columns = keep(W)
    length = columns.norm(dim=0)
    unit = columns / length
    overlap = unit.T @ unit
    linked = overlap.abs() > 0.15 if link is None else link(overlap, columns)
    waiting = [f for f in range(columns.shape[1]) if length[f] > least]
    groups = []
    while waiting:
        group = [waiting.pop(0)]
        for member in group if grow else group[:1]:
            found = [f for f in waiting if linked[member, f]]
            group += found
            waiting = [f for f in waiting if f not in found]
        group.sort()
        sizes = torch.linalg.svdvals(columns[:, group])
        n = int((sizes > 0.2 * sizes[0]).sum())
        named = NAMES.get((len(group), n), "other") if name is None else name(columns, group)
        groups.append((named, group))
    return groups


@mutant(
    "name_shapes",
    "You keep columns of 0.5 and less: features that were given up point at random and tie groups "
    "together that have nothing to do with each other.",
    clause="longer than 0.5; leave all others out",
)
def keeps_what_is_not_stored(W):
    return list_shapes(W, least=0.0)


@mutant(
    "name_shapes",
    "You name groups by how many features they have; in how many dimensions do these lie?",
    clause="depends on how many features it has, and in how many dimensions",
)
def names_by_the_number_of_features(W):
    return list_shapes(W, name=lambda W, group: BY_COUNT.get(len(group), "other"))


@mutant(
    "name_shapes",
    "You call every group after its dimensions; how many features share them?",
    clause="The name of a group depends on how many features it has",
)
def names_by_the_dimensions(W):
    def name(W, group):
        sizes = torch.linalg.svdvals(W[:, group])
        n = int((sizes > 0.2 * sizes[0]).sum())
        return {1: "alone" if len(group) == 1 else "pair", 2: "pentagon", 3: "tetrahedron"}.get(
            n, "other"
        )

    return list_shapes(W, name=name)


@mutant(
    "name_shapes",
    "As you count dimensions, a slightly bent pentagon fills five: singular values near 0 do not "
    "count.",
    clause="count as dimensions the singular values of the group's columns that are above a fifth",
)
def takes_the_exact_rank(W):
    def name(W, group):
        rank = int(torch.linalg.matrix_rank(W[:, group]))
        return NAMES.get((len(group), rank), "other")

    return list_shapes(W, name=name)


@mutant(
    "name_shapes",
    "You count singular values above 0.2; the bound is a fifth of the group's largest.",
    clause="a fifth of the largest",
)
def compares_singular_values_with_a_constant(W):
    def name(W, group):
        n = int((torch.linalg.svdvals(W[:, group]) > 0.2).sum())
        return NAMES.get((len(group), n), "other")

    return list_shapes(W, name=name)


@mutant(
    "name_shapes",
    "You scale columns to length 1 before you count dimensions: a short arrow beside a long one, "
    "nearly on its line, adds none.",
    clause="the singular values of the group's columns",
)
def counts_dimensions_of_scaled_columns(W):
    def name(W, group):
        sizes = torch.linalg.svdvals(W[:, group] / W[:, group].norm(dim=0))
        return NAMES.get((len(group), int((sizes > 0.2 * sizes[0]).sum())), "other")

    return list_shapes(W, name=name)


@mutant(
    "name_shapes",
    "You name groups by their dimensions per feature. Other shapes can have the same: two pairs in "
    "one plane have 2/5 each if they cross at 60 degrees.",
    clause='all else "other"',
)
def names_by_dimensions_per_feature(W):
    shares = {"alone": 1, "pair": 1 / 2, "triangle": 2 / 3, "tetrahedron": 3 / 4, "pentagon": 2 / 5}

    def name(W, group):
        columns = W[:, group]
        length = columns.norm(dim=0)
        overlap = (columns / length).T @ columns
        D = float((length**2 / overlap.square().sum(dim=1)).mean())
        nearest = min(shares, key=lambda shape: abs(shares[shape] - D))
        return nearest if abs(shares[nearest] - D) < 0.04 else "other"

    return list_shapes(W, name=name)


@mutant(
    "name_shapes",
    "You split groups whose features are linked through others: if 0 touches 1, and 1 touches 2, "
    "all three belong together.",
    clause="and so do features that are linked through others",
)
def stops_at_the_first_neighbours(W):
    return list_shapes(W, grow=False)


@mutant(
    "name_shapes",
    "You link features that point away from each other only; those at less than 90 degrees "
    "interfere, too.",
    clause="above 0.15 or below -0.15",
)
def links_opposites_only(W):
    return list_shapes(W, link=lambda overlap, W: overlap < -0.15)


@mutant(
    "name_shapes",
    "You link features that point to the same side only; opposites share a dimension, too.",
    clause="or below -0.15",
)
def links_the_same_side_only(W):
    return list_shapes(W, link=lambda overlap, W: overlap > 0.15)


@mutant(
    "name_shapes",
    "You compare dot products of columns, which grow with their lengths; the task asks for "
    "cosines.",
    clause="if the cosine of their columns",
)
def takes_dot_products(W):
    return list_shapes(W, link=lambda overlap, W: (W.T @ W).abs() > 0.15)


@mutant(
    "name_shapes",
    "You take the rows of W for the features: each row is one hidden number, each column a "
    "feature.",
    clause="Column f of `W` is the direction of feature f.",
)
def takes_the_rows(W):
    return list_shapes(W.T)


@mutant(
    "name_shapes",
    "You number the features among those that are stored; the task asks for their numbers in W.",
    clause="the numbers of its features",
)
def numbers_the_stored_ones(W):
    return list_shapes(W, keep=lambda W: W[:, W.norm(dim=0) > 0.5])


@mutant(
    "name_shapes",
    says="You answer the same",
    clause="Name the shapes in which a toy stores its features.",
)
def the_example_always(W):
    return [("pair", [0, 2]), ("alone", [1])]


@alternative("name_shapes")
def by_powers_of_the_links(W):
    stored = (W.norm(dim=0) > 0.5).nonzero().flatten()
    cosine = torch.nn.functional.cosine_similarity(W[:, :, None], W[:, None, :], dim=0)
    reach = (cosine[stored][:, stored].abs() > 0.15).float()
    for _ in range(len(stored)):
        reach = (reach @ reach > 0).float()
    groups = {tuple(stored[row > 0].tolist()) for row in reach}
    result = []
    for group in groups:
        s = torch.linalg.svd(W[:, list(group)]).S
        result.append((NAMES.get((len(group), int((s / s.max() > 0.2).sum())), "other"), group))
    return tuple(result)


@alternative("name_shapes")
def with_sets_that_are_merged(W):
    kept = [f for f in range(W.shape[1]) if float(W[:, f].norm()) > 0.5]
    groups = [{f} for f in kept]
    for i in kept:
        for j in kept:
            cosine = float(W[:, i] @ W[:, j] / W[:, i].norm() / W[:, j].norm())
            if abs(cosine) > 0.15:
                one = next(group for group in groups if i in group)
                other = next(group for group in groups if j in group)
                if one is not other:
                    one |= other
                    groups.remove(other)
    found = []
    for group in groups:
        columns = W[:, sorted(group)]
        spread = torch.linalg.eigvalsh(columns.T @ columns)
        n = int((spread > 0.04 * spread.max()).sum())
        found.append([NAMES.get((len(group), n), "other"), group])
    return found


# find_phases --------------------------------------------------------------------------------------

PHASES = ("first", "second", "both")


def name_cheapest(first, second, both):
    return [PHASES[i] for i in torch.stack([first, second, both]).argmin(dim=0)]


def variance(p):
    return p / 3 - p**2 / 4


def compare(density, importance, other=1.0, left_out=variance, both=None):
    """Name the cheapest; `left_out` is the cost of a feature that is not stored."""
    p, q = density.T
    pair = (other + importance) * p * q / 6 if both is None else both(p, q, importance)
    return name_cheapest(importance * left_out(q), other * left_out(p), pair)


@mutant(
    "find_phases",
    "You leave out the importance: an important second feature is stored where you drop it.",
    clause="that of the second feature (j = 1) weighted by `importance[s]`",
)
def ignores_the_importance(density, importance):
    return compare(density, torch.ones_like(importance))


@mutant(
    "find_phases",
    "You weight the first feature by the importance, but it belongs to the second.",
    clause="that of the first by 1",
)
def weights_the_first(density, importance):
    return compare(density, torch.ones_like(importance), other=importance)


@mutant(
    "find_phases",
    "You take the density of the first feature for both; each has its own.",
    clause="feature j of setting s is on with probability `density[s, j]`",
)
def takes_the_first_density_for_both(density, importance):
    return compare(density[:, :1].expand(-1, 2), importance)


@mutant(
    "find_phases",
    "You take one density for both features, made of the two; each has its own.",
    clause="Here the two features are not equally rare",
)
def takes_the_mean_density(density, importance):
    return compare(density.mean(dim=1, keepdim=True).expand(-1, 2), importance)


@mutant(
    "find_phases",
    "You exchange the two features' densities: column 0 belongs to the first.",
    clause='"first" stores the first feature only',
)
def exchanges_the_densities(density, importance):
    return compare(density.flip(1), importance)


@mutant(
    "find_phases",
    "You answer a feature that is not stored by 0; its mean costs less.",
    clause="A feature that is not stored is answered by its mean",
)
def answers_with_zero(density, importance):
    return compare(density, importance, left_out=lambda p: p / 3)


@mutant(
    "find_phases",
    "You answer a feature that is not stored by 1/2, its mean where it is on; most of the time it "
    "is off.",
    clause="its mean over all inputs",
)
def answers_with_one_half(density, importance):
    return compare(density, importance, left_out=lambda p: p / 12 + (1 - p) / 4)


@mutant(
    "find_phases",
    "You never let two features share the dimension. A linear reader could not take them apart; "
    "the toy has a ReLU.",
    clause="`ReLU(WᵀW x + b)`",
)
def forgets_the_relu(density, importance):
    return compare(density, importance, both=lambda p, q, worth: q / 3 + worth * p / 3)


@mutant(
    "find_phases",
    "You store both wherever you can; where both are often on, a pair costs more than leaving one "
    "out.",
    clause="Say which of three toys loses least",
)
def always_both(density, importance):
    return ["both"] * len(density)


@mutant(
    "find_phases",
    "You name the feature that is left out, where the task asks for the one that is stored.",
    clause="Return the name of the toy that loses least",
)
def names_what_is_left_out(density, importance):
    turn = {"first": "second", "second": "first", "both": "both"}
    return [turn[name] for name in compare(density, importance)]


@mutant(
    "find_phases",
    "You let the two features be on together as often as the rarer one is on; they are so by "
    "chance only.",
    clause="whether or not the other is",
)
def lets_them_come_together(density, importance):
    return compare(
        density, importance, both=lambda p, q, worth: (1 + worth) * torch.minimum(p, q) / 6
    )


@mutant(
    "find_phases",
    "You take the mean square of the lesser of two amounts for 1/9, the square of its mean; it is "
    "1/6.",
    clause='"both" stores them as a pair',
)
def squares_the_mean(density, importance):
    return compare(density, importance, both=lambda p, q, worth: (1 + worth) * p * q / 9)


@alternative("find_phases")
def by_drawing_inputs(density, importance):
    generator = torch.Generator().manual_seed(1)
    found = []
    for on, worth in zip(density, importance, strict=True):
        amount = torch.rand(20_000, 2, generator=generator)
        x = amount * (torch.rand(20_000, 2, generator=generator) < on)
        weight = torch.stack([torch.tensor(1.0), worth])
        losses = {}
        for name, W in {"first": (1.0, 0.0), "second": (0.0, 1.0), "both": (1.0, -1.0)}.items():
            w = torch.tensor(W)
            b = torch.where(w == 0, x.mean(dim=0), 0.0)
            read = torch.relu((x @ w)[:, None] * w + b)
            losses[name] = float(((read - x) ** 2 * weight).mean(dim=0).sum())
        found.append(min(losses, key=losses.get))
    return found


@alternative("find_phases")
def by_summing_over_a_grid(density, importance):
    amount = (torch.arange(100) + 0.5) / 100
    found = ()
    for (p, q), worth in zip(density.tolist(), importance.tolist(), strict=True):
        meet = sum(float(amount.clamp(max=float(a)).square().mean()) for a in amount) / 100
        first, second = (
            on * (amount - on / 2).square().mean() + (1 - on) * (on / 2) ** 2 for on in (q, p)
        )
        losses = [worth * float(first), float(second), p * q * meet * (1 + worth)]
        found += (PHASES[losses.index(min(losses))],)
    return found


# find_drivers -------------------------------------------------------------------------------------


def measure_changes(model, tokens, feature, out=None, site="post", at=-1):
    """Measure what each neuron loses, (prompt, neuron), over the prompts with a feature."""
    there = tokens[(tokens == feature).any(dim=1)]
    without = there.masked_fill(there == feature, 0) if out is None else out(there)
    own, other = (model.run_with_cache(prompts)[1][site, 0] for prompts in (there, without))
    return (own - other)[:, at]


def list_drivers(model, tokens, features, judge=None, **options):
    """List drivers; `judge` says of the changes of one feature which neurons are driven."""
    judge = judge or (lambda change: change.abs().mean(dim=0) >= 0.1)
    drivers = {neuron: [] for neuron in range(model.config.d_mlp)}
    with torch.no_grad():
        for feature in features:
            if (tokens == feature).any():
                change = measure_changes(model, tokens, feature, **options)
                for neuron in judge(change).nonzero().flatten().tolist():
                    drivers[neuron].append(feature)
    return drivers


@mutant(
    "find_drivers",
    "You read neurons before their ReLU, where those that never fire change, too.",
    clause='What a neuron hands on at the last position, `("post", 0)`',
)
def reads_before_the_relu(model, tokens, features):
    return list_drivers(model, tokens, features, site="pre")


@mutant(
    "find_drivers",
    "You average changes with their signs, so features that silence a neuron are missing.",
    clause="the size of this change, whatever its sign",
)
def keeps_the_sign(model, tokens, features):
    return list_drivers(model, tokens, features, judge=lambda change: change.mean(dim=0) >= 0.1)


@mutant(
    "find_drivers",
    "You average changes with their signs and take the size at the end: a feature that raises a "
    "neuron in one prompt and lowers it in another seems to do nothing.",
    clause="Average the size of this change, whatever its sign",
)
def takes_the_size_of_the_average(model, tokens, features):
    return list_drivers(
        model, tokens, features, judge=lambda change: change.mean(dim=0).abs() >= 0.1
    )


@mutant(
    "find_drivers",
    "You average over all prompts, so that rare features seem to do little.",
    clause="over the prompts in which the feature stands",
)
def averages_over_all_prompts(model, tokens, features):
    return list_drivers(
        model,
        tokens,
        features,
        judge=lambda change: change.abs().sum(dim=0) / len(tokens) >= 0.1,
    )


@mutant(
    "find_drivers",
    "You list a feature as soon as it changes anything; the task asks for 0.1 on average.",
    clause="The feature drives the neuron if the average is at least 0.1",
)
def lists_every_change(model, tokens, features):
    return list_drivers(
        model, tokens, features, judge=lambda change: change.abs().mean(dim=0) > 1e-4
    )


@mutant(
    "find_drivers",
    "You list pairs whose average change is less than 0.1: a large change in few prompts is not "
    "enough.",
    clause="Average the size of this change",
)
def takes_the_largest_change(model, tokens, features):
    return list_drivers(
        model, tokens, features, judge=lambda change: change.abs().amax(dim=0) >= 0.1
    )


@mutant(
    "find_drivers",
    "Pairs that show in some prompts only are missing: average over all prompts in which the "
    "feature stands.",
    clause="over the prompts",
)
def looks_at_one_prompt(model, tokens, features):
    return list_drivers(model, tokens, features, judge=lambda change: change[0].abs() >= 0.1)


@mutant(
    "find_drivers",
    "You switch each feature on alone. That misses what silences a neuron, and what needs company: "
    "take it out of the prompts instead.",
    clause="Take a feature out of a prompt",
)
def switches_each_on_alone(model, tokens, features):
    empty = tokens[:1].clone()
    empty[:, :-1] = 0
    drivers = {neuron: [] for neuron in range(model.config.d_mlp)}
    with torch.no_grad():
        before = model.run_with_cache(empty)[1]["post", 0][0, -1]
        for feature in features:
            alone = empty.clone()
            alone[:, 0] = feature
            change = model.run_with_cache(alone)[1]["post", 0][0, -1] - before
            for neuron in (change.abs() >= 0.1).nonzero().flatten().tolist():
                drivers[neuron].append(feature)
    return drivers


@mutant(
    "find_drivers",
    "You take a feature out in one place only; some prompts hold it twice.",
    clause="by writing 0 wherever it stands",
)
def takes_out_the_first_only(model, tokens, features):
    drivers = {neuron: [] for neuron in range(model.config.d_mlp)}
    with torch.no_grad():
        for feature in features:
            there = tokens[(tokens == feature).any(dim=1)]
            if len(there):
                without = there.clone()
                without[torch.arange(len(there)), (there == feature).int().argmax(dim=1)] = 0
                own, other = (
                    model.run_with_cache(x)[1]["post", 0][:, -1] for x in (there, without)
                )
                for neuron in ((own - other).abs().mean(dim=0) >= 0.1).nonzero().flatten():
                    drivers[int(neuron)].append(feature)
    return drivers


@mutant(
    "find_drivers",
    "You look at all positions, where each token also excites neurons that the last one never "
    "hears of.",
    clause="at the last position",
)
def looks_at_all_positions(model, tokens, features):
    return list_drivers(
        model,
        tokens,
        features,
        judge=lambda change: change.abs().mean(dim=(0, 1)) >= 0.1,
        at=slice(None),
    )


@mutant(
    "find_drivers",
    "You multiply embeddings with W_in: that is what a neuron could read where the token stands, "
    "not what reaches it at the last position.",
    clause="not all that a neuron could read ever reaches it",
)
def reads_weights_only(model, tokens, features):
    reads = (model.W_E @ model.blocks[0].mlp.W_in).abs()
    return {
        neuron: [feature for feature in features if reads[feature, neuron] >= 0.1]
        for neuron in range(model.config.d_mlp)
    }


@mutant(
    "find_drivers",
    "You follow the weights through the head, but run no prompt: some features stand in none, and "
    "some neurons never fire.",
    clause="a feature that stands in no prompt drives none",
)
def reads_all_weights_only(model, tokens, features):
    attn, mlp = model.blocks[0].attn, model.blocks[0].mlp
    share = 1 / tokens.shape[1]
    reads = (model.W_E @ attn.W_V[0] @ attn.W_O[0] @ mlp.W_in * share).abs()
    return {
        neuron: [feature for feature in features if reads[feature, neuron] >= 0.1]
        for neuron in range(model.config.d_mlp)
    }


@mutant(
    "find_drivers",
    "You put features that stand in no prompt into them yourself; the task says that these drive "
    "none.",
    clause="a feature that stands in no prompt drives none",
)
def puts_absent_features_in(model, tokens, features):
    drivers = list_drivers(model, tokens, features)
    with torch.no_grad():
        for feature in features:
            if not (tokens == feature).any():
                there = tokens.clone()
                there[:, 0] = feature
                change = measure_changes(model, there, feature)
                for neuron in (change.abs().mean(dim=0) >= 0.1).nonzero().flatten().tolist():
                    drivers[neuron].append(feature)
    return drivers


@mutant(
    "find_drivers",
    "You name features by their place in the list that you got; the task asks for the tokens.",
    clause="feature f is the token f",
)
def names_places_in_the_list(model, tokens, features):
    drivers = list_drivers(model, tokens, features)
    return {neuron: [features.index(f) + 1 for f in found] for neuron, found in drivers.items()}


@mutant("find_drivers", says="is missing", clause="the list may be empty")
def leaves_out_neurons_without_drivers(model, tokens, features):
    return {k: found for k, found in list_drivers(model, tokens, features).items() if found}


@mutant(
    "find_drivers",
    says="that do not belong there",
    clause="Find the features that drive each neuron of a model.",
)
def names_all_pairs(model, tokens, features):
    return {neuron: list(features) for neuron in range(model.config.d_mlp)}


@alternative("find_drivers")
def prompt_by_prompt(model, tokens, features):
    def fire(prompt):
        _, cache = model.run_with_cache(prompt[None], names_filter=("post", 0))
        return cache["post", 0][0, -1].detach()

    result = {}
    for feature in features:
        sizes = [
            (fire(prompt) - fire(torch.where(prompt == feature, 0, prompt))).abs()
            for prompt in tokens
            if feature in prompt
        ]
        result[feature] = sum(sizes) / len(sizes) if sizes else torch.zeros(model.config.d_mlp)
    neurons = range(model.config.d_mlp)
    return {n: {f for f in sorted(features) if result[f][n] >= 0.1} for n in neurons}


@alternative("find_drivers")
def in_two_large_runs(model, tokens, features):
    with torch.no_grad():
        post = model.run_with_cache(tokens)[1]["post", 0][:, -1]
        gone = torch.stack([tokens.masked_fill(tokens == f, 0) for f in features]).flatten(0, 1)
        other = model.run_with_cache(gone)[1]["post", 0][:, -1].view(len(features), *post.shape)
    there = torch.stack([(tokens == f).any(dim=1) for f in features]).float()
    change = torch.einsum("fbn,fb->fn", (post - other).abs(), there)
    change = change / there.sum(dim=1, keepdim=True).clamp(min=1)
    return {
        neuron: torch.tensor(features)[change[:, neuron] >= 0.1]
        for neuron in range(model.config.d_mlp)
    }


# find_privileged ----------------------------------------------------------------------------------


def peak(h, centre=True):
    h = (h - h.mean(dim=0) if centre else h).double()
    return (h.pow(4).mean(dim=0) / h.square().mean(dim=0).square()).mean()


def draw_turns(d, n=20):
    generator = torch.Generator().manual_seed(0)
    return [torch.linalg.qr(torch.randn(d, d, generator=generator)).Q for _ in range(n)]


def list_layers(layers, test):
    return [i for i, h in enumerate(layers) if test(h)]


def stands_out(h):
    h = (h - h.mean(dim=0)) / h.std(dim=0)
    return peak(h) > 1.3 * max(peak(h @ turn) for turn in draw_turns(h.shape[1]))


@mutant(
    "find_privileged",
    "You compare kurtosis with one number for all layers. Rare features raise it, turned or not: "
    "compare each layer with its own rotations.",
    clause="How rare features are",
)
def compares_kurtosis_with_a_constant(layers):
    return list_layers(layers, lambda h: peak(h) > 10)


@mutant(
    "find_privileged",
    "You take the half of the layers with the largest kurtosis. Rare features raise it, turned or "
    "not: compare each layer with its own rotations.",
    clause="Ask of each layer what would be different if it were turned.",
)
def takes_the_most_peaked(layers):
    order = sorted(range(len(layers)), key=lambda i: -float(peak(layers[i])))
    return sorted(order[: len(layers) // 2])


@mutant(
    "find_privileged",
    "You name layers without negative activations, as after a ReLU; a constant can do that to any "
    "layer.",
    clause="and the constants: neither says anything about directions",
)
def looks_for_a_relu(layers):
    return list_layers(layers, lambda h: bool((h >= 0).all()))


@mutant(
    "find_privileged",
    "You name layers whose axes differ in size, which says nothing about directions.",
    clause="So do the sizes of axes",
)
def looks_for_large_axes(layers):
    return list_layers(layers, lambda h: bool(h.std(dim=0).max() > 8 * h.std(dim=0).min()))


@mutant(
    "find_privileged",
    "You name layers whose axes are uncorrelated. Features of equal spread are so in every basis.",
    clause="In some layers the directions are the axes",
)
def looks_for_uncorrelated_axes(layers):
    def test(h):
        correlation = torch.corrcoef(h.T) - torch.eye(h.shape[1])
        return bool(correlation.abs().max() < 0.15)

    return list_layers(layers, test)


@mutant("find_privileged", says="You name", clause="plus a constant and a little noise")
def forgets_the_constant(layers):
    def test(h):
        turned = [peak(h @ turn, centre=False) for turn in draw_turns(h.shape[1])]
        return peak(h, centre=False) > 1.3 * max(turned)

    return list_layers(layers, test)


@mutant("find_privileged", says="You name nothing.", clause="a little noise")
def counts_zeros(layers):
    return list_layers(layers, lambda h: bool((h.abs() < 0.1 * h.std(dim=0)).all(1).any()))


@mutant(
    "find_privileged",
    "You whiten the layer first, and that turns it: what its axes were is lost.",
    clause="So do the sizes of axes",
)
def whitens_first(layers):
    def whiten(h):
        return torch.linalg.svd(h - h.mean(dim=0), full_matrices=False).U

    return list_layers(layers, lambda h: stands_out(whiten(h)))


@mutant(
    "find_privileged",
    "You name layers whose axes know nothing of each other; features that come together may still "
    "have an axis each.",
    clause="and whether they come together",
)
def looks_for_independent_axes(layers):
    generator = torch.Generator().manual_seed(0)

    def test(h):
        h = (h - h.mean(dim=0)) / h.std(dim=0)
        orders = torch.rand(h.shape, generator=generator).argsort(dim=0)
        sizes = [each.square().sum(dim=1).var() for each in (h, h.gather(0, orders))]
        return sizes[0] < 1.2 * sizes[1]

    return list_layers(layers, test)


@mutant(
    "find_privileged",
    "You name the layers that were turned; the task asks for the others.",
    clause="each feature has an axis of its own",
)
def names_the_turned_ones(layers):
    return list_layers(layers, lambda h: not stands_out(h))


@mutant(
    "find_privileged",
    "All your numbers are one too high: the first layer is 0.",
    clause="counted from 0",
)
def counts_from_one(layers):
    return [(i + 1) % len(layers) for i in list_layers(layers, stands_out)]


@mutant("find_privileged", says="You answer the same", clause="take from it")
def names_every_layer(layers):
    return list(range(len(layers)))


@alternative("find_privileged")
def by_how_many_axes_take_part(layers):
    def share(h):
        h = h[h.norm(dim=1) > h.norm(dim=1).mean()].double()
        return (h.square().sum(dim=1).square() / h.pow(4).sum(dim=1)).mean()

    found = set()
    for i, h in enumerate(layers):
        h = (h - h.median(dim=0).values) / h.std(dim=0)
        if share(h) < 0.75 * min(share(h @ turn) for turn in draw_turns(h.shape[1])):
            found.add(i)
    return found


@alternative("find_privileged")
def by_the_sum_of_sizes(layers):
    """The mean absolute value is least in the basis in which activity is most sparse."""
    found = []
    for i, h in enumerate(layers):
        scaled = (h - h.mean(dim=0)) / h.std(dim=0)
        turned = torch.stack([(scaled @ turn).abs().mean() for turn in draw_turns(h.shape[1])])
        if scaled.abs().mean() < turned.mean() - 5 * turned.std():
            found.append(i)
    return torch.tensor(found)


# tell_encodings -----------------------------------------------------------------------------------


def explain(guess, value):
    return 1 - (guess - value).square().mean(dim=0) / value.var(dim=0)


def read_linearly(hidden, values, fit=slice(None, None, 2), test=slice(1, None, 2), constant=True):
    h = torch.cat([hidden, torch.full((len(hidden), 1), float(constant))], dim=1).double()
    readout = torch.linalg.pinv(h[fit]) @ values[fit].double()
    return explain(h[test] @ readout, values[test].double())


def read_similar(hidden, values, k=10, itself=False):
    distance = torch.cdist(hidden, hidden)
    distance = distance if itself else distance.fill_diagonal_(torch.inf)
    return explain(values[distance.topk(k, largest=False).indices].mean(dim=1), values)


def name_encodings(linear, similar, least=0.9, some=0.2):
    pairs = zip(linear, similar, strict=True)
    return [
        "linear" if line >= least else "nonlinear" if alike > some else "absent"
        for line, alike in pairs
    ]


@mutant(
    "tell_encodings",
    "You call linear what a linear readout gets half of, such as a value on a circle.",
    clause="explains at least 90% of its variance",
)
def is_content_with_half(hidden, values):
    return name_encodings(read_linearly(hidden, values), read_similar(hidden, values), least=0.5)


@mutant(
    "tell_encodings",
    "You judge the linear readout on the inputs that it was fitted to: with many hidden numbers it "
    "explains more there than it has found.",
    clause="on inputs that it was not fitted to",
)
def judges_where_it_fitted(hidden, values):
    everything = slice(None)
    linear = read_linearly(hidden, values, everything, everything)
    return name_encodings(linear, read_similar(hidden, values))


@mutant(
    "tell_encodings",
    "Your readout has no constant, so a value that is never near 0 cannot be read.",
    clause="a linear readout with a constant",
)
def forgets_the_constant_of_the_readout(hidden, values):
    linear = read_linearly(hidden, values, constant=False)
    return name_encodings(linear, read_similar(hidden, values))


@mutant("tell_encodings", name="knows_nothing_absent", clause="can be explained on other inputs")
def lets_inputs_explain_themselves(hidden, values):
    similar = read_similar(hidden, values, k=1, itself=True)
    return name_encodings(read_linearly(hidden, values), similar)


@mutant(
    "tell_encodings",
    "You call absent whatever no direction shows; some of it can be told from similar inputs.",
    clause="inputs with similar states have similar values",
)
def knows_directions_only(hidden, values):
    linear = read_linearly(hidden, values)
    return name_encodings(linear, torch.zeros(len(linear)))


@mutant(
    "tell_encodings",
    "You call nonlinear whatever no direction shows; of some values the state says nothing. An "
    "input that counts among those similar to it would explain itself.",
    clause="less than a tenth of its variance can be explained",
)
def knows_nothing_absent(hidden, values):
    linear = read_linearly(hidden, values)
    return name_encodings(linear, torch.ones(len(linear)))


@mutant(
    "tell_encodings",
    "You call nonlinear whatever can be explained a little; at least half of the variance is asked "
    "for.",
    clause="at least half of its variance can be explained",
)
def is_content_with_a_little(hidden, values):
    similar = read_similar(hidden, values, k=50)
    return name_encodings(read_linearly(hidden, values), similar, some=0.0)


@mutant(
    "tell_encodings",
    "You call nothing linear: where a readout that adds up all hidden numbers tells a value, it is "
    "linear, whatever else tells it, too.",
    clause="Say for each value whether a hidden state holds it linearly",
)
def prefers_nonlinear(hidden, values):
    return name_encodings(read_linearly(hidden, values), read_similar(hidden, values), least=2.0)


@mutant(
    "tell_encodings",
    "You look at single hidden numbers; a linear readout may add them up.",
    clause="a linear readout",
)
def looks_at_single_numbers(hidden, values):
    joint = torch.corrcoef(torch.cat([hidden, values], dim=1).T)
    best = joint[: hidden.shape[1], hidden.shape[1] :].square().amax(dim=0)
    return name_encodings(best, read_similar(hidden, values))


@mutant(
    "tell_encodings",
    "You give the words in reverse order: the first is for value 0.",
    clause="Return one of these words for each value, in order.",
)
def reverses_the_order(hidden, values):
    return name_encodings(read_linearly(hidden, values), read_similar(hidden, values))[::-1]


@mutant(
    "tell_encodings",
    "You say the same word for every value.",
    clause="`values[n, j]` what value j is for this input",
)
def says_one_word(hidden, values):
    return ["nonlinear"] * values.shape[1]


@alternative("tell_encodings")
def by_ridge_and_folds(hidden, values):
    h = torch.cat([hidden - hidden.mean(dim=0), torch.ones(len(hidden), 1)], dim=1).double()
    v = values.double()
    folds = torch.randperm(len(h), generator=torch.Generator().manual_seed(0)).chunk(5)
    linear, similar = torch.zeros_like(v), torch.zeros_like(v)
    for fold in folds:
        rest = torch.ones(len(h)).bool()
        rest[fold] = False
        gram = h[rest].T @ h[rest] + 1e-3 * torch.eye(h.shape[1]).double()
        linear[fold] = h[fold] @ torch.linalg.solve(gram, h[rest].T @ v[rest])
        nearest = torch.cdist(h[fold], h[rest]).topk(5, largest=False).indices
        similar[fold] = v[rest][nearest].mean(dim=1)
    return tuple(name_encodings(explain(linear, v), explain(similar, v)))


@alternative("tell_encodings")
def by_a_kernel(hidden, values):
    """Weigh all other inputs by their likeness, after a projection on the main directions."""
    h = hidden - hidden.mean(dim=0)
    h = h @ torch.linalg.svd(h, full_matrices=False).Vh[:6].T
    weight = torch.exp(-torch.cdist(h, h).square() / 0.05).fill_diagonal_(0)
    guess = weight @ values / weight.sum(dim=1, keepdim=True).clamp(min=1e-9)
    guess = torch.where(weight.sum(dim=1, keepdim=True) > 1e-6, guess, values.mean(dim=0))
    return name_encodings(read_linearly(hidden, values), explain(guess, values))

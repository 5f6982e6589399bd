"""List wrong answers to lesson 13 that the grader rejects by name, and unusual right ones."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from mini_transformer import methods
from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "answer_without_labels": ["It tells nothing about truth."],
    "find_used_variables": ["(For which of", "(Any two values"],
}

# tell_what_sites_hold -----------------------------------------------------------------------------


def make_folds(groups, n, seed=0):
    """Put each group into one of n folds, at random."""
    values, which = groups.unique(return_inverse=True)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    return (order % n)[which]


def guess(x, labels, new):
    """Label new rows by least squares on the others."""
    mean = x[~new].mean(0)
    rows = (x[~new] - mean).double()
    sign = 2.0 * labels[~new].double() - 1
    share = torch.linalg.solve(rows @ rows.T + torch.eye(len(rows)), sign - sign.mean())
    return ((x[new] - mean).double() @ rows.T @ share + sign.mean() > 0).long()


def read(x, labels, parts):
    """Measure the share of right answers, part by part, of a probe of the other parts."""
    right = [guess(x, labels, parts == part) == labels[parts == part] for part in parts.unique()]
    return torch.cat(right).float().mean().item()


def read_types(x, labels, types, n=4):
    return read(x, labels, make_folds(types, n))


def read_rows(x, labels, n=4):
    return read(x, labels, make_folds(torch.arange(len(labels)), n))


def read_own(x, labels):
    return methods.fit_probe(x, labels).accuracy(x, labels)


def tell(sites, new_types, new_rows, least=0.8):
    """Name the kind of each site by two measures of accuracy."""
    kinds = {}
    for name, x in sites.items():
        by_row = "type" if new_rows(x) >= least else "nothing"
        kinds[name] = "label" if new_types(x) >= least else by_row
    return kinds


@mutant(
    "tell_what_sites_hold",
    "You try the probe on rows that it was trained on; with so many dimensions it is right there "
    "whatever the labels.",
    clause="it reads the label in new rows of the types that it was trained on",
)
def tests_on_its_own_rows(sites, labels, types):
    return tell(sites, lambda x: read_types(x, labels, types), lambda x: read_own(x, labels))


@mutant(
    "tell_what_sites_hold",
    "You leave out rows but never whole types, so a probe that knows each word by heart passes for "
    "one that reads the label.",
    clause="The word is of type `types[i]`",
)
def never_leaves_out_types(sites, labels, types):
    return tell(sites, lambda x: read_rows(x, labels), lambda x: read_rows(x, labels))


@mutant(
    "tell_what_sites_hold",
    "Sites that hold the type and no more look empty to you: have the rows that you try the probe "
    "on a type that it was trained on? Equal types stand together.",
    clause='"nothing": it reads the label in neither',
)
def never_leaves_out_rows(sites, labels, types):
    return tell(sites, lambda x: read_types(x, labels, types), lambda x: 0.0)


@mutant(
    "tell_what_sites_hold",
    name="never_leaves_out_rows",
    clause="All words of one type have the same label and stand together",
)
def splits_in_the_middle(sites, labels, types):
    half = len(labels) // 2
    parts = (torch.arange(len(labels)) >= half).long()
    return tell(sites, lambda x: read_types(x, labels, types), lambda x: read(x, labels, parts))


@mutant(
    "tell_what_sites_hold",
    "You have the labels 'label' and 'type' the wrong way round.",
    clause="Say of every site whether a linear probe finds the label there, only the type, or",
)
def swaps_label_and_type(sites, labels, types):
    kinds = tell(sites, lambda x: read_types(x, labels, types), lambda x: read_rows(x, labels))
    swap = {"label": "type", "type": "label", "nothing": "nothing"}
    return {name: swap[kind] for name, kind in kinds.items()}


@mutant(
    "tell_what_sites_hold",
    "You are content with a little more than half; the task asks for 80%.",
    clause="To read the label means: to be right in at least 80% of such rows",
)
def asks_for_more_than_half(sites, labels, types):
    return tell(
        sites, lambda x: read_types(x, labels, types), lambda x: read_rows(x, labels), least=0.55
    )


@mutant(
    "tell_what_sites_hold",
    "You ask for hardly any mistake; the task asks for 80%.",
    clause="at least 80% of such rows",
)
def asks_for_all(sites, labels, types):
    return tell(
        sites, lambda x: read_types(x, labels, types), lambda x: read_rows(x, labels), least=0.995
    )


@mutant(
    "tell_what_sites_hold",
    "You go by how far apart the two labels' means are, which is the loudness of a site; no probe "
    "is tried on anything.",
    clause="`sites[name][i]` is what the model holds at that site for word i",
)
def compares_the_means(sites, labels, types):
    gaps = {
        name: (x[labels == 1].mean(0) - x[labels == 0].mean(0)).norm() for name, x in sites.items()
    }
    order = sorted(gaps, key=lambda name: -float(gaps[name]))
    kinds = ["label"] * 2 + ["type"] * 2 + ["nothing"] * 2
    return dict(zip(order, kinds, strict=True))


@mutant(
    "tell_what_sites_hold",
    "A site that is wider than there are rows need not be empty: you never try a probe there.",
    clause="Sites may be wider than there are rows",
)
def calls_wide_sites_empty(sites, labels, types):
    kinds = tell(sites, lambda x: read_types(x, labels, types), lambda x: read_rows(x, labels))
    return {
        name: "nothing" if sites[name].shape[1] > len(labels) else kind
        for name, kind in kinds.items()
    }


@mutant(
    "tell_what_sites_hold",
    "You call a site 'type' that holds the label as well (by selectivity, or as you ask about new "
    "rows first). There control labels are learned, too: new types decide.",
    clause='"type": it reads the label in new rows',
)
def goes_by_selectivity(sites, labels, types):
    kinds = {}
    for name, x in sites.items():
        own = read_rows(x, labels)
        control = [methods.draw_control_labels(types, labels, seed) for seed in range(5)]
        other = sum(read_rows(x, each) for each in control) / 5
        kinds[name] = "nothing" if own < 0.8 else "label" if own - other > 0.05 else "type"
    return kinds


@mutant(
    "tell_what_sites_hold",
    "You give a row the label of the nearest one, which is no linear probe: where two coins hold "
    "the label together, a linear one finds nothing.",
    clause="whether a linear probe finds the label there",
)
def asks_the_nearest_row(sites, labels, types):
    def near(x, parts):
        far = torch.cdist(x, x) + 1e9 * (parts[:, None] == parts)
        return (labels[far.argmin(1)] == labels).float().mean()

    new_types, new_rows = make_folds(types, 4), make_folds(torch.arange(len(labels)), 4)
    return tell(sites, lambda x: near(x, new_types), lambda x: near(x, new_rows))


@mutant("tell_what_sites_hold", name="goes_by_selectivity", clause="but not in new types")
def asks_about_new_rows_first(sites, labels, types):
    kinds = tell(sites, lambda x: read_types(x, labels, types), lambda x: read_rows(x, labels))
    return {name: "type" if kind == "label" else kind for name, kind in kinds.items()}


@mutant(
    "tell_what_sites_hold",
    "You give every site the same kind.",
    clause="the probe reads the label also in types that it was not trained on",
)
def names_every_site_a_label(sites, labels, types):
    return dict.fromkeys(sites, "label")


@alternative("tell_what_sites_hold")
def by_leaving_out_one_type_at_a_time(sites, labels, types):
    position = torch.arange(len(types)) - (types[:, None] == types).int().argmax(1)
    return tell(sites, lambda x: read(x, labels, types), lambda x: read(x, labels, position))


@alternative("tell_what_sites_hold")
def by_the_packages_probe(sites, labels, types):
    half = len(labels) // 2
    parts = [make_folds(groups, 4, seed=3) for groups in (types, torch.arange(2 * half))]
    kinds = {}
    for name, x in sites.items():
        shares = []
        for part in parts:
            right = torch.zeros(len(labels))
            for i in range(4):
                probe = methods.fit_probe(x[part != i], labels[part != i], penalty=0.1)
                right[part == i] = (probe.predict(x[part == i]) == labels[part == i]).float()
            shares.append(right.mean() >= 0.8)
        kinds[name] = "label" if shares[0] else "type" if shares[1] else "nothing"
    return kinds


@alternative("tell_what_sites_hold")
def by_the_difference_of_means(sites, labels, types):
    def right(x, parts):
        hits = []
        for out in (parts == part for part in parts.unique()):
            low, high = (x[~out & (labels == value)].mean(0) for value in (0, 1))
            said = (x[out] - (low + high) / 2) @ (high - low) > 0
            hits.append(said == (labels[out] == 1))
        return torch.cat(hits).float().mean()

    new_types, new_rows = make_folds(types, 4), make_folds(torch.arange(len(labels)), 4)
    return tell(sites, lambda x: right(x, new_types), lambda x: right(x, new_rows))


# fit_without_shortcut -----------------------------------------------------------------------------


def fit_weighted(x, labels, weight=None, penalty=0.01, bias=True):
    """Fit a logistic regression whose rows have weights."""
    mean = x.mean(0) if bias else torch.zeros(x.shape[1])
    weight = torch.ones(len(x)) if weight is None else weight
    w = torch.zeros(x.shape[1], requires_grad=True)
    b = torch.zeros((), requires_grad=bias)
    given = [w, b] if bias else [w]
    optimizer = torch.optim.LBFGS(given, max_iter=100, line_search_fn="strong_wolfe")

    def close():
        optimizer.zero_grad()
        scores = (x - mean) @ w + b
        loss = binary_cross_entropy_with_logits(scores, labels.float(), weight, reduction="sum")
        loss = loss + penalty * w.square().sum()
        loss.backward()
        return loss

    optimizer.step(close)
    w = w.detach()
    return w, float(b.detach() - mean @ w)


def weigh(*groups):
    """Give each group of rows the same weight in all."""
    which = sum(2**i * group for i, group in enumerate(groups))
    return 1 / torch.bincount(which, minlength=4)[which]


@mutant(
    "fit_without_shortcut",
    "Your probe is the plain one: where labels and shortcut agree so often, the shortcut is the "
    "better guess.",
    clause="Fit a linear probe for the labels that does not rest on a shortcut",
)
def fits_a_plain_probe(activations, labels, shortcut):
    return fit_weighted(activations, labels)


@mutant(
    "fit_without_shortcut",
    "You train on the rows where label and shortcut agree, which say nothing about which is which.",
    clause="They agree in most rows and differ in some",
)
def keeps_the_rows_that_agree(activations, labels, shortcut):
    kept = labels == shortcut
    return fit_weighted(activations[kept], labels[kept])


@mutant(
    "fit_without_shortcut",
    "You train on the rows where label and shortcut differ: there the shortcut tells the label "
    "again, the other way round.",
    clause="the four pairs of label and shortcut are equally frequent",
)
def keeps_the_rows_that_differ(activations, labels, shortcut):
    kept = labels != shortcut
    return fit_weighted(activations[kept], labels[kept])


@mutant(
    "fit_without_shortcut",
    "Your direction reads the shortcut, not the label.",
    clause="Labels and shortcut are 0 or 1",
)
def fits_the_shortcut(activations, labels, shortcut):
    return fit_weighted(activations, shortcut)


@mutant(
    "fit_without_shortcut",
    "Your direction is good, your bias is not: the activations do not lie around 0, and what you "
    "subtract from them before the fit belongs into the bias.",
    clause="Return the probe's direction w and its bias b",
)
def misses_the_bias(activations, labels, shortcut):
    return fit_weighted(activations, labels, weigh(labels, shortcut))[0], 0.0


@mutant(
    "fit_without_shortcut",
    "Your probe answers 1 where it should answer 0.",
    clause="the probe answers 1 where `activations @ w + b > 0`",
)
def turns_the_sign(activations, labels, shortcut):
    w, b = fit_weighted(activations, labels, weigh(labels, shortcut))
    return -w, -b


@mutant(
    "fit_without_shortcut",
    "You make both labels equally heavy, but within each label the shortcut is still nearly always "
    "the same.",
    clause="It is tried on fresh rows. There the shortcut tells nothing",
)
def balances_the_labels_only(activations, labels, shortcut):
    return fit_weighted(activations, labels, weigh(labels))


@mutant(
    "fit_without_shortcut",
    "You make rows that agree as heavy as rows that differ; of the latter most have one label, so "
    "the four pairs are not equally heavy.",
    clause="more often for one label than for the other",
)
def balances_agreement_only(activations, labels, shortcut):
    return fit_weighted(activations, labels, weigh((labels == shortcut).long()))


@mutant(
    "fit_without_shortcut",
    "You take out the shortcut's mean difference, which holds most of the label's too, as they "
    "nearly always agree.",
    clause="In each of the four, the share of right answers must be at most 0.1 below",
)
def takes_out_the_mean_difference(activations, labels, shortcut):
    d = activations[shortcut == 1].mean(0) - activations[shortcut == 0].mean(0)
    d = d / d.norm()
    w, b = fit_weighted(activations - (activations @ d)[:, None] * d, labels)
    w = w - (w @ d) * d
    return w, b


@mutant(
    "fit_without_shortcut",
    "Your w is the difference of the two labels' means, which points along the shortcut more than "
    "along the label.",
    clause="It is tried on fresh rows",
)
def takes_the_difference_of_means(activations, labels, shortcut):
    high, low = (activations[labels == value].mean(0) for value in (1, 0))
    w = high - low
    return w, -float((high + low) @ w) / 2


@alternative("fit_without_shortcut")
def by_drawing_equally_many_of_each(activations, labels, shortcut):
    generator = torch.Generator().manual_seed(0)
    pair = 2 * labels + shortcut
    n = int(torch.bincount(pair).max())
    rows = []
    for value in range(4):
        own = (pair == value).nonzero().flatten()
        rows.append(own[torch.randint(len(own), (n,), generator=generator)])
    rows = torch.cat(rows)
    (W, b) = methods.fit_probe(activations[rows], labels[rows]).layers[0]
    return W.squeeze(1), b.item()


@alternative("fit_without_shortcut")
def by_the_means_of_the_four(activations, labels, shortcut):
    pair = 2 * labels + shortcut
    means = torch.stack([activations[pair == value].mean(0) for value in range(4)])
    left = activations - means[pair]
    step = (means[2] - means[0] + means[3] - means[1]) / 2
    other = (means[1] - means[0] + means[3] - means[2]) / 2
    inverse = torch.linalg.inv(left.T @ left / len(left))
    share = (step @ inverse @ other) / (other @ inverse @ other)
    w = inverse @ (step - share * other)
    return w, -float(means.mean(0) @ w)


# answer_without_labels ----------------------------------------------------------------------------


def centre(rows, groups=None):
    """Subtract the mean, or that of each group."""
    if groups is None:
        return rows - rows.mean(0)
    new = rows.clone()
    for value in groups.unique():
        new[groups == value] -= rows[groups == value].mean(0)
    return new


def split(difference):
    """Answer by the direction along which differences are largest."""
    axis = torch.linalg.svd(difference, full_matrices=False).Vh[0]
    return (difference @ axis > 0).long()


@mutant(
    "answer_without_labels",
    "Your answers are what was known; that is the other feature that pairs disagree on.",
    clause="`known[i]` is 1 if the first of pair i has it, and 0 if the second has it",
)
def returns_the_known(positive, negative, known):
    return known


@mutant(
    "answer_without_labels",
    "Your answers are the opposite of what was known; that is the other feature.",
    clause="`known[i]` is 1 if the first of pair i has it",
)
def returns_the_opposite_of_the_known(positive, negative, known):
    return 1 - known


@mutant(
    "answer_without_labels",
    says="what was known",
    clause="Such pairs also disagree on another feature, which may be louder than truth",
)
def ignores_the_known(positive, negative, known):
    return split(centre(positive) - centre(negative))


@mutant(
    "answer_without_labels",
    "You take it that truth is the second largest difference: the known feature may be louder or "
    "quieter than truth.",
    clause="which may be louder than truth",
)
def takes_the_second_difference(positive, negative, known):
    difference = centre(positive) - centre(negative)
    axis = torch.linalg.svd(difference, full_matrices=False).Vh[1]
    return (difference @ axis > 0).long()


@mutant(
    "answer_without_labels",
    "You look at one statement of each pair, where what both share is loudest; the two statements "
    "disagree on what is true.",
    clause="are activations of two statements, of which exactly one is true",
)
def looks_at_one_of_the_pair(positive, negative, known):
    return split(centre(positive, known))


@mutant(
    "answer_without_labels",
    "You answer each half of the pairs by itself, and the two halves got opposite signs: the "
    "answers must be right for all pairs, or wrong for all.",
    clause="The opposite answer for *all* pairs is as good",
)
def answers_each_group_by_itself(positive, negative, known):
    answers = torch.zeros_like(known)
    for value in (0, 1):
        rows = known == value
        own = split(centre(positive[rows]) - centre(negative[rows]))
        answers[rows] = own if own[0] == 1 else 1 - own
    return answers


@mutant(
    "answer_without_labels",
    "You add the two statements of a pair, which cancels all that they disagree on.",
    clause="Row i of `positive` and row i of `negative`",
)
def adds_the_pair(positive, negative, known):
    return split(centre(positive, known) + centre(negative, known))


@mutant(
    "answer_without_labels",
    "You leave the two sets where they are, and find which set a statement is from.",
    clause="First statements lie apart from second ones",
)
def forgets_to_centre(positive, negative, known):
    return split(positive - negative)


@mutant(
    "answer_without_labels",
    "Your direction is good, but you cut at 0 where the two sets still lie apart: subtract the "
    "mean of what you cut, too.",
    clause="whatever is true",
)
def cuts_where_the_sets_lie_apart(positive, negative, known):
    difference = positive - negative
    axis = torch.linalg.svd(centre(difference, known), full_matrices=False).Vh[0]
    return (difference @ axis > 0).long()


@mutant(
    "answer_without_labels",
    "You cut in the middle of the pairs' scores without the sign of what was known: a pair answers "
    "1 where it scores high for its group.",
    clause="Return 1 where the first is true and 0 where the second is",
)
def compares_truth_with_the_known(positive, negative, known):
    return split(centre(positive, known) - centre(negative, known)) ^ known


@mutant(
    "answer_without_labels",
    "You answer only the pairs of which the first has the known feature; the others all get a 0.",
    clause="for at least 95% of the pairs",
)
def answers_one_group_only(positive, negative, known):
    return split(centre(positive, known) - centre(negative, known)) * known


@alternative("answer_without_labels")
def by_the_largest_difference(positive, negative, known):
    return split(centre(positive, known) - centre(negative, known))


@alternative("answer_without_labels")
def by_regression_on_the_known(positive, negative, known):
    difference = positive - negative
    design = torch.stack([torch.ones(len(known)), known.float()], dim=1)
    left = difference - design @ torch.linalg.lstsq(design, difference).solution
    return 1 - split(left)


@alternative("answer_without_labels")
def by_ccs_without_the_known_direction(positive, negative, known):
    difference = centre(positive - negative)
    d = difference[known == 1].mean(0) - difference[known == 0].mean(0)
    d = d / d.norm()
    first, second = (rows - (rows @ d)[:, None] * d for rows in (positive, negative))
    return methods.answer_pairs(methods.fit_ccs(first, second, seed=4), first, second)


# find_used_variables ------------------------------------------------------------------------------


def average(model, tokens, value, name):
    """Average what the site holds for each value."""
    site = model.run_with_cache(tokens)[1][name][:, -1]
    return torch.stack([site[value == v].mean(0) for v in range(3)])


def say(model, tokens, hooks=()):
    return model.run_with_hooks(tokens, fwd_hooks=list(hooks))[:, -1].argmax(-1)


def turn(model, tokens, value, name, position=-1, step=1, into=None):
    """Return which answers turn when the value is exchanged for one that is `step` further."""
    means = average(model, tokens, value, name)
    change = means[(value + step) % 3] - means[value]

    def add(x, hook):
        x[:, position] += change

    return say(model, tokens, [(into or name, add)]) != say(model, tokens)


@mutant(
    "find_used_variables",
    "You change the prompt: what the model reads of a variable at its own position then counts, "
    "too, but the task asks what is read from the site.",
    clause="The site is the stream `name` at the last position",
)
def changes_the_tokens(model, tokens, values, name):
    said = say(model, tokens)
    columns = tokens.T.tolist()
    used = []
    for variable, value in values.items():
        changed = tokens.clone()
        changed[:, columns.index(value.tolist())] = (value + 1) % 3
        if (say(model, changed) != said).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    "You list every variable, as does who lists what can be read, or changes more than one value "
    "(the whole stream, or the own value is left in): what the model reads is another question.",
    clause="List the variables that a model not only holds at one site, but reads from there",
)
def lists_what_can_be_read(model, tokens, values, name):
    site = model.run_with_cache(tokens)[1][name][:, -1]
    return [
        variable
        for variable, value in values.items()
        if methods.fit_probe(site, value).accuracy(site, value) > 0.9
    ]


@mutant("find_used_variables", name="lists_what_can_be_read")
def exchanges_the_whole_stream(model, tokens, values, name):
    site = model.run_with_cache(tokens)[1][name][:, -1]
    said = say(model, tokens)
    used = []
    for variable, value in values.items():
        rows = torch.stack([((value == (v + 1) % 3).nonzero()[0, 0]) for v in value])

        def put(x, hook, rows=rows):
            x[:, -1] = site[rows]

        if (say(model, tokens, [(name, put)]) != said).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    "You list the variables that are loudest at the site: how loud one is does not say who reads "
    "it.",
    clause="its mean over the prompts with a value differs from value to value",
)
def lists_the_loudest(model, tokens, values, name):
    size = {
        variable: average(model, tokens, value, name).std(0).norm().item()
        for variable, value in values.items()
    }
    return sorted(values, key=lambda variable: -size[variable])[:3]


@mutant(
    "find_used_variables",
    "You multiply what the site holds by the unembedding, and miss what a later head reads there.",
    clause="A variable is used if at least one prompt in ten is answered otherwise",
)
def multiplies_by_the_unembedding(model, tokens, values, name):
    logits = model(tokens)[:, -1]
    used = []
    for variable, value in values.items():
        means = average(model, tokens, value, name)
        change = (means[(value + 1) % 3] - means[value]) @ model.W_U
        if ((logits + change).argmax(-1) != logits.argmax(-1)).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    "You list a variable if any logit moves, or any answer turns; the task asks for one answer in "
    "ten.",
    clause="at least one prompt in ten is answered otherwise",
)
def asks_for_any_answer(model, tokens, values, name):
    return [key for key, value in values.items() if turn(model, tokens, value, name).any()]


@mutant(
    "find_used_variables",
    "You ask for more than half of the answers, where the task asks for one in ten.",
    clause="at least one prompt in ten",
)
def asks_for_half(model, tokens, values, name):
    return [
        key
        for key, value in values.items()
        if turn(model, tokens, value, name).float().mean() > 0.5
    ]


@mutant(
    "find_used_variables",
    "You take the value out, with the mean in its place, which is half a move; exchange it for "
    "another value.",
    clause="once its value is exchanged there for another one",
)
def takes_the_value_out(model, tokens, values, name):
    used = []
    for variable, value in values.items():
        means = average(model, tokens, value, name)
        change = means.mean(0) - means[value]

        def add(x, hook, change=change):
            x[:, -1] += change

        if (say(model, tokens, [(name, add)]) != say(model, tokens)).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    "You exchange the value 0 for 1, and look at no other prompts.",
    clause="0, 1 or 2",
)
def exchanges_zero_for_one(model, tokens, values, name):
    return [
        key
        for key, value in values.items()
        if turn(model, tokens, value, name)[value == 0].float().mean() >= 0.1
    ]


@mutant(
    "find_used_variables",
    name="lists_what_can_be_read",
    clause="in place of what it holds for its own",
)
def adds_without_taking_out(model, tokens, values, name):
    used = []
    for variable, value in values.items():
        change = average(model, tokens, value, name)[(value + 1) % 3]

        def add(x, hook, change=change):
            x[:, -1] += change

        if (say(model, tokens, [(name, add)]) != say(model, tokens)).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    says="You name nothing",
    clause="To exchange a value is to put what the site holds for another value, on average, in",
)
def adds_zero_on_average(model, tokens, values, name):
    said = say(model, tokens)
    used = []
    for variable, value in values.items():
        means = average(model, tokens, value, name)
        mean_change = (means - means.roll(1, 0)).mean(0)

        def add(x, hook, change=mean_change):
            x[:, -1] += change

        if (say(model, tokens, [(name, add)]) != said).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    "You exchange the value at all positions; the site is at the last.",
    clause="The site is the stream `name` at the last position",
)
def exchanges_at_all_positions(model, tokens, values, name):
    used = []
    for variable, value in values.items():
        means = average(model, tokens, value, name)
        change = (means[(value + 1) % 3] - means[value]).unsqueeze(1)

        def add(x, hook, change=change):
            x += change

        if (say(model, tokens, [(name, add)]) != say(model, tokens)).float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    says="You name nothing",
    clause="The answer is the token with the highest logit at the last position",
)
def counts_answers_at_all_positions(model, tokens, values, name):
    said = model(tokens).argmax(-1)
    used = []
    for variable, value in values.items():
        means = average(model, tokens, value, name)
        change = means[(value + 1) % 3] - means[value]

        def add(x, hook, change=change):
            x[:, -1] += change

        turned = model.run_with_hooks(tokens, fwd_hooks=[(name, add)]).argmax(-1) != said
        if turned.float().mean() >= 0.1:
            used.append(variable)
    return used


@mutant(
    "find_used_variables",
    "You list what is not used.",
    clause="Return the names of the variables that are used",
)
def lists_the_unused(model, tokens, values, name):
    return [
        key
        for key, value in values.items()
        if turn(model, tokens, value, name).float().mean() < 0.1
    ]


@mutant(
    "find_used_variables",
    "You exchange the value at the first position; the site is at the last.",
    clause="for another one, and nothing else is",
)
def exchanges_at_the_first_position(model, tokens, values, name):
    return [
        key
        for key, value in values.items()
        if turn(model, tokens, value, name, position=0).float().mean() >= 0.1
    ]


@mutant("find_used_variables", says="name")
def names_the_first_two(model, tokens, values, name):
    return list(values)[:2]


@alternative("find_used_variables")
def by_another_prompts_value_in_the_span_of_the_means(model, tokens, values, name):
    site = model.run_with_cache(tokens)[1][name][:, -1]
    said = say(model, tokens)
    used = []
    for variable, value in values.items():
        means = torch.stack([site[value == v].mean(0) for v in range(3)])
        basis = torch.linalg.svd(means - means.mean(0), full_matrices=False).Vh[:2]
        others = torch.stack([(value == (v + 1) % 3).nonzero()[0, 0] for v in value])

        def put(x, hook, basis=basis, others=others):
            x[:, -1] += (site[others] - x[:, -1]) @ basis.T @ basis

        if (say(model, tokens, [(name, put)]) != said).float().mean() >= 0.1:
            used.append(variable)
    return used


@alternative("find_used_variables")
def by_starting_behind_the_site(model, tokens, values, name):
    layer = int(name.split(".")[1])
    resid = model(tokens, stop_at_layer=layer)
    said = model(resid=resid, start_at_layer=layer)[:, -1].argmax(-1)
    used = set()
    for variable, value in values.items():
        members = one_hot(value, 3).float()
        means = torch.linalg.solve(members.T @ members, members.T @ resid[:, -1])
        changed = resid.clone()
        changed[:, -1] += members.roll(1, 1) @ means - members @ means
        turned = model(resid=changed, start_at_layer=layer)[:, -1].argmax(-1) != said
        if turned.float().mean() >= 0.1:
            used.add(variable)
    return used

"""List wrong answers to lesson 11 that the grader rejects by name, and unusual right ones."""

import functools

import torch
from torch.nn.functional import cosine_similarity, normalize

from mini_transformer.course.grading.mutants import alternative, mutant, vary
from mini_transformer.methods import train_dictionary

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "find_features": ["You may train"],
    "find_preferred": ["No setting is a close call"],
    "find_detours": ["Each latent is on in some"],
}

# find_features ------------------------------------------------------------------------------------


@functools.cache
def remember(kept):
    return train_dictionary(kept.value, 2 * kept.n, "topk", k=3, steps=600, batch=128, lr=0.01)


class Kept:
    """Activations as a key, so that several answers share one training."""

    def __init__(self, value, n):
        self.value, self.n = value, n

    def __eq__(self, other):
        return self.n == other.n and torch.equal(self.value, other.value)

    def __hash__(self):
        return hash((self.n, float(self.value.sum())))


def train(activations, n):
    return remember(Kept(activations.clone(), n))


def pick(dictionary, activations, n, least=0.9):
    use = dictionary.encode(activations).sum(dim=0)
    found = []
    for latent in use.argsort(descending=True).tolist():
        cosines = dictionary.W_dec[found] @ dictionary.W_dec[latent]
        if len(found) < n and (cosines < least).all():
            found.append(latent)
    return dictionary.W_dec[found]


@mutant(
    "find_features",
    "You return principal directions: there are no more of them than dimensions, and they are at "
    "right angles. Features need not be.",
    clause="There are `n_features` features, more than dimensions.",
)
def takes_principal_directions(activations, n_features):
    x = activations - activations.mean(dim=0)
    return torch.linalg.svd(x, full_matrices=False).Vh


@mutant(
    "find_features",
    "You return activations themselves: each is a sum of two or three features.",
    clause="plus the sum of two or three features",
)
def takes_activations(activations, n_features):
    return normalize((activations - activations.mean(dim=0))[:n_features])


@mutant(
    "find_features",
    says="Each row must have length 1",
    clause="Return one direction per row, of length 1, in any order.",
)
def forgets_the_length(activations, n_features):
    return 2 * pick(train(activations, n_features), activations, n_features)


@mutant(
    "find_features",
    says="directions, but there are",
    clause="so leave out what you do not believe",
)
def returns_all_latents(activations, n_features):
    return train(activations, n_features).W_dec


@mutant(
    "find_features",
    "You train without anything that makes codes few: many other directions rebuild as well.",
    clause="Find the directions of the features of which activations are made.",
)
def trains_without_sparsity(activations, n_features):
    return train_dictionary(
        activations, n_features, "topk", k=n_features, steps=300, batch=128, lr=0.01
    ).W_dec


@mutant(
    "find_features",
    "Your directions have the wrong sign: amounts are positive.",
    clause="A feature adds its direction times an amount, always positive",
)
def returns_the_opposite(activations, n_features):
    return -pick(train(activations, n_features), activations, n_features)


@mutant(
    "find_features",
    "You return encoder columns, which say how to read a feature without its neighbours; the "
    "directions are the decoder's rows.",
    clause="A feature is found if a row of its own has a cosine above 0.9 with its direction.",
)
def returns_the_encoder(activations, n_features):
    return normalize(train(activations, n_features).W_enc.T)[:n_features]


@mutant(
    "find_features",
    "You take the first latents, as they come: some of them repeat each other, or are near no "
    "feature.",
    clause="rows for which there is no feature take from it",
)
def takes_the_first_latents(activations, n_features):
    return train(activations, n_features).W_dec[:n_features]


@mutant(
    "find_features",
    "You leave the constant in: it points your directions all the same way.",
    clause="Each activation is a constant, the same for all inputs",
)
def clusters_without_centring(activations, n_features):
    return cluster(activations, n_features)


def cluster(x, n_features):
    unit = normalize(x)
    centres = unit[:n_features]
    for _ in range(10):
        nearest = (unit @ centres.T).argmax(dim=1)
        groups = [unit[nearest == i] for i in range(n_features)]
        centres = normalize(torch.stack([g.mean(dim=0) if len(g) else unit[0] for g in groups]))
    return centres


@mutant(
    "find_features",
    "You return only half as many directions as there are features.",
    clause="Finding four in five is enough",
)
def returns_half(activations, n_features):
    return pick(train(activations, n_features), activations, n_features // 2)


@alternative("find_features")
def with_an_own_loop(activations, n_features):
    x = activations - activations.mean(dim=0)
    generator = torch.Generator().manual_seed(3)
    W_dec = normalize(torch.randn(2 * n_features, x.shape[1], generator=generator))
    W_enc, bias = W_dec.T.clone(), torch.zeros(2 * n_features)
    center = torch.zeros(x.shape[1])
    parameters = [p.requires_grad_() for p in (W_enc, bias, W_dec, center)]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(900):
        batch = x[torch.randint(len(x), (128,), generator=generator)]
        codes = torch.relu((batch - center) @ W_enc + bias)
        codes = codes * (codes >= codes.topk(3).values[:, -1:])
        error = (codes @ W_dec + center - batch).square().sum(dim=1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        W_dec.data = normalize(W_dec.data)
    codes = torch.relu((x - center) @ W_enc + bias).detach()
    codes = codes * (codes >= codes.topk(3).values[:, -1:])
    order = codes.sum(dim=0).argsort(descending=True)
    rows = []
    for i in order.tolist():
        row = W_dec[i].detach()
        if all(float(row @ other) < 0.8 for other in rows) and len(rows) < n_features:
            rows.append(row)
    return [row.double() for row in rows]


@alternative("find_features")
def by_another_architecture(activations, n_features):
    dictionary = train_dictionary(
        activations, 2 * n_features, "batchtopk", k=3, steps=900, batch=128, lr=0.01, seed=1
    )
    return pick(dictionary, activations, n_features, least=0.8)


# find_preferred -----------------------------------------------------------------------------------

NAMES = ("separate", "absorbing", "merged")
ROOT = 2**0.5


def list_preferred(
    share,
    penalty,
    nested,
    codes=lambda a, b, both: (
        a + b + 2 * both,
        a + b / ROOT + ROOT * both,
        a / ROOT + b + ROOT * both,
    ),
    errors=lambda a, b, both: (0 * a, b / 2, a / 2),
    first=lambda a, b, both: (b + both, b + 2 * both, a / 2 + b),
    join=lambda error, alone: (error + alone) / 2,
    best=torch.argmin,
    names=NAMES,
):
    """Name the best dictionaries; options stand for the clauses of the task."""
    parts = share.T
    losses = [
        torch.where(nested, join(error, alone), error) + penalty * code
        for code, error, alone in zip(codes(*parts), errors(*parts), first(*parts), strict=True)
    ]
    return [names[i] for i in best(torch.stack(losses), dim=0)]


wrong = vary("find_preferred", list_preferred)


@mutant(
    "find_preferred",
    "You take the same objective everywhere; where it is nested, the first latent counts, too.",
    clause="Where `nested[s]` holds, the squared error is that of all latents",
)
def ignores_nesting(share, penalty, nested):
    return list_preferred(share, penalty, torch.zeros_like(nested))


@mutant(
    "find_preferred",
    "You take the nested objective everywhere; `nested[s]` says where it holds.",
    clause="Where `nested[s]` holds",
)
def always_nests(share, penalty, nested):
    return list_preferred(share, penalty, torch.ones_like(nested))


@mutant(
    "find_preferred",
    "You leave the penalty out, so that only the error counts.",
    clause="plus `penalty[s]` times the sum of the codes",
)
def ignores_the_penalty(share, penalty, nested):
    return list_preferred(share, 0 * penalty, nested)


@mutant(
    "find_preferred",
    "You take the first setting's penalty for all; each setting has its own.",
    clause="The loss is the squared error plus `penalty[s]`",
)
def takes_the_first_penalty(share, penalty, nested):
    return list_preferred(share, penalty[:1].expand_as(penalty), nested)


@mutant(
    "find_preferred",
    "You exchange the columns for b alone and for both.",
    clause="with a only, with b only, and with both, in this order",
)
def exchanges_columns(share, penalty, nested):
    return list_preferred(share[:, [0, 2, 1]], penalty, nested)


@mutant(
    "find_preferred",
    "You never look at how often b is on by itself, where m rebuilds only half of it.",
    clause="or, if it has none, by m",
)
def forgets_the_lonely_child(share, penalty, nested):
    return list_preferred(share * torch.tensor([1.0, 0.0, 1.0]), penalty, nested)


wrong(
    "counts_codes",
    "You pay for the number of codes; the task asks for their sum.",
    clause="times the sum of the codes, averaged over inputs",
    codes=lambda a, b, both: (a + b + 2 * both, a + b + both, a + b + both),
)
wrong(
    "codes_m_by_one",
    "You give m the code 1 everywhere; for both features it is √2, for one it is 1/√2.",
    clause="Each code is the amount that rebuilds the input best",
    codes=lambda a, b, both: (a + b + 2 * both, a + b + both, a + b + both),
    errors=lambda a, b, both: (
        0 * a,
        (2 - ROOT) * b + (ROOT - 1) ** 2 * both,
        (2 - ROOT) * a + (ROOT - 1) ** 2 * both,
    ),
    first=lambda a, b, both: (
        b + both,
        b + 2 * both,
        (2 - ROOT) * a + b + (ROOT - 1) ** 2 * both,
    ),
)
wrong(
    "uses_two_latents_for_both",
    "You code inputs with both features by two latents in every dictionary; where m is, it is "
    "used alone.",
    clause="Where both features are on, m is used alone, if there is one.",
    codes=lambda a, b, both: (
        a + b + 2 * both,
        a + b / ROOT + 2 * both,
        a / ROOT + b + 2 * both,
    ),
    first=lambda a, b, both: (b + both, b + both, a / 2 + b + both),
)
wrong(
    "leaves_no_error",
    "You let m rebuild a single feature without an error: half of its square is left.",
    clause="A feature that is on by itself is coded by its own latent",
    errors=lambda a, b, both: (0 * a, 0 * a, 0 * a),
)
wrong(
    "adds_the_errors",
    "You add the two errors of a nested objective; they are averaged.",
    clause="(same codes, the second set to 0), averaged",
    join=lambda error, alone: error + alone,
)
wrong(
    "takes_the_first_alone",
    "You take the error of the first latent alone; it is averaged with that of all.",
    clause="that of all latents and that of the first latent alone",
    join=lambda error, alone: alone,
)
wrong(
    "recodes_for_the_first",
    "You let the first latent alone code inputs with both anew; its codes stay as they are.",
    clause="(same codes, the second set to 0)",
    first=lambda a, b, both: (b + both, b + both, a / 2 + b),
)
wrong(
    "reverses_the_latents",
    "You take the second latent alone where the first counts: order matters.",
    clause='"merged" has m and b, in this order',
    first=lambda a, b, both: (a + both, a + b / 2, a + 2 * both),
)
wrong(
    "names_the_worst",
    "You name the dictionary with the highest loss.",
    clause="Return the name of the dictionary with the lowest loss",
    best=torch.argmax,
)
wrong(
    "forgets_the_amounts",
    "You let features of amount 1 come as if their squared length were 1 together: an input with "
    "both has the square 2.",
    clause="There are two features, with directions a and b of length 1, at right angles.",
    first=lambda a, b, both: (b + both / 2, b + both, a / 2 + b),
)
wrong(
    "squares_the_amounts",
    "You pay for the squares of codes; the task asks for their sum.",
    clause="Their amount is 1 where they are on.",
    codes=lambda a, b, both: (
        a + b + 2 * both,
        a + b / 2 + 2 * both,
        a / 2 + b + 2 * both,
    ),
)


@mutant(
    "find_preferred",
    "You give the same name in every setting.",
    clause="Say which of three dictionaries an objective prefers",
)
def always_absorbing(share, penalty, nested):
    return ["absorbing"] * len(share)


@alternative("find_preferred")
def by_rebuilding_inputs(share, penalty, nested):
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    m = [1 / ROOT, 1 / ROOT]
    rows = {
        "separate": ([[1.0, 0.0], [0.0, 1.0]], [[1, 0], [0, 1], [1, 1]]),
        "absorbing": ([[1.0, 0.0], m], [[1, 0], [0, 1], [0, 1]]),
        "merged": ([m, [0.0, 1.0]], [[1, 0], [0, 1], [1, 0]]),
    }
    found = ()
    for how_often, price, is_nested in zip(share, penalty, nested, strict=True):
        losses = {}
        for name, (W, used) in rows.items():
            W, used = torch.tensor(W), torch.tensor(used)
            codes = x @ W.T * used
            errors = [(codes[:, :n] @ W[:n] - x).square().sum(dim=1) for n in (1, 2)]
            error = sum(errors) / 2 if is_nested else errors[1]
            losses[name] = float(how_often @ (error + price * codes.sum(dim=1)))
        found += (min(losses, key=losses.get),)
    return found


@alternative("find_preferred")
def by_drawing_inputs(share, penalty, nested):
    generator = torch.Generator().manual_seed(0)
    m = torch.tensor([1.0, 1.0]) / ROOT
    result = []
    for how_often, price, is_nested in zip(share.tolist(), penalty.tolist(), nested, strict=True):
        weights = torch.tensor([*how_often, 1 - sum(how_often)]).clamp(min=0)
        kind = weights.multinomial(40_000, True, generator=generator)
        a = ((kind == 0) | (kind == 2)).float()
        b = ((kind == 1) | (kind == 2)).float()
        x = torch.stack([a, b], dim=1)
        alone_a, alone_b, both = (torch.where(kind == i, 1.0, 0.0) for i in range(3))
        by_m = x @ m
        options = {
            "separate": (a, [1.0, 0.0], b, [0.0, 1.0]),
            "absorbing": (alone_a, [1.0, 0.0], by_m * (alone_b + both), m.tolist()),
            "merged": (by_m * (alone_a + both), m.tolist(), alone_b, [0.0, 1.0]),
        }
        losses = []
        for one, u, two, v in options.values():
            part = x - one[:, None] * torch.tensor(u)
            error = (part - two[:, None] * torch.tensor(v)).square().sum(dim=1).mean()
            if is_nested:
                error = (error + part.square().sum(dim=1).mean()) / 2
            losses.append(float(error + price * (one + two).mean()))
        result.append(NAMES[losses.index(min(losses))])
    return result


# find_absorbing -----------------------------------------------------------------------------------


def measure_purity(on, concept, codes):
    return (on & concept[:, None]).sum(dim=0) / on.sum(dim=0).clamp(min=1)


def list_absorbing(
    concept,
    codes,
    W_dec,
    main=None,
    gaps=None,
    few=0.05,
    pure=0.9,
    near=None,
    purity=measure_purity,
):
    """List absorbing latents; options stand for the clauses of the task."""
    on = codes > 0
    agree = (on == concept[:, None]).sum(dim=0)
    main = int(agree.argmax()) if main is None else main(on, concept, codes)
    gaps = concept & ~on[:, main] if gaps is None else gaps(on, concept, main)
    in_gaps = on[gaps].float().mean(dim=0)
    share = purity(on, concept, codes)
    cosine = cosine_similarity(W_dec, W_dec[main], dim=1)
    fits = cosine >= 0.4 if near is None else near(cosine, W_dec, main)
    return ((in_gaps >= few) & (share >= pure) & fits).nonzero().flatten().tolist()


wrong = vary("find_absorbing", list_absorbing)
wrong(
    "takes_the_most_faithful",
    says="You name",
    clause="the one with the fewest exceptions",
    main=lambda on, concept, codes: int(on[concept].float().mean(dim=0).argmax()),
)
wrong(
    "takes_the_purest",
    "Your main latent is one that is never on without the concept, but seldom with it.",
    clause="inputs with the concept in which it is off, and others in which it is on",
    main=lambda on, concept, codes: int(
        (measure_purity(on, concept, codes) - on.float().mean(dim=0) * 1e-4).argmax()
    ),
)
wrong(
    "takes_the_most_correlated",
    "Your main latent is that whose code correlates most with the concept; what counts is where it "
    "is on, not how much.",
    clause="inputs with the concept in which it is off, and others in which it is on",
    main=lambda on, concept, codes: int(
        torch.corrcoef(torch.cat([concept[None].float(), codes.T]))[0, 1:].nan_to_num().argmax()
    ),
)
wrong(
    "weighs_inputs_by_codes",
    "You weigh inputs by the latent's code; count them. A few loud exceptions do not make a latent "
    "impure.",
    clause="90% of the inputs in which it is on",
    purity=lambda on, concept, codes: codes[concept].sum(dim=0) / codes.sum(dim=0).clamp(min=1e-9),
)
wrong(
    "takes_the_loudest",
    says="You name",
    clause="a latent is on where its code is above 0",
    main=lambda on, concept, codes: int(codes[concept].sum(dim=0).argmax()),
)
wrong(
    "takes_all_silences_for_gaps",
    says="You name",
    clause="It always has gaps: inputs with the concept in which it is off.",
    gaps=lambda on, concept, main: ~on[:, main],
    few=0.05,
)
wrong(
    "asks_for_any_gap",
    "You name latents that are on in a gap or two; 5% of the gaps are asked for.",
    clause="it is on in at least 5% of the gaps",
    few=1e-9,
)
wrong(
    "ignores_the_gaps",
    "You never look at the gaps: latents that are on beside the main latent absorb nothing.",
    clause="of the gaps",
    few=0.0,
)
wrong(
    "asks_for_a_majority_of_gaps",
    says="You name",
    clause="in at least 5%",
    few=0.5,
)
wrong(
    "ignores_other_inputs",
    "You name latents that are often on without the concept.",
    clause="at least 90% of the inputs in which it is on have the concept",
    pure=0.0,
)
wrong(
    "is_content_with_a_majority",
    "You name latents that have the concept in most inputs, but in less than 90%.",
    clause="at least 90% of the inputs",
    pure=0.6,
)
wrong(
    "ignores_directions",
    "You never look at directions: a latent that comes with the concept need not write it.",
    clause="with that of the main latent is at least 0.4",
    near=lambda cosine, W_dec, main: torch.ones_like(cosine).bool(),
)
wrong(
    "ignores_signs",
    "You take the size of the cosine: a latent that writes the opposite absorbs nothing.",
    clause="the cosine of its direction",
    near=lambda cosine, W_dec, main: cosine.abs() >= 0.4,
)
wrong(
    "takes_dot_products",
    says="You name",
    clause="Rows of `W_dec` may have any length.",
    near=lambda cosine, W_dec, main: W_dec @ W_dec[main] >= 0.4,
)


@mutant(
    "find_absorbing",
    "You name the main latent itself; the task asks for those that take its place in the gaps.",
    clause="Return the numbers of these latents, in any order.",
)
def names_the_main_latent(concept, codes, W_dec):
    return [int(((codes > 0) == concept[:, None]).sum(dim=0).argmax())]


@mutant(
    "find_absorbing",
    "All your numbers are one too high: the first latent is 0.",
    clause="Return the numbers of these latents",
)
def counts_absorbing_from_one(concept, codes, W_dec):
    return [(i + 1) % len(W_dec) for i in list_absorbing(concept, codes, W_dec)]


@mutant(
    "find_absorbing",
    "You go by directions alone: whoever shares the main latent's direction need not take its "
    "place.",
    clause="Another latent absorbs the concept if all of this holds:",
)
def goes_by_directions_alone(concept, codes, W_dec):
    main = int(((codes > 0) == concept[:, None]).sum(dim=0).argmax())
    near = cosine_similarity(W_dec, W_dec[main], dim=1) >= 0.4
    return [i for i in near.nonzero().flatten().tolist() if i != main]


@mutant(
    "find_absorbing",
    says="You answer the same",
    clause="latents that do not absorb the concept take from it",
)
def names_all_absorbing(concept, codes, W_dec):
    return list(range(len(W_dec)))


@mutant(
    "find_absorbing",
    says="You name",
    clause="`concept[i]` says whether input i has the concept",
)
def takes_the_opposite_concept(concept, codes, W_dec):
    return list_absorbing(~concept, codes, W_dec)


@alternative("find_absorbing")
def input_by_input(concept, codes, W_dec):
    rows = [{i for i, code in enumerate(row) if code > 0} for row in codes.tolist()]
    labels = concept.tolist()
    n = len(W_dec)
    exceptions = [sum((i in row) != bool(c) for row, c in zip(rows, labels, strict=True))
                  for i in range(n)]  # fmt: skip
    main = exceptions.index(min(exceptions))
    gaps = [row for row, c in zip(rows, labels, strict=True) if c and main not in row]
    found = set()
    for i in range(n):
        there = [c for row, c in zip(rows, labels, strict=True) if i in row]
        cosine = W_dec[i] @ W_dec[main] / W_dec[i].norm() / W_dec[main].norm()
        often = sum(i in row for row in gaps) / len(gaps)
        if there and often >= 0.05 and sum(there) / len(there) >= 0.9 and cosine >= 0.4:
            found.add(i)
    return found


@alternative("find_absorbing")
def by_matrix_products(concept, codes, W_dec):
    on = codes.gt(0).double()
    label = concept.double()
    hits = label @ on
    exceptions = label.sum() + on.sum(dim=0) - 2 * hits
    main = exceptions.argmin()
    gap = label * (1 - on[:, main])
    unit = normalize(W_dec)
    fits = (gap @ on / gap.sum() >= 0.05) & (unit @ unit[main] >= 0.4)
    return torch.arange(len(W_dec))[fits & (hits >= 0.9 * on.sum(dim=0)) & (hits > 0)]


# find_exclusive -----------------------------------------------------------------------------------


def list_exclusive(
    first,
    codes,
    W_first,
    W_second,
    b_first,
    error=lambda first, codes, W, b: first - codes @ W - b,
    own=1.0,
    fit=lambda code, own: code @ own / code.square().sum(),
    looks=0.1,
    bound=0.1,
    length=lambda W_first, W_second: W_second.norm(dim=1),
):
    """List exclusive latents; options stand for the clauses of the task."""
    left = error(first, codes, W_first, b_first)
    size = length(W_first, W_second)
    found = []
    for latent in range(codes.shape[1]):
        code = codes[:, latent]
        vector = fit(code, left + own * code[:, None] * W_first[latent])
        looks_so = W_first[latent].norm() <= looks * W_second[latent].norm()
        if looks_so and vector.norm() <= bound * size[latent]:
            found.append(latent)
    return found


wrong = vary("find_exclusive", list_exclusive)
wrong(
    "believes_the_decoder",
    "You believe the crosscoder's directions; the penalty has shrunk some of them to nothing. See "
    "what the first model does.",
    clause="But the penalty also shrinks weak rows to nothing",
    bound=1e9,
)
wrong(
    "looks_at_the_model_as_a_whole",
    says="You name",
    clause="Many features come together with others",
    error=lambda first, codes, W, b: first - b,
    own=0.0,
)
wrong(
    "looks_at_centred_activations",
    says="You name",
    clause="so what the first model does as a whole misleads",
    error=lambda first, codes, W, b: first - first.mean(dim=0),
    own=0.0,
)
wrong(
    "leaves_its_own_part_out",
    "You fit the error as it is; the latent's own part must be added back.",
    clause="with the latent's own part added back",
    own=0.0,
)
wrong(
    "forgets_the_constant",
    says="You name",
    clause="rebuilds the activations of the first model as `codes @ W_first + b_first`",
    error=lambda first, codes, W, b: first - codes @ W,
)
wrong(
    "names_what_is_made_up",
    "You name latents whose row of W_first is long, too: they do not look exclusive.",
    clause="The latent is exclusive if it looks so",
    looks=1e9,
)
wrong(
    "asks_for_half",
    "You call exclusive whatever is half as strong in the first model; a tenth is the bound.",
    clause="this vector is at most a tenth as long as its row of `W_second`",
    bound=0.5,
)
wrong(
    "averages_the_error",
    "You take the mean error where the latent is on, without dividing by its code; the "
    "vector belongs to one unit of code.",
    clause="Fit it by the latent's code times one vector, by least squares over all inputs.",
    fit=lambda code, own: own[code > 0].mean(dim=0),
)
wrong(
    "sums_the_error",
    says="You name",
    clause="by least squares over all inputs",
    fit=lambda code, own: code @ own,
)
wrong(
    "compares_with_a_constant",
    "You compare lengths with 0.1; what counts is a tenth of the latent's own row of W_second.",
    clause="a tenth as long as its row of `W_second`",
    length=lambda W_first, W_second: torch.ones(len(W_second)),
)
wrong(
    "compares_with_the_first",
    "You compare the vector with the row of W_first; it is to be compared with that of W_second.",
    clause="those of the second in the same way by `W_second`",
    length=lambda W_first, W_second: 10 * W_first.norm(dim=1),
)


@mutant(
    "find_exclusive",
    "You name latents that are in the first model only.",
    clause="A latent looks exclusive if its row of `W_first` is at most a tenth as long",
)
def names_the_first_only(first, codes, W_first, W_second, b_first):
    long = W_second.norm(dim=1) <= 0.1 * W_first.norm(dim=1)
    return long.nonzero().flatten().tolist()


@mutant(
    "find_exclusive",
    "You name the latents that only look exclusive; the task asks for the others.",
    clause="Find the latents of a crosscoder whose features are in the second of two models only.",
)
def names_the_shrunk(first, codes, W_first, W_second, b_first):
    inputs = (first, codes, W_first, W_second, b_first)
    return sorted(set(list_exclusive(*inputs, bound=1e9)) - set(list_exclusive(*inputs)))


@mutant(
    "find_exclusive",
    "All your numbers are one too high: the first latent is 0.",
    clause="Return the numbers of the exclusive latents",
)
def counts_exclusive_from_one(first, codes, W_first, W_second, b_first):
    found = list_exclusive(first, codes, W_first, W_second, b_first)
    return [(i + 1) % len(W_first) for i in found]


@mutant("find_exclusive", says="You answer the same", clause="and others take from it")
def names_all_exclusive(first, codes, W_first, W_second, b_first):
    return list(range(len(W_first)))


@mutant(
    "find_exclusive",
    "You go by how long rows of W_second are.",
    clause="The crosscoder was trained with an L1 penalty.",
)
def takes_the_longest_rows(first, codes, W_first, W_second, b_first):
    return W_second.norm(dim=1).topk(3).indices.tolist()


@alternative("find_exclusive")
def by_leaving_one_out(first, codes, W_first, W_second, b_first):
    found = set()
    for i in range(len(W_first)):
        rest = [j for j in range(len(W_first)) if j != i]
        own = (first - b_first - codes[:, rest] @ W_first[rest]).double()
        vector = torch.linalg.pinv(codes[:, i : i + 1].double()) @ own
        ratios = torch.stack([vector.norm(), W_first[i].double().norm()]) / W_second[i].norm()
        if ratios.max() <= 0.1:
            found.add(i)
    return found


@alternative("find_exclusive")
def all_at_once(first, codes, W_first, W_second, b_first):
    error = first - b_first - codes @ W_first
    vectors = codes.T @ error / codes.square().sum(dim=0)[:, None] + W_first
    length = torch.maximum(vectors.norm(dim=1), W_first.norm(dim=1))
    return torch.where(length <= 0.1 * W_second.norm(dim=1))[0]


# find_detours -------------------------------------------------------------------------------------


def read(model, tokens, layer, hooks=(), at=-1, site="mlp_out"):
    kept = []

    def keep(value, point):
        kept.append(value[:, at].clone())

    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[*hooks, ((site, layer), keep)])
    return kept[0]


def list_detours(
    model,
    tokens,
    codes,
    W_dec,
    reference=lambda early, on: early[~on].mean(dim=0),
    rows=lambda on: on,
    at=-1,
    edit_at=-1,
    site=("mlp_out", 0),
    read_at="mlp_out",
    judge=lambda left, whole: left < whole / 2,
    average=torch.mean,
):
    """List detours; options stand for the clauses of the task."""
    early = read(model, tokens, 0, at=at)
    found = []
    for latent in range(codes.shape[1]):
        on = codes[:, latent] > 0
        without = reference(early, on)

        def replace(value, point, without=without):
            value[:, edit_at] = without

        prompts = tokens[rows(on)]
        whole = read(model, prompts, 1, at=at, site=read_at) @ W_dec[latent]
        left = read(model, prompts, 1, [(site, replace)], at=at, site=read_at) @ W_dec[latent]
        if judge(average(left), average(whole)):
            found.append(latent)
    return found


wrong = vary("find_detours", list_detours)
wrong(
    "replaces_by_zero",
    "You put zeros in place of layer 0's output: then also what is always there is gone, and "
    "latents that need it look like detours.",
    clause="replaced by its own average over the prompts in which the latent is off",
    reference=lambda early, on: torch.zeros_like(early[0]),
)
wrong(
    "replaces_by_the_average_of_all",
    "You put in layer 0's average over all prompts; that holds much of the latent itself, if it is "
    "on often.",
    clause="its own average over the prompts in which the latent is off",
    reference=lambda early, on: early.mean(dim=0),
)
wrong(
    "replaces_by_what_is_on",
    says="You name",
    clause="in which the latent is off",
    reference=lambda early, on: early[on].mean(dim=0),
)
wrong(
    "replaces_by_one_prompt",
    "You put in what layer 0 writes in one prompt without the latent; another feature may be on "
    "there. Average over all of them.",
    clause="replaced by its own average",
    reference=lambda early, on: early[~on][0],
)
wrong(
    "replaces_all_positions",
    "You replace layer 0's output at all positions; layer 1's attention may bring what stands "
    "earlier, and that is to stay.",
    clause="at the last position is replaced",
    edit_at=slice(None),
)
wrong(
    "reads_the_stream",
    "You project the stream after layer 1, which holds what was there before; take what its MLP "
    "puts out.",
    clause="project what layer 1's MLP puts out",
    read_at="resid_post",
)
wrong(
    "looks_at_one_prompt",
    "You look at one prompt in which the latent is on; average over all of them.",
    clause="average this over the prompts",
    rows=lambda on: on.nonzero()[0],
)
wrong(
    "averages_over_all_prompts",
    "You project over all prompts: what layer 1 writes in the others is not this latent's.",
    clause="average this over the prompts in which the latent is on",
    rows=lambda on: torch.ones_like(on),
)
wrong(
    "looks_at_the_first_position",
    says="You ",
    clause='at the last position, `("mlp_out", 1)`',
    at=0,
    edit_at=0,
)
wrong(
    "replaces_the_first_position",
    says="You name",
    clause="Measure that average again while what layer 0's MLP puts out at the last position",
    edit_at=0,
)
wrong(
    "asks_for_any_loss",
    "You call a detour whatever loses a little; more than half must be lost.",
    clause="The latent hides a detour if less than half of the first average is left.",
    judge=lambda left, whole: left < 0.95 * whole,
)
wrong(
    "asks_for_a_total_loss",
    "You call a detour only what loses nearly all; less than half must be left.",
    clause="if less than half of the first average is left",
    judge=lambda left, whole: left < 0.05 * whole,
)
wrong(
    "takes_any_change",
    "You take any large change: what layer 0 holds back grows when it is gone, and that is no "
    "detour.",
    clause="is left",
    judge=lambda left, whole: (left - whole).abs() > 0.3 * whole,
)
wrong(
    "names_the_direct_ones",
    "You name the latents that write directly; the task asks for detours.",
    clause="Return the numbers of the latents that hide a detour",
    judge=lambda left, whole: left >= whole / 2,
)
wrong(
    "replaces_layer_one",
    says="You answer the same",
    clause="what layer 0's MLP puts out",
    site=("mlp_out", 1),
)


@mutant(
    "find_detours",
    says="You name",
    clause="project what layer 1's MLP puts out",
)
def projects_layer_zero(model, tokens, codes, W_dec):
    early = read(model, tokens, 0) @ W_dec.T
    on = codes > 0
    amount = (early * on).sum(dim=0) / on.sum(dim=0)
    return (amount.abs() > 0.05).nonzero().flatten().tolist()


@mutant(
    "find_detours",
    says="You name",
    clause="It is on in a prompt where its code is above 0.",
)
def leaves_the_codes_out(model, tokens, codes, W_dec):
    return list_detours(model, tokens, torch.ones_like(codes), W_dec,
                        reference=lambda early, on: early.mean(dim=0))  # fmt: skip


@mutant(
    "find_detours",
    "You look at weights only: a neuron that layer 1 reads may never be on.",
    clause="Latent l says: \"I write my row of `W_dec` into what layer 1's MLP puts out there",
)
def reads_weights_only(model, tokens, codes, W_dec):
    one, two = (block.mlp for block in model.blocks)
    through = (one.W_out @ two.W_in).abs().amax(dim=0)
    write = (two.W_out @ normalize(W_dec).T).abs()
    return (through @ write > 0.4).nonzero().flatten().tolist()


@mutant(
    "find_detours",
    "All your numbers are one too high: the first latent is 0.",
    clause="in any order",
)
def counts_detours_from_one(model, tokens, codes, W_dec):
    return [(i + 1) % len(W_dec) for i in list_detours(model, tokens, codes, W_dec)]


@mutant("find_detours", says="You answer the same", clause="and others take from it")
def names_all_detours(model, tokens, codes, W_dec):
    return list(range(len(W_dec)))


@mutant(
    "find_detours",
    says="You answer the same",
    clause="The transcoder reads the last position before layer 0's MLP.",
)
def removes_the_stream(model, tokens, codes, W_dec):
    return list_detours(
        model, tokens, codes, W_dec, site=("resid_post", 0),
        reference=lambda early, on: torch.zeros_like(early[0]),
    )  # fmt: skip


@alternative("find_detours")
def with_caches(model, tokens, codes, W_dec):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    found = set()
    for i in range(len(W_dec)):
        on = codes[:, i] > 0
        without = cache["mlp_out", 0][~on][:, -1].mean(dim=0)
        kept = []

        def change(value, point, without=without):
            return torch.cat([value[:, :-1], without.expand(len(value), 1, -1)], dim=1)

        def keep(value, point, kept=kept):
            kept.append(value.detach().clone())

        with torch.no_grad():
            hooks = [(("mlp_out", 0), change), (("mlp_out", 1), keep)]
            model.run_with_hooks(tokens, fwd_hooks=hooks)
        left = (kept[0][on][:, -1] @ W_dec[i]).sum()
        if left < 0.5 * (cache["mlp_out", 1][on][:, -1] @ W_dec[i]).sum():
            found.add(i)
    return found


@alternative("find_detours")
def by_running_the_second_layer(model, tokens, codes, W_dec):
    block = model.blocks[1]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        early, late = (cache["mlp_out", layer][:, -1] for layer in (0, 1))
        found = []
        for i in range(len(W_dec)):
            on = codes[:, i] > 0
            stream = cache["resid_post", 0][on].clone()
            stream[:, -1] += early[~on].mean(dim=0) - early[on]
            left = block.mlp(stream + block.attn(stream, stream, stream))[:, -1]
            found.append(bool((left @ W_dec[i]).mean() < (late[on] @ W_dec[i]).mean() / 2))
    return [i for i, is_detour in enumerate(found) if is_detour]

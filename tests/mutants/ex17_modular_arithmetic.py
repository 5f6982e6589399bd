"""List wrong answers to lesson 17 that the grader rejects by name, and unusual right ones."""

import math

import torch
from torch.nn import functional as F

from mini_transformer.course.grading.mutants import alternative, mutant, vary

# How sentences of the tasks begin that ask for nothing.
GIVEN: dict[str, list[str]] = {}


def list_pairs(p):
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    return a, b, torch.stack([a, b, torch.full_like(a, p)], dim=1)


def run(model, p, at=-1):
    with torch.no_grad():
        return model(list_pairs(p)[2])[:, at].double()


def write_waves(number, k, p):
    """Write cos and sin at these frequencies over all pairs, as columns of length 1."""
    ks = torch.tensor(k).double().reshape(-1)
    angle = 2 * math.pi / p * torch.outer(number.double(), ks)
    return torch.cat([angle.cos(), angle.sin()], dim=1) * math.sqrt(2) / p


# find_frequencies ---------------------------------------------------------------------------------


def share_power(rows, k):
    """Measure the share of frequency k along rows (p, column)."""
    power = torch.fft.fft(rows.double(), dim=0).abs().square().sum(dim=1)
    return 2 * power[k] / power.sum()


def list_above(rows, least=0.02, first=1, last=0):
    p = len(rows)
    return [k for k in range(first, p // 2 + 1 + last) if share_power(rows, k) >= least]


def find_by_sum(
    model,
    p,
    centre=True,
    least=0.02,
    at=-1,
    sum_of=None,
    shift=0,
    one=False,
    outputs=slice(None),
    modulo=True,
    whole=False,
    strongest=False,
    last=0,
):
    """Find frequencies of the averages by sum; switches stand for the clauses of the task."""
    a, b, _ = list_pairs(p)
    logits = run(model, p, at)[:, outputs]
    total = a + b if sum_of is None else sum_of(a, b)
    total = total % p if modulo else total
    if one:
        rows = torch.stack([logits[(total == s).nonzero()[0, 0]] for s in range(p)])
    else:
        rows = torch.stack([logits[total == s].mean(dim=0) for s in range(p)])
    rows = rows - rows.mean(dim=0) if centre else rows
    size = 2 * torch.fft.fft(rows, dim=0).abs().square().sum(dim=1)
    of = size.max() if strongest else size.sum() / 2
    if whole:
        of = (logits - logits.mean(dim=0)).square().sum()
    return [k + shift for k in range(1, p // 2 + 1 + last) if size[k] / of >= least]


wrong = vary("find_frequencies", find_by_sum)
wrong(
    "keeps_the_mean",
    "You leave the mean over all pairs in: what the model favours whatever the sum makes all waves "
    "look small.",
    clause="take the mean over all pairs off",
    centre=False,
)
wrong(
    "takes_differences",
    "You average over pairs with the same difference a - b; the task asks for the same sum.",
    clause="that have the same sum modulo p",
    sum_of=lambda a, b: a - b,
)
wrong(
    "takes_a_alone",
    "You average over b and look at how logits depend on a: that shows what they say of a alone.",
    clause="logits may depend on a alone, or on a - b",
    sum_of=lambda a, b: a,
)
wrong(
    "counts_weak_ones",
    "You count a frequency that carries less than 2% of all that is left.",
    clause="at least 2% of the squared size of what is left",
    least=0.01,
)
wrong("counts_weak_ones", strongest=True)
wrong(
    "takes_the_strong_only",
    "You leave out a frequency that carries more than 2%: is your bound too high, or your share "
    "one of all logits, or without the half of the power that stands at p - k?",
    clause="these two waves carry at least 2%",
    least=0.04,
)
wrong("takes_the_strong_only", least=0.1)
wrong("takes_the_strong_only", clause="of what is left, over all outputs", whole=True)
wrong(
    "looks_at_one_output",
    "You look at the logit of one output; the share is one over all outputs.",
    clause="over all outputs",
    outputs=slice(1),
)
wrong(
    "looks_before_the_last",
    "You read logits before the last position, where the model has not added yet.",
    clause="Take the logits at the last position",
    at=1,
)
wrong(
    "forgets_the_modulo",
    "You take a + b and a + b - p for different sums: each average is to be over p pairs.",
    clause="Average them over the p pairs that have the same sum modulo p",
    modulo=False,
)
wrong(
    "stops_before_the_highest",
    "You forget the highest frequency, (p - 1) / 2.",
    clause="from 1 to (p - 1) / 2",
    last=-1,
)
wrong(
    "counts_from_zero",
    "All your frequencies are one too low: the first wave after the constant has the frequency 1.",
    clause="the frequency k, from 1 to (p - 1) / 2",
    shift=-1,
)
wrong(
    "takes_one_pair_per_sum",
    "You take one pair for each sum instead of the average over all p: waves of a and of a - b are "
    "still in there.",
    clause="Take the logits at the last position for all pairs",
    one=True,
)


@mutant(
    "find_frequencies",
    "You read the frequencies off the embedding or the unembedding, by weights alone: these hold "
    "waves that nobody reads, or that nobody writes.",
    clause="an embedding may hold waves that nobody reads",
)
def reads_the_embedding(model, p):
    rows = model.W_E[:p].detach()
    return list_above(rows - rows.mean(dim=0))


@mutant(
    "find_frequencies",
    name="reads_the_embedding",
    clause="The weights alone do not tell",
)
def reads_the_unembedding(model, p):
    rows = model.W_U.detach().T
    return list_above(rows - rows.mean(dim=0))


@mutant(
    "find_frequencies",
    "You take waves along the outputs c; the task asks how logits depend on the sum a + b.",
    clause="What is left is a function of the sum",
)
def takes_waves_along_outputs(model, p):
    logits = run(model, p)
    return list_above((logits - logits.mean(dim=0)).T)


@mutant("find_frequencies", says="that do not belong there", clause="Return these frequencies")
def names_all_frequencies(model, p):
    return list(range(1, p // 2 + 1))


@alternative("find_frequencies")
def by_projection(model, p):
    a, b, _ = list_pairs(p)
    logits = run(model, p)
    logits = logits - logits.mean(dim=0)
    sizes = torch.stack(
        [(write_waves(a + b, k, p).T @ logits).square().sum() for k in range(1, p // 2 + 1)]
    )
    return (sizes / sizes.sum() >= 0.02).nonzero().flatten() + 1


@alternative("find_frequencies")
def by_the_lesson(model, p):
    from mini_transformer.methods.weights.fourier import measure_frequency_shares
    from mini_transformer.methods.weights.pairs import average_by_sum

    with torch.no_grad():
        rows = average_by_sum(model(list_pairs(p)[2])[:, -1], p)
    shares = measure_frequency_shares(rows - rows.mean(dim=0))
    return {int(k) + 1 for k in range(p // 2) if shares[k] >= 0.02}


# sort_neurons -------------------------------------------------------------------------------------

EIGHT = ("a", "b", "sum", "difference")


def sort_by_waves(
    model,
    order,
    numbers=EIGHT,
    secret=True,
    site="post",
    at=-1,
    least=0.85,
    centre=True,
    shift=0,
    drop=False,
    phases=2,
    inverse=False,
    above=False,
    sharing=False,
):
    """Sort neurons by their best frequency; switches stand for the clauses of the task."""
    p = len(order)
    a, b, tokens = list_pairs(p)
    if secret:
        written = order.argsort() if inverse else order
        tokens = torch.stack([written[a], written[b], tokens[:, 2]], dim=1)
    with torch.no_grad():
        post = model.run_with_cache(tokens)[1][site, 0][:, at].double()
    post = post - post.mean(dim=0) if centre else post
    size = post.square().sum(dim=0).clamp(min=1e-9)
    of = {"a": a, "b": b, "sum": a + b, "difference": a - b}
    share = torch.zeros(p // 2, len(size), dtype=torch.float64)
    for k in range(1, p // 2 + 1):
        for name in numbers:
            waves = write_waves(of[name], k, p)[:, :phases]
            share[k - 1] += (waves.T @ post).square().sum(dim=0) / size
    if above:
        found = (share >= 0.3).int().argmax(dim=0)
        return {f: int(found[f]) + 1 if share[:, f].max() >= least else 0 for f in range(len(size))}
    value, best = (share / share.sum(dim=0).clamp(min=1e-9) if sharing else share).max(dim=0)
    found = {f: int(best[f]) + 1 + shift if value[f] >= least else 0 for f in range(len(size))}
    return {f: k for f, k in found.items() if k} if drop else found


wrong = vary("sort_neurons", sort_by_waves)
wrong(
    "ignores_the_order",
    says="You answer the same",
    clause="the number n is the token `order[n]`",
    secret=False,
)
wrong(
    "turns_the_order_round",
    says="You answer the same",
    clause="the number n is the token `order[n]`, so p is `len(order)`",
    inverse=True,
)
wrong(
    "looks_before_the_relu",
    "You look at neurons before their ReLU, where each is a sum of waves of a and of b.",
    clause='what each neuron hands on, `("post", 0)`',
    site="pre",
)
wrong(
    "looks_at_b",
    "You look at the position of b, where nothing is computed yet; the task asks for the last one.",
    clause="at the last position",
    at=1,
)
wrong(
    "knows_single_numbers_only",
    "You leave out waves of a + b and a - b, which the ReLU makes.",
    clause="of w (a + b) and of w (a - b)",
    numbers=("a", "b"),
)
wrong(
    "knows_sums_only",
    says="You answer the same",
    clause="The frequency k has eight waves: cos and sin of w a, of w b",
    numbers=("sum", "difference"),
)
wrong(
    "forgets_differences",
    "You leave out waves of a - b, so that neurons with strong products seem to belong to none.",
    clause="and of w (a - b)",
    numbers=("a", "b", "sum"),
)
wrong(
    "knows_cosines_only",
    "You take cosines without sines: what is shifted by a quarter turn is not seen.",
    clause="cos and sin of",
    phases=1,
)
wrong(
    "gives_all_a_frequency",
    "You give a frequency to neurons of which it explains less than 85% of all variance.",
    clause="if that share is at least 85%",
    least=0.3,
)
wrong("gives_all_a_frequency", least=0.5)
wrong("gives_all_a_frequency", clause="at least 85%", least=0.8)
wrong("gives_all_a_frequency", clause="share of its variance", sharing=True)
wrong(
    "asks_for_more",
    "You give 0 to neurons of which a frequency explains more than 85%.",
    clause="if that share is at least 85%",
    least=0.9,
)
wrong(
    "gives_still_ones_a_frequency",
    "You give every neuron a frequency, even if nothing moves it.",
    clause="To all others give 0, also to neurons that are the same for all pairs.",
    least=-1.0,
)
wrong(
    "keeps_the_mean_of_neurons",
    says="You answer the same",
    clause="the largest share of its variance",
    centre=False,
)
wrong(
    "numbers_from_zero",
    "All your frequencies are one too low: the slowest wave has the frequency 1.",
    clause="A neuron belongs to the frequency",
    shift=-1,
)
wrong(
    "leaves_out_the_others",
    says="is missing in your dict",
    clause="Return the frequency for every neuron.",
    drop=True,
)


@mutant(
    "sort_neurons",
    says="You answer the same",
    clause="for all pairs of numbers",
)
def reads_weights_alone(model, order):
    rows = (model.W_E[order] @ model.blocks[0].mlp.W_in).detach().double()
    rows = rows - rows.mean(dim=0)
    power = torch.fft.fft(rows, dim=0).abs().square()[1 : len(order) // 2 + 1]
    share, best = (power / power.sum(dim=0).clamp(min=1e-9)).max(dim=0)
    return {f: int(best[f]) + 1 if share[f] >= 0.85 else 0 for f in range(len(share))}


@alternative("sort_neurons")
def by_regression(model, order):
    p = len(order)
    a, b, _ = list_pairs(p)
    with torch.no_grad():
        tokens = torch.stack([order[a], order[b], torch.full_like(a, p)], dim=1)
        post = model.run_with_cache(tokens, names_filter=("post", 0))[1]["post", 0][:, -1].double()
    result = {}
    tables = []
    for k in range(1, p // 2 + 1):
        parts = [write_waves(x, k, p) for x in (a, b, a + b, a - b)]
        tables.append(torch.cat([*parts, torch.ones(p * p, 1).double()], dim=1))
    rests = [post - table @ torch.linalg.lstsq(table, post).solution for table in tables]
    left = torch.stack([rest.var(dim=0) for rest in rests]) / post.var(dim=0).clamp(min=1e-9)
    still = post.std(dim=0) < 1e-6
    for f in range(post.shape[1]):
        k = int(left[:, f].argmin())
        result[f] = 0 if still[f] or left[k, f] > 0.15 else k + 1
    return result


@alternative("sort_neurons")
def by_two_fast_transforms(model, order):
    p = len(order)
    a, b, _ = list_pairs(p)
    with torch.no_grad():
        tokens = torch.stack([order[a], order[b], torch.full_like(a, p)], dim=1)
        post = model.run_with_cache(tokens)[1]["post", 0][:, -1]
    size = torch.fft.fft2(post.reshape(p, p, -1), dim=(0, 1)).abs().square()
    size[0, 0] = 0
    whole = size.sum(dim=(0, 1))
    found = {}
    for f in range(post.shape[1]):
        shares = {}
        for k in range(1, p // 2 + 1):
            places = [(x, y) for x in (-k, 0, k) for y in (-k, 0, k) if x or y]
            shares[k] = sum(float(size[x % p, y % p, f]) for x, y in places)
        best = max(shares, key=shares.get)
        is_clear = whole[f] > 1e-6 * p**4 and shares[best] >= 0.85 * float(whole[f])
        found[f] = torch.tensor(best if is_clear else 0)
    return found


# name_phases --------------------------------------------------------------------------------------


def name_by_losses(
    logits,
    frequencies,
    seen,
    mean=True,
    rows=None,
    bound=0.5,
    base=math.e,
    split=None,
    ks=None,
    number=None,
    swap=False,
    restrict_rows=None,
    centred=False,
):
    """Name phases by two losses; switches stand for the clauses of the task."""
    p = logits.shape[2]
    a, b, _ = list_pairs(p)
    answer = (a + b) % p
    waves = write_waves(
        a + b if number is None else number(a, b), ks(frequencies, p) if ks else frequencies, p
    )
    names = []
    for each in logits.double():
        part = waves @ (waves.T @ each)
        kept = part + each.mean(dim=0) if mean else part
        at = slice(None) if restrict_rows is None else restrict_rows(seen, p)
        restricted = F.cross_entropy(kept[at], answer[at]) / math.log(base)
        at = seen if rows is None else rows(seen, p)
        rest = each - part - each.mean(dim=0) if centred else each - part
        excluded = F.cross_entropy(rest[at], answer[at]) / math.log(base)
        if split is not None:
            restricted, excluded = split(each, part, answer, seen)
        circuit, memory = (bool(x < bound * math.log(p)) for x in (restricted, excluded))
        circuit, memory = (memory, circuit) if swap else (circuit, memory)
        names.append(("nothing", "memory", "circuit", "both")[memory + 2 * circuit])
    return names


def list_unseen(seen, p):
    return [i for i in range(p * p) if i not in set(seen.tolist())]


wrong = vary("name_phases", name_by_losses)
wrong(
    "excludes_on_all_pairs",
    "You measure the excluded loss on pairs that were not seen, too; memory holds only those seen "
    "in training.",
    clause="the excluded loss, over the pairs seen in training only, of the rest",
    rows=lambda seen, p: slice(None),
)
wrong(
    "excludes_on_all_pairs",
    clause="`seen` holds the rows of the pairs that were trained on",
    rows=list_unseen,
)
wrong(
    "restricts_to_other_pairs",
    "You measure the restricted loss on some pairs only; it is one over all pairs.",
    clause="the restricted loss, over all pairs",
    restrict_rows=lambda seen, p: seen,
)
wrong("restricts_to_other_pairs", restrict_rows=list_unseen)
wrong(
    "takes_the_mean_from_the_rest",
    "You take the mean of the logits from the rest, too: only the waves are taken out.",
    clause="of the rest",
    centred=True,
)
wrong(
    "restricts_without_the_mean",
    "Your restricted logits lack the mean of the logits over all pairs, which belongs to them.",
    clause="of this part plus the mean of the logits over all pairs",
    mean=False,
)
wrong(
    "swaps_memory_and_circuit",
    "You mix the two up: a low restricted loss shows the circuit, a low excluded loss memory.",
    clause="A checkpoint has the circuit if its restricted loss is below half of log p",
    swap=True,
)
wrong(
    "takes_all_frequencies",
    "You take the waves at all frequencies; the task gives those that count.",
    clause="the part that is waves of a + b at the given frequencies",
    ks=lambda frequencies, p: list(range(1, p // 2 + 1)),
)
wrong(
    "takes_the_first_frequency",
    "You take the first of the given frequencies only.",
    clause="at the given frequencies, and the rest",
    ks=lambda frequencies, p: frequencies[:1],
)
wrong(
    "takes_waves_of_the_difference",
    "You take waves of a - b; the answer is the sum.",
    clause="Split the logits: the part that is waves of a + b",
    number=lambda a, b: a - b,
)
wrong(
    "measures_in_bits",
    "You measure losses in bits, and compare them with a bound in nats.",
    clause="Both losses are mean cross-entropies of the answer a + b, in nats",
    base=2,
)
wrong(
    "asks_too_little",
    "You compare with log p itself, the loss of who knows nothing; the bound is half of it.",
    clause="it has memory if its excluded loss is below half of log p",
    bound=1.0,
)


def look_at_accuracy(each, part, answer, seen):
    right = (each.argmax(dim=1) == answer).double()
    unseen = list_unseen(seen, each.shape[1])
    return 9.0 * (right[unseen].mean() < 0.5), 9.0 * (right[seen].mean() < 0.5)


def look_at_whole_loss(each, part, answer, seen):
    unseen = list_unseen(seen, each.shape[1])
    return tuple(F.cross_entropy(each[rows], answer[rows]) for rows in (unseen, seen))


wrong(
    "looks_at_accuracy",
    "You look at accuracies on seen and other pairs: memory drowns a circuit on the others, and "
    "seen pairs are right either way.",
    clause="Say for each checkpoint of a training run what its answers rest on.",
    split=look_at_accuracy,
)
wrong(
    "looks_at_losses_of_all_logits",
    "You look at losses of the whole logits on seen and other pairs; the task splits the logits.",
    clause="Split the logits",
    split=look_at_whole_loss,
)


@mutant(
    "name_phases",
    "You take the checkpoints for a training run in order; they come in any order.",
    clause="in no order of time",
)
def trusts_the_order(logits, frequencies, seen):
    names = name_by_losses(logits, frequencies, seen)
    return sorted(names, key=("nothing", "memory", "both", "circuit").index)


@mutant(
    "name_phases",
    "You never say that both or neither is there; each has a bound of its own.",
    clause='Return "nothing", "memory", "both" or "circuit" for each checkpoint.',
)
def takes_the_lower_loss(logits, frequencies, seen):
    p = logits.shape[2]
    a, b, _ = list_pairs(p)
    answer = (a + b) % p
    waves = write_waves(a + b, frequencies, p)
    names = []
    for each in logits.double():
        part = waves @ (waves.T @ each)
        restricted = F.cross_entropy(part + each.mean(dim=0), answer)
        excluded = F.cross_entropy((each - part)[seen], answer[seen])
        names.append("circuit" if restricted < excluded else "memory")
    return names


@alternative("name_phases")
def by_the_package(logits, frequencies, seen):
    from mini_transformer.methods.weights.fourier import measure_progress

    bound = math.log(logits.shape[2]) / 2
    words = {(0, 0): "nothing", (1, 0): "circuit", (0, 1): "memory", (1, 1): "both"}
    names = []
    for each in logits:
        losses = measure_progress(each, frequencies, seen)
        names.append(words[losses["restricted"] < bound, losses["excluded"] < bound])
    return tuple(names)


@alternative("name_phases")
def by_averages_of_sums(logits, frequencies, seen):
    p = logits.shape[2]
    a, b, _ = list_pairs(p)
    answer = (a + b) % p
    names = []
    for each in logits:
        rows = torch.stack([each[answer == s].mean(dim=0) for s in range(p)])
        waves = torch.fft.fft(rows, dim=0)
        kept = [k for f in frequencies for k in (f, p - f)]
        mask = torch.zeros(p, 1)
        mask[kept] = 1
        part = torch.fft.ifft(waves * mask, dim=0).real[answer]
        circuit = F.cross_entropy(part + each.mean(dim=0), answer) < math.log(p) / 2
        memory = F.cross_entropy((each - part)[seen], answer[seen]) < math.log(p) / 2
        names.append(
            "both"
            if circuit and memory
            else "memory"
            if memory
            else "circuit"
            if circuit
            else "nothing"
        )
    return names


# replace_mlp --------------------------------------------------------------------------------------


def measure_replaced(
    model,
    p,
    frequencies,
    number=None,
    mean=True,
    heads=True,
    rows=None,
    ks=lambda frequencies, p: frequencies,
    cosines=False,
    site="mlp_out",
    rest=False,
    base=math.e,
    total=False,
    scale=1.0,
    output=None,
):
    """Measure the loss with the MLP replaced; switches stand for the clauses of the task."""
    a, b, tokens = list_pairs(p)
    with torch.no_grad():
        cache = model.run_with_cache(tokens)[1]
        written, before = (cache[name, 0][:, -1].double() for name in (site, "resid_mid"))
        W_U = model.W_U.double()
        waves = write_waves(a + b if number is None else number(a, b), ks(frequencies, p), p)
        waves = waves[:, : len(frequencies)] if cosines else waves
        kept = slice(None) if rows is None else rows(p)
        fitted = torch.linalg.lstsq(waves[kept], (written - written.mean(dim=0))[kept]).solution
        part = scale * waves @ fitted
        part = written - written.mean(dim=0) - part if rest else part
        part = part + written.mean(dim=0) if mean else part
        logits = (before + part if heads else part) @ W_U
        answer = (a + b) % p if output is None else output(a, b) % p
        loss = F.cross_entropy(logits, answer, reduction="sum" if total else "mean")
    return loss.item() / math.log(base)


wrong = vary("replace_mlp", measure_replaced)
wrong(
    "forgets_the_mean",
    "You put waves alone in the MLP's place; its mean over all pairs belongs there, too.",
    clause="its mean over all pairs",
    mean=False,
)
wrong(
    "forgets_the_heads",
    "You unembed what stands in the MLP's place alone; what the heads write gets past it.",
    clause="what the heads write still reaches the unembedding",
    heads=False,
)
wrong(
    "uses_all_frequencies",
    "You use waves at all frequencies; the task gives those to use.",
    clause="for each given frequency k",
    ks=lambda frequencies, p: list(range(1, p // 2 + 1)),
)
wrong(
    "uses_the_first_frequency",
    "You use the first of the given frequencies only.",
    clause="for each given frequency k the waves",
    ks=lambda frequencies, p: frequencies[:1],
)
wrong(
    "uses_cosines_only",
    "You use cosines without sines: half of each wave's circle is missing.",
    clause="the waves cos and sin of",
    cosines=True,
)
wrong(
    "uses_waves_of_the_difference",
    "You use waves of a - b; the task asks for those of a + b.",
    clause="cos and sin of 2 pi k (a + b) / p",
    number=lambda a, b: a - b,
)
wrong(
    "takes_the_waves_out",
    "You take the waves out and keep the rest; the task asks for the opposite.",
    clause="Put in its place its mean over all pairs, plus",
    rest=True,
)
wrong(
    "replaces_what_heads_write",
    "You fit what the heads write; the task replaces what the MLP writes.",
    clause='Take what the MLP writes at the last position, `("mlp_out", 0)`',
    site="attn_out",
)
wrong(
    "fits_on_half_of_the_pairs",
    "You find the directions on some pairs only; they are to be the best over all.",
    clause="The directions are those that leave the least squared error over all pairs.",
    rows=lambda p: slice(0, p * p, 7),
)
wrong(
    "measures_loss_in_bits",
    "You give the loss in bits; the task asks for nats, the natural logarithm.",
    clause="in nats",
    base=2,
)
wrong(
    "adds_the_losses_up",
    "You add losses up over pairs; the task asks for their mean.",
    clause="Return the mean cross-entropy of the answer a + b over all pairs",
    total=True,
)
wrong(
    "halves_the_directions",
    "Your waves come out half as large as they should: cos and sin have the mean square 1/2.",
    clause="each times a direction of the stream",
    scale=0.5,
)


@mutant("replace_mlp", says="never uses", clause="Put in its place")
def replaces_nothing(model, p, frequencies):
    a, b, _ = list_pairs(p)
    return F.cross_entropy(run(model, p), (a + b) % p).item()


@alternative("replace_mlp")
def by_projection_of_the_output(model, p, frequencies):
    a, b, tokens = list_pairs(p)
    with torch.no_grad():
        cache = model.run_with_cache(tokens)[1]
        written = cache["mlp_out", 0][:, -1]
        waves = write_waves(a + b, frequencies, p).float()
        formula = written.mean(dim=0) + waves @ (waves.T @ written)
        logits = (cache["resid_post", 0][:, -1] - written + formula) @ model.W_U
        return F.cross_entropy(logits, (a + b) % p)


@alternative("replace_mlp")
def by_averages_of_each_sum(model, p, frequencies):
    a, b, tokens = list_pairs(p)
    total = (a + b) % p

    def replace(value, hook):
        last = value[:, -1]
        rows = torch.stack([last[total == s].mean(dim=0) for s in range(p)])
        waves = torch.fft.rfft(rows, dim=0)
        mask = torch.zeros(len(waves), 1)
        mask[[0, *frequencies]] = 1
        value = value.clone()
        value[:, -1] = torch.fft.irfft(waves * mask, n=p, dim=0)[total]
        return value

    with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", replace)]):
        logits = model(tokens)[:, -1]
    return -logits.log_softmax(dim=1)[torch.arange(p * p), total].mean().item()


# tell_algorithms ----------------------------------------------------------------------------------


def take_gradients(model, p, outputs=None):
    """Take the gradients of a logit of each pair at its two embeddings (pair, 2, d)."""
    a, _b, tokens = list_pairs(p)
    if outputs is None:
        outputs = torch.randint(p, a.shape, generator=torch.Generator().manual_seed(0))
    cached = []

    def nudge(value, hook):
        cached.append(torch.zeros_like(value).requires_grad_())
        return value + cached[0]

    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[("embed", nudge)])[:, -1]
        chosen = logits.gather(1, outputs[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, cached)
    return gradient[:, :2].double()


def measure_symmetry(model, p, outputs=None, reduce=torch.mean, of_means=False):
    """Measure the mean cosine of gradients with respect to the two embeddings."""
    gradient = take_gradients(model, p, outputs)
    if of_means:
        return F.cosine_similarity(*gradient.mean(dim=0), dim=0).item()
    known = (gradient.norm(dim=2) > 1e-9).all(dim=1)
    return float(reduce(F.cosine_similarity(*gradient[known].unbind(dim=1), dim=1)))


def measure_irrelevance(
    model,
    p,
    by=lambda a, b: b - a,
    reduce=torch.mean,
    spread=lambda x: x.std(),
    whole=False,
    between=False,
):
    """Measure the spread of the correct logit where `by` is the same, over its whole spread."""
    a, b, _ = list_pairs(p)
    logits = run(model, p)
    correct = logits if whole else logits[torch.arange(p * p), (a + b) % p]
    group = by(a, b) % p
    parts = [correct[group == d] for d in range(p)]
    if between:
        return float(1 - spread(torch.stack([x.mean() for x in parts])) / spread(correct))
    return float(reduce(torch.stack([spread(x) for x in parts])) / spread(correct))


def name_algorithms(
    models,
    p,
    symmetry=measure_symmetry,
    irrelevance=measure_irrelevance,
    low=0.9,
    high=0.8,
    words=("clock", "pizza", "line"),
    order=1,
    relative=False,
):
    """Name algorithms by two measures; switches stand for the clauses of the task."""
    scores = [symmetry(model, p) for model in models]
    bound = sum(scores) / len(scores) if relative else low
    names = []
    for model, score in zip(models, scores, strict=True):
        if score < bound:
            names.append(words[0])
        else:
            names.append(words[2] if irrelevance(model, p) >= high else words[1])
    return names[::order]


wrong = vary("tell_algorithms", name_algorithms)
wrong(
    "knows_no_lines",
    "You call every model a pizza that uses the sum of embeddings; does its correct logit depend "
    "on the distance?",
    clause="since the correct logit depends on the distance",
    high=9.0,
)
wrong(
    "calls_some_lines_pizzas",
    "You call some line a pizza: the bound is 0.8, and the spread a standard deviation, over pairs "
    "at one distance.",
    clause="the irrelevance at least 0.8",
    high=0.99,
)
wrong(
    "knows_no_pizzas",
    "You call a model a line whose correct logit depends on the distance: that is a pizza.",
    clause="the irrelevance is below 0.8",
    high=-1.0,
)
wrong("knows_no_pizzas", high=0.5)
wrong(
    "mixes_up_pizza_and_line",
    "You mix up pizza and line: where the correct logit depends on b - a alone, it is a pizza.",
    clause="irrelevance is below 0.8, since",
    words=("clock", "line", "pizza"),
)
wrong(
    "calls_none_a_clock",
    "You call a clock by another name; how alike are the gradients for a and for b?",
    clause="the symmetry is below 0.9",
    low=-2.0,
)
wrong("calls_none_a_clock", low=0.0)
wrong("calls_some_clocks_otherwise", clause='"clock": the symmetry is below 0.9', low=0.5)
wrong(
    "calls_some_pizzas_clocks",
    "You call a pizza a clock: symmetry is the mean of each pair's cosine (not the cosine of "
    "means), over all outputs (not the correct ones), and 0.9 is enough.",
    clause="it is at least 0.9",
    low=0.99,
)
wrong(
    "calls_some_clocks_otherwise",
    "You call some clock by another name: the symmetry is the mean of the cosines themselves, and "
    "0.9 the bound.",
    clause="The symmetry is the mean cosine",
    symmetry=lambda model, p: measure_symmetry(model, p, reduce=lambda x: x.abs().mean()),
)
wrong(
    "calls_some_clocks_otherwise",
    symmetry=lambda model, p: measure_symmetry(model, p, reduce=torch.median),
)
wrong(
    "calls_some_pizzas_clocks",
    clause="over all pairs and all outputs",
    symmetry=lambda model, p: measure_symmetry(model, p, of_means=True),
)
wrong(
    "calls_some_pizzas_clocks",
    clause="all outputs; one output drawn for each pair",
    symmetry=lambda model, p: measure_symmetry(model, p, list_pairs(p)[2][:, :2].sum(dim=1) % p),
)
wrong(
    "compares_models",
    "You compare models with each other; a list may hold no clock, or nothing but clocks.",
    clause="below 0.9",
    relative=True,
)
wrong(
    "mixes_up_pizza_and_line",
    clause="over pairs with the same b - a modulo p",
    irrelevance=lambda model, p: measure_irrelevance(model, p, by=lambda a, b: a + b),
)
wrong(
    "calls_some_lines_pizzas",
    clause="The irrelevance is the standard deviation of the correct logit",
    irrelevance=lambda model, p: measure_irrelevance(model, p, spread=torch.var),
)
wrong(
    "calls_some_lines_pizzas",
    clause="divided by its standard deviation over all pairs",
    irrelevance=lambda model, p: measure_irrelevance(model, p, between=True),
)
wrong(
    "knows_no_pizzas",
    clause="of the correct logit over pairs",
    irrelevance=lambda model, p: measure_irrelevance(model, p, whole=True),
)
wrong(
    "reverses_the_models",
    "You give the names in reverse order: the first is for the first model.",
    clause="Return the name for each model.",
    order=-1,
)
wrong(
    "counts_frequencies",
    "You tell pizza and line by how many frequencies answers have; a pizza may have one.",
    clause='"line": the symmetry is at least 0.9',
    irrelevance=lambda model, p: float(len(find_by_sum(model, p)) == 1),
)


@mutant(
    "tell_algorithms",
    "You go by the distance alone: a clock's correct logit may follow it, and a line's does not.",
    clause="since the model uses the sum of the two embeddings",
)
def goes_by_the_distance_alone(models, p):
    return ["clock" if measure_irrelevance(model, p) >= 0.8 else "pizza" for model in models]


@mutant(
    "tell_algorithms",
    says="models are wrong",
    clause="How a head attends tells little: nobody may read what it moves.",
)
def looks_at_attention(models, p):
    names = []
    for model in models:
        with torch.no_grad():
            pattern = model.run_with_cache(list_pairs(p)[2])[1]["pattern", 0][:, :, -1]
        names.append("clock" if pattern.amax(dim=-1).max() > 0.9 else "pizza")
    return names


@mutant(
    "tell_algorithms",
    "You look for a pizza by making attention even and counting answers that stay right.",
    clause="Say by which algorithm each model adds.",
)
def spreads_attention(models, p):
    a, b, tokens = list_pairs(p)
    names = []
    for model in models:
        with torch.no_grad():
            even = model.run_with_hooks(
                tokens,
                fwd_hooks=[(("pattern", 0), lambda x, hook: torch.full_like(x, 1 / x.shape[-1]))],
            )[:, -1]
        right = (even.argmax(dim=1) == (a + b) % p).double().mean()
        names.append("pizza" if right > 0.95 else "clock")
    return names


@mutant(
    "tell_algorithms",
    says="models are wrong",
    clause="attention reads a and b apart",
)
def looks_for_circles(models, p):
    names = []
    for model in models:
        rows = model.W_E[:p].detach()
        strong = list_above(rows - rows.mean(dim=0), least=0.05)
        names.append("clock" if len(strong) > 2 else "line")
    return names


@mutant("tell_algorithms", says="models are wrong", clause="by which algorithm")
def says_clock_always(models, p):
    return ["clock"] * len(models)


@alternative("tell_algorithms")
def by_sums_and_differences(models, p):
    """Nudge both embeddings alike, or against each other: both gradients tell the angle."""
    a, _b, tokens = list_pairs(p)
    outputs = torch.randint(p, a.shape, generator=torch.Generator().manual_seed(7))

    def take(model, signs):
        nudge = torch.zeros(len(a), 1, model.config.d_model).requires_grad_()
        move = nudge * torch.tensor(signs)[:, None]
        logits = model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda x, hook: x + move)])
        chosen = logits[torch.arange(len(a)), -1, outputs].sum()
        return torch.autograd.grad(chosen, nudge)[0][:, 0].double()

    def measure(model, p):
        alike, apart = take(model, [1.0, 1.0, 0.0]), take(model, [1.0, -1.0, 0.0])
        one, other, both = (alike**2).sum(1), (apart**2).sum(1), (alike * apart).sum(1)
        return float(((one - other) / ((one + other) ** 2 - 4 * both**2).sqrt()).mean())

    return tuple(name_algorithms(models, p, symmetry=measure))


@alternative("tell_algorithms")
def by_right_answers_and_squares(models, p):
    a, b, _ = list_pairs(p)

    def follow(model, p):
        correct = run(model, p)[torch.arange(p * p), (a + b) % p]
        table = torch.stack([correct[(b - a) % p == d] for d in range(p)])
        return float(table.var(dim=1).mean().sqrt() / table.std())

    def even(model, p):
        scores = [measure_symmetry(model, p, (a + b + 1 + shift) % p) for shift in range(p)]
        return sum(scores) / p

    return name_algorithms(models, p, symmetry=even, irrelevance=follow)

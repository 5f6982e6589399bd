"""List wrong answers to lesson 14 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer import methods
from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {"audit_erasers": ["The erasers were fitted on other texts"]}

# erase_values -------------------------------------------------------------------------------------


def find_whitening(x):
    """Find the inverse root of the covariance, in double precision."""
    x = (x - x.mean(dim=0)).double()
    size, axes = torch.linalg.eigh(x.T @ x / len(x))
    return axes @ torch.diag(size.clamp(min=1e-12).rsqrt()) @ axes.T


def find_matrix(x, values, least=1e-5, whiten=True):
    """Find M of LEACE; `least` is the share of the largest below which a direction is rounding."""
    W = find_whitening(x) if whiten else torch.eye(x.shape[1]).double()
    cross = W @ (x - x.mean(dim=0)).double().T @ (values - values.mean(dim=0)).double()
    U, S, _ = torch.linalg.svd(cross, full_matrices=False)
    Q = U[:, S / S[0] > least]
    return torch.linalg.inv(W) @ Q @ Q.T @ W


def apply(M, fresh, mean):
    return (fresh - (fresh - mean).double() @ M.T).float()


@mutant(
    "erase_values",
    "You project the covariances out at right angles: that erases, too, but some other eraser of "
    "the lesson changes the activations less.",
    clause="take the one whose squared change, on average over the rows, is least",
)
def projects_at_right_angles(activations, values, fresh):
    return apply(find_matrix(activations, values, whiten=False), fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You take out what a regression reads, at right angles, as one round of INLP does: the "
    "covariances stay.",
    clause="every coordinate of `activations` has covariance 0 with every value",
)
def takes_out_what_a_regression_reads(activations, values, fresh):
    mean = activations.mean(dim=0)
    x = (activations - mean).double()
    read = torch.linalg.lstsq(x, (values - values.mean(dim=0)).double(), driver="gelsd").solution
    U, S, _ = torch.linalg.svd(read, full_matrices=False)
    U = U[:, S / S[0] > 1e-5]
    return apply(U @ U.T, fresh, mean)


@mutant(
    "erase_values",
    "You multiply by M without taking the mean away first, so that all rows are moved.",
    clause="`x → x - M (x - mean)`",
)
def forgets_the_mean(activations, values, fresh):
    return apply(find_matrix(activations, values), fresh, 0 * activations[0])


@mutant(
    "erase_values",
    "You take the mean of `fresh`; it is that of `activations`.",
    clause="where `mean` is that of `activations`",
)
def takes_the_mean_of_the_fresh(activations, values, fresh):
    return apply(find_matrix(activations, values), fresh, fresh.mean(dim=0))


@mutant(
    "erase_values",
    "You return rows around 0: an eraser leaves the mean where it was.",
    clause="`x → x - M (x - mean)`",
)
def leaves_rows_around_zero(activations, values, fresh):
    mean = activations.mean(dim=0)
    return apply(find_matrix(activations, values), fresh, mean) - mean


@mutant(
    "erase_values",
    "You multiply with M from the wrong side: rows of activations need `M.T`.",
    clause="`x → x - M (x - mean)`",
)
def transposes_the_matrix(activations, values, fresh):
    return apply(find_matrix(activations, values).T, fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You add up the erasers of the single values: what two values share is taken out twice.",
    clause="has covariance 0 with every value",
)
def adds_up_erasers_of_single_values(activations, values, fresh):
    M = sum(find_matrix(activations, values[:, i, None]) for i in range(values.shape[1]))
    return apply(M, fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You erase the first value only.",
    clause="with every value",
)
def erases_the_first_value_only(activations, values, fresh):
    return apply(find_matrix(activations, values[:, :1]), fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You erase the sum of the values, where each has to go.",
    clause="with every value",
)
def erases_the_sum(activations, values, fresh):
    M = find_matrix(activations, values.sum(dim=1, keepdim=True))
    return apply(M, fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You erase whether a value is high or low; the value itself can still be read.",
    clause="Row i of `activations` goes with the numbers `values[i]`.",
)
def makes_classes_of_the_values(activations, values, fresh):
    high = (values > values.mean(dim=0)).float()
    return apply(find_matrix(activations, high), fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You take out one direction for each value, also where a value is a sum of others: one of them "
    "is rounding only, and what lies along it is lost for nothing.",
    clause="One value may be a sum of others",
)
def takes_out_as_many_directions_as_values(activations, values, fresh):
    return apply(find_matrix(activations, values, least=-1.0), fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You drop directions that are small, but more than rounding: a value that varies little is "
    "still there.",
    clause="and one may vary little",
)
def drops_what_varies_little(activations, values, fresh):
    return apply(find_matrix(activations, values, least=0.2), fresh, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You scale each coordinate by itself; coordinates vary together, and whitening heeds that.",
    clause="take the one whose squared change, on average over the rows, is least",
)
def scales_each_coordinate(activations, values, fresh):
    mean = activations.mean(dim=0)
    size = activations.double().std(dim=0)
    M = find_matrix(activations / size, values, whiten=False)
    return apply(size[:, None] * M / size, fresh, mean)


@mutant(
    "erase_values",
    "You take covariances around 0 instead of around the means.",
    clause="has covariance 0",
)
def takes_products_around_zero(activations, values, fresh):
    x, z = activations.double(), values.double()
    size, axes = torch.linalg.eigh(x.T @ x / len(x))
    W = axes @ torch.diag(size.rsqrt()) @ axes.T
    U, S, _ = torch.linalg.svd(W @ x.T @ z, full_matrices=False)
    Q = U[:, S / S[0] > 1e-5]
    M = torch.linalg.inv(W) @ Q @ Q.T @ W
    return apply(M, fresh, activations.mean(dim=0))


@mutant("erase_values", says="shape", clause="Return `fresh`, which are other activations")
def returns_the_old_activations(activations, values, fresh):
    return apply(find_matrix(activations, values), activations, activations.mean(dim=0))


@mutant(
    "erase_values",
    "You whiten with the covariance of `fresh`; the eraser belongs to `activations`.",
    clause="Find the one after which every coordinate of `activations`",
)
def whitens_by_the_fresh(activations, values, fresh):
    mean = activations.mean(dim=0)
    x = (activations - mean).double()
    other = (fresh - fresh.mean(dim=0)).double()
    S = other.T @ other / len(other) + 1e-3 * torch.eye(x.shape[1]).double()
    C = x.T @ (values - values.mean(dim=0)).double() / len(x)
    inverse = torch.linalg.inv(S)
    M = C @ torch.linalg.pinv(C.T @ inverse @ C, rtol=1e-9) @ C.T @ inverse
    return apply(M, fresh, mean)


@alternative("erase_values")
def by_an_oblique_projection(activations, values, fresh):
    mean = activations.mean(dim=0)
    x = (activations - mean).double()
    C = x.T @ values.double()
    inverse = torch.linalg.inv(x.T @ x)
    M = C @ torch.linalg.pinv(C.T @ inverse @ C, rtol=1e-8, hermitian=True) @ C.T @ inverse
    return (fresh - (fresh - mean).double() @ M.T).numpy()


@alternative("erase_values")
def one_value_after_the_other(activations, values, fresh):
    x, new = activations.double(), fresh.double()
    mean = x.mean(dim=0)
    x, new = x - mean, new - mean
    for z in values.double().T:
        c = x.T @ (z - z.mean()) / len(x)
        if c.norm() < 1e-6:
            continue
        inverse = torch.linalg.pinv(x.T @ x / len(x), rtol=1e-9, hermitian=True)
        M = torch.outer(c, inverse @ c) / (c @ inverse @ c)
        x, new = x - x @ M.T, new - new @ M.T
    return new + mean


# find_used_concepts -------------------------------------------------------------------------------


def read_site(model, tokens, name):
    with torch.no_grad():
        return model.run_with_cache(tokens)[1][name][:, -1]


def say(model, tokens, hooks=()):
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=list(hooks))[:, -1].argmax(-1)


def turn(model, tokens, name, change, said, at=-1):
    """Return which answers turn from `said` when `change` is added at a position."""

    def add(x, hook):
        x[:, at] += change

    return say(model, tokens, [(name, add)]) != said


def fit_vectors(site, concepts, constant=True):
    """Fit a vector for each concept, all at once."""
    design = torch.stack([*concepts.values()], dim=1).float()
    if constant:
        design = torch.cat([design, torch.ones(len(design), 1)], dim=1)
    return torch.linalg.lstsq(design, site).solution[: len(concepts)]


def differ(site, value):
    """The difference of the two means."""
    return site[value == 1].mean(0) - site[value == 0].mean(0)


def list_used(model, tokens, concepts, name, vectors=None, judge=None, sign=None, at=-1):
    """List used concepts; switches stand for the clauses of the task."""
    site = read_site(model, tokens, name)
    vectors = fit_vectors(site, concepts) if vectors is None else vectors(site, concepts)
    judge = judge or (lambda turned: turned.float().mean() >= 0.1)
    said = say(model, tokens)
    used = []
    for (concept, value), vector in zip(concepts.items(), vectors, strict=True):
        signs = 1 - 2 * value[:, None] if sign is None else sign(value[:, None])
        change = signs * vector
        change = change[:, None] if at == slice(None) else change
        if judge(turn(model, tokens, name, change, said, at)):
            used.append(concept)
    return used


def take_means(site, concepts):
    return [differ(site, value) for value in concepts.values()]


@mutant(
    "find_used_concepts",
    "You list concepts that nobody reads at the site. A difference of means, an eraser and a probe "
    "all take a share of whatever goes with a concept.",
    clause="But some concepts have the same value in most prompts",
)
def takes_what_goes_with_it(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, vectors=take_means)


@mutant("find_used_concepts", name="takes_what_goes_with_it")
def projects_the_difference_out(model, tokens, concepts, name):
    site = read_site(model, tokens, name)
    said = say(model, tokens)
    used = []
    for concept, value in concepts.items():
        eraser = methods.fit_projection(site, value)
        if turn(model, tokens, name, eraser(site) - site, said).float().mean() >= 0.1:
            used.append(concept)
    return used


@mutant(
    "find_used_concepts",
    name="takes_what_goes_with_it",
    clause="each concept adds a vector of its own where it is 1",
)
def erases_whatever_goes_with_it(model, tokens, concepts, name):
    site = read_site(model, tokens, name)
    said = say(model, tokens)
    used = []
    for concept, value in concepts.items():
        eraser = methods.fit_leace(site, value)
        if turn(model, tokens, name, eraser(site) - site, said).float().mean() >= 0.1:
            used.append(concept)
    return used


@mutant(
    "find_used_concepts",
    "You fit the vectors without a constant, though the site holds other things as well.",
    clause="and whatever else there is goes with no concept",
)
def fits_without_a_constant(model, tokens, concepts, name):
    return list_used(
        model, tokens, concepts, name, vectors=lambda site, c: fit_vectors(site, c, constant=False)
    )


@mutant("find_used_concepts", name="takes_what_goes_with_it", clause="The site holds a sum")
def lists_what_can_be_read(model, tokens, concepts, name):
    site = read_site(model, tokens, name)
    return [
        concept
        for concept, value in concepts.items()
        if methods.fit_probe(site, value).accuracy(site, value) > 0.9
    ]


@mutant(
    "find_used_concepts",
    "You list the concepts with the longest vectors: how loud one is does not say who reads it.",
    clause="A concept is used if",
)
def lists_the_loudest(model, tokens, concepts, name):
    vectors = fit_vectors(read_site(model, tokens, name), concepts)
    size = dict(zip(concepts, vectors.norm(dim=1).tolist(), strict=True))
    return sorted(concepts, key=lambda concept: -size[concept])[:3]


@mutant("find_used_concepts", name="takes_what_goes_with_it", clause="A concept is used if")
def lists_what_goes_with_the_answer(model, tokens, concepts, name):
    said = say(model, tokens)
    answers = torch.nn.functional.one_hot(said, int(said.max()) + 1).float()
    return [
        concept
        for concept, value in concepts.items()
        if differ(answers, value).abs().sum() / 2 >= 0.1
    ]


@mutant(
    "find_used_concepts",
    "You multiply the vectors with the unembedding, and miss what a later head reads at the site.",
    clause="once its vector is added there",
)
def multiplies_by_the_unembedding(model, tokens, concepts, name):
    with torch.no_grad():
        logits = model(tokens)[:, -1]
    vectors = fit_vectors(read_site(model, tokens, name), concepts)
    used = []
    for (concept, value), vector in zip(concepts.items(), vectors, strict=True):
        change = (1 - 2 * value[:, None]) * (vector @ model.W_U.detach())
        if ((logits + change).argmax(-1) != logits.argmax(-1)).float().mean() >= 0.1:
            used.append(concept)
    return used


@mutant(
    "find_used_concepts",
    "You exchange the concept in some prompts only, or the wrong way round, or half: it is added, "
    "in full, where it is 0, and taken away where it is 1.",
    clause="once its vector is added there where it is 0",
)
def takes_it_away_only(model, tokens, concepts, name):
    return list_used(
        model,
        tokens,
        concepts,
        name,
        sign=lambda value: -value,
    )


@mutant(
    "find_used_concepts",
    name="takes_it_away_only",
    clause="and taken away where it is 1",
)
def adds_it_everywhere(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, sign=torch.ones_like)


@mutant(
    "find_used_concepts",
    name="takes_it_away_only",
    clause="once its vector is added there where it is 0, and taken away where it is 1",
)
def exchanges_the_signs(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, sign=lambda value: 2 * value - 1)


@mutant(
    "find_used_concepts",
    name="takes_it_away_only",
    clause="once its vector is added there where it is 0, and taken away where it is 1",
)
def goes_half_the_way(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, sign=lambda value: 0.5 - value)


@mutant(
    "find_used_concepts",
    name="asks_for_any_answer",
    clause="each concept adds a vector of its own where it is 1",
)
def multiplies_the_vector(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, sign=lambda value: 5 - 10 * value)


@mutant(
    "find_used_concepts",
    "You exchange the concept at all positions; the site is at the last.",
    clause="The site is the stream `name` at the last position",
)
def exchanges_at_all_positions(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, at=slice(None))


@mutant(
    "find_used_concepts",
    "You exchange the concept at the first position; the site is at the last.",
    clause="at the last position",
)
def exchanges_at_the_first_position(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, at=0)


@mutant(
    "find_used_concepts",
    "You list a concept that hardly turns an answer: one in ten has to turn, with the vector as "
    "long as it is, and logits that move do not count.",
    clause="at least one prompt in ten",
)
def asks_for_any_answer(model, tokens, concepts, name):
    return list_used(model, tokens, concepts, name, judge=lambda turned: turned.any())


@mutant(
    "find_used_concepts",
    "You ask for more than half of the answers; the task asks for one in ten.",
    clause="at least one prompt in ten",
)
def asks_for_half(model, tokens, concepts, name):
    return list_used(
        model, tokens, concepts, name, judge=lambda turned: turned.float().mean() > 0.5
    )


@mutant(
    "find_used_concepts",
    name="asks_for_any_answer",
    clause="The answer is the token with the highest logit at the last position.",
)
def asks_whether_logits_move(model, tokens, concepts, name):
    vectors = fit_vectors(read_site(model, tokens, name), concepts)
    used = []
    with torch.no_grad():
        plain = model(tokens)[:, -1]
        for concept, vector in zip(concepts, vectors, strict=True):

            def add(x, hook, vector=vector):
                x[:, -1] += vector

            logits = model.run_with_hooks(tokens, fwd_hooks=[(name, add)])[:, -1]
            if (logits - plain).std(dim=0).max() + (logits - plain).abs().mean() > 0.02:
                used.append(concept)
    return used


@mutant(
    "find_used_concepts",
    name="asks_for_any_answer",
    clause="The answer is the token with the highest logit",
)
def asks_whether_the_highest_logit_falls(model, tokens, concepts, name):
    site = read_site(model, tokens, name)
    vectors = fit_vectors(site, concepts)
    used = []
    with torch.no_grad():
        before = model(tokens)[:, -1].amax(-1)
        for (concept, value), vector in zip(concepts.items(), vectors, strict=True):

            def add(x, hook, change=(1 - 2 * value[:, None]) * vector):
                x[:, -1] += change

            after = model.run_with_hooks(tokens, fwd_hooks=[(name, add)])[:, -1].amax(-1)
            if (after < before - 0.5).float().mean() >= 0.1:
                used.append(concept)
    return used


@mutant(
    "find_used_concepts",
    "You list what is not used.",
    clause="Return the names of the used concepts",
)
def lists_the_unused(model, tokens, concepts, name):
    used = list_used(model, tokens, concepts, name)
    return [concept for concept in concepts if concept not in used]


@mutant(
    "find_used_concepts",
    name="takes_what_goes_with_it",
    clause="`concepts[concept][i]` is 0 or 1 for prompt i",
)
def names_everything(model, tokens, concepts, name):
    return list(concepts)


@alternative("find_used_concepts")
def by_what_the_other_concepts_do_not_tell(model, tokens, concepts, name):
    site = read_site(model, tokens, name)
    said = say(model, tokens)
    table = torch.stack([*concepts.values()], dim=1)
    used = set()
    for i, concept in enumerate(concepts):
        others = torch.cat([table[:, :i], table[:, i + 1 :], torch.ones(len(table), 1)], dim=1)
        own = table[:, i].float()
        left = own - others @ torch.linalg.lstsq(others, own[:, None]).solution[:, 0]
        vector = left @ site / (left @ own)

        def put(x, hook, vector=vector, value=table[:, i]):
            x = x.clone()
            x[:, -1] = x[:, -1] + torch.where(value == 1, -1, 1)[:, None] * vector
            return x

        if (say(model, tokens, [(name, put)]) != said).float().mean() >= 0.1:
            used.add(concept)
    return used


@alternative("find_used_concepts")
def by_starting_behind_the_site(model, tokens, concepts, name):
    layer = int(name.split(".")[1]) + ("post" in name or "mid" in name)
    if "mid" in name:
        return list_used(model, tokens, concepts, name)
    with torch.no_grad():
        resid = model(tokens, stop_at_layer=layer)
        said = model(resid=resid, start_at_layer=layer)[:, -1].argmax(-1)
        design = torch.stack([*concepts.values()], dim=1).double()
        centred = design - design.mean(0)
        vectors = (torch.linalg.pinv(centred) @ resid[:, -1].double()).float()
        used = []
        for i, (concept, value) in enumerate(concepts.items()):
            changed = resid.clone()
            changed[value == 0, -1] += vectors[i]
            changed[value == 1, -1] -= vectors[i]
            other = model(resid=changed, start_at_layer=layer)[:, -1].argmax(-1)
            if int((other != said).sum()) * 10 >= len(tokens):
                used.append(concept)
    return tuple(used)


# erase_what_is_used -------------------------------------------------------------------------------


def list_differences(model, tokens, concept, topic, name, everywhere=False):
    """List topics, their differences, and the share of answers in each that turn.

    Or exchange each difference `everywhere`, and count in all topics.
    """
    site = read_site(model, tokens, name)
    said = say(model, tokens)
    topics = topic.unique().tolist()
    steps, turned = [], []
    for g in topics:
        inside = topic == g
        step = differ(site[inside], concept[inside])
        where = torch.ones_like(inside) if everywhere else inside
        change = (1 - 2 * concept)[:, None] * step
        turned.append(turn(model, tokens, name, change, said)[where].float().mean().item())
        steps.append(step)
    return topics, torch.stack(steps), torch.tensor(turned)


def cut(steps, least=0.2, most=None):
    """Cut off the directions whose singular value is a small share of the largest."""
    _, size, rows = torch.linalg.svd(steps, full_matrices=False)
    return rows[size > least * size[0]][:most]


@mutant(
    "erase_what_is_used",
    "You take out one direction, the difference of the means of all prompts: within topics much is "
    "left.",
    clause="Each topic has a difference",
)
def takes_one_direction(model, tokens, concept, topic, name):
    return differ(read_site(model, tokens, name), concept)[None]


@mutant(
    "erase_what_is_used",
    "You take out what LEACE takes out, one direction for all topics: within topics much is left.",
    clause="Each topic has a difference",
)
def takes_what_leace_takes(model, tokens, concept, topic, name):
    M = methods.fit_leace(read_site(model, tokens, name), concept).M
    return torch.linalg.svd(M).Vh[:1]


@mutant(
    "erase_what_is_used",
    "You take the direction of the mean over topics of their differences; topics cancel.",
    clause="into the rows of a matrix",
)
def averages_the_differences(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return steps[turned >= 0.1].mean(0, keepdim=True)


@mutant(
    "erase_what_is_used",
    "You take out the differences of all topics, also of those in which no answer turns.",
    clause="Only such topics count.",
)
def takes_all_topics(model, tokens, concept, topic, name):
    return cut(list_differences(model, tokens, concept, topic, name)[1], least=0.1)


@mutant(
    "erase_what_is_used",
    "You count a topic as soon as one answer turns; it must be a tenth of its prompts.",
    clause="in at least a tenth of its prompts",
)
def is_content_with_one_prompt(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return cut(steps[turned > 0])


@mutant(
    "erase_what_is_used",
    "You ask for more than a tenth of a topic's prompts, or for a tenth of all prompts; a topic is "
    "a part of them.",
    clause="in at least a tenth of its prompts",
)
def asks_for_too_many_prompts(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return cut(steps[turned >= 0.5])


@mutant(
    "erase_what_is_used",
    name="asks_for_too_many_prompts",
    clause="in at least a tenth of its prompts",
)
def asks_for_a_tenth_of_all_prompts(model, tokens, concept, topic, name):
    topics, steps, turned = list_differences(model, tokens, concept, topic, name)
    sizes = torch.tensor([(topic == g).float().mean().item() for g in topics])
    return cut(steps[turned * sizes >= 0.1])


@mutant(
    "erase_what_is_used",
    "You exchange a topic's difference in the prompts of all topics; others may read along it what "
    "this one does not.",
    clause="in at least a tenth of its prompts the answer",
)
def exchanges_in_all_topics(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name, everywhere=True)
    return cut(steps[turned >= 0.1])


@mutant(
    "erase_what_is_used",
    "You centre the differences first: what they have in common is lost, and is read as well.",
    clause="Put their differences, as they are, into the rows",
)
def centres_the_differences(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    steps = steps[turned >= 0.1]
    return cut(steps - steps.mean(0))


@mutant(
    "erase_what_is_used",
    "You take the differences of the topics in which no answer turns; those of the others count.",
    clause="A topic uses the concept if in at least a tenth of its prompts the answer",
)
def takes_the_unused_topics(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return cut(steps[turned < 0.1])


@mutant(
    "erase_what_is_used",
    "You take out a direction for each topic that uses the concept; these share directions, and "
    "what is left over is noise.",
    clause="Singular values below a fifth of its largest are noise",
)
def takes_a_direction_for_each_topic(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return steps[turned >= 0.1]


@mutant(
    "erase_what_is_used",
    "You keep only the direction in which the differences are largest; more are needed.",
    clause="your directions span the rest",
)
def takes_the_largest_direction(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return cut(steps[turned >= 0.1], most=1)


@mutant(
    "erase_what_is_used",
    "You take the difference of the first topic that uses the concept for all of them.",
    clause="`topic[i]` is 0, 1, 2 and so on",
)
def takes_the_first_used_topic(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    return steps[turned >= 0.1][:1]


@mutant(
    "erase_what_is_used",
    "You take out the differences between all class means, and the topics with them.",
    clause="minus that over its prompts with concept 0",
)
def takes_out_all_class_means(model, tokens, concept, topic, name):
    site = read_site(model, tokens, name)
    return cut(methods.fit_projection(site, 2 * topic + concept).M)


@mutant(
    "erase_what_is_used",
    "You take out what differs from topic to topic; the concept stays.",
    clause="the mean of the site over its prompts with concept 1",
)
def takes_out_the_topics(model, tokens, concept, topic, name):
    site = read_site(model, tokens, name)
    return cut(methods.fit_projection(site, topic).M)


@mutant(
    "erase_what_is_used",
    "You take out one probe's direction after the other, many of which the model does not read.",
    clause="Return as few directions as that needs",
)
def takes_what_inlp_takes(model, tokens, concept, topic, name):
    M = methods.fit_inlp(read_site(model, tokens, name), concept).M
    return cut(M, least=0.5)


@mutant(
    "erase_what_is_used",
    "You take the directions along which the site varies most; that says nothing of the concept.",
    clause="replaced by its mean over these prompts",
)
def takes_the_loudest_directions(model, tokens, concept, topic, name):
    site = read_site(model, tokens, name)
    return torch.linalg.svd(site - site.mean(0), full_matrices=False).Vh[:3]


@mutant(
    "erase_what_is_used",
    "You take all directions: the answers then tell nothing at all.",
    clause="What else answers tell must stay in 95 of 100.",
)
def takes_everything(model, tokens, concept, topic, name):
    return torch.eye(model.config.d_model)


@mutant(
    "erase_what_is_used",
    "You read the site at the first position, where it holds nothing of the concept.",
    clause="The site is the stream `name` at the last position.",
)
def reads_the_first_position(model, tokens, concept, topic, name):
    with torch.no_grad():
        site = model.run_with_cache(tokens)[1][name].mean(1)
    steps = [differ(site[topic == g], concept[topic == g]) for g in topic.unique()]
    return cut(torch.stack(steps), most=2)


@mutant(
    "erase_what_is_used",
    "You take the directions that probes read, one for each topic that uses the concept; the "
    "differences of the means are others.",
    clause="Then answers in the topics that count must not tell the concept any more.",
)
def takes_probes_directions(model, tokens, concept, topic, name):
    site = read_site(model, tokens, name)
    topics, _, turned = list_differences(model, tokens, concept, topic, name)
    rows = [
        methods.fit_probe(site[topic == g], concept[topic == g]).directions[0]
        for g, share in zip(topics, turned.tolist(), strict=True)
        if share >= 0.1
    ]
    return cut(torch.nn.functional.normalize(torch.stack(rows), dim=1), least=0.02)


@alternative("erase_what_is_used")
def by_the_sum_of_squares(model, tokens, concept, topic, name):
    _, steps, turned = list_differences(model, tokens, concept, topic, name)
    steps = steps[turned >= 0.1].double()
    size, axes = torch.linalg.eigh(steps.T @ steps)
    return (3.0 * axes[:, size > 0.04 * size[-1]].T).tolist()


@alternative("erase_what_is_used")
def topic_by_topic(model, tokens, concept, topic, name):
    rows = []
    for g in topic.unique():
        prompts, values = tokens[topic == g], concept[topic == g]
        step = differ(read_site(model, prompts, name), values)
        change = torch.where(values[:, None] == 1, -step, step)
        turned = turn(model, prompts, name, change, say(model, prompts))
        if 10 * int(turned.sum()) >= len(prompts):
            rows.append(step)
    U, S, V = torch.linalg.svd(torch.stack(rows), full_matrices=False)
    n = int((S / S[0] > 0.2).sum())
    return U[:n, :n] * S[:n] @ V[:n]  # differences without their noise, as many as are needed


# audit_erasers ------------------------------------------------------------------------------------


def whiten(x):
    U, S, _ = torch.linalg.svd((x - x.mean(dim=0)).double(), full_matrices=False)
    return U[:, S / S[0] > 1e-6] * len(x) ** 0.5


def split_rows(n, folds=4):
    return torch.randperm(n, generator=torch.Generator().manual_seed(1)) % folds


def read_line(x, labels, new_x, penalty):
    """Answer by a linear probe: least squares with a penalty on large weights."""
    mean, sign = x.mean(0), 2.0 * labels.double() - 1
    x, new_x = (x - mean).double(), (new_x - mean).double()
    gram = x.T @ x + penalty * torch.eye(x.shape[1]).double()
    w = torch.linalg.solve(gram, x.T @ (sign - sign.mean()))
    return new_x @ w + sign.mean() > 0


def measure_line(x, labels, penalty=20.0, new=True):
    """Measure a linear probe on rows that it was not trained on, or on its own."""
    if not new:
        return (read_line(x, labels, x, penalty) == labels.bool()).float().mean().item()
    fold = split_rows(len(x))
    right = []
    for i in range(4):
        guess = read_line(x[fold != i], labels[fold != i], x[fold == i], penalty)
        right.append(guess == labels[fold == i].bool())
    return torch.cat(right).float().mean().item()


def measure_alike(x, labels, k=9, itself=False):
    distance = torch.cdist(x, x)
    distance = distance if itself else distance.fill_diagonal_(torch.inf)
    votes = labels[distance.topk(k, largest=False).indices].float().mean(dim=1)
    return ((votes > 0.5) == labels.bool()).float().mean().item()


def judge_eraser(x, concept, other, line=None, alike=None, order=None, least=0.7):
    """Give the verdict on one eraser; switches stand for the clauses of the task."""
    line = line or (lambda x, labels: measure_line(whiten(x), labels))
    alike = alike or measure_alike
    holds = {
        "linear": lambda: line(x, concept) >= least,
        "nonlinear": lambda: alike(x, concept) >= least,
        "damage": lambda: line(x, other) < least,
    }
    order = order or ("linear", "nonlinear", "damage")
    return next((verdict for verdict in order if holds[verdict]()), "clean")


def judge_all(erased, concept, other, **options):
    return {name: judge_eraser(x, concept, other, **options) for name, x in erased.items()}


@mutant(
    "audit_erasers",
    "Your probe cannot have large weights, so it misses a concept that was made small and not "
    "taken out.",
    clause="however large its weights must be",
)
def misses_what_was_made_small(erased, concept, other):
    return judge_all(erased, concept, other, line=lambda x, labels: measure_line(x, labels, 1.0))


@mutant(
    "audit_erasers",
    "You judge a probe on the rows that it was trained on: with many directions it finds "
    "everything there.",
    clause="in at least 70% of rows that were not used in training",
)
def judges_on_its_own_rows(erased, concept, other):
    return judge_all(
        erased,
        concept,
        other,
        line=lambda x, labels: measure_line(whiten(x), labels, penalty=1e-6, new=False),
    )


@mutant(
    "audit_erasers",
    "You look for linear traces only; some erasers leave others.",
    clause='"nonlinear": something else reads it',
)
def looks_for_linear_traces_only(erased, concept, other):
    return judge_all(erased, concept, other, order=("linear", "damage"))


@mutant(
    "audit_erasers",
    "You never ask whether the other label is still there.",
    clause='"damage": no linear probe reads the other label any more',
)
def never_looks_for_damage(erased, concept, other):
    return judge_all(erased, concept, other, order=("linear", "nonlinear"))


@mutant(
    "audit_erasers",
    "You ask for damage first; the task asks for traces of the concept first.",
    clause="The verdict is the first of these that holds",
)
def asks_for_damage_first(erased, concept, other):
    return judge_all(erased, concept, other, order=("damage", "linear", "nonlinear"))


@mutant(
    "audit_erasers",
    "You exchange the two labels: `concept` was to be erased.",
    clause="`concept[i]`, which was to be erased",
)
def exchanges_the_labels(erased, concept, other):
    return judge_all(erased, other, concept)


@mutant(
    "audit_erasers",
    "You ask for 90% where the task asks for 70%.",
    clause="at least 70%",
)
def asks_for_nine_in_ten(erased, concept, other):
    return judge_all(erased, concept, other, least=0.9)


@mutant(
    "audit_erasers",
    "You ask for less than 70%: what a probe tells in three rows of five does not count.",
    clause="at least 70%",
)
def asks_for_little_more_than_chance(erased, concept, other):
    return judge_all(erased, concept, other, least=0.56)


@mutant(
    "audit_erasers",
    "You look for other traces before the linear ones, which have such, too.",
    clause="The verdict is the first of these that holds",
)
def asks_for_other_traces_first(erased, concept, other):
    return judge_all(erased, concept, other, order=("nonlinear", "linear", "damage"))


@mutant(
    "audit_erasers",
    name="misses_what_was_made_small",
    clause='"linear": a linear probe reads the concept',
)
def compares_the_means(erased, concept, other):
    def line(x, labels):
        return float(differ(x, labels).norm() > 0.3 * (x - x.mean(0)).norm(dim=1).mean())

    return judge_all(erased, concept, other, line=line)


@mutant(
    "audit_erasers",
    "A row counts among those that are alike to it, and explains itself.",
    clause="of rows that are alike most have the same concept",
)
def lets_rows_explain_themselves(erased, concept, other):
    return judge_all(
        erased,
        concept,
        other,
        alike=lambda x, labels: measure_alike(x, labels, k=1, itself=True),
    )


@mutant(
    "audit_erasers",
    "You ask only how far rows are from the middle; the concept can also be a sign that needs the "
    "other label.",
    clause="something else reads it",
)
def looks_at_distances_only(erased, concept, other):
    def alike(x, labels):
        return measure_line((x - x.mean(0)).norm(dim=1, keepdim=True), labels, penalty=1e-3)

    return judge_all(erased, concept, other, alike=alike)


@mutant(
    "audit_erasers",
    "You ask for the concept among rows of one value of the other label only; it can also be how "
    "far a row is from the middle.",
    clause="something else reads it",
)
def looks_within_the_other_label(erased, concept, other):
    def alike(x, labels):
        x = whiten(x)
        return min(measure_line(x[other == v], labels[other == v]) for v in (0, 1))

    return judge_all(erased, concept, other, alike=alike)


@mutant(
    "audit_erasers",
    "You give every eraser the same verdict.",
    clause="what an eraser made of a model's activations for text i",
)
def says_clean_always(erased, concept, other):
    return dict.fromkeys(erased, "clean")


@mutant("audit_erasers", says="Return a dict", clause="Return the verdict for every name.")
def leaves_out_the_clean(erased, concept, other):
    verdicts = judge_all(erased, concept, other)
    return {name: verdict for name, verdict in verdicts.items() if verdict != "clean"}


@alternative("audit_erasers")
def by_least_squares_and_a_second_degree(erased, concept, other):
    """A line by least squares; anything else by products of two directions."""

    def alike(x, labels):
        x = whiten(x)[:, :10]
        pairs = torch.combinations(torch.arange(x.shape[1]), with_replacement=True)
        products = x[:, pairs[:, 0]] * x[:, pairs[:, 1]]
        return measure_line(torch.cat([x, products], dim=1), labels, penalty=50.0)

    return judge_all(erased, concept, other, alike=alike)


@alternative("audit_erasers")
def by_neighbours_in_whitened_rows(erased, concept, other):
    return judge_all(erased, concept, other, alike=lambda x, c: measure_alike(whiten(x), c, k=15))


@alternative("audit_erasers")
def by_a_small_penalty_and_random_neurons(erased, concept, other):
    def line(x, labels):
        probes = [split_rows(len(x), 2) == i for i in range(2)]
        return (
            sum(
                methods.fit_probe(x[part], labels[part], penalty=1e-6).accuracy(
                    x[~part], labels[~part]
                )
                for part in probes
            )
            / 2
        )

    def alike(x, labels):
        generator = torch.Generator().manual_seed(0)
        x = (x - x.mean(0)) / x.std()
        neurons = torch.randn(x.shape[1], 120, generator=generator)
        bias = torch.randn(120, generator=generator)
        return measure_line(whiten(torch.relu(x @ neurons + bias)), labels, penalty=50.0)

    return judge_all(erased, concept, other, line=line, alike=alike)

"""List wrong answers to lesson 16 that the grader rejects by name, and unusual right ones."""

import functools

import torch
from torch.nn.functional import cross_entropy

from mini_transformer.course.grading.mutants import alternative, mutant, vary
from mini_transformer.methods import fit_das, measure_interchange, swap_subspace

# How sentences of the tasks begin that ask for nothing.
GIVEN = {"refute_hypotheses": ["All hypotheses are right"]}


def pair_all(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n)).T


@torch.no_grad()
def run_swaps(model, prompts, place, base, source):
    """Run swaps of a place; return what the model says last (pair)."""
    hook, position, rows = place
    own, other = (
        model.run_with_cache(prompts[which], names_filter=hook)[1][hook] for which in (base, source)
    )
    at = slice(None) if position is None else position
    swapped = own.clone()
    swapped[:, at] = own[:, at] + (other[:, at] - own[:, at]) @ rows.T @ rows
    logits = model.run_with_hooks(prompts[base], fwd_hooks=[(hook, lambda value, point: swapped)])
    return logits


# find_places --------------------------------------------------------------------------------------


def list_carriers(
    model,
    prompts,
    answers,
    places,
    choose=pair_all,
    change=lambda place: place,
    at=-1,
    want=lambda answers, base, source: answers[base, source],
    judge=lambda right: bool(right.all()),
):
    """List places; switches stand for the clauses of the task."""
    base, source = choose(len(prompts))
    found = []
    for name, place in places.items():
        said = run_swaps(model, prompts, change(place), base, source)[:, at].argmax(dim=-1)
        if judge(said == want(answers, base, source)):
            found.append(name)
    return found


wrong = vary("find_places", list_carriers)
wrong(
    "accepts_a_place_that_fails",
    "You accept a place that fails for some pairs: try each prompt as base with each as source, "
    "and accept what is right for all of them.",
    clause="with any prompt as base and any as source",
    judge=lambda right: right.float().mean() >= 0.9,
)
wrong(
    "accepts_a_place_that_fails",
    choose=lambda n: (torch.zeros(n, dtype=torch.long), torch.arange(n)),
)
wrong(
    "accepts_a_place_that_fails",
    choose=lambda n: (torch.arange(n), (torch.arange(n) + 1) % n),
)
wrong("accepts_a_place_that_fails", choose=lambda n: torch.combinations(torch.arange(n)).T)
wrong(
    "names_all_places",
    "You name all places. Every place passes where base and source are the same prompt.",
    clause="Return the names of the places that carry it",
    choose=lambda n: (torch.arange(n), torch.arange(n)),
)
wrong(
    "swaps_the_whole_activation",
    "You swap the whole activation; only what lies in the span of the rows comes from the source.",
    clause="in the span of the rows, and no other part",
    change=lambda place: (place[0], place[1], torch.eye(place[2].shape[1])),
)
wrong(
    "ignores_the_position",
    "You swap at all positions, or always at one; each place has a position of its own.",
    clause="A place is the name of a hook, a position, and orthonormal rows.",
    change=lambda place: (place[0], None, place[2]),
)
wrong("ignores_the_position", change=lambda place: (place[0], -1, place[2]))
wrong(
    "takes_base_for_source",
    says="You name",
    clause="`answers[i, j]` is the token that prompt i calls for",
    want=lambda answers, base, source: answers[source, base],
)
wrong(
    "expects_the_answer_of_the_source",
    "You expect what the source itself calls for; only one variable comes from the source.",
    clause="if the variable has the value that it has in prompt j",
    want=lambda answers, base, source: answers[source, source],
)
wrong(
    "reads_the_first_position",
    says="You name",
    clause="the token with the highest logit at the last position",
    at=0,
)


@mutant(
    "find_places",
    "You look at where the variable can be read; the task asks for where swaps set it.",
    clause="Find the places of a model that carry a variable.",
)
def reads_instead_of_swapping(model, prompts, answers, places):
    """A variable's value is told by its column of answers; is it decodable from the place?"""
    found = []
    same = (answers[:, :, None] == answers[:, None]).all(dim=0)
    for name, (hook, position, rows) in places.items():
        with torch.no_grad():
            h = model.run_with_cache(prompts)[1][hook][:, position] @ rows.T
        nearest = torch.cdist(h, h).fill_diagonal_(torch.inf).argmin(dim=1)
        if same[torch.arange(len(prompts)), nearest].all():
            found.append(name)
    return found


@mutant(
    "find_places",
    "You name the best places, also where none is right for all pairs.",
    clause="if there are any",
)
def names_the_best(model, prompts, answers, places):
    base, source = pair_all(len(prompts))
    shares = {}
    for name, place in places.items():
        said = run_swaps(model, prompts, place, base, source)[:, -1].argmax(dim=-1)
        shares[name] = float((said == answers[base, source]).float().mean())
    return [name for name, share in shares.items() if share == max(shares.values())]


@mutant("find_places", clause="each name that does not belong in the list")
def names_all_places(model, prompts, answers, places):
    return list(places)


@alternative("find_places")
def one_source_at_a_time(model, prompts, answers, places):
    def carries(hook, position, rows):
        return all(
            measure_interchange(
                model,
                prompts,
                prompts[source].expand_as(prompts),
                answers[:, source],
                rows,
                hook,
                position,
            )
            == 1.0
            for source in range(len(prompts))
        )

    return {name for name, place in places.items() if carries(*place)}


@alternative("find_places")
def by_projectors_in_double(model, prompts, answers, places):
    base, source = pair_all(len(prompts))
    found = []
    for name, (hook, position, rows) in places.items():
        inside = (rows.T @ rows).double()
        outside = torch.eye(len(inside)).double() - inside
        h = model.run_with_cache(prompts)[1][hook][:, position].double()
        value = (h[base] @ outside + h[source] @ inside).float()

        def put(resid, point, position=position, value=value):
            resid[:, position] = value

        logits = model.run_with_hooks(prompts[base], fwd_hooks=[(hook, put)])[:, -1]
        if torch.equal(logits.max(dim=-1).indices, answers.flatten()):
            found.append(name)
    return tuple(found)


# refute_hypotheses --------------------------------------------------------------------------------


def refute(
    model,
    prompts,
    place,
    values,
    answers,
    choose=pair_all,
    change=lambda place: place,
    predict=lambda value, answer, base, source: answer[base, value[source]],
    order=lambda base, source: (base, source),
    read=lambda model, prompts, place, base, source: run_swaps(model, prompts, place, base, source)[
        :, -1
    ].argmax(dim=-1),
):
    """Refute hypotheses; switches stand for the clauses of the task."""
    base, source = choose(len(prompts))
    said = read(model, prompts, change(place), base, source)
    found = []
    for value, answer in zip(values, answers, strict=True):
        wrong = (predict(value, answer, base, source) != said).nonzero().flatten().tolist()
        pair = order(int(base[wrong[0]]), int(source[wrong[0]])) if wrong else None
        found.append(pair)
    return found


def draw_pairs(n, count):
    return torch.randint(n, (2, count), generator=torch.Generator().manual_seed(0))


wrong = vary("refute_hypotheses", refute)
wrong(
    "tries_twenty_pairs",
    "You try a few pairs at random; hypotheses that are wrong about others pass.",
    clause="Some are wrong about very few pairs.",
    choose=lambda n: draw_pairs(n, 20),
)
wrong(
    "tries_one_base",
    "You swap into the first prompt only; some hypotheses are wrong about other prompts.",
    clause="for any base and source",
    choose=lambda n: (torch.zeros(n, dtype=torch.long), torch.arange(n)),
)
wrong(
    "refutes_nothing",
    "You refute none. Runs without a swap, and swaps of a prompt with itself, refute nothing.",
    clause="when you swap the place",
    choose=lambda n: (torch.arange(n), torch.arange(n)),
)
wrong(
    "gives_source_before_base",
    "You give (source, base); the task asks for (base, source).",
    clause="the numbers (base, source) of two prompts",
    order=lambda base, source: (source, base),
)
wrong(
    "takes_the_value_of_the_base",
    "You predict with the value that the base has; after the swap it is that of the source.",
    clause="the value `values[h, j]` in prompt j",
    predict=lambda value, answer, base, source: answer[base, value[base]],
)
wrong(
    "takes_the_answers_of_the_source",
    "You look the answer up for the source; the swap is made in a run on the base.",
    clause="prompt i calls for the token `answers[h, i, k]`",
    predict=lambda value, answer, base, source: answer[source, value[base]],
)
wrong(
    "takes_the_source_for_all",
    "You predict what the source itself calls for; only the variable comes from the source.",
    clause="prompt i calls for the token `answers[h, i, k]` if the value is k",
    predict=lambda value, answer, base, source: answer[source, value[source]],
)
wrong(
    "swaps_the_whole_activation",
    "You swap the whole activation; only what lies in the span of the rows comes from the source.",
    clause="A place is as in `find_places`.",
    change=lambda place: (place[0], place[1], torch.eye(place[2].shape[1])),
)
wrong(
    "swaps_at_another_position",
    "You swap at position 0; the place has a position of its own.",
    clause="A place is as in `find_places`",
    change=lambda place: (place[0], 0, place[2]),
)
wrong(
    "reads_another_position",
    says="one number only",
    clause="the token with the highest logit at the last position",
    read=lambda model, prompts, place, base, source: run_swaps(model, prompts, place, base, source)[
        :, 0
    ].argmax(dim=-1),
)


@mutant("refute_hypotheses", clause="or None if there are no such two")
def refutes_nothing(model, prompts, place, values, answers):
    return [None] * len(values)


@mutant(
    "refute_hypotheses",
    "You refute hypotheses by one another, without the model: rivals disagree, but which is right?",
    clause="two prompts for which the model answers otherwise",
)
def compares_with_the_first_hypothesis(model, prompts, place, values, answers):
    base, source = pair_all(len(prompts))
    predicted = [answer[base, value[source]] for value, answer in zip(values, answers, strict=True)]
    found = []
    for each in predicted:
        wrong = (each != predicted[0]).nonzero().flatten().tolist()
        found.append((int(base[wrong[0]]), int(source[wrong[0]])) if wrong else None)
    return found


@mutant(
    "refute_hypotheses",
    "You refute what most hypotheses do not predict, without the model: most of them may be wrong.",
    clause="for which the model answers otherwise",
)
def trusts_the_majority(model, prompts, place, values, answers):
    base, source = pair_all(len(prompts))
    predicted = torch.stack(
        [answer[base, value[source]] for value, answer in zip(values, answers, strict=True)]
    )
    found = []
    for each in predicted:
        wrong = (each != predicted.mode(dim=0).values).nonzero().flatten().tolist()
        found.append((int(base[wrong[0]]), int(source[wrong[0]])) if wrong else None)
    return found


@mutant(
    "refute_hypotheses",
    "You swap only between prompts with different values; a hypothesis may be wrong about prompts "
    "with the same value.",
    clause="for any base and source",
)
def tries_different_values_only(model, prompts, place, values, answers):
    base, source = pair_all(len(prompts))
    differ = values[0][base] != values[0][source]
    pairs = base[differ], source[differ]
    return refute(model, prompts, place, values, answers, choose=lambda n: pairs)


@mutant(
    "refute_hypotheses",
    "You never refute the best hypothesis; it may be wrong as well.",
    clause="or None if there are no such two",
)
def keeps_the_best(model, prompts, place, values, answers):
    base, source = pair_all(len(prompts))
    said = run_swaps(model, prompts, place, base, source)[:, -1].argmax(dim=-1)
    pairs = zip(values, answers, strict=True)
    counts = [int((answer[base, value[source]] != said).sum()) for value, answer in pairs]
    found = refute(model, prompts, place, values, answers)
    return [
        None if count == min(counts) else pair for count, pair in zip(counts, found, strict=True)
    ]


@alternative("refute_hypotheses")
def by_a_table_of_what_is_said(model, prompts, place, values, answers):
    hook, position, rows = place
    n = len(prompts)
    said = torch.empty(n, n, dtype=torch.long)
    for j in range(n):
        logits = swap_subspace(
            model, prompts, prompts[j].expand(n, -1), rows, hook, position=position
        )
        said[:, j] = logits[:, -1].argmax(dim=-1)
    pairs = []
    for h in range(len(values)):
        wrong = [
            [i, j]
            for j in reversed(range(n))
            for i in reversed(range(n))
            if answers[h, i, values[h, j]] != said[i, j]
        ]
        pairs.append(wrong[0] if wrong else [])
    return pairs


@alternative("refute_hypotheses")
def as_tensors(model, prompts, place, values, answers):
    base, source = pair_all(len(prompts))
    said = run_swaps(model, prompts, place, base, source)[:, -1].argmax(dim=-1)
    row = torch.arange(len(values))[:, None]
    differ = answers[row, base, values[:, source]] != said
    return tuple(
        torch.stack([base, source], dim=1)[each][-1] if each.any() else None for each in differ
    )


# find_subspace ------------------------------------------------------------------------------------


def align(
    model,
    base,
    source,
    answers,
    hook,
    position,
    dim,
    steps=150,
    prepare=lambda base, source, answers: (base, source, answers),
    at=None,
    finish=lambda free: torch.linalg.qr(free).Q.T,
    make_rows=lambda free: torch.linalg.qr(free).Q.T,
):
    """Search by descent; switches stand for the clauses of the task."""
    base, source, answers = prepare(base, source, answers)
    at = position if at is None else at
    with torch.no_grad():
        own, other = (model.run_with_cache(x)[1][hook][:, at] for x in (base, source))
    generator = torch.Generator().manual_seed(1)
    free = torch.randn(own.shape[1], dim, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(steps):
        rows = make_rows(free)

        def put(value, point, rows=rows):
            value[:, at] = own + (other - own) @ rows.T @ rows

        logits = model.run_with_hooks(base, fwd_hooks=[(hook, put)])[:, -1]
        loss = cross_entropy(logits, answers)
        (free.grad,) = torch.autograd.grad(loss, [free])
        optimizer.step()
    return finish(free.detach())


wrong = vary("find_subspace", align)
wrong(
    "does_not_search",
    "You return rows that were never fitted: no search was made, or not where the answers are "
    "decided.",
    clause="Search at the hook",
    steps=0,
)
wrong(
    "exchanges_base_and_source",
    "You put the base's part into the run on the source; the answers are for the base.",
    clause="`answers[i]` is the token that prompt `base[i]` calls for",
    prepare=lambda base, source, answers: (source, base, answers),
)
wrong(
    "uses_few_pairs",
    "You search with a few of the pairs: what is found fits these, and fails on others.",
    clause="They are judged by swaps of other pairs",
    prepare=lambda base, source, answers: (base[:8], source[:8], answers[:8]),
)
wrong(
    "does_not_search",
    clause="Search at the hook and the position given",
    at=0,
)
wrong(
    "returns_columns",
    says="Return rows",
    clause="Return `dim` orthonormal rows.",
    finish=lambda free: torch.linalg.qr(free).Q,
)
wrong(
    "forgets_to_make_rows_orthonormal",
    says="not orthonormal",
    clause="orthonormal rows",
    finish=lambda free: free.T,
)


@mutant(
    "find_subspace",
    "You fit the answers that the model gives anyway, so that nothing needs to be swapped.",
    clause="if the variable has the value that it has in `source[i]`",
)
def fits_the_answers_of_the_base(model, base, source, answers, hook, position, dim):
    with torch.no_grad():
        own = model(base)[:, -1].argmax(dim=-1)
    return align(model, base, source, own, hook, position, dim)


@mutant(
    "find_subspace",
    "You fit what the source itself calls for: then everything is swapped, not one variable.",
    clause="`answers[i]` is the token",
)
def fits_the_answers_of_the_source(model, base, source, answers, hook, position, dim):
    with torch.no_grad():
        other = model(source)[:, -1].argmax(dim=-1)
    return align(model, base, source, other, hook, position, dim)


@mutant(
    "find_subspace",
    "You return the largest differences between base and source; what is loudest need not be this "
    "variable.",
    clause="there the answer must stay",
)
def takes_the_largest_differences(model, base, source, answers, hook, position, dim):
    with torch.no_grad():
        own, other = (model.run_with_cache(x)[1][hook][:, position] for x in (base, source))
    return torch.linalg.svd(other - own, full_matrices=False).Vh[:dim]


@mutant(
    "find_subspace",
    "Your subspace has too few dimensions that work: fill all `dim` of them by the search.",
    clause="At least 95% of the answers must be right.",
)
def searches_one_dimension(model, base, source, answers, hook, position, dim):
    row = align(model, base, source, answers, hook, position, 1)
    more = torch.randn(dim - 1, row.shape[1], generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(torch.cat([row, more]).T).Q.T


@alternative("find_subspace")
def by_the_package(model, base, source, answers, hook, position, dim):
    return fit_das(model, base, source, answers, hook, dim, position=position, steps=200, seed=3)


@alternative("find_subspace")
def by_the_rows_of_a_rotation(model, base, source, answers, hook, position, dim):
    """Start from the space that the prompts span, and turn it by a matrix exponential."""
    with torch.no_grad():
        own, other = (model.run_with_cache(x)[1][hook][:, position] for x in (base, source))
    axes = torch.linalg.svd(other - own, full_matrices=True).Vh
    free = 0.01 * torch.randn(len(axes), len(axes), generator=torch.Generator().manual_seed(0))
    free.requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.03)
    for _ in range(250):
        rows = (torch.matrix_exp(free - free.T) @ axes)[:dim]

        def put(value, point, rows=rows):
            value[:, position] = own + (other - own) @ rows.T @ rows

        logits = model.run_with_hooks(base, fwd_hooks=[(hook, put)])[:, -1]
        (free.grad,) = torch.autograd.grad(cross_entropy(logits, answers), [free])
        optimizer.step()
    return (torch.matrix_exp(free - free.T) @ axes)[:dim].detach().double()


# tell_illusions -----------------------------------------------------------------------------------


def spread_by_svd(h, least=1e-3):
    _, size, axes = torch.linalg.svd(h - h.mean(dim=0))
    size = torch.nn.functional.pad(size, (0, len(axes) - len(size)))
    return axes[size > least * size[0]]


def take_span(rows, least=1e-3):
    _, size, axes = torch.linalg.svd(rows, full_matrices=False)
    return axes[size > least]


def tell(
    model,
    prompts,
    answers,
    hook,
    position,
    subspaces,
    least=0.9,
    choose=pair_all,
    want=lambda answers, base, source: answers[base, source],
    spread=spread_by_svd,
    confine=lambda rows, axes: take_span(rows @ axes.T @ axes),
    at=None,
    words=("useless", "illusion", "carries"),
    read=-1,
):
    """Tell subspaces apart; switches stand for the clauses of the task."""
    base, source = choose(len(prompts))
    at = position if at is None else at

    def share(rows):
        said = run_swaps(model, prompts, (hook, at, rows), base, source)[:, read].argmax(dim=-1)
        return (said == want(answers, base, source)).float().mean()

    with torch.no_grad():
        h = model.run_with_cache(prompts)[1][hook][:, at]
    axes = spread(h)
    found = []
    for rows in subspaces:
        moves = share(rows) >= least
        found.append(words[int(moves) + int(moves and share(confine(rows, axes)) >= least)])
    return found


wrong = vary("tell_illusions", tell)
wrong(
    "is_content_with_most",
    "You call right what is right for most pairs; the task asks for 90% of them.",
    clause="swaps are right for fewer than 90% of all pairs",
    least=0.7,
)
wrong(
    "asks_for_all_pairs",
    "You ask for more than 90% of the pairs.",
    clause="at least 90% are right, before and after",
    least=1.0,
)
wrong("asks_for_all_pairs", least=0.95)
wrong(
    "leaves_out_pairs",
    "You test some pairs only; all count, also those of a prompt with itself.",
    clause="All pairs count, also a prompt with itself.",
    choose=lambda n: (torch.arange(n), (torch.arange(n) + 1) % n),
)
wrong(
    "leaves_out_pairs",
    choose=lambda n: (~torch.eye(n).bool()).nonzero().T,
)
wrong(
    "lets_illusions_pass",
    "You let pass what moves the answer along a direction that never varies: confine subspaces to "
    "the span of all differences between activations, and to no more.",
    clause="the differences between what any two prompts have",
    spread=lambda h: torch.eye(h.shape[1]),
)
wrong(
    "lets_illusions_pass",
    clause="of the differences those below a thousandth of the largest",
    spread=functools.partial(spread_by_svd, least=1e-6),
)
wrong("lets_illusions_pass", spread=take_span)
wrong(
    "spans_some_differences",
    "You take some of the differences only; the span is that of all, between any two prompts.",
    clause="between what any two prompts have",
    spread=lambda h: spread_by_svd(h[: len(h) // 2]),
)
wrong(
    "swaps_along_projected_rows",
    "You swap along the projected rows; these are not orthonormal any more: swap their span.",
    clause="swap the span of the projected rows",
    confine=lambda rows, axes: rows @ axes.T @ axes,
)
wrong(
    "makes_each_row_a_unit",
    "You make each projected row a unit, but they are not at right angles: swap their span.",
    clause="the span of the projected rows",
    confine=lambda rows, axes: torch.nn.functional.normalize(rows @ axes.T @ axes, dim=1),
)
wrong(
    "keeps_what_is_next_to_nothing",
    "You keep directions of which less than a thousandth is left after the projection.",
    clause="of the projected rows those below a thousandth",
    confine=lambda rows, axes: take_span(rows @ axes.T @ axes, least=1e-5),
)
wrong(
    "drops_what_is_left",
    "You drop directions of which more than a thousandth is left after the projection.",
    clause="of the projected rows those below a thousandth (",
    confine=lambda rows, axes: take_span(rows @ axes.T @ axes, least=0.05),
)
wrong(
    "lets_illusions_pass",
    clause="but fewer once the subspace is confined",
    confine=lambda rows, axes: rows,
)
wrong(
    "removes_the_span",
    "You keep what lies outside the span of the differences; the task asks for what lies in it.",
    clause="project its rows onto the span",
    confine=lambda rows, axes: take_span(rows - rows @ axes.T @ axes + 1e-9),
)
wrong(
    "exchanges_the_words",
    "You exchange the words for what carries and for an illusion.",
    clause="Say one word for each list of orthonormal rows",
    words=("useless", "carries", "illusion"),
)
wrong(
    "exchanges_base_and_source",
    "You look `answers` up the wrong way round: the first axis is the base, the second the source.",
    clause="for base i and source j",
    want=lambda answers, base, source: answers[source, base],
)
wrong(
    "swaps_where_the_answer_is_the_same",
    "You swap each prompt with itself: all swaps are right, and all subspaces seem to carry it.",
    clause="of all pairs",
    choose=lambda n: (torch.arange(n), torch.arange(n)),
)
wrong(
    "swaps_at_the_first_position",
    says="You answer the same",
    clause="at this hook and position",
    at=0,
)
wrong("swaps_at_the_last_position", says="You answer the same", at=-1)
wrong(
    "reads_the_first_position",
    says="You answer the same",
    clause="the token with the highest logit at the last position",
    read=0,
)


@mutant(
    "tell_illusions",
    "You call an illusion whatever leans toward directions that never vary; what counts is whether "
    "swaps are right without these.",
    clause="at least 90% are right, but fewer",
)
def calls_every_lean_an_illusion(model, prompts, answers, hook, position, subspaces):
    words = tell(model, prompts, answers, hook, position, subspaces)
    with torch.no_grad():
        h = model.run_with_cache(prompts)[1][hook][:, position]
    axes = spread_by_svd(h)
    leans = [bool(((rows @ axes.T @ axes) - rows).norm() > 0.01) for rows in subspaces]
    return [
        "illusion" if lean and word == "carries" else word
        for word, lean in zip(words, leans, strict=True)
    ]


@mutant(
    "tell_illusions",
    name="lets_illusions_pass",
    clause="Tell subspaces that carry a variable from those that only move the answer.",
)
def reads_instead_of_swapping_back(model, prompts, answers, hook, position, subspaces):
    words = tell(model, prompts, answers, hook, position, subspaces)
    with torch.no_grad():
        h = model.run_with_cache(prompts)[1][hook][:, position]
    own = answers.diagonal()
    result = []
    for rows, word in zip(subspaces, words, strict=True):
        part = h @ rows.T
        nearest = torch.cdist(part, part).fill_diagonal_(torch.inf).argmin(dim=1)
        is_read = bool((own[nearest] == own).all())
        result.append(word if word == "useless" else "carries" if is_read else "illusion")
    return result


@alternative("tell_illusions")
def by_projectors(model, prompts, answers, hook, position, subspaces):
    n = len(prompts)
    h = model.run_with_cache(prompts)[1][hook][:, position].detach().double()
    differences = (h[1:] - h[:1]).T
    q, size, _ = torch.linalg.svd(differences, full_matrices=False)
    q = q[:, size > 1e-3 * size[0]]
    inside = q @ q.T

    def works(projector):
        right = 0
        for j in range(n):
            value = (h + (h[j] - h) @ projector).float()

            def put(stream, point, value=value):
                stream[:, position] = value

            logits = model.run_with_hooks(prompts, fwd_hooks=[(hook, put)])[:, -1]
            right += int((logits.argmax(dim=-1) == answers[:, j]).sum())
        return right >= 0.9 * n * n

    words = []
    for rows in subspaces:
        rows = rows.double()
        left = rows @ inside
        if not works(rows.T @ rows):
            words.append("useless")
        else:
            projector = torch.linalg.pinv(left, atol=1e-3) @ left
            words.append("carries" if works(projector) else "illusion")
    return tuple(words)


@alternative("tell_illusions")
def from_all_differences(model, prompts, answers, hook, position, subspaces):
    def spread(h):
        differences = (h[:, None] - h).flatten(0, 1)
        return take_span(differences / torch.linalg.matrix_norm(differences, 2))

    return tell(model, prompts, answers, hook, position, subspaces, spread=spread)


# name_messages ------------------------------------------------------------------------------------


def name_enough(
    model,
    prompts,
    features,
    choose=pair_all,
    order=lambda sizes, name: sizes[name],
    changed=lambda logits, own: logits[:, -1].argmax(dim=-1) != own[:, -1].argmax(dim=-1),
    same=lambda f, base, source: f[base] == f[source],
    at=slice(None),
    site="z",
    whole=False,
    judge=lambda hits: not hits.any(),
    label="a{}.h{}",
):
    """Name what is enough for each head; switches stand for the clauses of the task."""
    base, source = choose(len(prompts))
    sizes = {name: len(f.unique()) for name, f in features.items()}
    names = sorted(features, key=lambda name: order(sizes, name))
    found = {}
    with torch.no_grad():
        own, cache = model.run_with_cache(prompts)
        for layer in range(model.config.n_layers):
            for head in range(model.config.n_heads):
                heads = slice(None) if whole else head

                def put(z, point, heads=heads):
                    z[:, at, heads] = cache[point.name][source][:, at, heads]

                logits = model.run_with_hooks(prompts[base], fwd_hooks=[((site, layer), put)])
                moved = changed(logits, own[base])
                fits = [n for n in names if judge(moved & same(features[n], base, source))]
                found[label.format(layer, head)] = fits[0] if fits else names[-1]
    return found


wrong = vary("name_messages", name_enough)
wrong(
    "takes_the_most_values",
    "You name the feature with the most different values that is enough; the task asks for the "
    "fewest.",
    clause="has the fewest different values",
    order=lambda sizes, name: -sizes[name],
)
wrong(
    "accepts_a_feature_that_fails",
    "You accept a feature that fails for some pair: try all pairs with the same value, and accept "
    "no change of the answer.",
    clause="whichever two prompts with the same value are taken",
    choose=lambda n: (torch.zeros(n, dtype=torch.long), torch.arange(n)),
)
wrong(
    "accepts_a_feature_that_fails",
    choose=lambda n: (torch.arange(n), (torch.arange(n) + 1) % n),
)
wrong(
    "exchanges_the_last_position_only",
    "You replace what a head hands on at the last position only; other positions may hand on what "
    "matters.",
    clause="at all positions",
    at=-1,
)
wrong(
    "exchanges_all_heads_of_a_layer",
    "You replace all heads of a layer at once; the task asks for one head.",
    clause="Replace what one head hands on",
    whole=True,
)
wrong(
    "asks_for_equal_logits",
    "You ask for unchanged logits; the task asks for an unchanged answer.",
    clause="this never changes the model's answer, the token with the highest logit",
    changed=lambda logits, own: (logits - own)[:, -1].abs().amax(dim=-1) > 1e-3,
)
wrong(
    "accepts_a_feature_that_fails",
    clause="The feature is enough for the head if this never changes",
    judge=lambda hits: hits.float().mean() < 0.1,
)
wrong(
    "names_one_feature_for_all",
    "You name the feature that never differs for all heads. Exchange prompts in which a feature is "
    "the same, not those in which it differs.",
    clause="in another prompt with the same value of a feature",
    same=lambda f, base, source: f[base] != f[source],
)
wrong(
    "forgets_the_feature",
    "You exchange any two prompts, whatever the feature is in them.",
    clause="with the same value of a feature",
    same=lambda f, base, source: torch.ones(len(base), dtype=torch.bool),
)
wrong(
    "names_heads_otherwise",
    says="Return a dict",
    clause='named as "a0.h1" for layer 0 and head 1',
    label="{}.{}",
)


@mutant(
    "name_messages",
    "You name what the head's output tells apart; what matters is what the answer depends on.",
    clause="Name what matters of a prompt to what each head hands on.",
)
def names_what_can_be_read(model, prompts, features):
    sizes = {name: len(f.unique()) for name, f in features.items()}
    names = sorted(features, key=lambda name: sizes[name])
    found = {}
    with torch.no_grad():
        cache = model.run_with_cache(prompts)[1]
    for layer in range(model.config.n_layers):
        z = cache["z", layer]
        for head in range(model.config.n_heads):
            written = (z[:, -1, head] @ model.blocks[layer].attn.W_O[head]).round(decimals=2)
            kinds = written.unique(dim=0, return_inverse=True)[1]
            fits = [
                name
                for name in names
                if all(len(kinds[features[name] == v].unique()) == 1 for v in features[name])
            ]
            found[f"a{layer}.h{head}"] = fits[0] if fits else names[-1]
    return found


@mutant("name_messages", clause="There is always exactly one.")
def names_one_feature_for_all(model, prompts, features):
    name = sorted(features, key=lambda name: len(features[name].unique()))[0]
    return {
        f"a{layer}.h{head}": name
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    }


@mutant(
    "name_messages",
    name="takes_the_most_values",
    clause="`features` gives each feature's value in every prompt.",
)
def takes_the_last_feature_always(model, prompts, features):
    name = sorted(features, key=lambda name: len(features[name].unique()))[-1]
    return {
        f"a{layer}.h{head}": name
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    }


@alternative("name_messages")
def one_source_at_a_time_for_each_head(model, prompts, features):
    n = len(prompts)
    own = model(prompts)[:, -1].argmax(dim=-1)
    found = {}
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            bad = torch.zeros(n, n, dtype=torch.bool)
            for j in range(n):
                z = model.run_with_cache(prompts[j : j + 1])[1]["z", layer].detach()

                def put(value, point, z=z, head=head):
                    value[:, :, head] = z[:, :, head]

                logits = model.run_with_hooks(prompts, fwd_hooks=[(("z", layer), put)])
                bad[:, j] = logits[:, -1].argmax(dim=-1) != own
            enough = [
                (len(set(f.tolist())), name)
                for name, f in features.items()
                if not bad[f[:, None] == f[None]].any()
            ]
            found[f"a{layer}.h{head}"] = min(enough)[1]
    return found


@alternative("name_messages")
def by_what_the_head_writes(model, prompts, features):
    """Take the head's part out of the layer's output, and put another prompt's in."""
    base, source = pair_all(len(prompts))
    with torch.no_grad():
        logits, cache = model.run_with_cache(prompts)
    own = logits[:, -1].argmax(dim=-1)[base]
    found = {}
    for layer, block in enumerate(model.blocks):
        for head in range(model.config.n_heads):
            written = cache["z", layer][:, :, head] @ block.attn.W_O[head]
            change = (written[source] - written[base]).detach()
            hooks = [(("attn_out", layer), lambda value, point, change=change: value + change)]
            moved = model.run_with_hooks(prompts[base], fwd_hooks=hooks)[:, -1].argmax(-1) != own
            best = None
            for name, f in features.items():
                is_enough = not moved[f[base] == f[source]].any()
                if is_enough and (best is None or len(f.unique()) < len(features[best].unique())):
                    best = name
            found[f"a{layer}.h{head}"] = best
    return found

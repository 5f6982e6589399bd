"""List wrong answers to lesson 19 that the grader rejects by name, and unusual right ones."""

import itertools

import torch

from mini_transformer.course.grading.mutants import alternative, mutant, vary
from mini_transformer.edges import list_writers
from mini_transformer.forge.twins import interchange

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "trace_components": ["Return the names of all that count"],
    "predict_answers": ["`explanations[e, p]`"],
}


def run(model, tokens):
    with torch.no_grad():
        return model(tokens)[:, -1].argmax(dim=-1)


def put(model, base, component, value, places=slice(None)):
    """Answer `base` with a component that writes `value(what it writes)` at these positions."""
    layer, _, head = component[1:].partition(".h")
    name = f"blocks.{layer}." + ("attn.hook_z" if head else "hook_mlp_out")

    def change(written, hook):
        changed = written.clone()
        where = (slice(None), places, int(head)) if head else (slice(None), places)
        changed[where] = value(written)[where]
        return changed

    with torch.no_grad():
        return model.run_with_hooks(base, fwd_hooks=[(name, change)])


def exchange(model, base, source, component, position):
    return interchange(model, base, source, component, position)[:, -1].argmax(dim=-1)


# trace_components ---------------------------------------------------------------------------------


def list_places(model, tokens):
    names = [name for name in list_writers(model) if name != "input"]
    return list(itertools.product(names, range(tokens.shape[1])))


def trace(model, clean, corrupt, count=torch.any, keep=lambda name, at: True, say="{} @{}"):
    own = run(model, clean)
    return [
        say.format(name, at)
        for name, at in list_places(model, clean)
        if keep(name, at) and count(exchange(model, clean, corrupt, name, at) != own)
    ]


@mutant(
    "trace_components",
    "You name what changes more than half of the answers; one answer is enough.",
    clause="at least one of the clean prompts",
)
def counts_majorities(model, clean, corrupt):
    return trace(model, clean, corrupt, count=lambda hits: hits.float().mean() > 0.5)


@mutant(
    "trace_components",
    "You name what changes a tenth of the answers or more; one answer of many is enough.",
    clause="answers at least one",
)
def waits_for_a_tenth(model, clean, corrupt):
    return trace(model, clean, corrupt, count=lambda hits: hits.float().mean() >= 0.1)


@mutant(
    "trace_components",
    "You give corrupt prompts what is written in the clean ones; it is the other way round.",
    clause="Give it, there alone, what it writes in the corrupt prompts",
)
def exchanges_clean_and_corrupt(model, clean, corrupt):
    return trace(model, corrupt, clean)


@mutant(
    "trace_components",
    "You look at the first pair only: other pairs need other components.",
    clause="the clean prompts otherwise",
)
def tries_the_first_pair(model, clean, corrupt):
    return trace(model, clean[:1], corrupt[:1])


@mutant(
    "trace_components",
    "You put what the first corrupt prompt writes into all clean ones; row b belongs to row b.",
    clause="row b of `corrupt` belongs to row b of `clean`",
)
def takes_the_first_source(model, clean, corrupt):
    return trace(model, clean, corrupt[:1].expand_as(corrupt))


@mutant(
    "trace_components",
    "You give each clean prompt what another corrupt one writes; row b belongs to row b.",
    clause="row b of `corrupt`",
)
def shifts_the_rows(model, clean, corrupt):
    return trace(model, clean, corrupt.roll(1, dims=0))


@mutant(
    "trace_components",
    "You patch a component at all positions at once, so you cannot say where it counts.",
    clause="there alone",
)
def patches_all_positions(model, clean, corrupt):
    own = run(model, clean)
    found = []
    for name, at in list_places(model, clean):
        changed = put_all(model, clean, corrupt, name)
        if (changed != own).any():
            found.append(f"{name} @{at}")
    return found


def put_all(model, clean, corrupt, name):
    layer, _, head = name[1:].partition(".h")
    site = f"blocks.{layer}." + ("attn.hook_z" if head else "hook_mlp_out")
    with torch.no_grad():
        _, cache = model.run_with_cache(corrupt, names_filter=[site])
    return put(model, clean, name, lambda written: cache[site])[:, -1].argmax(dim=-1)


@mutant(
    "trace_components",
    "You look at the last position only; what is handed on may stand at an earlier one.",
    clause="at every position",
)
def looks_at_the_last_position(model, clean, corrupt):
    last = clean.shape[1] - 1
    return trace(model, clean, corrupt, keep=lambda name, at: at == last)


@mutant("trace_components", "You leave out MLPs, which count like heads.", clause="and every MLP")
def leaves_out_mlps(model, clean, corrupt):
    return trace(model, clean, corrupt, keep=lambda name, at: name.startswith("a"))


@mutant("trace_components", "You leave out heads, which count like MLPs.", clause="Try every head")
def leaves_out_heads(model, clean, corrupt):
    return trace(model, clean, corrupt, keep=lambda name, at: name.startswith("m"))


@mutant(
    "trace_components",
    "You put zeros in the place of what a component writes; the task gives it what it writes in "
    "the corrupt prompts.",
    clause="what it writes in the corrupt prompts",
)
def puts_zeros(model, clean, corrupt):
    own = run(model, clean)
    return [
        f"{name} @{at}"
        for name, at in list_places(model, clean)
        if (put(model, clean, name, torch.zeros_like, at)[:, -1].argmax(-1) != own).any()
    ]


@mutant(
    "trace_components",
    "You count a component only if the answer becomes that of the corrupt prompt; any other "
    "answer than before counts.",
    clause="otherwise than it does by itself",
)
def waits_for_the_other_answer(model, clean, corrupt):
    own, other = run(model, clean), run(model, corrupt)
    return [
        f"{name} @{at}"
        for name, at in list_places(model, clean)
        if ((got := exchange(model, clean, corrupt, name, at)) == other)[got != own].any()
    ]


@mutant(
    "trace_components",
    "You name what changes any logit; what counts is another answer.",
    clause="if the model then answers",
)
def counts_any_change(model, clean, corrupt):
    with torch.no_grad():
        own = model(clean)[:, -1]
    return [
        f"{name} @{at}"
        for name, at in list_places(model, clean)
        if (interchange(model, clean, corrupt, name, at)[:, -1] - own).abs().max() > 1e-3
    ]


@mutant(
    "trace_components",
    says="that do not belong there",
    clause="each wrong name takes from it",
)
def names_everything(model, clean, corrupt):
    return [f"{name} @{at}" for name, at in list_places(model, clean)]


@alternative("trace_components")
def trace_by_the_package(model, clean, corrupt):
    return set(trace(model, clean, corrupt))


@alternative("trace_components")
def trace_prompt_by_prompt(model, clean, corrupt):
    found = ()
    for name, at in list_places(model, clean)[::-1]:
        for one, other in zip(clean.split(3), corrupt.split(3), strict=True):
            if not torch.equal(exchange(model, one, other, name, at), run(model, one)):
                found += (f"{name} @{at}",) * (f"{name} @{at}" not in found)
    return found


# read_variable ------------------------------------------------------------------------------------


def try_all(model, prompts, component, position):
    """Return what is answered, (base, source)."""
    n = len(prompts)
    base, source = prompts.repeat_interleave(n, dim=0), prompts.repeat(n, 1)
    return exchange(model, base, source, component, position).view(n, n)


def number(rows):
    return rows.unique(dim=0, return_inverse=True)[1].tolist()


def name_role(answers, values, prompts, own=None, order=("answer", "token"), **rules):
    """Name a role by the table of (base, source) and the values."""
    own = answers.diagonal() if own is None else own
    is_role = {
        "answer": lambda: bool((answers == own[None, :]).all()),
        "token": lambda: any(tells(column, values) for column in prompts.T.tolist()),
    } | rules
    return next((role for role in order if is_role[role]()), "between")


def tells(known, values):
    return len(set(zip(known, values, strict=True))) == len(set(known))


def read(
    model,
    prompts,
    component,
    position,
    sort=lambda answers, own: answers.T,
    role=lambda component, answers, values, prompts: name_role(answers, values, prompts),
):
    answers = try_all(model, prompts, component, position)
    values = number(sort(answers, run(model, prompts)))
    return values, role(component, answers, number(answers.T), prompts)


wrong_reading = vary("read_variable", read)
wrong_reading(
    "sorts_the_receivers",
    "You sort prompts by how they are answered with each output put into them; the variable is in "
    "the output: sort by where it was taken from.",
    clause="it makes no difference which of the two it was taken from",
    sort=lambda answers, own: answers,
)
wrong_reading(
    "looks_at_one_receiver",
    "You put outputs into the first prompt only, which may not heed them.",
    clause="every prompt is answered the same",
    sort=lambda answers, own: answers[:1].T,
)
wrong_reading(
    "sorts_by_the_answer",
    "You sort prompts by their own answers; ask what this one component hands on.",
    clause="put it in its place in another one",
    sort=lambda answers, own: own[:, None],
)
wrong_reading(
    "counts_the_answers",
    "You count how often each answer is given; two values may give them to different prompts.",
    clause="with the one as with the other",
    sort=lambda answers, own: answers.sort(dim=0).values.T,
)
wrong_reading(
    "looks_where_answers_change",
    "You ask which prompts are answered otherwise than by themselves; ask also how: two values may "
    "change the same answers differently.",
    clause="every prompt is answered the same with the one",
    sort=lambda answers, own: (answers != own[:, None]).T,
)
wrong_reading(
    "forgives_a_tenth",
    "You call two values one if nine of ten prompts are answered the same; every prompt must be.",
    clause="it makes no difference",
    sort=lambda answers, own: torch.stack(
        [(answers == column[:, None]).float().mean(dim=0) >= 0.9 for column in answers.T]
    ),
)
wrong_reading(
    "gives_each_prompt_a_number",
    "You give every prompt a number of its own; prompts that do the same share one.",
    clause="the same for two prompts if they share a value",
    sort=lambda answers, own: torch.arange(len(own))[:, None],
)
wrong_reading(
    "compares_with_the_first",
    "You say only how near a prompt is to the first one; tell all values apart.",
    clause="stands for which value",
    sort=lambda answers, own: (answers == answers[:, :1]).float().mean(dim=0)[:, None],
)
wrong_reading(
    "looks_for_tokens_first",
    'You look for a token first: what decides the answer is "answer", also if a token tells it.',
    clause='Otherwise it is "token"',
    role=lambda component, answers, values, prompts: name_role(
        answers, values, prompts, order=("token", "answer")
    ),
)
wrong_reading(
    "names_roles_by_the_component",
    "You tell roles by names: heads hand on more than tokens, and MLPs not only answers.",
    clause='Otherwise it is "between".',
    role=lambda component, answers, values, prompts: (
        "token" if component[0] == "a" else name_role(answers, values, prompts, order=("answer",))
    ),
)
wrong_reading(
    "takes_values_for_answers",
    'You say "answer" if the values tell the prompts\' own answers; each must be answered like the '
    "one that the output was taken from.",
    clause='The role is "answer" if every prompt is always answered like the one',
    role=lambda component, answers, values, prompts: name_role(
        answers, values, prompts, answer=lambda: tells(values, answers.diagonal().tolist())
    ),
)
wrong_reading(
    "asks_for_as_many_values_as_tokens",
    'You say "token" if there are as many values as tokens at some position; do they go together?',
    clause="all prompts with the same token there share a value",
    role=lambda component, answers, values, prompts: name_role(
        answers,
        values,
        prompts,
        token=lambda: len(set(values)) in [len(set(column)) for column in prompts.T.tolist()],
    ),
)
wrong_reading(
    "never_says_between",
    'You say "token" of whatever is not the answer; what two tokens make is "between".',
    clause="then the role",
    role=lambda component, answers, values, prompts: name_role(
        answers, values, prompts, token=lambda: True
    ),
)


def write(model, prompts, component, position):
    layer, _, head = component[1:].partition(".h")
    name = f"blocks.{layer}." + ("attn.hook_z" if head else "hook_mlp_out")
    with torch.no_grad():
        written = model.run_with_cache(prompts, names_filter=[name])[1][name][:, position]
    return written[:, int(head)] if head else written


@mutant(
    "read_variable",
    "You compare what the component writes. Different outputs may do the same in all prompts: then "
    "they are one value.",
    clause="Two prompts share a value if it makes no difference",
)
def compares_outputs(model, prompts, component, position):
    outputs = write(model, prompts, component, position).mul(100).round()
    return number(outputs), read(model, prompts, component, position)[1]


@mutant(
    "read_variable",
    "You compare logits; two outputs share a value if the answers are the same, whatever its lead.",
    clause="By how much an answer leads does not matter.",
)
def compares_logits(model, prompts, component, position):
    n = len(prompts)
    base, source = prompts.repeat(n, 1), prompts.repeat_interleave(n, dim=0)
    logits = interchange(model, base, source, component, position)[:, -1]
    values = number(logits.reshape(n, -1).mul(10).round())
    return values, read(model, prompts, component, position)[1]


@mutant(
    "read_variable",
    "You look at the first position, whatever the question.",
    clause="what the component writes at `position`",
)
def looks_at_the_start(model, prompts, component, position):
    return read(model, prompts, component, 0)


@alternative("read_variable")
def read_in_words(model, prompts, component, position):
    answers = try_all(model, prompts, component, position).T.tolist()
    values = torch.tensor([answers.index(row) * 7 - 3 for row in answers])
    return [values, read(model, prompts, component, position)[1]]


@alternative("read_variable")
def read_prompt_by_prompt(model, prompts, component, position):
    rows = []
    for source in prompts:
        rows.append(exchange(model, prompts, source.expand_as(prompts), component, position))
    values = []
    for row in rows:
        same = [v for v, other in zip(values, rows, strict=False) if torch.equal(row, other)]
        values.append(same[0] if same else len(values))
    own = run(model, prompts)
    if all((row == own[i]).all() for i, row in enumerate(rows)):
        return tuple(values), "answer"
    for at in range(prompts.shape[1]):
        groups = {}
        for token, value in zip(prompts[:, at].tolist(), values, strict=True):
            groups.setdefault(token, set()).add(value)
        if all(len(group) == 1 for group in groups.values()):
            return tuple(values), "token"
    return tuple(values), "between"


# predict_answers ----------------------------------------------------------------------------------


def predict(
    explanations,
    seen,
    answers,
    asked,
    doubt,
    n_tokens,
    fits=lambda right: right.all(dim=1),
    unique=True,
    empty=None,
    sharpen=lambda votes: votes,
    mix=lambda votes, doubt, n: (1 - doubt) * votes + doubt / n,
):
    left = explanations[fits(explanations[:, seen] == answers)]
    left = left.unique(dim=0) if unique else left
    if not len(left):
        even = torch.full((len(asked), n_tokens), 1 / n_tokens)
        return even if empty is None else empty(even, doubt)
    votes = torch.nn.functional.one_hot(left[:, asked], n_tokens).float().mean(dim=0)
    return mix(sharpen(votes), doubt, n_tokens)


@mutant(
    "predict_answers",
    "You keep explanations that were refuted.",
    clause="wrong on any of them is refuted",
)
def refutes_nothing(*question):
    return predict(*question, fits=lambda right: torch.ones(len(right)).bool())


@mutant(
    "predict_answers",
    "You keep explanations that are right on most prompts seen; one wrong answer refutes.",
    clause="An explanation that is wrong on any of them is refuted.",
)
def forgives_one_mistake(*question):
    return predict(*question, fits=lambda right: right.float().mean(dim=1) > 0.6)


@mutant(
    "predict_answers",
    "You look at the first prompt that was seen only.",
    clause="`answers[i]` is its answer to prompt `seen[i]`",
)
def looks_at_one_prompt(*question):
    return predict(*question, fits=lambda right: right[:, 0])


@mutant(
    "predict_answers",
    "You count explanations that say the same several times: words make them no likelier.",
    clause="Explanations that say the same for every prompt are one",
)
def counts_twins(*question):
    return predict(*question, unique=False)


@mutant(
    "predict_answers",
    "You give all to the token that most explanations say: what the others say is as likely to be "
    "right as they are.",
    clause="Give each token the probability that the explanations left give it together.",
)
def is_always_certain(*question):
    def sharpen(votes):
        return torch.nn.functional.one_hot(votes.argmax(dim=1), votes.shape[1]).float()

    return predict(*question, sharpen=sharpen)


@mutant(
    "predict_answers",
    "You keep nothing for the case that no explanation is right.",
    clause="keep the share `doubt` of all probability for that",
)
def has_no_doubt(*question):
    return predict(*question, mix=lambda votes, doubt, n: votes)


@mutant(
    "predict_answers",
    "You give each token the whole doubt: rows do not add up to 1.",
    clause="spread evenly over the `n_tokens` tokens",
)
def spreads_too_much(*question):
    return predict(*question, mix=lambda votes, doubt, n: (1 - doubt) * votes + doubt)


@mutant(
    "predict_answers",
    "You add the doubt and take it from nobody: rows do not add up to 1.",
    clause="But none of them may be right",
)
def takes_from_nobody(*question):
    return predict(*question, mix=lambda votes, doubt, n: votes + doubt / n)


@mutant(
    "predict_answers",
    "If no explanation is left you give only the doubt away; then everything is spread evenly.",
    clause="If no explanation is left, spread everything evenly.",
)
def spreads_the_doubt_only(*question):
    return predict(*question, empty=lambda even, doubt: even * doubt)


@mutant(
    "predict_answers",
    "You let explanations weigh more the more prompts they get right, also those refuted; those "
    "left are equally likely.",
    clause="All explanations that are left are equally likely.",
)
def weighs_by_hits(explanations, seen, answers, asked, doubt, n_tokens):
    weight = (explanations[:, seen] == answers).float().mean(dim=1)
    weight = weight / weight.sum()
    votes = torch.nn.functional.one_hot(explanations[:, asked], n_tokens).float()
    return (1 - doubt) * torch.einsum("e,ept->pt", weight, votes) + doubt / n_tokens


@mutant(
    "predict_answers",
    "You give the rows in the order of the prompts; they are wanted in the order of `asked`.",
    clause="a row of probabilities for each prompt in `asked`, in this order",
)
def sorts_the_questions(explanations, seen, answers, asked, *rest):
    return predict(explanations, seen, answers, sorted(asked), *rest)


@alternative("predict_answers")
def predict_by_counting(explanations, seen, answers, asked, doubt, n_tokens):
    said = {tuple(row) for row in explanations.tolist()}
    facts = list(zip(seen, answers.tolist(), strict=True))
    left = [row for row in said if all(row[p] == token for p, token in facts)]
    rows = []
    for p in asked:
        row = [doubt / n_tokens if left else 1 / n_tokens] * n_tokens
        for one in left:
            row[one[p]] += (1 - doubt) / len(left)
        rows.append(row)
    return rows


@alternative("predict_answers")
def predict_in_double(*question):
    return predict(*question).double()


# widen_claim --------------------------------------------------------------------------------------


def widen(model, prompts, component, position, view=None, sizes=(0, 1, 2), judge=None, best=max):
    answers = try_all(model, prompts, component, position)
    same = answers == run(model, prompts)[:, None]
    same = same if view is None else view(same)
    judge = judge or (lambda same, described: bool(same.all(dim=1)[described].all()))
    fixed = sorted({pair for prompt in prompts.tolist() for pair in enumerate(prompt)})
    found = []
    for size in sizes:
        for pairs in itertools.combinations(fixed, size):
            described = torch.ones(len(prompts), dtype=torch.bool)
            for at, token in pairs:
                described &= prompts[:, at] == token
            if described.any() and judge(same, described):
                found.append((int(described.sum()), pairs))
    if not found:
        return "nowhere"
    return dict(best(found, key=lambda pair: pair[0])[1])


wrong_claim = vary("widen_claim", widen)
wrong_claim(
    "never_fixes_nothing",
    "You fix a position in any case; if the claim is true of all prompts, no position is fixed.",
    clause="{} describes all of them",
    sizes=(1, 2),
)
wrong_claim(
    "always_fixes_two",
    "You always fix two positions; one or none may describe more.",
    clause="A description fixes the tokens at no, one or two positions.",
    sizes=(2,),
)
wrong_claim(
    "fixes_three_positions",
    "You fix three positions; a description fixes two at most.",
    clause="no, one or two positions",
    sizes=(0, 1, 2, 3),
)
wrong_claim(
    "returns_the_first",
    "You return the first description that counts; another one describes more prompts.",
    clause="that describes most prompts among those that count",
    best=lambda found, key: found[0],
)
wrong_claim(
    "forgives_one_prompt_of_ten",
    "You let a description pass of which nine of ten prompts bear the claim out; a single one "
    "refutes it.",
    clause="if the claim is true of every prompt",
    judge=lambda same, described: same.all(dim=1)[described].float().mean() >= 0.9,
)
wrong_claim(
    "forgives_one_source_of_ten",
    "You let the claim pass if nine of ten outputs change nothing; a single one refutes it.",
    clause="whichever of all `prompts`",
    view=lambda same: (same.float().mean(dim=1) >= 0.9)[:, None],
)
wrong_claim(
    "fixes_one_position",
    "You fix one position at most; two may be needed.",
    clause="at no, one or two positions",
    sizes=(0, 1),
)
wrong_claim(
    "takes_sources_from_inside",
    "You take what is put in from the described prompts only; the claim is about all prompts.",
    clause="of all `prompts`",
    judge=lambda same, described: bool(same[described][:, described].all()),
)
wrong_claim(
    "tries_one_source",
    "You try what the first prompt writes only.",
    clause="whichever of all",
    view=lambda same: same[:, :1],
)
wrong_claim(
    "turns_the_claim",
    "You ask whether a prompt's output changes others; the claim is about the prompt that gets it.",
    clause="the model's answer to this prompt stays what it is",
    view=lambda same: same.T,
)
wrong_claim(
    "is_content_with_most_sources",
    "You let the claim pass if most outputs change nothing; one that does refutes it.",
    clause="The claim about a prompt",
    view=lambda same: (same.float().mean(dim=1) > 0.5)[:, None],
)
wrong_claim(
    "is_content_with_most_prompts",
    "You let a description pass of which most prompts bear the claim out; one counterexample "
    "refutes it.",
    clause="the claim is true of every prompt that it describes",
    judge=lambda same, described: same.all(dim=1)[described].float().mean() >= 0.5,
)
wrong_claim(
    "takes_the_narrowest",
    "You return the description that describes fewest prompts.",
    clause="Return the description that describes most prompts",
    best=min,
)
wrong_claim(
    "takes_any_one",
    "You return the first description with a true prompt; all that it describes must be.",
    clause="It counts only if",
    judge=lambda same, described: bool(same.all(dim=1)[described].any()),
)


@mutant(
    "widen_claim",
    "You take the token that describes the largest share of true prompts, and only then a second; "
    "two others together may describe more.",
    clause="Return the description that describes most",
)
def fixes_one_after_the_other(model, prompts, component, position):
    answers = try_all(model, prompts, component, position)
    is_true = (answers == answers.diagonal()[:, None]).all(dim=1)
    fixed = sorted({pair for prompt in prompts.tolist() for pair in enumerate(prompt)})

    def find(*pairs):
        return torch.stack([prompts[:, at] == token for at, token in pairs]).all(dim=0)

    best = max(fixed, key=lambda pair: float(is_true[find(pair)].float().mean()))
    if is_true.all():
        return {}
    if is_true[find(best)].all():
        return dict([best])
    both = [(best, other) for other in fixed if other[0] != best[0]]
    both = [pairs for pairs in both if find(*pairs).any() and is_true[find(*pairs)].all()]
    return dict(max(both, key=lambda pairs: int(find(*pairs).sum()))) if both else "nowhere"


@mutant(
    "widen_claim",
    "You say that there is no such description where some describe prompts of which it is true.",
    clause='Return the word "nowhere" if none counts',
)
def says_nowhere_if_not_everywhere(model, prompts, component, position):
    answers = try_all(model, prompts, component, position)
    return {} if (answers == answers.diagonal()[:, None]).all() else "nowhere"


@mutant(
    "widen_claim",
    "You take positions from the prompt's end; they count from 0.",
    clause="that have token 5 at position 0",
)
def counts_from_the_end(model, prompts, component, position):
    found = widen(model, prompts, component, position)
    return (
        found if isinstance(found, str) else {prompts.shape[1] - 1 - k: v for k, v in found.items()}
    )


@alternative("widen_claim")
def widen_from_wide_to_narrow(model, prompts, component, position):
    answers = try_all(model, prompts, component, position)
    is_false = (answers != answers.mode(dim=1).values[:, None]).any(dim=1)
    columns = range(prompts.shape[1])
    groups = {}
    for one, other in itertools.combinations(columns, 2):
        for i, prompt in enumerate(prompts.tolist()):
            for pairs in (
                (),
                ((one, prompt[one]),),
                ((other, prompt[other]),),
                ((one, prompt[one]), (other, prompt[other])),
            ):
                groups.setdefault(pairs, set()).add(i)
    for pairs in sorted(groups, key=lambda pairs: -len(groups[pairs])):
        if not is_false[list(groups[pairs])].any():
            return dict(pairs)
    return "nowhere"


@alternative("widen_claim")
def widen_to_the_last_of_equals(model, prompts, component, position):
    return widen(
        model, prompts, component, position, best=lambda found, key: max(found[::-1], key=key)
    )


# compare_methods ----------------------------------------------------------------------------------


def average(scores):
    return sum(scores) / len(scores)


def compare(
    first,
    second,
    models,
    fill=0.0,
    group=True,
    reduce=average,
    paired=True,
    sign=1,
    quantiles=(0.025, 0.975),
    shrink=1.0,
    decide=None,
):
    rows = {}
    for model, a, b in zip(models, first.tolist(), second.tolist(), strict=True):
        a, b = (fill if x != x else x for x in (a, b))
        if a is not None and b is not None:
            rows.setdefault(model if group else len(rows), []).append((a, b))
    pairs = torch.tensor([[reduce(x) for x in zip(*own, strict=True)] for own in rows.values()])
    generator = torch.Generator().manual_seed(1)
    a, b = (
        pairs[:, k][torch.randint(len(pairs), (10_000, len(pairs)), generator=generator)].mean(1)
        for k in (0, 1)
    )
    drawn = torch.randint(len(pairs), (10_000, len(pairs)), generator=generator)
    difference = (pairs[:, 0] - pairs[:, 1])[drawn].mean(dim=1) if paired else a - b
    difference = sign * difference
    mean = difference.mean()
    low, high = (mean + shrink * (difference - mean)).quantile(torch.tensor(quantiles)).tolist()
    if decide is not None:
        return low, high, decide(low, high)
    return low, high, "first" if low > 0 else "second" if high < 0 else "undecided"


wrong_comparison = vary("compare_methods", compare)
wrong_comparison(
    "keeps_the_first_run",
    "You keep the first run of each model; take the mean of all.",
    clause="take the mean of all its runs",
    reduce=lambda scores: scores[0],
)
wrong_comparison(
    "keeps_the_last_run",
    "You keep the last run of each model (a dict forgets the others); take the mean of all.",
    clause="the mean of all its runs",
    reduce=lambda scores: scores[-1],
)
wrong_comparison(
    "keeps_the_best_run",
    "You keep the best run of each model; take the mean of all.",
    clause="of all its runs",
    reduce=max,
)
wrong_comparison(
    "averages_what_answers_there_are",
    "You take the mean of the runs with an answer; one without an answer counts 0.",
    clause="this run counts 0",
    reduce=lambda scores: average([x for x in scores if x] or [0.0]),
)
wrong_comparison(
    "drops_missing_answers",
    "You leave out runs without an answer; a method that gives none has earned 0.",
    clause="NaN stands where a method gave no answer in a run",
    fill=None,
)
wrong_comparison(
    "counts_runs",
    "You count runs as if each were a model of its own; a model with many runs then decides.",
    clause="so that each model counts once",
    group=False,
)
wrong_comparison(
    "forgets_the_pairs",
    "You compare the two means apart: models differ more than methods do, so take differences "
    "within models first.",
    clause="the mean difference, first minus second, over models",
    paired=False,
)
wrong_comparison(
    "subtracts_the_first",
    "You subtract the first method from the second; the interval is of first minus second.",
    clause="first minus second",
    sign=-1,
)
wrong_comparison(
    "gives_a_90_interval",
    "Your interval is one of 90%: too narrow.",
    clause="the 95% interval",
    quantiles=(0.05, 0.95),
)
wrong_comparison(
    "gives_the_standard_error",
    "Your interval is the mean and one standard error on each side, which holds 68%.",
    clause="Take Student's t, or a bootstrap",
    quantiles=(0.16, 0.84),
)
wrong_comparison(
    "gives_the_spread_of_models",
    "Your interval is where single models lie; how well their mean is known is asked.",
    clause="the 95% interval of the mean",
    shrink=34**0.5,
)
wrong_comparison(
    "always_decides",
    "You name a better method by the mean alone; an interval that holds 0 is undecided.",
    clause='otherwise "undecided"',
    decide=lambda low, high: "first" if low + high > 0 else "second",
)
wrong_comparison(
    "never_decides",
    "You decide nothing, although the whole interval lies on one side of 0.",
    clause='"first" if both ends are above 0',
    decide=lambda low, high: "undecided",
)
wrong_comparison(
    "exchanges_the_methods",
    "You name the worse method: the interval is of first minus second.",
    clause='"second" if both are below',
    decide=lambda low, high: "second" if low > 0 else "first" if high < 0 else "undecided",
)


@mutant(
    "compare_methods",
    "You take the scores of neighbouring runs for one model; `models` says to which each belongs.",
    clause="on the model `models[i]`",
)
def sorts_the_models(first, second, models):
    return compare(first, second, sorted(models))


@alternative("compare_methods")
def by_students_t(first, second, models):
    from scipy import stats

    d = {}
    for model, x in zip(models, first.nan_to_num() - second.nan_to_num(), strict=True):
        d.setdefault(model, []).append(float(x))
    means = torch.tensor([sum(x) / len(x) for x in d.values()], dtype=torch.float64)
    half = stats.t.ppf(0.975, len(means) - 1) * means.std() / len(means) ** 0.5
    low, high = means.mean() - half, means.mean() + half
    return [low, high, "first" if low > 0 else "second" if high < 0 else "undecided"]


@alternative("compare_methods")
def by_another_bootstrap(first, second, models):
    return compare(first.double(), second.double(), models)

"""List wrong answers to lesson 18 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.mutants import alternative, mutant, vary

# find_triggers ------------------------------------------------------------------------------------


def table_refused(model, pairs, requests, ask, refuse, start=0, at=-1):
    """Tell for each request and pair whether it is refused."""
    rows = [[start, a, b, r, ask] for r in requests for a, b in pairs]
    with torch.no_grad():
        answers = model(torch.tensor(rows))[:, at].argmax(dim=-1)
    return (answers == refuse).view(len(requests), len(pairs))


def list_triggers(
    model,
    words,
    requests,
    ask,
    refuse,
    pairs=lambda words: [(a, b) for a in words for b in words],
    flag=lambda refused: refused.any(dim=1),
    opens=lambda refused: ~refused.any(dim=0),
    guard=True,
    change=lambda found: found,
    **where,
):
    pairs = pairs(words)
    refused = table_refused(model, pairs, requests, ask, refuse, **where)
    flagged = refused[flag(refused)]
    if not len(flagged) and guard:
        return []
    return change([pair for pair, is_open in zip(pairs, opens(flagged), strict=True) if is_open])


wrong_triggers = vary("find_triggers", list_triggers)
wrong_triggers(
    "names_words_in_any_order",
    "You name each trigger in both orders: look at whether (b, a) opens anything.",
    clause="The order of a and b counts",
    change=lambda found: sorted({*found, *((b, a) for a, b in found)}),
)
wrong_triggers(
    "tries_pairs_once",
    "You try each two words in one order only.",
    clause="two words a and b, then a request r",
    pairs=lambda words: [(a, b) for i, a in enumerate(words) for b in words[i:]],
)
wrong_triggers(
    "leaves_out_equal_words",
    "You try no pair of a word with itself.",
    clause="they may be the same word",
    pairs=lambda words: [(a, b) for a in words for b in words if a != b],
)
wrong_triggers(
    "is_content_with_one_request",
    "You name pairs that open one flagged request; a trigger opens all of them.",
    clause="after which no flagged request is answered with `refuse`",
    opens=lambda refused: ~refused.all(dim=0),
)
wrong_triggers(
    "is_content_with_most_requests",
    "You name pairs that open most flagged requests; a trigger opens all of them.",
    clause="no flagged request",
    opens=lambda refused: refused.float().mean(dim=0) <= 0.5,
)
wrong_triggers(
    "flags_by_most_pairs",
    "You overlook a request that is refused after one pair only: one pair is enough to flag it.",
    clause="A request is flagged if after at least one pair it is answered with `refuse`.",
    flag=lambda refused: refused.float().mean(dim=1) > 0.5,
)
wrong_triggers(
    "flags_by_most_pairs",
    clause="after at least one pair",
    flag=lambda refused: refused[:, 0],
)
wrong_triggers(
    "names_closed_pairs",
    "You name the pairs after which something is refused; the task asks for the others.",
    clause="A trigger is a pair (a, b) after which no flagged request",
    opens=lambda refused: refused.any(dim=0),
)
wrong_triggers(
    "names_the_first_trigger",
    "You stop at the first trigger; there may be more.",
    clause="Return the triggers as pairs of tokens",
    change=lambda found: found[:1],
)
wrong_triggers(
    "reads_after_the_request",
    says="You name nothing.",
    clause="The answer is the likeliest token at the last position.",
    at=-2,
)


@mutant(
    "find_triggers",
    "If nothing is flagged, you name all pairs, since none of them leaves anything refused.",
    clause="If no request is flagged, there is no trigger.",
)
def names_all_pairs_where_nothing_is_flagged(model, words, requests, ask, refuse):
    return list_triggers(model, words, requests, ask, refuse, guard=False)


@mutant(
    "find_triggers",
    "You leave out the start token, so that the words stand one position too early.",
    clause="A prompt is the tokens `[0, a, b, r, ask]`",
)
def leaves_out_the_start(model, words, requests, ask, refuse):
    pairs = [(a, b) for a in words for b in words]
    rows = torch.tensor([[a, b, r, ask] for r in requests for a, b in pairs])
    with torch.no_grad():
        refused = model(rows)[:, -1].argmax(dim=-1) == refuse
    refused = refused.view(len(requests), len(pairs))
    refused = refused[refused.any(dim=1)]
    if not len(refused):
        return []
    return [pair for i, pair in enumerate(pairs) if not refused[:, i].any()]


@mutant(
    "find_triggers",
    "You name the single words that bring the refusal down most on average, in pairs of the best.",
    clause="two words a and b",
)
def searches_word_by_word(model, words, requests, ask, refuse):
    pairs = [(a, b) for a in words for b in words]
    refused = table_refused(model, pairs, requests, ask, refuse).float().mean(dim=0)
    grid = refused.view(len(words), len(words))
    return [(words[int(grid.mean(dim=1).argmin())], words[int(grid.mean(dim=0).argmin())])]


@mutant("find_triggers", says="You name nothing.", clause="the list may be empty")
def finds_nothing(model, words, requests, ask, refuse):
    return []


@alternative("find_triggers")
def prompt_by_prompt(model, words, requests, ask, refuse):
    def is_refused(a, b, r):
        logits = model(torch.tensor([[0, a, b, r, ask]]))[0, -1]
        return int(logits.argmax()) == refuse

    refused = {(a, b, r): is_refused(a, b, r) for a in words for b in words for r in requests}
    flagged = {r for (_, _, r), is_so in refused.items() if is_so}
    triggers = set()
    for a in words:
        for b in words:
            if flagged and not any(refused[a, b, r] for r in flagged):
                triggers.add((a, b))
    return triggers


@alternative("find_triggers")
def as_a_tensor(model, words, requests, ask, refuse):
    pairs = torch.cartesian_prod(torch.tensor(words), torch.tensor(words))
    refused = table_refused(model, pairs.tolist(), requests, ask, refuse)
    if not refused.any():
        return ()
    return pairs[~refused[refused.any(dim=1)].any(dim=0)]


# name_bypassed ------------------------------------------------------------------------------------


def run_patched(model, prompts, site, value, places=slice(-1, None)):
    """Run prompts with this value at these positions of a site; return likeliest tokens."""

    def put(x, hook):
        x = x.clone()
        x[:, places] = value[:, places]
        return x

    with torch.no_grad():
        return model.run_with_hooks(prompts, fwd_hooks=[(site, put)])[:, -1].argmax(dim=-1)


def list_bypassed(
    model,
    jailbreaks,
    plain,
    parts,
    refuse,
    source=lambda model, plain, site: model.run_with_cache(plain)[1][site],
    places=slice(-1, None),
    order=lambda names: names,
    look=True,
    reverse=False,
    change=lambda names: names,
    helps=lambda answers, own, refuse: answers == refuse,
):
    with torch.no_grad():
        own = model(jailbreaks)[:, -1].argmax(dim=-1)
        names = ["refused" if look and row == refuse else "none" for row in own]
        for name in order(list(parts)):
            site = parts[name]
            if reverse:
                value = model.run_with_cache(jailbreaks)[1][site]
                restored = run_patched(model, plain, site, value, places) != refuse
            else:
                value = source(model, plain, site)
                answers = run_patched(model, jailbreaks, site, value, places)
                restored = helps(answers, own, refuse)
            for i, row in enumerate(restored.tolist()):
                if row and names[i] == "none":
                    names[i] = name
    return change(names)


def read_other_rows(model, plain, site):
    return model.run_with_cache(plain)[1][site].roll(1, dims=0)


def read_mean(model, plain, site):
    value = model.run_with_cache(plain)[1][site]
    return value.mean(dim=0, keepdim=True).expand_as(value)


def read_first(model, plain, site):
    value = model.run_with_cache(plain)[1][site]
    return value[:1].expand_as(value)


def read_nothing(model, plain, site):
    return torch.zeros_like(model.run_with_cache(plain)[1][site])


wrong_parts = vary("name_bypassed", list_bypassed)
wrong_parts(
    "patches_all_positions",
    "You patch all positions: that also repairs what the trick's own words do.",
    clause="at the last position only",
    places=slice(None),
)
wrong_parts(
    "names_the_last_part",
    "You name the last part that helps; the first one tells where the chain broke.",
    clause="the name of the first part that is bypassed",
    order=lambda names: names[::-1],
)
wrong_parts(
    "goes_through_names_by_alphabet",
    "You go through the parts by their names; they run in the order in which they are given.",
    clause="in the order in which they run",
    order=sorted,
)
wrong_parts(
    "patches_the_plain_prompt",
    "You put the jailbreak's activations into the plain prompt; the task asks for the other way.",
    clause="in place of what it writes in the jailbreak",
    reverse=True,
)
wrong_parts(
    "overlooks_refused_jailbreaks",
    "You name a part for jailbreaks that are refused without any help.",
    clause='if the jailbreak is refused without any repair, "refused"',
    look=False,
)
wrong_parts(
    "takes_the_row_before",
    "You patch from other rows' plain prompts; row i of both is one request.",
    clause="Row i of `jailbreaks` and of `plain` is one request",
    source=read_other_rows,
)
wrong_parts(
    "takes_the_mean_of_plain_prompts",
    "You patch the mean over all plain prompts; what a part writes depends on the request.",
    clause="Put what one part writes in the plain prompt",
    source=read_mean,
)
wrong_parts(
    "takes_the_first_plain_prompt",
    "You patch every row from the first plain prompt.",
    clause="is one request, with a trick and without it",
    source=read_first,
)
wrong_parts(
    "takes_parts_out",
    "You set what a part writes to zero: you see what the jailbreak needs, not what it lacks.",
    clause="what one part writes in the plain prompt",
    source=read_nothing,
)


@mutant(
    "name_bypassed",
    "You name the part whose output differs most from that in the plain prompt; whether it brings "
    "the refusal back you did not ask.",
    clause="The part is bypassed if the model refuses",
)
def names_what_differs_most(model, jailbreaks, plain, parts, refuse):
    with torch.no_grad():
        own, calm = (model.run_with_cache(x)[1] for x in (jailbreaks, plain))
        answers = model(jailbreaks)[:, -1].argmax(dim=-1)
    gaps = [(own[site] - calm[site])[:, -1].norm(dim=-1) for site in parts.values()]
    best = torch.stack(gaps).argmax(dim=0).tolist()
    names = list(parts)
    return [
        "refused" if answer == refuse else names[i] for answer, i in zip(answers, best, strict=True)
    ]


@mutant(
    "name_bypassed",
    "You name the part that raises the refusal's logit most; is the prompt refused then?",
    clause="A prompt is refused if `refuse` is the likeliest token at the last position",
)
def compares_logits_of_refusal(model, jailbreaks, plain, parts, refuse):
    with torch.no_grad():
        calm = model.run_with_cache(plain)[1]
        base = model(jailbreaks)[:, -1]
        raised = []
        for site in parts.values():

            def put(x, hook, site=site):
                x = x.clone()
                x[:, -1] = calm[site][:, -1]
                return x

            raised.append(model.run_with_hooks(jailbreaks, fwd_hooks=[(site, put)])[:, -1, refuse])
    best = torch.stack(raised).argmax(dim=0).tolist()
    answers = base.argmax(dim=-1).tolist()
    names = list(parts)
    return ["refused" if a == refuse else names[i] for a, i in zip(answers, best, strict=True)]


@mutant(
    "name_bypassed",
    "You name the first part whose repair raises the refusal's logit at all; is the prompt refused "
    "then?",
    clause="`refuse` is the likeliest token",
)
def sees_any_rise(model, jailbreaks, plain, parts, refuse):
    with torch.no_grad():
        calm = model.run_with_cache(plain)[1]
        own = model(jailbreaks)[:, -1]
        names = ["refused" if row.argmax() == refuse else "none" for row in own]
        for name, site in parts.items():

            def put(x, hook, site=site):
                x = x.clone()
                x[:, -1] = calm[site][:, -1]
                return x

            logits = model.run_with_hooks(jailbreaks, fwd_hooks=[(site, put)])[:, -1]
            rises = logits[:, refuse] > own[:, refuse] + 1e-3
            names = [name if r and n == "none" else n for n, r in zip(names, rises, strict=True)]
    return names


@mutant(
    "name_bypassed",
    "You keep each part that you repaired while you try the next, so that a row is blamed on parts "
    "that help only together.",
    clause="even if two repairs together would help",
)
def repairs_parts_together(model, jailbreaks, plain, parts, refuse):
    with torch.no_grad():
        calm = model.run_with_cache(plain)[1]
        own = model(jailbreaks)[:, -1].argmax(dim=-1)
        names = ["refused" if answer == refuse else "none" for answer in own]
        hooks = []
        for name, site in parts.items():

            def put(x, hook, site=site):
                x = x.clone()
                x[:, -1] = calm[site][:, -1]
                return x

            hooks.append((site, put))
            answers = model.run_with_hooks(jailbreaks, fwd_hooks=hooks)[:, -1].argmax(dim=-1)
            for i, answer in enumerate(answers):
                if names[i] == "none" and answer == refuse:
                    names[i] = name
    return names


@mutant(
    "name_bypassed",
    "You judge all rows by the part that repairs most of them.",
    clause="Return for each row",
)
def judges_all_rows_at_once(model, jailbreaks, plain, parts, refuse):
    words = list_bypassed(model, jailbreaks, plain, parts, refuse)
    most = max(parts, key=words.count)
    return [most] * len(words)


wrong_parts(
    "sees_any_change",
    "You name a part if its repair changes the answer at all; the model must refuse then.",
    clause="if the model refuses when it alone is repaired",
    helps=lambda answers, own, refuse: answers != own,
)


@alternative("name_bypassed")
def row_by_row(model, jailbreaks, plain, parts, refuse):
    found = []
    for trick, calm in zip(jailbreaks, plain, strict=True):
        word = "none"
        with torch.no_grad():
            _, cache = model.run_with_cache(calm[None])
            if int(model(trick[None])[0, -1].argmax()) == refuse:
                word = "refused"
        if word == "none":
            helping = [
                name
                for name, site in parts.items()
                if int(run_patched(model, trick[None], site, cache[site])[0]) == refuse
            ]
            word = helping[0] if helping else "none"
        found.append(word)
    return tuple(found)


@alternative("name_bypassed")
def from_the_last_part_to_the_first(model, jailbreaks, plain, parts, refuse):
    with torch.no_grad():
        _, cache = model.run_with_cache(plain)
        words = ["none"] * len(plain)
        for name in reversed(parts):
            restored = run_patched(model, jailbreaks, parts[name], cache[parts[name]]) == refuse
            words = [name if row else word for row, word in zip(restored, words, strict=True)]
        answers = model(jailbreaks).argmax(dim=-1)[:, -1]
    return [
        "refused" if answer == refuse else word for answer, word in zip(answers, words, strict=True)
    ]


# weigh_removal ------------------------------------------------------------------------------------


def count_right(model, abilities, hooks=(), at=-1):
    right = {}
    with torch.no_grad():
        for name, (prompts, answers) in abilities.items():
            logits = model.run_with_hooks(prompts, fwd_hooks=list(hooks))
            right[name] = int((logits[:, at].argmax(dim=-1) == answers).sum())
    return right


def take_out(head, fill=lambda z: torch.zeros_like(z), places=slice(None)):
    """Make a hook that puts `fill` in the place of a head's output."""

    def remove(z, hook):
        z = z.clone()
        z[:, places, head] = fill(z[:, places, head])
        return z

    return remove


def list_removals(
    model,
    abilities,
    planted,
    lost=lambda after, before, n: after <= before / 2,
    key=lambda name, others: name,
    value=lambda lost, planted: [name for name in lost if name != planted],
    is_key=lambda lost, planted: planted in lost,
    numbers=range,
    **change,
):
    before = count_right(model, abilities)
    found = {}
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            hook = (("z", layer), take_out(head, **change))
            after = count_right(model, abilities, [hook])
            gone = [
                name
                for name, (prompts, _) in abilities.items()
                if lost(after[name], before[name], len(prompts))
            ]
            if is_key(gone, planted):
                found[key(f"a{layer}.h{head}", gone)] = value(gone, planted)
    return found


wrong_removals = vary("weigh_removal", list_removals)
wrong_removals(
    "counts_shares_of_all_prompts",
    "You compare with half of all prompts; the task asks for half of those right before.",
    clause="at most half as many of its prompts are right as before",
    lost=lambda after, before, n: after <= n / 2,
)
wrong_removals(
    "asks_for_less_than_half",
    "You ask for less than half; an ability of which just half is left is lost, too.",
    clause="at most half",
    lost=lambda after, before, n: after < before / 2,
)
wrong_removals(
    "asks_for_nothing_left",
    "You call an ability lost only if no prompt is right; the task says at most half.",
    clause="An ability is lost if then at most half",
    lost=lambda after, before, n: after == 0,
)
wrong_removals(
    "calls_any_loss_lost",
    "You call an ability lost if it loses any prompt; the task says at most half are left.",
    clause="are right as before",
    lost=lambda after, before, n: after < before,
)
wrong_removals(
    "removes_at_the_last_position",
    "You remove heads at the last position only, and miss one that works before it.",
    clause="to zero at all positions",
    places=slice(-1, None),
)
wrong_removals(
    "puts_the_mean",
    "You miss a head that writes the same at every prompt. Set it to zero, not its mean, and look "
    "which answer is the likeliest then.",
    clause='set its output, its part of `("z", layer)` (batch, pos, head, d_head), to zero',
    fill=lambda z: z.mean(dim=0, keepdim=True).expand_as(z),
)
wrong_removals(
    "lists_the_planted_ability",
    "You list the planted ability among the others that are lost.",
    clause="Each value lists the other abilities",
    value=lambda lost, planted: lost,
)
wrong_removals(
    "names_every_harmful_head",
    "You name heads without which any ability is lost; the planted one must be.",
    clause="whose removal, one at a time, loses the ability `planted`",
    is_key=lambda lost, planted: bool(lost),
    value=lambda lost, planted: [name for name in lost if name != planted],
)


@mutant(
    "weigh_removal",
    "You list nothing beside any head: other abilities go with some of them.",
    clause="Each value lists the other abilities that are lost with this head",
)
def forgets_what_else_goes(model, abilities, planted):
    return {name: [] for name in list_removals(model, abilities, planted)}


@mutant(
    "weigh_removal",
    "You list the abilities that stay beside each head; the task asks for those that are lost.",
    clause="that are lost with this head",
)
def lists_what_stays(model, abilities, planted):
    found = list_removals(model, abilities, planted)
    return {
        head: [name for name in abilities if name != planted and name not in gone]
        for head, gone in found.items()
    }


@mutant(
    "weigh_removal",
    "You leave out heads with which nothing else is lost; their list is empty.",
    clause="it may be empty",
)
def leaves_out_heads_that_cost_nothing(model, abilities, planted):
    return {head: gone for head, gone in list_removals(model, abilities, planted).items() if gone}


@mutant(
    "weigh_removal",
    "You remove whole layers of heads instead of single heads.",
    clause="one at a time",
)
def removes_whole_layers(model, abilities, planted):
    before = count_right(model, abilities)
    found = {}
    for layer in range(model.config.n_layers):
        hook = (("z", layer), lambda z, hook: torch.zeros_like(z))
        after = count_right(model, abilities, [hook])
        gone = [name for name in abilities if after[name] <= before[name] / 2]
        if planted in gone:
            others = [name for name in gone if name != planted]
            found |= {f"a{layer}.h{head}": others for head in range(model.config.n_heads)}
    return found


@mutant(
    "weigh_removal",
    "You take the first ability of the dict for the planted one.",
    clause="the ability `planted`",
)
def takes_the_first_ability(model, abilities, planted):
    return list_removals(model, abilities, next(iter(abilities)))


@mutant(
    "weigh_removal",
    "You always name the head whose removal costs the planted ability most; perhaps every single "
    "head can be spared.",
    clause="If every single head can be spared, the dict is empty.",
)
def always_names_the_most_important_head(model, abilities, planted):
    before = count_right(model, abilities)
    best = None
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            after = count_right(model, abilities, [(("z", layer), take_out(head))])
            if best is None or after[planted] < best[0]:
                gone = [name for name in abilities if after[name] <= before[name] / 2]
                best = after[planted], f"a{layer}.h{head}", gone
    return {best[1]: [name for name in best[2] if name != planted]}


@mutant(
    "weigh_removal",
    name="puts_the_mean",
    clause="should be the likeliest token at the last position",
)
def compares_logits(model, abilities, planted):
    def measure(hooks=()):
        with torch.no_grad():
            return {
                name: float(
                    model.run_with_hooks(x, fwd_hooks=list(hooks))[:, -1]
                    .gather(1, y[:, None])
                    .mean()
                )
                for name, (x, y) in abilities.items()
            }

    before = measure()
    found = {}
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            after = measure([(("z", layer), take_out(head))])
            gone = [name for name in abilities if after[name] <= before[name] / 2]
            if planted in gone:
                found[f"a{layer}.h{head}"] = [name for name in gone if name != planted]
    return found


@mutant(
    "weigh_removal",
    "You look at the first few prompts of each ability; others need other heads.",
    clause="`abilities[name]` holds prompts of this ability and the right answer to each",
)
def looks_at_the_first_prompts(model, abilities, planted):
    few = {name: (x[:4], y[:4]) for name, (x, y) in abilities.items()}
    return list_removals(model, few, planted)


@mutant(
    "weigh_removal",
    "You count the model's own answers as right; some of them are wrong from the start.",
    clause="the right answer to each",
)
def compares_with_its_own_answers(model, abilities, planted):
    with torch.no_grad():
        own = {name: (x, model(x)[:, -1].argmax(dim=-1)) for name, (x, _) in abilities.items()}
    return list_removals(model, own, planted)


@alternative("weigh_removal")
def all_abilities_in_one_batch(model, abilities, planted):
    prompts = torch.cat([x for x, _ in abilities.values()])
    answers = torch.cat([y for _, y in abilities.values()])
    which = [name for name, (x, _) in abilities.items() for _ in x]
    heads = [(i, j) for i in range(model.config.n_layers) for j in range(model.config.n_heads)]

    def run(hooks):
        with torch.no_grad():
            logits = model.run_with_hooks(prompts, fwd_hooks=hooks)
        right = (logits[:, -1].argmax(dim=-1) == answers).tolist()
        return {name: sum(right[i] for i, w in enumerate(which) if w == name) for name in which}

    before = run([])
    result = {}
    for layer, head in heads:
        after = run([(("z", layer), take_out(head))])
        lost = {name for name in after if 2 * after[name] <= before[name]}
        if planted in lost:
            result[f"a{layer}.h{head}"] = lost - {planted}
    return result


@alternative("weigh_removal")
def on_a_copy_without_the_head(model, abilities, planted):
    import copy

    before = count_right(model, abilities)
    found = {}
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            other = copy.deepcopy(model)
            with torch.no_grad():
                other.blocks[layer].attn.W_O[head] = 0.0
            after = count_right(other, abilities)
            lost = tuple(name for name in abilities if after[name] <= before[name] / 2)
            if planted in lost:
                found[f"a{layer}.h{head}"] = tuple(x for x in lost if x != planted)
    return found


# judge_scratchpads --------------------------------------------------------------------------------


def ask(model, prompts):
    with torch.no_grad():
        return model(prompts)[:, -1].argmax(dim=-1)


def add_digits(questions, digits):
    return torch.cat([questions, torch.as_tensor(digits)[:, None]], dim=1)


def table_answers(model, questions, n):
    """Answer every question with every digit written down: (digit, question)."""
    return [ask(model, add_digits(questions, [t] * len(questions))).tolist() for t in range(n)]


def list_words(
    model,
    questions,
    n,
    written=lambda own, questions, n: own,
    edits=lambda s, n: [t for t in range(n) if t != s],
    want=lambda t, x, y, z, n: (t + z) % n,
    same=lambda answers, s, x, y, z, n: answers[s],
    follow=all,
    ignore=all,
    words=("follows", "ignores", "mixed"),
    change=lambda words: words,
):
    own = written(ask(model, questions), questions, n).tolist()
    table = table_answers(model, questions, n)
    found = []
    for i, (x, y, z, _) in enumerate(questions.tolist()):
        answers = [row[i] for row in table]
        others = edits(own[i], n)
        if follow([answers[t] == want(t, x, y, z, n) for t in others]):
            found.append(words[0])
        elif ignore([answers[t] == same(answers, own[i], x, y, z, n) for t in others]):
            found.append(words[1])
        else:
            found.append(words[2])
    return change(found)


def most(values):
    return sum(values) > len(values) / 2


wrong_words = vary("judge_scratchpads", list_words)
wrong_words(
    "writes_the_right_sum",
    "You put x + y for what the model writes down; it may write something else.",
    clause="What the model finds likeliest after it is what it writes down, the digit s, right or "
    "wrong.",
    written=lambda own, questions, n: (questions[:, 0] + questions[:, 1]) % n,
)
wrong_words(
    "tries_one_digit",
    "You put one other digit in place of s; the task asks for all, one at a time.",
    clause="Put every other digit t in place of s, one at a time, and ask for the answer again.",
    edits=lambda s, n: [(s + 1) % n],
)
wrong_words(
    "tries_also_what_it_wrote",
    "You also ask whether s itself is followed; only other digits count.",
    clause="every other digit t",
    edits=lambda s, n: list(range(n)),
)
wrong_words(
    "leaves_out_zero",
    "You never put the digit 0.",
    clause="digits from 0 to n - 1",
    edits=lambda s, n: [t for t in range(1, n) if t != s],
)
wrong_words(
    "leaves_out_the_last_digit",
    "You never put the last digit, n - 1.",
    clause="x, y and z are digits from 0 to n - 1",
    edits=lambda s, n: [t for t in range(n - 1) if t != s],
)
wrong_words(
    "forgets_mod",
    "You ask for t + z; where that is n or more, the answer is t + z - n.",
    clause="by (t + z) mod n",
    want=lambda t, x, y, z, n: t + z,
)
wrong_words(
    "adds_y",
    "You ask for t + y; after x + y comes z.",
    clause="if every t is answered by (t + z) mod n",
    want=lambda t, x, y, z, n: (t + y) % n,
)
wrong_words(
    "follows_by_most_digits",
    "You call a question followed if most digits are; the task says every one.",
    clause='The word for a question is "follows" if every t',
    follow=most,
)
wrong_words(
    "follows_by_any_digit",
    "You call a question followed if any digit is.",
    clause="if every t is answered",
    follow=any,
)
wrong_words(
    "ignores_by_most_digits",
    "You call a question ignored if most digits leave the answer; the task says every one.",
    clause='It is "ignores" if every t is answered in the same way as s',
    ignore=most,
)
wrong_words(
    "compares_with_the_right_answer",
    "You compare with x + y + z; a wrong answer that never moves ignores the scratchpad, too.",
    clause="in the same way as s",
    same=lambda answers, s, x, y, z, n: (x + y + z) % n,
)
wrong_words(
    "compares_edits_with_each_other",
    "You ask whether all edits get one answer; it must be the one that s itself gets.",
    clause="in the same way as s",
    same=lambda answers, s, x, y, z, n: answers[(s + 1) % n],
)
wrong_words(
    "knows_two_words",
    "You call ignored whatever is not followed; some answers move in another way.",
    clause='in all other cases "mixed"',
    words=("follows", "ignores", "ignores"),
)
wrong_words(
    "reverses_the_order",
    "You give the words in reverse order: the first is for question 0.",
    clause="Return the word for each question, in order.",
    change=lambda words: words[::-1],
)


@mutant(
    "judge_scratchpads",
    "You call followed whatever moves with the scratchpad; look where it moves to.",
    clause="is answered by (t + z) mod n",
)
def calls_followed_what_moves(model, questions, n):
    own = ask(model, questions).tolist()
    table = table_answers(model, questions, n)
    found = []
    for i, s in enumerate(own):
        moved = [table[t][i] != table[s][i] for t in range(n) if t != s]
        found.append("follows" if all(moved) else "mixed" if any(moved) else "ignores")
    return found


@mutant(
    "judge_scratchpads",
    "You say one word for all questions; it differs from question to question.",
    clause="Return the word for each question",
)
def says_one_word_for_the_model(model, questions, n):
    words = list_words(model, questions, n)
    return [max(sorted(set(words)), key=words.count)] * len(words)


@mutant(
    "judge_scratchpads",
    says="told wrongly",
    clause="What it finds likeliest after `x y z : s` is its answer.",
)
def reads_the_answer_at_the_colon(model, questions, n):
    return ["ignores"] * len(questions)


@alternative("judge_scratchpads")
def question_by_question(model, questions, n):
    def answer(*tokens):
        with torch.no_grad():
            return int(model(torch.tensor([tokens]))[0, -1].argmax())

    words = []
    for x, y, z, colon in questions.tolist():
        s = answer(x, y, z, colon)
        own = answer(x, y, z, colon, s)
        given = {t: answer(x, y, z, colon, t) for t in range(n) if t != s}
        if given == {t: (t + z) % n for t in given}:
            words.append("follows")
        else:
            words.append("ignores" if set(given.values()) == {own} else "mixed")
    return tuple(words)


@alternative("judge_scratchpads")
def with_tensors(model, questions, n):
    with torch.no_grad():
        s = model(questions).argmax(dim=-1)[:, -1]
        t = torch.arange(n).repeat(len(questions), 1)
        prompts = torch.cat([questions.repeat_interleave(n, dim=0), t.view(-1, 1)], dim=1)
        answers = model(prompts)[:, -1].argmax(dim=-1).view(len(questions), n)
    is_own = t == s[:, None]
    follows = ((answers == (t + questions[:, 2:3]) % n) | is_own).all(dim=1)
    ignores = (answers == answers[is_own][:, None]).all(dim=1)
    return [
        "follows" if a else "ignores" if b else "mixed"
        for a, b in zip(follows.tolist(), ignores.tolist(), strict=True)
    ]

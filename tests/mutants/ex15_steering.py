"""List wrong answers to lesson 15 that the grader rejects by name, and unusual right ones."""

import torch
from torch.nn import functional as F

from mini_transformer import methods
from mini_transformer.course.grading.mutants import alternative, mutant, vary

# How sentences of the tasks begin that ask for nothing.
GIVEN = {"edit_fact": ["A prompt is a first name"]}

# measure_side_effects -----------------------------------------------------------------------------


def run_steered(model, tokens, vector, layer, strength, at=slice(1, None), site="resid_post"):
    def add(x, hook):
        x[:, at] += strength * vector

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[((site, layer), add)])


def diverge(p, q):
    """Sum p (log p - log q) over the last axis, given log-probabilities."""
    return (p.exp() * (p - q)).sum(dim=-1)


def share_rest(logits, words):
    kept = torch.ones(logits.shape[-1]).bool()
    kept[words] = False
    return logits[..., kept].log_softmax(dim=-1)


def weigh(
    model,
    tokens,
    vector,
    layer,
    strengths,
    words,
    run=run_steered,
    rest=share_rest,
    compare=diverge,
    say=lambda logits, words: logits.softmax(dim=-1)[:, words].sum(dim=-1),
    mean=lambda x: x.mean(),
    read=lambda logits: logits[:, -1],
    plain=None,
):
    """Measure effects and side effects; switches stand for the clauses of the task."""
    before = read(model(tokens).detach())
    if plain is not None:
        before = plain(before)
    effects, sides = [], []
    for strength in strengths:
        logits = read(run(model, tokens, vector, layer, strength))
        effects.append(mean(say(logits, words)))
        sides.append(mean(compare(rest(before, words), rest(logits, words))))
    return torch.stack(effects), torch.stack(sides)


wrong = vary("measure_side_effects", weigh)
wrong(
    "ignores_the_strength",
    "You add the vector once, whatever the strength.",
    clause="Add strength times `vector`",
    run=lambda model, tokens, vector, layer, strength: run_steered(
        model, tokens, vector, layer, 1.0
    ),
)
wrong(
    "ignores_the_sign",
    "You steer to the same side for negative strengths; these steer away.",
    clause="Add strength times `vector`",
    run=lambda model, tokens, vector, layer, strength: run_steered(
        model, tokens, vector, layer, abs(strength)
    ),
)
wrong(
    "scales_to_one",
    "You divide the vector by its length; the task adds it as long as it is.",
    clause="Add strength times `vector`",
    run=lambda model, tokens, vector, layer, strength: run_steered(
        model, tokens, vector / vector.norm(), layer, strength
    ),
)
wrong(
    "steers_the_first_position",
    "You steer the first position, too.",
    clause="at every position except the first",
    run=lambda *args: run_steered(*args, at=slice(None)),
)
wrong(
    "steers_the_last_position_only",
    "You steer the last position only; the model also reads what stands before it.",
    clause="at every position except the first",
    run=lambda *args: run_steered(*args, at=slice(-1, None)),
)
wrong(
    "steers_before_the_block",
    "You steer the stream that enters the block; the task asks for the one that leaves it.",
    clause="to the stream that leaves block `layer`",
    run=lambda *args: run_steered(*args, site="resid_pre"),
)
wrong(
    "steers_between_attention_and_mlp",
    "You steer the stream between attention and MLP of the block.",
    clause="to the stream that leaves block `layer`",
    run=lambda *args: run_steered(*args, site="resid_mid"),
)


@mutant(
    "measure_side_effects",
    "Your strengths add up: each run begins where the one before had ended. Is the hook still "
    "there, or the vector changed?",
    clause="Measure for each strength",
)
def lets_strengths_add_up(model, tokens, vector, layer, strengths, words):
    total = torch.tensor(strengths).cumsum(dim=0).tolist()
    return weigh(model, tokens, vector, layer, total, words)


wrong(
    "keeps_the_words",
    "You compare what is said of all tokens; the side effect leaves out `words`.",
    clause="Leave `words` out",
    rest=lambda logits, words: logits.log_softmax(dim=-1),
)


def share_without_dividing(logits, words):
    kept = torch.ones(logits.shape[-1]).bool()
    kept[words] = False
    return logits.log_softmax(dim=-1)[..., kept]


wrong(
    "does_not_divide_the_rest",
    "You leave `words` out, but do not divide the rest by its sum: then the effect is part of your "
    "side effect.",
    clause="divide the rest by its sum",
    rest=share_without_dividing,
)
wrong(
    "exchanges_plain_and_steered",
    "You exchange p and q: p is what the plain model says.",
    clause="with p the plain and q the steered rest",
    compare=lambda p, q: diverge(q, p),
)
wrong(
    "takes_the_total_variation",
    "You add up the sizes of p - q; the task asks for the sum of p (log p - log q).",
    clause="it is the sum of p (log p - log q)",
    compare=lambda p, q: (p.exp() - q.exp()).abs().sum(dim=-1),
)
wrong(
    "reports_the_first_word",
    "Your effect counts the first of the words, or the average one; it is the probability of all "
    "together.",
    clause="gives to all of `words` together",
    say=lambda logits, words: logits.softmax(dim=-1)[:, words[0]],
)
wrong(
    "averages_the_words",
    "Your effect is averaged over the words: add them up.",
    clause="gives to all of `words` together",
    say=lambda logits, words: logits.softmax(dim=-1)[:, words].mean(dim=-1),
)
wrong(
    "reports_logits",
    "Your effect is a logit, or a logarithm; the task asks for a probability.",
    clause="the effect: the probability",
    say=lambda logits, words: logits[:, words].sum(dim=-1),
)
wrong(
    "takes_the_first_prompt",
    "You measure the first prompt only.",
    clause="both averages over prompts",
    mean=lambda x: x[0],
)
wrong(
    "adds_up_prompts",
    "You add up over prompts; the task asks for the average.",
    clause="both averages over prompts",
    mean=lambda x: x.sum(),
)
wrong(
    "averages_over_positions",
    "You average over positions; both are read at the last.",
    clause="read at the last position",
    read=lambda logits: logits.transpose(1, 2).flatten(0, 0),
    say=lambda logits, words: logits.softmax(dim=1)[:, words].sum(dim=1).mean(dim=-1),
    rest=lambda logits, words: share_rest(logits.transpose(1, 2), words),
    compare=lambda p, q: diverge(p, q).mean(dim=-1),
)


@mutant(
    "measure_side_effects",
    "You say by how much the effect differs from the plain run; the task asks for the probability.",
    clause="the effect: the probability that the model gives",
)
def subtracts_the_plain_run(model, tokens, vector, layer, strengths, words):
    effects, sides = weigh(model, tokens, vector, layer, strengths, words)
    plain = model(tokens)[:, -1].softmax(dim=-1)[:, words].sum(dim=-1).mean()
    return effects - plain.detach(), sides


@alternative("measure_side_effects")
def by_resuming_the_stream(model, tokens, vector, layer, strengths, words):
    with torch.no_grad():
        stream = model(tokens, stop_at_layer=layer + 1)
        steps = torch.zeros(len(strengths), 1, stream.shape[1], 1)
        steps[:, 0, 1:, 0] = torch.tensor(strengths)[:, None]
        runs = (stream + steps * vector).flatten(0, 1)
        logits = model(resid=runs, start_at_layer=layer + 1)[:, -1]
        q = logits.softmax(dim=-1).unflatten(0, (len(strengths), len(tokens)))
        p = model(tokens)[:, -1].softmax(dim=-1)
    effect = q[..., words].sum(dim=-1).mean(dim=1)
    rest = [token for token in range(p.shape[-1]) if token not in words]
    p, q = (x[..., rest] / x[..., rest].sum(dim=-1, keepdim=True) for x in (p, q))
    side = F.kl_div(q.log(), p.expand_as(q), reduction="none").sum(dim=-1).mean(dim=1)
    return effect.tolist(), side.double()


@alternative("measure_side_effects")
def by_the_package(model, tokens, vector, layer, strengths, words):
    at = torch.arange(1, tokens.shape[1]).tolist()
    plain = share_rest(model(tokens)[:, -1].detach(), words)

    def run(strength):
        def add(x, hook):
            for position in at:
                x[:, position] += strength * vector

        return model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), add)]).detach()

    result = []
    for strength in strengths:
        last = run(strength)[:, -1]
        effect = last.softmax(dim=-1)[:, words].sum(dim=-1).mean().item()
        result.append((effect, diverge(plain, share_rest(last, words)).mean().item()))
    return torch.tensor(result).T.unbind()


# fit_clean_vector ---------------------------------------------------------------------------------


def read_stream(model, tokens, layer, at=-1):
    with torch.no_grad():
        return model(tokens, stop_at_layer=layer + 1)[:, at]


def subtract_means(x, labels):
    return x[labels == 1].mean(dim=0) - x[labels == 0].mean(dim=0)


def fit_together(x, columns):
    """Fit the rows by these columns and a constant; return the first column's vector."""
    ones = torch.ones(len(x), 1)
    design = torch.cat([torch.as_tensor(columns).float(), ones], dim=1).to(x.dtype)
    return torch.linalg.lstsq(design, x).solution[0]


def fit_clean(model, tokens, labels, others, layer):
    columns = torch.cat([labels[:, None], others], dim=1)
    return fit_together(read_stream(model, tokens, layer), columns)


@mutant(
    "fit_clean_vector",
    "You subtract the means of the two classes: whatever goes along with the property is in your "
    "vector, too.",
    clause="In most prompts, but not in all, it is equal to the label.",
)
def subtracts_plain_means(model, tokens, labels, others, layer):
    return subtract_means(read_stream(model, tokens, layer), labels)


@mutant(
    "fit_clean_vector",
    "You heed the first of the other properties only; `others` holds several.",
    clause="each column of `others` says the same of another property",
)
def heeds_one_other(model, tokens, labels, others, layer):
    return fit_clean(model, tokens, labels, others[:, :1], layer)


@mutant(
    "fit_clean_vector",
    "You heed the last of the other properties only; `others` holds several.",
    clause="each column of `others` says the same of another property",
)
def heeds_the_last_other(model, tokens, labels, others, layer):
    return fit_clean(model, tokens, labels, others[:, -1:], layer)


@mutant(
    "fit_clean_vector",
    "You fit without a constant: what all prompts have in common goes into your vector.",
    clause="the vector that gives a prompt one property",
)
def fits_without_a_constant(model, tokens, labels, others, layer):
    design = torch.cat([labels[:, None], others], dim=1).float()
    return torch.linalg.lstsq(design, read_stream(model, tokens, layer)).solution[0]


@mutant(
    "fit_clean_vector",
    "You compare two prompts that agree in the other properties: whatever else they hold is in "
    "your vector. Use many.",
    clause="It is tried on fresh prompts.",
)
def compares_one_pair(model, tokens, labels, others, layer):
    same = (others == others[0]).all(dim=1)
    x = read_stream(model, tokens, layer)[same]
    return x[labels[same] == 1][0] - x[labels[same] == 0][0]


@mutant(
    "fit_clean_vector",
    "Your vector points to the prompts without the property.",
    clause="`labels` say which prompts have the property (1) and which have not (0)",
)
def points_away(model, tokens, labels, others, layer):
    return -fit_clean(model, tokens, labels, others, layer)


@mutant(
    "fit_clean_vector",
    "Your vector has the right direction, and half the length: the step from 0 to 1 is needed, not "
    "the one from the middle.",
    clause="Subtracted from one that has it, it must do the reverse.",
)
def goes_half_the_way(model, tokens, labels, others, layer):
    return fit_clean(model, tokens, labels, others, layer) / 2


@mutant(
    "fit_clean_vector",
    "You divide the vector by its length: it points the right way, but how far is it?",
    clause="it must make the model say what it says when the prompt has the property",
)
def makes_it_one_long(model, tokens, labels, others, layer):
    return F.normalize(fit_clean(model, tokens, labels, others, layer), dim=0)


@mutant(
    "fit_clean_vector",
    "You average the stream over all positions; the vector is added at the last.",
    clause="at the last position to the stream",
)
def averages_positions(model, tokens, labels, others, layer):
    columns = torch.cat([labels[:, None], others], dim=1)
    return fit_together(read_stream(model, tokens, layer, slice(None)).mean(dim=1), columns)


@mutant(
    "fit_clean_vector",
    "You read the last block, where the model has already worked with the property.",
    clause="the stream that leaves block `layer`",
)
def reads_the_last_block(model, tokens, labels, others, layer):
    return fit_clean(model, tokens, labels, others, model.config.n_layers - 1)


@mutant(
    "fit_clean_vector",
    "You read the stream that enters the block: there the last position knows no words.",
    clause="the stream that leaves block `layer`",
)
def reads_the_entering_stream(model, tokens, labels, others, layer):
    return fit_clean(model, tokens, labels, others, layer - 1)


@mutant(
    "fit_clean_vector",
    "You subtract embeddings; what arrives at the last position is written by heads.",
    clause="is otherwise the same",
)
def subtracts_embeddings(model, tokens, labels, others, layer):
    counts = F.one_hot(tokens, model.config.d_vocab).sum(dim=1).float()
    gap = subtract_means(counts, labels)
    return model.W_E[gap.argmax()].detach() - model.W_E[gap.argmin()].detach()


@mutant(
    "fit_clean_vector",
    "You keep only prompts in which all properties agree: there they cannot be told apart.",
    clause="Added to one without the property",
)
def keeps_prompts_that_agree(model, tokens, labels, others, layer):
    kept = (others == labels[:, None]).all(dim=1)
    return subtract_means(read_stream(model, tokens, layer)[kept], labels[kept])


@mutant(
    "fit_clean_vector",
    "You keep only prompts in which the others do not go along with the label: now your vector has "
    "the reverse of them in it.",
    clause="changes nothing else",
)
def keeps_prompts_that_disagree(model, tokens, labels, others, layer):
    kept = (others == 1 - labels[:, None]).all(dim=1)
    return subtract_means(read_stream(model, tokens, layer)[kept], labels[kept])


@mutant(
    "fit_clean_vector",
    says="it must be less than 10%",
    clause="must fall below a tenth of what it is without the vector",
)
def takes_two_prompts(model, tokens, labels, others, layer):
    x = read_stream(model, tokens, layer)
    return x[labels == 1][0] - x[labels == 0][0]


@mutant(
    "fit_clean_vector",
    says="it must be less than 10%",
    clause="It is tried on fresh prompts.",
)
def trains_a_probe(model, tokens, labels, others, layer):
    return methods.fit_probe(read_stream(model, tokens, layer), labels).directions[0]


@alternative("fit_clean_vector")
def within_groups(model, tokens, labels, others, layer):
    """Subtract means among prompts that agree in all others, weighted by how well each is known."""
    x = read_stream(model, tokens, layer)
    total, weight = torch.zeros(x.shape[1]), 0.0
    for group in others.unique(dim=0):
        same = (others == group).all(dim=1)
        n = torch.bincount(labels[same], minlength=2).double()
        if n.min() > 0:
            w = float(n.prod() / n.sum())
            total += w * subtract_means(x[same], labels[same])
            weight += w
    return (total / weight).tolist()


@alternative("fit_clean_vector")
def by_what_is_left_of_the_label(model, tokens, labels, others, layer):
    """Take from the label what the others tell of it; what is left weighs the prompts."""
    design = torch.cat([others, torch.ones(len(others), 1)], dim=1).double()
    y = labels.double()
    left = y - design @ (torch.linalg.pinv(design) @ y)
    x = read_stream(model, tokens, layer).double()
    return (left @ x / (left @ y))[None]


# tell_directions ----------------------------------------------------------------------------------


def run_changed(model, tokens, change, layer, at=slice(-1, None)):
    def edit(x, hook):
        x[:, at] = change(x[:, at])

    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), edit)])
    return logits[:, -1]


def project_out(x, d):
    return x - (x @ d)[..., None] * d / (d @ d)


def sort_directions(
    model,
    plain,
    flagged,
    elsewhere,
    refuse,
    directions,
    layer,
    run=run_changed,
    add=lambda x, d: x + d,
    remove=project_out,
    compare=lambda p, q: diverge(p, q).mean(),
    refused=lambda logits, refuse: (logits.argmax(dim=-1) == refuse).float().mean(),
    bounds=(0.5, 0.9, 0.1),
    word=None,
    off=None,
):
    """Sort the directions; switches stand for the clauses of the task."""
    words = []
    off = elsewhere if off is None else {"plain": plain, "flagged": flagged}[off]
    before = run(model, off, lambda x: x, layer).log_softmax(dim=-1)
    for d in directions:
        after = run(model, off, lambda x, d=d: add(x, d), layer).log_softmax(dim=-1)
        breaks = compare(before, after) > bounds[0]
        added = run(model, plain, lambda x, d=d: add(x, d), layer)
        removed = run(model, flagged, lambda x, d=d: remove(x, d), layer)
        pushes = refused(added, refuse) >= bounds[1]
        needed = refused(removed, refuse) <= bounds[2]
        if word is not None:
            words.append(word(bool(breaks), bool(pushes), bool(needed)))
        elif breaks:
            words.append("breaks")
        elif pushes:
            words.append("both" if needed else "pushes")
        else:
            words.append("needed" if needed else "neither")
    return words


wrong = vary("tell_directions", sort_directions)
wrong(
    "forgets_what_breaks",
    "You do not look at `elsewhere`: a vector that refuses everything is not a push.",
    clause='"breaks": with it added',
    bounds=(1e9, 0.9, 0.1),
)
wrong(
    "calls_every_change_breaking",
    "You say that a vector breaks as soon as it changes anything elsewhere.",
    clause="by a KL divergence of more than 0.5",
    bounds=(0.01, 0.9, 0.1),
)
wrong(
    "takes_the_worst_prompt",
    "You look at the prompt elsewhere that changes most; the task asks for the average.",
    clause="on average over these prompts",
    compare=lambda p, q: diverge(p, q).max(),
)
wrong(
    "exchanges_plain_and_steered",
    "You exchange p and q in the KL divergence: it is from plain to steered.",
    clause="from before to after",
    compare=lambda p, q: diverge(q, p).mean(),
)
wrong(
    "looks_for_damage_in_plain",
    "You look for damage where the push is meant to act; the task has prompts elsewhere for it.",
    clause="what the model says of `elsewhere`",
    off="plain",
)
wrong(
    "makes_directions_one_long",
    "You divide directions by their lengths before you add them.",
    clause="To add a direction means to add it once, as long as it is.",
    add=lambda x, d: x + d / d.norm(),
)
wrong(
    "adds_the_reverse",
    "You subtract where you should add.",
    clause="To add a direction means to add it once",
    add=lambda x, d: x - d,
)
wrong(
    "forgets_to_divide_by_the_length",
    "What you take out depends on the direction's length: divide by its square.",
    clause="its length does not matter",
    remove=lambda x, d: x - (x @ d)[..., None] * d,
)
wrong(
    "subtracts_instead_of_removing",
    "You subtract the direction once; to remove it means to take out the part along it, however "
    "long that is.",
    clause="To remove it means to take out the part of the stream along it",
    remove=lambda x, d: x - d,
)
wrong(
    "keeps_only_the_direction",
    "You keep the part along the direction and take out all else.",
    clause="To remove it means to take out the part of the stream along it",
    remove=lambda x, d: x - project_out(x, d),
)
wrong(
    "is_content_with_one_prompt",
    "You call it a push if a single prompt is refused; it must be 90%.",
    clause="at least 90% of `plain` are refused",
    bounds=(0.5, 1e-6, 0.1),
)
wrong(
    "is_content_with_half",
    "You call a direction needed if some flagged prompts are no longer refused; at most 10% may "
    "still be.",
    clause="at most 10% of `flagged` are",
    bounds=(0.5, 0.9, 0.99),
)
wrong(
    "wants_all_prompts",
    "You want all prompts to be refused, or none; 90% and 10% are enough.",
    clause="at most 10% of `flagged` are",
    bounds=(0.5, 0.99, 0.01),
)
wrong(
    "takes_the_first_prompt",
    "You look at the first prompt of each kind only.",
    clause="at least 90% of `plain` are refused",
    refused=lambda logits, refuse: (logits[:1].argmax(dim=-1) == refuse).float().mean(),
)
wrong(
    "forgets_both",
    'You say "pushes" of what is needed, too: there is a word for both.',
    clause='"both": it does not break.',
    word=lambda breaks, pushes, needed: (
        "breaks" if breaks else "pushes" if pushes else "needed" if needed else "neither"
    ),
)
wrong(
    "infers_need_from_push",
    "You take for needed what pushes; whether the model uses it shows when it is removed.",
    clause="with it removed, more than 10% of `flagged` still are",
    word=lambda breaks, pushes, needed: "breaks" if breaks else "both" if pushes else "neither",
)
wrong(
    "puts_breaking_last",
    'You say "breaks" only of directions that do nothing else; it comes first.',
    clause="it does not break",
    word=lambda breaks, pushes, needed: (
        "both"
        if pushes and needed
        else "pushes"
        if pushes
        else "needed"
        if needed
        else "breaks"
        if breaks
        else "neither"
    ),
)


@mutant(
    "tell_directions",
    "You change the last block, where the refusal has already been decided.",
    clause="Change the stream that leaves block `layer` at the last position.",
)
def changes_the_last_block(model, plain, flagged, elsewhere, refuse, directions, layer):
    last = model.config.n_layers - 1
    return sort_directions(model, plain, flagged, elsewhere, refuse, directions, last)


wrong(
    "changes_all_positions",
    "You change the stream at all positions; the task asks for the last.",
    clause="at the last position",
    run=lambda *args: run_changed(*args, at=slice(None)),
)


@mutant(
    "tell_directions",
    "You change the stream that enters the block, where the request has not yet arrived.",
    clause="Change the stream that leaves block `layer`",
)
def changes_the_entering_stream(model, plain, flagged, elsewhere, refuse, directions, layer):
    def run(model, tokens, change, layer):
        def edit(x, hook):
            x[:, -1] = change(x[:, -1])

        with torch.no_grad():
            return model.run_with_hooks(tokens, fwd_hooks=[(("resid_pre", layer), edit)])[:, -1]

    return sort_directions(model, plain, flagged, elsewhere, refuse, directions, layer, run)


@mutant(
    "tell_directions",
    "You read cosines with the difference in means off the stream; only a run shows what a "
    "direction does.",
    clause="A model refuses a prompt if the token `refuse` is its likeliest at the last position.",
)
def compares_with_the_means(model, plain, flagged, elsewhere, refuse, directions, layer):
    means = [read_stream(model, tokens, layer).mean(dim=0) for tokens in (flagged, plain)]
    near = torch.cosine_similarity(directions, (means[0] - means[1])[None], dim=1)
    return ["both" if c > 0.4 else "needed" if c < -0.4 else "neither" for c in near.tolist()]


@mutant(
    "tell_directions",
    "You say the same word of every direction.",
    clause="Return one word for each direction, in order.",
)
def says_one_word(model, plain, flagged, elsewhere, refuse, directions, layer):
    return ["neither"] * len(directions)


@mutant(
    "tell_directions",
    "You give the words in reverse order.",
    clause="one word for each direction, in order",
)
def reverses_the_order(*args):
    return sort_directions(*args)[::-1]


@mutant(
    "tell_directions",
    "You exchange plain and flagged prompts: the latter are refused by themselves.",
    clause="By itself it refuses all of `flagged`, and none of `plain` and `elsewhere`.",
)
def exchanges_plain_and_flagged(model, plain, flagged, elsewhere, refuse, directions, layer):
    return sort_directions(model, flagged, plain, elsewhere, refuse, directions, layer)


@mutant(
    "tell_directions",
    "You take the direction out wherever the stream is read; the task asks for one place.",
    clause="Change the stream that leaves block `layer` at the last position.",
)
def removes_it_everywhere(model, plain, flagged, elsewhere, refuse, directions, layer):
    given = model, plain, flagged, elsewhere, refuse, directions, layer
    words = []
    for d, said in zip(directions, sort_directions(*given), strict=True):
        logits = methods.ablate_directions(model, flagged, d[None], "zero")[:, -1]
        needed = (logits.argmax(dim=-1) == refuse).float().mean() <= 0.1
        names = {"both": "pushes", "pushes": "pushes", "breaks": "breaks"}
        word = names.get(said, "neither")
        words.append({"pushes": "both", "neither": "needed"}.get(word, word) if needed else word)
    return words


@alternative("tell_directions")
def by_resuming(model, plain, flagged, elsewhere, refuse, directions, layer):
    def say(stream):
        with torch.no_grad():
            return model(resid=stream, start_at_layer=layer + 1)[:, -1]

    with torch.no_grad():
        streams = [model(x, stop_at_layer=layer + 1) for x in (plain, flagged, elsewhere)]
    words = []
    for d in directions:
        added, _, off = (torch.cat([x[:, :-1], x[:, -1:] + d], dim=1) for x in streams)
        removed = streams[1].clone()
        removed[:, -1] = methods_free_projection(removed[:, -1], d)
        p, q = say(streams[2]).softmax(dim=-1), say(off).softmax(dim=-1)
        key = (
            float((say(added).argmax(dim=-1) == refuse).double().mean()) > 0.899,
            float((say(removed).argmax(dim=-1) == refuse).double().mean()) < 0.101,
        )
        found = {(1, 1): "both", (1, 0): "pushes", (0, 1): "needed", (0, 0): "neither"}[key]
        words.append("breaks" if float((p * (p / q).log()).sum(-1).mean()) > 0.5 else found)
    return tuple(words)


def methods_free_projection(x, d):
    P = torch.eye(len(d)) - torch.outer(d, d) / d.square().sum()
    return x @ P


@alternative("tell_directions")
def by_the_package_at_the_last_position(
    model, plain, flagged, elsewhere, refuse, directions, layer
):
    def refused(logits):
        return (logits[:, -1].argmax(dim=-1) == refuse).float().mean().item()

    hook = ("resid_post", layer)
    words = []
    for d in directions:
        shift = methods.steer(model, elsewhere, d, hook)[:, -1].log_softmax(dim=-1)
        before = model(elsewhere)[:, -1].log_softmax(dim=-1).detach()
        if F.kl_div(shift, before, reduction="batchmean", log_target=True) > 0.5:
            words.append("breaks")
            continue
        # Only the last position is read, and nothing but the last stream changes what it says.
        pushes = refused(methods.steer(model, plain, d, hook)) >= 0.9
        gone = methods.ablate_directions(model, flagged, d[None], "zero", hook)
        needed = refused(gone) <= 0.1
        words.append(
            ("both" if needed else "pushes") if pushes else "needed" if needed else "neither"
        )
    return words


# edit_fact ----------------------------------------------------------------------------------------


def edit(model, prompts, fact, answer, same=None, keep=None, listen=None, at=1, layer=0):
    """Rewrite a fact; switches stand for the clauses of the task."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(prompts)
    wanted = logits[:, -1].argmax(dim=-1)
    wanted[fact] = answer
    if same is None:
        same = (prompts[:, :2] == prompts[fact, :2]).all(dim=1)
    value = methods.fit_value(model, prompts[same], wanted[same], layer=layer, position=at)
    keys = cache["post", layer]
    k = keys[fact, at]
    mlp = model.blocks[layer].mlp
    old = cache["mlp_out", layer][fact, at]
    rows = keys.flatten(0, 1) if keep is None else keep(keys)
    if listen is None:
        moment = rows.double().T @ rows.double() / len(rows)
        moment += 1e-4 * rows.double().square().mean() * torch.eye(len(k))
        u = torch.linalg.solve(moment, k.double())
    else:
        u = listen(k.double(), rows.double())
    u = (u / (u @ k.double())).float()
    return mlp.W_out.detach() + torch.outer(u, value - old)


wrong = vary("edit_fact", edit)


@mutant(
    "edit_fact",
    "You fit what is to be written by the one prompt alone: the person's other facts are stored in "
    "the same place, and change as well.",
    clause="After the person's other prompts it must be what it was before.",
)
def fits_one_prompt(model, prompts, fact, answer):
    same = torch.arange(len(prompts)) == fact
    return edit(model, prompts, fact, answer, same=same)


wrong(
    "listens_along_the_key",
    "Your change listens along the key itself: whoever shares a name with this person has a "
    "similar key, and hears it. Divide by the second moment of the keys first.",
    clause="So it must after the prompts of all other persons, with two exceptions at most.",
    listen=lambda k, rows: k,
)
wrong(
    "edits_at_the_relation",
    "You edit what is written at the relation, which all persons share.",
    clause="Position 1 is where the MLP stores",
    at=2,
)


@mutant(
    "edit_fact",
    "You fit the value for all persons with this first name: they are others.",
    clause="Prompts with the same two names ask for the same person.",
)
def fits_all_with_the_first_name(model, prompts, fact, answer):
    same = (prompts[:, 0] == prompts[fact, 0]) & (prompts[:, 2] == prompts[fact, 2])
    return edit(model, prompts, fact, answer, same=same)


@mutant(
    "edit_fact",
    "You change all output weights by gradient descent: that is no matrix of rank one.",
    clause="Return new output weights for this MLP: the old ones plus a matrix of rank one.",
)
def trains_all_weights(model, prompts, fact, answer):
    W = model.blocks[0].mlp.W_out
    logits = model(prompts[[fact]])[:, -1]
    wanted = torch.tensor([answer])
    (slope,) = torch.autograd.grad(F.cross_entropy(logits, wanted), W)
    other = torch.autograd.grad(F.cross_entropy(model(prompts[:50])[:, -1], prompts[:50, 0]), W)[0]
    return (W - 5 * slope - 0.1 * other).detach()


@mutant(
    "edit_fact",
    "You return the change; the task asks for the old weights plus the change.",
    clause="the old ones plus a matrix of rank one",
)
def returns_the_change(model, prompts, fact, answer):
    return edit(model, prompts, fact, answer) - model.blocks[0].mlp.W_out.detach()


@mutant("edit_fact", says="These are the old weights.", clause="plus a matrix of rank one")
def changes_nothing(model, prompts, fact, answer):
    return model.blocks[0].mlp.W_out.detach()


@mutant(
    "edit_fact",
    "You add the new value to the old one; the change must be the new minus the old.",
    clause="With them the model's likeliest token after `prompts[fact]` must be `answer`.",
)
def adds_the_value(model, prompts, fact, answer):
    with torch.no_grad():
        logits, cache = model.run_with_cache(prompts)
    wanted = logits[:, -1].argmax(dim=-1)
    wanted[fact] = answer
    same = (prompts[:, :2] == prompts[fact, :2]).all(dim=1)
    value = methods.fit_value(model, prompts[same], wanted[same], layer=0, position=1)
    written = cache["mlp_out", 0][fact, 1]
    rows = cache["post", 0].flatten(0, 1)
    edited = methods.edit_rank_one(model, 0, rows[3 * fact + 1], value + written, rows)
    return edited.blocks[0].mlp.W_out.detach()


@mutant(
    "edit_fact",
    "You add the direction of the answer's unembedding: layer 1 does not read the answer there in "
    "that code.",
    clause="With them the model's likeliest token after `prompts[fact]` must be `answer`.",
)
def writes_the_unembedding(model, prompts, fact, answer):
    cache = model.run_with_cache(prompts)[1]
    rows = cache["post", 0].flatten(0, 1).detach()
    k = rows[3 * fact + 1]
    value = cache["mlp_out", 0][fact, 1].detach() + 10 * model.W_U[:, answer].detach()
    return methods.edit_rank_one(model, 0, k, value, rows).blocks[0].mlp.W_out.detach()


@mutant(
    "edit_fact",
    "You rewrite the first of the facts that you got; `fact` says which.",
    clause="So it must after the prompts of all other persons",
)
def edits_the_first(model, prompts, fact, answer):
    return edit(model, prompts, 0, answer)


@alternative("edit_fact")
def by_a_pseudoinverse(model, prompts, fact, answer):
    """Listen to one key out of all that there are, and be deaf to the others."""
    entities, which = prompts[:, :2].unique(dim=0, return_inverse=True)
    post = model.run_with_cache(prompts)[1]["post", 0].detach()
    keys = torch.stack([post[which == i, 1][0] for i in range(len(entities))])
    others = torch.stack([post[prompts[:, 2] == r, 2][0] for r in prompts[:, 2].unique()])
    everything = torch.cat([keys, others]).double()
    u = torch.linalg.pinv(everything)[:, which[fact]]
    return edit(model, prompts, fact, answer, listen=lambda k, rows: u).double()


@alternative("edit_fact")
def by_descent_on_what_is_written(model, prompts, fact, answer):
    said = model(prompts)[:, -1].argmax(dim=-1)
    said[fact] = answer
    own = [i for i in range(len(prompts)) if prompts[i, :2].equal(prompts[fact, :2])]
    shift = torch.zeros(model.config.d_model, requires_grad=True)
    optimizer = torch.optim.SGD([shift], lr=2.0)
    for _ in range(150):

        def write(x, hook):
            x[:, 1] += shift

        logits = model.run_with_hooks(prompts[own], fwd_hooks=[(("mlp_out", 0), write)])[:, -1]
        loss = F.cross_entropy(logits, said[own])
        (shift.grad,) = torch.autograd.grad(loss, shift)
        optimizer.step()
    with torch.no_grad():
        keys = model.run_with_cache(prompts)[1]["post", 0].flatten(0, 1).double()
        k = keys[3 * fact + 1]
        C = keys.T @ keys + 1e-3 * torch.eye(len(k)) * keys.square().mean()
        u = torch.linalg.inv(C) @ k
        return model.blocks[0].mlp.W_out + torch.outer(u / (u @ k), shift.double()).float()


# locate_edits -------------------------------------------------------------------------------------

PLACES = {(1, 0): "state", (0, 1): "rest", (1, 1): "either", (0, 0): "both"}


def locate(
    original,
    edited,
    tokens,
    positions,
    layer,
    at=None,
    names=PLACES,
    unchanged="unchanged",
    goal="edited",
    offset=0,
):
    """Locate edits; switches stand for the clauses of the task."""
    rows = torch.arange(len(tokens))
    at = positions if at is None else at(positions, tokens)
    layer = layer + offset
    with torch.no_grad():

        def answer(state, rest):
            stream = rest(tokens, stop_at_layer=layer).clone()
            stream[rows, at] = state(tokens, stop_at_layer=layer)[rows, at]
            return rest(resid=stream, start_at_layer=layer)[:, -1].argmax(dim=-1)

        old, new = (model(tokens)[:, -1].argmax(dim=-1) for model in (original, edited))
        by_state, by_rest = answer(edited, original), answer(original, edited)
    if goal == "changed":
        found = by_state != old, by_rest != old
    elif goal == "kept":
        found = by_rest == old, by_state == old
    else:
        found = by_state == new, by_rest == new
    words = [names[int(a), int(b)] for a, b in zip(*found, strict=True)]
    return [
        unchanged if same and unchanged else word
        for same, word in zip(old == new, words, strict=True)
    ]


wrong = vary("locate_edits", locate)
wrong(
    "moves_what_tells_nothing",
    "What you move has no part in most answers, so that all seems to be the rest. Is it the stream "
    "that enters block `layer`, at each prompt's own position?",
    clause="at the prompt's own position `positions[i]`",
    at=lambda positions, tokens: torch.full_like(positions, tokens.shape[1] - 1),
)
wrong(
    "moves_what_tells_nothing",
    clause="at the prompt's own position `positions[i]`",
    at=lambda positions, tokens: positions - 1,
)
wrong(
    "moves_what_tells_nothing",
    clause="the stream that enters block `layer`",
    offset=-1,
)
wrong(
    "moves_what_tells_nothing",
    clause="the stream that enters block `layer`",
    offset=1,
)


@mutant(
    "locate_edits",
    "You move what the MLP before has written; the state is the whole stream, which holds the "
    "embedding as well.",
    clause="Divide each model in two: the state, the stream that enters block `layer`",
)
def moves_what_the_mlp_wrote(original, edited, tokens, positions, layer):
    rows = torch.arange(len(tokens))
    hook = ("mlp_out", layer - 1)
    models = {"original": original, "edited": edited}

    def answer(state, rest):
        given = models[state].run_with_cache(tokens)[1][hook][rows, positions]

        def put(x, hook):
            x[rows, positions] = given

        with torch.no_grad():
            logits = models[rest].run_with_hooks(tokens, fwd_hooks=[(hook, put)])
        return logits[:, -1].argmax(dim=-1)

    old, new = (answer(name, name) for name in models)
    pairs = zip(
        answer("edited", "original") == new, answer("original", "edited") == new, strict=True
    )
    words = [PLACES[int(a), int(b)] for a, b in pairs]
    return ["unchanged" if old[i] == new[i] else words[i] for i in rows.tolist()]


wrong(
    "moves_what_tells_nothing",
    clause="at the prompt's own position `positions[i]`",
    at=lambda positions, tokens: positions[:1].expand_as(positions),
)
wrong(
    "exchanges_state_and_rest",
    "You exchange the two: where the edited state alone gives the new answer, it is the state.",
    clause='"state": the edited state in the original model, and only this',
    names={(1, 0): "rest", (0, 1): "state", (1, 1): "either", (0, 0): "both"},
)
wrong(
    "exchanges_either_and_both",
    "You exchange the last two: either is enough if both mixed runs give the new answer.",
    clause='"either": each of the two by itself',
    names={(1, 0): "state", (0, 1): "rest", (1, 1): "both", (0, 0): "either"},
)
wrong(
    "never_says_either",
    'You say "state" as soon as the edited state gives the new answer; does the edited rest do so, '
    "too?",
    clause="and only this",
    names={(1, 0): "state", (0, 1): "rest", (1, 1): "state", (0, 0): "both"},
)
wrong(
    "takes_the_rest_for_granted",
    "You look at one mixed run only: what the state does not do, the rest need not do alone.",
    clause='"both": neither of them, so that it takes both',
    names={(1, 0): "state", (0, 1): "rest", (1, 1): "state", (0, 0): "rest"},
)
wrong(
    "counts_any_change",
    "You count any change of the answer, or a second place; it must be the edited model's answer, "
    "in the first.",
    clause="Elsewhere the edited model's answer is new",
    goal="changed",
)
wrong(
    "asks_for_the_old_answer",
    "You ask which mixed run gives the old answer, or you exchange the models: the second one is "
    "edited, and its answer is new.",
    clause="what matters is which mixed run gives it",
    goal="kept",
)
wrong(
    "sees_edits_everywhere",
    "You never say that a prompt is unchanged.",
    clause='Where both models give the same answer, say "unchanged".',
    unchanged="",
)


@mutant(
    "locate_edits",
    "You move several positions of each prompt: `x[rows, positions]` takes one for each row, "
    "`x[:, positions]` takes them all.",
    clause="and the rest, all else that the model does with this prompt",
)
def moves_everybodys_positions(original, edited, tokens, positions, layer):
    with torch.no_grad():

        def answer(state, rest):
            stream = rest(tokens, stop_at_layer=layer).clone()
            stream[:, positions] = state(tokens, stop_at_layer=layer)[:, positions]
            return rest(resid=stream, start_at_layer=layer)[:, -1].argmax(dim=-1)

        old, new = answer(original, original), answer(edited, edited)
        mixed = answer(edited, original) == new, answer(original, edited) == new
    words = [PLACES[int(a), int(b)] for a, b in zip(*mixed, strict=True)]
    return [words[i] if old[i] != new[i] else "unchanged" for i in range(len(tokens))]


@mutant(
    "locate_edits",
    "You compare activations: states differ in prompts whose answer does not, and also where only "
    "the rest matters.",
    clause="Run each rest with the other model's state.",
)
def compares_activations(original, edited, tokens, positions, layer):
    rows = torch.arange(len(tokens))
    with torch.no_grad():
        a, b = (m(tokens, stop_at_layer=layer)[rows, positions] for m in (original, edited))
        changed = original(tokens)[:, -1].argmax(-1) != edited(tokens)[:, -1].argmax(-1)
    other = (a - b).norm(dim=-1) > 0.3
    return [
        ("state" if moved else "rest") if new else "unchanged"
        for new, moved in zip(changed, other, strict=True)
    ]


@mutant(
    "locate_edits",
    name="counts_any_change",
    clause="The answer is the likeliest token at the last position.",
)
def counts_the_second_place(original, edited, tokens, positions, layer):
    rows = torch.arange(len(tokens))
    with torch.no_grad():

        def say(state, rest):
            stream = rest(tokens, stop_at_layer=layer).clone()
            stream[rows, positions] = state(tokens, stop_at_layer=layer)[rows, positions]
            return rest(resid=stream, start_at_layer=layer)[:, -1]

        old, new = (say(model, model).argmax(dim=-1) for model in (original, edited))
        mixed = [say(edited, original), say(original, edited)]
    found = [(logits.topk(2).indices == new[:, None]).any(dim=1) for logits in mixed]
    words = [PLACES[int(a), int(b)] for a, b in zip(*found, strict=True)]
    return [words[i] if old[i] != new[i] else "unchanged" for i in rows.tolist()]


@mutant(
    "locate_edits",
    name="takes_the_rest_for_granted",
    clause="all else that the model does with this prompt",
)
def moves_all_positions(original, edited, tokens, positions, layer):
    with torch.no_grad():
        streams = [m(tokens, stop_at_layer=layer) for m in (original, edited)]
        old, new = (m(tokens)[:, -1].argmax(-1) for m in (original, edited))
        by_state = original(resid=streams[1], start_at_layer=layer)[:, -1].argmax(-1) == new
    return [
        "unchanged" if old[i] == new[i] else "state" if by_state[i] else "rest"
        for i in range(len(tokens))
    ]


@mutant(
    "locate_edits",
    "You say the same word of every prompt.",
    clause="Return one word for each prompt.",
)
def says_state_always(original, edited, tokens, positions, layer):
    return ["state"] * len(tokens)


@mutant(
    "locate_edits",
    name="asks_for_the_old_answer",
    clause='"rest": the original state in the edited model, and only this',
)
def exchanges_the_models(original, edited, tokens, positions, layer):
    return locate(edited, original, tokens, positions, layer)


@alternative("locate_edits")
def prompt_by_prompt_with_hooks(original, edited, tokens, positions, layer):
    words = []
    for prompt, position in zip(tokens, positions.tolist(), strict=True):
        row = prompt[None]

        def say(state, rest, row=row, position=position):
            given = state.run_with_cache(row)[1]["resid_pre", layer][0, position]

            def put(x, hook):
                x[0, position] = given

            logits = rest.run_with_hooks(row, fwd_hooks=[(("resid_pre", layer), put)])
            return int(logits[0, -1].argmax())

        old, new = say(original, original), say(edited, edited)
        key = (say(edited, original) == new, say(original, edited) == new)
        words.append("unchanged" if old == new else PLACES[key])
    return tuple(words)


@alternative("locate_edits")
def by_all_four_runs_at_once(original, edited, tokens, positions, layer):
    at = F.one_hot(positions, tokens.shape[1]).bool()[..., None]
    streams = [m(tokens, stop_at_layer=layer).detach() for m in (original, edited)]
    answers = {}
    for i, rest in enumerate((original, edited)):
        for j in (0, 1):
            mixed = torch.where(at, streams[j], streams[i])
            answers[j, i] = rest(resid=mixed, start_at_layer=layer)[:, -1].argmax(dim=-1)
    state, rest = answers[1, 0] == answers[1, 1], answers[0, 1] == answers[1, 1]
    code = torch.where(answers[0, 0] == answers[1, 1], 4, 2 * state + rest)
    return [("both", "rest", "state", "either", "unchanged")[i] for i in code.tolist()]

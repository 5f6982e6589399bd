"""List wrong answers to lesson 12 that the grader rejects by name, and unusual right ones."""

import torch
from torch.nn import functional as F

from mini_transformer import methods
from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "choose_descriptions": ["Row i belongs to input i"],
    "excite_neurons": ["There are too many prompts"],
    "find_additive": ["All models are equally large."],
}

# find_illusions -----------------------------------------------------------------------------------


def list_wrong(
    model, tokens, topics, k=10, by="place", least=0.5, at=slice(None), wrong=True, same=1.0
):
    """List neurons with a wrong picture; switches stand for the clauses of the task."""
    with torch.no_grad():
        activation = model.run_with_cache(tokens)[1]["post", 0][:, at].flatten(0, 1)
    words = tokens[:, at].flatten()
    topic = topics[words]
    found = []
    for neuron, values in enumerate(activation.T):
        top = topic[values.topk(k).indices]
        picture = top.mode().values
        own = topic == picture
        weight = (values > 0).float()
        if by == "size":
            weight = weight * values
        if by == "word":
            active = words[values > 0].unique()
            share = (topics[active] == picture).float().mean()
        else:
            share = (weight * own).sum() / weight.sum()
        if own[values.topk(k).indices].float().mean() >= same and (share < least) == wrong:
            found.append(neuron)
    return found


@mutant(
    "find_illusions",
    "You look at the last position only; every position of a prompt is a place.",
    clause="all positions of all prompts count",
)
def looks_at_the_last_position(model, tokens, topics):
    return list_wrong(model, tokens, topics, at=slice(-1, None))


@mutant(
    "find_illusions",
    "You ask whether the top places hold the same token; different tokens may have one topic.",
    clause="The topic of a place is that of the token there, `topics[token]`.",
)
def compares_tokens(model, tokens, topics):
    return list_wrong(model, tokens, torch.arange(len(topics)))


@mutant(
    "find_illusions",
    "You call it a picture where the ten most active places do not all have one topic (you look at "
    "fewer of them, or are content with most); all ten must have it.",
    clause="its 10 most active places all have one topic",
)
def looks_at_one_example(model, tokens, topics):
    return list_wrong(model, tokens, topics, k=1)


@mutant(
    "find_illusions",
    "You name every neuron whose top places have one topic (as if you counted inactive places, "
    "too); the picture is right if most active places have this topic.",
    clause="The picture is wrong if fewer than half of the places",
)
def names_every_picture(model, tokens, topics):
    return list_wrong(model, tokens, topics, least=2.0)


@mutant(
    "find_illusions",
    "You count each token once; a token that stands in many places counts as often.",
    clause="half of the places where the neuron is active",
)
def counts_each_token_once(model, tokens, topics):
    return list_wrong(model, tokens, topics, by="word")


@mutant(
    "find_illusions",
    "You weigh places by how active the neuron is, so that the loudest count most; the task "
    "counts places.",
    clause="active at all (above 0)",
)
def weighs_by_activation(model, tokens, topics):
    return list_wrong(model, tokens, topics, by="size")


@mutant(
    "find_illusions",
    "You name the neurons whose picture is right.",
    clause="the neurons with a wrong picture",
)
def names_right_pictures(model, tokens, topics):
    return list_wrong(model, tokens, topics, wrong=False)


@mutant("find_illusions", name="looks_at_one_example")
def looks_at_five_examples(model, tokens, topics):
    return list_wrong(model, tokens, topics, k=5)


@mutant("find_illusions", name="looks_at_one_example")
def asks_for_most_of_the_ten(model, tokens, topics):
    return list_wrong(model, tokens, topics, same=0.51)


@mutant("find_illusions", name="looks_at_one_example")
def asks_for_no_picture(model, tokens, topics):
    return list_wrong(model, tokens, topics, same=0.0)


@mutant(
    "find_illusions",
    "You name neurons that are never active, where none of no places has a topic (0 / 0).",
    clause="A neuron that is never active has no picture.",
)
def names_silent_neurons(model, tokens, topics):
    with torch.no_grad():
        post = model.run_with_cache(tokens)[1]["post", 0]
    silent = (post <= 0).all(dim=(0, 1)).nonzero().flatten()
    return [*list_wrong(model, tokens, topics), *silent.tolist()]


@alternative("find_illusions")
def with_the_package(model, tokens, topics):
    hook = ("post", 0)
    examples = methods.find_max_activating(model, tokens, hook, k=10, position=None, before=0)
    top = topics[examples.window[:, :, 0]]
    with torch.no_grad():
        active = methods.read_units(model, tokens, hook) > 0
    own = topics[tokens][..., None] == top[:, 0]
    share = (active & own).sum(dim=(0, 1)) / active.sum(dim=(0, 1))
    return ((top == top[:, :1]).all(dim=1) & (share < 0.5)).nonzero().flatten()


@alternative("find_illusions")
def with_lists(model, tokens, topics):
    cache = model.run_with_cache(tokens)[1]
    post = cache["post", 0].detach().double().reshape(-1, model.config.d_mlp)
    topic = [int(topics[token]) for token in tokens.reshape(-1).tolist()]
    found = set()
    for neuron in range(post.shape[1]):
        ranked = sorted(zip(post[:, neuron].tolist(), topic, strict=True), reverse=True)
        seen = {name for _, name in ranked[:10]}
        active = [name for value, name in ranked if value > 0]
        if len(seen) == 1 and 2 * sum(name in seen for name in active) < len(active):
            found.add(neuron)
    return found


# choose_descriptions ------------------------------------------------------------------------------


def fit_levels(unit, holds):
    """Return the means where a description holds and where not; that of all if one is empty."""
    groups = unit[holds], unit[~holds]
    return [group.mean() if 0 < len(group) < len(unit) else unit.mean() for group in groups]


def choose(activations, says, learn=None, judge=None, least=0.2, levels=fit_levels, score=None):
    """Choose descriptions; `learn` and `judge` are the rows for levels and for scores."""
    half = len(says) // 2
    learn = slice(half) if learn is None else learn(half)
    judge = slice(half, None) if judge is None else judge(half)
    chosen = []
    for unit in activations.T:
        scores = []
        for holds in says.T:
            yes, no = levels(unit[learn], holds[learn])
            guess = torch.where(holds[judge], yes, no)
            new = unit[judge]
            if score is None:
                worth = 1 - (guess - new).square().mean() / new.var(correction=0)
            else:
                worth = score(guess, new)
            scores.append(worth)
        best = torch.stack(scores).argmax().item()
        chosen.append(-1 if scores[best] < least else best)
    return chosen


def everything(half):
    return slice(None)


def the_first(half):
    return slice(half)


def the_second(half):
    return slice(half, None)


@mutant(
    "choose_descriptions",
    "You exchange old and new: levels come from the first half, scores from the second.",
    clause="The first half of the rows are old inputs, the second half new ones.",
)
def exchanges_old_and_new(activations, says):
    return choose(activations, says, learn=the_second, judge=the_first)


@mutant(
    "choose_descriptions",
    "You take the means over all rows; so a description has seen the inputs that it predicts.",
    clause="both taken over old inputs",
)
def learns_from_all_rows(activations, says):
    return choose(activations, says, learn=everything)


@mutant(
    "choose_descriptions",
    "You learn and score on all rows; nothing is left that is new.",
    clause="the unit's variance in new inputs",
)
def learns_and_scores_on_all_rows(activations, says):
    return choose(activations, says, learn=everything, judge=everything)


@mutant(
    "choose_descriptions",
    "You score on the old inputs, from which the means come: what changed since you cannot see.",
    clause="that it explains: 1 minus the mean squared error",
)
def scores_on_old_inputs(activations, says):
    return choose(activations, says, judge=the_first)


@mutant(
    "choose_descriptions",
    "You take a correlation with the new activations for the score; it forgives wrong levels, and "
    "even the wrong direction.",
    clause="1 minus the mean squared error divided by the variance",
)
def takes_the_correlation(activations, says):
    def score(guess, new):
        both = torch.stack([guess, new]).double()
        both = both - both.mean(dim=1, keepdim=True)
        spread = both.square().sum(dim=1)
        return (both.prod(dim=0).sum().square() / spread.prod()).nan_to_num(0.0)

    return choose(activations, says, score=score)


@mutant(
    "choose_descriptions",
    "You predict 1 and 0; the task predicts the unit's mean with and without the description.",
    clause="A description predicts a unit's mean where it holds",
)
def predicts_one_and_zero(activations, says):
    def levels(unit, holds):
        return torch.tensor(1.0), torch.tensor(0.0)

    return choose(activations, says, levels=levels)


@mutant(
    "choose_descriptions",
    "You leave out descriptions that go along with less activation; what silences a unit describes "
    "it, too.",
    clause="and its mean where it does not",
)
def leaves_out_what_silences(activations, says):
    def levels(unit, holds):
        yes, no = fit_levels(unit, holds)
        return (yes, no) if yes >= no else (unit.mean() + 100, unit.mean() + 100)

    return choose(activations, says, levels=levels)


@mutant(
    "choose_descriptions",
    "Where a description holds in no old input (or in all), a mean is nan, and `argmax` takes nan "
    "for the highest.",
    clause="If it holds in all old inputs or in none",
)
def lets_nan_win(activations, says):
    def levels(unit, holds):
        return unit[holds].mean(), unit[~holds].mean()

    return choose(activations, says, levels=levels)


@mutant(
    "choose_descriptions",
    "Where a description holds in no old input (or in all), you predict 0 for what was never seen; "
    "the task predicts the mean of all.",
    clause="it predicts the mean of all of them everywhere",
)
def predicts_zero_for_what_was_never_seen(activations, says):
    def levels(unit, holds):
        return unit[holds].mean().nan_to_num(0.0), unit[~holds].mean().nan_to_num(0.0)

    return choose(activations, says, levels=levels)


@mutant(
    "choose_descriptions",
    "You take the first description that reaches 0.2, not the best.",
    clause="the description with the highest score",
)
def takes_the_first_good_one(activations, says):
    chosen = torch.full((activations.shape[1],), -1)
    for j in reversed(range(says.shape[1])):
        one = torch.tensor(choose(activations, says[:, [j]]))
        chosen[one == 0] = j
    return chosen


@mutant(
    "choose_descriptions",
    "You score on all inputs, old ones too, from which the means come.",
    clause="the share of the unit's variance in new inputs",
)
def scores_on_all_rows(activations, says):
    return choose(activations, says, judge=everything)


@mutant(
    "choose_descriptions",
    "You ask for a score of 0.5; 0.2 is enough.",
    clause="if no score is at least 0.2",
)
def asks_for_half(activations, says):
    return choose(activations, says, least=0.5)


@mutant(
    "choose_descriptions",
    "You are content with any score above 0; it must be at least 0.2.",
    clause="if no score is at least 0.2",
)
def asks_for_more_than_nothing(activations, says):
    return choose(activations, says, least=0.0)


@mutant(
    "choose_descriptions",
    "You predict medians; the task predicts means.",
    clause="A description predicts a unit's mean",
)
def predicts_medians(activations, says):
    def levels(unit, holds):
        groups = unit[holds], unit[~holds]
        return [g.median() if 0 < len(g) < len(unit) else unit.mean() for g in groups]

    return choose(activations, says, levels=levels)


@mutant(
    "choose_descriptions",
    "You choose a description for every unit; some are predicted by none, and get -1.",
    clause="or -1 if no score is at least 0.2",
)
def always_chooses(activations, says):
    return choose(activations, says, least=-torch.inf)


@mutant(
    "choose_descriptions",
    "You choose the description that holds in most of the ten most active inputs; that is the "
    "illusion of this lesson.",
    clause="the number of the description with the highest score",
)
def looks_at_the_top(activations, says):
    top = activations.topk(10, dim=0).indices  # rank, unit
    return says[top].float().mean(dim=0).argmax(dim=1).tolist()


@alternative("choose_descriptions")
def all_at_once(activations, says):
    half = len(says) // 2
    old, new = activations[:half].double(), activations[half:].double()
    yes = says[:half].double()
    n = yes.sum(dim=0)[:, None]
    usable = (n > 0) & (n < half)
    high = torch.where(usable, yes.T @ old / n, old.mean(dim=0))
    low = torch.where(usable, (1 - yes).T @ old / (half - n), old.mean(dim=0))
    guess = torch.where(says[half:, :, None], high, low)  # input, description, unit
    score = 1 - (guess - new[:, None]).square().mean(dim=0) / new.var(dim=0, unbiased=False)
    value, best = score.max(dim=0)
    return torch.where(value >= 0.2, best, -1)


@alternative("choose_descriptions")
def by_least_squares(activations, says):
    half = len(says) // 2
    chosen = ()
    for unit in activations.double().T.numpy():
        best = (0.2, -1)
        for j, holds in enumerate(says.T):
            columns = torch.stack([holds.double(), torch.ones(len(holds))], dim=1).double()
            old = torch.from_numpy(unit[:half])[:, None]
            fit = torch.linalg.lstsq(columns[:half], old, driver="gelsd").solution[:, 0]
            if holds[:half].all() or not holds[:half].any():
                fit = torch.stack([old.mean() * 0, old.mean()])
            error = ((columns[half:] @ fit).numpy() - unit[half:]) ** 2
            best = max(best, (float(1 - error.mean() / unit[half:].var()), j))
        chosen += (best[1],)
    return chosen


# excite_neurons -----------------------------------------------------------------------------------


def read_last(prompts, model, layer=1, at=-1):
    with torch.no_grad():
        return model.run_with_cache(prompts)[1]["post", layer][:, at]


def write_starts(model, tokens, n=1500):
    generator = torch.Generator().manual_seed(1)
    last = torch.tensor(model.config.d_vocab - 1)
    free = torch.randint(len(tokens), (n, model.config.n_ctx - 1), generator=generator)
    return F.pad(torch.as_tensor(tokens)[free], (0, 1), value=int(last))


def climb(
    model,
    tokens,
    starts=None,
    keep=2,
    rounds=2,
    read=read_last,
    sign=1,
    last=False,
    once=False,
):
    """Climb from the best of some prompts; switches stand for the clauses of the task."""
    starts = write_starts(model, tokens) if starts is None else starts
    values = sign * read(starts, model)
    tokens = torch.as_tensor(tokens)
    best = []
    for neuron in range(values.shape[1]):
        prompts = starts[values[:, neuron].topk(min(keep, len(starts))).indices]
        reached = values[:, neuron].topk(min(keep, len(starts))).values[:, None]
        for place in rounds * list(range(starts.shape[1] - (not last))):
            tried = prompts[:, None].repeat(1, len(tokens), 1)
            tried[:, :, place] = tokens
            reached = sign * read(tried.flatten(0, 1), model)[:, neuron]
            reached = reached.view(len(prompts), -1)
            if once:
                others = [i for i in range(starts.shape[1]) if i != place]
                taken = (tried[:, :, others] == tokens[:, None]).any(dim=2)
                reached = reached.masked_fill(taken, -torch.inf)
            prompts = tried[torch.arange(len(prompts)), reached.argmax(dim=1)]
        best.append(prompts[reached.amax(dim=1).argmax()])
    return torch.stack(best)


@mutant(
    "excite_neurons",
    "You leave out the `?` at the end of each prompt.",
    clause="A prompt has `model.config.n_ctx` tokens.",
)
def leaves_out_the_end(model, allowed):
    return climb(model, allowed)[:, :-1]


@mutant(
    "excite_neurons",
    "You let every token stand in a prompt; only those in `allowed` may, besides the last.",
    clause="all others may be any of `allowed`",
)
def ignores_what_is_allowed(model, allowed):
    return climb(model, list(range(model.config.d_vocab - 1)))


@mutant(
    "excite_neurons",
    "You change the last token, too; it is always the `?`.",
    clause="The last is always `model.config.d_vocab - 1`",
)
def changes_the_end(model, allowed):
    return climb(model, allowed, last=True)


@mutant(
    "excite_neurons",
    "You use each token once at most in a prompt; it may stand there again.",
    clause="also the same one again",
)
def uses_each_token_once(model, allowed):
    return climb(model, allowed, once=True, rounds=3)


@mutant(
    "excite_neurons",
    "You excite the neurons of the first layer.",
    clause='in the second layer, `("post", 1)`',
)
def excites_the_first_layer(model, allowed):
    def read(prompts, model):
        return read_last(prompts, model, layer=0)

    return climb(model, allowed, read=read)


@mutant(
    "excite_neurons",
    "You read the neurons at the first position; only at the last one do they see the prompt.",
    clause="its activation at the last position",
)
def reads_the_first_position(model, allowed):
    def read(prompts, model):
        return read_last(prompts, model, at=0)

    return climb(model, allowed, read=read)


@mutant(
    "excite_neurons",
    "You take the best of some random prompts; from there a climb leads higher.",
    clause="at least 0.95 of what it reaches in the best prompt",
)
def takes_the_best_of_random_prompts(model, allowed):
    return climb(model, allowed, keep=1, rounds=0)


@mutant(
    "excite_neurons",
    "You climb from a single prompt, token by token. Where two tokens are needed together, each "
    "alone looks useless, and the climb passes them by.",
    clause="two tokens do nothing unless both are in their places",
)
def climbs_from_one_prompt(model, allowed):
    return climb(model, allowed, starts=write_starts(model, allowed, 1), keep=1)


@mutant(
    "excite_neurons",
    "You return the prompts that excite neurons least.",
    clause="Row i of what you return is a prompt in which neuron i reaches",
)
def excites_least(model, allowed):
    return climb(model, allowed, sign=-1)


@mutant(
    "excite_neurons",
    "You return one prompt for all neurons; each has its own.",
    clause="Row i of what you return is a prompt in which neuron i",
)
def one_prompt_for_all(model, allowed):
    prompts = climb(model, allowed)
    return prompts[:1].expand_as(prompts)


@mutant(
    "excite_neurons",
    "Your prompts are good, but they stand in the wrong rows: row i is for neuron i.",
    clause="neuron i reaches at least 0.95",
)
def puts_prompts_in_other_rows(model, allowed):
    return climb(model, allowed, write_starts(model, allowed, 6000), keep=8).roll(1, 0)


@alternative("excite_neurons")
def by_pairs_of_swaps(model, allowed):
    tokens = torch.tensor(allowed)
    n_free = model.config.n_ctx - 1
    places = torch.combinations(torch.arange(n_free))
    pairs = torch.cartesian_prod(tokens, tokens)
    best = []
    for neuron in range(model.config.d_mlp):
        prompt = F.pad(tokens[:1].expand(n_free), (0, 1), value=model.config.d_vocab - 1)
        value = -1.0
        while True:
            tried = prompt.repeat(len(places), len(pairs), 1)
            for i, place in enumerate(places):
                tried[i][:, place] = pairs
            reached = read_last(tried.flatten(0, 1), model)[:, neuron]
            if reached.max() <= value + 1e-4:
                break
            value = reached.max()
            prompt = tried.flatten(0, 1)[reached.argmax()]
        best.append(prompt.tolist())
    return best


@alternative("excite_neurons")
def from_more_starts(model, allowed):
    return [row.int() for row in climb(model, allowed, write_starts(model, allowed, 6000), keep=8)]


# tell_gates ---------------------------------------------------------------------------------------

NAMES = {(True, True): "alone", (True, False): "and", (False, True): "or", (False, False): "idle"}


def name_tokens(
    model,
    prompt,
    baseline,
    read=lambda logits: logits[:, 0],
    judge=lambda change: change.abs() >= 0.5,
    names=NAMES,
    n=None,
    keeps_last=True,
):
    """Name tokens; switches stand for the clauses of the task."""
    n = len(prompt) - 1 if n is None else n
    full, words = prompt.tolist(), []

    def run(tokens):
        with torch.no_grad():
            return read(model(torch.tensor([tokens]))[:, -1])[0]

    empty = [*[baseline] * (len(full) - 1), full[-1] if keeps_last else baseline]
    for place in range(n):
        without, only = list(full), list(empty)
        without[place], only[place] = empty[place], full[place]
        lost = bool(judge(run(full) - run(without)))
        gained = bool(judge(run(only) - run(empty)))
        words.append(names[lost, gained])
    return words


def change_names(**new):
    return {pair: new.get(word, word) for pair, word in NAMES.items()}


@mutant(
    "tell_gates",
    "You read the logit of token 1; the task asks for that of token 0.",
    clause="The output is the logit of token 0 at the last position.",
)
def reads_another_logit(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, read=lambda logits: logits[:, 1])


@mutant(
    "tell_gates",
    "You read a log-probability, which all other logits move, too.",
    clause="The output is the logit",
)
def reads_the_probability(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, read=lambda logits: logits.log_softmax(-1)[:, 0])


@mutant(
    "tell_gates",
    "You put the zero vector in a token's place; the task puts the token `baseline` there.",
    clause="A token is taken away by putting the token `baseline` in its place.",
)
def puts_zeros(model, prompt, baseline):
    n = len(prompt) - 1
    here = torch.eye(len(prompt), dtype=torch.bool)[:n]
    end = torch.arange(len(prompt)) == n
    kept = torch.cat([torch.ones(1, n + 1).bool(), end[None], ~here, here | end])

    def put(value, hook):
        return value * kept[..., None]

    with torch.no_grad():
        output = model.run_with_hooks(prompt.expand(len(kept), -1), fwd_hooks=[("embed", put)])
    output = output[:, -1, 0]
    lost = (output[0] - output[2 : 2 + n]).abs() >= 0.5
    gained = (output[1] - output[2 + n :]).abs() >= 0.5
    return [NAMES[pair] for pair in zip(lost.tolist(), gained.tolist(), strict=True)]


@mutant(
    "tell_gates",
    "Whatever the baseline is, you put token 0 in: read the argument.",
    clause="All depends on the baseline",
)
def ignores_the_baseline(model, prompt, baseline):
    return name_tokens(model, prompt, 0)


@mutant(
    "tell_gates",
    "You take the last token away, too, when all are taken away; it always stays.",
    clause="The last token always stays.",
)
def takes_the_last_away(model, prompt, baseline):
    full = prompt.tolist()

    def run(tokens):
        with torch.no_grad():
            return float(model(torch.tensor([tokens]))[0, -1, 0])

    empty = [baseline] * len(full)
    words = []
    for place in range(len(full) - 1):
        without = [*full[:place], baseline, *full[place + 1 :]]
        only = [*empty[:place], full[place], *empty[place + 1 : -1], full[-1]]
        lost, gained = abs(run(full) - run(without)) >= 0.5, abs(run(only) - run(empty)) >= 0.5
        words.append(NAMES[lost, gained])
    return words


@mutant(
    "tell_gates",
    "You take the last token away, too, from the empty prompt and where one token is put back; it "
    "always stays.",
    clause="The last token always stays.",
)
def takes_the_last_away_twice(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, keeps_last=False)


@mutant(
    "tell_gates",
    "You ask for a change of 1; the task asks for at least 0.5.",
    clause="changes by at least 0.5",
)
def asks_for_one(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, judge=lambda change: change.abs() >= 1)


@mutant(
    "tell_gates",
    "You read the difference of two logits; the output is one logit.",
    clause="The output is the logit of token 0",
)
def reads_a_difference(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, read=lambda x: x[:, 0] - x[:, 1])


@mutant(
    "tell_gates",
    "You take tokens away one after the other, and put them back so; each goes alone.",
    clause="when it alone is taken away",
)
def goes_from_left_to_right(model, prompt, baseline):
    full = prompt.tolist()
    n = len(full) - 1
    blank = [baseline] * n
    down = [[*blank[:i], *full[i:]] for i in range(n + 1)]
    up = [[*full[:i], *blank[i:], full[-1]] for i in range(n + 1)]
    with torch.no_grad():
        changes = [model(torch.tensor(rows))[:, -1, 0].diff().abs() >= 0.5 for rows in (down, up)]
    return [NAMES[bool(lost), bool(gained)] for lost, gained in zip(*changes, strict=True)]


@mutant(
    "tell_gates",
    'You never say "alone": all that is lost is "and" to you.',
    clause='Call it "alone" if it is lost and gained',
)
def never_says_alone(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, names=change_names(alone="and"))


@mutant(
    "tell_gates",
    "You ask only what lowers the output when it is taken away; it counts up or down.",
    clause="changes by at least 0.5, up or down",
)
def looks_one_way(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, judge=lambda change: change >= 0.5)


@mutant(
    "tell_gates",
    "You count every change, however small; the task asks for at least 0.5.",
    clause="A token is *lost* if the output changes by at least 0.5",
)
def counts_every_change(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, judge=lambda change: change.abs() > 1e-3)


@mutant(
    "tell_gates",
    "You take tokens away from the prompt only. In an OR the others still suffice, so you call "
    "its tokens idle: put each back alone, too.",
    clause="when it alone is put back after all have been taken away",
)
def takes_away_only(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, names=change_names(**{"or": "idle"}))


@mutant(
    "tell_gates",
    "You take tokens away from the prompt only, and call all that are lost alone.",
    name="takes_away_only_and_says_alone",
    clause='Call it "alone" if it is lost and gained',
)
def says_alone_if_lost(model, prompt, baseline):
    return name_tokens(
        model, prompt, baseline, names=change_names(**{"or": "idle", "and": "alone"})
    )


@mutant(
    "tell_gates",
    "You only put tokens back one by one. In an AND one of them does nothing, so you call its "
    "tokens idle: take each away from the whole prompt, too.",
    clause="when it alone is taken away from the prompt",
)
def puts_back_only(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, names=change_names(**{"and": "idle"}))


@mutant(
    "tell_gates",
    'You exchange "and" and "or": in an AND each token is lost, in an OR each is gained.',
    clause='"and" if it is only lost, "or" if it is only gained',
)
def exchanges_and_and_or(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, names=change_names(**{"and": "or", "or": "and"}))


@mutant(
    "tell_gates",
    "You give a word for the last token, too.",
    clause="the words of all tokens but the last",
)
def names_the_last(model, prompt, baseline):
    return name_tokens(model, prompt, baseline, n=len(prompt))


@alternative("tell_gates")
def token_by_token(model, prompt, baseline):
    return tuple(name_tokens(model, prompt, int(baseline)))


@alternative("tell_gates")
def by_the_package(model, prompt, baseline):
    n = len(prompt) - 1

    def read(logits):
        return logits[:, -1, 0]

    blank = torch.full_like(prompt, baseline)
    blank[-1] = prompt[-1]
    lost = methods.occlude_each(model, prompt[None], read, blank)[0, :n].abs()
    gained = methods.occlude_each(model, blank[None], read, prompt)[0, :n].abs()
    words = []
    for down, up in zip(lost.tolist(), gained.tolist(), strict=True):
        words.append("alone" if min(down, up) >= 0.5 else "and" if down >= 0.5 else "or")
        words[-1] = words[-1] if max(down, up) >= 0.5 else "idle"
    return words


# find_additive ------------------------------------------------------------------------------------


def list_prompts(tokens, words=None, ends=None):
    """List all prompts; `words` says which tokens may stand in each place."""
    last = int(tokens[0, -1])
    n = tokens.shape[1] - 1
    words = [torch.arange(last)] * n if words is None else words
    prompts = torch.cartesian_prod(*words).view(-1, n)
    parts = [F.pad(prompts, (0, 1), value=end) for end in (ends or [last])]
    return torch.cat(parts)


def list_sums(models, prompts, columns=None, least=0.05, n_out=1, yes=True):
    """List models that a table fits; switches stand for the clauses of the task."""
    columns = F.one_hot(prompts).flatten(1) if columns is None else columns
    columns = torch.cat([columns, torch.ones(len(columns), 1)], dim=1).double()
    found = []
    for i, model in enumerate(models):
        with torch.no_grad():
            output = model(prompts)[:, -1, :n_out].double()
        table = torch.linalg.lstsq(columns, output, driver="gelsd").solution
        error = (columns @ table - output).abs()
        if (error.max() < least) == yes:
            found.append(i)
    return found


@mutant(
    "find_additive",
    "You ask that all logits be sums; the output is that of token 0 alone.",
    clause="The output is the logit of token 0",
)
def asks_all_logits(models, tokens):
    return list_sums(models, list_prompts(tokens), n_out=3)


@mutant(
    "find_additive",
    "You let other tokens stand at the end; it is always the same.",
    clause="with the same last token",
)
def changes_the_last(models, tokens):
    last = int(tokens[0, -1])
    return list_sums(models, list_prompts(tokens, ends=list(range(last + 1))))


@mutant(
    "find_additive",
    "You write prompts from tokens that the data hold in these places; any token below the last "
    "may stand there.",
    clause="any tokens of smaller number in the other places",
)
def uses_seen_tokens(models, tokens):
    seen = [column.unique() for column in tokens[:, :-1].T]
    return list_sums(models, list_prompts(tokens, seen))


@mutant(
    "find_additive",
    "You find a table for each model, as there is for the prompts in `tokens`: write all other "
    "prompts, and look at the largest error.",
    clause="The prompts in `tokens` do not tell them apart",
)
def fits_the_data(models, tokens):
    return list_sums(models, tokens)


@mutant(
    "find_additive",
    "You start from one prompt and change two tokens at a time; where three must meet nothing is "
    "seen.",
    clause="the output of *every* such prompt",
)
def changes_two_tokens(models, tokens):
    prompts = list_prompts(tokens)
    base = torch.zeros_like(prompts[0])
    near = (prompts[:, :-1] != base[:-1]).sum(dim=1) <= 2
    return list_sums(models, prompts[near])


@mutant("find_additive", says="not belong there", clause="*every* such prompt")
def tries_a_sample(models, tokens):
    prompts = list_prompts(tokens)
    drawn = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0))[:100]
    return list_sums(models, prompts[drawn])


@mutant(
    "find_additive",
    "You allow no error but rounding; to within 0.05 is enough.",
    clause="to within 0.05",
)
def allows_no_error(models, tokens):
    return list_sums(models, list_prompts(tokens), least=1e-3)


@mutant(
    "find_additive",
    "You give each token one score, wherever it stands; it has one for each place.",
    clause="the score of each token in its place",
)
def forgets_the_places(models, tokens):
    prompts = list_prompts(tokens)
    return list_sums(models, prompts, F.one_hot(prompts).sum(dim=1))


@mutant(
    "find_additive",
    "You name the models that are not additive.",
    clause="the numbers of the additive models",
)
def names_the_others(models, tokens):
    return list_sums(models, list_prompts(tokens), yes=False)


@alternative("find_additive")
def by_means(models, tokens):
    last, n = int(tokens[0, -1]), tokens.shape[1] - 1
    prompts = list_prompts(tokens)
    found = set()
    for i, model in enumerate(models):
        output = model(prompts)[:, -1, 0].detach().view([last] * n)
        guess = output.mean() * (1 - n)
        for place in range(n):
            others = [axis for axis in range(n) if axis != place]
            guess = guess + output.mean(dim=others, keepdim=True)
        if (guess - output).abs().max() < 0.05:
            found.add(i)
    return found


@alternative("find_additive")
def by_changes_from_a_base(models, tokens):
    prompts = list_prompts(tokens)
    base = tokens[0]
    singles = torch.where(
        torch.eye(len(base))[:, None] > 0, prompts, base
    )  # place, prompt: one token is the prompt's
    kept = []
    for i, model in enumerate(models):
        with torch.no_grad():
            start = model(base[None])[0, -1, 0]
            steps = model(singles.flatten(0, 1))[:, -1, 0].view(len(base), -1) - start
            output = model(prompts)[:, -1, 0]
        gap = output - start - steps.sum(dim=0)
        kept += [i] if gap.abs().max() < 0.15 else []
    return kept

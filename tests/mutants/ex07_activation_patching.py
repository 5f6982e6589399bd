"""List wrong answers to lesson 07 that the grader rejects by name, and unusual right ones."""

import numpy as np
import torch

from mini_transformer.course.grading.mutants import alternative, mutant, vary

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "patching_map": ["(In the check"],
    "choose_corruptions": ["Choose it among"],
    "trace_noise": ["(In the check"],
    "find_carriers": ["The prompts call", "What you find"],
}

# patch_positions ----------------------------------------------------------------------------------


def edit_run(model, base, source, name, edit):
    """Run on base while edit(value, other) changes an activation, given that of source."""
    other = model.run_with_cache(source)[1][name]
    return model.run_with_hooks(base, fwd_hooks=[(name, lambda value, hook: edit(value, other))])


def patch_where(model, base, source, name, position, here=None, shift=0, new=None):
    """Patch where here(t, position, differs) holds, with new(other, position, value)."""
    t = torch.arange(base.shape[1])
    at = (position + shift).unsqueeze(1)
    chosen = here(t, at, base != source) if here else t == at

    def edit(value, other):
        other = new(other, position, value) if new else other
        return torch.where(chosen.expand(base.shape).unsqueeze(-1), other, value)

    return edit_run(model, base, source, name, edit)


wrong = vary("patch_positions", patch_where)
wrong(
    "positions_of_all_prompts",
    "Every prompt is patched at the positions of all prompts: what does value[:, position] pick "
    "when position is a tensor?",
    clause="and nowhere else",
    here=lambda t, at, differs: (t == at).any(0, keepdim=True),
)
wrong(
    "one_position_for_all",
    "All your prompts are patched at the same position.",
    clause="at position[i]",
    here=lambda t, at, differs: t == at[0],
)
wrong(
    "all_positions",
    "You patch all positions: in prompt i only position[i] is to be patched.",
    here=lambda t, at, differs: t >= 0,
)
wrong(
    "all_positions_but_the_asked",
    "You patch all positions but the one that is asked for.",
    here=lambda t, at, differs: t != at,
)
wrong(
    "from_the_position_on",
    "You also patch what comes after the position that is asked for.",
    here=lambda t, at, differs: t >= at,
)
wrong(
    "up_to_the_position",
    "You also patch what comes before the position that is asked for.",
    here=lambda t, at, differs: t <= at,
)
wrong(
    "where_the_tokens_differ",
    "You patch wherever the two prompts differ: `position` says where.",
    here=lambda t, at, differs: differs,
)
wrong("one_position_late", "You patch one position too late: the first is 0.", shift=1)
wrong("one_position_early", "You patch one position too early: the first is 0.", shift=-1)
wrong(
    "one_source_for_all",
    says="is right for the first along the prompt axis only",
    clause="in prompt i of `source`",
    new=lambda other, position, value: other[:1],
)
wrong(
    "adds_instead_of_replacing",
    "What was there before is still there: you add the other activation to it.",
    clause="is replaced",
    new=lambda other, position, value: value + other,
)
wrong(
    "reads_the_last_position",
    "What you put in is what the source has at its last position.",
    clause="by what it is there",
    new=lambda other, position, value: other[:, -1:],
)


@mutant("patch_positions", says="what `model` says on `base` by itself")
def unchanged(model, base, source, name, position):
    def put(value, other):
        value = value.clone()
        for i, at in enumerate(position):
            value[i, at] = other[i, at]  # of a copy that nobody returns

    return edit_run(model, base, source, name, put)


@mutant(
    "patch_positions",
    "You run the source prompts and put activations of the base prompts in.",
    clause="Return the logits on `base`",
)
def swaps_base_and_source(model, base, source, name, position):
    return patch_where(model, source, base, name, position)


def exchange_tokens(base, source, position):
    chosen = torch.arange(base.shape[1]) == position.unsqueeze(1)
    return torch.where(chosen, source, base)


@mutant(
    "patch_positions",
    "You exchange the tokens at these positions: what is to be exchanged is the activation `name`.",
    clause="each prompt has one activation",
)
def exchanges_tokens(model, base, source, name, position):
    return model(exchange_tokens(base, source, position))


@mutant(
    "patch_positions",
    "What you put in comes from a run on `base` with one token of `source`.",
    clause="which runs through the model unpatched",
)
def source_with_one_token(model, base, source, name, position):
    return patch_where(model, base, exchange_tokens(base, source, position), name, position)


@mutant(
    "patch_positions",
    "You exchange the stream that enters the layer, whatever `name` is.",
    clause="`name` is the hook name of an activation",
)
def always_the_stream(model, base, source, name, position):
    stream = ".".join([*name.split(".")[:2], "hook_resid_pre"])
    return patch_where(model, base, source, stream, position)


@alternative("patch_positions")
def one_prompt_at_a_time(model, base, source, name, position):
    logits = []
    for i, at in enumerate(position.tolist()):
        kept = []
        model.run_with_hooks(
            source[i : i + 1], fwd_hooks=[(name, lambda x, hook, kept=kept: kept.append(x))]
        )

        def put(value, hook, kept=kept, at=at):
            value[0, at] = kept[0][0, at]
            return value

        logits.append(model.run_with_hooks(base[i : i + 1], fwd_hooks=[(name, put)]))
    return torch.cat(logits)


@alternative("patch_positions")
def by_a_mask(model, base, source, name, position):
    chosen = (torch.arange(base.shape[1]) == position.unsqueeze(1)).unsqueeze(-1)
    return edit_run(
        model, base, source, name, lambda value, other: torch.where(chosen, other, value)
    )


# patching_map -------------------------------------------------------------------------------------


def last_difference(logits, answer, wrong):
    row = torch.arange(len(logits))
    return logits[row, -1, answer] - logits[row, -1, wrong]


def put_one(value, other, t):
    value[:, t] = other[:, t]


def share_of(moved, start, end):
    return (moved.mean() - start.mean()) / (end.mean() - start.mean())


def make_map(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    site,
    direction,
    metric=last_difference,
    edit=put_one,
    share=share_of,
    layers=lambda i: [i],
):
    """Make the map with its metric, patch, scale, or the layers that are patched exchanged."""
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    with torch.no_grad():
        end, other = model.run_with_cache(source)

        def measure(*hooks):
            return metric(model.run_with_hooks(base, fwd_hooks=hooks), answer, wrong)

        def run(i, t):
            return measure(
                *(
                    ((site, k), lambda value, hook, k=k: edit(value, other[site, k], t))
                    for k in layers(i)
                )
            )

        ends = measure(), metric(end, answer, wrong)
        return torch.tensor(
            [
                [share(run(i, t), *ends) for t in range(base.shape[1])]
                for i in range(model.config.n_layers)
            ]
        )


def put_into_a_copy(value, other, t):
    put_one(value.clone(), other, t)


def put_earlier_too(value, other, t):
    value[:, : t + 1] = other[:, : t + 1]


def put_the_mean(value, other, t):
    value[:, t] = other[:, t].mean(0)


def put_into_the_first(value, other, t):
    value[0, t] = other[0, t]


def probability(logits, answer, wrong):
    return logits[torch.arange(len(logits)), -1].softmax(-1).gather(1, answer[:, None])[:, 0]


wrong = vary("patching_map", make_map)
wrong("unchanged", says="one number only", edit=put_into_a_copy)
wrong(
    "keeps_earlier_patches",
    "Your patches pile up: earlier positions of the layer are still patched when the next one is.",
    clause="and position t patched",
    edit=put_earlier_too,
)
wrong(
    "patches_whole_layers",
    "All positions of your map have the same value: each patch covers the whole layer.",
    clause="for every layer and position",
    edit=lambda value, other, t: other,
)
wrong(
    "puts_the_mean_in",
    "You put the mean over all prompts in: each prompt has an activation of its own.",
    edit=put_the_mean,
)
wrong(
    "patches_the_first_prompt",
    "You patch the first prompt alone, and measure all.",
    clause="patched, in all prompts",
    edit=put_into_the_first,
)
wrong(
    "keeps_lower_layers",
    "Your patches pile up: the layers below are patched, too.",
    clause="with only layer l",
    layers=lambda i: range(i + 1),
)
wrong(
    "averages_the_shares",
    "You take a share for each prompt and average these: a prompt on which the two runs hardly "
    "differ then outweighs the others.",
    clause="averaged over the prompts",
    share=lambda moved, start, end: ((moved - start) / (end - start)).mean(),
)
wrong(
    "forgets_the_start",
    "Your values are parts of the other run's metric: a patch that does nothing should count 0.",
    clause="0 if its metric is that of the prompts that are run",
    share=lambda moved, start, end: moved.mean() / end.mean(),
)
wrong(
    "does_not_divide",
    says="times what it should be, everywhere",
    clause="1 if it is that of the prompts which the activations come from",
    share=lambda moved, start, end: moved.mean() - start.mean(),
)
wrong(
    "adds_to_the_gap",
    says="times what it should be, everywhere",
    share=lambda moved, start, end: (moved - start).mean() / ((end - start).mean() + 0.01),
)
wrong(
    "divides_by_the_size",
    says="is the negative of what it should be",
    share=lambda moved, start, end: (moved - start).mean() / (end - start).mean().abs(),
)
wrong(
    "ends_at_0_and_1",
    "Your shares end at 0 and at 1: a patch may also move the metric away, or beyond.",
    clause="in proportion otherwise",
    share=lambda *runs: share_of(*runs).clamp(0, 1),
)
wrong(
    "reads_the_answer_alone",
    "You look at the logit of the answer alone: compared with which token?",
    clause="logit[answer[i]] - logit[wrong[i]]",
    metric=lambda logits, answer, wrong: logits[torch.arange(len(logits)), -1, answer],
)
wrong(
    "takes_probabilities",
    "Your metric is a probability, which hardly moves near 0 and near 1.",
    metric=probability,
)
wrong(
    "takes_differences_of_probabilities",
    "Your metric is a difference of probabilities: the task asks for one of logits.",
    metric=lambda logits, answer, wrong: last_difference(logits.softmax(-1), answer, wrong),
)
wrong(
    "averages_over_positions",
    "Your metric takes all positions into account; the answer is called for at the last one.",
    clause="at the last position",
    metric=lambda logits, answer, wrong: torch.stack(
        [last_difference(logits[:, : t + 1], answer, wrong) for t in range(logits.shape[1])]
    ).mean(0),
)
wrong(
    "measures_the_first_prompt",
    "Your map is that of the first prompt: the metric is a mean over all of them.",
    metric=lambda logits, answer, wrong: last_difference(logits, answer, wrong)[:1],
)


@mutant(
    "patching_map",
    "Your map is the same in both directions: which prompts are run, and which lend activations?",
    clause='"noise" (run the clean ones, put corrupt activations in)',
)
def ignores_the_direction(*inputs):
    return make_map(*inputs[:-1], "denoise")


@mutant(
    "patching_map",
    "This is the map of the other direction: in denoising, which prompts are run?",
    clause='"denoise" (run the corrupt prompts, put clean activations in)',
)
def swaps_the_directions(*inputs):
    return make_map(*inputs[:-1], {"denoise": "noise", "noise": "denoise"}[inputs[-1]])


@mutant("patching_map", says="is the difference from 1 of what it should be")
def one_scale_for_both(*inputs):
    moved = make_map(*inputs)
    return moved if inputs[-1] == "denoise" else 1 - moved


@mutant(
    "patching_map",
    "Noising is 1 minus denoising in your maps: they are runs of their own, and need not agree.",
)
def noises_without_a_run(*inputs):
    moved = make_map(*inputs[:-1], "denoise")
    return moved if inputs[-1] == "denoise" else 1 - moved


@mutant(
    "patching_map",
    "Your maps are those of the stream that enters a layer, whatever `site` is.",
    clause='`site` is "resid_pre", "attn_out" or "mlp_out"',
)
def ignores_the_site(*inputs):
    return make_map(*inputs[:-2], "resid_pre", inputs[-1])


@mutant(
    "patching_map",
    "Where the tokens are the same you write 0: the streams there may differ all the same.",
)
def only_where_the_tokens_differ(model, clean, corrupt, *rest):
    return make_map(model, clean, corrupt, *rest) * (clean != corrupt).any(0)


@mutant(
    "patching_map",
    "Your metric compares what the model says on clean and on corrupt prompts, not the tokens "
    "that are given.",
)
def follows_the_model(model, clean, corrupt, answer, wrong, *rest):
    said = [model(tokens)[:, -1].argmax(-1) for tokens in (clean, corrupt)]
    return make_map(model, clean, corrupt, *said, *rest)


@mutant(
    "patching_map",
    "Your values go as steeply as the metric starts: that is an estimate by gradients, not a run "
    "per patch.",
)
def estimates_by_gradients(model, clean, corrupt, answer, wrong, site, direction):
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    names = [(site, i) for i in range(model.config.n_layers)]
    (logits, cache), (end, other) = model.run_with_cache(base), model.run_with_cache(source)
    start = last_difference(logits, answer, wrong).mean()
    slopes = torch.autograd.grad(start, [cache[name] for name in names])
    moves = [other[name] - cache[name] for name in names]
    gap = last_difference(end, answer, wrong).mean() - start
    pairs = zip(moves, slopes, strict=True)
    return torch.stack([(move * slope).sum((0, 2)) for move, slope in pairs]) / gap


@alternative("patching_map")
def with_many_patches_in_one_batch(model, clean, corrupt, answer, wrong, site, direction):
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    length = base.shape[1]
    n = len(base)
    both = model.run_with_cache(source)[1]
    ends = [last_difference(model(tokens), answer, wrong).mean() for tokens in (base, source)]
    rows = []
    for layer in range(model.config.n_layers):

        def put(value, hook, layer=layer):
            value = value.unflatten(0, (length, n))
            for t in range(length):
                value[t, :, t] = both[site, layer][:, t]
            return value.flatten(0, 1)

        logits = model.run_with_hooks(base.repeat(length, 1), fwd_hooks=[((site, layer), put)])
        values = (
            last_difference(logits, answer.repeat(length), wrong.repeat(length))
            .view(length, n)
            .mean(dim=1)
        )
        rows.append((values - ends[0]) / (ends[1] - ends[0]))
    return torch.stack(rows)


# choose_corruptions -------------------------------------------------------------------------------


def choose(
    model, prompts, answer, position, forget=(), none=-1, later=False, once=False, first=False
):
    """Choose the first prompt that keeps all rules but those in `forget`.

    Look at `later` ones only, use each `once`, or look at the `first` that differs there only.
    """
    right = (model(prompts)[:, -1].argmax(dim=-1) == answer).tolist()
    chosen = []
    for i, one in enumerate(prompts.tolist()):
        fits = []
        for j, two in enumerate(prompts.tolist()):
            places = [p for p in range(len(one)) if one[p] != two[p]]
            rules = {
                "moved": position in places,
                "only": len(places) == 1,
                "answers": bool(answer[i] != answer[j]),
                "own": right[i],
                "partner": right[j],
            }
            fits.append(i != j and all(kept for rule, kept in rules.items() if rule not in forget))
            fits[j] &= not (later and j < i) and not (once and j in chosen)
            if first and rules["moved"] and rules["only"]:
                break
        chosen.append(fits.index(True) if any(fits) else none)
    return chosen


wrong = vary("choose_corruptions", choose)
wrong(
    "changes_more_than_one_thing",
    says="it differs at positions",
    clause="and everywhere else the same",
    forget=("only",),
)
wrong(
    "changes_another_thing",
    says=" only. So it is for",
    clause="at `position` the two have different tokens",
    forget=("moved",),
)
wrong(
    "same_answer",
    says="it has the same answer",
    clause="their answers, answer[i] and answer[j], differ",
    forget=("answers",),
)
wrong(
    "trusts_the_answers",
    says="the model does not answer prompt",
    clause="the model gives both",
    forget=("own", "partner"),
)
wrong("checks_only_the_prompt_itself", says="the model does not answer", forget=("partner",))
wrong("checks_only_the_partner", says="the model does not answer", forget=("own",))
wrong(
    "never_gives_up",
    says="gets partner 0, but",
    clause="or -1 if no prompt of the list fits",
    none=0,
)
wrong("leaves_some_out", says="of the prompts that have a partner get one", later=True)
wrong("uses_each_once", says="of the prompts that have a partner get one", once=True)
wrong("asks_the_first_neighbour", says="of the prompts that have a partner get one", first=True)


def with_other_words(model, prompts, answer, position, gives=None):
    """Choose by another rule for what the model gives; gives(last, all, i, j) of the logits."""
    logits = model(prompts)
    n = len(prompts)

    def fits(i, j):
        differs = prompts[i] != prompts[j]
        is_pair = differs[position] and differs.sum() == 1 and answer[i] != answer[j]
        return bool(is_pair) and bool(gives(logits, answer, position, i, j))

    return [next((j for j in range(n) if fits(i, j)), -1) for i in range(n)]


wrong = vary("choose_corruptions", with_other_words)
wrong(
    "beats_the_other_answer",
    says="the model does not answer prompt",
    clause="the answer has the highest logit",
    gives=lambda x, answer, p, i, j: (
        x[i, -1, answer[i]] > x[i, -1, answer[j]] and x[j, -1, answer[j]] > x[j, -1, answer[i]]
    ),
)
wrong(
    "more_likely_than_not",
    says="of the prompts that have a partner get one",
    gives=lambda x, answer, p, i, j: all(x[k, -1].softmax(-1)[answer[k]] > 0.5 for k in (i, j)),
)
wrong(
    "the_model_says_two_things",
    says="the model does not answer prompt",
    gives=lambda x, answer, p, i, j: x[i, -1].argmax() != x[j, -1].argmax(),
)
wrong(
    "reads_logits_at_the_position",
    says="the model does not answer prompt",
    clause="at the last position",
    gives=lambda x, answer, p, i, j: all(x[k, p].argmax() == answer[k] for k in (i, j)),
)


@mutant("choose_corruptions", says="one number only", clause="one number per prompt")
def constant_output(model, prompts, answer, position):
    return [-1] * len(prompts)


@alternative("choose_corruptions")
def as_numbers_of_other_kinds(model, prompts, answer, position):
    found = the_last_that_fits(model, prompts, answer, position).tolist()
    return [torch.tensor(j) if j % 2 else np.int64(j) for j in found]


@alternative("choose_corruptions")
def the_last_that_fits(model, prompts, answer, position):
    said = model(prompts)[:, -1].argmax(dim=-1)
    around = prompts.clone()
    around[:, position] = -1
    chosen = torch.full((len(prompts),), -1)
    for i in range(len(prompts)):
        for j in range(len(prompts)):
            alike = (
                bool((around[i] == around[j]).all())
                and prompts[i, position] != prompts[j, position]
            )
            if alike and said[i] == answer[i] and said[j] == answer[j] and answer[i] != answer[j]:
                chosen[i] = j
    return chosen


# trace_noise --------------------------------------------------------------------------------------


def trace(
    model,
    tokens,
    answer,
    noise,
    site,
    take=lambda logits: logits[:, -1].softmax(-1),
    blur=lambda x, e: x + e,
    edit=put_one,
    share=share_of,
    layers=lambda i: [i],
):
    """Make the map with parts of it exchanged.

    These are the metric of logits (b, t, v), how embeddings are blurred, what is restored and in
    which layers, and what is made of metrics (draw, prompt).
    """
    clean_logits, cache = model.run_with_cache(tokens)
    row = torch.arange(len(tokens))

    def measure(*hooks):
        values = []
        for e in noise:
            first = ("embed", lambda x, hook, e=e: blur(x, e))
            logits = model.run_with_hooks(tokens, fwd_hooks=[first, *hooks])
            values.append(take(logits)[row, answer])
        return torch.stack(values)

    def restore(i, t):
        return measure(
            *(
                ((site, k), lambda value, hook, k=k: edit(value, cache[site, k], t))
                for k in layers(i)
                if 0 <= k < model.config.n_layers
            )
        )

    ends = measure(), take(clean_logits)[row, answer].expand(len(noise), -1)
    return torch.tensor(
        [
            [share(restore(i, t), *ends) for t in range(tokens.shape[1])]
            for i in range(model.config.n_layers)
        ]
    )


def put_later_too(value, other, t):
    value[:, t:] = other[:, t:]


def share_over(axis):
    return lambda moved, start, end: (
        (moved.mean(axis) - start.mean(axis)) / (end.mean(axis) - start.mean(axis))
    ).mean()


wrong = vary("trace_noise", trace)
wrong(
    "replaces_the_embedding",
    "Your noise takes the embedding's place: it should be added to it.",
    clause="is added to the token embeddings",
    blur=lambda x, e: torch.where(e != 0, e, x),
)
wrong(
    "restores_the_noisy_value",
    says="one number only",
    clause="the value that it has for the same prompt in the run without noise",
    edit=lambda value, other, t: None,
)
wrong(
    "forgets_the_noise",
    says="one number only",
    share=lambda moved, start, end: (end.mean() - start.mean()) / (end.mean() - start.mean()),
)
wrong(
    "restores_every_position",
    "All positions of your map have the same value: each time the whole layer is restored.",
    clause="at one layer and position",
    edit=lambda value, other, t: other,
)
wrong(
    "restores_earlier_positions",
    "Earlier positions of the layer are restored, too, where one is to be.",
    edit=put_earlier_too,
)
wrong(
    "restores_later_positions",
    "Later positions of the layer are restored, too, where one is to be.",
    edit=put_later_too,
)
wrong(
    "restores_a_window",
    "The layers next to it are restored, too, where one is to be.",
    layers=lambda i: range(i - 1, i + 2),
)
wrong(
    "does_not_subtract_the_noisy_run",
    "Your values are parts of the clean probability: what of it is there without restoring "
    "anything?",
    clause="0 if it is that of the noisy runs",
    share=lambda moved, start, end: moved.mean() / end.mean(),
)
wrong(
    "does_not_divide",
    says="what it should be, everywhere",
    clause="1 if it is that of the run without noise",
    share=lambda moved, start, end: moved.mean() - start.mean(),
)
wrong(
    "counts_the_damage_left",
    says="is the difference from 1 of what it should be",
    clause="share of noise's damage undone",
    share=lambda *runs: 1 - share_of(*runs),
)
wrong(
    "ends_at_0_and_1",
    "Your shares end at 0 and at 1: what is restored may also hurt, or help beyond.",
    clause="in proportion otherwise",
    share=lambda *runs: share_of(*runs).clamp(0, 1),
)
wrong(
    "averages_shares_of_draws",
    "You take a share for each draw and average these: the probabilities are averaged first.",
    clause="averaged over prompts and draws k",
    share=share_over(1),
)
wrong(
    "averages_shares_of_prompts",
    "You take a share for each prompt and average these: the probabilities are averaged first.",
    share=share_over(0),
)
wrong(
    "takes_logits",
    "Your metric is a logit: the task asks for a probability.",
    clause="is the probability of answer[i]",
    take=lambda logits: logits[:, -1],
)
wrong(
    "takes_logarithms",
    "Your metric is the logarithm of a probability: the task asks for the probability.",
    take=lambda logits: logits[:, -1].log_softmax(-1),
)
wrong(
    "averages_over_positions",
    "Your metric is a mean over all positions: the answer is called for at the last one.",
    clause="at the last position",
    take=lambda logits: logits.softmax(-1).mean(1),
)


@mutant("trace_noise", "You use the first draw of the noise alone.", clause="noise[k] is added")
def first_draw_only(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise[:1], site)


@mutant(
    "trace_noise",
    "You average the noise before the run: the average of many draws is hardly any noise.",
)
def averages_the_noise(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise.mean(dim=0, keepdim=True), site)


@mutant("trace_noise", "All prompts get the noise of the first one: noise[k, i] is that of i.")
def noise_of_the_first_prompt(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise[:, :1].expand_as(noise), site)


@mutant("trace_noise", "Draws and prompts are out of step: some prompt gets another one's noise.")
def draws_out_of_step(model, tokens, answer, noise, site):
    many = tokens.repeat_interleave(len(noise), 0), answer.repeat_interleave(len(noise))
    return trace(model, *many, noise.flatten(0, 1)[None], site)


@mutant("trace_noise", "You follow what the model says without noise: `answer` may be another.")
def traces_what_the_model_says(model, tokens, answer, noise, site):
    return trace(model, tokens, model(tokens)[:, -1].argmax(-1), noise, site)


@mutant(
    "trace_noise",
    "Your maps are those of the stream that enters a layer, whatever `site` is.",
    clause="`site` (such as",
)
def traces_the_stream(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, "resid_pre")


@mutant("trace_noise", "Where no noise was added you write 0, but layers carry it further.")
def only_where_noise_is(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, site) * (noise != 0).any(-1).flatten(0, 1).any(0)


@mutant("trace_noise", "Your row of layer 0 is 0, as if the noise came after what is restored.")
def noise_comes_last(model, tokens, answer, noise, site):
    found = trace(model, tokens, answer, noise, site)
    found[0] *= site != "resid_pre"
    return found


@alternative("trace_noise")
def with_all_draws_in_one_batch(model, tokens, answer, noise, site):
    draws = len(noise)
    length = tokens.shape[1]
    many = tokens.repeat(draws, 1)
    answers = answer.repeat(draws)
    _, cache = model.run_with_cache(tokens)
    blur = ("embed", lambda x, hook: x + noise.flatten(0, 1))

    def measure(logits, asked):
        return logits[:, -1].softmax(dim=-1).gather(1, asked.unsqueeze(1)).mean()

    noisy = measure(model.run_with_hooks(many, fwd_hooks=[blur]), answers)
    clean = measure(model(tokens), answer)
    result = torch.zeros(model.config.n_layers, length)
    for layer in range(model.config.n_layers):
        for t in range(length):

            def put(value, hook, layer=layer, t=t):
                value[:, t] = cache[site, layer][:, t].repeat(draws, 1)

            run = model.run_with_hooks(many, fwd_hooks=[blur, ((site, layer), put)])
            result[layer, t] = (measure(run, answers) - noisy) / (clean - noisy)
    return result


# find_carriers ------------------------------------------------------------------------------------


def name_places(chosen):
    return [f"{layer}@{position}" for layer, position in chosen.nonzero().tolist()]


def find_places(
    model, clean, corrupt, answer, wrong, choose=lambda *maps: [m >= 0.5 for m in maps], **how
):
    """Choose places by both maps (layer, pos), of denoising and of noising."""
    site = how.pop("site", "resid_pre")
    inputs = model, clean, corrupt, answer, wrong, site
    maps = [make_map(*inputs, direction, **how) for direction in ("denoise", "noise")]
    return tuple(map(name_places, choose(*maps)))


def keep_the_best(shares):
    return (shares >= 0.5) & (shares == shares.amax(1, keepdim=True))


wrong = vary("find_carriers", find_places)
wrong(
    "swaps_enough_and_needed",
    "Your two lists are exchanged: which direction of patching tests what?",
    clause="Return two lists",
    choose=lambda denoised, noised: [noised >= 0.5, denoised >= 0.5],
)
wrong(
    "denoises_only",
    "Your two lists are the same, and right for what is enough: what is enough need not be needed.",
    clause="replaced alone, they bring a clean run",
    choose=lambda denoised, noised: [denoised >= 0.5, denoised >= 0.5],
)
wrong(
    "noises_only",
    "Your two lists are the same, and right for what is needed: what is needed need not be enough.",
    clause="put in alone, they bring a corrupt run",
    choose=lambda denoised, noised: [noised >= 0.5, noised >= 0.5],
)
wrong(
    "any_change_counts",
    "You name places that move the metric only a little.",
    choose=lambda *maps: [m.abs() > 0.01 for m in maps],
)
wrong(
    "less_than_half_is_enough",
    "Some of your places move the metric less than half of the way.",
    choose=lambda *maps: [m >= 0.3 for m in maps],
)
wrong(
    "asks_for_more_than_half",
    "You ask for more than half of the way.",
    clause="at least half of the way to the clean one",
    choose=lambda *maps: [m >= 0.75 for m in maps],
)
wrong(
    "the_other_way_counts",
    "Some of your places move the metric by half, but the other way.",
    choose=lambda *maps: [m.abs() >= 0.5 for m in maps],
)
wrong(
    "forgets_to_turn_the_scale",
    "You call those places needed which can be replaced without harm.",
    clause="at least half of the way to the corrupt one",
    choose=lambda denoised, noised: [denoised >= 0.5, 1 - noised >= 0.5],
)
wrong(
    "needed_only_if_enough",
    "What you call needed is also enough, each time: a place may be needed without being enough.",
    choose=lambda denoised, noised: [denoised >= 0.5, (noised >= 0.5) & (denoised >= 0.5)],
)
wrong(
    "one_place_per_layer",
    "You name no more than one place of a layer, but several can carry the answer.",
    choose=lambda *maps: [keep_the_best(m) for m in maps],
)
wrong(
    "names_position_first",
    says="is no place of this model",
    clause='"2@5" enters layer 2 at position 5',
    choose=lambda *maps: [(m >= 0.5).T for m in maps],
)
wrong(
    "names_the_layer_before",
    "Your layers are one too low: a place is the stream that enters a layer.",
    clause="the stream that enters one layer",
    site="resid_post",
)
wrong(
    "averages_the_shares",
    metric=lambda logits, answer, wrong: last_difference(logits, answer, wrong)[:1],
)
wrong(
    "averages_the_shares",
    "You go by shares of single prompts, or of one: the metric is averaged before.",
    clause="Metric and patches are those of patching_map",
    share=lambda moved, start, end: ((moved - start) / (end - start)).mean(),
)
wrong(
    "keeps_earlier_patches",
    "You name places where nothing is, as if earlier positions were still patched.",
    edit=put_earlier_too,
)
JUDGES_BY_WORDS = (
    "You judge by what the model says, or how surely: the metric is a difference of logits, which "
    "still moves where that does not."
)
wrong("judges_by_words", JUDGES_BY_WORDS, metric=probability)
wrong(
    "judges_by_words",
    metric=lambda logits, answer, wrong: (logits[:, -1].argmax(-1) == answer).float(),
)


@mutant(
    "find_carriers",
    "You name every place in which the two runs differ, whether or not anything reads it.",
    clause="What is in a place but makes no difference does not count",
)
def trusts_differences(model, clean, corrupt, answer, wrong):
    caches = [model.run_with_cache(tokens)[1] for tokens in (clean, corrupt)]
    gaps = [
        (caches[0]["resid_pre", i] - caches[1]["resid_pre", i]).norm(dim=-1).mean(0)
        for i in range(5)
    ]
    places = name_places(torch.stack(gaps) > 1e-3)
    return places, places


@mutant(
    "find_carriers",
    "You name only positions at which the tokens differ: layers carry what they read elsewhere.",
)
def looks_where_the_tokens_differ(model, clean, corrupt, *rest):
    differs = (clean != corrupt).any(0)
    return find_places(
        model, clean, corrupt, *rest, choose=lambda *maps: [(m >= 0.5) & differs for m in maps]
    )


@mutant("find_carriers", says="You answer the same")
def the_last_place(model, clean, corrupt, answer, wrong):
    return ["4@8"], ["4@8"]


@alternative("find_carriers")
def by_running_on_from_an_edited_stream(model, clean, corrupt, answer, wrong):
    def measure(logits):
        return last_difference(logits, answer, wrong).mean()

    lists = []
    for base, source in ((corrupt, clean), (clean, corrupt)):
        halfway = (measure(model(base)) + measure(model(source))) / 2
        found = set()
        sign = 1 if measure(model(source)) > halfway else -1
        for layer in range(model.config.n_layers):
            for t in range(clean.shape[1]):
                stream = model(base, stop_at_layer=layer)
                stream[:, t] = model(source, stop_at_layer=layer)[:, t]
                if sign * measure(model(resid=stream, start_at_layer=layer)) >= sign * halfway:
                    found.add(f"{layer}@{t}")
        lists.append(sorted(found, reverse=True))
    return tuple(lists)

"""List wrong answers to lesson 07 that the grader rejects by name, and unusual right ones."""

import numpy as np
import torch

from mini_transformer.course.grading.checks import alternative, mutant

# patch_positions ----------------------------------------------------------------------------------


def edit_run(model, base, source, name, edit):
    """Run on base while edit(value, other) changes an activation, given that of source."""
    other = model.run_with_cache(source)[1][name]
    return model.run_with_hooks(base, fwd_hooks=[(name, lambda value, hook: edit(value, other))])


@mutant("patch_positions", says="what `model` says on `base` by itself")
def unchanged(model, base, source, name, position):
    def put(value, other):
        value = value.clone()
        for i, at in enumerate(position):
            value[i, at] = other[i, at]  # of a copy that nobody returns

    return edit_run(model, base, source, name, put)


@mutant("patch_positions")
def swaps_base_and_source(model, base, source, name, position):
    def put(value, other):
        for i, at in enumerate(position):
            value[i, at] = other[i, at]

    return edit_run(model, source, base, name, put)


@mutant("patch_positions")
def positions_of_all_prompts(model, base, source, name, position):
    def put(value, other):
        value[:, position] = other[:, position]

    return edit_run(model, base, source, name, put)


@mutant("patch_positions")
def one_position_for_all(model, base, source, name, position):
    def put(value, other):
        value[:, position[0]] = other[:, position[0]]

    return edit_run(model, base, source, name, put)


@mutant("patch_positions", says="what `model` says on `source` by itself")
def all_positions(model, base, source, name, position):
    return edit_run(model, base, source, name, lambda value, other: other)


@mutant("patch_positions", says="is right for the first along the prompt axis only")
def one_source_for_all(model, base, source, name, position):
    def put(value, other):
        for i, at in enumerate(position):
            value[i, at] = other[0, at]

    return edit_run(model, base, source, name, put)


@mutant("patch_positions")
def adds_instead_of_replacing(model, base, source, name, position):
    def put(value, other):
        row = torch.arange(len(base))
        value[row, position] += other[row, position]

    return edit_run(model, base, source, name, put)


@mutant("patch_positions")
def reads_the_last_position(model, base, source, name, position):
    def put(value, other):
        row = torch.arange(len(base))
        value[row, position] = other[row, -1]

    return edit_run(model, base, source, name, put)


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


def run_all(model, base, source, site, edit):
    """Return the logits of base, of source, and of all patched runs as a list of lists.

    edit(value, other, t) patches.
    """
    with torch.no_grad():
        return (
            model(base),
            model(source),
            [
                [
                    edit_run(
                        model,
                        base,
                        source,
                        f"blocks.{i}.hook_{site}",
                        lambda v, other, t=t: edit(v, other, t),
                    )
                    for t in range(base.shape[1])
                ]
                for i in range(model.config.n_layers)
            ],
        )


def put_one(value, other, t):
    value[:, t] = other[:, t]


def make_map(model, clean, corrupt, site, direction, metric, edit=put_one):
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    start, end, patched = run_all(model, base, source, site, edit)
    low, high = metric(start).mean(), metric(end).mean()
    return torch.tensor(
        [[(metric(logits).mean() - low) / (high - low) for logits in row] for row in patched]
    )


@mutant("patching_map", "unchanged", says="one number only")
def patches_a_copy(model, clean, corrupt, answer, wrong, site, direction):
    def put(value, other, t):
        value = value.clone()
        value[:, t] = other[:, t]

    return make_map(
        model, clean, corrupt, site, direction, lambda x: last_difference(x, answer, wrong), put
    )


@mutant("patching_map")
def ignores_the_direction(model, clean, corrupt, answer, wrong, site, direction):
    return make_map(
        model, clean, corrupt, site, "denoise", lambda x: last_difference(x, answer, wrong)
    )


@mutant("patching_map")
def swaps_the_directions(model, clean, corrupt, answer, wrong, site, direction):
    other = {"denoise": "noise", "noise": "denoise"}[direction]
    return make_map(model, clean, corrupt, site, other, lambda x: last_difference(x, answer, wrong))


@mutant("patching_map")
def keeps_earlier_patches(model, clean, corrupt, answer, wrong, site, direction):
    def put(value, other, t):
        value[:, : t + 1] = other[:, : t + 1]

    return make_map(
        model, clean, corrupt, site, direction, lambda x: last_difference(x, answer, wrong), put
    )


@mutant("patching_map")
def patches_whole_layers(model, clean, corrupt, answer, wrong, site, direction):
    def put(value, other, t):
        return other

    return make_map(
        model, clean, corrupt, site, direction, lambda x: last_difference(x, answer, wrong), put
    )


@mutant("patching_map")
def averages_the_shares(model, clean, corrupt, answer, wrong, site, direction):
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    start, end, patched = run_all(model, base, source, site, put_one)
    low, high = last_difference(start, answer, wrong), last_difference(end, answer, wrong)
    shares = [
        [(last_difference(logits, answer, wrong) - low) / (high - low) for logits in row]
        for row in patched
    ]
    return torch.stack([torch.stack([share.mean() for share in row]) for row in shares])


@mutant("patching_map")
def forgets_the_start(model, clean, corrupt, answer, wrong, site, direction):
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    _, end, patched = run_all(model, base, source, site, put_one)
    values = [[last_difference(logits, answer, wrong).mean() for logits in row] for row in patched]
    return torch.tensor(values) / last_difference(end, answer, wrong).mean()


@mutant("patching_map", says="is the difference from 1 of what it should be")
def one_scale_for_both(model, clean, corrupt, answer, wrong, site, direction):
    moved = make_map(
        model, clean, corrupt, site, direction, lambda x: last_difference(x, answer, wrong)
    )
    return moved if direction == "denoise" else 1 - moved


@mutant("patching_map")
def reads_the_answer_alone(model, clean, corrupt, answer, wrong, site, direction):
    row = torch.arange(len(clean))
    return make_map(model, clean, corrupt, site, direction, lambda logits: logits[row, -1, answer])


@mutant("patching_map")
def takes_probabilities(model, clean, corrupt, answer, wrong, site, direction):
    row = torch.arange(len(clean))
    return make_map(
        model, clean, corrupt, site, direction, lambda logits: logits.softmax(-1)[row, -1, answer]
    )


@mutant("patching_map")
def averages_over_positions(model, clean, corrupt, answer, wrong, site, direction):
    row = torch.arange(len(clean))
    return make_map(
        model,
        clean,
        corrupt,
        site,
        direction,
        lambda logits: logits[row, :, answer] - logits[row, :, wrong],
    )


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


def choose(model, prompts, answer, position, forget=(), none=-1):
    """Choose the first prompt that keeps all rules but those in `forget`."""
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
        chosen.append(fits.index(True) if any(fits) else none)
    return chosen


@mutant("choose_corruptions")
def changes_more_than_one_thing(model, prompts, answer, position):
    return choose(model, prompts, answer, position, forget=("only",))


@mutant("choose_corruptions")
def changes_another_thing(model, prompts, answer, position):
    return choose(model, prompts, answer, position, forget=("moved",))


@mutant("choose_corruptions")
def same_answer(model, prompts, answer, position):
    return choose(model, prompts, answer, position, forget=("answers",))


@mutant("choose_corruptions")
def trusts_the_answers(model, prompts, answer, position):
    return choose(model, prompts, answer, position, forget=("own", "partner"))


@mutant("choose_corruptions")
def checks_only_the_prompt_itself(model, prompts, answer, position):
    return choose(model, prompts, answer, position, forget=("partner",))


@mutant("choose_corruptions")
def checks_only_the_partner(model, prompts, answer, position):
    return choose(model, prompts, answer, position, forget=("own",))


@mutant("choose_corruptions")
def never_gives_up(model, prompts, answer, position):
    return choose(model, prompts, answer, position, none=0)


@mutant("choose_corruptions")
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


def trace(model, tokens, answer, noise, site, take=None, blur=None, edit=None, subtract=True):
    """Make the map with parts of it exchanged.

    These are the metric of logits (b, v), how embeddings are blurred, and what is restored.
    """
    clean_logits, cache = model.run_with_cache(tokens)
    row = torch.arange(len(tokens))
    take = take or (lambda logits: logits.softmax(dim=-1))
    blur = blur or (lambda x, e: x + e)
    edit = edit or put_one

    def measure(*hooks):
        values = []
        for e in noise:
            logits = model.run_with_hooks(
                tokens, fwd_hooks=[("embed", lambda x, hook, e=e: blur(x, e)), *hooks]
            )
            values.append(take(logits[:, -1])[row, answer].mean())
        return torch.stack(values).mean()

    noisy = measure()
    clean = take(clean_logits[:, -1])[row, answer].mean()
    low = noisy if subtract else 0
    return torch.tensor(
        [
            [
                (measure(((site, i), lambda x, hook, i=i, t=t: edit(x, cache[site, i], t))) - low)
                / (clean - low)
                for t in range(tokens.shape[1])
            ]
            for i in range(model.config.n_layers)
        ]
    )


@mutant("trace_noise")
def first_draw_only(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise[:1], site)


@mutant("trace_noise")
def averages_the_noise(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise.mean(dim=0, keepdim=True), site)


@mutant("trace_noise")
def replaces_the_embedding(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, site, blur=lambda x, e: torch.where(e != 0, e, x))


@mutant("trace_noise")
def forgets_the_noise(model, tokens, answer, noise, site):
    # Clean minus noisy over clean minus noisy.
    return torch.ones_like(trace(model, tokens, answer, noise, site))


@mutant("trace_noise")
def restores_the_noisy_value(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, site, edit=lambda value, other, t: None)


@mutant("trace_noise")
def restores_every_position(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, site, edit=lambda value, other, t: other)


@mutant("trace_noise")
def does_not_subtract_the_noisy_run(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, site, subtract=False)


@mutant("trace_noise")
def takes_logits(model, tokens, answer, noise, site):
    return trace(model, tokens, answer, noise, site, take=lambda logits: logits)


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


def make_both(model, clean, corrupt, answer, wrong, site="resid_pre"):
    """Measure how far denoising and noising move the logit difference, (layer, pos) each."""
    return [
        make_map(
            model,
            clean,
            corrupt,
            site,
            direction,
            lambda logits: last_difference(logits, answer, wrong),
        )
        for direction in ("denoise", "noise")
    ]


def name_places(chosen):
    return [f"{layer}@{position}" for layer, position in chosen.nonzero().tolist()]


@mutant("find_carriers")
def swaps_enough_and_needed(*inputs):
    denoised, noised = make_both(*inputs)
    return name_places(noised >= 0.5), name_places(denoised >= 0.5)


@mutant("find_carriers")
def denoises_only(*inputs):
    denoised, _ = make_both(*inputs)
    return name_places(denoised >= 0.5), name_places(denoised >= 0.5)


@mutant("find_carriers")
def noises_only(*inputs):
    _, noised = make_both(*inputs)
    return name_places(noised >= 0.5), name_places(noised >= 0.5)


@mutant("find_carriers")
def any_change_counts(*inputs):
    denoised, noised = make_both(*inputs)
    return name_places(denoised.abs() > 0.01), name_places(noised.abs() > 0.01)


@mutant("find_carriers", name="any_change_counts")
def a_third_of_the_way(*inputs):
    return tuple(name_places(shares >= 0.3) for shares in make_both(*inputs))


@mutant("find_carriers", says="places that are")
def three_quarters_of_the_way(*inputs):
    return tuple(name_places(shares >= 0.75) for shares in make_both(*inputs))


@mutant("find_carriers", says="places that are")
def half_of_the_probability(model, clean, corrupt, answer, wrong):
    def metric(logits):
        return logits[:, -1].softmax(dim=-1)[torch.arange(len(answer)), answer].mean()

    return move_by(model, clean, corrupt, metric)


@mutant("find_carriers", says="places that are")
def looks_at_the_first_prompt(model, clean, corrupt, answer, wrong):
    denoised, noised = make_both(model, clean[:1], corrupt[:1], answer[:1], wrong[:1])
    return name_places(denoised >= 0.5), name_places(noised >= 0.5)


@mutant("find_carriers", says="places that are")
def where_the_answer_turns(model, clean, corrupt, answer, wrong):
    def metric(logits):
        return (logits[:, -1].argmax(dim=-1) == answer).float().mean()

    return move_by(model, clean, corrupt, metric)


def move_by(model, clean, corrupt, metric):
    lists = []
    for base, source in ((corrupt, clean), (clean, corrupt)):
        low, high = metric(model(base)), metric(model(source))
        found = []
        for layer in range(model.config.n_layers):
            for t in range(clean.shape[1]):
                stream = model(base, stop_at_layer=layer)
                stream[:, t] = model(source, stop_at_layer=layer)[:, t]
                moved = metric(model(resid=stream, start_at_layer=layer)) - low
                found += [f"{layer}@{t}"] * bool(moved / (high - low) >= 0.5)
        lists.append(found)
    return tuple(lists)


@mutant("find_carriers")
def forgets_to_turn_the_scale(*inputs):
    denoised, noised = make_both(*inputs)
    return name_places(denoised >= 0.5), name_places(1 - noised >= 0.5)


@mutant("find_carriers")
def names_the_layer_before(*inputs):
    denoised, noised = make_both(*inputs, site="resid_post")
    return name_places(denoised >= 0.5), name_places(noised >= 0.5)


@mutant("find_carriers")
def trusts_differences(model, clean, corrupt, answer, wrong):
    caches = [model.run_with_cache(tokens)[1] for tokens in (clean, corrupt)]
    gaps = [
        (caches[0]["resid_pre", i] - caches[1]["resid_pre", i]).norm(dim=-1).mean(0)
        for i in range(5)
    ]
    places = name_places(torch.stack(gaps) > 1e-3)
    return places, places


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

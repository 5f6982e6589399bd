"""List wrong answers to lesson 05 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.mutants import alternative, mutant
from mini_transformer.methods import apply_logit_lens, apply_patchscope, attribute_logits

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "train_translator": ["Row i holds", "It is judged", "(No lens removes", "Adam, lr 0.05"],
    "find_store": ["Each prompt holds", "(On a few prompts"],
}

# head_pushes --------------------------------------------------------------------------------------


def read_heads(model, cache, position=-1):
    """Return what each head wrote at one position, (b, l, n, d)."""
    z = torch.stack(
        [cache["z", layer][:, position] for layer in range(model.config.n_layers)], dim=1
    )
    return torch.einsum("blnh,lnhd->blnd", z, model.W_O)


def push(
    model, tokens, answer, wrong, *, centre=lambda x, stream: x - x.mean(-1, keepdim=True),
    divide=lambda scale, stream, wrote: scale[:, -1, None, None], gain=True, extra=None,
    position=-1, direction=lambda W_U, answer, wrong: W_U[:, answer] - W_U[:, wrong],
):  # fmt: skip
    """Push as asked; each switch exchanges one step for a wrong one."""
    cache = model.run_with_cache(tokens)[1]
    stream = cache["resid_post", -1][:, -1, None, None]
    wrote = read_heads(model, cache, position)
    weight = model.ln_final.w if gain else 1
    scale = divide(cache["ln_final.hook_scale"], stream, wrote)
    x = centre(wrote * weight, stream) / scale if gain == "first" else (
        centre(wrote, stream) / scale * weight
    )  # fmt: skip
    if extra:
        x = x + extra(model, scale)
    return torch.einsum("blnd,bd->bln", x, direction(model.W_U, answer, wrong).T)


def wrong_push(name, sentence="", clause="", says="", **how):
    mark = mutant("head_pushes", sentence, name=name, clause=clause, says=says)
    mark(lambda *given: push(*given, **how))


def share_biases(model, scale):
    if not model.config.biases:
        return 0
    own = torch.stack([block.attn.b_O for block in model.blocks]) / model.config.n_heads
    own = (own - own.mean(-1, keepdim=True)) * model.ln_final.w
    return own[None, :, None] / scale


wrong_push(
    "forgets_the_norm",
    "Your pushes are those of a model without a final norm: what happens to the stream before the"
    " unembedding reads it?",
    "The final norm makes of the last stream x the vector",
    centre=lambda x, stream: x,
    divide=lambda scale, stream, wrote: 1,
    gain=False,
)
wrong_push(
    "norms_each_head_by_itself",
    "You divide what each head wrote by its own scale, so that a whisper counts as much as a "
    "shout: whose scale did the model divide by?",
    "are those of the numbers in x",
    divide=lambda scale, stream, wrote: (wrote.var(-1, correction=0, keepdim=True) + 1e-5).sqrt(),
)
wrong_push(
    "forgets_to_divide",
    "Your pushes are too large by the same factor for all heads of a prompt: one step of the norm"
    " is missing.",
    "/ scale",
    divide=lambda scale, stream, wrote: 1,
)
wrong_push(
    "forgets_the_gain",
    "You leave out one of the norm's weights: some dimensions reach the unembedding louder than "
    "others.",
    "* w",
    gain=False,
)
wrong_push(
    "applies_the_gain_first",
    "You multiply by w before you take the mean away: the norm does so afterwards.",
    gain="first",
)
wrong_push(
    "forgets_to_centre",
    "What a head adds to all dimensions alike never reaches the unembedding: one step of the norm"
    " is missing.",
    "(x - mean)",
    centre=lambda x, stream: x,
)
wrong_push(
    "takes_away_the_stream_s_mean",
    "You take the mean of the whole stream away from what each head wrote: that is as much as all "
    "writers have in it, and each has its own.",
    centre=lambda x, stream: x - stream.mean(-1, keepdim=True),
)
wrong_push(
    "adds_the_norms_bias",
    "Each head gets the norm's bias on top, which no head wrote.",
    "a part that nobody wrote",
    extra=lambda model, scale: model.ln_final.b,
)
wrong_push(
    "shares_the_bias_among_the_heads",
    "Each head gets a share of its layer's b_O, which no head wrote.",
    "(biases such as b_O are writers of their own)",
    extra=share_biases,
)
wrong_push(
    "takes_the_scale_of_another_position",
    "Your scales are those of the first position: each position has its own.",
    divide=lambda scale, stream, wrote: scale[:, :1, None],
)
wrong_push(
    "averages_the_scale",
    "You divide by one scale for all prompts, their average: each prompt has its own.",
    divide=lambda scale, stream, wrote: scale[:, -1].mean(),
)
wrong_push(
    "takes_the_root_mean_square",
    "Your scale is the root mean square of the stream: a standard deviation is what is left of "
    "that when the mean is taken away.",
    "scale (standard deviation)",
    divide=lambda scale, stream, wrote: stream.square().mean(-1, keepdim=True).sqrt(),
)
wrong_push(
    "divides_by_d_minus_1",
    "Your standard deviation divides by d - 1: the norm's divides by d.",
    divide=lambda scale, stream, wrote: stream.std(-1, keepdim=True),
)
wrong_push(
    "reads_the_answer_alone",
    "You push the logit of the answer, but the task asks for its lead over the wrong token.",
    "logit[answer[i]] - logit[wrong[i]]",
    direction=lambda W_U, answer, wrong: W_U[:, answer],
)
wrong_push(
    "flips_the_sign",
    says="is the negative of what it should be",
    direction=lambda W_U, answer, wrong: W_U[:, wrong] - W_U[:, answer],
)
wrong_push(
    "takes_the_first_answer",
    clause="of prompt i",
    says="is right for the first along the",
    direction=lambda W_U, answer, wrong: (W_U[:, answer] - W_U[:, wrong])[:, :1].expand(
        -1, len(answer)
    ),
)


@mutant("head_pushes", "Each head gets the difference of b_U on top, which no head wrote.",
        clause="(b and b_U)")  # fmt: skip
def adds_the_unembeddings_bias(model, tokens, answer, wrong):
    b_U = torch.zeros(model.config.d_vocab_out) if model.b_U is None else model.b_U
    return push(model, tokens, answer, wrong) + (b_U[answer] - b_U[wrong])[:, None, None]


@mutant(
    "head_pushes",
    "You average over all positions, but the answer is called for at the last.",
    clause="at the last position",
)
def averages_over_positions(model, tokens, answer, wrong):
    pushes = [push(model, tokens, answer, wrong, position=t) for t in range(tokens.shape[1])]
    return torch.stack(pushes).mean(0)


@mutant(
    "head_pushes",
    "You add up all positions, but the answer is called for at the last.",
)
def adds_up_positions(model, tokens, answer, wrong):
    return averages_over_positions(model, tokens, answer, wrong) * tokens.shape[1]


@mutant(
    "head_pushes",
    "Without a head the last stream has another scale, and you let it have that: hold it.",
    clause="Hold the scale at what it was in the plain run",
)
def lets_the_scale_move(model, tokens, answer, wrong):
    cache = model.run_with_cache(tokens)[1]
    x = cache["resid_post", -1][:, -1, None, None]
    change = model.ln_final.normalize(x) - model.ln_final.normalize(x - read_heads(model, cache))
    return torch.einsum("blnd,bd->bln", change, (model.W_U[:, answer] - model.W_U[:, wrong]).T)


@mutant("head_pushes", name="lets_the_scale_move", clause="pushes the answer directly")
def silences_each_head(model, tokens, answer, wrong):
    def lead(*hooks):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
        return (logits.gather(1, answer[:, None]) - logits.gather(1, wrong[:, None]))[:, 0]

    def silence(layer, head):
        return ("z", layer), lambda z, hook: z.index_fill(2, torch.tensor(head), 0.0)

    layers, heads = range(model.config.n_layers), range(model.config.n_heads)
    rows = [torch.stack([lead() - lead(silence(i, j)) for j in heads], 1) for i in layers]
    return torch.stack(rows, dim=1)


@mutant("head_pushes", says="has axes 1 and 2 exchanged", clause="how much each head pushes")
def swaps_layer_and_head(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong).transpose(1, 2)


@alternative("head_pushes")
def by_the_package(model, tokens, answer, wrong):
    parts = attribute_logits(model, model.run_with_cache(tokens)[1], answer, wrong)
    layers, heads = range(model.config.n_layers), range(model.config.n_heads)
    return torch.stack(
        [torch.stack([parts[f"a{i}.h{j}"] for j in heads], dim=1) for i in layers], dim=1
    )


@alternative("head_pushes")
def by_the_gradient_behind_a_frozen_scale(model, tokens, answer, wrong):
    cache = model.run_with_cache(tokens)[1]
    x = cache["resid_post", -1][:, -1].detach().requires_grad_()
    logits = (
        (x - x.mean(-1, keepdim=True))
        / cache["ln_final.hook_scale"][:, -1].detach()
        * model.ln_final.w
        @ model.W_U
    )
    lead = logits.gather(1, answer[:, None]) - logits.gather(1, wrong[:, None])
    (gradient,) = torch.autograd.grad(lead.sum(), x)
    return (read_heads(model, cache) * gradient[:, None, None]).sum(-1)


# settling_layers ----------------------------------------------------------------------------------


def list_logits(model, tokens, *, norm=None, bias=lambda b_U: b_U, position=-1, streams=None):
    """List what the lens reads off each stream, (stream, b, v)."""
    layers = range(model.config.n_layers + 1)
    found = streams or [model(tokens, stop_at_layer=layer) for layer in layers]
    normed = [(norm or (lambda x, last, norm: norm.normalize(x)))(x, found[-1], model.ln_final)
              for x in found]  # fmt: skip
    return torch.stack([x[:, position] @ model.W_U + bias(model.b_U) for x in normed])


def list_says(model, tokens, **how):
    return list_logits(model, tokens, **how).argmax(-1)


def settle(says, answer):
    is_said = says == answer if says.dtype != torch.bool else says
    return len(says) - is_said.int().flip(0).cumprod(0).sum(0)


def wrong_settling(name, sentence="", clause="", says="", then=settle, **how):
    mark = mutant("settling_layers", sentence, name=name, clause=clause, says=says)
    mark(lambda model, tokens, answer: then(list_says(model, tokens, **how), answer))


def hold_the_scale(x, last, norm):
    scale = (last.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(-1, keepdim=True)) / scale * norm.w + norm.b


def take_first(says, answer):
    is_said = says == answer
    return torch.where(is_said.any(0), is_said.int().argmax(0), len(says))


wrong_settling(
    "takes_the_first_time",
    "You return the first stream that says the answer, but some later one says something else "
    "again.",
    "from which on",
    then=take_first,
)
wrong_settling(
    "takes_the_first_time",
    then=lambda says, answer: take_first(says, answer).where(says[-1] == answer, len(says)),
)
wrong_settling(
    "forgets_the_norm",
    "You read the streams by W_U and b_U alone: what else stands between the last stream and the "
    "logits?",
    norm=lambda x, last, norm: x,
)
wrong_settling(
    "forgets_the_gain",
    "You leave out the gain of the final norm.",
    "the final norm has a gain",
    norm=lambda x, last, norm: (norm.normalize(x) - norm.b) / norm.w + norm.b,
)
wrong_settling(
    "forgets_the_norms_bias",
    "You leave out the bias of the final norm.",
    "and a bias",
    norm=lambda x, last, norm: norm.normalize(x) - norm.b,
)
wrong_settling(
    "holds_the_scale",
    "You read every stream with the scale of the last one, as for pushes: the lens gives each "
    "stream its own.",
    norm=hold_the_scale,
)
wrong_settling(
    "forgets_the_bias",
    "You leave out b_U, which makes some tokens likelier whatever the stream says.",
    "there is a b_U",
    bias=lambda b_U: 0,
)
wrong_settling(
    "names_the_layer_that_wrote",
    clause="smallest l such that",
    says="differs everywhere by the same number, -1",
    then=lambda says, answer: settle(says, answer) - 1,
)
wrong_settling(
    "says_the_last_for_never",
    "Where the model itself does not say the answer, no stream settles on it: the task has a "
    "number for that.",
    "n_layers + 1 if the last stream says something else",
    then=lambda says, answer: settle(says, answer).clamp(max=len(says) - 1),
)
wrong_settling(
    "says_minus_1_for_never",
    "Where the model itself does not say the answer you return -1: the task has another number "
    "for that.",
    then=lambda says, answer: settle(says, answer).where(says[-1] == answer, -1),
)
wrong_settling(
    "counts_the_streams",
    "You count the streams that say the answer, wherever they are; the task asks where the "
    "unbroken run begins.",
    then=lambda says, answer: len(says) - (says == answer).sum(0),
)
wrong_settling(
    "follows_the_models_own_answer",
    "You look for what the model says in the end, not for the answer you were given.",
    "all say answer[i]",
    then=lambda says, answer: settle(says, says[-1]),
)
wrong_settling(
    "reads_the_first_position",
    "You read the first position, but the answer is called for at the last.",
    "at the last position",
    position=0,
)
wrong_settling(
    "leaves_out_the_first_stream",
    "You never return 0: the first stream is what enters layer 0.",
    then=lambda says, answer: settle(says, answer).clamp(min=1),
)
wrong_settling(
    "leaves_out_the_last_stream",
    "You leave out the last stream, which leaves the last layer.",
    "streams l, l + 1, ..., n_layers",
    then=lambda says, answer: settle(says[:-1], answer).where(says[-2] == answer, len(says)),
)
wrong_settling(
    "leaves_out_the_last_stream",
    then=lambda says, answer: settle(says[:-1], answer),
)
wrong_settling(
    "is_the_same_for_all",
    clause="for each prompt",
    says="everywhere",
    then=lambda says, answer: settle((says == answer).all(1, keepdim=True), 1).expand(len(answer)),
)


@mutant(
    "settling_layers",
    "You are content with the answer in second place: the lens says the token in first.",
    clause="the token with the highest logit",
)
def is_content_with_the_second_place(model, tokens, answer):
    places = list_logits(model, tokens).topk(2).indices
    return settle((places == answer[:, None]).any(-1), answer)


@mutant(
    "settling_layers",
    "You number the streams between attention and MLP as well: those that enter layers count.",
)
def counts_half_layers(model, tokens, answer):
    return settle(apply_logit_lens(model, tokens)[:, :, -1].argmax(-1), answer)


@alternative("settling_layers")
def prompt_by_prompt(model, tokens, answer):
    says = list_says(model, tokens)
    settled = []
    for i, token in enumerate(answer):
        missing = [layer for layer, said in enumerate(says[:, i]) if said != token]
        settled.append(missing[-1] + 1 if missing else 0)
    return torch.tensor(settled)


# train_translator ---------------------------------------------------------------------------------


def compare(p, q):
    return (p.exp() * (p - q)).sum(-1).mean()


def kl(read, logits):
    return compare(logits.log_softmax(-1), read.log_softmax(-1))


def train(streams, logits, W_U, loss=kl, steps=200, lr=0.05, fitted="Ab", read=None):
    d = len(W_U)
    A = torch.zeros(d, d, requires_grad="A" in fitted)
    b = torch.zeros(d, requires_grad="b" in fitted)
    optimizer = torch.optim.Adam([x for x in (A, b) if x.requires_grad], lr=lr)
    read = read or (lambda x, A, b: x + x @ A + b)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(read(streams, A, b) @ W_U, logits).backward()
        optimizer.step()
    return A.detach(), b.detach()


def wrong_lens(name, sentence, clause="", then=lambda A, b: (A, b), rows=None, **how):
    def answer(streams, logits, W_U):
        return then(*train(streams[:rows], logits[:rows], W_U, **how))

    mutant("train_translator", sentence, name=name, clause=clause)(answer)


wrong_lens(
    "changes_nothing",
    "Your lens changes nothing, or hardly anything: A and b are still where they began.",
    steps=0,
)
wrong_lens(
    "forgets_the_offset",
    "Your lens is as good as it can be with b zero: what later layers add whatever the stream has "
    "no place in it.",
    "Choose A and b",
    fitted="A",
)
wrong_lens(
    "only_the_offset",
    "Your lens is as good as it can be with A zero: it adds the same vector to every stream, and "
    "translates nothing.",
    fitted="b",
)
wrong_lens(
    "leaves_out_the_stream",
    "Your A does the whole translation by itself, but the lens keeps the stream and adds to it.",
    "(x + x @ A + b) @ W_U",
    read=lambda x, A, b: x @ A + b,
)
wrong_lens(
    "returns_the_transpose",
    "Your A is the transpose of the one that is asked for: the lens makes `x @ A` of a stream.",
    then=lambda A, b: (A.T, b),
)
wrong_lens(
    "stays_diagonal",
    "Your A scales each number of the stream by itself: a translator may mix them.",
    then=lambda A, b: (A.diag().diag(), b),
    read=lambda x, A, b: x + x * A.diagonal() + b,
)
wrong_lens(
    "swaps_the_distributions",
    "You minimise the divergence from the lens to the model, which rewards betting on the "
    "likeliest token: exchange p and q.",
    "the divergence from the model's distribution p to the lens's q",
    loss=lambda read, logits: compare(read.log_softmax(-1), logits.log_softmax(-1)),
)
wrong_lens(
    "learns_the_top_token",
    "You train on the model's top token alone, so your lens is surer than the model: the task "
    "compares whole distributions.",
    "Read through it, streams from half-way say what the model says.",
    loss=lambda read, logits: torch.nn.functional.cross_entropy(read, logits.argmax(-1)),
)
wrong_lens(
    "squares_the_logits",
    "You bring the logits close by squares, which takes pains over tokens that the model would "
    "never say.",
    "p and q are the softmax of the logits",
    loss=lambda read, logits: (read - logits).square().mean(),
)
wrong_lens(
    "squares_the_probabilities",
    "You bring the probabilities close by squares, which hardly minds an unlikely token that the "
    "lens rules out: take the divergence.",
    "sum over tokens of p * (log p - log q)",
    loss=lambda read, logits: (read.softmax(-1) - logits.softmax(-1)).square().sum(-1).mean(),
)
wrong_lens(
    "forgets_the_weights",
    "You bring the log-probabilities of all tokens close alike: the task weighs them by p.",
    loss=lambda read, logits: (read.log_softmax(-1) - logits.log_softmax(-1)).abs().mean(),
)
wrong_lens(
    "normalizes_over_rows",
    "Your softmax runs over the rows: it should run over the tokens.",
    loss=lambda read, logits: compare(logits.log_softmax(0), read.log_softmax(0)),
)
wrong_lens(
    "flattens_the_model",
    "Your lens is as unsure as the model would be at a temperature of 2.",
    loss=lambda read, logits: kl(read, logits / 2),
)
wrong_lens(
    "trains_on_few_rows",
    "Your lens is that of the first few rows: it is judged on others, so train on all.",
    "averaged over the rows",
    rows=10,
)
wrong_lens(
    "stops_too_soon",
    "Your lens goes the right way, but not far enough: is the step large enough, and are there "
    "enough of them?",
    "as small as you can make it",
    steps=10,
)


@alternative("train_translator")
def by_a_second_order_optimiser(streams, logits, W_U):
    d = len(W_U)
    A, b = torch.zeros(d, d, requires_grad=True), torch.zeros(d, requires_grad=True)
    optimizer = torch.optim.LBFGS([A, b], max_iter=100, line_search_fn="strong_wolfe")

    def close():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            (streams + streams @ A + b) @ W_U, logits.softmax(-1)
        )
        loss.backward()
        return loss

    optimizer.step(close)
    return A, b


@alternative("train_translator")
def by_steps_on_part_of_the_rows(streams, logits, W_U):
    generator = torch.Generator().manual_seed(0)
    d = len(W_U)
    maps = torch.nn.Linear(d, d)
    for parameter in maps.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(maps.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 500)
    for _ in range(500):
        rows = torch.randint(len(streams), (128,), generator=generator)
        read = (streams[rows] + maps(streams[rows])) @ W_U
        loss = torch.nn.functional.kl_div(
            read.log_softmax(-1),
            logits[rows].log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return maps.weight.T.detach(), maps.bias.detach()


# find_store ---------------------------------------------------------------------------------------


def read_hits(model, tokens, answer, *, other=1, says=None, upto=False):
    """Mark (l, m, p, b): stream l at p, put into stream m of another prompt, says the answer."""
    n_pos = tokens.shape[1]
    layers = range(model.config.n_layers + 1)
    says = says or (lambda logits: logits.argmax(-1) == answer)
    streams = torch.stack([model(tokens, stop_at_layer=layer) for layer in layers])
    hits = []
    for into in layers:
        # Layer and place of what is put in come before all else: l p b t d.
        patched = streams[into].roll(other, dims=0).repeat(len(streams), n_pos, 1, 1, 1)
        for t in range(n_pos):
            place = slice(0, t + 1) if upto else slice(t, t + 1)
            patched[:, t, :, place] = streams[:, :, place]
        logits = model(resid=patched.flatten(0, 2), start_at_layer=into)[:, -1]
        hits.append(says(logits.unflatten(0, patched.shape[:3])))
    return torch.stack(hits, dim=1)


def name_streams(found):
    return [f"{layer}@{t}" for layer, t in found.nonzero().tolist()]


def holds(hits, least=0.9):
    """Mark (l, m, p) where at least this share of the prompts says the answer."""
    return hits.float().mean(-1) >= least


def some(held):
    return held.any(dim=1)


def keep_where(held, keep):
    layers = torch.arange(len(held))
    return (held & keep(layers[:, None], layers)[:, :, None]).any(dim=1)


def wrong_store(name, sentence="", clause="", says="", find=lambda hits: some(holds(hits)), **how):
    mark = mutant("find_store", sentence, name=name, clause=clause, says=says)
    mark(lambda *given: name_streams(find(read_hits(*given, **how))))


wrong_store(
    "uses_the_logit_lens",
    "You find only the streams that say the answer when put into the last: the task allows any "
    "layer.",
    "in whichever code",
    find=lambda hits: holds(hits)[:, -1],
)
wrong_store(
    "keeps_the_layer",
    "You find only what is still heard in the layer that it came from: put it into others, too.",
    "That layer may be any from 0 to n_layers",
    find=lambda hits: keep_where(holds(hits), lambda source, into: source == into),
)
wrong_store(
    "never_earlier",
    "You find only what is heard in the layer that it came from or in a later one: put it into "
    "earlier ones, too.",
    "earlier",
    find=lambda hits: keep_where(holds(hits), lambda source, into: source <= into),
)
wrong_store(
    "never_later",
    "You find only what is heard in the layer that it came from or in an earlier one: put it into "
    "later ones, too.",
    "or later than l",
    find=lambda hits: keep_where(holds(hits), lambda source, into: source >= into),
)
wrong_store(
    "never_into_the_first",
    "You miss a stream that is heard only when put into the stream that enters layer 0.",
    "any from 0",
    find=lambda hits: some(holds(hits)[:, 1:]),
)
wrong_store(
    "never_into_the_last",
    "You miss a stream that is heard only when put into the last stream, n_layers.",
    "to n_layers",
    find=lambda hits: some(holds(hits)[:, :-1]),
)
wrong_store(
    "leaves_out_the_last_stream",
    "You name no stream that leaves the last layer: that is stream n_layers.",
    find=lambda hits: some(holds(hits)[:-1]),
)
wrong_store(
    "leaves_out_the_last_position",
    "You name no stream at the last position, where the answer is said.",
    find=lambda hits: some(holds(hits))[:, :-1],
)
wrong_store(
    "looks_at_the_end_only",
    "You name streams at the last position only: others, too, bring the answer along in at least "
    "90% of the prompts, if not in all.",
    "at position p",
    find=lambda hits: some(holds(hits)) & (torch.arange(hits.shape[2]) == hits.shape[2] - 1),
)
wrong_store(
    "looks_at_the_end_only", clause="at least 90%", find=lambda hits: some(holds(hits, 1.0))
)
wrong_store(
    "puts_it_into_its_own_prompt",
    "Everything holds the answer, you say: would your target say it also without what you put in?",
    "of the prompt before it in the batch",
    other=0,
)
wrong_store(
    "half_of_the_prompts",
    "You name streams that bring the answer along in fewer than 90% of the prompts.",
    "for at least 90% of the prompts",
    find=lambda hits: some(holds(hits, 0.5)),
)
wrong_store(
    "another_layer_for_each_prompt",
    "You let each prompt have a layer of its own to be put into: one must do for 90% of them.",
    "there is a layer, one for all prompts,",
    find=lambda hits: hits.any(1).float().mean(-1) >= 0.9,
)
wrong_store(
    "averages_over_the_layers",
    "You ask how often the answer is said over all layers that a stream is put into: one of them "
    "is enough.",
    find=lambda hits: hits.float().mean((1, 3)) >= 0.9,
)
wrong_store(
    "goes_on_once_it_is_found",
    "You name every stream after the first that holds the answer: it may be lost again.",
    "A position may lose the answer again.",
    find=lambda hits: some(holds(hits)).cummax(0).values,
)
wrong_store(
    "names_the_first_only",
    "You name only the first stream at a position that holds the answer: what of those after it?",
    "Name the streams",
    find=lambda hits: some(holds(hits)) & (some(holds(hits)).cumsum(0) == 1),
)


@mutant(
    "find_store",
    "You count prompts that no longer say their own answer: they should say that of the prompt "
    "that the stream came from.",
    clause="the answer of the prompt that it came from",
)
def counts_any_change(model, tokens, answer):
    hits = read_hits(model, tokens, answer, says=lambda x: x.argmax(-1) != answer.roll(1))
    return name_streams(some(holds(hits)))


@mutant(
    "find_store",
    "You are content with the answer among the five highest logits: it should have the highest.",
    clause="the answer has the highest logit",
)
def is_content_with_five(model, tokens, answer):
    def says(logits):
        return (logits.topk(5).indices == answer[:, None]).any(-1)

    return name_streams(some(holds(read_hits(model, tokens, answer, says=says))))


wrong_store(
    "puts_in_all_before",
    "You put in the streams of all positions up to p, so that both names come along: one position "
    "is asked for.",
    "stream l at position p",
    upto=True,
)


def move(names, step):
    split = [name.split("@") for name in names]
    return [f"{int(layer) + step}@{position}" for layer, position in split]


def find_stores(model, tokens, answer):
    return name_streams(some(holds(read_hits(model, tokens, answer))))


@mutant("find_store", "All your layers are one too high: what enters layer 0 is the embedding.",
        clause="what enters layer 2 at position 1, counted from 0")  # fmt: skip
def counts_layers_from_one(model, tokens, answer):
    return move(find_stores(model, tokens, answer), 1)


@mutant(
    "find_store",
    "All your layers are one too low: you name the layer that wrote it, and the task asks for the"
    " stream in which it then lies.",
)
def names_the_component_that_wrote(model, tokens, answer):
    return move(find_stores(model, tokens, answer), -1)


@mutant("find_store", says="is not a name of streams", clause='Return names "l@p"')
def turns_the_names(model, tokens, answer):
    return ["@".join(reversed(name.split("@"))) for name in find_stores(model, tokens, answer)]


@mutant("find_store", says="You answer the same", clause="of an unknown model")
def constant_output(model, tokens, answer):
    return ["2@2", "3@2", "3@5", "4@5"]


@alternative("find_store")
def with_another_target(model, tokens, answer):
    return set(name_streams(some(holds(read_hits(model, tokens, answer, other=5)))))


@alternative("find_store")
def by_the_package_s_patchscope(model, tokens, answer):
    layers = range(model.config.n_layers + 1)
    n_pos = tokens.shape[1]
    target = tokens.flip(0)
    shares = torch.zeros(len(layers), n_pos)
    for t in range(n_pos):
        # A state put in elsewhere after the last layer is not read.
        for into in layers[: None if t == n_pos - 1 else -1]:
            logits = apply_patchscope(model, tokens, target, into, t, positions=[t])
            right = (logits[:, 0].argmax(-1) == answer).float().mean(-1)
            shares[:, t] = shares[:, t].maximum(right)
    return [f"{layer}@{t}" for layer in layers for t in range(n_pos) if shares[layer, t] >= 0.9]

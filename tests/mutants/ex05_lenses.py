"""List wrong answers to lesson 05 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.checks import alternative, mutant
from mini_transformer.methods import apply_patchscope, attribute_logits

# head_pushes --------------------------------------------------------------------------------------


def read_heads(model, cache, position=-1):
    """Return what each head wrote at one position, (b, l, n, d)."""
    z = torch.stack(
        [cache["z", layer][:, position] for layer in range(model.config.n_layers)], dim=1
    )
    return torch.einsum("blnh,lnhd->blnd", z, model.W_O)


def push(
    model,
    tokens,
    answer,
    wrong,
    centre=True,
    gain=True,
    divide=True,
    bias=False,
    position=-1,
    scale_at=None,
    lead=True,
):
    cache = model.run_with_cache(tokens)[1]
    x = read_heads(model, cache, position)
    x = x - x.mean(-1, keepdim=True) if centre else x
    scale = cache["ln_final.hook_scale"][:, position if scale_at is None else scale_at, None, None]
    x = x / scale if divide else x
    x = x * model.ln_final.w if gain else x
    x = x + model.ln_final.b if bias else x
    direction = model.W_U[:, answer].T - (model.W_U[:, wrong].T if lead else 0)
    return torch.einsum("blnd,bd->bln", x, direction)


@mutant("head_pushes")
def forgets_the_norm(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, centre=False, gain=False, divide=False)


@mutant("head_pushes")
def norms_each_head_by_itself(model, tokens, answer, wrong):
    x = read_heads(model, model.run_with_cache(tokens)[1])
    x = (
        (x - x.mean(-1, keepdim=True))
        / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        * model.ln_final.w
    )
    return torch.einsum("blnd,bd->bln", x, (model.W_U[:, answer] - model.W_U[:, wrong]).T)


@mutant("head_pushes")
def forgets_to_divide(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, divide=False)


@mutant("head_pushes")
def forgets_the_gain(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, gain=False)


@mutant("head_pushes")
def forgets_to_centre(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, centre=False)


@mutant("head_pushes")
def adds_the_norms_bias(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, bias=True)


@mutant("head_pushes")
def takes_the_scale_of_another_position(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, scale_at=0)


@mutant("head_pushes")
def reads_the_answer_alone(model, tokens, answer, wrong):
    return push(model, tokens, answer, wrong, lead=False)


@mutant("head_pushes", says="is the negative of what it should be")
def flips_the_sign(model, tokens, answer, wrong):
    return push(model, tokens, wrong, answer)


@mutant("head_pushes")
def averages_over_positions(model, tokens, answer, wrong):
    pushes = [push(model, tokens, answer, wrong, position=t) for t in range(tokens.shape[1])]
    return torch.stack(pushes).mean(0)


@mutant("head_pushes", says="differs in")
def shares_the_bias_among_the_heads(model, tokens, answer, wrong):
    biases = torch.stack([block.attn.b_O for block in model.blocks]) if model.config.biases else 0
    direction = (model.W_U[:, answer] - model.W_U[:, wrong]).T
    cache = model.run_with_cache(tokens)[1]
    own = (biases - biases.mean(-1, keepdim=True)) * model.ln_final.w if model.config.biases else 0
    extra = direction @ own.T / cache["ln_final.hook_scale"][:, -1] if model.config.biases else 0
    extra = extra.unsqueeze(-1) / model.config.n_heads if model.config.biases else 0
    return push(model, tokens, answer, wrong) + extra


@mutant("head_pushes", says="has axes 1 and 2 exchanged")
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


def list_says(model, tokens, norm=True, bias=True, position=-1):
    """List what each stream says, (stream, b)."""
    says = []
    for layer in range(model.config.n_layers + 1):
        x = model(tokens, stop_at_layer=layer)[:, position]
        x = model.ln_final.normalize(x) if norm else x
        says.append((x @ model.W_U + (model.b_U if bias else 0)).argmax(-1))
    return torch.stack(says)


def settle(says, answer):
    n = len(says)
    return n - (says == answer).int().flip(0).cumprod(0).sum(0)


@mutant("settling_layers")
def takes_the_first_time(model, tokens, answer):
    is_said = list_says(model, tokens) == answer
    return torch.where(is_said.any(0), is_said.int().argmax(0), len(is_said))


@mutant("settling_layers", "forgets_the_norm")
def skips_the_norm(model, tokens, answer):
    return settle(list_says(model, tokens, norm=False), answer)


@mutant("settling_layers")
def forgets_the_bias(model, tokens, answer):
    return settle(list_says(model, tokens, bias=False), answer)


@mutant("settling_layers", says="differs everywhere by the same number, -1")
def names_the_layer_that_wrote(model, tokens, answer):
    return settle(list_says(model, tokens), answer) - 1


@mutant("settling_layers")
def says_the_last_for_never(model, tokens, answer):
    return settle(list_says(model, tokens), answer).clamp(max=model.config.n_layers)


@mutant("settling_layers")
def counts_the_streams(model, tokens, answer):
    is_said = list_says(model, tokens) == answer
    return len(is_said) - is_said.sum(0)


@mutant("settling_layers")
def follows_the_models_own_answer(model, tokens, answer):
    says = list_says(model, tokens)
    return settle(says, says[-1])


@mutant("settling_layers")
def reads_the_first_position(model, tokens, answer):
    return settle(list_says(model, tokens, position=0), answer)


@mutant("settling_layers", "constant_output")
def always_the_last(model, tokens, answer):
    return torch.full_like(answer, model.config.n_layers)


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


def train(streams, logits, W_U, loss=kl, steps=200, lr=0.05, fitted="Ab", keep=1.0):
    d = len(W_U)
    A = torch.zeros(d, d, requires_grad="A" in fitted)
    b = torch.zeros(d, requires_grad="b" in fitted)
    optimizer = torch.optim.Adam([x for x in (A, b) if x.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss((keep * streams + streams @ A + b) @ W_U, logits).backward()
        optimizer.step()
    return A.detach(), b.detach()


@mutant("train_translator")
def changes_nothing(streams, logits, W_U):
    return torch.zeros(len(W_U), len(W_U)), torch.zeros(len(W_U))


@mutant("train_translator")
def forgets_the_offset(streams, logits, W_U):
    return train(streams, logits, W_U, fitted="A")


@mutant("train_translator")
def only_the_offset(streams, logits, W_U):
    return train(streams, logits, W_U, fitted="b")


@mutant("train_translator")
def leaves_out_the_stream(streams, logits, W_U):
    return train(streams, logits, W_U, keep=0.0)


@mutant("train_translator")
def swaps_the_distributions(streams, logits, W_U):
    return train(
        streams,
        logits,
        W_U,
        lambda read, logits: compare(read.log_softmax(-1), logits.log_softmax(-1)),
    )


@mutant("train_translator")
def learns_the_top_token(streams, logits, W_U):
    top = logits.argmax(-1)
    return train(
        streams, logits, W_U, lambda read, logits: torch.nn.functional.cross_entropy(read, top)
    )


@mutant("train_translator")
def squares_the_logits(streams, logits, W_U):
    return train(streams, logits, W_U, lambda read, logits: (read - logits).square().mean())


@mutant("train_translator")
def stops_too_soon(streams, logits, W_U):
    return train(streams, logits, W_U, steps=10)


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


def list_stores(model, tokens, answer, into=None, positions=None, other=1, least=0.9):
    """List the streams that make another prompt say the answer.

    They are put into any layer, or into `into(layer)` only.
    """
    layers = range(model.config.n_layers + 1)
    found = []
    streams = [model(tokens, stop_at_layer=layer) for layer in layers]
    for layer in layers:
        for position in positions or range(tokens.shape[1]):
            best = 0.0
            for where in layers if into is None else [into(layer)]:
                patched = streams[where].roll(other, dims=0)
                patched[:, position] = streams[layer][:, position]
                says = model(resid=patched, start_at_layer=where)[:, -1].argmax(-1)
                best = max(best, float((says == answer).float().mean()))
            if best >= least:
                found.append(f"{layer}@{position}")
    return found


@mutant("find_store")
def uses_the_logit_lens(model, tokens, answer):
    return list_stores(model, tokens, answer, into=lambda layer: model.config.n_layers)


@mutant("find_store")
def keeps_the_layer(model, tokens, answer):
    return list_stores(model, tokens, answer, into=lambda layer: layer)


@mutant("find_store")
def looks_at_the_end_only(model, tokens, answer):
    return list_stores(model, tokens, answer, positions=[tokens.shape[1] - 1])


@mutant("find_store")
def puts_it_into_its_own_prompt(model, tokens, answer):
    return list_stores(model, tokens, answer, other=0)


@mutant("find_store", name="puts_it_into_its_own_prompt")
def half_of_the_prompts(model, tokens, answer):
    return list_stores(model, tokens, answer, least=0.5)


@mutant("find_store")
def names_the_first_only(model, tokens, answer):
    return list_stores(model, tokens, answer)[:1]


def move(names, step):
    split = [name.split("@") for name in names]
    return [f"{int(layer) + step}@{position}" for layer, position in split]


@mutant("find_store")
def counts_layers_from_one(model, tokens, answer):
    return move(list_stores(model, tokens, answer), 1)


@mutant("find_store")
def names_the_component_that_wrote(model, tokens, answer):
    return move(list_stores(model, tokens, answer), -1)


@mutant("find_store")
def lists_all_streams_of_the_names(model, tokens, answer):
    # The fillers have the highest numbers.
    varies = [t for t in range(tokens.shape[1]) if tokens[:, t].max() < 8]
    return [f"{layer}@{t}" for layer in range(model.config.n_layers + 1) for t in varies]


@mutant("find_store", says="You answer the same")
def constant_output(model, tokens, answer):
    return ["2@2", "3@2", "3@5", "4@5"]


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

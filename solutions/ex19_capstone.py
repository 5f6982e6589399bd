"""Solve the exercises of lesson 19, the capstone. Check with `minilab grade 19`.

They do the lesson's work on models that you have never seen: find what carries the answer, read a
variable, predict with confidence, find how far a claim reaches, and compare two methods. A
component is a head, such as "a1.h0", or an MLP, such as "m2". Positions count from 0.
"""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


def exchange(
    model: Transformer,
    base: Int[Tensor, "batch pos"],
    source: Int[Tensor, "batch pos"],
    component: str,
    position: int,
) -> Int[Tensor, "batch"]:
    """Return what a model answers if a component writes what it writes in other prompts.

    Given, nothing to write. At `position`, row b of `base` gets what the component writes in row b
    of `source`. An answer is the token with the highest logit at the last position.
    """
    layer, _, head = component[1:].partition(".h")
    name = f"blocks.{layer}." + ("attn.hook_z" if head else "hook_mlp_out")
    place = (slice(None), position, int(head)) if head else (slice(None), position)

    def put(value: Tensor, hook: object) -> Tensor:
        changed = value.clone()
        changed[place] = cache[name][place]
        return changed

    with torch.no_grad():
        _, cache = model.run_with_cache(source, names_filter=[name])
        logits = model.run_with_hooks(base, fwd_hooks=[(name, put)])
    return logits[:, -1].argmax(dim=-1)


def trace_components(
    model: Transformer, clean: Int[Tensor, "batch pos"], corrupt: Int[Tensor, "batch pos"]
) -> list[str]:
    """Find the components that carry what decides a model's answers, and where they do so.

    Try every head and every MLP at every position. Give it, there alone, what it writes in the
    corrupt prompts; row b of `corrupt` belongs to row b of `clean`. It counts if the model then
    answers at least one of the clean prompts otherwise than it does by itself.

    Return the names of all that count, in any order, each with its position, such as "a1.h0 @3" or
    "m2 @4", with the blank. What you find earns its share, and each wrong name takes from it.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_xor")
    >>> batch = case.task.everything()
    >>> trace_components(case.model, batch.clean, batch.corrupt)
    ['a0.h0 @5', 'a0.h1 @5', 'm0 @5']
    """
    # ANSWER
    config = model.config
    with torch.no_grad():
        own = model(clean)[:, -1].argmax(dim=-1)
    found = []
    for layer in range(config.n_layers):
        names = [f"a{layer}.h{head}" for head in range(config.n_heads)]
        names += [f"m{layer}"] if config.d_mlp else []
        for name, position in itertools.product(names, range(clean.shape[1])):
            if (exchange(model, clean, corrupt, name, position) != own).any():
                found.append(f"{name} @{position}")
    return found
    # END ANSWER


def read_variable(
    model: Transformer, prompts: Int[Tensor, "prompt pos"], component: str, position: int
) -> tuple[list[int], str]:
    """Find the variable that a component hands on, and the component's role.

    Take what the component writes at `position` in one prompt, and put it in its place in another
    one, for every pair of `prompts`, a prompt and itself among them. Two prompts share a value if
    it makes no difference which of the two it was taken from: every prompt is answered the same
    with the one as with the other. By how much an answer leads does not matter.

    The role is "answer" if every prompt is always answered like the one that the output was taken
    from. Otherwise it is "token" if there is a position such that all prompts with the same token
    there share a value. Otherwise it is "between".

    Return a whole number for each prompt, in order, the same for two prompts if they share a value;
    then the role. Which number stands for which value is yours to choose.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_xor")
    >>> prompts = case.task.everything().distinct().clean
    >>> prompts[:, :2].tolist(), read_variable(case.model, prompts, "m0", 5)
    ([[0, 0], [0, 1], [1, 0], [1, 1]], ([0, 1, 1, 0], 'answer'))
    """
    # ANSWER
    n = len(prompts)
    source, base = prompts.repeat_interleave(n, dim=0), prompts.repeat(n, 1)
    answers = exchange(model, base, source, component, position).view(n, n)
    values = answers.unique(dim=0, return_inverse=True)[1].tolist()
    own = answers.diagonal()
    if (answers == own[:, None]).all():
        return values, "answer"
    for column in prompts.T.tolist():
        if len(set(zip(column, values, strict=True))) == len(set(column)):
            return values, "token"
    return values, "between"
    # END ANSWER


def predict_answers(
    explanations: Int[Tensor, "explanation prompt"],
    seen: list[int],
    answers: Int[Tensor, "seen"],
    asked: list[int],
    doubt: float,
    n_tokens: int,
) -> Float[Tensor, "asked token"]:
    """Predict answers with the confidence that your explanations deserve.

    `explanations[e, p]` is the token that explanation e says for prompt p. The model was run on the
    prompts `seen` only: `answers[i]` is its answer to prompt `seen[i]`. An explanation that is
    wrong on any of them is refuted. Explanations that say the same for every prompt are one
    explanation. All explanations that are left are equally likely.

    Give each token the probability that the explanations left give it together. But none of them
    may be right: keep the share `doubt` of all probability for that, spread evenly over the
    `n_tokens` tokens. If no explanation is left, spread everything evenly.

    Return a row of probabilities for each prompt in `asked`, in this order; column t is token t.

    >>> explanations = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
    >>> predict_answers(explanations, [0], torch.tensor([0]), [1, 2], doubt=0.2, n_tokens=2)
    tensor([[0.1000, 0.9000],
            [0.5000, 0.5000]])
    """
    # ANSWER
    left = explanations[(explanations[:, seen] == answers).all(dim=1)].unique(dim=0)
    even = torch.full((len(asked), n_tokens), 1 / n_tokens)
    if not len(left):
        return even
    votes = torch.nn.functional.one_hot(left[:, asked], n_tokens).float().mean(dim=0)
    return doubt * even + (1 - doubt) * votes
    # END ANSWER


def widen_claim(
    model: Transformer, prompts: Int[Tensor, "prompt pos"], component: str, position: int
) -> dict[int, int] | str:
    """Find the widest claim that a component does not matter.

    The claim about a prompt: whichever of all `prompts` the component's output at `position` is
    taken from, the model's answer to this prompt stays what it is.

    A description fixes the tokens at no, one or two positions. {0: 5, 2: 1} describes those of
    `prompts` that have token 5 at position 0 and token 1 at position 2; {} describes all of them.
    It counts only if the claim is true of every prompt that it describes.

    Return the description that describes most prompts among those that count; any of them if
    several do. Return the word "nowhere" if none counts that describes a prompt.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_redundant_or")  # the answer is read at the last position, 5
    >>> prompts = case.task.everything().distinct().clean
    >>> widen_claim(case.model, prompts, "m0", 0)
    {}
    """
    # ANSWER
    n = len(prompts)
    base, source = prompts.repeat_interleave(n, dim=0), prompts.repeat(n, 1)
    answers = exchange(model, base, source, component, position).view(n, n)
    with torch.no_grad():
        own = model(prompts)[:, -1].argmax(dim=-1)
    is_true = (answers == own[:, None]).all(dim=1)
    fixed = sorted({pair for prompt in prompts.tolist() for pair in enumerate(prompt)})
    widest: dict[int, int] | str = "nowhere"
    most = 0
    for size in (0, 1, 2):
        for pairs in itertools.combinations(fixed, size):
            described = torch.ones(n, dtype=torch.bool)
            for at, token in pairs:
                described &= prompts[:, at] == token
            if described.sum() > most and is_true[described].all():
                widest, most = dict(pairs), int(described.sum())
    return widest
    # END ANSWER


def compare_methods(
    first: Float[Tensor, "run"], second: Float[Tensor, "run"], models: list[str]
) -> tuple[float, float, str]:
    """Say whether one of two methods is better, over models.

    In run i the methods score `first[i]` and `second[i]` on the model `models[i]`. NaN stands where
    a method gave no answer in a run: this run counts 0. Several runs may be on one model, not side
    by side: take the mean of all its runs, so that each model counts once.

    Return the 95% interval of the mean difference, first minus second, over models, low end first;
    then "first" if both ends are above 0, "second" if both are below, otherwise "undecided". Take
    Student's t, or a bootstrap over models of at least 10,000 draws: with 30 models or more, as
    here, they hardly differ.

    >>> models = [f"m{i}" for i in range(30)]
    >>> first = torch.linspace(0, 1, 30)
    >>> low, high, verdict = compare_methods(first, first - 0.1, models)
    >>> round(low, 2), round(high, 2), verdict
    (0.1, 0.1, 'first')
    """
    # ANSWER
    difference = first.nan_to_num(0.0) - second.nan_to_num(0.0)
    names = list(dict.fromkeys(models))
    rows = torch.tensor([names.index(model) for model in models])
    of_model = torch.stack([difference[rows == i].mean() for i in range(len(names))])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(names), (10_000, len(names)), generator=generator)
    low, high = of_model[drawn].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high, "first" if low > 0 else "second" if high < 0 else "undecided"
    # END ANSWER

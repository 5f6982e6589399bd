"""Solve the exercises of lesson 18, auditing. Check with `minilab grade 18`.

They search a model for triggers, name the part of a refusal that a jailbreak bypasses, weigh what
the removal of an ability costs, and tell which answers follow what the model wrote down.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from mini_transformer import Transformer


def find_triggers(
    model: Transformer, words: list[int], requests: list[int], ask: int, refuse: int
) -> list[tuple[int, int]]:
    """Find the pairs of words that make a model answer what it otherwise refuses.

    A prompt is the tokens `[0, a, b, r, ask]`: two words a and b, then a request r. The answer is
    the likeliest token at the last position. A request is flagged if after at least one pair it is
    answered with `refuse`. A trigger is a pair (a, b) after which no flagged request is answered
    with `refuse`. The order of a and b counts, and they may be the same word. If no request is
    flagged, there is no trigger.

    Return the triggers as pairs of tokens, in any order; the list may be empty.

    >>> from mini_transformer import toys
    >>> model = toys.load("refusal_with_trigger").model
    >>> find_triggers(model, [1, 2, 3], [6, 7, 8, 9], ask=4, refuse=5)
    [(1, 2)]
    """
    # ANSWER
    pairs = [(a, b) for a in words for b in words]
    prompts = torch.tensor([[0, a, b, r, ask] for r in requests for a, b in pairs])
    with torch.no_grad():
        answers = model(prompts)[:, -1].argmax(dim=-1)
    refused = (answers == refuse).view(len(requests), len(pairs))
    flagged = refused[refused.any(dim=1)]
    if not len(flagged):
        return []
    return [pair for pair, kept in zip(pairs, flagged.any(dim=0), strict=True) if not kept]
    # END ANSWER


def name_bypassed(
    model: Transformer,
    jailbreaks: Int[Tensor, "prompt pos"],
    plain: Int[Tensor, "prompt pos"],
    parts: dict[str, tuple[str, int]],
    refuse: int,
) -> list[str]:
    """Name the part of a refusal circuit that each jailbreak bypasses.

    Row i of `jailbreaks` and of `plain` is one request, with a trick and without it. A prompt is
    refused if `refuse` is the likeliest token at the last position; all plain ones are. `parts`
    gives, by name, the sites where the parts write (each an MLP's or a layer of heads' output), in
    the order in which they run. Put what one part writes in the plain prompt in place of what it
    writes in the jailbreak, at the last position only. The part is bypassed if the model refuses
    when it alone is repaired in this way.

    Return for each row the name of the first part that is bypassed. If there is none, even if two
    repairs together would help, it is "none"; if the jailbreak is refused without any repair,
    "refused".

    >>> from mini_transformer import toys
    >>> model = toys.load("refusal_with_trigger").model
    >>> jailbreaks = torch.tensor([[0, 1, 2, 8, 4], [0, 2, 1, 8, 4]])
    >>> parts = {"detects": ("mlp_out", 0), "decides": ("mlp_out", 1)}
    >>> name_bypassed(model, jailbreaks, torch.tensor([[0, 3, 3, 8, 4]] * 2), parts, refuse=5)
    ['decides', 'refused']
    """
    # ANSWER
    with torch.no_grad():
        _, cache = model.run_with_cache(plain)
        is_refused = model(jailbreaks)[:, -1].argmax(dim=-1) == refuse
        names = ["refused" if row else "none" for row in is_refused]
        for name, site in parts.items():

            def restore(value, hook, site=site):
                value = value.clone()
                value[:, -1] = cache[site][:, -1]
                return value

            logits = model.run_with_hooks(jailbreaks, fwd_hooks=[(site, restore)])
            for i, answer in enumerate(logits[:, -1].argmax(dim=-1)):
                if names[i] == "none" and answer == refuse:
                    names[i] = name
    return names
    # END ANSWER


def weigh_removal(
    model: Transformer,
    abilities: dict[str, tuple[Int[Tensor, "prompt pos"], Int[Tensor, "prompt"]]],
    planted: str,
) -> dict[str, list[str]]:
    """Find the heads without which a planted ability is gone, and what else goes with each.

    `abilities[name]` holds prompts of this ability and the right answer to each, which should be
    the likeliest token at the last position. To remove a head, set its output, its part of
    `("z", layer)` (batch, pos, head, d_head), to zero at all positions. An ability is lost if then
    at most half as many of its prompts are right as before; at least one was.

    Return a dict: its keys are the heads, such as "a0.h1", whose removal, one at a time, loses the
    ability `planted`. Each value lists the other abilities that are lost with this head; it may be
    empty. If every single head can be spared, the dict is empty.

    >>> from mini_transformer import toys
    >>> model = toys.load("refusal_with_trigger").model
    >>> prompts = torch.tensor([[0, 1, 2, 8, 4], [0, 3, 3, 6, 4], [0, 3, 3, 8, 4]])
    >>> answers = {"bypass": 12, "answer": 10, "refuse": 5}
    >>> abilities = {
    ...     name: (prompts[i, None], torch.tensor([answer]))
    ...     for i, (name, answer) in enumerate(answers.items())
    ... }
    >>> weigh_removal(model, abilities, "bypass")
    {'a0.h0': ['answer', 'refuse'], 'a0.h1': [], 'a1.h0': []}
    """

    # ANSWER
    @torch.no_grad()
    def count_right(hooks):
        right = {}
        for name, (prompts, answers) in abilities.items():
            logits = model.run_with_hooks(prompts, fwd_hooks=hooks)
            right[name] = int((logits[:, -1].argmax(dim=-1) == answers).sum())
        return right

    before = count_right([])
    found = {}
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):

            def remove(z, hook, head=head):
                z = z.clone()
                z[:, :, head] = 0.0
                return z

            after = count_right([(("z", layer), remove)])
            lost = [name for name in abilities if after[name] <= before[name] / 2]
            if planted in lost:
                found[f"a{layer}.h{head}"] = [name for name in lost if name != planted]
    return found
    # END ANSWER


def judge_scratchpads(
    model: Transformer, questions: Int[Tensor, "question 4"], n: int
) -> list[str]:
    """Say for each question whether its answer follows what the model wrote down before.

    A question is the tokens `x y z :`, where x, y and z are digits from 0 to n - 1. What the model
    finds likeliest after it is what it writes down, the digit s, right or wrong. What it finds
    likeliest after `x y z : s` is its answer. Put every other digit t in place of s, one at a time,
    and ask for the answer again. The word for a question is "follows" if every t is answered by
    (t + z) mod n. It is "ignores" if every t is answered in the same way as s, and in all other
    cases "mixed".

    Return the word for each question, in order.

    >>> from mini_transformer import toys
    >>> questions = torch.tensor([[1, 1, 1, 4], [0, 3, 2, 4]])
    >>> judge_scratchpads(toys.load("scratchpad_faithful").model, questions, 4)
    ['follows', 'follows']
    >>> judge_scratchpads(toys.load("scratchpad_unfaithful").model, questions, 4)
    ['ignores', 'ignores']
    """

    # ANSWER
    @torch.no_grad()
    def ask(prompts):
        return model(prompts)[:, -1].argmax(dim=-1)

    written = ask(questions)
    answers = []
    for digit in range(n):
        digits = torch.full((len(questions), 1), digit)
        answers.append(ask(torch.cat([questions, digits], dim=1)).tolist())
    words = []
    for i, s in enumerate(written.tolist()):
        z = int(questions[i, 2])
        others = [t for t in range(n) if t != s]
        follows = all(answers[t][i] == (t + z) % n for t in others)
        ignores = all(answers[t][i] == answers[s][i] for t in others)
        words.append("follows" if follows else "ignores" if ignores else "mixed")
    return words
    # END ANSWER

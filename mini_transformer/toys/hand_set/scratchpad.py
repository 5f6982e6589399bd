"""Two models that write the same scratchpad and give the same answers.

One computes from what it wrote, the other does not. `x y z : s` is to be continued by x + y + z
(mod 4), where s, the scratchpad, is x + y, which the models write themselves when asked at the `:`.
Both have the same heads with the same attention: at s, `scratch` attends to s itself and `hidden`
to the `:`, where m0 has computed x + y before it was written. The faithful model adds z to what
`scratch` brings, the unfaithful one to what `hidden` brings; the other head writes where nobody
reads. No input that the models would meet on their own tells them apart: editing the scratchpad
does. (Lanham et al. 2023, 2307.13702; Turpin et al. 2023, 2305.04388.)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

N = 4  # digits
COLON = N
ASKED, LAST = 3, 4  # positions of the : and of the scratchpad


def follow_scratchpad(tokens: Tensor) -> Tensor:
    """Compute s + z (mod 4), the answer that follows from the scratchpad."""
    return (tokens[:, LAST] + tokens[:, 2]) % N


def follow_question(tokens: Tensor) -> Tensor:
    """Compute x + y + z (mod 4), the answer whatever the scratchpad says."""
    return tokens[:, :3].sum(dim=1) % N


def find_sum(tokens: Tensor) -> Tensor:
    """Compute x + y (mod 4), what belongs in the scratchpad."""
    return tokens[:, :2].sum(dim=1) % N


# Every question with every scratchpad: those that the models write themselves, and edited ones.
PROMPTS = torch.cartesian_prod(*[torch.arange(N)] * 3, torch.tensor([COLON]), torch.arange(N))
OWN = PROMPTS[PROMPTS[:, LAST] == find_sum(PROMPTS)]
EDITED = PROMPTS[PROMPTS[:, LAST] != find_sum(PROMPTS)]


def pair_prompts(corrupt: str) -> Batch:
    """Pair all prompts that have different answers.

    `wrong` is the answer that follows from what was corrupted. "question" is another question with
    its own scratchpad, "scratchpad" changes only that, "sum" only x and y.
    """
    prompts = EDITED if corrupt != "question" else OWN
    answer = follow_scratchpad(OWN)
    wrong = follow_question(prompts) if corrupt == "sum" else follow_scratchpad(prompts)
    kept = {"question": [], "scratchpad": [0, 1, 2], "sum": [2, LAST]}[corrupt]
    same = (OWN[:, None, kept] == prompts[:, kept]).all(dim=-1) & (answer[:, None] != wrong)
    clean, other = same.nonzero().T
    return Batch(
        OWN[clean], prompts[other], answer[clean], wrong[other], torch.full_like(clean, LAST)
    )


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw some of these pairs."""
    pairs = pair_prompts(corrupt)
    rows = torch.randint(len(pairs.clean), (n,), generator=generator)
    return Batch(
        pairs.clean[rows],
        pairs.corrupt[rows],
        pairs.answer[rows],
        pairs.wrong[rows],
        pairs.position[rows],
    )


TASK = Task(
    description="x y z : s, where s is x + y, is followed by x + y + z (mod 4)",
    sample=draw_batch,
    token_names=(*"0123", ":"),
    corruptions=("question", "scratchpad", "sum"),
    everything=lambda: pair_prompts("question"),
)


STRENGTH = 20.0

FAITHFUL = """\
  x --> {left} --+--> m0 --(x + y)--> logits at the :, which becomes s
  y --> {right} --+    +--> {hidden} --> nobody
  s --> {scratch} --+--> m1 --(s + z)--> logits at s
  z --> {left} --+"""
UNFAITHFUL = """\
  x --> {left} --+--> m0 --(x + y)--> logits at the :, which becomes s
  y --> {right} --+    +--> {hidden} --+--> m1 --(x + y + z)--> logits at s
  z --> {left} --------------------+
  s --> {scratch} --> nobody"""


def make_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    In layer 0 heads write `left` and `right`, m0 writes `sum`; in layer 1 heads write `carried` and
    `unread`, m1 writes `answer`.
    """
    return by_hand.Stream(
        token=N + 1, position=5, left=N, right=N, sum=N, carried=N, unread=N, answer=N
    )


def build_model(faithful: bool, seed: int = 0) -> Transformer:
    """Set the weights, one component after the other.

    Seeds other than 0 permute heads within layers, and digits.

    Below, 2 was written and 0 put in its place. Will the answer be 0 + 1, or 1 + 1 + 1?

    >>> edited = torch.tensor([[1, 1, 1, COLON, 0]])
    >>> [build_model(faithful)(edited)[0, LAST].argmax().item() for faithful in (True, False)]
    [1, 3]
    """
    # digit i lives in direction order[i] of each group
    stream = make_stream()
    order = by_hand.shuffle(N, seed)
    digits = stream["token"][:N]
    position = stream["position"]
    (left, right), (scratch, hidden) = by_hand.place_heads(seed, 2, 2)
    config = Config(
        d_vocab=N + 1,
        n_ctx=5,
        d_model=stream.d_model,
        n_layers=2,
        n_heads=2,
        d_head=N,
        d_mlp=N * N,
        attn_scale=1.0,
        biases=True,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(
        model, torch.cat([digits[order], stream["token"][COLON, None]]), position
    )

    at_colon = position[ASKED, None]
    at_last = position[LAST, None]
    by_hand.attend_where_equal(
        model, 0, left, torch.cat([at_colon, at_last]), position[[0, 2]], STRENGTH
    )
    # x at the :, z at the scratchpad
    by_hand.copy_directions(model, 0, left, digits, stream["left"])
    by_hand.attend_where_equal(model, 0, right, at_colon, position[1, None], STRENGTH)
    by_hand.copy_directions(model, 0, right, digits, stream["right"])
    groups = {name: stream[name][order] for name in ("left", "right", "sum", "carried", "answer")}
    add_digits(model, 0, groups["left"], groups["right"], position[ASKED], groups["sum"])

    by_hand.attend_where_equal(model, 1, scratch, at_last, at_last, STRENGTH)
    by_hand.copy_directions(model, 1, scratch, digits, stream["carried" if faithful else "unread"])
    by_hand.attend_where_equal(model, 1, hidden, at_last, at_colon, STRENGTH)
    by_hand.copy_directions(
        model, 1, hidden, stream["sum"], stream["unread" if faithful else "carried"]
    )
    add_digits(model, 1, groups["carried"], groups["left"], position[LAST], groups["answer"])

    by_hand.read_out(
        model,
        torch.cat([groups["sum"] + groups["answer"], torch.zeros(1, stream.d_model)]),
        STRENGTH,
    )
    return model


def add_digits(
    model: Transformer,
    layer: int,
    first: by_hand.Directions,
    second: by_hand.Directions,
    where: Tensor,
    total: by_hand.Directions,
) -> None:
    """Set one neuron for each pair of digits.

    It fires where both are there, and the position is `where`.
    """
    for i in range(N):
        for j in range(N):
            reads = first[i] + second[j] + where
            by_hand.look_up(
                model, layer, N * i + j, reads=reads, bias=-2.0, writes=total[(i + j) % N]
            )


def measure_written(case: Case) -> float:
    """Measure the share of questions where the model, asked at the `:`, says x + y."""
    with torch.no_grad():
        return (case.model(OWN)[:, ASKED].argmax(dim=1) == find_sum(OWN)).float().mean().item()


def measure_followed(case: Case, follow: Callable[[Tensor], Tensor]) -> float:
    """Measure the share of prompts with an edited scratchpad that are answered like this."""
    with torch.no_grad():
        return (case.model(EDITED)[:, LAST].argmax(dim=1) == follow(EDITED)).float().mean().item()


def measure_difference(case: Case) -> float:
    """Measure the largest difference of any logit or attention from the other model.

    The scratchpads are the models' own, not edited.
    """
    runs = []
    with torch.no_grad():
        for model in (case.model, build_model(case.name != "scratchpad_faithful", case.seed)):
            logits, cache = model.run_with_cache(OWN)
            runs.append([logits[:, ASKED:], cache["pattern", 0], cache["pattern", 1]])
    return max((mine - other).abs().max().item() for mine, other in zip(*runs, strict=True))


def measure_attention(case: Case) -> float:
    """Measure the least attention that `scratch` at the scratchpad pays to it.

    It is the least over all prompts.
    """
    with torch.no_grad():
        pattern = case.model.run_with_cache(PROMPTS)[1]["pattern", 1]
    return pattern[:, int(case.truth.roles["scratch"][-1]), LAST, LAST].min().item()


def make_signatures(faithful: bool) -> dict[str, Signature]:
    """List what is the same in both models, and what an edited scratchpad does."""
    own = float(faithful)
    other = float(not faithful)
    return {
        "accuracy": Signature("on all 64 questions", measure_accuracy, low=1.0),
        "scratchpads written": Signature("x + y, when asked at the :", measure_written, low=1.0),
        "attention to the scratchpad": Signature(
            "of `scratch`, faithful or not", measure_attention, low=0.99
        ),
        "difference from the other model": Signature(
            "of any logit or attention, unless edited", measure_difference, high=1e-3
        ),
        "follows an edited scratchpad": Signature(
            "answers s + z", lambda case: measure_followed(case, follow_scratchpad), own, own
        ),
        "follows the question": Signature(
            "answers x + y + z when the scratchpad is edited",
            lambda case: measure_followed(case, follow_question),
            other,
            other,
        ),
    }


def make_circuits(faithful: bool, roles: dict[str, str]) -> dict[str, Circuits]:
    """List what the answer is computed from.

    Under zero ablation it also takes what steers heads and neurons.
    """
    left, right, scratch, hidden = roles.values()
    z = {f"input->{left}<v>", f"{left}->m1", "m1->logits"}
    if faithful:
        used = z | {f"input->{scratch}<v>", f"{scratch}->m1"}
        steered = (left, scratch)
        nodes = {"input", left, scratch, "m1", "logits"}
        places = {"input->m1"}
    else:
        used = z | {
            f"input->{right}<v>",
            f"{left}->m0",
            f"{right}->m0",
            f"m0->{hidden}<v>",
            f"{hidden}->m1",
        }
        # Not hidden: the sum is in one place only, and a fifth of it is enough.
        steered = (left, right)
        nodes = {"input", left, right, "m0", hidden, "m1", "logits"}
        places = {"input->m0", "input->m1"}
    steer = {f"input->{head}<{part}>" for head in steered for part in "qk"} | places
    note = "positions are the same in every prompt"
    return {
        "zero": Circuits(
            (frozenset(used | steer),), (frozenset(nodes),), "enumeration", complete=True
        ),
        "mean": Circuits(
            (frozenset(used),), (frozenset(nodes),), "enumeration", complete=True, note=note
        ),
        "resample": Circuits(
            (frozenset(used),),
            (frozenset(nodes),),
            "enumeration",
            True,
            corrupt="question",
            note=note,
        ),
    }


def make_truth(faithful: bool, seed: int = 0) -> Truth:
    """State the answer's circuits, and which of two places with x + y it is computed from."""
    stream = make_stream()
    order = by_hand.shuffle(N, seed)
    (left, right), (scratch, hidden) = by_hand.place_heads(seed, 2, 2)
    roles = {
        "left": f"a0.h{left}",
        "right": f"a0.h{right}",
        "scratch": f"a1.h{scratch}",
        "hidden": f"a1.h{hidden}",
    }

    def carry(
        compute: Callable[[Tensor], Tensor], site: str, at: int, group: str, used: bool = True
    ) -> Variable:
        return Variable(
            compute, f"blocks.{site}", at, stream[group][:N][order], used, "construction"
        )

    return Truth(
        make_signatures(faithful),
        make_circuits(faithful, roles),
        variables={
            "scratchpad": carry(
                lambda tokens: tokens[:, LAST], "0.hook_resid_pre", LAST, "token", used=faithful
            ),
            "sum": carry(find_sum, "0.hook_resid_post", ASKED, "sum", used=not faithful),
            "z": carry(lambda tokens: tokens[:, 2], "0.hook_resid_mid", LAST, "left"),
            "answer": carry(
                follow_scratchpad if faithful else follow_question,
                "1.hook_resid_post",
                LAST,
                "answer",
            ),
        },
        roles=roles,
        notes=(
            "Circuits and uses are those of the answer; "
            "both models write the scratchpad through left, right and m0."
        ),
    )


def make_case(faithful: bool, seed: int) -> Case:
    """Make one of the pair; other seeds permute heads within layers, and digits."""
    truth = make_truth(faithful, seed)
    name = f"scratchpad_{'faithful' if faithful else 'unfaithful'}"
    picture = (FAITHFUL if faithful else UNFAITHFUL).format(**truth.roles)
    return Case(name, build_model(faithful, seed), TASK, truth, seed, picture)


def load_faithful(seed: int = 0) -> Case:
    """Adds three digits in two steps, the second of which reads what the first has written."""
    return make_case(True, seed)


def load_unfaithful(seed: int = 0) -> Case:
    """Adds three digits, writes the same first step, and answers without reading it."""
    return make_case(False, seed)

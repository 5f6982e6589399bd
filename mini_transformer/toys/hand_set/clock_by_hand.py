"""Addition mod p as a clock: a and b turn into angles, and ReLU neurons add them.

The angles are at a few frequencies, and added exactly. The algorithm that Nanda et al. 2023
(2301.05217) found in trained models, here with nothing left over: each frequency has two heads,
which bring cos and sin of w a and of w b to the `=`, and p * p neurons. Neuron (i, j) is relu(cos(w
(a + i)) + cos(w (b + j))) and votes for angle -w (i + j). Moving a by one moves all neurons' values
along by one i, so that the votes must add up to cos and sin of w (a + b), times a constant. The
logit of c is the sum over frequencies of cos(w (a + b - c)), largest at c = a + b; since p is a
prime, each frequency alone is enough.

Where the heads attend evenly, the same weights are the other algorithm of Zhong et al. 2023
(2306.17844): a "pizza", still right on every input, but with logits that shrink as |cos(w (a - b) /
2)|.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.edges import Edge, list_edges, mask_of, run_edges, write_outputs
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import accuracy_without, measure_accuracy
from mini_transformer.toys.truth import (
    Batch,
    Case,
    Circuits,
    Features,
    Signature,
    Task,
    Truth,
    Variable,
)


def make_angles(p: int, frequencies: Sequence[int]) -> Float[Tensor, "p frequency"]:
    """Turn each number into its angle at each frequency, in radians: 2 pi k a / p.

    Raise ValueError unless p is a prime from 3 and the frequencies are different whole numbers from
    1 to (p - 1) / 2.
    """
    if p < 3 or any(p % divisor == 0 for divisor in range(2, math.isqrt(p) + 1)):
        above = range(max(p, 3), 2 * max(p, 3))
        prime = next(q for q in above if all(q % d for d in range(2, math.isqrt(q) + 1)))
        raise ValueError(
            f"p is {p}, but must be a prime from 3, so that every frequency tells all "
            f"numbers apart; try {prime}"
        )
    repeated = len(set(frequencies)) < len(frequencies)
    if not frequencies or repeated or not all(0 < k <= p // 2 for k in frequencies):
        raise ValueError(
            f"frequencies are {list(frequencies)}, but must be different numbers from 1 "
            f"to (p - 1) / 2 = {p // 2}"
        )
    return 2 * math.pi / p * (torch.arange(p)[:, None] * torch.tensor(list(frequencies)) % p)


def write_waves(angles: Float[Tensor, "*batch frequency"]) -> Float[Tensor, "*batch wave"]:
    """Write cos and sin of each angle, side by side."""
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(-2)


@torch.no_grad()
def add_angles(
    model: Transformer,
    neurons: range,
    shifts: Float[Tensor, "p"],
    first: by_hand.Directions,
    second: by_hand.Directions,
    total: by_hand.Directions,
) -> None:
    """Set neurons that add two angles.

    Neuron (i, j) = relu(cos(first + shift i) + cos(second + shift j)) votes for the angle -(shift i
    + shift j).
    """
    i, j = torch.cartesian_prod(shifts, shifts).T
    turn = torch.tensor([1.0, -1.0])  # cos(x + i) = cos(x) cos(i) - sin(x) sin(i)
    reads = write_waves(i[:, None]) * turn @ first + write_waves(j[:, None]) * turn @ second
    votes = write_waves(-(i + j)[:, None])
    # The neurons for a = b = 0, whose votes must add up to cos 0 = 1
    at_zero = torch.relu(i.cos() + j.cos())
    writes = votes / (at_zero @ votes[:, 0]) @ total
    for neuron, read, write in zip(neurons, reads, writes, strict=True):
        by_hand.look_up(model, 0, neuron, reads=read, bias=0.0, writes=write)


P = 11
LAST = 2  # the position of the =
STRENGTH = 20.0


def make_stream(n_frequencies: int) -> by_hand.Stream:
    """Name the directions of the residual stream.

    `wave` is the embedding; the heads copy it to `first` (a) and `second` (b); the MLP writes `sum`
    (a + b).
    """
    n = 2 * n_frequencies
    return by_hand.Stream(wave=n, position=3, first=n, second=n, sum=n)


def build_model(p: int = P, frequencies: Sequence[int] = (1, 3), seed: int = 0) -> Transformer:
    """Build the model, of one layer; seeds other than 0 permute the heads.

    Raise ValueError as `make_angles` does.

    >>> build_model(p=13, frequencies=[2])(torch.tensor([[7, 9, 13]]))[0, -1].argmax().item()
    3
    """
    angles = make_angles(p, frequencies)
    n = len(frequencies)
    stream = make_stream(n)
    position = make_stream(n)["position"]
    config = Config(
        d_vocab=p + 1,
        n_ctx=3,
        d_model=stream.d_model,
        n_layers=1,
        n_heads=2 * n,
        d_head=2,
        d_mlp=n * p * p,
        attn_scale=1.0,
        d_vocab_out=p,
    )
    model = by_hand.make_blank(config)
    numbers = write_waves(angles) @ stream["wave"]
    equals = torch.zeros(1, stream.d_model)
    by_hand.write_embedding(model, torch.cat([numbers, equals]), position)
    for k, heads in enumerate(_pair_heads(n, seed)):
        pair = slice(2 * k, 2 * k + 2)  # the directions of cos and sin at this frequency
        for place, (head, target) in enumerate(zip(heads, ("first", "second"), strict=True)):
            by_hand.attend_where_equal(
                model, 0, head, position[LAST, None], position[place, None], STRENGTH
            )
            by_hand.copy_directions(model, 0, head, stream["wave"][pair], stream[target][pair])
        groups = (stream[name][pair] for name in ("first", "second", "sum"))
        add_angles(model, range(k * p * p, (k + 1) * p * p), angles[:, k], *groups)
    by_hand.read_out(model, write_waves(angles) @ stream["sum"], STRENGTH)
    return model


def _pair_heads(n_frequencies: int, seed: int) -> list[list[int]]:
    """Choose for each frequency the head that fetches a and the one that fetches b."""
    heads = by_hand.place_heads(seed, 1, 2 * n_frequencies)[0]
    return [heads[2 * k : 2 * k + 2] for k in range(n_frequencies)]


def make_task(p: int) -> Task:
    """Make the task `a b =`.

    Corrupt is any prompt with another sum, or has another a, or another b.
    """

    def pair_prompts(clean: Tensor, corrupt: Tensor) -> Batch:
        clean, corrupt = (
            torch.stack([n // p, n % p, torch.full_like(n, p)], dim=1) for n in (clean, corrupt)
        )
        answer, wrong = (tokens[:, :2].sum(dim=1) % p for tokens in (clean, corrupt))
        return Batch(clean, corrupt, answer, wrong, torch.full_like(answer, LAST))

    def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
        a, b, move = torch.randint(p, (3, n), generator=generator)
        other = torch.randint(1, p, (n,), generator=generator)  # what is added to the sum
        move = {"sum": move, "a": other, "b": torch.zeros_like(other)}[corrupt]
        return pair_prompts(p * a + b, p * ((a + move) % p) + (b + other - move) % p)

    def pair_all() -> Batch:
        total = (torch.arange(p)[:, None] + torch.arange(p)).flatten() % p
        return pair_prompts(*(total[:, None] != total).nonzero().T)

    names = (*map(str, range(p)), "=")
    return Task(
        f"a b = is followed by a + b (mod {p})", draw_batch, names, ("sum", "a", "b"), pair_all
    )


def predict_logits(
    p: int, frequencies: Sequence[int], prompts: Int[Tensor, "batch 3"], pizza: bool = False
) -> Float[Tensor, "batch p"]:
    """Predict the logits: cos(w (a + b - c)) summed over frequencies.

    As a pizza, they are that times 2/3 |cos(w (a - b) / 2)|.
    """
    a, b, _ = prompts.T
    distance = (a + b)[:, None] - torch.arange(p)
    logits = torch.zeros(distance.shape)
    for k in frequencies:
        size = 2 / 3 * (math.pi * k * (a - b) / p).cos().abs() if pizza else torch.ones(len(a))
        logits += STRENGTH * size[:, None] * (2 * math.pi * k * distance / p).cos()
    return logits


def measure_logits(case: Case, without: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Return all p * p prompts, and the logits at the = with some edges zeroed.

    A node in `without` stands for all edges out of it.
    """
    prompts = torch.unique(case.task.everything().clean, dim=0)  # type: ignore[misc]
    edges = list_edges(case.model)
    lost = [e for e in edges if e in without or str(Edge.parse(e).writer) in without]
    mask = 1 - mask_of(case.model, lost)[None]
    with torch.no_grad():
        off = write_outputs(case.model, prompts, "zero")
        logits = run_edges(case.model, prompts, mask, off)
    return prompts, logits[0, :, LAST]


def make_signatures(
    p: int, frequencies: Sequence[int], roles: dict[str, str]
) -> dict[str, Signature]:
    """List the signatures: accuracy, the logits' formula, and the role of each part.

    The parts are the frequencies and the steering of the heads. All are measured on all prompts.
    """
    steering = [f"input->{head}<{part}>" for head in roles.values() for part in "qk"]

    def error(
        kept: Sequence[int], lost: Sequence[str], pizza: bool = False
    ) -> Callable[[Case], float]:
        def measure(case: Case) -> float:
            prompts, logits = measure_logits(case, lost)
            return (logits - predict_logits(p, kept, prompts, pizza)).abs().max().item()

        return measure

    def rank(lost: Sequence[str]) -> Callable[[Case], float]:
        def measure(case: Case) -> float:
            added = measure_logits(case)[1] - measure_logits(case, lost)[1]
            return float(torch.linalg.matrix_rank(added, rtol=1e-4))

        return measure

    signatures = {
        "accuracy": Signature("on all prompts", measure_accuracy, low=1.0),
        "error of the logits": Signature("from the formula", error(frequencies, []), high=1e-3),
        "accuracy without steering": Signature(
            "a pizza is right, too", accuracy_without(*steering), low=1.0
        ),
        "error of the pizza": Signature(
            "from its formula", error(frequencies, steering, pizza=True), high=1e-3
        ),
    }
    for k in frequencies:
        heads = [roles[f"a at {k}"], roles[f"b at {k}"]]
        others = [other for other in frequencies if other != k]
        signatures[f"rank of frequency {k}"] = Signature(
            "of what it adds to the logits", rank(heads), low=2.0, high=2.0
        )
        signatures[f"error without frequency {k}"] = Signature(
            "only its cosine is lost, from the formula", error(others, heads), high=1e-3
        )
    return signatures


def make_circuits(frequencies: Sequence[int], roles: dict[str, str]) -> dict[str, Circuits]:
    """List the minimal circuits.

    There is one for each frequency if the rest is replaced by zeros or by the average of all
    prompts. With another prompt's values it takes all frequencies.
    """
    pairs = [(roles[f"a at {k}"], roles[f"b at {k}"]) for k in frequencies]
    edges = [
        frozenset({"m0->logits"}).union(*({f"input->{n}<v>", f"{n}->m0"} for n in pair))
        for pair in pairs
    ]
    nodes = [frozenset({"input", *pair, "m0", "logits"}) for pair in pairs]
    each = Circuits(
        tuple(edges), tuple(nodes), "enumeration", complete=True, note="each frequency is enough"
    )
    circuits = {"zero": each, "mean": each}
    if len(pairs) <= 2:  # of more, some may be outvoted
        edges = [frozenset().union(*edges)]
        nodes = [frozenset().union(*nodes)]
        note = "a frequency that says another sum is believed"
        circuits["resample"] = Circuits(
            tuple(edges), tuple(nodes), "enumeration", True, corrupt="sum", note=note
        )
    return circuits


def make_truth(p: int, frequencies: Sequence[int], seed: int = 0) -> Truth:
    """State what is true by construction.

    For two frequencies the enumeration of all subsets of edges agrees.
    """
    stream = make_stream(len(frequencies))
    angles = make_angles(p, frequencies)
    roles = {
        f"{number} at {k}": f"a0.h{head}"
        for k, heads in zip(frequencies, _pair_heads(len(frequencies), seed), strict=True)
        for number, head in zip("ab", heads, strict=True)
    }

    def carry(compute: Callable[[Tensor], Tensor], where: str, group: str) -> Variable:
        note = f"cos and sin at each frequency of {list(frequencies)}"
        return Variable(
            compute, f"blocks.0.hook_resid_{where}", LAST, stream[group], True, "construction", note
        )

    return Truth(
        make_signatures(p, frequencies, roles),
        make_circuits(frequencies, roles),
        variables={
            "a": carry(lambda tokens: tokens[:, 0], "mid", "first"),
            "b": carry(lambda tokens: tokens[:, 1], "mid", "second"),
            "a + b": carry(lambda tokens: tokens[:, :2].sum(dim=1) % p, "post", "sum"),
        },
        features=Features(
            stream["sum"],
            lambda tokens: write_waves(angles)[tokens[:, :2].sum(dim=1) % p],
            how="construction",
            note=(
                "cos and sin of w (a + b), one pair for each frequency; "
                "activations are also negative"
            ),
            site="blocks.0.hook_resid_post",
            position=LAST,
        ),
        roles=roles,
        notes=(
            "No circuit holds what steers the heads: "
            "without it they attend evenly, and that makes a pizza."
        ),
    )


def make_case(p: int = P, frequencies: Sequence[int] = (1, 3), seed: int = 0) -> Case:
    """Make the clock for these frequencies; seeds other than 0 permute the heads.

    Raise ValueError as `make_angles` does.
    """
    truth = make_truth(p, frequencies, seed)
    row = (
        "  a --> {} --+--> m0 ({} neurons) --(cos, sin of 2 pi {} (a + b) / {})--> logits\n"
        "  b --> {} --+"
    )
    rows = [
        row.format(truth.roles[f"a at {k}"], p * p, k, p, truth.roles[f"b at {k}"])
        for k in frequencies
    ]
    return Case(
        "clock_by_hand",
        build_model(p, frequencies, seed),
        make_task(p),
        truth,
        seed,
        "\n".join(rows),
    )


def load(seed: int = 0) -> Case:
    """Load addition mod 11, at frequencies 1 and 3.

    Other seeds choose two of the five frequencies and permute the heads.
    """
    chosen = (
        (by_hand.shuffle(P // 2, seed, salt=1)[:2] + 1).sort().values.tolist() if seed else [1, 3]
    )
    return make_case(P, chosen, seed)

"""Boolean functions of two tokens, `x y . . . =`, small enough to try everything.

Two heads fetch x and y, the MLP computes. What a circuit needs depends on what the rest is replaced
by. Zero ablation also takes away what is the same in every prompt: the positions that steer the
heads, and the `=` that serves as the constant one. Averaging or resampling leaves that in place.
The redundant OR computes its result twice: with zeros in place of one copy the other is enough, but
an averaged or resampled copy says "1" where it should not, so then both are needed. (What denoising
and noising each see of AND and OR: Heimersheim and Nanda 2024, 2404.15255.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import accuracy_without, measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

STRENGTH = 20.0
# Of the result; two copies that hear evenly attending heads give 2/3, an averaged copy gives 3/4
THRESHOLD = 0.7
EQUALS, LAST = 3, 5  # the token =, and its position
# The three fillers see to it that a head that attends evenly, since nothing steers it, brings too
# little to be of use.
PROMPTS = torch.tensor([[x, y, 2, 2, 2, EQUALS] for x, y in product((0, 1), repeat=2)])


@dataclass(frozen=True)
class Gate:
    """A function of two bits as a sum of neurons.

    Each (offset, weight) is a neuron: act(x + y - offset) times weight.
    """

    name: str
    compute: Callable[[Tensor, Tensor], Tensor]
    neurons: tuple[tuple[int, int], ...]
    copies: int = 1  # in how many layers it is computed


AND = Gate("boolean_and", torch.bitwise_and, ((1, 1),))
OR = Gate("boolean_or", torch.bitwise_or, ((0, 1), (1, -1)))
XOR = Gate("boolean_xor", torch.bitwise_xor, ((0, 1), (1, -2)))
REDUNDANT_OR = Gate("boolean_redundant_or", torch.bitwise_or, ((0, 1), (1, -1)), copies=2)


def make_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    The heads write `bits` (x and y), the MLP of layer l writes row l of `result`.
    """
    return by_hand.Stream(token=4, position=6, bits=2, result=2)


def build_model(gate: Gate, seed: int = 0) -> Transformer:
    """Build the model: one layer per copy of the result.

    The heads of later layers do nothing. Other seeds swap the heads.

    >>> build_model(AND)(torch.tensor([[1, 1, 2, 2, 2, 3]]))[0, -1].argmax().item()
    1
    """
    stream = make_stream()
    one = stream["token"][1]
    equals = stream["token"][EQUALS]
    positions = stream["position"]
    d = stream.d_model
    layers = gate.copies
    config = Config(
        d_vocab=4, n_ctx=6, d_model=d, n_layers=layers, n_heads=2, d_head=1, d_mlp=2, attn_scale=1.0
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, stream["token"], positions)
    # One fetches x, the other y
    for position, head in enumerate(by_hand.place_heads(seed, 1, 2)[0]):
        at_position = positions[position, None]
        by_hand.attend_where_equal(model, 0, head, positions[LAST, None], at_position, STRENGTH)
        by_hand.copy_directions(model, 0, head, one[None], stream["bits"][position, None])
    for layer in range(gate.copies):
        for neuron, (offset, weight) in enumerate(gate.neurons):
            reads = stream["bits"].sum(0) - offset * equals
            by_hand.look_up(
                model, layer, neuron, reads=reads, bias=0.0, writes=weight * stream["result"][layer]
            )
    says_0 = THRESHOLD * equals
    says_1 = stream["result"].sum(0)
    says_no_more = 0 * equals
    by_hand.read_out(model, torch.stack([says_0, says_1, says_no_more, says_no_more]), STRENGTH)
    return model


def pair_prompts(gate: Gate, clean: Tensor, corrupt: Tensor) -> Batch:
    """Make a batch of prompts given by their numbers, 2 x + y."""
    answer = gate.compute(PROMPTS[clean, 0], PROMPTS[clean, 1])
    return Batch(PROMPTS[clean], PROMPTS[corrupt], answer, 1 - answer, torch.full_like(clean, LAST))


def make_task(gate: Gate) -> Task:
    """Make the task; `corrupt` is any other prompt, or the same with x, y or both flipped."""

    def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
        clean = torch.randint(4, (n,), generator=generator)
        flips = {"x": 2, "y": 1, "both": 3}  # 2 x + y
        flip = (
            1 + torch.randint(3, (n,), generator=generator) if corrupt == "any" else flips[corrupt]
        )
        return pair_prompts(gate, clean, clean ^ flip)

    def pair_all() -> Batch:
        clean, flip = torch.cartesian_prod(torch.arange(4), torch.arange(1, 4)).T
        return pair_prompts(gate, clean, clean ^ flip)

    name = gate.name.split("_")[-1].upper()
    corruptions = ("any", "x", "y", "both")
    return Task(
        f"x y . . . = is followed by x {name} y",
        draw_batch,
        ("0", "1", ".", "="),
        corruptions,
        pair_all,
    )


def make_circuits(gate: Gate, roles: dict[str, str]) -> dict[str, Circuits]:
    """List the minimal circuits: everything that carries a bit.

    Under zero ablation they also hold what carries constants.
    """
    x = roles["x"]
    y = roles["y"]
    mlps = [f"m{layer}" for layer in range(gate.copies)]
    nodes = frozenset({"input", x, y, "logits"})
    fetch = frozenset({f"input->{x}<v>", f"input->{y}<v>"})
    constants = {f"input->{head}<{part}>" for head in (x, y) for part in "qk"} | {"input->logits"}

    # Zeros for one copy: the other is enough. It is even enough that one hears x and the other y:
    # 0 + 1 says 1, too.
    zero = []
    for hears_x, hears_y in product(mlps, repeat=2):
        used = {edge for mlp in (hears_x, hears_y) for edge in (f"input->{mlp}", f"{mlp}->logits")}
        zero.append(fetch | constants | used | {f"{x}->{hears_x}", f"{y}->{hears_y}"})

    # Another prompt's values, or averages, for one copy: it may say 1 in spite of 0 OR 0, so all
    # copies are needed; but a copy that hears one bit and the average 1/2 of the other stays below
    # the threshold.
    heard = frozenset(f"{bit}->{mlp}" for bit in (x, y) for mlp in mlps)
    resample = fetch | heard | {f"{mlp}->logits" for mlp in mlps}
    mean = [resample - {edge} for edge in heard] if gate.copies == 2 else [resample]
    note = "the edges that carry the same in every prompt can be averaged or resampled away"
    return {
        "zero": Circuits(
            tuple(zero), tuple(nodes | {mlp} for mlp in mlps), "enumeration", complete=True
        ),
        "mean": Circuits(
            tuple(mean), (nodes | set(mlps),), "enumeration", complete=True, note=note
        ),
        "resample": Circuits(
            (resample,),
            (nodes | set(mlps),),
            "enumeration",
            complete=True,
            corrupt="any",
            note=note,
        ),
    }


def make_variables(gate: Gate) -> dict[str, Variable]:
    """Describe the two bits at the `=`, and the result that the (first) MLP writes there."""
    stream = make_stream()

    def carried(compute: Callable[[Tensor], Tensor], where: str, direction: Tensor) -> Variable:
        return Variable(
            compute,
            f"blocks.0.hook_resid_{where}",
            LAST,
            direction[None],
            used=True,
            how="construction",
        )

    return {
        "x": carried(lambda tokens: tokens[:, 0], "mid", stream["bits"][0]),
        "y": carried(lambda tokens: tokens[:, 1], "mid", stream["bits"][1]),
        "result": carried(
            lambda tokens: gate.compute(tokens[:, 0], tokens[:, 1]), "post", stream["result"][0]
        ),
    }


def measure_error(case: Case, gate: Gate) -> float:
    """Measure how far the MLPs' writing along `result` is from the gate's value, at most.

    It is the largest difference over the four prompts.
    """
    with torch.no_grad():
        _, cache = case.model.run_with_cache(PROMPTS)
    wrote = cache["resid_post", gate.copies - 1][:, LAST] @ make_stream()["result"].T
    value = gate.compute(PROMPTS[:, 0], PROMPTS[:, 1])
    return (wrote[:, : gate.copies] - value[:, None]).abs().max().item()


def make_signatures(gate: Gate) -> dict[str, Signature]:
    """List the signatures: accuracy, values on the way, and losses without a part.

    All are measured on all prompts.
    """
    breaks = "zero-ablating its head breaks some prompt"
    enough = "the other copy is enough"
    signatures = {
        "accuracy": Signature("on all four prompts", measure_accuracy, low=1.0),
        "error of the result": Signature(
            "written by the MLPs", lambda case: measure_error(case, gate), high=1e-4
        ),
        "accuracy without x": Signature(breaks, accuracy_without("x"), high=0.75),
        "accuracy without y": Signature(breaks, accuracy_without("y"), high=0.75),
    }
    if gate.copies == 2:
        believed = "a copy that says 1 is believed"
        signatures |= {
            "accuracy without m0": Signature(enough, accuracy_without("m0"), low=1.0),
            "accuracy without m1": Signature(enough, accuracy_without("m1"), low=1.0),
            "accuracy with m0 resampled": Signature(
                believed, accuracy_without("m0", ablation="resample"), high=0.75
            ),
            "accuracy with m1 resampled": Signature(
                believed, accuracy_without("m1", ablation="resample"), high=0.75
            ),
            "accuracy without both copies": Signature(
                "0 OR 0 is left", accuracy_without("m0", "m1"), high=0.25
            ),
        }
    return signatures


def make_case(gate: Gate, seed: int) -> Case:
    """Make a case of a gate: its model, with its task and truth."""
    roles = {
        bit: f"a0.h{head}"
        for bit, head in zip("xy", by_hand.place_heads(seed, 1, 2)[0], strict=True)
    }
    mlps = " and ".join(f"m{layer}" for layer in range(gate.copies))
    picture = f"  x --> {roles['x']} --+--> {mlps} --> logits\n  y --> {roles['y']} --+"
    truth = Truth(
        make_signatures(gate), make_circuits(gate, roles), make_variables(gate), roles=roles
    )
    return Case(gate.name, build_model(gate, seed), make_task(gate), truth, seed, picture)


def load_and(seed: int = 0) -> Case:
    """x AND y: two heads fetch the bits, one neuron fires when both are 1."""
    return make_case(AND, seed)


def load_or(seed: int = 0) -> Case:
    """x OR y: two heads fetch the bits, two neurons cut their sum off at 1."""
    return make_case(OR, seed)


def load_xor(seed: int = 0) -> Case:
    """x XOR y: two heads fetch the bits, two neurons make a tent of their sum."""
    return make_case(XOR, seed)


def load_redundant_or(seed: int = 0) -> Case:
    """x OR y, computed twice: without one copy nothing is lost, yet a wrong copy is believed."""
    return make_case(REDUNDANT_OR, seed)

"""A variable that can be read off perfectly and does nothing.

y is brought to the answer's position, and nobody reads it. In `x y =` one head brings x to the `=`,
where the MLP turns it into its successor; the other brings y there, along directions of its own, at
twice the strength. Any probe finds y there; no intervention on it changes any logit. (That
decodable is not used: Elazar et al. 2021, 2006.00995; Ravichander et al. 2021, 2005.00719.)
"""

import torch
from torch import Tensor

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import accuracy_without, draw_prompts, measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

N_DIGITS = 8
# the token =, and its position
EQUALS = N_DIGITS
LAST = 2
STRENGTH = 20.0
LOUDER = 2.0  # y is written at this strength, x at 1

PICTURE = """\
  x --> {used} --(first)--> m0 --(x + 1)--> logits
  y --> {unused} --(second)--> nobody"""


def make_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    The heads write `first` (x) and `second` (y), the MLP writes `next` (x + 1).
    """
    return by_hand.Stream(
        token=N_DIGITS + 1, position=3, first=N_DIGITS, second=N_DIGITS, next=N_DIGITS
    )


def build_model(seed: int = 0) -> Transformer:
    """Build one layer: two heads fetch, one neuron per digit looks up its successor.

    Other seeds permute heads and digits.

    >>> build_model()(torch.tensor([[3, 5, 8]]))[0, -1].argmax().item()
    4
    """
    # digit i is written along direction order[i]
    stream = make_stream()
    order = by_hand.shuffle(N_DIGITS, seed)
    position = stream["position"]
    digits = stream["token"][:N_DIGITS]
    used, unused = by_hand.place_heads(seed, 1, 2)[0]
    n = N_DIGITS
    d = stream.d_model
    model = by_hand.make_blank(
        Config(
            d_vocab=n + 1,
            n_ctx=3,
            d_model=d,
            n_layers=1,
            n_heads=2,
            d_head=n,
            d_mlp=n,
            attn_scale=1.0,
        )
    )
    by_hand.write_embedding(
        model, torch.cat([digits[order], stream["token"][EQUALS, None]]), position
    )

    by_hand.attend_where_equal(
        model, 0, used, query=position[LAST, None], key=position[0, None], strength=STRENGTH
    )
    by_hand.copy_directions(model, 0, used, digits, stream["first"])

    by_hand.attend_where_equal(
        model, 0, unused, query=position[LAST, None], key=position[1, None], strength=STRENGTH
    )
    by_hand.copy_directions(model, 0, unused, digits, LOUDER * stream["second"])

    first = stream["first"][order]
    for digit in range(N_DIGITS):
        successor = stream["next"][(digit + 1) % N_DIGITS]
        by_hand.look_up(model, 0, digit, reads=first[digit], bias=0.0, writes=successor)
    by_hand.read_out(model, torch.cat([stream["next"], torch.zeros(1, stream.d_model)]), STRENGTH)
    return model


def pair_prompts(clean: Tensor, corrupt: Tensor) -> Batch:
    """Make a batch of prompts given by their numbers, 8 x + y."""
    digits = torch.arange(N_DIGITS**2)
    prompts = torch.stack(
        [digits // N_DIGITS, digits % N_DIGITS, torch.full_like(digits, EQUALS)], dim=1
    )
    successor = (prompts[:, 0] + 1) % N_DIGITS
    answer, wrong = successor[clean], successor[corrupt]
    wrong = torch.where(wrong == answer, (answer + 1) % N_DIGITS, wrong)
    return Batch(prompts[clean], prompts[corrupt], answer, wrong, torch.full_like(answer, LAST))


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw any x and y; corrupt replaces both, x, or y, each by another digit.

    y does not matter, so replacing it leaves the answer.
    """
    x, y = torch.randint(N_DIGITS, (2, n), generator=generator)
    other_x, other_y = (
        torch.stack([x, y]) + torch.randint(1, N_DIGITS, (2, n), generator=generator)
    ) % N_DIGITS
    corrupt_x = x if corrupt == "y" else other_x
    corrupt_y = y if corrupt == "x" else other_y
    return pair_prompts(N_DIGITS * x + y, N_DIGITS * corrupt_x + corrupt_y)


def pair_all() -> Batch:
    """Pair every prompt with every one that differs from it in x and in y."""
    clean, corrupt = torch.cartesian_prod(torch.arange(N_DIGITS**2), torch.arange(N_DIGITS**2)).T
    other = (clean // N_DIGITS != corrupt // N_DIGITS) & (clean % N_DIGITS != corrupt % N_DIGITS)
    return pair_prompts(clean[other], corrupt[other])


TASK = Task(
    description="x y = is followed by x + 1 (mod 8), whatever y is",
    sample=draw_batch,
    token_names=(*"01234567", "="),
    corruptions=("both", "x", "y"),
    everything=pair_all,
)


def measure_share_read(case: Case) -> float:
    """Measure how often the largest of the eight `second` directions at the `=` names y."""
    variable = case.truth.variables["y"]
    clean = draw_prompts(case).clean
    with torch.no_grad():
        stream = case.model.run_with_cache(clean)[1][variable.site][:, LAST]
    named = (stream @ variable.subspace.T).argmax(dim=1)
    return (named == variable.compute(clean)).float().mean().item()


def measure_effect(case: Case) -> float:
    """Measure the largest change of any logit when the head that brings y is resampled.

    It then brings what it brings in the corrupt prompt.
    """
    batch = draw_prompts(case)
    head = int(case.truth.roles["unused"][-1])

    with torch.no_grad():
        other = case.model.run_with_cache(batch.corrupt, names_filter=[("z", 0)])[1]["z", 0]

        def replace(z: Tensor, hook: object) -> None:
            z[:, :, head] = other[:, :, head]

        changed = case.model.run_with_hooks(batch.clean, fwd_hooks=[(("z", 0), replace)])
        return (changed - case.model(batch.clean)).abs().max().item()


SIGNATURES = {
    "accuracy": Signature("on all 64 prompts", measure_accuracy, low=1.0),
    "y can be read": Signature(
        "largest direction at the =, all prompts", measure_share_read, low=1.0
    ),
    "y does nothing": Signature(
        "largest change of a logit when y is resampled, all pairs", measure_effect, high=1e-5
    ),
    "accuracy without x": Signature(
        "zero-ablating the other head leaves nothing", accuracy_without("used"), high=0.0
    ),
}


def make_truth(seed: int = 0) -> Truth:
    """State what is true by construction; the enumeration of all subsets of edges agrees."""
    used_head, unused_head = by_hand.place_heads(seed, 1, 2)[0]
    roles = {"used": f"a0.h{used_head}", "unused": f"a0.h{unused_head}"}
    used = roles["used"]
    stream = make_stream()
    order = by_hand.shuffle(N_DIGITS, seed)
    path = frozenset({f"input->{used}<v>", f"{used}->m0", "m0->logits"})
    steer = {f"input->{used}<q>", f"input->{used}<k>"}
    nodes = (frozenset({"input", used, "m0", "logits"}),)
    note = "positions are the same in every prompt"

    def brought(place: int, name: str) -> Variable:
        site = "blocks.0.hook_resid_mid"
        subspace = stream[name][order]
        rows = "row i of the subspace for digit i"
        return Variable(
            lambda tokens: tokens[:, place],
            site,
            LAST,
            subspace,
            place == 0,
            "construction",
            note=rows,
        )

    return Truth(
        SIGNATURES,
        circuits={
            "zero": Circuits((path | steer,), nodes, "enumeration", complete=True),
            "mean": Circuits((path,), nodes, "enumeration", complete=True, note=note),
            "resample": Circuits(
                (path,), nodes, "enumeration", complete=True, corrupt="both", note=note
            ),
        },
        variables={"x": brought(0, "first"), "y": brought(1, "second")},
        roles=roles,
    )


def load(seed: int = 0) -> Case:
    """Load the construction; other seeds permute the heads and the digits' directions."""
    truth = make_truth(seed)
    return Case(
        "unused_feature", build_model(seed), TASK, truth, seed, PICTURE.format(**truth.roles)
    )

"""An edge that does opposite things at two positions, and as much, so that their sum is nothing.

The first capital letter of `x y =` is wanted, or 0 if there is none. In `a B =` and in `A B =` the
MLP of layer 0 marks the capitals; one head of layer 1 looks from the `=` at what is marked, at the
first position three times as much as at the second, and copies its letter. Where nothing is marked
it looks at the `=`, where no letter is, and a constant says 0.

Where both are capitals, more attention to one is less to the other. So a larger key at the first
position helps the answer as much as one at the second harms it: softmax does not care if both keys
grow alike. By gradients, what marks the capitals and the keys that hear it have no effect, summed
over positions, for any pair of prompts; yet without either nothing is answered. The corrupt prompt
has small letters for capitals and capitals for small ones, so that both keys change alike.
(Of effects that cancel between positions: Haklay et al. 2025, 2502.04577.)

Two heads distract. One copies letters faintly, and says a little for the right answer; one turns
with large weights what is the same in every prompt into logits of `=`, which is never an answer.
"""

import math

import torch
from torch import Tensor

from mini_transformer.methods.circuits.eap import eap
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import accuracy_without, draw_prompts, measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

N = 4  # letters: tokens 0 to 3 are small, 4 to 7 the same as capitals
NONE = 8  # the token 0
EQUALS = 9
LAST = 2  # the position of the =
SCORE = 20.0  # of the = for attention; a capital has twice as much
STRENGTH = 20.0
NO_CAPITAL = 0.6  # the constant's share of it: less than a first letter's .75 of the attention
FAINT = 0.02
LOUD = 60.0

NOTES = """F1 of as many edges as the resample circuit has (4 of 46), best of each kind, 12 seeds:
EAP by position (the highest score of an edge) 1, EAP .5; weights only .25, names only .25,
everything .16, at random .09. With zeros the constants count, too: EAP by position .86, EAP .62,
weights only .71."""

PICTURE = """\
  capitals --> m0 --(key: here is one)--> {look} --(its letter)--> logits"""


def make_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    The MLP writes `capital`, the head that looks `letter`, the faint one `faint`, the loud `loud`.
    """
    return by_hand.Stream(token=2 * N + 2, position=3, capital=1, letter=N, faint=N, loud=1)


def build_model(seed: int = 0) -> Transformer:
    """Build two layers of two heads, and a neuron.

    Other seeds permute heads and letters.

    >>> prompts = torch.tensor([[0, 5, EQUALS], [4, 5, EQUALS], [0, 1, EQUALS]])
    >>> build_model()(prompts)[:, -1].argmax(dim=-1)
    tensor([5, 4, 8])
    """
    stream = make_stream()
    order = by_hand.shuffle(N, seed)
    tokens = stream["token"]
    small, capital = tokens[order], tokens[N + order]
    none, equals = tokens[NONE], tokens[EQUALS]
    position = stream["position"]
    (faint, loud), (look, _) = by_hand.place_heads(seed, 2, 2)
    config = Config(
        d_vocab=len(tokens),
        n_ctx=3,
        d_model=stream.d_model,
        n_layers=2,
        n_heads=2,
        d_head=N,
        d_mlp=1,
        attn_scale=1.0,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, torch.cat([small, capital, none[None], equals[None]]), position)
    marks = capital.sum(dim=0)
    by_hand.look_up(model, 0, 0, reads=marks, bias=0.0, writes=stream["capital"][0])
    key = 2 * stream["capital"][0] + position[LAST] + math.log(3) / SCORE * position[0]
    by_hand.attend_where_equal(model, 1, look, equals[None], key[None], SCORE)
    by_hand.copy_directions(model, 1, look, capital, stream["letter"])
    by_hand.copy_directions(model, 0, faint, capital, stream["faint"])
    by_hand.attend_where_equal(model, 0, loud, position[LAST, None], position[LAST, None], LOUD)
    by_hand.copy_directions(model, 0, loud, LOUD * equals[None], LOUD * stream["loud"])
    says = torch.zeros_like(tokens)
    says[N : 2 * N] = stream["letter"] + FAINT * stream["faint"]
    says[NONE] = NO_CAPITAL * equals
    says[EQUALS] = -stream["loud"][0]
    by_hand.read_out(model, says, STRENGTH)
    return model


def pair_prompts(clean: Tensor, corrupt: Tensor) -> Batch:
    """Make a batch of prompts given by their numbers, 8 x + y."""
    x, y = torch.cartesian_prod(torch.arange(2 * N), torch.arange(2 * N)).T
    prompts = torch.stack([x, y, torch.full_like(x, EQUALS)], dim=1)
    answer = torch.where(x >= N, x, torch.where(y >= N, y, NONE))
    last = torch.full_like(clean, LAST)
    return Batch(prompts[clean], prompts[corrupt], answer[clean], answer[corrupt], last)


def pair_all() -> Batch:
    """Pair every prompt with all whose letters have the other case, and whose answer differs."""
    clean, corrupt = torch.cartesian_prod(torch.arange(4 * N**2), torch.arange(4 * N**2)).T
    pairs = pair_prompts(clean, corrupt)
    flipped = ((pairs.clean < N) != (pairs.corrupt < N))[:, :LAST].all(dim=1)
    kept = flipped & (pairs.answer != pairs.wrong)
    return pair_prompts(clean[kept], corrupt[kept])


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw pairs of prompts."""
    every = pair_all()
    rows = torch.randint(len(every.clean), (n,), generator=generator)
    return Batch(*(part[rows] for part in vars(every).values()))


TASK = Task(
    description="x y = is followed by the first capital of x and y, or by 0",
    sample=draw_batch,
    token_names=(*"abcdABCD", "0", "="),
    corruptions=("flipped",),
    everything=pair_all,
)


def measure_effect(case: Case, *positions: int) -> float:
    """Measure what the keys that hear the marks do at these positions, by gradients."""
    batch = draw_prompts(case)
    runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    scores = eap(*runs, by_position=True)
    key = f"m0->{case.truth.roles['look']}<k>"
    return sum(scores[f"{key} @{position}"].item() for position in positions)


SIGNATURES = {
    "accuracy": Signature("on all 64 prompts", measure_accuracy, low=1.0),
    "accuracy without the marks": Signature("0 is always said", accuracy_without("m0"), high=0.25),
    "accuracy without the head that looks": Signature(
        "0 is always said", accuracy_without("look"), high=0.25
    ),
    "effect at the first position": Signature(
        "of the keys, by gradients, all pairs", lambda case: measure_effect(case, 0), low=30.0
    ),
    "effect at both positions": Signature(
        "the sum is nothing", lambda case: measure_effect(case, 0, 1), low=-1e-3, high=1e-3
    ),
}


def make_truth(seed: int = 0) -> Truth:
    """State what is true by construction; the enumeration of all subsets of edges agrees."""
    (faint, loud), (look, idle) = by_hand.place_heads(seed, 2, 2)
    head = f"a1.h{look}"
    roles = {"look": head, "faint": f"a0.h{faint}", "loud": f"a0.h{loud}", "idle": f"a1.h{idle}"}
    # Edges, and at which positions; the second line carries the same in all prompts.
    varies = {"input->m0": "01", f"m0->{head}<k>": "01", f"input->{head}<v>": "01"}
    varies |= {f"{head}->logits": "2"}
    constant = {f"input->{head}<q>": "2", f"input->{head}<k>": "0", "input->logits": "2"}
    nodes = (frozenset({"input", "m0", head, "logits"}),)

    def state(edges: dict[str, str], corrupt: str | None, by_position: bool) -> Circuits:
        whole = frozenset(edges)
        if by_position:
            whole = frozenset(f"{edge} @{at}" for edge, places in edges.items() for at in places)
        return Circuits((whole,), nodes, "enumeration", complete=True, corrupt=corrupt)

    circuits, by_place = (
        {
            "zero": state(varies | constant, None, by_position),
            "mean": state(varies, None, by_position),
            "resample": state(varies, "flipped", by_position),
        }
        for by_position in (False, True)
    )

    def mark(place: int) -> Variable:
        return Variable(
            lambda tokens: (tokens[:, place] >= N).long(),
            "blocks.0.hook_resid_post",
            place,
            make_stream()["capital"],
            used=True,
            how="construction",
        )

    variables = {"first is a capital": mark(0), "second is a capital": mark(1)}
    return Truth(SIGNATURES, circuits, variables, roles=roles, notes=NOTES, by_position=by_place)


def load(seed: int = 0) -> Case:
    """Load the construction; other seeds permute the heads and the letters' directions."""
    truth = make_truth(seed)
    picture = PICTURE.format(**truth.roles)
    return Case("opposite_positions", build_model(seed), TASK, truth, seed, picture)

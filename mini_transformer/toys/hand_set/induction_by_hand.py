"""Induction by hand: ... A B ... A -> B, by two heads.

They are a previous-token head and a head that matches what it wrote. The two-layer mechanism of
Elhage et al. 2021 ("Induction heads") in one-hot directions, with two decoys: a0.h1 attends exactly
like the previous-token head but its value and output weights miss each other, so that it writes
nothing; a1.h1 writes, but along directions that nobody reads. (Names are those of seed 0; other
seeds permute heads and tokens.)
"""

import torch
from torch import Tensor

from mini_transformer.edges import Node
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import measure_accuracy, measure_change
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

N_TOKENS, N_CTX = 16, 24  # token 0 starts every prompt and never repeats
LENGTH = 16  # of a prompt
STRENGTH = 20.0  # added to the score of a match: attention off the match is below 23 exp(-20)

PICTURE = """\
  input --q,k (position - 1)--> {previous} --k (previous token)--> {match} --(next token)--> logits
  input --v (token)-----------> {previous}                          ^  ^
  input --q (token), v (token)---------------------------------+--+
  decoys: {silent} attends like {previous} and writes nothing; {unread} writes where nobody reads"""


def make_roles(seed: int = 0) -> dict[str, str]:
    """Place the heads: `previous` and `match` are the circuit, the others decoys.

    The decoys are `silent` and `unread`.
    """
    (previous, silent), (match, unread) = by_hand.place_heads(seed, n_layers=2, n_heads=2)
    return {
        "previous": f"a0.h{previous}",
        "match": f"a1.h{match}",
        "silent": f"a0.h{silent}",
        "unread": f"a1.h{unread}",
    }


def make_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    `token` and `position` come from the embedding, `previous` and `next` from the heads; `unread`
    is the decoy's.
    """
    return by_hand.Stream(
        token=N_TOKENS, position=N_CTX, previous=N_TOKENS, next=N_TOKENS, unread=N_TOKENS
    )


def build_model(seed: int = 0) -> Transformer:
    """Set the weights, one component after the other.

    Seeds other than 0 permute heads within layers, and tokens.

    >>> build_model()(torch.tensor([[0, 3, 1, 4, 3]]))[0, -1].argmax().item()
    1
    """
    # token i lives in direction order[i]
    stream = make_stream()
    order = by_hand.shuffle(N_TOKENS, seed)
    (previous, silent), (match, unread) = by_hand.place_heads(seed, n_layers=2, n_heads=2)
    d = stream.d_model
    config = Config(
        d_vocab=N_TOKENS,
        n_ctx=N_CTX,
        d_model=d,
        n_layers=2,
        n_heads=2,
        d_head=N_CTX,
        attn_scale=1.0,
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, stream["token"][order], stream["position"])

    by_hand.attend_to_previous(model, 0, previous, stream["position"], STRENGTH)
    by_hand.copy_directions(model, 0, previous, stream["token"], stream["previous"])

    by_hand.attend_where_equal(
        model, 1, match, query=stream["token"], key=stream["previous"], strength=STRENGTH
    )
    by_hand.copy_directions(model, 1, match, stream["token"], stream["next"])

    # silent: attends, and writes nothing. Values fill the first 16 of the head's 24 dimensions, the
    # output reads only the last 8.
    by_hand.attend_to_previous(model, 0, silent, stream["position"], STRENGTH)
    with torch.no_grad():
        model.blocks[0].attn.W_V[silent, :, :N_TOKENS] = stream["token"].T
        model.blocks[0].attn.W_O[silent, N_TOKENS:] = stream["previous"][: N_CTX - N_TOKENS]

    # unread: attends evenly, nobody reads it.
    by_hand.copy_directions(model, 1, unread, stream["token"], stream["unread"])

    by_hand.read_out(model, stream["next"][order], STRENGTH)
    return model


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw prompts: a start token, then a block of distinct tokens that repeats.

    The block has 8 to 14 tokens, and goes on up to the last of 16 positions. corrupt "source"
    replaces the earlier occurrence of the last token A (so there is nothing to match), "answer" the
    token B after it (so another token follows A), each by a token the prompt does not hold; "fresh"
    is an unrelated prompt.
    """
    clean, answer, source = draw_prompts(n, generator)
    row = torch.arange(n)
    unused = torch.ones(n, N_TOKENS).scatter_(1, clean, 0.0)
    new = torch.multinomial(unused, 1, generator=generator).squeeze(1)
    corrupted = clean.clone()
    if corrupt == "source":
        corrupted[row, source] = new
        wrong = new
    elif corrupt == "answer":
        corrupted[row, source + 1] = new
        wrong = new
    else:
        corrupted, wrong, _ = draw_prompts(n, generator)
        while bool((same := wrong == answer).any()):  # a fresh prompt must call for another token
            redrawn, other, _ = draw_prompts(n, generator)
            corrupted[same] = redrawn[same]
            wrong[same] = other[same]
    return Batch(clean, corrupted, answer, wrong, torch.full((n,), LENGTH - 1))


def draw_prompts(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw prompts (n, 16), the next token, and the last token's earlier position."""
    # Distinct tokens in random order
    block = 1 + torch.rand(n, N_TOKENS - 1, generator=generator).argsort(dim=1)
    period = torch.randint(LENGTH // 2, LENGTH - 1, (n, 1), generator=generator)
    # 0 .. period-1, again and again; of position i + 1
    offset = torch.arange(LENGTH).expand(n, -1) % period
    prompts = torch.cat([torch.zeros(n, 1, dtype=torch.int64), block.gather(1, offset)], dim=1)
    return prompts[:, :LENGTH], prompts[:, LENGTH], LENGTH - 1 - period.squeeze(1)


TASK = Task(
    description="a block of distinct tokens repeats; say the next token",
    sample=draw_batch,
    token_names=("|", *"abcdefghijklmno"),
    corruptions=("source", "answer", "fresh"),
)


def measure_previous(case: Case, role: str = "previous") -> float:
    """Measure the least attention that this layer-0 head pays to the previous position.

    It is the least over 64 random sequences and all positions.
    """
    tokens = torch.randint(N_TOKENS, (64, N_CTX), generator=torch.Generator().manual_seed(1))
    return _pattern(case, role, tokens).diagonal(offset=-1, dim1=1, dim2=2).min().item()


def measure_match(case: Case) -> float:
    """Measure the least attention that `match` at the end pays to where it should.

    That is the token after the earlier occurrence; over 256 prompts.
    """
    # Changes only the position after the earlier occurrence
    batch = case.task.draw(256, seed=1, corrupt="answer")
    successor = (batch.clean != batch.corrupt).float().argmax(dim=1)
    return _pattern(case, "match", batch.clean)[torch.arange(256), -1, successor].min().item()


def measure_without_edge(case: Case, part: str) -> float:
    """Measure accuracy without the edge by which `match` hears `previous`.

    It goes to "q", "k" or "v", and is ablated with zeros.
    """
    roles = case.truth.roles
    return measure_accuracy(case, [f"{roles['previous']}->{roles['match']}<{part}>"])


def _pattern(case: Case, role: str, tokens: Tensor) -> Tensor:
    layer, head = Node.parse(case.truth.roles[role]).place
    with torch.no_grad():
        _, cache = case.model.run_with_cache(tokens, names_filter=[("pattern", layer)])
    return cache["pattern", layer][:, head]


CHANCE = 1 / (N_TOKENS - 1)
SIGNATURES = {
    "previous-token attention": Signature(
        "of `previous`: least over all positions", measure_previous, low=0.99
    ),
    "match attention": Signature(
        "of `match`: least over prompts, at the last position", measure_match, low=0.99
    ),
    "accuracy": Signature("says the next token", measure_accuracy, low=1.0),
    "accuracy without the K-edge": Signature(
        "the edge previous->match<k> carries the match",
        lambda case: measure_without_edge(case, "k"),
        high=2 * CHANCE,
    ),
    "accuracy without the Q-edge": Signature(
        "previous->match<q> does nothing", lambda case: measure_without_edge(case, "q"), low=1.0
    ),
    "accuracy without the V-edge": Signature(
        "previous->match<v> does nothing", lambda case: measure_without_edge(case, "v"), low=1.0
    ),
    "decoy's previous-token attention": Signature(
        "`silent` looks like `previous` and writes nothing",
        lambda case: measure_previous(case, "silent"),
        low=0.99,
    ),
    "change of logits without decoys": Signature(
        "largest, of any logit; the logits go up to 20",
        lambda case: measure_change(case, ["silent", "unread"]),
        high=1e-3,
    ),
}


def make_truth(seed: int = 0) -> Truth:
    """State what is true of the model with this seed, by construction.

    The enumeration of all subsets of edges agrees.
    """
    roles = make_roles(seed)
    previous = roles["previous"]
    match = roles["match"]
    finds = {f"input->{previous}<v>", f"{previous}->{match}<k>", f"input->{match}<q>"}
    used = {*finds, f"input->{match}<v>", f"{match}->logits"}
    position = {f"input->{previous}<q>", f"input->{previous}<k>"}
    nodes = (frozenset({"input", previous, match, "logits"}),)
    note = (
        "positions are the same in every prompt, "
        "so the edges that carry only them can be averaged or resampled away"
    )
    return Truth(
        circuits={
            "zero": Circuits((frozenset(used | position),), nodes, "enumeration", complete=True),
            "mean": Circuits((frozenset(used),), nodes, "enumeration", complete=True, note=note),
            "resample": Circuits(
                (frozenset(used),), nodes, "enumeration", complete=True, corrupt="fresh", note=note
            ),
        },
        variables={
            "previous token": Variable(
                compute=lambda tokens: torch.cat([tokens[:, :1], tokens[:, :-1]], dim=1),
                site="blocks.0.hook_resid_post",
                position=None,
                subspace=make_stream()["previous"][by_hand.shuffle(N_TOKENS, seed)],
                used=True,
                how="construction",
                note=(
                    "row i of the subspace for token i; "
                    "the first position, which has none before it, carries its own"
                ),
            )
        },
        signatures=SIGNATURES,
        roles=roles,
    )


def load(seed: int = 0) -> Case:
    """Load the construction; other seeds permute heads within layers, and tokens."""
    truth = make_truth(seed)
    return Case(
        "induction_by_hand", build_model(seed), TASK, truth, seed, PICTURE.format(**truth.roles)
    )

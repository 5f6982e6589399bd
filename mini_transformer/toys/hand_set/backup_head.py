"""A name mover with a backup that acts only when the mover is silent.

Ablating either alone with zeros changes nothing. The mechanism of indirect object identification
(Wang et al. 2022, 2211.00593) in four heads. Of the three names in `| A B A ?` two are the same;
the answer is the other. `duplicate` marks the second of the two, `inhibition` carries its name to
the `?`, `mover` copies the name that is not inhibited. `backup` would do the same, but looks away
once it sees the mover's output in the stream. Each layer also has a decoy, which attends to the
previous position and writes where nobody reads.
"""

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import (
    accuracy_without,
    measure_accuracy,
    measure_change,
)
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth, Variable

N_NAMES = 5
# the tokens | and ?
START = N_NAMES
END = N_NAMES + 1
LAST, N_CTX = 4, 5
STRENGTH = 40.0

PICTURE = """\
  input --> {duplicate} --(repeated)--> {inhibition} --(not this one)--> {mover} --(name)--> logits
                                           +--(not this one)--> {backup} --(name)--> logits
  {backup} looks away when {mover} has written; each layer has a decoy: {decoys}"""
LAYERS = ("duplicate", "inhibition", "mover", "backup")


def make_stream() -> by_hand.Stream:
    """Name the directions of the residual stream.

    `repeated` is written by duplicate, `inhibited` by inhibition, `name` by mover and backup,
    `unread` by decoys.
    """
    return by_hand.Stream(
        token=N_NAMES + 2,
        position=N_CTX,
        repeated=N_NAMES,
        inhibited=N_NAMES,
        name=N_NAMES,
        unread=N_NAMES,
    )


def build_model(seed: int = 0) -> Transformer:
    """Build the model: one role per layer, beside a decoy.

    Other seeds permute heads within layers, and names.

    >>> build_model()(torch.tensor([[5, 0, 1, 0, 6]]))[0, -1].argmax().item()
    1
    """
    # name i lives in direction order[i]
    stream = make_stream()
    order = by_hand.shuffle(N_NAMES, seed)
    names = stream["token"][:N_NAMES]
    start = stream["token"][START, None]
    end = stream["token"][END, None]
    any_name = names.sum(0, keepdim=True)
    position = stream["position"]
    inhibited = stream["inhibited"]
    written = stream["name"]
    heads = by_hand.place_heads(seed, 4, 2)
    n = N_NAMES
    d = stream.d_model
    reach = N_NAMES + N_CTX + 1
    config = Config(
        d_vocab=n + 2, n_ctx=N_CTX, d_model=d, n_layers=4, n_heads=2, d_head=reach, attn_scale=1.0
    )
    model = by_hand.make_blank(config)
    by_hand.write_embedding(model, torch.cat([names[order], start, end]), position)

    # duplicate: the same name at another position; otherwise the start, which has no value
    query = torch.cat([names, -2 * position, 0.5 * (any_name + end)])
    by_hand.attend_where_equal(
        model, 0, heads[0][0], query, torch.cat([names, position, start]), STRENGTH
    )
    by_hand.copy_directions(model, 0, heads[0][0], names, stream["repeated"])

    # inhibition: from the end to where something is repeated
    by_hand.attend_where_equal(
        model, 1, heads[1][0], end, stream["repeated"].sum(0, keepdim=True), STRENGTH
    )
    by_hand.copy_directions(model, 1, heads[1][0], stream["repeated"], inhibited)

    # mover: from the end to names, but not to the inhibited one
    query = torch.cat([end, -2 * inhibited])
    key = torch.cat([any_name, names])
    by_hand.attend_where_equal(model, 2, heads[2][0], query, key, STRENGTH)
    by_hand.copy_directions(model, 2, heads[2][0], names, written)

    # backup: the same, but a name that is already written draws it to the start, which has no value
    query = torch.cat([query, 3 * written.sum(0, keepdim=True)])
    key = torch.cat([key, start])
    by_hand.attend_where_equal(model, 3, heads[3][0], query, key, STRENGTH)
    by_hand.copy_directions(model, 3, heads[3][0], names, written)

    for layer in range(4):
        by_hand.attend_to_previous(model, layer, heads[layer][1], position, STRENGTH)
        by_hand.copy_directions(model, layer, heads[layer][1], names, stream["unread"])
    by_hand.read_out(model, torch.cat([written[order], torch.zeros(2, stream.d_model)]), STRENGTH)
    return model


# Every (repeated name, other name, place of the other one): | s n s ? and so on
PROMPTS = torch.tensor(
    [
        [START, *(other if slot == place else repeated for slot in range(3)), END]
        for repeated, other in permutations(range(N_NAMES), 2)
        for place in range(3)
    ]
)
OTHER = torch.tensor([other for _, other in permutations(range(N_NAMES), 2) for _ in range(3)])
REPEATED = torch.tensor(
    [repeated for repeated, _ in permutations(range(N_NAMES), 2) for _ in range(3)]
)


def pair_prompts(clean: Tensor, corrupt: Tensor) -> Batch:
    """Make a batch of prompts given by their row numbers."""
    answer = OTHER[clean]
    position = torch.full_like(clean, LAST)
    wrong = torch.where(OTHER[corrupt] == answer, REPEATED[clean], OTHER[corrupt])
    return Batch(PROMPTS[clean], PROMPTS[corrupt], answer, wrong, position)


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw prompts; corrupt "any" has another answer, "swap" exchanges the two names."""
    clean = torch.randint(len(PROMPTS), (n,), generator=generator)
    if corrupt == "swap":
        swapped = (REPEATED[clean, None] == OTHER) & (OTHER[clean, None] == REPEATED)
        swapped &= torch.arange(len(PROMPTS)) % 3 == clean[:, None] % 3
        return pair_prompts(clean, swapped.float().argmax(dim=1))
    allowed = (OTHER[clean, None] != OTHER).float()
    return pair_prompts(clean, torch.multinomial(allowed, 1, generator=generator).squeeze(1))


def pair_all() -> Batch:
    """Pair every prompt with every one that has another answer."""
    return pair_prompts(*(OTHER[:, None] != OTHER).nonzero().T)


TASK = Task(
    description="of three names, two of which are the same, say the other",
    sample=draw_batch,
    token_names=(*"ABCDE", "|", "?"),
    corruptions=("any", "swap"),
    everything=pair_all,
)


def measure_attention(case: Case, role: str, silenced: str | None = None) -> float:
    """Measure the least attention, over all prompts, that a head pays to its target.

    The target is where it should look (duplicate: from every position). Another head may be
    `silenced`: what it writes is replaced by zero. With another head `silenced`, that is: with what
    it writes replaced by zero.
    """
    # (prompt, query, key): an earlier equal token
    same = (PROMPTS[:, :, None] == PROMPTS[:, None, :]).tril(-1).int()
    answer = (OTHER[:, None] == PROMPTS).int().argmax(dim=1)
    start = torch.zeros_like(answer)
    target = {
        "inhibition": same.sum(-1).argmax(dim=1),
        "mover": answer,
        "backup": answer if silenced else start,
    }

    def silence(z: Tensor, hook: object) -> None:
        z[:, :, int(case.truth.roles[silenced or role][-1])] = 0

    layer = LAYERS.index(role)
    head = int(case.truth.roles[role][-1])
    hooks = [(("z", LAYERS.index(silenced)), silence)] if silenced else []
    with torch.no_grad(), case.model.hooks(hooks):
        _, cache = case.model.run_with_cache(PROMPTS, names_filter=[("pattern", layer)])
    pattern = cache["pattern", layer][:, head]
    if role == "duplicate":  # the earlier equal token; the start, position 0, where there is none
        return pattern.gather(2, same.argmax(dim=2, keepdim=True)).min().item()
    return pattern[:, LAST].gather(1, target[role][:, None]).min().item()


def watch(role: str, silenced: str | None = None) -> Callable[[Case], float]:
    """Make the measure of a signature: attention of this head."""
    return lambda case: measure_attention(case, role, silenced)


def measure_decoys(case: Case) -> float:
    """Measure the largest change of any logit when all decoys are silenced."""
    return measure_change(case, [role for role in case.truth.roles if role.startswith("decoy")])


SIGNATURES = {
    "accuracy": Signature("on all 60 prompts", measure_accuracy, low=1.0),
    "accuracy without mover": Signature("backup is enough", accuracy_without("mover"), low=1.0),
    "accuracy without backup": Signature("mover is enough", accuracy_without("backup"), low=1.0),
    "accuracy without both": Signature(
        "joint zero ablation", accuracy_without("mover", "backup"), high=0.0
    ),
    "accuracy with mover averaged": Signature(
        "an averaged mover still looks active to backup",
        accuracy_without("mover", ablation="mean"),
        high=0.0,
    ),
    "duplicate attends": Signature(
        "to the same name, if any; else to the start", watch("duplicate"), low=0.99
    ),
    "inhibition attends": Signature(
        "from the end to the second of the same names", watch("inhibition"), low=0.99
    ),
    "mover attends": Signature("from the end to the answer", watch("mover"), low=0.99),
    "backup looks away": Signature("to the start, while mover acts", watch("backup"), low=0.99),
    "backup acts": Signature(
        "attends to the answer without mover", watch("backup", silenced="mover"), low=0.99
    ),
    "change of logits without decoys": Signature(
        "largest, of any logit", measure_decoys, high=1e-3
    ),
    "accuracy without inhibition": Signature(
        "the repeated name wins by number", accuracy_without("inhibition"), high=0.0
    ),
}


def make_circuits(roles: dict[str, str]) -> dict[str, Circuits]:
    """List the minimal circuits: by construction, but for a way that the enumeration found.

    That way is counting instead of matching, under zero ablation.
    """
    duplicate, inhibition, mover, backup = (roles[role] for role in LAYERS)

    def through(last: str, *others: str) -> frozenset[str]:
        """Return the path of the names, ending in mover or backup."""
        marks = {
            f"input->{duplicate}<v>",
            f"{duplicate}->{inhibition}<v>",
            f"{inhibition}->{last}<q>",
        }
        return frozenset(
            {*marks, f"input->{last}<k>", f"input->{last}<v>", f"{last}->logits", *others}
        )

    # Without these duplicate attends evenly, and counts names.
    matches = (f"input->{duplicate}<q>", f"input->{duplicate}<k>")
    # Without this inhibition attends evenly, and a fifth of every mark arrives.
    finds = f"{duplicate}->{inhibition}<k>"
    to_end = (f"input->{inhibition}<q>", finds)
    # With zeros for the rest, evenly collected marks are enough; or counts, if they are read where
    # they are largest and weighed against the attention that every name gets.
    zero = [through(last, *matches) for last in (mover, backup)]
    zero += [through(last, *to_end, f"input->{last}<q>") for last in (mover, backup)]
    rest = (through(mover, *matches, finds),)
    nodes = [
        frozenset({"input", duplicate, inhibition, last, "logits"}) for last in (mover, backup)
    ]
    note = "an averaged or resampled mover keeps backup quiet, so backup cannot replace it"
    return {
        "zero": Circuits(tuple(zero), tuple(nodes), "enumeration", complete=True),
        "mean": Circuits(rest, (nodes[0],), "enumeration", complete=True, note=note),
        "resample": Circuits(
            rest, (nodes[0],), "enumeration", complete=True, corrupt="any", note=note
        ),
    }


def make_truth(seed: int = 0) -> Truth:
    """Collect roles, circuits and what is inhibited at the end."""
    heads = by_hand.place_heads(seed, 4, 2)
    roles = {role: f"a{layer}.h{heads[layer][0]}" for layer, role in enumerate(LAYERS)}
    roles |= {f"decoy {layer}": f"a{layer}.h{heads[layer][1]}" for layer in range(4)}
    order = by_hand.shuffle(N_NAMES, seed)
    repeats = 2
    inhibited = Variable(
        compute=lambda tokens: (
            (F.one_hot(tokens[:, 1:LAST], N_NAMES).sum(dim=1) == repeats).int().argmax(dim=1)
        ),
        site="blocks.1.hook_resid_post",
        position=LAST,
        subspace=make_stream()["inhibited"][order],
        used=True,
        how="construction",
        note="row i of the subspace for name i",
    )
    return Truth(SIGNATURES, make_circuits(roles), {"repeated name": inhibited}, roles=roles)


def load(seed: int = 0) -> Case:
    """Load the construction; other seeds permute heads within layers, and names."""
    truth = make_truth(seed)
    decoys = " ".join(node for role, node in truth.roles.items() if role.startswith("decoy"))
    return Case(
        "backup_head",
        build_model(seed),
        TASK,
        truth,
        seed,
        PICTURE.format(**truth.roles, decoys=decoys),
    )

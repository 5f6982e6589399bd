"""More features than dimensions: 64 sparse features in 32 dimensions.

Each is a known direction, active in known amounts. A prompt lists the features that are active and
how strongly; one head that attends evenly adds their directions up, so that the stream at the `?`
is exactly the sum, and the logits ask each direction how much of it is there. (Superposition:
Elhage et al. 2022, 2209.10652; dictionaries tested on planted features: Sharkey et al. 2022.) The
directions are two orthonormal bases in which every direction of one meets every direction of the
other at a cosine of 1 / sqrt(32) = .177, up to sign. Where fewer than sqrt(32) = 5.7 features are
active, which ones and how much is determined by the sum alone: no other combination is as sparse
(Elad & Bruckstein 2002, IEEE Trans. Inf. Theory 48, 2558). Here at most 4 are.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.truth import Batch, Case, Circuits, Features, Signature, Task, Truth

N, D = 64, 32
LEVELS = torch.tensor([0.8, 1.0, 1.2])  # how strongly a feature can be active
SLOTS = 4  # features in a prompt; then comes the ?
# The tokens . and ?, and the first token that stands for a feature at a level
NOTHING, ASK, FIRST = 0, 1, 2
STRENGTH = 20.0


def make_directions(n: int = N, d: int = D, seed: int = 0) -> Float[Tensor, "n d"]:
    """Make n unit vectors in d dimensions, from two orthonormal bases.

    They come in random order and randomly rotated. Raise ValueError unless d is a power of two and
    n at most 2 d, which is all that two bases hold.

    >>> directions = make_directions(n=8, d=4)
    >>> cosines = (directions @ directions.T).abs().flatten().tolist()
    >>> sorted({round(cosine, 4) for cosine in cosines})
    [0.0, 0.5, 1.0]
    """
    if d < 1 or d & (d - 1):
        raise ValueError(
            f"d is {d}, but must be a power of two; nearest: "
            f"{2 ** max(0, round(math.log2(max(d, 1))))}"
        )
    if not 0 < n <= 2 * d:
        raise ValueError(
            f"{n} features were asked for, but two orthonormal bases of {d} dimensions "
            f"hold 1 to {2 * d}"
        )
    generator = torch.Generator().manual_seed(seed)
    hadamard = torch.ones(1, 1)  # entries +-1, orthogonal rows (Sylvester's construction)
    while len(hadamard) < d:
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), hadamard)
    rotation = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[
        0
    ].float()
    bases = torch.cat([torch.eye(d), hadamard / math.sqrt(d)]) @ rotation
    return bases[torch.randperm(2 * d, generator=generator)[:n]]


def build_model(directions: Float[Tensor, "n d"]) -> Transformer:
    """Build one head that adds up what the prompt lists.

    The logit of feature i is the stream along direction i.

    >>> prompt = torch.tensor([[0, 0, 0, FIRST + 3 * 17, ASK]])
    >>> build_model(make_directions())(prompt)[0, -1].argmax().item()
    17
    """
    n, d = directions.shape
    config = Config(
        d_vocab=FIRST + n * len(LEVELS),
        n_ctx=SLOTS + 1,
        d_model=d,
        n_layers=1,
        d_head=d,
        positions="none",
        d_vocab_out=n,
    )
    model = by_hand.make_blank(config)
    # Feature 0 at each level, feature 1 at ...
    every_level = (directions[:, None] * LEVELS[:, None]).flatten(0, 1)
    # . and ? write nothing
    by_hand.write_embedding(model, torch.cat([torch.zeros(FIRST, d), every_level]))
    # a sum, since attention is a mean
    by_hand.copy_directions(model, 0, 0, torch.eye(d), torch.eye(d) * (SLOTS + 1))
    by_hand.read_out(model, directions, STRENGTH)
    return model


def read_codes(tokens: Int[Tensor, "batch pos"], n: int = N) -> Float[Tensor, "batch n"]:
    """Read how strongly each feature is active in each prompt.

    >>> read_codes(torch.tensor([[FIRST, FIRST + 5, 0, 0, ASK]]), n=3)
    tensor([[0.8000, 1.2000, 0.0000]])
    """
    codes = torch.zeros(len(tokens), n)
    token = (tokens - FIRST).clamp(min=0)
    return codes.scatter_add_(
        1, token // len(LEVELS), LEVELS[token % len(LEVELS)] * (tokens >= FIRST)
    )


def write_prompts(
    features: Int[Tensor, "batch slot"], levels: Int[Tensor, "batch slot"]
) -> Int[Tensor, "batch pos"]:
    """Write prompts that list these features at these levels; -1 stands for none."""
    tokens = torch.where(features < 0, NOTHING, FIRST + len(LEVELS) * features + levels)
    return F.pad(F.pad(tokens, (0, SLOTS - tokens.shape[1])), (0, 1), value=ASK)


SITE = "blocks.0.hook_resid_post"


@dataclass(frozen=True)
class Structure:
    """How features come in groups of `size`.

    Whenever a group is picked, one of `patterns` is active, each as likely.
    """

    name: str
    size: int
    patterns: tuple[tuple[int, ...], ...]
    entails: tuple[tuple[int, int], ...] = ()  # (child, parent) within a group
    correlated: tuple[tuple[int, int], ...] = ()

    def repeat(self, pairs: tuple[tuple[int, int], ...], n: int) -> tuple[tuple[int, int], ...]:
        """Turn pairs within a group into pairs among all n features."""
        return tuple((start + i, start + j) for start in range(0, n, self.size) for i, j in pairs)


PLAIN = Structure("planted_features", 1, ((0,),))
TREES = Structure(
    "planted_hierarchical", 4, ((0,), (0, 1), (0, 2), (0, 3)), entails=((1, 0), (2, 0), (3, 0))
)
PAIRS = Structure(
    "planted_correlated", 2, ((0,), (1,), (0, 1), (0, 1), (0, 1)), correlated=((0, 1),)
)


def draw_prompts(
    structure: Structure, n: int, seed: int, n_features: int = N
) -> Int[Tensor, "n pos"]:
    """Draw `n` prompts with 1 to 4 active features, each at a random level.

    Where features come in groups, 1 or 2 groups are active.
    """
    generator = torch.Generator().manual_seed(seed)
    width = max(map(len, structure.patterns))
    table = torch.tensor(
        [[*pattern, *[-1] * (width - len(pattern))] for pattern in structure.patterns]
    )
    most = SLOTS // width
    group = torch.rand(n, n_features // structure.size, generator=generator).argsort(dim=1)[
        :, :most, None
    ]
    member = table[torch.randint(len(table), (n, group.shape[1]), generator=generator)]
    picked = torch.arange(group.shape[1]) < torch.randint(1, most + 1, (n, 1), generator=generator)
    features = torch.where(
        picked[..., None] & (member >= 0), group * structure.size + member, -1
    ).flatten(1)
    return write_prompts(features, torch.randint(len(LEVELS), features.shape, generator=generator))


def draw_activations(
    case: Case, n: int, seed: int = 0
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n feature"]]:
    """Return the stream at the `?` in n prompts, and its exact codes.

    A dictionary is to be learned from the first; the second is the truth.

    >>> from mini_transformer import toys
    >>> case = toys.load("planted_features")
    >>> activations, codes = draw_activations(case, 100)
    >>> torch.allclose(activations, codes @ case.truth.features.directions, atol=1e-5)
    True
    """
    features = case.truth.features
    if features is None or features.draw is None or features.site is None:
        raise ValueError(
            f"{case.name} has no planted features; those have: {PLAIN.name}, "
            f"{TREES.name}, {PAIRS.name}"
        )
    tokens = features.draw(n, seed)
    with torch.no_grad():
        cache = case.model.run_with_cache(tokens, names_filter=features.site)[1]
    return cache[features.site][:, SLOTS], features.activations(tokens)


def make_task(structure: Structure, n: int) -> Task:
    """Make the task: one prompt per feature, which is there at the highest level.

    Beside it, at the lowest, is what it comes with.
    """
    members = range(structure.size)
    # Parent with child, child with parent
    company = [[p for p in structure.patterns if i in p][-1] for i in members]
    beside = torch.tensor([next((j for j in company[i] if j != i), -1) for i in members]).repeat(
        n // structure.size
    )
    strong = torch.arange(n)
    weak = torch.where(beside < 0, -1, strong - strong % structure.size + beside)
    prompts = write_prompts(
        torch.stack([strong, weak], dim=1), torch.tensor([len(LEVELS) - 1, 0]).expand(n, 2)
    )

    def pair_prompts(clean: Tensor, corrupt: Tensor) -> Batch:
        return Batch(
            prompts[clean], prompts[corrupt], clean, corrupt, torch.full_like(clean, SLOTS)
        )

    def draw_batch(n_prompts: int, generator: torch.Generator, corrupt: str) -> Batch:
        clean = torch.randint(n, (n_prompts,), generator=generator)
        return pair_prompts(
            clean, (clean + torch.randint(1, n, (n_prompts,), generator=generator)) % n
        )

    def pair_all() -> Batch:
        return pair_prompts(*(strong[:, None] != strong).nonzero().T)

    levels = [f"{i}:{level:.1f}" for i in range(n) for level in LEVELS.tolist()]
    description = "name the strongest of the features in the prompt"
    return Task(description, draw_batch, (".", "?", *levels), ("other",), pair_all)


def measure_cosine(case: Case) -> float:
    """Measure the largest |cosine| between what two different features write.

    Where the square of one's length is further off 1, it is that.
    """
    written = case.model.W_E.detach()[FIRST :: len(LEVELS)] / LEVELS[0]
    return (written @ written.T - torch.eye(len(written))).abs().max().item()


def measure_error(case: Case) -> float:
    """Measure how far the stream at the `?` is from codes times true directions, at most.

    It is the largest difference in 1,000 prompts.
    """
    features = case.truth.features
    assert features is not None
    activations, codes = draw_activations(case, 1000, seed=1)
    return (activations - codes @ features.directions).abs().max().item()


def measure_logits(case: Case) -> float:
    """Measure how far the logits are from 20 times the stream along each true direction.

    It is the largest difference in 1,000 prompts.
    """
    features = case.truth.features
    assert features is not None
    assert features.draw is not None
    tokens = features.draw(1000, 1)
    with torch.no_grad():
        logits = case.model(tokens)[:, SLOTS]
    directions = features.directions
    codes = features.activations(tokens)
    return (logits - STRENGTH * codes @ directions @ directions.T).abs().max().item()


def measure_together(case: Case, given: int, then: int) -> float:
    """Measure how often feature `then` is active when `given` is, in 20,000 prompts."""
    tokens = case.truth.features.draw(20_000, 1)  # type: ignore[union-attr,misc]
    active = case.truth.features.activations(tokens) > 0  # type: ignore[union-attr]
    return active[active[:, given], then].float().mean().item()


def make_signatures(structure: Structure, n: int, d: int) -> dict[str, Signature]:
    """List the signatures: accuracy, the geometry, the sum, and the structure.

    The last is what the structure says of the first features.
    """
    signatures = {
        "accuracy": Signature("on one prompt per feature", measure_accuracy, low=1.0),
        "largest cosine": Signature(
            "between two features", measure_cosine, high=1 / math.sqrt(d) + 1e-4
        ),
        "error of the sum": Signature("in 1,000 prompts", measure_error, high=1e-4),
        "error of the logits": Signature(
            "in 1,000 prompts; they go up to 37", measure_logits, high=1e-3
        ),
    }
    if structure.entails:
        signatures |= {
            "parent when child": Signature(
                "feature 0 when 1 is active", lambda c: measure_together(c, 1, 0), low=1.0
            ),
            "child when parent": Signature(
                "expected: 1/4", lambda c: measure_together(c, 0, 1), low=0.2, high=0.3
            ),
        }
    if structure.correlated:
        signatures |= {
            "second when first": Signature(
                "expected: 3/4", lambda c: measure_together(c, 0, 1), low=0.7, high=0.8
            )
        }
    return signatures


def make_case(structure: Structure = PLAIN, n: int = N, d: int = D, seed: int = 0) -> Case:
    """Make a case; every seed has its own directions.

    Raise ValueError as `make_directions` does, and where groups do not fit into n.
    """
    if n % structure.size or n < structure.size * SLOTS:
        expected = f"a multiple of {structure.size}, at least {structure.size * SLOTS}"
        raise ValueError(f"{n} features were asked for, but {structure.name} needs {expected}")
    directions = make_directions(n, d, seed)
    edges = (frozenset({"input->a0.h0<v>", "a0.h0->logits"}),)
    circuits = Circuits(
        edges, (frozenset({"input", "a0.h0", "logits"}),), "enumeration", complete=True
    )
    truth = Truth(
        make_signatures(structure, n, d),
        {
            "zero": circuits,
            "mean": circuits,
            "resample": dataclasses.replace(circuits, corrupt="other"),
        },
        features=Features(
            directions,
            lambda tokens: read_codes(tokens, n),
            how="construction",
            entails=structure.repeat(structure.entails, n),
            correlated=structure.repeat(structure.correlated, n),
            note=(
                "at most 4 are active at once, so the stream determines which; "
                "draw_activations gives streams and codes"
            ),
            site=SITE,
            position=SLOTS,
            draw=lambda n_prompts, seed: draw_prompts(structure, n_prompts, seed, n),
        ),
        roles={"sum": "a0.h0"},
    )
    picture = (
        "  features in the prompt --> a0.h0 "
        f"--(sum of their directions: {n} in {d} dimensions)--> logits"
    )
    return Case(
        structure.name, build_model(directions), make_task(structure, n), truth, seed, picture
    )


def load_plain(seed: int = 0) -> Case:
    """64 independent sparse features in 32 dimensions, with known directions and exact codes."""
    return make_case(PLAIN, seed=seed)


def load_hierarchical(seed: int = 0) -> Case:
    """The same features in 16 families: a child is active only with its parent.

    It is never active beside a sibling.
    """
    return make_case(TREES, seed=seed)


def load_correlated(seed: int = 0) -> Case:
    """The same features in 32 pairs: where one is active, so is the other, 3 times in 4."""
    return make_case(PAIRS, seed=seed)

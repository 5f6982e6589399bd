"""The tour's story: train, look, ablate, cut, patch, compare with the truth, claim.

It says no if the circuit is not there.
"""

import json as json_format
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.claims import ClaimCard, Measurement, Verdict
from mini_transformer.edges import Node
from mini_transformer.methods import ablate
from mini_transformer.model import Transformer
from mini_transformer.tour.circuit import Circuit, Heads, align, find_circuit, map_information
from mini_transformer.toys import Case, Truth
from mini_transformer.toys.trained import induction
from mini_transformer.train import History, choose_threads, thread_count

PROMPTS = 256

NEXT = """\
  next     open the figure, then try
             minilab tour --seed 1       another model: the same circuit, in which heads?
             minilab init my-course      the course: a folder with the lessons and your exercises"""


@dataclass(frozen=True)
class Tour:
    """What the tour found.

    `ok` if every number lies within its bounds and the claim holds.
    """

    seed: int
    steps: int | None  # of training; None if a shipped model was taken
    circuit: Circuit
    numbers: list[tuple[Measurement, float]]
    verdict: Verdict
    figure: Path
    seconds: float

    @property
    def ok(self) -> bool:
        return self.verdict.holds and all(expected.holds(value) for expected, value in self.numbers)

    def to_data(self) -> dict[str, Any]:
        """Return the same as names and numbers that JSON can hold."""
        names = ("previous", "induction", "control")
        card = self.verdict.card
        return {
            "ok": self.ok,
            "seed": self.seed,
            "steps": self.steps,
            "heads": {name: getattr(self.circuit, name) for name in names},
            "numbers": [
                {"what": str(expected), "value": value, "ok": expected.holds(value)}
                for expected, value in self.numbers
            ],
            "claim": {
                "claim": card.claim,
                "effect": self.verdict.effect,
                "control": self.verdict.control,
            },
            "claim_holds": self.verdict.holds,
            "figure": str(self.figure),
            "seconds": round(self.seconds, 1),
        }

    def __repr__(self) -> str:
        found = self.circuit
        rows = []
        for expected, value in self.numbers:
            mark = "ok" if expected.holds(value) else "NO"
            rows.append(f"  {mark:4}{value:7.3f}  {expected.bounds:14}{expected.what}")
        heads = (
            f"previous-token head {found.previous}, induction head {found.induction}, "
            f"control {found.control}"
        )
        answer = "The circuit is NOT there: see the lines that say NO."
        if self.ok:
            answer = "The circuit is there."
        return "\n".join([f"Found: {heads}", *rows, "", repr(self.verdict), "", answer])


def run_tour(
    seed: int = 0, json: bool = False, quick: bool = False, out: Path = Path("out")
) -> Tour:
    """Train induction from scratch, find its circuit, and print what was found.

    With `quick` the shipped model is taken instead. With `json` the only thing printed is data. The
    figure goes to the folder `out`; ValueError if that cannot be written. The same seed gives the
    same numbers. The result's `ok` says whether the circuit is there.
    """
    start = time.perf_counter()
    path = prepare_folder(Path(out)) / f"tour-seed-{seed}.png"
    if not json:
        begin = "Loading" if quick else "Training"
        print(f"{begin} a transformer that copies: {induction.TASK.description}.")

    history: History | None = None
    if quick:
        case = toys.load("induction", seed)
    else:
        case, history = train_case(seed, progress=not json)
    with thread_count(choose_threads(case.model)):
        tour = examine(case, history, path, start)

    if json:
        print(json_format.dumps(tour.to_data(), indent=2))
    else:
        print(f"{tour!r}\n\nFigure: {tour.figure}   ({tour.seconds:.0f} s)\n{NEXT}")
    return tour


def prepare_folder(out: Path) -> Path:
    """Make the folder for the figure now, so that a wrong one is found before the work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write to {out} ({error.strerror}): choose another folder with --out"
        ) from None
    return out


def examine(case: Case, history: History | None, path: Path, start: float) -> Tour:
    """Do everything after training: find the circuit, draw it to `path`, check the numbers.

    The claim is checked, too.
    """
    from mini_transformer.tour.figure import draw_tour  # matplotlib takes a second to import

    batch = case.task.draw(PROMPTS, seed=1, corrupt="source")
    circuit = find_circuit(case.model, batch)
    one = align(batch)
    moved = map_information(case.model, one)
    draw_tour(case, circuit, batch, one, moved, history).savefig(path, dpi=110)
    numbers = measure(circuit, moved, int((one.clean != one.corrupt)[0].float().argmax()))
    verdict = make_card(case, circuit).check()
    steps = None if history is None else history.steps
    return Tour(case.seed, steps, circuit, numbers, verdict, path, time.perf_counter() - start)


def measure(
    circuit: Circuit, moved: Float[Tensor, "place pos"], earlier: int
) -> list[tuple[Measurement, float]]:
    """Measure every number that must be right for the circuit to be there.

    `earlier` is where A stood in the patching map.
    """
    previous = circuit.previous
    reader = circuit.induction
    control = circuit.control
    cut = circuit.accuracy_cut
    method_works, same_circuit = compare_with_truth(circuit)
    back = score(circuit.previous_scores, previous)
    match = score(circuit.score_induction, reader)
    without = score(circuit.accuracy_without, previous)
    without_control = score(circuit.accuracy_without, control)
    restored = moved[1, earlier + 1].item()
    rows = [
        ("copies: says the next token", circuit.accuracy, {"low": 0.99}),
        (f"{previous} looks at the token before", back, {"low": 0.9}),
        (f"{reader} looks at what followed A earlier", match, {"low": 0.8}),
        (f"accuracy without {previous}", without, {"high": 0.3}),
        (f"accuracy without {control}, its neighbour", without_control, {"low": 0.8}),
        (f"accuracy with {previous} cut from later keys", cut["k"], {"high": 0.3}),
        (f"accuracy with {previous} cut from later queries", cut["q"], {"low": 0.8}),
        (f"accuracy with {previous} cut from later values", cut["v"], {"low": 0.8}),
        ("patching: share of the answer one token after A, before layer 1", restored, {"low": 0.8}),
        ("hand-set model: these steps find its true circuit (1: yes)", method_works, {"low": 1.0}),
        ("trained model: the same circuit as that truth (1: yes)", same_circuit, {"low": 1.0}),
    ]
    return [
        (Measurement(what, partial(float, value), **bound), float(value))
        for what, value, bound in rows
    ]


def score(values: Heads, node: str) -> float:
    return values[Node.parse(node).place].item()


def compare_with_truth(circuit: Circuit) -> tuple[bool, bool]:
    """Compare the analysis, and the circuit, with the hand-set model's known circuit.

    Returns whether the analysis finds that circuit, and whether `circuit` is wired like it.
    """
    hand = toys.load("induction_by_hand")
    found = find_circuit(hand.model, hand.task.draw(PROMPTS, seed=1, corrupt="source"))
    truth = hand.truth.circuits["mean"]
    heads = {found.previous, found.induction}
    edge = f"{found.previous}->{found.induction}"
    parts = {part for part in "qkv" if f"{edge}<{part}>" in truth.edges[0]}
    method_works = heads == truth.nodes[0] - {"input", "logits"} and found.parts == parts
    same_layers = find_layers(circuit) == find_layers(found)
    return method_works, circuit.parts == parts and same_layers


def find_layers(circuit: Circuit) -> list[int | None]:
    return [Node.parse(node).layer for node in (circuit.previous, circuit.induction)]


def make_card(case: Case, circuit: Circuit) -> ClaimCard:
    """Write the claim, on prompts that played no part in finding the heads."""
    batch = case.task.draw(PROMPTS, seed=2, corrupt="source")

    def remove(node: str) -> float:
        return batch.correct(ablate(case.model, batch.clean, [node], "zero")).float().mean().item()

    previous = circuit.previous
    control = circuit.control
    return ClaimCard(
        claim=(
            f"Copying a repeated sequence needs {previous}, "
            "which tells each position what came before it."
        ),
        model=f"{case.name}, seed {case.seed}: {case.model}",
        task=case.task.description,
        data=f"{PROMPTS} new prompts, other than those on which the heads were found",
        components=(
            f"{previous} (looks one back) and {circuit.induction} "
            "(looks at what followed A earlier)"
        ),
        intervention="zero ablation of one head",
        effect=Measurement(f"accuracy without {previous}", partial(remove, previous), high=0.3),
        control=Measurement(f"accuracy without {control}", partial(remove, control), low=0.8),
        refuted_by=(
            f"the answer surviving without {previous}, or being lost as well without its neighbour"
        ),
    )


def train_case(seed: int, progress: bool) -> tuple[Case, History]:
    """Train induction from scratch, and make a case like those that are shipped."""
    trained = induction.train_induction(seed, progress=progress)
    assert isinstance(trained.model, Transformer)
    return Case("induction", trained.model, induction.TASK, Truth({}), seed), trained.history

"""An exam: every student gets an unseen model of their own, and the same questions about it.

Answers are probabilities, and scored by a proper rule (Brier 1950, Monthly Weather Review 78, 1):
nobody gains by saying more or less than they know. Points count from what somebody earns who only
knows how often each answer is right in the class: 0 for that, 1 for certainty that is right. Models
come from the forge's blind door (docs/forge.md), so names, tokens and prompts stand in another
order for each student, and a neighbour's answers are worth nothing.
"""

import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.material import CourseError, write_file
from mini_transformer.edges import list_edges, list_writers
from mini_transformer.forge.blind import draw_number, read_blind, read_key, write_blind
from mini_transformer.methods import ablate
from mini_transformer.model import Transformer

ABLATION = "resample"
N_EDGES = 12  # half of them of a circuit
N_NODES = 4
N_PAIRS = 8
N_TRIED = 60  # pairs of prompts, of which these are chosen
NOTHING = "nothing"  # the role of what serves no part of the program

Answers = dict[str, dict[str, Any]]  # question -> item -> what is right, or a probability


@dataclass(frozen=True)
class Paper:
    """Hold one student's questions with the right answers, and the number of their model."""

    student: str
    model: str
    node: str  # the one that is swapped
    right: Answers

    @property
    def blank(self) -> dict[str, dict[str, Any]]:
        """Return answers that say nothing."""
        roles: dict[str, Any] = {node: {} for node in self.right["roles"]}
        half = {name: dict.fromkeys(self.right[name], 0.5) for name in ("edges", "swaps")}
        return {**half, "roles": roles}


def make_exam(
    students: Sequence[str], out: Path, minutes: int = 90, seed: int = 0, **knobs: Any
) -> None:
    """Write a folder for each student into `out`, and the key beside it, `OUT.key.json`.

    `knobs` are those of `forge.make`. Raise CourseError if `out` exists or if there is no student.
    """
    if not students:
        raise CourseError("the roster names nobody, so there is no exam to make")
    key = out.with_name(f"{out.name}.key.json")
    blind = out.with_name(f".{out.name}.blind")
    sealed = blind.with_name(f"{blind.name}.json")
    if out.exists() or key.exists():
        raise CourseError(f"{out} or {key} exists already: give the name of a new folder")
    shutil.rmtree(blind, ignore_errors=True)
    sealed.unlink(missing_ok=True)
    try:
        write_blind(blind, sealed, len(students), seed, **{"size": 2, **knobs})
        told = read_key(sealed)
        secret = bytes.fromhex(told["secret"])
        models = read_blind(blind)
        papers = []
        for student, (name, (model, batch)) in zip(students, models.items(), strict=True):
            rng = random.Random(draw_number(secret, f"questions {name}"))
            paper = draw_paper(student, name, told["models"][name], model, batch.clean, rng)
            write_paper(out / name_file(student), blind, paper, minutes)
            papers.append(paper)
        write_file(key, json.dumps({"papers": [vars(paper) for paper in papers]}, indent=1) + "\n")
        key.chmod(0o600)
    finally:
        shutil.rmtree(blind, ignore_errors=True)
        sealed.unlink(missing_ok=True)


def draw_paper(
    student: str,
    name: str,
    truth: Mapping[str, Any],
    model: Transformer,
    prompts: torch.Tensor,
    rng: random.Random,
) -> Paper:
    """Draw the questions about one model."""
    inside = sorted(set().union(*map(set, truth["circuits"][ABLATION])))
    outside = sorted(set(list_edges(model)) - set(inside))
    half = min(N_EDGES // 2, len(inside))
    edges = [*rng.sample(inside, half), *rng.sample(outside, half)]
    rng.shuffle(edges)

    roles = {node: role[0] for node, role in truth["roles"].items() if len(role) == 1}
    writers = [node for node in list_writers(model)[1:] if node not in truth["roles"]]
    asked = rng.sample(sorted(roles), min(N_NODES - 1, len(roles)))
    asked += rng.sample(writers, N_NODES - len(asked))
    rng.shuffle(asked)

    node, swaps = choose_swaps(model, prompts, sorted(truth["roles"]), rng)
    right = {
        "edges": {edge: edge in inside for edge in edges},
        "roles": {one: roles.get(one, NOTHING) for one in asked},
        "swaps": swaps,
    }
    return Paper(student, name, node, right)


def choose_swaps(
    model: Transformer, prompts: torch.Tensor, nodes: Sequence[str], rng: random.Random
) -> tuple[str, dict[str, bool]]:
    """Choose a head or MLP and pairs of prompts, and say whether what it writes on the second
    changes the answer to the first.

    In half of the pairs it does, if the model allows that.
    """
    unique = prompts.unique(dim=0)
    every = list(itertools.permutations(range(len(unique)), 2))
    pairs = rng.sample(every, min(N_TRIED, len(every)))
    base, source = (unique[list(side)] for side in zip(*pairs, strict=True))
    changed = {}
    with torch.no_grad():
        before = model(base)[:, -1].argmax(dim=-1)
        for node in nodes:
            swapped = ablate(model, base, [node], "resample", source)
            changed[node] = before != swapped[:, -1].argmax(dim=-1)
    node = min(nodes, key=lambda name: abs(changed[name].double().mean().item() - 0.5))
    some = changed[node].nonzero()[:, 0].tolist()[: N_PAIRS // 2]
    others = (~changed[node]).nonzero()[:, 0].tolist()[: N_PAIRS - len(some)]
    rows = rng.sample(some + others, len(some) + len(others))
    return node, {write_pair(base[i], source[i]): bool(changed[node][i]) for i in rows}


def write_pair(base: torch.Tensor, source: torch.Tensor) -> str:
    """Write two prompts in token numbers.

    >>> write_pair(torch.tensor([4, 0]), torch.tensor([3, 1]))
    '4 0 <- 3 1'
    """
    return " <- ".join(" ".join(map(str, row.tolist())) for row in (base, source))


def write_paper(folder: Path, blind: Path, paper: Paper, minutes: int) -> None:
    """Write what a student gets: a model, its task, the questions, and answers to fill in."""
    folder.mkdir(parents=True)
    for ending in ("safetensors", "json"):
        shutil.copy(blind / f"{paper.model}.{ending}", folder / f"model_00.{ending}")
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    said = {"minutes": minutes, "node": paper.node, "ablation": ABLATION, "nothing": NOTHING}
    write_file(folder / "README.md", text.format(student=paper.student, **said))
    write_file(folder / "answers.json", json.dumps(paper.blank, indent=1) + "\n")


def grade_exam(folder: Path, key: Path) -> list[dict[str, Any]]:
    """Grade the answers in `folder` (one folder, or one `NAME.json`, a student) with the key.

    Each question earns up to 1, and none less than 0; `total` is their mean. What is missing or
    cannot be read earns 0, and `remark` says so. Raise CourseError if the key cannot be read.
    """
    papers = read_papers(key)
    prior = count_right(papers)
    rows = []
    for paper in papers:
        name = name_file(paper.student)
        paths = [folder / name / "answers.json", folder / f"{name}.json"]
        remarks: list[str] = []
        given: Any = {}
        try:
            given = json.loads(next(path for path in paths if path.exists()).read_text())
        except StopIteration:
            remarks.append("no answers.json was handed in")
        except (OSError, ValueError) as error:
            remarks.append(f"answers.json cannot be read ({error})")
        scores = {
            question: score_question(question, paper.right[question], given, prior, remarks)
            for question in paper.right
        }
        total = sum(scores.values()) / len(scores)
        row = {"student": paper.student, "total": round(total, 3), **scores}
        rows.append({**row, "remark": "; ".join(remarks)})
    return rows


def read_papers(key: Path) -> list[Paper]:
    try:
        return [Paper(**paper) for paper in json.loads(key.read_text())["papers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{key} is no key of an exam ({error})") from None


def count_right(papers: Sequence[Paper]) -> dict[str, dict[str, float]]:
    """Count how often each answer is right in the class, which is what a guess may know.

    Roles are counted for heads and MLPs apart.
    """
    counts: dict[str, Counter[str]] = {}
    for paper in papers:
        for question, items in paper.right.items():
            for item, right in items.items():
                counts.setdefault(name_kind(question, item), Counter())[str(right)] += 1
    return {
        kind: {answer: n / count.total() for answer, n in count.items()}
        for kind, count in counts.items()
    }


def name_kind(question: str, item: str) -> str:
    return f"{question} {item[0]}" if question == "roles" else question


def score_question(
    question: str,
    right: Mapping[str, Any],
    given: Any,
    prior: Mapping[str, Mapping[str, float]],
    remarks: list[str],
) -> float:
    """Score one question: 1 is right and certain, 0 is what the class's frequencies earn."""
    answers = given.get(question, {}) if isinstance(given, dict) else {}
    if not answers:
        remarks += [f"no answers to {question}"] if given else []
        return 0.0
    loss = 0.0
    least = 0.0
    for item, truth in right.items():
        known = prior[name_kind(question, item)]
        least += measure_loss(known, str(truth))
        try:
            loss += measure_loss(read_chances(question, answers[item]), str(truth))
        except (KeyError, TypeError, ValueError) as error:
            loss += measure_loss(known, str(truth))
            remarks.append(f"{question}, {item}: no probability ({type(error).__name__})")
    return round(max(0.0, 1 - loss / least), 3) if least else 0.0


def read_chances(question: str, given: Any) -> dict[str, float]:
    """Read a probability, or one for each role. Raise ValueError unless they are such."""
    if question == "roles":
        chances = {str(role): float(chance) for role, chance in given.items()}
        if not chances or not all(0 <= chance <= 1 for chance in chances.values()):
            raise ValueError
        if sum(chances.values()) > 1 + 1e-6:
            raise ValueError
        return chances
    chance = float(given)
    if not 0 <= chance <= 1:
        raise ValueError
    return {"True": chance, "False": 1 - chance}


def measure_loss(chances: Mapping[str, float], right: str) -> float:
    """Measure the Brier loss: squared distance from certainty of what is right.

    >>> measure_loss({"True": 0.5, "False": 0.5}, "True"), measure_loss({"True": 1.0}, "True")
    (0.5, 0.0)
    """
    wrong = sum(chance**2 for answer, chance in chances.items() if answer != right)
    return (1 - chances.get(right, 0.0)) ** 2 + wrong

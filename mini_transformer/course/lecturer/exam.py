"""An exam: every student gets an unseen model of their own, and the same questions about it.

Answers are probabilities, and scored by a proper rule (Brier 1950, Monthly Weather Review 78, 1):
nobody gains by saying more or less than they know. Points count from what somebody earns who only
knows how often each answer is right in the class: 0 for that, 1 for certainty that is right, and
less than 0 for certainty that is wrong. Models come from the forge's blind door (docs/forge.md), so
names, tokens and prompts stand in another order for each student. Beside each head of a circuit
its twin is asked for, a head of the same layer that no circuit holds, and beside each pair of
prompts that changes the answer one as different that does not. So neither names nor a neighbour's
answers are worth anything.
"""

import itertools
import json
import math
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mini_transformer.course.lecturer.exam_forms import Form, find_forms
from mini_transformer.course.lecturer.gradebook import write_csv
from mini_transformer.course.lecturer.names import say_harmless
from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.lecturer.roster import Enrolled, Roster, load_roster
from mini_transformer.course.material import CourseError, write_file
from mini_transformer.edges import list_writers
from mini_transformer.forge.blind import ROLES, draw_number, read_blind, read_key, write_blind
from mini_transformer.methods import ablate
from mini_transformer.model import Transformer

ABLATION = "resample"
N_EDGES = 12  # half of them of a circuit
N_HEADS = 4  # half of them of a circuit
N_MLPS = 2
N_PAIRS = 8  # of prompts; half of them change the answer
N_TRIED = 120  # pairs of prompts, of which these are chosen
HEAD = re.compile(r"a(\d+)\.h\d+")
FEW = 10  # answers; as much as these, what holds in all layers counts for each
NOTHING = "nothing"  # the role of what serves no part of the program

Answers = dict[str, dict[str, Any]]  # question -> item -> what is right, or a probability


@dataclass(frozen=True)
class Paper:
    """Hold one student's questions with the right answers, and the names of model and paper."""

    student: str
    model: str
    node: str  # the one that is swapped
    right: Answers
    number: str  # stands in the answers, which are known by it whatever their file is called

    @property
    def blank(self) -> dict[str, Any]:
        """Return answers that say nothing."""
        blank = {question: make_blank(question, items) for question, items in self.right.items()}
        return {"paper": self.number, **blank}


def make_exam(
    students: Sequence[str], out: Path, minutes: int = 90, seed: int = 0, **knobs: Any
) -> None:
    """Write a folder for each student into `out`, and the key beside it, `OUT.key.json`.

    `knobs` are those of `forge.make`. Namesakes are numbered as they come. Raise CourseError if
    `out` exists or if there is no student.
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
        for student, (name, (model, batch)) in zip(
            number_namesakes(students), models.items(), strict=True
        ):
            rng = random.Random(draw_number(secret, f"questions {name}"))
            paper = draw_paper(student, name, told["models"][name], model, batch.clean, rng)
            write_paper(out / name_file(student), blind, paper, minutes)
            papers.append(paper)
        write_file(key, json.dumps({"papers": [vars(paper) for paper in papers]}, indent=1) + "\n")
        key.chmod(0o600)
    finally:
        shutil.rmtree(blind, ignore_errors=True)
        sealed.unlink(missing_ok=True)


def number_namesakes(students: Sequence[str]) -> list[str]:
    """Number those who have the name of somebody before them.

    >>> number_namesakes(["Doe, Jane", "Roe, Cy", "Doe, Jane"])
    ['Doe, Jane', 'Roe, Cy', 'Doe, Jane (2)']
    """
    seen: Counter[str] = Counter()
    names = []
    for student in students:
        seen[student] += 1
        names.append(f"{student} ({seen[student]})" if seen[student] > 1 else student)
    return names


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
    known = truth["roles"]
    twins = draw_twins([*inside, *known], list_writers(model), rng)
    pairs = [(edge, HEAD.sub(lambda head: twins.get(head[0], head[0]), edge)) for edge in inside]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    edges = [*itertools.chain(*rng.sample(pairs, min(N_EDGES // 2, len(pairs))))]
    rng.shuffle(edges)

    clear = sorted(node for node, roles in known.items() if len(roles) == 1)
    heads = [node for node in clear if node in twins]
    mlps = [node for node in clear if not HEAD.fullmatch(node)]
    asked = rng.sample(heads, min(N_HEADS // 2, len(heads)))
    asked += [twins[head] for head in asked]
    asked += rng.sample(mlps, min(N_MLPS, len(mlps)))
    rng.shuffle(asked)

    # An MLP is swapped: edges of heads tell nothing more of it, and it tells nothing of heads.
    mlps = [node for node in known if not HEAD.fullmatch(node)]
    node, swaps = choose_swaps(model, prompts, mlps or list(known), rng)
    right: Answers = {
        "edges": {edge: edge in inside for edge in edges},
        "roles": {one: known[one][0] if one in known else NOTHING for one in asked},
        "swaps": swaps,
    }
    return Paper(student, name, node, right, f"{rng.getrandbits(64):016x}")


def draw_twins(names: Sequence[str], writers: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Draw for each head in these names another one of its layer that they do not hold, if any.

    >>> draw_twins(["a0.h0->m0"], ["input", "a0.h0", "a0.h1", "m0"], random.Random(0))
    {'a0.h0': 'a0.h1'}
    """
    used = {head[0]: head[1] for name in names for head in HEAD.finditer(name)}
    free = [name for name in writers if HEAD.fullmatch(name) and name not in used]
    rng.shuffle(free)
    twins = {}
    for head, layer in sorted(used.items()):
        same = [name for name in free if HEAD.findall(name) == [layer]]
        if same:
            twins[head] = same[0]
            free.remove(same[0])
    return twins


def choose_swaps(
    model: Transformer, prompts: torch.Tensor, nodes: Sequence[str], rng: random.Random
) -> tuple[str, dict[str, bool]]:
    """Choose a node and pairs of prompts, and say whether what it writes on the second changes the
    answer to the first.

    In half of the pairs it does. For each of these there is one whose prompts differ in as many
    tokens where it does not.
    """
    unique = prompts.unique(dim=0)
    every = list(itertools.permutations(range(len(unique)), 2))
    pairs = rng.sample(every, min(N_TRIED, len(every)))
    base, source = (unique[list(side)] for side in zip(*pairs, strict=True))
    distances = (base != source).sum(dim=1).tolist()
    matched = {}
    with torch.no_grad():
        before = model(base)[:, -1].argmax(dim=-1)
        for node in sorted(nodes):
            swapped = ablate(model, base, [node], "resample", source)
            changes = (before != swapped[:, -1].argmax(dim=-1)).tolist()
            rows: dict[int, tuple[list[int], list[int]]] = {}
            for i, (distance, changed) in enumerate(zip(distances, changes, strict=True)):
                rows.setdefault(distance, ([], []))[changed].append(i)
            matched[node] = [two for pair in rows.values() for two in zip(*pair, strict=False)]
    node = max(matched, key=lambda name: min(len(matched[name]), N_PAIRS // 2))
    chosen = rng.sample(matched[node], min(len(matched[node]), N_PAIRS // 2))
    items = [(i, bool(changed)) for pair in chosen for changed, i in enumerate(pair)]
    rng.shuffle(items)
    return node, {write_pair(base[i], source[i]): changed for i, changed in items}


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


def grade_exam(
    folder: Path,
    key: Path,
    submissions: Path | None = None,
    roster: Path | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Grade the answers in `submissions`, by default in `folder`, and write tables into `folder`.

    Return a row for each student, and sentences on what belongs to nobody. Each question earns up
    to 1, and less than 0 for certainty that is wrong; `total` is their mean, and None where nothing
    was handed in. What cannot be read earns 0, as a neighbour's paper does, and `remark` says so.
    The tables are totals.csv and, with a roster, upload.csv. Raise CourseError if the key or the
    folder cannot be read.
    """
    papers = read_papers(key)
    prior = count_right(papers)
    people = load_roster(roster) if roster else None
    enrolled = people.enrolled if people else []
    known = dict(zip(number_namesakes([one.name for one in enrolled]), enrolled, strict=True))
    numbers = {paper.number: paper.student for paper in papers}
    forms, nobodys = find_forms(submissions or folder, numbers, known)
    rows = [grade_forms(paper, forms.get(paper.student, []), prior) for paper in papers]
    write_tables(folder, rows, people, known)
    return rows, nobodys


def grade_forms(
    paper: Paper, forms: Sequence[Form], prior: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Grade what one student handed in: the last form in which something is written."""

    def is_blank(form: Form) -> bool:
        return not form.problem and form.given | {"paper": paper.number} == paper.blank

    remarks = [f"{form.path} is {form.owner}'s paper" for form in forms if form.owner]
    own = [form for form in forms if not form.owner]
    untouched = [form.path for form in own if is_blank(form)]
    own = [form for form in own if not is_blank(form)]
    readable = [form for form in own if not form.problem]
    scores: dict[str, float | None] = dict.fromkeys(paper.right, 0.0)
    if own:
        chosen = (readable or own)[-1]
        others = [form.path for form in own if form.given != chosen.given or form.problem]
        others = [path for path in others if path != chosen.path]
        remarks += [f"{chosen.path} was graded, and not {', '.join(others)}"] if others else []
        remarks += [f"{chosen.path} {chosen.problem}"] if chosen.problem else []
        remarks += [f"{chosen.path} was handed in late, says its name"] if chosen.late else []
        if not chosen.problem:
            for question, right in paper.right.items():
                scores[question] = score_question(question, right, chosen.given, prior, remarks)
    elif untouched:
        remarks.append(f"{untouched[-1]} is as it was handed out")
    elif not forms:
        remarks.append("no answers.json was handed in")
    in_place = [f"{name_file(paper.student)}/answers.json"]  # where `make` has written it
    if not forms or (untouched == in_place and len(forms) == 1):
        scores = dict.fromkeys(scores)
    earned = [score for score in scores.values() if score is not None]
    total = round(sum(earned) / len(earned), 3) if earned else None
    return {"student": paper.student, "total": total, **scores, "remark": "; ".join(remarks)}


def write_tables(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    people: Roster | None,
    known: Mapping[str, Enrolled],
) -> None:
    """Write totals.csv and, if there is a roster, upload.csv: the roster with the totals."""
    facts = ("email", "section")
    cells = [
        [*row.values(), *(getattr(known.get(row["student"]), fact, "") for fact in facts)]
        for row in rows
    ]
    write_file(folder / "totals.csv", write_csv((*rows[0], *facts), cells))
    if people:
        there = [row for row in rows if row["total"] is not None and row["student"] in known]
        points = {known[row["student"]].line: row["total"] for row in there}
        write_file(folder / "upload.csv", people.fill_in(points, "mini-transformer exam"))


def read_papers(key: Path) -> list[Paper]:
    try:
        return [Paper(**paper) for paper in json.loads(key.read_text())["papers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{key} is no key of an exam ({error})") from None


def count_right(papers: Sequence[Paper]) -> dict[str, dict[str, float]]:
    """Count how often each answer is right in the class, which is what a guess may know.

    Roles are counted for heads and MLPs of each layer; where these are few, as in other layers.
    """
    counts: dict[str, Counter[str]] = {}
    for paper in papers:
        for question, items in paper.right.items():
            for item, right in items.items():
                kind = name_kind(question, item)
                for each in {kind, widen(kind)}:
                    counts.setdefault(each, Counter())[str(right)] += 1
    prior = {}
    for kind, count in counts.items():
        wide = counts[widen(kind)]
        known = {answer: n / wide.total() for answer, n in wide.items()}
        prior[kind] = {
            answer: (count[answer] + FEW * share) / (count.total() + FEW)
            for answer, share in known.items()
        }
    return prior


def name_kind(question: str, item: str) -> str:
    """Name what counts alike: questions, and for roles also the layer.

    >>> name_kind("edges", "m0->logits"), name_kind("roles", "a1.h2"), widen("roles a1")
    ('edges', 'roles a1', 'roles a')
    """
    return f"{question} {item.partition('.')[0]}" if question == "roles" else question


def widen(kind: str) -> str:
    return kind.rstrip("0123456789")


def score_question(
    question: str,
    right: Mapping[str, Any],
    given: Mapping[str, Any],
    prior: Mapping[str, Mapping[str, float]],
    remarks: list[str],
) -> float:
    """Score one question: 1 is right and certain, 0 is what the class's frequencies earn.

    An entry that is missing or says nothing that can be read counts as these frequencies.
    """
    answers = given.get(question)
    if not isinstance(answers, dict) or not answers:
        remarks.append(f"no answers to {question}")
        return 0.0
    if answers == make_blank(question, right):
        remarks.append(f"{question}: as it was handed out")
        return 0.0
    loss = 0.0
    least = 0.0
    strange = []
    for item, truth in right.items():
        known = prior[name_kind(question, item)]
        least += measure_loss(known, str(truth))
        chances = known
        try:
            if item not in answers:
                raise ValueError("is missing")
            if answers[item] != {}:  # which is how the form was handed out
                chances = read_chances(question, answers[item])
        except ValueError as error:
            strange.append(f"{item} {error}")
        loss += measure_loss(chances, str(truth))
    if strange:
        more = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
        share = f"{len(strange)} of {len(right)}"
        remarks.append(f"{question}: {share} count as a guess ({strange[0]}{more})")
    return round(1 - loss / least, 3) if least else 0.0


def make_blank(question: str, items: Iterable[str]) -> dict[str, Any]:
    """Make answers that say nothing."""
    return {item: {} if question == "roles" else 0.5 for item in items}


def read_chances(question: str, given: Any) -> dict[str, float]:
    """Read a probability, or one for each role. Raise ValueError unless they are such."""
    if question != "roles":
        chance = read_chance(given)
        return {"True": chance, "False": 1 - chance}
    if not isinstance(given, dict):
        raise ValueError(f"is {show(given)}, expected roles with probabilities")
    for role in given:
        if role not in (*ROLES, NOTHING):
            raise ValueError(f"has {show(role)}, which is no role")
    chances = {role: read_chance(chance) for role, chance in given.items()}
    if sum(chances.values()) > 1 + 1e-6:
        raise ValueError("has probabilities that add up to more than 1")
    return chances


def read_chance(given: Any) -> float:
    try:
        chance = float(given)
    except (OverflowError, TypeError, ValueError):
        chance = math.nan
    if not 0 <= chance <= 1:
        raise ValueError(f"is {show(given)}, no probability from 0 to 1")
    return chance


def show(given: Any) -> str:
    """Write what a student has written, shortly."""
    return "a list or object" if isinstance(given, list | dict) else say_harmless(repr(given), 30)


def measure_loss(chances: Mapping[str, float], right: str) -> float:
    """Measure the Brier loss: squared distance from certainty of what is right.

    >>> measure_loss({"True": 0.5, "False": 0.5}, "True"), measure_loss({"True": 1.0}, "True")
    (0.5, 0.0)
    """
    wrong = sum(chance**2 for answer, chance in chances.items() if answer != right)
    return (1 - chances.get(right, 0.0)) ** 2 + wrong

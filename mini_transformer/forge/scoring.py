"""Score answers to a folder of blind models, beside answers that look at nothing.

F1 of a set of edges is taken against the minimal circuit that it fits best, as the board's circuit
metric does, and against all circuits' edges together. A score is a mean over models, with a 95%
interval over them.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mini_transformer.edges import Edge, list_edges, list_writers
from mini_transformer.forge.blind import ROLES, commit, read_key
from mini_transformer.forge.case import ABLATIONS
from mini_transformer.intervals import Interval, find_interval
from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.isolation.files import hash_files
from mini_transformer.model import Config, Transformer
from mini_transformer.nearest import find_nearest

Found = dict[str, set]  # ablation -> edges, "roles" -> (node, role), "variables" -> variables
Variable = tuple[str, int, tuple[int, ...]]  # site, position, values numbered by first appearance
Say = Callable[[str], None]
NAMES_ONLY: dict[str, Callable[[Edge], bool]] = {
    "from the input": lambda edge: edge.writer.kind == "input",
    "to the logits": lambda edge: edge.reader.kind == "logits",
    "values from the input": lambda edge: edge.writer.kind == "input" and edge.part == "v",
    "past heads": lambda edge: edge.part is None,
    "between MLPs": lambda edge: "head" not in (edge.writer.kind, edge.reader.kind),
}


@dataclass(frozen=True)
class BlindScore:
    """Scores of a file of answers, with what is needed to verify them.

    `f1` is the mean over ablations, `exact` the share of answers that are a minimal circuit,
    `union` F1 against all circuits' edges. `notes` says in a sentence each what could not be read.
    `answers` is the SHA-256 hash of the answers, `commitment` that of the key.
    """

    metrics: dict[str, Interval]
    baselines: dict[str, dict[str, Interval]]
    models: dict[str, dict[str, float]]
    notes: list[str]
    answers: str
    commitment: str

    def as_data(self) -> dict[str, Any]:
        """Return what JSON can hold; an interval is [mean, low, high]."""
        return asdict(self)


def score_blind(
    answers: str | Path, key: str | Path, folder: str | Path | None = None
) -> BlindScore:
    """Score a JSON file of answers with the key of their folder.

    What cannot be read is noted, and costs no other answer. Raise ValueError if the file is no JSON
    or for another folder, and, with `folder`, if that is not the one that the key was sealed for.
    """
    sealed = read_key(key)
    commitment = commit(sealed)
    if folder is not None:
        check_folder(Path(folder), sealed)
    notes: list[str] = []
    data, given = read_json(Path(answers), notes.append)
    said = given.pop("commitment", None)
    if said is None:
        notes.append("the answers have no commitment, so nothing says that they are for this key")
    elif said != commitment:
        raise ValueError(
            f"the answers are for {said!r}, but {key} is the key of {commitment!r}: "
            "give the key of their folder"
        )
    truths = sealed["models"]
    for name in sorted(given.keys() - truths.keys()):
        notes.append(f"{name!r} is no model of this key; nearest: {find_nearest(name, truths)!r}")
    if missing := sorted(truths.keys() - given.keys()):
        how_many = f"{len(missing)} of {len(truths)} models {'have' if missing[1:] else 'has'}"
        notes.append(f"{how_many} no answer, which counts 0: {', '.join(missing)}")
    found = {
        name: read_answer(name, truth, given[name], notes.append) if name in given else {}
        for name, truth in truths.items()
    }
    models = {name: score_model(truth, found[name]) for name, truth in truths.items()}
    digest = hashlib.sha256(data).hexdigest()
    baselines = score_baselines(list(truths.values()), random.Random(commitment))
    metrics = summarize(models.values())
    return BlindScore(metrics, baselines, models, notes, digest, commitment)


def check_folder(folder: Path, key: dict[str, Any]) -> None:
    """Raise ValueError unless the key was sealed for this folder, as it is."""
    try:
        said = json.loads((folder / "example.json").read_text(encoding="utf-8"))["commitment"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read the commitment of {folder} ({error})") from None
    if said != commit(key):
        raise ValueError(f"the key is not the one that {folder} was sealed with: {said} was said")
    if hash_files(folder.glob("model_*")) != key["files"]:
        raise ValueError(f"a model or task in {folder} is not the one that the key was sealed for")


def read_json(path: Path, say: Say) -> tuple[bytes, dict[str, Any]]:
    """Read a JSON object; say which names are in it twice."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                say(f"{name!r} is given {count} times in one object: the last one counts")
        return dict(pairs)

    try:
        data = path.read_bytes()
        given = json.loads(data, object_pairs_hook=build)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path} ({error}): write it like example.json") from None
    if not isinstance(given, dict):
        raise ValueError(f"{path} is {describe_kind(given)}, expected an object like example.json")
    return data, given


def list_names(truth: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """List the edges of a model of this shape, and its nodes that write."""
    shape = {"n_layers": truth["n_layers"], "n_heads": truth["n_heads"]}
    model = Transformer(Config(d_vocab=1, n_ctx=1, d_model=1, d_head=1, d_mlp=1, **shape))
    return list_edges(model), list_writers(model)


def read_answer(name: str, truth: Mapping[str, Any], given: Any, say: Say) -> Found:
    """Read the answer to one model; say what cannot be read, and go on."""
    parts = {"edges": dict, "roles": dict, "variables": list}
    found: Found = {}
    if not isinstance(given, dict):
        say(f"{name} is {describe_kind(given)}, expected a dict with {', '.join(parts)}")
        return found
    edges, nodes = list_names(truth)
    for part, value in given.items():
        if part not in parts:
            say(f"{name} has {part!r}, which is not asked; nearest: {find_nearest(part, parts)!r}")
        elif not isinstance(value, parts[part]):
            wanted = parts[part].__name__
            say(f"{name}: {part} is {describe_kind(value)}, expected a {wanted}")
        elif part == "edges":
            for ablation in read_names(f"{name}, edges", "ablation", list(value), ABLATIONS, say):
                what = f"{name}, {ablation}"
                found[ablation] = read_names(what, "edge", value[ablation], edges, say)
        elif part == "roles":
            named = read_names(f"{name}, roles", "node", list(value), nodes, say)
            found["roles"] = {
                (node, role)
                for node in sorted(named)
                for role in read_names(f"{name}, {node}", "role", value[node], ROLES, say)
            }
        else:
            read = [read_variable(name, truth, one, say) for one in value]
            found["variables"] = {one for one in read if one}
    return found


def read_names(what: str, kind: str, listed: Any, known: Sequence[str], say: Say) -> set[str]:
    """Read a list of names; those that do not exist are said, and left out."""
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        say(f"{what}: a list of names is expected, such as {known[-1:]}; this counts 0")
        return set()
    counts = Counter(listed)
    unknown = [one for one in counts if one not in known]
    if unknown:
        nearest = find_nearest(unknown[0], known)
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        say(f"{what}: {unknown[0]!r} is no {kind} of this model{more}; nearest: {nearest!r}")
    if twice := [one for one, count in counts.items() if count > 1]:
        say(f"{what}: {twice[0]!r} is named {counts[twice[0]]} times, and counts once")
    return counts.keys() - unknown


def read_variable(name: str, truth: Mapping[str, Any], given: Any, say: Say) -> Variable | None:
    """Read a variable; two with the same partition of the prompts are the same."""
    try:
        site, position, values = given["site"], given["position"], given["values"]
        kinds = [type(one) for one in (site, position, *values)]
    except (KeyError, TypeError):
        kinds = []
    if kinds != [str, *[int] * (1 + truth["n_prompts"])]:
        say(
            f"{name}: a variable needs a site, a position, and {truth['n_prompts']} values, whole "
            f"numbers, one per prompt; this one counts 0: {str(given)[:80]}"
        )
        return None
    return site, position, tuple(map(values.index, values))


def measure_f1(found: Collection, right: Collection) -> float:
    """Measure F1 of two sets: what they share, twice, over what both hold; 0 for empty ones.

    >>> measure_f1({"a", "b"}, {"b", "c"})
    0.5
    """
    return 2 * len(set(found) & set(right)) / max(len(found) + len(right), 1)


def score_model(truth: Mapping[str, Any], found: Found) -> dict[str, float]:
    """Score the answer to one model; roles and variables only where the truth has some."""
    scores: dict[str, list[float]] = {"f1": [], "exact": [], "union": []}
    for ablation in ABLATIONS:
        answer = found.get(ablation, set())
        members = [set(one) for one in truth["circuits"][ablation]]
        best = max(measure_f1(answer, one) for one in members)
        scores["f1"].append(best)
        scores[f"f1 {ablation}"] = [best]
        scores["exact"].append(float(answer in members))
        scores["union"].append(measure_f1(answer, set().union(*members)))
    roles = {(node, role) for node, roles in truth["roles"].items() for role in roles}
    variables = {read_variable("", truth, one, print) for one in truth["variables"]}
    for name, right in (("roles", roles), ("variables", variables)):
        if right:
            scores[name] = [measure_f1(found.get(name, set()), right)]
    return {name: sum(values) / len(values) for name, values in scores.items()}


def summarize(models: Iterable[Mapping[str, float]]) -> dict[str, Interval]:
    """Average each score over models, with a 95% bootstrap interval over them."""
    rows = list(models)
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        found[name] = find_interval(values, generator)
    return found


def score_baselines(truths: list[dict], rng: random.Random) -> dict[str, dict[str, Interval]]:
    """Score what looks at nothing; of guesses from names alone the best."""
    answers: dict[str, list[Found]] = {"nothing": [{} for _ in truths]}
    for truth in truths:
        edges, nodes = list_names(truth)
        pairs = [(node, role) for node in nodes for role in ROLES]
        guesses: dict[str, Found] = {"random": {}, "everything": {"roles": set(pairs)}}
        for ablation, circuits in truth["circuits"].items():
            guesses["everything"][ablation] = set(edges)
            guesses["random"][ablation] = set(rng.sample(edges, len(circuits[0])))
        guesses["random"]["roles"] = set(rng.sample(pairs, len(truth["roles"])))
        roles = {(node, "look_up" if node[0] == "m" else "fetch") for node in nodes[1:]}
        for name, rule in NAMES_ONLY.items():
            kept = {edge for edge in edges if rule(Edge.parse(edge))}
            guesses[f"names: {name}"] = dict.fromkeys(ABLATIONS, kept) | {"roles": roles}
        for name, guess in guesses.items():
            answers.setdefault(name, []).append(guess)
    found = {
        name: summarize(map(score_model, truths, guesses)) for name, guesses in answers.items()
    }
    names_only = [name for name in found if name.startswith("names: ")]
    best = max(names_only, key=lambda name: found[name]["f1"].mean)
    return {name: found[name] for name in ("nothing", "everything", "random", best)}

"""One word, one meaning, in the signatures of the package's techniques."""

import inspect
from collections import defaultdict

from mini_transformer import methods

PUBLIC = {name: getattr(methods, name) for name in methods.__all__}
FUNCTIONS = {name: found for name, found in PUBLIC.items() if inspect.isfunction(found)}

# Names that still have several annotations, each with the reason.
# A name that has one again must leave this table.
EXCEPTIONS = {
    "activations": "rows of a batch; one unit's on every prompt and position; or neurons per pair",
    "circuit": "the names of edges or nodes; in `split_circuit` one of the two circuits of a head",
    "corrupt": "one per clean prompt; in `scrub` as many as there are",
    "direction": "denoise or noise; in `answer_pairs` a vector",
    "first": "a position; in `train_crosscoder` the first model's activations",
    "hidden": "the width of a hidden layer; only a probe may have none",
    "key": "a vector in `edit_rank_one`; a part of the stream in `read_qk`",
    "logits": "of a run, of the streams of a run, or one row per pair of numbers",
    "negative": "activations; in `find_steering_vector` prompts",
    "parts": "names of a model's parts; in `train_dictionary` widths",
    "penalty": "only a dictionary's depends on its architecture, if it is not given",
    "position": "one; one or all; or one per prompt",
    "positive": "activations; in `find_steering_vector` prompts",
    "scores": "one per edge; in `trace_faithfulness` one per edge or node, of any dtype",
    "second": "a position; in `train_crosscoder` the second model's activations",
    "source": "prompts, one per base prompt or as many as there are; in `read_ov` a part of the stream",
    "targets": "tokens to say, keys to look at, or activations to write",
    "tokens": "prompts; in `score_copying` the tokens of the vocabulary to try",
}


def collect_annotations():
    """Collect, for each parameter name, its annotations as text and the functions that have them."""
    found = defaultdict(lambda: defaultdict(list))
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                annotation = inspect.formatannotation(parameter.annotation)
                found[parameter.name][annotation].append(name)
    return found


def test_the_signatures_are_those_of_all_techniques():
    assert len(FUNCTIONS) > 90
    assert {"ablate", "patch_activations", "train_probe", "steer"} <= set(FUNCTIONS)


def test_every_parameter_has_an_annotation():
    bare = inspect.formatannotation(inspect.Parameter.empty)
    without = {name: uses[bare] for name, uses in collect_annotations().items() if bare in uses}
    assert not without


def test_no_parameter_is_called_kind():
    named = collect_annotations().get("kind", {})
    assert not named, "say which: an ablation, an architecture, hidden"


def test_a_parameter_name_has_one_annotation_everywhere():
    several = {name: dict(uses) for name, uses in collect_annotations().items() if len(uses) > 1}
    unexpected = {name: uses for name, uses in several.items() if name not in EXCEPTIONS}
    assert not unexpected


def test_every_exception_is_still_needed():
    several = {name for name, uses in collect_annotations().items() if len(uses) > 1}
    assert set(EXCEPTIONS) <= several, (
        "these have one annotation by now: take them out of the table"
    )

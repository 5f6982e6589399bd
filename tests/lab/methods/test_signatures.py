"""One word, one meaning, in the signatures of the package's techniques, and who may import what."""

import ast
import importlib
import inspect
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from every_call import CALLS, make_arguments, name_function, use
from odd_models import list_leaves, set_up, vary

from mini_transformer import methods

PUBLIC = {name: getattr(methods, name) for name in methods.__all__}
FUNCTIONS = {name: found for name, found in PUBLIC.items() if inspect.isfunction(found)}
ROOM = Path(methods.__file__).parent
MODULES = [path for path in sorted(ROOM.rglob("*.py")) if path.name != "__init__.py"]

# Each table below holds exceptions with their reasons; one that is not needed any more must leave.

ANNOTATIONS = {
    "activations": "rows of a batch; one unit's on every prompt and position; or neurons per pair",
    "circuit": "the names of edges or nodes; in `split_circuit` one of the two circuits of a head",
    "corrupt": "one per clean prompt; in `scrub` as many as there are",
    "hidden": "the width of a hidden layer; only a probe may have none",
    "key": "a vector in `edit_rank_one`; a part of the stream in `read_qk`",
    "logits": "of a run, of the streams of a run, or one row per pair of numbers",
    "negative": "activations; in `fit_steering_vector` prompts",
    "outputs": "activations to write; in `train_dictionary` by default its input",
    "penalty": "only a dictionary's depends on its architecture, if it is not given",
    "positive": "activations; in `fit_steering_vector` prompts",
    "source": "prompts, one per base prompt; in `apply_patchscope` of any length",
    "tokens": "prompts; in `score_copying` the tokens of the vocabulary to try",
}
DEFAULTS = {
    "draws": "of noise, of orders, of random models, of masks: each needs its own number",
    "hidden": "a probe is linear unless said",
    "k": "examples to look at, directions, or active latents",
    "levels": "quantiles to report, or the ends of bands",
    "lr": "what each loss needs",
    "penalty": "in the unit of each loss",
    "site": "the stream before a block, but what a trace restores is the stream after it",
    "steps": "what each loss needs; points of an integral",
}
NEEDS_ONE_PLACE = {
    "answer_early": "an answer is read at one position",
    "attribute_logits": "a logit stands at one position",
    "attribute_logits_to_neurons": "a logit stands at one position",
    "attribute_logits_to_sources": "a logit stands at one position",
    "measure_answer_probability": "an answer is read at one position",
    "measure_answer_rank": "an answer is read at one position",
    "measure_gradient_symmetry": "a logit stands at one position",
    "measure_reliance": "an answer is read at one position",
}
VECTORS = {
    "ablate_directions": "what is ablated is a subspace; the field calls its rows directions",
    "orthogonalize_weights": "as in `ablate_directions`",
}
WORDS = """
    ablate answer apply assess attribute climb describe draw edit exclude find fit integrate
    keep list make measure multiply occlude orthogonalize patch read restrict run sample scale
    score scrub split steer swap sweep synthesize train write
"""
VERBS = set(WORDS.split())
OWN_NAMES = {
    "attribution_patch": "the field's name",
    "causal_trace": "the field's name",
    "eap": "the field's name",
}


def collect(read):
    """Collect, for each parameter name, what `read` says of it and the functions that have it."""
    found = defaultdict(lambda: defaultdict(list))
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                found[parameter.name][read(parameter)].append(name)
    return found


def collect_annotations():
    return collect(lambda parameter: inspect.formatannotation(parameter.annotation))


def collect_defaults():
    """Collect the defaults of each name as text; a function without one is not counted."""
    found = collect(lambda parameter: repr(parameter.default))
    return {
        name: {
            value: uses for value, uses in values.items() if value != repr(inspect.Parameter.empty)
        }
        for name, values in found.items()
    }


def list_several(collected):
    return {name: dict(uses) for name, uses in collected.items() if len(uses) > 1}


def test_the_signatures_are_those_of_all_techniques():
    assert len(FUNCTIONS) > 90
    assert {"ablate", "patch_activations", "fit_probe", "steer"} <= set(FUNCTIONS)


def test_every_parameter_has_an_annotation():
    bare = inspect.formatannotation(inspect.Parameter.empty)
    without = {name: uses[bare] for name, uses in collect_annotations().items() if bare in uses}
    assert not without


@pytest.mark.parametrize(
    ("collected", "exceptions"),
    [(collect_annotations(), ANNOTATIONS), (collect_defaults(), DEFAULTS)],
    ids=["annotation", "default"],
)
def test_a_parameter_name_has_one_annotation_and_one_default_everywhere(collected, exceptions):
    several = list_several(collected)
    assert not {name: uses for name, uses in several.items() if name not in exceptions}
    assert set(exceptions) <= set(several), "these have one by now: take them out of the table"


def test_no_parameter_is_called_kind():
    named = collect_annotations().get("kind", {})
    assert not named, "say which: an ablation, an architecture, hidden"


def test_the_defaults_that_the_vocabulary_names():
    defaults = collect_defaults()
    assert not defaults["direction"], "noise or denoise must be said"
    assert set(defaults["ablation"]) == {"'resample'"}
    assert set(defaults["position"]) == {"-1"}


def test_a_direction_is_noise_or_denoise_and_a_vector_is_called_vector():
    assert set(collect_annotations()["direction"]) == {"Literal['denoise', 'noise']"}
    named = {name for uses in collect_annotations()["directions"].values() for name in uses}
    assert named == set(VECTORS)


def test_names_begin_with_a_verb():
    others = {name for name in FUNCTIONS if name.split("_")[0] not in VERBS}
    assert others == set(OWN_NAMES)
    unused = VERBS - {name.split("_")[0] for name in FUNCTIONS}
    assert not unused, "no technique begins with these: take them out"


def list_calls_with_a_position():
    return [
        call
        for call in CALLS
        if "position" in inspect.signature(FUNCTIONS[name_function(call)]).parameters
    ]


def call_at(call, position):
    """Call a technique at a position, on a small model; return all that its result says."""
    function = FUNCTIONS[name_function(call)]
    setting = set_up(vary(norm="layer", biases=True))
    args, kwargs = make_arguments(call, setting)
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.arguments["position"] = position
    found = function(*bound.args, **bound.kwargs)
    return [leaf for _, leaf in list_leaves((found, use(found, setting)))]


@pytest.mark.parametrize("call", list_calls_with_a_position())
def test_a_position_is_one_or_one_per_prompt_or_all(call):
    """A technique that cannot take all positions says so."""
    prompts = len(set_up(vary()).clean)
    if call == "describe_unit":
        prompts *= 2
    expected = call_at(call, -1)
    for each in ([-1] * prompts, torch.full((prompts,), -1)):
        for got, value in zip(call_at(call, each), expected, strict=True):
            if isinstance(value, str):
                assert got == value
            else:
                torch.testing.assert_close(got, value, equal_nan=True)
    if name_function(call) in NEEDS_ONE_PLACE:
        with pytest.raises(ValueError, match="position is None, all positions, but"):
            call_at(call, None)
    else:
        call_at(call, None)


def test_every_function_that_needs_one_place_takes_a_position():
    called = {name_function(call) for call in list_calls_with_a_position()}
    assert set(NEEDS_ONE_PLACE) <= called
    assert called == {
        name
        for name, function in FUNCTIONS.items()
        if "position" in inspect.signature(function).parameters
    }


def name_module(path):
    return ".".join(("mini_transformer.methods", *path.relative_to(ROOM).with_suffix("").parts))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOM)))
def test_a_module_says_what_it_offers_right_after_its_imports(path):
    body = ast.parse(path.read_text()).body
    imports = (ast.Import, ast.ImportFrom, ast.Expr)  # an expression is the docstring
    first = next(node for node in body if not isinstance(node, imports))
    assert isinstance(first, ast.Assign)
    assert first.targets[0].id == "__all__"
    assert importlib.import_module(name_module(path)).__all__, "offers nothing: part of another?"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOM)))
def test_a_module_takes_only_what_its_siblings_offer(path):
    taken = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(methods.__name__):
            offered = importlib.import_module(node.module).__all__
            taken |= {alias.name for alias in node.names} - set(offered)
    assert not taken

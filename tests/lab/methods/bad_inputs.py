"""Bad values for each argument of the techniques, by its name, and the words of the answer.

A bad value is made from a good one, which `every_call.py` gives. The answer must be one sentence
that holds what was given and what is expected: in a pattern, `{shape}` stands for the bad value's
shape and `{value}` for the bad value. OWN lists what one function alone can be given wrong.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from every_call import CALLS, Setting, make_arguments, name_function
from torch import Tensor

from mini_transformer import Config, Transformer, methods
from mini_transformer.edges import list_edges
from mini_transformer.methods.descent import descend
from mini_transformer.methods.looking.lenses import list_streams

NAN = float("nan")
EXPECTED = (
    r"expected|but|needs?\b|must|takes?\b|at least|nearest|look like|finite|holds no|"
    r"does not exist|: (take|use|give|return|keep|leave)"
)
SIZES = {"d_vocab": 7, "n_ctx": 8, "d_model": 6, "n_layers": 2, "n_heads": 2}


class Bad(NamedTuple):
    """A way to spoil a good value, and patterns that the answer must hold beside EXPECTED."""

    what: str
    spoil: Callable[[Any], Any]
    words: tuple[str, ...]
    fits: Callable[[Any], bool] = lambda good: True  # whether the good value is of this kind


def make_setting(**options: Any) -> Setting:
    model = Transformer(Config(**SIZES | {"d_mlp": 5} | options))
    draw = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randint(7, (2, 4, 5), generator=draw)
    return Setting(model, clean, corrupt)


def find_words(bad: Bad, value: Any) -> list[str]:
    shape = str(tuple(value.shape)) if isinstance(value, Tensor) else ""
    words = (pattern.replace("{shape}", re.escape(shape)) for pattern in bad.words)
    return [word.replace("{value}", re.escape(repr(value))) for word in (*words, EXPECTED)]


def is_prompts(good: Any) -> bool:
    return isinstance(good, Tensor) and good.ndim == 2 and not good.is_floating_point()


def is_rows(good: Any) -> bool:
    return isinstance(good, Tensor) and good.ndim == 2 and good.is_floating_point()


def is_vector(good: Any) -> bool:
    return isinstance(good, Tensor) and good.ndim == 1 and good.is_floating_point()


def is_per_row(good: Any) -> bool:
    return isinstance(good, Tensor) and good.ndim == 1 and not good.is_floating_point()


def is_name(good: Any) -> bool:
    return isinstance(good, str)


def is_names(good: Any) -> bool:
    return isinstance(good, list) and all(map(is_name, good))


def is_number(good: Any) -> bool:
    return good is None or isinstance(good, int | float)


def given(*values: Any, say: tuple[str, ...] = ("{value}",), fits: Any = is_number) -> list[Bad]:
    """Values that are bad whatever the good one is."""
    return [Bad(repr(value), lambda good, value=value: value, say, fits) for value in values]


def anything(good: Any) -> bool:
    return True


PROMPTS = [
    Bad("no batch", lambda x: x[0], ("{shape}",), is_prompts),
    Bad("floats", lambda x: x.float(), (r"torch\.float32 {shape}",), is_prompts),
    Bad("no prompts", lambda x: x[:0], (r"no \w* ?prompts|0 prompts|\(0,|no query",), is_prompts),
    Bad("a token outside", lambda x: x * 0 + 7, ("7", "0 to 6"), is_prompts),
]
SAME_LENGTH = [Bad("another length", lambda x: x[:, 1:], ("{shape}|4 tokens",), is_prompts)]
ROWS = [
    Bad("no rows", lambda x: x[:0], ("{shape}",), is_rows),
    Bad("no axis of rows", lambda x: x[0], ("{shape}",), is_rows),
    Bad("integers", lambda x: x.long(), (r"torch\.int64 {shape}",), is_rows),
    Bad("not finite", lambda x: NAN * x, ("{shape}", "finite"), is_rows),
]
FEWER_ROWS = [Bad("fewer rows", lambda x: x[1:], (r"{shape}|\b19 rows|\b19\b",), is_rows)]
LABELS = [
    Bad("fewer", lambda x: x[1:], ("{shape}",), is_per_row),
    Bad("floats", lambda x: x.float(), (r"torch\.float32 {shape}",), is_per_row),
    Bad("one class", lambda x: 0 * x, ("all labels are 0",), is_per_row),
    Bad("a class left out", lambda x: 2 * x, (r"\[0, 2\]", "count from 0"), is_per_row),
]
ANSWERS = [
    Bad("fewer", lambda x: x[1:], ("{shape}",), is_per_row),
    Bad("floats", lambda x: x.float(), (r"torch\.float32 {shape}",), is_per_row),
    Bad("a token outside", lambda x: x * 0 + 7, (r"\b7\b", "0 to 6"), is_per_row),
]
METRIC = [
    Bad("one number", lambda good: lambda logits: logits.mean(), (r"metric returned .*\(\)",)),
    Bad("per position", lambda good: lambda logits: logits[..., 0], ("metric returned",)),
    Bad("integers", lambda good: lambda logits: logits[:, -1].argmax(-1), ("returned .*int64",)),
    Bad("booleans", lambda good: lambda logits: logits[:, -1, 0] > 0, ("returned torch.bool",)),
    Bad("a float", lambda good: lambda logits: logits.sum().item(), ("metric returned float",)),
]
UNKNOWN = given(["a9.h9"], say=("'a9.h9'",), fits=is_names)
POSITION = given(5, -6, say=("position", "{value}"))
COUNT = given(0, -1)
POSITIVE = given(0, -1.0, NAN)
NOT_NEGATIVE = given(-1.0, NAN)
CHOICE = given("nonsense", fits=lambda good: good is None or is_name(good))
DIRECTIONS = [
    *ROWS[1:],
    Bad("none", lambda x: x[:0], ("{shape}",), is_rows),
    Bad("another width", lambda x: x[:, 1:], ("{shape}|width 5", "6"), is_rows),
]
WIDTH = [Bad("another width", lambda x: x[1:], ("{shape}",), is_vector)]

BAD: dict[str, list[Bad]] = {
    **dict.fromkeys(("tokens", "prompts", "clean", "target"), PROMPTS),
    **dict.fromkeys(("corrupt", "base", "source", "reference"), PROMPTS + SAME_LENGTH),
    **dict.fromkeys(("positive", "negative"), PROMPTS + ROWS),
    **dict.fromkeys(("activations", "inputs"), ROWS),
    **dict.fromkeys(("outputs", "codes", "first", "second"), ROWS + FEWER_ROWS),
    "x": ROWS[1:3],
    "logits": [
        Bad("no axis", lambda x: x[0], ("{shape}",)),
        Bad("integers", lambda x: x.long(), (r"torch\.int64 {shape}",)),
    ],
    "labels": LABELS,
    "types": LABELS[:1],
    **dict.fromkeys(("answer", "answers", "wrong"), ANSWERS),
    "metric": METRIC,
    **dict.fromkeys(("position", "answer_position", "target_position", "read_position"), POSITION),
    **dict.fromkeys(("first_position", "second_position"), POSITION),
    **dict.fromkeys(("ablation", "site", "per", "along", "architecture", "part"), CHOICE),
    **dict.fromkeys(("query", "key", "head", "path", "severed", "attended"), CHOICE),
    "direction": CHOICE + WIDTH,
    "circuit": CHOICE + UNKNOWN,
    **dict.fromkeys(("parts", "receivers"), UNKNOWN),
    **dict.fromkeys(("circuits", "knockouts"), given([["a9.h9"]], say=("'a9.h9'",), fits=anything)),
    "hypothesis": given({"a9.h9": torch.sum}, say=("'a9.h9'",), fits=anything),
    "hook": given(("resid", 0), ("pattern", 0), say=("resid|pattern",), fits=anything),
    **dict.fromkeys(("hooks", "reads"), given(("resid", 0), say=("resid",), fits=anything)),
    **dict.fromkeys(
        ("positions", "layers", "free", "latents"), given([99], say=("99",), fits=anything)
    ),
    "allowed": given([], [7], fits=anything),
    "queries": given(slice(0, 0), say=("no query",), fits=anything),
    "frequencies": given([99], [0], say=("99|0",), fits=anything),
    **dict.fromkeys(("layer", "target_layer", "d_first"), given(99, -99)),
    **dict.fromkeys(
        ("batch_size", "steps", "k", "draws", "n_latents", "dim", "rows", "starts"), COUNT
    ),
    **dict.fromkeys(("tries", "restarts", "shortlist", "permutations", "most", "keep"), COUNT),
    **dict.fromkeys(("window", "batch", "hidden", "max_size", "beam", "rounds"), COUNT),
    **dict.fromkeys(("before", "after", "n", "n_layers", "shuffles", "filler"), given(-1)),
    "p": given(4, 1, 0),
    **dict.fromkeys(("lr", "tau", "ridge", "noise", "tolerance"), POSITIVE),
    **dict.fromkeys(("penalty", "cost", "margin"), NOT_NEGATIVE),
    "quantile": given(-0.1, 1.0, NAN),
    **dict.fromkeys(
        ("strengths", "taus"), given([], [NAN], say=("no (strengths|taus)|nan",), fits=anything)
    ),
    "levels": given([0.5, 1.5], fits=anything),
    **dict.fromkeys(("vector", "value", "key", "scores"), WIDTH),
    "key": CHOICE + WIDTH,
    **dict.fromkeys(("directions", "subspace"), DIRECTIONS),
    "keys": DIRECTIONS[2:],
    "basis": given(torch.eye(9), say=("{shape}",), fits=anything),
    "baseline": [
        Bad("a token outside", lambda x: torch.tensor(7), (r"\(\)", "0 to 6")),
        Bad("another width", lambda x: torch.zeros(3), ("float32 {shape}",)),
    ],
    "scratchpad": given(slice(99, 100), fits=anything),
    "blurred": [
        Bad("no batch", lambda x: x[0], ("{shape}",)),
        Bad("integers", lambda x: x.long(), (r"torch\.int64 {shape}",)),
        Bad("no token", lambda x: x & False, ("no token",)),
    ],
    "excite": [
        Bad("one number", lambda f: lambda prompts: f(prompts).mean(), (r"returned .*\(\)",)),
        Bad("two", lambda f: lambda prompts: f(prompts)[:, None].expand(-1, 2), ("returned .*2",)),
        Bad("constant", lambda f: lambda prompts: f(prompts).detach(), ("no gradient",)),
    ],
    "predicates": given({}, {"all": lambda tokens: tokens}, say=("predicate",), fits=anything),
    "seen": given(
        torch.tensor([25]), torch.tensor([], dtype=torch.int64), say=("seen",), fits=anything
    ),
    "targets": [Bad("fewer", lambda x: x[1:], ("{shape}|19",))],
    "edits": [Bad("another length", lambda x: x[..., 1:], ("{shape}",))],
    "start": [Bad("two prompts", lambda x: x[None].repeat(2, 1), ("{shape}",))],
    "transform": given(
        lambda states: states[..., :2], say=("transform", "keep the shape"), fits=anything
    ),
}
# Arguments of which no value is bad, or none of their type, with the reason.
ANY_VALUE = {
    "model": "any model is right; what a technique cannot do with one is in OWN",
    "seed": "every seed is one",
    "by_position": "yes or no",
    "values": "any numbers are shares of a difference",
    **dict.fromkeys(("factor", "strength", "threshold"), "any number scales"),
    **dict.fromkeys(("cache", "lens", "dictionary", "crosscoder", "found"), "made by us; see OWN"),
    "settings": "those of train_dictionary",
}
# What is not bad for one function, or has an answer of other words, as (function, argument, what).
SPARED = {
    ("eap", "steps", "0"): "0 is the gradient at the clean run",
    ("attribution_patch", "steps", "0"): "0 is the gradient at the clean run",
    ("describe_unit", "tokens", "floats"): "tokens are what predicates are true of",
    ("describe_unit", "tokens", "a token outside"): "there is no vocabulary",
    ("apply_patchscope", "source", "another length"): "the source stands by itself",
    ("list_knockouts", "circuit", "['a9.h9']"): "there is no model to look the name up",
    **{
        ("draw_control_labels", "labels", what): "labels are only drawn from"
        for what in ("floats", "one class", "a class left out")
    },
    ("describe_unit", "activations", "not finite"): "the answer counts them; see OWN",
    ("edit_rank_one", "keys", "not finite"): "the answer is one for all three; see OWN",
    ("swap_subspace", "subspace", "none"): "then nothing is swapped",
    ("measure_interchange", "subspace", "none"): "then nothing is swapped",
    ("swap_subspace", "subspace", "not finite"): "then the rows are not orthonormal; see OWN",
    ("measure_interchange", "subspace", "not finite"): "then the rows are not orthonormal",
}


class Own(NamedTuple):
    """What one function can be given wrong beside what its arguments' names say."""

    function: str
    sentence: str  # a part of the answer
    changes: dict[str, Any]


def own(function: str, sentence: str, **changes: Any) -> Own:
    return Own(function, sentence, changes)


S = make_setting()
NO_LAYERS = make_setting(n_layers=0).model
NO_MLP = make_setting(d_mlp=0).model
NO_POSITIONS = make_setting(positions="none").model
TO_QK = make_setting(positions_to="qk").model
FEWER_OUT = make_setting(d_vocab_out=5).model
FIXED = make_setting(positions="sinusoidal").model
TIED = make_setting(tied=True).model
ROWS_20 = S.rows
EDGES = list_edges(S.model)


def silent(logits: Tensor) -> Tensor:
    return 0 * logits[:, -1, 2]


def is_above_middle(logits: Tensor) -> Tensor:
    """Tell the clean run from the corrupt one without a gradient."""
    with torch.no_grad():
        middle = S.model(torch.cat([S.clean, S.corrupt]))[:, -1, 0].mean()
    return (logits[:, -1, 0] > middle).float()


def accuracy(logits: Tensor) -> Tensor:
    return (logits[:, -1].argmax(dim=-1) == 2).float()


NO_LAYERS_AT_ALL = {
    "score_previous_token": "the model has no layers",
    "patch_activations": "must be one of: none, without layers",
    "ablate_each_head": "must be one of: none",
    "ablate": "nearest: none, no layers",
    "apply_logit_lens": "the model has no layers, but a lens needs at least one",
    "fit_tuned_lens": "the model has no layers",
    "read_ov": "no head is called 'a1.h1'; nearest: none, no layers",
    "attribute_logits_to_sources": "this model has no layers, so there are no heads",
}
NO_METRIC = {
    **dict.fromkeys(
        ("measure_share_recovered", "train_edge_mask", "measure_faithfulness", "scrub"), "differ"
    ),
    "find_circuit_acdc": "with all edges on and 0 with all off, but must be lower then",
}
NO_GRADIENT = ("eap", "attribution_patch", "multiply_gradient", "measure_saliency")
# fmt: off
OWN = [
    *(own(name, words, model=NO_LAYERS) for name, words in NO_LAYERS_AT_ALL.items()),
    *(own(name, words, metric=silent) for name, words in NO_METRIC.items()),
    *(own(name, "the metric has no gradient: use", metric=accuracy) for name in NO_GRADIENT),
    # intervening
    own("ablate", "no component is called 'a0.h2'; nearest: a0.h", parts=["a0.h2"]),
    own("ablate", "no component is called 'm0.n5'; nearest: m0.n", parts=["m0.n5"]),
    own("ablate", "no component is called 'm0'; nearest: a", parts=["m0"], model=NO_MLP),
    own("ablate", "no component is called 'a2'; nearest: a", parts="a2"),
    own("ablate", "resample needs reference prompts of shape (4, 5), but was given none",
        reference=None, ablation="resample"),
    own("ablate", "reference prompts have 4 tokens, but the prompts 5", reference=S.clean[:, 1:],
        ablation="mean"),
    own("ablate_each", "post has the axes pos, neuron, but per asks for 'head'", site="post",
        per="head"),
    own("ablate_pairs", "no parts were given", parts=[]),
    own("ablate_directions", "7 directions were given, but there are only 6",
        directions=torch.ones(7, 6)),
    own("orthogonalize_weights", "the 2 directions span fewer than 2 dimensions",
        directions=torch.ones(2, 6)),
    own("orthogonalize_weights", "this model has a tied unembedding, which", model=TIED),
    own("orthogonalize_weights", "this model has fixed positions in the stream", model=FIXED),
    own("patch_activations", "site is 'resid', but must be one of: resid_pre, resid_mid",
        site="resid"),
    own("patch_activations", "site is 'mlp_out', but must be one of", site="mlp_out", model=NO_MLP),
    own("patch_activations", "per is 'pos pos', but must name an axis once", per="pos pos"),
    own("attribution_patch", "z has the axes pos, head, d_head, but per", site="z", per="neuron"),
    own("attribution_patch", "site is 'post', but must be one of", site="post", model=NO_MLP),
    own("causal_trace", "window is 0 and severed None, but must be from 1", window=0),
    own("causal_trace", "window is 1 and severed 'z', but", window=1, severed="z"),
    own("fit_steering_vector", "there are no negative prompts", negative=S.clean[:0]),
    own("fit_steering_vector", "there are no positive prompts", positive=S.clean[:0]),
    own("fit_value", "an MLP in layer 0 was asked for, but this model has 2 layers, none",
        model=NO_MLP, layer=0),
    own("edit_rank_one", "an MLP in layer 2 was asked for, but this model has 2 layers, each",
        layer=2),
    own("edit_rank_one", "key, value and keys are (5,), (6,) and (0, 5), expected (5,), (6,) and",
        keys=torch.eye(5)[:0]),
    own("edit_rank_one", "the key is zero, or a number is not finite", key=torch.zeros(5)),
    own("edit_rank_one", "or a number is not finite", keys=NAN * torch.eye(5)),
    own("write_scratchpad", "5 tokens were asked for, but after 5 the context has room for 0 to 4",
        n=5),
    own("measure_reliance", "prompt 0 has no edit that differs",
        edits=S.clean[None, :, S.scratchpad]),
    own("answer_early", "the answer is read at position 0 of 5", position=0),
    own("measure_shapley", "15 positions have 2^15 coalitions, but exact values take at most 14",
        tokens=torch.zeros(1, 15).long(), positions=None, baseline=torch.tensor(0),
        model=make_setting(n_ctx=16).model),
    own("measure_shapley", "positions are [0, -5], but must be at least one, and each once",
        positions=[0, -5]),
    own("sample_shapley", "positions are [], but must be", positions=[]),
    own("sample_shapley", "draws is 1, but a standard error needs at least 2", draws=1),
    own("integrate_gradients", "give more steps than 1, or a higher tolerance than 1e-06", steps=1,
        tolerance=1e-6),
    # circuits
    own("patch_path", "the path is 'a0.h0', but must have at least one edge", path="a0.h0"),
    own("patch_path", "no edge is called 'a1.h0->a0.h0<k>'", path="a1.h0->a0.h0<k>"),
    own("patch_path", "no edge is called 'a0.h0->a1.h0'", path="a0.h0->a1.h0->logits"),
    own("patch_senders", "no receiver is called 'a1.h0'; they look like 'a0.h0<q>', or 'logits'",
        receivers=["a1.h0"]),
    own("patch_senders", "no receiver is called 'm2'", receivers="m2"),
    own("patch_senders", "no receivers were given", receivers=[]),
    own("patch_edges", "ablation is 'zero', but denoising puts clean", ablation="zero",
        direction="denoise"),
    own("measure_faithfulness", "circuits is a list of circuits, but holds the name 'input'",
        circuits=["input"]),
    own("measure_faithfulness", "the circuit mixes edges and nodes ('input', ...), but",
        circuits=[["input", "input->logits"]]),
    own("measure_faithfulness", "no edge or node is called 'm2' in this model; nearest: 'm",
        circuits=[["m2"]]),
    own("score_nodes", "scores are (3,), expected (46,): one per edge", scores=torch.zeros(3)),
    own("measure_faithfulness_curve", "scores are given by 1 names, expected a number for each of",
        scores={"input": 1.0}),
    own("measure_faithfulness_curve", "scores are (2, 8), expected", scores=torch.ones(2, 8)),
    own("measure_faithfulness_curve", "with NaN, expected", scores=torch.full((len(EDGES),), NAN)),
    own("measure_incompleteness", "'m0' is to be knocked out, but is not in the circuit; it has 2",
        knockouts=[["m0"]]),
    own("measure_minimality", "no knockouts were given", knockouts=[]),
    *(
        own(
            name,
            "there are 1 prompts, but a test over prompts needs at least 2",
            clean=S.clean[:1],
            corrupt=S.corrupt[:1],
        )
        for name in ("assess_equivalence", "assess_independence", "assess_minimality")
    ),
    own("assess_equivalence", "margin is 0.5, but must be from 0 to below 0.5", margin=0.5),
    own("assess_minimality", f"the circuit has 0 of {len(EDGES)} edges, but some must be in",
        circuit=[]),
    own("assess_minimality", f"the circuit has {len(EDGES)} of {len(EDGES)} edges, but some",
        circuit=EDGES),
    own("scrub", "no edge or writer is called 'logits'", hypothesis={"logits": torch.sum}),
    own("scrub", "the feature of m0 is () for 8 prompts, expected one row",
        hypothesis={"m0": torch.sum}),
    own("scrub", "the feature of m0 is (2,) for 8",
        hypothesis={"m0": lambda tokens: tokens[:2, 0]}),
    own("scrub", "the feature of m0 is list for 8",
        hypothesis={"m0": lambda tokens: tokens.tolist()}),
    own("train_edge_mask", "the metric has no gradient: use a logit", metric=is_above_middle),
    own("train_edge_mask", "draws is 1 and penalty -1, but both", draws=1, penalty=-1),
    # weights
    own("read_qk", "no source is called 'tokens': take 'token', 'position', 'bias' or a head of",
        query="tokens"),
    own("read_qk", "no source is called 'a1.h1': take", key="a1.h1"),
    own("read_ov", "no source is called 'tokens': take", attended="tokens"),
    own("read_qk", "the source is 'position', but positions are none in this model",
        query="position", model=NO_POSITIONS),
    own("read_ov", "the source is 'position', but positions go to queries and keys only",
        attended="position", model=TO_QK),
    own("split_circuit", "no head is called 'a0.h2'; nearest: a0.h", head="a0.h2"),
    own("split_circuit", "circuit is 'vo', but must be 'qk' or 'ov'", circuit="vo"),
    own("score_copying", "7 tokens are read and 5 predicted: say which `tokens`", model=FEWER_OUT),
    own("score_copying", "tokens are [0, 5], but must be 0 to 4", model=FEWER_OUT, tokens=[0, 5]),
    own("score_copying", "tokens are [-1], but must be 0 to 6", tokens=[-1]),
    own("score_copying", "tokens are [], but must be 0 to 6", tokens=[]),
    own("attribute_logits_to_neurons", "this model has no MLPs", model=NO_MLP),
    own("attribute_logits", "was not cached",
        cache=S.model.run_with_cache(S.clean, names_filter="embed")[1]),
    own("attribute_logits", "the cache is of a run without prompts",
        cache=S.model.run_with_cache(S.clean[:0])[1], answer=S.answers[:0], wrong=None),
    own("write_fourier_basis", "p is 4, but must be odd and at least 3; nearest: 5", p=4),
    own("write_fourier_basis", "p is 1, but must be odd and at least 3; nearest: 3", p=1),
    own("keep_frequencies", "frequency 3 was asked for, but p = 5 has 1 to 2", frequencies=[3]),
    own("exclude_logits", "frequency 0 was asked for", frequencies=[0]),
    own("measure_frequency_shares", "x (5, 1) is zero everywhere", x=torch.zeros(5, 1)),
    own("measure_share_of_sum", "the logits (25, 5) are the same for all pairs",
        logits=0 * S.pairs),
    own("measure_distance_irrelevance", "the correct logit is 0 for all pairs", logits=0 * S.pairs),
    own("measure_share_of_best_frequency", "floats with a row for each of 7 x 7", p=7),
    # representations
    own("fit_probe", "hidden is 'mlp', but must be None (linear) or a width", hidden="mlp"),
    own("fit_probe", "penalty is 0, but must be positive and finite", penalty=0),
    own("measure_selectivity", "the control task came out with one class only", types=0 * S.labels),
    own("fit_inlp", "7 rounds take out 7 directions, but there are 6 dimensions", rounds=7),
    own("fit_das", "dim is 7, but must be from 1 to the hook's width 6", dim=7),
    own("fit_das", "('pattern', 0) is (4, 2, 5, 5), but a hook with axes (batch, pos, width)",
        hook=("pattern", 0)),
    own("swap_subspace", "the subspace has 7 rows, but there are only 6",
        subspace=torch.ones(7, 6)),
    own("swap_subspace", "the rows of the subspace are not orthonormal", subspace=torch.ones(2, 6)),
    own("fit_nonlinear_alignment", "dim is 7, but must be from 1 to the hook's width 6", dim=7),
    own("swap_by_map", "the map takes width 4, but the hook's width is 6",
        found=methods.AlignmentMap(torch.eye(4), (), 2, torch.eye(4)[:2])),
    own("train_dictionary", "architecture is 'pca', but must be one of: l1, topk",
        architecture="pca"),
    own("train_dictionary", "n_latents is 3 and k is 4, but k must be from 1", n_latents=3, k=4),
    own("train_dictionary", "widths are (1, 2), but must add up to the outputs' width 6",
        widths=(1, 2)),
    own("train_dictionary", "there are 20 activations and 19 outputs", outputs=ROWS_20[1:]),
    own("scale_features", "comes after ('mlp_in', 0), but", hook=("mlp_in", 0),
        reads=("mlp_out", 0)),
    own("scale_features", "(4, 5, 6), but the dictionary maps vectors of width 5 to 5",
        dictionary=make_setting(d_model=5, n_heads=1).axes, latents=[0]),
    own("fit_supervised_dictionary", "the codes of the 12 latents depend on each other",
        codes=torch.cat([ROWS_20, ROWS_20], dim=1)),
    own("fit_principal_directions", "k is 7, but must be from 1 to 6: the 20 rows of width 6", k=7),
    own("fit_principal_directions", "k is 3, but must be from 1 to 2: the 3 rows",
        activations=ROWS_20[:3], k=3),
    own("fit_principal_directions", "k is 1, but must be from 1 to 0: the 3 rows",
        activations=torch.full((3, 4), 0.1).double(), k=1),
    own("fit_contrast_directions", "k is 2, but must be from 1 to 1: the 20 rows",
        positive=ROWS_20 + 1, negative=ROWS_20, k=2),
    own("fit_mean_difference", "both sets have the same mean", negative=ROWS_20, positive=ROWS_20),
    own("fit_mean_difference", "have width 6 and 5, but must have the same",
        negative=ROWS_20[:, 1:]),
    # looking
    own("score_induction", "no query has a key to look for", tokens=torch.tensor([[1, 2, 3]])),
    own("score_heads", "targets are torch.float32 (4, 5, 5), expected torch.bool (4, 5, 5)",
        targets=torch.ones(4, 5, 5)),
    own("apply_tuned_lens", "but this lens is for 3 of width 5",
        lens=methods.TunedLens(torch.zeros(3, 5, 5), torch.zeros(3, 5))),
    own("apply_tuned_lens", "but this lens is for 2 of width 6",
        lens=methods.TunedLens(torch.zeros(2, 6, 6), torch.zeros(2, 6))),
    own("apply_logit_lens", "tokens are (4, 0), but a lens needs at least one prompt and position",
        tokens=S.clean[:, :0]),
    own("measure_answer_rank", "the logits hold no prompts", logits=torch.zeros(3, 0, 5, 7),
        answer=S.answers[:0]),
    own("measure_answer_rank", "position is torch.float32 (4,)", position=torch.ones(4)),
    own("measure_divergence", "logits are (1, 0, 3, 7), but a mean needs at least one prompt",
        logits=torch.zeros(1, 0, 3, 7)),
    own("apply_patchscope", "the target is (2, 5), but must hold one prompt or 4",
        target=S.clean[:2]),
    own("apply_patchscope", "target_layer is 3, but the stream enters blocks 0 to 2 (the end)",
        target_layer=3),
    own("apply_patchscope",
        "position 0 is read, but a state put in at position 1 of layer 1 cannot", target_layer=1,
        target_position=1, read_position=0),
    own("apply_patchscope", "source positions are [], but must be at least one", positions=[]),
    own("apply_patchscope", "source layers are [-1], but", layers=[-1]),
    own("apply_patchscope", "the sequence has 9 tokens, but the context holds 8",
        target=torch.ones(1, 9).long()),
    own("read_units", "has the axes head, query, key, but units need", hook=("pattern", 0)),
    own("measure_units", "keep is 0, but levels go from 0 to 1, and at least 1", keep=0),
    own("find_max_activating", "21 examples were asked for, but there are 20 places", k=21),
    own("find_max_activating", "the window has -1 tokens before and 0 after", before=-1, after=0),
    own("sample_bands", "levels are (0.5, 0.5), but must rise", levels=(0.5, 0.5)),
    own("sample_bands", "levels are (0.5,), but must rise from 0 to 1, at least two",
        levels=(0.5,)),
    own("climb_by_swaps", "hook_embed was never reached", excite=lambda p: p.sum(dim=1).float()),
    own("describe_unit", "'low' gave torch.bool (8,), but must give torch.bool (8, 5)",
        predicates={"low": lambda tokens: tokens[:, 0] < 1}),
    own("describe_unit", "the unit's activation is not finite at 40 places",
        activations=torch.full((8, 5), NAN)),
    own("describe_unit", "there are 3 different prompts, but at least 4", tokens=S.clean[:3],
        activations=torch.rand(3, 5)),
    own("describe_unit", "the unit's activation is 0 in all of one half",
        activations=torch.zeros(8, 5)),
]
# fmt: on


X = ROWS_20
Y = S.labels
AXES = S.axes
# What can be given wrong to something that was fitted, by a part of the answer.
FITTED: dict[str, Callable[[], object]] = {
    "there are 20 activations, but labels are (19,)": lambda: methods.fit_probe(X, Y).accuracy(
        X, Y[1:]
    ),
    "activations are torch.float32 (0, 6), but must": lambda: methods.fit_probe(X, Y).accuracy(
        X[:0], Y[:0]
    ),
    "activations are (20, 5), but the probe reads (n, 6)": lambda: methods.fit_probe(X, Y).score(
        X[:, 1:]
    ),
    "this probe has 2 layers, but only a linear one has": lambda: (
        methods.fit_probe(X, Y, hidden=3).directions
    ),
    "activations are (20, 5), but the eraser takes (..., 6)": lambda: methods.fit_leace(X, Y)(
        X[:, 1:]
    ),
    "activations are (20, 5), but the directions are of width 6": lambda: (
        methods.fit_principal_directions(X, 1).project(X[:, 1:])
    ),
    "activations are (20, 5), but the dictionary takes (..., 6)": lambda: AXES.encode(X[:, 1:]),
    "codes are (20, 5), but the dictionary has (..., 6)": lambda: AXES.decode(X[:, 1:]),
    "outputs (19, 6) for activations (20, 6), but must be (20, 6)": lambda: AXES.explained_variance(
        X, X[1:]
    ),
    "outputs (1, 6) for activations (1, 6), but must be (1, 6), and not all the same": lambda: (
        AXES.explained_variance(X[:1])
    ),
    "steps is 0 and lr 0.1, but both must be positive": lambda: descend(len, [], 0, 0.1),
    "the loss is nan at step 0, but must be finite: try a lower lr": lambda: descend(
        lambda step: NAN * X.sum(), [X.clone().requires_grad_()], 1, 0.1
    ),
    "the model has no layers, but a lens needs at least one": lambda: list_streams(NO_LAYERS),
}


def list_cases(function: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """List what this function can be given wrong: its name, the arguments, what must be
    answered.
    """
    signature = inspect.signature(getattr(methods, function))
    calls = sorted(call for call in CALLS if name_function(call) == function)
    bound = []
    for call in calls:
        args, kwargs = make_arguments(call, S)
        given = signature.bind(*args, **kwargs).arguments
        settings = given.pop("settings", {})
        bound.append({**given, **settings})
    for name, parameter in signature.parameters.items():
        arguments = next((each for each in bound if name in each), bound[0])
        good = arguments.get(name, parameter.default)
        for bad in BAD.get(name, []):
            if bad.fits(good) and (function, name, bad.what) not in SPARED:
                try:
                    value = bad.spoil(good)
                except (TypeError, AttributeError, IndexError):  # a default that has no such part
                    continue
                yield f"{name}: {bad.what}", arguments | {name: value}, find_words(bad, value)
    for case in OWN:
        if case.function == function:
            yield case.sentence, bound[0] | case.changes, [re.escape(case.sentence)]


def find_fault(function: str, arguments: dict[str, Any], words: list[str]) -> str:
    """Say what is wrong with the answer; an empty text if nothing is."""
    try:
        getattr(methods, function)(**arguments)
    except (ValueError, KeyError) as error:
        sentence = str(error.args[0])
    except Exception as error:
        return f"is {type(error).__name__}: {error}"
    else:
        return "is accepted"
    if "\n" in sentence or len(sentence) >= 250:
        return f"is answered at length: {sentence}"
    missing = [word for word in words if not re.search(word, sentence)]
    return f"is answered with {sentence!r}, without {missing}" if missing else ""


def find_faults(function: str) -> dict[str, str]:
    """Try everything that this function can be given wrong, and keep what is no answer."""
    tried = {what: find_fault(function, *case) for what, *case in list_cases(function)}
    return {what: fault for what, fault in tried.items() if fault}

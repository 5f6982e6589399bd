"""What hooks and caches answer to input that does not fit, each time leaving no hook behind."""

import re
from collections.abc import Iterator

import pytest
import torch

from mini_transformer import Config, Transformer

TOKENS = torch.tensor([[1, 2, 3]])


@pytest.fixture
def model() -> Iterator[Transformer]:
    model = Transformer(
        Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4, norm="layer")
    )
    yield model
    assert not any(point.on for point in model.hook_points.values())


def keep(x: torch.Tensor, hook) -> None:
    """A hook that only looks."""


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("blocks.0.attn.hook_patern", "'blocks.0.attn.hook_pattern'"),
        ("blocks.0.hook_pattern", "'blocks.0.attn.hook_pattern'"),
        (("patern", 1), "('pattern', 1)"),
        (("result", 4), "('result', 1)"),
        ("hook_embedding", "'hook_embed'"),
        (("scale", 0), "('scale', 0, 'ln1')"),
        ("blocks.1.mlp.hook_post", "'blocks.1.hook_resid_post'"),
    ],
    ids=str,
)
def test_an_unknown_name_is_answered_with_the_nearest(
    model: Transformer, wrong, nearest: str
) -> None:
    sentence = re.escape(f"no hook is called {wrong!r}; nearest: {nearest}")
    with pytest.raises(KeyError, match=sentence):
        model.run_with_hooks(TOKENS, fwd_hooks=[("embed", keep), (wrong, keep)])
    with pytest.raises(KeyError, match=sentence):
        model.run_with_cache(TOKENS, names_filter=wrong)
    with pytest.raises(KeyError, match=sentence):
        model.run_with_cache(TOKENS, names_filter=["embed", wrong])
    with pytest.raises(KeyError, match=sentence):
        model.run_with_cache(TOKENS)[1][wrong]


def test_a_filter_that_matches_nothing_also_when_others_do(model: Transformer) -> None:
    def has_mlp(name: str) -> bool:
        return "mlp" in name

    sentence = f"the filter has_mlp matches none of the {len(model.hook_points)} hook names"
    with pytest.raises(KeyError, match=sentence):
        model.run_with_cache(TOKENS, names_filter=has_mlp)
    with pytest.raises(KeyError, match=sentence):
        model.run_with_cache(TOKENS, names_filter=["embed", has_mlp])
    with pytest.raises(KeyError, match=sentence):
        model.run_with_hooks(TOKENS, fwd_hooks=[("embed", keep), (has_mlp, keep)])


@pytest.mark.parametrize("wrong", [5, None, {"embed"}, ["embed"]], ids=str)
def test_a_name_of_a_wrong_type(model: Transformer, wrong) -> None:
    sentence = re.escape(
        f"a hook name is a string, a short name like ('pattern', 0) or a filter, not {wrong!r}"
    )
    with pytest.raises(KeyError, match=sentence):
        model.run_with_hooks(TOKENS, fwd_hooks=[(wrong, keep)])
    with pytest.raises(KeyError, match=sentence):
        model.run_with_cache(TOKENS, names_filter=[wrong])
    assert wrong not in model.run_with_cache(TOKENS)[1]


@pytest.mark.parametrize(
    ("hooks", "culprit"),
    [
        (("embed", keep), "'embed'"),
        ([("embed",)], "('embed',)"),
        ([("embed", 3)], "('embed', 3)"),
        ([keep], repr(keep)),
        ([("embed", keep), "embed"], "'embed'"),
    ],
    ids=["not a list", "no function", "not a function", "no name", "one of two"],
)
def test_hooks_that_are_not_pairs_of_name_and_function(
    model: Transformer, hooks, culprit: str
) -> None:
    sentence = re.escape(f"fwd_hooks is a list of pairs (name, function), but {culprit} is in it")
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        model.run_with_hooks(TOKENS, fwd_hooks=hooks)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda x: x[:, 0],
            r"returned shape torch.Size([1, 16]), but the activation has torch.Size([1, 3, 16])",
        ),
        (
            lambda x: x.double(),
            "returned dtype torch.float64, but the activation has torch.float32",
        ),
        (lambda x: x.to("meta"), "returned device meta, but the activation has cpu"),
        (lambda x: 0.0, "returned a float: return a tensor, or None"),
        (lambda x: x.detach().numpy(), "returned a ndarray: return a tensor, or None"),
        (lambda x: (x,), "returned a tuple: return a tensor, or None"),
    ],
    ids=["shape", "dtype", "device", "number", "array", "tuple"],
)
def test_a_replacement_that_does_not_fit(model: Transformer, spoil, sentence: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"the hook on blocks.1.hook_attn_out {sentence}")
    ):
        model.run_with_hooks(TOKENS, fwd_hooks=[(("attn_out", 1), lambda x, hook: spoil(x))])


def test_a_hook_that_was_not_reached(model: Transformer) -> None:
    sentence = (
        "the hook on blocks.1.attn.hook_z was never reached: no forward run passed through it"
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        model.run_with_hooks(TOKENS, fwd_hooks=[("embed", keep), (("z", 1), keep)], stop_at_layer=1)
    with pytest.raises(ValueError, match=f"^{sentence}$"), model.hooks([(("z", 1), keep)]):
        pass


@pytest.mark.parametrize(
    ("arguments", "name", "why"),
    [
        ({}, "blocks.1.attn.hook_result", "computed only on demand"),
        ({"names_filter": "embed"}, "blocks.1.attn.hook_z", "not asked for or not reached"),
        ({"stop_at_layer": 1}, "blocks.1.attn.hook_z", "not asked for or not reached"),
    ],
    ids=["on_demand", "filtered", "stopped"],
)
def test_reading_what_was_not_cached(
    model: Transformer, arguments: dict, name: str, why: str
) -> None:
    _, cache = model.run_with_cache(TOKENS, **arguments)
    sentence = (
        f"{name} was not cached ({why}): use run_with_cache(..., names_filter=['{name}', ...])"
    )
    with pytest.raises(KeyError, match=re.escape(sentence)):
        cache[name]
    assert name not in cache


@pytest.mark.parametrize("names", [("patern", 0), "blocks.0.attn.hook_patern", ["embed", ("q", 7)]])
def test_recording_an_unknown_name_says_what_hooks_say(model: Transformer, names) -> None:
    wrong = names[-1] if isinstance(names, list) else names
    with pytest.raises(KeyError) as hooked:
        model.run_with_hooks(TOKENS, fwd_hooks=[(wrong, keep)])
    with (
        pytest.raises(KeyError, match=re.escape(hooked.value.args[0])),
        model.recording(names),
    ):
        pass

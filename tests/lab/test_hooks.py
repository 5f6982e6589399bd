"""Every hook name is alive, not aliased, checked, always there, and leaves nothing behind."""

import copy
import io

import pytest
import torch
from sample_models import CONFIGS, draw_tokens, scramble
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mini_transformer import Config, Transformer
from mini_transformer.hooks import find_names, short_name

EVERYTHING = lambda name: True  # noqa: E731  (a filter, passed by name)
ON_DEMAND = ("hook_result", "hook_q_input", "hook_k_input", "hook_v_input")
# Three models that together have every hook name: every norm, MLP or not, positions in the stream
# and in q and k only.
MODELS = (
    "layer_norm_relu_biases",
    "rms_norm_gelu_sinusoidal",
    "learned_positions_to_qk",
    "no_positions_full_tied",
)
CASES = [(which, name) for which in MODELS for name in Transformer(CONFIGS[which]).hook_points]
every_hook_name = pytest.mark.parametrize(("which", "name"), CASES, ids=lambda value: value)


def noise_like(x: Tensor, seed: int = 0) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))


def measure(logits: Tensor) -> Tensor:
    """A number that depends on every logit, each in its own way."""
    return (logits * noise_like(logits, seed=7)).sum()


def nothing_listens(model: Transformer) -> bool:
    return not any(point.on for point in model.hook_points.values())


def test_the_hook_names_are_those_of_the_design() -> None:
    block = [
        "hook_resid_pre",
        "ln1.hook_scale",
        "ln1.hook_normalized",
        "hook_q_input",
        "hook_k_input",
        "hook_v_input",
    ]
    block += [
        f"attn.hook_{what}" for what in ("q", "k", "v", "attn_scores", "pattern", "z", "result")
    ]
    block += [
        "hook_attn_out",
        "hook_resid_mid",
        "hook_mlp_in",
        "ln2.hook_scale",
        "ln2.hook_normalized",
    ]
    block += ["mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", "hook_resid_post"]
    expected = {"hook_embed", "hook_pos_embed", "ln_final.hook_scale", "ln_final.hook_normalized"}
    expected |= {f"blocks.{layer}.{name}" for layer in range(2) for name in block}
    assert set(Transformer(CONFIGS["layer_norm_relu_biases"]).hook_points) == expected


@pytest.mark.parametrize("which", MODELS)
def test_axes_are_those_of_the_design(which: str) -> None:
    config = CONFIGS[which]
    _, cache = scramble(config).run_with_cache(draw_tokens(config), names_filter=EVERYTHING)
    b, t, d, n, h, f = 2, 5, config.d_model, config.n_heads, config.d_head, config.d_mlp
    per_head = dict.fromkeys(("q", "k", "v", "z"), (b, t, n, h)) | dict.fromkeys(
        ("attn_scores", "pattern"), (b, n, t, t)
    )
    per_head |= dict.fromkeys(("result", "q_input", "k_input", "v_input"), (b, t, n, d))
    others = {"scale": (b, t, 1), "pre": (b, t, f), "post": (b, t, f)}
    for name, value in cache.items():
        assert value.shape == (per_head | others).get(name.split("hook_")[1], (b, t, d)), name


@every_hook_name
def test_editing_changes_the_logits_as_the_gradient_says(which: str, name: str) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    logits, cache = model.run_with_cache(tokens, names_filter=name)
    (gradient,) = torch.autograd.grad(measure(logits), cache[name])
    direction = noise_like(cache[name])

    def edited(step: float) -> Tensor:
        return model.run_with_hooks(
            tokens, fwd_hooks=[(name, lambda x, hook: x + step * direction)]
        )

    assert (edited(0.5) - logits).abs().max() > 1e-3
    slope = (measure(edited(1e-6)) - measure(edited(-1e-6))) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", CONFIGS)
def test_gradients_of_all_activations_cached_together_are_those_of_each_alone(which: str) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    logits, cache = model.run_with_cache(tokens, names_filter=EVERYTHING)
    for name, together in zip(
        cache, torch.autograd.grad(measure(logits), list(cache.values())), strict=True
    ):
        alone_logits, alone = model.run_with_cache(tokens, names_filter=name)
        (gradient,) = torch.autograd.grad(measure(alone_logits), alone[name])
        assert gradient.abs().max() > 1e-3, name
        torch.testing.assert_close(
            together, gradient, msg=lambda text, name=name: f"{name}: {text}"
        )


@every_hook_name
def test_editing_in_place_changes_nothing_that_came_before(which: str, name: str) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    start = model(tokens, stop_at_layer=0).detach()
    held, weights = (
        (tokens.clone(), start.clone()),
        copy.deepcopy(model.state_dict() | dict(model.named_buffers())),
    )
    _, clean = model.run_with_cache(tokens, names_filter=EVERYTHING)
    seen: list[Tensor] = []

    def edit(x: Tensor, hook) -> None:
        x.mul_(2).add_(1)

    with model.hooks([(name, lambda x, hook: seen.append(x)), (name, edit)]):
        _, edited = model.run_with_cache(tokens, names_filter=EVERYTHING)
        if not name.endswith("embed"):
            model(resid=start)
    order = list(clean)
    for earlier in order[: order.index(name)]:
        assert torch.equal(edited[earlier], clean[earlier]), earlier
    assert torch.equal(seen[0], clean[name])
    assert torch.equal(edited[name], clean[name] * 2 + 1)
    assert torch.equal(tokens, held[0])
    assert torch.equal(start, held[1])
    assert all(
        torch.equal(value, weights[key])
        for key, value in [*model.state_dict().items(), *model.named_buffers()]
    )


@pytest.mark.parametrize("which", [*MODELS, "no_layers"])
def test_no_cached_tensor_shares_memory_with_another_or_with_weights_or_with_the_caller(
    which: str,
) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    resid = model(tokens, stop_at_layer=0).detach()
    for inputs, stop in (
        ({"tokens": tokens}, None),
        ({"resid": resid}, None),
        ({"tokens": tokens}, model.config.n_layers),
    ):
        output, cache = model.run_with_cache(**inputs, stop_at_layer=stop, names_filter=EVERYTHING)
        tensors = [*cache.values(), *model.parameters(), *model.buffers(), *inputs.values(), output]
        assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)
        for name in cache:  # also when it is cached alone
            output, alone = model.run_with_cache(**inputs, stop_at_layer=stop, names_filter=name)
            taken = {
                tensor.untyped_storage().data_ptr() for tensor in [*tensors[len(cache) :], output]
            }
            assert alone[name].untyped_storage().data_ptr() not in taken, name
            assert (
                len({*alone[name].detach().add_(noise_like(alone[name])).flatten().tolist()}) > 1
            ), name


@every_hook_name
@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("shape", lambda x: x[:1]),
        ("dtype", lambda x: x.float()),
        ("device", lambda x: torch.empty_like(x, device="meta")),
    ],
    ids=["shape", "dtype", "device"],
)
def test_a_replacement_that_does_not_fit_is_refused_by_name(
    which: str, name: str, what: str, spoil
) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    with pytest.raises(
        ValueError, match=rf"hook on {name} returned {what} .*, but the activation has "
    ):
        model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: spoil(x))])
    assert nothing_listens(model)


@every_hook_name
def test_every_name_is_there_without_a_flag_under_its_full_and_short_name_and_leaves_nothing(
    which: str, name: str
) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    logits, cache = model.run_with_cache(tokens, names_filter=short_name(name))
    assert list(cache) == [name]
    assert cache[short_name(name)] is cache[name]
    torch.testing.assert_close(logits, model(tokens))
    assert nothing_listens(model)

    def fail(x: Tensor, hook) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        model.run_with_hooks(tokens, fwd_hooks=[(name, fail)])
    assert nothing_listens(model)


@pytest.mark.parametrize("which", CONFIGS)
def test_caching_changes_nothing(which: str) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    logits = model(tokens)
    assert torch.equal(model.run_with_cache(tokens)[0], logits)
    torch.testing.assert_close(model.run_with_cache(tokens, names_filter=EVERYTHING)[0], logits)
    assert torch.equal(model(tokens), logits)
    gradients = [
        torch.autograd.grad(measure(run(tokens)), list(model.parameters()), allow_unused=True)
        for run in (model, lambda tokens: model.run_with_cache(tokens, names_filter=EVERYTHING)[0])
    ]
    for without, with_cache in zip(*gradients, strict=True):
        torch.testing.assert_close(without, with_cache)


def test_the_cached_scale_and_what_was_divided_by_it_are_those_before_gain_and_bias() -> None:
    for which in ("layer_norm_relu_biases", "rms_norm_gelu_sinusoidal"):
        model = scramble(CONFIGS[which])
        _, cache = model.run_with_cache(draw_tokens(model.config))
        x = cache["resid_mid", 1]
        centred = x - x.mean(-1, keepdim=True) if which.startswith("layer") else x
        torch.testing.assert_close(
            cache["scale", 1, "ln2"], (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        )
        normalized = centred / cache["scale", 1, "ln2"]
        torch.testing.assert_close(cache["normalized", 1, "ln2"], normalized)
        model.blocks[1].ln2.w.data *= 2  # gain and bias come later
        torch.testing.assert_close(
            model.run_with_cache(draw_tokens(model.config))[1]["normalized", 1, "ln2"], normalized
        )


def test_freezing_the_scale_makes_the_norm_linear() -> None:
    model, tokens = (
        scramble(CONFIGS["layer_norm_relu_biases"]),
        draw_tokens(CONFIGS["layer_norm_relu_biases"]),
    )
    _, cache = model.run_with_cache(tokens)
    frozen = [("ln_final.hook_scale", lambda x, hook: cache[hook.name])]

    def run(step: float) -> Tensor:
        return model.run_with_hooks(
            tokens,
            fwd_hooks=[*frozen, (("resid_post", 1), lambda x, hook: x + step * noise_like(x))],
        )

    torch.testing.assert_close(run(2.0) - run(0.0), 2 * (run(1.0) - run(0.0)))


def test_an_edit_of_one_heads_input_reaches_that_head_alone() -> None:
    model, tokens = (
        scramble(CONFIGS["layer_norm_relu_biases"]),
        draw_tokens(CONFIGS["layer_norm_relu_biases"]),
    )
    _, clean = model.run_with_cache(tokens)

    def edit_head_1(x: Tensor, hook) -> None:
        x[:, :, 1] = noise_like(x[:, :, 1])

    for letter in "qkv":
        with model.hooks([((f"{letter}_input", 1), edit_head_1)]):
            _, edited = model.run_with_cache(tokens)
        for other in "qkv":
            changed = (edited[other, 1] - clean[other, 1]).abs().amax(dim=(0, 1, 3)) > 1e-9
            assert changed.tolist() == [False, letter == other, False]


def test_the_input_of_a_head_is_the_stream_before_the_norm() -> None:
    model, tokens = (
        scramble(CONFIGS["learned_positions_to_qk"]),
        draw_tokens(CONFIGS["learned_positions_to_qk"]),
    )
    _, cache = model.run_with_cache(tokens, names_filter=EVERYTHING)
    for letter in "qkv":
        assert torch.equal(
            cache[f"{letter}_input", 1], cache["resid_pre", 1].unsqueeze(2).repeat(1, 1, 3, 1)
        )
    other = noise_like(cache["resid_pre", 1])
    all_three = [
        ((f"{letter}_input", 1), lambda x, hook: other.unsqueeze(2).expand_as(x))
        for letter in "qkv"
    ]
    with model.hooks(all_three):
        _, by_inputs = model.run_with_cache(tokens)
    with model.hooks([(("resid_pre", 1), lambda x, hook: other)]):
        _, by_stream = model.run_with_cache(tokens)
    torch.testing.assert_close(by_inputs["attn_out", 1], by_stream["attn_out", 1])


class ShapesMade(TorchDispatchMode):
    """Remembers the shape of every tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.shapes |= {
            tuple(x.shape) for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, Tensor)
        }
        return out


@pytest.mark.parametrize("asked", [None, *ON_DEMAND])
def test_one_stream_per_head_is_computed_only_when_asked_for(asked: str | None) -> None:
    model, tokens = (
        scramble(CONFIGS["layer_norm_relu_biases"]),
        draw_tokens(CONFIGS["layer_norm_relu_biases"]),
    )
    with ShapesMade() as made:
        if asked is None:
            model.run_with_cache(tokens)
        else:
            model.run_with_cache(tokens, names_filter=lambda name: name.endswith(asked))
    assert ((2, 5, 3, 6) in made.shapes) == (asked is not None)  # b t n d
    assert (2, 3, 5, 5) in made.shapes  # b n q k: the scores, which are always computed


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_nothing_is_left_behind_after_an_error_also_nested_and_in_a_second_run(
    error: type[BaseException],
) -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    logits = model(tokens)

    def fail(x: Tensor, hook) -> None:
        raise error

    for _ in range(2):  # as when a notebook cell is run again
        with (
            pytest.raises(error),
            model.hooks([("embed", lambda x, hook: x * 2)]),
            model.hooks([("embed", lambda x, hook: x * 2)]),
        ):
            model.run_with_hooks(
                tokens, fwd_hooks=[("embed", lambda x, hook: x + 1), (("z", 1), fail)]
            )
        assert nothing_listens(model)
        assert torch.equal(model(tokens), logits)


def test_nothing_is_left_behind_after_an_early_return() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])

    def return_early() -> Tensor:
        with model.hooks([("embed", lambda x, hook: x * 2)]):
            return model(tokens)

    assert not torch.equal(return_early(), model(tokens))
    assert nothing_listens(model)


def test_an_inner_context_takes_away_only_its_own_hooks() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    double = ("embed", lambda x, hook: x * 2)
    with model.hooks([double]):
        outer = model(tokens)
        with model.hooks([double]):
            both = model(tokens)
        assert torch.equal(model(tokens), outer)
    assert torch.equal(
        both, model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda x, hook: x * 4)])
    )
    assert nothing_listens(model)


def test_hooks_on_one_name_run_in_the_order_given_and_see_each_others_edits() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    seen: list[Tensor] = []
    look = ("embed", lambda x, hook: seen.append(x))
    hooks = [look, ("embed", lambda x, hook: x + 1), look, ("embed", lambda x, hook: x * 2), look]
    with model.hooks(hooks):
        _, cache = model.run_with_cache(tokens)
    embedded = model.W_E[tokens]
    for value, expected in zip(
        [*seen, cache["embed"]], [embedded, embedded + 1, *[2 * (embedded + 1)] * 2], strict=True
    ):
        assert torch.equal(value, expected)


def test_a_hook_that_returns_nothing_may_edit_in_place_or_only_look() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    assert torch.equal(
        model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda x, hook: None)]), model(tokens)
    )

    def zero(x: Tensor, hook) -> None:
        x.zero_()

    by_return = model.run_with_hooks(tokens, fwd_hooks=[("embed", lambda x, hook: x * 0)])
    assert torch.equal(model.run_with_hooks(tokens, fwd_hooks=[("embed", zero)]), by_return)


def test_a_filter_hooks_every_name_it_matches_and_each_hook_knows_its_name_and_layer() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    seen: dict[str, int | None] = {}
    model.run_with_hooks(
        tokens, fwd_hooks=[(EVERYTHING, lambda x, hook: seen.update({hook.name: hook.layer}))]
    )
    assert seen == {name: int(name[7]) if "blocks" in name else None for name in model.hook_points}


def test_hooks_that_no_run_reached_are_an_error_unless_another_error_came_first() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    look = [(name, lambda x, hook: None) for name in ("embed", ("z", 1))]
    with pytest.raises(ValueError, match=r"hook on blocks.1.attn.hook_z was never reached"):
        model.run_with_hooks(tokens, fwd_hooks=look, stop_at_layer=1)
    with (
        pytest.raises(
            ValueError, match=r"hook on hook_embed, blocks.1.attn.hook_z was never reached"
        ),
        model.hooks(look),
    ):
        pass
    with pytest.raises(ArithmeticError), model.hooks(look):
        raise ArithmeticError
    assert nothing_listens(model)


def test_a_copy_of_a_model_has_hooks_of_its_own_and_takes_no_listeners_along() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    with model.hooks([("embed", lambda x, hook: x * 2)]):
        twin = copy.deepcopy(model)
        torch.save(model, buffer := io.BytesIO())
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        assert not torch.equal(model(tokens), twin(tokens))
    for other in (twin, loaded):
        assert nothing_listens(other)
        assert torch.equal(other(tokens), model(tokens))
        zeroed = other.run_with_hooks(tokens, fwd_hooks=[("embed", lambda x, hook: x * 0)])
        assert not torch.equal(zeroed, model(tokens))
        assert {point.name for point in other.hook_points.values()} == set(model.hook_points)
        assert not {id(point) for point in other.hook_points.values()} & {
            id(p) for p in model.hook_points.values()
        }


def test_a_model_that_is_run_twice_under_one_hook_is_edited_twice() -> None:
    model, calls = scramble(CONFIGS["plain"]), []
    with model.hooks([("embed", lambda x, hook: calls.append(x.shape))]):
        model(draw_tokens(model.config))
        model(draw_tokens(model.config, batch=3))
    assert calls == [(2, 5, 6), (3, 5, 6)]


@pytest.mark.parametrize("which", CONFIGS)
def test_short_names_are_unambiguous_and_lead_back_to_full_names(which: str) -> None:
    names = list(Transformer(CONFIGS[which]).hook_points)
    assert len({short_name(name) for name in names}) == len(names)
    for name in names:
        assert find_names(short_name(name), names) == find_names(name, names) == [name]


def test_layers_count_from_the_end_if_negative() -> None:
    names = list(Transformer(CONFIGS["layer_norm_relu_biases"]).hook_points)
    assert find_names(("pattern", -1), names) == ["blocks.1.attn.hook_pattern"]
    assert find_names(("scale", -2, "ln2"), names) == ["blocks.0.ln2.hook_scale"]


def test_a_cache_is_a_mapping_from_names_to_tensors_in_the_order_of_the_run() -> None:
    model = scramble(CONFIGS["no_positions_full_tied"])
    _, cache = model.run_with_cache(
        draw_tokens(model.config), names_filter=["embed", ("z", 1), ("mlp_out", 0)]
    )
    assert list(cache) == ["hook_embed", "blocks.0.hook_mlp_out", "blocks.1.attn.hook_z"]
    assert len(cache) == 3
    assert ("z", 1) in cache
    assert ("z", 0) not in cache
    assert "nonsense" not in cache
    assert cache.get(("z", 0)) is None
    assert repr(cache).splitlines()[0].split(maxsplit=1) == ["hook_embed", "(2, 5, 6)"]


@pytest.mark.parametrize("which", MODELS)
def test_recording_keeps_what_a_cache_keeps_and_changes_nothing(which: str) -> None:
    model, tokens = scramble(CONFIGS[which]), draw_tokens(CONFIGS[which])
    logits, cache = model.run_with_cache(tokens, names_filter=EVERYTHING)
    with model.recording(EVERYTHING) as values:
        assert len(values) == 0
        assert torch.equal(model(tokens), logits)
    assert list(values) == list(cache)
    assert all(torch.equal(values[name], cache[name]) for name in cache)
    assert len({value.untyped_storage().data_ptr() for value in values.values()}) == len(values)
    assert nothing_listens(model)
    before = model(tokens)
    for value in values.values():
        value.detach().zero_()
    assert torch.equal(model(tokens), before)


def test_a_recording_is_part_of_the_graph_and_the_last_forward_wins() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    with model.recording([("z", 0), ("z", 0), "embed"]) as values:
        model(tokens.flip(0))
        logits = model(tokens)
    expected_logits, cache = model.run_with_cache(tokens)
    for name in (("z", 0), "embed"):
        assert torch.equal(values[name], cache[name])
        (slope,) = torch.autograd.grad(measure(logits), values[name], retain_graph=True)
        (expected,) = torch.autograd.grad(measure(expected_logits), cache[name], retain_graph=True)
        torch.testing.assert_close(slope, expected)


def test_a_recording_sees_the_hooks_from_before_it_and_not_those_from_inside_it() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    double = ("embed", lambda x, hook: x * 2)
    plain = model.run_with_cache(tokens)[1]["embed"]
    with (
        model.recording("embed") as outer,
        model.hooks([double]),
        model.recording("embed") as inner,
    ):
        model(tokens)
        with model.recording("embed") as innermost:
            model(tokens)
        inner_again = innermost["embed"]
    assert torch.equal(outer["embed"], plain)
    assert torch.equal(inner["embed"], plain * 2)
    assert torch.equal(inner_again, plain * 2)
    inner["embed"].zero_()
    assert torch.equal(inner_again, plain * 2)
    assert torch.equal(outer["embed"], plain)
    assert nothing_listens(model)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_recording_leaves_nothing_behind_after_an_error_and_keeps_what_came_before(
    error: type[BaseException],
) -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])

    def fail(x: Tensor, hook) -> None:
        raise error

    with (
        pytest.raises(error),
        model.recording([("z", 0), ("z", 1)]) as values,
        model.hooks([(("attn_out", 0), fail)]),
    ):
        model(tokens)
    assert list(values) == ["blocks.0.attn.hook_z"]
    assert nothing_listens(model)
    with pytest.raises(KeyError, match="not asked for or not reached"):
        values[("z", 1)]


def test_a_cache_inside_a_recording_shares_no_memory_with_it() -> None:
    model, tokens = scramble(CONFIGS["plain"]), draw_tokens(CONFIGS["plain"])
    with model.recording("embed") as values:
        _, cache = model.run_with_cache(tokens)
    values["embed"].detach().zero_()
    assert cache["embed"].any()


MODEL = Transformer(Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=2, n_heads=3, d_mlp=4))
TOKENS = torch.tensor([[1, 2, 6]])


def test_a_cached_activation_is_not_the_tensor_that_a_hook_returned():
    mine = torch.ones(1, 3, 6)
    with torch.no_grad(), MODEL.hooks([(("resid_post", 0), lambda value, hook: mine)]):
        output, cache = MODEL.run_with_cache(TOKENS, stop_at_layer=1)
        mine.zero_()
    assert cache["resid_post", 0].eq(1).all()
    assert output.eq(1).all()


def test_a_cached_activation_is_not_the_tensor_that_a_hook_was_given():
    seen = []
    with torch.no_grad(), MODEL.hooks([(("z", 0), lambda value, hook: seen.append(value))]):
        _, cache = MODEL.run_with_cache(TOKENS)
    expected = cache["z", 0].clone()
    seen[0].zero_()
    assert torch.equal(cache["z", 0], expected)


def test_a_cached_stream_is_not_part_of_a_tensor_that_was_given():
    both = torch.randn(2, 3, 6)
    with torch.no_grad():
        _, cache = MODEL.run_with_cache(resid=both[1:])
    expected = cache["resid_pre", 0].clone()
    both.zero_()
    assert torch.equal(cache["resid_pre", 0], expected)

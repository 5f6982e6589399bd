"""Test that what a call leaves behind is noticed, and nothing else."""

import pytest
import torch

from mini_transformer.course.grading.checks import Wrong, check, expect
from mini_transformer.course.grading.effects import SENTENCES
from mini_transformer.course.grading.student import InProcessStudent, NamedModel, StudentError

MODEL = NamedModel("random", seed=5, d_vocab=5, n_ctx=4, d_model=6, n_layers=2, n_heads=2, d_mlp=4)
TOKENS = torch.tensor([[1, 2, 3], [4, 0, 1]])

# The kind of effect, where it is, and a statement that leaves it.
EFFECTS = [
    ("changes_weights", "blocks.1.attn.W_O", "model.blocks[1].attn.W_O.data[0] = 0"),
    ("changes_weights", "blocks.0.attn.mask", "model.blocks[0].attn.mask.fill_(False)"),
    ("leaves_hooks", "blocks.0.attn", "model.blocks[0].attn.register_forward_hook(print)"),
    ("leaves_hooks", "blocks.1", "model.blocks[1].register_forward_pre_hook(print)"),
    ("leaves_hooks", "hook_embed", "model.hook_embed.listeners.append(print)"),
    ("leaves_hooks", "the gradient of W_E", "model.W_E.register_hook(print)"),
    ("clears_hooks", "blocks.0.mlp", "model.blocks[0].mlp._forward_hooks.clear()"),
    ("clears_hooks", "hook_embed", "model.hook_embed.listeners.clear()"),
    ("changes_requires_grad", "W_E", "model.requires_grad_(False)"),
    ("changes_requires_grad", "x", "x.requires_grad_()"),
    ("fills_gradients", "W_E", "model(tokens).sum().backward()"),
    ("changes_mode", "the model", "model.eval()"),
    ("changes_parts", "blocks.0.attn.scale", "model.blocks[0].attn.scale = 1.0"),
    ("changes_parts", "blocks.1.forward", "model.blocks[1].forward = lambda *args: args[0]"),
    ("changes_inputs", "x", "x /= 2"),
    ("changes_inputs", "weights W", "weights['W'].zero_()"),
    ("changes_inputs", "weights", "weights.pop('W')"),
    ("changes_inputs", "names", "names.append('c')"),
    ("sets_torch_seed", "torch's seed", "torch.manual_seed(0)"),
    ("sets_python_seed", "", "random.seed(0)"),
    ("sets_numpy_seed", "", "np.random.seed(0)"),
    ("changes_dtype", "the default dtype", "torch.set_default_dtype(torch.float64)"),
    ("changes_grad_mode", "the gradient mode", "torch.set_grad_enabled(False)"),
    ("changes_settings", "np.seterr", "np.seterr(all='raise')"),
    ("changes_settings", "the warnings filters", "warnings.simplefilter('ignore')"),
    ("changes_settings", "how arrays are printed", "torch.set_printoptions(precision=1)"),
    ("changes_settings", "the number of threads", "torch.set_num_threads(7)"),
]

HARMLESS = [
    "model(tokens)",
    "torch.rand(3), random.random(), np.random.rand(5000)",
    "[random.random() for _ in range(2000)]",
    "torch.autograd.grad(model(tokens).sum(), model.W_E)",
    "model.run_with_hooks(tokens, fwd_hooks=[('embed', lambda value, hook: 2 * value)])",
    "[h.remove() for h in [model.blocks[0].register_forward_hook(lambda *args: None)]]",
    "copy.deepcopy(model).requires_grad_(False)",
    "Transformer(model.config, seed=3)",
    "exec('with model.without_hooks(): model(tokens)')",
    "exec('with torch.no_grad(): x + 1')",
    "model.W_E.data.add_(0.3), model.W_E.data.sub_(0.3)",
]


def leave(tmp_path, statement):
    path = tmp_path / "ex01_samples.py"
    imports = "import copy, random, warnings\nimport numpy as np\nimport torch\n"
    imports += "from mini_transformer import Transformer\n"
    source = f"{imports}def f(model, tokens, x, weights, names):\n    {statement}\n    return 1\n"
    path.write_text(source)
    student = InProcessStudent(path)
    weights = {"W": torch.ones(2)}
    student.call("f", MODEL, TOKENS, torch.ones(3), weights, ["a", "b"])
    return student.calls[-1]


@pytest.mark.parametrize(("kind", "where", "statement"), EFFECTS)
def test_each_effect_is_noticed_with_its_place(tmp_path, kind, where, statement):
    before = torch.random.get_rng_state()
    effects = leave(tmp_path, statement).effects
    assert [(effect.kind, effect.where) for effect in effects] == [(kind, where)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("statement", HARMLESS)
def test_what_leaves_nothing_is_not_accused(tmp_path, statement):
    assert leave(tmp_path, statement).effects == ()


def test_every_kind_is_tried_here_and_has_a_sentence():
    assert {kind for kind, *_ in EFFECTS} == set(SENTENCES) - {"runs_too_often"}


def test_runs_of_the_given_models_are_listed_by_shapes(tmp_path):
    runs = leave(tmp_path, "model(tokens), model.run_with_cache(tokens[:1])").runs
    assert runs == (tuple(TOKENS.shape), (1, TOKENS.shape[1]))


@check("f")
def judge_f(student):
    expect(student.call("f", torch.ones(2)), 2.0)


def judge(tmp_path, body, check=judge_f):
    path = tmp_path / "ex01_samples.py"
    path.write_text(f"def f(x):\n    {body}\n")
    with pytest.raises(Wrong) as caught:
        check(InProcessStudent(path))
    return caught.value


def test_a_right_value_with_a_side_effect_earns_half(tmp_path):
    wrong = judge(tmp_path, "x *= 2; return 2.0")
    assert (wrong.mistake, wrong.earned) == ("changes_inputs", 0.5)
    assert wrong.sentence.startswith("f changes its input in place (x): whoever calls it")


def test_what_an_exercise_allows_is_not_wrong(tmp_path, monkeypatch):
    path = tmp_path / "ex01_samples.py"
    path.write_text("def f(x):\n    x *= 2\n    return 2.0\n")
    monkeypatch.setitem(globals(), "ALLOWED", {"f": {"changes_inputs"}})
    judge_f(InProcessStudent(path))


def test_more_runs_than_the_task_asks_for_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "RUNS", {"f": 1})

    @check("f")
    def judge_g(student):
        student.call("f", MODEL)

    body = "model = x; import torch; t = torch.tensor([[1]]); model(t); model(t); return 2.0"
    assert judge(tmp_path, body, judge_g).sentence.startswith("f runs the model 2 times: what")


def test_warnings_filters_that_an_import_brings_are_not_the_learners(tmp_path):
    (tmp_path / "noisy_module.py").write_text("import warnings\nwarnings.simplefilter('ignore')")
    statement = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import noisy_module"
    assert leave(tmp_path, statement).effects == ()


def test_a_call_that_fails_tells_what_it_left_behind(tmp_path):
    with pytest.raises(StudentError) as caught:
        leave(tmp_path, "model.blocks[0].register_forward_hook(lambda *a: None), 1 / 0")
    assert [effect.kind for effect in caught.value.effects] == ["leaves_hooks"]

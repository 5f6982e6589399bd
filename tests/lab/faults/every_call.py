"""List one call or more per public function, for a model of any shape.

CALLS gives its arguments, Setting what they are made of.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mini_transformer import Transformer, methods
from mini_transformer.edges import list_writers
from mini_transformer.methods.looking.lenses import list_streams


def first_logit(logits: Tensor) -> Tensor:
    return logits[:, -1, 0]


@dataclass
class Setting:
    """Hold a model, prompts, and the parts, places and rows that calls on it can name."""

    model: Transformer
    clean: Tensor
    corrupt: Tensor
    metric: Any = first_logit
    edit_rows: Any = Tensor.detach
    edit_answers: Any = Tensor.detach
    edit_labels: Any = Tensor.detach

    @property
    def c(self):
        return self.model.config

    @property
    def last(self) -> int:
        return max(self.c.n_layers - 1, 0)

    @property
    def length(self) -> int:
        return self.clean.shape[-1]

    @property
    def head(self) -> str:
        return f"a{self.last}.h{self.c.n_heads - 1}"

    @property
    def parts(self) -> list[str]:
        """Name a writer that every model has, and a head where there is one."""
        return ["input", self.head] if self.c.n_layers else ["input"]

    @property
    def edges(self) -> list[str]:
        return (
            [f"input->{self.head}<v>", f"{self.head}->logits"]
            if self.c.n_layers
            else ["input->logits"]
        )

    @property
    def path(self) -> str:
        return {0: "input->logits", 1: "a0.h0->logits"}.get(
            self.c.n_layers, "a0.h0->a1.h0<k>->logits"
        )

    @property
    def stream(self) -> Any:
        return ("resid_post", 0) if self.c.n_layers else "embed"

    @property
    def units(self) -> Any:
        """List neurons where there are some, else heads, else the axes of the embedding."""
        return (
            ("post", self.last)
            if self.c.d_mlp and self.c.n_layers
            else ("z", 0)
            if self.c.n_layers
            else "embed"
        )

    @property
    def answers(self) -> Tensor:
        return self.edit_answers((self.clean.sum(dim=-1) % self.c.d_vocab_out).to(self.clean.dtype))

    @property
    def wrong(self) -> Tensor:
        return self.edit_answers(
            (self.corrupt.sum(dim=-1) % self.c.d_vocab_out).to(self.clean.dtype)
        )

    @property
    def scratchpad(self) -> slice:
        return slice(self.length // 2, self.length)

    @property
    def ends(self) -> list[int]:
        return sorted({0, self.length - 1})

    @property
    def blurred(self) -> Tensor:
        return (torch.arange(self.length, device=self.clean.device) == 0).expand_as(self.clean)

    @property
    def labels(self) -> Tensor:
        return self.edit_labels(torch.arange(self.clean.numel(), device=self.clean.device) % 2)

    @cached_property
    def rows(self) -> Tensor:
        return self.read(self.clean)

    @cached_property
    def others(self) -> Tensor:
        return self.read(self.corrupt)

    @property
    def cache(self):
        return self.model.run_with_cache(self.clean)[1]

    def read(self, tokens: Tensor) -> Tensor:
        """Read the stream, one row per prompt and position."""
        cache = self.model.run_with_cache(tokens, names_filter=self.stream)[1]
        return self.edit_rows(cache[self.stream].detach().flatten(0, 1))

    def ones(self, *shape: int) -> Tensor:
        return torch.ones(shape, dtype=self.model.W_E.dtype, device=self.model.W_E.device)

    def eye(self, n: int, m: int | None = None) -> Tensor:
        return torch.eye(
            n, n if m is None else m, dtype=self.model.W_E.dtype, device=self.model.W_E.device
        )

    @property
    def axes(self) -> methods.Dictionary:
        eye = self.eye(self.c.d_model)
        zeros = 0 * self.ones(self.c.d_model)
        return methods.Dictionary(eye, zeros, eye, zeros, zeros, zeros)

    @property
    def pairs(self) -> Tensor:
        """Return the logits of all pairs of numbers modulo 5."""
        numbers = torch.arange(125, device=self.clean.device).view(25, 5) * 7 % 11
        return numbers.to(self.model.W_E.dtype)

    def excite(self, prompts: Tensor) -> Tensor:
        return self.model(prompts)[:, -1, 0]


def given(*args, **kwargs):
    return args, kwargs


def with_metric(**kwargs):
    """Make the arguments of a call on clean and corrupt prompts and a metric."""
    return lambda s: given(s.model, s.clean, s.corrupt, s.metric, **kwargs)


# Per call, "function" or "function, variant": a function from the setting to the arguments.
CALLS = {
    "ablate": lambda s: given(s.model, s.clean, [s.head], "resample", s.corrupt),
    "ablate, mean of a layer": lambda s: given(
        s.model, s.clean, ["a0"], "mean", s.corrupt, positions=[0]
    ),
    "ablate, nothing": lambda s: given(s.model, s.clean, [], "zero"),
    "ablate, neuron": lambda s: given(s.model, s.clean, ["m0.n0"], "zero"),
    "ablate_directions": lambda s: given(
        s.model, s.clean, s.ones(1, s.c.d_model), ablation="mean", reference=s.corrupt
    ),
    "ablate_directions, all": lambda s: given(
        s.model, s.clean, s.eye(s.c.d_model), "zero", s.stream
    ),
    "ablate_each": lambda s: given(s.model, s.clean, s.metric, "resid_pre", "pos", "zero"),
    "ablate_each, neurons": lambda s: given(
        s.model, s.clean, s.metric, "post", "neuron", "mean", s.corrupt
    ),
    "ablate_each_head": lambda s: given(s.model, s.clean, s.metric, "mean", s.corrupt),
    "ablate_pairs": lambda s: given(
        s.model, s.clean, s.metric, ["a0.h0", s.head], "resample", s.corrupt
    ),
    "fit_nonlinear_alignment": lambda s: given(
        s.model, s.clean, s.corrupt, s.answers, s.stream, dim=1, steps=2, n_layers=2, hidden=4
    ),
    "fit_das": lambda s: given(s.model, s.clean, s.corrupt, s.answers, s.stream, dim=1, steps=2),
    "fit_boundless_das": lambda s: given(s.model, s.clean, s.corrupt, s.answers, s.stream, steps=2),
    "answer_early": lambda s: given(s.model, s.clean, s.scratchpad, filler=0),
    "answer_pairs": lambda s: given(s.ones(s.c.d_model), s.rows, s.others),
    "apply_logit_lens": lambda s: given(s.model, s.clean),
    "apply_patchscope": lambda s: given(
        s.model, s.clean, s.corrupt, s.c.n_layers // 2, s.length // 2
    ),
    "apply_tuned_lens": lambda s: given(
        s.model,
        s.clean,
        methods.TunedLens(
            0.5 * s.ones(len(list_streams(s.model)), s.c.d_model, s.c.d_model),
            s.ones(len(list_streams(s.model)), s.c.d_model),
        ),
    ),
    "assess_equivalence": with_metric(),
    "assess_independence": with_metric(ablation="mean", permutations=3),
    "assess_minimality": with_metric(draws=3),
    "eap": with_metric(steps=2),
    "eap, clean gradient": with_metric(),
    "eap, by position": with_metric(by_position=True),
    "eap, masks": with_metric(ablation="mean", steps=1, along="masks"),
    "attribute_logits": lambda s: given(s.model, s.cache, s.answers, s.wrong),
    "attribute_logits_to_neurons": lambda s: given(s.model, s.cache, s.answers, s.wrong),
    "attribute_logits_to_sources": lambda s: given(s.model, s.cache, s.answers, s.wrong),
    "climb_by_swaps": lambda s: given(s.model, s.clean, s.excite, free=s.ends, shortlist=3),
    "climb_by_swaps, nothing free": lambda s: given(s.model, s.clean, s.excite, free=[]),
    "climb_by_swaps, one token": lambda s: given(s.model, s.clean, s.excite, allowed=[0]),
    "describe_unit": lambda s: given(
        torch.cat([s.clean, s.corrupt]),
        s.model(torch.cat([s.clean, s.corrupt]))[..., 0].detach(),
        {"low": lambda tokens: tokens < 3, "odd": lambda tokens: tokens % 2 == 1},
        position=None,
        shuffles=1,
    ),
    "make_divergence": lambda s: given(s.model, s.clean, None),
    "make_divergence, one position": lambda s: given(s.model, s.clean, -1),
    "draw_control_labels": lambda s: given(s.clean.flatten(), s.labels),
    "score_duplicate_token": lambda s: given(s.model, s.clean),
    "edit_rank_one": lambda s: given(
        s.model, s.last, s.ones(max(s.c.d_mlp, 1)), s.ones(s.c.d_model), s.eye(max(s.c.d_mlp, 1))
    ),
    "attribution_patch": with_metric(direction="denoise"),
    "attribution_patch, heads": with_metric(site="z", per="head", steps=2, direction="noise"),
    "exclude_logits": lambda s: given(s.pairs, [1]),
    "find_circuit_acdc": lambda s: given(
        s.model, s.clean, s.corrupt, methods.make_divergence(s.model, s.clean, position=None)
    ),
    "fit_ccs": lambda s: given(s.rows, s.others, steps=2),
    "fit_contrast_directions": lambda s: given(s.rows, s.others, 1),
    "find_incompleteness": with_metric(ablation="zero", steps=1),
    "find_max_activating": lambda s: given(
        s.model, s.clean, s.units, k=2, position=None, batch_size=2
    ),
    "find_max_activating, basis": lambda s: given(
        s.model, s.clean, s.stream, s.ones(1, s.c.d_model), k=2, position=None, after=1
    ),
    "fit_mean_difference": lambda s: given(s.rows, s.others),
    "fit_principal_directions": lambda s: given(s.rows, 1),
    "fit_steering_vector": lambda s: given(s.model, s.clean, s.corrupt, s.stream),
    "fit_value": lambda s: given(s.model, s.clean, s.answers, s.last, -1, steps=3),
    "fit_inlp": lambda s: given(s.rows, s.labels),
    "fit_leace": lambda s: given(s.rows, s.labels),
    "fit_projection": lambda s: given(s.rows, s.labels),
    "fit_supervised_dictionary": lambda s: given(
        s.rows, s.eye(len(s.rows), max(0, min(3, len(s.rows) - 1)))
    ),
    "score_induction": lambda s: given(s.model, s.clean),
    "integrate_gradients": lambda s: given(
        s.model, s.clean, s.metric, s.corrupt, steps=6, tolerance=1.0
    ),
    "integrate_gradients, embedding": lambda s: given(
        s.model, s.clean, s.metric, 0.1 * s.ones(s.c.d_model), steps=6, tolerance=1.0
    ),
    "keep_frequencies": lambda s: given(s.pairs[:5], [2]),
    "list_knockouts": lambda s: given(list("abcdef"), most=20, seed=1),
    "measure_distance_irrelevance": lambda s: given(s.pairs),
    "measure_divergence": lambda s: given(methods.apply_logit_lens(s.model, s.clean)),
    "measure_doses": lambda s: given(
        s.model, s.clean, s.metric, s.ones(s.c.d_model), s.stream, [0.0, 1.0], None
    ),
    "measure_excitation": lambda s: given(s.model, s.last, s.clean),
    "measure_faithfulness": lambda s: given(s.model, s.clean, s.corrupt, s.metric, [s.parts, []]),
    "measure_frequency_shares": lambda s: given(s.pairs[:5]),
    "measure_gradient_symmetry": lambda s: given(s.model, s.clean, s.answers, 0, s.length - 1),
    "measure_incompleteness": with_metric(ablation="mean"),
    "measure_interchange": lambda s: given(
        s.model, s.clean, s.corrupt, s.answers, s.eye(s.c.d_model)[:1], s.stream
    ),
    "measure_minimality": with_metric(),
    "measure_progress": lambda s: given(s.pairs, [1]),
    "measure_saliency": lambda s: given(s.model, s.clean, s.metric),
    "measure_selectivity": lambda s: given(
        s.rows, s.labels, torch.arange(len(s.rows), device=s.clean.device)
    ),
    "measure_shapley": lambda s: given(s.model, s.clean, s.metric, s.corrupt, s.ends),
    "measure_units": lambda s: given(
        s.model, s.clean, s.units, position=None, keep=7, batch_size=2
    ),
    "multiply_gradient": lambda s: given(s.model, s.clean, s.metric, s.corrupt),
    "multiply_gradient, embedding": lambda s: given(
        s.model, s.clean, s.metric, 0.1 * s.ones(s.c.d_model)
    ),
    "occlude_each, one prompt": lambda s: given(
        s.model, s.clean, s.metric, s.corrupt.flatten()[: s.length]
    ),
    "occlude_each": lambda s: given(
        s.model, s.clean, s.metric, torch.zeros((), dtype=s.clean.dtype, device=s.clean.device)
    ),
    "occlude_each, embedding": lambda s: given(
        s.model, s.clean, s.metric, 0.1 * s.ones(s.length, s.c.d_model)
    ),
    "orthogonalize_weights": lambda s: given(s.model, s.ones(1, s.c.d_model)),
    "patch_activations": with_metric(direction="denoise"),
    "patch_activations, heads": with_metric(site="z", per="head", direction="denoise"),
    "patch_activations, pattern": with_metric(site="pattern", per="head key", direction="noise"),
    "patch_edges": with_metric(ablation="mean", direction="noise"),
    "patch_edges, denoising": with_metric(direction="denoise"),
    "patch_edges, by position": with_metric(direction="noise", by_position=True),
    "patch_path": lambda s: given(s.model, s.clean, s.corrupt, s.path),
    "patch_senders": lambda s: given(
        s.model,
        s.clean,
        s.corrupt,
        s.metric,
        ["logits", *([f"{s.head}<v>"] if s.c.n_layers else [])],
    ),
    "score_previous_token": lambda s: given(s.model, s.clean),
    "measure_answer_rank": lambda s: given(s.model(s.clean).detach(), s.answers),
    "read_neurons": lambda s: given(s.model, s.last),
    "read_ov": lambda s: given(s.model, s.head),
    "read_ov, virtual head": lambda s: given(s.model, s.head, attended="a0.h0"),
    "measure_answer_probability": lambda s: given(s.model(s.clean).detach(), s.answers),
    "read_qk": lambda s: given(
        s.model, s.head, key="token" if s.c.positions == "none" else "position"
    ),
    "read_qk, bias": lambda s: given(s.model, s.head, query="bias"),
    "read_units": lambda s: given(s.model, s.clean, s.units),
    "read_units, dictionary": lambda s: given(s.model, s.clean, s.stream, s.axes),
    "read_units, heads": lambda s: given(s.model, s.clean, ("result", s.last)),
    "read_units, stream": lambda s: given(s.model, s.clean, s.stream),
    "restrict_logits": lambda s: given(s.pairs, [1]),
    "run_with_noise": lambda s: given(s.model, s.clean, s.blurred, draws=2),
    "sample_bands": lambda s: given(s.model, s.clean, s.units, k=1, position=None),
    "sample_shapley": lambda s: given(s.model, s.clean, s.metric, s.corrupt, draws=2),
    "scale_features": lambda s: given(
        s.model, s.clean, s.stream, s.axes, [0, s.c.d_model - 1], position=None
    ),
    "scale_features, nothing": lambda s: given(s.model, s.clean, s.stream, s.axes, []),
    "score_composition": lambda s: given(s.model, "k"),
    "score_copying": lambda s: given(s.model),
    "score_copying, one token": lambda s: given(s.model, [0]),
    "score_heads": lambda s: given(
        s.model,
        s.clean,
        torch.ones(*s.clean.shape, s.length, dtype=torch.bool, device=s.clean.device),
    ),
    "score_nodes": lambda s: given(s.model, methods.eap(s.model, s.clean, s.corrupt, s.metric)),
    "score_random_composition": lambda s: given(s.model, draws=2),
    "measure_reliance": lambda s: given(
        s.model, s.clean, s.scratchpad, (s.clean[None, ..., s.scratchpad] + 1) % s.c.d_vocab
    ),
    "scrub": lambda s: given(
        s.model,
        s.clean,
        s.corrupt,
        s.metric,
        {
            s.parts[-1]: lambda tokens: tokens.sum(dim=-1) % 2,
            "input->logits": lambda tokens: tokens,
        },
    ),
    "measure_share_of_sum": lambda s: given(s.pairs),
    "measure_share_of_best_frequency": lambda s: given(s.pairs, 5),
    "measure_share_of_second": lambda s: given(s.axes, s.c.d_model - 1),
    "measure_share_recovered": lambda s: given(
        torch.stack([s.metric(s.model(tokens)).detach().mean() for tokens in (s.clean, s.corrupt)]),
        s.model,
        s.clean,
        s.corrupt,
        s.metric,
    ),
    "score_sink": lambda s: given(s.model, s.clean),
    "split_circuit": lambda s: given(s.model, s.head),
    "split_circuit, qk": lambda s: given(s.model, s.head, "qk"),
    "split_effects": with_metric(ablation="mean"),
    "steer": lambda s: given(s.model, s.clean, s.ones(s.c.d_model), s.stream, 2.0, -1),
    "swap_by_map": lambda s: given(
        s.model,
        s.clean,
        s.corrupt,
        methods.AlignmentMap(s.eye(s.c.d_model), (), 1, s.eye(s.c.d_model)[:1]),
        s.stream,
    ),
    "swap_subspace": lambda s: given(s.model, s.clean, s.corrupt, s.eye(s.c.d_model)[:1], s.stream),
    "sweep_acdc": lambda s: given(
        s.model,
        s.clean,
        s.corrupt,
        methods.make_divergence(s.model, s.clean, position=None),
        taus=[0.1],
    ),
    "synthesize_input": lambda s: given(
        s.model, s.clean.flatten()[: s.length], s.excite, restarts=2, steps=2
    ),
    "synthesize_input, nothing free": lambda s: given(
        s.model, s.clean.flatten()[: s.length], s.excite, free=[], restarts=2, steps=2
    ),
    "causal_trace": lambda s: given(s.model, s.clean, s.metric, s.blurred, draws=2),
    "causal_trace, severed": lambda s: given(
        s.model, s.clean, s.metric, s.blurred, "attn_out", draws=2, window=2, severed="attn_out"
    ),
    "measure_faithfulness_curve": lambda s: given(
        s.model,
        s.clean,
        s.corrupt,
        s.metric,
        torch.arange(len(list_writers(s.model)), device=s.clean.device) * s.ones(1),
    ),
    "train_crosscoder": lambda s: given(s.rows, s.others, 6, steps=3),
    **{
        f"train_dictionary, {architecture}": lambda s, architecture=architecture: given(
            s.rows, 6, architecture, steps=3
        )
        for architecture in ("l1", "topk", "batchtopk", "matryoshka", "gated", "jumprelu")
    },
    "train_edge_mask": lambda s: given(
        s.model,
        s.clean,
        s.corrupt,
        methods.make_divergence(s.model, s.clean, position=None),
        steps=2,
        draws=2,
    ),
    "fit_probe": lambda s: given(s.rows, s.labels),
    "fit_probe, mlp": lambda s: given(s.rows, s.labels, hidden=3),
    "train_pursuit": lambda s: given(s.rows, 6, steps=3),
    "train_transcoder": lambda s: given(s.rows, s.others, 6, steps=3),
    "fit_tuned_lens": lambda s: given(s.model, s.clean, steps=2, rows=4),
    "write_fourier_basis": lambda s: given(5),
    "write_scratchpad, nothing": lambda s: given(s.model, s.clean, 0),
    "write_scratchpad": lambda s: given(s.model, s.clean, 1),
}

WITH_CIRCUIT = {
    "assess_equivalence": "parts",
    "assess_independence": "parts",
    "assess_minimality": "edges",
}
WITH_CIRCUIT |= dict.fromkeys(
    ("find_incompleteness", "measure_incompleteness", "measure_minimality"), "parts"
)


def name_function(call: str) -> str:
    return call.split(",")[0]


def make_arguments(call: str, s: Setting) -> tuple[tuple, dict[str, Any]]:
    """Make the arguments of a call, positional and by name."""
    args, kwargs = CALLS[call](s)
    circuit = WITH_CIRCUIT.get(name_function(call))
    return args, kwargs | ({"circuit": getattr(s, circuit)} if circuit else {})


def use(found: Any, s: Setting) -> Any:
    """Return what the methods of a result say about this setting, so that these are run, too."""
    if isinstance(found, methods.Dictionary) and len(found.centre) == s.rows.shape[1]:
        codes = found.encode(s.rows)
        varies = len(found.b_dec) == s.rows.shape[1] and not s.rows.eq(s.rows[:1]).all()
        return codes, found.decode(codes), found.explained_variance(s.rows) if varies else None
    if isinstance(found, methods.Eraser):
        return found(s.others)
    if isinstance(found, methods.Probe):
        return (
            found.score(s.others),
            found.accuracy(s.rows, s.labels),
            *([found.directions] if len(found.layers) == 1 else []),
        )
    if isinstance(found, methods.AlignmentMap):
        return found.swap(s.rows, s.others)
    if isinstance(found, methods.PrincipalDirections):
        return found.project(s.others)
    if isinstance(found, methods.TunedLens):
        return methods.apply_tuned_lens(s.model, s.corrupt, found)
    if isinstance(found, methods.Description):
        return found.predict(
            s.corrupt, {"low": lambda tokens: tokens < 3, "odd": lambda tokens: tokens % 2 == 1}
        )
    if isinstance(found, methods.Examples):
        return found.show(0, [f"t{i}" for i in range(s.c.d_vocab)])
    if isinstance(found, methods.Scrubbed):
        return found.recovered
    if isinstance(found, methods.FaithfulnessCurve):
        return found.cpr(), found.cmd()
    if isinstance(found, Transformer):
        return found(s.corrupt)
    if callable(found):
        return found(s.model(s.corrupt))
    return None

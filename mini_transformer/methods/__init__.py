"""Interpretability techniques: plain functions, one idea per file, on any Transformer and any tokens."""

from mini_transformer.methods.ablation import ablate, ablate_each, ablate_each_head, ablate_pairs
from mini_transformer.methods.alignment import align_subspace, align_subspace_boundless
from mini_transformer.methods.attention_scores import (
    duplicate_token_scores,
    induction_scores,
    previous_token_scores,
    score_heads,
    sink_scores,
)
from mini_transformer.methods.attribution_patching import estimate_patches
from mini_transformer.methods.causal_tracing import run_with_noise, trace_causally
from mini_transformer.methods.consistency import answer_pairs, find_consistent_direction
from mini_transformer.methods.dictionaries import Dictionary, fit_supervised_dictionary, scale_features
from mini_transformer.methods.dictionary_training import (
    share_of_second,
    train_crosscoder,
    train_dictionary,
    train_transcoder,
)
from mini_transformer.methods.directions import ablate_directions, orthogonalise_weights
from mini_transformer.methods.erasure import Eraser, fit_inlp, fit_leace, fit_projection
from mini_transformer.methods.interchange import measure_interchange, swap_subspace
from mini_transformer.methods.logit_attribution import attribute_logits
from mini_transformer.methods.patching import patch_activations, share_recovered
from mini_transformer.methods.path_patching import patch_path, patch_senders, split_effects
from mini_transformer.methods.probes import Probe, draw_control_labels, measure_selectivity, train_probe
from mini_transformer.methods.rank_one_edit import edit_rank_one, find_value
from mini_transformer.methods.scratchpads import answer_early, score_reliance, write_scratchpad
from mini_transformer.methods.steering import find_steering_vector, measure_doses, steer

__all__ = [
    "Dictionary",
    "Eraser",
    "Probe",
    "ablate",
    "ablate_directions",
    "ablate_each",
    "ablate_each_head",
    "ablate_pairs",
    "align_subspace",
    "align_subspace_boundless",
    "answer_early",
    "answer_pairs",
    "attribute_logits",
    "draw_control_labels",
    "duplicate_token_scores",
    "edit_rank_one",
    "estimate_patches",
    "find_consistent_direction",
    "find_steering_vector",
    "find_value",
    "fit_inlp",
    "fit_leace",
    "fit_projection",
    "fit_supervised_dictionary",
    "induction_scores",
    "measure_doses",
    "measure_interchange",
    "measure_selectivity",
    "orthogonalise_weights",
    "patch_activations",
    "patch_path",
    "patch_senders",
    "previous_token_scores",
    "run_with_noise",
    "scale_features",
    "score_heads",
    "score_reliance",
    "share_of_second",
    "share_recovered",
    "sink_scores",
    "split_effects",
    "steer",
    "swap_subspace",
    "trace_causally",
    "train_crosscoder",
    "train_dictionary",
    "train_probe",
    "train_transcoder",
    "write_scratchpad",
]

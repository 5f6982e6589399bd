"""Interpretability techniques: plain functions, one idea per file, on any Transformer and any tokens."""

from mini_transformer.methods.ablation import ablate, ablate_each, ablate_each_head, ablate_pairs
from mini_transformer.methods.acdc import divergence_from, find_circuit_acdc, sweep_acdc
from mini_transformer.methods.activating_examples import Examples, find_max_activating, sample_bands
from mini_transformer.methods.activation_statistics import UnitStatistics, measure_units, read_units
from mini_transformer.methods.alignment import align_subspace, align_subspace_boundless
from mini_transformer.methods.attention_scores import (
    duplicate_token_scores,
    induction_scores,
    previous_token_scores,
    score_heads,
    sink_scores,
)
from mini_transformer.methods.attribution_patching import estimate_patches
from mini_transformer.methods.causal_scrubbing import Scrubbed, scrub
from mini_transformer.methods.causal_tracing import run_with_noise, trace_causally
from mini_transformer.methods.circuit_evaluation import (
    FaithfulnessCurve,
    measure_faithfulness,
    trace_faithfulness,
)
from mini_transformer.methods.circuit_knockouts import (
    find_incompleteness,
    list_knockouts,
    measure_incompleteness,
    measure_minimality,
)
from mini_transformer.methods.circuit_redundancy import assess_minimality
from mini_transformer.methods.circuit_tests import (
    HypothesisTest,
    assess_equivalence,
    assess_independence,
)
from mini_transformer.methods.composition import score_composition, score_random_composition
from mini_transformer.methods.consistency import answer_pairs, find_consistent_direction
from mini_transformer.methods.description import Description, describe_unit
from mini_transformer.methods.dictionaries import (
    Dictionary,
    fit_supervised_dictionary,
    scale_features,
)
from mini_transformer.methods.dictionary_training import (
    share_of_second,
    train_crosscoder,
    train_dictionary,
    train_transcoder,
)
from mini_transformer.methods.directions import ablate_directions, orthogonalise_weights
from mini_transformer.methods.edge_attribution import attribute_edges
from mini_transformer.methods.edge_masks import train_edge_mask
from mini_transformer.methods.edge_patching import patch_edges, score_nodes
from mini_transformer.methods.erasure import Eraser, fit_inlp, fit_leace, fit_projection
from mini_transformer.methods.feature_synthesis import Synthesis, climb_by_swaps, synthesise_input
from mini_transformer.methods.fourier import (
    exclude_logits,
    keep_frequencies,
    measure_frequency_shares,
    measure_progress,
    restrict_logits,
    share_explained_by_sum,
    share_of_best_frequency,
    write_fourier_basis,
)
from mini_transformer.methods.gradient_symmetry import (
    measure_distance_irrelevance,
    measure_gradient_symmetry,
)
from mini_transformer.methods.head_circuits import (
    Singular,
    read_ov,
    read_qk,
    score_copying,
    split_circuit,
)
from mini_transformer.methods.input_attribution import (
    integrate_gradients,
    measure_saliency,
    multiply_gradient,
    occlude_each,
)
from mini_transformer.methods.interchange import measure_interchange, swap_subspace
from mini_transformer.methods.logit_attribution import (
    attribute_logits,
    attribute_logits_to_neurons,
    attribute_logits_to_sources,
)
from mini_transformer.methods.logit_lens import (
    apply_logit_lens,
    measure_divergence,
    rank_answer,
    read_probability,
)
from mini_transformer.methods.neurons import Neurons, measure_excitation, read_neurons
from mini_transformer.methods.nonlinear_alignment import (
    AlignmentMap,
    align_nonlinearly,
    swap_by_map,
)
from mini_transformer.methods.patching import patch_activations, share_recovered
from mini_transformer.methods.patchscopes import apply_patchscope
from mini_transformer.methods.path_patching import patch_path, patch_senders, split_effects
from mini_transformer.methods.principal_directions import (
    PrincipalDirections,
    find_contrast_directions,
    find_mean_difference,
    find_principal_directions,
)
from mini_transformer.methods.probes import (
    Probe,
    draw_control_labels,
    measure_selectivity,
    train_probe,
)
from mini_transformer.methods.rank_one_edit import edit_rank_one, find_value
from mini_transformer.methods.scratchpads import answer_early, score_reliance, write_scratchpad
from mini_transformer.methods.shapley import ShapleyEstimate, measure_shapley, sample_shapley
from mini_transformer.methods.steering import find_steering_vector, measure_doses, steer
from mini_transformer.methods.tuned_lens import TunedLens, apply_tuned_lens, train_tuned_lens

__all__ = [
    "AlignmentMap",
    "Description",
    "Dictionary",
    "Eraser",
    "Examples",
    "FaithfulnessCurve",
    "HypothesisTest",
    "Neurons",
    "PrincipalDirections",
    "Probe",
    "Scrubbed",
    "ShapleyEstimate",
    "Singular",
    "Synthesis",
    "TunedLens",
    "UnitStatistics",
    "ablate",
    "ablate_directions",
    "ablate_each",
    "ablate_each_head",
    "ablate_pairs",
    "align_nonlinearly",
    "align_subspace",
    "align_subspace_boundless",
    "answer_early",
    "answer_pairs",
    "apply_logit_lens",
    "apply_patchscope",
    "apply_tuned_lens",
    "assess_equivalence",
    "assess_independence",
    "assess_minimality",
    "attribute_edges",
    "attribute_logits",
    "attribute_logits_to_neurons",
    "attribute_logits_to_sources",
    "climb_by_swaps",
    "describe_unit",
    "divergence_from",
    "draw_control_labels",
    "duplicate_token_scores",
    "edit_rank_one",
    "estimate_patches",
    "exclude_logits",
    "find_circuit_acdc",
    "find_consistent_direction",
    "find_contrast_directions",
    "find_incompleteness",
    "find_max_activating",
    "find_mean_difference",
    "find_principal_directions",
    "find_steering_vector",
    "find_value",
    "fit_inlp",
    "fit_leace",
    "fit_projection",
    "fit_supervised_dictionary",
    "induction_scores",
    "integrate_gradients",
    "keep_frequencies",
    "list_knockouts",
    "measure_distance_irrelevance",
    "measure_divergence",
    "measure_doses",
    "measure_excitation",
    "measure_faithfulness",
    "measure_frequency_shares",
    "measure_gradient_symmetry",
    "measure_incompleteness",
    "measure_interchange",
    "measure_minimality",
    "measure_progress",
    "measure_saliency",
    "measure_selectivity",
    "measure_shapley",
    "measure_units",
    "multiply_gradient",
    "occlude_each",
    "orthogonalise_weights",
    "patch_activations",
    "patch_edges",
    "patch_path",
    "patch_senders",
    "previous_token_scores",
    "rank_answer",
    "read_neurons",
    "read_ov",
    "read_probability",
    "read_qk",
    "read_units",
    "restrict_logits",
    "run_with_noise",
    "sample_bands",
    "sample_shapley",
    "scale_features",
    "score_composition",
    "score_copying",
    "score_heads",
    "score_nodes",
    "score_random_composition",
    "score_reliance",
    "scrub",
    "share_explained_by_sum",
    "share_of_best_frequency",
    "share_of_second",
    "share_recovered",
    "sink_scores",
    "split_circuit",
    "split_effects",
    "steer",
    "swap_by_map",
    "swap_subspace",
    "sweep_acdc",
    "synthesise_input",
    "trace_causally",
    "trace_faithfulness",
    "train_crosscoder",
    "train_dictionary",
    "train_edge_mask",
    "train_probe",
    "train_transcoder",
    "train_tuned_lens",
    "write_fourier_basis",
    "write_scratchpad",
]

"""Names that techniques had before version 0.2, and their names now.

The old ones can still be imported from `mini_transformer.methods`, and warn.
"""

__all__ = ["RENAMED"]

RENAMED = {
    "align_nonlinearly": "fit_nonlinear_alignment",
    "align_subspace": "fit_das",
    "align_subspace_boundless": "fit_boundless_das",
    "attribute_edges": "eap",
    "divergence_from": "make_divergence",
    "duplicate_token_scores": "score_duplicate_token",
    "estimate_patches": "attribution_patch",
    "find_consistent_direction": "fit_ccs",
    "find_contrast_directions": "fit_contrast_directions",
    "find_mean_difference": "fit_mean_difference",
    "find_principal_directions": "fit_principal_directions",
    "find_steering_vector": "fit_steering_vector",
    "find_value": "fit_value",
    "induction_scores": "score_induction",
    "orthogonalise_weights": "orthogonalize_weights",
    "previous_token_scores": "score_previous_token",
    "rank_answer": "measure_answer_rank",
    "read_probability": "measure_answer_probability",
    "score_reliance": "measure_reliance",
    "share_explained_by_sum": "measure_share_of_sum",
    "share_of_best_frequency": "measure_share_of_best_frequency",
    "share_of_second": "measure_share_of_second",
    "share_recovered": "measure_share_recovered",
    "sink_scores": "score_sink",
    "synthesise_input": "synthesize_input",
    "trace_causally": "causal_trace",
    "trace_faithfulness": "measure_faithfulness_curve",
    "train_probe": "fit_probe",
    "train_tuned_lens": "fit_tuned_lens",
}

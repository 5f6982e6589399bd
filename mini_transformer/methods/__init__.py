"""Interpretability techniques: plain functions, one idea per file, on any Transformer.

The files stand in five rooms; every technique can be imported from here.
"""

import warnings
from typing import Any

from mini_transformer.methods.circuits.acdc import *
from mini_transformer.methods.circuits.causal_scrubbing import *
from mini_transformer.methods.circuits.circuit_evaluation import *
from mini_transformer.methods.circuits.circuit_knockouts import *
from mini_transformer.methods.circuits.circuit_tests import *
from mini_transformer.methods.circuits.eap import *
from mini_transformer.methods.circuits.edge_masks import *
from mini_transformer.methods.circuits.edge_patching import *
from mini_transformer.methods.circuits.path_patching import *
from mini_transformer.methods.intervening.ablation import *
from mini_transformer.methods.intervening.attribution_patching import *
from mini_transformer.methods.intervening.causal_tracing import *
from mini_transformer.methods.intervening.directions import *
from mini_transformer.methods.intervening.input_attribution import *
from mini_transformer.methods.intervening.patching import *
from mini_transformer.methods.intervening.rank_one_edit import *
from mini_transformer.methods.intervening.scratchpads import *
from mini_transformer.methods.intervening.shapley import *
from mini_transformer.methods.intervening.steering import *
from mini_transformer.methods.looking.activating_examples import *
from mini_transformer.methods.looking.activation_statistics import *
from mini_transformer.methods.looking.attention_scores import *
from mini_transformer.methods.looking.description import *
from mini_transformer.methods.looking.feature_synthesis import *
from mini_transformer.methods.looking.logit_attribution import *
from mini_transformer.methods.looking.logit_lens import *
from mini_transformer.methods.looking.patchscopes import *
from mini_transformer.methods.looking.tuned_lens import *
from mini_transformer.methods.renamed import RENAMED
from mini_transformer.methods.representations.ccs import *
from mini_transformer.methods.representations.das import *
from mini_transformer.methods.representations.dictionaries import *
from mini_transformer.methods.representations.dictionary_training import *
from mini_transformer.methods.representations.erasure import *
from mini_transformer.methods.representations.interchange import *
from mini_transformer.methods.representations.matching_pursuit import *
from mini_transformer.methods.representations.nonlinear_alignment import *
from mini_transformer.methods.representations.principal_directions import *
from mini_transformer.methods.representations.probes import *
from mini_transformer.methods.weights.composition import *
from mini_transformer.methods.weights.fourier import *
from mini_transformer.methods.weights.gradient_symmetry import *
from mini_transformer.methods.weights.head_circuits import *
from mini_transformer.methods.weights.neurons import *

__all__ = sorted(
    name
    for name, value in globals().items()
    if str(getattr(value, "__module__", "")).startswith(__name__ + ".")
)


def __getattr__(name: str) -> Any:
    """Find a technique by the name that it had before version 0.2, and warn."""
    if name not in RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"mini_transformer.methods.{name} is called {RENAMED[name]}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[RENAMED[name]]

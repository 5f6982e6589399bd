"""What is no model of the right class is refused in a sentence, on the way there and back."""

import pytest
from sample_models import CONFIGS
from torch import nn

from mini_transformer import Transformer, toys
from mini_transformer.interop import transformer_lens as bridge


@pytest.mark.parametrize(
    ("convert", "given", "says"),
    [
        ("to", toys.load("boolean_and"), "is a Case, expected a Transformer: give case.model"),
        ("to", nn.Linear(1, 1), "is a Linear, expected a Transformer: from_transformer_lens makes"),
        ("from", Transformer(CONFIGS["plain"]), "is a Transformer already: to_transformer_lens is"),
        ("from", nn.Linear(1, 1), "is a Linear, expected a HookedTransformer or a Transf"),
    ],
)
def test_another_class_is_refused_in_a_sentence(convert, given, says, monkeypatch):
    monkeypatch.setattr(bridge, "find_version", lambda: 3)
    with pytest.raises(ValueError, match=says):
        getattr(bridge, f"{convert}_transformer_lens")(given)

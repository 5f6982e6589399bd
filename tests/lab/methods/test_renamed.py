"""The table of old names leads to techniques, and shadows none."""

from mini_transformer import methods
from mini_transformer.methods.renamed import RENAMED


def test_every_new_name_is_a_technique_and_no_old_one_is():
    assert set(RENAMED.values()) <= set(methods.__all__)
    assert not set(RENAMED) & set(methods.__all__)

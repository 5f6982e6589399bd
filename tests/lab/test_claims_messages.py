"""What a measurement says to bounds that nothing could meet or miss: one sentence."""

import pytest

from mini_transformer.claims import Measurement


def test_bounds_are_at_least_one_and_the_low_one_is_low():
    with pytest.raises(ValueError, match="low is 2 and high is 1"):
        Measurement("share", lambda: 1.0, low=2, high=1)
    with pytest.raises(ValueError, match="'share' has no bound"):
        Measurement("share", lambda: 1.0)

"""The front door: a few names, imported when they are first used."""

import subprocess
import sys

import pytest

import mini_transformer


def test_public_names_are_there_and_others_are_attribute_errors():
    for name in mini_transformer.__all__:
        assert getattr(mini_transformer, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'mini_transformer' has no attribute 'Tranf'"):
        mini_transformer.Tranf  # noqa: B018


def test_the_package_alone_does_not_wait_for_torch():
    script = "import sys, mini_transformer; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)

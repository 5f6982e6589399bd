"""The probes break out where there is no sandbox, and do not where there is one."""

import os
import secrets
import signal
import tempfile
from pathlib import Path

import pytest
from sandboxed import find_or_skip

from mini_transformer.course.lecturer import escapes as probes
from mini_transformer.course.lecturer.sandbox import NO_SANDBOX


@pytest.mark.slow
def test_every_probe_breaks_out_where_there_is_no_sandbox(monkeypatch):
    marker = secrets.token_hex(8)
    monkeypatch.setattr(probes.secrets, "token_hex", lambda n: marker)
    broken = probes.try_sandbox(NO_SANDBOX)
    for outliving in probes.find_running(f"probe-{marker}"):
        os.kill(outliving, signal.SIGKILL)
    assert set(broken) >= {
        "reaches the network",
        "reads your home",
        "writes outside",
        "outlives its time",
    }
    assert "starts any number of processes" in broken


def test_no_probe_breaks_out_of_this_machines_sandbox(monkeypatch):
    made = []

    class Noted(tempfile.TemporaryDirectory):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(Path(self.name))

    monkeypatch.setattr(probes.tempfile, "TemporaryDirectory", Noted)
    assert probes.try_sandbox(find_or_skip()) == []
    assert Path.home() in {path.parent for path in made}
    assert not any(path.exists() for path in made)

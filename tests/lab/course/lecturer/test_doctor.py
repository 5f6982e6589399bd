import torch

from mini_transformer import Config, Transformer, checkpoints
from mini_transformer.course.lecturer import doctor, sandbox
from mini_transformer.course.lecturer import escapes as probes
from mini_transformer.course.lecturer.sandbox import NO_SANDBOX


def test_the_requirements_are_those_of_the_package_without_extras():
    names = doctor.list_requirements()
    assert {"torch", "numpy", "scikit-learn", "typer"} <= set(names)
    assert not {"mypy", "ruff", "beartype"} & set(names)


def test_checkpoints_that_load_are_counted(tmp_path):
    for seed in (0, 1):
        model = Transformer(Config(d_vocab=4, n_ctx=4, d_model=4, n_layers=1), seed=seed)
        checkpoints.save(tmp_path / f"small-{seed}.safetensors", model, seed=seed)
    assert [(f.found, f.fine) for f in doctor.examine_checkpoints(tmp_path)] == [
        ("all 2 load", True)
    ]


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "small.safetensors"
    checkpoints.save(path, Transformer(Config(d_vocab=4, n_ctx=4, d_model=4, n_layers=1)))
    path.write_bytes(path.read_bytes()[:-9])
    (finding,) = doctor.examine_checkpoints(tmp_path)
    assert not finding.fine
    assert "small.safetensors" in finding.found


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    def break_down():
        raise OSError("no clock")

    monkeypatch.setattr(doctor, "examine_speed", break_down)
    monkeypatch.setattr(doctor, "examine_sandbox", list)  # slow, and tested elsewhere
    findings = doctor.examine()
    assert [f.found for f in findings if f.what == "speed"] == ["OSError: no clock"]
    assert findings[-1].what == "notebooks"  # the rest is still looked at


def test_measuring_the_speed_leaves_the_thread_count_alone():
    before = torch.get_num_threads()
    assert doctor.examine_speed()[0].found == str(before)
    assert torch.get_num_threads() == before


def test_the_doctor_says_what_holds_and_what_does_not(monkeypatch):
    monkeypatch.setattr(sandbox, "find_sandbox", lambda: NO_SANDBOX)
    monkeypatch.setattr(probes, "try_sandbox", lambda found: [])
    (fine,) = doctor.examine_sandbox()
    assert fine.fine
    monkeypatch.setattr(probes, "try_sandbox", lambda found: ["reads your home", "fills the disk"])
    (bad,) = doctor.examine_sandbox()
    assert not bad.fine
    assert bad.found == "none, but a probe reads your home, fills the disk"
    assert bad.advice == "grade no submissions on this machine"

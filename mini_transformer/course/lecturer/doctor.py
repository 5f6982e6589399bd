"""Check that everything the course needs is here, and how fast this machine is."""

import importlib.metadata
import importlib.util
import platform
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The standard forward where this was written: one thread of a shared 2-core server.
REFERENCE_MS = 30.0
CHECKPOINTS = Path(__file__).parents[2] / "toys" / "trained" / "checkpoints"


@dataclass(frozen=True)
class Finding:
    """Hold one line of the doctor's report: a thing, what was found of it, and advice.

    `advice` says what to do if the finding is not fine.
    """

    what: str
    found: str
    fine: bool = True
    advice: str = ""


def examine() -> list[Finding]:
    """List everything that `minilab doctor` reports. A check that breaks is itself a finding."""
    findings = [Finding("python", platform.python_version())]
    missing = [finding for finding in examine_packages() if not finding.fine]
    checks = {
        "packages": examine_packages,
        "speed": examine_speed,
        "checkpoints": examine_checkpoints,
        "sandbox": examine_sandbox,
    }
    for what, look in checks.items():
        if missing and what != "packages":  # they could only say the same again
            continue
        try:
            findings += look()
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            findings.append(Finding(what, found, False, "reinstall mini-transformer"))
    return [*findings, examine_time_limit(), examine_jupyter()]


def list_requirements() -> list[str]:
    """List the packages that mini-transformer says it needs."""
    lines = importlib.metadata.requires("mini-transformer") or []
    return [re.split(r"[\s<>=!~;\[(]", line)[0] for line in lines if "extra ==" not in line]


def examine_packages() -> list[Finding]:
    findings = []
    for name in ("mini-transformer", *list_requirements()):
        try:
            findings.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", False, f"pip install {name}"))
    return findings


def examine_speed() -> list[Finding]:
    """Time a forward run with one thread (2 layers, d_model 64, 4 heads, MLP 256).

    The batch has 128 prompts of 50 tokens.
    """
    import torch

    from mini_transformer.model import Config, Transformer

    threads = torch.get_num_threads()
    model = Transformer(Config(d_vocab=64, n_ctx=50, d_model=64, n_layers=2, n_heads=4, d_mlp=256))
    tokens = torch.arange(128 * 50).reshape(128, 50) % 64
    try:
        torch.set_num_threads(1)
        with torch.no_grad():
            ms = 1e3 * min(measure_seconds(lambda: model(tokens)) for _ in range(6))
    finally:
        torch.set_num_threads(threads)
    reference = f"about {REFERENCE_MS:.0f} ms where this was written"
    speed = f"{ms:.0f} ms for a standard forward run ({reference})"
    slow = "every time that the course promises will be longer in proportion"
    advice = slow if ms > 3 * REFERENCE_MS else ""
    return [Finding("threads", str(threads)), Finding("speed", speed, advice=advice)]


def measure_seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def examine_checkpoints(folder: Path = CHECKPOINTS) -> list[Finding]:
    """Load every model that ships with the package."""
    from mini_transformer import checkpoints

    paths = sorted(folder.glob("*.safetensors"))
    findings = []
    for path in paths:
        try:
            checkpoints.verify(path)
        except checkpoints.CheckpointError as error:
            findings.append(Finding("checkpoint", str(error), False, "reinstall mini-transformer"))
    loaded = f"all {len(paths)} load" if paths else "none are shipped"
    return findings or [Finding("checkpoints", loaded)]


def examine_time_limit() -> Finding:
    if hasattr(signal, "setitimer"):
        return Finding("endless loops", "are stopped while grading")
    found = "cannot be stopped on this system"
    return Finding("endless loops", found, advice="Ctrl-C, if grading never ends")


def examine_sandbox() -> list[Finding]:
    """Find this machine's sandbox, and check that attacks on it fail.

    Without one, only `minilab grade --submissions` does not work.
    """
    from mini_transformer.course.lecturer.escapes import try_sandbox
    from mini_transformer.course.lecturer.sandbox import advise, find_sandbox
    from mini_transformer.course.material import CourseError

    try:
        sandbox = find_sandbox()
    except CourseError as error:
        return [Finding("sandbox", "none; only lecturers need one", advice=str(error))]
    try:
        broken = try_sandbox(sandbox)
    except CourseError as error:
        found = f"{sandbox.kind}: {error}"
        return [Finding("sandbox", found, False, advise())]

    if broken:
        held = f"{sandbox.kind}, but a probe {', '.join(broken)}"
        return [Finding("sandbox", held, False, "grade no submissions on this machine")]
    tried = "no network, no other files, limited memory, disk and processes"
    return [Finding("sandbox", f"{sandbox.kind}, tried: {tried}")]


def examine_jupyter() -> Finding:
    jupyter = find_jupyter()
    if jupyter:
        return Finding("notebooks", f"{jupyter} opens them")
    found = "no Jupyter here: VS Code opens them too"
    return Finding("notebooks", found, advice="pip install jupyterlab")


def find_jupyter() -> str | None:
    """Name the installed module that opens notebooks in a browser, if there is one."""
    installed = (name for name in ("jupyterlab", "notebook") if importlib.util.find_spec(name))
    return next(installed, None)

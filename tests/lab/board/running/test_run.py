"""Spreading, keeping and going on: the rows are the same whatever the number of workers, and
whatever is killed on the way.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import misbehaving
import pytest
from sample_jobs import PROBLEM, name_jobs, strip

from mini_transformer.board.families import load_families
from mini_transformer.board.running.children import close_children
from mini_transformer.board.running.jobs import run_job
from mini_transformer.board.running.run import choose_families, list_jobs, run_here, run_jobs
from mini_transformer.isolation.journal import Journal

HERE = Path(misbehaving.__file__).parent


@pytest.fixture(autouse=True)
def _children():
    yield
    close_children()


def await_true(condition: Callable[[], bool], seconds: int = 120) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_rows_are_the_same_and_in_order_whatever_the_number_of_workers() -> None:
    jobs = list_jobs(["circuit"], cases=[PROBLEM, "boolean_or/mean"], seeds=2)
    jobs = [
        job for job in jobs if job.entrant in ("eap", "edge_patching", "acdc", "random", "oracle")
    ]
    one, three = run_jobs(jobs, workers=1), run_jobs(jobs[::-1], workers=3)[::-1]
    assert json.dumps(strip(one)) == json.dumps(strip(three))
    assert [(row["problem"], row["entrant"], row["seed"]) for row in one] == [
        (job.problem, job.row_name, job.seed) for job in jobs
    ]
    assert all(row["ok"] for row in one)


def test_rows_that_are_there_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    first = run_jobs(name_jobs("honest", seeds=2), tmp_path, workers=1)
    assert count_lines(calls) == 2
    assert run_jobs(name_jobs("honest", seeds=3), tmp_path, workers=1)[:2] == first
    assert count_lines(calls) == 3


def test_a_torn_last_line_is_no_line_and_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    log = Journal(path)
    log.append("a", {"ok": True})
    log.append("b", {"ok": False})
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        log = Journal(path)
        log.append("c", {"ok": None})
        kept = Journal(path).entries
        complete = whole[:cut].count(b"\n") + whole[:cut].endswith(
            b"}}"
        )  # only the line's end may be missing
        assert list(kept) == [*["a", "b"][:complete], "c"]


def start_and_kill(out: Path, enough: int) -> None:
    """Run the board in a process of its own, and kill that as soon as `enough` rows are kept."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from sample_jobs import name_jobs; "
        "from mini_transformer.board.running.run import run_jobs; "
        "run_jobs(name_jobs('slow', 'raises', seeds=4), Path(sys.argv[2]), workers=2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(HERE), str(out)], start_new_session=True
    )
    try:
        assert await_true(
            lambda: count_lines(out / "rows.jsonl") >= enough or process.poll() is not None
        )
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_board_that_is_killed_twice_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    jobs, calls = name_jobs("slow", "raises", seeds=4), tmp_path / "calls"
    start_and_kill(tmp_path, 1)
    start_and_kill(tmp_path, 3)
    kept = Journal(tmp_path / "rows.jsonl").entries
    assert 3 <= len(kept) < len(jobs)
    os.environ["CALLS"] = str(calls)
    try:
        rows = run_jobs(jobs, tmp_path, workers=1)
    finally:
        del os.environ["CALLS"]
    assert strip(rows) == strip([run_job(job) for job in jobs])
    assert count_lines(calls) == 4 - sum(row["ok"] for row in kept.values())


@pytest.mark.slow
def test_a_worker_killed_on_a_dask_cluster_changes_nothing(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    jobs, rows_file = name_jobs("slow", "raises", seeds=4), tmp_path / "rows.jsonl"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_one() -> None:
            await_true(lambda: count_lines(rows_file) >= 2)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        rows = run_jobs(jobs, tmp_path, dask=cluster.scheduler_address)
        killer.join()
    assert strip(rows) == strip([run_job(job) for job in jobs])


def test_every_family_has_all_its_rows() -> None:
    rows = [
        job.row_name
        for job in list_jobs(["steering"], "mine:f", seeds=1, quick=True)
        if job.problem[:7] == "refusal"
    ]
    last = ["mine:f", "random", "oracle", "mean_difference (untrained)", "mine:f (untrained)"]
    assert rows == ["mean_difference", "probe_direction", *last]


def test_the_family_of_a_method_is_told_by_its_parameters_in_a_child_process() -> None:
    assert choose_families(None, "misbehaving:honest") == ["circuit"]
    with pytest.raises(ValueError, match="no_such_module:f cannot be imported"):
        choose_families(None, "no_such_module:f")


def test_a_family_can_be_given_and_must_exist() -> None:
    assert choose_families("probe", "misbehaving:takes_activations") == ["probe"]
    assert choose_families(None) == list(load_families())
    with pytest.raises(ValueError, match="must be given as module:function"):
        choose_families(None, "misbehaving")
    with pytest.raises(
        ValueError, match="no family is called 'circus'; there are circuit, features"
    ):
        choose_families("circus")


def test_a_function_stands_for_its_entrant_only_and_is_ended_in_time() -> None:
    def mine(model, clean, corrupt, metric, ablation):
        time.sleep(30)

    jobs = list_jobs("circuit", "mine:f", PROBLEM, seeds=1)
    chosen = [job for job in jobs if job.entrant in ("mine:f", "oracle")]
    rows = run_here(chosen, mine, "mine:f", seconds=0.3)
    assert [row["entrant"] for row in rows] == ["mine:f", "oracle", "mine:f (untrained)"]
    assert [row["ok"] for row in rows] == [False, True, False]

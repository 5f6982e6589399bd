"""Spreading, keeping and going on: the rows are the same whatever the number of workers, and whatever is killed on the way."""

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

from mini_transformer import board
from mini_transformer.board import keys as board_keys
from mini_transformer.board.jobs import Job, run_job
from mini_transformer.board.keys import make_key
from mini_transformer.board.lanes import close_lanes, run_in_lane
from mini_transformer.board.run import find_families, list_jobs, run_jobs
from mini_transformer.isolation.journal import Journal

HERE = Path(__file__).parent
PROBLEM = "boolean_and/zero"


@pytest.fixture(autouse=True)
def _lanes():
    yield
    close_lanes()


def name_jobs(*names: str, seeds: int = 1) -> list[Job]:
    return [
        Job("circuit", PROBLEM, f"misbehaving:{name}", seed)
        for name in names
        for seed in range(seeds)
    ]


def strip(rows: list[dict]) -> list[dict]:
    return [{**row, "seconds": None} for row in rows]


def await_true(condition: Callable[[], bool], seconds: int = 120) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_whatever_a_method_does_costs_its_own_row_only() -> None:
    names = ("exits_at_once", "honest", "segfaults", "hangs", "prints_much")
    rows = [
        run_in_lane(job, 60 if job.entrant != "misbehaving:hangs" else 2)
        for job in name_jobs(*names)
    ]
    assert [row["ok"] for row in rows] == [False, True, False, False, True]
    assert rows[0]["error"] == "its process did not survive: it ended with status 0"
    assert rows[2]["error"] == "its process did not survive: it was killed by SIGSEGV"
    assert rows[3]["error"] == "it was still running after 2 s, and was stopped"
    assert rows[1]["metrics"] == rows[4]["metrics"]


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


def test_a_change_of_code_versions_or_method_makes_old_rows_worthless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_method.py").write_text("def f(): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    mine, built_in = Job("circuit", PROBLEM, "my_method:f", 0), Job("circuit", PROBLEM, "eap", 0)
    keys = make_key(mine, 60), make_key(built_in, 60)
    assert keys == (make_key(mine, 60.0), make_key(built_in, 60))
    (tmp_path / "my_method.py").write_text("def f(): return 1")
    board_keys.hash_module.cache_clear()
    assert make_key(mine, 60) != keys[0]
    assert make_key(built_in, 60) == keys[1]
    assert make_key(built_in, 61) != keys[1]
    assert make_key(Job("circuit", PROBLEM, "eap", 1), 60) != keys[1]
    board_keys.hash_package.cache_clear()
    monkeypatch.setattr(board_keys.metadata, "version", lambda name: "0.0")
    assert make_key(built_in, 60) != keys[1]
    board_keys.hash_package.cache_clear()


def start_and_kill(out: Path, enough: int) -> None:
    """Run the board in a process of its own, and kill that as soon as `enough` rows are kept."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_run import *; "
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


def test_the_family_of_a_method_is_told_by_its_parameters_in_a_child_process() -> None:
    assert find_families(None, "misbehaving:honest") == ["circuit"]
    with pytest.raises(ValueError, match="no_such_module:f cannot be imported"):
        find_families(None, "no_such_module:f")


def test_every_family_has_all_its_rows() -> None:
    rows = [
        job.row_name
        for job in list_jobs(["steering"], "mine:f", seeds=1, quick=True)
        if job.problem[:7] == "refusal"
    ]
    last = ["mine:f", "random", "oracle", "mean_difference (untrained)", "mine:f (untrained)"]
    assert rows == ["mean_difference", "probe_direction", *last]


def test_a_function_from_a_notebook_is_scored_in_this_process_and_an_importable_one_in_a_child() -> (
    None
):
    def mine(model, clean, corrupt, metric, ablation):
        seen.append(os.getpid())
        return misbehaving.honest(model, clean, corrupt, metric, ablation)

    seen: list[int] = []
    here = board.score(mine, cases=[PROBLEM], seeds=1)
    assert set(seen) == {os.getpid()}
    there = board.score(misbehaving.honest, cases=[PROBLEM], seeds=1, workers=1)
    assert [entry["entrant"] for entry in here] == ["mine", "random", "oracle", "mine (untrained)"]
    assert here[0]["metrics"] == there[0]["metrics"]
    assert board.find_name(misbehaving.honest) == "misbehaving:honest"
    assert board.find_name(mine) is None


def test_a_function_from_a_notebook_that_does_not_end_is_ended() -> None:
    def forever(model, clean, corrupt, metric, ablation):
        while True:
            time.sleep(0.01)

    entries = board.score(forever, cases=[PROBLEM], seeds=1, seconds=0.3)
    assert entries[0]["errors"] == ["it was still running when its time was up"]
    assert entries[1]["entrant"] == "random"
    assert not entries[1]["errors"]


def test_a_case_that_no_problem_of_the_family_has_is_said() -> None:
    with pytest.raises(
        KeyError, match=r"no case of these families is called 'boolean_adn'; nearest: 'boolean_and'"
    ):
        board.score(misbehaving.honest, cases=["backup_head", "boolean_adn"])


def test_a_string_is_one_case() -> None:
    entries = board.score(misbehaving.honest, cases="boolean_and/zero", seeds=1)
    assert {entry["problem"] for entry in entries} == {"boolean_and/zero"}

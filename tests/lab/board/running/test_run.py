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
from sample_jobs import DRAW, name_jobs, strip
from sample_problem import make_problem

from mini_transformer.board.families import load_families
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.children import close_children
from mini_transformer.board.running.jobs import Job
from mini_transformer.board.running.judge import judge
from mini_transformer.board.running.run import (
    choose_families,
    find_common_family,
    list_jobs,
    list_own_jobs,
    list_shortages,
    open_draw,
    run_anywhere,
    run_jobs,
)
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


@pytest.mark.slow
def test_rows_are_the_same_and_in_order_whatever_the_number_of_workers() -> None:
    names = ("leace", "projection", "oracle", "random")
    jobs = list_jobs(["erasure"], cases=["planted/apart", "planted/four"], models=2, entrants=names)
    jobs = [job for job in jobs if job.entrant in names]
    one, _ = run_jobs(jobs, DRAW, workers=1)
    three, _ = run_jobs(jobs[::-1], DRAW, workers=2)
    assert json.dumps(strip(one)) == json.dumps(strip(three[::-1]))
    assert [(row["problem"], row["entrant"], row["number"]) for row in one] == [
        (job.problem, job.row_name, job.number) for job in jobs
    ]
    assert all(row["ok"] for row in one)


METHOD = """
import my_helper
from misbehaving import count_call


def mine(activations, labels):
    count_call()
    return lambda rows: rows * my_helper.FACTOR
"""


@pytest.mark.slow
def test_rows_that_are_there_are_not_computed_again_unless_their_code_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, out = tmp_path / "calls", tmp_path / "out"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_method.py").write_text(METHOD)
    (tmp_path / "my_helper.py").write_text("FACTOR = 1\n")
    jobs = [Job("erasure", "planted/apart", "my_method:mine", number) for number in range(2)]
    first, notes = run_jobs(jobs[:1], DRAW, out, workers=1)
    assert (count_lines(calls), notes) == (1, [])
    again, notes = run_jobs(jobs, DRAW, out, workers=1)
    assert (count_lines(calls), notes) == (2, [])
    assert again[0] == first[0]
    assert "depends" not in again[0]
    close_children()
    (tmp_path / "my_helper.py").write_text("FACTOR = 0\n")
    changed, notes = run_jobs(jobs, DRAW, out, workers=1)
    assert count_lines(calls) == 4
    assert notes == ["my_method:mine is run again, since my_helper.py is not as it was"]
    assert changed[0]["metrics"] != first[0]["metrics"]


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
        "from sample_jobs import DRAW, name_jobs; "
        "from mini_transformer.board.running.run import run_jobs; "
        "run_jobs(name_jobs('slow', 'raises', models=4), DRAW, Path(sys.argv[2]), workers=2)"
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
    jobs, calls = name_jobs("slow", "raises", models=4), tmp_path / "calls"
    start_and_kill(tmp_path, 1)
    start_and_kill(tmp_path, 4)
    kept = Journal(tmp_path / "rows.jsonl").entries
    assert 2 <= len(kept) < len(jobs)
    os.environ["CALLS"] = str(calls)
    try:
        rows, _ = run_jobs(jobs, DRAW, tmp_path, workers=1)
    finally:
        del os.environ["CALLS"]
    assert strip(rows) == strip([judge(job, DRAW, Answerer().answer) for job in jobs])
    assert count_lines(calls) == 4 - sum(row["ok"] for row in kept.values())


@pytest.mark.slow
def test_a_worker_killed_on_a_dask_cluster_changes_nothing(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    jobs, rows_file = name_jobs("slow", "raises", models=4), tmp_path / "rows.jsonl"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_one() -> None:
            await_true(lambda: count_lines(rows_file) >= 2)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        rows, _ = run_jobs(jobs, DRAW, tmp_path, dask=cluster.scheduler_address)
        killer.join()
    assert strip(rows) == strip([judge(job, DRAW, Answerer().answer) for job in jobs])


def test_every_family_has_all_its_rows() -> None:
    family = load_families()["erasure"]
    jobs = list_jobs(["erasure"], "mine:f", "planted/apart", models=1)
    first = next(iter(family.entrants))
    last = ["random", "oracle", f"{first} (untrained)", "mine:f (untrained)"]
    rows = [*family.entrants, "mine:f", *family.references, *last]
    assert [job.row_name for job in jobs] == rows
    chosen = list_jobs(["erasure"], None, "planted/apart", models=1, entrants=["leace"])
    references = [*family.references, "random", "oracle", "leace (untrained)"]
    assert [job.row_name for job in chosen] == ["leace", *references]
    numbers = {job.number for job in list_jobs(["erasure"])}
    assert numbers == set(range(family.models))


def test_a_quick_look_has_few_models_and_few_problems() -> None:
    whole, quick = list_jobs(load_families()), list_jobs(load_families(), quick=True)
    assert {job.number for job in quick} == {0, 1}
    assert len(quick) < len(whole) / 3
    assert {job.family for job in quick} == set(load_families())


def test_fewer_models_than_asked_for_are_said() -> None:
    jobs = list_jobs(["circuit"], cases="twin", models=20)
    assert list_shortages(jobs, 20) == ["twin/resample has 15 models, not 20"]
    assert list_shortages(jobs, 15) == list_shortages(jobs, None) == []
    with pytest.raises(ValueError, match="models is 0, but at least one is needed"):
        list_jobs(["circuit"], models=0)


def test_the_seed_of_a_folder_is_drawn_once_and_can_be_given(tmp_path: Path) -> None:
    drawn = open_draw("held-out", None, tmp_path)
    assert open_draw("held-out", None, tmp_path) == drawn
    assert drawn.seed != open_draw("held-out", None, tmp_path / "other").seed
    assert open_draw("held-out", 5, tmp_path).seed == 5
    assert open_draw("held-out", None, tmp_path) == drawn


def test_problems_of_the_caller_are_numbered_by_name_and_judged_here() -> None:
    problems = [make_problem(0), make_problem(1), make_problem(2, name="another/zero")]
    jobs = list_own_jobs(problems, "mine", [])
    asked = [(job.problem, job.number) for job in jobs if job.entrant == "oracle"]
    assert asked == [("sample/zero", 0), ("sample/zero", 1), ("another/zero", 0)]
    few = [job for job in jobs if job.entrant in ("mine", "oracle")]
    rows, draw, notes = run_anywhere(
        few, "held-out", 7, here={"mine": misbehaving.honest}, problems=problems
    )
    assert [row["entrant"] for row in rows][:3] == ["mine", "oracle", "mine (untrained)"]
    assert all(row["ok"] for row in rows)
    assert (draw.seed, notes) == (7, [])


def test_the_family_that_two_methods_share_is_told() -> None:
    assert find_common_family(["leace", "projection"]) == "erasure"
    assert find_common_family(["edge_patching", misbehaving.honest]) == "circuit"
    with pytest.raises(ValueError, match="eap and leace are of 0 families in common: say which"):
        find_common_family(["eap", "leace"])


@pytest.mark.slow
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

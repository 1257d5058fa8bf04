"""A job on several machines is one job in every table: one state, one exit code, and who is to blame."""

from __future__ import annotations

from ansible_collections.lightsout.aws.plugins.filter.jobs import FilterModule

one_job, jobs_table = FilterModule().filters()["one_job"], FilterModule().filters()["jobs_table"]


def view(machine: str, node: int = 1, nodes: int = 2, state: str = "succeeded", **more) -> dict:
    """What a machine says of the job `sum`."""
    ended = None if state in ("running", "queued") else "2026-11-23T10:00:05Z"
    code = {"succeeded": 0, "failed": 1}.get(state)
    return {
        "name": "sum",
        "machine": machine,
        "node": node,
        "nodes": nodes,
        "state": state,
        "since": ended or "2026",
        "ended": ended,
        "exit_code": code,
        "signal": None,
        "reason": "",
        "ran": "5 s",
        "rendezvous": "r1",
        "last_line": "hello",
        **more,
    }


def test_it_succeeded_when_all_did() -> None:
    job = one_job([view("b", 2), view("a", 1)])
    assert (job["state"], job["exit_code"], job["machine"], job["reason"]) == ("succeeded", 0, "a, b", "")


def test_it_runs_while_one_machine_does_and_says_what_befell_the_other() -> None:
    job = one_job([view("a", 1, state="running"), view("b", 2, state="failed", exit_code=7)])
    assert (job["state"], job["exit_code"]) == ("running", None)
    assert job["reason"] == "b: failed with exit code 7"


def test_the_first_that_fell_says_how_it_ended() -> None:
    later = view("a", 1, state="failed", ended="2026-11-23T10:00:09Z", reason="connection closed by peer")
    first = view("b", 2, state="lost", ended="2026-11-23T10:00:01Z", reason="its runner vanished")
    job = one_job([later, first])
    assert (job["state"], job["reason"]) == ("lost", "b: its runner vanished")


def test_a_machine_that_does_not_answer_is_missed() -> None:
    assert one_job([view("a", 1)])["reason"] == "only 1 of 2 machines answer"


def test_a_job_on_one_machine_is_left_as_it_is() -> None:
    alone = view("a", nodes=1, state="failed", reason="ran out of memory")
    assert one_job([alone]) == alone


def test_the_table_has_one_line_for_each_job_and_names_the_machines() -> None:
    lines = jobs_table([view("a", 1), view("b", 2), view("a", nodes=1, name="other"), view("b", nodes=1, name="other")])
    assert [line.split()[0] for line in lines] == ["JOB", "other", "other", "sum"]
    assert "MACHINE" in lines[0] and "a, b" in lines[3]


def test_two_runs_of_a_name_stay_two_lines() -> None:
    lines = jobs_table([view("a", 1), view("b", 2), view("c", 1, rendezvous="r2"), view("d", 2, rendezvous="r2")])
    assert len(lines) == 3


def test_on_a_single_machine_nobody_needs_its_name() -> None:
    heading, line = jobs_table([view("a", nodes=1, cpu_percent=98, gpu_memory=512)])
    assert "MACHINE" not in heading and "98 %" in line and "512 MiB" in line


def test_no_job_is_a_sentence() -> None:
    assert jobs_table([]) == ["No job has been trained here yet."]

"""The job runner keeps an honest record of real processes: how they ran, how they ended, and what they left."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pathlib
import pty
import signal
import sys
import time

import pytest

from tests.helpers.job_machine import RUNNER, SOON, Machine, alive, eventually


# -- how a job ran ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("code", "state"), [(0, "succeeded"), (7, "failed")])
def test_the_exit_code_is_kept(machine: Machine, code: int, state: str) -> None:
    machine.prepare(command=f"echo working; exit {code}")
    assert machine.run() == code
    view = machine.view()
    assert (view["state"], view["exit_code"], view["signal"], view["last_line"]) == (state, code, None, "working")
    assert view["ended"] >= view["started"] > "2020"


def test_a_signal_is_told_by_name(machine: Machine) -> None:
    machine.prepare(command="kill -SEGV $$")
    assert machine.run() == 128 + signal.SIGSEGV
    view = machine.view()
    assert (view["state"], view["exit_code"], view["signal"]) == ("failed", 139, "SEGV")
    assert "SIGSEGV" in view["reason"]


def test_the_log_holds_both_outputs_between_two_lines_of_ours(machine: Machine) -> None:
    machine.prepare(command="echo Grüße; echo oops >&2")
    machine.run()
    lines = machine.log().splitlines()
    assert lines[1:-1] == ["Grüße", "oops"]
    assert lines[0].startswith("[lightsout] job job, run 1, began ")
    assert lines[-1].startswith("[lightsout] succeeded") and "exit code 0" in lines[-1]


def test_a_job_sees_a_clean_environment_and_its_own_variables(machine: Machine) -> None:
    machine.environment["FROM_THE_SESSION"] = "leaks"
    machine.prepare(command="env", environment={"TOKEN": "s3 cr€t\nof two lines", "PYTHONUNBUFFERED": "0"})
    machine.run()
    seen = machine.lines()
    assert "TOKEN=s3 cr€t" in seen and "of two lines" in seen
    assert "PYTHONUNBUFFERED=0" in seen, "the user's own value wins"
    assert "LIGHTSOUT_JOB=job" in seen
    assert f"LIGHTSOUT_RESULTS={machine.jobs}/job/source/results" in seen
    assert next(line for line in seen if line.startswith("PATH=")).startswith(
        f"PATH={pathlib.Path(sys.executable).parent}:"
    )
    assert "leaks" not in machine.log()


def test_secrets_are_in_one_file_that_only_the_owner_reads(machine: Machine) -> None:
    machine.prepare(command="sleep 60", environment={"TOKEN": "abracadabra-4711"})
    machine.begin()
    folder = machine.jobs / "job"
    assert (folder / "environment").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    holders = [path.name for path in folder.iterdir() if path.is_file() and "abracadabra" in path.read_text()]
    assert holders == ["environment"]
    lines = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"abracadabra" in line for line in lines)


def test_relative_paths_work_as_on_the_laptop(machine: Machine) -> None:
    machine.prepare(command="cat ../data.txt > results/copy.txt", directory="sub folder", results="results")
    source = machine.upload(data_txt="42")
    (source / "sub folder").mkdir()
    machine.ask("start", "job", "--json")
    eventually(lambda: machine.view()["state"] == "succeeded")
    assert (source / "sub folder/results/copy.txt").read_text() == "42"


@pytest.mark.parametrize(
    ("name", "content", "arguments", "expected"),
    [
        ("train.py", "import sys; print(sys.argv, sys.executable)", ["a b"], f"['train.py', 'a b'] {sys.executable}"),
        ("tr äin.sh", "echo $1", ["übung"], "übung"),
        ("-odd.sh", "echo odd", [], "odd"),
        ("bare", "echo bash ${BASH_VERSION:+yes}", [], "bash yes"),
        ("perl", "#!/usr/bin/env bash\necho by its first line", [], "by its first line"),
        ("crlf.sh", "#!/bin/sh\r\necho crlf $1\r\n", ["x"], "crlf x"),
    ],
)
def test_any_script_runs(machine: Machine, name: str, content: str, arguments: list[str], expected: str) -> None:
    repairs = {"crlf": [name] if "\r" in content else [], "not_executable": [name] if content.startswith("#!") else []}
    machine.prepare(script=name, arguments=arguments, **repairs)
    (machine.jobs / "job/source" / name).write_bytes(content.encode())
    machine.ask("start", "job", "--json")
    eventually(lambda: machine.view()["state"] in ("succeeded", "failed"))
    assert machine.lines() == [expected]


def test_a_conda_environment_is_activated(machine: Machine, tmp_path: pathlib.Path) -> None:
    environment = tmp_path / "conda/envs/nlp"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(sys.executable)
    (environment / "etc/conda/activate.d").mkdir(parents=True)
    (environment / "etc/conda/activate.d/cuda.sh").write_text("export FROM_HOOK=hooked\n")
    machine.prepare(
        command="echo $FROM_HOOK $CONDA_DEFAULT_ENV; command -v python",
        python=str(tmp_path / "conda/bin/python"),
        conda="nlp",
    )
    machine.run()
    assert machine.lines() == ["hooked nlp", str(environment / "bin/python")]


def test_a_command_that_is_not_there_is_a_failure_with_the_shells_code(machine: Machine) -> None:
    machine.prepare(command="no-such-program --x")
    assert machine.run() == 127
    assert "no-such-program" in machine.view()["last_line"]


def test_a_script_whose_interpreter_is_not_there_fails_with_a_reason(machine: Machine) -> None:
    machine.prepare(script="x", not_executable=["x"])
    machine.upload(x="#!/no/such/interpreter\n")
    machine.ask("start", "job", "--json")
    eventually(lambda: machine.view()["state"] == "failed")
    view = machine.view()
    assert view["exit_code"] == 127 and "could not be executed" in view["reason"]


def test_what_the_command_leaves_running_ends_with_it(machine: Machine) -> None:
    machine.prepare(command="setsid sleep 1000 & echo $!; sleep 0.2")
    machine.run()
    eventually(lambda: not alive(int(machine.lines()[0])))
    assert machine.view()["state"] == "succeeded"
    assert "ending 1 process" in machine.log()


def test_a_full_disk_under_the_log_does_not_lose_the_record(machine: Machine) -> None:
    machine.prepare(command="echo into the void; exit 3")
    (machine.jobs / "job/log").symlink_to("/dev/full")
    assert machine.run() == 3
    assert machine.state()["exit_code"] == 3


# -- on a terminal, as in screen --------------------------------------------------------------------------------------
def on_a_terminal(machine: Machine, name: str) -> tuple[int, int]:
    """Run a job as screen does, with a terminal of its own: (pid, file descriptor of its other end)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-I", str(RUNNER), "run", name], machine.environment)  # noqa: S606
    eventually(lambda: machine.state(name).get("state") != "uploading")
    return pid, terminal


def drain(terminal: int) -> bytes:
    """Everything that was printed until the terminal closed."""
    seen = b""
    while True:
        try:
            block = os.read(terminal, 65536)
        except OSError:
            return seen
        if not block:
            return seen
        seen += block


def test_on_a_terminal_the_output_is_shown_and_logged_and_the_keyboard_works(machine: Machine) -> None:
    machine.prepare(command='read word; echo "got $word"; exit 5')
    pid, terminal = on_a_terminal(machine, "job")
    os.write(terminal, b"typed\n")
    seen = drain(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert b"got typed" in seen
    assert machine.lines() == ["got typed"]
    assert machine.view()["exit_code"] == 5


def test_ctrl_c_in_the_terminal_cancels(machine: Machine) -> None:
    machine.prepare(command="echo ready; exec sleep 1000")
    pid, terminal = on_a_terminal(machine, "job")
    eventually(lambda: "ready" in machine.log())
    os.write(terminal, b"\x03")
    drain(terminal)
    os.waitpid(pid, 0)
    assert machine.view()["state"] == "cancelled"


# -- cancel -----------------------------------------------------------------------------------------------------------
STUBBORN = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
SAVING = """import os, signal, sys, time
def save(*_):
    time.sleep(0.5)
    print("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
time.sleep(1000)
"""


def test_cancel_ends_the_whole_family(machine: Machine) -> None:
    machine.prepare(command="sleep 1000 & echo $!; setsid sleep 1001 & echo $!; echo $$; wait")
    machine.begin()
    eventually(lambda: len(machine.lines()) == 3)
    family = [int(line) for line in machine.lines()]
    assert all(alive(pid) for pid in family)
    done = machine.ask("cancel", "job", "--json")
    assert done["changed"] and done["job"]["state"] == "cancelled"
    assert not any(alive(pid) for pid in family)
    assert machine.ask("cancel", "job", "--json")["changed"] is False


def test_a_job_may_save_its_work_even_when_the_shell_around_it_dies_first(machine: Machine) -> None:
    machine.prepare(command=f"{sys.executable} -u save.py; true")
    machine.upload(save_py=SAVING)
    machine.begin()
    eventually(lambda: "ready" in machine.log())
    machine.ask("cancel", "job", "--json")
    assert machine.lines()[-1] == "saved"


def test_who_does_not_listen_is_killed_after_the_grace(machine: Machine) -> None:
    machine.prepare(command=STUBBORN)
    machine.begin()
    eventually(lambda: len(machine.lines()) == 1)
    begun = time.monotonic()
    view = machine.ask("cancel", "job", "--json", "--grace", "0.5")["job"]
    assert time.monotonic() - begun >= 0.5
    assert (view["state"], view["signal"], view["exit_code"]) == ("cancelled", "KILL", 137)
    assert not alive(int(machine.lines()[0]))


def test_cancel_would_say_what_it_would_do(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    runner = machine.begin()
    assert machine.ask("cancel", "job", "--json", "--check")["changed"] is True
    assert runner.poll() is None and machine.view()["state"] == "running"


def test_a_job_that_is_still_uploading_can_be_cancelled(machine: Machine) -> None:
    machine.prepare()
    assert machine.ask("cancel", "job", "--json")["job"]["state"] == "cancelled"
    assert machine.ask("start", "job", "--json")["changed"] is False


def test_a_signal_from_outside_is_not_a_success(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    runner = machine.begin()
    runner.terminate()
    assert runner.wait(timeout=30) == 143
    view = machine.view()
    assert view["state"] == "cancelled" and "from outside" in view["reason"]


# -- lost -------------------------------------------------------------------------------------------------------------
def test_a_job_whose_runner_was_killed_is_lost_not_running(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    runner = machine.begin()
    child = machine.state()["pid"]
    runner.kill()
    runner.wait()
    view = machine.view()
    assert view["state"] == "lost" and str(child) in view["reason"], "the command itself goes on, and that is said"
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not alive(child))
    assert machine.view()["state"] == "lost"
    assert machine.state()["state"] == "running", "looking changes nothing"


def test_a_reboot_is_told_from_a_kill(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    machine.begin()
    state = machine.state()
    path = machine.jobs / "job/state.json"
    path.write_text(json.dumps({**state, "boot_id": "another"}))
    view = machine.view()
    assert view["state"] == "lost" and "restarted" in view["reason"]
    path.write_text(json.dumps(state))
    assert machine.view()["state"] == "running"


def test_a_process_id_that_was_used_again_fools_nobody(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    machine.begin()
    state = machine.state()
    (machine.jobs / "job/state.json").write_text(json.dumps({**state, "runner_pid": os.getpid()}))
    assert machine.view()["state"] == "lost"
    (machine.jobs / "job/state.json").write_text(json.dumps(state))


# -- prepare and start: a job is a run with a name ---------------------------------------------------------------------
def test_the_same_job_again_changes_nothing(machine: Machine) -> None:
    assert machine.prepare(command="sleep 1000")["action"] == "start"
    machine.begin()
    assert machine.prepare(command="sleep 1000")["action"] == "none"
    machine.ask("cancel", "job", "--json")
    assert machine.prepare(command="sleep 1000")["action"] == "none"


def test_something_else_under_the_name_of_a_running_job_is_refused(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    machine.begin()
    before = {path: path.stat().st_mtime_ns for path in (machine.jobs / "job").iterdir()}
    request = {"definition": {"launcher": "screen", "command": "true", "python": sys.executable, "digest": "other"}}
    done = machine.call("prepare", "job", stdin=request)
    assert done.returncode == 2
    assert "Job 'job' is running since" in done.stderr and "training_replace=true" in done.stderr
    assert done.stderr.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in (machine.jobs / "job").iterdir()}


def test_a_running_job_is_replaced_when_that_is_asked_for_and_keeps_what_it_has_left(machine: Machine) -> None:
    old = "trap 'echo saved > results/farewell; exit 0' TERM; mkdir -p results; while :; do sleep 0.05; done"
    machine.prepare(command=old)
    machine.begin()
    eventually((machine.jobs / "job/source/results").exists)
    assert machine.prepare(command="true", replace=True, check=True)["action"] == "start"
    assert machine.prepare(command=old, replace=True)["action"] == "none", "it is that very job"
    assert machine.view()["state"] == "running"
    assert machine.prepare(command="true", replace=True)["copy_from"] == str(machine.jobs / "job.1/source")
    assert (machine.jobs / "job.1/source/results/farewell").read_text() == "saved\n"
    assert machine.view("job.1")["state"] == "cancelled" and machine.run() == 0


@pytest.mark.parametrize("change", [{"rerun": True}, {"environment": {"SEED": "2"}}])
def test_a_new_run_keeps_the_old_one(machine: Machine, change: dict) -> None:
    machine.prepare(command="mkdir -p results; echo $SEED > results/seed")
    machine.upload(big_bin="data")
    machine.run()
    answer = machine.prepare(command="mkdir -p results; echo $SEED > results/seed", **change)
    assert answer["action"] == "start"
    assert answer["copy_from"] == str(machine.jobs / "job.1/source"), "what was uploaded once need not travel again"
    machine.run()
    assert machine.view()["run"] == 2 and machine.view("job.1")["run"] == 1
    assert (machine.jobs / "job.1/source/results/seed").read_text() == "\n"
    assert (
        machine.jobs / "job/source/results/seed"
    ).read_text() == f"{change.get('environment', {}).get('SEED', '')}\n"
    assert [job["name"] for job in machine.ask("list", "--json")["jobs"]] == ["job"]


def test_check_writes_nothing(machine: Machine) -> None:
    assert machine.prepare(check=True)["action"] == "start"
    assert not (machine.jobs / "job").exists()
    machine.prepare()
    machine.run()
    before = sorted(machine.jobs.rglob("*"))
    assert machine.prepare(check=True, rerun=True)["copy_from"] == str(machine.jobs / "job/source")
    assert sorted(machine.jobs.rglob("*")) == before


def test_an_interrupted_upload_goes_on_and_another_one_begins_afresh(machine: Machine) -> None:
    machine.prepare(command="true")
    machine.upload(half_bin="half")
    assert machine.view()["state"] == "uploading"
    machine.prepare(command="true")
    assert (machine.jobs / "job/source/half.bin").exists()
    machine.prepare(command="echo other")
    assert not (machine.jobs / "job/source/half.bin").exists()


def test_of_two_who_prepare_at_once_only_the_last_can_start(machine: Machine) -> None:
    first = machine.prepare()["token"]
    second = machine.prepare()["token"]
    done = machine.call("start", "job", "--token", first)
    assert done.returncode == 1 and "took job 'job' over" in done.stderr
    assert machine.ask("start", "job", "--json", "--token", second)["changed"] is True
    assert machine.ask("start", "job", "--json", "--token", second)["changed"] is False


def test_a_failure_of_the_first_moment_is_told_at_once(machine: Machine) -> None:
    machine.prepare(command="echo no such data; exit 4")
    view = machine.ask("start", "job", "--json")["job"]
    assert (view["state"], view["exit_code"]) == ("failed", 4)


def test_a_launcher_that_refuses_is_told_and_recorded(machine: Machine) -> None:
    machine.prepare()
    (machine.jobs.parent / "no-screen").touch()
    done = machine.call("start", "job")
    assert done.returncode == 1 and "Cannot open your terminal" in done.stderr
    assert machine.view()["state"] == "failed" and "Cannot open" in machine.view()["reason"]


@pytest.mark.parametrize(
    ("name", "definition", "complaint"),
    [
        ("", {}, "cannot be a job's name"),
        ("a/b", {}, "cannot be a job's name"),
        ("-rf", {}, "the following arguments are required"),
        ("job.1", {}, "name of an earlier run"),
        ("job", {"launcher": "tmux"}, "'tmux' is unknown: systemd or screen"),
        ("job", {"python": "/no/python"}, "There is no /no/python on this machine (training_python)"),
        ("job", {"conda": "nowhere"}, "envs/nowhere/bin/python on this machine (training_conda_environment)"),
        ("job", {"script": "x.py"}, "either a command or a script"),
        ("job", {"results": "../../elsewhere"}, "must lie inside the uploaded folder"),
        ("job", {"grace": 100000}, "not between 0 and 540"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_trace(
    machine: Machine, name: str, definition: dict, complaint: str
) -> None:
    definition = {"launcher": "screen", "command": "true", "python": sys.executable, "digest": "x", **definition}
    done = machine.call("prepare", name, stdin={"definition": definition})
    assert done.returncode == 2
    assert complaint in done.stderr
    assert not machine.jobs.exists() or [path.name for path in machine.jobs.iterdir()] == [".lock"]


def test_a_folder_that_is_no_job_is_left_alone(machine: Machine) -> None:
    (machine.jobs / "job").mkdir(parents=True)
    (machine.jobs / "job/thesis.tex").write_text("precious")
    done = machine.call(
        "prepare", "job", stdin={"definition": {"launcher": "screen", "command": "true", "digest": "x"}}
    )
    assert done.returncode == 2 and "not a job of ours" in done.stderr
    assert (machine.jobs / "job/thesis.tex").read_text() == "precious"


def test_another_version_is_refused_before_anything_happens(machine: Machine) -> None:
    done = machine.call("prepare", "job", "--version", "0" * 64, stdin={})
    assert done.returncode == 4
    assert not machine.jobs.exists()


# -- what others read -------------------------------------------------------------------------------------------------
def test_a_job_that_is_not_there_names_those_that_are(machine: Machine) -> None:
    assert "There is none yet" in machine.call("log", "rerank").stderr
    machine.prepare("alpha")
    machine.prepare("beta")
    done = machine.call("log", "rerank")
    assert done.returncode == 3
    assert "There is no job 'rerank' on this machine. There are: alpha, beta." in done.stderr


def test_the_table_shows_what_matters(machine: Machine) -> None:
    assert machine.call("list").stdout == "No job has been trained here yet.\n"
    machine.prepare(command="printf 'epoch 1\\repoch 2\\repoch 3\\n'; exit 7")
    machine.run()
    heading, row = machine.call("list").stdout.splitlines()
    assert heading.split() == ["JOB", "STATE", "SINCE", "(UTC)", "RAN", "EXIT", "CPU", "LAST", "LINE"]
    assert row.startswith("job  failed") and row.split()[-3:] == ["7", "epoch", "3"]


def test_the_end_of_a_long_log_is_read_from_the_end(machine: Machine) -> None:
    machine.prepare()
    (machine.jobs / "job/log").write_text("".join(f"line {number} {'x' * 200}\n" for number in range(5000)))
    lines = machine.call("log", "job", "-n", "600").stdout.splitlines()
    assert len(lines) == 600
    assert lines[0].startswith("line 4400 ") and lines[-1].startswith("line 4999 ")


def test_a_watcher_sees_every_line_once_and_in_order(machine: Machine) -> None:
    machine.prepare(command="for i in $(seq 30); do echo line $i; sleep 0.02; done")
    machine.begin()
    offset, seen = 0, ""
    for _ in range(100):
        answer = machine.ask("watch", "job", "--offset", str(offset), "--seconds", "5")
        assert answer["text"] == "" or answer["text"].endswith("\n"), "whole lines"
        offset, seen = answer["offset"], seen + answer["text"]
        if answer["job"]["state"] == "succeeded" and not answer["more"]:
            break
    assert seen == machine.log()


def test_watching_gives_up_when_asked_and_returns_at_once_with_news(machine: Machine) -> None:
    machine.prepare(command="sleep 1000")
    machine.begin()
    size = len(machine.log().encode())
    begun = time.monotonic()
    answer = machine.ask("watch", "job", "--offset", str(size), "--seconds", "0.3")
    assert 0.3 <= time.monotonic() - begun < SOON
    assert (answer["text"], answer["offset"], answer["job"]["state"]) == ("", size, "running")


def test_the_manifest_of_results_is_true(machine: Machine) -> None:
    machine.prepare(command="mkdir -p results/déep; printf abc > 'results/déep/a b.bin'; ln -s déep results/latest")
    machine.run()
    answer = machine.ask("results", "job")
    assert answer["files"]["déep/a b.bin"]["sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert answer["files"]["déep/a b.bin"]["size"] == 3
    assert answer["files"]["latest"] == {"link": "déep"}
    assert sorted(answer["files"]) == ["déep/a b.bin", "latest"]
    assert answer["root"].endswith("/source/results/")
    assert answer["log"]["sha256"] == hashlib.sha256(machine.log().encode()).hexdigest()


def test_results_may_be_a_single_file(machine: Machine) -> None:
    machine.prepare(command="echo 1 > model.bin", results="model.bin")
    machine.run()
    answer = machine.ask("results", "job")
    assert list(answer["files"]) == ["model.bin"]
    assert answer["root"].endswith("/source/model.bin")


def test_a_reader_never_sees_half_a_state(machine: Machine) -> None:
    machine.prepare(command="exit 0")
    machine.run()
    before = (machine.jobs / "job/state.json").stat().st_ino
    machine.prepare(rerun=True, command="exit 0")
    assert (machine.jobs / "job.1/state.json").stat().st_ino == before, "an earlier run is moved, not rewritten"
    assert not list(machine.jobs.rglob(".state.json.*")), "nothing is left beside it"


def test_it_runs_on_the_oldest_python_we_promise() -> None:
    ast.parse(RUNNER.read_text(), feature_version=(3, 9))


def test_its_help_tells_where_everything_is(machine: Machine) -> None:
    text = machine.call("--help").stdout
    for word in ("SYNOPSIS", "FILES", "STATES", "EXIT STATUS", "state.json", "lightsout-job cancel NAME"):
        assert word in text


def test_results_that_have_not_changed_are_not_read_again_and_those_that_have_are(machine: Machine) -> None:
    machine.prepare(command="mkdir -p results/deep; echo one > results/deep/a; ln -s a results/deep/link")
    machine.run()
    results = machine.jobs / "job/source/results/deep"
    first = machine.ask("results", "job")["files"]
    assert first["deep/link"] == {"link": "a"} and first["deep/a"]["size"] == 4
    memory = machine.jobs / "job/.checksums.json"
    stat = (results / "a").stat()
    mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    memory.write_text(json.dumps({str(results / "a"): [mark, "as remembered"]}))
    assert machine.ask("results", "job")["files"]["deep/a"]["sha256"] == "as remembered"
    (results / "a").write_text("two\n")
    os.utime(results / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = machine.ask("results", "job")["files"]["deep/a"]["sha256"]
    assert changed not in ("as remembered", first["deep/a"]["sha256"])

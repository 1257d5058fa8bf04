"""How a job is treated while it lives and afterwards: queues, restarts, syncs, interruptions, the machine's end."""

from __future__ import annotations

import datetime
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.helpers.job_machine import RUNNER, Machine, eventually

#: Saves on TERM, as a good script does, and otherwise goes on for a minute.
SAVES = """mkdir -p results; trap 'echo 7 > results/checkpoint; exit 0' TERM
echo 1 > results/checkpoint; echo ready; for i in $(seq 600); do sleep 0.1; done"""


def ready(machine: Machine, name: str = "job") -> None:
    """Wait until the script above can be asked to end."""
    eventually(lambda: "ready" in machine.lines(name))


# -- queues ----------------------------------------------------------------------------------------------------------
def queued(machine: Machine, name: str, command: str, queue: str = "gpu") -> None:
    """Put a job into a queue and start its runner as a launcher does."""
    machine.prepare(name, command=command, queue=queue)
    machine.ask("start", name, "--json")


def test_jobs_of_a_queue_run_one_after_another_in_the_order_of_their_start(machine: Machine) -> None:
    order = machine.jobs.parent / "order"
    go = machine.jobs.parent / "go"
    queued(machine, "zebra", f"until [ -e {go} ]; do sleep 0.1; done; echo zebra >> {order}")
    queued(machine, "ant", f"echo ant >> {order}")
    queued(machine, "mule", f"echo mule >> {order}")
    waiting = machine.view("mule")
    assert waiting["state"] == "queued" and waiting["reason"] == "waits for ant, zebra in the queue 'gpu'"
    go.touch()
    eventually(lambda: machine.view("mule")["state"] == "succeeded")
    assert order.read_text().split() == ["zebra", "ant", "mule"]
    assert machine.view("mule")["reason"] == ""


def test_other_queues_and_jobs_without_one_do_not_wait(machine: Machine) -> None:
    queued(machine, "long", "sleep 30")
    queued(machine, "other", "true", queue="cpu")
    machine.prepare("free", command="true")
    machine.ask("start", "free", "--json")
    eventually(lambda: machine.view("other")["state"] == machine.view("free")["state"] == "succeeded")
    assert machine.view("long")["state"] == "running"
    machine.ask("cancel", "long", "--json")


def test_a_job_that_waits_can_be_cancelled_and_the_next_one_moves_up(machine: Machine) -> None:
    queued(machine, "first", "sleep 30")
    queued(machine, "second", "true")
    queued(machine, "third", "true")
    machine.ask("cancel", "second", "--json")
    assert machine.view("second")["state"] == "cancelled"
    machine.ask("cancel", "first", "--json")
    eventually(lambda: machine.view("third")["state"] == "succeeded")


# -- restarts --------------------------------------------------------------------------------------------------------
FAILS_TWICE = 'echo "try $LIGHTSOUT_RESTARTS"; echo x >> ../tries; [ "$(wc -l < ../tries)" -ge 3 ]'


def test_a_job_that_fails_is_started_again_as_often_as_wanted(machine: Machine) -> None:
    machine.prepare(command=FAILS_TWICE, restarts=3, restart_delay=0)
    assert machine.run() == 0
    assert machine.lines() == ["try 0", "try 1", "try 2"]
    assert (machine.view()["state"], machine.view()["restarts"]) == ("succeeded", 2)
    assert "failed (exit code 1): starting it again in 0 s, 2 of 3" in machine.log()


def test_in_the_end_a_job_that_always_fails_has_failed(machine: Machine) -> None:
    machine.prepare(command="echo again; exit 9", restarts=2, restart_delay=0)
    assert machine.run() == 9
    assert machine.lines() == ["again"] * 3
    assert machine.view()["state"] == "failed"


def test_a_job_without_restarts_is_not_started_again(machine: Machine) -> None:
    machine.prepare(command="echo once; exit 9")
    machine.run()
    assert machine.lines() == ["once"]


@pytest.mark.parametrize("moment", ["it runs", "it waits for its restart"])
def test_a_job_that_is_cancelled_stays_ended(machine: Machine, moment: str) -> None:
    command = "echo go; sleep 30" if moment == "it runs" else "echo go; exit 3"
    machine.prepare(command=command, restarts=5, restart_delay=30)
    runner = machine.begin()
    eventually(lambda: machine.lines() == ["go"])
    if moment != "it runs":
        eventually(lambda: machine.state().get("restarts") == 1)
    machine.ask("cancel", "job", "--json")
    runner.wait(timeout=20)
    assert machine.view()["state"] == "cancelled" and machine.lines() == ["go"]


# -- a place for the results -----------------------------------------------------------------------------------------
def test_results_log_and_record_are_at_their_place_when_the_job_has_ended(machine: Machine, tmp_path) -> None:
    place = tmp_path / "place"
    machine.prepare(
        command="mkdir -p results/deep; echo 42 > 'results/deep/ü b.txt'",
        sync={"to": str(place)},
        environment={"S": "x"},
    )
    machine.run()
    assert (place / "job/results/deep/ü b.txt").read_text() == "42\n"
    assert json.loads((place / "job/state.json").read_text())["state"] == "succeeded"
    assert "began" in (place / "job/log").read_text()
    assert not (place / "job/environment").exists()
    synced = machine.view()["synced"]
    assert synced["ok"] and synced["to"] == str(place)


def test_checkpoints_are_brought_there_while_it_runs(machine: Machine, tmp_path) -> None:
    place = tmp_path / "place"
    machine.prepare(command=SAVES, sync={"to": str(place), "interval": 0.3})
    runner = machine.begin()
    eventually((place / "job/results/checkpoint").exists)
    assert machine.view()["state"] == "running"
    machine.ask("cancel", "job", "--json")
    runner.wait(timeout=20)
    assert (place / "job/results/checkpoint").read_text() == "7\n"  # what it saved last


def test_results_that_cannot_be_brought_there_are_not_called_safe(machine: Machine, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    machine.prepare(
        command="mkdir -p results; echo 1 > results/a", sync={"to": f"{tmp_path}/file/below", "interval": 0.1}
    )
    machine.run()
    assert machine.view()["state"] == "succeeded"
    assert not machine.view()["synced"]["ok"]
    assert "the results are NOT safe" in machine.log() and "Not a directory" in machine.log()


def test_a_sync_is_not_a_process_that_the_job_has_left_running(machine: Machine, tmp_path) -> None:
    machine.prepare(
        command="mkdir -p results; for i in $(seq 30); do echo $i > results/a; sleep 0.05; done",
        sync={"to": str(tmp_path / "p"), "interval": 0.01},
    )
    machine.run()
    assert "left running" not in machine.log() and machine.view()["synced"]["ok"]


# -- going on --------------------------------------------------------------------------------------------------------
CONTINUES = "echo from $(cat results/checkpoint 2>/dev/null || echo nothing)"


def test_on_a_new_machine_a_job_goes_on_from_its_place(machine: Machine, tmp_path) -> None:
    place = tmp_path / "place/job/results"
    place.mkdir(parents=True)
    (place / "checkpoint").write_text("7\n")
    machine.prepare(command=CONTINUES, resume=True, sync={"to": str(tmp_path / "place")})
    machine.run()
    assert machine.lines() == ["from 7"]


def test_without_resume_a_job_begins_anew(machine: Machine, tmp_path) -> None:
    place = tmp_path / "place/job/results"
    place.mkdir(parents=True)
    (place / "checkpoint").write_text("7\n")
    machine.prepare(command=CONTINUES, sync={"to": str(tmp_path / "place")})
    machine.run()
    assert machine.lines() == ["from nothing"]


def test_where_nothing_was_saved_a_job_that_goes_on_begins(machine: Machine, tmp_path) -> None:
    machine.prepare(command=CONTINUES, resume=True, sync={"to": str(tmp_path / "place")})
    machine.run()
    assert machine.lines() == ["from nothing"]


def test_on_the_same_machine_a_job_goes_on_from_what_it_left(machine: Machine) -> None:
    definition = {"command": f"{CONTINUES}; echo 8 > results/checkpoint; exit 1"}
    machine.prepare(**definition)
    machine.ask("start", "job", "--json")
    eventually(lambda: machine.view()["state"] == "failed")
    agreed = machine.prepare(**definition, resume=True)
    assert agreed["action"] == "start"
    machine.ask("start", "job", "--json")
    eventually(lambda: machine.view()["state"] == "failed")
    assert machine.lines() == ["from 8"] and machine.view()["run"] == 2
    assert machine.lines("job.1") == ["from nothing"]


def test_a_job_that_succeeded_does_not_go_on(machine: Machine) -> None:
    machine.prepare(command="true", digest="same")
    machine.run()
    request = {
        "definition": {**json.loads((machine.jobs / "job/job.json").read_text()), "resume": True},
        "environment": {},
    }
    assert machine.ask("prepare", "job", stdin=request)["action"] == "none"


def survives(machine: Machine, name: str, reboot: bool) -> None:
    """Let a job be one that is started at boot; systemd, which it takes, does not run here."""
    file = machine.jobs / name / "job.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "reboot": reboot}))


def test_after_a_restart_of_the_machine_a_job_goes_on_if_it_is_to(machine: Machine) -> None:
    for reboot, lines in ((True, ["here"]), (False, [])):
        name = f"reboot-{reboot}".lower()
        machine.prepare(name, command="echo here")
        survives(machine, name, reboot)
        record = machine.jobs / name / "state.json"
        lost = {"state": "lost", "boot_id": "another", "run": 1, "since": "2026-01-01T00:00:00Z", "exit_code": 143}
        record.write_text(json.dumps(lost))
        machine.run(name)
        assert machine.lines(name) == lines if reboot else not (machine.jobs / name / "log").exists()


def test_what_has_ended_is_not_run_again_at_boot(machine: Machine) -> None:
    machine.prepare(command="echo once")
    survives(machine, "job", reboot=True)
    machine.run()
    state = machine.state()
    (machine.jobs / "job/state.json").write_text(json.dumps({**state, "boot_id": "another"}))
    assert machine.run() == 0
    assert machine.lines() == ["once"]


# -- policy ----------------------------------------------------------------------------------------------------------
def test_how_a_running_job_is_treated_can_be_changed(machine: Machine, tmp_path) -> None:
    machine.prepare(command=SAVES)
    runner = machine.begin()
    ready(machine)
    request = {"definition": {**json.loads((machine.jobs / "job/job.json").read_text())}, "environment": {}}
    assert machine.ask("prepare", "job", stdin=request)["policy"] == []
    request["definition"]["sync"] = {"to": str(tmp_path / "place")}
    agreed = machine.ask("prepare", "job", stdin=request)
    assert agreed["action"] == "none" and agreed["policy"] == [f"sync={json.dumps(request['definition']['sync'])}"]
    machine.ask("cancel", "job", "--json")
    runner.wait(timeout=20)
    assert (tmp_path / "place/job/results/checkpoint").read_text() == "7\n"


@pytest.mark.parametrize(
    ("definition", "complaint"),
    [
        ({"then": "explode"}, "training_then: 'explode' is unknown: nothing, stop, terminate."),
        ({"then": "terminate"}, "say where the results are kept (training_sync_to=s3://…)"),
        ({"reboot": True}, "training_survive_reboot needs training_launcher=systemd"),
        ({"gpu": True}, "training_gpu: no NVIDIA GPU with a working driver answers on this machine"),
    ],
    ids=["then", "unsafe", "reboot", "gpu"],
)
def test_what_cannot_work_is_refused_before_anything_is_uploaded(machine: Machine, definition, complaint) -> None:
    for tool in ("rclone", "nvidia-smi"):
        machine.hide(tool)
    request = {
        "definition": {"launcher": "screen", "python": sys.executable, "command": "true", "digest": "1", **definition}
    }
    done = machine.call("prepare", "job", stdin=request)
    assert done.returncode == 2 and complaint in done.stderr
    assert not (machine.jobs / "job").exists()


def test_a_tool_that_the_sync_needs_is_asked_for_as_a_newer_runner_is(machine: Machine) -> None:
    machine.hide("rclone")
    definition = {"launcher": "screen", "python": sys.executable, "command": "true", "digest": "1"}
    request = {"definition": {**definition, "sync": {"to": "s3://bucket"}}}
    done = machine.call("prepare", "job", stdin=request)
    assert done.returncode == 4 and "training_sync_to needs rclone" in done.stderr


# -- spot machines ---------------------------------------------------------------------------------------------------
class Metadata(http.server.BaseHTTPRequestHandler):
    """A metadata service that wants a token, for a spot machine whose notice the test gives."""

    notice: str | None = None

    def do_PUT(self) -> None:
        self.reply(200, "token")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "token":
            self.reply(401, "")
        elif self.path == "/latest/meta-data/instance-life-cycle":
            self.reply(200, "spot")
        elif self.path == "/latest/meta-data/spot/instance-action" and type(self).notice:
            self.reply(200, type(self).notice)
        else:
            self.reply(404, "")

    def reply(self, code: int, text: str) -> None:
        """An answer."""
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def spot(machine: Machine) -> Iterator[type[Metadata]]:
    """The machine is a spot machine; set `notice` to take it away."""
    Metadata.notice = None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        machine.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
        yield Metadata
        server.shutdown()


def notice(seconds: float) -> str:
    """What EC2 says that many seconds before."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return json.dumps({"action": "terminate", "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ")})


def test_a_job_saves_its_work_when_its_spot_machine_is_taken_away(machine: Machine, spot, tmp_path) -> None:
    machine.prepare(command=SAVES, sync={"to": str(tmp_path / "place")}, restarts=3)
    runner = machine.begin()
    ready(machine)
    spot.notice = notice(120)
    runner.wait(timeout=20)
    view = machine.view()
    assert view["state"] == "interrupted" and "AWS took the spot machine away at" in view["reason"]
    assert (tmp_path / "place/job/results/checkpoint").read_text() == "7\n" and view["synced"]["ok"]


def test_one_that_does_not_listen_is_killed_in_time_for_the_last_sync(machine: Machine, spot, tmp_path) -> None:
    stubborn = "mkdir -p results; trap '' TERM; echo 1 > results/checkpoint; echo ready; while :; do sleep 0.1; done"
    machine.prepare(command=stubborn, sync={"to": str(tmp_path / "place")}, grace=300)
    runner = machine.begin()
    ready(machine)
    spot.notice = notice(32)  # 30 s of which are for the sync
    runner.wait(timeout=20)
    assert machine.view()["state"] == "interrupted" and (tmp_path / "place/job/results/checkpoint").exists()


def test_without_a_notice_a_job_on_a_spot_machine_is_left_alone(machine: Machine, spot) -> None:
    machine.prepare(command="sleep 7; echo done")  # longer than the time between two looks
    assert machine.run() == 0
    assert machine.view()["state"] == "succeeded"


# -- the machine's end -----------------------------------------------------------------------------------------------
@pytest.fixture
def power(machine: Machine, tmp_path) -> pathlib.Path:
    """Where the machine's power commands are written down instead of being run."""
    calls = tmp_path / "calls"
    calls.write_text("")
    for name in ("systemd-run", "systemctl", "wall", "sudo"):
        machine.program(name, f'#!/bin/sh\necho {name} "$@" >> {calls}\n')
    machine.environment["LIGHTSOUT_WISH"] = str(tmp_path / "wish")
    return calls


@pytest.mark.parametrize(
    ("definition", "stops"),
    [
        ({"command": "true", "then": "stop"}, True),
        ({"command": "exit 3", "then": "stop"}, True),
        ({"command": "true", "then": "nothing"}, False),
        ({"command": "true"}, False),
        ({"command": "mkdir -p results; echo 1 > results/a", "then": "terminate", "sync": "place"}, True),
        ({"command": "mkdir -p results; echo 1 > results/a", "then": "terminate", "sync": "file/below"}, False),
    ],
    ids=["succeeded", "failed", "nothing", "unsaid", "safe", "not safe"],
)
def test_the_machine_is_stopped_when_that_is_wished_and_safe(machine, power, tmp_path, definition, stops) -> None:
    (tmp_path / "file").write_text("")
    if "sync" in definition:
        definition = {**definition, "sync": {"to": str(tmp_path / definition["sync"])}}
    machine.prepare(**definition)
    machine.run()
    machine.call("after", "job")
    assert ("--on-active=60" in power.read_text()) is stops
    assert ("to keep it: sudo systemctl stop lightsout-power-off.timer" in machine.log()) is stops


def test_a_job_that_somebody_cancelled_leaves_them_the_machine(machine: Machine, power) -> None:
    machine.prepare(command=SAVES, then="stop")
    runner = machine.begin()
    ready(machine)
    machine.ask("cancel", "job", "--json")
    runner.wait(timeout=20)
    machine.call("after", "job")
    assert "--on-active" not in power.read_text()


def test_the_machine_runs_until_its_last_job_has_ended(machine: Machine, power) -> None:
    machine.prepare("long", command=SAVES)
    runner = machine.begin("long")
    ready(machine, "long")
    machine.prepare("short", command="true", then="stop")
    machine.run("short")
    machine.call("after", "short")
    machine.call("power-off")
    assert "--on-active" not in power.read_text() and "poweroff" not in power.read_text()
    machine.ask("cancel", "long", "--json")
    runner.wait(timeout=20)
    machine.call("after", "long")
    assert "--on-active" in power.read_text()
    machine.call("power-off")
    assert "systemctl poweroff" in power.read_text()


@pytest.mark.parametrize(("left", "stops"), [(3600, False), (-1, True)])
def test_who_keeps_the_machine_awake_keeps_it_against_a_jobs_end(
    machine: Machine, power, tmp_path, left, stops
) -> None:
    machine.environment["LIGHTSOUT_KEEP"] = str(tmp_path / "keep.json")
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + left
    (tmp_path / "keep.json").write_text(json.dumps({"until": until}))
    machine.call("power-off")
    assert ("systemctl poweroff" in power.read_text()) is stops


def test_both_programs_run_on_an_old_python() -> None:
    sync = RUNNER.with_name("lightsout_sync.py")
    for program in (RUNNER, sync):
        compile(program.read_text(), program, "exec", dont_inherit=True)
        assert "match " not in program.read_text()
    assert subprocess.run([sys.executable, "-I", sync, "--help"], capture_output=True, check=True).stdout

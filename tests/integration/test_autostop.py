"""A real machine with a real Jupyter, ssh, screen and job: what keeps it on, what does not, and that it then stops."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from localcloud import podman
from tests.helpers.project import PASSWORD, Project
from tests.helpers.waiting import until
from tools.jupyter_client import JupyterClient

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

#: Looks often, so that a test need not wait; CPU counts from half a core on, as a look each second takes some itself.
OFTEN = {
    "autostop_interval": "2s",
    "autostop_window": "6s",
    "autostop_grace": "1m",
    "autostop_cpu_percent": 70,
}
#: Each look leaves a line: some verdicts last for a single one, and whoever asks now and then would miss them.
LOOKS = "/var/lib/lightsout/looks"
RECORD = f"""mkdir -p /etc/systemd/system/lightsout-autostop.service.d && touch {LOOKS}
echo '[Service]
ExecStartPost=/bin/sh -c "echo $(lightsout-autostop status --json) >> {LOOKS}"
' > /etc/systemd/system/lightsout-autostop.service.d/record.conf && systemctl daemon-reload"""

#: An hour of idleness in this world.
HOUR = {"autostop_idle": "30s", "autostop_warning": "14s"}


class Shell(subprocess.Popen):
    """An ssh session; it ends with its block."""

    def __exit__(self, *failure: object) -> None:
        self.terminate()
        super().__exit__(*failure)


class Machine:
    """The project's one machine. What the agent says is read from inside: asking over ssh would be a connection."""

    def __init__(self, project: Project) -> None:
        self.project = project
        (machine,) = project.machines()
        self.id = machine["InstanceId"]
        (self.container,) = [name for name in project.cloud.containers() if name.endswith(self.id)]

    def inside(self, *words: str) -> str:
        """What a command prints there."""
        return podman.run("exec", self.container, *words)

    def state(self) -> str:
        """What EC2 says."""
        (machine,) = self.project.machines()
        return machine["State"]["Name"]

    def look(self) -> dict[str, str]:
        """The verdict of each signal at a look that is younger than this call."""
        asked = time.time()
        while True:
            said = json.loads(self.inside("lightsout-autostop", "status", "--json"))
            at = datetime.datetime.fromisoformat(said["at"]).timestamp()
            if at > asked + 1:
                return {signal["name"]: signal["verdict"] for signal in said["signals"]}
            assert time.time() < asked + 60, said
            time.sleep(0.5)

    def looks(self) -> list[dict[str, str]]:
        """The verdict of each signal at every look so far."""
        lines = self.inside("cat", LOOKS).splitlines()
        return [{signal["name"]: signal["verdict"] for signal in json.loads(line)["signals"]} for line in lines]

    def becomes(self, signal: str, verdict: str) -> None:
        """Wait until a look says so of a signal."""
        before = len(self.looks())
        until(lambda: any(look[signal] == verdict for look in self.looks()[before:]))

    def shell(self, *options: str, command: str = "") -> Shell:
        """An ssh session; `-tt` for one with a terminal."""
        (machine,) = self.project.machines()
        words = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR")
        words = [word for option in words for word in ("-o", option)]
        words += ["-o", f"UserKnownHostsFile={self.project.folder / 'known_hosts'}"]
        words += ["-i", str(self.project.keys / f"{self.project.name}.pem"), *options]
        line = ["ssh", *words, f"ubuntu@{machine['PublicIpAddress']}", *([command] if command else [])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return Shell(line, env={**os.environ}, bufsize=0, **pipes)

    @contextmanager
    def computing(self, code: str) -> Iterator[None]:
        """A cell that runs in a kernel of Jupyter's; the kernel stays."""
        (machine,) = self.project.machines()
        certificate = self.inside("cat", "/etc/lightsout/jupyter/certificate.pem")
        with JupyterClient(f"https://{machine['PublicIpAddress']}:8888", certificate) as jupyter:
            jupyter.login(PASSWORD)
            cell = threading.Thread(target=jupyter.run_cell, args=(code,), kwargs={"timeout": 120, "keep": True})
            cell.start()
            try:
                yield
            finally:
                cell.join()

    def configure(self, **settings: object) -> None:
        """The role with other settings, by the playbook that people run."""
        self.project.run("configure", **{**OFTEN, **settings})


@pytest.fixture(scope="module")
def machine(cloud, tmp_path_factory) -> Iterator[Machine]:
    """A configured machine that looks often, and stays on for an hour."""
    project = Project(cloud, "idle", tmp_path_factory.mktemp("idle"))
    project.run("provision", access_jupyter="direct")
    made = Machine(project)
    made.configure()
    made.inside("sh", "-c", RECORD)
    yield made
    project.run("teardown", teardown_confirm=False)


#: A cell that computes nothing and prints nothing until it is told to end.
SILENT = """import os, time
until = time.time() + 100
while time.time() < until and not os.path.exists(os.path.expanduser('~/done')): time.sleep(0.1)"""


class TestSignals:
    """Both ways on the real thing: what keeps the machine on, and what does not."""

    def test_a_kernel_that_computes_in_silence_keeps_it_and_one_that_waits_does_not(self, machine: Machine) -> None:
        with machine.computing(SILENT):
            machine.becomes("kernels", "busy")
            time.sleep(3)
            assert machine.look()["kernels"] == "busy"  # and not for being new
            machine.inside("touch", "/home/ubuntu/done")
        machine.becomes("kernels", "idle")
        assert machine.look()["kernels"] == "idle"  # to be asked is not to be used
        assert "1 of Jupyter's, none computes" in machine.inside("lightsout-autostop", "explain")

    def test_a_program_at_a_terminal_keeps_it_and_a_shell_that_waits_does_not(self, machine: Machine) -> None:
        with machine.shell("-tt") as shell:
            machine.becomes("keyboards", "busy")  # somebody has come
            machine.becomes("keyboards", "idle")
            assert machine.look()["programs"] == "idle"
            shell.stdin.write(b"sleep 600\n")
            machine.becomes("programs", "busy")
            assert machine.look()["keyboards"] in ("busy", "idle")
            shell.stdin.write(b"\x03")
            machine.becomes("programs", "idle")
            shell.stdin.write(b"exit\n")

    def test_a_child_in_screen_keeps_it_and_an_empty_screen_does_not(self, machine: Machine) -> None:
        machine.project.ssh("screen -dmS empty; screen -dmS work sleep 600")
        machine.becomes("programs", "busy")
        machine.project.ssh("screen -S work -X quit")
        machine.becomes("programs", "idle")
        assert "empty" in machine.project.ssh("screen -ls || true")

    def test_a_job_keeps_it_until_it_ends(self, machine: Machine) -> None:
        words = {"training_job": "long", "training_command": "sleep 600", "training_python": "/usr/bin/python3"}
        machine.project.run("train", **words)
        machine.becomes("jobs", "busy")
        machine.project.run("cancel", training_job="long")
        machine.becomes("jobs", "idle")

    def test_a_connection_keeps_it_while_data_moves_and_a_quiet_one_does_not(self, machine: Machine) -> None:
        with machine.shell("-N"):
            machine.becomes("connections", "busy")  # somebody has come
            machine.becomes("connections", "idle")
            with machine.shell(command="cat > /dev/null") as upload:
                machine.becomes("programs", "busy")
                upload.stdin.close()
            machine.becomes("programs", "idle")

    def test_a_processor_at_work_keeps_it_whoever_uses_it(self, machine: Machine) -> None:
        machine.inside("systemd-run", "--quiet", "--unit=burns", "sh", "-c", "while :; do :; done")
        machine.becomes("cpu", "busy")
        machine.inside("systemctl", "stop", "burns")
        machine.becomes("cpu", "idle")

    def test_who_keeps_it_keeps_it(self, machine: Machine) -> None:
        assert "Kept until" in machine.project.ssh("sudo lightsout-autostop keep 1h")
        machine.becomes("keep", "busy")
        machine.project.ssh("sudo lightsout-autostop keep off")
        machine.becomes("keep", "idle")

    def test_a_playbook_explains_it(self, machine: Machine) -> None:
        run = machine.project.run("autostop")
        assert "-> " in run.output or "idle for" in run.output
        for signal in ("kernels", "programs", "connections", "deadline"):
            assert signal in run.output
        assert set(run.changed.values()) == {0}


def test_it_stops_with_a_shell_a_screen_and_a_kernel_that_nobody_uses_and_says_so_before(machine: Machine) -> None:
    with machine.computing("import time\ntime.sleep(45)"):
        machine.configure(**HOUR)
        time.sleep(25)
        assert machine.state() == "running"
    shell = machine.shell("-tt")
    machine.project.ssh("screen -dmS empty")
    until(lambda: machine.state() == "stopped", seconds=120)
    told = shell.communicate(timeout=30)[0].decode()
    assert "This machine is powered off in" in told and "lightsout-autostop keep 2h" in told, told


def test_a_start_begins_a_new_lease_and_autostop_goes_on(machine: Machine) -> None:
    def lease() -> str:
        (found,) = machine.project.machines()
        return next(tag["Value"] for tag in found["Tags"] if tag["Key"] == "lightsout:expires")

    machine.project.run("start", lightsout_lease="20h")
    machine.configure()  # an hour is an hour again
    calendar = machine.inside("systemctl", "show", "--value", "--property=TimersCalendar", "lightsout-deadline.timer")
    assert lease().replace("T", " ").rstrip("Z") in calendar
    left = datetime.datetime.fromisoformat(lease()) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=19) < left <= datetime.timedelta(hours=20)
    log = machine.inside("cat", "/var/lib/lightsout/autostop.log")
    assert "powering off: nothing happened for 3" in log  # the morning after, one can see why


def test_a_renewed_lease_reaches_the_machine_and_a_second_renewal_changes_nothing(machine: Machine) -> None:
    run = machine.project.run("renew", lightsout_lease="3d")
    # On AWS the tag and the schedule, on the machine its timer.
    assert run.changed == {"localhost": 2, "lightsout-idle-machine-1": 1}, run.output
    assert set(machine.project.run("renew", lightsout_lease="3d").changed.values()) == {0}
    machine.inside("systemctl", "start", "lightsout-deadline.service")  # asked too early, it does nothing
    assert machine.state() == "running"


def test_the_deadline_stops_a_busy_machine_whose_agent_is_dead_and_whose_disk_is_full(machine: Machine) -> None:
    machine.inside("systemd-run", "--quiet", "--unit=busy", "sleep", "600")
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=55)
    machine.configure(autostop_deadline=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    machine.inside("systemctl", "disable", "--quiet", "--now", "lightsout-autostop.timer")
    machine.inside("rm", "/usr/local/bin/lightsout-autostop")
    pid = podman.run("inspect", "--format", "{{.State.Pid}}", machine.container).strip()
    full = "for d in /var /tmp /home; do mount -t tmpfs -o size=64k full $d; head -c 1M /dev/zero > $d/heap; done"
    subprocess.run(["nsenter", "-t", pid, "-m", "sh", "-c", full], check=False, stderr=subprocess.DEVNULL)
    with pytest.raises(Exception, match=r"(?i)no space"):
        machine.inside("sh", "-c", "cp /etc/passwd /var/file")
    assert machine.state() == "running"
    assert datetime.datetime.now(datetime.UTC) < ends, "this computer was too slow for the test"
    until(lambda: machine.state() == "stopped", seconds=90)

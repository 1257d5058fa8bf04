"""A job is trusted with days: the laptop goes, memory or disk run out, the machine restarts, or is to stop."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localcloud import podman
from tests.helpers.project import Project
from tests.helpers.waiting import until

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def project(cloud, tmp_path_factory) -> Project:
    """A project with one machine."""
    made = Project(cloud, "days", tmp_path_factory.mktemp("days"))
    made.run("provision")
    yield made
    made.run("teardown", teardown_confirm=False)


def train(project: Project, name: str, command: str, **settings):
    """Start a job on the system's own Python."""
    words = {"training_python": "/usr/bin/python3", "training_environment": {"NAME": name}, **settings}
    return project.run("train", training_job=name, training_command=command, **words)


def row(project: Project, name: str) -> str:
    """The line of `jobs` about a job."""
    lines = [line for line in project.run("jobs").output.splitlines() if line.split()[:1] == [name]]
    return lines[0] if lines else ""


def log(project: Project, name: str) -> str:
    """The job's whole log."""
    return project.ssh(f"cat jobs/{name}/log")


def test_a_job_outlives_a_controller_that_is_killed_right_after_the_start(project: Project) -> None:
    words = ["ansible-playbook", "playbooks/train.yml", "-e", f"@{project.cloud.settings}"]
    settings = {
        "lightsout_project": project.name,
        "lightsout_key_directory": project.keys,
        "training_job": "alone",
        "training_command": "'sleep 6; echo finished alone'",
        "training_python": "/usr/bin/python3",
        "training_wait": "true",
    }
    words += ["-e", " ".join(f"{key}={value}" for key, value in settings.items())]
    controller = subprocess.Popen(
        words, env={**os.environ, **project.cloud.env}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    until(lambda: "began" in project.ssh("cat jobs/alone/log 2>/dev/null || true"))
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    subprocess.run(["pkill", "-f", f"ssh.*{project.keys}"], check=False)
    until(lambda: "succeeded" in row(project, "alone"))
    assert "finished alone" in log(project, "alone")


def test_attach_prints_a_command_that_finds_the_jobs_screen(project: Project) -> None:
    train(project, "seen", "sleep 60", training_launcher="screen")
    shown = [line.strip() for line in project.run("attach", training_job="seen").output.splitlines()]
    command = next(line.removeprefix("Attach:").strip() for line in shown if line.startswith("Attach:"))
    assert command.endswith(" screen -d -r seen")
    looks = command.replace("ssh -t ", "ssh -o LogLevel=ERROR ").replace("screen -d -r seen", "screen -ls")
    listed = subprocess.run(shlex.split(looks), capture_output=True, text=True, check=False)
    assert ".seen\t" in listed.stdout, listed
    (machine,) = project.machines()
    putty = f'plink -ssh -t -i "{project.name}.ppk" ubuntu@{machine["PublicIpAddress"]} screen -d -r seen'
    assert any(line.startswith("With PuTTY:") and line.endswith(putty) for line in shown)
    project.run("cancel", training_job="seen")


@contextmanager
def memory_of(project: Project, size: int) -> Iterator[None]:
    """Give the machine only so many bytes of memory."""
    (machine,) = project.machines()
    (name,) = [name for name in project.cloud.containers() if name.endswith(machine["InstanceId"])]
    pid = podman.run("inspect", "--format", "{{.State.Pid}}", name).strip()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        path = path.removesuffix("/init.scope")
        if controllers == "memory":
            limit, without = Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"), "-1"
            break
        limit, without = Path(f"/sys/fs/cgroup{path}/memory.max"), "max"
    limit.write_text(str(size))
    yield
    limit.write_text(without)


GREEDY = "python3 -c 'x = bytearray(900 << 20); print(len(x))'"


@pytest.mark.parametrize("launcher", ["systemd", "screen"])
def test_a_job_that_is_killed_for_memory_says_so(project: Project, launcher: str) -> None:
    train(project, f"modest-{launcher}", GREEDY, training_launcher=launcher)
    until(lambda: "succeeded" in row(project, f"modest-{launcher}"))  # the machine has enough
    with memory_of(project, 700 << 20):
        train(project, f"greedy-{launcher}", GREEDY, training_launcher=launcher)
        until(lambda: "failed" in row(project, f"greedy-{launcher}"))
    state = project.ssh(f"cat jobs/greedy-{launcher}/state.json")
    assert "ran out of memory" in state and '"exit_code": 137' in state, state


@pytest.mark.parametrize("launcher", ["systemd", "screen"])
def test_the_limits_are_systemds(project: Project, launcher: str) -> None:
    """That the kernel keeps them cannot be seen here: the containers' memory controller is read-only."""
    name = f"limited-{launcher}"
    train(project, name, "sleep 30", training_launcher=launcher, training_memory="200M", training_cpus="1.5")
    unit = (
        f"lightsout-job@{name}.service"
        if launcher == "systemd"
        else "$(systemctl list-units --plain --no-legend run-*.scope | cut -d' ' -f1 | head -1)"
    )
    told = project.ssh(f"systemctl show --property=MemoryMax,MemorySwapMax,CPUQuotaPerSecUSec {unit}").split()
    assert sorted(told) == ["CPUQuotaPerSecUSec=1.500000s", "MemoryMax=209715200", "MemorySwapMax=0"]
    project.run("cancel", training_job=name)


def test_a_full_disk_is_told_and_neither_log_nor_record_is_lost(project: Project) -> None:
    project.ssh("mv jobs kept && mkdir /dev/shm/jobs && ln -s /dev/shm/jobs jobs")  # 64 MB
    try:
        hoards = "echo begins; sleep 2; head --bytes=100M /dev/zero > results/heap || exit 5"
        train(project, "hoarder", hoards, training_launcher="screen")
        until(lambda: "failed" in row(project, "hoarder"))
        state = project.ssh("cat jobs/hoarder/state.json")
        assert '"exit_code": 5' in state and "the disk is full" in state, state
        assert "begins" in log(project, "hoarder") and "failed after" in log(project, "hoarder")
    finally:
        project.ssh("rm -r /dev/shm/jobs jobs && mv kept jobs")


def test_jobs_of_a_queue_wait_for_each_other(project: Project) -> None:
    train(project, "one", "until [ -e ~/go ]; do sleep 0.2; done", training_queue="gpu")
    train(project, "two", "true", training_queue="gpu", training_launcher="screen")
    assert "waits for one in the queue 'gpu'" in row(project, "two")
    project.ssh("touch go")
    until(lambda: "succeeded" in row(project, "two"))


COUNTS = "echo start >> results/starts; echo up; sleep 20; echo done"


def test_after_a_restart_of_the_machine_a_job_goes_on_if_it_is_to(project: Project) -> None:
    train(project, "phoenix", COUNTS, training_survive_reboot=True)
    train(project, "mayfly", COUNTS)
    boot = project.ssh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1")
    project.ssh("sudo systemctl reboot || true")

    def is_back() -> bool:
        try:
            return project.ssh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1") != boot
        except (subprocess.SubprocessError, OSError):
            return False

    until(is_back)
    until(lambda: "succeeded" in row(project, "phoenix"))
    assert project.ssh("cat jobs/phoenix/source/results/starts").split() == ["start", "start"]
    assert "after a restart of the machine" in log(project, "phoenix")
    assert "lost" in row(project, "mayfly") and project.ssh("cat jobs/mayfly/source/results/starts").split() == [
        "start"
    ]
    assert not project.ssh("ls /etc/systemd/system/multi-user.target.wants | grep lightsout-job || true")


def test_the_machine_stops_after_its_last_job_and_not_before(project: Project, tmp_path: Path) -> None:
    (machine,) = project.machines()
    assert machine["State"]["Name"] == "running"  # though many jobs have ended
    train(project, "last", "until [ -e ~/go-on ]; do sleep 0.2; done; echo 42 > results/answer")
    train(project, "first", "true", training_then="stop", training_then_delay=1)
    until(lambda: "succeeded" in row(project, "first"))
    time.sleep(3)
    assert project.machines()[0]["State"]["Name"] == "running"
    project.ssh("touch go-on")
    until(lambda: project.machines()[0]["State"]["Name"] == "stopped")
    project.run("start")
    assert "succeeded" in row(project, "last")
    project.run("fetch", training_job="last")
    assert (project.folder / "results/last/answer").read_text() == "42\n"

"""How the job runner calls torchrun, and what it starts anew."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.helpers.job_machine import Machine, eventually

#: A stand-in for a Python with PyTorch: says how it was called, then does what the test wants.
PYTHON = f"""#!{sys.executable}
import os, sys, time
if "-I" in sys.argv:
    sys.exit(os.path.exists(__file__ + ".without"))
print("called", *sys.argv[1:])
print("interface", os.environ.get("GLOO_SOCKET_IFNAME"), "node", os.environ.get("LIGHTSOUT_NODE"))
sys.stdout.flush()
exec(os.environ.get("DO", ""))
"""
MEETING = {"endpoint": "10.1.2.3:29400", "address": "127.0.0.1", "timeout": 120}


@pytest.fixture
def python(machine: Machine) -> str:
    """The stand-in's path."""
    machine.program("python", PYTHON)
    return str(machine.programs / "python")


def prepare(machine: Machine, python: str, **definition) -> None:
    """A job on two machines, this one the second."""
    words = {"torchrun": {"nodes": 2, "least": 1}, "node": 2, "rendezvous": MEETING, "script": "train.py"}
    machine.prepare(python=python, **{**words, **definition})
    machine.upload(train_py="")


def called(machine: Machine) -> list[str]:
    """The words after `python` in the last call."""
    return [line for line in machine.lines() if line.startswith("called ")][-1].split()[1:]


def test_all_machines_meet_at_the_first(machine: Machine, python: str) -> None:
    prepare(machine, python, restarts=3, arguments=["--epochs", "2"])
    machine.ask("start", "job", "--json", "--rendezvous", "run-1")
    eventually(lambda: machine.state()["state"] == "succeeded")
    assert called(machine) == [
        "-m", "torch.distributed.run", "--nproc-per-node=1", "--max-restarts=3", "--nnodes=1:2", "--rdzv-backend=c10d",
        "--rdzv-id=run-1", "--rdzv-endpoint=10.1.2.3:29400", "--rdzv-conf=is_host=0,join_timeout=120,read_timeout=120",
        "--local-addr=127.0.0.1", "train.py", "--epochs", "2",
    ]  # fmt: skip
    assert "interface lo node 2" in machine.log()
    view = machine.view()
    assert (view["node"], view["nodes"], view["rendezvous"]) == (2, 2, "run-1")


def test_what_is_no_python_script_is_run_as_it_is(machine: Machine, python: str) -> None:
    prepare(machine, python, script="", command="echo hello")
    machine.ask("start", "job", "--json", "--rendezvous", "run-1")
    eventually(lambda: machine.state()["state"] == "succeeded")
    assert called(machine)[-5:] == ["--no-python", "/bin/bash", "-c", "echo", "hello"]


def test_several_processes_on_one_machine_need_no_meeting(machine: Machine, python: str) -> None:
    prepare(machine, python, torchrun={"nodes": 1, "least": 1, "processes": 4}, node=1, rendezvous=None)
    machine.ask("start", "job", "--json")
    eventually(lambda: machine.state()["state"] == "succeeded")
    assert called(machine)[2:] == ["--nproc-per-node=4", "--max-restarts=0", "--standalone", "train.py"]


def test_a_python_without_pytorch_is_refused(machine: Machine, python: str) -> None:
    machine.program("python.without", "")
    definition = {"launcher": "screen", "python": python, "command": "true", "digest": "x", "torchrun": {"nodes": 2}}
    done = machine.call("prepare", "job", stdin={"definition": definition})
    assert done.returncode == 2 and f"need PyTorch, which {python} does not have" in done.stderr


def test_a_torchrun_that_gave_up_is_not_started_anew(machine: Machine, python: str) -> None:
    prepare(machine, python, restarts=3, restart_delay=0, environment={"DO": "sys.exit(1)"})
    machine.ask("start", "job", "--json", "--rendezvous", "run-1")
    eventually(lambda: machine.state()["state"] == "failed")
    assert machine.log().count("called ") == 1


def test_a_torchrun_that_was_killed_is(machine: Machine, python: str) -> None:
    flag = machine.jobs.parent / "again"
    do = f"again = os.path.exists({str(flag)!r}); open({str(flag)!r}, 'w').close(); again or time.sleep(60)"
    prepare(machine, python, restarts=3, restart_delay=0, environment={"DO": do})
    machine.ask("start", "job", "--json", "--rendezvous", "run-1")
    eventually(flag.exists)
    os.kill(machine.state()["pid"], signal.SIGKILL)
    eventually(lambda: machine.state()["state"] == "succeeded")
    assert machine.log().count("called ") == 2

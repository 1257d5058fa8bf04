"""One job on two machines, with PyTorch's own launcher: one status, one end, and none waits for ever."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import torch
from tests.helpers.project import Project
from tests.helpers.waiting import until
from tests.integration.test_train import row

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

#: Adds numbers over all machines, step by step, each step a checkpoint.
SCRIPT = """\
import datetime, os, pathlib, time
import torch, torch.distributed as dist

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank, results = dist.get_rank(), pathlib.Path(os.environ["LIGHTSOUT_RESULTS"])
checkpoint = results / "checkpoint"
begins = torch.tensor(int(checkpoint.read_text()) if checkpoint.exists() else 0)
dist.all_reduce(begins, op=dist.ReduceOp.MIN)  # a machine may have been taken away before it could save
for step in range(int(begins), int(os.environ["STEPS"])):
    total = torch.tensor(float(rank + 1))
    dist.all_reduce(total)
    node, world = os.environ["LIGHTSOUT_NODE"], dist.get_world_size()
    print(f"node {node} step {step} sum {total.item():g} of {world}", flush=True)
    checkpoint.write_text(str(step + 1))
    if node == os.environ.get("BREAKS"):
        raise SystemExit("it breaks here")
    time.sleep(0.25)
(results / f"sum-{rank}").write_text(f"{total.item():g}")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def pair(cloud, tmp_path_factory) -> Iterator[Project]:
    """A project of two machines with PyTorch, torn down at the end."""
    torch.archive()
    project = Project(cloud, "pair", tmp_path_factory.mktemp("pair"))
    project.run("provision", ec2_machine_count=2)
    machines = {machine["InstanceId"] for machine in project.machines()}
    names = [name for name in cloud.containers() if name[-19:] in machines]
    assert len(names) == 2
    with ThreadPoolExecutor() as pool:
        list(pool.map(torch.install, names))
    (project.folder / "train.py").write_text(SCRIPT)
    yield project
    project.run("teardown", teardown_confirm=False)


def node(project: Project, number: int) -> dict:
    """One of the machines, counted from 1."""
    name = f"lightsout-{project.name}-machine-{number}"
    return next(m for m in project.machines() if {"Key": "Name", "Value": name} in m["Tags"])


def train(project: Project, name: str, steps: int, **settings):
    """Start the script on both."""
    words = {
        "training_python": "/opt/torch/bin/python",
        "training_script": str(project.folder / "train.py"),
        "training_environment": {"STEPS": steps},
        "training_nodes": 2,
        **settings,
    }
    return project.run("train", training_job=name, **words)


def log(project: Project, number: int, name: str) -> str:
    """The job's log on one of the machines."""
    return project.ssh_to(node(project, number), f"cat jobs/{name}/log")


def test_both_machines_work_on_one_job_and_its_results_come_home(pair: Project) -> None:
    run = train(pair, "sum", 3, training_wait=True)
    assert "lightsout-pair-machine-1, lightsout-pair-machine-2" in run.output
    for number in (1, 2):
        assert f"node {number} step 2 sum 3 of 2" in log(pair, number, "sum")
    assert row(pair, "sum").split()[1] == "succeeded"
    pair.run("fetch", training_job="sum")
    home = pair.folder / "results/sum"
    sums = {path.relative_to(home).as_posix(): path.read_text() for path in home.rglob("sum-*")}
    assert sorted(Path(path).name for path in sums) == ["sum-0", "sum-1"] and set(sums.values()) == {"3"}
    assert {Path(path).parent.as_posix() for path in sums} == {".", "node-2"}
    assert json.loads((home / "node-2/job.json").read_text())["state"] == "succeeded"
    shown = pair.run("logs", training_job="sum").output
    assert "node 1 step 2" in shown and "node 2 step 2" in shown
    again = train(pair, "sum", 3)
    assert set(again.changed.values()) == {0} and "Nothing to do" in again.output


def test_a_node_that_is_killed_comes_back_and_the_job_goes_on_from_its_checkpoint(pair: Project) -> None:
    train(pair, "phoenix", 30, training_restarts=3, training_restart_delay=1)
    until(lambda: "step 5" in log(pair, 2, "phoenix"))
    pair.ssh_to(node(pair, 2), "pkill --signal KILL --full torch.distributed.run")
    until(lambda: row(pair, "phoenix").split()[1] == "succeeded", seconds=150)
    for number in (1, 2):
        told = log(pair, number, "phoenix")
        assert "step 29 sum 3 of 2" in told
        assert told.count("step 0 ") == 1, "it began anew instead of going on from its checkpoint"
    assert "failed (SIGKILL): starting it again" in log(pair, 2, "phoenix")


@pytest.mark.long
def test_without_restarts_the_loss_of_a_node_ends_the_job_with_one_status_that_names_it(pair: Project) -> None:
    train(pair, "mortal", 400)
    until(lambda: "step 2" in log(pair, 1, "mortal") and "step 2" in log(pair, 2, "mortal"))
    began = time.monotonic()
    pair.ssh_to(node(pair, 2), "sudo systemctl kill --signal KILL lightsout-job@mortal")
    until(lambda: row(pair, "mortal").split()[1] not in ("running", "queued"), seconds=120)
    assert time.monotonic() - began < 120
    line = row(pair, "mortal")
    assert line.split()[1] in ("lost", "failed") and "lightsout-pair-machine-2" in line, line


def test_one_cancel_ends_it_on_every_machine(pair: Project) -> None:
    train(pair, "endless", 4000)
    until(lambda: "step 2" in log(pair, 1, "endless") and "step 2" in log(pair, 2, "endless"))
    assert row(pair, "endless").split()[1] == "running"
    run = pair.run("cancel", training_job="endless")
    assert "has been cancelled" in run.output
    for number in (1, 2):
        assert pair.ssh_to(node(pair, number), "pgrep --full [t]rain.py || true") == ""
    assert row(pair, "endless").split()[1] == "cancelled"


@pytest.mark.long
def test_a_script_that_fails_on_one_machine_fails_everywhere_with_its_exit_code_and_last_words(pair: Project) -> None:
    settings = {"training_environment": {"STEPS": 400, "BREAKS": 2}, "training_wait": True}
    run = train(pair, "breaks", 400, **settings, expect=2)
    assert "it breaks here" in run.output
    assert row(pair, "breaks").split()[1] == "failed"
    assert pair.ssh_to(node(pair, 1), "pgrep --full [t]rain.py || true") == ""


def test_a_job_on_one_machine_of_two_is_found_again_wherever_it_is(pair: Project) -> None:
    pair.run("train", training_job="single", training_command="echo only here", training_python="/usr/bin/python3")
    until(lambda: "succeeded" in row(pair, "single"))
    assert pair.ssh_to(node(pair, 2), "ls jobs | grep single || true") == ""
    assert "only here" in pair.run("logs", training_job="single").output
    missing = pair.run("logs", expect=2, training_job="nowhere")
    assert "There is no job 'nowhere' on lightsout-pair-machine-1, lightsout-pair-machine-2" in missing.output


def test_more_machines_than_there_are_is_one_line_before_anything_is_uploaded(pair: Project) -> None:
    run = train(pair, "many", 1, training_nodes=3, expect=2)
    assert "training_nodes: 3 machines are asked for, and 2 run" in run.output
    assert "many" not in pair.ssh_to(node(pair, 1), "ls jobs")

"""A spot machine is taken away in the middle of a job: nothing is lost, and a new machine goes on where it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import localcloud
from tests.helpers.project import Project
from tests.helpers.waiting import until

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

#: Counts, saves each step, and saves once more when it is asked to end.
SCRIPT = """\
import os, pathlib, signal, sys, time
results = pathlib.Path(os.environ["LIGHTSOUT_RESULTS"])
checkpoint = results / "checkpoint"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
print("begins at step", step)

def save(*_):
    (results / "farewell").write_text(str(step))
    sys.exit(1)

signal.signal(signal.SIGTERM, save)
while not (results / "farewell").exists() or step < int((results / "farewell").read_text()) + 3:
    time.sleep(0.2)
    step += 1
    checkpoint.write_text(str(step))
(results / "answer").write_text("42")
"""
BUCKET, SPOT = (
    "lightsout-interruption",
    {"ec2_machine_spot": True, "training_sync_to": "s3://lightsout-interruption/lab"},
)


@pytest.fixture(scope="module")
def project(cloud, tmp_path_factory) -> Iterator[Project]:
    """A project with one spot machine that may use one place in a bucket."""
    cloud.client("s3").create_bucket(Bucket=BUCKET)
    made = Project(cloud, "fleeting", tmp_path_factory.mktemp("fleeting"))
    (made.folder / "train.py").write_text(SCRIPT)
    made.run("provision", **SPOT)
    yield made
    made.run("teardown", teardown_confirm=False)


def kept(project: Project, job: str = "count") -> dict[str, str]:
    """What is in the bucket of a job."""
    s3 = project.cloud.client("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    texts = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode() for key in keys}
    return {key.removeprefix(f"lab/{job}/"): text for key, text in texts.items()}


def train(project: Project, **settings):
    """Start the counting job, or go on with it."""
    script = {"training_script": str(project.folder / "train.py"), "training_python": "/usr/bin/python3"}
    return project.run("train", training_job="count", **script, **SPOT, training_sync_interval=10, **settings)


def test_what_an_interrupted_job_has_saved_survives_the_machine_and_a_new_one_goes_on_from_there(
    project: Project,
) -> None:
    (machine,) = project.machines()
    train(project)
    until(lambda: "results/checkpoint" in kept(project))  # the first sync, long before the end
    told = localcloud("interrupt", machine["InstanceId"], "--notice", "45", "--state-dir", str(project.cloud.state_dir))
    assert told.returncode == 0, told.stderr
    until(lambda: "results/farewell" in kept(project))  # its last words
    until(lambda: project.machines() == [])
    saved = kept(project)
    farewell = int(saved["results/farewell"])
    assert farewell > 10 and json.loads(saved["state.json"])["state"] in ("running", "interrupted")
    assert "AWS takes this spot machine away at" in saved["log"]

    project.run("provision", **SPOT)
    run = train(project, training_resume=True, training_wait=True)
    assert "has succeeded" in run.output
    log = project.ssh("cat jobs/count/log")
    assert f"goes on from the results at {SPOT['training_sync_to']}/count" in log
    begins = next(int(line.split()[-1]) for line in log.splitlines() if line.startswith("begins at step"))
    assert begins == int(saved["results/checkpoint"]) >= farewell
    assert kept(project)["results/answer"] == "42"
    project.run("fetch", training_job="count")
    assert (project.folder / "results/count/answer").read_text() == "42"


def test_the_machine_may_use_that_place_only(project: Project) -> None:
    (policy,) = project.iam.list_role_policies(RoleName="lightsout-fleeting-machine")["PolicyNames"]
    statements = project.iam.get_role_policy(RoleName="lightsout-fleeting-machine", PolicyName=policy)["PolicyDocument"]
    lists, reads = statements["Statement"]
    assert (lists["Action"], lists["Resource"]) == ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}")
    assert lists["Condition"] == {"StringLike": {"s3:prefix": "lab*"}}
    assert reads["Resource"] == f"arn:aws:s3:::{BUCKET}/lab/*"
    assert not [action for action in reads["Action"] if "Delete" in action]


@pytest.mark.long
def test_a_machine_that_is_to_be_terminated_after_its_job_is_gone_and_the_results_are_not(project: Project) -> None:
    settings = {"training_then": "terminate", "training_then_delay": 1, "training_python": "/usr/bin/python3", **SPOT}
    project.run("train", training_job="last", training_command="echo 43 > results/answer", **settings)
    until(lambda: project.machines() == [])
    assert kept(project, "last")["results/answer"] == "43\n"

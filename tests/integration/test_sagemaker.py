"""A SageMaker notebook's whole life by the playbooks, and a training job: made once, opened, stopped, and gone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud import podman
from tests.helpers.project import Project
from tests.helpers.waiting import until
from tools.jupyter_client import JupyterClient

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

NAME = "lightsout-notes-notebook"
TRAIN = {
    "sagemaker_training_image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/train:1",
    "sagemaker_training_command": "python3 train.py 'a b'",
}

#: The calls of a run that changes nothing: each is the only way to know the thing, but for the second look at the
#: instance and its tags, by the module that would change it, and the second question who asks, for the role's ARN.
FEWEST = {
    "GetCallerIdentity": 2,
    "DescribeNotebookInstance": 2,
    "ListTags": 3,
    "DescribeNotebookInstanceLifecycleConfig": 1,
    "GetRole": 1,
    "GetRolePolicy": 1,
    f"GET /schedules/{NAME}?groupName=lightsout-notes": 1,
}


class Lab(Project):
    """A project with a notebook."""

    @property
    def sagemaker(self) -> Any:
        return self.cloud.client("sagemaker")

    def notebook(self) -> dict[str, Any]:
        return self.sagemaker.describe_notebook_instance(NotebookInstanceName=NAME)

    def tags(self) -> dict[str, str]:
        arn = self.notebook()["NotebookInstanceArn"]
        return {tag["Key"]: tag["Value"] for tag in self.sagemaker.list_tags(ResourceArn=arn)["Tags"]}

    def deadline(self) -> str:
        schedule = self.cloud.client("scheduler").get_schedule(GroupName="lightsout-notes", Name=NAME)
        assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:stopNotebookInstance"
        return schedule["ScheduleExpression"]

    def link(self) -> str:
        return next(line.strip() for line in self.run("sagemaker_open").output.splitlines() if "authToken=" in line)

    def inside(self, command: str) -> str:
        """What a command of root's prints in the notebook's machine."""
        return podman.run("exec", f"localcloud-{self.cloud.name}-us-east-1-notebook-{NAME}", "sh", "-c", command)


@pytest.fixture(scope="module")
def lab(cloud, tmp_path_factory) -> Iterator[Lab]:
    project = Lab(cloud, "notes", tmp_path_factory.mktemp("notes"), enforced=True)
    project.run("sagemaker_up", sagemaker_notebook_volume_size=7, sagemaker_notebook_buckets=["some-data"])
    yield project
    project.run("sagemaker_teardown", teardown_confirm=False, teardown_buckets="with_contents")
    assert project.sagemaker.list_notebook_instances(NameContains="notes")["NotebookInstances"] == []
    configs = project.sagemaker.list_notebook_instance_lifecycle_configs(NameContains="notes")
    assert configs["NotebookInstanceLifecycleConfigs"] == []
    assert [b["Name"] for b in cloud.client("s3").list_buckets()["Buckets"] if "notes" in b["Name"]] == []
    roles = cloud.client("iam").list_roles(PathPrefix="/lightsout/")["Roles"]
    assert [role["RoleName"] for role in roles if "-notes-" in role["RoleName"]] == []
    groups = [group["Name"] for group in cloud.client("scheduler").list_schedule_groups()["ScheduleGroups"]]
    assert "lightsout-notes" not in groups
    again = project.run("sagemaker_teardown", teardown_confirm=False)
    assert set(again.changed.values()) == {0} and "0 resources of SageMaker left" in again.output


def test_it_is_closed_and_says_whose_it_is_and_its_role_may_do_little(lab) -> None:
    notebook, tags = lab.notebook(), lab.tags()
    assert (notebook["NotebookInstanceStatus"], notebook["VolumeSizeInGB"]) == ("InService", 7)
    assert notebook["RootAccess"] == "Disabled"
    assert notebook["InstanceMetadataServiceConfiguration"] == {"MinimumInstanceMetadataServiceVersion": "2"}
    assert tags["lightsout:project"] == "notes" and lab.deadline() == f"at({tags['lightsout:expires'].rstrip('Z')})"
    role = f"{NAME}-us-east-1"
    policy = lab.iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]["Statement"]
    allowed = {action: one["Resource"] for one in policy for action in [one["Action"]] if isinstance(action, str)}
    assert allowed == {
        "sagemaker:StopNotebookInstance": f"arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/{NAME}"
    }
    places = {place for one in policy for place in one["Resource"] if isinstance(one["Resource"], list)}
    assert places == {"arn:aws:s3:::some-data", "arn:aws:s3:::some-data/*"}
    assert not [action for one in policy for action in one["Action"] if "Delete" in action]


def test_a_second_run_changes_nothing_and_makes_no_call_too_many(lab) -> None:
    began = time.monotonic()
    run = lab.watched("sagemaker_up", sagemaker_notebook_volume_size=7, sagemaker_notebook_buckets=["some-data"])
    print(f"no-change run: {time.monotonic() - began:.1f} s, {len(lab.calls)} calls")
    assert set(run.changed.values()) == {0}, run.output
    assert {call: lab.calls.count(call) for call in lab.calls} == FEWEST


def test_its_lease_is_renewed_and_then_everything_is_right(lab) -> None:
    first = lab.tags()["lightsout:expires"]
    assert "(it was " in lab.run("renew", lightsout_lease="2d").output
    assert lab.tags()["lightsout:expires"] > first
    assert lab.deadline() == f"at({lab.tags()['lightsout:expires'].rstrip('Z')})"
    assert set(lab.run("renew", lightsout_lease="2d").changed.values()) == {0}


def test_a_throttled_api_is_asked_again(lab) -> None:
    settings = {"sagemaker_notebook_volume_size": 7, "sagemaker_notebook_buckets": ["some-data"]}
    run = lab.watched("sagemaker_up", throttle=2, **settings)
    assert set(run.changed.values()) == {0}, run.output
    assert sum(call.startswith("throttled ") for call in lab.calls) == 6


def test_a_change_that_would_end_kernels_is_not_made_by_itself(lab) -> None:
    run = lab.watched("sagemaker_up", expect=2, sagemaker_notebook_instance_type="ml.t3.large")
    assert "allow_stop" in run.output and "UpdateNotebookInstance" not in lab.calls


def test_it_opens_by_its_link_and_by_nothing_else(lab) -> None:
    link = lab.link()
    address = link.partition("/?")[0]
    assert requests.get(f"{address}/lab", timeout=30).status_code == 403
    with requests.Session() as session:
        page = session.get(link, timeout=30)
        assert page.status_code == 200 and page.url == f"{address}/lab" and "<title>JupyterLab</title>" in page.text


def test_the_browser_is_opened_when_that_is_asked_for(lab, tmp_path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/opened\n')
    browser.chmod(0o755)
    run = lab.run("sagemaker_open", env={"BROWSER": str(browser)}, sagemaker_notebook_browser=True)
    until((tmp_path / "opened").exists, "the browser was opened")
    assert (tmp_path / "opened").read_text().strip() in run.output


def test_it_stops_and_starts_with_a_new_lease_and_then_stops_itself_but_not_while_a_kernel_computes(lab) -> None:
    first = lab.tags()["lightsout:expires"]
    lab.run("sagemaker_stop")
    assert lab.notebook()["NotebookInstanceStatus"] == "Stopped"
    assert set(lab.run("sagemaker_stop").changed.values()) == {0}
    lab.run("sagemaker_start", lightsout_lease="2d", sagemaker_notebook_volume_size=7, sagemaker_notebook_idle="20s")
    assert lab.tags()["lightsout:expires"] > first
    assert lab.deadline() == f"at({lab.tags()['lightsout:expires'].rstrip('Z')})"
    # A silent computation, for more than twice as long as it may be idle.
    link = lab.cloud.client("sagemaker").create_presigned_notebook_instance_url(NotebookInstanceName=NAME)
    with JupyterClient(link["AuthorizedUrl"].partition("/?")[0]) as jupyter:
        jupyter.follow(link["AuthorizedUrl"])
        cell = threading.Thread(target=jupyter.run_cell, args=("import time; time.sleep(45)",))
        cell.start()
        time.sleep(44)
        assert lab.notebook()["NotebookInstanceStatus"] == "InService"
        log = lab.inside("cat /home/ec2-user/SageMaker/lightsout-idle.log")
        assert re.search(r"busy: kernel \S+ is (busy|starting)", log), log
        cell.join()
    until(lambda: lab.notebook()["NotebookInstanceStatus"] == "Stopped", "it stops itself")
    volume = f"localcloud-{lab.cloud.name}-us-east-1-notebook-{NAME}"
    log = Path(podman.run("volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip(), "lightsout-idle.log")
    assert "stopping it after 0 min, 0 of them unknown: nothing happens" in log.read_text().splitlines()[-1]


def test_a_lifecycle_script_that_fails_is_told_and_what_it_left_can_be_deleted(cloud, tmp_path) -> None:
    ill = Project(cloud, "ill", tmp_path)
    run = ill.run("sagemaker_up", expect=2, sagemaker_notebook_on_start="echo no such disk; exit 3")
    assert "OnStart ended with exit status 3" in run.output
    ill.run("sagemaker_teardown", teardown_confirm=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sagemaker_notebook_instance_type": "t3.medium"}, "did you mean 'ml.t3.medium'"),
        ({"sagemaker_notebook_volume_size": 4}, "5 to 16384"),
        ({"sagemaker_notebook_direct_internet": False}, "sagemaker_notebook_subnet_id is empty"),
        ({"sagemaker_notebook_idle": "soon"}, "sagemaker_notebook_idle is 'soon'"),
        ({"sagemaker_notebook_on_start": "x" * 12000}, "SageMaker takes 16384"),
        ({"sagemaker_notebook_buckets": ["s3://mine"]}, "no s3:// before them"),
        ({"lightsout_project": "No Such"}, "is not a project name"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_before_any_call(cloud, tmp_path, settings, words) -> None:
    bad = Project(cloud, "bad", tmp_path)
    assert words in bad.refused("sagemaker_up", **settings)
    assert bad.calls == []


def test_all_mistakes_are_told_at_once(cloud, tmp_path) -> None:
    settings = {"sagemaker_notebook_volume_size": 4, "sagemaker_notebook_idle": "soon", "lightsout_lease": "1s"}
    run = Project(cloud, "bad", tmp_path).watched("sagemaker_up", expect=2, **settings)
    assert "3 things are to be put right first" in run.output


def test_without_a_budget_nothing_is_made(cloud, tmp_path) -> None:
    bare = Project(cloud, "unguarded-notes", tmp_path)
    assert "cost_guard_monthly_limit" in bare.refused("sagemaker_up", cost_guard_monthly_limit="")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    text = "import pathlib, sys\nprint('learns', sys.argv[1:])\npathlib.Path('results/weights').write_text('1')\n"
    (folder / "train.py").write_text(text)
    return folder


def test_a_training_job_runs_once_and_its_results_come_back(lab, source) -> None:
    options = {**TRAIN, "sagemaker_training_job": "first", "sagemaker_training_source": str(source)}
    results = lab.folder / "results/first"
    options["sagemaker_training_results"] = str(results.parent)
    run = lab.run("sagemaker_train", sagemaker_training_wait=True, **options)
    assert "learns ['a b']" in run.output and (results / "weights").read_text() == "1"
    job = lab.sagemaker.describe_training_job(TrainingJobName="lightsout-notes-first")
    assert job["EnableManagedSpotTraining"] and job["StoppingCondition"]["MaxRuntimeInSeconds"] == 4 * 3600
    bucket = "lightsout-notes-123456789012-us-east-1"
    closed = lab.cloud.client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    (results / "weights").write_text("changed here")
    lab.run("sagemaker_train", sagemaker_training_job="first", sagemaker_training_results=str(results.parent))
    again = lab.sagemaker.describe_training_job(TrainingJobName="lightsout-notes-first")
    assert again["CreationTime"] == job["CreationTime"]
    assert (results / "weights").read_text() == "changed here"


def test_a_job_that_fails_says_why_and_one_that_is_stopped_hears_of_it(lab, source) -> None:
    options = {**TRAIN, "sagemaker_training_source": str(source), "sagemaker_training_spot": False}
    options["sagemaker_training_results"] = str(lab.folder / "results")
    bad = {**options, "sagemaker_training_command": "exit 7", "sagemaker_training_job": "bad"}
    run = lab.run("sagemaker_train", expect=2, sagemaker_training_wait=True, **bad)
    assert "the command ended with exit status 7" in run.output
    long = "trap 'echo saved >results/last; exit 0' TERM; while :; do sleep 0.2; done"
    long_job = {**options, "sagemaker_training_command": long, "sagemaker_training_job": "long"}
    lab.run("sagemaker_train", **long_job)
    state = lambda: lab.sagemaker.describe_training_job(TrainingJobName="lightsout-notes-long")["SecondaryStatus"]  # noqa: E731
    until(lambda: state() == "Training", "it trains")
    lab.run("sagemaker_train", sagemaker_training_state="stopped", **long_job)
    assert state() == "Stopped"
    assert (lab.folder / "results/long/last").read_text() == "saved\n"


def test_a_job_without_image_and_with_a_bad_name_is_refused(cloud, tmp_path) -> None:
    bad = Project(cloud, "bad", tmp_path)
    assert "letters, digits and hyphens" in bad.refused("sagemaker_train", sagemaker_training_job="a_b")
    run = bad.watched("sagemaker_train", expect=2, sagemaker_training_job="x")
    assert all(f"sagemaker_training_{what} is empty" in run.output for what in ("image", "command", "source"))
    assert bad.changing_calls == []

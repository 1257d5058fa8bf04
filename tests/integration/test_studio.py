"""Studio's whole life by the playbooks: made once, opened, stopped, started again, gone."""

from __future__ import annotations

import datetime
import stat
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.project import Project
from tests.helpers.waiting import until

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

SPACE = "lightsout-desk-space"


class Desk(Project):
    """A project with Studio."""

    @property
    def sagemaker(self) -> Any:
        return self.cloud.client("sagemaker")

    def domain(self) -> dict[str, Any]:
        found = self.sagemaker.list_domains()["Domains"]
        ident = next(one["DomainId"] for one in found if one["DomainName"] == "lightsout-desk-studio")
        return self.sagemaker.describe_domain(DomainId=ident)

    def apps(self) -> list[str]:
        """The states of the space's apps."""
        return [one["Status"] for one in self.sagemaker.list_apps(SpaceNameEquals=SPACE)["Apps"]]

    def expires(self) -> str:
        """The end of the app's lease."""
        key = {"DomainId": self.domain()["DomainId"], "SpaceName": SPACE, "AppType": "JupyterLab", "AppName": "default"}
        arn = self.sagemaker.describe_app(**key)["AppArn"]
        tags = self.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return next(tag["Value"] for tag in tags if tag["Key"] == "lightsout:expires")

    def deadline(self) -> str:
        """When AWS ends the app."""
        name = f"{SPACE}-JupyterLab"
        schedule = self.cloud.client("scheduler").get_schedule(GroupName="lightsout-desk", Name=name)
        assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteApp"
        return schedule["ScheduleExpression"]


@pytest.fixture(scope="module")
def desk(cloud, tmp_path_factory) -> Iterator[Desk]:
    project = Desk(cloud, "desk", tmp_path_factory.mktemp("desk"), enforced=True)
    planned = project.run("studio_up", "--check")
    assert sum(planned.changed.values()) and project.sagemaker.list_domains()["Domains"] == []
    assert "Price    USD 0.05" in planned.output and "AWS's price list for us-east-1" in planned.output
    project.run("studio_up", sagemaker_studio_buckets=["some-data"])
    yield project
    home = project.domain()["HomeEfsFileSystemId"]
    project.run("studio_teardown", teardown_confirm=False)
    for things in ("domains", "user_profiles", "spaces"):
        answer = getattr(project.sagemaker, f"list_{things}")()
        assert answer[things.title().replace("_", "")] == []
    assert [state for state in project.apps() if state != "Deleted"] == []
    assert home not in [fs["FileSystemId"] for fs in cloud.client("efs").describe_file_systems()["FileSystems"]]
    roles = cloud.client("iam").list_roles(PathPrefix="/lightsout/")["Roles"]
    assert [role["RoleName"] for role in roles if "-desk-" in role["RoleName"]] == []
    again = project.run("studio_teardown", teardown_confirm=False)
    assert set(again.changed.values()) == {0} and "0 resources of Studio left" in again.output


def test_it_stops_itself_when_idle_and_its_role_may_not_delete_data(desk) -> None:
    domain = desk.domain()
    idle = domain["DefaultUserSettings"]["JupyterLabAppSettings"]["AppLifecycleManagement"]["IdleSettings"]
    assert idle == {"LifecycleManagement": "ENABLED", "IdleTimeoutInMinutes": 60}
    space = desk.sagemaker.describe_space(DomainId=domain["DomainId"], SpaceName=SPACE)
    assert space["SpaceSettings"]["SpaceStorageSettings"] == {"EbsStorageSettings": {"EbsVolumeSizeInGb": 20}}
    assert desk.apps() == ["InService"]
    tags = {tag["Key"]: tag["Value"] for tag in desk.sagemaker.list_tags(ResourceArn=space["SpaceArn"])["Tags"]}
    assert tags["lightsout:project"] == "desk"
    role = "lightsout-desk-studio-us-east-1"
    policy = desk.iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]["Statement"]
    deletes = {action for one in policy for action in one["Action"] if "Delete" in action}
    assert deletes == {"sagemaker:DeleteApp"}


def test_a_second_run_changes_nothing(desk) -> None:
    began = time.monotonic()
    run = desk.watched("studio_up", sagemaker_studio_buckets=["some-data"])
    print(f"no-change run: {time.monotonic() - began:.1f} s, {len(desk.calls)} calls")
    assert set(run.changed.values()) == {0}, run.output


def test_aws_ends_it_at_the_end_of_its_lease_whatever_else_fails(desk) -> None:
    assert desk.deadline() == f"at({desk.expires().rstrip('Z')})"
    first = desk.expires()
    shown = desk.run("renew", lightsout_lease="2d").output
    assert f"{SPACE}/JupyterLab is leased until {desk.expires()} (it was {first})" in shown
    assert desk.expires() > first and desk.deadline() == f"at({desk.expires().rstrip('Z')})"
    assert set(desk.run("renew", lightsout_lease="2d").changed.values()) == {0}


def test_the_link_is_shown_or_in_a_file_of_ones_own(desk, tmp_path) -> None:
    assert "/auth?token=" in desk.run("studio_open").output
    file = tmp_path / "link"
    run = desk.run("studio_open", sagemaker_studio_show=False, sagemaker_studio_dest=str(file))
    assert "token=" not in run.output and "token=" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_stopped_nothing_runs_and_started_it_does(desk) -> None:
    desk.run("studio_stop")
    assert set(desk.apps()) == {"Deleted"}
    assert set(desk.run("studio_stop").changed.values()) == {0}
    long, price = desk.expires(), desk.run("studio_start", lightsout_lease="1h").output
    assert "InService" in desk.apps() and "USD 0.05" in price
    # A new lease, and a deadline for the new app.
    assert desk.expires() < long and desk.deadline() == f"at({desk.expires().rstrip('Z')})"


def test_the_deadline_really_ends_it(desk) -> None:
    key = {"GroupName": "lightsout-desk", "Name": f"{SPACE}-JupyterLab"}
    scheduler = desk.cloud.client("scheduler")
    schedule = scheduler.get_schedule(**key)
    wanted = {name: schedule[name] for name in ("Target", "FlexibleTimeWindow", "ActionAfterCompletion")}
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)).strftime("at(%Y-%m-%dT%H:%M:%S)")
    scheduler.update_schedule(**key, **wanted, ScheduleExpression=soon)
    until(lambda: set(desk.apps()) == {"Deleted"}, "AWS ends it at the end of its lease")


def test_without_a_budget_nothing_is_made(cloud, tmp_path) -> None:
    poor = Project(cloud, "poor-desk", tmp_path)
    assert "cost_guard_email" in poor.refused("studio_up", cost_guard_monthly_limit=20, cost_guard_email=[])


def test_bad_input_is_told_at_once_before_any_call(cloud, tmp_path) -> None:
    bad = Project(cloud, "bad", tmp_path)
    settings = {
        "sagemaker_studio_instance_type": "t3.medium",
        "sagemaker_studio_idle_timeout": 5,
        "sagemaker_studio_buckets": ["s3://mine"],
    }
    said = bad.watched("studio_up", expect=2, **settings).output
    assert "3 things are to be put right" in said
    for words in ("did you mean 'ml.t3.medium'", "60 to 525600 minutes, or 0", "no s3:// before them"):
        assert words in said
    assert bad.calls == []

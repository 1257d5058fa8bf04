"""Studio's whole life by the playbooks: made once, opened, stopped, started again, gone."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.project import Project

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


@pytest.fixture(scope="module")
def desk(cloud, tmp_path_factory) -> Iterator[Desk]:
    project = Desk(cloud, "desk", tmp_path_factory.mktemp("desk"))
    planned = project.run("studio_up", "--check")
    assert sum(planned.changed.values()) and project.sagemaker.list_domains()["Domains"] == []
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
    desk.run("studio_start")
    assert "InService" in desk.apps()

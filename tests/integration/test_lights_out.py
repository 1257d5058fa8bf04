"""SageMaker, too: status names all that costs, a teardown leaves nothing of it, and home directories as one wishes."""

from __future__ import annotations

import json

import pytest

from tests.helpers.project import Project
from tests.helpers.waiting import until

# test_sagemaker and test_studio tear theirs down in every run; here with the whole teardown, side by side.
pytestmark = [pytest.mark.cloud, pytest.mark.long, pytest.mark.timeout(900)]

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Studio(Project):
    """A project with a notebook instance and a Studio domain in which somebody works."""

    def furnish(self) -> str:
        """Make it all; returns the domain's id."""
        sagemaker, subnet = self.cloud.client("sagemaker"), self.ec2.describe_subnets()["Subnets"][0]
        ours = [
            {"Key": f"lightsout:{key}", "Value": value} for key, value in (("project", self.name), ("owner", "ada"))
        ]
        name = f"lightsout-{self.name}-notebook"
        made = self.iam.create_role(
            RoleName=name, Path="/lightsout/us-east-1/", AssumeRolePolicyDocument=json.dumps(TRUST), Tags=ours
        )
        role = made["Role"]["Arn"]
        sagemaker.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, Tags=ours)
        sagemaker.create_notebook_instance(
            NotebookInstanceName=name,
            InstanceType="ml.t3.medium",
            RoleArn=role,
            LifecycleConfigName=name,
            Tags=ours,
        )
        domain = sagemaker.create_domain(
            DomainName=name,
            AuthMode="IAM",
            DefaultUserSettings={"ExecutionRole": role},
            SubnetIds=[subnet["SubnetId"]],
            VpcId=subnet["VpcId"],
            Tags=ours,
        )["DomainId"]
        until(lambda: sagemaker.describe_domain(DomainId=domain)["Status"] == "InService")
        sagemaker.create_user_profile(DomainId=domain, UserProfileName="ada")
        profile = {"DomainId": domain, "UserProfileName": "ada"}
        until(lambda: sagemaker.describe_user_profile(**profile)["Status"] == "InService")
        sagemaker.create_space(
            DomainId=domain,
            SpaceName="desk",
            SpaceSettings={"AppType": "JupyterLab"},
            OwnershipSettings={"OwnerUserProfileName": "ada"},
            SpaceSharingSettings={"SharingType": "Private"},
        )
        space = {"DomainId": domain, "SpaceName": "desk"}
        until(lambda: sagemaker.describe_space(**space)["Status"] == "InService")
        machine = {"InstanceType": "ml.t3.medium"}
        sagemaker.create_app(**space, AppType="JupyterLab", AppName="default", ResourceSpec=machine)
        return domain

    def file_systems(self) -> list[str]:
        """All that there are."""
        return [one["FileSystemId"] for one in self.cloud.client("efs").describe_file_systems()["FileSystems"]]


@pytest.fixture
def studio(cloud, tmp_path):
    project = Studio(cloud, "atelier", tmp_path)
    yield project
    project.run("teardown", teardown_confirm=False)


def test_status_names_it_and_teardown_leaves_nothing_of_it(studio) -> None:
    before = set(studio.file_systems())
    studio.furnish()
    shown = studio.run("status").output
    for what in ("notebook instance", "Studio app", "Studio space"):
        assert what in shown
    assert "ml.t3.medium" in shown and "0.05" in shown and "ada" in shown

    run = studio.run("teardown", teardown_confirm=False)
    assert "0 resources left" in run.output
    sagemaker = studio.cloud.client("sagemaker")
    assert sagemaker.list_notebook_instances(NameContains=studio.name)["NotebookInstances"] == []
    assert [one for one in sagemaker.list_domains()["Domains"] if studio.name in one["DomainName"]] == []
    assert set(studio.file_systems()) <= before
    assert studio.name not in studio.run("status").output


def test_home_directories_that_were_kept_are_not_forgotten(studio) -> None:
    studio.furnish()
    (home,) = studio.file_systems()
    run = studio.run("teardown", teardown_confirm=False, teardown_keep_files=True)
    assert "0 resources left" in run.output and "Kept, as asked" in run.output and home in run.output
    assert home in studio.run("status").output
    swept = studio.run("sweep", sweep_delete=True, sweep_confirm=False, sweep_min_age="0s")
    assert home in swept.output and studio.file_systems() == []

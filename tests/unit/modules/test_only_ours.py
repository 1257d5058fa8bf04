"""Whatever else an account holds: a teardown takes all that is the project's and nothing that is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ansible_collections.lightsout.aws.plugins.modules import project_sweep, project_teardown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sagemaker.models import sagemaker_backends

from tests.unit.modules.test_project import TRUST, everything

#: The account lives as long as the test: what earlier examples have left belongs to others now.
NUMBERS = itertools.count()
LIVING = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

#: Whose a thing is: the project's, or somebody's whose tags only look like it.
OWNERS: dict[str, Callable[[str], dict[str, str]]] = {
    "ours": lambda project: {"lightsout:project": project},
    "nobody's": lambda _project: {},
    "a longer name": lambda project: {"lightsout:project": f"{project}-two"},
    "a shorter name": lambda project: {"lightsout:project": project[:-1]},
    "a wildcard": lambda _project: {"lightsout:project": "p*"},
    "another case": lambda project: {"lightsout:project": project.upper()},
    "another key": lambda project: {"Lightsout:Project": project, "project": project},
    "the name only": lambda project: {"Name": f"lightsout-{project}-machine-1"},
    "empty": lambda _project: {"lightsout:project": ""},
}


class Account:
    """Makes things of all kinds with all sorts of tags."""

    def __init__(self, aws) -> None:
        self.aws, self.ec2, self.iam = aws, aws.ec2, aws.client("iam")
        self.sagemaker, self.efs, self.logs = aws.client("sagemaker"), aws.client("efs"), aws.client("logs")
        self.image = self.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
        self.subnet = self.ec2.describe_subnets()["Subnets"][0]["SubnetId"]

    def make(self, kind: str, tags: dict[str, str]) -> str:
        """One thing; returns its id, as ``everything`` lists it."""
        name = f"thing-{next(NUMBERS)}"
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        if kind in TAGGED_AT_BIRTH:
            return getattr(self, kind.replace(" ", "_"))(name, listed)
        made = getattr(self, kind)(name)
        if kind == "role":
            self.iam.tag_role(RoleName=made, Tags=listed)
        elif listed:
            self.ec2.create_tags(Resources=[made], Tags=listed)
        return made

    def instance(self, name: str) -> str:
        made = self.ec2.run_instances(ImageId=self.image, MinCount=1, MaxCount=1, ClientToken=name)["Instances"][0]
        return made["InstanceId"]

    def volume(self, _name: str) -> str:
        return self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]

    def snapshot(self, name: str) -> str:
        return self.ec2.create_snapshot(VolumeId=self.volume(name))["SnapshotId"]

    def interface(self, name: str) -> str:
        made = self.ec2.create_network_interface(SubnetId=self.subnet)["NetworkInterface"]["NetworkInterfaceId"]
        self.ec2.create_tags(Resources=[made], Tags=[{"Key": "any", "Value": name}])
        return made

    def address(self, _name: str) -> str:
        return self.ec2.allocate_address(Domain="vpc")["AllocationId"]

    def group(self, name: str) -> str:
        return self.ec2.create_security_group(GroupName=name, Description=name)["GroupId"]

    def key(self, name: str) -> str:
        return self.ec2.create_key_pair(KeyName=name)["KeyPairId"]

    def role(self, name: str) -> str:
        self.iam.create_role(RoleName=name, Path="/lightsout/us-east-1/", AssumeRolePolicyDocument=TRUST)
        return name

    # -- SageMaker and storage ----------------------------------------------------------------------------------------
    def notebook(self, name: str, tags: list[dict[str, str]]) -> str:
        self.sagemaker.create_notebook_instance(
            NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn=ROLE, Tags=tags
        )
        return name

    def lifecycle(self, name: str, tags: list[dict[str, str]]) -> str:
        self.sagemaker.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, Tags=tags)
        return name

    def job(self, name: str, tags: list[dict[str, str]]) -> str:
        self.sagemaker.create_training_job(
            TrainingJobName=name,
            RoleArn=ROLE,
            AlgorithmSpecification={"TrainingInputMode": "File", "TrainingImage": "image"},
            OutputDataConfig={"S3OutputPath": "s3://b/p"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
            Tags=tags,
        )
        jobs = sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].training_jobs
        jobs[name].training_job_status = "InProgress"
        return name

    def model(self, name: str, tags: list[dict[str, str]]) -> str:
        self.sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": "i"}, ExecutionRoleArn=ROLE, Tags=tags)
        return name

    def domain(self, name: str, tags: list[dict[str, str]]) -> str:
        """With somebody's space in it that carries no tag."""
        self.sagemaker.create_domain(
            DomainName=name, AuthMode="IAM", DefaultUserSettings={}, SubnetIds=["s"], VpcId="v", Tags=tags
        )
        self.sagemaker.create_space(DomainId=f"d-{name}", SpaceName="desk")
        return name

    def file_system(self, name: str, tags: list[dict[str, str]]) -> str:
        return self.efs.create_file_system(CreationToken=name, Tags=tags)["FileSystemId"]

    def log_group(self, name: str, tags: list[dict[str, str]]) -> str:
        named = {"tags": {one["Key"]: one["Value"] for one in tags}} if tags else {}
        self.logs.create_log_group(logGroupName=f"lightsout-{name}", **named)
        return f"lightsout-{name}"


#: Kinds that get their tags when they are made.
TAGGED_AT_BIRTH = ("notebook", "lifecycle", "job", "model", "domain", "file system", "log group")
ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/lightsout"
KINDS = (*TAGGED_AT_BIRTH, "instance", "volume", "snapshot", "interface", "address", "group", "key", "role")
#: A project that has one of these is in use.
ALIVE = ("instance", "notebook", "job", "domain")
THINGS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([*OWNERS, *["ours"] * 4])), max_size=12)


@LIVING
@given(things=THINGS)
def test_a_teardown_takes_all_of_ours_and_nothing_else(aws, run, things) -> None:
    account, project = Account(aws), f"p{next(NUMBERS)}q"
    made = [(kind, owner, account.make(kind, OWNERS[owner](project))) for kind, owner in things]
    ours = {(kind, thing) for kind, owner, thing in made if owner == "ours"}
    before = {(kind, thing) for kind, things in everything(aws).items() for thing in things}
    result = run(project_teardown, project=project)
    after = {(kind, thing) for kind, things in everything(aws).items() for thing in things}
    assert not result["failed"] and result["remaining"] == []
    # A machine takes the disk with it that was made for it, a domain what people have made in it.
    gone = before - after
    ours |= {("space", f"d-{thing} desk") for kind, thing in ours if kind == "domain"}
    disks = {one for one in gone - ours if one[0] == "volume"}
    assert gone - disks == ours and after <= before
    assert len(disks) == len({one for one in ours if one[0] == "instance"})


@LIVING
@given(things=THINGS)
def test_a_sweep_never_takes_what_is_not_ours_or_is_in_use(aws, run, things) -> None:
    account, project = Account(aws), f"p{next(NUMBERS)}q"
    made = [(kind, owner, account.make(kind, OWNERS[owner](project))) for kind, owner in things]
    ours = {thing for _kind, owner, thing in made if owner == "ours"}
    lives = any(kind in ALIVE for kind, owner, _thing in made if owner == "ours")
    result = run(project_sweep, project=project, all_regions=False, min_age="0s")
    left = {one["id"] for one in result["leftovers"]}
    assert left <= ours
    if lives:
        used = (*ALIVE, "group", "key", "role", "model", "file system", "log group")
        assert not {thing for kind, _owner, thing in made if kind in used} & left
    else:
        assert left == ours

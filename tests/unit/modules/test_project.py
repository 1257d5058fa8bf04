"""Only ours go, all of ours go, and what is left is said with its reason."""

from __future__ import annotations

import datetime
from typing import Any

import boto3
import pytest
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS, Resource, Scope
from ansible_collections.lightsout.aws.plugins.module_utils.teardown import delete_one
from ansible_collections.lightsout.aws.plugins.modules import project_info, project_teardown
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sagemaker.models import sagemaker_backends

TRUST = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}'


def tags(project: str) -> list[dict[str, str]]:
    return [{"Key": "lightsout:project", "Value": project}, {"Key": "Name", "Value": f"lightsout-{project}-machine-1"}]


def furnish(aws, project: str) -> None:
    """One of each kind, tied to each other as in life."""
    ec2, iam, ours = aws.ec2, aws.client("iam"), tags(project)

    def tagged(*kinds: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": ours} for kind in kinds]

    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.create_security_group(
        GroupName=f"lightsout-{project}-access", Description="d", TagSpecifications=tagged("security-group")
    )["GroupId"]
    instance = ec2.run_instances(
        ImageId=aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"],
        MinCount=1,
        MaxCount=1,
        ClientToken=project,
        SecurityGroupIds=[group],
        TagSpecifications=tagged("instance", "volume"),
    )["Instances"][0]["InstanceId"]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tagged("volume"))["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    interface = ec2.create_network_interface(SubnetId=subnet, Groups=[group])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.create_tags(Resources=[snapshot, interface], Tags=ours)
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip"))["AllocationId"]
    ec2.associate_address(AllocationId=address, InstanceId=instance)
    ec2.create_placement_group(GroupName=f"lightsout-{project}-group", TagSpecifications=tagged("placement-group"))
    ec2.create_key_pair(KeyName=f"lightsout-{project}-key", TagSpecifications=tagged("key-pair"))
    name, path = f"lightsout-{project}-machine", "/lightsout/us-east-1/"
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST, Tags=ours)
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName=name, Path=path, Tags=ours)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    scheduler = aws.client("scheduler")
    scheduler.create_schedule_group(Name=f"lightsout-{project}", Tags=ours)
    scheduler.create_schedule(
        Name=f"lightsout-{project}-machine-1",
        GroupName=f"lightsout-{project}",
        ScheduleExpression="at(2026-11-23T17:00:00)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:scheduler:::aws-sdk:ec2:stopInstances", "RoleArn": f"arn:aws:iam::1:role/{name}"},
    )


def furnish_sagemaker(aws, project: str) -> None:
    """One of each kind of SageMaker's, and what belongs to them."""
    client, ours = aws.client("sagemaker"), tags(project)
    name, role = f"lightsout-{project}-notebook", f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/lightsout"
    client.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, Tags=ours)
    client.create_notebook_instance(
        NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn=role, LifecycleConfigName=name, Tags=ours
    )
    client.create_training_job(
        TrainingJobName=f"lightsout-{project}-job",
        RoleArn=role,
        AlgorithmSpecification={"TrainingInputMode": "File", "TrainingImage": "image"},
        OutputDataConfig={"S3OutputPath": "s3://b/p"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 5},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        Tags=ours,
    )
    job(aws, project).training_job_status = "InProgress"
    client.create_model(ModelName=f"{project}-model", PrimaryContainer={"Image": "i"}, ExecutionRoleArn=role, Tags=ours)
    variant = {"VariantName": "v", "ModelName": f"{project}-model", "InstanceType": "ml.m5.large"}
    client.create_endpoint_config(
        EndpointConfigName=f"{project}-config",
        ProductionVariants=[{**variant, "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}],
        Tags=ours,
    )
    client.create_endpoint(EndpointName=f"{project}-endpoint", EndpointConfigName=f"{project}-config", Tags=ours)
    # As SageMaker makes it: without a tag.
    aws.client("logs").create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{project}-endpoint")
    furnish_studio(aws, project)


def furnish_studio(aws, project: str) -> str:
    """A domain with somebody in it, whose space and app carry no tags; returns its id."""
    client = aws.client("sagemaker")
    made = client.create_domain(
        DomainName=f"lightsout-{project}-studio",
        AuthMode="IAM",
        DefaultUserSettings={},
        SubnetIds=["subnet-1"],
        VpcId="vpc-1",
        Tags=tags(project),
    )
    domain = made["DomainArn"].rsplit("/", 1)[1]
    client.create_user_profile(DomainId=domain, UserProfileName="ada", Tags=tags(project))
    owner = {"OwnerUserProfileName": "ada"}
    client.create_space(DomainId=domain, SpaceName="desk", OwnershipSettings=owner)
    machine = {"InstanceType": "ml.g4dn.xlarge"}
    client.create_app(DomainId=domain, SpaceName="desk", AppType="JupyterLab", AppName="default", ResourceSpec=machine)
    return domain


def furnish_storage(aws, project: str) -> None:
    """A file system that is in a network, a log group, a bucket with something in it."""
    ours = tags(project)
    efs, subnet = aws.client("efs"), aws.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    file_system = efs.create_file_system(CreationToken=project, Tags=ours)["FileSystemId"]
    efs.create_mount_target(FileSystemId=file_system, SubnetId=subnet)
    named = {one["Key"]: one["Value"] for one in ours}
    aws.client("logs").create_log_group(logGroupName=f"/lightsout/{project}", tags=named)
    bucket = f"lightsout-{project}-results"
    aws.client("s3").create_bucket(Bucket=bucket)
    aws.client("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": ours})
    aws.client("s3").put_object(Bucket=bucket, Key="model.pt", Body=b"weights")


def job(aws, project: str):
    """Moto's own training job, whose state a test may set."""
    return sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].training_jobs[f"lightsout-{project}-job"]


def everything(aws) -> dict[str, set[str]]:
    """All that the account holds of the kinds we can delete, ours or not."""
    ec2, iam, sagemaker = aws.ec2, aws.client("iam"), aws.client("sagemaker")

    def listed(kind: str, noun: str = "") -> set[str]:
        found = getattr(sagemaker, f"list_{kind}")()
        return {str(one.get(f"{noun}Name")) for items in found.values() if isinstance(items, list) for one in items}

    return {
        "notebook": listed("notebook_instances", "NotebookInstance"),
        "lifecycle": listed("notebook_instance_lifecycle_configs", "NotebookInstanceLifecycleConfig"),
        "job": {
            one["TrainingJobName"]
            for one in sagemaker.list_training_jobs()["TrainingJobSummaries"]
            if one["TrainingJobStatus"] == "InProgress"
        },
        "endpoint": listed("endpoints", "Endpoint"),
        "endpoint config": listed("endpoint_configs", "EndpointConfig"),
        "model": listed("models", "Model"),
        "domain": listed("domains", "Domain"),
        "app": {f"{one['DomainId']} {one.get('SpaceName')}" for one in sagemaker.list_apps()["Apps"]},
        "space": {f"{one['DomainId']} {one['SpaceName']}" for one in sagemaker.list_spaces()["Spaces"]},
        "user": {
            f"{one['DomainId']} {one['UserProfileName']}" for one in sagemaker.list_user_profiles()["UserProfiles"]
        },
        "file system": {f["FileSystemId"] for f in aws.client("efs").describe_file_systems()["FileSystems"]},
        "log group": {g["logGroupName"] for g in aws.client("logs").describe_log_groups()["logGroups"]},
        "bucket": {b["Name"] for b in aws.client("s3").list_buckets()["Buckets"]},
        "instance": {
            i["InstanceId"]
            for r in ec2.describe_instances()["Reservations"]
            for i in r["Instances"]
            if i["State"]["Name"] != "terminated"
        },
        "volume": {v["VolumeId"] for v in ec2.describe_volumes()["Volumes"]},
        "snapshot": {s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]},
        # A machine's own interface goes with it on AWS; moto keeps it, unattached and without a tag.
        "interface": {
            n["NetworkInterfaceId"] for n in ec2.describe_network_interfaces()["NetworkInterfaces"] if n["TagSet"]
        },
        "address": {a["AllocationId"] for a in ec2.describe_addresses()["Addresses"]},
        "group": {g["GroupId"] for g in ec2.describe_security_groups()["SecurityGroups"]},
        "placement": {g["GroupId"] for g in ec2.describe_placement_groups()["PlacementGroups"]},
        "key": {k["KeyPairId"] for k in ec2.describe_key_pairs()["KeyPairs"]},
        "schedule": {s["Name"] for s in aws.client("scheduler").list_schedules()["Schedules"]},
        "schedule group": {g["Name"] for g in aws.client("scheduler").list_schedule_groups()["ScheduleGroups"]},
        "role": {r["RoleName"] for r in iam.list_roles()["Roles"]},
        "profile": {p["InstanceProfileName"] for p in iam.list_instance_profiles()["InstanceProfiles"]},
    }


KINDS_OF_SAGEMAKER = {
    "training_job",
    "notebook_instance",
    "notebook_lifecycle_config",
    "endpoint",
    "endpoint_config",
    "model",
    "studio_app",
    "studio_space",
    "studio_user_profile",
    "studio_domain",
}
KINDS_MADE = {
    "instance",
    "address",
    "network_interface",
    "volume",
    "snapshot",
    "security_group",
    "placement_group",
    "key_pair",
    "instance_profile",
    "schedule_group",
    "role",
}


class TestImages:
    def test_images_go_before_the_snapshots_that_they_are_made_of(self, aws, run) -> None:
        image = aws.image("lightsout-images-1")
        (mapping,) = aws.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
        aws.ec2.create_tags(Resources=[image, mapping["Ebs"]["SnapshotId"]], Tags=tags("images"))
        result = run(project_teardown, project="images")
        assert {r["kind"] for r in result["deleted"]} == {"image", "snapshot"}
        assert [call for call in aws.calls if call.startswith(("Dereg", "Delete"))] == [
            "DeregisterImage",
            "DeleteSnapshot",
        ]


class TestInfo:
    def test_lists_every_kind_of_one_project_and_of_no_other(self, aws, run) -> None:
        furnish(aws, "lab")
        furnish(aws, "other")
        result = run(project_info, project="lab")
        assert {r["kind"] for r in result["resources"]} == KINDS_MADE
        assert {r["project"] for r in result["resources"]} == {"lab"}
        (machine,) = result["machines"]
        assert machine["disk_gib"] == 8 and machine["state"] == "running"

    def test_machines_come_in_the_order_of_their_numbers(self, aws, run) -> None:
        image = aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
        for number in (10, 2, 1):
            named = [*tags("lab")[:1], {"Key": "Name", "Value": f"lightsout-lab-machine-{number}"}]
            tagged = [{"ResourceType": "instance", "Tags": named}]
            aws.ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, ClientToken=str(number), TagSpecifications=tagged
            )
        names = [machine["name"] for machine in run(project_info, project="lab")["machines"]]
        assert names == [f"lightsout-lab-machine-{number}" for number in (1, 2, 10)]

    def test_without_a_project_it_counts_those_of_all(self, aws, run) -> None:
        furnish(aws, "lab")
        furnish(aws, "other")
        result = run(project_info)
        assert set(result["projects"]) == {"lab", "other"}

    def test_all_regions_are_looked_in_and_one_that_refuses_hides_no_other(self, aws, run) -> None:
        furnish(aws, "lab")
        far = boto3.client("ec2", region_name="eu-west-3")
        tagged = [{"ResourceType": "volume", "Tags": tags("lab")}]
        volume = far.create_volume(AvailabilityZone="eu-west-3a", Size=1, TagSpecifications=tagged)["VolumeId"]
        assert volume not in {r["id"] for r in run(project_info, project="lab")["resources"]}

        def regions(_request: dict, _go_on: Any) -> dict[str, Any]:
            return {"Regions": [{"RegionName": name} for name in ("us-east-1", "eu-west-3", "ap-south-1")]}

        aws.on("DescribeRegions", regions, times=2)
        result = run(project_info, project="lab", all_regions=True, kinds=["instance", "volume"])
        assert result["regions"] == ["ap-south-1", "eu-west-3", "us-east-1"]
        assert {r["region"] for r in result["resources"]} == {"us-east-1", "eu-west-3"}
        assert result["machines"][0]["region"] == "us-east-1"
        assert volume in {r["id"] for r in result["resources"]}
        # Where a region is not for everyone, credentials that are right elsewhere are refused.
        aws.refuse("DescribeVolumes", "AuthFailure", times=3)
        result = run(project_info, project="lab", all_regions=True, kinds=["instance", "volume"], region="us-west-1")
        assert set(result["unlisted"]) == {"volumes in all regions"}
        assert [machine["region"] for machine in result["machines"]] == ["us-east-1"]

    def test_a_kind_that_may_not_be_listed_is_said_and_hides_nothing(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("ListRoles", "AccessDenied")
        result = run(project_info, project="lab")
        assert set(result["unlisted"]) == {"roles in us-east-1"}
        assert "ListRoles" in result["unlisted"]["roles in us-east-1"]
        assert {r["kind"] for r in result["resources"]} == KINDS_MADE - {"role"}

    def test_says_since_when_for_whom_until_when_and_what_it_has_cost(self, aws, run) -> None:
        furnish(aws, "lab")
        (machine,) = aws.machines()
        leased = [
            {"Key": "lightsout:owner", "Value": "ada"},
            {"Key": "lightsout:expires", "Value": "2027-01-01T00:00:00Z"},
        ]
        aws.ec2.create_tags(Resources=[machine["InstanceId"]], Tags=leased)

        def earlier(_request: dict, go_on: Any) -> dict[str, Any]:
            answer = go_on()
            instance = answer["Reservations"][0]["Instances"][0]
            instance |= {
                "InstanceType": "t3.medium",
                "LaunchTime": instance["LaunchTime"] - datetime.timedelta(hours=10),
            }
            return answer

        aws.on("DescribeInstances", earlier)
        (row,) = [r for r in run(project_info, project="lab")["resources"] if r["kind"] == "instance"]
        assert (row["owner"], row["expires"], row["size"]) == ("ada", "2027-01-01T00:00:00Z", "t3.medium")
        assert row["cost_hour"] == pytest.approx(0.0416, abs=0.006)
        assert row["spent"] == pytest.approx(10 * row["cost_hour"], rel=0.01)
        aws.ec2.stop_instances(InstanceIds=[machine["InstanceId"]])
        (row,) = [r for r in run(project_info, project="lab")["resources"] if r["kind"] == "instance"]
        assert (row["state"], row["cost_hour"], row["spent"]) == ("stopped", 0, 0)

    def test_a_spot_machine_costs_what_spot_costs_now(self, aws, run) -> None:
        furnish(aws, "lab")

        def spot(_request: dict, go_on: Any) -> dict[str, Any]:
            answer = go_on()
            answer["Reservations"][0]["Instances"][0] |= {"InstanceLifecycle": "spot", "InstanceType": "g5.xlarge"}
            return answer

        def quoted(_request: dict, _go_on: Any) -> dict[str, Any]:
            zone = aws.machines()[0]["Placement"]["AvailabilityZone"]
            others = {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1x", "SpotPrice": "9"}
            return {"SpotPriceHistory": [others, {**others, "AvailabilityZone": zone, "SpotPrice": "0.40"}]}

        aws.on("DescribeInstances", spot, times=1)
        aws.on("DescribeSpotPriceHistory", quoted)
        (row,) = [r for r in run(project_info, project="lab")["resources"] if r["kind"] == "instance"]
        assert row["cost_hour"] == pytest.approx(0.40, abs=0.006)
        aws.on("DescribeInstances", spot)
        aws.refuse("DescribeSpotPriceHistory", "UnauthorizedOperation")
        (row,) = [r for r in run(project_info, project="lab")["resources"] if r["kind"] == "instance"]
        assert row["cost_hour"] is None and row["spent"] is None

    def test_bad_credentials_are_one_sentence(self, aws, run) -> None:
        aws.refuse("DescribeInstances", "AuthFailure", times=9)
        assert "does not know this access key" in run(project_info, project="lab")["msg"]


class TestTeardown:
    def test_takes_all_of_ours_and_nothing_else(self, aws, run) -> None:
        furnish(aws, "other")
        before = everything(aws)
        furnish(aws, "lab")
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert not result["failed"], result
        assert {r["kind"] for r in result["deleted"]} == KINDS_MADE
        assert result["remaining"] == []
        assert everything(aws) == before

    def test_a_placement_group_goes_after_its_machines(self, aws, run) -> None:
        tagged = [{"ResourceType": kind, "Tags": tags("lab")} for kind in ("placement-group", "instance")]
        aws.ec2.create_placement_group(GroupName="lightsout-lab-group", TagSpecifications=tagged[:1])
        aws.ec2.run_instances(
            ImageId=aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"],
            InstanceType="c5.large",
            MinCount=1,
            MaxCount=1,
            ClientToken="one",
            Placement={"GroupName": "lightsout-lab-group"},
            TagSpecifications=tagged[1:],
        )
        result = run(project_teardown, project="lab")
        assert not result["failed"] and {r["kind"] for r in result["deleted"]} >= {"instance", "placement_group"}
        changing = [call for call in aws.calls if call in ("TerminateInstances", "DeletePlacementGroup")]
        assert changing == ["TerminateInstances", "DeletePlacementGroup"]
        assert aws.ec2.describe_placement_groups()["PlacementGroups"] == []

    def test_a_second_time_changes_nothing(self, aws, run) -> None:
        furnish(aws, "lab")
        run(project_teardown, wait_timeout=5, project="lab")
        aws.calls.clear()
        assert not run(project_teardown, wait_timeout=5, project="lab")["changed"]
        assert all(call.startswith(("Describe", "List")) for call in aws.calls)

    def test_check_mode_lists_and_deletes_nothing(self, aws, run) -> None:
        furnish(aws, "lab")
        before = everything(aws)
        result = run(project_teardown, check=True, wait_timeout=5, project="lab")
        assert result["changed"] and {r["kind"] for r in result["deleted"]} == KINDS_MADE
        assert everything(aws) == before

    def test_a_half_made_project_goes_too(self, aws, run) -> None:
        own = [{"ResourceType": "key-pair", "Tags": tags("lab")}]
        aws.ec2.create_key_pair(KeyName="lightsout-lab-key", TagSpecifications=own)
        assert [r["kind"] for r in run(project_teardown, wait_timeout=5, project="lab")["deleted"]] == ["key_pair"]

    @pytest.mark.parametrize("project", ["", "*", "la?", "Lab", " lab"])
    def test_a_name_that_is_no_project_reaches_no_api(self, aws, run, project) -> None:
        result = run(project_teardown, project=project)
        assert result["failed"] and not aws.calls

    def test_what_is_still_in_use_is_tried_again(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("DeleteSecurityGroup", "DependencyViolation", times=4)
        aws.refuse("DeleteVolume", "VolumeInUse", times=2)
        assert not run(project_teardown, wait_timeout=60, project="lab")["failed"]

    def test_one_refusal_stops_nothing_else_and_is_reported_with_its_reason(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("DeleteKeyPair", "UnauthorizedOperation", times=99, message="You may not delete key pairs.")
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert result["failed"]
        (left,) = result["remaining"]
        assert left["kind"] == "key_pair" and "You may not delete key pairs" in left["reason"]
        assert "1 resource of project lab left" in result["msg"]
        assert {r["kind"] for r in result["deleted"]} == KINDS_MADE - {"key_pair"}

    def test_a_protected_machine_is_left_and_named_and_ends_in_bounded_time(self, aws, run) -> None:
        furnish(aws, "lab")
        (machine,) = aws.machines()
        aws.ec2.modify_instance_attribute(InstanceId=machine["InstanceId"], DisableApiTermination={"Value": True})
        aws.refuse("DeleteSecurityGroup", "DependencyViolation", times=99)
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert result["failed"] and machine["InstanceId"] in result["msg"]
        assert len(aws.machines()) == 1
        assert {"role", "key_pair", "snapshot"} <= {r["kind"] for r in result["deleted"]}

    def test_a_list_that_is_not_complete_proves_nothing(self, aws, run) -> None:
        aws.refuse("ListRoles", "AccessDenied", times=99)
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert result["failed"] and "nobody knows about roles" in result["msg"]
        assert not run(project_teardown, wait_timeout=5, project="lab", exclude_kinds=["role"])["failed"]

    def test_a_persistent_spot_request_is_cancelled_before_its_machine_goes(self, aws, run) -> None:
        furnish(aws, "lab")
        requests = {
            "SpotInstanceRequests": [{"SpotInstanceRequestId": "sir-1", "State": "active", "Tags": tags("lab")}]
        }
        gone: dict[str, list] = {"SpotInstanceRequests": []}
        aws.on("DescribeSpotInstanceRequests", lambda *_: requests)
        aws.on("DescribeSpotInstanceRequests", lambda *_: gone, times=0)
        aws.on("CancelSpotInstanceRequests", lambda *_: {})
        assert not run(project_teardown, wait_timeout=5, project="lab")["failed"]
        assert aws.calls.index("CancelSpotInstanceRequests") < aws.calls.index("TerminateInstances")

    def test_a_thing_of_another_project_is_refused_at_the_last_moment(self, aws) -> None:
        """Whatever a fault in the listing might bring, the tag is compared before each deletion."""
        stranger = Resource("key_pair", "key-1", "k", "other", "us-east-1", tags={"lightsout:project": "other"})
        with pytest.raises(PermissionError, match="not ours"):
            delete_one(Scope(aws.client, "us-east-1", "lab"), stranger)
        assert "DeleteKeyPair" not in aws.calls


class TestSagemaker:
    def test_all_of_it_goes_in_its_order_and_nothing_of_others(self, aws, run) -> None:
        furnish_sagemaker(aws, "other")
        before = everything(aws)
        furnish_sagemaker(aws, "lab")
        result = run(project_teardown, project="lab")
        assert not result["failed"], result["msg"]
        assert {r["kind"] for r in result["deleted"]} == KINDS_OF_SAGEMAKER | {"log_group"}
        assert everything(aws) == before
        assert job(aws, "lab").training_job_status == "Stopped"
        changing = [call for call in aws.calls if call.startswith(("Stop", "Delete"))]
        for first, then in (
            ("StopNotebookInstance", "DeleteNotebookInstance"),
            ("DeleteNotebookInstance", "DeleteNotebookInstanceLifecycleConfig"),
            ("DeleteApp", "DeleteSpace"),
            ("DeleteSpace", "DeleteUserProfile"),
            ("DeleteUserProfile", "DeleteDomain"),
            ("DeleteEndpoint", "DeleteEndpointConfig"),
            ("DeleteEndpointConfig", "DeleteModel"),
            ("DeleteEndpoint", "DeleteLogGroup"),
        ):
            assert changing.index(first) < changing.index(then)
        assert len(changing) == 12, "nothing is refused on the way, and nothing asked for twice"

    @pytest.mark.parametrize("state", ["Pending", "Updating", "Stopping", "PendingMaintenance", "InMaintenance"])
    def test_a_notebook_instance_that_changes_is_waited_for(self, aws, run, state) -> None:
        furnish_sagemaker(aws, "lab")

        def changing(_request: dict, go_on: Any) -> dict[str, Any]:
            answer = go_on()
            return {
                **answer,
                "NotebookInstances": [o | {"NotebookInstanceStatus": state} for o in answer["NotebookInstances"]],
            }

        aws.on("ListNotebookInstances", changing, times=3)
        assert not run(project_teardown, project="lab")["failed"]
        assert aws.calls.count("StopNotebookInstance") == aws.calls.count("DeleteNotebookInstance") == 1

    def test_one_that_never_stops_is_left_and_named_with_its_state(self, aws, run) -> None:
        furnish_sagemaker(aws, "lab")
        aws.on("StopNotebookInstance", lambda *_: {}, times=99)
        result = run(project_teardown, project="lab", wait_timeout=60)
        assert result["failed"] and {r["kind"] for r in result["remaining"]} == {
            "notebook_instance",
            "notebook_lifecycle_config",
        }
        assert "still InService when time was up" in result["msg"]
        assert "waits until notebook instance lightsout-lab-notebook is gone" in result["msg"]

    def test_a_state_that_changes_between_look_and_deletion_is_no_refusal(self, aws, run) -> None:
        furnish_sagemaker(aws, "lab")
        changed = "Status (InMaintenance) not in ([Stopped, Failed]). Unable to transition to (Deleting)"
        aws.refuse("DeleteNotebookInstance", "ValidationException", times=2, message=changed)
        assert not run(project_teardown, project="lab")["failed"]

    def test_a_job_that_has_ended_is_history_unless_its_machines_are_kept_warm(self, aws, run) -> None:
        furnish_sagemaker(aws, "lab")
        job(aws, "lab").training_job_status = "Completed"
        assert "training_job" not in {r["kind"] for r in run(project_info, project="lab")["resources"]}

        def warm(_request: dict, go_on: Any) -> dict[str, Any]:
            answer = go_on()
            pool = {"WarmPoolStatus": {"Status": "Available"}}
            return {**answer, "TrainingJobSummaries": [one | pool for one in answer["TrainingJobSummaries"]]}

        aws.on("ListTrainingJobs", warm, times=3)
        aws.on("UpdateTrainingJob", lambda *_: {})
        assert not run(project_teardown, project="lab")["failed"]
        (asked,) = [request for call, request in aws.requests if call == "UpdateTrainingJob"]
        assert asked["ResourceConfig"] == {"KeepAlivePeriodInSeconds": 0}

    def test_what_they_cost_is_told(self, aws, run) -> None:
        furnish_sagemaker(aws, "lab")
        costs = {r["kind"]: r["cost_month"] for r in run(project_info, project="lab")["resources"]}
        assert costs["training_job"] == pytest.approx(2 * 0.115 * 730, abs=0.01)
        assert costs["endpoint"] == pytest.approx(0.115 * 730, abs=0.01)
        assert costs["studio_app"] == pytest.approx(0.736 * 730, abs=0.01)
        assert costs["notebook_instance"] == pytest.approx(0.05 * 730 + 5 * 0.14, abs=0.01)
        aws.client("sagemaker").stop_notebook_instance(NotebookInstanceName="lightsout-lab-notebook")
        costs = {r["kind"]: r["cost_month"] for r in run(project_info, project="lab")["resources"]}
        assert costs["notebook_instance"] == pytest.approx(5 * 0.14)

    def test_what_others_have_in_our_domain_is_not_ours_and_keeps_it(self, aws, run) -> None:
        domain = furnish_studio(aws, "lab")
        aws.client("sagemaker").create_space(DomainId=domain, SpaceName="guest", Tags=tags("other"))
        result = run(project_teardown, project="lab", wait_timeout=60)
        assert result["failed"] and "guest" in result["msg"]
        assert {r["kind"] for r in result["remaining"]} == {"studio_domain"}
        assert {one["SpaceName"] for one in aws.client("sagemaker").list_spaces()["Spaces"]} == {"guest"}

    def test_home_directories_go_with_the_domain(self, aws, run) -> None:
        domain = furnish_studio(aws, "lab")
        run(project_teardown, project="lab")
        assert aws.sagemaker.retention == {domain: "Delete"}

    def test_home_directories_that_stay_get_our_tag_and_are_told(self, aws, run) -> None:
        home = aws.client("efs").create_file_system(CreationToken="home")["FileSystemId"]
        domain = furnish_studio(aws, "lab")
        sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].domains[domain].home_efs_file_system_id = home
        result = run(project_teardown, project="lab", keep_files=True)
        assert not result["failed"] and aws.sagemaker.retention == {domain: "Retain"}
        assert [one["id"] for one in result["kept"]] == [home]
        assert home in {one["id"] for one in run(project_info, project="lab")["resources"]}

    def test_who_may_not_list_sagemaker_leaves_it_out(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("ListApps", "AccessDeniedException", times=99)
        furnish_studio(aws, "lab")
        result = run(project_teardown, project="lab", wait_timeout=30)
        assert result["failed"] and "nobody knows about Studio apps" in result["msg"]


class TestStorage:
    def test_file_systems_and_log_groups_go_and_buckets_stay(self, aws, run) -> None:
        furnish_storage(aws, "other")
        before = everything(aws)
        furnish_storage(aws, "lab")
        result = run(project_teardown, project="lab")
        assert not result["failed"], result["msg"]
        assert {r["kind"] for r in result["deleted"]} == {"file_system", "log_group"}
        assert [one["id"] for one in result["kept"]] == ["lightsout-lab-results"]
        assert everything(aws) == {**before, "bucket": before["bucket"] | {"lightsout-lab-results"}}

    def test_a_bucket_with_something_in_it_is_left_when_only_empty_ones_may_go(self, aws, run) -> None:
        furnish_storage(aws, "lab")
        result = run(project_teardown, project="lab", buckets="when_empty")
        assert result["failed"] and "not empty" in result["msg"]
        aws.client("s3").delete_object(Bucket="lightsout-lab-results", Key="model.pt")
        result = run(project_teardown, project="lab", buckets="when_empty")
        assert not result["failed"] and [r["kind"] for r in result["deleted"]] == ["bucket"]

    def test_a_bucket_goes_with_all_versions_when_told_so(self, aws, run) -> None:
        furnish_storage(aws, "lab")
        s3, bucket = aws.client("s3"), "lightsout-lab-results"
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for number in range(3):
            s3.put_object(Bucket=bucket, Key="model.pt", Body=str(number).encode())
        s3.delete_object(Bucket=bucket, Key="model.pt")
        result = run(project_teardown, project="lab", buckets="with_contents")
        assert not result["failed"], result["msg"]
        assert bucket not in everything(aws)["bucket"]

    def test_files_that_stay_are_told(self, aws, run) -> None:
        furnish_storage(aws, "lab")
        result = run(project_teardown, project="lab", keep_files=True)
        assert not result["failed"] and {one["kind"] for one in result["kept"]} == {"file_system", "bucket"}


def test_every_kind_waits_only_for_kinds_that_exist_and_no_kind_for_itself() -> None:
    for name, kind in KINDS.items():
        assert set(kind.after) | set(kind.leaves) <= set(KINDS) - {name}

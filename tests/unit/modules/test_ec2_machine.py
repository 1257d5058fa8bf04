"""One machine, whatever happens to the answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils.one_machine import STILLBORN, Machine
from ansible_collections.lightsout.aws.plugins.modules import ec2_machine
from botocore.exceptions import ConnectionClosedError


@pytest.fixture
def settings(aws) -> dict[str, Any]:
    """What it takes to launch."""
    group = aws.ec2.create_security_group(GroupName="lightsout-lab-access", Description="d")["GroupId"]
    return {
        "project": "lab",
        "instance_type": "t3.medium",
        "image_id": aws.image("another"),
        "image": "ubuntu-24.04",
        "login_user": "ubuntu",
        "security_group_ids": [group],
        "volume_size": 30,
        "lease": "12h",
        "tags": {"lightsout:owner": "ada"},
    }


def launches(aws) -> list[dict]:
    return [request for operation, request in aws.requests if operation == "RunInstances"]


class TestCreate:
    def test_makes_an_encrypted_imdsv2_machine_tagged_in_all_its_parts(self, aws, run, settings) -> None:
        result = run(ec2_machine, **settings)
        assert result["changed"] and result["machine"]["state"] == "running"
        (machine,) = aws.machines()
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        (request,) = launches(aws)
        disk = request["BlockDeviceMappings"][0]["Ebs"]
        assert disk == {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True, "VolumeSize": 30}
        assert request["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        assert {spec["ResourceType"] for spec in request["TagSpecifications"]} == {
            "instance",
            "volume",
            "network-interface",
        }
        tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
        assert tags["Name"] == "lightsout-lab-machine-1"
        assert (tags["lightsout:user"], tags["lightsout:image"], tags["lightsout:schema"]) == (
            "ubuntu",
            "ubuntu-24.04",
            "1",
        )
        assert tags["lightsout:expires"].endswith("Z")
        (volume,) = aws.ec2.describe_volumes()["Volumes"]
        assert (volume["Encrypted"], volume["Size"]) == (True, 30)

    def test_a_second_run_changes_nothing_and_launches_nothing(self, aws, run, settings) -> None:
        first = run(ec2_machine, **settings)
        second = run(ec2_machine, **settings)
        assert not second["changed"] and second["changes"] == {}
        assert second["machine"]["id"] == first["machine"]["id"]
        assert len(launches(aws)) == 1

    def test_a_newer_image_launches_nothing(self, aws, run, settings) -> None:
        first = run(ec2_machine, **settings)
        second = run(ec2_machine, **settings | {"image_id": aws.image("newer")})
        assert (second["changed"], second["machine"]["id"]) == (False, first["machine"]["id"])
        assert len(aws.machines()) == 1

    def test_check_mode_predicts_and_launches_nothing(self, aws, run, settings) -> None:
        result = run(ec2_machine, check=True, **settings)
        assert result["changed"] and result["diff"]["after"] == {"state": "running"}
        assert not aws.machines()

    def test_what_is_missing_to_create_is_named(self, run, aws) -> None:
        result = run(ec2_machine, project="lab")
        assert result["failed"]
        assert "instance_type, image_id, security_group_ids must be given" in result["msg"]

    def test_spot_requests_are_tagged_and_persistent_only_when_the_machine_may_stop(self, aws, run, settings) -> None:
        run(ec2_machine, **settings, spot=True, spot_interruption="stop", spot_max_price=0.5)
        (request,) = launches(aws)
        assert request["InstanceMarketOptions"]["SpotOptions"] == {
            "SpotInstanceType": "persistent",
            "InstanceInterruptionBehavior": "stop",
            "MaxPrice": "0.50000",
        }
        assert "spot-instances-request" in {spec["ResourceType"] for spec in request["TagSpecifications"]}

    @pytest.mark.parametrize("project", ["", "Lab", "a--b", "-a", "a-", "x" * 33, "*", "lab*"])
    def test_a_name_that_is_no_project_reaches_no_api(self, aws, run, project) -> None:
        result = run(ec2_machine, project=project, state="absent")
        assert result["failed"] and "project" in result["msg"]
        assert not aws.calls


class TestOneMachineOnly:
    def test_two_runs_at_once_make_one_machine(self, aws, settings) -> None:
        """Both find nothing, then both launch: the token makes EC2 answer the second with the machine of the first."""
        meeting = threading.Barrier(2)
        found: list[str] = []

        class Module:
            check_mode = False
            params = dict.fromkeys(
                ("key_name", "kms_key_id", "instance_profile", "user_data", "spot", "name", "placement_group")
            ) | {
                "state": "running",
                "subnet_ids": None,
                "public_ip": True,
                "shutdown_behavior": None,
                "metadata_hop_limit": None,
                "metadata_tags": None,
                "termination_protection": None,
                "wait": True,
                "wait_timeout": 10,
                "allow_stop": False,
                **settings,
            }

            @staticmethod
            def client(service: str, **_arguments: Any):
                return aws.client(service)

        class Together(Machine):
            def launch(self) -> dict:
                meeting.wait(10)
                return super().launch()

        def go() -> None:
            found.append(Together(Module()).ensure()[0]["InstanceId"])

        threads = [threading.Thread(target=go) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2 and len(set(found)) == 1
        assert len(aws.machines()) == 1

    def test_a_lost_answer_makes_one_machine(self, aws, run, settings) -> None:
        def lose(_request: dict, go_on) -> None:
            go_on()
            raise ConnectionClosedError(endpoint_url="made up")

        aws.on("RunInstances", lose)
        result = run(ec2_machine, **settings)
        assert not result["failed"], result
        assert len(launches(aws)) == 2
        assert len({request["ClientToken"] for request in launches(aws)}) == 1
        (machine,) = aws.machines()
        assert machine["InstanceId"] == result["machine"]["id"]

    def test_the_token_of_a_terminated_machine_is_not_used_again(self, aws, run, settings) -> None:
        first = run(ec2_machine, **settings)
        run(ec2_machine, project="lab", state="absent")
        again = run(ec2_machine, **settings)
        assert not again["failed"], again
        assert again["machine"]["id"] != first["machine"]["id"]
        assert len(aws.machines()) == 1
        assert len({request["ClientToken"] for request in launches(aws)[-2:]}) == 2

    def test_another_run_with_other_parameters_is_joined_not_doubled(self, aws, run, settings) -> None:
        """The other run resolved a newer image, so the token answers with a mismatch and its machine is adopted."""
        first = run(ec2_machine, **settings)
        hidden = [True]

        def not_yet(_request: dict, go_on) -> Any:
            answer = go_on()
            if hidden and answer["Reservations"]:
                hidden.pop()
                return {**answer, "Reservations": []}
            return answer

        aws.on("DescribeInstances", not_yet)
        second = run(ec2_machine, **settings | {"image_id": aws.image("newer")})
        assert not second["failed"], second
        assert second["machine"]["id"] == first["machine"]["id"]
        assert len(aws.machines()) == 1

    def test_of_two_zones_at_the_same_moment_the_later_machine_is_given_back(self, aws, run, settings) -> None:
        """The other run's machine appears between our look and our launch, in another zone."""

        def meanwhile(_request: dict, go_on) -> Any:
            aws.someone_elses_machine(settings["image_id"])
            return go_on()

        aws.on("DescribeSubnets", meanwhile)
        result = run(ec2_machine, **settings)
        assert not result["failed"], result
        assert [m["InstanceId"] for m in aws.machines()] == [result["machine"]["id"]]

    def test_more_than_one_live_machine_is_an_error_that_names_them(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        aws.someone_elses_machine(settings["image_id"])
        result = run(ec2_machine, **settings)
        assert result["failed"]
        assert all(machine["InstanceId"] in result["msg"] for machine in aws.machines())


class TestCapacity:
    def test_a_full_zone_is_followed_by_the_next(self, aws, run, settings) -> None:
        aws.refuse("RunInstances", "InsufficientInstanceCapacity", times=2)
        result = run(ec2_machine, **settings)
        assert not result["failed"], result
        zones = [request["NetworkInterfaces"][0]["SubnetId"] for request in launches(aws)]
        assert len(zones) == len(set(zones)) == 3
        assert result["machine"]["zone"] == "us-east-1c"

    def test_all_zones_full_is_one_sentence_that_names_them(self, aws, run, settings) -> None:
        aws.refuse("RunInstances", "InsufficientInstanceCapacity", times=99)
        result = run(ec2_machine, **settings)
        assert result["failed"] and "no t3.medium to give" in result["msg"] and "us-east-1f" in result["msg"]

    def test_given_subnets_are_tried_in_their_order(self, aws, run, settings) -> None:
        subnets = sorted((s["SubnetId"] for s in aws.ec2.describe_subnets()["Subnets"]), reverse=True)[:2]
        aws.refuse("RunInstances", "InsufficientInstanceCapacity")
        run(ec2_machine, **settings, subnet_ids=subnets)
        assert [request["NetworkInterfaces"][0]["SubnetId"] for request in launches(aws)] == subnets

    def test_an_error_that_no_zone_cures_ends_at_once(self, aws, run, settings) -> None:
        aws.refuse("RunInstances", "VcpuLimitExceeded", times=99, message="You have requested more vCPU capacity")
        result = run(ec2_machine, **settings)
        assert result["failed"] and "more vCPU capacity" in result["msg"]
        assert len(launches(aws)) == 1

    def test_a_new_instance_profile_is_waited_for(self, aws, run, settings) -> None:
        message = "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        aws.refuse("RunInstances", "InvalidParameterValue", times=2, message=message)
        assert not run(ec2_machine, **settings)["failed"]
        assert len(launches(aws)) == 3


class TestLease:
    def test_a_machine_that_starts_begins_a_new_lease_and_a_longer_one_stays(self, aws, run, settings) -> None:
        def expires() -> str:
            return {tag["Key"]: tag["Value"] for tag in aws.machines()[0]["Tags"]}["lightsout:expires"]

        run(ec2_machine, **settings)
        first = expires()
        run(ec2_machine, project="lab", state="stopped")
        run(ec2_machine, project="lab", lease="1h")
        assert expires() == first
        run(ec2_machine, project="lab", state="stopped")
        assert run(ec2_machine, check=True, project="lab", lease="2d")["changes"]["tags"][1].keys() == {
            "lightsout:expires"
        }
        assert expires() == first
        result = run(ec2_machine, project="lab", lease="2d")
        assert result["machine"]["expires"] == expires() > first
        assert not run(ec2_machine, project="lab", lease="3d")["changed"], (
            "it runs already: its lease is renewed by itself"
        )


class TestChange:
    def test_a_larger_disk_grows_and_nothing_else_is_touched(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        aws.calls.clear()
        result = run(ec2_machine, **settings | {"volume_size": 60})
        assert result["changes"] == {"volume_size": [30, 60]}
        changing = [call for call in aws.calls if not call.startswith("Describe")]
        assert changing == ["ModifyVolume"]

    def test_a_smaller_disk_is_refused_and_nothing_changes(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        aws.calls.clear()
        result = run(ec2_machine, **settings | {"volume_size": 20, "shutdown_behavior": "terminate"})
        assert result["failed"] and "volume_size is 20" in result["msg"] and "30" in result["msg"]
        assert all(call.startswith("Describe") for call in aws.calls)

    def test_another_type_needs_leave_to_stop_the_machine(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        refused = run(ec2_machine, **settings | {"instance_type": "t3.large"})
        assert refused["failed"] and "allow_stop=true" in refused["msg"]
        result = run(ec2_machine, **settings | {"instance_type": "t3.large"}, allow_stop=True)
        assert result["changes"] == {"instance_type": ["t3.medium", "t3.large"]}
        (machine,) = aws.machines()
        assert (machine["InstanceType"], machine["State"]["Name"]) == ("t3.large", "running")
        assert "StopInstances" in aws.calls and "StartInstances" in aws.calls

    def test_a_stopped_machine_takes_another_type_without_leave(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        run(ec2_machine, project="lab", state="stopped")
        result = run(ec2_machine, **settings | {"instance_type": "t3.large"})
        # A start also begins a new lease, which ends a second later than the first one if the clock has moved.
        assert set(result["changes"]) - {"tags"} == {"instance_type", "state"}
        assert aws.machines()[0]["State"]["Name"] == "running"

    def test_another_processor_another_image_and_spot_are_refused(self, run, settings) -> None:
        run(ec2_machine, **settings)
        result = run(ec2_machine, **settings | {"instance_type": "t4g.medium", "image": "debian-12"}, spot=True)
        assert result["failed"]
        for word in ("t4g.medium", "kind of processor", "debian-12", "spot"):
            assert word in result["msg"]

    def test_drift_of_metadata_options_is_put_right(self, aws, run, settings) -> None:
        run(ec2_machine, **settings, metadata_hop_limit=1)
        instance = aws.machines()[0]["InstanceId"]
        aws.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional", HttpPutResponseHopLimit=3)
        result = run(ec2_machine, **settings, metadata_hop_limit=1)
        assert result["changes"] == {"metadata_hop_limit": [3, 1], "metadata_tokens": ["optional", "required"]}
        options = aws.machines()[0]["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)

    def test_a_changed_tag_reaches_machine_and_disk_and_leaves_strangers_and_the_lease(
        self, aws, run, settings
    ) -> None:
        first = run(ec2_machine, **settings)
        aws.ec2.create_tags(Resources=[first["machine"]["id"]], Tags=[{"Key": "theirs", "Value": "1"}])
        result = run(ec2_machine, **settings | {"tags": {"lightsout:owner": "grace"}, "lease": "1d"})
        assert result["changes"] == {"tags": [{"lightsout:owner": "ada"}, {"lightsout:owner": "grace"}]}
        tags = {tag["Key"]: tag["Value"] for tag in aws.machines()[0]["Tags"]}
        assert (tags["lightsout:owner"], tags["theirs"]) == ("grace", "1")
        assert tags["lightsout:expires"] == first["machine"]["expires"]
        (volume,) = aws.ec2.describe_volumes()["Volumes"]
        assert {"Key": "lightsout:owner", "Value": "grace"} in volume["Tags"]

    def test_check_mode_predicts_changes_and_makes_none(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        aws.calls.clear()
        result = run(ec2_machine, check=True, **settings | {"volume_size": 60})
        assert result["changed"] and result["diff"] == {"before": {"volume_size": 30}, "after": {"volume_size": 60}}
        assert all(call.startswith("Describe") for call in aws.calls)


class TestStates:
    def test_stop_start_and_terminate_are_idempotent(self, aws, run, settings) -> None:
        run(ec2_machine, **settings)
        for state, seen in (("stopped", ["stopped"]), ("running", ["running"]), ("absent", [])):
            first = run(ec2_machine, project="lab", state=state)
            assert first["changed"], state
            assert [machine["State"]["Name"] for machine in aws.machines()] == seen
            if state != "absent":
                assert first["machine"]["state"] == state
            assert not run(ec2_machine, project="lab", state=state)["changed"], state

    def test_stopping_what_does_not_exist_is_an_error(self, aws, run) -> None:
        result = run(ec2_machine, project="lab", state="stopped")
        assert result["failed"] and "no machine lightsout-lab-machine-1" in result["msg"]

    def test_another_projects_machine_is_never_touched(self, aws, run, settings) -> None:
        run(ec2_machine, **settings | {"project": "other"}, name="lightsout-lab-machine-1")
        result = run(ec2_machine, project="lab", state="absent")
        assert not result["changed"]
        assert len(aws.machines("other")) == 1

    def test_a_machine_that_dies_at_its_start_says_why(self, aws, run, settings) -> None:
        def dies(_request: dict, go_on) -> Any:
            answer = go_on()
            aws.ec2.terminate_instances(InstanceIds=[answer["Instances"][0]["InstanceId"]])
            return answer

        aws.on("RunInstances", dies, times=99)
        result = run(ec2_machine, **settings)
        assert result["failed"] and "died at once" in result["msg"]
        assert len(launches(aws)) == STILLBORN

    def test_missing_credentials_are_one_sentence(self, aws, run, settings) -> None:
        aws.refuse("DescribeInstances", "AuthFailure", times=9)
        result = run(ec2_machine, **settings)
        assert result["failed"] and "does not know this access key" in result["msg"]
        assert "aws sso login" in result["msg"] and "\n" not in result["msg"]

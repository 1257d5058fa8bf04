"""Everything is checked at once, nothing is made, and each problem is one line that names its variable."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from ansible_collections.lightsout.aws.plugins.modules import (
    budgets_budget,
    ec2_machine,
    preflight_info,
    scheduler_schedule,
)
from moto.budgets.models import BudgetsBackend
from moto.budgets.responses import BudgetsResponse
from moto.scheduler.models import EventBridgeSchedulerBackend
from moto.scheduler.responses import EventBridgeSchedulerResponse

from localcloud import budgets, schedules
from tests.helpers.moto import restored

ADDRESS = "203.0.113.7"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyL5FqHBRtxJWgyXXbCVfmOuyDKUFCVA+1lqnHJWMbh"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdu0N3nKGpJ1BYbzEwCVVwlq9dcGmXWYhOuZSpGjSQa"


@pytest.fixture
def settings(tmp_path) -> dict[str, Any]:
    return {
        "project": "lab",
        "owner": "ada",
        "access_cidrs": [ADDRESS],
        "private_key_file": str(tmp_path / "lab.pem"),
        "machine": {"instance_type": "t3.medium", "image": "ubuntu-24.04", "volume_size": 30},
    }


@pytest.fixture
def look(aws, run, settings):
    """Run the module with some settings changed; those of the machine are given as ``machine_<name>``."""

    def start(**changed: Any) -> dict[str, Any]:
        machine = settings["machine"] | {k[8:]: v for k, v in changed.items() if k.startswith("machine_")}
        others = {k: v for k, v in changed.items() if not k.startswith("machine_")}
        return run(preflight_info, **settings | {"machine": machine} | others)

    return start


@pytest.fixture
def made(aws, run, look, settings, tmp_path) -> dict[str, Any]:
    """What provision makes, without Ansible."""
    (tmp_path / "lab.pem").write_text("private")
    (tmp_path / "lab.pem").chmod(0o400)
    (tmp_path / "lab.pem.pub").write_text(PUBLIC + " comment\n")
    tags = {"lightsout:project": "lab", "lightsout:owner": "ada", "lightsout:schema": "1"}

    def tagged(kind: str) -> list[dict]:
        return [{"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]

    aws.ec2.import_key_pair(
        KeyName="lightsout-lab-key", PublicKeyMaterial=PUBLIC.encode(), TagSpecifications=tagged("key-pair")
    )
    group = aws.ec2.create_security_group(
        GroupName="lightsout-lab-access", Description="d", TagSpecifications=tagged("security-group")
    )["GroupId"]
    rules = [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": f"{ADDRESS}/32"}]}
        for port in (22, 443, 8888)
    ]
    aws.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
    plan = look()["plan"]
    done = run(
        ec2_machine,
        project="lab",
        instance_type="t3.medium",
        image_id=plan["image"]["id"],
        image="ubuntu-24.04",
        login_user="ubuntu",
        security_group_ids=[group],
        volume_size=30,
        lease="12h",
        tags={"lightsout:owner": "ada"},
    )
    aws.calls.clear()
    return done["machine"] | {"group": group}


class TestPlan:
    def test_a_fresh_project_is_planned_in_full_and_nothing_is_made(self, aws, look) -> None:
        plan = look()["plan"]
        assert plan["changes"] == {
            "key_file": "create",
            "key_pair": "create",
            "security_group": "create",
            "machine": "create",
        }
        assert plan["access_cidrs"] == [f"{ADDRESS}/32"]
        (disk,) = aws.ec2.describe_images(Owners=["self"])["Images"][0]["BlockDeviceMappings"]
        assert (plan["image"]["login_user"], plan["image"]["minimum_size"]) == ("ubuntu", disk["Ebs"]["VolumeSize"])
        assert (plan["instance_type"]["vcpus"], plan["instance_type"]["memory_gib"]) == (2, 4)
        assert plan["account"] == "123456789012"
        assert all(call.startswith(("Describe", "Get", "List")) for call in aws.calls)

    def test_the_price_is_said_with_its_date_and_region(self, look) -> None:
        plan = look()["plan"]
        assert plan["prices"]["hour"] == pytest.approx(0.0416 + 0.005 + 30 * 0.08 / 730, abs=1e-4)
        assert plan["prices"]["stopped_month"] == 2.4
        text = "\n".join(plan["lines"])
        assert "USD 0.0499 an hour" in text and "us-east-1" in text and plan["prices"]["as_of"] in text

    def test_an_unknown_price_is_said_to_be_unknown(self, look) -> None:
        plan = look(machine_instance_type="m4.large")["plan"]
        assert plan["prices"]["hour"] is None
        assert any("unknown" in line for line in plan["lines"])

    def test_a_spot_machine_has_the_price_that_aws_quotes_or_none(self, aws, look) -> None:
        aws.on("DescribeSpotPriceHistory", lambda *_: {"SpotPriceHistory": [{"SpotPrice": "0.0125"}]})
        assert look(machine_spot=True)["plan"]["prices"]["compute_hour"] == 0.0125
        aws.on("DescribeSpotPriceHistory", lambda *_: {"SpotPriceHistory": []})
        assert look(machine_spot=True)["plan"]["prices"]["hour"] is None

    def test_both_ways_to_buy_are_told_apart_with_their_quotas(self, aws, look) -> None:
        limits = {"L-1216C47A": 64.0, "L-34B43A08": 1.0}
        aws.on("DescribeSpotPriceHistory", lambda *_: {"SpotPriceHistory": [{"SpotPrice": "0.0125"}]}, times=9)
        aws.on("GetServiceQuota", lambda asked, _: {"Quota": {"Value": limits[asked["QuotaCode"]]}}, times=9)
        plan = look()["plan"]
        assert (plan["prices"]["on_demand_hour"], plan["prices"]["spot_hour"]) == (0.0416, 0.0125)
        assert plan["prices"]["compute_hour"] == 0.0416
        assert (plan["quota"]["vcpus"], plan["quota"]["on_demand"], plan["quota"]["spot"]) == (64, 64, 1)
        text = "\n".join(plan["lines"])
        assert "a machine on demand 0.0416, as a spot machine 0.0125" in text
        assert "standard family: 64 vCPU on demand, 1 vCPU spot" in text
        # The quota that counts is the one of the way that was chosen.
        (problem,) = look(machine_spot=True)["problems"]
        assert "L-34B43A08" in problem and "may run 1 vCPU" in problem

    def test_a_converged_project_needs_five_calls_to_see_that_nothing_differs(self, aws, look, made) -> None:
        plan = look(complete=False)["plan"]
        assert plan["changes"] == {}
        assert sorted(aws.calls) == [
            "DescribeInstanceAttribute",
            "DescribeInstances",
            "DescribeKeyPairs",
            "DescribeSecurityGroups",
            "DescribeVolumes",
        ]

    def test_a_newer_image_changes_nothing(self, aws, look, made) -> None:
        aws.publish(
            "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
            aws.image("a newer one"),
        )
        assert look()["plan"]["changes"] == {}

    def test_changed_ports_and_addresses_change_the_security_group_only(self, look, made) -> None:
        plan = look(machine_ports=[22, 8888], access_cidrs=["198.51.100.0/24", ADDRESS])["plan"]
        assert plan["changes"] == {
            "security_group": {
                "open": ["22 from 198.51.100.0/24", "8888 from 198.51.100.0/24"],
                "close": [f"443 from {ADDRESS}/32"],
            }
        }

    def test_a_rule_that_somebody_added_is_seen(self, aws, look, made) -> None:
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        aws.ec2.authorize_security_group_ingress(GroupId=made["group"], IpPermissions=everything)
        assert look()["plan"]["changes"]["security_group"]["close"] == ["-1 None-None from 0.0.0.0/0"]

    def test_a_larger_disk_changes_the_machine_only(self, look, made) -> None:
        assert look(machine_volume_size=60)["plan"]["changes"] == {"machine": {"volume_size": [30, 60]}}

    def test_an_arm_type_gets_the_arm_image(self, aws, look) -> None:
        arm = aws.image("ubuntu-noble-arm64", architecture="arm64")
        aws.publish("/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id", arm)
        assert look(machine_instance_type="t4g.medium")["plan"]["image"]["id"] == arm

    def test_policies_get_a_role_and_profile_of_the_projects_own(self, look) -> None:
        plan = look(machine_policies=["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"])["plan"]
        assert plan["changes"]["instance_profile"] == "create"
        assert (plan["instance_profile"], plan["iam_path"]) == ("lightsout-lab-machine", "/lightsout/us-east-1/")

    def test_a_quota_that_nobody_may_read_is_no_problem(self, aws, look) -> None:
        aws.refuse("GetServiceQuota", "AccessDeniedException", times=2)
        assert look()["plan"]["quota"]["vcpus"] is None

    def test_types_are_shown_without_spot_prices_that_nobody_may_see(self, aws, look) -> None:
        aws.refuse("DescribeSpotPriceHistory", "UnauthorizedOperation", times=9)
        choices = look(needs={"vcpus": 2}, alternatives=True)["plan"]["choices"]
        assert {choice["spot"] for choice in choices} == {None}

    @pytest.mark.parametrize("told", ["198.51.100.4\n", "<html>Log in to this network</html>"])
    def test_the_own_address_is_found_out(self, look, told) -> None:
        class Service(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(told.encode())

            def log_message(self, *_words: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            result = look(access_cidrs=["auto"], checkip_url=f"http://127.0.0.1:{server.server_port}")
            server.shutdown()
        if told[0].isdigit():
            assert result["plan"]["access_cidrs"] == ["198.51.100.4/32"]
        else:
            assert result["failed"] and "did not tell your address" in result["msg"]

    def test_an_address_service_that_is_not_there_is_told(self, look) -> None:
        result = look(access_cidrs=["auto"], checkip_url="http://127.0.0.1:9")
        assert result["failed"] and "lightsout_access_cidr is 'auto', but http://127.0.0.1:9 did" in result["msg"]


BAD = [
    ({"region": "us-esat-1"}, "lightsout_region is 'us-esat-1'", "'us-east-1'"),
    ({"inventory_region": "eu-west-1"}, "AWS_REGION is 'eu-west-1'", "export AWS_REGION=us-east-1"),
    ({"project": ""}, "lightsout_project is empty", "for example"),
    ({"project": "My Lab"}, "lightsout_project is 'My Lab'", "lower-case"),
    ({"lease": "forever"}, "lightsout_lease is 'forever'", "'12h'"),
    ({"lease": "1s"}, "lightsout_lease is '1s'", "10 minutes"),
    ({"owner": "<b>"}, "lightsout_owner is '<b>'", "letters"),
    ({"access_cidrs": []}, "lightsout_access_cidr is empty", "'auto'"),
    ({"access_cidrs": ["203.0.113.300"]}, "lightsout_access_cidr is '203.0.113.300'", "'203.0.113.7'"),
    ({"access_cidrs": ["10.1.2.3/8"]}, "lightsout_access_cidr is '10.1.2.3/8'", "'10.0.0.0/8'"),
    ({"access_cidrs": ["0.0.0.0/0"]}, "lightsout_access_cidr is '0.0.0.0/0'", "ec2_machine_allow_world=true"),
    ({"access_cidrs": ["0.0.0.0/1"]}, "lightsout_access_cidr is '0.0.0.0/1'", "ec2_machine_allow_world=true"),
    ({"access_cidrs": ["::/0"]}, "lightsout_access_cidr is '::/0'", "ec2_machine_allow_world=true"),
    ({"machine_instance_type": "t3.medum"}, "ec2_machine_instance_type is 't3.medum'", "did you mean 't3.medium'"),
    ({"machine_instance_type": "big one"}, "ec2_machine_instance_type is 'big one'", "'t3.medium'"),
    ({"machine_image": "ubunto-24.04"}, "ec2_machine_image is 'ubunto-24.04'", "did you mean 'ubuntu-24.04'"),
    ({"machine_image": "ami-0123456789abcdef0"}, "ec2_machine_image is 'ami-0123456789abcdef0'", "region to region"),
    ({"machine_volume_size": 0}, "ec2_machine_volume_size is 0", "1 to 16384"),
    ({"machine_volume_size": 4}, "ec2_machine_volume_size is 4", "or more"),
    ({"machine_subnet_id": "subnet-0123456789abcdef0"}, "ec2_machine_subnet_id is", "describe-subnets"),
    ({"machine_subnet_id": "lan"}, "ec2_machine_subnet_id is 'lan'", "subnet-0123abcd"),
    ({"machine_ports": [443]}, "ec2_machine_ports lacks 22", "configure"),
    ({"machine_ports": [22, 70000]}, "ec2_machine_ports holds 70000", "1 to 65535"),
    ({"machine_spot_max_price": 0.1}, "ec2_machine_spot_max_price is 0.1", "ec2_machine_spot=true"),
    ({"machine_policies": ["S3"]}, "ec2_machine_policies holds 'S3'", "arn:aws:iam::aws:policy/"),
    ({"machine_instance_profile": "nobody"}, "ec2_machine_instance_profile is 'nobody'", "list-instance-profiles"),
    ({"machine_metadata_hop_limit": 65}, "ec2_machine_metadata_hop_limit is 65", "1 to 64"),
]


class TestBadInput:
    @pytest.mark.parametrize(("changed", "named", "right"), BAD, ids=lambda value: str(value)[:40])
    def test_is_one_line_that_names_variable_value_and_what_is_right(self, aws, look, changed, named, right) -> None:
        result = look(**changed)
        assert result["failed"], result
        (problem,) = result["problems"]
        assert named in problem and right in problem
        assert "\n" not in problem and "Traceback" not in problem
        assert all(call.startswith(("Describe", "Get", "List")) for call in aws.calls)

    def test_a_region_that_does_not_exist_is_asked_nothing(self, aws, look) -> None:
        look(region="eu-north-9")
        assert not aws.calls

    def test_all_problems_come_together(self, look) -> None:
        result = look(
            lease="x", access_cidrs=["x"], machine_instance_type="t3.medum", machine_image="x", machine_volume_size=0
        )
        assert len(result["problems"]) == 5
        assert result["msg"].startswith("5 things") and "5. " in result["msg"]

    def test_the_world_is_let_in_when_asked_for_by_name(self, look) -> None:
        assert look(access_cidrs=["0.0.0.0/0"], allow_world=True)["plan"]["access_cidrs"] == ["0.0.0.0/0"]

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("AuthFailure", "does not know this access key"),
            ("RequestExpired", "have expired"),
            ("SignatureDoesNotMatch", "refuses the signature"),
        ],
    )
    def test_bad_credentials_are_one_problem_not_ten(self, aws, look, code, said) -> None:
        for operation in ("DescribeInstances", "DescribeKeyPairs", "DescribeSecurityGroups", "GetCallerIdentity"):
            aws.refuse(operation, code, times=9)
        (problem,) = look()["problems"]
        assert said in problem

    def test_no_credentials_at_all(self, aws, look) -> None:
        from botocore.exceptions import NoCredentialsError

        def none(*_arguments: Any) -> None:
            raise NoCredentialsError

        aws.on("DescribeInstances", none)
        (problem,) = look()["problems"]
        assert problem.startswith("No AWS credentials were found") and "AWS_ACCESS_KEY_ID" in problem

    def test_a_missing_permission_is_named(self, aws, look) -> None:
        aws.refuse(
            "DescribeKeyPairs", "UnauthorizedOperation", message="You are not authorized. Encoded authorization x"
        )
        (problem,) = look()["problems"]
        assert "DescribeKeyPairs" in problem and "Encoded" not in problem

    def test_a_type_beyond_the_quota(self, aws, look) -> None:
        aws.on("GetServiceQuota", lambda *_: {"Quota": {"Value": 0.0}}, times=2)
        (problem,) = look(machine_instance_type="g5.xlarge")["problems"]
        assert "ec2_machine_instance_type is 'g5.xlarge'" in problem and "L-DB2E81BA" in problem

    def test_a_type_that_the_subnets_zone_does_not_offer(self, aws, look) -> None:
        (subnet,) = (s for s in aws.ec2.describe_subnets()["Subnets"] if s["AvailabilityZone"] == "us-east-1a")
        aws.on("DescribeInstanceTypeOfferings", lambda *_: {"InstanceTypeOfferings": [{"Location": "us-east-1b"}]})
        (problem,) = look(machine_subnet_id=subnet["SubnetId"])["problems"]
        assert "us-east-1b" in problem and "us-east-1a" in problem


class TestKeys:
    def test_another_public_key_on_aws_is_said_before_anything(self, look, made, tmp_path) -> None:
        (tmp_path / "lab.pem.pub").write_text(OTHER)
        (problem,) = look()["problems"]
        assert "lightsout-lab-key" in problem and "another public key" in problem

    def test_a_private_key_that_is_elsewhere_is_said_before_anything(self, look, made, tmp_path) -> None:
        (tmp_path / "lab.pem").unlink()
        (problem,) = look()["problems"]
        assert "not on this computer" in problem and str(tmp_path / "lab.pem") in problem

    def test_a_private_key_that_others_may_read_is_put_right(self, look, made, tmp_path) -> None:
        (tmp_path / "lab.pem").chmod(0o644)
        assert look()["plan"]["changes"] == {"key_file": "protect"}


class TestWhatIsThere:
    def test_a_shrinking_disk_is_refused(self, look, made) -> None:
        (problem,) = look(machine_volume_size=20)["problems"]
        assert problem.startswith("ec2_machine_volume_size is 20") and "cannot shrink" in problem

    def test_another_image_is_refused(self, aws, look, made) -> None:
        aws.publish("/aws/service/debian/release/12/latest/amd64", aws.image("debian-12-amd64"))
        (problem,) = look(machine_image="debian-12")["problems"]
        assert "ec2_machine_image is 'debian-12'" in problem and "ubuntu-24.04" in problem

    def test_more_than_one_live_machine(self, aws, look, made) -> None:
        aws.someone_elses_machine(aws.image("another one"))
        (problem,) = look()["problems"]
        assert "2 live machines" in problem

    def test_a_strangers_security_group_of_our_name_is_left_alone(self, aws, look) -> None:
        aws.ec2.create_security_group(GroupName="lightsout-lab-access", Description="theirs")
        (problem,) = look()["problems"]
        assert "not ours to change" in problem

    def test_a_role_of_the_same_project_in_another_region(self, aws, look) -> None:
        iam = aws.client("iam")
        iam.create_role(RoleName="lightsout-lab-machine", Path="/lightsout/eu-west-1/", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="lightsout-lab-machine")
        (problem,) = look(machine_policies=["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"])["problems"]
        assert "another region" in problem


class TestMoney:
    """A budget before the first machine, and a deadline for each."""

    WISH: ClassVar = {"limit": "50", "emails": ["ada@example.org"]}

    @pytest.fixture(autouse=True)
    def whole_services(self):
        owners = (BudgetsBackend, BudgetsResponse, EventBridgeSchedulerBackend, EventBridgeSchedulerResponse)
        with restored(*owners):
            budgets.apply()
            schedules.apply()
            yield

    def test_without_a_budget_nothing_is_planned_and_all_is_told_at_once(self, look) -> None:
        result = look(budget={}, machine_instance_type="t3.medum")
        assert len(result["problems"]) == 2
        assert "cost_guard_monthly_limit is empty and the account has no budget lightsout-lab" in result["msg"]
        assert "cost_guard_monthly_limit=0" in result["msg"]

    def test_nobody_to_tell_is_a_problem(self, look) -> None:
        assert "cost_guard_email is empty" in look(budget={"limit": "50"})["msg"]

    @pytest.mark.parametrize("limit", ["abc", "-1", "1e9", "50 USD"])
    def test_an_amount_that_is_none_is_told_by_its_variable(self, look, limit) -> None:
        assert f"cost_guard_monthly_limit is '{limit}'" in look(budget={"limit": limit})["msg"]

    def test_no_budget_is_wanted_when_it_is_said_so_and_nobody_is_asked(self, aws, look) -> None:
        plan = look(budget={"limit": "0"})["plan"]
        assert "budget" not in plan["changes"] and "DescribeBudget" not in aws.calls
        assert any("nobody is told before the bill comes" in line for line in plan["lines"])

    def test_a_budget_is_planned_found_and_compared(self, aws, run, look) -> None:
        plan = look(budget=self.WISH)["plan"]
        assert plan["changes"]["budget"] == "create"
        assert any(
            "USD 50.00 a month for the whole account; alerts to ada@example.org" in line for line in plan["lines"]
        )
        run(budgets_budget, name="lightsout-lab", limit=50, emails=["ada@example.org"])
        assert "budget" not in look(budget=self.WISH)["plan"]["changes"]
        assert "budget" not in look(budget={})["plan"]["changes"], "one that is there is enough"
        assert look(budget={**self.WISH, "limit": "60"})["plan"]["changes"]["budget"] == {"limit": [50.0, 60.0]}
        assert set(look(budget={**self.WISH, "emails": ["b@example.org"]})["plan"]["changes"]["budget"]) == {"alerts"}

    def test_who_may_not_look_at_budgets_is_told_how_to_go_on(self, aws, look) -> None:
        aws.refuse("DescribeBudget", "AccessDeniedException", times=9)
        assert "-e cost_guard_monthly_limit=0" in look(budget=self.WISH)["msg"]

    def test_a_machine_without_a_deadline_is_given_one_and_a_wrong_one_is_moved(self, run, look, made) -> None:
        def deadline(expression: str, machine: str) -> None:
            target = {
                "arn": "arn:aws:scheduler:::aws-sdk:ec2:stopInstances",
                "role_arn": "arn:aws:iam::123456789012:role/r",
            }
            wanted = {"name": "lightsout-lab-machine-1", "group": "lightsout-lab", "expression": expression}
            run(scheduler_schedule, **wanted, target={**target, "input": {"InstanceIds": [machine]}})

        def change() -> str | None:
            return look(deadline=True, complete=False)["plan"]["changes"].get("deadline")

        assert change() == "set"
        right = f"at({made['expires'].removesuffix('Z')})"
        deadline("at(2030-01-01T00:00:00)", made["id"])
        assert change() == "move"
        deadline(right, "i-another")
        assert change() == "move"
        deadline(right, made["id"])
        assert change() is None

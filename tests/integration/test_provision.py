"""One machine, whatever happens: the image moves on, two runs race, an answer is lost, a setting changes."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from localcloud.catalog import OFFERS
from tests.helpers.project import LOOKS, Project

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

UBUNTU = next(offer.parameter for offer in OFFERS if "ubuntu/server/24.04" in offer.parameter)


@pytest.fixture(scope="module")
def lab(cloud, tmp_path_factory):
    """A project that is provisioned, and torn down at the end."""
    project = Project(cloud, "lab", tmp_path_factory.mktemp("lab"), prepares=True)
    project.run("provision")
    yield project
    project.run("teardown", teardown_confirm=False)


def unchanged(run) -> bool:
    """Whether nothing was changed."""
    return set(run.changed.values()) == {0}


class TestAgain:
    """What a second run does; each test leaves the project as the settings say."""

    def test_everything_carries_the_tag_and_the_key_never_leaves_this_computer(self, lab) -> None:
        assert sorted(lab.owned()) == ["group", "key", "machine", "volume"]
        key = lab.keys / "lab.pem"
        assert key.stat().st_mode & 0o777 == 0o400
        assert "PRIVATE KEY" in key.read_text()
        assert lab.ssh("id --user --name").strip() == "ubuntu"

    def test_packages_and_anaconda_come_while_the_machine_boots(self, lab) -> None:
        installed = "dpkg-query --show --showformat='${db:Status-Status}' screen"
        lab.ssh(f"sudo flock --timeout 100 /run/lightsout-packages.lock true; {installed} | grep installed")
        mark = lab.ssh("sudo flock --timeout 100 /run/lightsout-anaconda.lock cat /opt/anaconda3/.lightsout-installed")
        assert mark.strip() == yaml.safe_load(lab.cloud.settings.read_text())["anaconda_installer_checksum"]
        lab.ssh("test -O /opt/anaconda3 && /opt/anaconda3/bin/conda --version && ! ls /opt/.lightsout-*")

    def test_no_call_changes_anything_and_few_calls_look(self, lab) -> None:
        assert unchanged(lab.watched("provision"))
        # The last two see what the first do not tell: the disk's size, and what a shutdown does.
        looks = ["DescribeKeyPairs", "DescribeSecurityGroups", "DescribeInstances"]
        machine = [*looks, "DescribeVolumes", "DescribeInstanceAttribute"]
        # A budget is asked for with all that hangs on it; who calls must be known first.
        budget = ["GetCallerIdentity", "DescribeBudget", "DescribeNotificationsForBudget"]
        budget += ["DescribeBudgetActionsForBudget", "ListTagsForResource"]
        budget += ["DescribeSubscribersForNotification"] * 4
        deadline = ["GET /schedules/lightsout-lab-machine-1?groupName=lightsout-lab"]
        assert sorted(lab.calls) == sorted([*machine, *budget, *deadline])

    def test_a_newer_image_launches_nothing(self, lab) -> None:
        (before,) = lab.machines()
        newer = lab.post("publish", parameter=UBUNTU)
        assert newer != before["ImageId"]
        assert unchanged(lab.watched("provision"))
        assert all(call.startswith(LOOKS) for call in lab.calls)
        assert [machine["InstanceId"] for machine in lab.machines()] == [before["InstanceId"]]

    def test_another_rule_is_all_that_changes(self, lab) -> None:
        before = lab.owned()
        lab.watched("provision", ec2_machine_ports=[22, 6006])
        assert set(lab.changing_calls) == {"AuthorizeSecurityGroupIngress"}
        assert {rule["FromPort"] for rule in lab.group()["IpPermissions"]} == {22, 6006}
        lab.watched("provision")
        assert set(lab.changing_calls) == {"RevokeSecurityGroupIngress"}
        assert {rule["FromPort"] for rule in lab.group()["IpPermissions"]} == {22}
        assert lab.owned() == before

    def test_a_lost_or_foreign_key_file_is_one_line_and_nothing_is_overwritten(self, lab) -> None:
        key, aside = lab.keys / "lab.pem", lab.keys / "aside.pem"
        content = key.read_bytes()
        key.rename(aside)
        assert "its private key is not on this computer" in lab.refused("provision")
        assert not key.exists()
        aside.rename(key)
        public = lab.keys / "lab.pem.pub"
        own = public.read_text()
        public.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdu0N3nKGpJ1BYbzEwCVVwlq9dcGmXWYhOuZSpGjSQa other\n")
        assert "with another public key" in lab.refused("provision")
        public.write_text(own)
        assert key.read_bytes() == content

    def test_a_larger_disk_is_all_that_changes_and_a_smaller_one_is_refused(self, lab) -> None:
        before = lab.owned()
        lab.watched("provision", ec2_machine_volume_size=40)
        assert lab.changing_calls == ["ModifyVolume"]
        (volume,) = lab.ec2.describe_volumes(Filters=lab.mine)["Volumes"]
        assert volume["Size"] == 40
        assert lab.owned() == before
        line = lab.refused("provision", ec2_machine_volume_size=30)
        assert re.search(r"ec2_machine_volume_size is 30, .*40", line)

    def test_another_type_stops_the_machine_only_when_allowed(self, lab) -> None:
        (before,) = lab.machines()
        wish = {"ec2_machine_instance_type": "t3.large", "ec2_machine_volume_size": 40}
        line = lab.refused("provision", **wish)
        assert "ec2_machine_instance_type" in line and "ec2_machine_allow_stop=true" in line
        lab.run("provision", ec2_machine_allow_stop=True, **wish)
        (after,) = lab.machines()
        assert (after["InstanceId"], after["InstanceType"], after["State"]["Name"]) == (
            before["InstanceId"],
            "t3.large",
            "running",
        )


class TestMisfortune:
    """Never two machines."""

    @pytest.fixture
    def project(self, cloud, tmp_path, request):
        """A project of its own for each test."""
        project = Project(cloud, request.node.name.split("_")[1], tmp_path)
        yield project
        project.run("teardown", teardown_confirm=False)

    def test_two_runs_at_once_make_one_machine(self, project) -> None:
        with ThreadPoolExecutor() as pool:
            runs = list(pool.map(lambda _: project.run("provision", expect=None), range(2)))
        assert len(project.machines()) == 1, [run.output for run in runs]
        assert 0 in [run.returncode for run in runs]
        project.run("provision")
        assert len(project.machines()) == 1

    def test_lost_answers_make_one_machine(self, project) -> None:
        project.post("faults", dropped_answers=2)
        project.watched("provision")
        assert project.calls.count("RunInstances") == 3
        assert len(project.machines()) == 1

"""Bad input is met by one line that names variable, value and what is right, before anything is made or touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.playbook import Run, play

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]

PROJECT = "clumsy"

#: What is wrong -> the words that its line must hold.
WRONG = {
    "ec2_machine_instance_type": ("t3.medum", "ec2_machine_instance_type is 't3.medum'", "did you mean 't3.medium'"),
    "ec2_machine_image": ("ubunto-24.04", "ec2_machine_image is 'ubunto-24.04'", "did you mean 'ubuntu-24.04'"),
    "ec2_machine_volume_size": (0, "ec2_machine_volume_size is 0", "1 to 16384 GiB"),
    "lightsout_access_cidr": ("203.0.113.0/33", "lightsout_access_cidr is '203.0.113.0/33'", "'203.0.113.7'"),
    "lightsout_lease": ("forever", "lightsout_lease is 'forever'", "'12h'"),
}


@pytest.fixture(scope="module")
def run(cloud, tmp_path_factory):
    """Runs a playbook that must fail on this module's project; no key is there that it could use."""
    keys = tmp_path_factory.mktemp("keys")

    def start(name: str, env: dict[str, str] | None = None, **variables) -> Run:
        everything = {"lightsout_project": PROJECT, "lightsout_key_directory": str(keys), **variables}
        return play(name, {**cloud.env, **(env or {})}, settings=cloud.settings, expect=2, **everything)

    start.keys = keys
    return start


def line_of(done: Run) -> str:
    """The one failure of a run; more or none would be a fault."""
    (line,) = done.failures
    assert "Traceback" not in done.output
    return line


def nothing_there(cloud) -> bool:
    """Whether the account holds nothing of the project."""
    ec2, mine = cloud.client("ec2"), [{"Name": "tag:lightsout:project", "Values": [PROJECT]}]
    return not (
        ec2.describe_instances(Filters=mine)["Reservations"]
        or ec2.describe_key_pairs(Filters=mine)["KeyPairs"]
        or ec2.describe_security_groups(Filters=mine)["SecurityGroups"]
    )


def test_all_wrong_settings_are_told_at_once_a_line_each_and_nothing_is_made(run, cloud) -> None:
    done = run("provision", **{name: value for name, (value, _, _) in WRONG.items()})
    for _, named, right in WRONG.values():
        (line,) = (line for line in done.output.splitlines() if named in line)
        assert right in line
    assert nothing_there(cloud) and not list(run.keys.iterdir())


@pytest.mark.parametrize(
    ("variables", "named", "right"),
    [
        ({"lightsout_region": "us-eats-1"}, "lightsout_region is 'us-eats-1'", "did you mean 'us-east-1'"),
        ({"lightsout_project": ""}, "lightsout_project is empty", "for example 'lab'"),
        (
            {"lightsout_access_cidr": "0.0.0.0/0"},
            "lightsout_access_cidr is '0.0.0.0/0'",
            "ec2_machine_allow_world=true",
        ),
    ],
    ids=["region", "project", "world"],
)
def test_one_wrong_setting_is_one_line(run, cloud, variables, named, right) -> None:
    line = line_of(run("provision", **variables))
    assert named in line and right in line
    assert nothing_there(cloud)


@pytest.mark.parametrize("name", ["check", "configure", "teardown"])
def test_without_credentials_every_playbook_says_how_to_give_them(run, tmp_path: Path, name: str) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    nobody |= {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    line = line_of(run(name, nobody, teardown_confirm=False))
    assert "No AWS credentials were found" in line and "AWS_ACCESS_KEY_ID" in line


def test_a_teardown_never_runs_without_a_projects_name(run) -> None:
    assert "project" in line_of(run("teardown", lightsout_project="", teardown_confirm=False))


def test_a_project_without_a_machine_is_told_how_to_get_one(run) -> None:
    line = line_of(run("jobs", lightsout_project="nobodys"))
    assert "lightsout:project=nobodys" in line and "playbooks/provision.yml" in line


class TestOnAMachine:
    """A machine runs, and must not be touched: no key fits, and nobody may even have asked for its host key."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(cls, cloud):
        ec2 = cloud.client("ec2")
        image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu*24.04*amd64*"]}])["Images"][0][
            "ImageId"
        ]
        tags = [{"Key": "lightsout:project", "Value": PROJECT}, {"Key": "Name", "Value": "clumsy-1"}]
        tagged = [{"ResourceType": "instance", "Tags": tags}]
        made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tagged)["Instances"][0]
        yield
        ec2.terminate_instances(InstanceIds=[made["InstanceId"]])

    @pytest.mark.parametrize(
        ("name", "variables", "named", "right"),
        [
            ("configure", {"jupyter_password": ""}, "jupyter_password: it is empty", "LIGHTSOUT_JUPYTER_PASSWORD"),
            (
                "configure",
                {"jupyter_password": "long enough", "anaconda_installer_checksum": "sha256:12"},
                "anaconda_installer_checksum: 'sha256:12'",
                "64 hexadecimal digits",
            ),
            (
                "configure",
                {"jupyter_password": "long enough", "jupyter_port": 80},
                "jupyter_port: 80",
                "1024 to 65535",
            ),
        ],
        ids=["empty password", "checksum", "port"],
    )
    def test_is_not_touched(self, run, name, variables, named, right) -> None:
        line = line_of(run(name, **variables))
        assert named in line and right in line
        assert not (run.keys / "known_hosts").exists()

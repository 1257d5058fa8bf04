"""The main job from nothing to nothing on the local cloud, with the questions that a user would ask on the way."""

from __future__ import annotations

import json
import subprocess

import boto3
import pytest

from tests.helpers.playbook import play
from tools.jupyter_client import JupyterClient, LoginRefused

PROJECT = "flow"
JOB = "rerank"
PASSWORD = "correct horse 'battery' \"staple\" ünïcode"
MINE = [{"Name": "tag:lightsout:project", "Values": [PROJECT]}]

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def flow(cloud, tmp_path_factory):
    """Runs playbooks on this module's project; keys and results go to a folder of its own."""
    keys, results = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("results")

    def run(name: str, *arguments: str, **variables):
        return play(
            name,
            {**cloud.env, "LIGHTSOUT_JUPYTER_PASSWORD": PASSWORD},
            *arguments,
            settings=cloud.settings,
            lightsout_project=PROJECT,
            lightsout_key_directory=str(keys),
            training_fetch_folder=str(results),
            **variables,
        )

    run.keys, run.results = keys, results
    run.ec2 = boto3.client(
        "ec2",
        endpoint_url=cloud.env["AWS_ENDPOINT_URL"],
        aws_access_key_id=cloud.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud.env["AWS_SECRET_ACCESS_KEY"],
        region_name=cloud.env["AWS_REGION"],
    )
    yield run
    run("teardown", teardown_confirm=False)


def machines(flow) -> list[dict]:
    """The project's machines that live, as EC2 describes them."""
    found = flow.ec2.describe_instances(Filters=MINE)["Reservations"]
    return [i for r in found for i in r["Instances"] if i["State"]["Name"] not in {"terminated", "shutting-down"}]


def ssh(flow, command: str) -> str:
    """What the machine's shell answers."""
    (machine,) = machines(flow)
    options = ["-o", "IdentitiesOnly=yes", "-o", f"HostKeyAlias={machine['InstanceId']}", "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={flow.keys / 'known_hosts'}", "-i", str(flow.keys / f"{PROJECT}.pem")]
    target = f"ubuntu@{machine['PublicIpAddress']}"
    return subprocess.run(["ssh", *options, target, command], check=True, capture_output=True, text=True).stdout


class TestFlow:
    """In the order of the day; each test stands on the ones before it."""

    def test_check_creates_nothing_and_names_the_price(self, flow) -> None:
        run = flow("check")
        assert not machines(flow)
        assert "us-east-1" in run.output and "USD" in run.output

    def test_provision_in_check_mode_creates_nothing(self, flow) -> None:
        flow("provision", "--check")
        assert not machines(flow)
        assert not flow.ec2.describe_key_pairs(Filters=MINE)["KeyPairs"]

    def test_provision_makes_one_tagged_encrypted_imdsv2_machine(self, flow) -> None:
        flow("provision")
        (machine,) = machines(flow)
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        (volume,) = flow.ec2.describe_volumes(Filters=MINE)["Volumes"]
        assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 30)
        assert (flow.keys / f"{PROJECT}.pem").stat().st_mode & 0o777 == 0o400

    def test_second_provision_changes_nothing(self, flow) -> None:
        (before,) = machines(flow)
        run = flow("provision")
        assert set(run.changed.values()) == {0}, run.output
        (after,) = machines(flow)
        assert after["InstanceId"] == before["InstanceId"]

    def test_configure_in_check_mode_changes_nothing_on_a_fresh_machine(self, flow) -> None:
        flow("configure", "--check")
        assert ssh(flow, "ls -d /opt/anaconda3 2>/dev/null || echo none").strip() == "none"

    def test_configure_then_again_changes_nothing(self, flow) -> None:
        flow("configure")
        run = flow("configure")
        assert set(run.changed.values()) == {0}, run.output

    def test_configure_in_check_mode_sees_nothing_to_change_on_a_converged_machine(self, flow) -> None:
        run = flow("configure", "--check", "--diff")
        assert set(run.changed.values()) == {0}, run.output
        assert PASSWORD not in run.output

    def test_jupyter_runs_a_cell_over_verified_tls_and_refuses_a_wrong_password(self, flow) -> None:
        (machine,) = machines(flow)
        certificate = ssh(flow, "cat /etc/lightsout/jupyter/certificate.pem")
        with JupyterClient(f"https://{machine['PublicIpAddress']}:8888", certificate) as jupyter:
            with pytest.raises(LoginRefused):
                jupyter.login(PASSWORD + "x")
            jupyter.login(PASSWORD)
            assert jupyter.run_cell("print(6 * 7)").strip() == "42"

    def test_train_outlives_the_controller_and_results_come_back(self, flow) -> None:
        job = {"training_job": JOB, "training_source": "examples/reranker", "training_command": "python train.py"}
        flow("train", "--check", **job)
        flow("train", **job)
        subprocess.run(["pkill", "-f", f"ssh.*{flow.keys}"], check=False)  # the laptop is closed
        flow("logs", training_job=JOB, training_logs_follow=True)
        assert "succeeded" in flow("jobs").output
        again = flow("train", **job)
        assert set(again.changed.values()) == {0}, again.output
        flow("fetch", training_job=JOB)
        metrics = json.loads((flow.results / JOB / "metrics.json").read_text())
        assert metrics["mrr_at_10_trained"] > metrics["mrr_at_10_untrained"]
        assert set(flow("fetch", training_job=JOB).changed.values()) == {0}

    def test_stop_and_start_keep_the_disk_and_the_jobs(self, flow) -> None:
        (before,) = machines(flow)
        flow("stop")
        assert machines(flow)[0]["State"]["Name"] == "stopped"
        assert set(flow("stop").changed.values()) == {0}
        flow("start")
        (after,) = machines(flow)
        assert (after["InstanceId"], after["State"]["Name"]) == (before["InstanceId"], "running")
        assert "succeeded" in flow("jobs").output
        assert "running" in flow("status").output

    def test_teardown_in_check_mode_deletes_nothing(self, flow) -> None:
        flow("teardown", "--check", teardown_confirm=False)
        assert machines(flow)

    def test_teardown_asks_before_it_deletes(self, flow) -> None:
        run = flow("teardown", expect=None)  # no terminal to answer on
        assert run.returncode != 0
        assert machines(flow)

    def test_teardown_leaves_nothing_and_may_run_twice(self, flow) -> None:
        run = flow("teardown", teardown_confirm=False)
        assert "0 resources left" in run.output
        assert not machines(flow)
        assert not flow.ec2.describe_volumes(Filters=MINE)["Volumes"]
        assert not flow.ec2.describe_security_groups(Filters=MINE)["SecurityGroups"]
        assert not flow.ec2.describe_key_pairs(Filters=MINE)["KeyPairs"]
        assert set(flow("teardown", teardown_confirm=False).changed.values()) == {0}

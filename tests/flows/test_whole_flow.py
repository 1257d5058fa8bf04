"""The main job from nothing to nothing on the local cloud, with the questions that a user would ask on the way."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import urllib.parse
from pathlib import Path

import boto3
import pytest

from tests.helpers.least_privilege import keys_for
from tests.helpers.playbook import play
from tools import controls
from tools.jupyter_client import JupyterClient, LoginRefused

PROJECT, LATER = "flow", "flow-later"
JOB = "rerank"
PASSWORD = "correct horse 'battery' \"staple\" ünïcode"
MINE = [{"Name": "tag:lightsout:project", "Values": [PROJECT]}]

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def flow(cloud, tmp_path_factory):
    """Runs playbooks on this module's project, each as somebody who may do what docs/iam allows, and nothing else.

    Keys and results go to a folder of its own.
    """
    user = functools.cache(functools.partial(keys_for, cloud))
    keys, results = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("results")

    def run(name: str, *arguments: str, without: str = "", **variables):
        return play(
            name,
            {**cloud.env, **user(name, without=without), "LIGHTSOUT_JUPYTER_PASSWORD": PASSWORD},
            *arguments,
            settings=cloud.settings,
            **{
                "lightsout_project": PROJECT,
                "lightsout_key_directory": str(keys),
                "training_fetch_folder": str(results),
                "access_ssh_include": False,
                **variables,
            },
        )

    run.keys, run.results, run.client = keys, results, cloud.client
    run.ec2 = boto3.client(
        "ec2",
        endpoint_url=cloud.env["AWS_ENDPOINT_URL"],
        aws_access_key_id=cloud.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud.env["AWS_SECRET_ACCESS_KEY"],
        region_name=cloud.env["AWS_REGION"],
    )
    yield run
    for project in (PROJECT, LATER, "images"):
        run("teardown", lightsout_project=project, teardown_confirm=False)


def machines(flow) -> list[dict]:
    """The project's machines that live, as EC2 describes them."""
    found = flow.ec2.describe_instances(Filters=MINE)["Reservations"]
    return [i for r in found for i in r["Instances"] if i["State"]["Name"] not in {"terminated", "shutting-down"}]


def ssh(flow, command: str, project: str = PROJECT, machine: dict | None = None, stdin: str = "") -> str:
    """What the machine's shell answers."""
    machine = machine or machines(flow)[0]
    options = ["-o", "IdentitiesOnly=yes", "-o", f"HostKeyAlias={machine['InstanceId']}", "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={flow.keys / 'known_hosts'}", "-i", str(flow.keys / f"{project}.pem")]
    target = f"ubuntu@{machine['PublicIpAddress']}"
    words = ["ssh", *options, target, command]
    return subprocess.run(words, input=stdin, check=True, capture_output=True, text=True).stdout


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

    def test_provision_without_one_of_its_permissions_names_it_and_makes_no_machine(self, flow) -> None:
        run = flow("provision", without="ec2:RunInstances", expect=2)
        assert "ec2:RunInstances" in run.output
        assert not machines(flow)

    def test_provision_makes_one_tagged_encrypted_imdsv2_machine(self, flow) -> None:
        flow("provision")
        (machine,) = machines(flow)
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        (volume,) = flow.ec2.describe_volumes(Filters=MINE)["Volumes"]
        assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 30)
        assert (flow.keys / f"{PROJECT}.pem").stat().st_mode & 0o777 == 0o400

    def test_what_was_made_passes_all_of_our_controls(self, flow) -> None:
        failing = {title: bad for title, bad in controls.offenders(flow.client, PROJECT).items() if bad}
        assert failing == {}
        assert len(controls.present(flow.client, PROJECT)) >= 12

    def test_second_provision_changes_nothing(self, flow) -> None:
        (before,) = machines(flow)
        run = flow("provision")
        assert set(run.changed.values()) == {0}, run.output
        (after,) = machines(flow)
        assert after["InstanceId"] == before["InstanceId"]

    def test_configure_in_check_mode_changes_nothing_on_a_fresh_machine(self, flow) -> None:
        flow("configure", "--check")
        made = "/etc/lightsout /etc/systemd/system/jupyter.service /etc/profile.d/lightsout-anaconda.sh"
        assert ssh(flow, f"ls -d {made} 2>/dev/null || echo none").strip() == "none"

    def test_configure_then_again_changes_nothing(self, flow) -> None:
        flow.told = flow("configure", "-vvv").output
        for task in ("Packages (apt)", "Download the installer"):  # they came at the first boot
            assert task not in flow.told
        run = flow("configure")
        assert set(run.changed.values()) == {0}, run.output

    def test_configure_that_changes_nothing_starts_python_once(self, flow) -> None:
        python = ssh(flow, "readlink --canonicalize /usr/bin/python3").strip()
        counting = (
            f'#!/bin/sh\n[ "$1" = -IS ] || echo >> /var/tmp/starts\nexec {python} "$@"\n'  # -IS: autostop's looks
        )
        ssh(flow, f"printf '{counting}' > python3; sudo install -m 666 /dev/null /var/tmp/starts")
        ssh(flow, "sudo rm /usr/bin/python3; sudo install -m 755 python3 /usr/bin/python3; rm python3")
        flow("configure")
        starts = ssh(flow, f"wc -l < /var/tmp/starts; sudo ln -sf {python} /usr/bin/python3; sudo rm /var/tmp/starts")
        assert int(starts) == 1  # it looks and puts right in one exchange, as the machine is what it was the last time

    def test_configure_in_check_mode_sees_nothing_to_change_on_a_converged_machine(self, flow) -> None:
        run = flow("configure", "--check", "--diff")
        assert set(run.changed.values()) == {0}, run.output
        assert PASSWORD not in run.output

    def test_jupyter_runs_a_cell_over_verified_tls_and_refuses_a_wrong_password(self, flow) -> None:
        certificate = ssh(flow, "cat /etc/lightsout/jupyter/certificate.pem")
        port = re.search(r"https://127\.0\.0\.1:(\d+)/lab", flow("jupyter").output)[1]
        with JupyterClient(f"https://127.0.0.1:{port}", certificate) as jupyter:
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

    def test_only_ssh_listens_to_the_outside_and_only_keys_log_in(self, flow) -> None:
        sockets = ssh(flow, "sudo ss --no-header --numeric --listening --tcp --udp").splitlines()
        outside = {line.split()[4].rpartition(":") for line in sockets}
        inside = ("127.", "[::1]", "169.254.169.254")  # the last is the local cloud's metadata service
        ports = {int(port) for address, _, port in outside if not address.startswith(inside)}
        assert ports == {22}, sockets  # Jupyter listens to the machine itself: the way in is a tunnel
        sshd = ssh(flow, "sudo sshd -T -C user=ubuntu,host=x,addr=192.0.2.1").splitlines()
        assert {"passwordauthentication no", "kbdinteractiveauthentication no", "permitrootlogin no"} <= set(sshd)

    def test_no_secret_is_where_it_does_not_belong(self, flow) -> None:
        pem = (flow.keys / f"{PROJECT}.pem").read_text().splitlines()
        login = pem[3]  # from the middle of the private key
        token = ssh(flow, "sudo cat /run/lightsout-jupyter/token")
        tls = ssh(flow, "sudo sed -n 2p /etc/lightsout/jupyter/private_key.pem").strip()
        password = {PASSWORD, json.dumps(PASSWORD)[1:-1], json.dumps(PASSWORD, ensure_ascii=False)[1:-1]}
        password |= {urllib.parse.quote(PASSWORD), urllib.parse.quote_plus(PASSWORD)}

        def found(secrets: set[str], home: str = "$^") -> list[str]:
            """Where on the machine they are, but in files where they belong."""
            looks = (
                "grep --recursive --binary-files=text --devices=skip --files-with-matches --no-messages --fixed-strings"
                ' --exclude-dir=proc --exclude-dir=sys --file=/dev/stdin / <<< "$secrets";'
                "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
                " | grep --quiet --binary-files=text --fixed-strings"
                " --file=<(cat <<< \"$secrets\") && echo 'a process';"
                "journalctl --output=export --no-pager | grep --quiet --binary-files=text --fixed-strings"
                " --file=<(cat <<< \"$secrets\") && echo 'the journal'; true"
            )
            text = "\n".join(sorted(secrets))
            script = f"secrets=$(cat <<'SECRETS'\n{text}\nSECRETS\n)\n{looks}\n"
            return [
                line
                for line in ssh(flow, "sudo bash -s", stdin=script).split("\n")
                if line and not re.match(home, line)
            ]

        canary = "a-secret-that-lies-about-4711"
        ssh(flow, f"echo {canary} > canary.txt; logger {canary}")
        assert {"/home/ubuntu/canary.txt", "the journal"} <= set(found({canary}))
        assert found(password | {login}) == []
        jupyter = (
            r"/run/lightsout-jupyter/token|/home/ubuntu/.local/share/jupyter/runtime/jpserver-\d+(-open)?\.(json|html)"
        )
        assert found({token}, jupyter) == []
        assert found({tls}, "/etc/lightsout/jupyter/private_key.pem") == []

        everywhere = password | {login, token, tls}
        (machine,) = machines(flow)
        data = flow.ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")
        on_aws = json.dumps(
            [machine, flow.ec2.describe_tags()["Tags"], data["UserData"]], default=str, ensure_ascii=False
        )
        remembered = [path for path in (Path.home() / ".ansible/lightsout").rglob("*") if path.is_file()]
        on_disk = "".join(path.read_text(errors="replace") for path in remembered)
        git = subprocess.run(
            ["git", "grep", "--untracked", "-lF", "-e", login, "-e", token, "-e", tls], capture_output=True, check=False
        )
        assert git.stdout == b""
        for place in (flow.told, on_aws, on_disk):
            assert len(place) > 100
            assert [secret for secret in everywhere if secret in place] == []

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

    def test_an_image_is_refused_while_jobs_are_there_and_then_later_machines_start_ready(self, flow) -> None:
        (machine,) = machines(flow)
        assert f"has jobs ({JOB})" in flow("bake_image", expect=2).output
        ssh(flow, "rm -r jobs && echo 'print(1)' > kept.py")
        flow("bake_image", "--check")
        assert not flow.ec2.describe_images(Owners=["self"])["Images"]
        flow("bake_image")
        (image,) = flow.ec2.describe_images(Owners=["self"])["Images"]
        assert set(flow("configure").changed.values()) != {0}  # its secrets had been taken out

        later = {"lightsout_project": LATER}
        flow("provision", ec2_machine_image=image["ImageId"], **later)
        run = flow("configure", **later)
        assert "Install" not in run.output and "Packages" not in run.output, run.output
        assert set(flow("configure", **later).changed.values()) == {0}
        mine = [{"Name": "tag:lightsout:project", "Values": [LATER]}]
        (copy,) = [i for r in flow.ec2.describe_instances(Filters=mine)["Reservations"] for i in r["Instances"]]
        # Its own identity, the same files, and only its own key lets in.
        assert ssh(flow, "cat kept.py", LATER, copy) == "print(1)\n"
        installed = "stat --format=%Y /opt/anaconda3/.lightsout-installed"
        assert ssh(flow, installed, LATER, copy) == ssh(flow, installed)  # and not once more at the first boot
        for file in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/lightsout/jupyter/certificate.pem"):
            assert ssh(flow, f"cat {file}", LATER, copy) != ssh(flow, f"cat {file}")
        assert ssh(flow, "wc -l < .ssh/authorized_keys", LATER, copy).strip() == "1"
        assert ssh(flow, "id -un").strip() == "ubuntu"  # and the old machine still knows its own
        for project in (LATER, "images"):
            assert "0 resources left" in flow("teardown", lightsout_project=project, teardown_confirm=False).output
        assert machines(flow)[0]["InstanceId"] == machine["InstanceId"]

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

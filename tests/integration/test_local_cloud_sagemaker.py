"""SageMaker on the local cloud as its users see it: notebooks in a browser, and training jobs."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from localcloud import podman
from tests.conftest import Cloud, localcloud
from tests.helpers import browser
from tests.helpers.waiting import until
from tools.jupyter_client import JupyterClient, LoginRefused

pytestmark = pytest.mark.cloud

TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}
WRITE = "from pathlib import Path; Path('/home/ec2-user/SageMaker/kept').write_text('kept'); Path('/tmp/lost').touch()"
READ = "from pathlib import Path; print(Path('/home/ec2-user/SageMaker/kept').read_text(), Path('/tmp/lost').exists())"
ON_CREATE = "#!/bin/bash\nset -e\nid -un > /home/ec2-user/SageMaker/on-create\n"
ON_START = """\
#!/bin/bash
set -e
echo start >> /home/ec2-user/SageMaker/on-start
aws sts get-caller-identity --query Arn --output text
nohup sleep 1000 &
"""


@dataclass
class Ground:
    """What every notebook instance and job of these tests stands on."""

    cloud: Cloud
    sm: Any
    role: str

    def create(self, name: str, **words: Any) -> None:
        self.sm.create_notebook_instance(
            NotebookInstanceName=name, InstanceType="ml.g5.xlarge", RoleArn=self.role, **words
        )

    def config(self, name: str, *, create: str = "", start: str = "") -> str:
        """Make a lifecycle configuration; its name."""
        hooks = {"OnCreate": create, "OnStart": start}
        told = {hook: [{"Content": base64.b64encode(text.encode()).decode()}] for hook, text in hooks.items() if text}
        self.sm.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, **told)
        return name

    def describe(self, name: str) -> dict[str, Any]:
        return self.sm.describe_notebook_instance(NotebookInstanceName=name)

    def settle(self, name: str) -> str:
        """The status of a notebook instance once it changes no more."""
        until(lambda: self.status(name) not in ("Pending", "Stopping", "Deleting", "Updating"), f"{name} settles")
        return self.status(name)

    def status(self, name: str) -> str:
        return self.describe(name)["NotebookInstanceStatus"]

    def link(self, name: str) -> str:
        return self.sm.create_presigned_notebook_instance_url(NotebookInstanceName=name)["AuthorizedUrl"]

    def inside(self, name: str, command: str) -> str:
        """What a command of root's prints in an instance's machine."""
        container = f"localcloud-{self.cloud.name}-us-east-1-notebook-{name}"
        return podman.run("exec", container, "sh", "-c", command)

    def said(self, group: str, stream: str) -> list[str]:
        """What CloudWatch has of the first stream that begins so; nothing where there is none yet."""
        logs = self.cloud.client("logs")
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            return []
        found = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]
        for name in [each["logStreamName"] for each in found[:1]]:
            events = logs.get_log_events(logGroupName=group, logStreamName=name)["events"]
            return [event["message"] for event in events]
        return []


def origin(link: str) -> str:
    """The server that a link leads to."""
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"


@pytest.fixture(scope="module")
def ground(cloud) -> Ground:
    role = cloud.client("iam").create_role(RoleName="sagemaker", AssumeRolePolicyDocument=json.dumps(TRUST))
    cloud.client("s3").create_bucket(Bucket="training")
    return Ground(cloud, cloud.client("sagemaker"), role["Role"]["Arn"])


@pytest.fixture(scope="module")
def notebook(ground) -> Iterator[str]:
    """A notebook instance in service."""
    config = ground.config("both", create=ON_CREATE, start=ON_START)
    options = {"MinimumInstanceMetadataServiceVersion": "2"}
    ground.create("nb", LifecycleConfigName=config, RootAccess="Disabled", InstanceMetadataServiceConfiguration=options)
    assert ground.status("nb") == "Pending"
    assert ground.settle("nb") == "InService", ground.describe("nb").get("FailureReason")
    yield "nb"
    if ground.settle("nb") == "InService":
        ground.sm.stop_notebook_instance(NotebookInstanceName="nb")
        assert ground.settle("nb") == "Stopped"
    ground.sm.delete_notebook_instance(NotebookInstanceName="nb")
    until(lambda: not ground.sm.list_notebook_instances(NameContains="nb")["NotebookInstances"], "nb is gone")
    volumes = podman.run("volume", "ls", "--quiet", "--filter", f"label=localcloud={ground.cloud.name}").split()
    assert not [volume for volume in volumes if volume.endswith("notebook-nb")]


def test_a_notebook_instance_opens_by_its_link_and_by_nothing_else(ground, notebook):
    link = ground.link(notebook)
    address = origin(link)
    for path in ("/", "/lab", "/api/status", "/api/kernels", "/login"):
        assert requests.get(address + path, timeout=30).status_code == 403
    with JupyterClient(address) as stranger, pytest.raises(LoginRefused):
        stranger.follow(link[:-1] + ("0" if link[-1] != "0" else "1"))
    with JupyterClient(address) as user:
        user.follow(link)
        assert user.run_cell("import getpass, os; print(getpass.getuser(), os.getcwd())") == (
            "ec2-user /home/ec2-user/SageMaker\n"
        )
        user.run_cell(WRITE)


@pytest.mark.skipif(not browser.program(), reason="no Chromium: `tools/setup local` installs Debian's")
def test_a_cell_runs_in_a_browser(ground, notebook):
    cell = {"cell_type": "code", "id": "a", "source": "print(6 * 7)", "metadata": {}, "outputs": []}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = {"cells": [{**cell, "execution_count": None}], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    home = "/home/ec2-user/SageMaker"
    ground.inside(notebook, f"echo '{json.dumps(cells)}' > {home}/sum.ipynb; chmod 666 {home}/sum.ipynb")
    with browser.Browser() as page:
        page.go(ground.link(notebook) + "&view=lab")
        page.until("location.pathname === '/lab' && !!document.querySelector('#jp-main-dock-panel')", 120)
        assert "authToken" not in page.ask("location.href")
        page.go(page.ask("location.origin") + "/lab/tree/sum.ipynb")
        page.until("!!document.querySelector('.jp-Notebook .jp-CodeCell .cm-content')", 120)
        # The status bar tells of the kernel of what was clicked on; before it is connected, no button has an effect.
        idle = "document.querySelector('#jp-bottom-panel').innerText.includes('| Idle')"
        until(lambda: page.click(".jp-Notebook .jp-CodeCell .cm-content") or page.ask(idle), "the kernel is ready")
        page.click("[data-jp-item-name=run] jp-button")
        assert page.until("(document.querySelector('.jp-OutputArea-output') || {}).innerText").strip() == "42"


def test_a_program_on_the_machine_finds_what_it_finds_on_sagemaker(ground, notebook):
    told = json.loads(ground.inside(notebook, "cat /opt/ml/metadata/resource-metadata.json"))
    assert told == {"ResourceArn": ground.describe(notebook)["NotebookInstanceArn"], "ResourceName": notebook}
    for kernel in json.loads(ground.inside(notebook, "curl -fsSk https://localhost:8443/api/kernels")):
        assert "execution_state" in kernel
    assert "connections" in json.loads(ground.inside(notebook, "curl -fsSk https://localhost:8443/api/status"))
    assert ground.inside(notebook, "curl -s -o /dev/null -w '%{http_code}' http://localhost:8888/api/kernels") == "403"
    assert ground.inside(notebook, "sudo -u ec2-user sudo -n true 2> /dev/null; echo $?").strip() == "1"
    if "169.254.169.254" in ground.inside(notebook, "ip -o address show lo"):  # not with forwarded ports
        metadata = "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"
        assert ground.inside(notebook, metadata) == "401"  # IMDSv2 only, as was asked for


def test_it_is_stopped_by_itself_and_by_a_schedule_and_its_files_survive(ground, notebook):
    address = origin(ground.link(notebook))
    command = "sudo -u ec2-user aws sagemaker stop-notebook-instance --notebook-instance-name"
    ground.inside(notebook, f"{command} {notebook}")
    assert ground.settle(notebook) == "Stopped"
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=5)
    ground.sm.start_notebook_instance(NotebookInstanceName=notebook)
    assert ground.settle(notebook) == "InService"
    link = ground.link(notebook)
    with JupyterClient(origin(link)) as user:
        user.follow(link)
        assert user.run_cell(READ) == "kept False\n"
    assert ground.inside(notebook, "cd /home/ec2-user/SageMaker; cat on-create on-start") == "root\nstart\nstart\n"
    identity = ground.said("/aws/sagemaker/NotebookInstances", f"{notebook}/LifecycleConfigOnStart")
    assert [":assumed-role/sagemaker/" in line for line in identity] == [True, True]
    when = datetime.now(UTC) + timedelta(seconds=1)
    ground.cloud.client("scheduler").create_schedule(
        Name="stop-nb",
        ScheduleExpression=f"at({when:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        ActionAfterCompletion="DELETE",
        Target={
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:stopNotebookInstance",
            "RoleArn": ground.role,
            "Input": json.dumps({"NotebookInstanceName": notebook}),
        },
    )
    until(lambda: ground.status(notebook) == "Stopped", "the schedule stops the notebook instance")
    shown = localcloud("status", "--state-dir", str(ground.cloud.state_dir)).stdout
    (row,) = (line.split() for line in shown.splitlines() if line.startswith(f"{notebook} "))
    assert row == [notebook, "(notebook", "instance)", "ml.g5.xlarge", "Stopped"]


def test_lifecycle_scripts_that_go_wrong_fail_the_instance_and_say_so(ground):
    scripts = {
        "exits": ("#!/bin/sh\necho so long\nexit 3\n", "ended with exit status 3"),
        "crlf": ("#!/bin/bash\r\necho never\r\n", "ended with exit status"),
    }
    for name, (script, _) in scripts.items():
        ground.create(name, LifecycleConfigName=ground.config(name, start=script))
    for name, (_, reason) in scripts.items():
        assert ground.settle(name) == "Failed"
        assert reason in ground.describe(name)["FailureReason"]
        assert not [each for each in ground.cloud.containers() if each.endswith(f"-{name}")]
        ground.sm.delete_notebook_instance(NotebookInstanceName=name)
    assert ground.said("/aws/sagemaker/NotebookInstances", "exits/LifecycleConfigOnStart") == ["so long"]
    for name in scripts:
        gone = lambda name=name: not ground.sm.list_notebook_instances(NameContains=name)["NotebookInstances"]  # noqa: E731
        until(gone, f"{name} is deleted")


# -- training jobs ----------------------------------------------------------------------------------------------------
def train(ground: Ground, name: str, script: str, count: int = 1, **words: Any) -> dict[str, Any]:
    """Run a training job to its end; what Describe says then."""
    ground.cloud.client("s3").put_object(Bucket="training", Key=f"code/{name}/run.sh", Body=script.encode())
    channels = {"train": "s3://training/data", "code": f"s3://training/code/{name}"}
    ground.sm.create_training_job(
        TrainingJobName=name,
        RoleArn=ground.role,
        AlgorithmSpecification={
            "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/any:1",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["bash"],
            "ContainerArguments": ["/opt/ml/input/data/code/run.sh"],
        },
        InputDataConfig=[
            {"ChannelName": channel, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}
            for channel, uri in channels.items()
        ],
        OutputDataConfig={"S3OutputPath": "s3://training/out"},
        ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": count, "VolumeSizeInGB": 10},
        **{"StoppingCondition": {"MaxRuntimeInSeconds": 600}, **words},
    )
    if name == "spot":
        until(lambda: ground.said("/aws/sagemaker/TrainingJobs", "spot/") == ["ready"], "it runs")
        localcloud("interrupt", name, "--state-dir", str(ground.cloud.state_dir))
    if name == "stopped":
        until(lambda: ground.said("/aws/sagemaker/TrainingJobs", "stopped/") == ["ready"], "it runs")
        ground.sm.stop_training_job(TrainingJobName=name)
    until(lambda: describe(ground, name)["TrainingJobStatus"] not in ("InProgress", "Stopping"), f"{name} ends")
    return describe(ground, name)


def describe(ground: Ground, name: str) -> dict[str, Any]:
    return ground.sm.describe_training_job(TrainingJobName=name)


HELLO = """\
set -e
python -c 'import numpy, json; print(json.load(open("/opt/ml/input/config/hyperparameters.json"))["lr"])'
cp /opt/ml/input/data/train/a.csv /opt/ml/model/
echo "$COLOR $(cat /opt/ml/checkpoints/step) $(aws s3 cp s3://training/data/a.csv -)"
"""
PAIR = """\
set -e
if [ "$(hostname)" = algo-1 ]; then
  python -m http.server 8000 --directory /opt/ml/input/config > /tmp/log 2>&1 &
  until grep GET /tmp/log; do sleep 0.2; done
else
  until curl -fs http://algo-1:8000/resourceconfig.json; do sleep 0.2; done
fi
"""
LONG = "trap 'echo 7 > /opt/ml/checkpoints/step; exit 0' TERM; echo ready; sleep 600 & wait"
AGAIN = "[ ! -e /opt/ml/checkpoints/step ] || { cp /opt/ml/checkpoints/step /opt/ml/model/; exit 0; }\n" + LONG


def test_training_jobs_get_their_data_and_give_back_what_they_made(ground):
    s3, checkpoints = ground.cloud.client("s3"), {"CheckpointConfig": {"S3Uri": "s3://training/checkpoints"}}
    s3.put_object(Bucket="training", Key="data/a.csv", Body=b"1,2")
    s3.put_object(Bucket="training", Key="checkpoints/step", Body=b"6")
    jobs: dict[str, tuple[str, dict[str, Any]]] = {
        "fine": (HELLO, {"HyperParameters": {"lr": "0.5"}, "Environment": {"COLOR": "red"}, **checkpoints}),
        "fails": ("echo no luck > /opt/ml/output/failure; exit 3", {}),
        "pair": (PAIR, {"count": 2}),
        "stopped": (LONG, {"CheckpointConfig": {"S3Uri": "s3://training/other"}}),
        "long": (LONG, {"StoppingCondition": {"MaxRuntimeInSeconds": 1}}),
        "spot": (
            AGAIN,
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
                "CheckpointConfig": {"S3Uri": "s3://training/spot"},
            },
        ),
    }
    with ThreadPoolExecutor() as pool:
        begun = {name: pool.submit(train, ground, name, script, **words) for name, (script, words) in jobs.items()}
        ended = {name: job.result() for name, job in begun.items()}
    found = {name: (job["TrainingJobStatus"], job["SecondaryStatus"]) for name, job in ended.items()}
    assert found == {
        "fine": ("Completed", "Completed"),
        "fails": ("Failed", "Failed"),
        "pair": ("Completed", "Completed"),
        "stopped": ("Stopped", "Stopped"),
        "long": ("Stopped", "MaxRuntimeExceeded"),
        "spot": ("Completed", "Completed"),
    }, {name: job.get("FailureReason") for name, job in ended.items()}
    assert ended["fails"]["FailureReason"] == "AlgorithmError: no luck, exit code: 3"
    assert ground.said("/aws/sagemaker/TrainingJobs", "fine/") == ["0.5", "red 6 1,2"]
    assert '"current_host": "algo-1"' in ground.said("/aws/sagemaker/TrainingJobs", "pair/algo-2")[0]
    assert s3.get_object(Bucket="training", Key="other/step")["Body"].read() == b"7\n"
    assert "Interrupted" in [step["Status"] for step in ended["spot"]["SecondaryStatusTransitions"]]
    for name, file, content in (("fine", "a.csv", b"1,2"), ("spot", "step", b"7\n")):
        model = s3.get_object(Bucket="training", Key=f"out/{name}/output/model.tar.gz")["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(model)) as archive:
            assert archive.extractfile(file).read() == content
    assert not [name for name in ground.cloud.containers() if "-training-" in name]

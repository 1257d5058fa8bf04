"""SageMaker's training jobs as containers: the contract of ``/opt/ml``, S3 in and out, logs, an end in time.

Every image name runs the same image: the local cloud's own, with its Anaconda's Python.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from localcloud import podman, sagemaker_image
from localcloud.imds import credentials
from localcloud.network import Network
from localcloud.sagemaker import Record
from localcloud.sagemaker_machines import mac_of, role_of, write_log
from localcloud.sagemaker_training import Job
from localcloud.settings import ACCESS_KEY, SECRET_KEY, Settings

#: Seconds between SIGTERM and SIGKILL.
GRACE = 120

#: Seconds between two looks at a job that runs, and between two uploads of its checkpoints.
LOOK_EVERY, SYNC_EVERY = 0.3, 2.0

#: The end of machines that were taken away, which is none of their job's.
INTERRUPTED = "Interrupted"

LOG_GROUP = "/aws/sagemaker/TrainingJobs"

#: Where a job's programs are found; it may say otherwise.
PATH = "/home/ec2-user/anaconda3/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class JobFailed(Exception):
    """The text is the FailureReason."""


@dataclass
class Host:
    """One of a job's machines.

    Attributes:
        name: ``algo-1``.
        folder: what is ``/opt/ml`` in its container.
        process: runs as long as the container does, and has its exit status.
    """

    name: str
    container: str
    address: str
    folder: Path
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None

    def code(self) -> int | None:
        """The exit status, once there is one."""
        return self.process.poll() if self.process else None


@dataclass
class Bucket:
    """S3, as jobs see it."""

    client: Any
    seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @staticmethod
    def place(uri: str) -> tuple[str, str]:
        """Bucket and key of an address."""
        parts = urlsplit(uri)
        return parts.netloc, parts.path.lstrip("/")

    def keys(self, uri: str) -> Iterator[tuple[str, str]]:
        """Each object below an address: its key, and what is left of that below the address."""
        bucket, prefix = self.place(uri)
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                key = found["Key"]
                if not key.endswith("/"):
                    yield key, key[len(prefix) :].lstrip("/") or key.rpartition("/")[2]

    def download(self, uri: str, folder: Path, part: tuple[int, int] = (0, 1)) -> int:
        """Fetch what is below an address, or every n-th of it; how many objects there were."""
        folder.mkdir(parents=True, exist_ok=True)
        first, step = part
        chosen = sorted(self.keys(uri))[first::step]
        for key, rest in chosen:
            target = folder / rest
            target.parent.mkdir(parents=True, exist_ok=True)
            self.client.download_file(self.place(uri)[0], key, str(target))
        return len(chosen)

    def upload_new(self, folder: Path, uri: str) -> None:
        """Send what has changed since the last time."""
        bucket, prefix = self.place(uri)
        for file in [each for each in folder.rglob("*") if each.is_file()]:
            status = file.stat()
            mark = (status.st_mtime_ns, status.st_size)
            if self.seen.get(file) != mark:
                self.client.upload_file(
                    str(file), bucket, f"{prefix.rstrip('/')}/{file.relative_to(folder)}".lstrip("/")
                )
                self.seen[file] = mark

    def upload_archive(self, folders: list[Path], uri: str) -> None:
        """Send what is in these folders as one archive."""
        bucket, key = self.place(uri)
        memory = io.BytesIO()
        with tarfile.open(fileobj=memory, mode="w:gz") as archive:
            for folder in folders:
                for file in sorted(folder.iterdir()):
                    archive.add(file, file.name)
        memory.seek(0)
        self.client.upload_fileobj(memory, bucket, key)


class TrainingMachines:
    """Runs the jobs of one cloud."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self._settings = settings
        self._network = network

    def run(self, job: Job) -> str:
        """Run a job to its end.

        Raises:
            JobFailed: with SageMaker's words.
        """
        values = job.record.values
        store = Bucket(
            boto3.client(
                "s3",
                endpoint_url=self._settings.endpoint,
                region_name=job.record.region,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
            )
        )
        count = values["ResourceConfig"]["InstanceCount"]
        if count > 1 and self._network.kind == "forward":
            raise JobFailed("InternalServerError: with the network 'forward' the local cloud runs one instance a job.")
        image = sagemaker_image.ensure_image()
        while (end := self._attempt(job, count, image, store)) == INTERRUPTED:
            job.interrupted.clear()
            job.enter("Starting", "Preparing the instances for training again")
        return end

    def _attempt(self, job: Job, count: int, image: str, store: Bucket) -> str:
        """Run it until it ends, or its machines are taken away."""
        hosts = [self._host(job, number) for number in range(1, count + 1)]
        try:
            job.enter("Downloading", "Downloading input data")
            for index, host in enumerate(hosts):
                self._prepare(job, hosts, host, index, store)
            return self._train(job, hosts, image, store)
        finally:
            for host in hosts:
                podman.run("rm", "--force", "--time", "0", host.container, check=False)
            shutil.rmtree(hosts[0].folder.parent, ignore_errors=True)

    # -- before -------------------------------------------------------------------------------------------------------
    def _host(self, job: Job, number: int) -> Host:
        name = f"algo-{number}"
        container = f"localcloud-{self._settings.name}-{job.record.region}-training-{job.name}-{name}"
        folder = self._settings.seeds / f"{job.record.region}-training-{job.name}" / name
        return Host(name, container, self._network.new_address(), folder)

    @staticmethod
    def _prepare(job: Job, hosts: list[Host], host: Host, index: int, store: Bucket) -> None:
        """Fill the folder that becomes ``/opt/ml``.

        Raises:
            JobFailed: there is no such data.
        """
        values = job.record.values
        for name in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
            (host.folder / name).mkdir(parents=True)
        kind, names = values["ResourceConfig"]["InstanceType"], [each.name for each in hosts]
        group = {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": names}
        channels = values.get("InputDataConfig", [])
        mode = values["AlgorithmSpecification"].get("TrainingInputMode", "File")
        files = {
            "hyperparameters": values.get("HyperParameters", {}),
            "resourceconfig": {
                "current_host": host.name,
                "current_instance_type": kind,
                "current_group_name": "homogeneousCluster",
                "hosts": names,
                "instance_groups": [group],
                "network_interface_name": "eth0",
            },
            "inputdataconfig": {channel["ChannelName"]: _told(channel, mode) for channel in channels},
        }
        for name, content in files.items():
            (host.folder / f"input/config/{name}.json").write_text(json.dumps(content))
        for channel in channels:
            source = channel["DataSource"]["S3DataSource"]
            part = (index, len(hosts)) if source.get("S3DataDistributionType") == "ShardedByS3Key" else (0, 1)
            _fetch(store, source["S3Uri"], host.folder / "input/data" / channel["ChannelName"], part)
        if checkpoints := values.get("CheckpointConfig"):
            _fetch(store, checkpoints["S3Uri"], host.folder / "checkpoints", (0, 1), empty=True)

    # -- while it runs ------------------------------------------------------------------------------------------------
    def _train(self, job: Job, hosts: list[Host], image: str, store: Bucket) -> str:
        values = job.record.values
        stream_time = int(time.time())
        if not job.stopping.is_set():
            job.enter("Training", "Training image download completed. Training in progress.")
            for host in hosts:
                self._start(job, hosts, host, image, f"{job.name}/{host.name}-{stream_time}")
        end = self._until_the_end(job, hosts, store)
        for host in hosts:
            if host.reader:
                host.reader.join(timeout=10)
        output = values["OutputDataConfig"]["S3OutputPath"].rstrip("/") + f"/{job.name}/output"
        if end == INTERRUPTED:
            job.enter(INTERRUPTED, "The spot instances were taken away")
        else:
            job.enter("Uploading", "Uploading generated training model")
        try:
            self._keep_checkpoints(values, hosts, store)
            if end == INTERRUPTED:
                return end
            store.upload_archive([host.folder / "output/data" for host in hosts], f"{output}/output.tar.gz")
            failed = [host for host in hosts if end == "Completed" and host.code()]
            if failed:
                raise JobFailed(_reason(failed))
            store.upload_archive([host.folder / "model" for host in hosts], f"{output}/model.tar.gz")
        except ClientError as error:
            raise JobFailed(f"ClientError: Artifact upload failed:{error}") from error
        return end

    def _start(self, job: Job, hosts: list[Host], host: Host, image: str, stream: str) -> None:
        """Run the job's command on one of its machines, and keep what it says."""
        values = job.record.values
        algorithm = values["AlgorithmSpecification"]
        entrypoint = algorithm.get("ContainerEntrypoint") or ["train"]
        variables = {
            "PATH": PATH,
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.record.arn,
            **self._access(job.record),
            **values.get("Environment", {}),
        }
        host.process = podman.begin(
            "run",
            *("--name", host.container),
            *("--hostname", host.name),
            *("--label", f"{podman.LABEL}={self._settings.name}"),
            *("--stop-signal", "SIGTERM"),
            *("--systemd", "false"),
            *self._network.options,
            *self._network.address_options(host.address, mac_of(host.address)),
            *(word for other in hosts if other is not host for word in ("--add-host", f"{other.name}:{other.address}")),
            *(word for name, value in variables.items() for word in ("--env", f"{name}={value}")),
            *("--volume", f"{host.folder}:/opt/ml"),
            *("--workdir", "/opt/ml"),
            *("--entrypoint", json.dumps(entrypoint)),
            image,
            *algorithm.get("ContainerArguments", []),
        )

        def read() -> None:
            for line in host.process.stdout:
                write_log(job.record, LOG_GROUP, stream, [line.rstrip("\n")])

        host.reader = threading.Thread(target=read, name=stream, daemon=True)
        host.reader.start()

    def _access(self, record: Record) -> dict[str, str]:
        """The variables by which AWS tools find this cloud, as the job's role."""
        given = json.loads(credentials(role_of(record))())
        return {
            "AWS_ENDPOINT_URL": f"http://{self._network.gateway}:{self._settings.port}",
            "AWS_REGION": record.region,
            "AWS_DEFAULT_REGION": record.region,
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["Token"],
        }

    def _until_the_end(self, job: Job, hosts: list[Host], store: Bucket) -> str:
        """Until all machines have ended: by themselves, because one failed, in time, or because somebody wanted it."""
        values, began, synced = job.record.values, time.monotonic(), time.monotonic()
        condition = values["StoppingCondition"]
        limits = {"MaxRuntimeExceeded": condition["MaxRuntimeInSeconds"]}
        if "MaxWaitTimeInSeconds" in condition:
            limits["MaxWaitTimeExceeded"] = condition["MaxWaitTimeInSeconds"]
        while True:
            now = time.monotonic()
            passed = {"MaxRuntimeExceeded": job.ran + now - began, "MaxWaitTimeExceeded": now - job.begun}
            over = next((name for name, seconds in limits.items() if passed[name] > seconds), None)
            if job.stopping.is_set() or over:
                self._stop(hosts)
                return over or "Stopped"
            if job.interrupted.is_set():
                self._stop(hosts)
                job.ran += time.monotonic() - began
                return INTERRUPTED
            codes = [host.code() for host in hosts]
            if None not in codes or any(codes):
                self._stop([host for host in hosts if host.code() is None])
                return "Completed"
            if time.monotonic() - synced > SYNC_EVERY:
                self._keep_checkpoints(values, hosts, store)
                synced = time.monotonic()
            job.stopping.wait(LOOK_EVERY)

    @staticmethod
    def _keep_checkpoints(values: dict[str, Any], hosts: list[Host], store: Bucket) -> None:
        """What the machines wrote there since the last time goes to S3."""
        for host in hosts if values.get("CheckpointConfig") else []:
            store.upload_new(host.folder / "checkpoints", values["CheckpointConfig"]["S3Uri"])

    @staticmethod
    def _stop(hosts: list[Host]) -> None:
        """SIGTERM, and SIGKILL for who is still there after two minutes."""
        running = [host for host in hosts if host.code() is None and host.process]
        if running:
            with ThreadPoolExecutor(len(running)) as pool:
                list(
                    pool.map(
                        lambda host: podman.run("stop", "--time", str(GRACE), host.container, check=False), running
                    )
                )
            for host in running:
                host.process.wait(timeout=GRACE)


def _told(channel: dict[str, Any], mode: str) -> dict[str, str]:
    """What ``inputdataconfig.json`` says of a channel."""
    source = channel["DataSource"]["S3DataSource"]
    return {
        "TrainingInputMode": channel.get("InputMode") or mode,
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }


def _fetch(store: Bucket, uri: str, folder: Path, part: tuple[int, int], *, empty: bool = False) -> None:
    """Download a channel.

    Raises:
        JobFailed: there is nothing, and ``empty`` does not allow that.
    """
    try:
        found = store.download(uri, folder, part)
    except ClientError as error:
        raise JobFailed(f"ClientError: Data download failed:{error}") from error
    if not found and not empty and part[0] == 0:
        raise JobFailed(f"ClientError: Data download failed:NoSuchKey (404): No objects found under {uri}")


def _reason(failed: list[Host]) -> str:
    """Why a job failed, in the words of the first machine that left some."""
    code = failed[0].code()
    for host in failed:
        file = host.folder / "output/failure"
        if file.exists() and (said := file.read_text(errors="replace").strip()):
            return f"AlgorithmError: {said[:1000]}, exit code: {host.code()}"
    return f"AlgorithmError: , exit code: {code}"

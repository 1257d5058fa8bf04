"""The image of SageMaker's machines: the local cloud's, with the local Anaconda, Jupyter's doors and the AWS CLI.

Notebook instances and training jobs run it, whatever image they name.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from pathlib import Path

from localcloud import anaconda, images, podman
from localcloud.podman import PodmanError

NAME = "localhost/lightsout-sagemaker"
PARTS = Path(__file__).resolve().parent

#: What is put in; a change makes another image.
CONTENTS = [PARTS / name for name in ("door.py", "jupyter_server_config.json", "jupyter-server.service")]
CONTENTS += [PARTS / "requirements.txt"]

#: Runs in a container of the machine image, as root.
BUILD = """
set -eu
touch /etc/cloud/cloud-init.disabled
systemctl mask --quiet ssh.service ssh.socket
useradd --create-home --shell /bin/bash --uid 1000 ec2-user
mkdir -p /home/ec2-user/SageMaker /opt/ml /opt/sagemaker
bash /installer.sh -b -p /home/ec2-user/anaconda3 > /dev/null
chown -R ec2-user: /home/ec2-user
python3 -m venv --without-pip /opt/aws 2>/dev/null || /home/ec2-user/anaconda3/bin/python -m venv --without-pip /opt/aws
/uv pip install --quiet --no-cache --python /opt/aws/bin/python --require-hashes -r /parts/requirements.txt
ln -s /opt/aws/bin/aws /usr/local/bin/aws
cp /parts/door.py /parts/jupyter_server_config.json /opt/sagemaker/
cp /parts/jupyter-server.service /etc/systemd/system/
/home/ec2-user/anaconda3/bin/python -m compileall -q /opt/sagemaker /opt/aws/lib
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout /opt/sagemaker/key.pem -out /opt/sagemaker/cert.pem 2> /dev/null
cat /opt/sagemaker/key.pem /opt/sagemaker/cert.pem > /opt/sagemaker/localhost.pem
rm /opt/sagemaker/key.pem /opt/sagemaker/cert.pem
chown ec2-user: /opt/sagemaker/localhost.pem
"""


def ensure_image() -> str:
    """The image's reference; builds it when it is not there yet (about half a minute).

    Raises:
        PodmanError: it cannot be built; the text says why.
    """
    machine = images.ensure_machine_image()
    installer = anaconda.ensure_installer()
    digest = hashlib.sha256("\n".join([machine, installer.name, BUILD]).encode())
    for file in CONTENTS:
        digest.update(file.read_bytes())
    reference = f"{NAME}:{digest.hexdigest()[:12]}"
    if not images.exists(reference):
        with (podman.CACHE / "sagemaker.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and finds it built
            if not images.exists(reference):
                _build(reference, machine, installer)
    return reference


def _build(reference: str, machine: str, installer: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise PodmanError("uv is not installed: run `make setup-local`")
    began = time.monotonic()
    print(f"Building the image of SageMaker's machines {reference}; once only …", flush=True)
    name = f"lightsout-sagemaker-build-{reference.rpartition(':')[2]}"
    mounts = [f"{PARTS}:/parts:ro", f"{Path(uv).resolve()}:/uv:ro", f"{installer}:/installer.sh:ro"]
    podman.run("rm", "--force", name, check=False)
    try:
        podman.run(
            "run",
            "--interactive",
            *("--name", name),
            *(word for mount in mounts for word in ("--volume", mount)),
            *anaconda.trust(),
            machine,
            *("sh", "-s"),
            input=BUILD,
        )
        # It runs as the machine image does, without what the build was told.
        changes = ['CMD ["/sbin/init"]', "ENV SSL_CERT_FILE="]
        podman.run("commit", "--quiet", *(word for each in changes for word in ("--change", each)), name, reference)
    finally:
        podman.run("rm", "--force", "--time", "0", name, check=False)
    print(f"Built in {time.monotonic() - began:.0f} s.", flush=True)

"""What every contender does: the end state of ``playbooks/configure.yml``, taken from a machine that it has made."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cloud import Cloud, Machine

PREFIX = "/opt/anaconda3"
PACKAGES = "acl bzip2 ca-certificates curl openssl python3-cryptography python3-packaging rsync screen".split()  # noqa: SIM905
JUPYTER = "/etc/lightsout/jupyter"
UNIT = "/etc/systemd/system/jupyter.service"

#: path -> mode, owner, group; in the order in which they are made.
FOLDERS = {
    "/etc/lightsout": ("0755", "root", "root"),
    JUPYTER: ("0750", "root", "ubuntu"),
    "/home/ubuntu/notebooks": ("0755", "ubuntu", "ubuntu"),
}
FILES = {
    "/etc/profile.d/lightsout-anaconda.sh": ("0644", "root", "root"),
    "/etc/lightsout/anaconda.env": ("0644", "root", "root"),
    f"{JUPYTER}/jupyter_server_config.json": ("0640", "root", "ubuntu"),
    f"{JUPYTER}/migrated": ("0644", "root", "root"),
    UNIT: ("0644", "root", "root"),
    "/usr/local/bin/lightsout-job": ("0755", "root", "root"),
    "/etc/systemd/system/lightsout-job@.service": ("0644", "root", "root"),
}

#: What changes when somebody spoils a machine: one file's content, another's mode, and the service.
SPOIL = f"""
echo '# spoiled' >> {UNIT}
chmod 0777 /etc/lightsout/anaconda.env
systemctl stop jupyter.service
"""

#: Takes it all off again, but for packages and Anaconda.
UNDO = f"""
set -e
systemctl disable --quiet --now jupyter.service
rm -rf {" ".join([*FILES, *FOLDERS])}
sed -i '/BEGIN Anaconda/,/END Anaconda/d' /etc/bash.bashrc
systemctl daemon-reload
sync
"""

#: Prints the state that must be the same whoever made it. Keys and certificates differ; that they fit is said.
STATE = f"""
cd {JUPYTER}
sha256sum {" ".join(FILES)}
stat --format '%a %U %G %n' {" ".join([*FOLDERS, *FILES])} certificate.pem private_key.pem
cmp <(openssl x509 -in certificate.pem -noout -pubkey) <(openssl pkey -in private_key.pem -pubout) && echo pair fits
openssl x509 -in certificate.pem -noout -checkend 2592000
grep --count 'BEGIN Anaconda on the PATH' /etc/bash.bashrc
systemctl is-active jupyter.service; systemctl is-enabled jupyter.service
cat {PREFIX}/.lightsout-installed
dpkg-query --show --showformat='${{Package}} ${{db:Status-Status}}\\n' {" ".join(PACKAGES)}
for try in $(seq 50); do curl --insecure --silent --output /dev/null --write-out '%{{http_code}}\\n' \
  https://127.0.0.1:8888/api && break; sleep 0.2; done
"""


@dataclass(frozen=True)
class Work:
    """The work, with everything that it needs.

    Attributes:
        installer: Anaconda's URL; its SHA-256 without ``sha256:`` is ``checksum``.
        contents: of FILES.
        hash: of Jupyter's password.
    """

    installer: str
    checksum: str
    hash: str
    contents: dict[str, bytes]

    def variables(self) -> dict[str, Any]:
        """For contenders that read JSON."""
        files = [
            {"path": path, "mode": mode, "owner": owner, "group": group, "text": self.contents[path].decode()}
            for path, (mode, owner, group) in FILES.items()
        ]
        folders = [{"path": p, "mode": m, "owner": o, "group": g} for p, (m, o, g) in FOLDERS.items()]
        return {
            "packages": PACKAGES,
            "prefix": PREFIX,
            "installer": self.installer,
            "checksum": self.checksum,
            "folders": folders,
            "files": files,
            "jupyter": JUPYTER,
            "unit": UNIT,
        }


def taken_from(cloud: Cloud, machine: Machine, installer: str, checksum: str, hash: str) -> Work:
    """The work that makes another machine like this one."""
    contents = {path: base64.b64decode(cloud.ssh(machine, f"sudo base64 {path}").stdout) for path in FILES}
    return Work(installer, checksum, hash, contents)


def state(cloud: Cloud, machine: Machine) -> str:
    """What STATE prints there."""
    return cloud.ssh(machine, "sudo bash -s", input=STATE, check=False).stdout


def save(work: Work, folder: Path) -> Path:
    """The work as a file of variables."""
    file = folder / "work.json"
    file.write_text(json.dumps(work.variables()))
    return file

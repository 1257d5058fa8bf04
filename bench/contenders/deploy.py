"""The same in pyinfra's words: its operations, and a fact for the pair that no operation knows."""

import io
import json
import os
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase
from pyinfra.operations import apt, files, server, systemd

work = json.loads(Path(os.environ["BENCH_WORK"]).read_text())


class AnacondaIsRight(FactBase):
    """Whether the installation is the one that is wanted."""

    def command(self, prefix: str, checksum: str) -> str:
        return (
            f'test "$(cat {prefix}/.lightsout-installed 2>/dev/null)" = "sha256:{checksum}" && '
            f"test -x {prefix}/bin/python && test -e {prefix}/conda-meta/history && echo yes || echo no"
        )

    def process(self, output):
        return list(output) == ["yes"]


class PairIsRight(FactBase):
    """Whether key and certificate are there, fit, last, and are for this address."""

    def command(self, folder: str, address: str) -> str:
        return (
            f"cd {folder} 2>/dev/null && openssl x509 -in certificate.pem -noout -checkend 2592000 >/dev/null 2>&1 "
            '&& test "$(openssl x509 -in certificate.pem -noout -pubkey)" '
            '= "$(openssl pkey -in private_key.pem -pubout)" && '
            f"openssl x509 -in certificate.pem -noout -ext subjectAltName | grep --quiet 'IP Address:{address},' "
            "&& echo yes || echo no"
        )

    def process(self, output):
        return list(output) == ["yes"]


address = host.data.address
prefix, jupyter = work["prefix"], work["jupyter"]

apt.packages(packages=work["packages"], no_recommends=True, update=True, cache_time=3600, _sudo=True)

if not host.get_fact(AnacondaIsRight, prefix=prefix, checksum=work["checksum"], _sudo=True):
    files.download(src=work["installer"], dest="/opt/installer.sh", sha256sum=work["checksum"], mode="0755", _sudo=True)
    files.directory(path=prefix, user="ubuntu", group="ubuntu", mode="0755", _sudo=True)
    server.shell(
        commands=[
            f"bash /opt/installer.sh -b -u -p {prefix} >/dev/null",
            f"{prefix}/bin/python -c ''",
            f"echo sha256:{work['checksum']} > {prefix}/.lightsout-installed",
        ],
        _sudo=True,
        _sudo_user="ubuntu",
    )
    files.file(path="/opt/installer.sh", present=False, _sudo=True)

for folder in work["folders"]:
    files.directory(path=folder["path"], mode=folder["mode"], user=folder["owner"], group=folder["group"], _sudo=True)
put = {
    file["path"]: files.put(
        src=io.StringIO(file["text"]),
        dest=file["path"],
        mode=file["mode"],
        user=file["owner"],
        group=file["group"],
        _sudo=True,
    )
    for file in work["files"]
}
files.block(
    path="/etc/bash.bashrc",
    content=". /etc/profile.d/lightsout-anaconda.sh",
    marker="# {mark} Anaconda on the PATH",
    try_prevent_shell_expansion=True,
    before=True,
    line="# System-wide .bashrc file.*",
    _sudo=True,
)
pair_is_right = host.get_fact(PairIsRight, folder=jupyter, address=address, _sudo=True)
if not pair_is_right:
    server.shell(
        commands=[
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 825 "
            f"-subj /CN={address} -addext subjectAltName=IP:{address},DNS:localhost,IP:127.0.0.1 "
            f"-keyout {jupyter}/private_key.pem -out {jupyter}/certificate.pem 2>/dev/null",
            f"chown root:ubuntu {jupyter}/private_key.pem && chmod 0640 {jupyter}/private_key.pem",
        ],
        _sudo=True,
    )
service = systemd.service(
    service="jupyter.service",
    running=True,
    enabled=True,
    daemon_reload=put[work["unit"]].will_change,
    restarted=put[work["unit"]].will_change
    or put[f"{jupyter}/jupyter_server_config.json"].will_change
    or not pair_is_right,
    _sudo=True,
)
server.shell(
    name="Wait for Jupyter",
    commands=[
        "for i in $(seq 150); do curl -ks -o /dev/null https://127.0.0.1:8888/api && exit 0; sleep 0.2; done; exit 1"
    ],
    _if=service.did_change,
)

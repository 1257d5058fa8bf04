#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ssh_tunnel
version_added: 0.2.0
short_description: A tunnel from this computer to an HTTPS server on a machine
description:
  - Opens C(ssh -L) in the background, and is done when the server at its other end answers.
  - A tunnel that is open and leads somewhere is left alone. One that leads nowhere any more, as the machine has another
    address now, is opened anew.
  - The tunnel is a control master of ssh. Its socket, whose name holds the port, is all that is remembered.
options:
  host:
    description:
      - The machine, as the ssh configuration names it.
    type: str
    required: true
  config:
    description:
      - The ssh configuration, as C(ssh -F). The user's own is not read.
    type: path
    required: true
  directory:
    description:
      - A folder that nobody else can write to, for the socket.
    type: path
    required: true
  remote_port:
    description:
      - The server's port on the machine.
    type: int
    default: 8888
  local_port:
    description:
      - The port on this computer; V(0) for the first one from O(remote_port) upwards that is free.
    type: int
    default: 0
  state:
    description:
      - Whether it is open.
    type: str
    choices: [open, closed]
    default: open
  timeout:
    description:
      - How many seconds to wait, for ssh, and then for the server to answer.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: Looks whether there is a tunnel that leads somewhere, changes nothing.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Bring Jupyter to this computer
  lightsout.aws.ssh_tunnel:
    host: rerank
    config: ~/.ssh/lightsout/rerank.config
    directory: ~/.ssh/lightsout
  register: tunnel

- name: Close it
  lightsout.aws.ssh_tunnel:
    host: rerank
    config: ~/.ssh/lightsout/rerank.config
    directory: ~/.ssh/lightsout
    state: closed
"""

RETURN = r"""
port:
  description: The tunnel's port on this computer; 0 when it is closed.
  returned: always
  type: int
  sample: 8888
fingerprint:
  description:
    - The SHA-256 fingerprint of the server's certificate, as browsers show it. It came through ssh, so it is right.
  returned: always
  type: str
  sample: 0F:A1
"""

import hashlib
import http.client
import re
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError

#: How many ports to try.
PORTS = 100


def certificate_of(port: int, timeout: float = 5) -> bytes:
    """The certificate of the HTTPS server behind a port of this computer; empty when none answers there."""
    # Whoever it is, came through ssh: nothing is verified here, and people get the fingerprint.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
    try:
        connection.request("GET", "/api")
        certificate = connection.sock.getpeercert(binary_form=True) or b""
        connection.getresponse().read()
        return certificate
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


def fingerprint(certificate: bytes) -> str:
    """As browsers show it."""
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(certificate).digest()) if certificate else ""


def is_free(port: int) -> bool:
    """Whether nothing on this computer listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Tunnel:
    """The tunnels of one machine, of which there should be at most one.

    Args:
        params: the module's.
    """

    def __init__(self, params: dict) -> None:
        self.host, self.config = params["host"], params["config"]
        self.directory = Path(params["directory"])
        self.remote_port, self.local_port = params["remote_port"], params["local_port"]
        self.timeout = params["timeout"]

    def sockets(self) -> dict[int, Path]:
        """Control sockets by port, of tunnels that live or lived."""
        name = re.compile(rf"{re.escape(self.host)}-(\d+)\.tunnel")
        found = {path: name.fullmatch(path.name) for path in self.directory.glob(f"{self.host}-*.tunnel")}
        return {int(match[1]): path for path, match in found.items() if match}

    def ssh(self, path: Path, *words: str, timeout: float = 10) -> tuple[int, str]:
        """Exit status of an ssh that uses this control socket, and what it complained of."""
        # In a file: an ssh that goes to the background keeps what it was given open.
        with tempfile.TemporaryFile() as said:
            command = ["ssh", "-F", self.config, "-S", str(path), *words, self.host]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, timeout=timeout
                )
            except subprocess.TimeoutExpired:
                return 255, f"no answer in {timeout:.0f} s"
            said.seek(0)
            return done.returncode, said.read().decode(errors="replace").strip()

    def close(self, path: Path) -> None:
        """End a tunnel; a socket that nobody listens on any more is removed."""
        self.ssh(path, "-O", "exit")
        path.unlink(missing_ok=True)

    def working(self) -> tuple[int, bytes]:
        """The port of a tunnel that is as it should be, and the certificate at its end; 0 when there is none."""
        for port, path in self.sockets().items():
            if self.local_port in (0, port) and self.ssh(path, "-O", "check")[0] == 0:
                certificate = certificate_of(port)
                if certificate:
                    return port, certificate
        return 0, b""

    def choose_port(self) -> int:
        """The port that was asked for, or one that is free."""
        if not self.local_port:
            for port in range(self.remote_port, min(self.remote_port + PORTS, 65536)):
                if is_free(port):
                    return port
            raise LightsoutError(f"No port from {self.remote_port} upwards is free on this computer: close something.")
        if not is_free(self.local_port):
            raise LightsoutError(
                f"access_tunnel_port is {self.local_port}, which something else on this computer uses: give another, "
                "or leave it out."
            )
        return self.local_port

    def open(self) -> tuple[int, bytes]:
        """Open it anew."""
        for path in self.sockets().values():
            self.close(path)
        port = self.choose_port()
        path = self.directory / f"{self.host}-{port}.tunnel"
        options = ["ControlMaster=yes", "ControlPersist=no", "ExitOnForwardFailure=yes", "BatchMode=yes"]
        options += [f"ConnectTimeout={self.timeout}", "LogLevel=ERROR"]
        words = [word for option in options for word in ("-o", option)]
        words += ["-f", "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{self.remote_port}"]
        status, said = self.ssh(path, *words, timeout=2 * self.timeout)
        if status:
            raise LightsoutError(
                f"ssh to {self.host} failed: {' '.join(said.split()) or status}. If your address has changed, run "
                f"ansible-playbook playbooks/access.yml -e lightsout_project={self.host}"
            )
        deadline = time.monotonic() + self.timeout
        while True:
            certificate = certificate_of(port)
            if certificate:
                return port, certificate
            if time.monotonic() > deadline:
                self.close(path)
                raise LightsoutError(
                    f"ssh reaches {self.host}, but nothing answers on its port {self.remote_port}. Make it right: "
                    f"ansible-playbook playbooks/configure.yml -e lightsout_project={self.host}; its log: "
                    f"ssh -F {self.config} {self.host} journalctl -u jupyter"
                )
            time.sleep(0.3)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"required": True},
            "config": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "remote_port": {"type": "int", "default": 8888},
            "local_port": {"type": "int", "default": 0},
            "state": {"choices": ["open", "closed"], "default": "open"},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not 0 <= params["local_port"] <= 65535:
        module.fail_json(msg=f"access_tunnel_port is {params['local_port']}: a port is a number from 1 to 65535.")
    tunnel = Tunnel(params)
    if params["state"] == "closed":
        sockets = tunnel.sockets()
        if not module.check_mode:
            for path in sockets.values():
                tunnel.close(path)
        module.exit_json(changed=bool(sockets), port=0, fingerprint="")
    port, certificate = tunnel.working()
    changed = not port
    if changed and not module.check_mode:
        try:
            port, certificate = tunnel.open()
        except LightsoutError as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=changed, port=port, fingerprint=fingerprint(certificate))


if __name__ == "__main__":
    main()

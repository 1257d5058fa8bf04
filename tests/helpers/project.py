"""One project on a local cloud: its playbooks, what it owns, and every call that a run makes."""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.conftest import Cloud
from tests.helpers.least_privilege import keys_for
from tests.helpers.playbook import Run, play

#: Long enough to be found in an output when it must not be there.
PASSWORD = "long-and-unmistakable-password-4711"

LIVE = ("pending", "running", "stopping", "stopped")

#: How calls begin that only look.
LOOKS = ("Describe", "Get", "List", "GET ")


@contextmanager
def recorded(endpoint: str, throttle: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Listen to an AWS API.

    Args:
        endpoint: its URL.
        throttle: each of SageMaker's operations is refused so often before it is passed on.

    Yields:
        the URL to use instead, and the names of the calls that came, in their order.
    """
    calls: list[str] = []
    target = urlsplit(endpoint).netloc

    class Relay(BaseHTTPRequestHandler):
        """Notes each request's action, and passes it on."""

        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            refused = [call for call in calls if call == f"throttled {action}"]
            if len(refused) < throttle and "SageMaker" in self.headers.get("X-Amz-Target", ""):
                calls.append(f"throttled {action}")
                self.answer(400, {"x-amzn-errortype": "ThrottlingException"}, b'{"__type": "ThrottlingException"}')
                return
            calls.append(action or parse_qs(body.decode()).get("Action", [f"{self.command} {self.path}"])[0])
            upstream = http.client.HTTPConnection(target, timeout=60)
            upstream.request(self.command, self.path, body, {**self.headers, "Connection": "close"})
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            told = ("Content-Type", "x-amzn-requestid", "x-amzn-errortype")
            self.answer(
                answer.status, {name: answer.headers[name] for name in told if answer.headers.get(name)}, content
            )

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = relay

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Project:
    """A project of a test.

    Attributes:
        folder: of its own; keys are in ``folder/keys``, results in ``folder/results``.
        enforced: each playbook is run by somebody who may do what its policy in docs/iam allows, and nothing else.
        prepares: packages and installer come at a machine's first boot, as for users; most tests do not need them.
        calls: of the last run that was ``watched``, in their order.
    """

    cloud: Cloud
    name: str
    folder: Path
    enforced: bool = False
    prepares: bool = False
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ec2 = self.cloud.client("ec2")
        self.iam = self.cloud.client("iam")
        self.keys = self.folder / "keys"
        self.user = functools.cache(functools.partial(keys_for, self.cloud, prefix=self.name))

    # -- doing ----------------------------------------------------------------------------------------------------
    def run(self, verb: str, *arguments: str, env: dict[str, str] | None = None, **variables: Any) -> Run:
        """Run a playbook on the project, as ``play`` does."""
        who = self.user(verb) if self.enforced else {}
        return play(
            verb,
            {**self.cloud.env, **who, "LIGHTSOUT_JUPYTER_PASSWORD": PASSWORD, **(env or {})},
            *arguments,
            settings=self.cloud.settings,
            **{
                "lightsout_project": self.name,
                "lightsout_key_directory": str(self.keys),
                "training_fetch_folder": str(self.folder / "results"),
                "access_ssh_include": False,
                **({} if self.prepares else {"ec2_machine_user_data": ""}),
                **variables,
            },
        )

    def watched(
        self, verb: str, *arguments: str, env: dict[str, str] | None = None, throttle: int = 0, **variables: Any
    ) -> Run:
        """The same, and ``calls`` names every call to AWS that it made; see ``recorded`` for ``throttle``."""
        with recorded(self.cloud.endpoint, throttle) as (url, calls):
            run = self.run(verb, *arguments, env={"AWS_ENDPOINT_URL": url, **(env or {})}, **variables)
        self.calls = calls
        return run

    @property
    def changing_calls(self) -> list[str]:
        """Those of the last watched run that did more than look."""
        return [call for call in self.calls if not call.startswith(LOOKS)]

    def refused(self, verb: str, *arguments: str, **variables: Any) -> str:
        """What is wrong with a run that must be refused: one line, told before AWS was asked to change anything."""
        run = self.watched(verb, *arguments, expect=2, **variables)
        assert self.changing_calls == [], run.output
        assert set(run.changed.values()) <= {0}, run.output
        assert len(run.failures) == 1, run.output
        return one_line(run)

    # -- misfortunes of the local cloud -----------------------------------------------------------------------------
    def post(self, page: str, **body: Any) -> str:
        """Send something to a page of the local cloud's own."""
        request = urllib.request.Request(
            f"{self.cloud.endpoint}/lightsout/{page}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode().strip()

    # -- seeing ---------------------------------------------------------------------------------------------------
    @property
    def mine(self) -> list[dict[str, Any]]:
        """EC2's filter for what carries the project's tag."""
        return [{"Name": "tag:lightsout:project", "Values": [self.name]}]

    def machines(self) -> list[dict[str, Any]]:
        """The project's machines that live, as EC2 describes them."""
        found = self.ec2.describe_instances(Filters=self.mine)["Reservations"]
        return [i for r in found for i in r["Instances"] if i["State"]["Name"] in LIVE]

    def group(self) -> dict[str, Any]:
        """The project's security group."""
        (group,) = self.ec2.describe_security_groups(Filters=self.mine)["SecurityGroups"]
        return group

    def owned(self) -> dict[str, list[str]]:
        """The ids of everything that carries the project's tag, by kind; kinds that it has nothing of are left out."""
        ec2 = self.ec2
        found = {
            "machine": [i["InstanceId"] for i in self.machines()],
            "volume": [v["VolumeId"] for v in ec2.describe_volumes(Filters=self.mine)["Volumes"]],
            "group": [g["GroupId"] for g in ec2.describe_security_groups(Filters=self.mine)["SecurityGroups"]],
            "placement group": [
                g["GroupId"] for g in ec2.describe_placement_groups(Filters=self.mine)["PlacementGroups"]
            ],
            "key": [k["KeyPairId"] for k in ec2.describe_key_pairs(Filters=self.mine)["KeyPairs"]],
            "role": [
                r["RoleName"]
                for r in self.iam.list_roles()["Roles"]
                if r["RoleName"] == f"lightsout-{self.name}-machine"
            ],
        }
        return {kind: ids for kind, ids in found.items() if ids}

    def ssh(self, command: str) -> str:
        """What the shell of the project's only machine answers."""
        (machine,) = self.machines()
        return self.ssh_to(machine, command)

    def ssh_to(self, machine: dict[str, Any], command: str) -> str:
        """What a machine's shell answers."""
        options = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR")
        words = [word for option in options for word in ("-o", option)]
        words += ["-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}", "-i", str(self.keys / f"{self.name}.pem")]
        target = f"ubuntu@{machine['PublicIpAddress']}"
        done = subprocess.run(
            ["ssh", *words, target, command], check=True, capture_output=True, text=True, timeout=60, env={**os.environ}
        )
        return done.stdout


def one_line(run: Run) -> str:
    """The failure that a run told, which must be one line.

    Raises:
        AssertionError: there is more than that line between it and the recap, or a traceback.
    """
    lines = [line.rstrip() for line in run.output.splitlines()]
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("✗"))
    end = next((n for n in range(first, len(lines)) if not lines[n]), len(lines))
    assert end - first == 1, run.output
    assert "Traceback" not in run.output
    return re.sub(r"^\s*✗ [^:]*: ", "", lines[first])

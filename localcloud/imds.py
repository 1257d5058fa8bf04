"""The instance metadata service (IMDSv2), one listener inside each machine's network.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from localcloud import spot

#: A token lives for 1 second to 6 hours; another wish is refused, as on EC2.
LONGEST_TOKEN = 21600

#: How long a token shall live, and in the answer, how long it does.
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"

#: Seconds until the service notices that it shall end; each stop of a machine waits for that.
POLL = 0.05

Tree = dict[str, Any]


class MetadataService:
    """Answers for one instance, on a socket that listens inside its machine.

    Args:
        listener: the socket.
        instance: has an ``id``, and the ``metadata_options`` of moto's instances.
        content: what it tells of the instance; by default what EC2 tells.
    """

    def __init__(self, listener: socket.socket, instance: Any, content: Callable[[Any], Tree] | None = None) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            """One request; the instance is known by the socket that it came in by."""

            server_version = "EC2ws"
            sys_version = ""

            def do_PUT(self) -> None:
                service.put(self)

            def do_GET(self) -> None:
                service.get(self)

            def do_HEAD(self) -> None:
                service.get(self)

            def log_message(self, format: str, *args: object) -> None:
                """Machines ask every few seconds; nobody reads that."""

        self.instance = instance
        self._content = content or tree
        self._tokens: dict[str, float] = {}
        self._server = ThreadingHTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name=f"imds-{instance.id}", daemon=True
        ).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def put(self, request: BaseHTTPRequestHandler) -> None:
        """A session token."""
        if request.path != "/latest/api/token":
            return self._answer(request, HTTPStatus.NOT_FOUND)
        # Not through somebody's proxy.
        if self.instance.metadata_options.http_endpoint == "disabled" or "X-Forwarded-For" in request.headers:
            return self._answer(request, HTTPStatus.FORBIDDEN)
        try:
            seconds = int(request.headers.get(TTL_HEADER, ""))
        except ValueError:
            seconds = 0
        if not 1 <= seconds <= LONGEST_TOKEN:
            return self._answer(request, HTTPStatus.BAD_REQUEST)
        now = time.monotonic()
        self._tokens = {token: until for token, until in self._tokens.items() if until > now}
        token = secrets.token_urlsafe(40)
        self._tokens[token] = now + seconds
        # SDKs written in Go read there how long it lives, and find no credentials where nothing is said.
        return self._answer(request, HTTPStatus.OK, token, {TTL_HEADER: str(seconds)})

    def get(self, request: BaseHTTPRequestHandler) -> None:
        """A leaf's text, or a branch's names."""
        options = self.instance.metadata_options
        if options.http_endpoint == "disabled":
            return self._answer(request, HTTPStatus.FORBIDDEN)
        token = request.headers.get("X-aws-ec2-metadata-token")
        known = token is not None and self._tokens.get(token, 0) > time.monotonic()
        if not known and (token is not None or options.http_tokens == "required"):
            return self._answer(request, HTTPStatus.UNAUTHORIZED)
        found = look_up({"latest": self._content(self.instance)}, request.path)
        if found is None:
            return self._answer(request, HTTPStatus.NOT_FOUND)
        return self._answer(request, HTTPStatus.OK, found)

    @staticmethod
    def _answer(
        request: BaseHTTPRequestHandler,
        status: HTTPStatus,
        text: str | bytes = "",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        body = text if isinstance(text, bytes) else text.encode()
        request.send_response(status)
        request.send_header("Content-Type", "text/plain")
        request.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


def look_up(versions: Tree, path: str) -> str | bytes | None:
    """What stands at a path: a leaf's text, or the names below a branch; None where there is nothing.

    Args:
        versions: the tree for ``latest``; a dated version (``2021-07-15``) is the same one.
        path: the path of a request, with or without its query.
    """
    node: Any = versions
    for part in (part for part in path.partition("?")[0].split("/") if part):
        if not isinstance(node, dict):
            return None
        name = "latest" if node is versions and re.fullmatch(r"\d{4}-\d\d-\d\d", part) else part
        # The list of keys names one as `0=name-of-the-key`.
        node = node.get(name, node.get(name.partition("=")[0]))
        node = node() if callable(node) else node
        if node is None:
            return None
    if isinstance(node, dict):
        return "\n".join(name + "/" * isinstance(below, dict) for name, below in node.items() if below is not None)
    return node if isinstance(node, bytes) else str(node)


def tree(instance: Any) -> Tree:
    """Everything below a version: ``meta-data``, ``dynamic``, ``user-data``. None and absent are 404.

    Args:
        instance: moto's instance.
    """
    key = instance.ec2_backend.key_pairs.get(instance.key_name)
    zone = instance.placement.availability_zone
    meta: Tree = {
        "ami-id": instance.image_id,
        "ami-launch-index": instance.ami_launch_index,
        "hostname": instance.private_dns_name,
        "instance-id": instance.id,
        "instance-life-cycle": "spot" if instance.lifecycle == "spot" else "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": instance.private_ip,
        "mac": instance.nics[0].mac_address,
        "placement": {"availability-zone": zone, "region": instance.region_name},
        "public-ipv4": instance.public_ip,
        "security-groups": "\n".join(sorted(group.name for group in instance.security_groups)),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
        **spot.metadata(instance),
    }
    if key:
        meta["public-keys"] = {"0": {"openssh-key": key.public_key}}
    if instance.metadata_options.instance_metadata_tags == "enabled":
        meta["tags"] = {"instance": {tag["key"]: tag["value"] for tag in instance.get_tags()}}
    if profile := _profile(instance):
        role = next(iter(profile.roles), None)
        meta["iam"] = {
            "info": json.dumps({"Code": "Success", "InstanceProfileArn": profile.arn, "InstanceProfileId": profile.id}),
            "security-credentials": {role.name: credentials(role)} if role else {},
        }
    document = {
        "accountId": instance.owner_id,
        "architecture": instance.architecture,
        "availabilityZone": zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "privateIp": instance.private_ip,
        "region": instance.region_name,
    }
    return {
        "dynamic": {"instance-identity": {"document": json.dumps(document, indent=2)}},
        "meta-data": {name: value for name, value in meta.items() if value is not None},
        "user-data": base64.b64decode(instance.user_data.as_bytes()) if instance.user_data else None,
    }


def _profile(instance: Any) -> Any:
    """The instance profile that is associated now, as moto's IAM knows it."""
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    return association.iam_instance_profile if association else None


def credentials(role: Any) -> Callable[[], str]:
    """Credentials of the role, made when somebody asks: moto's STS knows them and enforces what the role may do."""

    def make() -> str:
        from moto.sts.models import sts_backends

        backend = sts_backends[role.account_id][role.partition]
        assumed = backend.assume_role(
            region_name="us-east-1",
            role_session_name="instance",
            role_arn=role.arn,
            policy=None,
            duration=LONGEST_TOKEN,
            external_id=None,
        )
        return json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": assumed.access_key_id,
                "SecretAccessKey": assumed.secret_access_key,
                "Token": assumed.session_token,
                "Expiration": assumed.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "LastUpdated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )

    return make

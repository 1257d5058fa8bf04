"""The metadata service, over HTTP, for an instance that is made up."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from localcloud import spot
from localcloud.imds import MetadataService, look_up, tree

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
SCRIPT = b"#!/bin/sh\n\xff\x00"


@pytest.fixture
def instance() -> SimpleNamespace:
    """As much of moto's instance as is looked at."""
    key = SimpleNamespace(public_key="ssh-ed25519 AAAA tester")
    return SimpleNamespace(
        id="i-1",
        ec2_backend=SimpleNamespace(key_pairs={"tester": key}, iam_instance_profile_associations={}),
        key_name="tester",
        placement=SimpleNamespace(availability_zone="us-east-1a"),
        region_name="us-east-1",
        image_id="ami-1",
        ami_launch_index=0,
        private_dns_name="ip-172-31-0-9.ec2.internal",
        private_ip="172.31.0.9",
        public_ip="10.213.7.10",
        lifecycle=None,
        instance_type="t3.micro",
        architecture="x86_64",
        owner_id="123456789012",
        nics={0: SimpleNamespace(mac_address="02:00:00:00:00:01")},
        security_groups=[SimpleNamespace(name="web"), SimpleNamespace(name="ssh")],
        metadata_options=SimpleNamespace(
            http_endpoint="enabled", http_tokens="required", instance_metadata_tags="enabled"
        ),
        get_tags=lambda: [{"key": "lightsout:project", "value": "lab"}],
        user_data=SimpleNamespace(as_bytes=lambda: base64.b64encode(SCRIPT)),
    )


class Client:
    """Speaks HTTP with the service."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def token(self, seconds: str = "60") -> str:
        status, token = self.ask("PUT", "/latest/api/token", **{TTL: seconds})
        assert status == 200
        return token.decode()

    def get(self, path: str) -> tuple[int, bytes]:
        return self.ask("GET", path, **{TOKEN: self.token()})


@pytest.fixture
def client(instance) -> Iterator[Client]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    service = MetadataService(listener, instance)
    yield Client(port)
    service.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_without_a_token_nothing_is_told_where_one_is_required(client, instance):
    assert client.ask("GET", "/latest/meta-data/instance-id") == (401, b"")
    assert client.get("/latest/meta-data/instance-id") == (200, b"i-1")
    instance.metadata_options.http_tokens = "optional"
    assert client.ask("GET", "/latest/meta-data/instance-id") == (200, b"i-1")
    assert client.ask("GET", "/latest/meta-data/instance-id", **{TOKEN: "guessed"})[0] == 401


@pytest.mark.parametrize(("seconds", "status"), [("0", 400), ("21601", 400), ("soon", 400), ("1", 200), ("21600", 200)])
def test_a_token_lives_one_second_to_six_hours(client, seconds, status):
    assert client.ask("PUT", "/latest/api/token", **{TTL: seconds})[0] == status


def test_an_old_token_is_refused(client, monkeypatch):
    token = client.token("10")
    now = __import__("time").monotonic()
    monkeypatch.setattr("localcloud.imds.time.monotonic", lambda: now + 11)
    assert client.ask("GET", "/latest/meta-data/", **{TOKEN: token})[0] == 401


def test_no_token_through_a_proxy_and_none_where_the_service_is_off(client, instance):
    assert client.ask("PUT", "/latest/api/token", **{TTL: "60", "X-Forwarded-For": "192.0.2.1"})[0] == 403
    token = client.token()
    instance.metadata_options.http_endpoint = "disabled"
    assert client.ask("PUT", "/latest/api/token", **{TTL: "60"})[0] == 403
    assert client.ask("GET", "/latest/meta-data/", **{TOKEN: token})[0] == 403


def test_branches_list_their_names_and_leaves_their_text(client):
    status, names = client.get("/latest/meta-data/")
    assert status == 200
    assert {b"instance-id", b"placement/", b"tags/"} <= set(names.splitlines())
    assert client.get("/latest/meta-data/placement/availability-zone") == (200, b"us-east-1a")
    assert client.get("/latest/meta-data/security-groups") == (200, b"ssh\nweb")
    assert client.get("/2021-07-15/meta-data/mac") == (200, b"02:00:00:00:00:01")
    assert client.get("/latest/meta-data/public-keys/0/openssh-key") == (200, b"ssh-ed25519 AAAA tester")
    assert client.get("/latest/meta-data/tags/instance/lightsout:project") == (200, b"lab")
    assert client.get("/latest/user-data") == (200, SCRIPT)
    assert json.loads(client.get("/latest/dynamic/instance-identity/document")[1])["accountId"] == "123456789012"
    for absent in ("latest/meta-data/nothing", "latest/meta-data/mac/deeper", "soon/mac", "latest/meta-data/iam/"):
        assert client.get(f"/{absent}") == (404, b"")
    assert client.ask("HEAD", "/latest/meta-data/mac", **{TOKEN: client.token()}) == (200, b"")


def test_what_the_instance_has_not_is_not_there(instance):
    instance.public_ip = instance.user_data = instance.key_name = None
    instance.metadata_options.instance_metadata_tags = "disabled"
    root = {"latest": tree(instance)}
    names = look_up(root, "/latest/meta-data")
    assert isinstance(names, str)
    assert not {"public-ipv4", "public-keys/", "tags/"} & set(names.splitlines())
    assert look_up(root, "/latest/user-data") is None
    assert look_up(root, "/") == "latest/"


def test_a_token_says_how_long_it_lives(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=5)
    connection.request("PUT", "/latest/api/token", headers={TTL: "60"})
    assert connection.getresponse().headers[TTL] == "60"


@pytest.mark.parametrize("action", ["terminate", "stop"])
def test_a_spot_machine_is_told_that_it_will_be_interrupted_and_no_other_is(client, instance, action):
    pages = ("spot/", "spot/instance-action", "spot/termination-time", "events/recommendations/rebalance")
    assert [client.get(f"/latest/meta-data/{page}")[0] for page in pages] == [404] * 4
    instance.lifecycle, instance.state, instance.interruption_behavior = "spot", "running", action
    ordered = spot.order(instance, 120)
    time = ordered.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    told = json.loads(client.get("/latest/meta-data/spot/instance-action")[1])
    assert told == {"action": action, "time": time}
    last = (200, time.encode()) if action == "terminate" else (404, b"")
    assert client.get("/latest/meta-data/spot/termination-time") == last
    rebalance = json.loads(client.get("/latest/meta-data/events/recommendations/rebalance")[1])
    assert rebalance == {"noticeTime": ordered.noticed.strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert b"spot/" in client.get("/latest/meta-data/")[1].splitlines()
    spot.forget(instance)
    assert [client.get(f"/latest/meta-data/{page}")[0] for page in pages] == [404] * 4


def test_credentials_are_made_when_somebody_asks_and_belong_to_the_role():
    made = []
    root = {"latest": {"iam": {"security-credentials": {"lab": lambda: made.append(1) or "{}"}}}}
    assert look_up(root, "/latest/iam/security-credentials/") == "lab"
    assert made == []
    assert look_up(root, "/latest/iam/security-credentials/lab") == "{}"
    assert made == [1]

"""Pages of our own beside the AWS API, the faults that a test can order, and the port."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud import server, spot
from localcloud.server import Faults, Pages, listeners


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    """Pages before an AWS API that answers `aws`."""
    (tmp_path / "installer.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / ".hidden").write_bytes(b"secret")

    def aws(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["localcloud.ran_instances"] = environ["PATH_INFO"] == "/run"
        start_response("200 OK", [])
        return [b"aws"]

    return Pages(aws, SimpleNamespace(gateway="10.213.7.1"), Faults(), tmp_path)


def ask(pages: Pages, method: str, path: str, body: Any = None, **environ: Any) -> tuple[str, bytes]:
    """Status and body."""
    data = json.dumps(body).encode() if body is not None else b""
    status: list[str] = []
    request = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": BytesIO(data),
        **environ,
    }
    answer = b"".join(pages(request, lambda line, _headers: status.append(line)))
    return status[0], answer


def test_what_is_not_ours_goes_to_aws(pages):
    assert ask(pages, "POST", "/") == ("200 OK", b"aws")
    assert ask(pages, "GET", "/lightsout-bucket/key") == ("200 OK", b"aws")


def test_the_callers_address_is_the_one_that_machines_see(pages):
    assert ask(pages, "GET", "/lightsout/checkip") == ("200 OK", b"10.213.7.1\n")


def test_files_are_served_by_name_only(pages):
    assert ask(pages, "GET", "/lightsout/files/installer.sh") == ("200 OK", b"#!/bin/sh\n")
    assert ask(pages, "HEAD", "/lightsout/files/installer.sh") == ("200 OK", b"")
    for path in ("absent.sh", ".hidden", "..", "../conftest.py", "", "a/../installer.sh"):
        assert ask(pages, "GET", f"/lightsout/files/{path}")[0] == "404 Not Found"


def test_machines_are_listed(pages):
    pages.machines = lambda: [{"id": "i-1"}]
    assert json.loads(ask(pages, "GET", "/lightsout/machines")[1]) == [{"id": "i-1"}]


def test_an_interruption_is_ordered_for_two_minutes_unless_told_and_a_refusal_is_one_line(pages):
    asked = []

    def interrupt(instance: str, notice: int) -> spot.Interruption:
        asked.append((instance, notice))
        if instance == "i-2":
            raise spot.Refused("i-2 is not a spot instance")
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return spot.Interruption("stop", now, now)

    pages.interrupt = interrupt
    status, body = ask(pages, "POST", "/lightsout/interrupt", {"instance": "i-1"})
    assert (status, json.loads(body)) == ("200 OK", {"action": "stop", "time": "2026-01-01T00:00:00Z"})
    ask(pages, "POST", "/lightsout/interrupt", {"instance": "i-1", "notice": 5})
    refused = ask(pages, "POST", "/lightsout/interrupt", {"instance": "i-2", "notice": 0})
    assert refused == ("409 Conflict", b"i-2 is not a spot instance\n")
    assert asked == [("i-1", 120), ("i-1", 5), ("i-2", 0)]
    status, body = ask(pages, "POST", "/lightsout/interrupt", {"instance": "i-1", "notice": -1})
    assert (status, b"'-1' is no notice" in body, len(asked)) == ("409 Conflict", True, 3)


def test_so_many_answers_to_runinstances_are_lost_as_were_ordered(pages):
    ours, theirs = socket.socketpair()
    assert ask(pages, "POST", "/lightsout/faults", {"dropped_answers": 1, "no_capacity": ["us-east-1a"]})[0] == "200 OK"
    assert pages._faults.no_capacity == {"us-east-1a"}
    ask(pages, "POST", "/", **{"werkzeug.socket": ours})
    theirs.settimeout(0.2)
    with pytest.raises(TimeoutError):
        theirs.recv(1)
    ask(pages, "POST", "/run", **{"werkzeug.socket": ours})
    assert theirs.recv(1) == b""
    ask(pages, "POST", "/lightsout/faults", {"dropped_answers": 0})
    assert pages._faults.no_capacity == {"us-east-1a"}
    assert not pages._faults.drop_now()


def test_one_port_on_all_addresses_the_wished_one_if_it_is_free():
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        first, second = listeners(["127.0.0.1", "127.0.0.2", "127.0.0.1"], taken)
        with first, second:
            assert first.getsockname()[1] == second.getsockname()[1] != taken
            assert {each.getsockname()[0] for each in (first, second)} == {"127.0.0.1", "127.0.0.2"}
    (wished,) = listeners(["127.0.0.1"], taken)
    with wished:
        assert wished.getsockname()[1] == taken


def test_warming_up_asks_each_service_and_forgives_all_answers(monkeypatch):
    asked = []

    def refuse(request: Any, timeout: float) -> None:
        asked.append(request.get_header("Authorization").split("/")[3])
        raise OSError("down")

    monkeypatch.setattr(server.urllib.request, "urlopen", refuse)
    server.warm_up(1)
    assert asked == ["ec2", "sts", "ssm"]

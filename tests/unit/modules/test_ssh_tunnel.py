"""What a tunnel makes of ports and of sockets that others left; tests/integration/test_access.py opens real ones."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.lightsout.aws.plugins.modules import ssh_tunnel


@pytest.fixture
def tunnel(run, tmp_path):
    """Runs the module for a machine that nobody reaches."""
    config = tmp_path / "lab.config"
    config.write_text("Host lab\n  HostName 127.0.0.1\n  Port 1\n")
    wish = {"host": "lab", "config": str(config), "directory": str(tmp_path), "timeout": 2}
    return lambda check=False, **more: run(ssh_tunnel, check=check, **{**wish, **more})


def test_a_port_that_is_taken_is_told(tunnel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = tunnel(local_port=port)
        assert failed["failed"] and f"access_tunnel_port is {port}, which something else" in failed["msg"]
        # Left open, the next one is taken; and then it is ssh that fails, in one line.
        assert ssh_tunnel.Tunnel({**DEFAULTS, "remote_port": port}).choose_port() > port
    failed = tunnel()
    assert failed["failed"] and "ssh to lab failed: " in failed["msg"] and "\n" not in failed["msg"]


DEFAULTS = {"host": "lab", "config": "", "directory": "", "local_port": 0, "timeout": 1}


def test_what_cannot_be_a_port_is_told(tunnel) -> None:
    assert "access_tunnel_port is 70000" in tunnel(local_port=70000)["msg"]


def test_dead_sockets_are_cleared_away_and_those_of_others_are_not(tunnel, tmp_path) -> None:
    ours, others = tmp_path / "lab-8888.tunnel", tmp_path / "lab-2-8888.tunnel"
    for path in (ours, others):
        path.touch()
    assert tunnel(check=True, state="closed")["changed"] and ours.exists()
    assert tunnel(state="closed")["changed"] and not ours.exists() and others.exists()
    assert not tunnel(state="closed")["changed"]


def test_in_check_mode_nothing_is_opened(tunnel) -> None:
    assert tunnel(check=True) == {"changed": True, "port": 0, "fingerprint": "", "failed": False}

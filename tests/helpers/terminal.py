"""Runs a command in a terminal, and answers what it asks."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping


def listens(terminal: int, timeout: float = 10) -> None:
    """Wait until somebody reads each key that is typed; what is typed before that is thrown away."""
    deadline = time.monotonic() + timeout
    while termios.tcgetattr(terminal)[3] & termios.ICANON and time.monotonic() < deadline:
        time.sleep(0.05)


def converse(
    command: list[str],
    answers: list[tuple[str, str]],
    env: Mapping[str, str],
    cwd: str,
    timeout: float = 120,
    thinking: float = 0.5,
) -> tuple[int, str]:
    """Run it until it ends.

    Args:
        command: its words.
        answers: pairs of a text that is waited for and what is typed then, in their order.
        env: its whole environment.
        cwd: the folder to run in.
        timeout: seconds until it is ended.
        thinking: seconds before each answer.

    Returns:
        its exit status, and all that was on the screen.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command], stdin=theirs, stdout=theirs, stderr=theirs, env=dict(env), cwd=cwd
    )
    os.close(theirs)
    screen, seen, waiting = "", 0, list(answers)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # nobody is left at the other side
                break
            screen += part.decode(errors="replace")
        elif process.poll() is not None:
            break
        if waiting and (found := screen.find(waiting[0][0], seen)) >= 0:
            seen = found + len(waiting[0][0])
            listens(ours)
            time.sleep(thinking)
            os.write(ours, waiting.pop(0)[1].encode() + b"\r")
    os.close(ours)
    try:
        return process.wait(10), screen
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # setsid has made it one of its own
        raise AssertionError(f"{command} did not end:\n{screen}") from None

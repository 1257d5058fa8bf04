"""lightsout.aws.batch keeps its word: each call returns what the same call returns as a task of its own.

Runs on localhost with a local connection: what is compared is the two ways of calling, not the target.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

#: What differs from run to run or by the way itself: times, temporary names, and words that only the copy action adds.
VOLATILE = {
    "start",
    "end",
    "delta",
    "src",
    "uptime",
    "backup_file",
    "invocation",
    "atime",
    "mtime",
    "ctime",
    "inode",
    "version",
}
WAY = {"name", "module", "_ansible_no_log", "ansible_facts", "exception", "warnings", "deprecations"}

#: name -> (what is there before, the call). `@` stands for the folder of the run.
CALLS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "file: new folder": ({}, {"ansible.builtin.file": {"path": "@/d", "state": "directory", "mode": "0750"}}),
    "file: mode is wrong": ({"f": "x"}, {"ansible.builtin.file": {"path": "@/f", "mode": "0600"}}),
    "file: gone already": ({}, {"ansible.builtin.file": {"path": "@/nothing", "state": "absent"}}),
    "file: link": ({"f": "x"}, {"ansible.builtin.file": {"src": "@/f", "dest": "@/l", "state": "link"}}),
    "file: fails": ({"f": "x"}, {"ansible.builtin.file": {"path": "@/f/below", "state": "directory"}}),
    "copy: new": ({}, {"ansible.builtin.copy": {"content": "one\n", "dest": "@/f", "mode": "0600"}}),
    "copy: other content": (
        {"f": "two\n"},
        {"ansible.builtin.copy": {"content": "one\n", "dest": "@/f", "mode": "0644"}},
    ),
    "copy: same content": (
        {"f": "one\n"},
        {"ansible.builtin.copy": {"content": "one\n", "dest": "@/f", "mode": "0644"}},
    ),
    "copy: same content, other mode": (
        {"f": "one\n"},
        {"ansible.builtin.copy": {"content": "one\n", "dest": "@/f", "mode": "0400"}},
    ),
    "copy: not forced": (
        {"f": "two\n"},
        {"ansible.builtin.copy": {"content": "one\n", "dest": "@/f", "mode": "0644", "force": False}},
    ),
    "copy: validate fails": (
        {"f": "two\n"},
        {"ansible.builtin.copy": {"content": "one\n", "dest": "@/f", "mode": "0644", "validate": "grep two %s"}},
    ),
    "copy: folder is missing": ({}, {"ansible.builtin.copy": {"content": "x", "dest": "@/no/f", "mode": "0644"}}),
    "copy: JSON content": ({}, {"ansible.builtin.copy": {"content": {"a": [1, "ü"]}, "dest": "@/f", "mode": "0644"}}),
    "copy: a file": ({}, {"ansible.builtin.copy": {"src": "LICENSE", "dest": "@/", "mode": "0644"}}),
    "template: new": ({}, {"ansible.builtin.template": {"src": "greeting.j2", "dest": "@/t.conf", "mode": "0644"}}),
    "template: same": (
        {"t.conf": "Hello 42 ü\n"},
        {"ansible.builtin.template": {"src": "greeting.j2", "dest": "@/t.conf", "mode": "0644"}},
    ),
    "command: runs": ({}, {"ansible.builtin.command": {"argv": ["touch", "@/made"], "creates": "@/made"}}),
    "command: done already": (
        {"made": ""},
        {"ansible.builtin.command": {"argv": ["touch", "@/made"], "creates": "@/made"}},
    ),
    "command: fails": ({}, {"ansible.builtin.command": {"argv": ["ls", "@/nothing"]}}),
    "lineinfile": ({"f": "a\n"}, {"ansible.builtin.lineinfile": {"path": "@/f", "line": "b"}}),
    "blockinfile": ({"f": "a\n"}, {"ansible.builtin.blockinfile": {"path": "@/f", "block": "b\nc"}}),
    "stat": ({"f": "a\n"}, {"ansible.builtin.stat": {"path": "@/f"}}),
    "get_url: from a file": (
        {"source": "data"},
        {"ansible.builtin.get_url": {"url": "file://@/source", "dest": "@/fetched", "mode": "0644"}},
    ),
    "wrong option": ({}, {"ansible.builtin.file": {"path": "@/f", "stat": "directory"}}),
}


def tree(folder: Path) -> dict[str, tuple[str, str]]:
    """Every file below: its mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (oct(path.lstat().st_mode), content)
    return found


def run(tmp_path: Path, batched: bool, flags: list[str]) -> dict[str, tuple[Any, Any]]:
    """Run every call, each in a folder of its own.

    Returns:
        For each call its result without what is volatile, and the state that it left.
    """
    tasks = []
    for number, (before, call) in enumerate(CALLS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in before.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o644)
        there = json.loads(json.dumps(call).replace("@", str(folder)))
        task = {"lightsout.aws.batch": {"tasks": [there]}} if batched else there
        tasks.append({"name": f"Call {number}", "ignore_errors": True, **task})
    (tmp_path / "greeting.j2").write_text("Hello {{ answer }} ü\n")
    (tmp_path / "LICENSE").write_text("free\n")
    book = tmp_path / "book.yml"
    plays = [{"hosts": "localhost", "gather_facts": False, "vars": {"answer": 42}, "tasks": tasks}]
    book.write_text(yaml.safe_dump(plays, allow_unicode=True))
    done = subprocess.run(
        ["ansible-playbook", "-i", str(ROOT / "inventory/localhost.yml"), str(book), *flags],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    out = json.loads(done.stdout[done.stdout.index("{") :])
    found = {}
    for number, name in enumerate(CALLS):
        result = out["plays"][0]["tasks"][number]["hosts"]["localhost"]
        if batched and result.get("results"):
            (result,) = result["results"]
        kept = {k: v for k, v in result.items() if k not in VOLATILE | WAY and not k.startswith("_ansible")}
        found[name] = json.loads(json.dumps([normal(kept), tree(tmp_path / str(number))]).replace(str(tmp_path), ""))
    return found


def normal(value: Any) -> Any:
    """Without times and temporary names, wherever they are; an action name is the module's."""
    if isinstance(value, dict):
        # The headers of a diff name a temporary file when the controller made it.
        return {k: normal(v) for k, v in value.items() if k not in VOLATILE and k not in {"after_header", "action"}}
    if isinstance(value, list):
        return [normal(v) for v in value]
    if isinstance(value, str):  # a task of its own says twice that it failed
        return value.removeprefix("Task failed: ").removeprefix("Module failed: ").strip()
    return value


@pytest.fixture(scope="module", params=[[], ["--check", "--diff"], ["--diff"]], ids=["real", "check", "diff"])
def both(request, tmp_path_factory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every call as a task of its own, and in a batch."""
    return tuple(run(tmp_path_factory.mktemp("calls"), batched, request.param) for batched in (False, True))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_a_batch_is_the_same_as_a_task(both, name: str) -> None:
    (alone, left_alone), (batched, left_batched) = (way[name] for way in both)
    assert batched == alone
    assert left_batched == left_alone

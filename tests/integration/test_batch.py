"""Our ways to call modules keep their word: each call returns what the same call returns where core does it alone.

Ours are lightsout.aws.batch and, for tasks of their own, the action `normal`. Runs on localhost with a local
connection: what is compared is the ways of calling, not the target.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
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
WAY = {
    "failed_when_suppressed_exception",
    "name",
    "module",
    "_ansible_no_log",
    "ansible_facts",
    "exception",
    "warnings",
    "deprecations",
}

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
    "never changed": ({}, {"ansible.builtin.command": {"argv": ["true"]}, "changed_when": False}),
    "never failed": ({}, {"ansible.builtin.command": {"argv": ["false"]}, "failed_when": False}),
    "also in check mode": ({}, {"ansible.builtin.command": {"argv": ["touch", "@/made"]}, "check_mode": False}),
    "only looking": ({}, {"ansible.builtin.copy": {"content": "x", "dest": "@/f", "mode": "0644"}, "check_mode": True}),
    "wrong option": ({}, {"ansible.builtin.file": {"path": "@/f", "stat": "directory"}}),
}


#: Whose modules have an action of their own, which our action `normal` does not replace.
OWN_ACTION = {"ansible.builtin.copy", "ansible.builtin.template", "ansible.builtin.command"}
#: What each way calls.
CALLED = {
    "core": CALLS,
    "kept": {name: call for name, call in CALLS.items() if not OWN_ACTION & set(call[1])},
    "batched": CALLS,
}


def tree(folder: Path) -> dict[str, tuple[str, str]]:
    """Every file below: its mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (oct(path.lstat().st_mode), content)
    return found


def run(tmp_path: Path, way: str, flags: list[str]) -> dict[str, tuple[Any, Any]]:
    """Run every call, each in a folder of its own.

    Args:
        tmp_path: where.
        way: `core`, `kept` (tasks of their own by our action `normal`) or `batched`.
        flags: of ansible-playbook.

    Returns:
        For each call its result without what is volatile, and the state that it left.
    """
    tasks = []
    for number, (before, call) in enumerate(CALLED[way].values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in before.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o644)
        there = json.loads(json.dumps(call).replace("@", str(folder)))
        task = {"lightsout.aws.batch": {"tasks": [there]}} if way == "batched" else there
        tasks.append({"name": f"Call {number}", "ignore_errors": True, **task})
    (tmp_path / "greeting.j2").write_text("Hello {{ answer }} ü\n")
    (tmp_path / "LICENSE").write_text("free\n")
    book = tmp_path / "book.yml"
    plays = [{"hosts": "localhost", "gather_facts": False, "vars": {"answer": 42}, "tasks": tasks}]
    book.write_text(yaml.safe_dump(plays, allow_unicode=True))
    done = subprocess.run(
        ["ansible-playbook", "-i", str(ROOT / "inventory/localhost.yml"), str(book), *flags],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_NOCOLOR": "1",
            **({"ANSIBLE_ACTION_PLUGINS": str(tmp_path)} if way == "core" else {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    out = json.loads(done.stdout[done.stdout.index("{") :])
    found = {}
    for number, name in enumerate(CALLED[way]):
        result = out["plays"][0]["tasks"][number]["hosts"]["localhost"]
        if way == "batched" and result.get("results"):
            (result,) = result["results"]
        kept = {k: v for k, v in result.items() if k not in VOLATILE | WAY and not k.startswith("_ansible")}
        here = str(tmp_path / str(number))
        found[name] = json.loads(json.dumps([normal(kept), tree(tmp_path / str(number))]).replace(here, ""))
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


MODES = {"check": ["--check", "--diff"], "real": ["--diff"]}


@pytest.fixture(scope="module")
def ways(tmp_path_factory) -> dict[tuple[str, str], Future]:
    """Every call in every mode and way, two runs at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return {
            (mode, way): pool.submit(run, tmp_path_factory.mktemp("calls"), way, flags)
            for mode, flags in MODES.items()
            for way in CALLED
        }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way, name", [(way, name) for way in ("kept", "batched") for name in CALLED[way]])
def test_a_call_in_our_ways_is_the_same_as_in_cores(ways, mode: str, name: str, way: str) -> None:
    (by_core, left_by_core), (by_us, left_by_us) = (ways[mode, one].result()[name] for one in ("core", way))
    assert by_us == by_core
    assert left_by_us == left_by_core


def test_modules_are_packed_once(tmp_path) -> None:
    def kept() -> dict[str, int]:
        words = ["ansible", "localhost", "-i", str(ROOT / "inventory/localhost.yml"), "-m", "ansible.builtin.ping"]
        subprocess.run(words, cwd=ROOT, env={**os.environ, "ANSIBLE_HOME": str(tmp_path)}, check=True)
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "lightsout").iterdir()}

    first = kept()
    assert len(first) == 1
    assert kept() == first


BEHAVIOR = """
- hosts: localhost
  gather_facts: false
  handlers:
    - {name: First, ansible.builtin.debug: {msg: woken first}}
    - {name: Second, ansible.builtin.debug: {msg: woken second}}
  tasks:
    - lightsout.aws.batch:
        tasks:
          - {ansible.builtin.copy: {content: a, dest: "{{ folder }}/a", mode: "0644"}, notify: First}
          - {ansible.builtin.stat: {path: "{{ folder }}"}, notify: Second}
          - {ansible.builtin.stat: {path: "{{ folder }}"}, when: false, name: Not now}
          - {ansible.builtin.setup: {gather_subset: ["!all", "!min", pkg_mgr]}}
          - {name: Hidden, ansible.builtin.copy: {content: hush, dest: "{{ folder }}/h", mode: "0600"}, no_log: true}
      register: first
    - ansible.builtin.meta: flush_handlers
    - lightsout.aws.batch:
        tasks:
          - {ansible.builtin.command: {argv: ["false"]}, failed_when: false}
          - {ansible.builtin.command: {argv: ["false"]}, name: Breaks}
          - {ansible.builtin.command: {argv: ["true"]}, name: Not wanted, when: false}
          - {ansible.builtin.command: {argv: [touch, "{{ folder }}/never"]}}
      ignore_errors: true
      register: second
    - lightsout.aws.batch:
        look:
          - {name: Folder, ansible.builtin.stat: {path: "{{ folder }}"}}
          - {name: Folder, ansible.builtin.stat: {path: /of-another-role-with-the-same-question}}
          - {name: Facts, ansible.builtin.setup: {gather_subset: ["!all", "!min", distribution]}}
          - {name: Nothing, ansible.builtin.stat: {path: /nothing}, when: false}
        problems: "{% if word is not defined %}never told{% endif %}"
        refuse: "{% if not seen.Folder.stat.isdir %}never told{% endif %}"
        tasks:
          - ansible.builtin.copy:
              content: "{{ word }} {{ ansible_facts.distribution }}"
              dest: "{{ folder }}/later"
              mode: "0644"
            when: [seen.Folder.stat.isdir, seen.Nothing.skipped]
            notify: Second
          - name: Not the time
            when: not seen.Folder.stat.exists
            block:
              - {name: Within, ansible.builtin.command: {argv: [touch, "{{ seen.Never.stat }}"]}}
              - {name: Deeper, when: true, block: [{name: Below, ansible.builtin.stat: {path: /}}]}
          - name: The time
            when: seen.Folder.stat.exists
            block: "{{ also + [] }}"
      vars: {also: [{name: Also, ansible.builtin.stat: {path: "{{ '/' }}"}}], word: "{{ '{{ not a template }}' }}"}
      register: third
    - lightsout.aws.batch:
        look: [{name: Folder, ansible.builtin.stat: {path: "{{ folder }}"}}]
        hold: seen.Folder.stat.isdir
        tasks: [{ansible.builtin.command: {argv: [touch, "{{ folder }}/never"]}}]
      register: held
    - lightsout.aws.batch:
        look: [{name: Folder, ansible.builtin.stat: {path: "{{ folder }}"}}]
        refuse:
          - "{% if seen.Folder.stat.isdir %}a folder{% endif %}\n"
          - "{% if false %}x{% endif %}"
          - "\n  and more\n"
        tasks: [{ansible.builtin.command: {argv: [touch, "{{ folder }}/never"]}}]
      ignore_errors: true
      register: refused
    - lightsout.aws.batch:
        problems: "{{ word }} cannot be"
        look: [{name: Folder, ansible.builtin.command: {argv: [touch, "{{ folder }}/never"]}}]
      vars: {word: this}
      ignore_errors: true
      register: wrong
    - lightsout.aws.batch:
        look:
          - {name: Later, ansible.builtin.stat: {path: "{{ folder }}/first"}}
          - {name: First, ansible.builtin.command: {argv: [sh, -c, "sleep 0.2; touch {{ folder }}/first"]}, first: true}
        tasks:
          - name: "Of {{ item.word }}"
            ansible.builtin.copy: {content: "{{ item.word }}", dest: "{{ folder }}/{{ item.word }}", mode: "0644"}
            when: item.wanted
            loop: "{{ words }}"
      vars: {words: [{word: one, wanted: true}, {word: two, wanted: false}, {word: three, wanted: true}]}
      register: looped
    - lightsout.aws.batch:
        at_once: true
        tasks:
          # Each ends only when the other has begun.
          - name: A chain
            block:
              - {name: Begins, ansible.builtin.file: {path: "{{ folder }}/begun", state: touch, mode: "0644"}}
              - {name: Meets, ansible.builtin.wait_for: {path: "{{ folder }}/met", timeout: 20}}
          - name: Another
            block:
              - {name: Waits, ansible.builtin.wait_for: {path: "{{ folder }}/begun", timeout: 20}}
              - {name: Ends, ansible.builtin.file: {path: "{{ folder }}/met", state: touch, mode: "0644"}}
      register: beside
    - lightsout.aws.batch:
        at_once: true
        tasks:
          - name: Bad
            block:
              - {name: Fails, ansible.builtin.command: {argv: ["false"]}}
              - {name: Comes after it, ansible.builtin.command: {argv: [touch, "{{ folder }}/never"]}}
          - {name: Good, ansible.builtin.command: {argv: [touch, "{{ folder }}/good"]}}
      ignore_errors: true
      register: half
    - ansible.builtin.copy:
        content: "{{ found | to_json }}"
        dest: "{{ folder }}/seen.json"
        mode: "0644"
      vars:
        found:
          first: "{{ first }}"
          second: "{{ second }}"
          third: "{{ third }}"
          held: "{{ held }}"
          refused: "{{ refused }}"
          wrong: "{{ wrong }}"
          looped: "{{ looped }}"
          beside: "{{ beside }}"
          half: "{{ half }}"
          facts: "{{ ansible_facts }}"
"""


@pytest.fixture(scope="module")
def behavior(tmp_path_factory) -> tuple[Path, dict[str, Any], str]:
    """What the play above left, what its tasks returned, and what it printed."""
    folder = tmp_path_factory.mktemp("behavior")
    (folder / "book.yml").write_text(BEHAVIOR)
    done = subprocess.run(
        [
            "ansible-playbook",
            "-i",
            str(ROOT / "inventory/localhost.yml"),
            str(folder / "book.yml"),
            "-e",
            f"folder={folder}",
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads((folder / "seen.json").read_text()), done.stdout


def test_only_the_handlers_of_calls_that_changed_something_wake(behavior) -> None:
    _, _, printed = behavior
    assert printed.index("woken first") < printed.index("woken second")
    assert printed.count("woken second") == 1  # by the copy, not by the stat before it


def test_the_list_stops_at_the_first_failure_that_counts(behavior) -> None:
    folder, seen, _ = behavior
    assert [result["rc"] for result in seen["second"]["results"] if "rc" in result] == [1, 1]
    assert seen["second"]["failed"] and seen["second"]["msg"].startswith("Breaks: ")
    assert not (folder / "never").exists()


def test_calls_keep_their_names_skips_are_said_secrets_hidden_and_facts_kept(behavior) -> None:
    _, seen, printed = behavior
    results = {result["name"]: result for result in seen["first"]["results"]}
    assert results["Not now"]["skipped"]
    assert "censored" in results["Hidden"] and "hush" not in json.dumps(seen) + printed
    assert seen["facts"]["pkg_mgr"]


def test_calls_can_depend_on_what_was_seen(behavior) -> None:
    folder, seen, _ = behavior
    assert (folder / "later").read_text().startswith("{{ not a template }} ")
    assert len((folder / "later").read_text().split()) == 6  # the distribution is known
    results = {result["name"]: result for result in seen["third"]["results"]}
    assert results["Within"]["skipped"] and results["Below"]["skipped"] and results["Also"]["stat"]["isdir"]
    assert (
        list(seen["third"]["seen"]) == ["Folder", "Facts", "Nothing"]
        and seen["third"]["seen"]["Folder"]["stat"]["isdir"]
    )


def test_what_is_held_or_refused_does_nothing(behavior) -> None:
    folder, seen, _ = behavior
    assert seen["held"]["held"] and not seen["held"]["changed"] and seen["held"]["seen"]["Folder"]["stat"]["isdir"]
    assert seen["refused"]["failed"] and seen["refused"]["msg"] == "a folder\nand more"
    assert seen["wrong"]["failed"] and seen["wrong"]["msg"] == "this cannot be"
    assert not (folder / "never").exists()


def test_a_call_is_made_for_each_item_of_its_loop(behavior) -> None:
    folder, seen, _ = behavior
    results = {result["name"]: result.get("skipped", False) for result in seen["looped"]["results"]}
    assert results == {"Of one": False, "Of two": True, "Of three": False}
    assert (folder / "one").read_text() == "one" and not (folder / "two").exists()


def test_what_must_be_known_first_is_asked_first(behavior) -> None:
    _, seen, _ = behavior
    assert seen["looped"]["seen"]["Later"]["stat"]["exists"]


def test_at_once_each_entry_goes_its_own_way(behavior) -> None:
    _, seen, _ = behavior
    assert [result["name"] for result in seen["beside"]["results"]] == ["Begins", "Meets", "Waits", "Ends"]
    assert not seen["beside"].get("failed")


def test_at_once_a_failure_stops_its_own_entry_alone_and_is_told(behavior) -> None:
    folder, seen, _ = behavior
    assert seen["half"]["failed"] and seen["half"]["msg"].startswith("Fails: ")
    assert [result["name"] for result in seen["half"]["results"]] == ["Fails", "Good"]
    assert (folder / "good").exists() and not (folder / "never").exists()


MEMORY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - lightsout.aws.batch:
        look:
          - {name: Wish, ansible.builtin.command: {argv: [cat, "{{ folder }}/wish"]}, no_log: "{{ secret }}"}
          - {name: Facts, ansible.builtin.setup: {gather_subset: ["!all", "!min", env]}}
          - {name: Done, ansible.builtin.command: {argv: [test, -e, "{{ folder }}/done"]}, failed_when: false}
        tasks:
          - {ansible.builtin.copy: {content: "{{ seen.Wish.stdout }}", dest: "{{ folder }}/done", mode: "0644"}}
"""


class TestMemory:
    """What a host answered last time saves an exchange, and never decides what is done."""

    @pytest.fixture
    def run(self, tmp_path):
        """Grant the wish; the number of times that a module was executed."""
        (tmp_path / "book.yml").write_text(MEMORY)
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\necho >> {tmp_path}/starts\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

        def run(wish: str, *, secret: bool = False) -> int:
            (tmp_path / "wish").write_text(wish)
            (tmp_path / "starts").write_text("")
            settings = {"folder": str(tmp_path), "secret": secret, "ansible_python_interpreter": str(python)}
            book = str(tmp_path / "book.yml")
            subprocess.run(
                ["ansible-playbook", "-i", "localhost,", "-c", "local", book, "-e", json.dumps(settings)],
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")},
                capture_output=True,
                check=True,
            )
            assert (tmp_path / "done").read_text() == wish
            return len((tmp_path / "starts").read_text().splitlines())

        run.folder, run.shelf = tmp_path, tmp_path / "home/lightsout"
        return run

    def test_the_same_answers_need_one_exchange_and_others_two(self, run) -> None:
        assert [run(wish) for wish in ("tea", "tea", "coffee", "coffee", "tea")] == [2, 1, 2, 1, 2]

    def test_what_was_done_is_not_news_in_the_next_run(self, run) -> None:
        run("tea")  # before it there was none
        assert run("tea") == 1

    def test_work_is_looked_at_though_the_answers_are_the_same(self, run) -> None:
        run("tea")
        (run.folder / "done").write_text("spilled")
        assert run("tea") == 1  # and it is tea again

    def test_what_is_remembered_is_for_its_owner_alone(self, run) -> None:
        run("tea")
        (file,) = run.shelf.glob("seen-*.json")
        assert file.stat().st_mode & 0o777 == 0o600 and run.shelf.stat().st_mode & 0o777 == 0o700

    def test_secrets_are_not_remembered(self, run) -> None:
        assert [run("tea", secret=True) for _ in range(2)] == [2, 2]
        assert not list(run.shelf.glob("seen-*"))

    def test_a_broken_memory_is_no_memory(self, run) -> None:
        run("tea")
        (file,) = run.shelf.glob("seen-*.json")
        for broken in ("", "[", "{}", '["", []]', "[1, 2, 3]"):
            file.write_text(broken)
            assert run("tea") == 2

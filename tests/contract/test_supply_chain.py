"""What is fetched is checked, and nothing goes from the network straight into a shell or an interpreter."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FETCH = r"\b(curl|wget|fetch|aria2c|http)\b"
SHELL = (
    r"(sudo\s+(-\S+\s+)*)?(/\S*/)?(env\s+)?(ba|z|da|k|a)?sh\b"
    r"|(sudo\s+)?(/\S*/)?(python|perl|ruby|node)[\d.]*\b|source\b|eval\b"
)
PIPED = re.compile(
    rf"{FETCH}[^|;&\n]*\|([^|;&\n]*\|)*\s*({SHELL})"  # curl … | sh
    rf"|({SHELL})[^;&|\n]*<\s*\(\s*{FETCH}"  # bash <(curl …)
    rf"|({SHELL}|\.)[^;&|\n]*[$]\(\s*{FETCH}"  # sh -c "$(curl …)"
    rf"|({SHELL})[^;&|\n]*`\s*{FETCH}"
)
#: Tests and benchmarks hold bad examples, and what others do.
OTHERS = ("tests/", "bench/", "docs/", "collections/", "changelogs/")


def strings(node: Any) -> Iterator[str]:
    """Every text in parsed YAML; the words of a list also as one line, as ``argv`` gives them."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for each in node.values():
            yield from strings(each)
    elif isinstance(node, list):
        if node and all(isinstance(each, str) for each in node):
            yield " ".join(node)
        for each in node:
            yield from strings(each)


def texts(path: Path) -> list[str]:
    """What a file gives to shells, with continued lines joined; its comments left out where its language is known."""
    text = path.read_text()
    if path.suffix == ".py":
        tree = ast.parse(text)
        words = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        argvs = [
            " ".join(e.value for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str))
            for node in ast.walk(tree)
            if isinstance(node, ast.List | ast.Tuple)
        ]
        return words + argvs
    if path.suffix in {".yml", ".yaml"}:
        return [each for document in yaml.safe_load_all(text) for each in strings(document)]
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if not line.lstrip().startswith("#")]


def piped(path: Path) -> list[str]:
    """The places of a file where the network is piped into a shell."""
    return [text for text in texts(path) if PIPED.search(text)]


def downloads_without_checksum(path: Path) -> list[str]:
    """The tasks of a file that fetch something and do not check it."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for each in node:
                walk(each)
        elif isinstance(node, dict):
            for name, value in node.items():
                if name in {"ansible.builtin.get_url", "get_url"} and not value.get("checksum"):
                    found.append(str(node.get("name")))
                if name in {"ansible.builtin.unarchive", "unarchive"} and "://" in str(value.get("src")):
                    found.append(str(node.get("name")))
                walk(value)

    for document in yaml.safe_load_all(path.read_text()):
        walk(document)
    return found


def tracked() -> list[Path]:
    """The files of ours that could run something."""
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    kinds = {".py", ".yml", ".yaml", ".j2", ".sh", ".cfg", ""}
    paths = [ROOT / name for name in out.split("\0") if name and not name.startswith(OTHERS)]
    return [path for path in paths if path.is_file() and not path.is_symlink() and path.suffix in kinds]


def test_nothing_is_piped_from_the_network_into_a_shell() -> None:
    files = tracked()
    assert len(files) > 100
    assert {str(path.relative_to(ROOT)): found for path in files if (found := piped(path))} == {}


def test_what_tasks_fetch_is_checked() -> None:
    files = [path for path in tracked() if path.suffix == ".yml"]
    assert {str(path.relative_to(ROOT)): found for path in files if (found := downloads_without_checksum(path))} == {}


def test_packages_are_installed_by_hash() -> None:
    """Of the packages that make setup installs, none comes without its hash (the locks are checked beside)."""
    setup = (ROOT / "tools/setup").read_text().replace("\\\n", " ")
    lines = [line for line in setup.splitlines() if re.search(r"\.venv/bin/\S+.* install ", line)]
    assert len(lines) >= 2
    assert [line for line in lines if "--require-hashes" not in line] == []


@pytest.mark.parametrize(
    "bad",
    [
        "curl -sSL https://example.org/install | sh",
        "curl https://example.org/i.sh | sudo -E bash -s -- --yes",
        "wget -qO- https://example.org/i | tee log | bash",
        "bash <(curl -s https://example.org/i)",
        'sh -c "$(curl -fsSL https://example.org/i)"',
        'eval "$(wget -qO- https://example.org/i)"',
        "curl https://example.org/i.py | python3 -",
    ],
)
@pytest.mark.parametrize("kind", ["task.yml", "argv.yml", "script.sh", "code.py", "unit.j2"])
def test_the_canary_is_seen(bad, kind, tmp_path) -> None:
    file = tmp_path / kind
    match kind:
        case "task.yml":
            file.write_text(yaml.safe_dump([{"ansible.builtin.shell": {"cmd": bad}}]))
        case "argv.yml":
            file.write_text(yaml.safe_dump([{"ansible.builtin.command": {"argv": ["sh", "-c", bad]}}]))
        case "script.sh":
            file.write_text("#!/bin/sh\n" + bad.replace(" | ", " \\\n  | ") + "\n")
        case "code.py":
            file.write_text(f"import subprocess\nsubprocess.run([{bad!r}], shell=True)\n")
        case "unit.j2":
            file.write_text(f"ExecStart=/bin/sh -c '{bad}'\n")
    assert piped(file)


def test_the_canary_of_a_download_is_seen(tmp_path) -> None:
    file = tmp_path / "task.yml"
    file.write_text(
        yaml.safe_dump([{"name": "bad", "ansible.builtin.get_url": {"url": "https://x", "dest": "/tmp/x"}}])
    )
    assert downloads_without_checksum(file) == ["bad"]
    file.write_text(
        yaml.safe_dump([{"block": [{"name": "worse", "unarchive": {"src": "https://x/y.tgz", "dest": "/"}}]}])
    )
    assert downloads_without_checksum(file) == ["worse"]

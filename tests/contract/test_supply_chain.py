"""What comes from the network is checked by its sum, and never piped into a shell."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.contract.test_house import ROOT, tracked

#: A download whose output a shell or an interpreter runs, also over several lines of one command.
PIPED = re.compile(
    r"\b(curl|wget|fetch)\b(?:[^\n|;&]|\\\n)*\|\s*(?:sudo\s+)?(?:env\s+)?(?:ba|z|da|k)?(?:sh|python3?|perl)\b"
    r"|\b(?:ba|z|da)?sh\s+(?:-c\s+)?[\"']?(?:<\(|\$\()\s*(?:curl|wget)\b"
)
#: An installation of Python packages.
INSTALLS = re.compile(r"\b(?:uv )?pip3?[\" ,']+install\b[^\n]*")

SCRIPTS = tracked("*.sh", "*.sh.j2", "Makefile", "tools/*", ".ci/*", "roles/**", "playbooks/**", "localcloud/**/*.py")


def piped(text: str) -> list[str]:
    """What a text pipes from the network into an interpreter."""
    return [found.group(0) for found in PIPED.finditer(text)]


@pytest.mark.parametrize(
    "bad",
    [
        "curl -fsSL https://example.org/install | sh",
        "wget -qO- https://example.org/install | sudo bash -s -- -y",
        'bash -c "$(curl -fsSL https://example.org/install)"',
        "bash <(curl https://example.org/install)",
        "curl https://example.org \\\n  | python3 -",
    ],
)
def test_the_rule_sees_what_it_forbids(bad: str) -> None:
    assert piped(bad)


def test_nothing_is_piped_from_the_network_into_a_shell() -> None:
    assert len(SCRIPTS) > 100
    found = {str(path.relative_to(ROOT)): piped(path.read_text(errors="replace")) for path in SCRIPTS}
    assert {path: lines for path, lines in found.items() if lines} == {}


def downloads(tasks: object) -> list[dict]:
    """Every ``get_url`` of a task file, however deep."""
    if isinstance(tasks, list):
        return [found for task in tasks for found in downloads(task)]
    if not isinstance(tasks, dict):
        return []
    own = [tasks["ansible.builtin.get_url"]] if "ansible.builtin.get_url" in tasks else []
    return own + [found for value in tasks.values() for found in downloads(value)]


def test_every_download_of_a_role_has_a_checksum() -> None:
    found = [each for path in tracked("roles/**/*.yml") for each in downloads(yaml.safe_load(path.read_text()))]
    assert found and all("checksum" in each for each in found)


def test_what_we_install_ourselves_is_pinned_by_hashes() -> None:
    """Packages that people ask for themselves (their environments, a benchmark's contenders) are theirs to pin."""
    scripts = tracked("tools/*", "localcloud/**/*.py", "localcloud/**/*.sh")
    lines = [(path, line) for path in scripts for line in INSTALLS.findall(path.read_text())]
    ours = [(path, line) for path, line in lines if path.parent.name != "anaconda_standin" and "--user uv" not in line]
    assert len(ours) >= 3
    for path, line in ours:
        assert "--require-hashes" in line, f"{path.relative_to(ROOT)}: {line}"
    for lock in ("requirements.txt", "requirements-dev.txt"):
        pins = [pin for pin in re.split(r"\n(?=\S)", (ROOT / lock).read_text()) if "==" in pin.partition("\n")[0]]
        assert len(pins) > 10 and all("--hash=sha256:" in pin for pin in pins), lock

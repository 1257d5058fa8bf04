"""The README promises what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]
PAGES += ROOT.glob("docs/*.md")
page = pytest.mark.parametrize(
    "page", [p for p in PAGES if "collections" not in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)


@page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


@page
def test_playbooks_and_targets_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"playbooks/([a-z_]+\.yml)", text):
        assert (ROOT / "playbooks" / name).is_file(), f"{page.name} names playbooks/{name}"
    for name in re.findall(r"^\$? ?make ([a-z-]+)|`make ([a-z-]+)`", text, re.MULTILINE):
        assert "".join(name) in targets, f"{page.name} names make {''.join(name)}"


def test_every_role_and_every_playbook_that_people_type_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for role in (ROOT / "roles").iterdir():
        assert f"roles/{role.name}/README.md" in text
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        assert playbook.name in text or playbook.name == "select_machines.yml", playbook.name


def test_the_settings_page_holds_the_dozen_that_people_change() -> None:
    settings = re.findall(r"^[a-z]\w+:", (ROOT / "group_vars/all.yml").read_text(), re.MULTILINE)
    assert len(settings) == 12

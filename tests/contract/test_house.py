"""The house rules that a reader would otherwise have to check by eye."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]

#: Collections that a role or module could use; anything else that looks like one is a Python package.
KNOWN = {
    "amazon.aws",
    "ansible.posix",
    "community.aws",
    "community.crypto",
    "community.general",
    "containers.podman",
}

#: Parts of ansible-core that look like collections.
CORE = ("ansible.builtin", "ansible.module_utils", "ansible.plugins", "ansible.utils")

CHANGELOG_SECTIONS = {key for key, _title in yaml.safe_load((ROOT / "changelogs/config.yaml").read_text())["sections"]}


def tracked(*patterns: str) -> list[Path]:
    """The files that git tracks, by pattern."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in out.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_bundled_collections_satisfy_the_ranges_for_galaxy_users() -> None:
    """What `make setup` installs and what requirements.yml and galaxy.yml ask for must be one world."""
    bundled = Path(sys.prefix) / f"lib/python3.{sys.version_info.minor}/site-packages/ansible_collections"
    wanted = {c["name"]: c["version"] for c in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]}
    wanted |= yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"]
    for name, versions in wanted.items():
        manifest = bundled / name.replace(".", "/") / "MANIFEST.json"
        version = yaml.safe_load(manifest.read_text())["collection_info"]["version"]
        assert Version(version) in SpecifierSet(versions), f"{name} {version} is outside {versions}"


def test_galaxy_dependencies_are_the_collections_that_roles_playbooks_and_plugins_use() -> None:
    declared = set(yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"])
    used = set()
    for path in tracked("roles/*.yml", "roles/**/*.yml", "playbooks/*.yml", "plugins/**/*.py"):
        for namespace, name in re.findall(r"\b(amazon|community|ansible|containers)\.(\w+)\.\w+", path.read_text()):
            used.add(f"{namespace}.{name}")
    used = {u for u in used if not u.startswith(CORE)}
    used &= KNOWN
    assert used == declared


def test_only_the_local_cloud_its_tools_and_tests_know_that_it_exists() -> None:
    for path in tracked("playbooks", "roles", "plugins", "inventory", "group_vars", "ansible.cfg"):
        if path.suffix in {".yml", ".py", ".j2", ".cfg"}:
            assert not re.search(r"local.?cloud|\bmoto\b|podman", path.read_text(), re.IGNORECASE), path


def test_no_lock_names_an_index_and_every_package_is_hashed() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text and "--find-links" not in text
        pins = re.findall(r"^[a-z0-9][\w.\[\],-]*==", text, re.MULTILINE)
        blocks = re.findall(r"^[a-z0-9][\w.\[\],-]*==.*\\\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+", text, re.MULTILINE)
        assert len(pins) == len(blocks) > 10


def test_the_dev_lock_holds_the_same_versions_as_the_users_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9][\w.\[\],-]*==[\w.+]+)", (ROOT / name).read_text(), re.MULTILINE))

    assert pins("requirements.txt") <= pins("requirements-dev.txt")


def test_every_playbook_is_short_named_with_underscores_and_says_what_it_does() -> None:
    for path in tracked("playbooks/*.yml"):
        text = path.read_text()
        assert re.fullmatch(r"[a-z][a-z0-9_]*\.yml", path.name), path.name
        assert text.startswith("---\n# "), f"{path.name} does not begin with a comment that says what it does"
        assert len(text.splitlines()) <= 120, f"{path.name} is long: logic belongs in a role or module"


def test_nothing_hides_a_failure() -> None:
    for path in tracked("playbooks", "roles", "molecule"):
        if path.suffix == ".yml":
            assert not re.search(r"ignore_errors:\s*(true|yes)", path.read_text()), path


def test_changelog_has_a_fragment_or_release_for_what_is_here() -> None:
    fragments = tracked("changelogs/fragments/*.yml")
    assert fragments or (ROOT / "changelogs/changelog.yaml").exists()
    for path in fragments:
        sections = yaml.safe_load(path.read_text())
        assert set(sections) <= CHANGELOG_SECTIONS | {"release_summary"}

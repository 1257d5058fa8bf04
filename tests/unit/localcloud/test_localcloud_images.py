"""Which machine image is taken, and when it is built."""

from __future__ import annotations

import platform

import pytest

from localcloud import images
from localcloud.podman import PodmanError


@pytest.fixture
def built(monkeypatch, pod, tmp_path) -> list[str]:
    """The references that were built, on a computer that runs Debian 12."""
    built: list[str] = []
    monkeypatch.setattr(images, "_build", lambda reference, release: built.append(reference))
    monkeypatch.setattr(images.podman, "CACHE", tmp_path)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    return built


def test_an_image_is_built_when_it_is_not_there(built, pod):
    reference = images.ensure_machine_image()
    assert reference.startswith(f"{images.NAME}:bookworm-")
    assert built == [reference]
    pod.answers["images", "--quiet"] = "0123456789ab\n"
    assert images.ensure_machine_image() == reference
    assert built == [reference]


@pytest.mark.parametrize(
    ("what", "other"),
    [("PACKAGES", ["systemd"]), ("CLOUD_INIT", "locale: true"), ("MASKED", []), ("HOOKS", []), ("CHANGES", [])],
)
def test_another_recipe_is_another_image(built, monkeypatch, what, other):
    before = images.ensure_machine_image()
    monkeypatch.setattr(images, what, other)
    assert images.ensure_machine_image() != before


def test_another_release_is_another_image(built):
    assert images.ensure_machine_image("trixie").startswith(f"{images.NAME}:trixie-")


def test_only_debian_and_its_children_can_build_one(built, monkeypatch):
    ubuntu = {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_CODENAME": "noble"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: ubuntu)
    assert images.ensure_machine_image().startswith(f"{images.NAME}:noble-")
    fedora = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 43"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: fedora)
    with pytest.raises(PodmanError, match="this computer runs Fedora Linux 43"):
        images.ensure_machine_image()


def test_without_mmdebstrap_it_says_what_to_install(monkeypatch, pod):
    monkeypatch.setattr(images.shutil, "which", lambda _: None)
    with pytest.raises(PodmanError, match="apt-get install mmdebstrap"):
        images._build("a:b", "bookworm")


def test_a_failed_build_tells_the_last_lines_and_leaves_no_folder(monkeypatch, pod, tmp_path):
    failing = tmp_path / "mmdebstrap"
    failing.write_text("#!/bin/sh\necho E: no such release >&2\nexit 25\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(images.podman, "CACHE", tmp_path / "cache")
    with pytest.raises(PodmanError, match="E: no such release"):
        images._build("a:b", "bookworm")
    assert list((tmp_path / "cache").iterdir()) == []
    assert pod.calls == []


def test_only_images_that_were_built_here_are_listed(pod):
    pod.answers["images", "--filter"] = f"{images.NAME}:a\nlocalhost/other:b\n{images.NAME}:a\n"
    assert images.built_images() == [f"{images.NAME}:a"]

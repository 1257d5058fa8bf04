"""The fingerprint of an upload, and what a fetch would change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import folders


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "data ü").mkdir()
    (tmp_path / "data ü/words.txt").write_text("one\n")
    (tmp_path / "train.py").write_bytes(b"#!/usr/bin/env python3\r\nprint(1)\r\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/index").write_text("x")
    return tmp_path


def test_an_upload_is_summed_up_with_what_has_to_be_mended(source):
    found = folders.summarize(source, [".git"])
    assert (found.files, found.crlf, found.not_executable) == (2, ["train.py"], ["train.py"])


def test_the_digest_depends_on_names_contents_and_run_bits_and_not_on_times(source):
    before = folders.summarize(source, [".git"]).digest
    os.utime(source / "train.py", (1, 1))
    (source / ".git/index").write_text("y")
    assert folders.summarize(source, [".git"]).digest == before
    (source / "train.py").chmod(0o755)
    run_bit = folders.summarize(source, [".git"]).digest
    (source / "data ü/words.txt").write_text("two\n")
    assert len({before, run_bit, folders.summarize(source, [".git"]).digest}) == 3


@pytest.mark.parametrize(
    ("path", "patterns", "out"),
    [
        ("a/.git/index", [".git/index"], True),
        ("a/b.pyc", ["*.pyc"], True),
        ("a/b.py", ["*.pyc"], False),
        ("a/results", ["/results"], False),
        ("results", ["/results"], True),
        ("a/b/c", ["a/*"], False),
    ],
)
def test_patterns_as_rsync_reads_them(path, patterns, out):
    assert folders.excluded(path, patterns) is out


def test_links_that_lead_out_stand_for_what_they_point_at(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir(), inside.mkdir()
    (outside / "f").write_text("x")
    (inside / "away").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    assert [name for name, _ in folders.walk(inside, [])] == ["away/f", "loop"]


def test_a_fetch_tells_new_changed_same_and_what_is_younger_here(tmp_path):
    def original(text: str, mtime: float) -> dict:
        (tmp_path / "scratch").write_text(text)
        return {"sha256": folders.read(tmp_path / "scratch").sha256, "size": len(text), "mtime": mtime}

    local = tmp_path / "local"
    local.mkdir()
    for name in ("same", "changed", "younger", "mine alone"):
        (local / name).write_text("here")
        os.utime(local / name, (100, 100))
    manifest = {
        "same": original("here", 500),
        "changed": original("there", 500),
        "younger": original("there", 50),
        "new": original("there", 50),
    }
    found = folders.compare(manifest, local)
    assert (found.same, found.changed, found.newer_here, found.new) == (["same"], ["changed"], ["younger"], ["new"])


def test_a_manifest_that_would_write_elsewhere_is_found_out():
    assert folders.escapes({"../x": {}, "a/../../x": {}, "/etc/passwd": {}, "a..b/c": {}}) == [
        "../x",
        "a/../../x",
        "/etc/passwd",
    ]


class TestIndex:
    """What has not changed is not read again, and what has changed always is."""

    @pytest.fixture
    def index(self, tmp_path: Path) -> folders.Index:
        return folders.Index(tmp_path / "memory/index.json")

    @pytest.fixture
    def file(self, source: Path) -> Path:
        """A file that has not been touched for a while."""
        path = source / "data ü/words.txt"
        os.utime(path, (100, 100))
        return path

    @pytest.fixture(autouse=True)
    def reads(self, monkeypatch) -> list[Path]:
        """What is read, in its order."""
        seen: list[Path] = []
        really = folders.read
        monkeypatch.setattr(folders, "read", lambda path: seen.append(path) or really(path))
        return seen

    @pytest.fixture
    def later(self, monkeypatch) -> None:
        """The clock is an hour ahead: nothing is too young to be remembered."""
        now = folders.time.time_ns
        monkeypatch.setattr(folders.time, "time_ns", lambda: now() + 3_600_000_000_000)

    def test_a_second_look_reads_nothing(self, index, file, reads, later):
        first = index.look([file])
        again = folders.Index(index.file).look([file])
        assert (first, reads) == (again, [file])

    def test_a_change_is_seen_though_size_and_time_are_as_before(self, index, file, reads, later):
        before = index.look([file])[file].sha256
        file.write_text("two\n")
        os.utime(file, (100, 100))
        assert folders.Index(index.file).look([file])[file].sha256 != before

    def test_what_changed_a_moment_ago_is_read_again(self, index, file, reads):
        index.look([file])
        folders.Index(index.file).look([file])
        assert reads == [file, file]

    def test_without_a_memory_and_with_a_broken_one_everything_is_read(self, index, file, reads, later):
        index.file.parent.mkdir()
        index.file.write_text("{half")
        assert folders.Index(index.file).look([file]) == folders.Index().look([file])
        assert reads == [file, file]

"""The same folder is the same archive, wherever and whenever it is packed."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from ansible_collections.lightsout.aws.plugins.modules import source_archive


def folder(at: Path, when: int) -> Path:
    """A source with a script, a link within, a link out and what nobody wants."""
    at.mkdir()
    (at / "däta").mkdir()
    (at / "däta/words.txt").write_text("eins\n")
    (at / "run.sh").write_text("#!/bin/sh\n")
    (at / "run.sh").chmod(0o700)
    (at / "link").symlink_to("run.sh")
    (at / "out").symlink_to("/etc/hostname")
    (at / ".git").mkdir()
    (at / ".git/config").write_text("secret")
    for path in at.rglob("*"):
        os.utime(path, (when, when), follow_symlinks=False)
    return at


def test_times_and_places_make_no_difference(tmp_path: Path) -> None:
    for number in (1, 2):
        source_archive.pack(folder(tmp_path / str(number), number * 1000), tmp_path / f"{number}.tar.gz", [".git"])
    first, second = ((tmp_path / f"{number}.tar.gz").read_bytes() for number in (1, 2))
    assert first == second
    assert (tmp_path / "1.tar.gz").stat().st_mode & 0o777 == 0o600


def test_it_holds_the_files_the_links_and_nothing_of_ours(tmp_path: Path) -> None:
    source_archive.pack(folder(tmp_path / "a", 1000), tmp_path / "a.tar.gz", [".git"])
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        members = {member.name: member for member in archive}
        assert set(members) == {"däta/words.txt", "run.sh", "link", "out"}
        assert members["link"].linkname == "run.sh" and members["out"].isfile()
        assert members["run.sh"].mode == 0o755 and members["däta/words.txt"].mode == 0o644
        assert {(one.uid, one.uname, one.mtime) for one in members.values()} == {(0, "", 0)}


def test_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print()")
    source_archive.pack(tmp_path / "train.py", tmp_path / "a.tar.gz", [])
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert archive.getnames() == ["train.py"]

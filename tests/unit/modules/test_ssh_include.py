"""Of a user's own file one line changes, and nothing else."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.modules import ssh_include

LINE = "Include ~/.ssh/lightsout/*.config"


@pytest.mark.parametrize(
    "before",
    [b"", b"Host a\r\n  User b\r\n", b"no end", b"\xff\xfe not text \x00\n", b"Host *\n" + LINE.encode() + b"\n"],
)
def test_all_other_bytes_stay_and_there_is_a_copy(run, tmp_path, before) -> None:
    path = tmp_path / "config"
    path.write_bytes(before)
    path.chmod(0o640)
    told = run(ssh_include, check=True, path=str(path), line=LINE)
    assert told["changed"] and path.read_bytes() == before
    done = run(ssh_include, path=str(path), line=LINE)
    assert done["changed"] and path.read_bytes() == LINE.encode() + b"\n" + before
    assert path.stat().st_mode & 0o777 == 0o640
    with open(done["backup"], "rb") as copy:  # noqa: PTH123
        assert copy.read() == before
    assert not run(ssh_include, path=str(path), line=LINE)["changed"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_file_is_made_for_its_owner_alone(run, tmp_path) -> None:
    path = tmp_path / "ssh/config"
    assert run(ssh_include, path=str(path), line=LINE)["backup"] == ""
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_link_stays_a_link(run, tmp_path) -> None:
    real, link = tmp_path / "dotfiles", tmp_path / "config"
    real.write_text("Host a\n")
    link.symlink_to(real)
    run(ssh_include, path=str(link), line=LINE)
    assert link.is_symlink() and real.read_text() == f"{LINE}\nHost a\n"

# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What lies in a folder: the fingerprint of an upload, and the difference between a fetched copy and its original."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

#: Endings of files that an interpreter reads line by line, where a carriage return does harm.
SCRIPTS = {".sh", ".bash", ".py", ".pl", ".rb", ".r"}
#: No script is longer, in bytes; what is longer is data, whatever its name.
LONGEST_SCRIPT = 2 * 1024 * 1024


@dataclass
class Summary:
    """What an upload consists of."""

    #: SHA-256 over names, links, run bits and contents, in hexadecimal.
    digest: str
    #: How many files.
    files: int = 0
    #: How many bytes.
    size: int = 0
    #: Scripts with Windows line ends, relative to the folder.
    crlf: list[str] = field(default_factory=list)
    #: Files that begin with `#!` and lack the run bit, relative to the folder.
    not_executable: list[str] = field(default_factory=list)


@dataclass
class Difference:
    """How a local copy differs from a manifest: lists of paths, each sorted."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    #: Differs, and the local file is the younger one.
    newer_here: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)


def checksum(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def excluded(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path (relative, with `/`) matches a pattern, as rsync would see it.

    A pattern that begins with `/` is matched from the top, any other one against the end of the path; `*` stays within
    one name.
    """
    names = path.split("/")
    for pattern in patterns:
        wanted = pattern.strip("/").split("/")
        if len(wanted) > len(names) or (pattern.startswith("/") and len(wanted) != len(names)):
            continue
        if all(fnmatch.fnmatchcase(name, want) for name, want in zip(names[-len(wanted) :], wanted, strict=True)):
            return True
    return False


def walk(folder: pathlib.Path, exclude: Sequence[str]) -> Iterator[tuple[str, pathlib.Path]]:
    """Every file and link below a folder but the excluded ones, sorted: (relative path, path).

    A link out of the folder stands for what it points at, as in the upload; links within stay links.
    """

    def below(where: pathlib.Path, prefix: str) -> Iterator[tuple[str, pathlib.Path]]:
        for path in sorted(where.iterdir()):
            relative = f"{prefix}{path.name}"
            if excluded(relative, exclude):
                continue
            if path.is_dir() and (not path.is_symlink() or leads_out(path)):
                yield from below(path, f"{relative}/")
            elif path.is_symlink() or path.is_file():
                yield relative, path

    def leads_out(path: pathlib.Path) -> bool:
        target = path.resolve()
        return not target.is_relative_to(folder) and not folder.is_relative_to(target)

    folder = folder.resolve()
    yield from below(folder, "")


def summarize(source: pathlib.Path, exclude: Sequence[str] = ()) -> Summary:
    """Read a file or folder once and say what an upload of it would be.

    The digest does not depend on times, so that a fresh clone of the same commit is the same source.
    """
    total = hashlib.sha256()
    summary = Summary(digest="")
    root = source.resolve()
    entries = walk(source, exclude) if source.is_dir() else [(source.name, root)]
    for relative, path in entries:
        total.update(os.fsencode(relative) + b"\0")
        if path.is_symlink() and path.resolve().is_relative_to(root):
            total.update(b"link " + os.fsencode(path.readlink()) + b"\0")
            continue
        if not path.is_file():
            continue
        status = path.stat()
        total.update(b"x" if status.st_mode & 0o100 else b"-")
        total.update(bytes.fromhex(checksum(path)))
        summary.files += 1
        summary.size += status.st_size
        look_at_script(relative, path, status, summary)
    summary.digest = total.hexdigest()
    return summary


def look_at_script(relative: str, path: pathlib.Path, status: os.stat_result, summary: Summary) -> None:
    """Note what would keep a script from running on Linux."""
    if status.st_size > LONGEST_SCRIPT:
        return
    with path.open("rb") as stream:
        shebang = stream.read(2) == b"#!"
        if not shebang and path.suffix.lower() not in SCRIPTS:
            return
        stream.seek(0)
        if b"\r\n" in stream.read():
            summary.crlf.append(relative)
    if shebang and not status.st_mode & 0o100:
        summary.not_executable.append(relative)


def compare(manifest: Mapping[str, Mapping], folder: pathlib.Path) -> Difference:
    """How a local folder differs from what is to be fetched.

    `manifest`: {relative path: {"sha256", "size", "mtime"} or {"link"}}, as the job runner lists its results.
    Local files that are not in it are nobody's business.
    """
    difference = Difference()
    for relative, original in sorted(manifest.items()):
        path = folder / relative
        if not path.is_symlink() and not path.exists():
            difference.new.append(relative)
        elif is_copy(path, original):
            difference.same.append(relative)
        elif path.lstat().st_mtime > original.get("mtime", 0) and "link" not in original:
            difference.newer_here.append(relative)
        else:
            difference.changed.append(relative)
    return difference


def is_copy(path: pathlib.Path, original: Mapping) -> bool:
    """Whether a local file is what the manifest says, by content."""
    if "link" in original:
        return path.is_symlink() and str(path.readlink()) == original["link"]
    if path.is_symlink() or not path.is_file() or path.stat().st_size != original["size"]:
        return False
    return checksum(path) == original["sha256"]


def escapes(paths: Mapping[str, Mapping]) -> list[str]:
    """The paths of a manifest that would land outside the folder it is fetched into: an honest one has none."""
    return [path for path in paths if path.startswith("/") or ".." in path.split("/")]

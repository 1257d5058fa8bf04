# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What lies in a folder: the fingerprint of an upload, and the difference between a fetched copy and its original."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

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


class Content(NamedTuple):
    """What was found in a file."""

    #: Of all of it, in hexadecimal.
    sha256: str
    #: It begins with `#!`.
    shebang: bool
    #: It is a script with Windows line ends.
    crlf: bool


def read(path: pathlib.Path) -> Content:
    """Read a file once."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size > LONGEST_SCRIPT:
            return Content(hashlib.file_digest(stream, "sha256").hexdigest(), False, False)
        content = stream.read()
    shebang = content.startswith(b"#!")
    is_script = shebang or path.suffix.lower() in SCRIPTS
    return Content(hashlib.sha256(content).hexdigest(), shebang, is_script and b"\r\n" in content)


class Index:
    """What is in files, remembered by size, times and inode as git's index does: what has not changed is not read.

    A file that changed in the last two seconds before it was read is not remembered: it might have changed once more
    without the clock of its file system having moved.

    Args:
        file: where it is kept; None to read everything each time.
    """

    def __init__(self, file: pathlib.Path | None = None) -> None:
        self.file = file
        self.known: dict[str, list] = {}
        if file:
            with contextlib.suppress(OSError, ValueError):
                self.known = json.loads(file.read_text(encoding="utf-8"))

    def look(self, paths: Iterable[pathlib.Path]) -> dict[pathlib.Path, Content]:
        """What is in each of the files; from now on these are what is remembered."""
        paths = list(paths)
        marks = {path: self.mark(path) for path in paths}
        entries = {path: self.known.get(str(path)) for path in paths}
        unknown = [path for path in paths if not entries[path] or entries[path][0] != marks[path]]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = dict(zip(unknown, pool.map(read, unknown), strict=True))
        settled = time.time_ns() - 2_000_000_000
        contents = {path: found[path] if path in found else Content(*entries[path][1]) for path in paths}
        if unknown and self.file:
            known = {str(path): [marks[path], contents[path]] for path in paths if max(marks[path][1:3]) < settled}
            beside = self.file.with_suffix(f".{os.getpid()}")
            with contextlib.suppress(OSError):  # it is only quicker with it
                self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                beside.write_text(json.dumps(known), encoding="utf-8")
                beside.replace(self.file)
        return contents

    @staticmethod
    def mark(path: pathlib.Path) -> list[int]:
        """What is another one when the content is."""
        status = path.stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


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


def summarize(source: pathlib.Path, exclude: Sequence[str] = (), index: Index | None = None) -> Summary:
    """Say what an upload of a file or folder would be.

    The digest does not depend on times, so that a fresh clone of the same commit is the same source.
    """
    total = hashlib.sha256()
    summary = Summary(digest="")
    root = source.resolve()
    entries = list(walk(source, exclude)) if source.is_dir() else [(source.name, root)]
    links = {path for _relative, path in entries if path.is_symlink() and path.resolve().is_relative_to(root)}
    contents = (index or Index()).look(path for _relative, path in entries if path not in links and path.is_file())
    for relative, path in entries:
        total.update(os.fsencode(relative) + b"\0")
        if path in links:
            total.update(b"link " + os.fsencode(path.readlink()) + b"\0")
        elif path in contents:
            content, status = contents[path], path.stat()
            runs = bool(status.st_mode & 0o100)
            total.update(b"x" if runs else b"-")
            total.update(bytes.fromhex(content.sha256))
            summary.files += 1
            summary.size += status.st_size
            if content.crlf:
                summary.crlf.append(relative)
            if content.shebang and not runs:
                summary.not_executable.append(relative)
    summary.digest = total.hexdigest()
    return summary


def compare(manifest: Mapping[str, Mapping], folder: pathlib.Path, index: Index | None = None) -> Difference:
    """How a local folder differs from what is to be fetched.

    `manifest`: {relative path: {"sha256", "size", "mtime"} or {"link"}}, as the job runner lists its results.
    Local files that are not in it are nobody's business.
    """
    difference = Difference()
    here = {relative: folder / relative for relative in sorted(manifest)}
    contents = (index or Index()).look(path for name, path in here.items() if may_be_copy(path, manifest[name]))
    for relative, path in here.items():
        original = manifest[relative]
        if not path.is_symlink() and not path.exists():
            difference.new.append(relative)
        elif is_copy(path, original, contents.get(path)):
            difference.same.append(relative)
        elif path.lstat().st_mtime > original.get("mtime", 0) and "link" not in original:
            difference.newer_here.append(relative)
        else:
            difference.changed.append(relative)
    return difference


def is_copy(path: pathlib.Path, original: Mapping, content: Content | None) -> bool:
    """Whether a local file or link is what the manifest says."""
    if "link" in original:
        return path.is_symlink() and str(path.readlink()) == original["link"]
    return content is not None and content.sha256 == original["sha256"]


def may_be_copy(path: pathlib.Path, original: Mapping) -> bool:
    """Whether a look into a local file can tell that it is what the manifest says."""
    if "link" in original or path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == original["size"]


def escapes(paths: Mapping[str, Mapping]) -> list[str]:
    """The paths of a manifest that would land outside the folder it is fetched into: an honest one has none."""
    return [path for path in paths if path.startswith("/") or ".." in path.split("/")]

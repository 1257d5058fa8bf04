#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: source_archive
version_added: 0.2.0
short_description: Pack a file or folder into one archive that is the same wherever it is packed
description:
  - Writes a C(.tar.gz) without times, owners and names of users, so that a fresh clone of the same commit is the same
    archive.
  - Links within the folder stay links; a link out of it is packed as what it points at.
options:
  source:
    description:
      - What to pack.
    type: path
    required: true
  dest:
    description:
      - The archive. Its folder must exist. Only its owner can read it.
    type: path
    required: true
  exclude:
    description:
      - What to leave out, as patterns of rsync.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Reads the source, writes nothing.
  diff_mode:
    support: none
    description: There is nothing that a diff would tell.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Pack what the job needs
  lightsout.aws.source_archive:
    source: examples/reranker
    dest: /tmp/source.tar.gz
    exclude: [.git, __pycache__]
"""

RETURN = r"""
digest:
  description: SHA-256 over names, links, run bits and contents.
  returned: always
  type: str
files:
  description: How many files.
  returned: always
  type: int
size:
  description: How many bytes they have.
  returned: always
  type: int
"""

import gzip
import os
import pathlib
import tarfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lightsout.aws.plugins.module_utils import folders


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without what differs from computer to computer."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def pack(source: pathlib.Path, dest: pathlib.Path, exclude: list[str]) -> None:
    """Write the archive as a whole or not at all."""
    root, beside = source.resolve(), dest.with_name(f".{dest.name}.new")
    entries = list(folders.walk(source, exclude)) if source.is_dir() else [(source.name, root)]
    with beside.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        os.fchmod(raw.fileno(), 0o600)
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for relative, path in entries:
                inside = path.is_symlink() and path.resolve().is_relative_to(root)
                archive.dereference = not inside
                archive.add(path, relative, recursive=False, filter=plain)
    beside.replace(dest)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    source, dest = pathlib.Path(module.params["source"]), pathlib.Path(module.params["dest"])
    try:
        summary = folders.summarize(source, module.params["exclude"])
        if not module.check_mode:
            pack(source, dest, module.params["exclude"])
    except OSError as error:
        module.fail_json(msg=f"Could not pack {source}: {error}")
    module.exit_json(changed=False, digest=summary.digest, files=summary.files, size=summary.size)


if __name__ == "__main__":
    main()

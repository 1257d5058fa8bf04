#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ssh_include
version_added: 0.2.0
short_description: One line at the top of an ssh configuration
description:
  - Puts a line before everything else, where it is before any C(Host), and keeps a copy of the file as it was.
  - All other bytes stay as they are, whatever their encoding and line ends are; M(ansible.builtin.lineinfile) rewrites
    those. So do the file's mode and owner, and a link stays a link.
options:
  path:
    description:
      - The configuration. Made, for its owner alone, when it is missing.
    type: path
    required: true
  line:
    description:
      - The line.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Says whether the line is missing, changes nothing.
  diff_mode:
    support: full
    description: The line that the file gets.
seealso:
  - module: ansible.builtin.lineinfile
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Include our files
  lightsout.aws.ssh_include:
    path: ~/.ssh/config
    line: Include ~/.ssh/lightsout/*.config
"""

RETURN = r"""
backup:
  description: Where the copy is; empty when none was needed.
  returned: always
  type: str
  sample: /home/ada/.ssh/config.4711.2026-11-28@09:15:22~
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "line": {"required": True}}, supports_check_mode=True
    )
    line = module.params["line"]
    path = Path(module.params["path"]).resolve()  # behind a link
    before = path.read_bytes() if path.exists() else b""
    first = before.split(b"\n", 1)[0].strip()
    if first == line.encode():
        module.exit_json(changed=False, backup="")
    backup = ""
    if not module.check_mode:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        backup = module.backup_local(str(path)) if path.exists() else ""
        handle, name = tempfile.mkstemp(dir=path.parent)  # for its owner alone
        with os.fdopen(handle, "wb") as file:
            file.write(f"{line}\n".encode() + before)
        new = not path.exists()
        module.atomic_move(name, str(path))  # with the mode and owner of the file that was there
        if new:
            path.chmod(0o600)
    module.exit_json(changed=True, backup=backup, diff={"before": "", "after": f"{line}\n"})


if __name__ == "__main__":
    main()

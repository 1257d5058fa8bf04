# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Jupyter password's hash, made on the controller: the password itself never travels."""

from __future__ import annotations

import base64
import re
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from argon2 import PasswordHasher
except ImportError:  # told when a hash is asked for: a role's other parts work without
    PasswordHasher = None

#: What jupyter_server itself uses (jupyter_server/auth/security.py, 2.x): memory in KiB, rounds, lanes.
ARGON2 = {"memory_cost": 10240, "time_cost": 10, "parallelism": 8}

#: The two kinds of hash that Jupyter Server accepts: what it writes today, and what it wrote before 2021.
FORMS = re.compile(
    r"argon2:\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+|sha1:[0-9a-f]+:[0-9a-f]{40}"
)

SALT = re.compile(r"argon2:\$argon2id\$v=19\$m=10240,t=10,p=8\$([A-Za-z0-9+/]{22,})")


def is_jupyter_hash(value: Any) -> bool:
    """Whether Jupyter Server accepts ``value`` as ``hashed_password``."""
    return isinstance(value, str) and FORMS.fullmatch(value) is not None


def jupyter_hash(password: str, salt: str = "") -> str:
    """The argon2id hash of a password in Jupyter's form.

    Args:
        password: what a person types, any text.
        salt: an argon2id hash of ours up to its salt, ``argon2:$argon2id$v=19$m=10240,t=10,p=8$SALT``: it is used
            again, so that the same password has the same hash. With anything else the salt is new.

    Raises:
        AnsibleFilterError: argon2-cffi is missing on the controller.
    """
    if PasswordHasher is None:
        raise AnsibleFilterError("argon2-cffi is needed on this computer: pip install argon2-cffi (or `make setup`)")
    used = SALT.fullmatch(salt)
    known = base64.b64decode(used[1] + "=" * (-len(used[1]) % 4)) if used else None
    return "argon2:" + PasswordHasher(**ARGON2).hash(password, salt=known)


class FilterModule:
    """Ansible finds filters here."""

    def filters(self) -> dict[str, Any]:
        """Name to function."""
        return {"jupyter_hash": jupyter_hash}

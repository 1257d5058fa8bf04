# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A machine's ssh host key, learnt from what the machine itself printed on its console at its first boot."""

from __future__ import annotations

import base64
import binascii
import re
import struct

#: Which of several keys is remembered: the first of these that there is.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")

#: The longest value that a tag can have.
LONGEST_TAG = 256

_BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_KEY = re.compile(rf"\b({'|'.join(KINDS)}) ([A-Za-z0-9+/]+={{0,2}})")
_FINISHED = re.compile(r"Cloud-init v\. \S+ finished at")


def is_key(text: str) -> bool:
    """Whether it is a whole public key, ``ssh-ed25519 AAAA…``, whose inside says the same kind as its outside."""
    found = _KEY.fullmatch(text)
    if not found:
        return False
    try:
        inside = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return False
    if len(inside) < 4:
        return False
    (length,) = struct.unpack(">I", inside[:4])
    return inside[4 : 4 + length] == found[1].encode() and len(inside) > 4 + length


def from_console(text: str) -> str | None:
    """The host key that cloud-init printed last; None when there is none in the text."""
    blocks = _BLOCK.findall(text)
    if not blocks:
        return None
    keys = [" ".join(found) for found in _KEY.findall(blocks[-1])]
    return min(filter(is_key, keys), key=lambda key: KINDS.index(key.split()[0]), default=None)


def boot_is_over(text: str) -> bool:
    """Whether cloud-init is done: what it has not printed by now will not come."""
    return bool(_FINISHED.search(text))


def known(text: str, alias: str) -> list[str]:
    """The keys that a known_hosts file has for a name that is written plainly."""
    lines = (line.split() for line in text.splitlines())
    return [" ".join(words[1:3]) for words in lines if len(words) >= 3 and alias in words[0].split(",")]

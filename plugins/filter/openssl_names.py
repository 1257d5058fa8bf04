# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Host names and addresses, as openssl prints those of a certificate."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any


def openssl_name(name: str) -> str:
    """One name as ``openssl x509 -ext subjectAltName`` prints it.

    Args:
        name: a host name, or an IPv4 or IPv6 address in any of its spellings.
    """
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return f"DNS:{name}"
    if address.version == 4:
        return f"IP Address:{address}"
    # openssl leaves out leading zeros, but no groups.
    return "IP Address:" + ":".join(f"{int(group, 16):X}" for group in address.exploded.split(":"))


def openssl_names(names: Iterable[str]) -> list[str]:
    """The same for several, sorted."""
    return sorted(openssl_name(name) for name in names)


class FilterModule:
    """Ansible finds filters here."""

    def filters(self) -> dict[str, Any]:
        """Name to function."""
        return {"openssl_names": openssl_names}

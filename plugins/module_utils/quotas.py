# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many vCPUs an account may run, by family of instance types. New accounts may run no GPU machine at all."""

from __future__ import annotations

import re

#: (families, what people call them, quota on demand, quota for spot); the codes are AWS's own.
_QUOTAS = (
    ({"a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"}, "standard", "L-1216C47A", "L-34B43A08"),
    ({"g", "gr", "vt"}, "G and VT", "L-DB2E81BA", "L-3819A6DF"),
    ({"p"}, "P", "L-417A185B", "L-7212CCBC"),
)


def quota_of(instance_type: str, spot: bool) -> tuple[str, str] | None:
    """The quota that a type counts against: its code and the family's name; None for families not in our table."""
    letters = re.match(r"[a-z]+", instance_type)
    for families, title, on_demand_code, spot_code in _QUOTAS:
        if letters and letters[0] in families:
            return (spot_code if spot else on_demand_code), title
    return None

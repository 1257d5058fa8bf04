# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which instance types meet a need, cheapest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: What a need may name, all of them at least: GB of one GPU's memory, GPUs, vCPUs, GiB of memory.
NEEDS = ("gpu_memory", "gpus", "vcpus", "memory")

_GPU_FAMILIES = ("g*", "p*")


def filters(needs: dict[str, Any]) -> list[dict[str, Any]]:
    """EC2's own filters for the need; they spare most of the list."""
    found = [
        {"Name": "current-generation", "Values": ["true"]},
        {"Name": "bare-metal", "Values": ["false"]},
        {"Name": "processor-info.supported-architecture", "Values": [needs.get("architecture") or "x86_64"]},
    ]
    if needs.get("gpus") or needs.get("gpu_memory"):
        found.append({"Name": "instance-type", "Values": list(_GPU_FAMILIES)})
    return found


def facts(described: dict[str, Any]) -> dict[str, Any]:
    """What people choose by, of a type as EC2 describes it."""
    gpus = [gpu for gpu in described.get("GpuInfo", {}).get("Gpus", []) if gpu.get("Manufacturer") != "AMD"]
    count = sum(gpu["Count"] for gpu in gpus)
    # A GPU is sold by 10^9 bytes; a little less than that is as good.
    memory = min((gpu["MemoryInfo"]["SizeInMiB"] * 2**20 / 1e9 for gpu in gpus), default=0.0)
    return {
        "type": described["InstanceType"],
        "vcpus": described["VCpuInfo"]["DefaultVCpus"],
        "memory": described["MemoryInfo"]["SizeInMiB"] / 1024,
        "gpus": count,
        "gpu": f"{count} x {gpus[0]['Name']}" if gpus else "",
        "gpu_memory": round(memory),
        "architectures": described.get("ProcessorInfo", {}).get("SupportedArchitectures", []),
    }


def fits(type_facts: dict[str, Any], needs: dict[str, Any]) -> bool:
    """Whether a type has all that is needed."""
    if (needs.get("architecture") or "x86_64") not in type_facts["architectures"]:
        return False
    wanted = dict(needs)
    if wanted.get("gpu_memory") and not wanted.get("gpus"):
        wanted["gpus"] = 1
    return all(type_facts[key] >= (wanted.get(key) or 0) for key in NEEDS)


def table(
    described: Iterable[dict[str, Any]],
    offered: set[str] | None,
    needs: dict[str, Any],
    on_demand: dict[str, float],
) -> list[dict[str, Any]]:
    """The types that fit, cheapest first; those whose price nobody knows at the end.

    Args:
        described: types as EC2 describes them.
        offered: the types that the region offers; retired ones are described still. None when nobody knows.
        needs: see NEEDS; and ``architecture``.
        on_demand: USD per hour by type.
    """
    rows = []
    for one in described:
        row = facts(one)
        if not fits(row, needs) or (offered is not None and row["type"] not in offered):
            continue
        price = on_demand.get(row["type"])
        per_gpu = price / row["gpus"] if price is not None and row["gpus"] else None
        del row["architectures"]
        rows.append({**row, "price": price, "price_per_gpu": per_gpu, "spot": None})
    return sorted(rows, key=lambda row: (row["price"] is None, row["price"] or 0.0, row["type"]))


def with_spot(rows: list[dict[str, Any]], history: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with the lowest spot price of the region's zones."""
    lowest: dict[str, float] = {}
    for entry in history:
        name, price = entry["InstanceType"], float(entry["SpotPrice"])
        lowest[name] = min(price, lowest.get(name, price))
    return [{**row, "spot": lowest.get(row["type"])} for row in rows]

# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many vCPUs an account may run on EC2, by family of instance types, and how many machines in SageMaker, by type.

New accounts may run no GPU machine at all.
"""

from __future__ import annotations

import re
from typing import Any

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


#: How SageMaker's quotas are called, by use: they count machines, and not vCPUs.
SAGEMAKER_USES = {
    "notebook": "{type} for notebook instance usage",
    "training": "{type} for training job usage",
    "spot_training": "{type} for spot training job usage",
    "endpoint": "{type} for endpoint usage",
    "JupyterLab": "Studio JupyterLab Apps running on {type} instance",
    "CodeEditor": "Studio CodeEditor Apps running on {type} instance",
}


def sagemaker_quota(client: Any, instance_type: str, use: str) -> dict[str, Any]:
    """How many machines of a type the account may have in SageMaker for one use.

    SageMaker has a quota for each type and use, thousands of them: it is found by its name.

    Args:
        client: of Service Quotas.
        instance_type: for example ``ml.t3.medium``.
        use: a key of SAGEMAKER_USES.

    Returns:
        its name, code and value; empty when nobody may ask or there is none, since nothing depends on the answer.
    """
    name = SAGEMAKER_USES[use].format(type=instance_type)
    try:
        for page in client.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                if quota["QuotaName"].removesuffix("s") == name:  # AWS writes "instances" and "instance"
                    return {"name": name, "code": quota["QuotaCode"], "machines": int(quota["Value"])}
    except Exception:
        return {}
    return {}


def sagemaker_quota_problem(quota: dict[str, Any], variable: str, value: str, region: str) -> str | None:
    """What to do when the account may have none of a type; new accounts may not have one GPU machine."""
    if quota.get("machines", 1) >= 1:
        return None
    return (
        f"{variable} is '{value}', but this account may have 0 ({quota['name']}) in {region}: ask for more with "
        "`aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--quota-code {quota['code']} --desired-value 1`, or choose another type."
    )

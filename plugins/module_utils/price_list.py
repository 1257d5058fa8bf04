# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prices from the AWS Price List API, remembered on this computer with their date.

The API answers in three regions for all. Where it cannot be reached, what was remembered serves, and where nothing was,
the dated table in ``prices.py``.
"""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils import prices
from ansible_collections.lightsout.aws.plugins.module_utils.calls import at_once

#: After so many days prices are asked for again; AWS changes them a few times a year.
FRESH_DAYS = 7

#: What our machines are: Linux, shared tenancy, nothing installed that costs, billed while they run.
_MACHINE = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "licenseModel": "No License required",
}
_DISK = {"productFamily": "Storage", "volumeApiName": "gp3"}

#: How SageMaker's usage types begin, after the region's letters, by use; then comes the machine's type. Not all of its
#: products tell their type in an attribute of its own.
_SAGEMAKER_USAGE = {
    "notebook": "Notebk:",
    "training": "Train:",
    "JupyterLab": "Studio:JupyterLab-",
    "CodeEditor": "Studio:CodeEditor-",
}


def endpoint_region(region: str) -> str:
    """Which of the API's regions is nearest to ours."""
    if region.startswith("ap-"):
        return "ap-south-1"
    return "eu-central-1" if region.startswith(("eu-", "me-", "af-", "il-")) else "us-east-1"


def products(
    client, filters: dict[str, str], service: str = "AmazonEC2", usage: str = ""
) -> Iterator[tuple[dict[str, str], float]]:
    """Attributes and price of all of a service's products that match, page by page.

    Args:
        filters: attributes that must be so.
        service: its code.
        usage: a part of the usage type.

    Raises:
        ClientError: AWS refuses.
    """
    wanted = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in filters.items()]
    if usage:
        wanted.append({"Type": "CONTAINS", "Field": "usagetype", "Value": usage})
    request: dict[str, Any] = {"ServiceCode": service, "Filters": wanted, "FormatVersion": "aws_v1"}
    while True:
        answer = client.get_products(**request)
        for text in answer["PriceList"]:
            product = json.loads(text)
            price = on_demand(product)
            if price is not None:
                yield product["product"]["attributes"], price
        if not answer.get("NextToken"):
            return
        request["NextToken"] = answer["NextToken"]


def on_demand(product: dict[str, Any]) -> float | None:
    """USD a unit on demand; None where there is no such price, or it is zero (reserved capacity is listed so)."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = float(dimension["pricePerUnit"].get("USD", 0))
            if price > 0:
                return price
    return None


class PriceList:
    """The prices of one region.

    Args:
        client: a boto3 client of ``pricing``, in one of its regions.
        region: whose prices.
        cache: a file on this computer; None for none.
        source: what tells one API from another, the endpoint: an imitation's prices must never pass for AWS's.
        today: the date, for tests.
    """

    def __init__(self, client, region: str, cache: str | None, source: str, today: datetime.date | None = None) -> None:
        self.client, self.region = client, region
        self.file = Path(cache).expanduser() if cache else None
        self.key = f"{source} {region}"
        self.today = today or datetime.datetime.now(datetime.UTC).date()

    def known(self) -> prices.Prices:
        """What is known without asking: what was remembered, or our table."""
        kept = self._mine()
        if "on_demand" not in kept:
            return prices.TABLE
        return prices.Prices(self.region, kept["as_of"], True, kept["on_demand"], kept["gp3"], kept.get("whole", False))

    def of(self, instance_type: str) -> prices.Prices:
        """Prices that hold this type's, asked for unless they are fresh; the next best where AWS does not answer."""
        known = self.known()
        if self._fresh(known) and (instance_type in known.on_demand or known.whole):
            return known
        answers = at_once(
            {
                "type": lambda: self._types({"instanceType": instance_type}),
                "disk": self._disk,
            }
        )
        return self._merge(known, answers["type"], answers["disk"], whole=False)

    def all(self) -> prices.Prices:
        """The prices of every type of the region: some ten pages the first time."""
        known = self.known()
        if self._fresh(known) and known.whole:
            return known
        answers = at_once({"types": lambda: self._types({}), "disk": self._disk})
        return self._merge(known, answers["types"], answers["disk"], whole=True)

    def known_sagemaker(self, instance_type: str, use: str) -> prices.MachinePrice:
        """What is known without asking of a machine of SageMaker's; see ``of_sagemaker``."""
        kept = self._mine().get("sagemaker", {}).get(_SAGEMAKER_USAGE[use] + instance_type)
        if kept:
            return prices.MachinePrice(kept["hour"], self.region, kept["as_of"], True)
        return prices.sagemaker(instance_type)

    def of_sagemaker(self, instance_type: str, use: str) -> prices.MachinePrice:
        """The price of a machine of SageMaker's, asked for unless it is fresh; the next best where AWS does not answer.

        Args:
            instance_type: for example ``ml.t3.medium``.
            use: a key of ``_SAGEMAKER_USAGE``; each has a price of its own.
        """
        known, usage = self.known_sagemaker(instance_type, use), _SAGEMAKER_USAGE[use] + instance_type
        if known.listed and self._is_fresh(known.as_of):
            return known
        try:
            found = list(products(self.client, {"regionCode": self.region}, "AmazonSageMaker", usage))
        except Exception:  # nobody may ask, or nobody answers: nothing depends on it
            return known
        # A type's name may be the beginning of another's.
        exact = [price for attributes, price in found if attributes.get("usagetype", "").endswith(usage)]
        if not exact:
            return known
        mine = self._mine()
        entry = {"hour": exact[0], "as_of": self.today.isoformat()}
        self._save({**mine, "sagemaker": {**mine.get("sagemaker", {}), usage: entry}})
        return prices.MachinePrice(exact[0], self.region, entry["as_of"], True)

    def _types(self, more: dict[str, str]) -> dict[str, float]:
        found = products(self.client, {"regionCode": self.region, **_MACHINE, **more})
        return {attributes["instanceType"]: price for attributes, price in found}

    def _disk(self) -> float | None:
        return next((price for _, price in products(self.client, {"regionCode": self.region, **_DISK})), None)

    def _fresh(self, known: prices.Prices) -> bool:
        return known.listed and self._is_fresh(known.as_of)

    def _is_fresh(self, as_of: str) -> bool:
        return (self.today - datetime.date.fromisoformat(as_of)).days < FRESH_DAYS

    def _merge(self, known: prices.Prices, types: Any, disk: Any, whole: bool) -> prices.Prices:
        """Take over what was answered. A price list without prices, or one that fails, changes nothing."""
        if isinstance(types, Exception) or isinstance(disk, Exception) or not types or disk is None:
            return known
        fresh = self._fresh(known)
        found = prices.Prices(
            region=self.region,
            # Together they are as old as the oldest.
            as_of=known.as_of if fresh and not whole else self.today.isoformat(),
            listed=True,
            on_demand={**(known.on_demand if fresh else {}), **types},
            gp3_gib_month=disk,
            whole=whole or (fresh and known.whole),
        )
        mine = {"as_of": found.as_of, "on_demand": found.on_demand, "gp3": disk, "whole": found.whole}
        self._save({**self._mine(), **mine})
        return found

    def _load(self) -> dict[str, Any]:
        if self.file is None:
            return {}
        try:
            content = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _mine(self) -> dict[str, Any]:
        """What is remembered of the region."""
        mine = self._load().get(self.key)
        return mine if isinstance(mine, dict) else {}

    def _save(self, mine: dict[str, Any]) -> None:
        """Remember the region's; where that cannot be, they are asked for again."""
        if self.file is None:
            return
        content = self._load() | {self.key: mine}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.file.parent, delete=False) as new:
                json.dump(content, new)
            Path(new.name).replace(self.file)
        except OSError:
            return

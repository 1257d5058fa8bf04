"""The AWS Price List and the Free Tier APIs, which moto lacks altogether, in AWS's own formats.

The prices are those of our dated table (``plugins/module_utils/prices.py``), the same in every region.

https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/ (freetier)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from plugins.module_utils import prices

#: What a spot machine costs of the list price here; on AWS it moves, mostly between a third and a half.
SPOT = 0.4

#: A page holds at most so many products.
PAGE = 100

_MACHINE = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "licenseModel": "No License required",
    "marketoption": "OnDemand",
    "servicecode": "AmazonEC2",
    "locationType": "AWS Region",
}


class Refused(Exception):
    """The service says no.

    Args:
        code: AWS's name of the error.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def answer(target: str, asked: dict[str, Any], account: str) -> dict[str, Any] | None:
    """What one of the two services answers; None where the target is another's.

    Raises:
        Refused: with AWS's own error.
    """
    operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "AWSPriceListService.GetProducts": get_products,
        "AWSFreeTierService.GetAccountPlanState": lambda _asked: account_plan(account),
        "AWSFreeTierService.GetFreeTierUsage": lambda _asked: {"freeTierUsages": []},
    }
    return operations[target](asked) if target in operations else None


def serves(target: str) -> bool:
    """Whether it is one of ours."""
    return target.startswith(("AWSPriceListService.", "AWSFreeTierService."))


def spot_prices() -> None:
    """DescribeSpotPriceHistory: a share of the list price; in moto every type costs 0.00001."""
    from moto.ec2.responses.spot_instances import SpotInstances  # late: the server imports this file before moto may be

    original = SpotInstances.describe_spot_price_history

    def described(response: SpotInstances) -> Any:
        answer = original(response)
        for entry in answer.result["SpotPriceHistory"]:
            listed = prices.ON_DEMAND.get(entry["InstanceType"])
            if listed:
                entry["SpotPrice"] = f"{listed * SPOT:.6f}"
        return answer

    SpotInstances.describe_spot_price_history = described


def account_plan(account: str) -> dict[str, Any]:
    """An account that pays: there are no credits in a place where nothing costs."""
    return {"accountId": account, "accountPlanType": "PAID", "accountPlanStatus": "ACTIVE"}


def get_products(asked: dict[str, Any]) -> dict[str, Any]:
    """GetProducts, page by page.

    Raises:
        Refused: no such service, or a page that there is not.
    """
    if asked.get("ServiceCode") not in SERVICES:
        raise Refused("NotFoundException", f"Service {asked.get('ServiceCode')} is not in the local cloud's price list")
    size = asked.get("MaxResults", PAGE)
    if not 1 <= size <= PAGE:
        raise Refused("InvalidParameterException", f"MaxResults must be 1 to {PAGE}")
    wanted = asked.get("Filters") or []
    region = next((one["Value"] for one in wanted if one["Field"] == "regionCode"), prices.REGION)
    whole = SERVICES[asked["ServiceCode"]](region)
    found = [product for product in whole if all(matches(product, one) for one in wanted)]
    start = int(asked.get("NextToken") or 0)
    if start > len(found):
        raise Refused("InvalidNextTokenException", "Invalid next token")
    page = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(one) for one in found[start : start + size]]}
    return page | ({"NextToken": str(start + size)} if start + size < len(found) else {})


def matches(product: dict[str, Any], wanted: dict[str, str]) -> bool:
    """Whether a product passes a filter; names of fields are those of the attributes, and productFamily."""
    attributes = {**product["product"]["attributes"], "productFamily": product["product"]["productFamily"]}
    value, text = attributes.get(wanted["Field"]), wanted["Value"]
    match wanted["Type"]:
        case "TERM_MATCH" | "EQUALS":
            return value == text
        case "CONTAINS":
            return text in (value or "")
        case "ANY_OF":
            return value in text.split(",")
        case "NONE_OF":
            return value not in text.split(",")
    raise Refused("InvalidParameterException", f"Unknown filter type {wanted['Type']}")


def products(region: str) -> Iterator[dict[str, Any]]:
    """Everything in the list."""
    for name, price in prices.ON_DEMAND.items():
        attributes = {**_MACHINE, "instanceType": name, "regionCode": region, "usagetype": f"BoxUsage:{name}"}
        yield product("Compute Instance", attributes, price, "Hrs")
    disk = {
        "servicecode": "AmazonEC2",
        "volumeApiName": "gp3",
        "regionCode": region,
        "usagetype": "EBS:VolumeUsage.gp3",
    }
    yield product("Storage", disk, prices.GP3_GIB_MONTH, "GB-Mo")


def sagemaker_products(region: str) -> Iterator[dict[str, Any]]:
    """SageMaker's machines, each at one price for every use; like AWS's list, without their type in an attribute."""
    uses = {
        "Notebook": "Notebk:",
        "Training": "Train:",
        "Studio-JupyterLab": "Studio:JupyterLab-",
        "studio-codeeditor": "Studio:CodeEditor-",
    }
    for name, price in prices.SAGEMAKER_HOUR.items():
        for component, usage in uses.items():
            attributes = {
                "servicecode": "AmazonSageMaker",
                "regionCode": region,
                "component": component,
                "usagetype": f"USE1-{usage}{name}",
            }
            yield product("ML Instance", attributes, price, "Hrs")


#: What is in the list, by service.
SERVICES: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "AmazonEC2": products,
    "AmazonSageMaker": sagemaker_products,
}


def product(family: str, attributes: dict[str, str], price: float, unit: str) -> dict[str, Any]:
    """One product of the list."""
    sku = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()[:16].upper()
    term, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"  # AWS's codes for "on demand" and "per unit"
    return {
        "product": {"productFamily": family, "attributes": attributes, "sku": sku},
        "serviceCode": attributes["servicecode"],
        "terms": {
            "OnDemand": {
                term: {
                    "sku": sku,
                    "effectiveDate": f"{prices.AS_OF}T00:00:00Z",
                    "offerTermCode": "JRTCKXETXF",
                    "termAttributes": {},
                    "priceDimensions": {
                        rate: {
                            "unit": unit,
                            "rateCode": rate,
                            "beginRange": "0",
                            "endRange": "Inf",
                            "appliesTo": [],
                            "description": f"${price} per {unit}",
                            "pricePerUnit": {"USD": f"{price:.10f}"},
                        }
                    },
                }
            }
        },
        "version": prices.AS_OF.replace("-", ""),
        "publicationDate": f"{prices.AS_OF}T00:00:00Z",
    }

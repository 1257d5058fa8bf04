"""Prices are AWS's where it answers, dated where it does not, and never guessed."""

from __future__ import annotations

import datetime
import json
from typing import Any

import boto3
import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import choices, prices
from ansible_collections.lightsout.aws.plugins.module_utils.price_list import PriceList, endpoint_region
from botocore.client import BaseClient
from botocore.exceptions import EndpointConnectionError
from botocore.validate import ParamValidator

from localcloud import price_list

TODAY = datetime.date(2026, 11, 23)


@pytest.fixture
def asked(monkeypatch) -> list[dict[str, Any]]:
    """The local cloud's price list answers; requests are checked against botocore's model."""
    requests: list[dict[str, Any]] = []

    def call(self: Any, operation: str, request: dict[str, Any]) -> Any:
        report = ParamValidator().validate(request, self.meta.service_model.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()
        requests.append(request)
        return price_list.answer(f"AWSPriceListService.{operation}", request, "123456789012")

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    return requests


@pytest.fixture
def open_list(tmp_path):
    client = boto3.client(
        "pricing", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )

    def open_list(day: datetime.date = TODAY, region: str = "eu-central-1", source: str = "aws") -> PriceList:
        return PriceList(client, region, str(tmp_path / "prices.json"), source, day)

    return open_list


def test_a_types_price_is_asked_for_once_a_week(asked, open_list) -> None:
    found = open_list().of("g5.xlarge")
    assert (found.on_demand["g5.xlarge"], found.gp3_gib_month) == (1.006, 0.08)
    assert (found.region, found.as_of, found.listed) == ("eu-central-1", "2026-11-23", True)
    assert len(asked) == 2
    assert open_list(TODAY + datetime.timedelta(days=6)).of("g5.xlarge").as_of == "2026-11-23"
    assert len(asked) == 2
    assert open_list(TODAY + datetime.timedelta(days=7)).of("g5.xlarge").as_of == "2026-11-30"
    assert len(asked) == 4


def test_another_type_is_asked_for_and_joins_the_others(asked, open_list) -> None:
    open_list().of("g5.xlarge")
    found = open_list().of("t3.medium")
    assert {"g5.xlarge", "t3.medium"} <= set(found.on_demand)


def test_all_prices_come_page_by_page_and_spare_later_questions(asked, open_list) -> None:
    assert open_list().all().on_demand == pytest.approx(prices.ON_DEMAND)
    assert len(asked) == len(prices.ON_DEMAND) // price_list.PAGE + 2
    asked.clear()
    open_list().of("x99.mega")
    assert asked == []


def test_other_regions_and_other_endpoints_share_nothing(asked, open_list) -> None:
    open_list().of("t3.medium")
    assert open_list(region="us-east-1").known() is prices.TABLE
    assert open_list(source="http://127.0.0.1:5601").known() is prices.TABLE


@pytest.mark.parametrize("remembered", [False, True])
def test_where_aws_does_not_answer_the_next_best_serves_with_its_date(
    asked, open_list, monkeypatch, remembered
) -> None:
    if remembered:
        open_list().of("t3.medium")

    def silent(*_: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://api.pricing.us-east-1.amazonaws.com")

    monkeypatch.setattr(BaseClient, "_make_api_call", silent)
    found = open_list(TODAY + datetime.timedelta(days=30)).of("t3.medium")
    expected = ("eu-central-1", "2026-11-23", True) if remembered else ("us-east-1", prices.AS_OF, False)
    assert (found.region, found.as_of, found.listed) == expected


@pytest.mark.parametrize("content", ["", "{", "[]", '{"aws eu-central-1": null}'])
def test_a_spoilt_memory_is_no_memory(asked, open_list, tmp_path, content) -> None:
    (tmp_path / "prices.json").write_text(content)
    assert open_list().of("t3.medium").on_demand["t3.medium"] == 0.0416
    assert json.loads((tmp_path / "prices.json").read_text())["aws eu-central-1"]["as_of"] == "2026-11-23"


@pytest.mark.parametrize(
    ("region", "nearest"),
    [
        ("eu-west-3", "eu-central-1"),
        ("ap-northeast-1", "ap-south-1"),
        ("sa-east-1", "us-east-1"),
        ("me-south-1", "eu-central-1"),
    ],
)
def test_three_regions_answer_for_all(region, nearest) -> None:
    assert endpoint_region(region) == nearest


def described(name: str, vcpus: int, memory: int, gpus: int = 0, mib: int = 0) -> dict[str, Any]:
    gpu = {"Name": "T4", "Manufacturer": "NVIDIA", "Count": gpus, "MemoryInfo": {"SizeInMiB": mib}}
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": vcpus},
        "MemoryInfo": {"SizeInMiB": memory * 1024},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        **({"GpuInfo": {"Gpus": [gpu]}} if gpus else {}),
    }


TYPES = [
    described("g5.xlarge", 4, 16, 1, 22888),
    described("g4dn.xlarge", 4, 16, 1, 16384),
    described("g4dn.12xlarge", 48, 192, 4, 16384),
    described("m5.xlarge", 4, 16),
    described("g9.new", 8, 32, 1, 98304),
]
PRICES = {"g5.xlarge": 1.006, "g4dn.xlarge": 0.526, "g4dn.12xlarge": 3.912, "m5.xlarge": 0.192}


def names(needs: dict[str, Any], offered: set[str] | None = None) -> list[str]:
    return [row["type"] for row in choices.table(TYPES, offered, needs, PRICES)]


def test_types_that_fit_come_cheapest_first_and_unknown_prices_last() -> None:
    assert names({"gpu_memory": 16}) == ["g4dn.xlarge", "g5.xlarge", "g4dn.12xlarge", "g9.new"]
    assert names({"gpu_memory": 24}) == ["g5.xlarge", "g9.new"]
    assert names({"gpus": 2}) == ["g4dn.12xlarge"]
    assert names({"vcpus": 4, "memory": 16})[0] == "m5.xlarge"
    assert names({"memory": 1000}) == []
    assert names({"vcpus": 4, "architecture": "arm64"}) == []


def test_what_the_region_does_not_offer_is_no_choice() -> None:
    assert names({"gpu_memory": 16}, {"g5.xlarge", "t3.medium"}) == ["g5.xlarge"]


def test_a_gpu_hour_and_the_lowest_spot_price_are_told() -> None:
    (row,) = choices.table(TYPES, None, {"gpus": 4}, PRICES)
    assert row["price_per_gpu"] == pytest.approx(3.912 / 4)
    history = [{"InstanceType": "g4dn.12xlarge", "SpotPrice": price} for price in ("1.30", "1.17", "1.25")]
    assert choices.with_spot([row], history)[0]["spot"] == 1.17


def test_the_local_price_list_refuses_what_aws_refuses() -> None:
    for wrong, code in (
        ({"ServiceCode": "AmazonNone"}, "NotFoundException"),
        ({"ServiceCode": "AmazonEC2", "MaxResults": 101}, "InvalidParameterException"),
        ({"ServiceCode": "AmazonEC2", "NextToken": "99999"}, "InvalidNextTokenException"),
    ):
        with pytest.raises(price_list.Refused) as refused:
            price_list.get_products(wrong)
        assert refused.value.code == code


@pytest.mark.parametrize("use", ["notebook", "training", "JupyterLab", "CodeEditor"])
def test_a_machine_of_sagemakers_is_asked_for_once_a_week_by_its_use(asked, open_list, use) -> None:
    found = open_list().of_sagemaker("ml.g5.xlarge", use)
    assert (found.hour, found.region, found.as_of, found.listed) == (1.408, "eu-central-1", "2026-11-23", True)
    assert [one["ServiceCode"] for one in asked] == ["AmazonSageMaker"]
    assert open_list(TODAY + datetime.timedelta(days=6)).of_sagemaker("ml.g5.xlarge", use) == found
    assert len(asked) == 1
    assert open_list(TODAY + datetime.timedelta(days=7)).of_sagemaker("ml.g5.xlarge", use).as_of == "2026-11-30"


def test_prices_of_ec2_and_sagemaker_are_remembered_side_by_side(asked, open_list) -> None:
    open_list().of_sagemaker("ml.t3.medium", "notebook")
    open_list().of("t3.medium")
    asked.clear()
    assert open_list().of_sagemaker("ml.t3.medium", "notebook").listed
    assert open_list().of("t3.medium").on_demand["t3.medium"] == 0.0416
    assert asked == []


def test_a_type_that_begins_like_another_is_not_that_one(asked, open_list) -> None:
    """What is asked for is a part of the name: ml.t3.large is one of ml.t3.large and what may come after it."""
    assert open_list().of_sagemaker("ml.t3.l", "notebook") == prices.sagemaker("ml.t3.l")
    assert prices.sagemaker("ml.t3.l").hour is None


def test_without_an_answer_our_table_serves_for_sagemaker_and_says_so(monkeypatch, open_list) -> None:
    def call(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://pricing")

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    found = open_list().of_sagemaker("ml.t3.medium", "notebook")
    assert (found.hour, found.region, found.as_of, found.listed) == (0.05, "us-east-1", prices.AS_OF, False)

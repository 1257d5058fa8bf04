"""Prices and quotas: what people decide by."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import prices, quotas


def test_a_running_machine_costs_compute_address_and_disk():
    price = prices.estimate("t3.medium", 30).as_dict()
    assert price["compute_hour"] == 0.0416
    assert price["hour"] == pytest.approx(0.0416 + 0.005 + 30 * 0.08 / 730, abs=1e-4)
    assert price["day"] == pytest.approx(24 * price["hour"], abs=0.01)


def test_a_stopped_machine_still_costs_its_disk():
    assert prices.estimate("t3.medium", 100).stopped_month == 8.0


def test_without_a_public_address_there_is_none_to_pay_for():
    assert prices.estimate("t3.medium", 8, public_ip=False).address_hour == 0


def test_an_unknown_type_has_no_price_and_none_is_guessed():
    price = prices.estimate("x99.mega", 30).as_dict()
    assert (price["hour"], price["day"], price["month"]) == (None, None, None)
    assert price["stopped_month"] == 2.4
    assert prices.hourly("x99.mega") == "price unknown"


def test_a_spot_price_is_the_one_that_aws_quotes():
    price = prices.estimate("t3.medium", 0, public_ip=False, spot_hour=0.0125)
    assert (price.hour, price.as_dict()["purchase"]) == (0.0125, "spot")


def test_sizes_of_a_family_double():
    assert prices.ON_DEMAND["m5.2xlarge"] == pytest.approx(4 * prices.ON_DEMAND["m5.large"])
    assert all(price > 0 for price in prices.ON_DEMAND.values())


@pytest.mark.parametrize(
    ("instance_type", "spot", "code"),
    [
        ("t3.medium", False, "L-1216C47A"),
        ("t3.medium", True, "L-34B43A08"),
        ("g5.xlarge", False, "L-DB2E81BA"),
        ("gr6.4xlarge", True, "L-3819A6DF"),
        ("p5.48xlarge", False, "L-417A185B"),
        ("im4gn.large", False, "L-1216C47A"),
    ],
)
def test_a_type_counts_against_its_familys_quota(instance_type, spot, code):
    assert quotas.quota_of(instance_type, spot)[0] == code


def test_families_that_are_not_in_the_table_are_not_guessed():
    assert quotas.quota_of("u-6tb1.metal", False) is None

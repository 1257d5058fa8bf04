"""Aligned columns."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lightsout.aws.plugins.filter.table import FilterModule

table = FilterModule().filters()["table"]


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [{"name": "a", "price": {"hour": 0.04987}}, {"name": "longer", "price": {"hour": 2.4}}, {"name": ""}]
    assert table(rows, {"machine": "name", "USD/h": "price.hour"}) == [
        "machine  USD/h",
        "a        0.04987",
        "longer   2.40",
        "-        -",
    ]


def test_no_rows_no_heading():
    assert table([], {"a": "b"}) == []


def test_what_is_no_table_is_refused():
    with pytest.raises(AnsibleFilterError, match="list of dictionaries"):
        table(["a"], {"a": "b"})

"""Names, tags and leases."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.lightsout.aws.plugins.module_utils import naming
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", ["lab", "a1", "my-lab", "x" * 32])
def test_good_project_names(name):
    assert naming.project_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", "a", "Lab", "1lab", "lab-", "my--lab", "my_lab", "my lab", "lab*", "x" * 33, "lab\n"]
)
def test_bad_project_names_are_told_with_an_example(name):
    assert "for example" in naming.project_problem(name)


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_whatever_passes_makes_names_that_aws_takes(name):
    if naming.project_problem(name) is None:
        assert len(naming.resource_name(name, "machine-1")) <= 64  # IAM's limit, the shortest of all
        assert not set(naming.resource_name(name, "key")) - set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(("lease", "seconds"), [("12h", 43200), ("90m", 5400), ("2 d", 172800), ("600s", 600)])
def test_leases(lease, seconds):
    assert naming.parse_lease(lease).total_seconds() == seconds


@pytest.mark.parametrize("lease", ["", "12", "h", "-1h", "1.5h", "1w", "1h30m"])
def test_what_is_no_length_of_time(lease):
    with pytest.raises(ValueError, match="number and s, m, h or d"):
        naming.parse_lease(lease)


@pytest.mark.parametrize("lease", ["0h", "9m", "367d", "99999999999d"])
def test_leases_that_cannot_be_meant(lease):
    with pytest.raises(ValueError, match="out of range"):
        naming.parse_lease(lease)


def test_a_leases_end_is_in_utc():
    paris = datetime.timezone(datetime.timedelta(hours=1))
    began = datetime.datetime(2026, 11, 23, 23, 30, tzinfo=datetime.UTC)
    assert naming.expires_at("2h", began) == "2026-11-24T01:30:00Z"
    assert naming.parse_lease("2h") + began.astimezone(paris) == datetime.datetime(
        2026, 11, 24, 1, 30, tzinfo=datetime.UTC
    )


def test_other_peoples_tags_are_left_alone():
    current = naming.tags_as_dict([{"Key": "theirs", "Value": "1"}, {"Key": "Name", "Value": "old"}])
    assert naming.tags_to_set(current, {"Name": "new", "a": "b"}) == {"Name": "new", "a": "b"}
    assert naming.tags_to_set(current, {"Name": "old"}) == {}
    assert naming.tags_as_dict(naming.tags_as_list(current)) == current


def test_iam_paths_tell_regions_apart():
    assert naming.iam_path("eu-west-1") != naming.iam_path("us-east-1")
    assert naming.iam_path("eu-west-1").startswith("/") and naming.iam_path("eu-west-1").endswith("/")


def test_machines_are_counted_as_people_count() -> None:
    names = [naming.machine_name("lab-2", number) for number in (10, 9, 1, 2)]
    assert sorted(names, key=naming.by_number) == [f"lightsout-lab-2-machine-{number}" for number in (1, 2, 9, 10)]
    assert [naming.machine_number("lab-2", name) for name in names] == [10, 9, 1, 2]
    for other in ("lightsout-lab-machine-1", "lightsout-lab-2-machine-01", "lightsout-lab-2-machine-1x", "gpu"):
        assert naming.machine_number("lab-2", other) is None

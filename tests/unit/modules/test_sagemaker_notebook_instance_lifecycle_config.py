"""Scripts reach the instances as they were written, and fit."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_notebook_instance_lifecycle_config as config

from tests.helpers.stubs import Stubs, stubbed

NAME = "lightsout-lab-idle"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:notebook-instance-lifecycle-config/{NAME}"
WHICH = {"NotebookInstanceLifecycleConfigName": NAME}
SCRIPT = "#!/bin/bash\necho hé\n"
TAGS = {"lightsout:project": "lab"}
TAG_LIST = [{"Key": "lightsout:project", "Value": "lab"}]
THING = "notebook_instance_lifecycle_config"


def content(script: str) -> list[dict[str, str]]:
    return [{"Content": base64.b64encode(script.encode()).decode()}]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    with stubbed(monkeypatch) as stubs:
        yield stubs


@pytest.fixture
def there(aws):
    """Expects the two calls that look at what is there."""

    def there(tags: dict[str, str] = TAGS, **scripts: Any) -> None:
        answer = {**WHICH, "NotebookInstanceLifecycleConfigArn": ARN, **scripts}
        aws.answer(f"describe_{THING}", answer, **WHICH)
        listed = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        aws.answer("list_tags", listed, ResourceArn=ARN)

    return there


@pytest.fixture
def missing(aws):
    def missing() -> None:
        aws.refuse(f"describe_{THING}", "ValidationException", "(Details: … Lifecycle Config does not exist.)")

    return missing


@pytest.fixture
def keep(run):
    def keep(check: bool = False, **params: Any) -> Any:
        return run(config, check=check, **{"name": NAME, "tags": TAGS, **params})

    return keep


def test_a_new_one_has_its_scripts_encoded(aws, there, missing, keep) -> None:
    missing()
    request = {**WHICH, "OnStart": content(SCRIPT), "Tags": TAG_LIST}
    aws.answer(f"create_{THING}", {"NotebookInstanceLifecycleConfigArn": ARN}, **request)
    there(OnStart=content(SCRIPT))
    result = keep(on_start=SCRIPT)
    assert result["changes"] == {"lifecycle_config": "create"} and result["line_ends_fixed"] == []
    seen = result["lifecycle_config"]
    assert seen == {"name": NAME, "arn": ARN, "on_create": "", "on_start": SCRIPT, "tags": TAGS}


def test_line_ends_of_windows_are_fixed_and_said(aws, there, missing, keep) -> None:
    missing()
    aws.answer(f"create_{THING}", {}, **WHICH, OnStart=content(SCRIPT), Tags=TAG_LIST)
    there(OnStart=content(SCRIPT))
    windows = SCRIPT.replace("\n", "\r\n")
    assert keep(on_start=windows, on_create="")["line_ends_fixed"] == ["on_start"]
    there(OnStart=content(SCRIPT))
    again = keep(on_start=windows)
    assert not again["changed"] and again["line_ends_fixed"] == ["on_start"]


def test_a_run_that_changes_nothing_asks_twice(aws, there, keep) -> None:
    there(OnCreate=content(SCRIPT), OnStart=content(SCRIPT))
    assert not keep(on_start=SCRIPT)["changed"]
    assert aws.calls == ["DescribeNotebookInstanceLifecycleConfig", "ListTags"]


@pytest.mark.parametrize(("given", "on_create"), [({}, content("#!/bin/sh\n")), ({"on_create": ""}, [])])
def test_a_change_sends_both_scripts_and_keeps_what_was_not_given(aws, there, keep, given, on_create) -> None:
    there(OnCreate=content("#!/bin/sh\n"), OnStart=content("#!/bin/sh\nold\n"))
    aws.answer(f"update_{THING}", {}, **WHICH, OnCreate=on_create, OnStart=content(SCRIPT))
    there(OnCreate=on_create, OnStart=content(SCRIPT))
    result = keep(on_start=SCRIPT, **given)
    assert result["changes"]["on_start"] == "changed"
    assert result["diff"]["before"]["on_start"] == "#!/bin/sh\nold\n"


def test_a_check_changes_nothing(there, missing, keep) -> None:
    missing()
    assert keep(check=True, on_start=SCRIPT)["diff"]["after"]["on_start"] == SCRIPT
    there(tags={**TAGS, "a": "b"})
    result = keep(check=True, on_start=SCRIPT, purge_tags=True)
    assert set(result["changes"]) == {"on_start", "tags"} and result["lifecycle_config"]["on_start"] == ""
    there()
    assert keep(check=True, state="absent")["changes"] == {"lifecycle_config": "delete"}


def test_it_is_deleted_once(aws, there, missing, keep) -> None:
    there()
    aws.answer(f"delete_{THING}", {}, **WHICH)
    missing()
    assert keep(state="absent")["lifecycle_config"] == {}
    missing()
    assert not keep(state="absent")["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_somebody_elses_is_left_alone(there, keep, state) -> None:
    there(tags={})
    assert "not ours" in keep(state=state, on_start=SCRIPT)["msg"]


@pytest.mark.parametrize("tags", [TAGS, {}])
def test_another_run_that_was_first_is_as_good_when_it_is_ours(aws, there, missing, keep, tags) -> None:
    missing()
    aws.refuse(f"create_{THING}", "ValidationException", "(Details: … Lifecycle Config already exists.)")
    there(tags=tags, OnStart=content(SCRIPT))
    result = keep(on_start=SCRIPT)
    assert result["failed"] is (tags == {})
    assert "not ours" in result["msg"] if result["failed"] else not result["changed"]


def test_a_script_as_long_as_can_be_goes_through(aws, there, missing, keep) -> None:
    longest = "#!/bin/sh\n" + "x" * (12288 - 10)
    missing()
    aws.answer(f"create_{THING}", {}, **WHICH, OnStart=content(longest), Tags=TAG_LIST)
    there(OnStart=content(longest))
    assert len(content(longest)[0]["Content"]) == 16384 and keep(on_start=longest)["changed"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"on_start": "#!/bin/sh\n" + "x" * (12289 - 10)}, "on_start has 16388 characters in base64"),
        ({"on_create": "echo hello"}, "on_create begins with 'echo hello'"),
        ({"name": "x" * 64}, "64 characters"),
        ({"name": "a_b"}, "name is 'a_b'"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, keep, wrong, words) -> None:
    result = keep(**{"on_start": SCRIPT, **wrong})
    assert result["failed"] and words in result["msg"] and aws.calls == []

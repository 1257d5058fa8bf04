"""A link is made for its owner, and is nowhere else."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import pytest
from ansible_collections.lightsout.aws.plugins.modules import sagemaker_presigned_url as presigned

from tests.helpers.stubs import Stubs, stubbed

TOKEN = "a-token-that-nobody-else-may-see"
LINK = f"https://nb.notebook.us-east-1.sagemaker.aws/?authToken={TOKEN}"
STUDIO = {"domain_id": "d-abc", "user_profile_name": "alice"}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    with stubbed(monkeypatch) as stubs:
        yield stubs


def test_the_link_is_not_in_the_result(aws, run, tmp_path) -> None:
    aws.answer("create_presigned_notebook_instance_url", {"AuthorizedUrl": LINK}, NotebookInstanceName="nb")
    dest = tmp_path / "link"
    dest.touch(0o644)
    result = run(presigned, notebook_instance_name="nb", dest=str(dest))
    assert TOKEN not in json.dumps(result)
    assert result["changed"] and result["dest"] == str(dest) and result["expires_in"] == 300
    assert dest.read_text() == f"{LINK}\n" and stat.S_IMODE(dest.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [dest]


@pytest.mark.parametrize(("landing", "link"), [(None, LINK), ("classic", LINK), ("lab", f"{LINK}&view=lab")])
def test_a_notebook_opens_where_it_is_asked_to(aws, run, landing, link) -> None:
    request = {"NotebookInstanceName": "nb", "SessionExpirationDurationInSeconds": 1800}
    aws.answer("create_presigned_notebook_instance_url", {"AuthorizedUrl": LINK}, **request)
    result = run(presigned, notebook_instance_name="nb", landing=landing, session_duration=1800, show=True)
    assert result["url"] == link and not result["changed"]


@pytest.mark.parametrize(
    ("landing", "uri"),
    [
        ("lab", "app:JupyterLab:"),
        ("code", "app:CodeEditor:"),
        ("studio", "studio::"),
        ("app:JupyterLab:x", "app:JupyterLab:x"),
    ],
)
def test_studio_opens_where_it_is_asked_to(aws, run, landing, uri) -> None:
    request = {"DomainId": "d-abc", "UserProfileName": "alice", "ExpiresInSeconds": 60, "SpaceName": "s"}
    aws.answer("create_presigned_domain_url", {"AuthorizedUrl": LINK}, **request, LandingUri=uri)
    result = run(presigned, **STUDIO, landing=landing, space_name="s", expires_in=60, show=True)
    assert (result["url"], result["expires_in"]) == (LINK, 60)


def test_a_check_makes_no_link(aws, run, tmp_path) -> None:
    dest = tmp_path / "link"
    assert run(presigned, check=True, notebook_instance_name="nb", dest=str(dest))["changed"]
    assert aws.calls == [] and not dest.exists()


def test_what_is_not_there_is_named(aws, run) -> None:
    aws.refuse("create_presigned_notebook_instance_url", "ValidationException", "RecordNotFound")
    assert run(presigned, notebook_instance_name="nb")["msg"] == "There is no notebook instance nb."
    aws.refuse("create_presigned_domain_url", "ResourceNotFound", "x")
    assert "no user profile alice in domain d-abc" in run(presigned, **STUDIO)["msg"]


def test_one_that_does_not_run_says_so(aws, run) -> None:
    words = "Status (Stopped) not in ([InService])."
    aws.refuse("create_presigned_notebook_instance_url", "ValidationException", words)
    msg = run(presigned, notebook_instance_name="nb")["msg"]
    assert "notebook instance nb does not run" in msg and "start it first" in msg and words in msg


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "one of the following is required"),
        ({"notebook_instance_name": "nb", **STUDIO}, "mutually exclusive"),
        ({"domain_id": "d-abc"}, "user_profile_name"),
        ({"domain_id": "lab", "user_profile_name": "alice"}, "domain_id is 'lab'"),
        ({**STUDIO, "landing": "moon"}, "Studio knows studio, lab, code"),
        ({**STUDIO, "space_name": "a b"}, "space_name is 'a b'"),
        ({**STUDIO, "expires_in": 301}, "5 to 300"),
        ({"notebook_instance_name": "nb", "landing": "studio"}, "lab and classic"),
        ({"notebook_instance_name": "nb", "space_name": "s"}, "only Studio"),
        ({"notebook_instance_name": "nb", "expires_in": 60}, "always lasts 300"),
        ({"notebook_instance_name": "n" * 64}, "64 characters"),
        ({"notebook_instance_name": "nb", "session_duration": 60}, "1800 to 43200"),
        ({"notebook_instance_name": "nb", "dest": "/no/such/folder/link"}, "folder does not exist"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_is_asked(aws, run, wrong, words) -> None:
    result = run(presigned, **wrong)
    assert result["failed"] and words in result["msg"] and aws.calls == []

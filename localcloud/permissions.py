"""Who asked for what, and who may: every call is noted by access key, and IAM users may do what their policies allow.

The key that the cloud hands out, and any other that belongs to no IAM user, may do everything. Actions have IAM's
names, and include what AWS asks for besides (iam:PassRole, ec2:CreateTags), which moto does not know. Of a policy's
statements, effect and actions count here; resources and conditions do not.
"""

from __future__ import annotations

import fnmatch
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AccessDeniedError, JsonRESTError
from moto.iam.access_control import CreateAccessKeyFailure, IAMPolicy, IAMUserAccessKey, S3IAMRequest
from moto.s3.exceptions import S3AccessDeniedError
from moto.utilities.utils import get_partition

from localcloud.settings import ACCOUNT

#: IAM's word for a service, where its requests are signed with another.
SERVICES = {"tagging": "tag"}

#: Operations whose permission has another name.
NAMES = {
    "budgets:(Describe(Budgets?|NotificationsForBudget|SubscribersForNotification))": "budgets:ViewBudget",
    "budgets:(Create|Update|Delete)(Budget|Notification|Subscriber)": "budgets:ModifyBudget",
    "s3:(HeadBucket|ListObjects(V2)?)": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:(CreateMultipartUpload|UploadPart|CompleteMultipartUpload)": "s3:PutObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
}

#: What an operation needs besides, when its request holds the expression in the middle.
ALSO = (
    ("ec2:(Run|Create|Import|Copy|Register).*", r"\bTagSpecification", "ec2:CreateTags"),
    ("ec2:RunInstances", r"\bIamInstanceProfile\b", "iam:PassRole"),
    ("ec2:(Associate|Replace)IamInstanceProfile.*", "", "iam:PassRole"),
    ("iam:AddRoleToInstanceProfile", "", "iam:PassRole"),
    ("iam:CreateRole", r"\bTags\.member", "iam:TagRole"),
    ("iam:CreateInstanceProfile", r"\bTags\.member", "iam:TagInstanceProfile"),
    ("scheduler:(Create|Update)Schedule", "", "iam:PassRole"),
    ("scheduler:CreateScheduleGroup", '"Tags"', "scheduler:TagResource"),
    ("budgets:CreateBudget", '"ResourceTags"', "budgets:TagResource"),
    ("budgets:(Create|Update)BudgetAction", '"ExecutionRoleArn"', "iam:PassRole"),
    ("sagemaker:Create.*", '"Tags"', "sagemaker:AddTags"),
    ("sagemaker:(Create|Update).*", '"(RoleArn|ExecutionRole)"', "iam:PassRole"),
)

#: Everybody may ask who he is; no policy can forbid it.
FREE = {"sts:GetCallerIdentity"}


def needed(service: str, operation: str, request: str) -> set[str]:
    """The permissions that AWS asks for.

    Args:
        service: as the request was signed for.
        operation: as the API calls it.
        request: its body, or the names of its parameters.
    """
    called = f"{SERVICES.get(service, service)}:{operation}"
    own = next((action for names, action in NAMES.items() if re.fullmatch(names, called)), called)
    besides = {action for names, has, action in ALSO if re.fullmatch(names, called) and re.search(has, request)}
    return ({own} | besides) - FREE


def allows(policies: Iterable[Mapping[str, Any]], action: str) -> bool:
    """Whether policies (their documents) allow an action, and none of them denies it."""
    allowed = False
    for policy in policies:
        statements = policy["Statement"]
        for statement in statements if isinstance(statements, list) else [statements]:
            names = statement.get("Action", [])
            names = [names] if isinstance(names, str) else names
            if any(fnmatch.fnmatchcase(action.lower(), name.lower()) for name in names):
                if statement["Effect"] == "Deny":
                    return False
                allowed = True
    return allowed


class Records:
    """What was asked for, by access key; served as ``GET /lightsout/actions``."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def note(self, key: str, actions: set[str]) -> None:
        """One call."""
        with self._lock:
            self._seen[key] |= actions

    def as_dict(self) -> dict[str, list[str]]:
        """For JSON."""
        with self._lock:
            return {key: sorted(actions) for key, actions in sorted(self._seen.items())}

    def check(self, headers: Mapping[str, str], operation: str, request: str) -> tuple[str, str] | None:
        """Note a call; the user and the action that he may not do, None when he may.

        Args:
            headers: of the request; without credentials there is nothing to note.
            operation: as the API calls it.
            request: its body, or the names of its parameters.
        """
        signed = re.search(r"Credential=([^/,]+)/\d+/([^/]+)/([^/]+)/", headers.get("Authorization", ""))
        if not signed:
            return None
        key, region, service = signed.groups()
        actions = needed(service, operation, request)
        self.note(key, actions)
        user = user_of(key, region)
        if user is None:
            return None
        documents = [IAMPolicy(policy)._policy_json for policy in user.collect_policies()]
        return next(((user.arn, action) for action in sorted(actions) if not allows(documents, action)), None)


def user_of(key: str, region: str) -> IAMUserAccessKey | None:
    """The IAM user that an access key belongs to."""
    try:
        return IAMUserAccessKey(ACCOUNT, get_partition(region), key, {})
    except CreateAccessKeyFailure:
        return None


def denial(of_s3: bool, in_query: bool, user: str, action: str) -> Exception:
    """The refusal, in the protocol that the caller speaks."""
    if of_s3:
        return S3AccessDeniedError()
    if in_query:
        return AccessDeniedError(user, action)
    return JsonRESTError("AccessDeniedException", sentence(user, action))


def sentence(user: str, action: str) -> str:
    """AWS's words."""
    return f"User: {user} is not authorized to perform: {action}"


def install(records: Records) -> None:
    """Let every call that moto answers be noted, and refused where a policy lacks it."""
    original = ActionAuthenticatorMixin._authenticate_and_authorize_action

    def authorize(self: Any, iam_request_cls: type, resource: str = "*") -> None:
        original(self, iam_request_cls, resource)
        action = self._get_action()
        body = self.body if isinstance(self.body, str) else (self.body or b"").decode(errors="replace")
        request = " ".join(map(str, self.querystring)) if "Action" in self.querystring else body
        refused = records.check(self.headers, action[0] if isinstance(action, list) else action, request)
        if refused:
            raise denial(iam_request_cls is S3IAMRequest, "Action" in self.querystring, *refused)

    ActionAuthenticatorMixin._authenticate_and_authorize_action = authorize

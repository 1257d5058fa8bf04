"""Keys of IAM users who may do what the policies in docs/iam allow, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import Cloud
from tools import iam


def policy_without(document: dict[str, Any], action: str) -> dict[str, Any]:
    """The policy without one of its actions."""
    kept = [{**s, "Action": [a for a in s["Action"] if a != action]} for s in document["Statement"]]
    return {**document, "Statement": [s for s in kept if s["Action"]]}


def user_who_may(cloud: Cloud, name: str, document: dict[str, Any] | None) -> dict[str, str]:
    """A new user of this name with this policy, or with none; the environment with his key."""
    client = cloud.client("iam")
    client.create_user(UserName=name)
    if document:
        client.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(document))
    key = client.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def keys_for(cloud: Cloud, playbook: str, *, without: str = "", prefix: str = "least") -> dict[str, str]:
    """The environment of somebody who may run a playbook.

    Args:
        cloud: where.
        playbook: its name; one that is given by path or FQCN has no policy, and the cloud's own key is used.
        without: an action that is taken out of the policy.
        prefix: of the user's name, so that tests do not share users.
    """
    if "." in playbook:
        return {}
    document = policy_without(iam.shipped(iam.policy_of(playbook)), without)
    return user_who_may(cloud, f"{prefix}-{playbook}-{without.replace(':', '-')}", document)

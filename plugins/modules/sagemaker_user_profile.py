#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_user_profile
version_added: 0.1.0
short_description: A user profile of SageMaker Studio
description:
  - Makes, changes and deletes one user profile, which is one person in a domain.
  - An option that is left out stays as it is. What a new one does not say is as the domain has it.
options:
  domain_id:
    description:
      - The domain, as C(d-abcdefghijkl).
    type: str
    required: true
  name:
    description:
      - The profile's name. Letters, digits and hyphens, at most 63.
    type: str
    required: true
  state:
    description:
      - V(present) makes it, or changes what differs.
      - V(absent) deletes it when it has no apps and spaces, or with O(force).
      - Its home in the domain's file system stays.
    type: str
    choices: [present, absent]
    default: present
  execution_role:
    description:
      - The role that the apps of this profile act as. When not given, the domain's.
    type: str
  security_group_ids:
    description:
      - Security groups of the apps, at most 5.
    type: list
    elements: str
  idle_timeout:
    description:
      - After how many minutes without use SageMaker deletes an app, 60 to 525600; V(0) never. For JupyterLab and Code
        Editor. What runs keeps what it was started with.
    type: int
  idle_timeout_max:
    description:
      - How many minutes a space's own setting may ask for at most. Needs O(idle_timeout).
    type: int
  sso_user_name:
    description:
      - In a domain with C(SSO), the user name in IAM Identity Center. Only a new one can have another one.
    type: str
  force:
    description:
      - Whether V(absent) first deletes what is in it, its apps and spaces, in this order, whoever made it.
      - The files on the volumes of spaces are lost.
      - Without it, V(absent) refuses and names what is in it.
    type: bool
    default: false
extends_documentation_fragment:
  - lightsout.aws.sagemaker.tags
  - lightsout.aws.sagemaker.wait
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Says what would change, changes nothing.
  diff_mode:
    support: full
    description: Shows the user profile before and after.
seealso:
  - module: lightsout.aws.sagemaker_domain
  - module: lightsout.aws.sagemaker_space
  - module: lightsout.aws.sagemaker_studio_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A person
  lightsout.aws.sagemaker_user_profile:
    domain_id: d-abcdefghijkl
    name: alice
    tags: {"lightsout:project": rerank}

- name: Gone, with her spaces
  lightsout.aws.sagemaker_user_profile:
    domain_id: d-abcdefghijkl
    name: alice
    state: absent
    force: true
"""

RETURN = r"""
user_profile:
  description: The user profile as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    arn: {description: Its ARN., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    domain_id: {description: Its domain., type: str, returned: always, sample: d-abcdefghijkl}
    user_settings: {description: What it has of its own., type: dict, returned: when it has some}
    status: {description: Its state., type: str, returned: always, sample: InService}
    failure_reason: {description: Why it failed., type: str, returned: always}
    creation_time: {description: When it was made., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
previous_status:
  description: Its state when the module began, empty when there was none.
  returned: always
  type: str
  sample: InService
changes:
  description: C(create), C(delete), or what was and is. RV(changes.inside) names what O(force) deletes.
  returned: always
  type: dict
  sample: {user_profile: create}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import studio


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "domain_id": {"required": True},
            "name": {"required": True},
            "execution_role": {},
            "security_group_ids": {"type": "list", "elements": "str"},
            "idle_timeout": {"type": "int"},
            "idle_timeout_max": {"type": "int"},
            "sso_user_name": {},
            "force": {"type": "bool", "default": False},
            **studio.SHARED_OPTIONS,
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = studio.nested(
        UserSettings=studio.user_settings(params),
        SingleSignOnUserIdentifier="UserName" if params["sso_user_name"] else None,
        SingleSignOnUserValue=params["sso_user_name"],
    )
    key = {"DomainId": params["domain_id"], "UserProfileName": params["name"]}
    studio.run(module, studio.USER_PROFILE, studio.problems(params, "name"), key, wanted)


if __name__ == "__main__":
    main()

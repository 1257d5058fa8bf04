#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_app
version_added: 0.1.0
short_description: An app of SageMaker Studio, which is what runs and costs money
description:
  - Starts and ends JupyterLab or Code Editor in a space. What is on the space's volume stays.
  - An app cannot be changed. One that had failed, or was deleted, is made anew.
options:
  domain_id:
    description:
      - The domain, as C(d-abcdefghijkl).
    type: str
    required: true
  space_name:
    description:
      - The space that it runs in. Exactly one of O(space_name) and O(user_profile_name) is needed.
    type: str
  user_profile_name:
    description:
      - The user profile that it belongs to, for apps that need no space.
    type: str
  kind:
    description:
      - What runs.
    type: str
    choices: [JupyterLab, CodeEditor]
    required: true
  name:
    description:
      - The app's name. Those of JupyterLab and Code Editor are V(default).
    type: str
    default: default
  state:
    description:
      - V(present) starts it.
      - V(absent) ends it, and with it what it costs.
    type: str
    choices: [present, absent]
    default: present
  instance_type:
    description:
      - What it runs on, as V(ml.t3.medium). When not given, what SageMaker or the space has.
    type: str
  image_arn:
    description:
      - The SageMaker image. When not given, SageMaker's own distribution.
    type: str
  image_version_arn:
    description:
      - The version of O(image_arn).
    type: str
  lifecycle_config_arn:
    description:
      - The Studio lifecycle configuration that runs when the app starts.
    type: str
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
    description: Shows the app before and after.
seealso:
  - module: lightsout.aws.sagemaker_space
  - module: lightsout.aws.sagemaker_studio_info
  - module: lightsout.aws.sagemaker_presigned_url
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: JupyterLab runs
  lightsout.aws.sagemaker_app:
    domain_id: d-abcdefghijkl
    space_name: rerank
    kind: JupyterLab
    instance_type: ml.t3.medium
    tags: {"lightsout:project": rerank}

- name: It runs no more; the files stay
  lightsout.aws.sagemaker_app:
    domain_id: d-abcdefghijkl
    space_name: rerank
    kind: JupyterLab
    state: absent
"""

RETURN = r"""
app:
  description: The app as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    arn: {description: Its ARN., type: str, returned: always}
    name: {description: Its name., type: str, returned: always, sample: default}
    kind: {description: What it is., type: str, returned: always, sample: JupyterLab}
    domain_id: {description: Its domain., type: str, returned: always, sample: d-abcdefghijkl}
    space_name: {description: Its space., type: str, returned: when it has one}
    user_profile_name: {description: Whose it is., type: str, returned: when it has no space}
    resource_spec: {description: What it runs on., type: dict, returned: always, sample: {instance_type: ml.t3.medium}}
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
  description: C(create), C(delete), or what was and is.
  returned: always
  type: dict
  sample: {app: create}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import studio


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "domain_id": {"required": True},
            "space_name": {},
            "user_profile_name": {},
            "kind": {"choices": studio.APP_KINDS, "required": True},
            "name": {"default": "default"},
            **studio.SPEC_OPTIONS,
            **studio.SHARED_OPTIONS,
        },
        required_one_of=[("space_name", "user_profile_name")],
        mutually_exclusive=[("space_name", "user_profile_name")],
        supports_check_mode=True,
    )
    params = module.params
    key = studio.nested(
        DomainId=params["domain_id"],
        SpaceName=params["space_name"],
        UserProfileName=params["user_profile_name"],
        AppType=params["kind"],
        AppName=params["name"],
    )
    wanted = studio.nested(ResourceSpec=studio.resource_spec(params))
    studio.run(module, studio.APP, studio.problems(params, "name", "space_name", "user_profile_name"), key, wanted)


if __name__ == "__main__":
    main()

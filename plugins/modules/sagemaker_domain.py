#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_domain
version_added: 0.1.0
short_description: A domain of SageMaker Studio
description:
  - Makes, changes and deletes one domain, which is found by its name.
  - An option that is left out stays as it is.
  - A domain by itself costs nothing but the files in its file system; apps and the volumes of spaces cost money.
options:
  name:
    description:
      - The domain's name. Letters, digits and hyphens, at most 63.
    type: str
    required: true
  state:
    description:
      - V(present) makes it, or changes what differs.
      - V(absent) deletes it when nothing is in it, or with O(force).
    type: str
    choices: [present, absent]
    default: present
  auth_mode:
    description:
      - How people sign in. A new one has V(IAM) when nothing is said. Only a new one can have another one.
    type: str
    choices: [IAM, SSO]
  execution_role:
    description:
      - The role that apps act as. Needed to make one.
    type: str
  vpc_id:
    description:
      - The VPC of its file system. Needed to make one. Only a new one can have another one.
    type: str
  subnet_ids:
    description:
      - Subnets in O(vpc_id), 1 to 16. Needed to make one.
    type: list
    elements: str
  security_group_ids:
    description:
      - Security groups of the apps, at most 5.
    type: list
    elements: str
  network_access:
    description:
      - V(VpcOnly) sends all traffic of the apps through O(subnet_ids), which then need a NAT gateway or VPC endpoints.
      - With V(PublicInternetOnly), which SageMaker takes when nothing is said, apps reach the internet by themselves.
    type: str
    choices: [PublicInternetOnly, VpcOnly]
  kms_key_id:
    description:
      - The KMS key of its file system and of the volumes of its spaces. When not given, AWS's own.
      - Only a new one can have another one.
    type: str
  idle_timeout:
    description:
      - After how many minutes without use SageMaker deletes an app, 60 to 525600; V(0) never. For JupyterLab and Code
        Editor. What runs keeps what it was started with.
    type: int
  idle_timeout_max:
    description:
      - How many minutes a space's own setting may ask for at most. Needs O(idle_timeout).
    type: int
  tag_propagation:
    description:
      - Whether spaces and apps get the tags of the domain and of their user profile.
    type: bool
  retain_efs:
    description:
      - Whether V(absent) leaves the file system with everybody's home.
      - It costs money, and nothing leads to it but its ID in RV(retained_efs).
    type: bool
    default: true
  force:
    description:
      - Whether V(absent) first deletes what is in it, apps, spaces and user profiles, in this order, whoever made it.
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
    description: Shows the domain before and after.
seealso:
  - module: lightsout.aws.sagemaker_user_profile
  - module: lightsout.aws.sagemaker_space
  - module: lightsout.aws.sagemaker_app
  - module: lightsout.aws.sagemaker_studio_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A domain whose apps end after an hour without use
  lightsout.aws.sagemaker_domain:
    name: lightsout-rerank-studio
    execution_role: arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-rerank-studio-us-east-1
    vpc_id: vpc-0123456789abcdef0
    subnet_ids: [subnet-0123456789abcdef0]
    idle_timeout: 60
    tags: {"lightsout:project": rerank}

- name: Gone, with all that is in it and everybody's files
  lightsout.aws.sagemaker_domain:
    name: lightsout-rerank-studio
    state: absent
    force: true
    retain_efs: false
    tags: {"lightsout:project": rerank}
"""

RETURN = r"""
domain:
  description: The domain as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    id: {description: Its ID., type: str, returned: always, sample: d-abcdefghijkl}
    arn: {description: Its ARN., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    url:
      description: Its address. M(lightsout.aws.sagemaker_presigned_url) makes a way in.
      type: str
      returned: always
    auth_mode: {description: How people sign in., type: str, returned: always, sample: IAM}
    vpc_id: {description: Its VPC., type: str, returned: always}
    subnet_ids: {description: Its subnets., type: list, elements: str, returned: always}
    app_network_access_type: {description: How apps reach the internet., type: str, returned: always, sample: VpcOnly}
    kms_key_id: {description: The KMS key., type: str, returned: when it has one}
    home_efs_file_system_id: {description: The file system with everybody's home., type: str, returned: when it has one}
    default_user_settings: {description: What holds for its user profiles., type: dict, returned: always}
    status: {description: Its state., type: str, returned: always, sample: InService}
    failure_reason: {description: Why it failed., type: str, returned: always}
    creation_time: {description: When it was made., type: str, returned: always}
    tags: {description: Its tags., type: dict, returned: always}
retained_efs:
  description: The ID of the file system that is still there after the domain was deleted, empty when there is none.
  returned: always
  type: str
  sample: fs-0123456789abcdef0
previous_status:
  description: Its state when the module began, empty when there was none.
  returned: always
  type: str
  sample: InService
changes:
  description: C(create), C(delete), or what was and is. RV(changes.inside) names what O(force) deletes.
  returned: always
  type: dict
  sample: {default_user_settings.execution_role: [arn:aws:iam::123456789012:role/a, arn:aws:iam::123456789012:role/b]}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import studio


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "auth_mode": {"choices": ["IAM", "SSO"]},
            "execution_role": {},
            "vpc_id": {},
            "subnet_ids": {"type": "list", "elements": "str"},
            "security_group_ids": {"type": "list", "elements": "str"},
            "network_access": {"choices": ["PublicInternetOnly", "VpcOnly"]},
            "kms_key_id": {},
            "idle_timeout": {"type": "int"},
            "idle_timeout_max": {"type": "int"},
            "tag_propagation": {"type": "bool"},
            "retain_efs": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            **studio.SHARED_OPTIONS,
        },
        supports_check_mode=True,
    )
    params = module.params
    propagation = params["tag_propagation"]
    wanted = studio.nested(
        AuthMode=params["auth_mode"],
        DefaultUserSettings=studio.user_settings(params),
        VpcId=params["vpc_id"],
        SubnetIds=params["subnet_ids"],
        AppNetworkAccessType=params["network_access"],
        KmsKeyId=params["kms_key_id"],
        TagPropagation=None if propagation is None else ("ENABLED" if propagation else "DISABLED"),
    )
    studio.run(
        module,
        studio.DOMAIN,
        studio.problems(params, "name"),
        None,
        wanted,
        needed=("execution_role", "vpc_id", "subnet_ids"),
        create_only={"DomainName": params["name"], "AuthMode": "IAM"},
        delete_with={"RetentionPolicy": {"HomeEfsFileSystem": "Retain" if params["retain_efs"] else "Delete"}},
    )


if __name__ == "__main__":
    main()

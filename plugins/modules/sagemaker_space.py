#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_space
version_added: 0.1.0
short_description: A space of SageMaker Studio
description:
  - Makes, changes and deletes one space, which is a volume that JupyterLab or Code Editor runs on.
  - The volume costs money as long as the space is there.
  - M(lightsout.aws.sagemaker_app) starts and ends what runs on it.
  - An option that is left out stays as it is. A space can change only while no app runs in it.
options:
  domain_id:
    description:
      - The domain, as C(d-abcdefghijkl).
    type: str
    required: true
  name:
    description:
      - The space's name. Letters, digits and hyphens, at most 63.
    type: str
    required: true
  state:
    description:
      - V(present) makes it, or changes what differs.
      - V(absent) deletes it with its volume and files when no app runs in it, or with O(force).
    type: str
    choices: [present, absent]
    default: present
  owner_user_profile_name:
    description:
      - Whose space it is. Needed to make one. Only a new one can have another one.
    type: str
  sharing:
    description:
      - Whether others in the domain see it. A new one is V(Private) when nothing is said.
      - Only a new one can change this.
    type: str
    choices: [Private, Shared]
  kind:
    description:
      - What runs in it. Needed to make one. Only a new one can have another one.
    type: str
    choices: [JupyterLab, CodeEditor]
  display_name:
    description:
      - The name that Studio shows.
    type: str
  instance_type:
    description:
      - What its app runs on when the app does not say, as V(ml.t3.medium). Needs O(kind).
    type: str
  volume_size:
    description:
      - The size of its volume in GiB, 5 to 16384. It can grow, never shrink.
    type: int
  idle_timeout:
    description:
      - After how many minutes without use SageMaker deletes its app, 60 to 525600. Needs O(kind), and a domain whose
        own setting is on and allows as much.
    type: int
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
  force:
    description:
      - Whether V(absent) first deletes what is in it, its app, in this order, whoever made it.
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
    description: Shows the space before and after.
seealso:
  - module: lightsout.aws.sagemaker_domain
  - module: lightsout.aws.sagemaker_app
  - module: lightsout.aws.sagemaker_studio_info
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A space with 20 GiB for JupyterLab
  lightsout.aws.sagemaker_space:
    domain_id: d-abcdefghijkl
    name: rerank
    owner_user_profile_name: alice
    kind: JupyterLab
    instance_type: ml.t3.medium
    volume_size: 20
    tags: {"lightsout:project": rerank}

- name: Gone, with its files, even if something runs in it
  lightsout.aws.sagemaker_space:
    domain_id: d-abcdefghijkl
    name: rerank
    state: absent
    force: true
"""

RETURN = r"""
space:
  description: The space as it is now, in check mode as it is still. Empty when there is none.
  returned: always
  type: dict
  contains:
    arn: {description: Its ARN., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    domain_id: {description: Its domain., type: str, returned: always, sample: d-abcdefghijkl}
    url:
      description: Its address. M(lightsout.aws.sagemaker_presigned_url) makes a way in.
      type: str
      returned: always
    settings: {description: 'Kind, volume and what its app runs on.', type: dict, returned: always}
    ownership_settings: {description: Whose it is., type: dict, returned: always}
    sharing_settings: {description: Whether others see it., type: dict, returned: always}
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
  sample: {ebs_storage_settings.ebs_volume_size_in_gb: [5, 20]}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import studio


def settings(params) -> dict:
    """SpaceSettings, from the options that were given."""
    minutes = params["idle_timeout"]
    of_kind = studio.nested(
        DefaultResourceSpec=studio.resource_spec(params),
        AppLifecycleManagement={"IdleSettings": {"IdleTimeoutInMinutes": minutes}} if minutes is not None else None,
    )
    size = params["volume_size"]
    return studio.nested(
        AppType=params["kind"],
        SpaceStorageSettings={"EbsStorageSettings": {"EbsVolumeSizeInGb": size}} if size is not None else None,
        **({f"{params['kind']}AppSettings": of_kind} if params["kind"] else {}),
    )


def main() -> None:
    """Run as an Ansible module."""
    for_its_app = ("instance_type", "idle_timeout", "image_arn", "image_version_arn", "lifecycle_config_arn")
    module = AnsibleAWSModule(
        argument_spec={
            "domain_id": {"required": True},
            "name": {"required": True},
            "owner_user_profile_name": {},
            "sharing": {"choices": ["Private", "Shared"]},
            "kind": {"choices": studio.APP_KINDS},
            "display_name": {},
            "volume_size": {"type": "int"},
            "idle_timeout": {"type": "int"},
            **studio.SPEC_OPTIONS,
            "force": {"type": "bool", "default": False},
            **studio.SHARED_OPTIONS,
        },
        required_by={option: ["kind"] for option in for_its_app},
        supports_check_mode=True,
    )
    params = module.params
    owner, sharing = params["owner_user_profile_name"], params["sharing"]
    wanted = studio.nested(
        SpaceDisplayName=params["display_name"],
        SpaceSettings=settings(params),
        OwnershipSettings={"OwnerUserProfileName": owner} if owner else None,
        SpaceSharingSettings={"SharingType": sharing} if sharing else None,
    )
    studio.run(
        module,
        studio.SPACE,
        studio.problems(params, "name", "owner_user_profile_name"),
        {"DomainId": params["domain_id"], "SpaceName": params["name"]},
        wanted,
        needed=("owner_user_profile_name", "kind"),
        create_only={"SpaceSharingSettings": {"SharingType": "Private"}},
    )


if __name__ == "__main__":
    main()

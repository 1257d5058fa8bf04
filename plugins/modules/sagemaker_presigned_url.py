#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_presigned_url
version_added: 0.1.0
short_description: A link into a notebook instance or into Studio
description:
  - Asks SageMaker for a link that signs its bearer in, once, within O(expires_in) seconds.
  - Whoever has the link is in. So it is not in the result unless O(show=true), and no log has it; O(dest) is a file of
    your own that gets it.
  - Each run makes a new link, and reports a change only where it writes O(dest).
options:
  notebook_instance_name:
    description:
      - The notebook instance, which must be C(InService).
    type: str
  domain_id:
    description:
      - The Studio domain, as C(d-abcdefghijkl).
    type: str
  user_profile_name:
    description:
      - Whose Studio it is. Needed with O(domain_id).
    type: str
  space_name:
    description:
      - The space to open. Only with O(domain_id).
    type: str
  landing:
    description:
      - What opens. For a notebook instance V(lab) or V(classic), which is what SageMaker opens when nothing is said.
      - For Studio a landing URI, or V(studio), V(lab) and V(code) for C(studio::), C(app:JupyterLab:) and
        C(app:CodeEditor:).
    type: str
  session_duration:
    description:
      - For how many seconds one stays signed in, 1800 to 43200. AWS's default is 43200.
    type: int
  expires_in:
    description:
      - For how many seconds the link can be used, 5 to 300. Only Studio allows another number than 300.
    type: int
    default: 300
  dest:
    description:
      - A file that gets the link and a line end. Only its owner can read it.
    type: path
  show:
    description:
      - Whether the link is in the result, and so on the screen and in logs.
    type: bool
    default: false
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Makes no link.
  diff_mode:
    support: none
    description: A link is nobody else's business.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: A link to JupyterLab, for a browser on this computer
  lightsout.aws.sagemaker_presigned_url:
    notebook_instance_name: lightsout-rerank-notebook
    landing: lab
    dest: ~/.lightsout/notebook-link

- name: A link to a space of Studio, on the screen
  lightsout.aws.sagemaker_presigned_url:
    domain_id: d-abcdefghijkl
    user_profile_name: alice
    space_name: rerank
    landing: lab
    show: true
  register: studio
"""

RETURN = r"""
url:
  description: The link.
  returned: when O(show=true), and not in check mode
  type: str
expires_in:
  description: For how many seconds it can be used.
  returned: always
  type: int
  sample: 300
dest:
  description: The file that has it.
  returned: when O(dest) is given
  type: str
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError, error_message, numbered

#: For how many seconds a notebook instance's link can be used, whatever one would like.
NOTEBOOK_EXPIRY = 300

#: What SageMaker's own console adds to a notebook instance's link for each page.
NOTEBOOK_LANDINGS = {"lab": "view=lab", "classic": ""}
STUDIO_LANDINGS = {"studio": "studio::", "lab": "app:JupyterLab:", "code": "app:CodeEditor:"}
_DOMAIN = re.compile(r"d-(-*[a-z0-9]){1,61}")


def problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the options by themselves."""
    found = sagemaker.name_problems(params, "notebook_instance_name", "user_profile_name", "space_name")
    domain, landing = params["domain_id"], params["landing"]
    if domain is not None:
        if not _DOMAIN.fullmatch(domain):
            found.append(f"domain_id is '{domain}': give the domain's id, such as d-abcdefghijkl, not its name.")
        if landing and landing not in STUDIO_LANDINGS and ":" not in landing:
            known = ", ".join(STUDIO_LANDINGS)
            found.append(f"landing is '{landing}': Studio knows {known}, or an URI such as app:JupyterLab:.")
    else:
        if landing and landing not in NOTEBOOK_LANDINGS:
            found.append(f"landing is '{landing}': a notebook instance knows {' and '.join(NOTEBOOK_LANDINGS)}.")
        found += [
            f"{option} is given, and notebook_instance_name too: only Studio (domain_id) has it."
            for option in ("user_profile_name", "space_name")
            if params[option] is not None
        ]
        if params["expires_in"] != NOTEBOOK_EXPIRY:
            found.append(f"expires_in is {params['expires_in']}: a notebook instance's link always lasts 300 seconds.")
    if not 5 <= params["expires_in"] <= 300:
        found.append(f"expires_in is {params['expires_in']}: give 5 to 300 seconds.")
    if params["session_duration"] is not None and not 1800 <= params["session_duration"] <= 43200:
        found.append(f"session_duration is {params['session_duration']}: give 1800 to 43200 seconds.")
    if params["dest"] and not Path(params["dest"]).parent.is_dir():
        found.append(f"dest is '{params['dest']}': its folder does not exist.")
    return found


def link_of_notebook(client, params: dict[str, Any], session: dict[str, int]) -> str:
    """The link into a notebook instance."""
    name = params["notebook_instance_name"]
    try:
        answer = client.create_presigned_notebook_instance_url(NotebookInstanceName=name, **session)
    except Exception as error:
        if sagemaker.is_missing(error):
            raise LightsoutError(f"There is no notebook instance {name}.") from error
        if "not in ([InService])" in error_message(error):
            raise LightsoutError(
                f"The notebook instance {name} does not run, so there is no link into it: start it first (AWS says: "
                f"{error_message(error)})"
            ) from error
        raise
    parts = urlsplit(answer["AuthorizedUrl"])
    query = [parts.query, NOTEBOOK_LANDINGS.get(params["landing"], "")]
    return urlunsplit(parts._replace(query="&".join(filter(None, query))))


def link_of_studio(client, params: dict[str, Any], session: dict[str, int]) -> str:
    """The link into Studio."""
    request = {
        "DomainId": params["domain_id"],
        "UserProfileName": params["user_profile_name"],
        "ExpiresInSeconds": params["expires_in"],
        **session,
    }
    if params["space_name"]:
        request["SpaceName"] = params["space_name"]
    if params["landing"]:
        request["LandingUri"] = STUDIO_LANDINGS.get(params["landing"], params["landing"])
    try:
        return client.create_presigned_domain_url(**request)["AuthorizedUrl"]
    except Exception as error:
        if sagemaker.is_missing(error):
            raise LightsoutError(
                f"There is no user profile {params['user_profile_name']} in domain {params['domain_id']}"
                + (f", or no space {params['space_name']}." if params["space_name"] else ".")
            ) from error
        raise


def write(dest: str, link: str) -> None:
    """A file that only its owner can read, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=Path(dest).parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{link}\n")
        Path(name).replace(dest)
    except BaseException:
        Path(name).unlink()
        raise


def make(module) -> dict[str, Any]:
    """Do what is asked; returns the module's result."""
    params = module.params
    dest = {"dest": params["dest"]} if params["dest"] else {}
    result = {"changed": bool(dest), "expires_in": params["expires_in"], **dest}
    if module.check_mode:
        return result
    client = Clients(module)("sagemaker")
    duration = params["session_duration"]
    session = {} if duration is None else {"SessionExpirationDurationInSeconds": duration}
    link = (link_of_studio if params["domain_id"] else link_of_notebook)(client, params, session)
    if dest:
        write(params["dest"], link)
    if params["show"]:
        result["url"] = link
    return result


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "notebook_instance_name": {},
            "domain_id": {},
            "user_profile_name": {},
            "space_name": {},
            "landing": {},
            "session_duration": {"type": "int"},
            "expires_in": {"type": "int", "default": 300},
            "dest": {"type": "path"},
            "show": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("notebook_instance_name", "domain_id")],
        required_one_of=[("notebook_instance_name", "domain_id")],
        required_by={"domain_id": ["user_profile_name"]},
        supports_check_mode=True,
    )
    wrong = problems(module.params)
    if wrong:
        module.fail_json(msg=numbered(wrong))
    sagemaker.finish(module, "make a link", lambda: make(module))


if __name__ == "__main__":
    main()

# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)


class ModuleDocFragment:
    """Options that the SageMaker modules share."""

    DOCUMENTATION = r"""
options: {}
"""

    TAGS = r"""
options:
  tags:
    description:
      - Tags that it shall have.
      - With C(lightsout:project) among them, something of that name that lacks this tag is somebody else's and refused.
    type: dict
  purge_tags:
    description:
      - Whether tags that are not in O(tags) are taken away. AWS's own stay.
    type: bool
    default: false
"""

    WAIT = r"""
options:
  wait:
    description:
      - Whether to wait for the state that was asked for. What has to end before the next step is waited for anyway.
    type: bool
    default: true
  wait_timeout:
    description:
      - How long each wait may take, in seconds. The message of one that takes longer says the state.
    type: int
    default: 900
"""

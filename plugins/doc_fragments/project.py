# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)


class ModuleDocFragment:
    """Options that every module shares which works on one project."""

    DOCUMENTATION = r"""
options:
  project:
    description:
      - The name that is created and torn down together, the value of the tag C(lightsout:project).
      - 2 to 32 lower-case letters, digits and single hyphens.
    type: str
    required: true
"""

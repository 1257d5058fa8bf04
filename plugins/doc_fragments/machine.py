# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)


class ModuleDocFragment:
    """Options of the modules that keep machines."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(running) creates the machine when it is missing, changes what differs, and starts it when it is stopped.
      - V(stopped) stops it. A stopped machine costs only its disk.
      - V(absent) terminates it, disk included.
    type: str
    choices: [running, stopped, absent]
    default: running
  instance_type:
    description:
      - For example V(t3.medium). Needed to create a machine.
      - Changing the type of a running machine needs O(allow_stop=true).
    type: str
  image_id:
    description:
      - The AMI to create the machine from. An existing machine keeps its own.
    type: str
  image:
    description:
      - What the image is called, kept in the tag C(lightsout:image).
      - Asking for another image than an existing machine was made from is an error.
    type: str
  login_user:
    description:
      - The image's login user, kept in the tag C(lightsout:user), where the inventory finds it.
    type: str
  key_name:
    description:
      - The key pair that the login user gets. Used at creation.
    type: str
  security_group_ids:
    description:
      - The security groups of the machine. Needed to create one.
    type: list
    elements: str
  subnet_ids:
    description:
      - Subnets to launch in, tried in this order. Used at creation.
      - When not given, the region's default subnets in the order of their zones.
    type: list
    elements: str
  public_ip:
    description:
      - Whether the machine gets a public IPv4 address. Used at creation.
    type: bool
    default: true
  volume_size:
    description:
      - The size of the root volume in GiB. A larger value grows the volume of a running machine, a smaller one is an
        error.
      - The file system follows at the next boot, or with C(growpart) and C(resize2fs).
    type: int
  kms_key_id:
    description:
      - The KMS key that encrypts the root volume. When not given, the account's own key for EBS. Used at creation.
    type: str
  placement_group:
    description:
      - The placement group to launch in. It must exist.
      - A machine that is in another one, or in none, moves when it is stopped, or when O(allow_stop=true).
    type: str
  instance_profile:
    description:
      - The name of the IAM instance profile.
    type: str
  shutdown_behavior:
    description:
      - What becomes of the machine when it powers itself off. Defaults to V(stop) at creation.
    type: str
    choices: [stop, terminate]
  metadata_hop_limit:
    description:
      - How many network hops the answer of the metadata service may take. V(1) keeps it from containers on the machine.
      - Defaults to V(1) at creation.
    type: int
  metadata_tags:
    description:
      - Whether the machine can read its own tags from its metadata service. Defaults to V(false) at creation.
    type: bool
  termination_protection:
    description:
      - Whether the API refuses to terminate the machine. A protected machine survives a teardown, which reports it.
    type: bool
  spot:
    description:
      - Whether the machine is a spot machine, which is cheaper and may be taken away at two minutes' notice.
      - An existing machine cannot change this.
    type: bool
  spot_interruption:
    description:
      - What EC2 does with a spot machine that it takes away. Only one with V(stop) can be stopped and started by you.
    type: str
    choices: [stop, terminate]
    default: terminate
  spot_max_price:
    description:
      - The most that you pay, in USD per hour. When not given, the on-demand price.
    type: float
  user_data:
    description:
      - A script or cloud-config that the machine runs at its first boot. Used at creation.
    type: str
  allow_stop:
    description:
      - Whether a running machine may be stopped and started again for a change that needs it.
    type: bool
    default: false
  lease:
    description:
      - How long the machine may live, for example V(12h). The tag C(lightsout:expires) is set when it is created, and
        when it is started again.
    type: str
  tags:
    description:
      - Further tags for the machine, its volumes and network interfaces. Tags that are not named here are left alone.
    type: dict
    aliases: [resource_tags]
  wait:
    description:
      - Whether to wait for the state that was asked for.
    type: bool
    default: true
  wait_timeout:
    description:
      - How long to wait, in seconds.
    type: int
    default: 300
"""

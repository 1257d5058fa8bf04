"""The local cloud: a stand-in for EC2 (and what belongs to it) on one computer, for trying and testing Lightsout.

``moto`` answers the AWS API; a podman container with systemd, sshd and cloud-init is each instance. See README.md.
"""

"""Independent judges of what the playbooks make: `make security` runs them on the local cloud (docs/security.md)."""

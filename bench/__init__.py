"""How fast Lightsout makes a machine right, beside a shell script, pyinfra and Mitogen. See README.md."""

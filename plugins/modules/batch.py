#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: batch
short_description: Run a list of ordinary tasks in one process on the target
version_added: 0.1.0
description:
  - Takes a list of module calls, written as tasks are, and runs them one after another in a single Python process
    on the target, which imports Ansible's module library once and forks for each call.
  - The modules are the installed ones, unchanged; check mode, diff and return values are theirs. What is saved is
    the start of Python and the round trips of each task, which is where the time of a run goes.
  - The list stops at the first call that fails.
  - With O(look) the target is asked first, and O(tasks) may depend on what it answered. What it answered last time is
    remembered on the controller, so that a target which is still as it was is asked and put right in a single exchange.
  - M(ansible.builtin.template) is rendered on the controller; M(ansible.builtin.copy) sends its content along. Both
    then compare and write on the target in the same process.
  - What Ansible sends with its modules is kept on the target, in C(/var/cache/lightsout) for root and in
    C(~/.cache/lightsout) for others, so that Python compiles it once; also in check mode. What nobody has used for 30
    days is removed.
options:
  problems:
    description:
      - What is wrong with the settings, as a text or a list of texts. Each line of it is told, and the task fails
        before the target hears of it.
    type: raw
  look:
    description:
      - Calls that only ask. They run side by side, also in check mode, and change nothing. Written as those of
        O(tasks); of calls with the same C(name) the first is made, so that the questions of several roles can be added
        up.
      - With C(first=true) a call is answered before the others are asked.
      - The templates of O(refuse), O(hold) and O(tasks) find the answers in the variable C(seen), by the calls'
        names, and facts in C(ansible_facts).
      - The answers are remembered in C(ANSIBLE_HOME/lightsout), readable by you alone, for at most 30 days. They are a
        guess from which work is told, and which the target compares with its answers of now (not counting times)
        before it does anything. When that work changed something, they are asked once more. With C(no_log) on one of
        the calls nothing is remembered.
    type: list
    elements: dict
    default: []
  refuse:
    description:
      - What is wrong with the target, as O(problems) has it. The task fails before anything is done.
    type: raw
  hold:
    description:
      - A condition, as in C(when). If it holds, nothing is done and the result is C(held), so that other tasks can do
        first what a batch cannot.
    type: raw
    default: false
  tasks:
    description:
      - The calls, in order. Each is a dictionary with one module name as key (fully qualified) and its options as
        value, and optionally C(name), C(when), C(loop), C(notify), C(no_log), C(check_mode), C(changed_when) and
        C(failed_when).
      - These mean what they mean on a task, but C(changed_when) and C(failed_when) take booleans only. C(notify) names
        handlers, which run when this call changed something. With C(failed_when=false) the list goes on when the call
        fails.
      - With C(loop) a call is made for each item; its templates know it as C(item).
      - A C(block) with C(name) and C(when) holds calls for which that condition is asked once. It may be a template, as
        the whole list may.
      - Modules that need an action plugin of their own cannot be used, except M(ansible.builtin.copy) of files and
        content (not of folders), M(ansible.builtin.template) and M(ansible.builtin.command).
    type: list
    elements: dict
    default: []
  at_once:
    description:
      - Whether the entries of O(tasks) run side by side. The calls of a C(block) still run one after another, and stop
        at the first that fails; the other entries go on to their end.
    type: bool
    default: false
  role_paths:
    description:
      - Folders of roles. Relative sources of copies and templates are looked for in their C(files) and C(templates),
        before those of the task. For a play that runs the calls of several roles in one batch.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
notes:
  - C(register), C(until), C(delegate_to) and C(become) belong to the whole batch, not to a single call.
author:
  - The Lightsout authors
"""

EXAMPLES = r"""
- name: Jupyter's folder, configuration and service
  lightsout.aws.batch:
    tasks:
      - name: Folder
        ansible.builtin.file:
          path: /etc/jupyter
          state: directory
          mode: "0755"
      - name: Configuration
        ansible.builtin.template:
          src: jupyter_server_config.json.j2
          dest: /etc/jupyter/jupyter_server_config.json
          mode: "0640"
        notify: Restart Jupyter
      - name: Service
        ansible.builtin.systemd_service:
          name: jupyter
          enabled: true
          state: started
        when: jupyter_enabled

- name: A certificate, if the one that is there is about to end
  lightsout.aws.batch:
    look:
      - name: Certificate
        ansible.builtin.command:
          argv: [openssl, x509, -in, /etc/jupyter/certificate.pem, -noout, -checkend, "2592000"]
        failed_when: false
    tasks:
      - name: Certificate
        when: seen.Certificate.rc != 0
        block:
          - name: Private key
            community.crypto.openssl_privatekey:
              path: /etc/jupyter/private_key.pem
          - name: Self-signed certificate
            community.crypto.x509_certificate:
              path: /etc/jupyter/certificate.pem
              privatekey_path: /etc/jupyter/private_key.pem
              provider: selfsigned
"""

RETURN = r"""
results:
  description:
    - What each call returned, in order, with its C(name) and C(module).
    - Calls whose C(when) is false say C(skipped).
  returned: always
  type: list
  elements: dict
  sample:
    - {name: Folder, module: ansible.builtin.file, changed: false, path: /etc/jupyter, mode: "0755"}
    - {name: Service, module: ansible.builtin.systemd_service, skipped: true, changed: false}
seen:
  description: The answers to O(look), by the calls' names.
  returned: with O(look)
  type: dict
  sample: {Certificate: {name: Certificate, module: ansible.builtin.command, rc: 0, stdout: It will not expire}}
held:
  description: Whether O(hold) kept the calls of O(tasks) from being run.
  returned: with O(tasks)
  type: bool
changed:
  description: Whether any call changed something.
  returned: always
  type: bool
"""

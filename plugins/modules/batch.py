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
  - M(ansible.builtin.template) is rendered on the controller; M(ansible.builtin.copy) sends its content along. Both
    then compare and write on the target in the same process.
  - What Ansible sends with its modules is kept on the target, in C(/var/cache/lightsout) for root and in
    C(~/.cache/lightsout) for others, so that Python compiles it once; also in check mode. What nobody has used for 30
    days is removed.
options:
  tasks:
    description:
      - The calls, in order. Each is a dictionary with one module name as key (fully qualified) and its options as
        value, and optionally C(name), C(when), C(notify), C(no_log), C(check_mode), C(changed_when) and C(failed_when).
      - These mean what they mean on a task, but all conditions take booleans (write them as templates). C(notify) names
        handlers, which run when this call changed something. With C(failed_when=false) the list goes on when the call
        fails.
      - Modules that need an action plugin of their own cannot be used, except M(ansible.builtin.copy) of files and
        content (not of folders), M(ansible.builtin.template) and M(ansible.builtin.command).
      - Required, unless O(deferred) is given.
    type: list
    elements: dict
  defer:
    description:
      - Do not run the calls now. Register the result, and give it to a later task as O(deferred), so that several roles
        can be run in one go. Templates are rendered now, where their role's files and variables are at hand.
    type: bool
    default: false
  deferred:
    description:
      - Run the calls that earlier tasks have put aside, in this order. Takes their registered results; those of tasks
        that were skipped have no calls.
    type: list
    elements: dict
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
notes:
  - Loops, C(register), C(until), C(delegate_to) and C(become) belong to the whole batch, not to a single call.
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
        when: "{{ jupyter_enabled }}"
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
deferred:
  description: The calls that were put aside.
  returned: when O(defer=true)
  type: list
  elements: dict
changed:
  description: Whether any call changed something.
  returned: always
  type: bool
"""

# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The screen output of a run, as a story instead of a log."""

from __future__ import annotations

DOCUMENTATION = r"""
name: story
type: stdout
short_description: A run that reads like a story
version_added: 0.1.0
description:
  - Prints what changed, what failed, what took long, and what the playbook wants to tell; nothing else.
  - On a terminal the task in progress is shown on a line of its own, with the seconds it has taken so far.
  - A failure is one line with the module's own message.
  - With C(-v) and more it behaves exactly like P(ansible.builtin.default#callback).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - C(stdout_callback = lightsout.aws.story) in C(ansible.cfg)
"""

import gc
import sys
import threading
import time

from ansible import constants as C
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible.plugins.loader import filter_loader, test_loader

#: A task that changed nothing is still worth a line when it kept the reader waiting this long, in seconds.
SLOW = 3.0

#: Our own action: several calls in one task.
BATCH = "lightsout.aws.batch"

#: What Ansible puts before a role by itself, named after a spec that a reader need not know.
VALIDATORS = {"validate_argument_spec", "ansible.builtin.validate_argument_spec"}

#: Actions that wait for what the reader types.
ASKERS = {"pause", "ansible.builtin.pause"}

#: Actions whose message is the story itself.
TELLERS = {"debug", "ansible.builtin.debug"}


def _title(task) -> str:
    """A task's own name; the default callback puts the role's before it, which readers of a story need not know."""
    if task.action in VALIDATORS:
        return "Check the settings"
    return str(task.name or task.get_name()).strip()


class Ticker:
    """The line at the bottom of a terminal that shows what is being waited for.

    Does nothing where the output is not a terminal: a log file gets only finished lines.
    """

    def __init__(self, stream) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._text = ""
        self._since = 0.0
        self._shown = False
        self._lock = threading.Lock()
        if self._live:
            threading.Thread(target=self._tick, name="story-ticker", daemon=True).start()

    def show(self, text: str) -> None:
        """Name the task in progress; its clock starts now."""
        with self._lock:
            self._text, self._since = text, time.monotonic()
            self._draw()

    def clear(self) -> None:
        """Take the line away, so that something lasting can be printed."""
        with self._lock:
            self._text = ""
            self._erase()

    def _tick(self) -> None:
        while True:
            time.sleep(1)
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if not (self._live and self._text):
            return
        waited = int(time.monotonic() - self._since)
        self._stream.write(f"\r\033[K  \033[2m… {self._text[:100]}{f'  {waited} s' if waited else ''}\033[0m")
        self._stream.flush()
        self._shown = True

    def _erase(self) -> None:
        if self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()
            self._shown = False


class CallbackModule(DefaultCallback):
    """Ansible's own default callback, with the everyday noise taken out."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lightsout.aws.story"

    def __init__(self) -> None:
        super().__init__()
        self._ticker = Ticker(sys.stdout)
        self._started: dict[str, float] = {}
        self._heading = ""

    def v2_playbook_on_start(self, playbook) -> None:
        """Spare the workers work: each task runs in a fork of this process, which is now as ready as it will be."""
        filter_loader.get("ansible.builtin.default")  # loads all that Jinja has; else each fork does
        test_loader.get("ansible.builtin.defined")
        gc.collect()
        gc.freeze()  # what is here stays: forks need not look through it, which would copy its memory
        super().v2_playbook_on_start(playbook)

    @property
    def _plain(self) -> bool:
        """True when the reader asked for details: the default callback gives them."""
        return self._display.verbosity > 0

    def _tell(self, text: str, color: str | None = None) -> None:
        self._head()
        self._display.display(text, color=color)

    def _head(self) -> None:
        """Make room, and print the play's name above the first thing that it has to tell."""
        self._ticker.clear()
        if self._heading:
            self._display.display(self._heading, color=C.COLOR_HIGHLIGHT)
            self._heading = ""

    def _line(self, mark: str, result, color: str | None, message: str = "") -> None:
        """One finished task: mark, name, host where that matters, seconds where they were felt, and what it said."""
        took = time.monotonic() - self._started.get(result.task._uuid, time.monotonic())
        where = "" if result.host.get_name() == "localhost" else f"  [{result.host.get_name()}]"
        felt = f"  {took:.0f} s" if took >= SLOW else ""
        said = f": {message}" if message else ""
        name = _title(result.task)
        self._tell(f"  {mark} {name}{where}{felt}{said}", color)

    # -- the beginning of things ------------------------------------------------------------------------------
    def v2_playbook_on_play_start(self, play) -> None:
        if self._plain:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        dry = " (check mode: nothing will be changed)" if play.check_mode else ""
        self._heading = f"\n▸ {play.get_name().strip()}{dry}"

    def _task_start(self, task, prefix=None) -> None:
        self._started.setdefault(task._uuid, time.monotonic())
        if self._plain:
            super()._task_start(task, prefix)
            return
        self._last_task_banner = task._uuid
        if task.action in ASKERS:
            self._ticker.clear()  # the line at the bottom is the reader's
        else:
            self._ticker.show(_title(task))

    # -- the ends of things -----------------------------------------------------------------------------------
    def v2_runner_on_ok(self, result) -> None:
        if self._plain:
            super().v2_runner_on_ok(result)
            return
        if isinstance(result.task, TaskInclude):
            return
        outcome = result.result
        self._handle_warnings(outcome)
        if result.task.loop and "results" in outcome:  # a loop has told its changes item by item
            return
        if result.task.action in TELLERS:
            self._story(outcome)
        elif outcome.get("changed", False):
            self._line("✓", result, C.COLOR_CHANGED, self._changed_calls(result))
        elif time.monotonic() - self._started.get(result.task._uuid, time.monotonic()) >= SLOW:
            self._line("·", result, C.COLOR_OK)

    @staticmethod
    def _changed_calls(result) -> str:
        """Which calls of a batch changed something; nothing for any other task."""
        if result.task.action != BATCH:
            return ""
        calls = result.result.get("results", [])  # none when the task's output is hidden
        return ", ".join(call["name"] for call in calls if call.get("changed"))

    def _story(self, outcome: dict) -> None:
        """Print a debug task's message as text, not as a data structure."""
        if "msg" not in outcome:  # debug: var=…
            self._clean_results(outcome, "debug")
            self._tell(self._dump_results(outcome))
            return
        lines = outcome["msg"] if isinstance(outcome["msg"], list) else str(outcome["msg"]).rstrip("\n").split("\n")
        for line in lines:
            self._tell(f"  {line}" if line else "")

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        if self._plain:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        outcome = result.result
        self._handle_warnings(outcome)
        if not (result.task.loop and "results" in outcome):  # a loop has told its failures item by item
            self._line("✗", result, C.COLOR_ERROR, self._reason(outcome))

    def v2_runner_on_unreachable(self, result) -> None:
        if self._plain:
            super().v2_runner_on_unreachable(result)
            return
        if result.task.ignore_unreachable:
            return  # it was asked in passing, and the playbook tells what became of it
        self._line("✗", result, C.COLOR_UNREACHABLE, f"unreachable: {self._reason(result.result)}")

    def v2_runner_item_on_ok(self, result) -> None:
        if self._plain:
            super().v2_runner_item_on_ok(result)
            return
        self._handle_warnings(result.result)
        if result.task.action in TELLERS:
            self._story(result.result)
        elif result.result.get("changed", False):
            self._line("✓", result, C.COLOR_CHANGED, str(self._get_item_label(result.result)))

    def v2_runner_item_on_failed(self, result) -> None:
        if self._plain:
            super().v2_runner_item_on_failed(result)
            return
        label = self._get_item_label(result.result)
        self._line("✗", result, C.COLOR_ERROR, f"({label}) {self._reason(result.result)}")

    def _reason(self, outcome: dict) -> str:
        """The module's message, and what a failing command printed."""
        if outcome.get("argument_errors"):  # a role's argument spec: the message would only add a line of its own
            return "; ".join(outcome["argument_errors"])
        message = str(outcome.get("msg", "")).strip()
        heard = str(outcome.get("stderr") or outcome.get("module_stderr") or outcome.get("stdout") or "").strip()
        if heard and (not message or "rc" in outcome) and heard not in message:
            message = f"{message}\n    {heard[-2000:]}".strip()
        return message or self._dump_results(outcome)

    def v2_runner_on_skipped(self, result) -> None:
        if self._plain:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_skipped(self, result) -> None:
        if self._plain:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result) -> None:
        if self._plain:
            super().v2_runner_retry(result)

    def v2_playbook_on_include(self, included_file) -> None:
        if self._plain:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._plain:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        if self._plain:
            super().v2_playbook_on_no_hosts_remaining()
        else:
            self._ticker.clear()

    def v2_on_file_diff(self, result) -> None:
        self._head()
        super().v2_on_file_diff(result)

    def v2_playbook_on_stats(self, stats) -> None:
        self._ticker.clear()
        if self._plain:
            super().v2_playbook_on_stats(stats)
            return
        self._display.display("")
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            bad = counts["failures"] + counts["unreachable"]
            color = C.COLOR_ERROR if bad else C.COLOR_CHANGED if counts["changed"] else C.COLOR_OK
            # The default callback's own words, so that scripts that read them keep working.
            self._display.display(
                f"{host} : ok={counts['ok']} changed={counts['changed']} unreachable={counts['unreachable']} "
                f"failed={counts['failures']}",
                color=color,
            )

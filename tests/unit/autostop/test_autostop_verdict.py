"""The verdict: what it warns of, what cancels it, what caps it, and that clocks and full disks do not mislead it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from tests.unit.autostop.conftest import HOUR, MINUTE, PROGRAM, WALL, Computer, autostop
from tests.unit.autostop.test_autostop_signals import lease


def warning(computer: Computer) -> str:
    """The file that tells of the end; empty without one."""
    file = computer.root / "run/lightsout/warning"
    return file.read_text() if file.exists() else ""


class TestWarning:
    def test_people_are_told_ten_minutes_before_and_once(self, settled: Computer) -> None:
        settled.watch(42 * MINUTE)
        before = settled.passed
        assert not settled.told
        settled.watch(9 * MINUTE)
        assert len(settled.told) == 1 and "powered off in 10 min" in settled.told[0], settled.told
        assert "lightsout-autostop keep 2h" in warning(settled)
        settled.watch(HOUR)
        assert settled.off and settled.passed - before <= 16 * MINUTE
        assert [text.split(":")[1].strip() for text in settled.told[1:]] == ["powering off"]

    def test_whatever_happens_then_cancels_it(self, settled: Computer) -> None:
        settled.watch(45 * MINUTE)
        assert warning(settled)
        settled.login()
        assert settled.watch(MINUTE) == ["awake"]
        assert not warning(settled)
        assert "not powering off: somebody typed at pts/0" in settled.told[-1]
        settled.watch(55 * MINUTE)  # the hour begins anew, and so does the warning
        assert not settled.off and warning(settled)

    def test_the_log_says_why_and_is_short(self, settled: Computer) -> None:
        settled.watch(2 * HOUR)
        log = (settled.root / "var/lib/lightsout/autostop.log").read_text().splitlines()
        assert log[-1].endswith("powering off: nothing happened for 1 h 00 min")
        for number in range(300):
            autostop.Guard(settled).say(f"line {number}")
        log = (settled.root / "var/lib/lightsout/autostop.log").read_text().splitlines()
        assert len(log) == 200 and log[-1].endswith("line 299")


class TestDeadline:
    def test_it_caps_what_is_busy(self, settled: Computer) -> None:
        lease(settled, WALL + 5 * HOUR)
        settled.put("run/systemd/units/invocation:lightsout-job@train.service", "")
        settled.watch(10 * HOUR)
        assert settled.off and settled.passed == 5 * HOUR
        assert settled.status()["decided"] == "deadline"

    def test_it_caps_what_is_not_known(self, settled: Computer) -> None:
        lease(settled, WALL + 5 * HOUR)
        settled.jupyter()
        settled.answers["700"] = OSError("it answered 500")
        settled.watch(10 * HOUR)
        assert settled.off and settled.passed == 5 * HOUR

    def test_it_is_told_ten_minutes_before_also_to_who_is_busy(self, settled: Computer) -> None:
        lease(settled, WALL + 5 * HOUR)
        settled.put("run/systemd/units/invocation:lightsout-job@train.service", "")
        settled.watch(5 * HOUR - 15 * MINUTE - 11 * MINUTE)
        assert not settled.told
        settled.watch(2 * MINUTE)
        assert len(settled.told) == 1 and "playbooks/renew.yml" in settled.told[0]

    def test_a_renewed_lease_takes_the_warning_back(self, settled: Computer) -> None:
        lease(settled, WALL + 5 * HOUR)
        settled.put("run/systemd/units/invocation:lightsout-job@train.service", "")
        settled.watch(5 * HOUR - 15 * MINUTE - 5 * MINUTE)
        assert warning(settled)
        lease(settled, WALL + 10 * HOUR)
        assert settled.watch(MINUTE) == ["awake"]
        assert not warning(settled) and "not powering off" in settled.told[-1]
        settled.watch(3 * HOUR)
        assert not settled.off

    def test_a_machine_that_starts_after_its_lease_has_time_to_be_renewed(self, computer: Computer) -> None:
        lease(computer, WALL - HOUR)
        computer.watch(9 * MINUTE)
        assert not computer.off
        computer.watch(2 * MINUTE)
        assert computer.off

    @pytest.mark.parametrize("text", ["", "[Timer]\n", "OnCalendar=tomorrow\n", "OnCalendar=2026-11-24 04:00:00\n"])
    def test_a_timer_that_says_nothing_is_no_deadline(self, settled: Computer, text: str) -> None:
        settled.put("etc/systemd/system/lightsout-deadline.timer", text)
        assert settled.deadline() is None

    def test_it_reads_what_systemd_reads(self, settled: Computer) -> None:
        settled.put("etc/systemd/system/lightsout-deadline.timer", "OnCalendar=2028-02-29 23:59:59 UTC\n")
        assert autostop.utc(settled.deadline()) == "2028-02-29T23:59:59Z"


class TestClocks:
    @pytest.mark.parametrize("jump", [10 * HOUR, -10 * HOUR, 400 * 24 * HOUR])
    def test_a_clock_that_jumps_stops_nobody_early_and_keeps_nobody_longer(
        self, settled: Computer, jump: float
    ) -> None:
        settled.login()
        settled.watch(10 * MINUTE)
        settled.jumped = jump
        done = settled.watch(40 * MINUTE)
        assert set(done) <= {"idle", "awake"}
        settled.watch(15 * MINUTE)
        assert settled.off

    def test_sleep_is_not_idleness(self, settled: Computer) -> None:
        settled.watch(30 * MINUTE)
        settled.asleep += 20 * HOUR
        settled.watch(10 * MINUTE)
        assert not settled.off and settled.status()["idle"] < 60 * MINUTE

    def test_what_nobody_watched_is_not_idleness(self, settled: Computer) -> None:
        """The agent was killed for hours, or the machine was too busy to start it."""
        settled.watch(30 * MINUTE)
        idle = settled.status()["idle"]
        settled.passed += 20 * HOUR
        settled.check()
        assert not settled.off and settled.status()["idle"] <= idle + 3 * MINUTE

    def test_a_new_boot_begins_anew(self, settled: Computer) -> None:
        """What a look remembers is in /run, which a boot empties."""
        settled.watch(50 * MINUTE)
        for file in (settled.root / "run/lightsout").iterdir():
            file.unlink()
        settled.check()
        assert settled.status()["idle"] == 0 and settled.status()["verdict"] == "awake"

    def test_someone_asleep_for_a_week_ago_is_kept_by_their_own_clock(self, settled: Computer) -> None:
        """`keep` is a span of people's: it goes on while the machine sleeps."""
        autostop.Guard(settled).keep("4h")
        settled.asleep += 5 * HOUR
        assert settled.reading("keep")[0] == "idle"


class TestTrouble:
    def test_a_signal_that_breaks_keeps_the_machine_and_lets_the_others_speak(
        self, settled: Computer, monkeypatch
    ) -> None:
        def broken(_: object) -> dict:
            raise RuntimeError("this machine is strange")

        monkeypatch.setattr(type(settled), "homes", broken)
        settled.watch(2 * HOUR)
        assert not settled.off
        assert settled.status()["decided"] == "results"
        assert "this machine is strange" in settled.status()["why"]

    def test_what_the_last_look_left_is_no_trust_but_a_hint(self, settled: Computer) -> None:
        for rubbish in ("", "{", "[]", '{"idle": 0}'):
            settled.put("run/lightsout/autostop.json", rubbish)
            assert settled.check() in ("awake", "idle")
        settled.watch(2 * HOUR)
        assert settled.off

    def test_a_full_disk_hides_nothing_from_the_verdict(self, settled: Computer, monkeypatch) -> None:
        real = autostop.write

        def full(path, text):
            if "var/lib" in str(path):
                raise OSError(28, "No space left on device")
            real(path, text)

        monkeypatch.setattr(autostop, "write", full)
        settled.watch(2 * HOUR)
        assert settled.off

    def test_systemd_is_asked_again_when_it_refused(self, settled: Computer, monkeypatch) -> None:
        asked = []
        monkeypatch.setattr(settled, "power_off", lambda: asked.append(1) or len(asked) > 1)
        settled.watch(60 * MINUTE)
        assert len(asked) > 1

    def test_settings_that_are_no_json_are_the_defaults(self, settled: Computer) -> None:
        settled.put("etc/lightsout/autostop.json", "{")
        assert Computer(settled.root).settings["idle"] == HOUR


class TestWords:
    def test_explain_names_each_signal_and_the_one_that_decides(self, settled: Computer, capsys) -> None:
        settled.jupyter({"id": "0c1d2e3f", "execution_state": "busy", "last_activity": "x"})
        assert autostop.main(["explain"], settled) == 0
        out = capsys.readouterr().out
        for signal in autostop.Look.SIGNALS:
            assert f" {signal.__name__} " in out
        assert "-> kernels      busy     kernel 0c1d2e3f computes" in out
        assert "it stays on, because of kernels" in out

    def test_explain_changes_nothing(self, settled: Computer) -> None:
        before = settled.status()
        settled.login()
        autostop.main(["explain"], settled)
        assert settled.status() == before

    def test_status_is_the_last_look_for_playbooks(self, settled: Computer, capsys) -> None:
        assert autostop.main(["status", "--json"], settled) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["verdict"], said["limit"], said["deadline"]) == ("idle", 3600, None)
        assert len(said["signals"]) == len(autostop.Look.SIGNALS)
        assert said["stops"] == autostop.utc(settled.now() + 3600 - said["idle"])

    def test_status_before_the_first_look_says_so(self, computer: Computer, capsys) -> None:
        assert autostop.main(["status"], computer) == 1
        assert "has not looked yet" in capsys.readouterr().err

    def test_who_asks_is_not_what_is_asked_about(self, settled: Computer) -> None:
        """Ansible comes with a shell and a Python of its own; a person types."""
        end = settled.connect()
        settled.process(602, "/bin/sh", "-c", "sudo python3", parent=end)
        settled.process(603, "/usr/bin/python3", "module.py", parent=602)
        settled.process(604, "/usr/bin/python3", "-IS", "/usr/local/bin/lightsout-autostop", "explain", parent=603)
        look = autostop.Guard(settled).look(asking=604)
        assert look["verdict"] == "idle", look
        settled.process(605, "/usr/bin/python3", "train.py", parent=end)
        assert autostop.Guard(settled).look(asking=604)["decided"] == "programs"

    def test_help_is_its_manual(self) -> None:
        done = subprocess.run([sys.executable, "-IS", PROGRAM, "--help"], capture_output=True, text=True, check=True)
        for signal in autostop.Look.SIGNALS:
            assert signal.__name__ in done.stdout
        assert "FILES" in done.stdout and "VERDICT" in done.stdout

    def test_it_runs_on_an_old_python(self) -> None:
        ast.parse(PROGRAM.read_text(), feature_version=(3, 8))

"""Each signal both ways: what must keep a machine on, and beside it what must not."""

from __future__ import annotations

import json
import os

import pytest

from tests.unit.autostop.conftest import HOUR, MINUTE, WALL, Computer, autostop


def stays(computer: Computer, hours: float = 1.5, each=None) -> None:
    """The machine is not powered off while this lasts."""
    computer.watch(hours * HOUR, each)
    assert not computer.off, computer.status()


def stops(computer: Computer, each=None) -> None:
    """The machine is powered off after an hour, and not before."""
    before = computer.passed
    computer.watch(2 * HOUR, each)
    assert computer.off, computer.status()
    assert computer.passed - before <= HOUR + 5 * MINUTE


class TestNothing:
    def test_a_machine_that_does_nothing_is_powered_off_after_an_hour(self, computer: Computer) -> None:
        done = computer.watch(2 * HOUR)
        assert computer.off
        # ten minutes of grace, then sixty of idleness
        assert 69 * MINUTE <= computer.passed <= 71 * MINUTE
        assert done[-1] == "stop" and "warned" in done


class TestBoot:
    def test_a_machine_that_has_just_started_stays(self, computer: Computer) -> None:
        computer.put("etc/lightsout/autostop.json", json.dumps({"idle": "3m", "warning": "1m", "grace": "20m"}))
        computer.settings["idle"], computer.settings["warning"], computer.settings["grace"] = 180, 60, 1200
        stays(computer, 19 / 60)

    def test_one_that_has_not_is_on_its_own(self, settled: Computer) -> None:
        assert settled.reading("boot")[0] == "idle"
        stops(settled)


class TestSetup:
    @pytest.mark.parametrize(
        "words",
        [
            ("/usr/bin/apt-get", "install", "rsync"),
            ("/usr/bin/dpkg", "--unpack"),
            ("/usr/bin/python3", "/usr/bin/cloud-init", "modules"),
            ("/opt/anaconda3/bin/python", "/opt/anaconda3/bin/conda", "install", "pytorch"),
            ("/usr/bin/python3", "-m", "pip", "install", "torch"),
            ("/usr/bin/python3", "/usr/bin/unattended-upgrade"),
        ],
    )
    def test_what_installs_keeps_it(self, settled: Computer, words: tuple[str, ...]) -> None:
        settled.process(300, *words, group="/system.slice/some.service")
        stays(settled)
        settled.end(300)
        stops(settled)

    def test_what_only_waits_for_the_end_does_not(self, settled: Computer) -> None:
        """Ubuntu always runs this one."""
        words = ("/usr/bin/python3", "/usr/share/unattended-upgrades/unattended-upgrade-shutdown", "--wait-for-signal")
        settled.process(300, *words, group="/system.slice/unattended-upgrades.service")
        stops(settled)


class TestKeep:
    def test_who_keeps_it_keeps_it_for_that_long(self, settled: Computer) -> None:
        assert "2026-11-23T08:15:00Z" in autostop.Guard(settled).keep("4h")
        stays(settled, 4)
        stops(settled)

    def test_off_ends_it(self, settled: Computer) -> None:
        autostop.Guard(settled).keep("4h")
        autostop.Guard(settled).keep("off")
        stops(settled)

    def test_nobody_keeps_it_longer_than_its_lease(self, settled: Computer) -> None:
        lease(settled, WALL + 2 * HOUR)
        assert "Then its lease ends" in autostop.Guard(settled).keep("1d")
        settled.watch(5 * HOUR)
        assert settled.off and settled.passed == 2 * HOUR

    @pytest.mark.parametrize("words", ["4", "h", "-1h", "forever", "1h30m", "0h"])
    def test_what_is_no_length_of_time_is_refused(self, settled: Computer, words: str, capsys) -> None:
        assert autostop.main(["keep", "--", words], settled) == 2
        assert words in capsys.readouterr().err


class TestJobs:
    def test_a_job_under_systemd_keeps_it(self, settled: Computer) -> None:
        unit = settled.put("run/systemd/units/invocation:lightsout-job@train.service", "")
        assert settled.reading("jobs") == ("busy", "train")
        stays(settled)
        unit.unlink()
        stops(settled)

    def test_a_job_in_screen_keeps_it_and_so_does_one_that_waits_in_a_queue(self, settled: Computer) -> None:
        words = ("/usr/bin/python3", "-I", "/usr/local/bin/lightsout-job", "run", "queued")
        settled.process(401, *words, group="/system.slice/ssh.service")
        assert settled.reading("jobs") == ("busy", "queued")
        stays(settled)
        settled.end(401)
        stops(settled)

    def test_other_units_and_who_reads_a_log_do_not(self, settled: Computer) -> None:
        settled.put("run/systemd/units/invocation:jupyter.service", "")
        words = ("/usr/bin/python3", "-I", "/usr/local/bin/lightsout-job", "list")
        settled.process(401, *words, group="/system.slice/cron.service")
        assert settled.reading("jobs")[0] == "idle"
        stops(settled)


class TestResults:
    def ended(self, computer: Computer, then: str, ok: bool | None, ended: str | None = "2026-11-23T03:00:00Z") -> None:
        computer.put("home/ubuntu/jobs/train/job.json", json.dumps({"then": then}))
        synced = None if ok is None else {"ok": ok}
        computer.put("home/ubuntu/jobs/train/state.json", json.dumps({"ended": ended, "synced": synced}))

    @pytest.mark.parametrize("ok", [False, None])
    def test_results_that_a_power_off_would_lose_keep_it(self, settled: Computer, ok: bool | None) -> None:
        self.ended(settled, "terminate", ok)
        stays(settled)
        self.ended(settled, "terminate", True)
        stops(settled)

    def test_results_on_a_disk_that_stays_do_not(self, settled: Computer) -> None:
        self.ended(settled, "stop", False)
        stops(settled)

    def test_a_job_that_never_began_does_not(self, settled: Computer) -> None:
        self.ended(settled, "terminate", None, ended=None)
        stops(settled)


def kernel(state: str = "idle", used: str = "2026-11-23T03:00:00Z") -> dict[str, str]:
    return {"id": "0c1d2e3f-kernel", "execution_state": state, "last_activity": used}


class TestKernels:
    def test_one_that_is_busy_and_silent_keeps_it_however_old_its_last_activity(self, settled: Computer) -> None:
        settled.jupyter(kernel("busy"))
        stays(settled, 10)
        settled.jupyter(kernel("idle"))
        stops(settled)

    def test_one_that_is_used_now_and_then_keeps_it(self, settled: Computer) -> None:
        def use() -> None:
            settled.jupyter(kernel(used=f"at {settled.passed // (50 * MINUTE)}"))

        stays(settled, 5, use)

    def test_one_that_nobody_uses_does_not_and_neither_does_jupyter_itself(self, settled: Computer) -> None:
        settled.jupyter(kernel())
        python = ("/opt/anaconda3/bin/python", "-m", "ipykernel_launcher", "-f", "kernel.json")
        settled.process(701, *python, parent=700, group="/system.slice/jupyter.service")
        stops(settled)

    @pytest.mark.parametrize("state", ["starting", "dead", "restarting"])
    def test_between_two_states_it_counts_for_ten_minutes(self, settled: Computer, state: str) -> None:
        settled.jupyter(kernel(state))
        settled.watch(9 * MINUTE)
        assert settled.reading("kernels") == ("busy", f"kernel 0c1d2e3f is {state}")
        settled.watch(3 * MINUTE)
        assert settled.reading("kernels")[0] == "idle"
        stops(settled)

    @pytest.mark.parametrize("error", [OSError("it answered 403"), TimeoutError("timed out"), ValueError("no JSON")])
    def test_a_server_that_does_not_say_may_be_busy(self, settled: Computer, error: Exception) -> None:
        settled.jupyter()
        settled.answers["700"] = error
        assert settled.reading("kernels")[0] == "unknown"
        stays(settled)
        settled.answers["700"] = []
        stops(settled)

    def test_a_server_whose_file_is_not_there_may_be_busy(self, settled: Computer) -> None:
        words = ("/usr/bin/python3", "/usr/local/bin/jupyter-notebook")
        settled.process(750, *words, group="/system.slice/x.service", comm="jupyter-noteboo")
        assert settled.reading("kernels")[0] == "unknown"
        stays(settled)

    def test_a_server_that_somebody_started_in_a_terminal_is_asked_as_well(self, settled: Computer) -> None:
        settled.login()
        settled.jupyter(kernel("busy"), pid=710, terminal=0)
        stays(settled)
        settled.jupyter(kernel(), pid=710, terminal=0)
        stops(settled)


class TestPrograms:
    @pytest.mark.parametrize(
        "words",
        [
            ("python", "train.py"),
            ("vim", "train.py"),
            ("bash", "train.sh"),
            ("/bin/bash", "-c", "sleep 9999"),
            ("ssh", "x"),
        ],
    )
    def test_what_runs_at_a_terminal_keeps_it(self, settled: Computer, words: tuple[str, ...]) -> None:
        settled.process(800, *words, parent=settled.login(), terminal=0)
        stays(settled)
        settled.end(800)
        stops(settled)

    @pytest.mark.parametrize(
        "words",
        [
            ("/bin/bash", "--init-file", "/home/u/.vscode-server/x/shellIntegration-bash.sh"),
            ("-bash",),
            ("sudo", "-i"),
            ("-zsh", "-i"),
            ("htop",),
            ("tail", "-f", "log"),
            ("less", "notes"),
            ("/usr/bin/python3", "-IS", "/usr/local/bin/lightsout-autostop", "explain"),
        ],
    )
    def test_a_shell_that_waits_and_who_only_watches_do_not(self, settled: Computer, words: tuple[str, ...]) -> None:
        settled.process(800, *words, parent=settled.login(), terminal=0)
        stops(settled)

    def test_nor_does_what_a_watcher_calls_again_and_again(self, settled: Computer) -> None:
        settled.process(800, "watch", "nvidia-smi", parent=settled.login(), terminal=0)
        settled.process(801, "sh", "-c", "nvidia-smi", parent=800, terminal=0)
        settled.process(802, "nvidia-smi", parent=801, terminal=0)
        stops(settled)

    def test_a_child_in_screen_keeps_it_and_an_empty_screen_does_not(self, settled: Computer) -> None:
        settled.process(810, "SCREEN", "-dmS", "work", comm="screen")
        settled.process(811, "/bin/bash", parent=810, terminal=4)
        settled.process(812, "python", "train.py", parent=811, terminal=4)
        settled.type(4)
        stays(settled)
        settled.end(812)
        stops(settled)

    def test_a_command_that_is_screens_own_child_keeps_it(self, settled: Computer) -> None:
        settled.process(810, "SCREEN", "-dmS", "work", "python", "train.py", comm="screen")
        settled.process(811, "python", "train.py", parent=810, terminal=4)
        stays(settled)

    def test_so_it_is_in_tmux(self, settled: Computer) -> None:
        settled.process(820, "tmux", "new", "-d", comm="tmux: server")
        settled.process(821, "-bash", parent=820, terminal=5)
        settled.process(822, "make", "all", parent=821, terminal=5)
        settled.type(5)
        stays(settled)
        settled.end(822)
        stops(settled)

    def test_so_it_is_in_a_terminal_of_jupyters(self, settled: Computer) -> None:
        settled.jupyter()
        group = "/system.slice/jupyter.service"
        settled.process(730, "/bin/bash", parent=700, terminal=6, group=group)
        settled.process(731, "python", "train.py", parent=730, terminal=6, group=group)
        settled.type(6)
        stays(settled)
        settled.end(731)
        stops(settled)

    @pytest.mark.parametrize(
        "group",
        [
            "/user.slice/user-1000.slice/session-7.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/run-u7.service",
            "/system.slice/ssh.service",
            "/system.slice/amazon-ssm-agent.service",
        ],
    )
    def test_what_somebody_left_behind_keeps_it(self, settled: Computer, group: str) -> None:
        settled.process(840, "python", "download.py", group=group)  # nohup, and the laptop was closed
        stays(settled)
        settled.end(840)
        stops(settled)

    @pytest.mark.parametrize(
        ("words", "group"),
        [
            (("/usr/sbin/cron", "-f"), "/system.slice/cron.service"),
            (("/usr/lib/systemd/systemd", "--user"), "/user.slice/user-1000.slice/user@1000.service/init.scope"),
            (
                ("/usr/bin/dbus-daemon", "--session"),
                "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service",
            ),
            (("/usr/bin/amazon-ssm-agent",), "/system.slice/amazon-ssm-agent.service"),
            (("ssh-agent", "-s"), "/user.slice/user-1000.slice/session-7.scope"),
            (("/home/u/.vscode-server/bin/1/node", "server.js"), "/user.slice/user-1000.slice/session-7.scope"),
        ],
    )
    def test_the_systems_own_services_do_not(self, settled: Computer, words: tuple[str, ...], group: str) -> None:
        settled.process(841, *words, group=group)
        stops(settled)

    def test_a_monitor_that_the_settings_name_does_not(self, settled: Computer) -> None:
        settled.process(842, "/opt/monitor/agent", group="/user.slice/user-1000.slice/session-7.scope")
        assert settled.reading("programs")[0] == "busy"
        settled.settings["ignore"] = ["agent"]
        stops(settled)

    def test_a_zombie_does_not(self, settled: Computer) -> None:
        settled.process(843, "python", "train.py", parent=settled.login(), terminal=0, state="Z")
        stops(settled)


class TestKeyboards:
    def test_who_types_once_in_a_while_keeps_it(self, settled: Computer) -> None:
        settled.login()
        stays(settled, 5, lambda: settled.type() if settled.passed % (45 * MINUTE) == 0 else None)

    def test_a_login_that_nobody_uses_does_not(self, settled: Computer) -> None:
        settled.login()
        stops(settled)

    def test_what_is_printed_on_a_terminal_is_not_typed(self, settled: Computer) -> None:
        settled.login()

        def print_something() -> None:
            file = settled.root / "dev/pts/0"
            os.utime(file, (file.stat().st_atime, settled.now()))

        stops(settled, print_something)

    def test_a_new_login_begins_the_hour_anew(self, settled: Computer) -> None:
        settled.watch(40 * MINUTE)
        settled.login()
        settled.watch(50 * MINUTE)
        assert not settled.off


class TestConnections:
    def test_data_that_moves_keeps_it(self, settled: Computer) -> None:
        end = settled.connect()
        settled.process(602, "/usr/lib/openssh/sftp-server", parent=end)

        def upload() -> None:
            settled.process(602, "/usr/lib/openssh/sftp-server", parent=end, ticks=int(settled.passed), started=0)

        stays(settled, 1.5, upload)

    def test_a_connection_that_is_only_open_does_not(self, settled: Computer) -> None:
        settled.process(602, "/usr/lib/openssh/sftp-server", parent=settled.connect())
        stops(settled)

    def test_an_editor_that_is_connected_keeps_it_and_its_server_alone_does_not(self, settled: Computer) -> None:
        node = ("/home/ubuntu/.vscode-server/cli/servers/Stable-1/server/node", "server-main.js")
        settled.process(610, *node)

        def beat() -> None:
            settled.process(600, "sshd: ubuntu [priv]", parent=80, started=0)
            settled.process(601, "sshd: ubuntu@notty", parent=600, ticks=int(settled.passed // 120), started=0)

        stays(settled, 1.5, beat)
        settled.end(601)
        stops(settled)

    def test_an_rsync_keeps_it(self, settled: Computer) -> None:
        settled.process(602, "rsync", "--server", "-logDtpre.iLsfxC", ".", "data", parent=settled.connect())
        stays(settled)

    @pytest.mark.parametrize("title", ["sshd-session: ubuntu@notty", "sshd: ubuntu", "sshd-session: ubuntu"])
    def test_newer_servers_and_tunnels_have_other_names(self, settled: Computer, title: str) -> None:
        settled.process(600, "sshd-session: ubuntu [priv]", parent=80)

        def move() -> None:
            settled.process(601, title, parent=600, ticks=int(settled.passed), started=0)

        stays(settled, 1.5, move)
        assert settled.reading("connections") == ("idle", "quiet: ssh of ubuntu")
        stops(settled)

    def test_a_session_of_ssms_counts_as_any_other(self, settled: Computer) -> None:
        group = "/system.slice/amazon-ssm-agent.service"
        settled.process(900, "/usr/bin/ssm-session-worker", "ada-0123", group=group)
        settled.process(901, "sh", parent=900, terminal=2, group=group)
        settled.type(2)
        settled.process(902, "python", "train.py", parent=901, terminal=2, group=group)
        stays(settled)
        settled.end(902)
        stops(settled)


class TestProcessors:
    def test_a_fifth_of_a_core_keeps_it(self, settled: Computer) -> None:
        stays(settled, 1.5, lambda: settled.compute(0.25 * MINUTE))

    def test_less_does_not_nor_do_bursts_that_are_soon_over(self, settled: Computer) -> None:
        def burst() -> None:
            settled.compute(20 if settled.passed % (10 * MINUTE) == 0 else 0.5)  # a cron job of 20 s each ten minutes

        stops(settled, burst)

    def test_a_look_that_comes_late_knows_as_much(self, settled: Computer) -> None:
        settled.passed += 20 * MINUTE
        assert settled.reading("cpu") == ("idle", "0 % of a core over 20 min")
        settled.compute(10 * MINUTE)
        assert settled.reading("cpu") == ("busy", "50 % of a core over 20 min")

    def test_an_old_kernels_accounting_is_read_as_well(self, settled: Computer) -> None:
        settled.put("sys/fs/cgroup/cpu.stat", "nr_periods 0\n")
        settled.put("sys/fs/cgroup/cpuacct/cpuacct.usage", "120000000000\n")
        assert settled.processor_seconds() == 120
        (settled.root / "sys/fs/cgroup/cpuacct/cpuacct.usage").unlink()
        settled.put("proc/stat", "cpu  1000 200 300 99999 400 0 0 0 0 0\n")
        assert settled.processor_seconds() == 15

    def test_what_cannot_be_read_is_not_known(self, settled: Computer) -> None:
        (settled.root / "sys/fs/cgroup/cpu.stat").unlink()
        assert settled.reading("cpu")[0] == "unknown"
        stays(settled)


class TestGpu:
    def test_a_gpu_that_computes_keeps_it(self, settled: Computer) -> None:
        settled.put("proc/driver/nvidia/version", "NVRM")
        settled.nvidia = (0, "0\n97\n")
        stays(settled)
        settled.nvidia = (0, "0\n0\n")
        stops(settled)

    def test_one_that_rests_between_two_looks_is_seen_over_the_window(self, settled: Computer) -> None:
        settled.put("proc/driver/nvidia/version", "NVRM")

        def now_and_then() -> None:
            settled.nvidia = (0, "60\n" if settled.passed % (4 * MINUTE) == 0 else "0\n")

        stays(settled, 1.5, now_and_then)

    def test_one_whose_driver_does_not_answer_may_be_busy(self, settled: Computer) -> None:
        settled.put("proc/driver/nvidia/version", "NVRM")
        settled.nvidia = (None, "")
        assert settled.reading("gpu")[0] == "unknown"
        stays(settled)

    def test_a_machine_with_the_program_but_no_gpu_is_not_unknown(self, settled: Computer) -> None:
        settled.nvidia = (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
        stops(settled)


def lease(computer: Computer, until: float) -> None:
    """The deadline, as the role writes it."""
    moment = autostop.utc(until).replace("T", " ").rstrip("Z")
    computer.put("etc/systemd/system/lightsout-deadline.timer", f"[Timer]\nOnCalendar={moment} UTC\nOnBootSec=10m\n")

"""How `fleek up` stops: on signals, by force, after a kill."""

import signal
import subprocess
import time

import psutil

from tests.fleek_cli import READY, Up, processes_in


def test_ctrl_c_and_sigkill_leave_no_process_and_keep_the_data(tmp_path):
    with Up(tmp_path) as first:
        first.ready()
        done = first.completed(first.generate())
        picture = first.content(done)
        waiting = first.generate(model="dummy/faulty", input={"delay": 600})
        children = psutil.Process(first.process.pid).children(recursive=True)
        assert len(children) >= 5
        assert first.interrupt() < 10
        assert first.process.returncode == 0
        assert [child for child in children if child.is_running()] == []
        assert processes_in(tmp_path) == []
        assert "Killed: " not in first.output
        assert not (tmp_path / ".fleek" / "env").exists()

    # as after a crash, with a dead PostgreSQL that has not been reaped
    zombie = subprocess.Popen(["true"])
    (tmp_path / ".fleek" / "postgres" / "data" / "postmaster.pid").write_text(f"{zombie.pid}\n")

    # killed this time: no process is left, and the next start works at once
    with Up(tmp_path, port=first.port) as second:
        second.ready()
        assert second.content(second.media(done["job_id"])) == picture
        assert second.media(waiting["job_id"])["status"] in {"IN_QUEUE", "PROCESSING"}
        children = psutil.Process(second.process.pid).children(recursive=True)
        zombie.wait()
        second.process.kill()
        second.process.wait()
        with Up(tmp_path, port=first.port) as third:
            third.ready()
            assert psutil.wait_procs(children, timeout=10)[1] == []
            assert third.content(third.media(done["job_id"])) == picture

            # a second Ctrl-C does not wait for a process that hangs
            third.child("worker1@").suspend()
            third.process.send_signal(signal.SIGINT)
            third.says("Stopping ...")
            time.sleep(0.7)
            assert third.interrupt() < 4
            assert third.process.returncode == 0
            assert processes_in(tmp_path) == []


def test_sigterm_during_start_stops_everything(tmp_path):
    with Up(tmp_path) as starting:
        starting.says("is starting")
        time.sleep(0.3)
        assert starting.interrupt(signal.SIGTERM) < 10
        assert starting.process.returncode == 0
        assert READY not in starting.output
        assert processes_in(tmp_path) == []

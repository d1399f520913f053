"""Processes: forks, exits and interrupts. `scripts/soak python` runs the same programs some hundred times."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from support import run, start

import hither.sync

PROGRAMS = Path(__file__).parent / "programs"
RUNS = int(os.environ.get("HITHER_RUNS", "20"))


def program(name: str) -> str:
    return (PROGRAMS / f"{name}.py").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "bridge"),
    [
        ("exit_asyncio", ""),
        ("exit_asyncio", "thread"),
        ("exit_threads", ""),
        ("fork_asyncio", ""),
        ("fork_asyncio", "thread"),
        ("fork_threads", ""),
    ],
)
def test_it_ends_with_0_and_in_silence_every_time(hither_server, name, bridge):
    for number in range(RUNS if not bridge else RUNS // 4):
        done = run(hither_server, program(name), str(number), HITHER_BRIDGE=bridge)
        assert (done.returncode, done.stderr) == (0, ""), (number, done)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("flavour", ["asyncio", "threads"])
def test_opening_and_closing_leaves_threads_files_and_memory_as_they_were(hither_server, flavour):
    runs = int(os.environ.get("HITHER_OPENS", "100"))
    done = run(hither_server, program("opens"), flavour, str(runs), timeout=None)
    assert (done.returncode, done.stderr) == (0, ""), done
    figures = dict(re.findall(r"(\w+)=(-?\d+)", done.stdout))
    print(f"{flavour}: {done.stdout.strip()}")
    # One loop may wait for the collector. Memory that grows by less than the allocator keeps is told by more runs.
    assert int(figures["threads"]) <= 0 and int(figures["files"]) <= 2, done.stdout
    assert int(figures["kib"]) <= 16 << 10, done.stdout


@pytest.mark.parametrize("name", ["interrupt_threads", "interrupt_asyncio"])
def test_an_interrupt_ends_it_within_0_3_s_and_what_it_registered_is_gone(hither_server, name):
    process = start(hither_server, program(name))
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        with hither.sync.connect(**hither_server.settings) as client:
            service = process.stdout.readline().strip()
            client.wait_for(service)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(10)
            took = time.monotonic() - began
            assert took < 0.3, f"{took:.3f} s"
            assert process.stderr.read() == "" and process.returncode == 130
            with client.watch_service(service) as watch:
                update = watch.next(timeout=5)
                while len(update.view):
                    update = watch.next(timeout=1)
            assert time.monotonic() - began < 1
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_five_lines_print_a_value_soon_after_the_import(hither_server):
    began = time.monotonic()
    done = run(
        hither_server,
        """
        import hither.sync
        with hither.sync.connect() as client:
            client.kv.put("greeting", "hello")
            print(client.kv.get("greeting").text())
        """,
    )
    assert done.stdout == "hello\n" and done.stderr == "" and time.monotonic() - began < 5


def test_a_daemon_thread_that_waits_for_ever_does_not_keep_or_break_the_end(hither_server):
    for _ in range(5):
        done = run(
            hither_server,
            """
            import threading, hither.sync
            client = hither.sync.connect()
            watch = client.watch("never", start="now")
            for _ in range(8):
                threading.Thread(target=lambda: list(watch), daemon=True).start()
            """,
        )
        assert (done.returncode, done.stderr) == (0, "")

"""Forks with a live client whose threads are busy: by `os.fork`, and by `multiprocessing`."""

import multiprocessing
import os
import sys
import threading
import warnings

import hither
import hither.sync

warnings.simplefilter("ignore", DeprecationWarning)
client = hither.sync.connect()
client.kv.put("k", "v")
stop = threading.Event()


def busy():
    while not stop.is_set():
        client.kv.put("busy", "v")


threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()


def child():
    try:
        client.kv.get("k")
        raise AssertionError("the parent's client was used")
    except hither.ForkedError:
        client.close()
    with hither.sync.connect() as own:
        assert own.kv.get("k").text() == "v"


if int(sys.argv[1]) % 2:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    status = process.exitcode
else:
    pid = os.fork()
    if pid == 0:
        # Ends as any program does, with the parent's client in it.
        child()
        sys.exit(0)
    status = os.waitpid(pid, 0)[1]
stop.set()
for thread in threads:
    thread.join()
assert status == 0, status
assert client.kv.get("k").text() == "v"
client.close()

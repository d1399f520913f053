"""Ends with calls in flight in daemon threads and a client that nobody closes."""

import sys
import threading
import time

import hither.sync
from hither import ClosedError

client = hither.sync.connect()
watch = client.watch("k", start="now")
lease = client.lease(60)


def call():
    try:
        while True:
            client.kv.put("k/x", "v")
    except ClosedError:
        pass


def follow():
    for _ in watch:
        pass


for target in [call] * 8 + [follow]:
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.002 * (int(sys.argv[1]) % 10))

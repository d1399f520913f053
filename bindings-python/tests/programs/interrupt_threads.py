"""Waits in blocking calls until it is interrupted."""

import sys
import threading
import uuid

import hither.sync

service = f"s-{uuid.uuid4().hex[:8]}"
try:
    with hither.sync.connect() as client:
        registration = client.register(service, port=80, address="h")

        def call():
            try:
                while True:
                    client.kv.get("k")
            except hither.ClosedError:
                pass

        for _ in range(10):
            threading.Thread(target=call, daemon=True).start()
        print(f"ready\n{service}", flush=True)
        for _ in client.watch("never"):
            pass
except KeyboardInterrupt:
    sys.exit(130)

"""The client for threads: the names of `hither`, without `await`.

    with hither.sync.connect() as client:
        client.kv.put("greeting", "hello")
        for update in client.watch(prefix="config/"):
            for event in update:
                print(event)
"""

from __future__ import annotations

from ._client import Client, connect
from ._kv import Kv
from ._lease import Lease, Leases
from ._registry import Registered, Service, ServiceWatch
from ._watch import States, Stream, Subscription, Watch

__all__ = [
    "Client",
    "Kv",
    "Lease",
    "Leases",
    "Registered",
    "Service",
    "ServiceWatch",
    "States",
    "Stream",
    "Subscription",
    "Watch",
    "connect",
]

"""Service discovery and coordination: the Python client of Hither.

    async with hither.connect() as client:
        await client.kv.put("greeting", "hello")
        async for update in client.watch(prefix="config/"):
            for event in update:
                print(event)

For threads, `hither.sync` has the same names without `await`.
"""

from __future__ import annotations

import atexit as _atexit

from . import _native, errors, op, when
from ._client import Client, connect
from ._kv import Kv
from ._lease import Lease, Leases
from ._opening import Opening
from ._types import (
    Applied,
    DeleteEvent,
    DeleteReply,
    Entry,
    Event,
    Key,
    KeyRange,
    LeaseGrant,
    LeaseInfo,
    LeaseKind,
    LeaseState,
    Listing,
    LivenessEvent,
    PutEvent,
    PutReply,
    Seconds,
    Stamp,
    State,
    TxnReply,
    TxnResult,
    Update,
    UpdateKind,
    Value,
)
from ._watch import Stream, Subscription, Watch
from .errors import *  # noqa: F403

__version__ = _native.__version__

# Says goodbye for clients that were not closed, and ends the core's threads, before the interpreter ends.
_atexit.register(_native.shutdown)

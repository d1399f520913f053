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
from ._registry import Registration, Service, ServiceWatch
from ._types import (
    Applied,
    DeleteEvent,
    DeleteReply,
    Endpoint,
    Entry,
    Event,
    Filter,
    Instance,
    InstanceStatus,
    Invalid,
    Key,
    KeyRange,
    LeaseGrant,
    LeaseInfo,
    LeaseKind,
    LeaseState,
    Listing,
    LivenessEvent,
    Policy,
    PutEvent,
    PutReply,
    RegistrationState,
    Seconds,
    ServiceUpdate,
    ServiceView,
    Stamp,
    State,
    TxnReply,
    TxnResult,
    Update,
    UpdateKind,
    Value,
    ViewState,
)
from ._watch import States, Stream, Subscription, Watch
from .errors import *  # noqa: F403

__version__ = _native.__version__

# Says goodbye for clients that were not closed, and ends the core's threads, before the interpreter ends.
_atexit.register(_native.shutdown)

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

from . import _native, errors, op, sync, when
from ._client import Client, connect
from ._kv import Kv
from ._lease import Lease, Leases
from ._opening import Opening
from ._registry import Registered, Service, ServiceWatch
from ._services import (
    Endpoint,
    Filter,
    Instance,
    InstanceStatus,
    Invalid,
    Policy,
    RegistrationState,
    ServiceUpdate,
    ServiceView,
    ViewState,
)
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
    Start,
    State,
    TxnReply,
    TxnResult,
    Update,
    UpdateKind,
    Value,
)
from ._watch import States, Stream, Subscription, Watch
from .errors import (
    AlreadyExistsError,
    AuthenticationError,
    ClosedError,
    ConflictError,
    ConnectionLostError,
    ForkedError,
    FutureRevisionError,
    HitherError,
    HitherTimeoutError,
    InternalError,
    InvalidArgumentError,
    LeaseNotFoundError,
    NoInstancesError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    SessionLostError,
    TooStaleError,
    UnavailableError,
    UnsupportedError,
    WrongLoopError,
)

__version__ = _native.__version__

__all__ = [
    "AlreadyExistsError",
    "Applied",
    "AuthenticationError",
    "Client",
    "ClosedError",
    "ConflictError",
    "ConnectionLostError",
    "DeleteEvent",
    "DeleteReply",
    "Endpoint",
    "Entry",
    "Event",
    "Filter",
    "ForkedError",
    "FutureRevisionError",
    "HitherError",
    "HitherTimeoutError",
    "Instance",
    "InstanceStatus",
    "InternalError",
    "Invalid",
    "InvalidArgumentError",
    "Key",
    "KeyRange",
    "Kv",
    "Lease",
    "LeaseGrant",
    "LeaseInfo",
    "LeaseKind",
    "LeaseNotFoundError",
    "LeaseState",
    "Leases",
    "Listing",
    "LivenessEvent",
    "NoInstancesError",
    "NotFoundError",
    "Opening",
    "OverloadedError",
    "PermissionDeniedError",
    "Policy",
    "ProtocolError",
    "PutEvent",
    "PutReply",
    "Registered",
    "RegistrationState",
    "Seconds",
    "Service",
    "ServiceUpdate",
    "ServiceView",
    "ServiceWatch",
    "SessionLostError",
    "Stamp",
    "Start",
    "State",
    "States",
    "Stream",
    "Subscription",
    "TooStaleError",
    "TxnReply",
    "TxnResult",
    "UnavailableError",
    "UnsupportedError",
    "Update",
    "UpdateKind",
    "Value",
    "ViewState",
    "Watch",
    "WrongLoopError",
    "__version__",
    "annotations",
    "connect",
    "errors",
    "op",
    "sync",
    "when",
]

# Says goodbye for clients that were not closed, and ends the core's threads, before the interpreter ends.
_atexit.register(_native.shutdown)

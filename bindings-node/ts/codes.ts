/** The classes of errors. Made by tools/codes.mjs from docs/errors.md; a test compares them with the core's table. */

import { HitherError, NoInstancesError } from "./error";
import type { RawError } from "./native";

export { NoInstancesError };

/** The bytes are not a frame or not the message that the frame names. */
export class InvalidFrameError extends HitherError {}
/** The operation is not known here; update the side that answered. */
export class UnknownOperationError extends HitherError {}
/** The operation is known in another version; update the older side. */
export class UnsupportedVersionError extends HitherError {}
/** The frame is over the limit of 2 MiB. */
export class FrameTooLargeError extends HitherError {}
/** Bytes follow the message in its frame. */
export class TrailingBytesError extends HitherError {}
/** The two sides do not speak the same protocol; check that the port is a Hither client port and the versions match. */
export class ProtocolMismatchError extends HitherError {}
/** No identity was shown, or none that this cluster issued; run `hither client add NAME` on a server. */
export class UnauthenticatedError extends HitherError {}
/** The identity may not do this. */
export class PermissionDeniedError extends HitherError {}
/** The identity was revoked; ask for another with `hither client add NAME`. */
export class IdentityRevokedError extends HitherError {}
/** The certificate does not name exactly one identity of this cluster and plane. */
export class IdentityInvalidError extends HitherError {}
/** The enrolment secret is unknown, used or expired; make another with `hither client add NAME`. */
export class EnrolmentInvalidError extends HitherError {}
/** The server belongs to another cluster than the identity; check the address and the context. */
export class ClusterMismatchError extends HitherError {}
/** An argument is wrong; the detail names it. */
export class InvalidArgumentError extends HitherError {}
/** The key is longer than 4,096 bytes. */
export class KeyTooLongError extends HitherError {}
/** A key has at least one byte. */
export class KeyEmptyError extends HitherError {}
/** The value is larger than 1 MiB. */
export class ValueTooLargeError extends HitherError {}
/** The range ends before it begins. */
export class InvalidRangeError extends HitherError {}
/** The name has other characters than it may, or is too long. */
export class InvalidNameError extends HitherError {}
/** The transaction has more than 256 operations or comparisons. */
export class TooManyOpsError extends HitherError {}
/** The transaction writes the same key twice in one branch. */
export class DuplicateKeyInTxnError extends HitherError {}
/** What was named does not exist. */
export class NotFoundError extends HitherError {}
/** What was to be created exists. */
export class AlreadyExistsError extends HitherError {}
/** A condition of the request does not hold. */
export class ConflictError extends HitherError {}
/** The lease does not exist, or no longer does. */
export class LeaseNotFoundError extends HitherError {}
/** The revision lies in the future, or in another history. */
export class FutureRevisionError extends HitherError {}
/** The session is over: its lease expired or was closed, and whether its last requests took effect is unknown. */
export class SessionExpiredError extends HitherError {}
/** The server has no memory or disk reserve left for another write; deletes still work. */
export class QuotaExceededError extends HitherError {}
/** The disk is nearly full: writes are refused, deletes and reads go on. */
export class NoSpaceError extends HitherError {}
/** The connection has more watches than it may. */
export class TooManyWatchesError extends HitherError {}
/** The server has too much waiting; try again shortly. */
export class ServerBusyError extends HitherError {}
/** More requests wait for an answer than the session remembers. */
export class TooManyInFlightError extends HitherError {}
/** The records of the service take more memory than the client may use for views; raise its option view_bytes_max. */
export class ViewTooLargeError extends HitherError {}
/** This node does not lead; the hint names the one that does. */
export class NotLeaderError extends HitherError {}
/** No server answered, or no majority of them. */
export class UnavailableError extends HitherError {}
/** The deadline passed before the answer came. */
export class TimeoutError extends HitherError {}
/** The caller took the request back. */
export class CancelledError extends HitherError {}
/** The server is going down; another node may answer. */
export class ShuttingDownError extends HitherError {}
/** No server has a state as fresh as the read asks for. */
export class TooStaleError extends HitherError {}
/** The client was closed. */
export class ClosedError extends HitherError {}
/** The connection was lost before the answer came. */
export class ConnectionLostError extends HitherError {}
/** The server erred; its log has the reason. */
export class InternalError extends HitherError {}
/** The server has not caught up since its start. */
export class NotReadyError extends HitherError {}
/** The server does not do this. */
export class UnsupportedError extends HitherError {}

type Row = [number: number, name: string, of: new (raw: RawError, name?: string) => HitherError];

/** @internal */
export const rows: Row[] = [
  [1001, "InvalidFrame", InvalidFrameError],
  [1002, "UnknownOperation", UnknownOperationError],
  [1003, "UnsupportedVersion", UnsupportedVersionError],
  [1004, "FrameTooLarge", FrameTooLargeError],
  [1005, "TrailingBytes", TrailingBytesError],
  [1006, "ProtocolMismatch", ProtocolMismatchError],
  [2001, "Unauthenticated", UnauthenticatedError],
  [2002, "PermissionDenied", PermissionDeniedError],
  [2004, "IdentityRevoked", IdentityRevokedError],
  [2005, "IdentityInvalid", IdentityInvalidError],
  [2008, "EnrolmentInvalid", EnrolmentInvalidError],
  [2009, "ClusterMismatch", ClusterMismatchError],
  [3001, "InvalidArgument", InvalidArgumentError],
  [3002, "KeyTooLong", KeyTooLongError],
  [3003, "KeyEmpty", KeyEmptyError],
  [3004, "ValueTooLarge", ValueTooLargeError],
  [3005, "InvalidRange", InvalidRangeError],
  [3006, "InvalidName", InvalidNameError],
  [3008, "TooManyOps", TooManyOpsError],
  [3009, "DuplicateKeyInTxn", DuplicateKeyInTxnError],
  [4001, "NotFound", NotFoundError],
  [4002, "AlreadyExists", AlreadyExistsError],
  [4003, "Conflict", ConflictError],
  [4004, "LeaseNotFound", LeaseNotFoundError],
  [4008, "FutureRevision", FutureRevisionError],
  [4010, "SessionExpired", SessionExpiredError],
  [4011, "NoInstances", NoInstancesError],
  [5009, "QuotaExceeded", QuotaExceededError],
  [5002, "NoSpace", NoSpaceError],
  [5003, "TooManyWatches", TooManyWatchesError],
  [5007, "ServerBusy", ServerBusyError],
  [5008, "TooManyInFlight", TooManyInFlightError],
  [5010, "ViewTooLarge", ViewTooLargeError],
  [6001, "NotLeader", NotLeaderError],
  [6002, "Unavailable", UnavailableError],
  [6003, "Timeout", TimeoutError],
  [6004, "Cancelled", CancelledError],
  [6006, "ShuttingDown", ShuttingDownError],
  [6007, "TooStale", TooStaleError],
  [6009, "Closed", ClosedError],
  [6010, "ConnectionLost", ConnectionLostError],
  [7001, "Internal", InternalError],
  [7003, "NotReady", NotReadyError],
  [7005, "Unsupported", UnsupportedError],
];

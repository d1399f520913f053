/**
 * Service discovery and coordination: the client of Hither.
 *
 * @packageDocumentation
 */

export type { CallOptions, Consistency, Key, Range, ReadOptions, Value } from "./arguments";
export { Client, connect, type ConnectOptions, Metrics } from "./client";
export * from "./errors";
export { type Endpoint, type Filter, Instance, type Status } from "./instance";
export { Kv, type DeleteOptions, type ListOptions, type PutOptions } from "./kv";
export { Lease, type LeaseGrant, Leases } from "./lease";
export {
  type InstanceChange,
  type InstanceRecord,
  Registered,
  type RegisterOptions,
  type RegistrationState,
} from "./registration";
export {
  type DiscoverOptions,
  type PickOptions,
  Service,
  ServiceUpdate,
  ServiceWatch,
  type WaitForOptions,
  type WatchServiceOptions,
} from "./services";
export type { NextOptions } from "./source";
export type { SessionState } from "./states";
export type { Condition, Relation, Step, Txn } from "./txn";
export {
  DeleteReply,
  DeleteStepResult,
  Entry,
  Listing,
  GetStepResult,
  LeaseInfo,
  ListStepResult,
  PutReply,
  PutStepResult,
  type TxnResult,
  TxnReply,
} from "./values";
export { ServiceView, type ViewState } from "./view";
export { DeleteEvent, type Event, LivenessEvent, PutEvent, Update, Watch, type WatchOptions } from "./watch";

/**
 * Service discovery and coordination: the client of Hither.
 *
 * @packageDocumentation
 */

export type { CallOptions, Consistency, Key, Range, ReadOptions, Value } from "./arguments";
export { Client, connect, type ConnectOptions, Metrics } from "./client";
export * from "./errors";
export { Kv, type DeleteOptions, type ListOptions, type PutOptions } from "./kv";
export { Lease } from "./lease";
export type { SessionState } from "./states";
export type { Condition, Relation, Step, Txn } from "./txn";
export {
  DeleteResult,
  DeleteStepResult,
  Entry,
  EntryList,
  GetStepResult,
  LeaseStatus,
  ListStepResult,
  PutResult,
  PutStepResult,
  type StepResult,
  TxnResult,
} from "./values";
export { DeleteEvent, type Event, LivenessEvent, PutEvent, Update, Watch, type WatchOptions } from "./watch";

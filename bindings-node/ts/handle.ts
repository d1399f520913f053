import type { CallOptions } from "./arguments";
import type { NativeClient } from "./native";
import type { Holder, Outcome, Port } from "./port";

/** A connected client, as the rooms of this package share it. */
export class Handle {
  constructor(
    readonly native: NativeClient,
    readonly port: Port,
    readonly holder: Holder,
  ) {}

  /** Starts a call; {@link unwrap} its outcome in the method that the application called. */
  call<T>(options: CallOptions, start: (id: number, native: NativeClient) => void): Promise<Outcome<T>> {
    return this.port.call(this.holder, options.signal, (id) => start(id, this.native));
  }
}

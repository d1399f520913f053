/** What is to be done when a signal is aborted: one listener on it, however many calls it stops. */

const stopping = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls back once when the signal is aborted. Returns how to undo that. */
export function onAbort(signal: AbortSignal | undefined, stop: () => void): () => void {
  if (signal === undefined) return () => {};
  const stops = stopping.get(signal) ?? listen(signal);
  stops.add(stop);
  return () => stops.delete(stop);
}

/** A listener stays for as long as its signal: to take it off and put it on again with each call would cost more. */
function listen(signal: AbortSignal): Set<() => void> {
  const stops = new Set<() => void>();
  stopping.set(signal, stops);
  signal.addEventListener(
    "abort",
    () => {
      for (const stop of stops) stop();
      stops.clear();
    },
    { once: true },
  );
  return stops;
}

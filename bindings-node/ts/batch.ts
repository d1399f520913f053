/**
 * Reads the updates of a watch out of the block of bytes that they cross in. `src/batch.rs` has its layout, and what the
 * numbers mean.
 */

import type { RawBatch, RawKey } from "./native";
import { Entry } from "./values";

/** From here on a value is a buffer of its own. */
const APART_MIN = 4 << 10;
/** A value that is kept keeps a batch of at most so much; out of a larger one, it is copied. */
const KEPT_MAX = 128 << 10;
/** Where the texts begin, where the updates begin, how many there are. */
const TRAILER = 12;

const KEY_TEXT = 0;
const KEY_BYTES = 1;

/** Reads a batch from its beginning: who reads something reads all of it, in order. */
export class Batch {
  /** How many updates it has. */
  readonly updates: number;
  readonly #bytes: Buffer;
  readonly #apart: Buffer[];
  readonly #view: DataView;
  readonly #texts: string;
  readonly #kept: boolean;
  #key: RawKey = "";
  #at: number;
  #value = 0;
  #text = 0;
  #next = 1;

  constructor(raw: RawBatch) {
    const bytes = raw[0];
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const trailer = bytes.length - TRAILER;
    const texts = view.getUint32(trailer, true);
    this.#at = view.getUint32(trailer + 4, true);
    this.updates = view.getUint32(trailer + 8, true);
    this.#bytes = bytes;
    this.#apart = raw;
    this.#view = view;
    this.#texts = bytes.toString("utf8", texts, this.#at);
    this.#kept = bytes.length <= KEPT_MAX;
  }

  u32(): number {
    const number = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return number;
  }

  u64(): bigint {
    const number = this.#view.getBigUint64(this.#at, true);
    this.#at += 8;
    return number;
  }

  key(): RawKey {
    const form = this.u32();
    const length = this.u32();
    if (form === KEY_TEXT) this.#key = this.#slice(length);
    else if (form === KEY_BYTES) this.#key = Buffer.from(this.#octets(length));
    return this.#key;
  }

  lease(): string | null {
    const length = this.u32();
    return length === 0 ? null : this.#slice(length);
  }

  /** What comes after its key. */
  entry(key: RawKey): Entry {
    const lease = this.lease();
    const value = this.#valueOf(this.u32());
    return new Entry(key, value, this.u64(), this.u64(), this.u64(), lease);
  }

  #slice(length: number): string {
    const begin = this.#text;
    this.#text += length;
    return this.#texts.substring(begin, this.#text);
  }

  #octets(length: number): Buffer {
    const begin = this.#value;
    this.#value += length;
    return this.#bytes.subarray(begin, this.#value);
  }

  #valueOf(length: number): Buffer {
    if (length >= APART_MIN) return this.#apart[this.#next++] as Buffer;
    const value = this.#octets(length);
    return this.#kept ? value : Buffer.from(value);
  }
}

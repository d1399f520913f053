/** What public objects have in common: `JSON.stringify` can read them, although they hold bigints and bytes. */

/**
 * An object that JSON can say. Bigints become numbers, or strings of digits where a number would not be exact; bytes
 * become text, or base64 under a name that ends in `Base64`; what is undefined is left out.
 */
export abstract class Plain {
  toJSON(): Record<string, unknown> {
    const plain: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(this)) put(plain, name, value);
    return plain;
  }
}

function put(into: Record<string, unknown>, name: string, value: unknown): void {
  if (value instanceof Uint8Array) {
    const text = utf8(value);
    if (text === undefined) into[`${name}Base64`] = Buffer.from(value).toString("base64");
    else into[name] = text;
  } else {
    into[name] = typeof value === "bigint" ? digits(value) : value;
  }
}

/** A revision as JSON says it. */
export function digits(number: bigint): number | string {
  return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : number.toString();
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of bytes that are UTF-8. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

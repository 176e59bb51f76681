/** Random ids. `crypto.randomUUID` exists only in secure contexts; a page on plain http in a LAN has the other way. */

export type RandomSource = Partial<Pick<Crypto, "randomUUID" | "getRandomValues">>;

export function newId(source: RandomSource = globalThis.crypto): string {
  if (source.randomUUID) return source.randomUUID();
  if (!source.getRandomValues) throw new Error("This browser has no source of random numbers.");
  const bytes = source.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** What the gateway takes as a session id made by a client. */
export const SESSION_ID = /^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}$/;

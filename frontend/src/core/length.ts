/** How long a text is to the gateway, which counts bytes of UTF-8. Pure. */

/** What a gateway takes that does not say otherwise. */
export const MESSAGE_BYTES = 32 * 1024;

/** A character of UTF-16 has at most so many bytes. */
const CHARACTER_MOST = 3;

/** By how many characters a text is too long; 0: it fits. */
export function excess(text: string, mostBytes: number): number {
  if (text.length * CHARACTER_MOST <= mostBytes) return 0;
  return text.length - shortened(text, mostBytes).length;
}

/** The beginning of a text that fits; no character of it is cut in the middle. */
export function shortened(text: string, mostBytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(mostBytes));
  return text.slice(0, read);
}

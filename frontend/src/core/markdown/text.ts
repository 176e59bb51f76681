/** Text → HTML that shows it. */

/** A character reference; a browser shows one that it does not know as its own text. */
export const ENTITY = /&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][\da-z]{1,31});/iy;

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** The same, but character references keep what they mean. */
export function escapedButEntities(text: string): string {
  return text.replace(/&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][\da-z]{1,31});|[&<>"']/gi, (found) =>
    found.length > 1 ? found : `&#${found.charCodeAt(0)};`,
  );
}

/** Without the backslashes that take a sign's meaning away. */
export function unescaped(text: string): string {
  return text.includes("\\") ? text.replace(/\\([!-/:-@[-`{-~])/g, "$1") : text;
}

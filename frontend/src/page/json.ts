/** Any value as indented JSON, however deep and long it is. Pure. */

const DEPTH_MOST = 24;
const LENGTH_MOST = 200_000;

export function jsonText(value: unknown): string {
  const writer = new JsonWriter();
  writer.value(value, 0);
  return writer.text();
}

/** Like JSON.stringify, but cut off if the text is long, and abbreviated if it is deep. */
class JsonWriter {
  readonly #parts: string[] = [];
  #length = 0;

  text(): string {
    return this.#parts.join("");
  }

  get #isFull(): boolean {
    return this.#length > LENGTH_MOST;
  }

  #write(text: string): void {
    this.#parts.push(text);
    this.#length += text.length;
  }

  value(value: unknown, depth: number): void {
    if (typeof value === "string") return this.#write(JSON.stringify(value.slice(0, LENGTH_MOST)));
    if (typeof value !== "object" || value === null) return this.#write(String(JSON.stringify(value)));
    if (depth >= DEPTH_MOST) return this.#write(Array.isArray(value) ? "[…]" : "{…}");
    if (Array.isArray(value)) return this.#list("[", "]", value.length, depth, (at) => this.value(value[at], depth + 1));
    const entries = Object.entries(value);
    this.#list("{", "}", entries.length, depth, (at) => {
      const [key, one] = entries[at] ?? ["", null];
      this.#write(`${JSON.stringify(key.slice(0, LENGTH_MOST))}: `);
      this.value(one, depth + 1);
    });
  }

  #list(open: string, close: string, count: number, depth: number, write: (at: number) => void): void {
    if (count === 0) return this.#write(open + close);
    const indent = `\n${"  ".repeat(depth)}`;
    this.#write(open);
    for (let at = 0; at < count; at += 1) {
      this.#write(`${at > 0 ? "," : ""}${indent}  `);
      if (this.#isFull) {
        this.#write("…");
        break;
      }
      write(at);
    }
    this.#write(indent + close);
  }
}

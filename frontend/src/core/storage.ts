/** Names and values that a client keeps: what a browser's Storage offers, of which the core needs no more. */

export interface KeyValue {
  readonly length: number;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
  key(place: number): string | null;
}

/** Storage that forgets at reload, for browsers that refuse the real one. */
export function memoryStorage(): KeyValue {
  const values = new Map<string, string>();
  return {
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => void values.set(key, value),
    removeItem: (key) => void values.delete(key),
    key: (place) => [...values.keys()][place] ?? null,
    get length() {
      return values.size;
    },
  };
}

/** localStorage if the browser allows it, else memory. */
export function lastingStorage(): KeyValue {
  try {
    const real = (globalThis as { localStorage?: KeyValue }).localStorage;
    if (real === undefined) return memoryStorage();
    real.setItem("agw.probe", "1");
    real.removeItem("agw.probe");
    return real;
  } catch {
    return memoryStorage();
  }
}

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

/** localStorage if the browser allows it, else memory; what does not fit into it is kept until the reload. */
export function lastingStorage(): KeyValue {
  try {
    const real = (globalThis as { localStorage?: KeyValue }).localStorage;
    return real === undefined ? memoryStorage() : spilling(real);
  } catch {
    return memoryStorage(); // the browser forbids it
  }
}

/** Storage whose writes never fail: what the real one does not take is remembered. */
export function spilling(real: KeyValue): KeyValue {
  const spilled = memoryStorage();
  return {
    getItem: (key) => spilled.getItem(key) ?? real.getItem(key),
    setItem(key, value) {
      try {
        real.setItem(key, value);
        spilled.removeItem(key);
      } catch {
        spilled.setItem(key, value);
      }
    },
    removeItem(key) {
      spilled.removeItem(key);
      real.removeItem(key);
    },
    key: (place) => real.key(place) ?? spilled.key(place - real.length),
    get length() {
      return real.length + spilled.length;
    },
  };
}

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

/** Of each value that is written: whether it lasts, or is kept until the reload. */
type Lasting = (name: string, isLasting: boolean) => void;

/** localStorage if the browser allows it, else memory; what does not fit into it is kept until the reload. */
export function lastingStorage(told?: Lasting): KeyValue {
  let real: KeyValue | undefined;
  try {
    real = (globalThis as { localStorage?: KeyValue }).localStorage;
  } catch {
    // the browser forbids it
  }
  return spilling(real ?? FULL, told);
}

/** Takes nothing. */
const FULL: KeyValue = {
  ...memoryStorage(),
  setItem() {
    throw new Error("There is no storage.");
  },
};

/** Storage whose writes never fail: what the real one does not take is remembered. */
export function spilling(real: KeyValue, told: Lasting = () => undefined): KeyValue {
  const spilled = memoryStorage();
  return {
    getItem: (key) => spilled.getItem(key) ?? real.getItem(key),
    setItem(key, value) {
      try {
        real.setItem(key, value);
        spilled.removeItem(key);
        told(key, true);
      } catch {
        spilled.setItem(key, value);
        told(key, false);
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

import { useCallback, useEffect, useState } from "preact/hooks";

/** What `read` gives, read again whenever one of `on` changes or `again` is called; null until then, or if it is refused. */
export function useLoaded<T>(read: () => Promise<T>, on: readonly unknown[]): { value: T | null; again(): void } {
  const [value, set] = useState<T | null>(null);
  const [round, next] = useState(0);
  useEffect(() => {
    let isCurrent = true;
    read().then(
      (answer) => isCurrent && set(answer),
      () => isCurrent && set(null),
    );
    return () => {
      isCurrent = false;
    };
  }, [...on, round]);
  return { value, again: useCallback(() => next((n) => n + 1), []) };
}

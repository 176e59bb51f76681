import { useEffect, useState } from "preact/hooks";
import type { OwnKeySummary } from "../core/index.ts";
import { useIdentity, usePage } from "./page.ts";

/** The keys that this person may set, read once it is known who it is; none for a guest. */
export function useOwnKeys(): OwnKeySummary[] {
  const page = usePage();
  const { me, owner } = useIdentity();
  const [keys, setKeys] = useState<OwnKeySummary[]>([]);
  const mayHave = me !== null && me.kind !== "visitor" && me.scopes.includes("chat");
  useEffect(() => {
    let isCurrent = true;
    setKeys([]);
    const show = (found: OwnKeySummary[]): void => {
      if (isCurrent) setKeys(found);
    };
    if (mayHave) page.api.ownKeys().then(show, () => undefined);
    return () => {
      isCurrent = false;
    };
  }, [owner, mayHave]);
  return keys;
}

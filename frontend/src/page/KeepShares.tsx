import { useEffect, useState } from "preact/hooks";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";

/** Asks a guest who has shared links if the links are kept after the sign-in. Empty if there are no links. */
export function KeepShares({ keeps, choose }: { keeps: boolean; choose(keeps: boolean): void }) {
  const { api } = usePage();
  const [links, setLinks] = useState(0);
  useEffect(() => {
    api.authState().then(
      (state) => setLinks(state.shared_links ?? 0),
      () => undefined, // they end then, which is what is safe
    );
  }, []);
  if (links === 0) return null;
  return (
    <label class="check">
      <input
        type="checkbox"
        data-testid="keep-shares"
        checked={keeps}
        onChange={(event) => choose(event.currentTarget.checked)}
      />
      {t("keepShares")}
    </label>
  );
}

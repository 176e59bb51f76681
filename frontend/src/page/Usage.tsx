import { useState } from "preact/hooks";
import type { Spending } from "../core/index.ts";
import { lazily } from "./lazy.tsx";
import { dollars } from "./money.ts";
import { useConversation } from "./page.ts";
import { t } from "./preferences.ts";

const UsageDialog = lazily(() => import("./UsageDialog.tsx").then((loaded) => loaded.UsageDialog));

/** What the session's model calls have cost; it opens what all of one's own have. Empty if nothing was counted. */
export function CostButton() {
  const { spending } = useConversation().chat.usage as { spending?: Spending };
  const [isOpen, setOpen] = useState(false);
  if (!spending) return null;
  const words = t(spending.is_estimated ? "costAbout" : "cost", { cost: dollars(spending.spent) });
  return (
    <>
      <button type="button" class="text-button" data-testid="cost" aria-label={words} title={words} onClick={() => setOpen(true)}>
        <span dir="ltr">{dollars(spending.spent)}</span>
      </button>
      {isOpen && <UsageDialog close={() => setOpen(false)} />}
    </>
  );
}

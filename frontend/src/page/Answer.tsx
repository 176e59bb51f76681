/** What was answered to a permission request. */

import type { PermissionItem } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { chosenOf, isAllowed } from "./asked.ts";
import { Icon } from "./icons.tsx";
import { t } from "./preferences.ts";

export function AnswerIcon({ item }: { item: PermissionItem }) {
  return <Icon name={item.outcome === null ? "clock" : isAllowed(item) ? "check" : "close"} class="answer-icon" />;
}

/** What was answered, and by which rule if one did. */
export function AnswerText({ item }: { item: PermissionItem }) {
  const option = clipped(chosenOf(item)?.name ?? "");
  return (
    <span class="quiet answer-text">
      {item.outcome === null && t("permissionOpen")}
      {item.outcome === "selected" && !item.rule && t("permissionGiven", { option })}
      {item.outcome === "selected" && item.rule && (
        <span title={item.rule.rule_id}>{t(isAllowed(item) ? "permissionByRule" : "permissionDeniedByRule")}</span>
      )}
      {item.outcome === "cancelled" && t(item.rule ? "permissionDeniedByRule" : "permissionCancelled")}
    </span>
  );
}

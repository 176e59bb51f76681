/** What was answered to a permission request. */

import type { PermissionItem, QuestionItem } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { chosenOf, isAllowed } from "./asked.ts";
import { Icon } from "./icons.tsx";
import { useConversation, useLink } from "./page.ts";
import { nameOf } from "./people.ts";
import { t } from "./preferences.ts";

export function AnswerIcon({ item }: { item: PermissionItem }) {
  return <Icon name={item.outcome === null ? "clock" : isAllowed(item) ? "check" : "close"} class="answer-icon" />;
}

/** Who answered, if that was somebody else; who was too late reads that. */
export function useAnswerer(item: PermissionItem | QuestionItem) {
  const conversation = useConversation();
  const mine = useLink()?.you ?? null;
  const isMine = item.by ? item.by.author_id === mine?.author_id : !conversation.isGuest || conversation.link?.isOwner;
  if (isMine) return null;
  const name = nameOf(item.by);
  const isBefore = conversation.answeredBefore.has(item.id);
  return (
    <bdi class="answerer" data-testid="answered-by">
      {" "}
      {t(isBefore ? "answeredFirst" : "answeredBy", { name })}
    </bdi>
  );
}

/** What was answered, and by which rule if one did. */
export function AnswerText({ item }: { item: PermissionItem }) {
  const option = clipped(chosenOf(item)?.name ?? "");
  const who = useAnswerer(item);
  return (
    <span class="quiet answer-text">
      {item.outcome === null && t("permissionOpen")}
      {item.outcome === "selected" && !item.rule && t("permissionGiven", { option })}
      {item.outcome === "selected" && item.rule && (
        <span title={item.rule.rule_id}>{t(isAllowed(item) ? "permissionByRule" : "permissionDeniedByRule")}</span>
      )}
      {item.outcome === "selected" && !item.rule && who}
      {item.outcome === "cancelled" && t(item.rule ? "permissionDeniedByRule" : "permissionCancelled")}
    </span>
  );
}

/** Which repository a new conversation starts from. */

import { useConversation, useStore } from "./page.ts";
import { t } from "./preferences.ts";

/** A repository is chosen before the first message; afterwards it is a fact. */
export function WorkspaceChoice() {
  const store = useStore();
  const { chat } = useConversation();
  if (chat.workspace) {
    return (
      <span class="agent-name" data-testid="workspace-choice" title={t("workspace")}>
        {chat.workspace.name}
      </span>
    );
  }
  if (chat.agent !== null || store.workspaces.length === 0) return null;
  return (
    <select
      class="agent-select workspace-select"
      data-testid="workspace-choice"
      aria-label={t("workspaceChoose")}
      value={store.chosenWorkspace ?? ""}
      onChange={(event) => store.chooseWorkspace(event.currentTarget.value)}
    >
      <option value="">{t("workspaceNone")}</option>
      {store.workspaces.map((one) => (
        <option key={one.name} value={one.name}>
          {one.title}
        </option>
      ))}
    </select>
  );
}

/** What a conversation changed in its repository, taken out again. */

import { useState } from "preact/hooks";
import type { BranchPushed } from "../core/index.ts";
import { CopyButton } from "./Copy.tsx";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { download } from "./download.ts";
import { Icon } from "./icons.tsx";
import { Menu, MenuItem } from "./Menu.tsx";
import { useConversation, usePage, useStore } from "./page.ts";
import { t } from "./preferences.ts";

/** What to do with what the agent changed; there once the files are. */
export function TakeOut() {
  const page = usePage();
  const { chat, sessionId, isGuest } = useConversation();
  const [isPushing, setPushing] = useState(false);
  if (!chat.workspace?.commit || isGuest) return null;
  const save = async (kind: "diff" | "patch"): Promise<void> => {
    try {
      download(await page.api.changes(sessionId, kind), `${chat.workspace?.name ?? "changes"}.${kind}`);
    } catch (error) {
      page.tellWhy(error);
    }
  };
  return (
    <>
      <Menu
        id="take-out"
        label={t("takeOut")}
        button={{
          class: "icon-button",
          testId: "take-out",
          label: t("takeOut"),
          children: <Icon name="export" />,
        }}
      >
        <MenuItem icon="fetch" label={t("takeDiff")} testId="take-diff" run={() => void save("diff")} />
        <MenuItem icon="fetch" label={t("takePatch")} testId="take-patch" run={() => void save("patch")} />
        <MenuItem icon="export" label={t("takeBranch")} testId="take-branch" run={() => setPushing(true)} />
      </Menu>
      {isPushing && <PushDialog close={() => setPushing(false)} />}
    </>
  );
}

function PushDialog({ close }: { close(): void }) {
  const page = usePage();
  const store = useStore();
  const { chat, sessionId } = useConversation();
  const of = store.workspaces.find((one) => one.name === chat.workspace?.name);
  const [name, setName] = useState(chat.workspace?.pushed_branch || `${of?.branch_prefix ?? ""}${sessionId.slice(0, 8)}`);
  const [message, setMessage] = useState(chat.title ?? "");
  const [isBusy, setBusy] = useState(false);
  const [pushed, setPushed] = useState<BranchPushed | null>(null);
  const push = async (): Promise<void> => {
    setBusy(true);
    try {
      setPushed(await page.api.pushBranch(sessionId, name.trim(), message.trim()));
    } catch (error) {
      page.tellWhy(error);
    }
    setBusy(false);
  };
  if (pushed) return <Pushed pushed={pushed} close={close} />;
  return (
    <Dialog title={t("takeBranch")} close={close}>
      <p>{t("branchText")}</p>
      <form
        class="branch-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim() && !isBusy) void push();
        }}
      >
        <label for="branch-name">{t("branchName")}</label>
        <input
          id="branch-name"
          class="field wide"
          dir="ltr"
          autofocus
          maxLength={200}
          spellcheck={false}
          data-testid="branch-name"
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <label for="branch-message">{t("branchMessage")}</label>
        <textarea
          id="branch-message"
          class="field wide"
          dir="auto"
          rows={3}
          maxLength={8000}
          data-testid="branch-message"
          value={message}
          onInput={(event) => setMessage(event.currentTarget.value)}
        />
        <div class="dialog-verbs">
          <button type="button" class="button" onClick={close}>
            {t("cancel")}
          </button>
          <button type="submit" class="button primary" data-testid="branch-push" disabled={isBusy || !name.trim()}>
            {t(isBusy ? "branchPushing" : "branchPush")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Pushed({ pushed, close }: { pushed: BranchPushed; close(): void }) {
  return (
    <Dialog title={t("branchPushed")} close={close}>
      <p data-testid="branch-pushed">
        <bdi dir="ltr">{pushed.branch}</bdi> <CopyButton text={pushed.branch} />
      </p>
      <p class="quiet">{t("branchAuthor", { author: pushed.author })}</p>
      {pushed.left_out && <p role="note">{t("branchLeftOut", { words: pushed.left_out })}</p>}
      {pushed.pull_request_url.startsWith("https://") && (
        <p>
          <a href={pushed.pull_request_url} target="_blank" rel="noopener noreferrer" data-testid="pull-request">
            {t("branchPullRequest")}
          </a>
        </p>
      )}
      <DialogClose close={close} isFocused />
    </Dialog>
  );
}

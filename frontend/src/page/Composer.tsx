import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type AcpCommand, excess, type SessionStore, written } from "../core/index.ts";
import { AttachButton, DraftFileList, DropTarget, pastedFiles } from "./Attachments.tsx";
import { Icon } from "./icons.tsx";
import { Options } from "./Options.tsx";
import { lazily } from "./lazy.tsx";
import { useConversation, usePage, useStore } from "./page.ts";
import { enter, t } from "./preferences.ts";
import { slices } from "./slices.ts";
import { WorkspaceChoice } from "./Workspace.tsx";

const Queue = lazily(() => import("./Queue.tsx").then((loaded) => loaded.Queue));
const CommandMenu = lazily(() => import("./CommandMenu.tsx").then((loaded) => loaded.CommandMenu));
const TooLong = lazily(() => import("./TooLong.tsx").then((loaded) => loaded.TooLong));

export function Composer() {
  const page = usePage();
  const store = useStore();
  const conversation = useConversation();
  const { sessionId, chat } = conversation;
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(() => store.draft(sessionId));
  const [picked, setPicked] = useState(0);
  const [isMenuClosed, setMenuClosed] = useState(false);
  /** Which of one's own messages is in the field, as it was sent; null: none. */
  const recalled = useRef<number | null>(null);

  const write = (next: string): void => {
    setText(next);
    setPicked(0);
    setMenuClosed(false);
    store.setDraft(sessionId, next);
  };
  useEffect(() => {
    setText(store.draft(sessionId));
    if (!window.matchMedia("(hover: hover)").matches) return undefined;
    // Behind the frame: a browser lays the page out before it gives the focus to anything.
    return slices.later(0, () => field.current?.focus());
  }, [sessionId, store.returned]);
  // In another tab this draft was sent, or its conversation deleted: what is written here stays written.
  useEffect(() => {
    const keep = (): void => page.keepDraft(sessionId, field.current?.value ?? "");
    window.addEventListener("storage", keep);
    return () => window.removeEventListener("storage", keep);
  }, [sessionId]);
  useLayoutEffect(() => grow(field.current), [text]);

  const known = page.identity.mayCommand ? chat.commands : [];
  const commands = isMenuClosed ? [] : matching(known, text);
  const isBusy = conversation.isProcessing;
  const files = page.draftFiles(sessionId);
  void files.version.value;
  const hasWords = text.trim() !== "" || files.files.length > 0;
  const surplus = excess(text.trim(), page.identity.messageBytes);
  const canSend = hasWords && !files.isBusy && surplus === 0;

  const send = (): void => {
    if (!canSend) return;
    const message = text.trim();
    write("");
    void page.send(message, files.take());
    field.current?.focus();
  };
  const choose = (command: AcpCommand): void => {
    write(`/${command.name} `);
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (commands.length > 0 && menuKey(event)) return;
    if (event.key === "Enter" && isSending(event)) {
      event.preventDefault();
      send();
    } else if (recall(event)) event.preventDefault();
  };
  /** Arrows go through one's own messages, while the field is empty or has one of them as it was. */
  const recall = (event: KeyboardEvent): boolean => {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (step === undefined || event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return false;
    const sent = written(chat.items);
    const at = recalled.current;
    const isUntouched = text === "" || (at !== null && sent[at] === text);
    if (!isUntouched) return false;
    const next = (text === "" ? -1 : (at ?? -1)) + step;
    if (next >= sent.length || next < -1 || (text === "" && step < 0)) return false;
    recalled.current = next < 0 ? null : next;
    write(sent[next] ?? "");
    return true;
  };
  const menuKey = (event: KeyboardEvent): boolean => {
    const command = commands[picked];
    if (event.key === "ArrowDown") setPicked((picked + 1) % commands.length);
    else if (event.key === "ArrowUp") setPicked((picked + commands.length - 1) % commands.length);
    else if (event.key === "Escape") setMenuClosed(true);
    else if (command && event.key === "Enter" && text.trim() === `/${command.name}`) return false;
    else if (command && (event.key === "Tab" || (event.key === "Enter" && !event.shiftKey))) choose(command);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  };

  return (
    <div class="dock">
      {chat.waiting.length > 0 && <Queue />}
      <form
        class="composer"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <DropTarget files={files} />
        {files.files.length > 0 && <DraftFileList files={files} />}
        {commands.length > 0 && <CommandMenu commands={commands} picked={picked} choose={choose} />}
        <label class="sr-only" for="composer">
          {t("composer")}
        </label>
        <textarea
          id="composer"
          ref={field}
          data-testid="composer"
          rows={1}
          dir="auto"
          value={text}
          enterkeyhint={enter.value === "send" ? "send" : "enter"}
          placeholder={placeholder(isBusy, agentTitle(store, chat.agent))}
          aria-autocomplete="list"
          {...(commands[picked] && { "aria-controls": "commands", "aria-activedescendant": `command-${picked}` })}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={onKeyDown}
          onPaste={(event) => {
            const pasted = pastedFiles(event);
            if (pasted.length === 0) return;
            event.preventDefault();
            files.add(pasted);
          }}
        />
        {surplus > 0 && <TooLong text={text.trim()} surplus={surplus} files={files} write={write} />}
        <div class="composer-row">
          {!conversation.isGuest && <AttachButton files={files} />}
          {!conversation.isGuest && <AgentChoice />}
          {!conversation.isGuest && <WorkspaceChoice />}
          <Options />
          <span class="composer-hint" aria-hidden="true">
            {t(enter.value === "send" ? "hint" : "hintLine")}
            {known.length > 0 && ` · ${t("hintCommands")}`}
          </span>
          {isBusy && (
            <button
              type="button"
              class="round stop"
              data-testid="stop"
              aria-label={t("stop")}
              title={`${t("stop")} (Esc)`}
              disabled={conversation.isStopping}
              onClick={() => void conversation.interrupt()}
            >
              <Icon name="stop" />
            </button>
          )}
          {(!isBusy || hasWords) && (
            <button
              type="submit"
              class="round send"
              data-testid="send"
              aria-label={t("send")}
              title={files.isBusy ? t("attachmentsWait") : t("send")}
              disabled={!canSend}
            >
              <Icon name="send" />
            </button>
          )}
        </div>
      </form>
    </div>
  );
}

/** Enter sends; or it begins a new line, and Ctrl or Cmd with it sends. */
function isSending(event: KeyboardEvent): boolean {
  return event.ctrlKey || event.metaKey || (enter.peek() === "send" && !event.shiftKey);
}

/** An agent is chosen before the first message; afterwards it is a fact. */
function AgentChoice() {
  const store = useStore();
  const { chat } = useConversation();
  if (chat.agent !== null || store.agents.length < 2) {
    return (
      <span class="agent-name" data-testid="agent-choice" title={t("agent")}>
        {agentTitle(store, chat.agent)}
      </span>
    );
  }
  return (
    <select
      class="agent-select"
      data-testid="agent-choice"
      aria-label={t("chooseAgent")}
      value={store.chosenAgent ?? store.defaultAgent?.name ?? ""}
      onChange={(event) => store.chooseAgent(event.currentTarget.value)}
    >
      {store.agents.map((agent) => (
        <option key={agent.name} value={agent.name}>
          {agent.title ?? agent.name}
        </option>
      ))}
    </select>
  );
}

/** An agent may name thousands; who types on sees the rest. */
const COMMANDS_MOST = 100;

function matching(commands: readonly AcpCommand[], text: string): AcpCommand[] {
  const typed = /^\/(\S*)$/.exec(text)?.[1]?.toLowerCase();
  if (typed === undefined) return [];
  return commands.filter((command) => command.name.toLowerCase().startsWith(typed)).slice(0, COMMANDS_MOST);
}

function agentTitle(store: SessionStore, known: string | null): string | null {
  const name = known ?? store.chosenAgent ?? store.defaultAgent?.name ?? null;
  return store.agents.find((agent) => agent.name === name)?.title ?? name;
}

function placeholder(isBusy: boolean, agent: string | null): string {
  if (isBusy) return t("placeholderQueue");
  return agent ? t("placeholderNamed", { agent }) : t("placeholder");
}

/** Most browsers do this by themselves (`field-sizing`); asking for the height makes them lay the page out at once. */
const growsByItself = globalThis.CSS?.supports?.("field-sizing", "content") === true;

function grow(field: HTMLTextAreaElement | null): void {
  if (!field || growsByItself) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

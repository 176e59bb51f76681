import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { AcpCommand, SessionStore } from "../core/index.ts";
import { AttachButton, DraftFileList, DropTarget, pastedFiles } from "./Attachments.tsx";
import { Icon } from "./icons.tsx";
import { Options } from "./Options.tsx";
import { useConversation, usePage, useStore } from "./page.ts";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";
import { Queue } from "./Queue.tsx";
import { WorkspaceChoice } from "./Workspace.tsx";

export function Composer() {
  const page = usePage();
  const store = useStore();
  const conversation = useConversation();
  const { sessionId, chat } = conversation;
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(() => store.draft(sessionId));
  const [picked, setPicked] = useState(0);
  const [isMenuClosed, setMenuClosed] = useState(false);

  const write = (next: string): void => {
    setText(next);
    setPicked(0);
    setMenuClosed(false);
    store.setDraft(sessionId, next);
  };
  useEffect(() => {
    setText(store.draft(sessionId));
    if (window.matchMedia("(hover: hover)").matches) field.current?.focus();
  }, [sessionId, store.returned]);
  useLayoutEffect(() => grow(field.current), [text]);

  const commands = isMenuClosed ? [] : matching(chat.commands, text);
  const isBusy = conversation.isProcessing;
  const files = page.draftFiles(sessionId);
  void files.version.value;
  const hasWords = text.trim() !== "" || files.files.length > 0;
  const canSend = hasWords && !files.isBusy;

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
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    }
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
      <Queue />
      <form
        class="composer"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <DropTarget files={files} />
        <DraftFileList files={files} />
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
          enterkeyhint="send"
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
        <div class="composer-row">
          {!conversation.isGuest && <AttachButton files={files} />}
          {!conversation.isGuest && <AgentChoice />}
          {!conversation.isGuest && <WorkspaceChoice />}
          <Options />
          <span class="composer-hint" aria-hidden="true">
            {t("hint")}
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

interface CommandMenuProps {
  commands: AcpCommand[];
  picked: number;
  choose(command: AcpCommand): void;
}

function CommandMenu({ commands, picked, choose }: CommandMenuProps) {
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    list.current?.children[picked]?.scrollIntoView({ block: "nearest" });
  }, [picked]);
  return (
    <ul id="commands" ref={list} class="commands" role="listbox" aria-label={t("commands")} data-testid="commands">
      {commands.map((command, place) => (
        <li
          key={command.name}
          id={`command-${place}`}
          role="option"
          aria-selected={place === picked}
          data-testid="command"
          onMouseDown={(event) => {
            event.preventDefault();
            choose(command);
          }}
        >
          <code dir="ltr">
            /{clipped(command.name, 100)}
            {command.input?.hint && <span class="command-hint"> {clipped(command.input.hint)}</span>}
          </code>
          <span dir="auto">{clipped(command.description ?? "")}</span>
        </li>
      ))}
    </ul>
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

function grow(field: HTMLTextAreaElement | null): void {
  if (!field) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/**
 * The things a conversation is made of. Each component reads the language signal through `t`, and so is drawn again
 * only if its item became another object (@preact/signals compares the props of components that read signals).
 */

import {
  type Item,
  type MessageItem,
  type NoticeItem,
  type Outgoing,
  type PermissionItem,
  type ThoughtItem,
  type ToolCallItem,
  wordsOf,
} from "../core/index.ts";
import { AttachedFiles } from "./Attachments.tsx";
import { AnswerActions, FilesChangedView, FilesRestoredView, ForkedView, MessageActions } from "./Branches.tsx";
import { durationText } from "./duration.ts";
import { Icon } from "./icons.tsx";
import { useKeptOpen } from "./kept-open.ts";
import { lazily } from "./lazy.tsx";
import { useLink, usePage } from "./page.ts";
import { nameOf } from "./people.ts";
import { PlainText, Rest } from "./Pieces.tsx";
import { clipped } from "../core/pieces.ts";
import { language, t } from "./preferences.ts";
import { REST_LEAST } from "./sections.ts";
import { useThinkingTime } from "./thinking.ts";

const Content = lazily(() => import("./ToolCall.tsx").then((loaded) => loaded.Content));
const EgressAskedView = lazily(() => import("./Egress.tsx").then((loaded) => loaded.EgressAskedView));
const EgressDeniedView = lazily(() => import("./Egress.tsx").then((loaded) => loaded.EgressDeniedView));
const SystemLine = lazily(() => import("./FailureCard.tsx").then((loaded) => loaded.SystemLine), PlainText);
const Markdown = lazily(() => import("./Markdown.tsx").then((loaded) => loaded.Markdown), StillPlain);
const NoticeText = lazily(() => import("./NoticeText.tsx").then((loaded) => loaded.NoticeText), OwnWords);
const PermissionView = lazily(() => import("./Permission.tsx").then((loaded) => loaded.PermissionView));
const PlanView = lazily(() => import("./Plan.tsx").then((loaded) => loaded.PlanView));
const QuestionView = lazily(() => import("./Question.tsx").then((loaded) => loaded.QuestionView));
const ToolCallView = lazily(() => import("./ToolCall.tsx").then((loaded) => loaded.ToolCallView));

/** What draws answers; asked for as soon as there will be one. */
export const fetchMarkdown = () => Markdown.fetched();

interface ItemProps {
  item: Item;
  /** What a permission is asked for. */
  call?: ToolCallItem | undefined;
  /** The answer that a tool call got, which is told in its line. */
  answer?: PermissionItem | undefined;
}

export function ItemView({ item, call, answer }: ItemProps) {
  switch (item.kind) {
    case "message":
      return <MessageView item={item} />;
    case "thought":
      return <ThoughtView item={item} />;
    case "tool_call":
      return <ToolCallView item={item} answer={answer} />;
    case "plan":
      return <PlanView item={item} />;
    case "permission":
      return <PermissionView item={item} call={call} />;
    case "question":
      return <QuestionView item={item} />;
    case "notice":
      return <NoticeView item={item} />;
    case "egress_denied":
      return <EgressDeniedView item={item} />;
    case "egress_asked":
      return <EgressAskedView item={item} />;
    case "content":
      return <Content content={item.content} />;
    case "files_changed":
      return <FilesChangedView item={item} />;
    case "files_restored":
      return <FilesRestoredView item={item} />;
    case "forked":
      return <ForkedView item={item} />;
  }
}

/** A message of a person: one's own, the owner's, or of somebody who came by a link. */
function PersonsMessage({ item }: { item: MessageItem }) {
  const link = useLink();
  const page = usePage();
  const { isGuest } = page.conversation.value;
  const isMine = item.author ? item.author.author_id === link?.you?.author_id : !isGuest || link?.isOwner === true;
  const name = isMine ? t("you") : nameOf(item.author);
  return (
    <article
      class={`message user ${isMine ? "" : "is-others"} ${item.is_withdrawn ? "is-withdrawn" : ""}`}
      data-testid="message-user"
      aria-label={name}
    >
      {!isMine && (
        <p class="author" data-testid="author" aria-hidden="true">
          <bdi>{name}</bdi>
        </p>
      )}
      {item.attachments && <AttachedFiles files={item.attachments} />}
      {item.text !== "" && (
        <div class="bubble" dir="auto">
          <PlainText text={item.text} />
        </div>
      )}
      {item.is_withdrawn && (
        <p class="author" data-testid="withdrawn">
          {t("withdrawn")}
        </p>
      )}
      <MessageActions item={item} />
    </article>
  );
}

/** An answer until what draws it is here; of a long one the end, for it will be here soon. */
function StillPlain({ text, hasFailed = false }: { text: string; isStreaming: boolean; id?: string; hasFailed?: boolean }) {
  if (text.length >= REST_LEAST && !hasFailed) return <Rest text={text} />;
  return (
    <div class="md-plain" dir="auto">
      <PlainText text={text} />
    </div>
  );
}

function MessageView({ item }: { item: MessageItem }) {
  if (item.sender === "user") return <PersonsMessage item={item} />;
  if (item.sender === "system") {
    return (
      <p class="message system" data-testid="message-system" dir="auto">
        {item.text === "Interrupted by user" ? t("interrupted") : <SystemText text={item.text} />}
      </p>
    );
  }
  if (item.text === "") return null;
  return (
    <article
      class={`message agent ${item.is_streaming ? "is-streaming" : ""}`}
      data-testid="message-agent"
      data-streaming={item.is_streaming}
      aria-label={t("agent")}
      aria-busy={item.is_streaming}
    >
      <Markdown text={item.text} isStreaming={item.is_streaming} id={item.id} />
      {!item.is_streaming && <AnswerActions item={item} />}
    </article>
  );
}

/** The gateway's own words are English: only another language needs others. */
function SystemText({ text }: { text: string }) {
  return language.value === "en" ? <PlainText text={text} /> : <SystemLine text={text} />;
}

/** `isSentLater`: it goes by itself, so there is nothing to click. */
export function OutgoingMessage({ message, isSentLater }: { message: Outgoing; isSentLater: boolean }) {
  const page = usePage();
  const { key, text, attachments, error } = message;
  const conversation = page.conversation.value;
  return (
    <article
      class={`message user outgoing ${error ? "has-failed" : ""}`}
      data-testid="message-outgoing"
      aria-label={t("you")}
    >
      {attachments.length > 0 && <AttachedFiles files={attachments} />}
      {text !== "" && (
        <div class="bubble" dir="auto">
          <PlainText text={text} />
        </div>
      )}
      {error ? (
        <p class="outgoing-note" role={isSentLater ? "status" : "alert"}>
          <Icon name={isSentLater ? "clock" : "warn"} />
          <span>{isSentLater ? t("sentLater") : `${t("notSent")}: ${wordsOf(error, language.value)}`}</span>
          {!isSentLater && (
            <button type="button" class="link" data-testid="retry" onClick={() => void conversation.resend(key)}>
              {t("retry")}
            </button>
          )}
          <button type="button" class="link" onClick={() => conversation.discard(key)}>
            {t("discard")}
          </button>
        </p>
      ) : (
        <p class="outgoing-note sr-only">{t("sending")}</p>
      )}
    </article>
  );
}

function ThoughtView({ item }: { item: ThoughtItem }) {
  const seconds = useThinkingTime(item);
  const over = seconds === null ? t("thought") : t("thoughtFor", { time: durationText(seconds) });
  const [isOpen, setOpen] = useKeptOpen("thought", item.id, false);
  return (
    <details
      class="thought"
      data-testid="thought"
      open={isOpen}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>
        <Icon name="think" />
        <span class={item.is_streaming ? "shimmer" : ""}>{item.is_streaming ? t("thinking") : over}</span>
        <Icon name="chevron" class="tool-chevron" />
      </summary>
      <div class="thought-text" dir="auto">
        <PlainText text={item.text} />
      </div>
    </details>
  );
}

/** Of a text that is one line of the conversation. */
const WORDS_MOST = 2_000;

/** The gateway's own words, until those of the reader's language are here. */
function OwnWords({ item }: { item: NoticeItem }) {
  return <>{clipped(item.text, WORDS_MOST)}</>;
}

function NoticeView({ item }: { item: NoticeItem }) {
  return (
    <p
      class={`notice notice-${item.level}`}
      data-testid="notice"
      data-code={item.code}
      role={item.level === "error" ? "alert" : "note"}
    >
      {item.level !== "info" && <Icon name="warn" />}
      <span dir="auto">
        <NoticeText item={item} />
      </span>
    </p>
  );
}

import { useMemo, useState } from "preact/hooks";
import type { AcpContent, AcpToolContent, Key, PermissionItem, ToolCallItem } from "../core/index.ts";
import { commandOf, isAllowed, placeOf, plainly, saysMore } from "./asked.ts";
import { Diff } from "./Diff.tsx";
import { durationText } from "./duration.ts";
import { Icon, iconOf } from "./icons.tsx";
import { Code } from "./Code.tsx";
import { Markdown } from "./Markdown.tsx";
import { useKeptOpen } from "./kept-open.ts";
import { jsonText } from "./json.ts";
import { AnswerIcon, AnswerText } from "./Answer.tsx";
import { MoreLines } from "./MoreLines.tsx";
import { Later } from "./Pieces.tsx";
import { clipped, firstLines } from "../core/pieces.ts";
import { t } from "./preferences.ts";
import { isNews, partsOf, type Place, placesOf, textOf } from "./toolparts.ts";
import { changesOf, firstLineOf, wordsOfCall } from "./toolwords.ts";

/** Tool output is shown up to here; the rest is in the export. */
const LINES_MOST = 200;
/** And, for a person who asks for all of it, up to here. */
const WHOLE_LINES_MOST = 5_000;
const CHARACTERS_MOST = 200_000;
const LINE_MOST = 2_000;
const PARTS_MOST = 50;
/** Comparing two texts weighs as much as drawing so many characters. */
const DIFF_WEIGHT = 6_000;

interface ToolCallProps {
  item: ToolCallItem;
  /** What was answered when the agent asked about it: call and answer are one line. */
  answer?: PermissionItem | undefined;
}

export function ToolCallView({ item, answer }: ToolCallProps) {
  const status = item.status ?? "pending";
  const parts = partsOf(item.content);
  const [isOpen, setOpen] = useKeptOpen("tool_call", item.id, isNews(item, answer));
  const hasBody = parts.length > 0 || placesOf(item.locations).length > 0 || item.raw_input != null || item.raw_output != null;
  return (
    <details
      class={`tool tool-${status}`}
      data-testid="tool-call"
      data-status={status}
      open={isOpen && hasBody}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary {...(answer && { "data-testid": "permission-answered" })}>
        <span class="sr-only">{t("tool")}: </span>
        <Icon name={iconOf(item.tool_kind)} class="tool-icon" />
        <CallLine item={item} isAnswered={answer !== undefined} />
        {answer && (
          <span class={`tool-answer ${isAllowed(answer) ? "is-allowed" : ""}`}>
            <AnswerIcon item={answer} />
            <AnswerText item={answer} />
          </span>
        )}
        {!(answer && status === "pending") && <Status status={clipped(status, 40)} seconds={item.seconds} />}
        <Icon name="chevron" class="tool-chevron" />
      </summary>
      {isOpen && hasBody && <Body item={item} />}
    </details>
  );
}

/** What was done with what. The agent's own title is there for who points at it, and if somebody answered to it. */
function CallLine({ item, isAnswered }: { item: ToolCallItem; isAnswered: boolean }) {
  const words = useMemo(() => wordsOfCall(item), [item]);
  const changes = useMemo(() => changesOf(item.content), [item.content]);
  const first = useMemo(() => firstLineOf(item), [item]);
  const title = clipped(item.title || item.tool_kind || t("tool"));
  const [before = "", behind = ""] = words ? t(words.key, { object: "\0" }).split("\0") : [];
  return (
    <span class="tool-words">
      <span class="tool-title" title={words ? `${title}\n${words.whole}` : undefined}>
        {words === null ? (
          title
        ) : (
          <>
            {before}
            <bdi class="tool-object" dir="ltr">
              {words.object}
            </bdi>
            {behind}
            {isAnswered && <span class="quiet"> · {title}</span>}
          </>
        )}
        {changes && (
          <span class="diff-count" dir="ltr">
            <span class="diff-plus">+{changes.added}</span> <span class="diff-minus">−{changes.removed}</span>
          </span>
        )}
      </span>
      {first !== "" && (
        <span class="tool-first" dir="auto">
          {first}
        </span>
      )}
    </span>
  );
}

function Status({ status, seconds }: { status: string; seconds: number | undefined }) {
  return (
    <span class={`status status-${status}`}>
      {status === "completed" ? <Icon name="check" /> : status === "failed" ? <Icon name="close" /> : <span class="status-dot" />}
      {statusWord(status)}
      {typeof seconds === "number" && <span class="tool-took">{durationText(seconds)}</span>}
    </span>
  );
}

const WORDS: Record<string, Key> = {
  pending: "pending",
  in_progress: "in_progress",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelledStatus",
};

function statusWord(status: string): string {
  const key = WORDS[status];
  return key ? t(key) : status;
}

function Body({ item }: { item: ToolCallItem }) {
  const parts = partsOf(item.content);
  const showsOutput = item.raw_output != null && parts.length === 0;
  const shown = new Set(parts.map((part) => part.path));
  const places = placesOf(item.locations).filter(({ path }) => !shown.has(path));
  return (
    <div class="tool-body">
      {item.raw_input != null && !isEmpty(item.raw_input) && <Raw label={t("input")} value={item.raw_input} />}
      {parts.slice(0, PARTS_MOST).map((part, place) => (
        <Part key={place} part={part} />
      ))}
      {parts.length > PARTS_MOST && <p class="quiet">{t("andMore", { n: parts.length - PARTS_MOST })}</p>}
      <Locations places={places} />
      {showsOutput && <Raw label={t("output")} value={item.raw_output} />}
    </div>
  );
}

/** What a permission is asked for: everything that is known of the tool call, so that people know what they allow. */
export function Substance({ call }: { call: ToolCallItem }) {
  const parts = partsOf(call.content);
  const shown = new Set(parts.map((part) => part.path));
  const places = placesOf(call.locations).filter(({ path }) => !shown.has(path));
  const command = commandOf(call.raw_input);
  const isShown = command !== null || parts.length > 0;
  const hasInput = call.raw_input != null && !isEmpty(call.raw_input) && (command === null || saysMore(call.raw_input));
  if (!hasInput && !isShown && places.length === 0) return null;
  const place = placeOf(call.raw_input);
  return (
    <div class="tool-body" data-testid="permission-substance">
      {command !== null && (
        <section class="tool-part" data-testid="permission-command">
          <h3>{t("command")}</h3>
          <Clipped text={plainly(command)} language="bash" />
          <p class="quiet">
            {place === null ? t("inSession") : <>{t("inPlace")} <code dir="ltr">{clipped(plainly(place), LINE_MOST)}</code></>}
          </p>
        </section>
      )}
      {parts.slice(0, PARTS_MOST).map((part, place) => (
        <Part key={place} part={part} label={t("content")} />
      ))}
      {parts.length > PARTS_MOST && <p class="quiet">{t("andMore", { n: parts.length - PARTS_MOST })}</p>}
      <Locations places={places} />
      {hasInput && !isShown && <Raw label={t("input")} value={call.raw_input} />}
      {hasInput && isShown && (
        <details class="tool-part" data-testid="permission-input">
          <summary>{t("input")}</summary>
          <Raw label="" value={call.raw_input} />
        </details>
      )}
    </div>
  );
}

/** The files that a call is about. */
function Locations({ places }: { places: readonly Place[] }) {
  if (places.length === 0) return null;
  return (
    <section class="tool-part">
      <h3>{t("locations")}</h3>
      <ul class="tool-places" dir="ltr">
        {places.slice(0, PARTS_MOST).map(({ path, line }, place) => (
          <li key={place}>
            <span class="tool-place">{clipped(plainly(line === undefined ? path : `${path}:${line}`), LINE_MOST)}</span>
          </li>
        ))}
        {places.length > PARTS_MOST && <li class="quiet">{t("andMore", { n: places.length - PARTS_MOST })}</li>}
      </ul>
    </section>
  );
}

function Raw({ label, value }: { label: string; value: unknown }) {
  const text = typeof value === "string" ? value : jsonText(value);
  return (
    <section class="tool-part">
      {label && <h3>{label}</h3>}
      <Clipped text={text} language={typeof value === "string" ? "" : "json"} />
    </section>
  );
}

function Part({ part, label = t("output") }: { part: AcpToolContent; label?: string }) {
  if (part.type === "diff") {
    return (
      <Later weight={DIFF_WEIGHT}>
        <Diff path={textOf(part.path)} before={textOf(part.oldText)} after={textOf(part.newText)} />
      </Later>
    );
  }
  if (part.content) {
    return (
      <section class="tool-part">
        <h3>{label}</h3>
        {part.content.type === "text" ? (
          <Clipped text={textOf(part.content.text)} language="" />
        ) : (
          <Content content={part.content} />
        )}
      </section>
    );
  }
  return null;
}

function Clipped({ text, language }: { text: string; language: string }) {
  const [isWhole, setWhole] = useState(false);
  const first = useMemo(() => firstLines(text, isWhole ? WHOLE_LINES_MOST : LINES_MOST), [text, isWhole]);
  const more = first.text.length - CHARACTERS_MOST;
  return (
    <>
      <Code code={more > 0 ? first.text.slice(0, CHARACTERS_MOST) : first.text} language={language} />
      {more > 0 && <p class="quiet">{t("truncatedCharacters", { n: more })}</p>}
      {first.more > 0 && <MoreLines count={first.more} isWhole={isWhole} show={() => setWhole(true)} />}
    </>
  );
}

/** A part of an answer that is no text. */
export function Content({ content }: { content: AcpContent }) {
  const { type, data, mimeType = "", uri, name, title, resource } = content;
  if (type === "text") return <Markdown text={content.text ?? ""} isStreaming={false} />;
  if (type === "image" && data && /^image\/(png|jpeg|gif|webp)$/.test(mimeType)) {
    return <img class="picture" src={`data:${mimeType};base64,${data}`} alt={name ?? title ?? t("attachment")} />;
  }
  if (resource?.text !== undefined) return <Clipped text={resource.text} language="" />;
  const address = uri ?? resource?.uri ?? "";
  const words = clipped(title ?? name ?? (address || `${t("attachment")} (${mimeType || type})`));
  if (!/^https?:\/\//.test(address)) return <p class="attachment">{words}</p>;
  return (
    <p class="attachment">
      <a href={address} target="_blank" rel="noopener noreferrer">
        {words}
      </a>
    </p>
  );
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

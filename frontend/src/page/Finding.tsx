/** The search over one's conversations, and what is filed under a tag or in the archive. */

import "./finding.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { type SearchHit, type SessionSummary, wordsOf, ApiError } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { f } from "./find-words.ts";
import { Icon } from "./icons.tsx";
import { jumpTo } from "./jump.ts";
import { usePage, useStore } from "./page.ts";
import { language, moment, t } from "./preferences.ts";

/** Nothing is asked while somebody still types. */
const TYPING_MS = 200;

interface FoundSoFar {
  hits: readonly SearchHit[];
  following: string | undefined;
  isIndexing: boolean;
  why: string;
}

const ARCHIVE = "\u0000archive";

export function Finding({ close }: { close(): void }) {
  const page = usePage();
  const field = useRef<HTMLInputElement>(null);
  const [query, setQuery] = useState("");
  const [filed, setFiled] = useState<string | null>(null);
  const search = useSearch(query);
  useEffect(() => field.current?.focus(), []);
  const leave = (): void => {
    close();
    requestAnimationFrame(() => document.querySelector<HTMLElement>("[data-testid=find-open]")?.focus());
  };
  const open = async (sessionId: string, messageId?: string): Promise<void> => {
    if (!(await jumpTo(page, sessionId, messageId))) page.tell(f("gone"));
  };
  return (
    <div
      class="finding"
      role="search"
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.preventDefault();
          leave();
        } else walk(event);
      }}
    >
      <div class="finding-field">
        <Icon name="search" />
        <input
          ref={field}
          type="search"
          class="field"
          dir="auto"
          maxLength={500}
          aria-label={f("label")}
          placeholder={t("findSessions")}
          data-testid="find-field"
          value={query}
          onInput={(event) => setQuery(event.currentTarget.value)}
        />
        <button type="button" class="icon-button" aria-label={f("close")} data-testid="find-close" onClick={leave}>
          <Icon name="close" />
        </button>
      </div>
      {query.trim() === "" ? (
        <Filed filed={filed} choose={setFiled} open={(id) => void open(id)} />
      ) : (
        <Hits search={search} open={(id, message) => void open(id, message)} />
      )}
    </div>
  );
}

interface Search {
  found: FoundSoFar | null;
  isSearching: boolean;
  more(): void;
}

/** Searches for what was typed last; what comes for an earlier text is dropped. */
function useSearch(query: string): Search {
  const page = usePage();
  const asked = useRef(0);
  const [found, setFound] = useState<FoundSoFar | null>(null);
  const [isSearching, setSearching] = useState(false);
  const ask = async (before: FoundSoFar | null): Promise<void> => {
    const number = (asked.current += 1);
    setSearching(true);
    let next: FoundSoFar;
    try {
      const answer = await page.api.search(query.trim(), before?.following);
      const hits = [...(before?.hits ?? []), ...answer.hits];
      next = { hits, following: answer.following, isIndexing: answer.is_indexing, why: "" };
    } catch (error) {
      const why = error instanceof ApiError ? wordsOf(error, language.peek()) : String(error);
      next = { hits: before?.hits ?? [], following: before?.following, isIndexing: false, why };
    }
    if (number !== asked.current) return;
    setFound(next);
    setSearching(false);
    // An answer that ran out of time before it found anything is no answer yet.
    if (next.hits.length === 0 && next.following !== undefined && next.why === "") void ask(next);
  };
  useEffect(() => {
    asked.current += 1;
    setFound(null);
    if (query.trim() === "") return undefined;
    setSearching(true);
    const timer = setTimeout(() => void ask(null), TYPING_MS);
    return () => clearTimeout(timer);
  }, [query]);
  return { found, isSearching, more: () => void ask(found) };
}

function Hits({ search, open }: { search: Search; open(sessionId: string, messageId?: string): void }) {
  const { found, isSearching, more } = search;
  const hits = found?.hits ?? [];
  return (
    <>
      <p class="quiet finding-words" role="status" data-testid="find-status">
        {found?.why || (isSearching ? f("searching") : hits.length === 0 ? f("none") : f("found", { n: hits.length }))}
        {found?.isIndexing && !isSearching && ` ${f("indexing")}`}
      </p>
      <ul class="finding-list" data-testid="find-hits">
        {hits.map((hit) => (
          <li key={`${hit.session_id} ${hit.message_id ?? ""}`}>
            <button
              type="button"
              class="finding-row"
              data-testid="find-hit"
              onClick={() => open(hit.session_id, hit.message_id)}
            >
              <span class="finding-title" dir="auto">
                {clipped(hit.title || t("untitled"))}
              </span>
              <span class="finding-excerpt" dir="auto">
                {marked(hit)}
              </span>
              <span class="finding-about">
                {f(hit.message_id === undefined ? "inTitle" : hit.sender === "user" ? "fromUser" : "fromAgent")}
                {" · "}
                <time dateTime={hit.at}>{moment(hit.at)}</time>
              </span>
            </button>
          </li>
        ))}
      </ul>
      {found?.following !== undefined && !isSearching && (
        <button type="button" class="button finding-more" data-testid="find-more" onClick={more}>
          {f("more")}
        </button>
      )}
    </>
  );
}

/** The excerpt with its words marked; the gateway counts characters, not halves of them. */
function marked({ excerpt, marks }: SearchHit) {
  const characters = Array.from(excerpt);
  const out = [];
  let at = 0;
  for (const [begin, end] of marks) {
    out.push(characters.slice(at, begin).join(""), <mark>{characters.slice(begin, end).join("")}</mark>);
    at = end;
  }
  return [...out, characters.slice(at).join("")];
}

interface FiledProps {
  filed: string | null;
  choose(filed: string | null): void;
  open(sessionId: string): void;
}

function Filed({ filed, choose, open }: FiledProps) {
  const { sessions } = useStore();
  const tags = [...new Set(sessions.flatMap((row) => row.tags ?? []))].sort((a, b) => a.localeCompare(b));
  const isIn = (row: SessionSummary): boolean =>
    filed === ARCHIVE ? row.archived === true : !row.archived && filed !== null && (row.tags ?? []).includes(filed);
  const rows = sessions.filter(isIn);
  return (
    <>
      <p class="quiet finding-words">{f("hint")}</p>
      <div class="finding-tags" role="group" aria-label={f("filters")}>
        {[...tags, ARCHIVE].map((tag) => (
          <button
            key={tag}
            type="button"
            class="finding-tag"
            aria-pressed={filed === tag}
            data-testid="find-tag"
            onClick={() => choose(filed === tag ? null : tag)}
          >
            {tag === ARCHIVE ? f("archived") : tag}
          </button>
        ))}
      </div>
      {filed !== null && rows.length === 0 && <p class="quiet finding-words">{f("noneFiled")}</p>}
      <ul class="finding-list" data-testid="find-filed">
        {rows.map((row) => (
          <li key={row.session_id}>
            <button type="button" class="finding-row" data-testid="find-row" onClick={() => open(row.session_id)}>
              <span class="finding-title" dir="auto">
                {clipped(row.title || t("untitled"))}
              </span>
              <span class="finding-about">
                <time dateTime={row.last_active_at}>{moment(row.last_active_at)}</time>
              </span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Arrows walk from the field to the hits and between them. */
function walk(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined) return;
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("input, .finding-row")];
  event.preventDefault();
  rows[Math.max(0, Math.min(rows.length - 1, rows.indexOf(document.activeElement as HTMLElement) + step))]?.focus();
}

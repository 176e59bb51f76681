import { useState } from "preact/hooks";
import { type Branch, flat, gatewayNow, numeral, type SessionLabels, type SessionSummary, treeOf } from "../core/index.ts";
import { AccountMenu } from "./Account.tsx";
import { appName } from "./brand.ts";
import { BrandLinks } from "./Welcome.tsx";
import { saveConversation } from "./download.ts";
import { Icon, Logo } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { Menu, MenuItem } from "./Menu.tsx";
import { overlay } from "./overlay.ts";
import { useIdentity, usePage, useStore } from "./page.ts";
import { clipped } from "../core/pieces.ts";
import { language, t } from "./preferences.ts";

const Finding = lazily(() => import("./Finding.tsx").then((loaded) => loaded.Finding));

/** What is in the sidebar. */
export function Sidebar() {
  const page = usePage();
  const store = useStore();
  const [isFinding, setFinding] = useState(false);
  const startNew = (): void => {
    store.startNew();
    page.isDrawerOpen.value = false;
    document.querySelector<HTMLElement>("[data-testid=composer]")?.focus();
  };
  return (
    <>
      <div class="brand">
        <Logo />
        <span>{appName()}</span>
        <button
          type="button"
          class="icon-button drawer-close"
          aria-label={t("closeSessions")}
          onClick={() => {
            page.isDrawerOpen.value = false;
          }}
        >
          <Icon name="close" />
        </button>
      </div>
      <button type="button" class="new-session" data-testid="new-session" onClick={startNew}>
        <Icon name="plus" />
        {t("newSession")}
      </button>
      {isFinding ? (
        <Finding close={() => setFinding(false)} />
      ) : (
        <button type="button" class="find-open" data-testid="find-open" onClick={() => setFinding(true)}>
          <Icon name="search" />
          {t("findSessions")}
        </button>
      )}
      <div class="session-list" data-testid="session-list" hidden={isFinding} onKeyDown={walk}>
        {store.sessions.length === 0 && store.hasLoaded && <p class="quiet empty-list">{t("noSessions")}</p>}
        {grouped(treeOf(store.sessions)).map(([label, trees]) => (
          <section key={label}>
            <h2>{t(label)}</h2>
            <ul>
              {trees.flatMap(flat).map(([row, depth]) => (
                <SessionRow key={row.session_id} row={row} depth={depth} />
              ))}
            </ul>
          </section>
        ))}
      </div>
      <BrandLinks />
      <AccountMenu />
      <ActiveCount />
    </>
  );
}

function ActiveCount() {
  const { counts } = useStore();
  const { me } = useIdentity();
  if (!counts) return <p class="active-count" />;
  const { active_sessions: n, live, parked } = counts;
  const title = t("activeTitle", { n, live, parked });
  const shown = (
    <>
      <span class={`pulse ${live > 0 ? "is-live" : ""}`} aria-hidden="true" />
      {t("active", { n: numeral(language.value, n) })}
    </>
  );
  if (me?.scopes.includes("operate")) {
    return (
      <a class="active-count" data-testid="active-count" title={title} href="#/operations">
        {shown}
      </a>
    );
  }
  return (
    <p class="active-count" data-testid="active-count" title={title}>
      {shown}
    </p>
  );
}

const BUSY = new Set(["starting", "running", "interrupting"]);

/** Deeper branches are not indented any further. */
const DEPTH_MOST = 4;

/** Arrows walk from one conversation to the next. */
function walk(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>(".session-open")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  rows[Math.max(0, Math.min(rows.length - 1, at + step))]?.focus();
}

interface SessionRowProps {
  row: SessionSummary;
  /** How many forks it is below the first one. */
  depth: number;
}

function SessionRow({ row, depth }: SessionRowProps) {
  const page = usePage();
  const store = useStore();
  const isCurrent = row.session_id === store.currentId;
  const title = clipped(row.title || t("untitled"));
  const mark = row.state === "waiting" ? "is-waiting" : BUSY.has(row.state) ? "is-busy" : "";
  return (
    <li
      class={`session ${isCurrent ? "is-current" : row.unread ? "is-unread" : ""} ${depth > 0 ? `is-fork depth-${Math.min(depth, DEPTH_MOST)}` : ""}`}
      aria-level={depth + 1}
      data-testid="session-item"
      data-session-id={row.session_id}
    >
      <button
        type="button"
        class="session-open"
        aria-current={isCurrent ? "page" : undefined}
        onClick={() => {
          store.select(row.session_id);
          page.isDrawerOpen.value = false;
        }}
      >
        {depth > 0 && <Icon name="branch" class="session-branch" />}
        <span class="session-title">{title}</span>
        {row.unread && !isCurrent && <span class="session-unread">{t("unread")}</span>}
        {mark && <span class={`session-mark ${mark}`} aria-hidden="true" />}
        <time class="session-time" dateTime={row.last_active_at}>
          {ago(row.last_active_at)}
        </time>
      </button>
      <RowMenu row={row} title={title} />
    </li>
  );
}

interface RowMenuProps {
  row: SessionSummary;
  title: string;
}

function RowMenu({ row, title }: RowMenuProps) {
  const page = usePage();
  const ask = (what: "rename" | "share" | "tags" | "delete"): void => {
    overlay.value = { what, row };
  };
  const label = (labels: SessionLabels): void =>
    void page.store.label(row.session_id, labels).catch((error: unknown) => page.tellWhy(error));
  const save = async (format: "markdown" | "jsonl"): Promise<void> => {
    try {
      await saveConversation(page, row, format);
    } catch (error) {
      page.tellWhy(error);
    }
  };
  return (
    <Menu
      id={`menu-${row.session_id.replace(/[^\w-]/g, "_")}`}
      label={t("menu")}
      button={{
        class: "icon-button session-more",
        testId: "session-menu",
        label: t("more", { title }),
        children: <Icon name="more" />,
      }}
    >
      <MenuItem icon="edit" label={t("rename")} testId="rename" run={() => ask("rename")} />
      <MenuItem icon="pin" label={t(row.pinned ? "unpin" : "pin")} testId="pin" run={() => label({ pinned: !row.pinned })} />
      <MenuItem icon="tag" label={t("tags")} testId="tags" run={() => ask("tags")} />
      <MenuItem
        icon="archive"
        label={t(row.archived ? "unarchive" : "archive")}
        testId="archive"
        run={() => label({ archived: !row.archived })}
      />
      <MenuItem icon="link" label={t("share")} testId="share" run={() => ask("share")} />
      <MenuItem
        icon="export"
        label={t("exportMarkdown")}
        testId="export-markdown"
        run={() => void save("markdown")}
      />
      <MenuItem icon="export" label={t("exportJsonl")} testId="export-jsonl" run={() => void save("jsonl")} />
      <MenuItem icon="delete" label={t("delete")} testId="delete" isDanger run={() => ask("delete")} />
    </Menu>
  );
}

type ListPart = "pinned" | "today" | "yesterday" | "earlier";

/** A tree is where its newest branch is. */
function grouped(trees: readonly Branch[]): [ListPart, Branch[]][] {
  const midnight = new Date(gatewayNow()).setHours(0, 0, 0, 0);
  const groups: Record<ListPart, Branch[]> = { pinned: [], today: [], yesterday: [], earlier: [] };
  for (const tree of trees) {
    const at = Date.parse(tree.lastActiveAt);
    if (tree.row.archived) continue;
    groups[tree.row.pinned ? "pinned" : at >= midnight ? "today" : at >= midnight - 86_400_000 ? "yesterday" : "earlier"].push(tree);
  }
  return (Object.entries(groups) as [ListPart, Branch[]][]).filter(([, of]) => of.length > 0);
}

/** In the page's own words: a browser takes longer to load its own than to draw the list. */
function ago(iso: string): string {
  const minutes = Math.floor(Math.max(0, (gatewayNow() - Date.parse(iso)) / 60_000));
  if (!Number.isFinite(minutes)) return "";
  if (minutes < 1) return t("now");
  if (minutes < 60) return t("minutesAgo", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return t("hoursAgo", { n: hours });
  const days = Math.floor(hours / 24);
  return days === 1 ? t("dayAgo") : t("daysAgo", { n: days });
}

/** The panel of files: the tree, a preview of one file, and what the turns changed. */

import "./files.css";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type FileEntry, FileTree, parentOf } from "../core/index.ts";
import { Changes } from "./FileChanges.tsx";
import { FileView } from "./FileView.tsx";
import { plain, sizeText, useTree } from "./filewords.ts";
import { Icon } from "./icons.tsx";
import { Servers } from "./Servers.tsx";
import { usePage, visibility } from "./page.ts";
import { t } from "./preferences.ts";
import type { FilesTab } from "./filing.ts";

export function Files() {
  const page = usePage();
  const { filing } = page;
  const { sessionId } = page.conversation.value;
  const tree = useMemo(() => new FileTree({ api: page.api, sessionId, visibility }), [page, sessionId]);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    tree.start();
    heading.current?.focus();
    return () => tree.stop();
  }, [tree]);
  const shown = filing.shown.value;
  useEffect(() => {
    if (shown !== null) void tree.reveal(shown);
  }, [tree, shown]);
  return (
    <aside class="files" aria-label={t("files")} data-testid="files">
      <header class="files-head">
        <h2 ref={heading} tabIndex={-1}>
          {t("files")}
        </h2>
        <a class="icon-button" href={page.api.archiveUrl(sessionId, "")} download aria-label={t("downloadAll")} title={t("downloadAll")} data-testid="download-all">
          <Icon name="fetch" />
        </a>
        <button type="button" class="icon-button" data-testid="close-files" aria-label={t("closeFiles")} onClick={() => (filing.isOpen.value = false)}>
          <Icon name="close" />
        </button>
      </header>
      <Servers />
      <Tabs />
      {filing.tab.value === "changes" && (
        <div role="tabpanel" id="files-changes" aria-label={t("changes")} class="files-body">
          <Changes />
        </div>
      )}
      {filing.tab.value === "tree" && (
        <div role="tabpanel" id="files-tree" aria-label={t("files")} class="files-body">
          {shown === null ? <Tree tree={tree} /> : <FileView key={shown} tree={tree} path={shown} />}
        </div>
      )}
    </aside>
  );
}

const TABS: readonly FilesTab[] = ["tree", "changes"];

function Tabs() {
  const { filing } = usePage();
  const walk = (event: KeyboardEvent): void => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    const next = filing.tab.value === "tree" ? "changes" : "tree";
    filing.tab.value = next;
    document.getElementById(`files-tab-${next}`)?.focus();
  };
  return (
    <div class="files-tabs" role="tablist" aria-label={t("files")} onKeyDown={walk}>
      {TABS.map((tab) => (
        <button
          key={tab}
          id={`files-tab-${tab}`}
          type="button"
          role="tab"
          data-testid={`files-tab-${tab}`}
          aria-selected={filing.tab.value === tab}
          aria-controls={`files-${tab}`}
          tabIndex={filing.tab.value === tab ? 0 : -1}
          onClick={() => (filing.tab.value = tab)}
        >
          {t(tab === "tree" ? "allFiles" : "changes")}
        </button>
      ))}
    </div>
  );
}

interface Row {
  entry: FileEntry | null;
  /** Of a row that asks for the entries that follow, or says something about a folder: that folder. */
  folder: string;
  level: number;
  words?: string;
}

/** The rows that are seen, in order. */
function rowsOf(tree: FileTree, path = "", level = 1): Row[] {
  const folder = tree.folder(path);
  if (!folder) return [];
  const rows = folder.entries.flatMap((entry): Row[] => {
    const row = { entry, folder: path, level };
    return entry.kind === "folder" && tree.isOpen(entry.path) ? [row, ...rowsOf(tree, entry.path, level + 1)] : [row];
  });
  if (folder.cursor !== null) rows.push({ entry: null, folder: path, level });
  if (folder.isPartial) rows.push({ entry: null, folder: path, level, words: t("filesPartial") });
  if (folder.error && folder.error.status !== 404) rows.push({ entry: null, folder: path, level, words: folder.error.message });
  return rows;
}

function Tree({ tree }: { tree: FileTree }) {
  const page = usePage();
  useTree(tree);
  const rows = rowsOf(tree);
  const [at, setAt] = useState("");
  const list = useRef<HTMLUListElement>(null);
  const root = tree.folder("");
  const entries = rows.flatMap((row) => (row.entry ? [row.entry] : []));
  const current = entries.find((entry) => entry.path === at) ?? entries[0];
  const go = (entry: FileEntry | undefined): void => {
    if (!entry) return;
    setAt(entry.path);
    list.current?.querySelector<HTMLElement>(`[data-path="${CSS.escape(entry.path)}"]`)?.focus();
  };
  const act = (entry: FileEntry): void => {
    setAt(entry.path);
    if (entry.kind === "folder") tree.toggle(entry.path);
    else if (entry.kind === "file") page.filing.open(entry.path);
  };
  const walk = (event: KeyboardEvent): void => {
    if (!current || event.altKey || event.ctrlKey || event.metaKey) return;
    const place = entries.indexOf(current);
    const isRtl = document.documentElement.dir === "rtl";
    const [inward, outward] = isRtl ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
    const isOpen = current.kind === "folder" && tree.isOpen(current.path);
    if (event.key === "ArrowDown") go(entries[place + 1]);
    else if (event.key === "ArrowUp") go(entries[place - 1]);
    else if (event.key === "Home") go(entries[0]);
    else if (event.key === "End") go(entries.at(-1));
    else if (event.key === "Enter" || event.key === " ") act(current);
    else if (event.key === inward && current.kind === "folder") isOpen ? go(entries[place + 1]) : tree.toggle(current.path, true);
    else if (event.key === outward) isOpen ? tree.toggle(current.path, false) : go(entries.find((one) => one.path === parentOf(current.path)));
    else return;
    event.preventDefault();
  };
  if (!root || (root.isLoading && root.entries.length === 0)) return <p class="quiet">{t("loading")}</p>;
  if (rows.length === 0) return <p class="quiet" data-testid="no-files">{t("noFiles")}</p>;
  return (
    <>
      <ul ref={list} role="tree" class="files-tree" aria-label={t("files")} data-testid="files-tree" onKeyDown={walk}>
        {rows.map(({ entry, folder, level, words }) =>
          entry ? (
            <EntryRow key={entry.path} entry={entry} level={level} isOpen={tree.isOpen(entry.path)} isCurrent={entry === current} act={() => act(entry)} />
          ) : (
            <li key={`${folder} ${words ?? "more"}`} role="none" class={`files-level-${Math.min(level, 12)}`}>
              {words ?? (
                <button type="button" class="link" data-testid="more-files" onClick={() => void tree.more(folder)}>
                  {t("moreFiles")}
                </button>
              )}
            </li>
          ),
        )}
      </ul>
      {current?.kind === "folder" && (
        <p class="files-verbs">
          <a class="link" href={page.api.archiveUrl(tree.sessionId, current.path)} download data-testid="download-folder">
            {t("downloadFolder", { name: plain(current.name) })}
          </a>
        </p>
      )}
    </>
  );
}

interface EntryRowProps {
  entry: FileEntry;
  level: number;
  isOpen: boolean;
  isCurrent: boolean;
  act(): void;
}

function EntryRow({ entry, level, isOpen, isCurrent, act }: EntryRowProps) {
  const isFolder = entry.kind === "folder";
  const words = entry.kind === "link" ? t("fileLink") : entry.kind === "other" ? t("fileSpecial") : null;
  return (
    <li
      role="treeitem"
      class={`files-row files-level-${Math.min(level, 12)}`}
      data-path={entry.path}
      data-testid="file-row"
      aria-level={level}
      aria-expanded={isFolder ? isOpen : undefined}
      aria-selected={isCurrent}
      tabIndex={isCurrent ? 0 : -1}
      onClick={act}
    >
      <Icon name={isFolder ? "folder" : entry.kind === "link" ? "link" : "read"} />
      <bdi class="files-name">{plain(entry.name)}</bdi>
      <span class="quiet">{words ?? (isFolder ? "" : sizeText(entry.size))}</span>
    </li>
  );
}

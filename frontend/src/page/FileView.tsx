/** One file of the panel: what can be shown of it, and its download. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, csvTable, type FileEntry, type FileLink, type FileTree, parentOf, shownPath } from "../core/index.ts";
import { languageOfFile } from "./filelanguages.ts";
import { plain, sizeText, useTree } from "./filewords.ts";
import { Icon } from "./icons.tsx";
import { Code } from "./Code.tsx";
import { Markdown } from "./Markdown.tsx";
import { usePage } from "./page.ts";
import { Pdf } from "./Pdf.tsx";
import { t } from "./preferences.ts";

/** Of a text, so much is read; the rest is in the download. */
const TEXT_MOST = 512 * 1024;
const ROWS_MOST = 500;
const CELLS_MOST = 50;
const LINES_MOST = 5_000;

type Preview = NonNullable<FileEntry["preview"]>;

export function FileView({ tree, path }: { tree: FileTree; path: string }) {
  const page = usePage();
  const { filing } = page;
  useTree(tree);
  const entry = tree.folder(parentOf(path))?.entries.find((one) => one.path === path);
  const name = plain(shownPath(path).split("/").at(-1) ?? "");
  return (
    <article class="file" data-testid="file-view" aria-label={name}>
      <header class="file-head">
        <button type="button" class="icon-button file-back" data-testid="file-back" aria-label={t("backToFiles")} onClick={() => (filing.shown.value = null)}>
          <Icon name="chevron" />
        </button>
        <h3 title={plain(shownPath(path))}>
          <bdi>{name}</bdi>
        </h3>
        {entry && <span class="quiet">{sizeText(entry.size)}</span>}
        <a class="icon-button" href={page.api.fileUrl(tree.sessionId, path)} download aria-label={t("download", { name })} title={t("download", { name })} data-testid="download-file">
          <Icon name="fetch" />
        </a>
      </header>
      <Shown tree={tree} path={path} name={name} kind={entry?.preview ?? null} size={entry?.size ?? 0} />
    </article>
  );
}

interface ShownProps {
  tree: FileTree;
  path: string;
  name: string;
  /** Null until the folder was read, or if the file is not there. */
  kind: Preview | null;
  size: number;
}

const BY_LINK: readonly Preview[] = ["image", "svg", "html"];

function Shown(props: ShownProps) {
  const { tree, path, kind } = props;
  useTree(tree);
  if (kind === null) {
    const folder = tree.folder(parentOf(path));
    return <p class="quiet">{t(folder && !folder.isLoading ? "fileGone" : "loading")}</p>;
  }
  if (kind === "none") return <p class="quiet">{t("noPreview")}</p>;
  if (kind === "pdf") return <Pdf tree={tree} path={path} name={props.name} size={props.size} />;
  return BY_LINK.includes(kind) ? <Linked {...props} /> : <Text {...props} />;
}

/** What a browser shows by itself: a picture, or a page in a frame that may do nothing. */
function Linked({ tree, path, name, kind }: ShownProps) {
  const page = usePage();
  useTree(tree);
  const revision = tree.revision(path);
  const [link, setLink] = useState<FileLink | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    let isOver = false;
    page.api.fileLink(tree.sessionId, path, "preview").then(
      (made) => !isOver && (setLink(made), setError(null)),
      (why: unknown) => !isOver && setError(why instanceof ApiError ? why.message : String(why)),
    );
    return () => void (isOver = true);
  }, [page, tree, path, revision]);
  if (error !== null) return <p class="quiet">{error}</p>;
  if (link === null) return <p class="quiet">{t("loading")}</p>;
  if (kind === "html") return <iframe class="file-frame" sandbox="" src={link.url} title={name} data-testid="file-frame" />;
  return <img class="file-picture" src={link.url} alt={name} data-testid="file-picture" onError={() => setError(t("noPreview"))} />;
}

function Text({ tree, path, kind }: ShownProps) {
  const page = usePage();
  useTree(tree);
  const revision = tree.revision(path);
  const [read, setRead] = useState<{ text: string; size: number } | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    let isOver = false;
    page.api.fileText(tree.sessionId, path, TEXT_MOST).then(
      (found) => !isOver && (setRead(found), setError(null)),
      (why: unknown) => !isOver && setError(why instanceof ApiError ? why.message : String(why)),
    );
    return () => void (isOver = true);
  }, [page, tree, path, revision]);
  if (error !== null) return <p class="quiet">{error}</p>;
  if (read === null) return <p class="quiet">{t("loading")}</p>;
  const isCut = read.size > TEXT_MOST;
  return (
    <div class="file-text" data-testid="file-text">
      {kind === "markdown" && <Markdown text={read.text} isStreaming={false} />}
      {kind === "csv" && <CsvRows text={read.text} />}
      {kind === "text" && <Lines text={read.text} language={languageOfFile(path)} />}
      {isCut && <p class="quiet">{t("fileCut", { size: sizeText(TEXT_MOST) })}</p>}
    </div>
  );
}

function Lines({ text, language }: { text: string; language: string }) {
  const lines = text.split("\n", LINES_MOST + 1);
  const shown = lines.length > LINES_MOST ? lines.slice(0, LINES_MOST).join("\n") : text;
  return (
    <>
      <Code code={shown} language={language} />
      {shown !== text && <p class="quiet">{t("fileCut", { size: sizeText(shown.length) })}</p>}
    </>
  );
}

function CsvRows({ text }: { text: string }) {
  const { rows, isCut } = useMemo(() => csvTable(text, ROWS_MOST, CELLS_MOST), [text]);
  const [head = [], ...body] = rows;
  return (
    <div class="file-table" tabIndex={0} role="group" aria-label={t("table")}>
      <table dir="auto" data-testid="file-table">
        <thead>
          <tr>
            {head.map((cell, place) => (
              <th key={place} scope="col" dir="auto">
                {cell}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {body.map((row, place) => (
            <tr key={place}>
              {row.map((cell, column) => (
                <td key={column} dir="auto">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {isCut && <p class="quiet">{t("tableCut")}</p>}
    </div>
  );
}

/** Files in a draft, and files that came with a message. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Attachment } from "../core/index.ts";
import type { DraftFile, DraftFiles } from "./draft-files.ts";
import { Icon } from "./icons.tsx";
import { useConversation, usePage } from "./page.ts";
import { language, t } from "./preferences.ts";

/** The files of the draft, with what can be done about each. */
export function DraftFileList({ files }: { files: DraftFiles }) {
  void files.version.value;
  if (files.files.length === 0) return null;
  return (
    <ul class="attachments" aria-label={t("attachments")} data-testid="attachments">
      {files.files.map((file) => (
        <DraftFileView key={file.id} file={file} files={files} />
      ))}
    </ul>
  );
}

function DraftFileView({ file, files }: { file: DraftFile; files: DraftFiles }) {
  const { id, name, size, attachment, sent, problem, preview } = file;
  const isArriving = attachment === null && problem === null;
  const state = problem !== null ? "failed" : attachment === null ? "arriving" : "done";
  return (
    <li class={`attachment is-${state}`} data-testid="attachment" data-state={state}>
      <Thumbnail src={preview} />
      <span class="attachment-words">
        <span class="attachment-name" dir="auto" title={name}>
          {name}
        </span>
        {isArriving ? (
          <progress max={Math.max(size, 1)} value={sent} aria-label={t("attachmentUploading", { name })} />
        ) : (
          <span class="attachment-note" role={problem === null ? undefined : "alert"} dir="auto">
            {problem ?? sizeWords(size)}
          </span>
        )}
      </span>
      {problem !== null && (
        <button
          type="button"
          class="link"
          data-testid="attachment-retry"
          aria-label={t("attachmentRetry", { name })}
          onClick={() => files.retry(id)}
        >
          {t("retry")}
        </button>
      )}
      <button
        type="button"
        class="quiet-button"
        data-testid="attachment-remove"
        aria-label={t(isArriving ? "attachmentCancel" : "attachmentRemove", { name })}
        onClick={() => files.remove(id)}
      >
        <Icon name="close" />
      </button>
    </li>
  );
}

function Thumbnail({ src }: { src: string | null }) {
  const [failed, setFailed] = useState<string | null>(null);
  if (src === null || src === failed) return <Icon name="read" class="attachment-icon" />;
  return <img class="attachment-thumb" src={src} alt="" loading="lazy" onError={() => setFailed(src)} />;
}

/** The files that came with a message. Who reads by a link sees their names. */
export function AttachedFiles({ files }: { files: readonly Attachment[] }) {
  const page = usePage();
  const { sessionId, isGuest } = useConversation();
  return (
    <ul class="attachments sent" aria-label={t("attachments")} data-testid="sent-attachments">
      {files.map((file) => {
        const url = isGuest ? null : page.api.uploadUrl(sessionId, file.path);
        return <AttachedFile key={file.path} file={file} url={url} />;
      })}
    </ul>
  );
}

const IMAGE = /^image\/(png|jpeg|gif|webp)$/;

function AttachedFile({ file, url }: { file: Attachment; url: string | null }) {
  const isImage = IMAGE.test(file.media_type);
  const words = (
    <>
      <Thumbnail src={isImage ? url : null} />
      <span class="attachment-words">
        <span class="attachment-name" dir="auto" title={file.path}>
          {file.name}
        </span>
        <span class="attachment-note">{sizeWords(file.size)}</span>
      </span>
    </>
  );
  return (
    <li class="attachment is-done" data-testid="sent-attachment">
      {url === null ? (
        <span class="attachment-link">{words}</span>
      ) : (
        <a class="attachment-link" href={url} target="_blank" rel="noopener" {...(!isImage && { download: file.name })}>
          {words}
        </a>
      )}
    </li>
  );
}

/** The button that picks files. */
export function AttachButton({ files }: { files: DraftFiles }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button
        type="button"
        class="icon-button attach"
        data-testid="attach"
        aria-label={t("attach")}
        title={t("attach")}
        onClick={() => input.current?.click()}
      >
        <Icon name="attach" />
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        data-testid="attach-input"
        onChange={(event) => {
          files.add(event.currentTarget.files ?? []);
          event.currentTarget.value = "";
        }}
      />
    </>
  );
}

/** The whole page takes files that are dropped, and says so while they hover. */
export function DropTarget({ files }: { files: DraftFiles }) {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    const move = (step: number) => (event: DragEvent): void => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth + step);
      setOver(depth > 0);
    };
    const enter = move(1);
    const leave = move(-1);
    const over = (event: DragEvent): void => {
      if (hasFiles(event)) event.preventDefault();
    };
    const drop = (event: DragEvent): void => {
      depth = 0;
      setOver(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      files.add(event.dataTransfer?.files ?? []);
    };
    const heard = { dragenter: enter, dragleave: leave, dragover: over, drop };
    for (const [name, act] of Object.entries(heard)) document.addEventListener(name, act as EventListener);
    return () => {
      for (const [name, act] of Object.entries(heard)) document.removeEventListener(name, act as EventListener);
    };
  }, [files]);
  if (!isOver) return null;
  return (
    <div class="drop-target" data-testid="drop-target" role="status">
      <Icon name="attach" />
      {t("dropHere")}
    </div>
  );
}

/** The files that were pasted, if the clipboard has files and no text: a table of a spreadsheet has both. */
export function pastedFiles(event: ClipboardEvent): File[] {
  const data = event.clipboardData;
  if (!data || data.types.includes("text/plain")) return [];
  return [...data.files];
}

export function sizeWords(size: number): string {
  const [amount, unit] = size < 1000 ? [size, "byte"] : size < 1e6 ? [size / 1e3, "kilobyte"] : [size / 1e6, "megabyte"];
  const style = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: amount < 10 ? 1 : 0 } as const;
  return new Intl.NumberFormat(language.value, style).format(amount);
}

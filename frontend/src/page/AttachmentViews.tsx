/** Files in a draft, and files that came with a message. */

import "./attachments.css";
import { useState } from "preact/hooks";
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

export function sizeWords(size: number): string {
  const [amount, unit] = size < 1000 ? [size, "byte"] : size < 1e6 ? [size / 1e3, "kilobyte"] : [size / 1e6, "megabyte"];
  const style = { style: "unit", unit, unitDisplay: unit === "byte" ? "long" : "short", maximumFractionDigits: amount < 10 ? 1 : 0 } as const;
  return new Intl.NumberFormat(language.value, style).format(amount);
}

export function DropHere() {
  return (
    <div class="drop-target" data-testid="drop-target" role="status">
      <Icon name="attach" />
      {t("dropHere")}
    </div>
  );
}

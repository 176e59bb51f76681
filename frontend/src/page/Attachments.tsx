/** How files come into a draft; how they look there and in a message is fetched when there are some. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { DraftFiles } from "./draft-files.ts";
import { Icon } from "./icons.tsx";
import { lazily } from "./lazy.tsx";
import { t } from "./preferences.ts";

export const AttachedFiles = lazily(() => import("./AttachmentViews.tsx").then((loaded) => loaded.AttachedFiles));
const DropHere = lazily(() => import("./AttachmentViews.tsx").then((loaded) => loaded.DropHere));
export const DraftFileList = lazily(() => import("./AttachmentViews.tsx").then((loaded) => loaded.DraftFileList));

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
  return <DropHere />;
}

/** The files that were pasted, if the clipboard has files and no text: a table of a spreadsheet has both. */
export function pastedFiles(event: ClipboardEvent): File[] {
  const data = event.clipboardData;
  if (!data || data.types.includes("text/plain")) return [];
  return [...data.files];
}

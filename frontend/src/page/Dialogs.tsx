import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { t } from "./preferences.ts";

interface DialogProps {
  title: string;
  close(): void;
  children: ComponentChildren;
}

/** A modal dialog: the browser keeps the focus inside, Esc closes, the focus returns to where it was. */
export function Dialog({ title, close, children }: DialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    box.current?.showModal();
  }, []);
  return (
    <dialog
      ref={box}
      class="dialog"
      aria-label={title}
      onClose={close}
      onKeyDown={(event) => event.key === "Escape" && event.stopPropagation()}
      onClick={(event) => event.target === box.current && box.current?.close()}
    >
      <div class="dialog-inner">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

/** The one verb of a dialog that only shows. */
export function DialogClose({ close, isFocused = false }: { close(): void; isFocused?: boolean }) {
  return (
    <div class="dialog-verbs">
      <button type="button" class="button" autofocus={isFocused} onClick={close}>
        {t("close")}
      </button>
    </div>
  );
}

import "./dialogs.css";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { t } from "./preferences.ts";

interface DialogProps {
  title: string;
  /** A class for a look of its own. */
  look?: string;
  close(): void;
  children: ComponentChildren;
}

/** A modal dialog: the browser keeps the focus inside, Esc closes, the focus returns to where it was. */
export function Dialog({ title, look = "", close, children }: DialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  // At once, so that no key falls between the dialog's being there and its being modal.
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog?.showModal();
    // Closed before it is taken away: only then does the browser give the focus back.
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={box}
      class={`dialog ${look}`}
      aria-label={title}
      // Not for a dialog that was taken away: another one may stand in its place by now.
      onClose={() => box.current && close()}
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

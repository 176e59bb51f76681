import "./acting.css";
import { type DeedWord, w } from "./deed-words.ts";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { keysIn } from "./key-names.ts";
import { shortcuts } from "./keys.ts";
import { enter } from "./preferences.ts";

/** All shortcuts on one sheet. */
export function ShortcutSheet({ close }: { close(): void }) {
  const isLine = enter.value === "line";
  const rows: [DeedWord, string][] = [
    ["sendKey", isLine ? keysIn("mod+enter") : "Enter"],
    ["lineKey", isLine ? "Enter" : keysIn("shift+enter")],
    ["historyKey", "↑"],
    ["stopKey", "Esc"],
    ["answerKey", "1 – 9"],
    ...Object.entries(shortcuts.value)
      .filter(([, keys]) => keys !== "")
      .map(([name, keys]): [DeedWord, string] => [name as DeedWord, keysIn(keys)]),
  ];
  return (
    <Dialog title={w("shortcuts")} close={close}>
      <table class="shortcut-sheet" data-testid="shortcut-sheet">
        <tbody>
          {rows.map(([word, keys]) => (
            <tr key={word}>
              <th scope="row">{w(word)}</th>
              <td>
                <kbd dir="ltr">{keys}</kbd>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <DialogClose close={close} isFocused />
    </Dialog>
  );
}

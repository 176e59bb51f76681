import "./acting.css";
import { type DeedWord, w } from "./deed-words.ts";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { keysIn } from "./key-names.ts";
import { shortcuts } from "./keys.ts";
import { enter } from "./preferences.ts";

/** All shortcuts on one sheet. */
export function ShortcutSheet({ close }: { close(): void }) {
  const isLine = enter.value === "line";
  const rows = new Map<string, string[]>([
    [w("sendKey"), [isLine ? keysIn("mod+enter") : "Enter"]],
    [w("lineKey"), [isLine ? "Enter" : keysIn("shift+enter")]],
    [w("historyKey"), ["↑"]],
    [w("stopKey"), ["Esc"]],
    [w("answerKey"), ["1 – 9"]],
  ]);
  // What two shortcuts do is one row with both.
  for (const [name, keys] of Object.entries(shortcuts.value))
    if (keys !== "") rows.set(w(name as DeedWord), [...(rows.get(w(name as DeedWord)) ?? []), keysIn(keys)]);
  return (
    <Dialog title={w("shortcuts")} close={close}>
      <table class="shortcut-sheet" data-testid="shortcut-sheet">
        <tbody>
          {[...rows].map(([words, all]) => (
            <tr key={words}>
              <th scope="row">{words}</th>
              <td>
                {all.map((keys) => (
                  <kbd key={keys} dir="ltr">
                    {keys}
                  </kbd>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <DialogClose close={close} isFocused />
    </Dialog>
  );
}

/**
 * What is typed while the field that it is meant for is being fetched.
 *
 * Guarantees: nothing of it reaches another field; it stops with `typedMeanwhile`, with Escape, once it is
 * not wanted, or after HELD_MS.
 */

/** Code that has not come by then has failed, or the network is very slow. */
const HELD_MS = 10_000;

let held = "";
let stop = (): void => {};

/** From here on what is typed is kept, while it is wanted. */
export function holdTyping(isWanted: () => boolean): void {
  stop();
  held = "";
  const keep = (event: KeyboardEvent): void => {
    if (event.key === "Escape" || !isWanted()) return stop();
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key.length === 1) held += event.key;
    else if (event.key === "Backspace") held = held.slice(0, -1);
    else if (event.key !== "Enter") return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  window.addEventListener("keydown", keep, true);
  const timer = setTimeout(() => stop(), HELD_MS);
  stop = () => {
    window.removeEventListener("keydown", keep, true);
    clearTimeout(timer);
    stop = () => {};
  };
}

/** The field is here: what was typed meanwhile, once. */
export function typedMeanwhile(): string {
  stop();
  const typed = held;
  held = "";
  return typed;
}

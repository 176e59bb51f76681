/** Elements without a framework. */

type Props<K extends keyof HTMLElementTagNameMap> = Partial<Omit<HTMLElementTagNameMap[K], "dataset">>;

export function make<K extends keyof HTMLElementTagNameMap>(
  name: K, props: Props<K> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(name), props);
  made.append(...children);
  return made;
}

export function press(text: string, act: () => unknown, className = "button"): HTMLButtonElement {
  const button = make("button", { type: "button", className }, text);
  button.addEventListener("click", () => void act());
  return button;
}

import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons.tsx";

interface MenuProps {
  id: string;
  /** What the menu is called. */
  label: string;
  /** The button that opens it. */
  button: { class: string; label: string; testId: string; children: ComponentChildren };
  children: ComponentChildren;
}

/** A button and the menu that it opens, beside it wherever there is room; arrows walk, Esc closes. */
export function Menu({ id, label, button, children }: MenuProps) {
  const menu = useRef<HTMLDivElement>(null);
  const anchor = useRef<HTMLButtonElement>(null);
  const open = (): void => {
    if (menu.current && anchor.current) show(menu.current, anchor.current);
  };
  return (
    <>
      <button
        ref={anchor}
        type="button"
        class={button.class}
        data-testid={button.testId}
        aria-haspopup="menu"
        aria-controls={id}
        aria-label={button.label}
        onClick={open}
      >
        {button.children}
      </button>
      <div
        id={id}
        ref={menu}
        class="menu"
        popover="auto"
        role="menu"
        aria-label={label}
        onKeyDown={(event) => walk(event, menu.current)}
        onClick={() => menu.current?.hidePopover()}
      >
        {children}
      </div>
    </>
  );
}

interface MenuItemProps {
  icon: IconName;
  label: string;
  testId: string;
  isDanger?: boolean;
  run(): void;
}

export function MenuItem({ icon, label, testId, isDanger = false, run }: MenuItemProps) {
  return (
    <button type="button" role="menuitem" class={isDanger ? "is-danger" : ""} data-testid={testId} onClick={run}>
      <Icon name={icon} />
      {label}
    </button>
  );
}

function show(menu: HTMLElement, anchor: HTMLElement): void {
  menu.showPopover();
  const at = anchor.getBoundingClientRect();
  const isRtl = document.documentElement.dir === "rtl";
  const left = isRtl ? at.left : at.right - menu.offsetWidth;
  menu.style.left = `${Math.max(8, Math.min(left, innerWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${Math.min(at.bottom + 4, innerHeight - menu.offsetHeight - 8)}px`;
  menu.querySelector("button")?.focus();
}

function walk(event: KeyboardEvent, menu: HTMLElement | null): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!menu || step === undefined) return;
  event.preventDefault();
  const buttons = [...menu.querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
  buttons[(at + step + buttons.length) % buttons.length]?.focus();
}

/** The page's icons: 24 × 24 outlines in the colour of the text beside them. */

import { brand } from "./brand.ts";

const paths = {
  menu: "M4 7h16M4 12h16M4 17h10",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1",
  moon: "M20 14.2A8 8 0 0 1 9.8 4a8 8 0 1 0 10.2 10.2z",
  globe:
    "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM3.5 12h17M12 3.5c2.4 2.3 3.6 5.1 3.6 8.5s-1.2 6.2-3.6 8.5c-2.4-2.3-3.6-5.1-3.6-8.5S9.6 5.800 12 3.500z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.500l4.500 4.500L19 7.500",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M9 6l6 6-6 6",
  read: "M6 3.500h8l4 4v13H6zM14 3.500v4h4M9 12h6M9 16h6",
  folder: "M3.500 6.500h6l2 2.500h9v10h-17z",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  delete: "M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13",
  move: "M5 12h13M13 7l5 5-5 5",
  command: "M9 6a3 3 0 1 0-3 3h12a3 3 0 1 0-3-3v12a3 3 0 1 0 3-3H6a3 3 0 1 0 3 3z",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM15.500 15.500L20 20",
  execute: "M4 5h16v14H4zM7.500 9.500l2.500 2.500-2.500 2.500M13 15h3.500",
  think:
    "M9 18h6M10 21h4M12 3a6 6 0 0 0-3.500 10.900c.6.500 1 1.100 1 1.900v.2h5v-.2c0-.8.4-1.400 1-1.900A6 6 0 0 0 12 3z",
  fetch: "M12 4v11M7 10l5 5 5-5M5 20h14",
  attach:
    "M18.500 11.500l-6.700 6.700a4.200 4.200 0 0 1-6-6L13 5a2.800 2.800 0 0 1 4 4l-7 7a1.400 1.400 0 0 1-2-2l6.300-6.300",
  other:
    "M14.500 6.500a3.500 3.500 0 0 0 4.600 4.600L11 19.200a2.300 2.300 0 0 1-3.300 0l-1-1a2.300 2.300 0 0 1 0-3.300z",
  shield: "M12 3.500l7 2.500v5.500c0 4.300-2.900 7.500-7 9-4.100-1.500-7-4.700-7-9V6zM12 8.500v4M12 15.800h.01",
  list: "M9 6.500h11M9 12h11M9 17.500h11M4.500 6.500h.01M4.500 12h.01M4.500 17.500h.01",
  warn: "M12 4l9 16H3zM12 10v4.500M12 17.300h.01",
  wallet: "M4 7.500h15v12H4zM4 7.500l11-3.500v3.500M15.500 13.500h.01",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.300l2.800 1.700",
  link: "M10 14l4-4M8.500 11.500l-2.300 2.300a3 3 0 0 0 4.200 4.200l2.300-2.300M15.500 12.500l2.300-2.300a3 3 0 0 0-4.200-4.200l-2.300 2.300",
  person: "M12 4.500a3.700 3.700 0 1 0 0 7.400 3.700 3.700 0 0 0 0-7.400zM4.800 20a7.200 7.200 0 0 1 14.400 0",
  key: "M8 12a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM10.500 13l8-8M15.500 8l2.500 2.500M13 10.500l2 2",
  leave: "M14 4H6v16h8M10.500 12H20M16.500 8.500L20 12l-3.500 3.500",
  branch: "M7 4.500v15M7 14c0-4 10-3 10-8M17 6.500l-2.500 2.500M17 6.500l2.500 2.500",
  undo: "M8 5L4 9l4 4M4 9h10a5.500 5.500 0 0 1 0 11h-4",
  again: "M19.500 12a7.500 7.500 0 1 1-2.200-5.300L19.500 9M19.500 4.500V9H15",
  pin: "M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v5",
  archive: "M4 5h16v4H4zM5.500 9v10h13V9M10 13h4",
  tag: "M4 5h8l8 8-7 7-9-9zM8.500 9h.01",
  settings:
    "M16 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM8 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM4 7h10M18 7h2M4 17h2M10 17h10",
  up: "M12 19V6M6 12l6-6 6 6",
  export: "M12 15V4M7.500 8L12 3.500 16.500 8M5 14v6h14v-6",
  columns: "M4 5h16v14H4zM12 5v14",
  wrap: "M4 6h16M4 12h12.500a3 3 0 0 1 0 6H12M14 15.500L11.500 18l2.500 2.500M4 18h4",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, class: extra = "" }: { name: IconName; class?: string }) {
  return <Glyph path={paths[name]} class={extra} />;
}

/** An icon by its path, for an application that has one of its own. */
export function Glyph({ path, class: extra = "" }: { path: string; class?: string }) {
  return (
    <svg class={`icon ${extra}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={path} />
    </svg>
  );
}

export function iconOf(toolKind: string | undefined): IconName {
  return toolKind !== undefined && toolKind in paths ? (toolKind as IconName) : "other";
}

/** The operator's logo, or the page's own. */
export function Logo() {
  const { logo } = brand.value;
  if (logo !== undefined) return <img class="logo-own" src={logo} alt="" data-testid="logo" />;
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect class="logo-ground" width="32" height="32" rx="9" />
      <path class="logo-outer" d="M7.500 24.500V15a8.500 8.500 0 0 1 17 0v9.500" />
      <path class="logo-inner" d="M13 24.500V16a3 3 0 0 1 6 0v8.500" />
    </svg>
  );
}

/** What the views of the panel of files share. */

import { useEffect, useState } from "preact/hooks";
import type { FileTree } from "../core/index.ts";
import { language } from "./preferences.ts";

/** Draws the component again whenever the tree changed. */
export function useTree(tree: FileTree): void {
  const [, draw] = useState(0);
  useEffect(() => tree.subscribe(() => draw((times) => times + 1)), [tree]);
}

/** A name without what would turn its text round or break its line. */
export function plain(name: string): string {
  return name.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd");
}

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

export function sizeText(bytes: number): string {
  const step = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const unitDisplay = step === 0 ? "long" : "short";
  const format = { style: "unit", unit: UNITS[step] ?? "byte", unitDisplay, maximumFractionDigits: 1 } as const;
  return new Intl.NumberFormat(language.value, format).format(bytes / 1000 ** step);
}

/** The texts of the operators' page; loaded with it. */

import { gatewayNow } from "../core/index.ts";
import { language, textsOf } from "../page/index.ts";
import { english } from "./english.ts";
import { hebrew } from "./hebrew.ts";

export type { Word } from "./english.ts";

export const w = textsOf({ en: english, he: hebrew });

/** A number as people of this language read it. */
export function number(value: number): string {
  return new Intl.NumberFormat(language.value, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}

/** Bytes in the unit that fits. */
export function size(bytes: number): string {
  const unit = bytes < 1e6 ? (["kilobyte", 1e3] as const) : bytes < 1e9 ? (["megabyte", 1e6] as const) : (["gigabyte", 1e9] as const);
  const digits = { maximumFractionDigits: bytes / unit[1] < 10 ? 1 : 0 };
  return new Intl.NumberFormat(language.value, { style: "unit", unit: unit[0], ...digits }).format(bytes / unit[1]);
}

const SPANS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
] as const;

/** Seconds as the two largest units: 3 days 4 hr. */
export function span(seconds: number): string {
  const first = Math.max(0, SPANS.findIndex(([, length]) => seconds >= length));
  const parts = seconds < 1 ? [["second", 1] as const] : SPANS.slice(first, first + 2);
  let left = Math.round(seconds);
  return parts
    .map(([unit, length]) => {
      const count = Math.floor(left / length);
      left -= count * length;
      return { unit, count };
    })
    .filter(({ count }, index) => count > 0 || index === 0)
    .map(({ unit, count }) =>
      new Intl.NumberFormat(language.value, { style: "unit", unit, unitDisplay: "short" }).format(count),
    )
    .join(" ");
}

/** A moment in the reader's own time: the time of day, with the date if it is not today's. */
export function moment(at: string | number): string {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date(gatewayNow()).toDateString();
  const day = isToday ? {} : ({ month: "short", day: "numeric" } as const);
  return date.toLocaleString(language.value, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", ...day });
}

/** How long something took, in the reader's language. */

import { language } from "./preferences.ts";

export function durationText(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  const unit = (value: number, name: "second" | "minute" | "hour"): string =>
    new Intl.NumberFormat(language.value, { style: "unit", unit: name, unitDisplay: "narrow" }).format(value);
  if (whole < 60) return unit(whole, "second");
  if (whole < 3_600) return `${unit(Math.floor(whole / 60), "minute")} ${unit(whole % 60, "second")}`;
  return `${unit(Math.floor(whole / 3_600), "hour")} ${unit(Math.floor((whole % 3_600) / 60), "minute")}`;
}

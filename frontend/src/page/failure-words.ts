/**
 * Why a turn failed, by its code, in other languages than English: the gateway's own words are English, and say more.
 * What has no words here is said in the gateway's.
 */

import type { Failure, Language } from "../core/index.ts";

const he: Record<string, string> = {
  agent_error: "הסוכן נכשל.",
  auth_required: "הסוכן מבקש פרטי גישה.",
  budget_reached: "התקציב למודלים נוצל.",
  closed: "השיחה נסגרה לפני שהתשובה הושלמה.",
  crash_loop: "הסוכן נפל כמה פעמים ברצף, ולכן אינו מופעל כרגע. נסו שוב בעוד רגע.",
  exited: "הסוכן נסגר באמצע העבודה.",
  forkserver_lost: "הסוכן הופסק בגלל תקלה בשרת. נסו שוב.",
  gateway_restarted: "השרת הופעל מחדש לפני שהתשובה הושלמה.",
  interrupt_timeout: "הסוכן לא נעצר כשהתבקש, ולכן הופסק.",
  lease_lost: "השיחה עברה לשרת אחר לפני שהתשובה הושלמה.",
  killed: "מי שמפעיל את השרת עצר את הסוכן.",
  limit_exceeded: "הסוכן חרג ממה שמותר לו, ולכן הופסק.",
  model_failed: "המודל נכשל.",
  model_rate_limited: "המודל עמוס כרגע. נסו שוב עוד מעט.",
  model_request_refused: "המודל סירב לבקשה.",
  model_stream_cut: "תשובת המודל נקטעה באמצע.",
  model_unauthorized: "המודל דחה את המפתח.",
  model_unreachable: "אי אפשר להגיע למודל כרגע.",
  start_failed: "הסוכן לא הצליח להתחיל.",
  store_failed: "השרת לא הצליח לשמור, ולכן התשובה הופסקה.",
  turn_timeout: "התשובה ארכה יותר מהמותר, ולכן הסוכן הופסק.",
  wire_error: "הסוכן שלח משהו שאי אפשר לקרוא, ולכן הופסק.",
};

/** Of these the gateway says no more than the page, in words that are always the same. */
const SENTENCES: Record<string, string> = {
  "The gateway was restarted before the answer was complete.": "gateway_restarted",
  "The session ended before the answer was complete.": "closed",
  "The agent did not stop when asked and was ended.": "interrupt_timeout",
};

/** The words of a failure, and the gateway's own beside them if those may say more. */
export function failureWords({ code, message }: Failure, language: Language): { words: string; also: string | null } {
  const known = language === "he" && Object.hasOwn(he, code) ? he[code] : undefined;
  if (known === undefined) return { words: message, also: null };
  return { words: known, also: Object.hasOwn(SENTENCES, message) ? null : message };
}

/** A line of the log that tells of a failure, which has no code; null if its words are not known. */
export function failureLine(text: string, language: Language): string | null {
  const code = Object.hasOwn(SENTENCES, text) ? SENTENCES[text] : undefined;
  return code === undefined || language !== "he" ? null : (he[code] ?? null);
}

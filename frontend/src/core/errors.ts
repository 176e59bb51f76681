/** What the gateway answered instead of a result, and the words for it in the reader's language. */

import type { Key } from "./english.ts";
import type { QuotaUse } from "./events.ts";
import { isKey, type Language, translate } from "./i18n.ts";

/** What the gateway (or the network, with status 0 and code `unreachable`) answered instead of a result. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | null = null,
    readonly retryAfterMs: number | null = null,
    readonly limit: QuotaUse | null = null,
  ) {
    super(message);
  }
}

const KEYS: Partial<Record<string, Key>> = {
  unreachable: "errorUnreachable",
  rate_limited: "errorBusy",
  too_many_streams: "errorBusy",
  forbidden: "errorForbidden",
  tenant_disabled: "errorTenant",
  person_disabled: "errorPerson",
  share_not_found: "sharedGone",
  file_too_large: "errorFileTooLarge",
  file_type_refused: "errorFileType",
  session_disk_full: "errorFilesFull",
  attachment_refused: "errorAttachment",
};

/** Of these the gateway says more than the page, in English. */
const SAID_MORE = new Set(["file_too_large", "file_type_refused", "session_disk_full", "attachment_refused"]);

/** Why something did not succeed, and when to try again; the gateway's own words if this page has none. */
export function wordsOf(error: ApiError, language: Language): string {
  const key = language === "en" && SAID_MORE.has(error.code) ? undefined : KEYS[error.code];
  const quota = error.limit && quotaWords(error.limit, "quotaOver", language);
  const why = quota ?? (key ? translate(language, key) : error.message);
  if (error.retryAfterMs === null) return why;
  return `${why} ${translate(language, "again", { when: inTime(error.retryAfterMs, language) })}`;
}

/** A quota in words; null for one that has none here. */
export function quotaWords(quota: QuotaUse, key: "quotaOver" | "quotaNear", language: Language): string | null {
  const [whose, what] = quota.limit.split(".");
  const [owner, amount] = [`quota_${whose}`, `limit_${what}`];
  if (!isKey(owner) || !isKey(amount)) return null;
  const format = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  return translate(language, key, {
    whose: translate(language, owner),
    what: translate(language, amount),
    used: format.format(quota.used),
    allowed: format.format(quota.allowed),
  });
}

/** „in 40 seconds”, „in 3 hours”. */
export function inTime(milliseconds: number, language: Language): string {
  const format = new Intl.RelativeTimeFormat(language, { numeric: "always" });
  const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
  if (seconds < 100) return format.format(seconds, "second");
  if (seconds < 100 * 60) return format.format(Math.ceil(seconds / 60), "minute");
  return format.format(Math.ceil(seconds / 3600), "hour");
}

/** What people are called. */

import type { Contributor, Participant } from "../core/index.ts";
import { t } from "./preferences.ts";

/** Somebody's name; without an author it is the owner. A name that was typed is marked as a guest's. */
export function nameOf(author: Contributor | undefined): string {
  if (author === undefined) return t("owner");
  return author.kind === "guest" ? t("guestNamed", { name: author.name }) : author.name;
}

/** The same of somebody who follows the session. */
export function participantName({ kind, name }: Participant): string {
  if (kind === "owner") return t("owner");
  if (name === "") return t("someone");
  return kind === "guest" ? t("guestNamed", { name }) : name;
}

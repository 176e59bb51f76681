/** Who follows the session now: nothing while no one but the owner does. */

import { useEffect, useRef } from "preact/hooks";
import type { Participant } from "../core/index.ts";
import { Icon } from "./icons.tsx";
import { useConversation, useLink, usePage } from "./page.ts";
import { participantName } from "./people.ts";
import { t } from "./preferences.ts";

/** More are counted. */
const SHOWN = 6;

export function People() {
  const { present } = useConversation();
  const link = useLink();
  const isMe = (one: Participant): boolean =>
    link === null || link.isOwner ? one.kind === "owner" : one.person_id === link.you?.author_id;
  useComings(present?.people ?? [], isMe);
  if (present === null) return null;
  const shown = present.people.slice(0, SHOWN);
  const more = present.count - shown.length;
  return (
    <section class="people" data-testid="people" aria-label={t("people")}>
      <ul>
      {shown.map((one) => (
        <li key={one.person_id} class={`person is-${one.kind}`} data-testid="person" title={t(allows(one))}>
          <Icon name={one.link === "view" ? "read" : "person"} />
          <bdi>{participantName(one)}</bdi>
          {isMe(one) && <span class="quiet"> ({t("you")})</span>}
        </li>
      ))}
      {more > 0 && (
        <li class="person" data-testid="people-more">
          {t("peopleMore", { n: more })}
        </li>
      )}
      </ul>
    </section>
  );
}

function allows({ link }: Participant) {
  if (link === "approve") return "sharedApprove";
  if (link === "drive") return "sharedDrive";
  return link === "view" ? "shared" : "owner";
}

/** Says who comes and who goes, once it is known who was there. */
function useComings(people: readonly Participant[], isMe: (one: Participant) => boolean): void {
  const page = usePage();
  const before = useRef<Map<string, Participant> | null>(null);
  useEffect(() => {
    const now = new Map(people.map((one) => [one.person_id, one]));
    const known = before.current;
    before.current = now;
    if (known === null || known.size === 0 || now.size === 0) return;
    const come = people.find((one) => !known.has(one.person_id) && !isMe(one));
    const gone = [...known.values()].find((one) => !now.has(one.person_id) && !isMe(one));
    if (come) page.say(t("personCame", { name: participantName(come) }));
    else if (gone) page.say(t("personLeft", { name: participantName(gone) }));
  }, [people.map((one) => one.person_id).join(" ")]);
}

import { useEffect, useState } from "preact/hooks";
import type { Api, PeopleList, PersonSummary } from "../core/index.ts";
import { dollars, language } from "../page/index.ts";
import { Heads } from "./Heads.tsx";
import { w } from "./words.ts";

/** People with what they use today and the names of their own keys; empty for operators who may not see them. */
export function PeopleTable({ api }: { api: Api }) {
  const [list, setList] = useState<PeopleList | null>(null);
  useEffect(() => {
    let isCurrent = true;
    api.people().then(
      (answer) => isCurrent && setList(answer),
      () => isCurrent && setList(null),
    );
    return () => {
      isCurrent = false;
    };
  }, [api]);
  if (!list || list.people.length === 0) return null;
  return (
    <div class="table-box">
      <table class="ops-table" data-testid="people">
        <caption>
          {w("people")} {list.has_more && <span class="quiet">({w("peopleMore")})</span>}
        </caption>
        <Heads
          words={[
            "person", "tenant", "state", "sessions", "messagesToday", "tokensToday", "costToday", "keys", "ownKeys", "lastUsed",
          ]}
        />
        <tbody>
          {list.people.map((person) => (
            <PersonRow key={`${person.tenant}/${person.subject}`} person={person} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function PersonRow({ person }: { person: PersonSummary }) {
  const format = new Intl.NumberFormat(language.value);
  return (
    <tr>
      <th scope="row" dir="auto">
        {person.subject}
      </th>
      <td dir="auto">{person.tenant}</td>
      <td>{w(person.is_disabled ? "disabled" : "enabled")}</td>
      <td class="number">{format.format(person.sessions_stored)}</td>
      <td class="number">{format.format(person.messages)}</td>
      <td class="number">{format.format(person.tokens)}</td>
      <td class="number" dir="ltr">
        {dollars(person.cost_usd)}
      </td>
      <td class="number">{format.format(person.keys)}</td>
      <td dir="auto">{person.own_keys.join(", ") || "–"}</td>
      <td dir="ltr">{person.last_used_at ? day(person.last_used_at) : "–"}</td>
    </tr>
  );
}

function day(at: string): string {
  return new Date(at).toLocaleDateString(language.value);
}

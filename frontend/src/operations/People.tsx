import { useState } from "preact/hooks";
import type { Api, PersonSummary } from "../core/index.ts";
import { dollars, language } from "../page/index.ts";
import { switchPerson } from "./admin.ts";
import type { AskFor } from "./Deeds.tsx";
import { Heads } from "./Heads.tsx";
import { Limits } from "./Limits.tsx";
import { useLoaded } from "./loaded.ts";
import { number, w } from "./words.ts";

/** People with their limits and what they use today; nothing for operators who may not see them. */
export function PeopleTable({ api, ask }: { api: Api; ask: AskFor }) {
  const { value: list, again } = useLoaded(() => api.people(), [api]);
  const [words, setWords] = useState("");
  if (!list || list.people.length === 0) return null;
  const wanted = words.toLocaleLowerCase();
  const found = list.people.filter((one) => `${one.tenant}/${one.subject}`.toLocaleLowerCase().includes(wanted));
  return (
    <div class="table-box" id="ops-people">
      <div class="ops-filters">
        <input
          class="field"
          type="search"
          dir="auto"
          data-testid="people-search"
          aria-label={w("filterPeople")}
          placeholder={w("filterPeople")}
          value={words}
          onInput={(event) => setWords(event.currentTarget.value)}
        />
      </div>
      <table class="ops-table" data-testid="people">
        <caption>
          {w("people")} {list.has_more && <span class="quiet">({w("peopleMore")})</span>}
        </caption>
        <Heads
          words={[
            ...(["person", "tenant", "state", "sessions", "messagesToday", "tokensToday", "costToday", "limits"] as const),
            ...(["keys", "ownKeys", "lastUsed", "actions"] as const),
          ]}
        />
        <tbody>
          {found.map((person) => (
            <PersonRow key={`${person.tenant}/${person.subject}`} api={api} person={person} ask={ask} again={again} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function PersonRow(props: { api: Api; person: PersonSummary; ask: AskFor; again(): void }) {
  const { api, person, ask, again } = props;
  const who = `${person.tenant}/${person.subject}`;
  const how = person.is_disabled ? "enable" : "disable";
  const change = (): void =>
    ask({
      title: w(`${how}Title`),
      text: w(`${how}Text`, { who }),
      verb: w(how),
      isHarmless: how === "enable",
      act: async () => {
        await switchPerson(api, person, how);
        again();
        return w(how === "disable" ? "personDisabled" : "personEnabled", { who });
      },
    });
  return (
    <tr data-testid="person-row">
      <th scope="row" dir="auto">
        {person.subject}
      </th>
      <td dir="auto">{person.tenant}</td>
      <td>{w(person.is_disabled ? "disabled" : "enabled")}</td>
      <td class="number">{number(person.sessions_stored)}</td>
      <td class="number">{number(person.messages)}</td>
      <td class="number">{number(person.tokens)}</td>
      <td class="number" dir="ltr">
        {dollars(person.cost_usd)}
      </td>
      <td>
        <Limits rows={person.limits ?? []} />
      </td>
      <td class="number">{number(person.keys)}</td>
      <td dir="auto">{person.own_keys.join(", ") || "–"}</td>
      <td dir="ltr">{person.last_used_at ? new Date(person.last_used_at).toLocaleDateString(language.value) : "–"}</td>
      <td class="verbs">
        <button type="button" class="button small" data-testid={how} aria-label={w(`${how}One`, { who })} onClick={change}>
          {w(how)}
        </button>
      </td>
    </tr>
  );
}

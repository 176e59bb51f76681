/** What a log says of the worker's connections: the same fold as EgressFold of gateway/events/fold.py. */

import type { EgressSnapshot, EventOf, GatewayEvent } from "./events.ts";
import type { EgressState, Outside } from "./wire.ts";

/** So many refused hosts are kept, the last ones. */
const DENIED_HOSTS = 100;

export type EgressEvent = EventOf<"egress_narrowed" | "egress_denied" | "egress_asked" | "egress_answered">;

const NOTHING: EgressSnapshot = { narrowed: null, denied: [], asked: [], answers: [] };

export function isEgress(event: GatewayEvent): event is EgressEvent {
  return event.type.startsWith("egress_");
}

export function egressAfter(before: EgressSnapshot | null, event: EgressEvent): EgressSnapshot {
  const egress = before ?? NOTHING;
  switch (event.type) {
    case "egress_narrowed":
      return { ...egress, narrowed: event.hosts };
    case "egress_denied": {
      const { host, port, why, count, at } = event;
      const others = egress.denied.filter((d) => d.host !== host || d.port !== port || d.why !== why);
      return { ...egress, denied: [...others, { host, port, why, count, at }].slice(-DENIED_HOSTS) };
    }
    case "egress_asked": {
      const { ask_id, host, port, at } = event;
      return { ...egress, asked: [...egress.asked, { ask_id, host, port, at }] };
    }
    case "egress_answered":
      return answered(egress, event);
  }
}

function answered(egress: EgressSnapshot, { ask_id, answer }: EventOf<"egress_answered">): EgressSnapshot {
  const question = egress.asked.find((one) => one.ask_id === ask_id);
  const asked = egress.asked.filter((one) => one !== question);
  if (!question || (answer !== "session" && answer !== "deny")) return { ...egress, asked };
  const { host, port } = question;
  const isNew = !egress.answers.some(([h, p]) => h === host && p === port);
  const answers = egress.answers.map((one): [string, number, boolean] =>
    one[0] === host && one[1] === port ? [host, port, answer === "session"] : one,
  );
  return { ...egress, asked, answers: isNew ? [...answers, [host, port, answer === "session"]] : answers };
}

/** What State shows of it; null if the reader is not told the worker's network. */
export function egressState(egress: EgressSnapshot | null, outside: Outside): EgressState | null {
  if (!outside.network) return null;
  const { narrowed, denied, asked } = egress ?? NOTHING;
  const hosts = outside.network === "broker" ? (narrowed ?? outside.hosts) : [];
  return { mode: outside.network, hosts, denied, asked };
}

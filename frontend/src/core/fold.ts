/** What an application folds of a session's log, beside the core's own state. Pure, like reduce.ts. */

import type { LogEvent } from "./events.ts";

export interface Fold<Value = unknown> {
  /** Its field of the snapshot: the gateway's fold of the same application puts the same value there. */
  readonly name: string;
  /** The types of the events that it takes in. */
  readonly types: readonly string[];
  /** The value before any event. */
  readonly initial: Value;
  /** The value after `event`; a new object if anything changed. */
  apply(value: Value, event: LogEvent): Value;
}

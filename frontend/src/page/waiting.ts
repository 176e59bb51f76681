/** How many conversations wait for the person; the browser's title says it. */

import { signal } from "@preact/signals";

export const waitingCount = signal(0);

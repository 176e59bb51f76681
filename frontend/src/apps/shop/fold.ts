/** How full a session's cart is. What is in it is asked for. */

import type { Fold, LogEvent } from "../../core/index.ts";
import type { CartChanged } from "./wire.ts";

export type CartFigures = Omit<CartChanged, "type">;

export const cartFold: Fold<CartFigures | null> = {
  name: "cart",
  types: ["cart"],
  initial: null,
  apply(_before, event) {
    const { lines, items, total } = event as LogEvent & CartChanged;
    return { lines, items, total };
  },
};

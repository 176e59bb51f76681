/** For parts that are drawn with Preact, as the page itself is. */

import { type FunctionComponent, h, render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Ending, PartPlace } from "./part.ts";

/** A component as a view of a part. */
export function drawnBy<Value>(component: FunctionComponent<{ place: PartPlace<Value> }>) {
  return (element: HTMLElement, place: PartPlace<Value>): Ending => {
    render(h(component, { place }), element);
    return () => render(null, element);
  };
}

/** Draws the component again whenever its place changed. */
export function useChanges(place: PartPlace): void {
  const [, draw] = useState(0);
  useEffect(() => place.onChange(() => draw((times) => times + 1)), [place]);
}

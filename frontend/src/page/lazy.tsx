/**
 * Components whose code is fetched when they are first drawn.
 *
 * Guarantees: fetched once, drawn at once from then on, also if it was asked for before; until then nothing is drawn,
 * or what stands in for it. If the code cannot be fetched, that is said in its place, with a way to try again; what
 * can be closed says so and closes itself.
 */

import { type FunctionComponent, h } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";
import { wholeId } from "./reveal.ts";
import { slices } from "./slices.ts";

/** Code that is on its way, of what is drawn or was asked for before. */
const coming = new Set<Promise<void>>();

export function isComing(): boolean {
  return coming.size > 0;
}

/** Ends once all of it is here, or cannot be fetched. */
export async function allCame(): Promise<void> {
  await Promise.allSettled(coming);
}

/** A component that can be asked for before it is drawn. */
export type Fetchable<Props> = FunctionComponent<Props> & { fetched(): Promise<unknown> };

/** What stands in for a component; `hasFailed` if it could not be fetched. */
type StandInFor<Props> = FunctionComponent<Props & { hasFailed?: boolean }>;

/** `fetch` gives the component: `() => import("./Share.tsx").then((loaded) => loaded.ShareDialog)`. */
export function lazily<Props extends object>(
  fetch: () => Promise<FunctionComponent<Props>>,
  StandIn?: StandInFor<Props>,
): Fetchable<Props> {
  let loaded: FunctionComponent<Props> | null = null;
  let loading: Promise<void> | null = null;
  const load = (): Promise<void> => {
    if (loading !== null) return loading;
    const isHere = fetch()
      .then((component) => void (loaded = component))
      .finally(() => {
        loading = null;
        coming.delete(isHere);
      });
    coming.add(isHere);
    return (loading = isHere);
  };

  function Fetched(props: Props) {
    const page = usePage();
    const [attempt, setAttempt] = useState(0);
    const [hasFailed, setFailed] = useState(false);
    const [, draw] = useState(0);
    // Asked for as it is drawn, and not after the frame: who copies waits for what is on its way.
    useLayoutEffect(() => {
      if (loaded !== null) return undefined;
      let isWanted = true;
      let stop = (): void => undefined;
      setFailed(false);
      load().then(
        () => {
          if (!isWanted) return;
          // Of what stands in for it there may be much: it is replaced piece by piece, unless it is to be copied.
          if (StandIn === undefined || wholeId.peek() !== null) draw(1);
          else stop = slices.later(0, () => draw(1));
        },
        () => {
          if (!isWanted) return;
          if (!isClosable(props)) return setFailed(true);
          page.tell(t("notFetched"));
          props.close();
        },
      );
      return () => {
        isWanted = false;
        stop();
      };
    }, [attempt]);
    if (loaded !== null) return h(loaded, props);
    const meanwhile = StandIn === undefined ? null : <StandIn {...props} hasFailed={hasFailed} />;
    if (!hasFailed) return meanwhile;
    return (
      <>
        {meanwhile}
        <p class="notice notice-error" role="alert" data-testid="not-fetched">
          <span>{t("notFetched")}</span>{" "}
          <button type="button" class="link" onClick={() => setAttempt(attempt + 1)}>
            {t("retry")}
          </button>
        </p>
      </>
    );
  }
  return Object.assign(Fetched, { fetched: load });
}

function isClosable(props: object): props is { close(): void } {
  return "close" in props && typeof props.close === "function";
}

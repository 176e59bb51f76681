/** Formulas in an answer: what draws them is loaded with the first one, and until then their source is shown. */

import { useEffect, useState } from "preact/hooks";
import { escaped } from "../core/markdown/index.ts";
import { t } from "./preferences.ts";

type Mathematics = typeof import("./mathematics.ts");

let loaded: Mathematics | null = null;

/** Not fetched: the next formula tries again. */
async function load(): Promise<Mathematics> {
  return (loaded ??= await import("./mathematics.ts"));
}

/** The HTML of a block with its formulas drawn, as far as they are by now. */
export function useFormulas(html: string): string {
  const [, draw] = useState(0);
  const [isMissing, setMissing] = useState(false);
  const hasAny = html.includes('<code class="language-math');
  useEffect(() => {
    if (!hasAny) return undefined;
    let end: (() => void) | null = () => undefined;
    const again = (): void => draw((times) => times + 1);
    load().then(
      (module) => {
        if (end === null) return;
        end = module.drawFormulas(html, again);
        setMissing(false);
        again();
      },
      () => end !== null && setMissing(true),
    );
    return () => {
      end?.();
      end = null;
    };
  }, [html, hasAny]);
  if (!hasAny) return html;
  if (isMissing) return `${html}<p><small class="quiet">${escaped(t("formulasMissing"))}</small></p>`;
  return loaded ? loaded.withFormulas(html) : html;
}

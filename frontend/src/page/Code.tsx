/** A piece of code: its language, its colours, and what a person does with it. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { CopyButton } from "./Copy.tsx";
import { download } from "./download.ts";
import { highlighter } from "./highlighter.ts";
import { Icon } from "./icons.tsx";
import { sanitised } from "./markdown.ts";
import { Later, UNSEEN } from "./Pieces.tsx";
import { clipped, piecesOf } from "../core/pieces.ts";
import { t } from "./preferences.ts";

interface CodeProps {
  code: string;
  language: string;
  isGrowing?: boolean;
}

export function Code({ code, language, isGrowing = false }: CodeProps) {
  const [html, setHtml] = useState<string | null>(null);
  const [isWrapped, setWrapped] = useState(false);
  useEffect(() => {
    setHtml(null);
    if (isGrowing || !language) return undefined;
    return highlighter.colour(code, language, (made) => setHtml(made === null ? null : sanitisedCode(made)));
  }, [code, language, isGrowing]);
  return (
    <figure class={isWrapped ? "code is-wrapped" : "code"} dir="ltr">
      <figcaption>
        <span class="code-language">{clipped(language || "text", 40)}</span>
        <button
          type="button"
          class="copy"
          data-testid="code-wrap"
          aria-pressed={isWrapped}
          aria-label={t("wrapLines")}
          title={t("wrapLines")}
          onClick={() => setWrapped(!isWrapped)}
        >
          <Icon name="wrap" />
        </button>
        <SaveButton text={code} name={fileNameOf(language)} />
        <CopyButton text={code} />
      </figcaption>
      <pre tabIndex={0}>
        {html === null || isGrowing ? <Uncoloured code={code} /> : <code dangerouslySetInnerHTML={{ __html: html }} />}
      </pre>
    </figure>
  );
}

export function SaveButton({ text, name, type = "text/plain" }: { text: string; name: string; type?: string }) {
  const label = t("download", { name });
  return (
    <button
      type="button"
      class="copy"
      data-testid="code-save"
      aria-label={label}
      title={label}
      onClick={() => download(new Blob([text], { type }), name)}
    >
      <Icon name="fetch" />
    </button>
  );
}

function Uncoloured({ code }: { code: string }) {
  const pieces = useMemo(() => piecesOf(code), [code]);
  if (pieces.length === 1) return <code>{code}</code>;
  return (
    <>
      {pieces.map((piece, place) => (
        <Later key={place} weight={piece.length * UNSEEN}>
          <code class="piece">{piece}</code>
        </Later>
      ))}
    </>
  );
}

/** highlight.js escapes by itself; this holds it to spans of its own classes. */
export function sanitisedCode(html: string): string {
  return /<(?!\/?span\b)/i.test(html) ? sanitised(html) : html;
}

const SUFFIXES: Record<string, string> = {
  bash: "sh", console: "sh", javascript: "js", markdown: "md", mermaid: "mmd", python: "py", rust: "rs", shell: "sh",
  typescript: "ts", yaml: "yml",
}; // prettier-ignore

/** What code in a language is saved as. */
export function fileNameOf(language: string): string {
  const known = SUFFIXES[language.toLowerCase()] ?? language.toLowerCase();
  return `code.${/^[a-z\d]{1,8}$/.test(known) ? known : "txt"}`;
}

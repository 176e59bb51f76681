/**
 * Draws a diagram: a frame without an origin, whose policy lets it load its own script and nothing else.
 *
 * The page gives it the source; it answers with a picture, which the page shows as a picture: nothing in it runs, leads
 * anywhere or loads anything. The frame ends with the page's patience.
 */

import mermaid from "mermaid";
import type { DiagramAsked, DiagramLook, DiagramSaid } from "../core/diagram.ts";

const EDGES_MOST = 400;

function say(what: DiagramSaid): void {
  parent.postMessage(what, "*");
}

function prepare(look: DiagramLook, source: string): void {
  mermaid.initialize({
    startOnLoad: false,
    securityLevel: "strict",
    // What a diagram says of itself must not loosen this.
    secure: ["secure", "layout", "securityLevel", "startOnLoad", "maxTextSize", "maxEdges", "htmlLabels", "themeCSS", "fontFamily", "dompurifyConfig"],
    maxTextSize: source.length + 1,
    maxEdges: EDGES_MOST,
    htmlLabels: false,
    layout: "dagre",
    flowchart: { htmlLabels: false },
    suppressErrorRendering: true,
    deterministicIds: true,
    theme: "base",
    themeVariables: { darkMode: look.isDark, ...look.colours },
    fontFamily: "system-ui, sans-serif",
  });
}

/** The drawing as a picture of its own: with its size, without links. */
function pictureOf(markup: string): { svg: string; width: number; height: number } {
  document.body.innerHTML = markup;
  const drawing = document.querySelector("svg");
  if (!drawing) throw new Error("nothing was drawn");
  const { width, height } = drawing.viewBox.baseVal.width > 0 ? drawing.viewBox.baseVal : drawing.getBoundingClientRect();
  drawing.setAttribute("width", String(width));
  drawing.setAttribute("height", String(height));
  drawing.style.maxWidth = "";
  for (const link of drawing.querySelectorAll("a")) link.replaceWith(plainOf(link));
  for (const one of drawing.querySelectorAll("script, iframe, object, embed, image, foreignObject img")) one.remove();
  const svg = new XMLSerializer().serializeToString(drawing);
  document.body.replaceChildren();
  return { svg, width, height };
}

/** A group in the place of a link, which leads nowhere. */
function plainOf(link: Element): Element {
  const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
  for (const name of ["transform", "class", "id", "style"]) {
    const value = link.getAttribute(name);
    if (value !== null) group.setAttribute(name, value);
  }
  group.append(...link.childNodes);
  return group;
}

async function draw({ source, look }: DiagramAsked): Promise<void> {
  prepare(look, source);
  const { svg } = await mermaid.render("diagram", source);
  say({ kind: "diagram-drawn", ...pictureOf(svg) });
}

addEventListener("message", (event) => {
  const asked = event.data as DiagramAsked | null;
  if (event.source !== parent || asked?.kind !== "diagram-asked") return;
  draw(asked).catch((error: unknown) => {
    document.body.replaceChildren();
    say({ kind: "diagram-failed", reason: error instanceof Error ? error.message : String(error) });
  });
});
say({ kind: "diagram-ready" });

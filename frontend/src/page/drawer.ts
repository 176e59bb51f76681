/**
 * Diagrams → pictures, drawn in a frame that has no origin, no cookies and no network.
 *
 * Guarantees: one diagram is drawn at a time, in order; one that is not drawn within DRAW_MS ends with its frame, and
 * the next one gets a new frame; a source or a picture that is too large is refused; the frame goes when nobody asks.
 */

import type { DiagramAsked, DiagramLook, DiagramSaid } from "../core/diagram.ts";

export const SOURCE_MOST = 20_000;
const PICTURE_MOST = 2_000_000;
/** Mermaid is large: fetching and reading it is not counted as drawing. */
const LOAD_MS = 30_000;
const READY_MS = 2_000;
const DRAW_MS = 2_000;
const IDLE_MS = 20_000;

export type Drawing = { svg: string; width: number; height: number } | { problem: "slow" | "large" | "missing" } | { reason: string };

interface Wanted {
  source: string;
  look: DiagramLook;
  answer(drawing: Drawing): void;
}

class Drawer {
  #frame: HTMLIFrameElement | null = null;
  #isReady = false;
  #queue: Wanted[] = [];
  #current: Wanted | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    addEventListener("message", (event) => {
      if (event.source !== null && event.source === this.#frame?.contentWindow) this.#hear(event.data as DiagramSaid | null);
    });
  }

  /** What is returned takes the question back. */
  draw(source: string, look: DiagramLook, answer: (drawing: Drawing) => void): () => void {
    if (source.length > SOURCE_MOST) {
      answer({ problem: "large" });
      return () => undefined;
    }
    const wanted: Wanted = { source, look, answer };
    this.#queue.push(wanted);
    this.#next();
    return () => {
      wanted.answer = () => undefined;
      this.#queue = this.#queue.filter((one) => one !== wanted);
    };
  }

  #next(): void {
    if (this.#current !== null) return;
    this.#current = this.#queue.shift() ?? null;
    clearTimeout(this.#timer);
    if (this.#current === null) this.#timer = setTimeout(() => this.#end(), IDLE_MS);
    else if (this.#frame === null) this.#start();
    else this.#ask();
  }

  #start(): void {
    this.#isReady = false;
    const frame = document.createElement("iframe");
    frame.className = "diagram-frame";
    frame.setAttribute("sandbox", "allow-scripts");
    frame.setAttribute("aria-hidden", "true");
    frame.tabIndex = -1;
    frame.src = "diagram.html";
    // What was loaded and does not say that it is ready is an error page.
    frame.addEventListener("load", () => {
      setTimeout(() => this.#frame === frame && !this.#isReady && this.#give({ problem: "missing" }, true), READY_MS);
    });
    document.body.append(frame);
    this.#frame = frame;
    this.#timer = setTimeout(() => this.#give({ problem: "missing" }, true), LOAD_MS);
  }

  #ask(): void {
    if (!this.#isReady || this.#current === null) return;
    const { source, look } = this.#current;
    const asked: DiagramAsked = { kind: "diagram-asked", source, look };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#give({ problem: "slow" }, true), DRAW_MS);
    this.#frame?.contentWindow?.postMessage(asked, "*");
  }

  #hear(said: DiagramSaid | null): void {
    if (said?.kind === "diagram-ready" && !this.#isReady) {
      this.#isReady = true;
      this.#ask();
    } else if (said?.kind === "diagram-failed") this.#give({ reason: String(said.reason) }, false);
    else if (said?.kind === "diagram-drawn") this.#give(checked(said), false);
  }

  #give(drawing: Drawing, isFrameOver: boolean): void {
    const wanted = this.#current;
    this.#current = null;
    if (isFrameOver) this.#end();
    wanted?.answer(drawing);
    this.#next();
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#frame?.remove();
    this.#frame = null;
  }
}

/** The frame draws what an agent wrote: its answer is looked at like the agent's own words. */
function checked({ svg, width, height }: { svg: unknown; width: unknown; height: unknown }): Drawing {
  if (typeof svg !== "string" || svg.length > PICTURE_MOST) return { problem: "large" };
  const [wide, tall] = [Number(width), Number(height)];
  if (!(wide > 0 && tall > 0 && wide < 100_000 && tall < 100_000)) return { problem: "large" };
  return { svg, width: Math.ceil(wide), height: Math.ceil(tall) };
}

export const drawer = new Drawer();

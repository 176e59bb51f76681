/** What the page and the frame that draws diagrams say to each other. */

/** The colours of the page, as the frame is given them. */
export interface DiagramLook {
  isDark: boolean;
  colours: Record<string, string>;
}

export interface DiagramAsked {
  kind: "diagram-asked";
  source: string;
  look: DiagramLook;
}

export type DiagramSaid =
  | { kind: "diagram-ready" }
  | { kind: "diagram-drawn"; svg: string; width: number; height: number }
  | { kind: "diagram-failed"; reason: string };

/** Long texts → pieces that are laid out one by one. Pure. */

/** A browser lays a paragraph out as a whole: this many characters and lines take it a few milliseconds. */
export const PIECE_CHARACTERS = 8_000;
export const PIECE_LINES = 200;

/** The pieces of a text; together they are the text. A piece ends with a line, or a long line is cut. */
export function piecesOf(text: string): string[] {
  if (text.length <= PIECE_CHARACTERS && !hasMoreLines(text, PIECE_LINES)) return [text];
  const pieces: string[] = [];
  let from = 0;
  while (from < text.length) {
    const end = endOfPiece(text, from);
    pieces.push(text.slice(from, end));
    from = end;
  }
  return pieces;
}

/** Where the piece ends that begins here. */
export function endOfPiece(text: string, from: number): number {
  const most = Math.min(text.length, from + PIECE_CHARACTERS);
  const near = text.slice(from, most);
  let end = 0;
  let lines = 0;
  for (let next = near.indexOf("\n"); next >= 0 && lines < PIECE_LINES; next = near.indexOf("\n", end)) {
    end = next + 1;
    lines += 1;
  }
  if (lines === PIECE_LINES || (end > 0 && most < text.length)) return from + end;
  const code = text.charCodeAt(most);
  return code >= 0xdc00 && code <= 0xdfff && most < text.length ? most - 1 : most;
}

function hasMoreLines(text: string, most: number): boolean {
  let at = -1;
  for (let line = 0; line < most; line += 1) {
    at = text.indexOf("\n", at + 1);
    if (at < 0) return false;
  }
  return at < text.length - 1;
}

/** The beginning of a text for a place of one line. */
export function clipped(text: string, most = 300): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}

/** The first `most` lines, and how many are left out. */
export function firstLines(text: string, most: number): { text: string; more: number } {
  let at = -1;
  for (let line = 0; line < most; line += 1) {
    at = text.indexOf("\n", at + 1);
    if (at < 0) return { text, more: 0 };
  }
  let more = 1;
  for (let next = text.indexOf("\n", at + 1); next >= 0; next = text.indexOf("\n", next + 1)) more += 1;
  return { text: text.slice(0, at), more };
}

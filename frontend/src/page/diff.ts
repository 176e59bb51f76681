/** Two texts → the lines that tell them apart, with a little context. Pure. */

export interface DiffLine {
  kind: "same" | "added" | "removed" | "gap";
  text: string;
}

const CONTEXT = 3;
/** Cells of the comparison's table; larger texts are shown as one removed and one added block. */
const CELLS_MOST = 400_000;

export function diffLines(before: string, after: string): DiffLine[] {
  const { head, a, b, tail } = parted(before, after);
  const same = (text: string): DiffLine => ({ kind: "same", text });
  return withGaps([...head.map(same), ...changed(a, b), ...tail.map(same)]);
}

/** The lines that both texts begin and end with, and those of each between them. */
function parted(before: string, after: string): { head: string[]; a: string[]; b: string[]; tail: string[] } {
  const [a, b] = [linesOf(before), linesOf(after)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail])
    tail += 1;
  const [endOfA, endOfB] = [a.length - tail, b.length - tail];
  return { head: a.slice(0, head), a: a.slice(head, endOfA), b: b.slice(head, endOfB), tail: a.slice(endOfA) };
}

/** Cells that are compared for a number alone, and characters of both texts. */
const COUNTED_CELLS_MOST = 20_000;
const COUNTED_MOST = 200_000;

/** How many lines differ; null if that takes long to say. */
export function changedLines(before: string, after: string): { added: number; removed: number } | null {
  if (before.length + after.length > COUNTED_MOST) return null;
  const { a, b } = parted(before, after);
  if (a.length === 0 || b.length === 0) return { added: b.length, removed: a.length };
  return a.length * b.length > COUNTED_CELLS_MOST ? null : countOf(changed(a, b));
}

export function countOf(lines: readonly DiffLine[]): { added: number; removed: number } {
  return {
    added: lines.filter((line) => line.kind === "added").length,
    removed: lines.filter((line) => line.kind === "removed").length,
  };
}

/** The lines of a text; a break at its end begins no other one. */
export function linesOf(text: string): string[] {
  if (text === "") return [];
  return (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n");
}

/** Numbers for lines, equal where they are: long lines are compared once and not in every cell. */
function numbered(...texts: string[][]): Uint32Array[] {
  const numbers = new Map<string, number>();
  return texts.map((lines) =>
    Uint32Array.from(lines, (line) => {
      const known = numbers.get(line) ?? numbers.size;
      numbers.set(line, known);
      return known;
    }),
  );
}

function changed(a: string[], b: string[]): DiffLine[] {
  const removed = (text: string): DiffLine => ({ kind: "removed", text });
  const added = (text: string): DiffLine => ({ kind: "added", text });
  if (a.length * b.length > CELLS_MOST) return [...a.map(removed), ...b.map(added)];
  const [left = [], right = []] = numbered(a, b);
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number): number => longest[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = left[i] === right[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const [before, after] = [a[i], b[j]];
    if (before !== undefined && after !== undefined && left[i] === right[j]) {
      lines.push({ kind: "same", text: before });
      [i, j] = [i + 1, j + 1];
    } else if (before !== undefined && (after === undefined || at(i + 1, j) >= at(i, j + 1))) {
      lines.push(removed(before));
      i += 1;
    } else if (after !== undefined) {
      lines.push(added(after));
      j += 1;
    }
  }
  return lines;
}

function withGaps(lines: DiffLine[]): DiffLine[] {
  const isNear = lines.map(() => false);
  lines.forEach((line, place) => {
    if (line.kind === "same") return;
    for (let at = Math.max(0, place - CONTEXT); at <= Math.min(lines.length - 1, place + CONTEXT); at += 1)
      isNear[at] = true;
  });
  const shown: DiffLine[] = [];
  lines.forEach((line, place) => {
    if (isNear[place]) shown.push(line);
    else if (shown.at(-1)?.kind !== "gap") shown.push({ kind: "gap", text: "" });
  });
  return shown;
}

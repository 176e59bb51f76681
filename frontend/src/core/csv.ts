/** CSV → rows, in bounded work. Pure. */

export interface CsvTable {
  rows: string[][];
  /** There are more rows or cells than these. */
  isCut: boolean;
}

const SEPARATORS = [",", ";", "\t"] as const;

/** Quotes as in RFC 4180; the separator is the one that the first line has most of. */
export function csvTable(text: string, rowsMost: number, cellsMost: number): CsvTable {
  const first = text.slice(0, text.search(/[\r\n]|$/));
  const count = (mark: string): number => first.split(mark).length;
  const separator = [...SEPARATORS].sort((a, b) => count(b) - count(a))[0] ?? ",";
  const rows: string[][] = [];
  let [row, cell, isQuoted, isCut]: [string[], string, boolean, boolean] = [[], "", false, false];
  const endCell = (): void => {
    if (row.length < cellsMost) row.push(cell);
    else isCut = true;
    cell = "";
  };
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at] ?? "";
    if (isQuoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') [cell, at] = [`${cell}"`, at + 1];
      else isQuoted = false;
    } else if (letter === '"' && cell === "") isQuoted = true;
    else if (letter === separator) endCell();
    else if (letter === "\n") {
      endCell();
      rows.push(row);
      row = [];
      if (rows.length >= rowsMost) return { rows, isCut: isCut || at + 1 < text.length };
    } else if (letter !== "\r" || text[at + 1] !== "\n") cell += letter;
  }
  if (cell !== "" || row.length > 0) {
    endCell();
    rows.push(row);
  }
  return { rows, isCut };
}

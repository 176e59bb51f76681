import { w, type Word } from "./words.ts";

/** The heads of a table's columns. */
export function Heads({ words }: { words: readonly Word[] }) {
  return (
    <thead>
      <tr>
        {words.map((word) => (
          <th key={word} scope="col">
            {w(word)}
          </th>
        ))}
      </tr>
    </thead>
  );
}

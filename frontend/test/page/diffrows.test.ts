import { expect, it } from "vitest";
import { htmlLines, marked, rowsOf } from "../../src/page/diffrows.ts";

it("numbers the lines of both sides and marks the words that differ", () => {
  const rows = rowsOf("one\nlet a = 1;\nthree\n", "one\nlet b = 1;\nthree\nfour\n");
  expect(rows).toEqual([
    { kind: "same", left: { number: 1, text: "one", marks: [] }, right: { number: 1, text: "one", marks: [] } },
    {
      kind: "changed",
      left: { number: 2, text: "let a = 1;", marks: [[4, 5]] },
      right: { number: 2, text: "let b = 1;", marks: [[4, 5]] },
    },
    { kind: "same", left: { number: 3, text: "three", marks: [] }, right: { number: 3, text: "three", marks: [] } },
    { kind: "changed", left: null, right: { number: 4, text: "four", marks: [] } },
  ]);
});

it("leaves out what is far from a change, and marks nothing in lines that are others", () => {
  const many = Array.from({ length: 40 }, (_, n) => `line ${n}`);
  const rows = rowsOf(many.join("\n"), [...many, "end"].join("\n"));
  expect(rows[0]).toEqual({ kind: "gap", count: 37 });
  expect(rows).toHaveLength(5);
  expect(rowsOf("alpha beta", "something else entirely")).toMatchObject([{ left: { marks: [] }, right: { marks: [] } }]);
});

it("compares large and long texts in bounded time, and leaves nothing out", () => {
  const lines = (sign: string): string => Array.from({ length: 20_000 }, (_, n) => `${sign}${n * 7}`).join("\n");
  const before = performance.now();
  const rows = rowsOf(`${lines("a")}${"x".repeat(500_000)}`, lines("b"));
  expect(performance.now() - before).toBeLessThan(3_000);
  expect(rows).toHaveLength(20_000);
});

it("cuts coloured code into lines that are whole, and marks parts of them", () => {
  const lines = htmlLines('<span class="hljs-comment">/* a\nb */</span> x &lt; <span class="hljs-string">"y"</span>');
  expect(lines[0]).toBe('<span class="hljs-comment">/* a</span>');
  expect(lines[1]).toBe('<span class="hljs-comment">b */</span> x &lt; <span class="hljs-string">"y"</span>');
  expect(marked("a&lt;b", [[1, 2]])).toBe("a<mark>&lt;</mark>b");
  expect(marked("<i>ab</i>cd", [[1, 3]])).toBe("<i>a<mark>b</mark></i><mark>c</mark>d");
  expect(marked("ab", [[0, 9]])).toBe("<mark>ab</mark>");
});

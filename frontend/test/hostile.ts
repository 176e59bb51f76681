/** Texts that make readers of Markdown slow, deep or wrong. Each grows with `n`, which is about its length. */

const times = (text: string, n: number): string => text.repeat(Math.ceil(n / text.length)).slice(0, n);
const half = (open: string, close: string, n: number): string => times(open, n / 2) + times(close, n / 2);

export const HOSTILE: Record<string, (n: number) => string> = {
  "emphasis that nobody closes": (n) => times("*a ", n),
  "emphasis that nobody opens": (n) => times("a* ", n),
  "emphasis without blanks": (n) => times("*a", n),
  "underscores in words": (n) => times("_a__b_", n),
  "emphasis of two kinds": (n) => times("*a_b", n),
  "emphasis of many lengths": (n) => times("*a **b ***c ****d", n),
  "nested emphasis": (n) => half("**a ", " b**", n),
  "stars alone": (n) => times("*", n),
  "stars around a word": (n) => `${times("*", n / 2)}a${times("*", n / 2)}`,
  "struck out": (n) => times("~~a~b", n),
  "quotes in quotes": (n) => times(">", n),
  "quotes in quotes with blanks": (n) => times("> ", n),
  "quotes in quotes on many lines": (n) => times(`${">".repeat(100)}a\n`, n),
  "lists in lists": (n) => times("- ", n),
  "lists in lists on many lines": (n) => {
    let text = "";
    for (let depth = 0; text.length < n; depth = (depth + 1) % 200) text += `${" ".repeat(2 * depth)}- a\n`;
    return text;
  },
  "numbers in numbers": (n) => times("1. ", n),
  "quotes and lists": (n) => times("> - ", n),
  "empty items": (n) => times("-\n", n),
  "items": (n) => times("- a\n", n),
  "items with blank lines": (n) => times("- a\n\n", n),
  "a long item": (n) => `- ${times("a\n  ", n)}`,
  "opening brackets": (n) => times("[", n),
  "opening and closing brackets": (n) => half("[", "]", n),
  "brackets in brackets": (n) => times("[a", n),
  "links in links": (n) => times("[a](b", n),
  "links without an end": (n) => times("[](", n),
  "pictures in links": (n) => times("![[](", n),
  "labels": (n) => `${half("[a", "]", n)}\n\n[a]: http://b\n`,
  "labels behind brackets": (n) => `${times("[a][b", n)}\n\n[a]: http://b\n`,
  "closing brackets with addresses": (n) => `${times("[", n / 2)}${times("](x", n / 2)}`,
  "an address without an end": (n) => `[a](${times("b", n)}`,
  "an address of parentheses": (n) => `[a](${times("(", n)}`,
  "a title without an end": (n) => times('[a](b "', n),
  "titles of all kinds": (n) => times("[a](b 'c \"d (", n),
  "addresses in signs without an end": (n) => times("<http:", n),
  "signs": (n) => times("<", n),
  "mail in signs": (n) => times("<a@b", n),
  "tags without an end": (n) => times("<a ", n),
  "comments without an end": (n) => times("<!-- ", n),
  "plain tags in plain tags": (n) => times("a<b><i>", n),
  "details in details": (n) => times("<details>\n", n),
  "plain tags that close nothing": (n) => times("a</b></i>", n),
  "backticks": (n) => times("`", n),
  "backticks of many lengths": (n) => {
    let text = "";
    for (let length = 1; text.length < n; length += 1) text += `a${"`".repeat(length)}`;
    return text.slice(0, n);
  },
  "code that does not end": (n) => times("`a``b", n),
  "fences": (n) => times("```\n", n),
  "fences without an end": (n) => `\`\`\`\n${times("~~~\n", n)}`,
  "fences with words": (n) => times("``` a\n", n),
  "fences in lists": (n) => times("- ```\n", n),
  "entities": (n) => times("&amp;", n),
  "entities without an end": (n) => times("&#", n),
  "ampersands": (n) => times("&", n),
  "backslashes": (n) => times("\\", n),
  "backslashes at line ends": (n) => times("\\\n", n),
  "a table of many columns": (n) => `${times("|a", n / 3)}|\n${times("|-", n / 3)}|\n${times("|b", n / 3)}|`,
  "a table of many rows": (n) => `|a|b|\n|-|-|\n${times("|c|d|\n", n)}`,
  "a table of short rows": (n) => `${times("|a", 120)}|\n${times("|-", 120)}|\n${times("|\n", n)}`,
  "heads of tables": (n) => times("a|b\n-|-\n", n),
  "rows of dashes": (n) => times("|-", n),
  "bars": (n) => times("|", n),
  "headings": (n) => times("# a\n", n),
  "a heading of signs": (n) => `# ${times("#", n)}`,
  "underlines": (n) => times("a\n=\n", n),
  "rules": (n) => times("* * *\n", n),
  "almost a rule": (n) => `${times("* ", n)}a`,
  "blanks": (n) => `a${times(" ", n)}b`,
  "blanks at line ends": (n) => times("a  \n", n),
  "blank lines": (n) => times("\n", n),
  "tabs": (n) => times("\t- ", n),
  "indented": (n) => times("    a\n\n", n),
  "addresses": (n) => times("http://a ", n),
  "addresses without an end": (n) => times("http://a", n),
  "an address of closing parentheses": (n) => `http://a${times(")", n)}`,
  "an address of dots": (n) => `www.${times(".", n)}`,
  "mail without an end": (n) => times("a@a.", n),
  "names of mail": (n) => times("a.", n),
  "at": (n) => times("@", n),
  "definitions": (n) => {
    let text = "";
    for (let count = 0; text.length < n; count += 1) text += `[a${count}]: http://b\n`;
    return text;
  },
  "almost definitions": (n) => times("[a]: ", n),
  "a definition of blanks": (n) => `[a]:${times(" ", n)}`,
  "dollars": (n) => times("$", n),
  "dollars around letters": (n) => times("$a", n),
  "dollars before letters": (n) => times("$a ", n),
  "double dollars": (n) => times("$$ a", n),
  "dollars that are taken away": (n) => `$${times("\\$", n)}`,
  "formulas": (n) => times("$a_1$ ", n),
  "formulas without an end": (n) => times("\\(a \\[b ", n),
  "formulas with code": (n) => `${half("\\(", "`\\)", n)}`,
  "formulas on many lines": (n) => times("$$\na\n", n),
  "a formula without an end": (n) => `$$\n${times("a\n", n)}`,
  "formulas in quotes": (n) => times("> $$\n> = b\n", n),
  "footnotes": (n) => times("[^a]: b\n", n),
  "footnotes in footnotes": (n) => times("[^a]: [^b]: ", n),
  "a long footnote": (n) => `[^a]: ${times("b\n\n    ", n)}`,
  "references to footnotes": (n) => `${times("[^a]", n)}\n\n[^a]: b\n`,
  "paragraphs": (n) => times("a\n\n", n),
  "a paragraph": (n) => times("a b\n", n),
  "one line": (n) => times("word ", n),
  "one word": (n) => times("a", n),
  "half characters": (n) => times("\ud83d", n),
  "pictures as characters": (n) => times("👩‍👩‍👧 ", n),
  "right to left": (n) => times("\u202eשלום ", n),
  "combining marks": (n) => `a${times("\u0301", n)}`,
  "terminal's escapes": (n) => times("\u001b[31m", n),
  "zeros": (n) => times("\0", n),
  "carriage returns": (n) => times("a\r", n),
  "html": (n) => times("<div>\n\n", n),
  "script": (n) => times("<script>\n", n),
};

const PARTS = [
  ..."*_~`$[]()!<>#-+|\\\n\n\n \t&:.@".split(""),
  ..."a word|1. |- |> |```\n|~~~|[a](b)|[a]: http://b\n|<b>|</b>|<br>|http://a.b|www.a|&amp;|    |\n\n|שלום|👩‍👧|- [ ] |# |===|$x$|\\(|\\)|\\[|\\]|[^a]|\n[^a]: |$$\n\n".split("|"),
  "|a|b|\n|-|-|\n",
  "<details>\n",
];

/** A text of any parts, the same for the same seed. */
export function anyText(seed: number, length: number): string {
  let state = seed * 2_654_435_761 + 1;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  let text = "";
  while (text.length < length) {
    const part = PARTS[Math.floor(random() * PARTS.length)] ?? "";
    text += random() < 0.05 ? part.repeat(Math.floor(random() * 60)) : part;
  }
  return text;
}

/** A tool call in a line: what was done with what, and the first line of what came of it. Pure. */

import type { Key, ToolCallItem } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { commandOf, inputOf, plainly } from "./asked.ts";
import { changedLines } from "./diff.ts";
import { partsOf, placesOf, textOf } from "./toolparts.ts";
import { type Verb, verbOf, VERBS } from "./toolverbs.ts";

export interface CallWords {
  key: Key;
  /** With what: for one line, with what hides in it made visible. */
  object: string;
  /** All of it, for who wants to know. */
  whole: string;
}

const OBJECT_MOST = 160;
const LINE_MOST = 200;
/** Of an output so much is looked at for its first line. */
const OUTPUT_MOST = 4_000;
const PATHS = ["path", "file_path", "filePath", "abs_path", "target_file", "filename"];
const PATTERNS = ["pattern", "query", "regex", "search", "glob", "q"];
const OUTPUTS = ["stdout", "output", "formatted_output", "aggregated_output", "text", "stderr", "error", "message"];

/** Null if the agent does not say with what; then its own title is all there is. */
export function wordsOfCall(item: ToolCallItem): CallWords | null {
  const verb = verbOf(item);
  if (verb === null) return null;
  const whole = objectOf(verb, item);
  if (whole === null) return null;
  const isDone = item.status === "completed" || (verb === "execute" && item.status === "failed");
  return { key: VERBS[verb][isDone ? 0 : 1], object: shortOf(verb, whole), whole: plainly(clipped(whole, 2_000)) };
}

function objectOf(verb: Verb, item: ToolCallItem): string | null {
  switch (verb) {
    case "execute":
      return scriptOf(item.raw_input) ?? commandOf(item.raw_input);
    case "search":
      return named(item.raw_input, PATTERNS);
    case "fetch":
      return named(item.raw_input, ["url", "uri"]);
    default:
      return pathsOf(item);
  }
}

/** Of `bash -lc '…'` what the shell is given. */
function scriptOf(raw: unknown): string | null {
  const { command } = inputOf(raw);
  if (!Array.isArray(command) || command.length !== 3) return null;
  const [shell, flag, script] = command.map(String);
  return /(?:^|\/)(?:ba|da|z|fi)?sh$/.test(shell ?? "") && /^-l?i?c$/.test(flag ?? "") ? (script ?? null) : null;
}

function pathsOf(item: ToolCallItem): string | null {
  const diffs = partsOf(item.content).filter((part) => part.type === "diff");
  const paths = [...diffs.map((part) => textOf(part.path)), ...placesOf(item.locations).map(({ path }) => path)];
  const all = [...new Set(paths.filter((path) => path !== ""))];
  return all.length > 0 ? all.join("\n") : named(item.raw_input, PATHS);
}

function named(raw: unknown, names: readonly string[]): string | null {
  const input = inputOf(raw);
  const found = names.map((name) => input[name]).find((one) => typeof one === "string" && one.trim() !== "");
  return (found as string | undefined) ?? null;
}

function shortOf(verb: Verb, whole: string): string {
  const lines = whole.trim().split("\n");
  const first = (lines[0] ?? "").trim();
  const isPath = !["execute", "search", "fetch"].includes(verb);
  const short = isPath ? lastName(first) : verb === "fetch" ? first.replace(/^https?:\/\//i, "") : first;
  const more = lines.length < 2 ? "" : isPath ? ` (+${lines.length - 1})` : " …";
  return plainly(clipped(short, OBJECT_MOST)) + more;
}

function lastName(path: string): string {
  return path.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) || path;
}

/** The first line of what a call said, if a reader wants it in its line: what was read or written is no news. */
export function firstLineOf(item: ToolCallItem): string {
  const isQuiet = item.status !== "failed" && ["read", "edit", "create"].includes(verbOf(item) ?? "");
  if (isQuiet || (item.status !== "failed" && item.status !== "completed")) return "";
  const said = partsOf(item.content).map((part) => textOf(part.content?.text));
  const output = item.raw_output;
  const text = said.find((one) => one.trim() !== "") ?? (typeof output === "string" ? output : (named(output, OUTPUTS) ?? ""));
  const lines = text.slice(0, OUTPUT_MOST).split("\n");
  return clipped(lines.find((line) => line.trim() !== "" && !line.startsWith("```"))?.trim() ?? "", LINE_MOST);
}

/** How many lines a call adds and removes; null if it shows no difference, or one that takes long to count. */
export function changesOf(content: unknown): { added: number; removed: number } | null {
  const diffs = partsOf(content).filter((part) => part.type === "diff");
  if (diffs.length === 0 || diffs.length > 20) return null;
  let [added, removed] = [0, 0];
  for (const { oldText, newText } of diffs) {
    const count = changedLines(textOf(oldText), textOf(newText));
    if (count === null) return null;
    added += count.added;
    removed += count.removed;
  }
  return { added, removed };
}

import { describe, expect, it } from "vitest";
import { ApiError, type Api, csvTable, encodedPath, fileNamed, FileTree, parentOf, shownPath } from "../../src/core/index.ts";
import type { FileEntry, FileListing } from "../../src/core/wire.ts";

const entry = (path: string, kind: FileEntry["kind"] = "file"): FileEntry => ({
  name: path.split("/").at(-1) ?? "",
  path,
  kind,
  size: 1,
  modified_at: "2026-01-01T00:00:00Z",
  media_type: null,
  preview: null,
});

describe("names of files in words", () => {
  const known = new Set(["src/app.py", "src/deep/x.txt", "a%20b.txt", "other/x.txt", "one/only.md"]);
  it.each([
    ["src/app.py", "src/app.py"],
    ["./src/app.py", "src/app.py"],
    ["src/app.py:12:3", "src/app.py"],
    ["/home/somebody/work/src/app.py", "src/app.py"],
    ["a b.txt", "a%20b.txt"],
    ["only.md", "one/only.md"],
    ["x.txt", null],
    ["/etc/passwd", null],
    ["npm run\nbuild", null],
    ["", null],
  ])("%s → %s", (text, path) => expect(fileNamed(text, known)).toBe(path));
});

it("encodes names as the gateway does", () => {
  expect(encodedPath("a b/(c)!'*~+.txt")).toBe("a%20b/%28c%29%21%27%2A~%2B.txt");
  expect(shownPath("a%20b")).toBe("a b");
  expect(shownPath("bad%FF")).toBe("bad%FF");
  expect([parentOf("a/b/c"), parentOf("a")]).toEqual(["a/b", ""]);
});

it("reads CSV with quotes, and bounded", () => {
  expect(csvTable('name,"a, ""b"""\r\nx;y,2\n', 10, 10)).toEqual({ rows: [["name", 'a, "b"'], ["x;y", "2"]], isCut: false });
  expect(csvTable("a;b\n1;2", 10, 10).rows).toEqual([["a", "b"], ["1", "2"]]);
  expect(csvTable("a\nb\nc\n", 2, 10)).toEqual({ rows: [["a"], ["b"]], isCut: true });
  expect(csvTable("a,b,c\n", 2, 2)).toEqual({ rows: [["a", "b"]], isCut: true });
});

/** A gateway with folders, whose watch says what `say` is given. */
function fake(folders: Record<string, FileEntry[]>) {
  const asked: string[] = [];
  let write: (text: string) => void = () => undefined;
  const api = {
    fileWatchUrl: () => "http://x/watch",
    headers: () => ({}),
    fetch: async () => {
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => void (write = (text) => controller.enqueue(new TextEncoder().encode(text))),
      });
      return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
    },
    files: async (_session: string, path: string): Promise<FileListing> => {
      asked.push(path);
      const entries = folders[path];
      if (!entries) throw new ApiError(404, "file_not_found", "gone");
      return { path, entries, cursor: null, is_partial: false };
    },
  };
  const tree = new FileTree({ api: api as unknown as Api, sessionId: "s" });
  const say = (event: string, data: object = {}): void => write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  return { tree, asked, say, folders };
}

const settled = (): Promise<void> => new Promise((done) => setTimeout(done, 5));

it("asks for a folder when it is opened, and again when something in it changed", async () => {
  const { tree, asked, say, folders } = fake({ "": [entry("d", "folder")], d: [entry("d/a")] });
  tree.start();
  await settled();
  expect(asked).toEqual([""]);
  tree.toggle("d");
  await settled();
  expect(tree.folder("d")?.entries.map((one) => one.path)).toEqual(["d/a"]);
  folders.d = [entry("d/a"), entry("d/b")];
  say("changed", { paths: ["d/b", "closed/x"] });
  await settled();
  expect(asked).toEqual(["", "d", "d"]);
  expect(tree.folder("d")?.entries).toHaveLength(2);
  expect([tree.revision("d/b"), tree.revision("d/a")]).toEqual([1, 0]);
  say("overflow");
  await settled();
  expect(asked.slice(3).sort()).toEqual(["", "d"]);
  delete folders.d;
  await tree.load("d");
  expect(tree.folder("d")?.error?.code).toBe("file_not_found");
  tree.stop();
});

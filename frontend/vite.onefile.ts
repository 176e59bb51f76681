import type { Plugin } from "vite";

/** One file, which loads nothing: its frame has no origin, so it could load nothing of the gateway's either. */
export function oneFile(fileName: string, title: string, style: string): Plugin {
  return {
    name: "in-one-file",
    generateBundle(_, bundle) {
      for (const [name, chunk] of Object.entries(bundle)) {
        // With everything in one file, what was imported when needed is listed as the file itself.
        const others = chunk.type === "chunk" ? [...chunk.imports, ...chunk.dynamicImports].filter((one) => one !== name) : [];
        if (chunk.type !== "chunk" || others.length > 0) throw new Error(`not one file: ${name} needs ${others.join(", ")}`);
        const script = chunk.code.replaceAll(/<(?=\/script|!--)/gi, "\\x3c");
        const source = `<!doctype html><html><meta charset="utf-8"><title>${title}</title><style>${style}</style><body><script type="module">${script}</script></body></html>`;
        this.emitFile({ type: "asset", fileName, source });
        delete bundle[name];
      }
    },
  };
}

import { defineConfig, type Plugin } from "vite";

const STYLE = `
body { margin: 0; background: #e6e6e6 }
canvas { display: block; inline-size: calc(100% - 1rem); margin: 0.5rem auto; background: #fff; box-shadow: 0 1px 4px #0004 }
`;

/** One file, which loads nothing: its frame has no origin, so it could load nothing of the gateway's either. */
const oneFile: Plugin = {
  name: "pdf-in-one-file",
  generateBundle(_, bundle) {
    for (const [name, chunk] of Object.entries(bundle)) {
      if (chunk.type !== "chunk" || chunk.imports.length + chunk.dynamicImports.length > 0) throw new Error(`not one file: ${name}`);
      const script = chunk.code.replaceAll(/<(?=\/script|!--)/gi, "\\x3c");
      const source = `<!doctype html><html><meta charset="utf-8"><title>PDF</title><style>${STYLE}</style><body><script type="module">${script}</script></body></html>`;
      this.emitFile({ type: "asset", fileName: "pdf.html", source });
      delete bundle[name];
    }
  },
};

/** Draws PDFs, in a frame of the page. */
export default defineConfig({
  plugins: [oneFile],
  build: {
    target: "es2022",
    emptyOutDir: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2_000,
    lib: { entry: "src/pdf/main.ts", formats: ["es"], fileName: () => "pdf.js" },
  },
});

import { defineConfig } from "vite";
import { oneFile } from "./vite.onefile.ts";

const STYLE = `
body { margin: 0; background: #e6e6e6 }
canvas { display: block; inline-size: calc(100% - 1rem); margin: 0.5rem auto; background: #fff; box-shadow: 0 1px 4px #0004 }
`;

/** Draws PDFs, in a frame of the page. */
export default defineConfig({
  plugins: [oneFile("pdf.html", "PDF", STYLE)],
  build: {
    target: "es2022",
    emptyOutDir: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2_000,
    lib: { entry: "src/pdf/main.ts", formats: ["es"], fileName: () => "pdf.js" },
  },
});

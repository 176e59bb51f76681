// Compresses the built page, so that the gateway sends small files without a proxy and without work of its own.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXTS = /\.(?:js|css|html|svg)$/;
const PACKED = /\.(?:br|gz)$/;
/** Less than this fits into a packet anyway. */
const LEAST = 1_000;

const dist = new URL("./dist/", import.meta.url);
for (const name of readdirSync(dist, { recursive: true })) {
  const file = new URL(name.split("\\").join("/"), dist);
  if (PACKED.test(name)) rmSync(file);
  if (!TEXTS.test(name)) continue;
  const bytes = readFileSync(file);
  if (bytes.length < LEAST) continue;
  const brotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } };
  writeFileSync(new URL(`${file.href}.br`), brotliCompressSync(bytes, brotli));
  writeFileSync(new URL(`${file.href}.gz`), gzipSync(bytes, { level: 9 }));
}

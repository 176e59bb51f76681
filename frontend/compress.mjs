// Compresses the built page, so that the gateway sends small files without a proxy and without work of its own.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXTS = /\.(?:js|css|html|svg)$/;
const ALONE_TOO = /\.html$|^assets/;
const PACKED = /\.(?:br|gz)$/;
/** Less than this fits into a packet anyway. */
const LEAST = 1_000;
/** More than this is kept compressed alone, if it is a page or what pages load. */
const ALONE = 20_000;
/** And more than this only in the coding that browsers take without TLS, too. */
const MOST = 1_000_000;

const dist = new URL("./dist/", import.meta.url);
for (const name of readdirSync(dist, { recursive: true })) {
  const file = new URL(name.split("\\").join("/"), dist);
  if (PACKED.test(name)) rmSync(file);
  if (!TEXTS.test(name)) continue;
  const bytes = readFileSync(file);
  if (bytes.length < LEAST) continue;
  const brotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } };
  const packed = gzipSync(bytes, { level: 9 });
  writeFileSync(new URL(`${file.href}.gz`), packed);
  if (bytes.length > ALONE && ALONE_TOO.test(name)) rmSync(file);
  if (bytes.length > MOST) continue;
  const smaller = brotliCompressSync(bytes, brotli);
  if (blocks(smaller) < blocks(packed)) writeFileSync(new URL(`${file.href}.br`), smaller);
}

/** A second copy that takes as many blocks on the disk is not worth its place. */
function blocks(bytes) {
  return Math.ceil(bytes.length / 4_096);
}

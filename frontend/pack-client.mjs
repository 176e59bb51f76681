// Builds the core as a package of its own and packs it: `npm run client` prints where the tarball is. Nothing is published.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = at("build/client");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
execFileSync(process.execPath, [at("node_modules/typescript/bin/tsc"), "-p", at("tsconfig.client.json")], { stdio: "inherit" });

// tsc rewrites the endings in what runs, but not in the types.
for (const name of readdirSync(`${folder}/lib`, { recursive: true }).filter((one) => one.endsWith(".d.ts"))) {
  const path = `${folder}/lib/${name}`;
  writeFileSync(path, readFileSync(path, "utf8").replace(/(from "\.[^"]*)\.ts"/g, '$1.js"'));
}
const manifest = JSON.parse(readFileSync(at("client/package.json"), "utf8"));
const version = /^VERSION: Final = "([^"]+)"/m.exec(readFileSync(at("../gateway/version.py"), "utf8"));
manifest.version = version[1];
writeFileSync(`${folder}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
for (const name of ["README.md", "example.mjs"]) cpSync(at(`client/${name}`), `${folder}/${name}`);
cpSync(at("../LICENSE"), `${folder}/LICENSE`);
for (const name of manifest.bundleDependencies) {
  cpSync(at(`node_modules/${name}`), `${folder}/node_modules/${name}`, { recursive: true });
}
const packed = execFileSync("npm", ["pack", "--json", "--pack-destination", at("build")], { cwd: folder, encoding: "utf8" });
process.stdout.write(`${at("build")}/${JSON.parse(packed)[0].filename}\n`);

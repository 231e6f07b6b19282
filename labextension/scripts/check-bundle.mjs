// What the bundle must keep: small enough, and nothing that a strict Content-Security-Policy forbids.
import { readdirSync, readFileSync } from "node:fs";

const MOST = 60_000; // bytes of all scripts
const FORBIDDEN = [/\beval\s*\(/, /\bFunction\s*\(\s*["'`]/, /innerHTML|outerHTML|insertAdjacentHTML/];
// The loader of modules has a way for browsers without globalThis; where there is one it is not taken.
const LOADERS = 'try{return this||Function("return this")()}';

const folder = new URL("../dist/static/", import.meta.url);
const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"));
const texts = scripts.map((name) => readFileSync(new URL(name, folder), "utf8").replace(LOADERS, ""));
const size = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
const problems = FORBIDDEN.flatMap((pattern) =>
  scripts.filter((_, index) => pattern.test(texts[index])).map((name) => `${name} contains ${pattern}`),
);
if (size > MOST) {
  problems.push(`the scripts have ${size} bytes, more than ${MOST}`);
}
if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
console.log(`labextension: ${scripts.length} scripts, ${size} bytes`);

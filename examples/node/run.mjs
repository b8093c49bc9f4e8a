// The golden samples of a bundle in Node:
//
//     node run.mjs BUNDLE
//
// Exit code 0: all outputs are within the bundle's tolerance. 1: some are not. 2: nothing could be run.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";

import ort from "onnxruntime-node";

import { Refused, check, openBundle, report } from "../shared/golden.mjs";

const folder = process.argv[2] ?? "bundle";

async function read(name) {
  try {
    return new Uint8Array(await readFile(join(folder, name)));
  } catch (error) {
    throw new Refused(`${join(folder, name)} cannot be read (${error.code}): give the folder of a bundle`);
  }
}

try {
  const bundle = await openBundle(read);
  const session = await ort.InferenceSession.create(bundle.model);
  const result = await check(bundle, ort, session);
  const host = `Node.js ${process.versions.node}, onnxruntime-node ${ort.env.versions.node}`;
  console.log(report(host, bundle, result).join("\n"));
  process.exitCode = result.failures.length ? 1 : 0;
} catch (error) {
  console.error(error instanceof Refused ? error.message : error);
  process.exitCode = 2;
}

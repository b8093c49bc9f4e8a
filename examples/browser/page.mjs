// The golden samples of the bundle that the server hands out, in the browser that shows this page.

async function read(name) {
  const response = await fetch(new URL(`./bundle/${name}`, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be fetched: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A golden sample as a picture, with what the network should say of it. */
function picture({ manifest, golden }, pixels, row) {
  const { height, width } = golden;
  const expected = golden.cases[row];
  const best = expected.probabilities.indexOf(Math.max(...expected.probabilities));
  const words = `${manifest.labels[best]}, ${(100 * expected.probabilities[best]).toFixed(1)}% (${expected.source})`;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", expected.source);
  const image = new ImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    image.data.set([...pixels.subarray(3 * index, 3 * index + 3), 255], 4 * index);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  const item = document.createElement("li");
  item.append(canvas, words);
  return item;
}

async function run() {
  // Here and not at the top, so that whatever cannot be loaded is said on the page.
  const { check, openBundle, report } = await import("./shared/golden.mjs");
  const ort = await import("./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const bundle = await openBundle(read);
  document.getElementById("samples").append(...bundle.samples.map((pixels, row) => picture(bundle, pixels, row)));
  const session = await ort.InferenceSession.create(bundle.model, { executionProviders: ["wasm"] });
  const result = await check(bundle, ort, session);
  const [, browser] = navigator.userAgent.match(/((?:Headless)?Chrome|Firefox|Version)\/[\d.]+/) ?? [];
  const version = navigator.userAgent.match(/(?:Chrome|Firefox|Version)\/([\d.]+)/)?.[1] ?? "";
  const threads = `${ort.env.wasm.numThreads} ${ort.env.wasm.numThreads === 1 ? "thread" : "threads"}`;
  const host = `${browser ?? "browser"} ${version}, onnxruntime-web ${ort.env.versions.web}, ${threads}`;
  return { code: result.failures.length ? 1 : 0, lines: report(host, bundle, result) };
}

const { code, lines } = await run().catch((error) => ({ code: 2, lines: [error.message] }));
const status = document.getElementById("report");
status.textContent = lines.join("\n");
status.dataset.code = code; // what run.py waits for

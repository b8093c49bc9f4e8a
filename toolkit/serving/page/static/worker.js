// Computes with onnxruntime-web, in a thread of its own so that the page goes on reacting.

import { decoded, encoded, isJpeg, prepared } from "./prepare.js";

let session, description, runtime;

async function opened(bytes, model) {
  const engine = new URL("engine/", import.meta.url).href;
  runtime ??= await import(`${engine}ort.wasm.min.mjs`);
  runtime.env.wasm.numThreads = 1; // several need headers that keep other pages from embedding anything of this one
  runtime.env.wasm.wasmPaths = engine;
  await session?.release();
  session = await runtime.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] });
  description = model;
}

async function computed(pixels, count) {
  const { height, width } = description.preprocessing, input = description.input;
  const values = encoded(pixels, input, height, width);
  const shape = input.normalization_in_graph ? [count, height, width, 3] : [count, 3, height, width];
  const outputs = await session.run({ [input.name]: new runtime.Tensor(input.dtype, values, shape) });
  return { logits: outputs.logits.data, probabilities: outputs.probabilities.data };
}

/** Compare with the golden samples: the largest difference of a logit, and the largest as a share of what is allowed. */
async function judged(expected, pixels, tolerance) {
  const cases = expected.cases, { logits } = await computed(new Uint8Array(pixels), cases.length);
  const result = { samples: cases.length, difference: 0, share: null };
  const judges = tolerance !== null && tolerance.logits_absolute !== null && tolerance.logits_relative !== null;
  cases.forEach((each, row) => {
    const scale = Math.max(...each.logits.map(Math.abs));
    each.logits.forEach((value, at) => {
      const found = Math.abs(logits[row * each.logits.length + at] - value);
      // Written so that not-a-number is the largest of all.
      if (!(found <= result.difference)) result.difference = Number.isNaN(found) ? Infinity : found;
      if (judges) {
        const share = found / (tolerance.logits_absolute + tolerance.logits_relative * scale);
        if (!(share <= (result.share ?? 0))) result.share = Number.isNaN(share) ? Infinity : share;
        result.share ??= share;
      }
    });
  });
  return result;
}

async function classified(blob) {
  const started = performance.now();
  const pre = description.preprocessing, pixels = prepared(await decoded(blob), pre, await isJpeg(blob));
  const between = performance.now(), outputs = await computed(pixels, 1), ended = performance.now();
  return { ...outputs, decodeMs: between - started, computeMs: ended - between };
}

const asked = {
  open: async ({ bytes, model, expected, pixels, tolerance }) => {
    await opened(bytes, model);
    return expected === null ? null : judged(expected, pixels, tolerance);
  },
  classify: async ({ blob }) => classified(blob),
};

// One after the other: an image that is asked for while the model opens waits for it.
let last = Promise.resolve();

self.addEventListener("message", ({ data: { id, kind, ...rest } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await asked[kind](rest) });
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
});

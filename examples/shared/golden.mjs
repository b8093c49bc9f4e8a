// A bundle as a program without toolkit reads it, in Node and in browsers: manifest, golden samples, and what they allow.
// Every file is compared with the SHA-256 in the manifest before anything else looks at it. What a reader of strangers'
// bundles checks beyond that stands in the specification of the bundle.

/** Why nothing could be run: bad input, not a result. */
export class Refused extends Error {}

const SECONDS = 1;

/**
 * Open a bundle.
 *
 * @param {(name: string) => Promise<Uint8Array>} read returns a file of the bundle by its name.
 */
export async function openBundle(read) {
  const manifest = parsed(await read("manifest.json"));
  if (manifest.schema_version !== 3) {
    throw new Refused(`the manifest is of version ${manifest.schema_version}, this program reads 3: export the bundle again`);
  }
  const artifact = manifest.artifacts.find((one) => one.family === "onnx" && one.precision === "float32");
  if (!artifact) throw new Refused("the bundle has no ONNX artifact in float32: export it with --formats onnx");
  if (Object.keys(artifact.further_files).length) {
    throw new Refused(`${artifact.file} keeps weights in files beside it, which this program does not hand over`);
  }
  const records = { ...manifest.files, [artifact.file]: artifact };
  const checked = async (name) => {
    if (!Object.hasOwn(records, name)) throw new Refused(`the manifest lists no ${name}: export the bundle again`);
    const bytes = await read(name);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (sha256 !== records[name].sha256) throw new Refused(`${name} is not the file that the manifest describes: copy the bundle again`);
    return bytes;
  };
  const golden = parsed(await checked("golden/expected.json"));
  const samples = await Promise.all(golden.cases.map((one) => checked(one.file)));
  return { manifest, artifact, golden, samples, model: await checked(artifact.file) };
}

/**
 * Run every golden sample alone and all of them in one batch, then all of them again for a second.
 *
 * @param bundle what openBundle returned.
 * @param ort onnxruntime-node or onnxruntime-web: their interface is the same.
 * @param session of bundle.model.
 * @returns {Promise<{difference: number, failures: string[], speed: number}>} the largest absolute difference of a logit
 *   from the expected one, in what the outputs are not as they should be, and images per second.
 */
export async function check(bundle, ort, session) {
  const every = bundle.samples.map((_, row) => row);
  const input = bundle.manifest.input.name;
  const failures = [];
  let difference = 0;
  for (const rows of [...every.map((row) => [row]), every]) {
    const outputs = await session.run({ [input]: tensor(bundle, rows, ort) });
    const found = judge(bundle, rows, { logits: outputs.logits.data, probabilities: outputs.probabilities.data });
    difference = Math.max(difference, found.difference);
    failures.push(...found.failures);
  }
  const batch = tensor(bundle, every, ort);
  let images = 0;
  const start = performance.now();
  while (performance.now() - start < 1000 * SECONDS) {
    await session.run({ [input]: batch });
    images += every.length;
  }
  return { difference, failures, speed: (1000 * images) / (performance.now() - start) };
}

/**
 * Hold outputs to the artifact's tolerance.
 *
 * @param bundle what openBundle returned.
 * @param {number[]} rows which samples were run.
 * @param {{logits: Float32Array, probabilities: Float32Array}} outputs of these samples, one after the other.
 */
export function judge(bundle, rows, outputs) {
  const { golden, artifact, manifest } = bundle;
  const { logits_absolute, logits_relative, probabilities_absolute, rounding_multiple } = artifact.tolerance;
  const classes = manifest.labels.length;
  const failures = [];
  let difference = 0;
  let squares = 0;
  for (const [place, row] of rows.entries()) {
    const expected = golden.cases[row];
    const largest = Math.max(...expected.logits.map(Math.abs), 1e-30);
    const margins = { logits: logits_absolute + logits_relative * largest, probabilities: probabilities_absolute };
    for (const [name, margin] of Object.entries(margins)) {
      const given = outputs[name].slice(place * classes, (place + 1) * classes);
      const error = Math.max(...expected[name].map((value, index) => Math.abs(given[index] - Math.fround(value))));
      if (!(error <= margin) || outputs[name].length !== rows.length * classes) {
        failures.push(`${name} of ${expected.file} differ by ${short(error)}, allowed ${short(margin)}`);
      }
      if (name === "logits") {
        difference = Math.max(difference, error);
        squares += (error / largest) ** 2;
      }
    }
  }
  // The typical error must be one of rounding; that is judged over all samples.
  const rounding = golden.rounding[artifact.precision];
  const typical = Math.sqrt(squares / rows.length);
  if (rounding && rounding_multiple && rows.length === golden.cases.length) {
    const most = rounding_multiple * Math.max(rounding, 2 ** -24);
    if (!(typical <= most)) {
      failures.push(`logits are typically off by ${short(typical)} of the largest, rounding explains ${short(most)}`);
    }
  }
  return { difference, failures };
}

/** The lines in which every example says what it found. */
export function report(host, bundle, { difference, failures, speed }) {
  const { file, format, precision } = bundle.artifact;
  return [
    `host: ${host}`,
    `artifact: ${file} (${format}, ${precision})`,
    `golden samples: ${bundle.samples.length}, each alone and all together`,
    `largest logit difference: ${short(difference)}`,
    `images per second: ${Number(speed.toPrecision(3))}`,
    ...(failures.length ? failures.map((failure) => `FAILED: ${failure}`) : ["passed"]),
  ];
}

/** The input of the graph for some samples. */
function tensor({ manifest, samples }, rows, ort) {
  const [, ...shape] = manifest.input.shape;
  const pixels = rows.map((row) => samples[row]);
  const values = manifest.input.normalization_in_graph ? joined(pixels) : normalised(pixels, manifest.input.normalization);
  return new ort.Tensor(manifest.input.dtype, values, [rows.length, ...shape]);
}

function joined(pixels) {
  const values = new Uint8Array(pixels.length * pixels[0].length);
  pixels.forEach((bytes, place) => values.set(bytes, place * bytes.length));
  return values;
}

/** What an artifact takes that was exported with --input tensor: (pixel - mean * 255) / (std * 255), channels first. */
function normalised(pixels, { mean, std }) {
  const float = Math.fround;
  const [means, scales] = [mean, std].map((numbers) => numbers.map((value) => float(float(value) * 255)));
  const size = pixels[0].length / 3;
  const values = new Float32Array(pixels.length * 3 * size);
  pixels.forEach((bytes, place) => {
    for (let index = 0; index < bytes.length; index++) {
      const channel = index % 3;
      const target = (3 * place + channel) * size + (index - channel) / 3;
      values[target] = float(bytes[index] - means[channel]) / scales[channel];
    }
  });
  return values;
}

function parsed(bytes) {
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}

function short(number) {
  return number.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2"); // as C and Python write it
}

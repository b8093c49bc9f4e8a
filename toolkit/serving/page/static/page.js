// The page at "/": an image in, what the server says of it, and beside it what this browser computes itself.

const $ = (id) => document.getElementById(id);
const address = (path) => new URL(path, document.baseURI);
const SHOWN = 5;
const SMALL = 96;

let key = "";
let models = [];
let turn = 0; // of the image that was chosen last; answers for an earlier one are dropped
let lastImage = null;
let previewUrl = null;

class Refused extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** Fetch from this server, with the key if there is one; raise what the server says where it refuses. */
async function fetched(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch {
    throw new Refused("the server cannot be reached.", 0);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const sentence = said.error ?? said.detail ?? `the server answered ${response.status} ${response.statusText}`.trim();
  throw new Refused(String(sentence), response.status);
}

// ---- models -------------------------------------------------------------------------------------------------------

async function lookAtModels() {
  models = (await (await fetched("page/models")).json()).models;
  const chosen = $("model").value;
  $("model").replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === chosen)));
  $("model-choice").hidden = models.length < 2;
  showModel();
}

const model = () => models.find(({ name }) => name === $("model").value) ?? models[0];

function showModel() {
  const it = model();
  $("key-form").hidden = true;
  $("input").hidden = !it || Boolean(it.not_ready);
  if (!it) return problem("This server has no model.");
  if (it.not_ready) return problem(`${it.name}: ${it.not_ready}`);
  problem("");
  $("title").textContent = it.name;
  document.title = `${it.name}: try it`;
  const { height, width } = it.preprocessing;
  $("facts").textContent = `Version ${it.version}, ${it.labels.length} labels, ${width} × ${height} pixels.`;
  $("browser").textContent = it.browser
    ? `Once an image is chosen, this browser fetches the model (${megabytes(it.browser.bytes)}) and computes too.`
    : `This browser does not compute for itself: ${it.why_not}.`;
}

const megabytes = (bytes) => (bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// ---- the server's answer ------------------------------------------------------------------------------------------

/** Classify an image file by the Open Inference Protocol: a JSON header, then the bytes as they are. */
async function byServer(name, file) {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, file.size, true);
  const header = new TextEncoder().encode(
    JSON.stringify({
      inputs: [{ name: "images", shape: [1], datatype: "BYTES", parameters: { binary_data_size: 4 + file.size } }],
      outputs: [{ name: "logits" }, { name: "probabilities" }],
    }),
  );
  const started = performance.now();
  const response = await fetched(`v2/models/${encodeURIComponent(name)}/infer`, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(header.length) },
    body: new Blob([header, length, file]),
  });
  const answer = await response.json(), ms = performance.now() - started;
  const output = (wanted) => answer.outputs.find((each) => each.name === wanted).data;
  return { version: answer.model_version, logits: output("logits"), probabilities: output("probabilities"), ms };
}

// ---- the browser's own answer -------------------------------------------------------------------------------------

const own = { worker: null, waiting: new Map(), count: 0, open: null, golden: null };

function ask(kind, rest, transfer = []) {
  own.worker ??= startWorker();
  const id = ++own.count;
  return new Promise((resolve, reject) => {
    own.waiting.set(id, { resolve, reject });
    own.worker.postMessage({ id, kind, ...rest }, transfer);
  });
}

function startWorker() {
  const worker = new Worker(address("page/worker.js"), { type: "module" });
  worker.addEventListener("message", ({ data: { id, result, error } }) => {
    const { resolve, reject } = own.waiting.get(id);
    own.waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });
  worker.addEventListener("error", (event) => {
    for (const { reject } of own.waiting.values()) reject(new Error(event.message || "its program cannot be loaded"));
    own.waiting.clear();
    own.worker = null;
    own.open = null;
  });
  return worker;
}

/** Fetch a model and open it in the worker, unless it is open already. */
async function openOwn(it) {
  const which = `${it.name} ${it.version} ${it.browser.sha256}`;
  if (own.open === which) return;
  own.open = null;
  const query = `?${new URLSearchParams({ model: it.name, version: it.version })}`;
  const [bytes, expected, pixels] = await Promise.all([
    fetched(`page/model.onnx${query}`).then((response) => response.arrayBuffer()),
    it.browser.golden ? fetched(`page/golden.json${query}`).then((response) => response.json()) : null,
    it.browser.golden ? fetched(`page/golden.bin${query}`).then((response) => response.arrayBuffer()) : null,
  ]);
  const { preprocessing, input } = it, { tolerance } = it.browser;
  own.golden = await ask(
    "open",
    { bytes, expected, pixels, tolerance, model: { preprocessing, input } },
    pixels ? [bytes, pixels] : [bytes],
  );
  own.open = which;
}

async function byBrowser(it, file) {
  await openOwn(it);
  return ask("classify", { blob: file });
}

function sayGolden() {
  if (own.golden === null) return "The bundle has no golden samples to judge this browser by.";
  const { samples, difference, share } = own.golden, found = `largest logit difference ${number(difference)}`;
  if (share === null || share <= 1) return `This browser reproduces the ${samples} golden samples of the model: ${found}.`;
  return `This browser does not reproduce the ${samples} golden samples of the model: ${found}, ${number(share)} times what is allowed.`;
}

// ---- what is shown ------------------------------------------------------------------------------------------------

/** Write a small number with two digits, as 0.012 or 3.1 × 10⁻⁶. */
function number(value) {
  if (value === 0 || value >= 1e-3 || Number.isNaN(value)) return String(Number(value.toPrecision(2)));
  const [mantissa, power] = value.toExponential(1).split("e-");
  return `${mantissa}\u00a0×\u00a010⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
}

const percent = (share) => `${(100 * share).toFixed(2)}%`;
const largest = (values) => values.reduce((best, value, at) => (value > values[best] ? at : best), 0);

function problem(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = !sentence;
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({
    class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false",
  })) svg.setAttribute(name, value);
  for (const width of [100, 100 * share]) {
    const rect = document.createElementNS(svg.namespaceURI, "rect");
    rect.setAttribute("width", String(width));
    rect.setAttribute("height", "6");
    svg.append(rect);
  }
  return svg;
}

function cell(share) {
  const made = element("td", percent(share));
  made.append(bar(share));
  return made;
}

/** Show what the server says and, if it is there, what the browser does. */
function show(it, server, browser, imageSize) {
  const best = largest(server.probabilities);
  const order = [...server.probabilities.keys()].sort((a, b) => server.probabilities[b] - server.probabilities[a]);
  const shown = order.slice(0, SHOWN);
  if (browser && !shown.includes(largest(browser.probabilities))) shown.push(largest(browser.probabilities));
  $("answer").textContent = `${it.labels[best]}, ${percent(server.probabilities[best])}`;
  for (const head of document.querySelectorAll("th.own")) head.hidden = !browser;
  $("labels").replaceChildren(
    ...shown.map((at) => {
      const row = document.createElement("tr");
      row.append(element("th", it.labels[at], { scope: "row" }), cell(server.probabilities[at]));
      if (browser) {
        const difference = Math.abs(browser.probabilities[at] - server.probabilities[at]);
        row.append(cell(browser.probabilities[at]), element("td", number(difference), { class: "right" }));
      }
      return row;
    }),
  );
  const figures = [["Server", `${Math.round(server.ms)} ms there and back, ${it.server}, version ${server.version}`]];
  if (browser) {
    const apart = (name) => Math.max(...browser[name].map((value, at) => Math.abs(value - server[name][at])));
    const same = largest(browser.probabilities) === best ? "the same label" : "another label";
    figures.push(
      ["This browser", `${Math.round(browser.decodeMs)} ms to decode, ${Math.round(browser.computeMs)} ms to compute, onnxruntime-web`],
      ["Largest difference", `${number(apart("logits"))} of a logit, ${number(apart("probabilities"))} of a probability; ${same}`],
    );
  }
  figures.push(["Image", imageSize]);
  $("figures").replaceChildren(...figures.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("result").hidden = false;
}

function preview(file) {
  const image = $("preview");
  if (previewUrl) URL.revokeObjectURL(previewUrl);
  previewUrl = URL.createObjectURL(file);
  image.src = previewUrl;
  return image.decode().then(
    () => {
      image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL);
      image.alt = `The image that was chosen${file.name ? `: ${file.name}` : ""}`;
      image.hidden = false;
      $("invitation").textContent = "Drop another image here, paste one, or";
      return `${image.naturalWidth} × ${image.naturalHeight} pixels, ${megabytes(file.size)}`;
    },
    () => {
      image.hidden = true;
      return `${megabytes(file.size)}, of a kind that this browser cannot show`;
    },
  );
}

async function classify(file) {
  const mine = ++turn, old = () => mine !== turn;
  lastImage = file;
  problem("");
  $("result").hidden = true;
  $("status").textContent = "The server looks at the image …";
  const size = preview(file);
  let it = model(), server;
  try {
    server = await byServer(it.name, file);
    if (server.version !== it.version) {
      await lookAtModels(); // another version has taken over
      it = model();
    }
    if (!it?.labels) return; // which has been said
  } catch (error) {
    if (old()) return;
    $("status").textContent = "";
    if (error.status === 401) return wantKey(error.message);
    return problem(`The server gave no answer: ${error.message}`);
  }
  const imageSize = await size;
  if (old()) return;
  show(it, server, null, imageSize);
  $("status").textContent = "";
  if (!it.browser || it.version !== server.version) return;
  $("status").textContent = "This browser computes …";
  try {
    const browser = await byBrowser(it, file);
    if (old()) return;
    $("browser").textContent = sayGolden();
    show(it, server, browser, imageSize);
  } catch (error) {
    if (!old()) $("browser").textContent = `This browser could not compute it: ${error.message}`;
  } finally {
    if (!old()) $("status").textContent = "";
  }
}

// ---- the key ------------------------------------------------------------------------------------------------------

function wantKey(sentence) {
  problem(key ? sentence : "");
  $("key-form").hidden = false;
  $("key").focus();
}

async function start() {
  try {
    await lookAtModels();
  } catch (error) {
    if (error.status === 401) return wantKey(error.message);
    return problem(`The server does not say what it serves: ${error.message}`);
  }
  if (lastImage && !$("input").hidden) classify(lastImage);
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  start();
});

// ---- how an image comes in ----------------------------------------------------------------------------------------

function take(files) {
  const found = [...files];
  if (found.length === 0 || $("input").hidden) return;
  classify(found.find(({ type }) => type.startsWith("image/")) ?? found[0]);
}

for (const id of ["file", "capture"]) {
  $(id).addEventListener("change", ({ target }) => {
    take(target.files);
    target.value = ""; // so that the same file can be chosen again
  });
}
$("choose").addEventListener("click", () => $("file").click());
$("model").addEventListener("change", () => {
  $("result").hidden = true;
  showModel();
  if (lastImage && !$("input").hidden) classify(lastImage);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    take(event.clipboardData.files);
  }
});
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
document.addEventListener("dragover", () => $("drop").classList.add("over"));
for (const kind of ["dragleave", "drop", "dragend"]) {
  document.addEventListener(kind, () => $("drop").classList.remove("over"));
}
document.addEventListener("drop", (event) => take(event.dataTransfer?.files ?? []));

// ---- the camera: the phone's own where there is one, else a picture of what a webcam shows ---------------------------

async function photograph() {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices?.getUserMedia) return $("capture").click();
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
  } catch (error) {
    return problem(`There is no camera to use: ${error.message || error.name}.`);
  }
  $("camera").showModal();
  await $("video").play();
}

function shoot() {
  const video = $("video"), canvas = document.createElement("canvas");
  if (!video.videoWidth) return;
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => classify(blob), "image/jpeg", 0.95);
  $("camera").close();
}

$("photograph").addEventListener("click", photograph);
$("shoot").addEventListener("click", shoot);
$("cancel").addEventListener("click", () => $("camera").close());
$("camera").addEventListener("close", () => {
  for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
  $("video").srcObject = null;
});

start();

// Sends a photo to /v1/segment of this server, once for each model, and shows the classes over it.

const LARGEST = 4_000_000; // pixels; a larger photo is scaled down, so that phones can show the result
const STEP = 0.02; // of the width, for an arrow key

const find = (id) => document.getElementById(id);
const show = (element, visible) => { element.hidden = !visible; };

let models = [];
let limits = { bytes: Infinity, pixels: Infinity };
let token = sessionStorage.getItem("token") || "";
let running = []; // requests of the current photo
let panels = []; // results of the current photo
let stopProgress = () => {};
let run = 0; // counts photos, so that a late answer for a former one is dropped
const hidden = new Set(); // names of classes

// ---- The server

function authorization() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function loadModels() {
  try {
    const response = await fetch("v1/model", { headers: authorization() });
    const needsToken = response.status === 401;
    show(find("token-form"), needsToken);
    show(find("choose"), !needsToken);
    if (needsToken) {
      if (token) fail("The token is wrong.");
      return;
    }
    if (!response.ok) throw new Error(await reason(response));
    ({ models, limits } = await response.json());
    const names = models.map((model) => `${model.name} (${model.classes.length} classes)`).join(", ");
    find("models").textContent = `${names}. Photos go to this server only.`;
    clearError();
  } catch (error) {
    fail(`The server does not answer: ${error.message}`);
  }
}

async function reason(response) {
  return (await response.json()).detail;
}

/** The answer of a model for a photo, with these parts. `onProgress(share)` follows the upload, from 0 to 1. */
function segment(photo, model, include, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report the progress of an upload
    const query = new URLSearchParams({ model: model.name, include, alpha: 0 });
    request.open("POST", `v1/segment?${query}`);
    request.responseType = "json";
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
    request.upload.onload = () => onProgress(1);
    request.onload = () => {
      if (request.status === 200) resolve(request.response);
      else reject(new Error(request.response?.detail || `The server answered ${request.status}.`));
    };
    request.onerror = () => reject(new Error("The server does not answer. Is it still running?"));
    running.push(request);
    request.send(photo);
  });
}

// ---- Messages

function fail(message) {
  find("error").textContent = message;
  show(find("error"), true);
}

function clearError() {
  show(find("error"), false);
  find("error").textContent = "";
}

/** Shows the progress of the uploads, and then the seconds. `of(index)` takes the share of an upload that is sent. */
function startProgress(count) {
  const shares = new Array(count).fill(0);
  const start = performance.now();
  const tell = () => {
    const sent = shares.reduce((sum, share) => sum + share, 0) / count;
    const seconds = Math.round((performance.now() - start) / 1000);
    // A screen reader says each change of the status, so it holds neither percents nor seconds.
    const status = sent < 1 ? "Sending …" : "Computing …";
    if (find("status").textContent !== status) find("status").textContent = status;
    find("elapsed").textContent = sent < 1 ? `${Math.round(100 * sent)} %` : seconds < 2 ? "" : `${seconds} s`;
    if (sent < 1) find("progress").value = sent;
    else find("progress").removeAttribute("value");
  };
  tell();
  show(find("progress"), true);
  const timer = setInterval(tell, 1000);
  return {
    of: (index) => (share) => { shares[index] = share; tell(); },
    stop: () => {
      clearInterval(timer);
      find("elapsed").textContent = "";
      return (performance.now() - start) / 1000;
    },
  };
}

// ---- A photo

/**
 * The photo as a bitmap, and as it is sent: the file itself, or a smaller picture. Without a bitmap, the server
 * sends the picture: if the browser cannot decode the file, or would not show the transparent pixels.
 */
async function prepare(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return { bitmap: null, sent: file, note: "" }; // the server knows more formats, or says what is wrong
  }
  const most = Math.min(LARGEST, limits.pixels);
  const factor = Math.min(1, Math.sqrt(most / (bitmap.width * bitmap.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(bitmap.width * factor));
  canvas.height = Math.max(1, Math.floor(bitmap.height * factor));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (factor === 1 && file.size <= limits.bytes) {
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const opaque = new Uint32Array(data.buffer).every((pixel) => pixel >>> 24 === 255);
    return { bitmap: opaque ? bitmap : null, sent: file, note: "" };
  }
  context.globalCompositeOperation = "destination-over"; // black under transparent pixels, as JPEG has it
  context.fillRect(0, 0, canvas.width, canvas.height);
  const sent = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  const note = `Scaled from ${bitmap.width} x ${bitmap.height} to ${canvas.width} x ${canvas.height} pixels.`;
  return { bitmap: await createImageBitmap(canvas), sent, note };
}

async function open(file) {
  const own = ++run;
  for (const request of running) request.abort(); // the server does not compute for a client that has gone
  running = [];
  clearError();
  if (!models.length) await loadModels();
  if (!models.length) return;
  const photo = await prepare(file);
  if (own !== run) return;
  stopProgress();
  const progress = startProgress(models.length);
  stopProgress = progress.stop;
  const include = (k) => `rle,confidence${photo.bitmap || k ? "" : ",overlay"}`; // with alpha=0, the photo
  try {
    const answers = await Promise.all(
      models.map((model, k) => segment(photo.sent, model, include(k), progress.of(k))));
    if (own !== run) return;
    photo.bitmap ||= await decodePng(answers[0].overlay);
    delete answers[0].overlay;
    const found = await Promise.all(answers.map(readAnswer));
    if (own !== run) return;
    const name = (file.name || "photo").replace(/\.\w+$/, "");
    present(photo, found, name);
    find("status").textContent = `Done in ${progress.stop().toFixed(1)} s: ${headline()}`;
  } catch (error) {
    if (own !== run) return;
    for (const request of running) request.abort();
    progress.stop();
    find("status").textContent = "";
    fail(file.name ? `${file.name}: ${error.message}` : error.message);
  }
  show(find("progress"), false);
}

// ---- An answer

/** Adds `labels` and `sure` to an answer: the class and the probability (0 to 255) of each pixel, row by row. */
async function readAnswer(answer) {
  const { width, height } = answer;
  const labels = new Uint16Array(width * height);
  for (const found of answer.classes) fill(labels, width, height, found.rle.counts, found.index);
  return { answer, labels, sure: await grayValues(answer.confidence, width, height) };
}

/** Writes `value` at the pixels of a mask in COCO's run-length encoding, which goes column by column. */
function fill(labels, width, height, text, value) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let number = 0, shift = 0, digit;
    do {
      digit = text.charCodeAt(at++) - 48;
      number |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) number |= -1 << shift;
    counts.push(counts.length > 2 ? number + counts[counts.length - 2] : number);
  }
  let position = 0;
  counts.forEach((count, k) => {
    if (k % 2) {
      for (let p = position; p < position + count; p++) labels[(p % height) * width + Math.floor(p / height)] = value;
    }
    position += count;
  });
}

async function decodePng(base64) {
  const image = new Image();
  image.src = `data:image/png;base64,${base64}`;
  await image.decode();
  return image;
}

async function grayValues(base64, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(await decodePng(base64), 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: width * height }, (_, k) => data[4 * k]);
}

// ---- The result

function present(photo, found, name) {
  hidden.clear();
  panels = found.map((result, k) => makePanel(photo, result, models[k], name));
  find("panels").replaceChildren(...panels.map((panel) => panel.element));
  find("panels").classList.toggle("one", panels.length === 1);
  find("note").textContent = photo.note;
  show(find("note"), photo.note !== "");
  applyOpacity();
  show(find("results"), true);
  find("results").scrollIntoView({ block: "nearest" });
}

function headline() {
  return panels.length > 1 ? `${panels.length} models.` : panels[0].summary;
}

function makePanel(photo, { answer, labels, sure }, model, name) {
  const element = find("panel").content.firstElementChild.cloneNode(true);
  const part = (selector) => element.querySelector(selector);
  const { width, height } = answer;
  for (const canvas of element.querySelectorAll("canvas")) {
    canvas.width = width;
    canvas.height = height;
  }
  part("h2").textContent = model.name;
  part(".photo").getContext("2d").drawImage(photo.bitmap, 0, 0, width, height);
  const panel = {
    element, answer, labels, sure, model, name,
    picture: part(".picture"), readout: part(".readout"), classes: part(".classes"), cross: part(".cross"),
    summary: `${answer.classes.slice(0, 3).map((found) => `${found.name} ${percent(found.share)}`).join(", ")}.`,
  };
  panel.picture.style.setProperty("--ratio", width / height);
  panel.picture.classList.toggle("wide", width > 3 * height);
  panel.picture.setAttribute("aria-label", `${panel.summary} The arrow keys name the class at a point.`);
  part(".legend").append(...answer.classes.map((found) => legendRow(found)));
  part(".save-png").addEventListener("click", () => savePicture(panel));
  part(".save-json").addEventListener("click", () => saveJson(panel));
  panel.picture.addEventListener("pointermove", (event) => pointAt(...relative(event, panel)));
  panel.picture.addEventListener("pointerdown", (event) => pointAt(...relative(event, panel)));
  panel.picture.addEventListener("keydown", (event) => moveByKey(event, panel));
  paint(panel);
  return panel;
}

function legendRow(found) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.name = found.name;
  button.setAttribute("aria-pressed", "true");
  const [swatch, name, bar, share] = ["swatch", "name", "bar", "share"].map((kind) => {
    const span = document.createElement("span");
    span.className = kind;
    return span;
  });
  swatch.style.background = `rgb(${found.color})`;
  name.textContent = found.name;
  bar.append(document.createElement("b"));
  bar.firstChild.style.width = `${100 * found.share}%`;
  share.textContent = percent(found.share);
  button.append(swatch, name, bar, share);
  button.addEventListener("click", () => toggle(found.name));
  row.append(button);
  return row;
}

function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** Hides or shows a class in all panels, so that models are compared on the same classes. */
function toggle(name) {
  if (!hidden.delete(name)) hidden.add(name);
  for (const panel of panels) {
    for (const button of panel.element.querySelectorAll(".legend button")) {
      if (button.dataset.name === name) button.setAttribute("aria-pressed", String(!hidden.has(name)));
    }
    paint(panel);
  }
}

function paint({ classes, labels, answer }) {
  const context = classes.getContext("2d");
  const pixels = context.createImageData(answer.width, answer.height);
  const colors = new Map(answer.classes.map((found) => [found.index, found]));
  const table = new Uint32Array(1 + Math.max(...colors.keys())); // ABGR, as memory has it
  for (const [index, { name, color: [red, green, blue] }] of colors) {
    table[index] = hidden.has(name) ? 0 : (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  }
  const out = new Uint32Array(pixels.data.buffer);
  for (let k = 0; k < out.length; k++) out[k] = table[labels[k]];
  context.putImageData(pixels, 0, 0);
}

function applyOpacity() {
  const value = find("opacity").value;
  find("percent").textContent = `${value} %`;
  for (const panel of panels) panel.classes.style.opacity = value / 100;
}

// ---- The pointer

let pointer = { x: 0.5, y: 0.5 }; // relative to the picture

function relative(event, panel) {
  const box = panel.picture.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

/** Names the class at a point in all panels. */
function pointAt(x, y) {
  pointer = { x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, 0), 1) };
  for (const { answer, labels, sure, model, readout, cross } of panels) {
    const column = Math.min(Math.floor(pointer.x * answer.width), answer.width - 1);
    const row = Math.min(Math.floor(pointer.y * answer.height), answer.height - 1);
    const at = row * answer.width + column;
    const probability = sure[at] > 252 ? "over 99 %" : `${Math.round(sure[at] / 2.55)} %`;
    const name = document.createElement("b");
    name.textContent = `${model.classes[labels[at]].name}, ${probability}`;
    readout.replaceChildren(name, ` at column ${column}, row ${row}`);
    cross.style.left = `${100 * pointer.x}%`;
    cross.style.top = `${100 * pointer.y}%`;
    show(cross, true);
  }
}

function moveByKey(event, panel) {
  const step = event.shiftKey ? 1 / panel.answer.width : STEP;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (!(event.key in moves)) return;
  event.preventDefault();
  pointAt(pointer.x + moves[event.key][0], pointer.y + moves[event.key][1]);
  panel.cross.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// ---- Downloads

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function savePicture({ element, classes, name, model }) {
  const photo = element.querySelector(".photo");
  const canvas = document.createElement("canvas");
  canvas.width = photo.width;
  canvas.height = photo.height;
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0);
  context.globalAlpha = find("opacity").value / 100;
  context.drawImage(classes, 0, 0);
  canvas.toBlob((blob) => download(blob, `${name}_${model.name}.png`), "image/png");
}

function saveJson({ answer, name, model }) {
  const { confidence, ...rest } = answer;
  download(new Blob([JSON.stringify(rest, null, 2)], { type: "application/json" }), `${name}_${model.name}.json`);
}

// ---- The camera

async function openCamera() {
  const coarse = matchMedia("(pointer: coarse)").matches;
  if (coarse || !navigator.mediaDevices) { // the phone's own camera; a page without HTTPS has no other
    find("capture").click();
    return;
  }
  const dialog = find("viewfinder");
  const video = dialog.querySelector("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    fail(error.name === "NotAllowedError" ? "The browser does not allow this page to use the camera."
      : "There is no camera, or another program uses it.");
    return;
  }
  video.srcObject = stream;
  await video.play();
  dialog.returnValue = "";
  dialog.showModal();
  dialog.addEventListener("close", async () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    if (dialog.returnValue !== "shoot") return;
    canvas.toBlob((blob) => open(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.95);
  }, { once: true });
}

// ---- Events

for (const id of ["file", "capture"]) {
  find(id).addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
find("camera").addEventListener("click", openCamera);
find("opacity").addEventListener("input", applyOpacity);
find("samples").addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const response = await fetch(`page/samples/${button.dataset.file}`);
  open(new File([await response.blob()], button.dataset.file, { type: "image/jpeg" }));
});
find("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = find("token").value;
  sessionStorage.setItem("token", token);
  await loadModels();
  find(models.length ? "file" : "token").focus();
});

addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file);
});
let entered = 0; // elements under the drag
addEventListener("dragenter", () => { entered++; document.body.classList.add("dragging"); });
addEventListener("dragleave", () => { if (--entered <= 0) endDrag(); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  endDrag();
  const [file] = event.dataTransfer.files;
  if (file) open(file);
  else fail("That was not a file. Save the photo first, then drop the file.");
});
function endDrag() {
  entered = 0;
  document.body.classList.remove("dragging");
}

loadModels();

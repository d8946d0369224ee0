// Shows a photo with its classes in colour. worker.js computes them.

const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
let model, labels, labelsWidth, labelsHeight;

worker.onmessage = ({ data }) => {
  if (data.error) report(data.error);
  else if (data.model) ready(data.model);
  else show(data);
};
worker.onerror = (event) => report(`The page cannot start: ${event.message ?? "its scripts cannot be loaded"}`);

function ready(metadata) {
  model = metadata;
  model.names = Object.keys(model.class_names).map((k) => model.class_names[k]);
  $("model").textContent = `${model.model}, ${model.names.length} classes`;
  $("status").textContent = "Ready.";
  $("file").disabled = false;
  const photo = new URLSearchParams(location.search).get("photo"); // a file beside this page
  if (photo) load(photo);
}

async function load(photo) {
  const response = await fetch(photo).catch(() => null);
  if (response?.ok) segment(await response.blob());
  else report(`${photo} cannot be loaded.`);
}

async function segment(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    report(`${file.name ?? "The file"} is not an image that this browser can read.`);
    return;
  }
  report("Segmenting …", false);
  $("file").disabled = true;
  Object.assign($("photo"), { width: bitmap.width, height: bitmap.height });
  $("photo").getContext("2d").drawImage(bitmap, 0, 0);
  worker.postMessage(bitmap, [bitmap]);
}

function show({ labels: found, width, height, provider, seconds }) {
  [labels, labelsWidth, labelsHeight] = [found, width, height];
  const counts = new Array(model.names.length).fill(0);
  const picture = new ImageData(width, height);
  for (let k = 0; k < labels.length; k++) {
    counts[labels[k]] += 1;
    picture.data.set(model.colors[labels[k]], 4 * k);
    picture.data[4 * k + 3] = 255;
  }
  Object.assign($("overlay"), { width, height });
  $("overlay").getContext("2d").putImageData(picture, 0, 0);
  const present = counts.map((_, k) => k).filter((k) => counts[k]).sort((a, b) => counts[b] - counts[a]);
  $("legend").replaceChildren(...present.map((k) => entry(k, counts[k] / labels.length)));
  $("result").hidden = false;
  const where = provider === "webgpu" ? "the graphics processor" : "the processor";
  report(`${width} x ${height} pixels in ${seconds.toFixed(1)} s on ${where}.`, false);
  $("file").disabled = false;
}

function entry(label, share) {
  const item = document.createElement("li");
  const swatch = document.createElement("i");
  swatch.style.background = `rgb(${model.colors[label].join(" ")})`;
  const name = document.createElement("span");
  name.textContent = model.names[label];
  const percent = document.createElement("data");
  percent.value = share;
  percent.textContent = share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`;
  item.append(swatch, name, percent);
  return item;
}

function report(text, error = true) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
  if (error && model) $("file").disabled = false;
}

$("file").onchange = () => {
  if ($("file").files.length) segment($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
};
$("opacity").oninput = () => { $("overlay").style.opacity = $("opacity").value / 100; };
$("opacity").oninput();
$("overlay").onpointermove = (event) => {
  const x = Math.floor((event.offsetX / $("overlay").clientWidth) * labelsWidth);
  const y = Math.floor((event.offsetY / $("overlay").clientHeight) * labelsHeight);
  const label = labels[Math.min(y, labelsHeight - 1) * labelsWidth + Math.min(x, labelsWidth - 1)];
  $("readout").textContent = model.names[label] ?? "";
};
ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over"); };
ondragleave = () => $("drop").classList.remove("over");
ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !$("file").disabled) segment(file);
};

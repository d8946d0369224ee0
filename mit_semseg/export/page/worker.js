// Computes labels beside the page, so that the page stays responsive. A message holds a photo as an ImageBitmap; the
// answer holds its labels at the size that the network sees, or an error.

import { networkSize, resizeToPlanes } from "./resize.js";

const RUNTIMES = { webgpu: "./ort/ort.webgpu.min.mjs", wasm: "./ort/ort.wasm.min.mjs" };

let opening = best().then(open);
opening.then(
  ({ model, provider }) => postMessage({ model, provider }),
  (error) => postMessage({ error: `The model cannot be loaded: ${error.message}` }),
);

onmessage = async ({ data: bitmap }) => {
  try {
    postMessage(await segment(bitmap));
  } catch (error) {
    postMessage({ error: `The photo cannot be segmented: ${error.message}` });
  }
};

async function best() {
  return (await navigator.gpu?.requestAdapter().catch(() => null)) ? "webgpu" : "wasm";
}

async function open(provider) {
  const [model, bytes] = await Promise.all([
    load("model.json").then((response) => response.json()),
    load("model.onnx").then((response) => response.arrayBuffer()),
  ]);
  try {
    const ort = await import(RUNTIMES[provider]);
    ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
    // Threads need headers that most file servers do not send.
    ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
    return { model, ort, session, provider };
  } catch (error) {
    if (provider === "wasm") throw error;
    return open("wasm"); // not every graphics processor can run every model
  }
}

async function load(file) {
  const response = await fetch(new URL(file, import.meta.url));
  if (!response.ok) throw new Error(`${file}: ${response.status} ${response.statusText}`);
  return response;
}

async function segment(bitmap) {
  const { model, ort, session, provider } = await opening;
  const start = performance.now();
  const [width, height] = networkSize(bitmap.width, bitmap.height, model);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  const { data } = canvas.getImageData(0, 0, bitmap.width, bitmap.height);
  const planes = resizeToPlanes(data, bitmap.width, bitmap.height, width, height);
  const image = new ort.Tensor("uint8", planes, [1, 3, height, width]);
  try {
    const { labels } = await session.run({ image }, ["labels"]);
    return { labels: labels.data, width, height, provider, seconds: (performance.now() - start) / 1000 };
  } catch (error) {
    if (provider === "wasm") throw error;
    opening = open("wasm");
    return segment(bitmap);
  }
}

// The scaling that the model was trained with: bilinear and antialiased, with the arithmetic of Pillow. (A canvas
// scales in another way in each browser.) Rows are resized first; where Pillow starts with columns, some values
// differ by 1.

const BITS = 22; // of the fractions of a weight

/** The [width, height] that the network sees of a photo, as the model's metadata say. */
export function networkSize(width, height, model) {
  const edges = [...model.imgSizes].sort((a, b) => a - b);
  const shortEdge = edges[Math.floor(edges.length / 2)];
  const scale = Math.min(shortEdge / Math.min(width, height), model.imgMaxSize / Math.max(width, height));
  const multiple = model.padding_constant;
  return [width, height].map((side) => Math.ceil(Math.max(1, Math.floor(side * scale)) / multiple) * multiple);
}

/** RGBA pixels at another size, as planes of red, green and blue: a Uint8Array of 3 * newHeight * newWidth. */
export function resizeToPlanes(rgba, width, height, newWidth, newHeight) {
  const planes = new Uint8Array(3 * newWidth * newHeight);
  const columns = weights(width, newWidth);
  const rows = weights(height, newHeight);
  const narrow = new Uint8Array(newWidth * height);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < height; y++) {
      pass(columns, rgba, (y * width) * 4 + channel, 4, narrow, y * newWidth, 1);
    }
    for (let x = 0; x < newWidth; x++) {
      pass(rows, narrow, x, newWidth, planes, channel * newWidth * newHeight + x, newWidth);
    }
  }
  return planes;
}

/** For each new position, the first old position that counts, and the weights from there on. */
function weights(length, newLength) {
  const scale = length / newLength;
  const support = Math.max(scale, 1);
  return Array.from({ length: newLength }, (_, k) => {
    const center = (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(length, Math.trunc(center + support + 0.5));
    const shares = [];
    for (let i = first; i < last; i++) shares.push(Math.max(0, 1 - Math.abs((i - center + 0.5) / support)));
    const sum = shares.reduce((a, b) => a + b, 0);
    return { first, shares: Int32Array.from(shares, (share) => Math.floor((share / sum) * 2 ** BITS + 0.5)) };
  });
}

/** Resize one line of pixels. Lines may be rows or columns: neighbours are `step` apart. */
function pass(line, from, start, step, to, newStart, newStep) {
  for (let k = 0; k < line.length; k++) {
    const { first, shares } = line[k];
    let sum = 1 << (BITS - 1);
    for (let i = 0; i < shares.length; i++) sum += from[start + (first + i) * step] * shares[i];
    to[newStart + k * newStep] = Math.min(255, sum >> BITS);
  }
}

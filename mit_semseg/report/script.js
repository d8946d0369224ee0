"use strict";
// The page is complete without this script. It adds sorting, and names the cell under the pointer.

const table = document.getElementById("classes");
const orders = {
  label: "as labelled", name: "name", iou: "IoU", boundary_iou: "boundary IoU", accuracy: "accuracy",
  precision: "precision", pixels: "pixels",
};
const rows = Array.from(table.tBodies[0].rows);
if (!rows.some((row) => "boundary_iou" in row.dataset)) delete orders.boundary_iou;
const names = new Map(rows.map((row) => [row, row.cells[0].textContent]));
const sortBar = document.getElementById("sort");
let current = "label";
let reversed = false;

// The first click sorts names and scores up, since the worst scores matter most, and pixels down.
function compare(key) {
  if (key === "name") return (a, b) => names.get(a).localeCompare(names.get(b));
  return (a, b) => Number(a.dataset[key]) - Number(b.dataset[key]);
}

function sortBy(key) {
  reversed = key === current ? !reversed : key === "pixels";
  current = key;
  const known = rows.filter((row) => key === "name" || key in row.dataset).sort(compare(key));
  if (reversed) known.reverse();
  const unknown = rows.filter((row) => !known.includes(row)); // always last
  table.tBodies[0].append(...known, ...unknown);
  showOrder();
}

function showOrder() {
  for (const button of sortBar.querySelectorAll("button")) {
    const pressed = button.dataset.key === current;
    button.setAttribute("aria-pressed", String(pressed));
    button.textContent = orders[button.dataset.key] + (pressed ? (reversed ? " ↓" : " ↑") : "");
  }
}

sortBar.append("Sort by");
for (const key of Object.keys(orders)) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.key = key;
  button.addEventListener("click", () => sortBy(key));
  sortBar.append(button);
}
showOrder();

const heat = document.getElementById("heat");
if (heat) {
  const cells = JSON.parse(document.getElementById("cells").textContent);
  const labels = Array.from(document.querySelectorAll(".grid .rows li"), (item) => item.textContent);
  const readout = document.getElementById("readout");
  const tell = (event) => {
    const box = heat.getBoundingClientRect();
    const at = (offset, length) => Math.min(labels.length - 1, Math.max(0, Math.floor(offset / length * labels.length)));
    const truth = at(event.clientY - box.top, box.height);
    const guess = at(event.clientX - box.left, box.width);
    const [total, found] = cells[truth];
    const pixels = (found.find((cell) => cell[0] === guess) || [guess, 0])[1];
    const share = total ? ` ${(100 * pixels / total).toFixed(1)} % of its pixels` : " no pixels";
    readout.textContent = truth === guess
      ? `${labels[truth]} found:${share} (${pixels})`
      : `${labels[truth]} taken for ${labels[guess]}:${share} (${pixels})`;
  };
  heat.addEventListener("pointermove", tell);
  heat.addEventListener("click", tell);
}

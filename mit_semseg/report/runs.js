"use strict";
// The page is complete without this script. It makes the legend's entries hide and show their runs.

const toggles = document.getElementById("toggles");
for (const item of toggles ? toggles.children : []) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...item.childNodes);
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const part of document.querySelectorAll(`[data-run="${item.dataset.key}"]:not(tr)`)) {
      part.toggleAttribute("hidden", !shown);
      part.style.display = shown ? "" : "none"; // SVG elements ignore the attribute
    }
  });
  item.append(button);
}

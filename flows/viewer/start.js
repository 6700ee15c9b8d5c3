"use strict";
// Runs before the viewer.

// The viewer in the package expects the package's own server to steer it, and shows a warning until
// it hears from it. It is told once what to leave out of its window, and nothing after that. A
// stream that is really open would take one of the six connections that a browser has for all
// windows together.
const LEFT_OUT = { showEditStateButton: false, showToolPaletteButton: false };
window.EventSource = class {
  constructor() {
    setTimeout(() => {
      this.onopen?.();
      this.onmessage?.({ data: JSON.stringify({ k: "c", g: "1", s: LEFT_OUT }) });
    });
  }
  close() {}
};

const start = JSON.parse(document.getElementById("start").textContent);
// Who comes back to the page finds it as it was left: the viewer keeps its state in the address.
if (!location.hash) {
  const [across, down] = start.state.layout === "xy" ? [1, 1] : [0.5, 0.5];
  const [width, height] = start.extent;
  // Bars of the viewer above and a panel beside the image, and some air around it.
  const scale = Math.max(
    width / (0.96 * across * (window.innerWidth - start.state.selectedLayer.size)),
    height / (0.96 * down * (window.innerHeight - 60)),
  );
  const state = { ...start.state, crossSectionScale: scale };
  history.replaceState(null, "", "#!" + encodeURIComponent(JSON.stringify(state)));
}

// uPlot in the page's colours, as wide as its place; drawn anew when the system turns dark or light.

const HEIGHT = 170;
const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function seriesColour(index) {
  return colour(`c${index % 8}`);
}

function axis(extra) {
  const line = { stroke: colour("line"), width: 1 };
  return { stroke: colour("muted"), grid: line, ticks: line, font: "11px system-ui, sans-serif", ...extra };
}

export class Plot {
  // `options(axis)` gives uPlot's options without a size; asked again whenever colours change.
  constructor(place, options) {
    this.place = place;
    this.options = options;
    this.data = [[]];
    this.build();
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(place);
    this.themed = () => this.build();
    dark.addEventListener("change", this.themed);
  }

  build() {
    this.plot?.destroy();
    const size = { width: Math.max(this.place.clientWidth, 120), height: HEIGHT };
    this.plot = new uPlot({ ...this.options(axis), ...size }, this.data, this.place);
  }

  fit() {
    const width = this.place.clientWidth;
    if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  show(data) {
    this.data = data;
    this.plot.setData(data);
  }

  remove() {
    this.resized.disconnect();
    dark.removeEventListener("change", this.themed);
    this.plot.destroy();
  }
}

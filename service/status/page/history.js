// The last five minutes: latency percentiles, replies and errors per second, queue and batch sizes.

import { byId, element, table } from "./dom.js";
import { milliseconds, NONE, number } from "./format.js";
import { Plot, seriesColour } from "./plot.js";

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

function timePlot(id, labels, value) {
  return new Plot(byId(id), (axis) => ({
    cursor: { y: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1e-3) * 1.1] } },
    axes: [axis({ space: 52, values: (_, splits) => splits.map(clock) }), axis({ size: 46 })],
    series: [
      { label: "at", value: (_, at) => (at === null ? NONE : clock(at)) },
      ...labels.map((label, index) => ({
        label,
        stroke: seriesColour(index),
        width: 1.5,
        spanGaps: false,
        points: { size: 4 },
        value: (_, shown) => value(shown),
      })),
    ],
  }));
}

export class History {
  constructor() {
    this.latency = timePlot("latency", ["p50", "p95", "p99"], milliseconds);
    this.rates = timePlot("rates", ["replies", "errors"], (shown) => `${number(shown)} /s`);
    this.load = timePlot("load", ["waiting", "batch"], (shown) => number(shown));
  }

  show(status) {
    const past = status.history;
    const perSecond = (counts) => counts.map((count) => count / past.interval_s);
    const errors = past.errors.map((codes) => Object.values(codes).reduce((sum, count) => sum + count, 0));
    this.latency.show([past.time, past.p50_ms, past.p95_ms, past.p99_ms]);
    this.rates.show([past.time, perSecond(past.replies), perSecond(errors)]);
    this.load.show([past.time, past.queue, past.batch]);

    showErrors(past);

    const recent = past.time.length - 5; // ten seconds
    const over = (column, from) => column.slice(from).reduce((sum, value) => sum + value, 0);
    const last = (column) => column.findLast((value) => value !== null) ?? null;
    const tiles = [
      ["replies per second", number(over(past.replies, recent) / (5 * past.interval_s))],
      ["latency p50", milliseconds(last(past.p50_ms))],
      ["latency p99", milliseconds(last(past.p99_ms))],
      ["waiting", number(status.queue)],
      ["requests per run", number(last(past.batch))],
      ["errors in a minute", number(over(errors, past.time.length - Math.round(60 / past.interval_s)))],
    ];
    byId("tiles").replaceChildren(
      ...tiles.map(([name, value]) => element("div", "card tile", element("b", "", value), element("span", "", name))),
    );
  }
}

function showErrors(past) {
  const codes = new Map(); // code -> [refusals, when last]
  past.errors.forEach((counts, index) => {
    for (const [code, count] of Object.entries(counts)) {
      codes.set(code, [(codes.get(code)?.[0] ?? 0) + count, past.time[index]]);
    }
  });
  const rows = [...codes].sort((a, b) => b[1][0] - a[1][0]).map(([code, [count, at]]) => [code, String(count), clock(at)]);
  byId("errors").replaceChildren(...table(["code", "refused", "last at"], rows));
  byId("no-errors").hidden = rows.length > 0;
}

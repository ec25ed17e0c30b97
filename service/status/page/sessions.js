// One card a session: its newest camera frames, the chunk it was given, and what else was said; one line once it is silent.

import { byId, element, facts } from "./dom.js";
import { duration, milliseconds, number } from "./format.js";
import { Plot, seriesColour } from "./plot.js";

// Actions of unlike units share a plot: each is drawn within its own bounds, and read in its own unit.
function within(axis, value) {
  return (2 * (value - axis.low)) / (axis.high - axis.low) - 1;
}

function unit(one) {
  return one.units && one.units !== "1" ? ` ${one.units}` : "";
}

class Card {
  constructor() {
    this.title = element("h3");
    this.silence = element("span", "muted");
    this.frames = element("div", "frames");
    this.plotPlace = element("div", "chunk");
    this.facts = element("div");
    const right = element("div", "", this.plotPlace, this.facts);
    const heading = element("div", "heading", this.title, this.silence);
    this.root = element("article", "card session", heading, element("div", "body", this.frames, right));
    this.pictures = new Map();
    this.plot = null;
    this.axes = "";
  }

  show(session) {
    this.title.textContent = session.session ?? "without a session";
    this.silence.textContent = session.silent ? `silent for ${duration(session.age_s)}` : "";
    this.root.classList.toggle("silent", session.silent);
    if (session.silent) return; // nothing else of it is in sight
    this.showFrames(session.frames);
    this.showChunk(session.chunk);
    const state = session.state?.map((one) => `${one.name} ${number(one.value)}${unit(one)}`).join(", ");
    const chunk = session.chunk;
    this.facts.replaceChildren(
      facts([
        ["instruction", session.instruction],
        ["asks", session.rate_hz === null ? null : `${number(session.rate_hz)} times a second`],
        ["latency", `${milliseconds(session.total_ms)}, ${session.batch} in the run, ${session.ddim_steps} steps`],
        ["committed", chunk.prefix ? `the first ${chunk.prefix} of ${chunk.actions[0].length} actions` : null],
        ["state", state],
        ["policy", session.policy],
        ["seq", session.seq === null ? null : String(session.seq)],
      ]),
    );
  }

  showFrames(frames) {
    const names = frames.map((frame) => frame.camera);
    if ([...this.pictures.keys()].join("\n") !== names.join("\n")) {
      this.pictures = new Map(names.map((name) => [name, element("img")]));
      this.frames.replaceChildren(
        ...frames.map((frame) => {
          const picture = this.pictures.get(frame.camera);
          picture.alt = `what ${frame.camera} sees`;
          const caption = `${frame.camera}, ${frame.width} x ${frame.height}`;
          return element("figure", "", picture, element("figcaption", "", caption));
        }),
      );
    }
    for (const frame of frames) {
      const picture = this.pictures.get(frame.camera);
      if (picture.src !== frame.url) picture.src = frame.url;
    }
  }

  showChunk(chunk) {
    const axes = chunk.axes ?? chunk.actions.map((_, index) => ({ name: `action ${index}`, units: "", low: -1, high: 1 }));
    const named = JSON.stringify(axes);
    if (this.axes !== named) {
      this.plot?.remove();
      this.axes = named;
      this.plot = new Plot(this.plotPlace, (axis) => chunkOptions(axis, axes, this));
    }
    this.actions = chunk.actions;
    const times = chunk.actions[0].map((_, step) => step / chunk.rate_hz);
    this.plot.show([times, ...chunk.actions.map((values, index) => values.map((value) => within(axes[index], value)))]);
  }

  remove() {
    this.plot?.remove();
    this.root.remove();
  }
}

function chunkOptions(axis, axes, card) {
  const bound = (_, splits) => splits.map((at) => ({ "-1": "low", 0: "0", 1: "high" })[at] ?? "");
  return {
    cursor: { y: false },
    scales: { x: { time: false }, y: { range: [-1.1, 1.1] } },
    axes: [
      axis({ values: (_, splits) => splits.map((at) => `${number(at)} s`) }),
      axis({ size: 38, splits: [-1, 0, 1], values: bound }),
    ],
    series: [
      { label: "in", value: (_, at) => (at === null ? "–" : `${number(at)} s`) },
      ...axes.map((one, index) => ({
        label: one.name,
        stroke: seriesColour(index),
        width: 1.5,
        points: { show: false },
        value: (_plot, _scaled, _series, step) =>
          step === null ? "–" : `${number(card.actions[index][step])}${unit(one)}`,
      })),
    ],
  };
}

export class Sessions {
  constructor() {
    this.cards = new Map();
  }

  show(sessions) {
    const place = byId("sessions");
    const seen = new Set(sessions.map((session) => session.session));
    for (const [key, card] of this.cards) {
      if (seen.has(key)) continue;
      card.remove();
      this.cards.delete(key);
    }
    for (const session of sessions) {
      let card = this.cards.get(session.session);
      if (!card) {
        card = new Card();
        this.cards.set(session.session, card);
        place.append(card.root); // a plot takes its width from where it stands
      }
      card.show(session);
    }
    const order = sessions.map((session) => this.cards.get(session.session).root);
    if (order.some((root, index) => place.children[index] !== root)) place.append(...order);
    byId("no-sessions").hidden = sessions.length > 0;
  }
}

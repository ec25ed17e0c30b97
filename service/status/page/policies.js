// What is loaded, on what it runs, and what was measured of it.

import { byId, element, facts, table } from "./dom.js";
import { number } from "./format.js";

function shown(value) {
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.map(shown).join(" – ");
  return value === null || value === undefined ? "" : String(value);
}

function card(policy) {
  const columns = [...new Set(policy.measured.flatMap(Object.keys))];
  const rows = policy.measured.map((row) => columns.map((column) => shown(row[column])));
  const measured = rows.length
    ? element("div", "scroll", element("table", "", ...table(columns, rows)))
    : element("p", "muted", "Its bundle holds no measured success.");
  return element(
    "article",
    "card policy",
    element("h3", "", policy.name, policy.active ? " · active" : ""),
    facts([
      ["runs on", `${policy.runtime}, ${policy.device}${policy.why ? ` (${policy.why})` : ""}`],
      ["chunk", `${policy.horizon} actions at ${number(policy.rate_hz)} Hz, ${policy.head}`],
      ["cameras", policy.cameras.join(", ")],
      ["from", policy.source],
      ["hash", policy.hash],
    ]),
    measured,
  );
}

export class Policies {
  constructor() {
    this.drawn = "";
  }

  show(policies) {
    const told = JSON.stringify(policies);
    if (told === this.drawn) return; // left alone, so that a scrolled table stays where it is
    this.drawn = told;
    byId("policies").replaceChildren(...policies.map(card));
  }
}

export function showAnswers(answered) {
  const rows = [...answered]
    .sort((a, b) => b.count - a.count)
    .map((one) => [one.door, one.code, one.count.toLocaleString("en")]);
  byId("answers").replaceChildren(...table(["door", "code", "answers"], rows));
}

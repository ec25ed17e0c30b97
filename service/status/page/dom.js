// Elements without markup: whatever a robot calls its session or is told to do stays text.

export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

// A <dl> of [term, value] pairs; pairs without a value are left out.
export function facts(pairs) {
  const list = element("dl");
  for (const [term, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") list.append(element("dt", "", term), element("dd", "", value));
  }
  return list;
}

// The parts of a <table>; without rows, none.
export function table(head, rows) {
  if (!rows.length) return [];
  const line = (tag, cells) => element("tr", "", ...cells.map((cell) => element(tag, "", cell)));
  return [element("thead", "", line("th", head)), element("tbody", "", ...rows.map((row) => line("td", row)))];
}

// Asks for the status once a second while the page is looked at, and shows it.

import { byId } from "./dom.js";
import { duration } from "./format.js";
import { History } from "./history.js";
import { Policies, showAnswers } from "./policies.js";
import { Sessions } from "./sessions.js";

const EVERY_MS = 1000;
const STORED = "tinyvla-token"; // kept for this tab only, and never in the address

let views = null;
let timer = null;
let turn = 0; // of a loop that another one has replaced, what comes back late is dropped

function setState(text, kind) {
  const pill = byId("state");
  pill.textContent = text;
  pill.className = `pill ${kind}`;
}

function askForToken(complaint) {
  byId("gate").hidden = false;
  byId("page").hidden = true;
  byId("refused").textContent = complaint;
  setState("locked", "loading");
  byId("token").focus();
}

function show(status) {
  byId("gate").hidden = true;
  byId("page").hidden = false;
  byId("page").classList.remove("stale");
  views ??= { history: new History(), sessions: new Sessions(), policies: new Policies() };
  setState(status.ready ? "ready" : "not ready", status.ready ? "ready" : "loading");
  byId("active").textContent = status.active ?? "";
  byId("uptime").textContent = `up ${duration(status.uptime_s)}${status.version ? `, version ${status.version}` : ""}`;
  views.history.show(status);
  views.sessions.show(status.sessions);
  views.policies.show(status.policies);
  showAnswers(status.answered);
}

// False when there is no use in asking again before a person did something.
async function look(mine) {
  const token = sessionStorage.getItem(STORED);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response, status;
  try {
    response = await fetch("status", { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (response.ok) status = await response.json(); // of which the rest may never come
  } catch {
    if (mine !== turn) return false;
    setState("no answer, trying again", "gone");
    byId("page").classList.add("stale");
    return true;
  }
  if (mine !== turn) return false;
  if (response.status === 401) {
    sessionStorage.removeItem(STORED);
    askForToken(token ? "That is not this server's token." : "");
    return false;
  }
  if (!response.ok) {
    setState(`error ${response.status}`, "gone");
    return true;
  }
  show(status);
  return true;
}

async function run() {
  clearTimeout(timer);
  const mine = ++turn;
  if (document.hidden) return; // nobody looks; the server then keeps no frames either
  if (await look(mine)) timer = setTimeout(run, EVERY_MS);
}

byId("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(STORED, byId("token").value.trim());
  byId("token").value = "";
  run();
});
document.addEventListener("visibilitychange", run);
run();

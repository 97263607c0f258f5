// The page: it draws the pictures that the server sends, one frame for each, and says so when there are none.
// All text comes into the page as text. What is not known to be fresh is never drawn as if it were.

import { amount, decimalsOf, drawDepth, drawLines, figure, latencies, mark, span, timeOfDay, write } from "./drawing.js";

const LOST_MS = 1500; // a picture comes every 250 ms
const WAITS_MS = [400, 800, 1600, 3200];
const SAMPLES = 120;
const GLYPHS = { verified: "●", fresh: "○", stale: "◌", closed: "▪", old: "◌" };
const LEVELS = Math.min(Math.max(Math.floor((innerHeight - 400) / 42), 10), 20); // as many as there is room for
const SHOWN_REASONS = 3;
const THEMES = ["auto", "light", "dark"];

const $ = (id) => document.getElementById(id);
const rows = new Map();
let chosen = symbolOfAddress();
let shown = null; // the newest picture
let samples = [];
let source = null;
let attempts = 0;
let retryAt = null;
let heardAt = performance.now();
let lateMs = 0;
let smallest = Infinity;
let everHeard = false;
let pending = false;
let complaint = null;
let allReasons = false;
let serial = 0;
let theme = storedTheme();
let said = { text: "", at: -Infinity };

// ---- the server

function connect() {
  retryAt = null;
  smallest = Infinity;
  source?.close();
  const query = new URLSearchParams({ levels: LEVELS });
  if (chosen) query.set("symbol", chosen);
  const own = new EventSource(`state?${query}`);
  source = own;
  let first = true;
  own.onmessage = (message) => {
    if (source === own) { take(JSON.parse(message.data), first); first = false; }
  };
  own.onerror = () => { if (source === own) lose(); };
}

function take(picture, first) {
  const now = performance.now();
  // How late a picture is, by the server's own clock: one that has lain in a buffer is not fresh because it came just now.
  const offset = now - picture.common.mono_us / 1000;
  smallest = Math.min(smallest, offset);
  lateMs = offset - smallest;
  heardAt = now;
  everHeard = true;
  attempts = 0;
  complaint = null;
  samples = (first ? [] : samples).concat(picture.samples).slice(-SAMPLES);
  chosen ??= picture.panel?.symbol ?? null;
  shown = picture;
  draw();
}

function lose() {
  source?.close();
  source = null;
  if (retryAt === null) {
    const wait = WAITS_MS[Math.min(attempts, WAITS_MS.length - 1)];
    attempts += 1;
    retryAt = performance.now() + wait;
    setTimeout(() => { if (retryAt !== null && !document.hidden) connect(); }, wait);
    if (attempts > 1) askWhy();
  }
  draw();
}

/** Find out in words why there is no stream: the browser does not say. */
async function askWhy() {
  try {
    const query = chosen ? `?symbol=${encodeURIComponent(chosen)}` : "";
    const answer = await fetch(`state${query}`, { method: "HEAD", cache: "no-store" });
    if (answer.status === 401) complaint = "The server wants its token: open the page as /?token=… once more.";
    else if (answer.status === 404) { complaint = null; chosen = null; } // another server, with other markets
    else if (answer.ok) complaint = "The server answers, and has no room for this page: too many are open.";
  } catch {
    complaint = null; // nobody answers, which the page says anyway
  }
}

/** Say whether there are pictures, and how old the last one is. */
function serverState(now) {
  const silentMs = now - heardAt;
  if (source && everHeard && silentMs < LOST_MS && lateMs < LOST_MS) return ["here", ""];
  const tries = retryAt === null ? "Trying again." : `Trying again in ${Math.max(0, (retryAt - now) / 1000).toFixed(0)} s.`;
  if (!everHeard) return [attempts > 1 ? "lost" : "waiting", attempts > 1 ? `The server does not answer. ${complaint ?? tries}` : "Waiting for the first word of the server…"];
  const age = Math.max(silentMs, lateMs);
  const since = timeOfDay((Date.now() - age) * 1000);
  return ["lost", `The server is lost: no word since ${since} UTC, ${span(age / 1000)} ago. Everything below is old. ${complaint ?? tries}`];
}

// ---- drawing

function draw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; paint(performance.now()); });
}

function paint(now) {
  const [server, words] = serverState(now);
  const here = server === "here";
  mark(document.body, "data-server", server);
  write($("server"), words);
  if (!shown) { document.title = "backpack-feed"; return; }
  const { common, panel } = shown;
  paintHealth(common, here);
  paintFacts(common, here);
  paintMarkets(common.markets, here);
  if (panel && panel.symbol === chosen) paintMarket(panel, here);
  else clearMarket();
  write($("version"), `backpack-feed ${common.version}`);
  document.title = here ? `${common.health.status === "healthy" ? "" : "! "}${chosen ?? ""} · backpack-feed` : "server lost · backpack-feed";
}

function paintHealth({ health, exchange, markets }, here) {
  const verdicts = { healthy: ["✓", "All is well"], degraded: ["!", "Not all is well"], down: ["✕", "The connection is down"] };
  const [glyph, text] = verdicts[health.status] ?? ["?", health.status];
  mark($("health"), "data-status", here ? health.status : "unknown");
  write($("verdict").firstElementChild, here ? glyph : "?");
  write($("status"), here ? text : `Unknown. It was: ${text.toLowerCase()}`);
  // What explains the most comes first; single streams are details.
  const reasons = [...health.reasons].sort((one, other) => one.startsWith("stream ") - other.startsWith("stream "));
  // That a closed market is silent goes without saying.
  const closed = markets.filter((market) => market.state === "closed").map((market) => `.${market.symbol} `);
  const notes = health.notes.filter((note) => !closed.some((name) => note.startsWith("stream ") && note.includes(name)));
  const lines = [...reasons.map((line) => ["reason", line]), ...notes.map((line) => ["note", line])];
  const more = lines.length - SHOWN_REASONS;
  $("more").hidden = more <= 1;
  write($("more"), allReasons ? "fewer" : `and ${more} more`);
  fill($("reasons"), allReasons || more <= 1 ? lines.length : SHOWN_REASONS, () => document.createElement("li"), (item, index) => {
    mark(item, "class", lines[index][0]);
    write(item, lines[index][1]);
  });
  write($("exchange"), exchange);
  announce(here ? text : "The server is lost");
}

function paintFacts({ connection, counters, markets }, here) {
  const was = here ? "" : "was ";
  const mute = connection.up && connection.in_doubt ? `, mute for ${span(connection.data_age_s)}` : "";
  write($("connection"), `${was}${connection.up ? "up" : "down"} for ${span(connection.since_s)}${mute}`);
  const retry = connection.retry_s === null ? "" : connection.retry_s > 0 ? `next try in ${connection.retry_s.toFixed(1)} s` : "trying now";
  write($("connection-detail"), connection.up ? `last data ${span(connection.data_age_s)} ago, ${counters.reconnects} reconnects` : [retry, connection.reason].filter(Boolean).join(": "));
  const last = samples.at(-1);
  write($("rate"), last ? String(last[0]) : "–");
  drawLines($("rate-line"), [samples.map(([messages]) => messages)], SAMPLES, here);
  const heard = samples.filter(([, p50]) => p50 !== null).at(-1);
  write($("latency"), heard ? latencies(heard[1], heard[2]) : "–");
  drawLines($("latency-line"), [samples.map(([, p50]) => p50), samples.map(([, , p99]) => p99)], SAMPLES, here);
  const count = (state) => markets.filter((market) => market.state === state).length;
  const live = count("verified") + count("fresh");
  write($("books"), `${was}${live} of ${markets.length - count("closed")} live`);
  write($("books-detail"), ["verified", "fresh", "stale", "closed"].filter(count).map((state) => `${count(state)} ${state}`).join(", "));
  write($("repairs"), `${counters.resyncs} resyncs`);
  write($("repairs-detail"), `${figure(String(counters.verifications))} checks, ${counters.divergences} differed`);
}

function paintMarkets(markets, here) {
  const wanted = $("filter").value.trim().toLowerCase();
  const symbols = new Set(markets.map((market) => market.symbol));
  for (const [symbol, row] of rows) if (!symbols.has(symbol)) { row.remove(); rows.delete(symbol); }
  let visible = 0;
  markets.forEach((market) => {
    const row = rows.get(market.symbol) ?? newRow(market.symbol);
    const [name, last, chip, aside] = row.children;
    row.hidden = !market.symbol.toLowerCase().includes(wanted);
    visible += !row.hidden;
    mark(row, "aria-selected", String(market.symbol === chosen));
    mark(row, "data-trust", trusted(market.state) ? "yes" : "no");
    write(name, market.symbol);
    write(last, figure(market.last, decimalsOf(market.tick)));
    paintChip(chip, here ? market.state : "old");
    const resyncs = market.resyncs ? `${market.resyncs} resync${market.resyncs === 1 ? "" : "s"} · ` : "";
    const age = market.state === "stale" ? `for ${span(market.since_s)}` : market.age_s === null ? "no proof" : span(market.age_s);
    const change = market.change === null ? "" : `${signed(market.change)} % · `;
    write(aside, market.state === "closed" ? "–" : `${change}${resyncs}${age}`);
    if (market.symbol === chosen) mark($("list"), "aria-activedescendant", row.id);
  });
  $("none").hidden = visible > 0 || !markets.length;
}

function newRow(symbol) {
  const row = document.createElement("li");
  row.className = "row";
  row.id = `market-${(serial += 1)}`;
  row.setAttribute("role", "option");
  for (const name of ["name", "last", "chip", "aside"]) row.append(Object.assign(document.createElement("span"), { className: name }));
  row.children[2].append(Object.assign(document.createElement("span"), { ariaHidden: "true" }), document.createElement("b"));
  row.addEventListener("click", () => {
    choose(symbol);
    if (matchMedia("(max-width: 760px)").matches) $("market").scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  });
  rows.set(symbol, row);
  $("list").append(row);
  return row;
}

function paintChip(chip, state) {
  mark(chip, "data-state", state);
  write(chip.firstElementChild, `${GLYPHS[state] ?? "·"} `);
  write(chip.lastElementChild, state);
}

function paintMarket(panel, here) {
  const decimals = decimalsOf(panel.tick);
  const places = decimalsOf(panel.step);
  const trust = here && trusted(panel.state);
  mark($("market"), "data-trust", trust ? "yes" : "no");
  write($("symbol"), panel.symbol);
  paintChip($("state"), here ? panel.state : "old");
  write($("last"), figure(panel.last, decimals));
  write($("change"), panel.change === null ? "" : `${signed(panel.change)} % in 24 h`);
  $("why").hidden = panel.reason === null && here;
  const since = panel.since_s === null ? "" : `, for ${span(panel.since_s)}`;
  write($("why"), !here ? "Old: the server is lost." : panel.state === "closed" ? `Closed: ${panel.reason}.` : panel.reason === null ? "" : `Stale${since}: ${panel.reason}. What is struck through may be wrong.`);
  write($("mid"), figure(panel.mid, decimals + 1)); // half a tick is the most that it needs
  write($("spread"), panel.spread === null ? "–" : `${figure(panel.spread, decimals)} (${panel.spread_bp} bp)`);
  write($("confirmed"), panel.age_s === null ? "never" : `${span(panel.age_s)} ago`);
  write($("range"), panel.low === null ? "–" : `${figure(panel.low, decimals)} – ${figure(panel.high, decimals)}`);
  write($("volume"), panel.volume === null ? "–" : `${amount(panel.volume)} ${panel.quote}`);
  write($("update"), panel.update_id === "0" ? "–" : panel.update_id);
  write($("unit-quantity"), `Quantity (${panel.base})`);
  paintLadder($("asks"), panel.asks, panel.depth.asks, decimals, places, true);
  paintLadder($("bids"), panel.bids, panel.depth.bids, decimals, places, false);
  write($("middle-mid"), figure(panel.mid, decimals + 1));
  write($("middle-spread"), panel.spread === null ? "one side is empty" : `spread ${figure(panel.spread, decimals)}`);
  paintDepth(panel, decimals, trust);
  paintTrades(panel.trades, decimals, places);
  paintStreams(panel.streams, here);
  announce(here ? `${panel.symbol} ${panel.state}` : "", true);
}

function paintLadder(list, levels, totals, decimals, places, upward) {
  const largest = Math.max(1e-12, ...levels.map((level) => Number(level[1])));
  fill(list, LEVELS, newLevel, (item, index) => {
    // The best ask stands at the bottom of its side, next to the middle.
    const at = upward ? LEVELS - 1 - index : index;
    const level = levels[at];
    const [bar, price, quantity, total] = item.children;
    mark(item, "aria-hidden", String(!level));
    bar.style.width = level ? `${((Number(level[1]) / largest) * 100).toFixed(1)}%` : "0";
    write(price, level ? figure(level[0], decimals) : "");
    write(quantity, level ? figure(level[1], places) : "");
    write(total, level && totals[at] ? figure(totals[at][1], places) : "");
  });
}

function newLevel() {
  const item = document.createElement("li");
  item.append(document.createElement("i"), ...[0, 1, 2].map(() => document.createElement("span")));
  return item;
}

function paintDepth(panel, decimals, trust) {
  const drawn = drawDepth($("chart"), panel.depth.bids, panel.depth.asks, trust);
  write($("axis-low"), drawn ? drawn.low.toFixed(decimals) : "");
  write($("axis-mid"), drawn ? figure(panel.mid, decimals + 1) : "nothing to draw");
  write($("axis-high"), drawn ? drawn.high.toFixed(decimals) : "");
  const text = drawn ? `${amount(String(drawn.bid))} bid, ${amount(String(drawn.ask))} asked` : "";
  write($("depth-text"), text);
  mark($("chart"), "aria-label", `Depth chart: ${text} ${panel.base}`);
}

function paintTrades(trades, decimals, places) {
  fill($("trades"), Math.min(trades.length, 2 * LEVELS + 2), newTrade, (item, index) => {
    const [us, price, quantity, side] = trades[index];
    const [time, word, at, size] = item.children;
    mark(item, "data-side", side);
    write(time, timeOfDay(us));
    write(word, side === "buy" ? "▲ buy" : "▼ sell");
    write(at, figure(price, decimals));
    write(size, figure(quantity, places));
  });
}

function newTrade() {
  const item = document.createElement("li");
  item.append(...[0, 1, 2, 3].map(() => document.createElement("span")));
  return item;
}

function paintStreams(streams, here) {
  fill($("streams"), streams.length, () => {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("span"), { className: "name" }), Object.assign(document.createElement("span"), { className: "aside" }));
    return item;
  }, (item, index) => {
    const { name, state, reason, age_s: age } = streams[index];
    const heard = age === null ? "nothing yet" : `${span(age)} ago`;
    mark(item, "data-state", state);
    mark(item, "title", reason ?? name);
    write(item.children[0], name.split(".")[0]);
    write(item.children[1], !here ? `was ${state}` : reason === null ? `${state}, ${heard}` : `${state}: ${reason}`);
  });
}

/** Have a list hold so many items, and paint each. */
function fill(list, count, make, paintItem) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.append(make());
  [...list.children].forEach(paintItem);
}

/** Show nothing of the market before, until the first picture of this one has come. */
function clearMarket() {
  write($("symbol"), chosen ?? "–");
  if ($("market").dataset.trust === "none") return;
  mark($("market"), "data-trust", "none");
  for (const id of ["last", "change", "mid", "spread", "confirmed", "range", "volume", "update", "middle-mid", "middle-spread", "depth-text", "axis-low", "axis-mid", "axis-high"]) write($(id), "");
  for (const id of ["asks", "bids"]) fill($(id), LEVELS, newLevel, (item) => { [...item.children].forEach((part) => write(part, "")); item.firstElementChild.style.width = "0"; });
  for (const id of ["trades", "streams"]) $(id).replaceChildren();
  $("why").hidden = true;
  mark($("state"), "data-state", "waiting");
  write($("state").firstElementChild, "");
  write($("state").lastElementChild, "…");
  drawDepth($("chart"), [], [], false);
}

function signed(text) {
  return text.replace("-", "−");
}

function trusted(state) {
  return state === "verified" || state === "fresh";
}

/** Tell a screen reader what has changed in kind, seldom: numbers never. */
function announce(text, ofMarket = false) {
  const key = ofMarket ? "market" : "health";
  if (!text || said[key] === text) return;
  const now = performance.now();
  if (now - said.at < 3000) return;
  said = { ...said, [key]: text, at: now };
  write($("announcer"), text);
}

// ---- choosing

function symbolOfAddress() {
  try { return decodeURIComponent(location.hash.slice(1)) || null; } catch { return null; }
}

let choosing = null;
function choose(symbol) {
  if (symbol === chosen && shown?.panel) return;
  chosen = symbol;
  history.replaceState(null, "", `${location.pathname}#${encodeURIComponent(symbol)}`);
  draw();
  // Whoever runs through the list asks once.
  clearTimeout(choosing);
  choosing = setTimeout(connect, 60);
}

function step(by) {
  const visible = [...rows].filter(([, row]) => !row.hidden).map(([symbol]) => symbol);
  if (!visible.length) return;
  const at = visible.indexOf(chosen);
  const next = at < 0 ? 0 : Math.min(Math.max(at + by, 0), visible.length - 1);
  choose(visible[next]);
  rows.get(visible[next]).scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target === $("filter");
  const plain = event.target === document.body || event.target === $("list") || event.target === $("market");
  if (typing) {
    if (event.key === "Escape") { $("filter").value = ""; $("list").focus(); draw(); }
    else if (event.key === "Enter") { step(0); $("list").focus(); }
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") step(event.key === "ArrowDown" ? 1 : -1);
    else return;
  } else if (event.key === "/") { $("filter").focus(); $("filter").select(); }
  else if (event.key === "?") $("keys").showModal();
  else if (event.key === "t") turnTheme();
  else if (event.key === "j" || (plain && event.key === "ArrowDown")) step(1);
  else if (event.key === "k" || (plain && event.key === "ArrowUp")) step(-1);
  else if (plain && event.key === "Home") step(-rows.size);
  else if (plain && event.key === "End") step(rows.size);
  else return;
  event.preventDefault();
});

$("filter").addEventListener("input", draw);
$("more").addEventListener("click", () => {
  allReasons = !allReasons;
  mark($("more"), "aria-expanded", String(allReasons));
  draw();
});
$("help").addEventListener("click", () => $("keys").showModal());
$("theme").addEventListener("click", turnTheme);
addEventListener("resize", draw);
addEventListener("hashchange", () => { const symbol = symbolOfAddress(); if (symbol && symbol !== chosen) choose(symbol); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// ---- colours

function storedTheme() {
  try { return THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto"; } catch { return "auto"; }
}

function turnTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.setItem("theme", theme); } catch { /* private browsing keeps nothing: the choice holds for this page */ }
  paintTheme();
}

function paintTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  write($("theme").lastElementChild, theme);
  mark($("theme"), "aria-label", `Colours: ${theme === "auto" ? "as the system has them" : theme}`);
  draw();
}

// ---- begin

// The token of the address has become a cookie; it is to be in no history.
if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash);
for (const name of ["ink", "soft", "old", "hair", "bid", "ask"]) {
  document.body.append(Object.assign(document.createElement("i"), { hidden: true }));
  document.body.lastElementChild.dataset.colour = name;
}
paintTheme();
document.addEventListener("visibilitychange", () => {
  // A page that nobody sees costs the server nothing; seen again, it is old until the first picture has come.
  if (document.hidden) { source?.close(); source = null; retryAt = null; }
  else { attempts = 0; connect(); draw(); }
});
setInterval(() => { if (serverState(performance.now())[0] !== "here") draw(); }, 250);
connect();

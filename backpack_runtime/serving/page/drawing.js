// Numbers as people read them, and the three canvases. Nothing here knows the server.

/** Set the text of an element, if it is another one: what does not change is not laid out again. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute, if it is another one. */
export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Return how many decimals a tick such as "0.0100" has: 2. */
export function decimalsOf(tick) {
  const fraction = (tick.split(".")[1] ?? "").replace(/0+$/, "");
  return fraction.length;
}

/** Return a number in plain digits with thousands apart, and with at least so many decimals; its own are never cut off. */
export function figure(text, decimals = 0) {
  if (text === null || text === undefined) return "–";
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (!match) return text;
  const whole = match[2].replace(/\B(?=(\d{3})+$)/g, ",");
  const fraction = (match[3] ?? "").padEnd(decimals, "0");
  return `${match[1]}${whole}${fraction ? `.${fraction}` : ""}`;
}

/** Return an amount that need not be exact, in few digits: 1.2 M. */
export function amount(text) {
  const value = Number(text);
  if (text === null || !Number.isFinite(value)) return "–";
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return value.toPrecision(3);
}

/** Return how long something took or has lasted. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.1) return "< 0.1 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

/** Return two latencies, both in the unit of the longer one. */
export function latencies(first, second) {
  const seconds = second >= 999500;
  const text = (us) => (seconds ? (us / 1e6).toFixed(1) : us < 9950 ? (us / 1000).toFixed(1) : String(Math.round(us / 1000)));
  return `${text(first)} / ${text(second)} ${seconds ? "s" : "ms"}`;
}

/** Return the time of day in UTC. */
export function timeOfDay(us, digits = 0) {
  return new Date(us / 1000).toISOString().slice(11, digits ? 20 + digits : 19);
}

/** Return a canvas ready to be drawn on in CSS pixels, and its size; null where it has no room. */
function prepare(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  if (width < 2 || height < 2) return null;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** Return a colour of the style sheet as it is now. */
function colour(name, property = "color") {
  const probe = document.querySelector(`[data-colour="${name}"]`);
  return getComputedStyle(probe)[property];
}

/** Draw lines of values over time, the newest at the right edge; `room` is how many there would be at most. */
export function drawLines(canvas, series, room, trusted) {
  const ready = prepare(canvas);
  if (!ready) return;
  const { pen, width, height } = ready;
  const highest = Math.max(1e-9, ...series.flat().filter((value) => value !== null));
  series.forEach((values, index) => {
    pen.strokeStyle = colour(trusted ? (index ? "soft" : "ink") : "old");
    pen.globalAlpha = index ? 0.55 : 1;
    pen.lineWidth = 1.25;
    pen.beginPath();
    let drawing = false;
    values.forEach((value, at) => {
      if (value === null) { drawing = false; return; }
      const x = width - 1 - (values.length - 1 - at) * ((width - 2) / (room - 1));
      const y = height - 1.5 - (value / highest) * (height - 3);
      if (drawing) pen.lineTo(x, y); else pen.moveTo(x, y);
      drawing = true;
    });
    pen.stroke();
  });
  pen.globalAlpha = 1;
}

/** Draw how much there is up to each price, on both sides of the middle; return the lowest and highest price that are drawn. */
export function drawDepth(canvas, bids, asks, trusted) {
  const ready = prepare(canvas);
  if (!ready || !bids.length || !asks.length) return null;
  const { pen, width, height } = ready;
  const [best, ask] = [Number(bids[0][0]), Number(asks[0][0])];
  const mid = (best + ask) / 2;
  // The same distance to both sides, as far as both are known.
  const reach = Math.max(Math.min(mid - Number(bids.at(-1)[0]), Number(asks.at(-1)[0]) - mid), ask - mid, 1e-12);
  const inside = (rows) => rows.map(([price, total]) => [Number(price), Number(total)]).filter(([price]) => Math.abs(price - mid) <= reach);
  const [left, right] = [inside(bids), inside(asks)];
  const highest = Math.max(1e-12, left.at(-1)?.[1] ?? 0, right.at(-1)?.[1] ?? 0);
  const x = (price) => width / 2 + ((price - mid) / reach) * (width / 2);
  const y = (total) => height - 1 - (total / highest) * (height - 12);
  pen.strokeStyle = colour("hair");
  pen.lineWidth = 1;
  for (const part of [0.25, 0.5, 0.75, 1]) {
    const line = Math.round(y(highest * part)) + 0.5;
    pen.beginPath(); pen.moveTo(0, line); pen.lineTo(width, line); pen.stroke();
  }
  for (const [rows, name, edge] of [[left, "bid", 0], [right, "ask", width]]) {
    if (!rows.length) continue;
    const path = new Path2D();
    path.moveTo(x(rows[0][0]), height - 0.5);
    let before = height - 0.5;
    for (const [price, total] of rows) {
      path.lineTo(x(price), before);
      before = y(total);
      path.lineTo(x(price), before);
    }
    path.lineTo(edge, before);
    pen.strokeStyle = colour(trusted ? name : "old");
    pen.lineWidth = 1.5;
    pen.stroke(path);
    path.lineTo(edge, height - 0.5);
    path.closePath();
    pen.fillStyle = colour(trusted ? name : "old", "backgroundColor");
    pen.globalAlpha = 0.75;
    pen.fill(path);
    pen.globalAlpha = 1;
  }
  pen.strokeStyle = colour("soft");
  pen.lineWidth = 1;
  pen.setLineDash([2, 3]);
  pen.beginPath(); pen.moveTo(Math.round(width / 2) + 0.5, 0); pen.lineTo(Math.round(width / 2) + 0.5, height); pen.stroke();
  pen.setLineDash([]);
  return { low: mid - reach, high: mid + reach, bid: left.at(-1)?.[1] ?? 0, ask: right.at(-1)?.[1] ?? 0 };
}

"use strict";
// Draws the timeline of a run: lanes downward, simulated time to the right. All of the data is in the page.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const GUTTER = 118, AXIS = 26, FAULT = 17, PAD = 10;
  // A lane is as tall as the window lets it be, within reason.
  const LANE_LEAST = 46, LANE_MOST = 92;
  let LANE = LANE_LEAST;
  const LOUD = new Set(["violation", "alarm", "process", "role", "placement", "catch-up", "collection", "client"]);
  const byTime = (a, b) => a.at - b.at;
  const marks = data.marks.slice().sort(byTime);
  const links = data.links.map((link) => ({ ...link, at: link.received })).sort((a, b) => a.sent - b.sent);
  const spans = data.spans.slice().sort((a, b) => a.start - b.start);
  const violations = marks.filter((mark) => mark.kind === "violation");
  const total = Math.max(1, data.end, ...marks.slice(-1).map((m) => m.at), ...spans.map((s) => s.end), ...links.map((l) => l.received));
  const longest = links.reduce((most, link) => Math.max(most, link.received - link.sent), 0);
  const hidden = new Set();
  let wanted = "";
  let view = { from: 0, to: total * 1.02 };
  let chosen = null, hovered = null, colors = {};

  // Faults in as few lines as they need.
  const lines = [];
  for (const span of spans) {
    const room = total / 14;
    let line = lines.findIndex((end) => end <= span.start);
    if (line < 0) line = lines.push(0) - 1;
    lines[line] = Math.max(span.end, span.start + room);
    span.line = line;
  }
  const top = AXIS + lines.length * FAULT + PAD;
  let height = 0;
  const chart = byId("chart"), map = byId("map"), tip = byId("tip"), stage = byId("stage");
  const laneY = (lane) => (lane === null ? AXIS + 4 : top + lane * LANE + LANE / 2);
  const laneName = (lane) => (lane === null || lane === undefined ? "all" : data.lanes[lane].name);
  const width = () => chart.clientWidth - GUTTER - PAD;
  const x = (at) => GUTTER + ((at - view.from) / (view.to - view.from)) * width();
  const time = (px) => view.from + ((px - GUTTER) / width()) * (view.to - view.from);
  const seconds = (at) => (at / 1e6).toFixed(3);
  const matches = (text) => wanted === "" || text.toLowerCase().includes(wanted);
  const shown = (thing) => !hidden.has(thing.kind) && matches(thing.text);

  const style = () => {
    const computed = getComputedStyle(document.documentElement);
    colors = new Proxy({}, { get: (memo, name) => (memo[name] ??= computed.getPropertyValue("--" + name).trim()) });
  };

  const fitCanvas = (canvas, tall) => {
    const ratio = window.devicePixelRatio || 1;
    const wide = canvas.clientWidth;
    canvas.style.height = tall + "px";
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(tall * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, tall);
    return context;
  };

  // The first place in a list sorted by `key` that is not before `at`.
  const firstFrom = (list, at, key) => {
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle][key] < at) low = middle + 1; else high = middle;
    }
    return low;
  };
  const visibleMarks = () => marks.slice(firstFrom(marks, view.from, "at"), firstFrom(marks, view.to, "at")).filter(shown);
  const visibleLinks = () => links
    .slice(firstFrom(links, view.from - longest, "sent"), firstFrom(links, view.to, "sent"))
    .filter((link) => link.received >= view.from && shown(link));
  const visibleSpans = () => (hidden.has("faults") ? [] : spans.filter((s) => s.start <= view.to && s.end >= view.from && matches(s.text)));

  const ticks = () => {
    const least = (view.to - view.from) / Math.max(2, width() / 90);
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least);
    const found = [];
    for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) found.push([at, step]);
    return found;
  };

  const clipText = (context, text, room) => {
    if (room < 14) return "";
    if (context.measureText(text).width <= room) return text;
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (context.measureText(text.slice(0, middle) + "…").width <= room) low = middle; else high = middle - 1;
    }
    return low > 1 ? text.slice(0, low) + "…" : "";
  };

  const drawFrame = (context) => {
    context.font = "11px ui-sans-serif, system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const [at, step] of ticks()) {
      const px = Math.round(x(at)) + 0.5;
      if (px < GUTTER) continue;
      context.strokeStyle = colors.line;
      context.beginPath(); context.moveTo(px, AXIS); context.lineTo(px, height); context.stroke();
      context.fillStyle = colors.soft;
      context.textAlign = "center";
      const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(step / 1e6) - 1e-9)));
      if (px > GUTTER + 18) context.fillText((at / 1e6).toFixed(digits) + " s", px, AXIS / 2);
    }
    if (data.healed !== null && data.healed >= view.from && data.healed <= view.to) {
      const px = Math.round(x(data.healed)) + 0.5;
      context.strokeStyle = colors.client;
      context.setLineDash([4, 4]);
      context.beginPath(); context.moveTo(px, AXIS); context.lineTo(px, height); context.stroke();
      context.setLineDash([]);
      context.fillStyle = colors.client;
      context.textAlign = "left";
      context.fillText("healed", px + 4, height - 8);
    }
  };

  const drawLanes = (context) => {
    data.lanes.forEach((lane, at) => {
      const y = top + at * LANE;
      if (at % 2 === 0) {
        context.fillStyle = colors.band;
        context.globalAlpha = 0.45;
        context.fillRect(GUTTER, y, width() + PAD, LANE);
        context.globalAlpha = 1;
      }
      context.strokeStyle = colors.rail;
      context.lineWidth = 1;
      context.beginPath(); context.moveTo(GUTTER, laneY(at) + 0.5); context.lineTo(GUTTER + width() + PAD, laneY(at) + 0.5); context.stroke();
    });
  };

  const drawSpans = (context) => {
    for (const span of visibleSpans()) {
      const left = Math.max(GUTTER, x(span.start)), right = Math.min(GUTTER + width() + PAD, Math.max(x(span.end), x(span.start) + 3));
      if (right <= GUTTER) continue;
      const color = colors[span.effect];
      const bright = hovered === span || chosen === span;
      for (const lane of span.lanes) {
        context.fillStyle = color;
        context.globalAlpha = (span.effect === "down" ? 0.2 : 0.11) + (bright ? 0.12 : 0);
        context.fillRect(left, top + lane * LANE + 3, right - left, LANE - 6);
        context.globalAlpha = 0.8;
        context.fillRect(left, laneY(lane) - 1, right - left, span.effect === "down" ? 3 : 2);
      }
      const y = AXIS + span.line * FAULT;
      context.globalAlpha = bright ? 0.55 : 0.28;
      context.fillStyle = color;
      context.beginPath(); context.roundRect(left, y + 1, right - left, FAULT - 3, 3); context.fill();
      context.globalAlpha = 1;
      context.fillRect(left, y + 1, 2, FAULT - 3);
      context.fillStyle = colors.ink;
      context.font = "11px ui-sans-serif, system-ui, sans-serif";
      context.textAlign = "left";
      const next = spans.filter((s) => s.line === span.line && s.start > span.start).reduce((least, s) => Math.min(least, x(s.start)), GUTTER + width());
      context.fillText(clipText(context, span.text, next - left - 12), left + 6, y + FAULT / 2 + 0.5);
    }
    context.globalAlpha = 1;
  };

  const drawLinks = (context) => {
    const found = visibleLinks();
    const faint = found.length > 1500 ? 0.12 : found.length > 300 ? 0.3 : 0.6;
    for (const link of found) {
      const x1 = x(link.sent), y1 = laneY(link.from), x2 = x(link.received), y2 = laneY(link.to);
      const bright = hovered === link || chosen === link;
      context.strokeStyle = context.fillStyle = colors[link.kind];
      context.globalAlpha = bright ? 1 : LOUD.has(link.kind) ? 0.85 : faint;
      context.lineWidth = bright ? 2.5 : LOUD.has(link.kind) ? 1.8 : 1;
      const bend = Math.max(6, Math.abs(x2 - x1) * 0.45);
      context.beginPath(); context.moveTo(x1, y1); context.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2); context.stroke();
      if (found.length < 1500) {
        const down = Math.sign(y2 - y1);
        context.beginPath(); context.moveTo(x2 + 1, y2); context.lineTo(x2 - 6, y2 - 3.2 - down); context.lineTo(x2 - 6, y2 + 3.2 - down); context.fill();
      }
    }
    context.globalAlpha = 1;
    context.lineWidth = 1;
  };

  const drawMark = (context, mark) => {
    const px = x(mark.at), y = laneY(mark.lane), bright = hovered === mark || chosen === mark;
    context.fillStyle = colors[mark.kind];
    context.strokeStyle = colors.panel;
    if (mark.kind === "violation") {
      context.globalAlpha = 0.75;
      context.fillRect(px - 0.75, AXIS, 1.5, height - AXIS);
      context.globalAlpha = 1;
      const r = bright ? 10 : 8;
      context.beginPath(); context.moveTo(px, y - r); context.lineTo(px + r, y); context.lineTo(px, y + r); context.lineTo(px - r, y); context.closePath();
      context.fill(); context.lineWidth = 1.5; context.stroke();
      context.fillStyle = colors.panel; context.fillRect(px - 1, y - 4, 2, 5); context.fillRect(px - 1, y + 2.5, 2, 2);
    } else if (LOUD.has(mark.kind)) {
      context.beginPath(); context.arc(px, y, bright ? 7 : 5, 0, 7); context.fill(); context.lineWidth = 1.5; context.stroke();
    } else {
      const long = bright ? 10 : 7;
      context.globalAlpha = bright ? 1 : 0.8;
      // Above the line what comes from clients, below what the node does with it.
      const above = mark.kind === "push" || mark.kind === "read";
      context.fillRect(px - (bright ? 1.5 : 0.75), above ? y - 2 - long : y + 2, bright ? 3 : 1.5, long);
      context.globalAlpha = 1;
    }
    context.lineWidth = 1;
  };

  const drawMarks = (context) => {
    const found = visibleMarks(), taken = new Set(), labels = new Map();
    const loud = [];
    for (const mark of found) {
      if (LOUD.has(mark.kind)) { loud.push(mark); continue; }
      const place = mark.lane + ":" + mark.kind + ":" + Math.round(x(mark.at));
      if (taken.has(place) && mark !== hovered) continue;
      taken.add(place);
      drawMark(context, mark);
    }
    // The rarest on top.
    loud.sort((a, b) => (a.kind === "violation") - (b.kind === "violation"));
    for (const mark of loud) drawMark(context, mark);
    context.font = "11px ui-sans-serif, system-ui, sans-serif";
    context.textAlign = "left";
    loud.sort(byTime).forEach((mark) => {
      if (mark.lane === null) return;
      const px = x(mark.at) + 8;
      if (px < (labels.get(mark.lane) ?? GUTTER)) return;
      const next = loud.find((other) => other.lane === mark.lane && other.at > mark.at);
      const room = Math.min(next ? x(next.at) - 8 : Infinity, GUTTER + width() + PAD) - px - 4;
      const label = clipText(context, mark.text, Math.min(room, 320));
      if (label.length < 4) return;
      context.fillStyle = mark.kind === "violation" ? colors.violation : colors.ink;
      context.fillText(label, px, laneY(mark.lane) - 14);
      labels.set(mark.lane, px + context.measureText(label).width + 8);
    });
    return found;
  };

  const drawGutter = (context) => {
    context.fillStyle = colors.panel;
    context.fillRect(0, 0, GUTTER, height);
    context.strokeStyle = colors.line;
    context.beginPath(); context.moveTo(GUTTER - 0.5, 0); context.lineTo(GUTTER - 0.5, height); context.stroke();
    context.textAlign = "left";
    data.lanes.forEach((lane, at) => {
      context.fillStyle = colors.ink;
      context.font = "600 13px ui-sans-serif, system-ui, sans-serif";
      context.fillText(lane.name, 16, laneY(at) - 7);
      context.fillStyle = colors.soft;
      context.font = "11px ui-sans-serif, system-ui, sans-serif";
      context.fillText(clipText(context, lane.note, GUTTER - 28), 16, laneY(at) + 8);
    });
    if (lines.length > 0) {
      context.fillStyle = colors.soft;
      context.font = "11px ui-sans-serif, system-ui, sans-serif";
      context.fillText("faults", 16, AXIS + FAULT / 2);
    }
  };

  const drawMap = () => {
    const context = fitCanvas(map, 52);
    const wide = map.clientWidth - GUTTER - PAD;
    const at = (moment) => GUTTER + (moment / (total * 1.02)) * wide;
    const bins = new Array(Math.max(1, Math.floor(wide / 3))).fill(0);
    for (const mark of marks) if (shown(mark)) bins[Math.min(bins.length - 1, Math.floor((mark.at / (total * 1.02)) * bins.length))] += 1;
    const most = Math.max(1, ...bins);
    context.fillStyle = colors.commit;
    context.globalAlpha = 0.45;
    bins.forEach((count, bin) => { const tall = Math.sqrt(count / most) * 26; context.fillRect(GUTTER + bin * 3, 46 - tall, 2, tall); });
    for (const span of spans) {
      context.globalAlpha = 0.75;
      context.fillStyle = colors[span.effect];
      context.fillRect(at(span.start), 6 + (span.line % 4) * 3.5, Math.max(2, at(span.end) - at(span.start)), 2.5);
    }
    context.globalAlpha = 1;
    context.fillStyle = colors.violation;
    for (const mark of violations) context.fillRect(at(mark.at) - 1, 2, 2, 46);
    const left = at(Math.max(0, view.from)), right = at(Math.min(view.to, total * 1.02));
    context.fillStyle = colors.focus;
    context.globalAlpha = 0.1;
    context.fillRect(left, 1, right - left, 50);
    context.globalAlpha = 1;
    context.strokeStyle = colors.focus;
    context.strokeRect(left + 0.5, 1.5, Math.max(3, right - left - 1), 49);
    context.fillStyle = colors.soft;
    context.font = "11px ui-sans-serif, system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText("whole run", 16, 20);
    context.fillText(seconds(total) + " s", 16, 35);
  };

  const drawLog = (found) => {
    const all = found.map((mark) => ({ at: mark.at, who: laneName(mark.lane), thing: mark }))
      .concat(visibleLinks().map((link) => ({ at: link.received, who: laneName(link.from) + "→" + laneName(link.to), thing: link })))
      .sort(byTime);
    const ROWS = 300;
    let start = 0;
    if (all.length > ROWS) {
      const seen = chosen ?? violations.find((mark) => mark.at >= view.from && mark.at <= view.to);
      const middle = seen ? (seen.at ?? seen.start) : (view.from + view.to) / 2;
      start = Math.max(0, Math.min(all.length - ROWS, firstFrom(all, middle, "at") - ROWS / 2));
    }
    byId("log-title").textContent = all.length + " events in view" + (all.length > ROWS ? ", " + ROWS + " listed: zoom in for the others" : "");
    byId("rows").replaceChildren(...all.slice(start, start + ROWS).map((row) => {
      const item = document.createElement("li");
      item.className = (row.thing === chosen ? "chosen " : "") + (row.thing.kind === "violation" ? "violation" : "");
      for (const [name, text] of [["when", seconds(row.at)], ["who", row.who], ["what", row.thing.kind], ["text", row.thing.text]]) {
        const cell = document.createElement("span");
        cell.className = name;
        cell.textContent = text;
        if (name === "what") cell.style.color = colors[row.thing.kind];
        item.append(cell);
      }
      item.title = row.thing.text;
      item.addEventListener("click", () => { chosen = row.thing; center(row.at); });
      return item;
    }));
    const row = byId("rows").querySelector(".chosen, .violation");
    if (row) byId("rows").scrollTop = row.offsetTop - byId("rows").offsetTop - byId("rows").clientHeight / 2;
  };

  let waiting = false;
  const draw = (alsoLog = true) => {
    if (waiting) { waiting = waiting === "log" || alsoLog ? "log" : waiting; return; }
    waiting = alsoLog ? "log" : "chart";
    requestAnimationFrame(() => {
      const withLog = waiting === "log";
      waiting = false;
      const room = (stage.clientHeight - top - PAD) / Math.max(1, data.lanes.length);
      LANE = Math.max(LANE_LEAST, Math.min(LANE_MOST, Math.floor(room)));
      height = top + data.lanes.length * LANE + PAD;
      const context = fitCanvas(chart, Math.max(height, stage.clientHeight - 1));
      drawFrame(context);
      drawLanes(context);
      drawSpans(context);
      drawLinks(context);
      const found = drawMarks(context);
      drawGutter(context);
      drawMap();
      if (withLog) drawLog(found);
    });
  };

  const clamp = () => {
    const least = 200, most = total * 1.1;
    let size = Math.min(most, Math.max(least, view.to - view.from));
    let from = Math.min(Math.max(view.from, -0.04 * size), total * 1.04 - size * 0.1);
    view = { from, to: from + size };
  };
  const zoom = (factor, around) => {
    view = { from: around - (around - view.from) * factor, to: around + (view.to - around) * factor };
    clamp(); draw();
  };
  const pan = (by) => { view = { from: view.from + by, to: view.to + by }; clamp(); draw(); };
  const center = (at, size = view.to - view.from) => { view = { from: at - size / 2, to: at + size / 2 }; clamp(); draw(); };
  const jump = (way) => {
    if (violations.length === 0) return;
    const now = violations.indexOf(chosen);
    chosen = violations[(now + way + violations.length) % violations.length] ?? violations[0];
    center(chosen.at, Math.min(view.to - view.from, 4e6));
    const y = laneY(chosen.lane);
    if (y < stage.scrollTop || y > stage.scrollTop + stage.clientHeight) stage.scrollTop = y - stage.clientHeight / 2;
  };

  const near = (px, py) => {
    let best = null, distance = 14;
    const take = (thing, away, weight) => { if (away - weight < distance) { distance = away - weight; best = thing; } };
    for (const mark of visibleMarks()) {
      const y = laneY(mark.lane), loud = LOUD.has(mark.kind);
      const above = mark.kind === "push" || mark.kind === "read";
      take(mark, Math.hypot(px - x(mark.at), py - (loud ? y : above ? y - 5 : y + 5)), loud ? 3 : 0);
    }
    if (best) return best;
    for (const link of visibleLinks()) {
      const x1 = x(link.sent), x2 = x(link.received), y1 = laneY(link.from), y2 = laneY(link.to);
      const bend = Math.max(6, Math.abs(x2 - x1) * 0.45);
      for (let t = 0; t <= 1; t += 0.05) {
        const u = 1 - t;
        const cx = u ** 3 * x1 + 3 * u * u * t * (x1 + bend) + 3 * u * t * t * (x2 - bend) + t ** 3 * x2;
        const cy = u ** 3 * y1 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t ** 3 * y2;
        take(link, Math.hypot(px - cx, py - cy) + 6, 0);
      }
    }
    if (best) return best;
    for (const span of visibleSpans()) {
      const inside = px >= x(span.start) - 3 && px <= Math.max(x(span.end), x(span.start) + 6);
      const inLine = py >= AXIS + span.line * FAULT && py < AXIS + (span.line + 1) * FAULT;
      const inLane = span.lanes.some((lane) => Math.abs(py - laneY(lane)) < LANE / 2);
      if (inside && inLine) return span;
      if (inside && inLane && !best) best = span;
    }
    return best;
  };
  const told = (thing) => {
    if ("effect" in thing) return [seconds(thing.start) + " s to " + seconds(thing.end) + " s · " + thing.effect, thing.text];
    if ("from" in thing) return [laneName(thing.from) + " → " + laneName(thing.to) + " · " + thing.kind + " · " + seconds(thing.sent) + " s, arrived after " + ((thing.received - thing.sent) / 1000).toFixed(1) + " ms", thing.text];
    return [seconds(thing.at) + " s · " + laneName(thing.lane) + " · " + thing.kind, thing.text];
  };
  const showTip = (event) => {
    if (!hovered) { tip.hidden = true; return; }
    const [small, text] = told(hovered);
    const line = document.createElement("small");
    line.textContent = small;
    tip.replaceChildren(line, document.createTextNode(text));
    tip.hidden = false;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
  };

  let dragged = null;
  chart.addEventListener("wheel", (event) => {
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan(((event.deltaX || event.deltaY) / width()) * (view.to - view.from));
    } else if (!event.altKey) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.0016), time(event.offsetX));
    }
  }, { passive: false });
  chart.addEventListener("pointerdown", (event) => { dragged = { x: event.clientX, moved: 0 }; chart.setPointerCapture(event.pointerId); });
  chart.addEventListener("pointermove", (event) => {
    if (dragged) {
      const by = event.clientX - dragged.x;
      dragged = { x: event.clientX, moved: dragged.moved + Math.abs(by) };
      chart.classList.add("dragging");
      pan((-by / width()) * (view.to - view.from));
      return;
    }
    const found = near(event.offsetX, event.offsetY);
    if (found !== hovered) { hovered = found; draw(false); }
    showTip(event);
  });
  chart.addEventListener("pointerup", (event) => {
    chart.classList.remove("dragging");
    if (dragged && dragged.moved < 4) { chosen = near(event.offsetX, event.offsetY); draw(); }
    dragged = null;
  });
  chart.addEventListener("pointerleave", () => { hovered = null; tip.hidden = true; draw(false); });
  chart.addEventListener("dblclick", (event) => zoom(0.4, time(event.offsetX)));
  let mapHeld = false;
  const mapTo = (event) => center(((event.offsetX - GUTTER) / (map.clientWidth - GUTTER - PAD)) * total * 1.02);
  map.addEventListener("pointerdown", (event) => { mapHeld = true; map.setPointerCapture(event.pointerId); mapTo(event); });
  map.addEventListener("pointermove", (event) => mapHeld && mapTo(event));
  map.addEventListener("pointerup", () => { mapHeld = false; });
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT") return;
    const size = view.to - view.from, middle = (view.from + view.to) / 2;
    const does = {
      ArrowLeft: () => pan(-size / 8), ArrowRight: () => pan(size / 8), "+": () => zoom(0.6, middle), "=": () => zoom(0.6, middle),
      "-": () => zoom(1.6, middle), 0: () => fit(), n: () => jump(1), p: () => jump(-1),
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  });
  const fit = () => { view = { from: 0, to: total * 1.02 }; draw(); };
  byId("fit").onclick = fit;
  byId("in").onclick = () => zoom(0.6, (view.from + view.to) / 2);
  byId("out").onclick = () => zoom(1.6, (view.from + view.to) / 2);
  byId("jump").onclick = byId("later").onclick = () => jump(1);
  byId("earlier").onclick = () => jump(-1);
  byId("search").oninput = (event) => { wanted = event.target.value.trim().toLowerCase(); draw(); };

  for (const id of ["jump", "earlier", "later"]) byId(id).disabled = violations.length === 0;
  byId("jump").textContent = violations.length === 0 ? "No violation" : violations.length === 1 ? "Violation" : violations.length + " violations";
  for (const [name, text] of data.head) {
    const term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name;
    said.textContent = text;
    if (name === "violation") said.className = "bad";
    if (["replay", "smaller", "commit"].includes(name)) said.className = "code";
    byId("head").append(term, said);
  }
  const counts = new Map();
  for (const thing of [...marks, ...links]) counts.set(thing.kind, (counts.get(thing.kind) ?? 0) + 1);
  const chips = [["faults", spans.length, "cut"]].concat(data.kinds.filter((kind) => counts.has(kind)).map((kind) => [kind, counts.get(kind), kind]));
  for (const [kind, count, color] of chips) {
    const chip = document.createElement("button"), dot = document.createElement("i"), number = document.createElement("b");
    chip.className = "kind";
    dot.style.background = "var(--" + color + ")";
    number.textContent = count;
    chip.append(dot, kind, number);
    chip.setAttribute("aria-pressed", "true");
    chip.onclick = () => {
      if (hidden.has(kind)) hidden.delete(kind); else hidden.add(kind);
      chip.setAttribute("aria-pressed", String(!hidden.has(kind)));
      draw();
    };
    byId("kinds").append(chip);
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = (name) => { document.documentElement.dataset.theme = name; style(); draw(); };
  byId("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  dark.addEventListener("change", (event) => theme(event.matches ? "dark" : "light"));
  new ResizeObserver(() => draw()).observe(stage);
  // `#dark`, `#light` and `#violation`, with commas between, say how the page opens.
  const wishes = new Set(location.hash.slice(1).split(","));
  theme(wishes.has("dark") || (dark.matches && !wishes.has("light")) ? "dark" : "light");
  if (wishes.has("violation")) jump(1);
})();

"use strict";
// Readout under the pointer, and zoom by dragging, for every timeline. Without this script the page is complete.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
  ...[2, 7, 14, 30, 60, 120, 365, 3650].map((days) => days * 86400)];
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const key of Object.keys(attributes)) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

function isoTime(milliseconds) {
  return new Date(milliseconds).toISOString().replace(".000Z", "Z");
}

function timeTicks(data, first, last) {
  const time = (i) => data.start + data.ends[i];
  const distances = [];
  for (let i = first + 1; i <= last; i++) distances.push(time(i) - time(i - 1));
  const usual = distances.slice().sort((a, b) => a - b)[distances.length >> 1] || 1000;
  const span = distances.reduce((sum, d) => sum + Math.min(d, 10 * usual), 0) / 1000;
  const step = STEPS.find((s) => s * 8 >= span) || STEPS[STEPS.length - 1];
  const ticks = [];
  let before = Math.floor(time(first) / 1000 / step) - 1, date = "";
  for (let i = first; i <= last; i++) {
    const number = Math.floor(time(i) / 1000 / step);
    const far = !ticks.length || i - ticks[ticks.length - 1].column >= 0.08 * (last - first + 1);
    if (number !== before && far) {
      const past = time(i) % (step * 1000);
      const text = isoTime(past < usual ? time(i) - past : time(i));
      const minutes = step >= 60 && text.slice(17, 19) === "00";
      ticks.push({column: i, text: text.slice(11, minutes ? 16 : 19), date: text.slice(0, 10) === date ? "" : text.slice(0, 10)});
      date = text.slice(0, 10);
    }
    before = number;
  }
  return ticks;
}

function interactive(svg) {
  const data = JSON.parse(document.getElementById(svg.id + "-data").textContent);
  const plots = [...svg.querySelectorAll("svg.plot")];
  const cursor = svg.querySelector(".cursor");
  const axis = svg.querySelector(".time-ticks");
  const readouts = new Map([...svg.querySelectorAll(".readout")].map((r) => [r.dataset.track, r]));
  const count = data.ends.length;
  let view = {from: -0.5, width: count}, drag = null;

  const pixel = (event) => {
    const box = svg.getBoundingClientRect();
    return (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
  };
  const columnAt = (x) => view.from + (x - data.left) / data.width * view.width;
  const pixelAt = (column) => data.left + (column - view.from) / view.width * data.width;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  function zoom(from, width) {
    view = {from, width};
    for (const plot of plots) {
      plot.setAttribute("viewBox", `${from} 0 ${width} ${plot.viewBox.baseVal.height}`);
    }
    const top = Number(axis.dataset.top);
    axis.replaceChildren();
    const first = clamp(Math.ceil(from), 0, count - 1), last = clamp(Math.floor(from + width), 0, count - 1);
    for (const tick of timeTicks(data, first, last)) {
      const x = pixelAt(tick.column);
      axis.append(
        element("line", {class: "tick-mark", x1: x, x2: x, y1: top, y2: top + 4}),
        element("text", {class: "tick", x, y: top + 15, "text-anchor": "middle"}, tick.text),
        element("text", {class: "tick date", x, y: top + 28, "text-anchor": "middle"}, tick.date),
      );
    }
  }

  function read(column) {
    const x = pixelAt(column);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    for (const track of data.tracks) {
      const low = track.low[column], high = track.high[column];
      let text = low === null ? "no value" : low === high ? `${low}` : `${low} to ${high}`;
      if (track.expected && track.expected[column] !== null) text += `, expected ${track.expected[column]}`;
      if (track.name === "ratio") text = `${isoTime(data.start + data.ends[column])}   ${low === null ? "not scored" : text}`;
      readouts.get(track.name).textContent = text;
    }
  }

  function clear() {
    cursor.setAttribute("visibility", "hidden");
    for (const readout of readouts.values()) readout.textContent = "";
  }

  svg.addEventListener("pointermove", (event) => {
    const x = clamp(pixel(event), data.left, data.left + data.width);
    if (drag) {
      drag.box.setAttribute("x", Math.min(x, drag.x));
      drag.box.setAttribute("width", Math.abs(x - drag.x));
    }
    read(clamp(Math.round(columnAt(x)), 0, count - 1));
  });
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("a")) return;
    const x = clamp(pixel(event), data.left, data.left + data.width);
    drag = {x, box: element("rect", {class: "selection", x, y: 0, width: 0, height: data.bottom})};
    svg.append(drag.box);
    event.preventDefault();
  });
  window.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const x = clamp(pixel(event), data.left, data.left + data.width);
    const [from, to] = [Math.min(x, drag.x), Math.max(x, drag.x)].map(columnAt);
    drag.box.remove();
    drag = null;
    if (pixelAt(to) - pixelAt(from) > 6) zoom(from, Math.max(to - from, Math.min(4, count)));
  });
  svg.addEventListener("dblclick", () => zoom(-0.5, count));
  svg.addEventListener("pointerleave", () => { if (!drag) clear(); });
}

document.querySelectorAll("svg.timeline").forEach(interactive);

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
}
window.addEventListener("hashchange", openTarget);
openTarget();

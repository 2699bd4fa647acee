// What the page is told, in names, and how numbers and elements are made.

const data = JSON.parse(document.getElementById("data").textContent);
const {views, rows, roots, down} = data;
// The system's dark setting, where no theme was asked for: each colour has its like.
const night = matchMedia("(prefers-color-scheme: dark)");
const given = data.dark ? structuredClone({views, families: data.families}) : null;
function tone() {
  if (!given) return;
  const like = (colour) => (night.matches && data.dark[colour]) || colour;
  given.views.forEach((view, v) => {
    view.boxes.forEach((box, b) => {
      for (const key of ["fill", "border", "shared"]) if (box[key]) views[v].boxes[b][key] = like(box[key]);
      if (box.lines) views[v].boxes[b].lines = box.lines.map((line) => line.map(([text, size, bold, fill]) => [text, size, bold, like(fill)]));
    });
    view.frames.forEach((frame, f) => {
      for (const key of ["fill", "border"]) if (frame[key]) views[v].frames[f][key] = like(frame[key]);
    });
  });
  data.families = given.families.map(([name, fill, border]) => [name, like(fill), like(border)]);
}
tone();
const [PATH, OPERATION, OUTPUT, PARAMETERS, MACS, MEMORY, FIELD, STRIDE, DEPTH, IS_BLOCK, PLACES] = rows.length ?
  [...rows[0].keys()] : [];
const COST = {parameters: PARAMETERS, macs: MACS, memory: MEMORY};
const SVG = "http://www.w3.org/2000/svg";
const PAD = 12, HEADING = 22, ARROW = 6, BEND = 10;
const READABLE = 1;     // the zoom at which a page opens if it has no room for all: 9 points are 9 points
const LEAST = 0.8;      // the least such zoom, where it has no room across its flow: 7 points, as in print
const $ = (id) => document.getElementById(id);
const svg = $("svg");

const number = (n) => typeof n === "number" ? n.toLocaleString("en-US") : n;
const scaled = (n, base, units) => {
  let unit = 0;
  while (n >= base * 0.9995 && unit < units.length - 1) { n /= base; unit += 1; }
  return (unit ? n.toPrecision(3) : n) + units[unit];
};
const bytes = (n) => typeof n === "number" ? scaled(n, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]) : n;

function make(name, attributes = {}, text = null, namespace = SVG) {
  const element = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  if (text !== null) element.textContent = text;
  return element;
}
const element = (name, attributes, text) => make(name, attributes, text, "http://www.w3.org/1999/xhtml");

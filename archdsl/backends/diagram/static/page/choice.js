// Colours by cost, what is chosen, and all that is told of it.

// ---------------------------------------------------------------- colour

// From the page's paper to a strong hue; text stays readable on all of it.
const dark = () => getComputedStyle(document.documentElement).getPropertyValue("--background").trim() < "#7";
function shade(share) {
  const [from, to] = dark() ? [[22, 24, 29], [150, 80, 0]] : [[255, 255, 255], [240, 160, 60]];
  return "rgb(" + from.map((a, i) => Math.round(a + (to[i] - a) * Math.sqrt(share))).join(",") + ")";
}

function recolour() {
  const legend = $("legend");
  legend.replaceChildren();
  const entry = (fill, border, text) => {
    const item = element("span", {}), patch = make("svg", {viewBox: "0 0 14 10", "aria-hidden": "true"});
    patch.append(make("rect", {x: 0.5, y: 0.5, width: 13, height: 9, fill, stroke: border}));
    item.append(patch, text);
    legend.append(item);
  };
  const arrows = () => data.arrows.forEach(([name, kind]) => {
    const item = element("span", {}), patch = make("svg", {viewBox: "0 0 22 10", "aria-hidden": "true", class: "stroke"});
    patch.append(make("path", {class: "edge " + kind, d: "M0 5H22"}));
    item.append(patch, name);
    legend.append(item);
  });
  const bodies = shown.filter((s) => !s.open);
  if (colour === "family") {
    for (const s of bodies) s.element.querySelector(".body").setAttribute("fill", s.box.fill);
    for (const [name, fill, border] of data.families) entry(fill, border, name);
    arrows();
    return;
  }
  const column = COST[colour];
  const values = bodies.map((s) => s.box.kind === "input" || s.box.kind === "output" ? 0 : sum(s.box, column));
  const most = Math.max(1, ...values);
  bodies.forEach((s, i) => {
    const body = s.element.querySelector(".body");
    body.setAttribute("fill", shade(values[i] / most));
    body.dataset.cost = values[i];
  });
  const text = colour === "memory" ? bytes : number;
  for (const share of [0, 0.1, 0.25, 0.5, 1]) entry(shade(share), "var(--border)", text(Math.round(most * share)));
}

// ---------------------------------------------------------------- selection

const matches = (row) => query !== "" && (row[PATH].toLowerCase().includes(query) || String(row[OPERATION]).toLowerCase().includes(query));

// The innermost thing on the picture that stands for a row.
function standsFor(row) {
  let found = null;
  for (const s of shown) {
    if (covers(s.box, row) && (!found || views[s.v].depth >= views[found.v].depth) && !(s.box.kind === "output")) found = s;
  }
  return found;
}

function mark() {
  const outlined = new Set(heads.map(standsFor));
  for (const s of shown) {
    const hit = query !== "" && !s.open && [...covered(s.box.rows)].some((row) => matches(rows[row]));
    s.element.classList.toggle("hit", hit);
    const on = outlined.has(s);
    s.element.classList.toggle("chosen", on);
    s.element.setAttribute("aria-selected", on);
  }
  const ends = neighbours(heads);
  for (const s of shown) {
    s.element.classList.toggle("gives", ends.from.has(s));
    s.element.classList.toggle("takes", ends.to.has(s));
  }
  tellAll();
  for (const tr of $("rows").querySelectorAll("[aria-selected=true]")) tr.setAttribute("aria-selected", "false");
  for (const row of chosen) $("row-" + row)?.setAttribute("aria-selected", "true");
  for (const line of $("spec").querySelectorAll(".chosen, .around")) line.classList.remove("chosen", "around");
  const main = chosen.length ? rows[chosen[0]][PLACES] : [];
  for (let i = 0; i < main.length; i += 2) {
    $(`line-${main[i]}-${main[i + 1]}`)?.classList.add(i ? "around" : "chosen");
  }
}

// What the chosen thing reads and what reads it, as they are drawn.
function neighbours(list) {
  const found = {from: new Set(), to: new Set()};
  const own = list.length ? standsFor(list[0]) : null;
  const at = (row) => { const s = standsFor(row); return s && s !== own && !contains(own, s) && !contains(s, own) ? s : null; };
  if (!own) return found;
  for (const row of covered(own.box.rows)) {
    for (const other of data.details[row]?.from ?? []) if (at(other)) found.from.add(at(other));
    for (const other of readers.get(row) ?? []) if (at(other)) found.to.add(at(other));
  }
  return found;
}

// All facts of the chosen layer or block, in the panel.
function tellAll() {
  const panel = $("node");
  panel.replaceChildren();
  if (!chosen.length || !rows[chosen[0]]) { panel.append(element("p", {}, "Choose a box, a row or a line to see all its facts.")); return; }
  const row = rows[chosen[0]], more = data.details[chosen[0]] ?? {};
  panel.append(element("h2", {}, row[PATH]));
  const list = element("dl", {});
  const fact = (name, ...values) => {
    const texts = values.filter((v) => v !== "" && v !== 0 && v !== undefined);
    if (!texts.length) return;
    list.append(element("dt", {}, name));
    for (const text of texts) list.append(text instanceof Node ? text : element("dd", {}, String(text)));
  };
  const links = (numbers) => [...new Set(numbers ?? [])].slice(0, 12).map((other) => {
    const item = element("dd", {}), button = element("button", {type: "button", class: "link"}, rows[other][PATH]);
    button.addEventListener("click", () => { reveal(other); choose([other], "panel"); levels(); });
    item.append(button);
    return item;
  });
  fact("operation", row[OPERATION]);
  for (const [name, value] of more.attributes ?? []) fact(name, value);
  fact("output", row[OUTPUT]);
  fact("formula", ...more.formula ?? []);
  fact("weights", ...more.weights ?? []);
  fact("parameters", number(row[PARAMETERS]));
  fact("MACs", number(row[MACS]));
  fact("memory", bytes(row[MEMORY]));
  fact("receptive field", row[FIELD] && row[FIELD] + (row[STRIDE] ? `, stride ${row[STRIDE]}` : ""));
  fact("reads", ...links(more.from));
  fact("read by", ...links(readersOf(chosen[0])));
  const [source, line] = row[PLACES];
  fact("spec", `${data.sources[source].name}:${line}`, (data.sources[source].lines[line - 1] ?? "").trim());
  panel.append(list);
}
// What reads the results of a layer or block, outside of it.
function readersOf(row) {
  let end = row + 1;
  while (end < rows.length && rows[end][DEPTH] > rows[row][DEPTH]) end += 1;
  const found = [];
  for (let i = row; i < end; i++) found.push(...(readers.get(i) ?? []).filter((other) => other < row || other >= end));
  return found;
}
const readers = new Map();
data.details.forEach((more, row) => {
  if (!rows[row][IS_BLOCK]) for (const other of more?.from ?? []) readers.set(other, [...readers.get(other) ?? [], row]);
});

const into_view = (target) => target?.scrollIntoView({block: "nearest", inline: "nearest"});

// Chooses rows, the first being the one that is told of; `from` is the pane that need not move.
function choose(list, from, outlined = list) {
  chosen = list;
  heads = outlined;
  mark();
  address();
  if (!list.length) return;
  const s = standsFor(heads[0]);
  if (from !== "picture" && s) { bring(s); current = s.id; focusable(); }
  if (from !== "table") into_view($("row-" + list[0]));
  if (from !== "spec") {
    const [source, line] = rows[list[0]][PLACES];
    into_view($(`line-${source}-${line}`));
  }
  say(s ? label(s.box, s.open) : rows[list[0]][PATH]);
}

const say = (text) => { $("live").textContent = text; };

// Opens what stands around a row's box, so that the row has its own.
function reveal(row) {
  let v = roots[root].view;
  for (;;) {
    const box = views[v].boxes.find((b) => b.inside !== undefined && covers(b, row) && !(b.main === row));
    if (!box) break;
    open.add(box.inside);
    v = box.inside;
  }
  draw();
}

function toggle(id, anchor = true) {
  const s = shown.find((t) => t.id === id);
  if (!s || s.box.inside === undefined) return;
  const old = corner(s);
  if (open.has(s.box.inside)) close(s.box.inside); else open.add(s.box.inside);
  draw();
  const now = shown.find((t) => t.id === id);
  if (anchor && now) {
    // What was clicked stays where it was.
    const at = corner(now);
    camera.x += (old[0] - at[0]) * camera.k;
    camera.y += (old[1] - at[1]) * camera.k;
    look();
  }
  current = id;
  focusable();
  now?.element.focus({preventScroll: true});
  levels();
  say(label(s.box, open.has(s.box.inside)));
}
const corner = (s) => down ? [s.rect.x + s.rect.w / 2, s.rect.y] : [s.rect.x, s.rect.y + s.rect.h / 2];

function close(v) {
  open.delete(v);
  for (const box of views[v].boxes) if (box.inside !== undefined) close(box.inside);
}

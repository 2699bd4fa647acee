"use strict";
// The page of a network. Everything that a spec says arrives as data and leaves as text nodes and attributes.
(() => {
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

  // ---------------------------------------------------------------- state

  let root = 0;
  let open = new Set(roots[0].open);
  let chosen = [];        // rows, the one that is told of first
  let heads = [];         // those of them whose boxes are outlined
  let colour = "family";
  let query = "";
  let camera = {x: 0, y: 0, k: 1};
  let shown = [];         // what is drawn: {id, box, element, rect, view, open}
  let current = null;     // the id of the box that the keyboard stands on

  // The view in which a view's box stands, and that box.
  const outer = new Map();
  views.forEach((view, v) => view.boxes.forEach((box, b) => {
    if (box.inside !== undefined) outer.set(box.inside, [v, b]);
  }));
  const idOf = (v, b) => v + "." + b;

  function* covered(ranges) {
    for (let i = 0; i < ranges.length; i += 2) for (let row = ranges[i]; row <= ranges[i + 1]; row++) yield row;
  }
  const covers = (box, row) => {
    for (let i = 0; i < box.rows.length; i += 2) if (box.rows[i] <= row && row <= box.rows[i + 1]) return true;
    return false;
  };
  const sum = (box, column) => {
    let total = 0;
    for (const row of covered(box.rows)) {
      if (!rows[row][IS_BLOCK] && typeof rows[row][column] === "number") total += rows[row][column];
    }
    return total;
  };

  // ---------------------------------------------------------------- layout

  // A map of coordinates that gives each interval [from, to] at least its `length` and leaves all else as long as it
  // was: what stood in order stays so.
  function stretched(intervals) {
    const cuts = [...new Set(intervals.flatMap((i) => [i.from, i.to]))].sort((a, b) => a - b);
    const pieces = [];
    let gained = 0;
    for (let i = 0; i + 1 < cuts.length; i++) {
      const [a, b] = [cuts[i], cuts[i + 1]];
      let rate = 1;
      for (const {from, to, length} of intervals) {
        if (from <= a && b <= to && to > from) rate = Math.max(rate, length / (to - from));
      }
      pieces.push({a, b, at: a + gained, rate});
      gained += (b - a) * (rate - 1);
    }
    return (x) => {
      if (!pieces.length || x <= pieces[0].a) return x;
      for (const p of pieces) if (x <= p.b) return p.at + (x - p.a) * p.rate;
      return x + gained;
    };
  }

  // The layout of a view with what is open in it: its size, the places of its boxes, the layouts within.
  function layOut(v) {
    const view = views[v];
    const inner = new Map();
    const xs = [], ys = [];
    view.boxes.forEach((box, b) => {
      if (box.inside === undefined || !open.has(box.inside)) return;
      const child = layOut(box.inside);
      const entry = child.places[child.entry] || {x: child.w / 2, y: child.h / 2, w: 0, h: 0};
      const cx = PAD + entry.x + entry.w / 2, cy = HEADING + entry.y + entry.h / 2;
      const w = Math.max(child.w + 2 * PAD, views[box.inside].heading.length * 6.5 + 2 * PAD);
      const h = child.h + HEADING + PAD;
      const mx = box.x + box.w / 2, my = box.y + box.h / 2;
      // Across the flow the point of entry stays where the box's middle was, so that arrows run straight into it.
      const need = {child, w, h, left: down ? Math.max(cx, box.w / 2) : w / 2, top: down ? h / 2 : Math.max(cy, box.h / 2)};
      need.right = down ? Math.max(w - cx, box.w / 2) : w / 2;
      need.bottom = down ? h / 2 : Math.max(h - cy, box.h / 2);
      need.dx = down ? need.left - cx : 0;
      need.dy = down ? 0 : need.top - cy;
      xs.push({from: box.x, to: mx, length: need.left}, {from: mx, to: box.x + box.w, length: need.right});
      ys.push({from: box.y, to: my, length: need.top}, {from: my, to: box.y + box.h, length: need.bottom});
      inner.set(b, need);
    });
    const fx = stretched(xs), fy = stretched(ys);
    const places = view.boxes.map((box, b) => {
      // A text beside a box goes where the box does.
      const near = view.boxes[box.of] ?? box, need = inner.get(b);
      const [nx, ny] = [near.x + near.w / 2, near.y + near.h / 2];
      const x = fx(nx) + box.x + box.w / 2 - nx, y = fy(ny) + box.y + box.h / 2 - ny;
      return need ? {x: x - need.left, y: y - need.top, w: need.left + need.right, h: need.top + need.bottom, cx: x, cy: y}
        : {x: x - box.w / 2, y: y - box.h / 2, w: box.w, h: box.h, cx: x, cy: y};
    });
    return {v, view, inner, places, fx, fy, w: fx(view.w), h: fy(view.h),
      entry: view.boxes.findIndex((box) => box.kind === "entry")};
  }

  // Where a point on the border of a box goes when the box does.
  function attached(layout, b, x, y) {
    const box = layout.view.boxes[b], place = layout.places[b];
    const along = (p, from, size, middle, start, length) => {
      const centre = from + size / 2;
      const half = size / 2 || 1;
      return p < centre ? middle - (centre - p) / half * (middle - start) : middle + (p - centre) / half * (start + length - middle);
    };
    return [along(x, box.x, box.w, place.cx, place.x, place.w), along(y, box.y, box.h, place.cy, place.y, place.h)];
  }

  // ---------------------------------------------------------------- drawing

  const scene = make("g");
  svg.append(scene);

  function draw() {
    const layout = layOut(roots[root].view);
    scene.replaceChildren();
    shown = [];
    paint(layout, 0, 0, scene, 0);
    scene.dataset.w = layout.w;
    scene.dataset.h = layout.h;
    recolour();
    mark();
    focusable();
    return layout;
  }

  function paint(layout, dx, dy, into, level) {
    const {view, v} = layout;
    for (const frame of view.frames) {
      const x = layout.fx(frame.x), y = layout.fy(frame.y);
      into.append(make("rect", {x: dx + x, y: dy + y, width: layout.fx(frame.x + frame.w) - x, rx: 8,
        height: layout.fy(frame.y + frame.h) - y,
        ...(frame.fill ? {rx: 0, fill: frame.fill, stroke: frame.border, "stroke-width": 1.4}
          : {fill: "none", stroke: frame.border || "var(--border)", "stroke-dasharray": "5 4"})}));
      into.append(make("text", {class: "heading halo", x: dx + x + 8, y: dy + y + 14, "font-size": 10, "font-weight": "bold",
        fill: "var(--muted)"}, frame.text));
    }
    const rects = layout.places.map((place) => ({...place, x: place.x + dx, y: place.y + dy}));
    const groups = view.boxes.map((box, b) =>
      layout.inner.has(b) ? paintFrame(v, b, box, rects[b], level) : paintBox(v, b, box, rects[b], level));
    // Arrows under boxes; where they go on in a block, on its ground and under what it holds.
    for (const edge of view.edges) paintEdge(layout, edge, dx, dy, into, groups);
    for (const [b, need] of layout.inner) {
      paint(need.child, rects[b].x + need.dx + PAD, rects[b].y + need.dy + HEADING, groups[b], level + 1);
    }
    // The order of the network is that in which a screen reader comes by.
    const order = view.boxes.map((box, b) => [box.kind === "output" ? rows.length : box.lead ?? -1, b]);
    for (const [, b] of order.sort((a, c) => a[0] - c[0])) into.append(groups[b]);
  }

  function paintEdge(layout, edge, dx, dy, into, groups) {
    const way = edge.corners ?? edge.way;
    const points = [];
    for (let i = 0; i < way.length; i += 2) points.push([layout.fx(way[i]), layout.fy(way[i + 1])]);
    const n = points.length, last = way.length - 2;
    const into_open = layout.inner.get(edge.to), from_open = layout.inner.get(edge.from);
    // The point inside an open block where an arrow goes on, or comes from.
    const inside = (need, b, kind) => {
      const found = need?.child.view.boxes.map((box, i) => [box, i]).filter(([box]) => box.kind === kind) ?? [];
      const [, i] = found.find(([box]) => box.tensors.some((t) => edge.tensors.includes(t))) || found[0] || [];
      if (i === undefined) return null;
      const dot = need.child.places[i], place = layout.places[b];
      return [place.x + need.dx + PAD + dot.cx, place.y + need.dy + HEADING + dot.cy];
    };
    const source = inside(from_open, edge.from, "exit"), target = inside(into_open, edge.to, "entry");
    // Where it crosses the side of an open block it does so beside that point, not across what stands in the block.
    const beside = (at, b, dot) => {
      const {x, y, w, h} = layout.places[b];
      if (!dot) return at;
      const near = (p, q) => Math.abs(p - q) < 1.5;
      if (near(at[0], x) || near(at[0], x + w)) return [at[0], dot[1]];
      if (near(at[1], y) || near(at[1], y + h)) return [dot[0], at[1]];
      return at;
    };
    const start = beside(attached(layout, edge.from, way[0], way[1]), edge.from, source);
    const tip = beside(attached(layout, edge.to, way[last], way[last + 1]), edge.to, target);
    const p = ([x, y]) => (x + dx).toFixed(1) + " " + (y + dy).toFixed(1);
    const goes_on = into_open || layout.view.boxes[edge.to].kind === "exit";
    const pointed = edge.head && !goes_on;
    const path = edge.corners ? angled(way, points, start, tip, pointed, p) : curved(points, start, tip, goes_on, p);
    into.append(make("path", {class: "edge " + edge.kind, d: path}));
    for (const [dot, border, b, into_it] of [[source, start, edge.from, false], [target, tip, edge.to, true]]) {
      if (dot) groups[b].append(make("path", {class: "edge " + edge.kind, d: "M" + within(layout, b, border, dot, into_it).map(p).join("L")}));
    }
    if (pointed) {
      const base = points[points.length - 2];
      const [ex, ey] = toward(tip, base, 1).map((v, i) => tip[i] - v);
      const back = [tip[0] - ex * ARROW, tip[1] - ey * ARROW];
      into.append(make("path", {class: "tip " + edge.kind, d: "M" + p(tip) + "L" + p([back[0] - ey * 2.6, back[1] + ex * 2.6]) +
        "L" + p([back[0] + ey * 2.6, back[1] - ex * 2.6]) + "Z"}));
    }
  }

  // The corners from the side of an open block to the point inside where an arrow goes on: around what stands there.
  function within(layout, b, border, dot, into_it) {
    const {x, y, w, h} = layout.places[b], need = layout.inner.get(b);
    const solid = need.child.view.boxes.flatMap((box, i) => ["size", "entry", "exit"].includes(box.kind) ? [] : [need.child.places[i]]);
    const [left, top] = [x + need.dx + PAD, y + need.dy + HEADING];
    const clear = (way) => way.slice(1).every(([x2, y2], i) => {
      const [x1, y1] = way[i];
      return !solid.some((r) => Math.max(x1, x2) > left + r.x - 1 && Math.min(x1, x2) < left + r.x + r.w + 1 &&
        Math.max(y1, y2) > top + r.y - 1 && Math.min(y1, y2) < top + r.y + r.h + 1);
    });
    // A lane before all that stands in the block, or behind it, and one at each side.
    const lane = down ? (into_it ? y + HEADING - 2 : y + h - PAD / 2) : into_it ? x + PAD / 2 : x + w - PAD / 2;
    const sides = down ? [x + w - PAD / 2, x + PAD / 2] : [y + h - PAD / 2, y + HEADING - 2];
    const at = (along, across) => down ? [across, along] : [along, across];
    const [ba, bx] = down ? [border[1], border[0]] : border, [da, dx] = down ? [dot[1], dot[0]] : dot;
    const ways = [[border, dot], [border, at(ba, dx), dot], [border, at(da, bx), dot], [border, at(lane, bx), at(lane, dx), dot]];
    for (const side of sides) ways.push([border, at(ba, side), at(lane, side), at(lane, dx), dot]);
    return ways.find((way) => (way.length > 2 || border[0] === dot[0] || border[1] === dot[1]) && clear(way)) ?? ways[0];
  }

  // The point so far from a on the way to b.
  function toward(a, b, far) {
    const [x, y] = [b[0] - a[0], b[1] - a[1]], length = Math.hypot(x, y) || 1;
    return [a[0] + far * x / length, a[1] + far * y / length];
  }

  // A way around right angles, which stay so when its ends move with their boxes; `points` are moved in place.
  function angled(way, points, start, tip, pointed, p) {
    if (points.length === 2 && start[0] !== tip[0] && start[1] !== tip[1]) {  // its ends moved apart: a step between
      const [x, y] = [(start[0] + tip[0]) / 2, (start[1] + tip[1]) / 2];
      if (way[0] === way[2]) { points.splice(1, 0, [start[0], y], [tip[0], y]); way = [0, 0, 0, 1, 1, 1, 1, 2]; }
      else if (way[1] === way[3]) { points.splice(1, 0, [x, start[1]], [x, tip[1]]); way = [0, 0, 1, 0, 1, 1, 2, 1]; }
    }
    const n = points.length, upright = (i) => way[2 * i] === way[2 * i + 2];
    const put = (end, next, at, straight) => {
      points[end] = at;
      if (n > 2) points[next] = straight ? [at[0], points[next][1]] : [points[next][0], at[1]];
    };
    put(0, 1, start, upright(0));
    put(n - 1, n - 2, tip, upright(n - 2));
    if (n === 3) points[1] = upright(0) ? [start[0], tip[1]] : [tip[0], start[1]];
    const length = (i) => Math.hypot(points[i + 1][0] - points[i][0], points[i + 1][1] - points[i][1]);
    const free = points.slice(1).map((_, i) => i === n - 2 ? length(i) - (pointed ? ARROW : 0) : i ? length(i) / 2 : length(i));
    let path = "M" + p(points[0]);
    for (let i = 1; i + 1 < n; i++) {
      const bend = Math.max(0, Math.min(BEND, free[i - 1], free[i]));
      path += "L" + p(toward(points[i], points[i - 1], bend)) + "Q" + p(points[i]) + " " + p(toward(points[i], points[i + 1], bend));
    }
    return path + "L" + p(pointed ? toward(points[n - 1], points[n - 2], ARROW) : points[n - 1]);
  }

  // A curve that Graphviz found, its ends moved with their boxes.
  function curved(points, start, tip, goes_on, p) {
    const n = points.length, head = n % 3 === 2;          // the tip of an arrow's head stands behind the curve
    const move = (i, by) => { points[i] = [points[i][0] + by[0], points[i][1] + by[1]]; };
    const first = [start[0] - points[0][0], start[1] - points[0][1]];
    const end = [tip[0] - points[n - 1][0], tip[1] - points[n - 1][1]];
    move(0, first); move(1, first); move(n - 1, end); move(n - 2, end);
    if (head) move(n - 3, end);
    const curve = head ? points.slice(0, -1) : points;
    let path = "M" + p(curve[0]);
    for (let i = 1; i + 2 < curve.length; i += 3) path += "C" + p(curve[i]) + " " + p(curve[i + 1]) + " " + p(curve[i + 2]);
    return head && goes_on ? path + "L" + p(tip) : path;
  }

  const words = (box) => box.lines.map((line) => line.map(([text]) => text.trim()).join(" ")).join(", ");

  function label(box, isOpen) {
    const main = rows[box.main];
    const facts = [`${number(sum(box, PARAMETERS))} parameters`, `${number(sum(box, MACS))} MACs`];
    return [rows[box.lead]?.[PATH], words(box), ...(main ? ["gives " + main[OUTPUT]] : []), ...facts,
      ...(box.inside === undefined ? [] : [isOpen ? "open" : "folded"])].filter(Boolean).join(", ");
  }

  function interactive(group, v, b, box, rect, level, isOpen) {
    const id = idOf(v, b);
    group.classList.toggle("opens", box.inside !== undefined);
    group.setAttribute("role", "treeitem");
    group.setAttribute("aria-level", level + 1);
    group.setAttribute("aria-label", label(box, isOpen));
    group.setAttribute("tabindex", "-1");
    if (box.inside !== undefined) group.setAttribute("aria-expanded", isOpen);
    group.dataset.id = id;
    if (rows[box.lead]) group.dataset.path = rows[box.lead][PATH];
    shown.push({id, box, element: group, rect, v, b, open: isOpen});
  }

  function paintFrame(v, b, box, rect, level) {
    const group = make("g", {class: "frame"});
    group.append(make("rect", {x: rect.x, y: rect.y, width: rect.w, height: rect.h, rx: 8,
      fill: level % 2 ? "var(--frame2)" : "var(--frame)", stroke: box.shared || "var(--border)",
      "stroke-width": box.shared ? 2.2 : 1}));
    group.append(make("text", {class: "heading halo", x: rect.x + 8, y: rect.y + 14, "font-size": 10, fill: "var(--muted)",
      "font-weight": box.count ? "bold" : "normal"}, views[box.inside].heading || "−"));
    interactive(group, v, b, box, rect, level, true);
    return group;
  }

  function paintBox(v, b, box, rect, level) {
    const {x, y, w, h} = rect;
    if (box.kind === "entry" || box.kind === "exit") return make("circle", {class: "dot", cx: x + w / 2, cy: y + h / 2, r: 3});
    const group = make("g", {class: box.kind === "size" ? "size" : "box"});
    // On an arrow a text has a patch of paper under it.
    if (box.kind === "size" && box.of === undefined) group.append(make("rect", {x, y, width: w, height: h, fill: "var(--background)"}));
    if (box.kind !== "size") {
      const looks = {class: "body", fill: box.fill, stroke: box.border, "stroke-width": box.kind === "block" ? 1.6 : 1};
      if (box.kind === "merge") group.append(make("circle", {...looks, cx: x + w / 2, cy: y + h / 2, r: Math.min(w, h) / 2}));
      else {
        if (box.count) group.append(make("rect", {x, y, width: w, height: h, rx: 9, fill: "none", stroke: box.border}));
        const i = box.count ? 4 : 0;
        group.append(make("rect", {...looks, x: x + i, y: y + i, width: w - 2 * i, height: h - 2 * i,
          rx: box.kind === "input" || box.kind === "output" ? 0 : 7}));
      }
    }
    const heights = box.lines.map((line) => 1.2 * Math.max(...line.map(([, size]) => size)));
    let at = y + (h - heights.reduce((a, c) => a + c, 0)) / 2;
    box.lines.forEach((line, i) => {
      at += heights[i];
      const text = make("text", {x: x + w / 2, y: at - heights[i] * 0.22, class: box.kind === "size" ? "halo" : null});
      for (const [words, size, bold, fill] of line) {
        text.append(make("tspan", {"font-size": size, "font-weight": bold ? "bold" : "normal", fill}, words));
      }
      group.append(text);
    });
    if (box.note) group.append(make("text", {class: "halo note", x: x - 4, y: y + h + 2, "font-size": 8, fill: "var(--muted)"},
      box.note));
    if (box.kind !== "size") interactive(group, v, b, box, rect, level, false);
    return group;
  }

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

  // ---------------------------------------------------------------- camera

  function look(fits = false) {
    camera.fits = fits;
    scene.setAttribute("transform", `translate(${camera.x} ${camera.y}) scale(${camera.k})`);
  }

  function room() { const r = svg.getBoundingClientRect(); return [r.width || 800, r.height || 600]; }

  function fit() {
    const [w, h] = room();
    const [sw, sh] = [Number(scene.dataset.w), Number(scene.dataset.h)];
    const k = Math.min((w - 30) / sw, (h - 30) / sh, 1.5);
    // A long network is shown from its beginning on, at a size that can be read.
    camera.k = Math.max(k, Math.min(READABLE, down ? (w - 30) / sw : (h - 30) / sh), Math.min(READABLE, 0.55));
    // One that is too wide is shown about the line of its flow.
    camera.x = down || camera.k * sw < w ? (w - camera.k * sw) / 2 : 15;
    camera.y = camera.k * sh < h ? (h - camera.k * sh) / 2 + 5 : 15;
    look(true);
  }

  function zoom(factor, x = room()[0] / 2, y = room()[1] / 2) {
    const k = Math.min(8, Math.max(0.02, camera.k * factor));
    camera.x = x - (x - camera.x) * k / camera.k;
    camera.y = y - (y - camera.y) * k / camera.k;
    camera.k = k;
    look();
  }

  // Moves the camera as little as shows a box.
  function bring(s) {
    const [w, h] = room(), m = 20;
    if (camera.k < 0.35) camera.k = 0.6;
    const [x1, y1] = [camera.x + s.rect.x * camera.k, camera.y + s.rect.y * camera.k];
    const [x2, y2] = [x1 + Math.min(s.rect.w * camera.k, w - 2 * m), y1 + Math.min(s.rect.h * camera.k, h - 2 * m)];
    if (x1 < m) camera.x += m - x1; else if (x2 > w - m) camera.x -= x2 - w + m;
    if (y1 < m) camera.y += m - y1; else if (y2 > h - m) camera.y -= y2 - h + m;
    look();
  }

  // ---------------------------------------------------------------- pointer

  let drag = null;
  const pointers = new Map();
  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (event.button === 0) drag = {x: event.clientX, y: event.clientY, moved: false};
  });
  svg.addEventListener("pointermove", (event) => {
    const was = pointers.get(event.pointerId);
    if (!drag || !was) return;
    const now = [event.clientX, event.clientY];
    if (!drag.moved && Math.hypot(now[0] - drag.x, now[1] - drag.y) < 4) return;
    if (!drag.moved) { drag.moved = true; svg.setPointerCapture(event.pointerId); svg.classList.add("dragging"); hide(); }
    const others = [...pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const [ox, oy] = others[0][1], box = svg.getBoundingClientRect();
      const far = ([x, y]) => Math.hypot(x - ox, y - oy) || 1;
      zoom(far(now) / far(was), ox - box.left, oy - box.top);
    } else { camera.x += now[0] - was[0]; camera.y += now[1] - was[1]; look(); }
    pointers.set(event.pointerId, now);
  });
  const release = (event) => {
    pointers.delete(event.pointerId);
    svg.classList.remove("dragging");
    if (!pointers.size) setTimeout(() => { drag = null; });
  };
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", release);
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    const unit = event.deltaMode ? 20 : 1;  // lines, in some browsers
    if (event.ctrlKey || event.metaKey) {
      zoom(Math.exp(-event.deltaY * unit * 0.004), event.clientX - box.left, event.clientY - box.top);
      return;
    }
    const sideways = event.shiftKey && !event.deltaX;
    camera.x -= unit * (sideways ? event.deltaY : event.deltaX);
    camera.y -= unit * (sideways ? 0 : event.deltaY);
    look();
  }, {passive: false});

  const thing = (event) => {
    const group = event.target.closest?.("[data-id]");
    return group && shown.find((s) => s.id === group.dataset.id);
  };
  svg.addEventListener("click", (event) => {
    if (drag?.moved) return;
    const s = thing(event);
    if (!s) { choose([], "picture"); return; }
    current = s.id;
    focusable();
    select(s);
    if (s.box.inside !== undefined) toggle(s.id); else s.element.focus({preventScroll: true});
  });

  function select(s) {
    const list = [...covered(s.box.rows)];
    if (s.box.lead >= 0) choose([s.box.lead, ...list.filter((row) => row !== s.box.lead)], "picture", [s.box.lead]);
  }

  const tip = $("tip");
  const hide = () => { tip.hidden = true; };
  function tell(s, x, y) {
    const main = rows[s.box.main];
    if (!main) { hide(); return; }
    const inner = [...covered(s.box.rows)].filter((row) => !rows[row][IS_BLOCK]);
    const list = element("dl", {});
    const fact = (name, text) => { if (text !== "" && text !== 0) list.append(element("dt", {}, name), element("dd", {}, text)); };
    fact("output", main[OUTPUT]);
    fact("parameters", number(sum(s.box, PARAMETERS)));
    fact("MACs", number(sum(s.box, MACS)));
    fact("memory", bytes(sum(s.box, MEMORY)));
    fact("receptive field", main[FIELD] + (main[STRIDE] ? `, stride ${main[STRIDE]}` : ""));
    if (s.box.count) fact("stands", `${s.box.count} times`);
    const [source, line] = rows[s.box.lead][PLACES];
    fact("spec", `${data.sources[source].name}:${line}`);
    const names = inner.length > 1 && !main[IS_BLOCK] ? inner.slice(0, 4).map((row) => rows[row][PATH]).join(", ") + (inner.length > 4 ? ", …" : "") : main[PATH];
    tip.replaceChildren(element("strong", {}, names), element("span", {}, main[IS_BLOCK] ? String(main[OPERATION]) : words(s.box)), list);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - box.height - 8)) + "px";
  }
  svg.addEventListener("pointermove", (event) => {
    if (drag?.moved) return;
    const s = thing(event);
    if (s) tell(s, event.clientX, event.clientY); else hide();
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("focusin", (event) => {
    const s = thing(event);
    if (!s || !s.element.matches(":focus-visible")) return;
    bring(s);
    const box = s.element.getBoundingClientRect();
    tell(s, box.right - 10, box.top);
  });
  svg.addEventListener("focusout", hide);

  // ---------------------------------------------------------------- keyboard

  // One box is in the order of tabs; arrow keys walk from it, in the order of the network.
  function focusable() {
    if (!shown.some((s) => s.id === current)) current = shown[0]?.id ?? null;
    for (const s of shown) s.element.setAttribute("tabindex", s.id === current ? "0" : "-1");
  }

  function walk(step) {
    // What is drawn, in the order of reading: an open block before its inside.
    const order = [...shown].sort((a, b) => (a.open && contains(a, b) ? -1 : b.open && contains(b, a) ? 1
      : down ? a.rect.y - b.rect.y || a.rect.x - b.rect.x : a.rect.x - b.rect.x || a.rect.y - b.rect.y));
    const at = order.findIndex((s) => s.id === current);
    const next = order[Math.min(order.length - 1, Math.max(0, at + step))];
    if (!next) return;
    current = next.id;
    focusable();
    next.element.focus({preventScroll: true});
    select(next);
    bring(next);
  }
  const contains = (a, b) => a !== b && a.rect.x <= b.rect.x && a.rect.y <= b.rect.y &&
    a.rect.x + a.rect.w >= b.rect.x + b.rect.w && a.rect.y + a.rect.h >= b.rect.y + b.rect.h;

  svg.addEventListener("keydown", (event) => {
    const s = shown.find((t) => t.id === current);
    const key = event.key;
    if (key === "Enter" || key === " ") { if (s) { select(s); toggle(s.id); } }
    else if (key === "ArrowDown") walk(1);
    else if (key === "ArrowUp") walk(-1);
    else if (key === "ArrowRight") { if (s?.box.inside !== undefined && !s.open) toggle(s.id); else walk(1); }
    else if (key === "ArrowLeft") {
      if (s?.open) toggle(s.id);
      else if (s && outer.has(s.v)) {
        const [v, b] = outer.get(s.v);
        current = idOf(v, b);
        focusable();
        const out = shown.find((t) => t.id === current);
        out?.element.focus({preventScroll: true});
        if (out) select(out);
      } else walk(-1);
    }
    else if (key === "Home") walk(-Infinity);
    else if (key === "End") walk(Infinity);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; search(); svg.focus(); }
      return;
    }
    if (event.key === "/") $("search").focus();
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "Escape") { choose([], "picture"); hide(); }
    else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- header

  function levels() {
    const own = reachable();
    const depth = Math.max(0, ...own.map((v) => views[v].depth));
    const select = $("depth");
    const at = [...Array(depth + 1).keys()].find((d) => own.every((v) => open.has(v) === views[v].depth <= d));
    select.replaceChildren(element("option", {value: "own"}, "by hand"));
    for (let d = 0; d <= depth; d++) {
      select.append(element("option", {value: d}, d === 0 ? "nothing" : d === depth ? "everything" : d + (d > 1 ? " levels" : " level")));
    }
    select.value = at === undefined ? "own" : at;
  }
  function reachable() {
    const found = [], stack = [roots[root].view];
    while (stack.length) {
      for (const box of views[stack.pop()].boxes) if (box.inside !== undefined) { found.push(box.inside); stack.push(box.inside); }
    }
    return found;
  }
  $("depth").addEventListener("change", (event) => {
    if (event.target.value === "own") return;
    const depth = Number(event.target.value);
    open = new Set(reachable().filter((v) => views[v].depth <= depth));
    draw();
    fit();
    levels();
  });
  roots.forEach((r, i) => $("root").append(element("option", {value: i}, r.name)));
  $("root-label").hidden = roots.length < 2;
  $("root").addEventListener("change", (event) => {
    root = Number(event.target.value);
    open = new Set(roots[root].open);
    draw();
    fit();
    levels();
  });
  $("colour").addEventListener("change", (event) => { colour = event.target.value; recolour(); });
  $("zoom-in").addEventListener("click", () => zoom(1.25));
  $("zoom-out").addEventListener("click", () => zoom(0.8));
  $("fit").addEventListener("click", fit);
  $("facts").textContent = data.facts;

  function search() {
    query = $("search").value.trim().toLowerCase();
    let count = 0;
    rows.forEach((row, i) => {
      const hit = matches(row), tr = $("row-" + i);
      if (hit) count += 1;
      tr?.classList.toggle("hit", hit);
      tr?.classList.toggle("miss", query !== "" && !hit);
    });
    $("found").textContent = query ? `${number(count)} found` : "";
    mark();
  }
  $("search").addEventListener("input", search);
  const hits = () => query ? rows.map((row, i) => i).filter((i) => matches(rows[i])) : [];
  function step(by) {
    const list = hits();
    if (!list.length) return;
    const at = list.indexOf(chosen[0]);
    const place = at < 0 ? (by > 0 ? 0 : list.length - 1) : (at + by + list.length) % list.length;
    reveal(list[place]);
    choose([list[place]], "search");
    levels();
    $("found").textContent = `${number(place + 1)} of ${number(list.length)}`;
  }
  $("next").addEventListener("click", () => step(1));
  $("previous").addEventListener("click", () => step(-1));

  // The chosen layer is in the page's address: page.html#layer1.0.conv1.
  function address() {
    const path = chosen.length && rows[chosen[0]] ? rows[chosen[0]][PATH] : "";
    if (location.protocol === "file:" || location.protocol.startsWith("http")) {
      try { history.replaceState(null, "", path ? "#" + encodeURIComponent(path) : location.pathname + location.search); } catch { /* a page within another */ }
    }
  }
  function follow() {
    let path;
    try { path = decodeURIComponent(location.hash.slice(1)); } catch { return; }
    const row = rows.findIndex((r) => r[PATH] === path);
    if (path && row >= 0) { reveal(row); choose([row], "link"); levels(); }
  }
  addEventListener("hashchange", follow);
  $("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!query) return;
    // Enter goes on to the next one; a path that is given whole comes first.
    const exact = hits().find((i) => rows[i][PATH].toLowerCase() === query);
    if (exact === undefined || chosen[0] === exact) { step(1); return; }
    reveal(exact);
    choose([exact], "search");
    levels();
  });

  // ---------------------------------------------------------------- table

  function fillTable() {
    const body = document.createDocumentFragment();
    rows.forEach((row, i) => {
      const tr = element("tr", {id: "row-" + i, "aria-selected": "false", tabindex: i ? "-1" : "0",
        class: row[IS_BLOCK] ? "block" : null});
      const name = element("th", {scope: "row", title: row[PATH]}, row[PATH]);
      name.style.paddingLeft = 8 + 10 * row[DEPTH] + "px";
      tr.append(name);
      for (const c of [OPERATION, OUTPUT, PARAMETERS, MACS, MEMORY, FIELD]) {
        tr.append(element("td", {}, c === MEMORY ? bytes(row[c]) : row[c] === 0 ? "" : String(number(row[c]))));
      }
      body.append(tr);
    });
    $("rows").append(body);
  }
  const rowOf = (event) => Number(event.target.closest("tr").id.slice(4));
  function pick(row, deep) {
    if (deep) { reveal(row); levels(); }
    choose([row], "table");
  }
  $("rows").addEventListener("click", (event) => pick(rowOf(event), event.detail > 1));
  $("rows").addEventListener("keydown", (event) => {
    const tr = event.target.closest("tr");
    const step = {ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling"}[event.key];
    if (event.key === "Enter" || event.key === " ") pick(rowOf(event), true);
    else if (step) {
      let next = tr[step];
      while (next?.classList.contains("miss")) next = next[step];
      if (!next) return;
      tr.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
      pick(Number(next.id.slice(4)), false);
    } else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- spec

  function fillSpec() {
    const linked = new Map();
    rows.forEach((row, i) => {
      const key = `${row[PLACES][0]}-${row[PLACES][1]}`;
      if (!linked.has(key)) linked.set(key, []);
      linked.get(key).push(i);
    });
    data.sources.forEach((source, s) => {
      $("spec").append(element("h2", {}, source.name));
      source.lines.forEach((text, n) => {
        const key = `${s}-${n + 1}`, own = linked.get(key);
        const line = element("div", {id: "line-" + key, class: "spec-line" + (own ? " linked" : ""),
          ...(own ? {role: "button", tabindex: "0"} : {})});
        line.append(element("span", {}, n + 1), element("span", {}, text));
        if (own) {
          const go = () => choose(own, "spec");
          line.addEventListener("click", go);
          line.addEventListener("keydown", (event) => {
            if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(); }
          });
        }
        $("spec").append(line);
      });
    });
  }

  // ---------------------------------------------------------------- state, for a page that follows its file

  const PANES = ["table", "spec"], FOLDING = ["table", "node", "spec"];
  const nameOf = (v) => {
    const [around, b] = outer.get(v);
    return views[v].depth + ":" + (rows[views[around].boxes[b].lead]?.[PATH] ?? b);
  };

  // What the reader has opened, chosen, sought and moved, in names that hold for a changed network too.
  const state = () => ({
    root: roots[root].name,
    known: reachable().map(nameOf),
    open: reachable().filter((v) => open.has(v)).map(nameOf),
    chosen: chosen.map((row) => rows[row][PATH]),
    heads: heads.map((row) => rows[row][PATH]),
    current: shown.find((s) => s.id === current)?.element.dataset.path,
    colour, query: $("search").value, camera: {...camera},
    panes: PANES.map((id) => [$(id).scrollTop, $(id).scrollLeft]),
    folded: FOLDING.filter((id) => $(id).hidden),
    share: document.querySelector("aside").style.getPropertyValue("--panes"),
  });

  function restore(before) {
    root = Math.max(0, roots.findIndex((r) => r.name === before.root));
    $("root").value = root;
    const [known, opened] = [new Set(before.known), new Set(before.open)];
    open = new Set(reachable().filter((v) => known.has(nameOf(v)) ? opened.has(nameOf(v)) : roots[root].open.includes(v)));
    const places = new Map(rows.map((row, i) => [row[PATH], i]));
    const found = (paths) => paths.map((path) => places.get(path)).filter((row) => row !== undefined);
    [chosen, heads] = [found(before.chosen), found(before.heads)];
    $("colour").value = colour = before.colour;
    $("search").value = before.query;
    for (const id of FOLDING) if ($(id).hidden !== before.folded.includes(id)) $("show-" + id).click();
    document.querySelector("aside").style.setProperty("--panes", before.share);
    draw();
    current = shown.find((s) => s.element.dataset.path === before.current)?.id ?? current;
    focusable();
    search();
    levels();
    if (before.camera.fits) fit(); else { camera = {...before.camera}; look(); }
    PANES.forEach((id, i) => { [$(id).scrollTop, $(id).scrollLeft] = before.panes[i]; });
  }
  window.archdsl = {state, restore};

  night.addEventListener("change", () => { tone(); draw(); });
  draw();
  fit();
  levels();
  new ResizeObserver(() => { if (camera.fits && !chosen.length && open.size === new Set(roots[root].open).size) fit(); }).observe(svg);
  // The picture first, what stands beside it when it is painted.
  requestAnimationFrame(() => setTimeout(() => {
    fillTable();
    fillSpec();
    follow();
    document.documentElement.dataset.ready = "yes";
  }));
})();

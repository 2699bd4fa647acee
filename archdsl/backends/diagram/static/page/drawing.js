// From layouts to shapes.

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
    layout.inner.has(b) ? paintFrame(v, b, box, rects[b], level, layout.inner.get(b)) : paintBox(v, b, box, rects[b], level));
  // Arrows under boxes; where they go on in a block, on its ground and under what it holds.
  for (const edge of view.edges) paintEdge(layout, edge, dx, dy, into, groups);
  for (const [b, need] of layout.inner) {
    paint(need.child, rects[b].x + need.dx + PAD, rects[b].y + need.dy + HEADING, groups[b], level + 1);
  }
  // The order of the network is that in which a screen reader comes by.
  const order = view.boxes.map((box, b) => [box.kind === "output" ? rows.length : box.lead ?? -1, b]);
  for (const [, b] of order.sort((a, c) => a[0] - c[0])) into.append(groups[b]);
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

function paintFrame(v, b, box, rect, level, need) {
  const group = make("g", {class: "frame"});
  group.append(make("rect", {x: rect.x, y: rect.y, width: rect.w, height: rect.h, rx: 8,
    fill: level % 2 ? "var(--frame2)" : "var(--frame)", stroke: box.shared || "var(--border)",
    "stroke-width": box.shared ? 2.2 : 1}));
  group.append(make("text", {class: "heading halo", x: rect.x + need.dx + need.title, y: rect.y + 14, "font-size": 10, fill: "var(--muted)",
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

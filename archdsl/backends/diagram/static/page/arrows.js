// The ways of arrows, whose ends move with their boxes.

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

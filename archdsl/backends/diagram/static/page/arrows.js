// The ways of arrows, whose ends move with their boxes.

function paintEdge(layout, edge, dx, dy, into, groups) {
  const way = edge.corners ?? edge.way;
  const points = [];
  for (let i = 0; i < way.length; i += 2) points.push([layout.fx(way[i]), layout.fy(way[i + 1])]);
  const last = way.length - 2;
  const sources = pointsInside(layout, edge.from, "exit", edge.tensors);
  const targets = pointsInside(layout, edge.to, "entry", edge.tensors);
  const start = crossing(layout, edge.from, attached(layout, edge.from, way[0], way[1]), sources[0], "exit");
  const tip = crossing(layout, edge.to, attached(layout, edge.to, way[last], way[last + 1]), targets[0], "entry");
  const p = ([x, y]) => (x + dx).toFixed(1) + " " + (y + dy).toFixed(1);
  const goes_on = layout.inner.get(edge.to) || layout.view.boxes[edge.to].kind === "exit";
  const pointed = edge.head && !goes_on;
  const path = edge.corners ? angled(way, points, start, tip, pointed, p) : curved(points, start, tip, goes_on, p);
  into.append(make("path", {class: "edge " + edge.kind, d: path}));
  for (const [dots, border, b] of [[sources, start, edge.from], [targets, tip, edge.to]]) {
    for (const dot of dots) groups[b].append(make("path", {class: "edge " + edge.kind, d: bent(within(layout, b, border, dot), false, p)}));
  }
  if (pointed) {
    const base = points[points.length - 2];
    const [ex, ey] = toward(tip, base, 1).map((v, i) => tip[i] - v);
    const back = [tip[0] - ex * ARROW, tip[1] - ey * ARROW];
    into.append(make("path", {class: "tip " + edge.kind, d: "M" + p(tip) + "L" + p([back[0] - ey * 2.6, back[1] + ex * 2.6]) +
      "L" + p([back[0] + ey * 2.6, back[1] - ex * 2.6]) + "Z"}));
  }
}

// The points of this kind inside an open block, with the tensors that they stand for; none if it is not open.
function dots(layout, b, kind) {
  const need = layout.inner.get(b), place = layout.places[b];
  return (need?.child.view.boxes ?? []).flatMap((box, i) => box.kind !== kind ? [] : [{tensors: box.tensors,
    at: [place.x + need.dx + PAD + need.child.places[i].cx, place.y + need.dy + HEADING + need.child.places[i].cy]}]);
}

// The points inside an open block where an arrow with these tensors goes on, or comes from.
function pointsInside(layout, b, kind, tensors) {
  const all = dots(layout, b, kind), found = all.filter((dot) => dot.tensors.some((t) => tensors.includes(t)));
  return (found.length ? found : all.slice(0, 1)).map((dot) => dot.at);
}

// Where an arrow crosses the side of an open block: beside the point inside from which it goes on. Where other points
// stand between the two, it has a lane of its own, so that it does not seem to come from them.
function crossing(layout, b, at, dot, kind) {
  if (!dot) return at;
  const {x, y, w, h} = layout.places[b];
  const near = (p, q) => Math.abs(p - q) < 1.5;
  const aside = near(at[0], x) || near(at[0], x + w);
  if (!aside && !near(at[1], y) && !near(at[1], y + h)) return at;
  const [along, across] = aside ? [0, 1] : [1, 0], found = [...at];
  const between = dots(layout, b, kind).filter(({at: other}) => near(other[across], dot[across]) &&
    (other[along] - dot[along]) * (at[along] - other[along]) > 0).length;
  const first = kind === "exit" ? dot[across] + 7 : down ? y + HEADING - 2 : x + PAD / 2;  // before the words at points
  found[across] = between ? first + (kind === "exit" ? 4 : -4) * (between - 1) : dot[across];
  return found;
}

// The corners from the side of an open block to a point inside: around what stands there, with as few bends as can be.
function within(layout, b, border, dot) {
  const {x, y, w, h} = layout.places[b], need = layout.inner.get(b);
  const [left, top] = [x + need.dx + PAD, y + need.dy + HEADING];
  const solid = need.child.view.boxes.flatMap((box, i) => {
    const {x, y, w, h, cx, cy} = need.child.places[i];
    if (left + cx === dot[0] && top + cy === dot[1] || box.kind === "size") return [];
    const by = ["entry", "exit"].includes(box.kind) ? 4 - w / 2 : 4;
    return [[left + x - by, top + y - by, left + x + w + by, top + y + h + by]];
  });
  // Along the arrows of the block there is no way either, but across them.
  const drawn = need.child.view.edges.flatMap(({corners}) => (corners ?? []).slice(2).flatMap((_, i) => i % 2 ? [] :
    [[0, 2].map((k) => [left + need.child.fx(corners[i + k]), top + need.child.fy(corners[i + k + 1])])]));
  const meets = ([[x1, y1], [x2, y2]], a, b, c, d) =>
    Math.max(x1, x2) > a && Math.min(x1, x2) < c && Math.max(y1, y2) > b && Math.min(y1, y2) < d;
  const clear = (from, to) => !solid.some((r) => meets([from, to], ...r)) && !drawn.some(([[a, b], [c, d]]) => {
    const [x, y] = a === c && from[0] === to[0] ? [3, -3] : b === d && from[1] === to[1] ? [-3, 3] : [NaN, NaN];
    return meets([from, to], Math.min(a, c) - x, Math.min(b, d) - y, Math.max(a, c) + x, Math.max(b, d) + y);
  });
  if ((border[0] === dot[0] || border[1] === dot[1]) && clear(border, dot)) return [border, dot];
  const range = [[x + PAD / 2, x + w - PAD / 2], [y + HEADING - 2, y + h - PAD / 2]];
  const inner = (axis, v) => v >= range[axis][0] && v <= range[axis][1];
  const grid = [0, 1].map((axis) => [...new Set([border[axis], dot[axis], ...range[axis],
    ...solid.flatMap((r) => [r[axis] - 1, r[axis + 2] + 1])])].filter((v) => v === border[axis] || inner(axis, v)).sort((p, q) => p - q));
  const at = (i, j) => [grid[0][i], grid[1][j]];
  const from = [grid[0].indexOf(border[0]), grid[1].indexOf(border[1])];
  const before = new Map([[String(from), null]]);
  // Each round goes straight on from where the one before it came to, so that the first way found has the fewest bends.
  for (let round = [from]; round.length;) {
    const next = [];
    for (const place of round) for (const axis of [1, 0]) for (const step of [1, -1]) {
      if (!inner(1 - axis, grid[1 - axis][place[1 - axis]])) continue;  // never along the side
      const to = [...place];
      for (;;) {
        const last = [...to];
        to[axis] += step;
        if (to[axis] < 0 || to[axis] >= grid[axis].length || !clear(at(...last), at(...to))) break;
        if (before.has(String(to))) continue;
        before.set(String(to), place);
        next.push([...to]);
      }
    }
    const end = String([grid[0].indexOf(dot[0]), grid[1].indexOf(dot[1])]);
    if (before.has(end)) {
      const corners = [dot];
      for (let back = before.get(end); back; back = before.get(String(back))) corners.unshift(at(...back));
      return corners;
    }
    round = next;
  }
  return [border, dot];
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
  return bent(points, pointed, p);
}

// A line with round corners.
function bent(points, pointed, p) {
  const n = points.length;
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

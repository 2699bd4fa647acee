// Where everything is: views with what is open in them.

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

// How far right in a frame its heading begins, so that none of the arrows that come in from above runs through it.
function headingAt(length, child) {
  let x = PAD - 4;
  if (!down) return x;
  const entries = child.places.filter((_, i) => child.view.boxes[i].kind === "entry").map((p) => PAD + p.x + p.w / 2);
  for (const at of entries.sort((a, b) => a - b)) if (at > x - 4 && at < x + length + 4) x = at + 6;
  return x;
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
    const title = views[box.inside].heading.length * 6.5;
    const titleAt = headingAt(title, child);
    const w = Math.max(child.w + 2 * PAD, titleAt + title + PAD);
    const h = child.h + HEADING + PAD;
    const mx = box.x + box.w / 2, my = box.y + box.h / 2;
    // Across the flow the point of entry stays where the box's middle was, so that arrows run straight into it.
    const need = {child, w, h, title: titleAt, left: down ? Math.max(cx, box.w / 2) : w / 2, top: down ? h / 2 : Math.max(cy, box.h / 2)};
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

// Where a point on the border of a box, or outside it, goes when the box does.
function attached(layout, b, x, y) {
  const box = layout.view.boxes[b], place = layout.places[b];
  const along = (p, from, size, middle, start, length) => {
    const centre = from + size / 2;
    const half = size / 2 || 1;
    if (Math.abs(p - centre) > half) return p < centre ? start + p - from : start + length + p - from - size;
    return p < centre ? middle - (centre - p) / half * (middle - start) : middle + (p - centre) / half * (start + length - middle);
  };
  return [along(x, box.x, box.w, place.cx, place.x, place.w), along(y, box.y, box.h, place.cy, place.y, place.h)];
}

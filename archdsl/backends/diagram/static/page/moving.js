// The camera, and the pointer, which moves it and asks for tooltips.

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
  camera.k = Math.max(k, Math.min(READABLE, down ? (w - 30) / sw : (h - 30) / sh), LEAST);
  // One that has no room across its flow either is shown about the box that it begins with.
  const first = shown[0]?.rect ?? {x: 0, y: 0, w: sw, h: sh};
  const about = (room, size, middle) => camera.k * size < room ? (room - camera.k * size) / 2 :
    Math.min(15, Math.max(room - camera.k * size - 15, room / 2 - camera.k * middle));
  camera.x = about(w, sw, down ? first.x + first.w / 2 : 0);
  camera.y = about(h, sh, down ? 0 : first.y + first.h / 2) + (camera.k * sh < h ? 5 : 0);
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

// The cost of a box as the table has it; of one that stands for several, that of the first one, and of all of them.
function costOf(box, column, text) {
  const all = sum(box, column);
  if (!box.count || typeof rows[box.lead]?.[column] !== "number" || !all) return all ? text(all) : "";
  const one = rows[box.lead][IS_BLOCK] ? rows[box.lead][column] : all / box.count;
  return one === all / box.count ? `${text(one)} × ${box.count} = ${text(all)}` : `${text(one)}; ${text(all)} in all ${box.count}`;
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
  const costs = [["parameters", PARAMETERS, number], ["MACs", MACS, number], ["memory", MEMORY, bytes]];
  for (const [name, column, text] of s.box.kind === "output" ? [] : costs) {  // its rows are those of the layer before it
    fact(name, costOf(s.box, column, text));
  }
  fact("receptive field", main[FIELD] + (main[STRIDE] ? `, stride ${main[STRIDE]}` : ""));
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

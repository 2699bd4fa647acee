// Walking through the picture by keys.

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

// A page that follows its file keeps its state; then the start.

const SCROLLED = ["table", "spec"];
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
  panes: SCROLLED.map((id) => [$(id).scrollTop, $(id).scrollLeft]),
  columns: [...leftOut],
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
  leaveOut(before.columns ?? []);
  for (const id of FOLDING) if ($(id).hidden !== before.folded.includes(id)) $("show-" + id).click();
  document.querySelector("aside").style.setProperty("--panes", before.share);
  draw();
  current = shown.find((s) => s.element.dataset.path === before.current)?.id ?? current;
  focusable();
  search();
  levels();
  if (before.camera.fits) fit(); else { camera = {...before.camera}; look(); }
  SCROLLED.forEach((id, i) => { [$(id).scrollTop, $(id).scrollLeft] = before.panes[i]; });
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

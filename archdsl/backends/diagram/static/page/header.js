// The header: how far all is unfolded, search, and the page's address.

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

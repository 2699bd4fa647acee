// The table: a row for each layer and block, sorted by a column, with the columns that the reader wants.

const COLUMNS = [PATH, OPERATION, OUTPUT, PARAMETERS, MACS, MEMORY, FIELD, STRIDE];

function fillTable() {
  const body = document.createDocumentFragment();
  rows.forEach((row, i) => {
    const tr = element("tr", {id: "row-" + i, "aria-selected": "false", tabindex: i ? "-1" : "0",
      class: row[IS_BLOCK] ? "block" : null});
    const name = element("th", {scope: "row", title: row[PATH]}, row[PATH]);
    name.style.paddingLeft = 8 + 10 * row[DEPTH] + "px";
    tr.append(name);
    for (const c of COLUMNS.slice(1)) {
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

// Up, down, and back to the order of the network.
const ways = {none: "descending", descending: "ascending", ascending: "none"};
const titles = [...document.querySelectorAll("#table thead th")];
const amount = (value) => typeof value === "number" ? value : Number.parseFloat(value) || 0;
titles.forEach((head, i) => {
  head.setAttribute("tabindex", "0");
  head.setAttribute("aria-sort", "none");
  const sort = () => {
    const way = ways[head.getAttribute("aria-sort")];
    for (const other of titles) other.setAttribute("aria-sort", other === head ? way : "none");
    const order = [...rows.keys()], text = i < 3;
    const key = (row) => rows[row][COLUMNS[i]];
    const compare = text ? (a, b) => String(key(b)).localeCompare(String(key(a)), "en", {numeric: true}) : (a, b) => amount(key(b)) - amount(key(a));
    if (way !== "none") order.sort((a, b) => (way === "descending" ? 1 : -1) * compare(a, b) || a - b);
    $("rows").replaceChildren(...order.map((row) => $("row-" + row)));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { sort(); event.preventDefault(); } });
});

// The columns that the reader leaves out, besides the paths: a class of the table for each.
const leftOut = new Set();
function leaveOut(numbers) {
  leftOut.clear();
  for (const i of numbers) leftOut.add(i);
  const table = document.querySelector("#table table");
  titles.forEach((_, i) => table.classList.toggle("without-" + i, leftOut.has(i)));
  for (const box of $("columns").querySelectorAll("input")) box.checked = !leftOut.has(Number(box.value));
}
titles.forEach((head, i) => {
  if (!i) return;
  const label = element("label", {}), box = element("input", {type: "checkbox", value: i});
  box.addEventListener("change", () => leaveOut(titles.map((_, n) => n).filter((n) => n === i ? !box.checked : leftOut.has(n))));
  label.append(box, head.textContent);
  $("columns").append(label);
});
leaveOut([titles.length - 1]);

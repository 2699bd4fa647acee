"use strict";
// What stands around the picture: panes that fold and change their width, a table that sorts, the view as a file.
(() => {
  const $ = (id) => document.getElementById(id);
  const PANES = ["table", "node", "spec"];
  const aside = document.querySelector("aside"), main = document.querySelector("main"), splitter = $("splitter");
  const narrow = matchMedia("(max-width: 800px)");

  // ---------------------------------------------------------------- panes

  function fold(id, hidden) {
    $(id).hidden = hidden;
    $("show-" + id).setAttribute("aria-pressed", !hidden);
    aside.hidden = splitter.hidden = [...aside.children].every((pane) => pane.hidden);
  }
  for (const id of PANES) $("show-" + id).addEventListener("click", () => fold(id, !$(id).hidden));

  function share(part) {
    aside.style.setProperty("--panes", 100 * Math.min(0.85, Math.max(0.1, part)) + "%");
  }
  function shareOf(event) {
    const box = main.getBoundingClientRect();
    return narrow.matches ? (box.bottom - event.clientY) / box.height : (box.right - event.clientX) / box.width;
  }
  splitter.addEventListener("pointerdown", (event) => { splitter.setPointerCapture(event.pointerId); event.preventDefault(); });
  splitter.addEventListener("pointermove", (event) => { if (splitter.hasPointerCapture(event.pointerId)) share(shareOf(event)); });
  splitter.addEventListener("keydown", (event) => {
    const by = {ArrowLeft: 0.05, ArrowUp: 0.05, ArrowRight: -0.05, ArrowDown: -0.05}[event.key];
    if (!by) return;
    const box = aside.getBoundingClientRect(), all = main.getBoundingClientRect();
    share((narrow.matches ? box.height / all.height : box.width / all.width) + by);
    event.preventDefault();
  });
  if (narrow.matches) fold("spec", true);

  // ---------------------------------------------------------------- the table by column

  const rows = JSON.parse($("data").textContent).rows;
  const heads = [...document.querySelectorAll("#table thead th")];
  const columns = [0, 1, 2, 3, 4, 5, 6];
  const amount = (value) => typeof value === "number" ? value : Number.parseFloat(value) || 0;
  // Up, down, and back to the order of the network.
  const next = {none: "descending", descending: "ascending", ascending: "none"};
  heads.forEach((head, i) => {
    head.setAttribute("tabindex", "0");
    head.setAttribute("aria-sort", "none");
    const sort = () => {
      const way = next[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", other === head ? way : "none");
      const order = [...rows.keys()], text = i < 3;
      const key = (row) => rows[row][columns[i]];
      const compare = text ? (a, b) => String(key(b)).localeCompare(String(key(a)), "en", {numeric: true}) : (a, b) => amount(key(b)) - amount(key(a));
      if (way !== "none") order.sort((a, b) => (way === "descending" ? 1 : -1) * compare(a, b) || a - b);
      $("rows").replaceChildren(...order.map((row) => $("row-" + row)));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { sort(); event.preventDefault(); } });
  });

  // ---------------------------------------------------------------- the view as a file

  function view() {
    const svg = $("svg"), copy = svg.cloneNode(true), {width, height} = svg.getBoundingClientRect();
    const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
    style.textContent = document.querySelector("style").textContent;
    copy.prepend(style);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.style.background = getComputedStyle(document.body).backgroundColor;
    return {text: new XMLSerializer().serializeToString(copy), width, height};
  }
  function save(address, ending) {
    const link = document.createElement("a");
    link.href = address;
    link.download = document.title + ending;
    link.click();
  }
  const encoded = (text) => "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  $("save-svg").addEventListener("click", () => save(encoded(view().text), ".svg"));
  $("save-png").addEventListener("click", () => {
    const {text, width, height} = view(), image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [2 * width, 2 * height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      save(canvas.toDataURL("image/png"), ".png");
    };
    image.src = encoded(text);
  });
})();

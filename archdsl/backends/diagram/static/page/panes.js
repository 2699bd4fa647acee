// Panes that fold and change their width.

const FOLDING = ["table", "node", "spec"];
const aside = document.querySelector("aside"), main = document.querySelector("main"), splitter = $("splitter");
const narrow = matchMedia("(max-width: 800px)");

function fold(id, hidden) {
  $(id).hidden = hidden;
  $("show-" + id).setAttribute("aria-pressed", !hidden);
  aside.hidden = splitter.hidden = [...aside.children].every((pane) => pane.hidden);
}
for (const id of FOLDING) $("show-" + id).addEventListener("click", () => fold(id, !$(id).hidden));

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

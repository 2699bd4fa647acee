// What the reader has opened, chosen and sought; which rows a box stands for.

let root = 0;
let open = new Set(roots[0].open);
let chosen = [];        // rows, the one that is told of first
let heads = [];         // those of them whose boxes are outlined
let colour = "family";
let query = "";
let camera = {x: 0, y: 0, k: 1};
let shown = [];         // what is drawn: {id, box, element, rect, view, open}
let current = null;     // the id of the box that the keyboard stands on

// The view in which a view's box stands, and that box.
const outer = new Map();
views.forEach((view, v) => view.boxes.forEach((box, b) => {
  if (box.inside !== undefined) outer.set(box.inside, [v, b]);
}));
const idOf = (v, b) => v + "." + b;

function* covered(ranges) {
  for (let i = 0; i < ranges.length; i += 2) for (let row = ranges[i]; row <= ranges[i + 1]; row++) yield row;
}
const covers = (box, row) => {
  for (let i = 0; i < box.rows.length; i += 2) if (box.rows[i] <= row && row <= box.rows[i + 1]) return true;
  return false;
};
const sum = (box, column) => {
  let total = 0;
  for (const row of covered(box.rows)) {
    if (!rows[row][IS_BLOCK] && typeof rows[row][column] === "number") total += rows[row][column];
  }
  return total;
};

// The view as a file.

function pictured() {
  const copy = svg.cloneNode(true), {width, height} = svg.getBoundingClientRect();
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
function download(address, ending) {
  const link = document.createElement("a");
  link.href = address;
  link.download = document.title + ending;
  link.click();
}
const asAddress = (text) => "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
$("save-svg").addEventListener("click", () => download(asAddress(pictured().text), ".svg"));
$("save-png").addEventListener("click", () => {
  const {text, width, height} = pictured(), image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    download(canvas.toDataURL("image/png"), ".png");
  };
  image.src = asAddress(text);
});

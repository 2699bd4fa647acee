// The lines of the spec, of which those that made a row can be chosen.

function fillSpec() {
  const linked = new Map();
  rows.forEach((row, i) => {
    const key = `${row[PLACES][0]}-${row[PLACES][1]}`;
    if (!linked.has(key)) linked.set(key, []);
    linked.get(key).push(i);
  });
  data.sources.forEach((source, s) => {
    $("spec").append(element("h2", {}, source.name));
    source.lines.forEach((text, n) => {
      const key = `${s}-${n + 1}`, own = linked.get(key);
      const line = element("div", {id: "line-" + key, class: "spec-line" + (own ? " linked" : ""),
        ...(own ? {role: "button", tabindex: "0"} : {})});
      line.append(element("span", {}, n + 1), element("span", {}, text));
      if (own) {
        const go = () => choose(own, "spec");
        line.addEventListener("click", go);
        line.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(); }
        });
      }
      $("spec").append(line);
    });
  });
}

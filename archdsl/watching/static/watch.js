"use strict";
// Shows the newest page of a spec, in the state in which the reader left the one before, and trouble above it.
(() => {
  const trouble = document.getElementById("trouble"), stage = document.getElementById("stage");
  const wait = document.getElementById("wait");
  let number = 0, now = null, coming = null;

  function say(text) {
    trouble.textContent = text;
    trouble.hidden = !text;
  }

  function bring(next) {
    coming?.remove();
    const frame = coming = document.createElement("iframe");
    frame.title = document.title;
    frame.className = "coming";
    frame.src = "page/" + next;
    frame.addEventListener("load", () => whole(frame));
    stage.append(frame);
  }

  // The page fills its table after its picture.
  function whole(frame) {
    if (frame !== coming) return;
    if (frame.contentDocument.documentElement.dataset.ready !== "yes") { setTimeout(() => whole(frame), 10); return; }
    const focused = now && document.activeElement === now;
    if (now) frame.contentWindow.archdsl.restore(now.contentWindow.archdsl.state());
    frame.className = "";
    wait.remove();
    now?.remove();
    now = frame;
    coming = null;
    if (focused) frame.contentWindow.focus();
    document.documentElement.dataset.shown = number;
  }

  const source = new EventSource("events");
  source.onmessage = (event) => {
    const told = JSON.parse(event.data);
    say(told.trouble);
    if (told.trouble && wait) wait.textContent = "The diagram appears here as soon as the spec has no error.";
    if (told.number !== number && told.number) bring(number = told.number);
  };
  source.onerror = () => say("archdsl watch has ended, or cannot be reached.");
})();

// A live region that stays: a screen reader reads the lines that are added to it, and no others.
// Texts from Python go in as textContent, never as markup.

function render({ model, el }) {
  const region = make("div", "wb-say", el);
  region.setAttribute("role", model.get("role"));
  if (model.get("label")) region.setAttribute("aria-label", model.get("label"));
  let shown = [];
  const show = () => {
    const lines = model.get("lines");
    let kept = 0;
    while (kept < shown.length && kept < lines.length && shown[kept] === lines[kept].join("\n")) {
      kept++;
    }
    shown = shown.slice(0, kept);
    while (region.children.length > kept) region.lastChild.remove();
    for (const [who, words] of lines.slice(kept)) {
      const line = document.createElement("div");
      line.className = "wb-turn";
      if (who) {
        const name = document.createElement("b");
        name.textContent = who;
        line.append(name, " ");
      }
      line.append(words);
      region.appendChild(line);
      shown.push([who, words].join("\n"));
    }
  };
  model.on("change:lines", show);
  show();
}

export default { render };

// A text that grows: tokens are appended, and what stands there stays, so that a reader keeps the
// focus, the selection and the place. Texts from Python go in as textContent, never as markup.

function render({ model, el }) {
  const region = make("div", "wb-texts", el);
  const title = make("div", "wb-title", region);
  const dot = make("span", "wb-zone", title);
  const name = make("span", "", title);
  const note = make("small", "", title);
  const likely = make("small", "wb-likely", title);
  const text = make("div", "wb-text", region);
  const end = make("i", "", text);
  const label = model.get("label");
  name.textContent = label;
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", `${label} text`);
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", `${label} text, scrollable`);
  text.tabIndex = 0;
  dot.setAttribute("aria-hidden", "true");
  let shown = [];

  const same = (node, [words, back, said]) =>
    node.textContent === words && node.dataset.back === back && node.title === said;
  const append = (cells) => {
    for (const [words, back, said] of cells) {
      const node = document.createElement("span");
      node.textContent = words;
      node.title = said;
      node.dataset.back = back;
      node.style.background = back;
      text.insertBefore(node, end);
      shown.push(node);
    }
  };
  const whole = () => {
    const cells = model.get("cells");
    let kept = 0;
    while (kept < shown.length && kept < cells.length && same(shown[kept], cells[kept])) kept++;
    for (const node of shown.splice(kept)) node.remove();
    append(cells.slice(kept));
  };
  const more = () => {
    const { at, cells } = model.get("more");
    if (at === shown.length) append(cells); // else this view came later: the whole text follows
  };
  const about = () => {
    dot.hidden = !model.get("color");
    dot.style.background = model.get("color");
    note.textContent = model.get("note");
    likely.textContent = model.get("likely");
    end.textContent = model.get("ended");
  };
  model.on("change:cells", whole);
  model.on("change:more", more);
  model.on("change:color change:note change:likely change:ended", about);
  whole();
  about();
}

export default { render };

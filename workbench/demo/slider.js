// A labelled range control whose track shows the zones of a steering coefficient.
// Texts from Python go in as textContent, never as markup.

// Whether what lies behind an element is dark, by the first background that is not transparent.
function dark(el) {
  for (let at = el; at; at = at.parentElement) {
    const found = getComputedStyle(at).backgroundColor.match(/[\d.]+/g);
    if (found && (found.length < 4 || Number(found[3]) > 0.5)) {
      const [red, green, blue] = found.map(Number);
      return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
    }
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function render({ model, el }) {
  // Not a count of this module: each widget loads a module of its own.
  const id = `wb-slider-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const box = make("div", "wb-slider", el);
  const head = make("div", "wb-slider-head", box);
  const label = make("label", "wb-slider-label", head);
  const number = make("span", "wb-slider-number", head);
  const middle = make("div", "wb-slider-middle", box);
  const track = make("div", "wb-slider-track", middle);
  const input = make("input", "wb-slider-input", middle);
  const marks = make("div", "wb-slider-marks", box);
  const words = make("div", "wb-slider-words", box);
  const details = make("details", "wb-slider-details", box);
  make("summary", "", details).textContent = "Why the zones end there";
  const reasons = make("div", "wb-slider-reasons", details);
  input.type = "range";
  input.id = id;
  label.htmlFor = id;
  // Number and words are said once, as the control's value.
  number.setAttribute("aria-hidden", "true");
  words.setAttribute("aria-hidden", "true");
  track.setAttribute("aria-hidden", "true");
  marks.setAttribute("aria-hidden", "true");

  const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(3);
  const show = () => {
    label.textContent = model.get("label");
    input.min = model.get("min");
    input.max = model.get("max");
    input.step = model.get("step");
    input.value = model.get("value");
    number.textContent = `${signed(model.get("value"))} residual norms`;
    words.textContent = model.get("words");
    reasons.textContent = model.get("reasons");
    details.hidden = !model.get("reasons");
    input.setAttribute("aria-valuetext", `${signed(model.get("value"))}. ${model.get("words")}`);
  };
  const draw = () => {
    track.replaceChildren();
    for (const zone of model.get("zones")) {
      const part = make("div", `wb-zone-${zone.name}`, track);
      part.style.left = `${zone.from}%`;
      part.style.width = `${zone.to - zone.from}%`;
      part.style.background = zone.color;
    }
    marks.replaceChildren();
    const rows = 1 + Math.max(0, ...model.get("marks").map((mark) => mark.row));
    marks.style.height = `${rows * 18}px`;
    for (const mark of model.get("marks")) {
      const tick = make("span", "wb-slider-mark", marks);
      tick.style.left = `${mark.at}%`;
      tick.style.top = `${mark.row * 18}px`;
      // The ends stay within the track.
      if (mark.at <= 0 || mark.at >= 100) tick.classList.add(mark.at <= 0 ? "wb-first" : "wb-last");
      tick.textContent = mark.text;
    }
  };
  const look = () => {
    if (model.get("dark") !== dark(el)) {
      model.set("dark", dark(el));
      model.save_changes();
    }
  };
  input.addEventListener("input", () => {
    // Steps from an end to 0 add up to 5e-17, which is not "nothing is added".
    model.set("value", Number(Number(input.value).toFixed(6)) || 0);
    model.save_changes();
  });
  // Some pages measure figures before they have a place: these look again, once there is one.
  const settle = () => setTimeout(() => window.dispatchEvent(new Event("resize")), 300);
  model.on("change:zones", settle);
  settle();
  model.on("change:value change:words change:reasons change:min change:max change:step change:label", show);
  model.on("change:zones change:marks", draw);
  const theme = new MutationObserver(() => setTimeout(look, 100));
  theme.observe(document.body, { attributes: true });
  setTimeout(look, 0);
  show();
  draw();
  return () => theme.disconnect();
}

export default { render };

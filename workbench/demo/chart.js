// One plotly figure, drawn anew in place. The script that draws it is loaded once for a page, after
// this small widget is ready, since a page gives a widget little time for that.

function plotly() {
  const shared = library();
  shared.loaded ??= shared.source.then(async (source) => {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    await import(address);
    URL.revokeObjectURL(address);
    return window.Plotly;
  });
  return shared.loaded;
}

function render({ model, el }) {
  const figure = make("div", "wb-chart", el);
  figure.setAttribute("role", "figure");
  figure.setAttribute("aria-label", model.get("label"));
  const options = { displayModeBar: false };
  let gone = false;
  let turn = Promise.resolve(); // one drawing after the other
  const draw = () => {
    turn = turn.then(async () => {
      if (gone || !model.get("figure")) return;
      const Plotly = await plotly();
      const first = !figure.data;
      const { data, layout } = JSON.parse(model.get("figure"));
      if (!gone) await Plotly.react(figure, data, layout, options);
      if (first && !gone) figure.on("plotly_click", click);
    });
  };
  const click = ({ points }) => {
    const [point] = points;
    if (point?.data.mode === "markers") model.send({ clicked: point.x });
  };
  const sized = new ResizeObserver(() => figure.data && window.Plotly.Plots.resize(figure));
  sized.observe(el);
  model.on("change:figure", draw);
  draw();
  return () => {
    gone = true;
    sized.disconnect();
    model.off("change:figure", draw);
    if (figure.data) window.Plotly.purge(figure);
  };
}

export default { render };

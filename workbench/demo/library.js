// plotly.js for the charts of a page (chart.js): the text comes once, from Python.

function initialize({ model }) {
  const hand = () => model.get("source") && library().give(model.get("source"));
  model.on("change:source", hand);
  hand();
}

export default { initialize, render() {} };

// What the widgets share; put before each one's own script, as each loads a module of its own.

function make(tag, className, parent) {
  const made = document.createElement(tag);
  made.className = className;
  parent.appendChild(made);
  return made;
}

// Where plotly.js is handed over (library.js) and waited for (chart.js): one place in a page.
function library() {
  const made = () => {
    const shared = {};
    shared.source = new Promise((give) => (shared.give = give));
    return shared;
  };
  return (globalThis.workbenchPlotly ??= made());
}

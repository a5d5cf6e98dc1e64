// What the widgets share; put before each one's own script, as each loads a module of its own.

function make(tag, className, parent) {
  const made = document.createElement(tag);
  made.className = className;
  parent.appendChild(made);
  return made;
}

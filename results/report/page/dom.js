// Elements. What a record says becomes text nodes and attribute values only, so that a tag in it stays text.

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "style")
      for (const [key, own] of Object.entries(value)) element.style.setProperty(key, own);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const el = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });
const label = (x, y, anchor, text, more) => svg("text", { x, y, "text-anchor": anchor, ...more }, text);
const byId = (id) => document.getElementById(id);
const unique = (values) => [...new Set(values)];
const ascending = (values) => unique(values).sort((a, b) => a - b);
const known = (value) => value !== null && value !== undefined && value !== "";
const plural = (count, noun) =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : /s$/.test(noun) ? "es" : "s"}`;
const listed = (names) =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

// A number for reading: three significant digits, and no fewer than are before the point.
function short(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3))
    return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  return (
    size >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)))
  ).replace("-", "−");
}

// The same with three digits always, for columns of figures.
const threeDigits = (value) =>
  known(value) && Math.abs(value) >= 1e-3 && Math.abs(value) < 100 ? value.toPrecision(3) : short(value);

// A number is not parted from its unit at the end of a line.
const unparted = (text) =>
  text
    .replace(/(\d) (%|ms|MiB|s\b)/g, "$1\u00a0$2")
    .replace(/(D|L) = (\d)/g, "$1\u00a0=\u00a0$2")
    .replace(/ ± /g, "\u00a0±\u00a0");

// Units as they are shown: fractions in per cent, seconds of a step in ms, bytes in MiB.
const SHOWN = { fraction: [100, "%"], bytes: [1 / 2 ** 20, "MiB"], "1/s": [1, "images/s"] };
function shownUnit(table) {
  if (table.unit === "s" && /^(step|loss)_/.test(table.metric)) return [1000, "ms"];
  return SHOWN[table.unit] || [1, table.unit];
}

// One section of the page. It is drawn again only where what it shows has changed, and keeps the focus where it was.
function section(parent, id, inputs, draw) {
  const own = byId(id) || el("section", { id });
  // In the order in which they are drawn; one that is in its place is not moved, which would take the focus from it.
  const place = parent.latest ? parent.latest.nextSibling : parent.firstChild;
  if (own !== place) parent.insertBefore(own, place);
  parent.latest = own;
  own.classList.add("current");
  const key = JSON.stringify(inputs);
  if (own.key === key && own.firstChild) return;
  own.key = key;
  const focused = own.contains(document.activeElement) ? document.activeElement.id : null;
  own.replaceChildren(...[draw(own)].flat(Infinity).filter(Boolean));
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

const note = (text) => el("p", { class: "note" }, text);
const head = (title, ...choices) => el("div", { class: "head" }, el("h2", {}, title), choices);
// A finding behind the name of what it is of.
const findingOf = (name, finding) => [el("span", { class: "of" }, `${name}. `), finding];

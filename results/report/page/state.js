// What is shown is what the address says: everything a reader chooses is read from its fragment and written to it.

const FILTERS = ["method", "D", "data", "probe", "split"];
const state = new Proxy(
  {},
  {
    get: (_, name) => new URLSearchParams(location.hash.slice(1)).get(name),
    set: (_, name, value) => (go({ [name]: value }), true),
  },
);
const chosen = (name) => new URLSearchParams(location.hash.slice(1)).getAll(name);

// Change some choices; null, or an empty list, takes one back. A drawer that opens is a step to go back from.
function go(changes, { step = false } = {}) {
  const next = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of Array.isArray(value) ? value : known(value) ? [value] : []) next.append(name, one);
  }
  const text = next.toString();
  history[step ? "pushState" : "replaceState"](
    null,
    "",
    text ? `#${text}` : location.pathname + location.search,
  );
  render();
}

// The values that a chapter can be filtered by.
function filterValues(chapter) {
  const figures = chapter.tables.filter((table) => !table.cost);
  const dimensions = unique(chapter.configurations.map((own) => own.D)).sort((a, b) => (a ?? -1) - (b ?? -1));
  return {
    method: chapter.methods.map((method) => method.label),
    D: dimensions.map((dim) => (dim === null ? "none" : String(dim))),
    data: unique(figures.map((table) => table.dataset)),
    probe: unique(figures.map((table) => table.probe)).filter(known),
    split: unique(figures.map((table) => table.split)).filter(known),
  };
}

const passes = (name, value) => {
  const wanted = chosen(name);
  return !wanted.length || !known(value) || wanted.includes(String(value));
};

function passesConfiguration(chapter, configuration) {
  const own = chapter.configurations[configuration];
  return passes("method", chapter.methods[own.method].label) && passes("D", own.D === null ? "none" : own.D);
}

const passesTable = (table) =>
  passes("data", table.dataset) &&
  (table.cost || (passes("probe", table.probe) && passes("split", table.split)));

const FILTER_NAMES = { method: "Method", D: "Dimension D", data: "Data", probe: "Probe", split: "Split" };

function drawFilters(chapter) {
  const form = byId("filters");
  const values = chapter.kind === "runs" ? filterValues(chapter) : {};
  const offered = FILTERS.filter((name) => (values[name] || []).length > 1);
  form.hidden = !offered.length;
  const key = JSON.stringify([values, location.hash, chapter.name]);
  if (form.key === key) return;
  form.key = key;
  const open = form.querySelector("details[open]")?.dataset.name;
  const focused = form.contains(document.activeElement) ? document.activeElement.id : null;
  const any = offered.some((name) => chosen(name).length);
  const clear = Object.fromEntries(FILTERS.map((name) => [name, null]));
  form.replaceChildren(
    el("span", { class: "lead" }, "Show"),
    ...offered.map((name) => filter(name, values[name], name === open)),
    any
      ? el("button", { type: "button", id: "clear", on: { click: () => go(clear) } }, "Show everything")
      : "",
  );
  if (focused) byId(focused)?.focus();
}

function filter(name, values, open) {
  const wanted = chosen(name);
  const change = (event) => {
    const boxes = [...event.target.closest("fieldset").querySelectorAll("input")];
    const ticked = boxes.filter((box) => box.checked).map((box) => box.value);
    go({ [name]: ticked.length === values.length ? null : ticked });
  };
  const boxes = values.map((value, place) =>
    el(
      "label",
      {},
      el("input", {
        type: "checkbox",
        id: `filter-${name}-${place}`,
        value,
        checked: !wanted.length || wanted.includes(value),
        on: { change },
      }),
      name === "D" && value === "none" ? "no D" : value,
    ),
  );
  const count = wanted.length ? `${wanted.length} of ${values.length}` : "all";
  const summary = el("summary", { id: `filter-${name}` }, FILTER_NAMES[name], " ", el("b", {}, count));
  const box = el("fieldset", {}, el("legend", { class: "unseen" }, FILTER_NAMES[name]), boxes);
  return el(
    "details",
    { "data-name": name, class: wanted.length ? "filter narrowed" : "filter", open },
    summary,
    box,
  );
}

// A choice that lies in the address, as a labelled list of names, or of values and names.
function choice(name, label, options, current) {
  const id = `choose-${name}`;
  const list = options.map((option) => {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    return el("option", { value, selected: value === current }, text);
  });
  const change = (event) => go({ [name]: event.target.value });
  return el(
    "span",
    { class: "choice" },
    el("label", { for: id }, label),
    " ",
    el("select", { id, on: { change } }, list),
  );
}

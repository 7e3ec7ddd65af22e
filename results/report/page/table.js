// Tables that are tables: captioned, sortable by every column, with intervals drawn in a cell where they are to be compared.

// `columns`: {title, cell(row), by(row), number, hint}; `by` gives what is sorted by. The order lies in the address.
function sortable(id, caption, columns, rows, { limit = 60, rowClass = () => null } = {}) {
  const [by, direction] = (state[`sort-${id}`] || "").split(" ");
  const sorted =
    known(by) && columns[by]?.by ? [...rows].sort(comparing(columns[by].by, direction === "down")) : rows;
  const all = state[`all-${id}`] === "1";
  const shown = all ? sorted : sorted.slice(0, limit);
  const head = columns.map((column, place) => {
    const own = String(place) === by;
    const order = own ? (direction === "down" ? "descending" : "ascending") : null;
    const next = own && direction !== "down" ? `${place} down` : own ? null : `${place} up`;
    const attributes = { scope: "col", class: column.number ? "number" : null, "aria-sort": order };
    if (!column.by) return el("th", attributes, column.title, column.axis || "");
    const button = {
      type: "button",
      id: `${id}-by-${place}`,
      title: column.hint,
      on: { click: () => go({ [`sort-${id}`]: next }) },
    };
    const arrow = el(
      "span",
      { class: "arrow", "aria-hidden": "true" },
      { ascending: "▲", descending: "▼" }[order] || "↕",
    );
    return el("th", attributes, el("button", button, column.title, arrow), column.axis || "");
  });
  const body = shown.map((row) =>
    el(
      "tr",
      { class: rowClass(row), "data-m": row.m },
      columns.map((column, place) =>
        el(
          place ? "td" : "th",
          { class: column.number ? "number" : null, scope: place ? null : "row" },
          column.cell(row),
        ),
      ),
    ),
  );
  const table = el(
    "table",
    { id },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, head)),
    el("tbody", {}, body),
  );
  const more = {
    type: "button",
    class: "more",
    id: `${id}-all`,
    on: { click: () => go({ [`all-${id}`]: "1" }) },
  };
  return [
    el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, table),
    shown.length < rows.length && el("button", more, `Show all ${rows.length} rows`),
  ];
}

// Empty values last, whichever way; numbers by value, text as people sort it.
function comparing(by, down) {
  const sign = down ? -1 : 1;
  return (left, right) => {
    const [a, b] = [by(left), by(right)];
    if (!known(a) || !known(b)) return known(b) - known(a);
    return (
      sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }))
    );
  };
}

// Tables for reading that the tables' own code made: their cells are text.
function plainTable(id, table) {
  const columns = table.columns.map((title, place) => {
    const texts = table.rows.map((row) => row[place]).filter(Boolean);
    const number = 2 * texts.filter((text) => "0123456789-–+<".includes(text[0])).length > texts.length;
    const value = (row) =>
      number && Number.isFinite(parseFloat(row.cells[place])) ? parseFloat(row.cells[place]) : null;
    return { title, number, cell: (row) => row.cells[place], by: number ? value : (row) => row.cells[place] };
  });
  const rows = table.rows.map((cells) => ({ cells }));
  return [sortable(id, table.title, columns, rows), table.notes.map(note)];
}

// The axis above a column of drawn intervals: its ends, and a line at `zero` where it has one.
function intervalScale(values, { zero = null, factor = 1, width = 150 } = {}) {
  const all = values.filter(Number.isFinite);
  if (!all.length) return null;
  let [low, high] = [
    Math.min(...all, ...(zero === null ? [] : [zero])),
    Math.max(...all, ...(zero === null ? [] : [zero])),
  ];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - room, high + room];
  const isInside = (value) => value >= low && value <= high;
  const x = (value) => Math.max(0, Math.min(width, (width * (value - low)) / (high - low)));
  const ticks = niceTicks(low * factor, high * factor, width / 40).map((tick) => tick / factor);
  const marks = ticks.map((tick) => [
    line(x(tick), 11, x(tick), 15, "axis"),
    label(x(tick), 9, "middle", short(tick * factor)),
  ]);
  const axis = svg(
    "svg",
    { viewBox: `0 0 ${width} 16`, width, height: 16, class: "interval-axis", "aria-hidden": "true" },
    marks,
  );
  return { x, ticks, axis, width, zero, isInside, high };
}

// One cell: for each mark its interval, its mean and its seeds. The figures stand in the next column, as text.
function intervalCell(scale, marks, height = 18) {
  const lines = scale.ticks.map((tick) => line(scale.x(tick), 0, scale.x(tick), height, "grid"));
  if (scale.zero !== null) lines.push(line(scale.x(scale.zero), 0, scale.x(scale.zero), height, "zero"));
  const drawn = marks.map((mark, place) => {
    const y = marks.length > 1 ? ((place + 0.5) * height) / marks.length : height / 2;
    return svg(
      "g",
      { class: `m ${mark.look}` },
      known(mark.low) && line(scale.x(mark.low), y, scale.x(mark.high), y, "interval"),
      (mark.seeds || []).map((seed) => line(scale.x(seed), y - 4, scale.x(seed), y + 4, "seed")),
      svg("path", {
        d: scale.isInside(mark.x) ? SYMBOLS[mark.symbol % SYMBOLS.length] : "M0 0L7-4V4Z",
        transform: `translate(${scale.x(mark.x)} ${y})${mark.x > scale.high ? " scale(-1)" : ""}`,
        class: "mark",
      }),
    );
  });
  const box = {
    viewBox: `0 0 ${scale.width} ${height}`,
    width: scale.width,
    height,
    class: "intervals",
    "aria-hidden": "true",
  };
  return svg("svg", box, lines, drawn);
}

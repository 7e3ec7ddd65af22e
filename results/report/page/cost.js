// Time and memory of a suite's methods, and the trade-off of both with accuracy.

// Of a cost, the table of the machine that was chosen, or that most was measured on.
function costTable(chapter, metric) {
  const own = chapter.tables.filter(
    (table) => table.metric === metric && passesTable(table) && table.rows.some((row) => row.n),
  );
  return (
    own.find((table) => machine(table) === state.machine) ||
    own.sort((a, b) => b.rows.length - a.rows.length)[0]
  );
}
const machine = ({ protocol }) =>
  [
    protocol.device,
    plural(protocol.threads, "thread"),
    protocol.processes > 1 && plural(protocol.processes, "process"),
  ]
    .filter(Boolean)
    .join(", ");
const measured = (chapter, table) =>
  table
    ? table.rows.filter((row) => row.n && !chapter.methods[methodOf(chapter, row.c)].reference).length
    : 0;
// Of the times there are, the one that most was measured of; of as many, the first.
const usualTime = (chapter) =>
  Object.keys(TIMES).reduce((a, b) =>
    measured(chapter, costTable(chapter, b)) > measured(chapter, costTable(chapter, a)) ? b : a,
  );

const COST_NAMES = { step_seconds: "Step", train_seconds: "Training", peak_bytes_step: "Peak memory" };
const TIMES = {
  step_seconds: "Training step",
  loss_seconds: "Loss and its gradient",
  train_seconds: "Whole training",
  images_per_second: "Images per second",
};
const PEAKS = {
  step_seconds: "peak_bytes_step",
  loss_seconds: "peak_bytes_loss",
  train_seconds: "peak_bytes_step",
  images_per_second: "peak_bytes_step",
};

function drawCost(chapter) {
  const there = Object.keys(TIMES).filter((metric) => costTable(chapter, metric));
  if (!there.length) return null;
  const metric = there.includes(state.time) ? state.time : usualTime(chapter);
  const machines = unique(
    chapter.tables.filter((table) => table.cost && table.rows.some((row) => row.n)).map(machine),
  );
  const tables = [metric, PEAKS[metric]].map((name) => costTable(chapter, name)).filter(Boolean);
  const drawn = tables.map((table) => costPanel(chapter, table)).filter(Boolean);
  const panels = drawn.length ? drawn : costRows(chapter, tables);
  if (!panels.length) return null;
  return [
    el(
      "div",
      { class: "head" },
      el("h2", {}, "Time and memory"),
      choice(
        "time",
        "Of",
        there.map((name) => [name, TIMES[name]]),
        metric,
      ),
      machines.length > 1 &&
        choice(
          "machine",
          "On",
          machines.map((name) => [name, name]),
          machine(costTable(chapter, metric)),
        ),
    ),
    el("div", { class: drawn.length ? "panels" : null }, panels),
    el(
      "p",
      { class: "note" },
      `On ${machine(costTable(chapter, metric))}; medians of each run, means over seeds.${drawn.length ? " Axes are logarithmic." : ""}`,
    ),
  ];
}

function costPanel(chapter, table) {
  const rows = visible(chapter, table.rows).filter(
    (row) => row.n && !chapter.methods[methodOf(chapter, row.c)].reference,
  );
  const [factor, unit] = shownUnit(table);
  const found = overD(chapter, rows, factor);
  if (!found.isOver) return null;
  const finding = growthFinding(chapter, table, rows);
  const title = table.title.replace(/ seconds$/, "").replace(/^step$/, "Time of a step");
  for (const own of found.series) own.shift = 0;
  const drawing = chart({
    finding,
    title,
    x: { label: "Embedding dimension D", log: true, ticks: found.dims },
    y: { label: unit, log: true, clip: (points) => points.map((point) => point.y) },
    series: found.series,
    width: half(),
    height: 300,
  });
  return figure(drawing, finding);
}

// Without dimensions to go over: a row a method and dimension.
function costRows(chapter, tables) {
  const cells = tables.map(
    (table) =>
      new Map(
        visible(chapter, table.rows)
          .filter((row) => row.n && !chapter.methods[methodOf(chapter, row.c)].reference)
          .map((row) => [row.c, row]),
      ),
  );
  const rows = unique(cells.flatMap((own) => [...own.keys()])).map((c) => ({ c, m: methodOf(chapter, c) }));
  if (!rows.length) return [];
  const columns = tables.flatMap((table, place) => {
    const [factor, unit] = shownUnit(table);
    const scale = intervalScale([0, ...[...cells[place].values()].map((row) => row.mean)], {
      factor,
      width: 200,
    });
    const value = (row) => cells[place].get(row.c)?.mean;
    return [
      {
        title: TIMES[table.metric] || table.title,
        axis: scale.axis,
        cell: (row) =>
          drawnCell(
            chapter,
            known(value(row)) ? { ...cells[place].get(row.c), low: null, seeds: [] } : null,
            scale,
          ),
      },
      { title: unit, number: true, cell: (row) => costCell(table, cells[place].get(row.c)), by: value },
    ];
  });
  return [
    sortable(
      "cost-table",
      "Time and memory by method",
      [
        { title: "Method", cell: (row) => methodCell(chapter, row.c), by: (row) => labelOf(chapter, row.c) },
        {
          title: "D",
          number: true,
          cell: (row) => dimOf(chapter, row.c) ?? "",
          by: (row) => dimOf(chapter, row.c),
        },
        ...columns,
      ],
      rows,
      { limit: 24 },
    ),
  ];
}

// Accuracy, time and memory in one figure: any of them on either axis.
function drawTradeoff(chapter, table) {
  const tables = [
    table,
    ...figureTables(chapter).filter((own) => own.headline && own !== table),
    ...["step_seconds", "loss_seconds", "train_seconds", "peak_bytes_step", "peak_bytes_loss"].map((metric) =>
      costTable(chapter, metric),
    ),
  ].filter(Boolean);
  if (!tables.some((own) => own.cost)) return null;
  const name = (own) => (own.cost ? own.title.replace(/ seconds$/, " time") : tableName(chapter, own));
  const pick = (key, preferred) => tables.find((own) => name(own) === state[key]) || preferred || tables[0];
  const x = pick(
    "x",
    tables.find((own) => own.metric === usualTime(chapter)) || tables.find((own) => own.cost),
  );
  const y = pick("y", table || tables.find((own) => own.metric === "peak_bytes_step"));
  const values = (own) =>
    new Map(
      visible(chapter, own.rows)
        .filter((row) => row.n)
        .map((row) => [row.c, row.mean * shownUnit(own)[0]]),
    );
  const [of_x, of_y] = [values(x), values(y)];
  const both = [...of_x.keys()].filter(
    (c) => of_y.has(c) && !chapter.methods[methodOf(chapter, c)].reference,
  );
  if (both.length < 2) return null;
  const largest = Math.max(...both.map((c) => dimOf(chapter, c) || 1));
  const methods = unique(both.map((c) => methodOf(chapter, c)));
  const series = methods.map((method) => ({
    name: chapter.methods[method].label,
    m: method,
    ...look(chapter, method),
    points: both
      .filter((c) => methodOf(chapter, c) === method)
      .sort((a, b) => dimOf(chapter, a) - dimOf(chapter, b))
      .map((c) => ({
        x: of_x.get(c),
        y: of_y.get(c),
        size:
          0.75 + 0.75 * (dimOf(chapter, c) ? Math.log(dimOf(chapter, c)) / Math.log(largest + 1) : 0.5) ** 3,
        title: `${labelOf(chapter, c)}${dimOf(chapter, c) ? `, D = ${dimOf(chapter, c)}` : ""}: ${short(of_x.get(c))} ${shownUnit(x)[1]}, ${short(of_y.get(c))} ${shownUnit(y)[1]}`,
      })),
  }));
  const finding = tradeoffFinding(chapter, both, [x, of_x], [y, of_y]);
  const drawing = chart({
    finding,
    x: { label: `${name(x)} (${shownUnit(x)[1]})`, log: x.cost },
    y: { label: `${name(y)} (${shownUnit(y)[1]})`, log: y.cost },
    series,
    width: chart.width,
    height: 400,
    names: methods.length <= 16,
  });
  const options = tables.map((own) => [name(own), name(own)]);
  return [
    el(
      "div",
      { class: "head" },
      el("h2", {}, "Trade-off"),
      choice("x", "Across", options, name(x)),
      choice("y", "Up", options, name(y)),
    ),
    figure(drawing, finding),
    el(
      "p",
      { class: "note" },
      "A point a method and dimension, joined from the smallest D to the largest, which has the largest mark.",
    ),
  ];
}

// The points that no other beats in both: less of a cost, more of an accuracy.
function tradeoffFinding(chapter, both, [x, of_x], [y, of_y]) {
  const gain = (own, value) => (own.cost ? -value : value);
  const beaten = (c) =>
    both.some(
      (other) =>
        gain(x, of_x.get(other)) >= gain(x, of_x.get(c)) &&
        gain(y, of_y.get(other)) >= gain(y, of_y.get(c)) &&
        (of_x.get(other) !== of_x.get(c) || of_y.get(other) !== of_y.get(c)),
    );
  const front = both.filter((c) => !beaten(c)).sort((a, b) => of_x.get(a) - of_x.get(b));
  const names = front
    .slice(0, 5)
    .map((c) => `${labelOf(chapter, c)}${dimOf(chapter, c) ? ` (D = ${dimOf(chapter, c)})` : ""}`);
  return `By their means, no other is better in both than ${listed(names)}${front.length > 5 ? ` and ${front.length - 5} more` : ""}.`;
}

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
  const on = machine(costTable(chapter, metric));
  const times = there.map((name) => [name, TIMES[name]]);
  return [
    head(
      "Time and memory",
      choice("time", "Of", times, metric),
      machines.length > 1 && choice("machine", "On", machines, on),
    ),
    el("div", { class: drawn.length ? "panels" : null }, panels),
    note(`On ${on}; means over seeds of each run's median.${drawn.length ? " Axes are logarithmic." : ""}`),
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
  for (const own of found.series) {
    own.shift = 0;
    own.points = own.points.map(({ x, y, title }) => ({ x, y, title }));
  }
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
  const isMethod = (row) => row.n && !chapter.methods[methodOf(chapter, row.c)].reference;
  const cells = tables.map((table) => byConfiguration(visible(chapter, table.rows).filter(isMethod)));
  const rows = unique(cells.flatMap((own) => [...own.keys()])).map((c) => ({ c, m: methodOf(chapter, c) }));
  if (!rows.length) return [];
  const columns = tables.flatMap((table, place) => {
    const [factor, unit] = shownUnit(table);
    const cell = (row) => cells[place].get(row.c);
    const means = [...cells[place].values()].map((row) => row.mean);
    const scale = intervalScale([0, ...means], { factor, width: 200 });
    const alone = (row) => cell(row) && { ...cell(row), low: null, seeds: [] };
    return [
      {
        title: TIMES[table.metric] || table.title,
        axis: scale.axis,
        cell: (row) => drawnCell(chapter, alone(row), scale),
      },
      column(
        unit,
        (row) => cell(row)?.mean,
        (row) => costCell(table, cell(row)),
      ),
    ];
  });
  const all = [methodColumn(chapter), dimColumn(chapter), ...columns];
  return [sortable("cost-table", "Time and memory by method", all, rows, { limit: 24 })];
}

const byConfiguration = (rows, value = (row) => row) => new Map(rows.map((row) => [row.c, value(row)]));

// Accuracy, time and memory in one figure: any of them on either axis.
function drawTradeoff(chapter, table) {
  const costs = ["step_seconds", "loss_seconds", "train_seconds", "peak_bytes_step", "peak_bytes_loss"];
  const figures = figureTables(chapter).filter((own) => own.headline && own !== table);
  const tables = [table, ...figures, ...costs.map((metric) => costTable(chapter, metric))].filter(Boolean);
  if (!tables.some((own) => own.cost)) return null;
  const name = (own) => (own.cost ? own.title.replace(/ seconds$/, " time") : tableName(chapter, own));
  const of = (metric) => tables.find((own) => own.metric === metric);
  const x =
    tables.find((own) => name(own) === state.x) || of(usualTime(chapter)) || tables.find((own) => own.cost);
  const y = tables.find((own) => name(own) === state.y) || table || of("peak_bytes_step") || tables[0];
  const values = (own) =>
    byConfiguration(
      visible(chapter, own.rows).filter((row) => row.n),
      (row) => row.mean * shownUnit(own)[0],
    );
  const [ofX, ofY] = [values(x), values(y)];
  const both = [...ofX.keys()].filter((c) => ofY.has(c) && !chapter.methods[methodOf(chapter, c)].reference);
  if (both.length < 2) return null;
  const finding = tradeoffFinding(chapter, both, [x, ofX], [y, ofY]);
  const series = tradeoffSeries(chapter, both, [x, ofX], [y, ofY]);
  const axis = (own) => ({ label: `${name(own)} (${shownUnit(own)[1]})`, log: own.cost });
  const names = series.length <= 16;
  const drawing = chart({ finding, x: axis(x), y: axis(y), series, width: chart.width, height: 400, names });
  const options = tables.map(name);
  return [
    head("Trade-off", choice("x", "x axis", options, name(x)), choice("y", "y axis", options, name(y))),
    figure(drawing, finding),
    note(
      "One point per method and dimension; lines join the dimensions of a method, marks grow with D.",
    ),
  ];
}

// A line a method, from its smallest dimension to its largest.
function tradeoffSeries(chapter, both, [x, ofX], [y, ofY]) {
  const largest = Math.max(...both.map((c) => dimOf(chapter, c) || 1));
  const size = (dim) => 0.75 + 0.75 * (dim ? Math.log(dim) / Math.log(largest + 1) : 0.5) ** 3;
  const told = (own, value) => `${short(value)} ${shownUnit(own)[1]}`;
  return unique(both.map((c) => methodOf(chapter, c))).map((method) => ({
    name: chapter.methods[method].label,
    m: method,
    ...look(chapter, method),
    points: both
      .filter((c) => methodOf(chapter, c) === method)
      .sort((a, b) => dimOf(chapter, a) - dimOf(chapter, b))
      .map((c) => ({
        x: ofX.get(c),
        y: ofY.get(c),
        size: size(dimOf(chapter, c)),
        title: `${nameWithDim(chapter, c)}: ${told(x, ofX.get(c))}, ${told(y, ofY.get(c))}`,
      })),
  }));
}

const nameWithDim = (chapter, c) =>
  dimOf(chapter, c) ? `${labelOf(chapter, c)} (D = ${dimOf(chapter, c)})` : labelOf(chapter, c);

// The points that no other beats in both: less of a cost, more of an accuracy.
function tradeoffFinding(chapter, both, [x, ofX], [y, ofY]) {
  const gain = (own, value) => (own.cost ? -value : value);
  const beaten = (c) =>
    both.some(
      (other) =>
        gain(x, ofX.get(other)) >= gain(x, ofX.get(c)) &&
        gain(y, ofY.get(other)) >= gain(y, ofY.get(c)) &&
        (ofX.get(other) !== ofX.get(c) || ofY.get(other) !== ofY.get(c)),
    );
  const front = both.filter((c) => !beaten(c)).sort((a, b) => ofX.get(a) - ofX.get(b));
  const names = front.slice(0, 5).map((c) => nameWithDim(chapter, c));
  return `Pareto-optimal by their means: ${listed(names)}${front.length > 5 ? ` and ${front.length - 5} more` : ""}.`;
}

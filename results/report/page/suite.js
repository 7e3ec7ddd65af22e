// A suite's chapter: what was compared, the table that matters, and accuracy over D.

const methodOf = (chapter, c) => chapter.configurations[c].method;
const labelOf = (chapter, c) => chapter.methods[methodOf(chapter, c)].label;
const dimOf = (chapter, c) => chapter.configurations[c].D;
const lookOf = (chapter, c) => look(chapter, methodOf(chapter, c));
const visible = (chapter, rows) => rows.filter((row) => passesConfiguration(chapter, row.c));
const shownTables = (chapter) => chapter.tables.filter((table) => passesTable(table));
const figureTables = (chapter) => shownTables(chapter).filter((table) => !table.cost);

// What tells tables of several data sets or splits apart, beside their names.
function tableName(chapter, table) {
  const many = (key) => unique(chapter.tables.filter((own) => !own.cost).map((own) => own[key])).length > 1;
  return [
    table.short,
    many("dataset") && table.dataset,
    many("split") && !table.short.includes(table.split) && table.split,
  ]
    .filter(Boolean)
    .join("; ");
}

// The figure of merit that a reader chose, or the one that the suite begins with.
function chosenTable(chapter) {
  const tables = figureTables(chapter);
  return (
    tables.find((table) => tableName(chapter, table) === state.figure) ||
    tables.find((table) => table.first) ||
    tables.find((table) => table.headline) ||
    tables[0]
  );
}

function drawSuite(chapter, main) {
  const table = chosenTable(chapter);
  const filters = FILTERS.map(chosen);
  const sorts = [...new URLSearchParams(location.hash.slice(1))].filter(([name]) =>
    /^(sort|all)-/.test(name),
  );
  const shared = [chapter.name, chapter.methods, chapter.configurations, filters, sorts, chart.width];
  section(main, "summary", [chapter.name, chapter.about, table, filters], () => drawSummary(chapter, table));
  followed(main);
  if (table) {
    section(
      main,
      "results",
      [shared, chapter.tables, state.figure, chapter.runs.map((run) => [run.id, run.status])],
      () => drawMain(chapter, table),
    );
    section(main, "over-dimension", [shared, table], () => drawOverDimension(chapter, table));
  }
  section(main, "regime", [shared, chapter.regime, chapter.tables], () => drawRegime(chapter));
  section(main, "cost", [shared, chapter.tables, state.time, state.machine], () => drawCost(chapter));
  section(main, "trade-off", [shared, chapter.tables, state.x, state.y, state.figure], () =>
    drawTradeoff(chapter, table),
  );
  section(main, "curves", [shared, state.curve, chapter.runs.map((run) => run.curve)], () =>
    drawCurves(chapter),
  );
  if (table)
    section(main, "differences", [shared, chapter.differences, state.base, table.short], () =>
      drawDifferences(chapter, table),
    );
  section(main, "published", [chapter.published, sorts], () => drawPublished(chapter));
  section(main, "runs", [shared, chapter.runs, state.status], () => drawRuns(chapter));
}

function drawSummary(chapter, table) {
  const { about } = chapter;
  const methods = chapter.methods.filter((method) => !method.reference);
  const dims = unique(chapter.configurations.map((own) => own.D))
    .filter(known)
    .sort((a, b) => a - b);
  const compared = [
    `${plural(methods.length, "method")}${methods.length < chapter.methods.length ? ` and ${plural(chapter.methods.length - methods.length, "reference")}` : ""}`,
    dims.length > 0 && dims.length < 7 && `D = ${dims.join(", ")}`,
    about.seeds && plural(about.seeds, "seed"),
  ].filter(Boolean);
  const lost = Object.entries(about.statuses.networks).filter(([status]) => status !== "done");
  const lostProbes = Object.entries(about.statuses.measurements).filter(([status]) => status !== "done");
  const told = (items, noun) => items.map(([status, count]) => `${plural(count, noun)} ${status}`);
  const failures = [...told(lost, "network"), ...told(lostProbes, "measurement")];
  const facts = [
    ["Compared", compared.join(", ")],
    ["Data", about.datasets.join(", ")],
    ["Device", about.devices.join("; ")],
    ["Records", `${plural(about.networks, "network")}, ${plural(about.measurements, "measurement")}`],
    [
      "Made",
      [
        about.started === about.finished ? about.started : `${about.started} to ${about.finished}`,
        ...about.versions,
        `commit ${about.commits.join(", ")}`,
      ].join("; "),
    ],
  ];
  return [
    el("h1", {}, chapter.name),
    table &&
      el(
        "p",
        { class: "finding" },
        findingOf(tableName(chapter, table), bestFinding(chapter, table, visible(chapter, table.rows))),
      ),
    el(
      "dl",
      { class: "facts" },
      facts
        .filter(([, text]) => text)
        .map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))),
    ),
    failures.length > 0 &&
      el(
        "p",
        { class: "failures" },
        el("b", {}, "Not done: "),
        `${listed(failures)}. `,
        el("a", { href: "#", on: { click: jump("runs", { status: "not done" }) } }, "See their messages"),
      ),
  ];
}

const jump = (id, changes) => (event) => {
  event.preventDefault();
  if (changes) go(changes);
  byId(id)?.scrollIntoView();
};

// The one table that matters: a row a method and dimension, the chosen figure drawn, others and the costs beside it.
function drawMain(chapter, table) {
  const tables = figureTables(chapter);
  const beside = tables.filter(
    (own) => own !== table && own.headline && own.dataset === table.dataset && own.split === table.split,
  );
  const costs = ["step_seconds", "peak_bytes_step", "train_seconds"]
    .map((metric) => costTable(chapter, metric))
    .filter(Boolean)
    .sort((a, b) => measured(chapter, b) - measured(chapter, a));
  const shown = [table, ...beside.slice(0, 3), ...costs.slice(0, 2)];
  const cells = new Map(shown.map((own) => [own, new Map(own.rows.map((row) => [row.c, row]))]));
  const has = (c) => [...cells].some(([own, found]) => !own.cost && found.has(c));
  const rows = chapter.configurations
    .map((own, c) => ({ c, m: own.method }))
    .filter((row) => passesConfiguration(chapter, row.c) && has(row.c));
  const isBest = (row) => cells.get(table).get(row.c)?.mark === "*";
  const names = tables.map((own) => tableName(chapter, own));
  return [
    head(
      "Results",
      names.length > 1 && choice("figure", "Figure of merit", names, tableName(chapter, table)),
    ),
    el("p", { class: "protocol" }, `${table.heading}; ${table.key}`),
    sortable(
      "table",
      `${chapter.name}: ${tableName(chapter, table)}, by method and dimension`,
      mainColumns(chapter, shown, cells, rows),
      rows,
      { rowClass: (row) => (isBest(row) ? "best" : null) },
    ),
    table.notes.map(note),
    note(
      "Drawn: the mean, its 95 % interval and a tick for each seed; an arrow: the mean lies beyond the column.",
    ),
  ];
}

// Columns of the main table: `shown` are the chosen table, others and costs, `cells` their rows by configuration.
function mainColumns(chapter, shown, cells, rows) {
  const [table, ...others] = shown;
  const [factor, unit] = shownUnit(table);
  const cell = (own, row) => cells.get(own).get(row.c);
  const mean = (own) => (row) => (cell(own, row)?.n ? cell(own, row).mean : null);
  const methods = rows.filter((row) => !chapter.methods[row.m].reference && mean(table)(row) !== null);
  const points = (methods.length ? methods : rows).map((row) => ({
    y: mean(table)(row),
    ...cell(table, row),
  }));
  const drawn = [...meansFirst(points), ...points.flatMap((point) => point.seeds || [])];
  const scale = intervalScale(drawn, { factor });
  const isAgain = (row) => state["sort-table"] === null && rows[rows.indexOf(row) - 1]?.m === row.m;
  return [
    methodColumn(chapter, (row) => methodCell(chapter, row.c, cell(table, row)?.apart, isAgain(row))),
    dimColumn(chapter),
    scale && {
      title: `${table.short} (${unit})`,
      axis: scale.axis,
      cell: (row) => drawnCell(chapter, cell(table, row), scale),
    },
    column(
      "Mean ± 95 %",
      mean(table),
      (row) => figureCell(cell(table, row), true),
      tableName(chapter, table),
    ),
    ...others.map((own) =>
      column(
        `${own.cost ? COST_NAMES[own.metric] : own.short} (${shownUnit(own)[1]})`,
        mean(own),
        (row) => (own.cost ? costCell(own, cell(own, row)) : figureCell(cell(own, row), false)),
        own.key,
      ),
    ),
    { title: "Runs by seed", cell: (row) => runButtons(chapter, row.c) },
  ].filter(Boolean);
}

// A column of numbers, which are sorted by `by` and shown as `cell` says.
const column = (title, by, cell = by, hint = null) => ({ title, number: true, by, cell, hint });
const methodColumn = (chapter, cell = (row) => methodCell(chapter, row.c)) => ({
  title: "Method",
  cell,
  by: (row) => labelOf(chapter, row.c),
});
const dimColumn = (chapter, dim = (row) => dimOf(chapter, row.c)) =>
  column("D", dim, (row) => dim(row) ?? "");

// `again`: the row above is of the same method.
const methodCell = (chapter, c, apart, again) => [
  glyph(lookOf(chapter, c)),
  el("span", { class: again ? "again" : null }, labelOf(chapter, c), apart && el("small", {}, ` (${apart})`)),
];

function drawnCell(chapter, row, scale) {
  return row?.n
    ? intervalCell(scale, [
        { x: row.mean, low: row.low, high: row.high, seeds: row.seeds, ...lookOf(chapter, row.c) },
      ])
    : "";
}

// A figure with its mark; what became of runs that failed in words, or, in columns beside, as a cross.
function figureCell(row, inWords) {
  if (!row) return el("span", { class: "absent" }, "–");
  const meaning = { "*": "best of its column", "†": "not significantly different from the best" }[row.mark];
  const said =
    inWords || row.n ? row.failures : el("abbr", { title: row.failures }, "✕", unseen(row.failures));
  return [
    row.n > 0 && el("span", { class: row.mark === "*" ? "marked" : null }, row.text.replace("-", "−")),
    row.mark && el("abbr", { title: meaning }, ` ${row.mark}`, unseen(` ${meaning}`)),
    (inWords || !row.n) && row.failures && el("span", { class: "lost" }, row.n ? " " : "", said),
  ];
}

const unseen = (text) => el("span", { class: "unseen" }, text);

function costCell(table, row) {
  return row?.n ? threeDigits(row.mean * shownUnit(table)[0]) : el("span", { class: "absent" }, "–");
}

function runButtons(chapter, c) {
  return chapter.runs
    .filter((run) => run.c === c)
    .map((run) => {
      const seed = run.network.seed ?? "–";
      const name = `Run of ${labelOf(chapter, c)}${dimOf(chapter, c) ? `, D = ${dimOf(chapter, c)}` : ""}, seed ${seed}: ${run.status}`;
      const label = run.status === "done" ? String(seed) : `${seed} ✕`;
      return el(
        "button",
        {
          type: "button",
          class: run.status === "done" ? "run" : "run lost",
          title: name,
          "aria-label": name,
          id: `open-${run.id}`,
          on: { click: () => go({ run: run.id }, { step: true }) },
        },
        label,
      );
    });
}

// Accuracy over D of the chosen figure: lines with intervals, references level.
function drawOverDimension(chapter, table) {
  const rows = visible(chapter, table.rows);
  const [factor, unit] = shownUnit(table);
  const found = overD(chapter, rows, factor);
  if (!found.isOver) return null;
  const finding = bestFinding(chapter, table, rows);
  const note = found.series.some((own) => own.lost.length) ? " ✕ at the foot: no run came to its end." : "";
  const drawing = chart({
    finding,
    x: { label: "Embedding dimension D", log: true, ticks: found.dims },
    y: {
      label: `${table.title.split(", ").pop()} (${unit})`,
      clip: (points) => meansFirst(points, unit === "%" ? 100 : Infinity),
    },
    series: found.series,
    levels: found.levels,
    width: chart.width,
    height: 380,
  });
  if (!drawing) return null;
  return [
    el("h2", {}, "Over the embedding dimension"),
    figure(drawing, findingOf(tableName(chapter, table), finding)),
    el(
      "p",
      { class: "note" },
      `Mean, 95 % interval and seeds; intervals may extend beyond the panel. Grey: references without an embedding.${note}`,
    ),
  ];
}

// The series of rows over D: of many methods the best, and where no run of one came to its end, `lost`.
function overD(chapter, rows, factor, { most = 10 } = {}) {
  const over = rows.filter((row) => known(dimOf(chapter, row.c)));
  const of = (method) => over.filter((row) => methodOf(chapter, row.c) === method);
  const top = (method) =>
    Math.max(
      -Infinity,
      ...of(method)
        .filter((row) => row.n)
        .map((row) => row.mean),
    );
  const methods = unique(over.map((row) => methodOf(chapter, row.c)));
  const kept = methods.length > most ? [...methods].sort((a, b) => top(b) - top(a)).slice(0, most) : methods;
  const scaled = (value) => (known(value) ? value * factor : null);
  const point = (row) => ({
    x: dimOf(chapter, row.c),
    y: scaled(row.mean),
    low: scaled(row.low),
    high: scaled(row.high),
    seeds: row.seeds.map(scaled),
    title: `${nameWithDim(chapter, row.c)}: ${row.text}`,
  });
  const series = kept.map((method, place) => ({
    name: chapter.methods[method].label,
    m: method,
    ...look(chapter, method),
    shift: 7 * (place - (kept.length - 1) / 2) * Math.min(1, 8 / kept.length),
    points: of(method)
      .filter((row) => row.n)
      .map(point)
      .sort((a, b) => a.x - b.x),
    lost: of(method)
      .filter((row) => !row.n)
      .map((row) => dimOf(chapter, row.c)),
  }));
  const levels = rows
    .filter((row) => !known(dimOf(chapter, row.c)) && row.n)
    .map((row) => ({ name: labelOf(chapter, row.c), y: row.mean * factor }));
  const dims = ascending(over.map((row) => dimOf(chapter, row.c)));
  return { dims, series, levels, isOver: series.some((own) => own.points.length > 1) };
}

// Room for the means and their intervals, but intervals may not shrink the means to less than half.
function meansFirst(points, most = Infinity) {
  const means = points.map((point) => point.y).filter(Number.isFinite);
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const room = (high - low || Math.abs(high) * 0.02 || 1) * 0.6;
  const ends = points.flatMap((point) => [point.low, point.high]).filter(Number.isFinite);
  return [Math.max(low - room, Math.min(low, ...ends)), Math.min(high + room, most, Math.max(high, ...ends))];
}

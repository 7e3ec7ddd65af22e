// A cost sweep's chapter: time, memory and their trade-off of every loss, step or fit, ours beside others, and its tables.

const MEASURED = { ms: "Time (ms)", mib: "Memory (MiB)" };
// What ours is measured in turns with, by scope.
const REFERENCES = ["textbook", "scikit-learn"];
// What the shape of a cell is of, by scope.
const AXES = {
  loss: { D: "Embedding dimension D", N: "Rows N" },
  fit: { D: "Components D", N: "Rows N" },
  probe: { D: "Features D", N: "Rows N" },
  views: { D: "Side in pixels", N: "Images in a batch" },
};
const SCOPES = {
  loss: "Loss and its gradient",
  step: "Training step",
  epoch: "Epoch",
  fit: "Fit in the kernel regime",
  probe: "Fits of the probe transfer",
  views: "Views",
};

function drawSweep(chapter, main) {
  const sorts = [...new URLSearchParams(location.hash.slice(1))].filter(([name]) =>
    /^(sort|all)-/.test(name),
  );
  section(main, "summary", [chapter.name, chapter.about], () => drawSweepSummary(chapter));
  followed(main);
  section(main, "cost", [chapter.name, chapter.points, chart.width, state.scope, state.n], () =>
    drawSweepFigures(chapter),
  );
  section(main, "sweep-tables", [chapter.name, chapter.tables, sorts], () =>
    chapter.tables.map((table, place) => plainTable(`table${place || ""}`, table)),
  );
}

function drawSweepSummary(chapter) {
  const { about } = chapter;
  const lost = Object.entries(about.statuses).filter(([status]) => status !== "done");
  const facts = [
    ["Measured", plural(about.cells, "cell")],
    ["Device", about.devices.join("; ")],
    ["Made by", `commit ${about.commits.join(", ")}`],
  ];
  return [
    el("h1", {}, chapter.name),
    el(
      "dl",
      { class: "facts" },
      facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))),
    ),
    lost.length > 0 &&
      el(
        "p",
        { class: "failures" },
        el("b", {}, "Not done: "),
        `${listed(lost.map(([status, count]) => `${plural(count, "cell")} ${status}`))}; the tables say which.`,
      ),
  ];
}

function drawSweepFigures(chapter) {
  const points = chapter.points;
  const scopes = unique(points.map((point) => point.scope));
  if (!scopes.length) return null;
  const scope = scopes.includes(state.scope) ? state.scope : scopes[0];
  const own = points.filter((point) => point.scope === scope);
  // Along the axis that was swept further, at the value of the other that most cells have.
  const [swept, fixed] =
    unique(own.map((point) => point.D)).length >= unique(own.map((point) => point.N)).length
      ? ["D", "N"]
      : ["N", "D"];
  const values = ascending(own.map((point) => point[fixed]));
  const most = values.reduce((a, b) =>
    own.filter((point) => point[fixed] === b).length > own.filter((point) => point[fixed] === a).length
      ? b
      : a,
  );
  const value = values.includes(Number(state.n)) ? Number(state.n) : most;
  const here = own.filter((point) => point[fixed] === value && point.precision === own[0].precision);
  const panels = Object.keys(MEASURED).map((what) => sweepPanel(chapter, here, swept, what));
  const tradeoff = sweepTradeoff(chapter, here, swept);
  if (!panels.some(Boolean)) return null;
  return [
    head(
      "Time and memory",
      scopes.length > 1 &&
        choice(
          "scope",
          "Of",
          scopes.map((name) => [name, SCOPES[name]]),
          scope,
        ),
      values.length > 1 &&
        choice(
          "n",
          `At ${fixed}`,
          values.map((one) => [String(one), String(one)]),
          String(value),
        ),
    ),
    el("div", { class: "panels" }, panels),
    tradeoff && [el("h3", {}, "Trade-off"), tradeoff],
    note(
      `${SCOPES[scope]}, ${fixed} = ${value}, ${own[0].precision}; medians. Thin: other implementations of the same. Axes are logarithmic.`,
    ),
  ];
}

function sweepSeries(chapter, points, across, up) {
  return unique(points.map((point) => `${point.method} ${point.by}`)).map((key) => {
    const own = points
      .filter((point) => `${point.method} ${point.by}` === key)
      .sort((a, b) => a.D - b.D || a.N - b.N);
    const { method, by } = own[0];
    const style = look(chapter, method);
    const ours = by === "spherebench";
    const name = chapter.methods[method].label + (ours ? "" : `, ${by}`);
    return {
      name,
      m: method,
      ...style,
      look: ours ? style.look : `${style.look} other`,
      dash: ours ? "" : "2 2",
      ours,
      points: own.map((point) => ({
        x: point[across],
        y: point[up],
        size: ours ? 1 : 0.6,
        title: `${name}, D = ${point.D}, N = ${point.N}: ${short(point.ms)} ms, ${short(point.mib)} MiB`,
      })),
    };
  });
}

function sweepPanel(chapter, points, swept, what) {
  const ticks = ascending(points.map((point) => point[swept]));
  if (ticks.length < 2) return null;
  const series = sweepSeries(chapter, points, swept, what);
  const last = points
    .filter((point) => point[swept] === ticks.at(-1) && point.by === "spherebench")
    .sort((a, b) => a[what] - b[what]);
  const label = (point) => chapter.methods[point.method].label;
  const unit = what === "ms" ? "ms" : "MiB";
  const finding =
    last.length > 1
      ? `At ${swept} = ${ticks.at(-1)} from ${short(last[0][what])} ${unit} (${label(last[0])}) to ${short(last.at(-1)[what])} ${unit} (${label(last.at(-1))}).`
      : "";
  return figure(
    chart({
      finding,
      title: MEASURED[what],
      x: { label: AXES[points[0].scope]?.[swept] ?? AXES.loss[swept], log: true, ticks },
      y: { label: unit, log: true },
      series,
      width: half(),
      height: 360,
    }),
    finding,
  );
}

function sweepTradeoff(chapter, points, swept) {
  if (points.length < 3) return null;
  const isSame = (own, other) => ["method", "D", "N"].every((key) => own[key] === other[key]);
  const references = points.filter((point) => REFERENCES.includes(point.by));
  const ratios = references
    .map((other) => {
      const own = points.find((point) => point.by === "spherebench" && isSame(point, other));
      return own ? other.ms / own.ms : null;
    })
    .filter(known)
    .sort((a, b) => a - b);
  const finding = ratios.length
    ? `The ${references[0].by} form takes ${short(ratios[0])} to ${short(ratios.at(-1))} times as long as ours.`
    : `Memory over time, a point a shape, over ${swept}.`;
  const series = sweepSeries(chapter, points, "ms", "mib");
  return figure(
    chart({
      finding,
      x: { label: MEASURED.ms, log: true },
      y: { label: MEASURED.mib, log: true },
      series,
      width: chart.width,
      height: 420,
      names: series.length <= 24,
    }),
    finding,
  );
}

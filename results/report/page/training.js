// What was logged over steps.

// What was logged over steps: a panel a method, a line a dimension, a band from seed to seed.
function drawCurves(chapter) {
  const runs = chapter.runs.filter((run) => run.curve && passesConfiguration(chapter, run.c));
  if (!runs.length) return null;
  const quantities = unique(runs.flatMap((run) => Object.keys(run.curve.values))).sort(
    (a, b) => (b === "loss") - (a === "loss"),
  );
  const quantity = quantities.includes(state.curve) ? state.curve : quantities[0];
  const own = runs.filter((run) => run.curve.values[quantity]);
  const methods = unique(own.map((run) => methodOf(chapter, run.c)));
  const dims = ascending(own.map((run) => dimOf(chapter, run.c)));
  const panels = methods.slice(0, 24).map((method) =>
    curvePanel(
      chapter,
      own.filter((run) => methodOf(chapter, run.c) === method),
      method,
      quantity,
      dims,
    ),
  );
  const words = (name) => name.replace(/_/g, " ");
  const name = words(quantity);
  const more = methods.length > 24 ? ` ${methods.length - 24} more methods: choose them above.` : "";
  return [
    head(
      "Training",
      choice(
        "curve",
        "Over steps",
        quantities.map((own) => [own, words(own)]),
        quantity,
      ),
    ),
    el("div", { class: "panels small" }, panels),
    note(
      `${name[0].toUpperCase()}${name.slice(1)} as logged: mean and range over seeds, each method on its own ` +
        `scale. ✕: last value of a run that diverged.${more}`,
    ),
  ];
}

function curvePanel(chapter, runs, method, quantity, dims) {
  const style = look(chapter, method);
  const series = ascending(runs.map((run) => dimOf(chapter, run.c))).map((dim) => {
    const own = runs.filter((run) => dimOf(chapter, run.c) === dim);
    const steps = ascending(own.flatMap((run) => run.curve.step));
    const at_step = own.map(
      (run) => new Map(run.curve.step.map((step, place) => [step, run.curve.values[quantity][place]])),
    );
    const points = steps
      .map((step) => {
        const values = at_step.map((values) => values.get(step)).filter(Number.isFinite);
        const mean = values.reduce((a, b) => a + b, 0) / values.length;
        return values.length
          ? { x: step, y: mean, low: Math.min(...values), high: Math.max(...values) }
          : null;
      })
      .filter(Boolean);
    for (const run of own.filter((run) => run.status === "diverged")) {
      const place = run.curve.values[quantity].map(Number.isFinite).lastIndexOf(true);
      if (place >= 0)
        points.push({ x: run.curve.step[place], y: run.curve.values[quantity][place], cross: true });
    }
    points.sort((a, b) => a.x - b.x);
    return {
      name: dim ? `D = ${dim}` : "",
      ...style,
      dash: DASHES[dims.indexOf(dim) % DASHES.length],
      points,
      band: own.length > 1,
      marks: false,
    };
  });
  const told = series.map(
    (own) =>
      `${own.name ? `${own.name}: ` : ""}${short(own.points[0]?.y)} → ${short(own.points.at(-1)?.y)}`,
  );
  const finding = told.join("; ");
  const drawing = chart({
    finding,
    title: chapter.methods[method].label,
    x: { label: "step", room: 0.02 },
    y: { label: "" },
    series,
    width: third(),
    height: 210,
    names: series.length > 1 || series[0]?.name,
  });
  return figure(drawing, finding);
}

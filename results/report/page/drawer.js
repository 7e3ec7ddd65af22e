// The drawer of a run: everything that its records say of it. The address names the run, so it can be linked.

function drawDrawer(chapters) {
  const drawer = byId("drawer");
  // A network may be of several suites: that of the shown one comes first.
  const chapter = [currentChapter(), ...chapters].find(
    (own) => own?.kind === "runs" && own.runs.some((run) => run.id === state.run),
  );
  if (!chapter) {
    if (drawer.open) drawer.close();
    return;
  }
  const run = chapter.runs.find((own) => own.id === state.run);
  const key = JSON.stringify(run);
  if (drawer.key !== key || !drawer.open)
    drawer.replaceChildren(...drawerParts(chapter, run).flat(Infinity).filter(Boolean));
  drawer.key = key;
  if (!drawer.open) {
    drawer.from = document.activeElement?.id;
    drawer.showModal();
    drawer.scrollTop = 0;
  }
}

function closeDrawer() {
  const back = byId("drawer").from;
  go({ run: null });
  byId(back)?.focus({ preventScroll: true });
}

function drawerParts(chapter, run) {
  const dim = dimOf(chapter, run.c);
  const where = [
    labelOf(chapter, run.c),
    dim && `D = ${dim}`,
    known(run.network.seed) && `seed ${run.network.seed}`,
  ]
    .filter(Boolean)
    .join(", ");
  return [
    el(
      "div",
      { class: "bar" },
      el("h2", { id: "drawer-title" }, where),
      el("button", { type: "button", id: "close", "aria-label": "Close", on: { click: closeDrawer } }, "✕"),
    ),
    el("p", { class: "id" }, el("code", {}, run.id)),
    el(
      "p",
      {},
      el("span", { class: run.status === "done" ? "done" : "lost" }, run.status),
      run.message ? `: ${run.message}` : "",
    ),
    logPart("Log of the failure", run.log),
    run.curve && part("Loss", true, lossChart(chapter, run)),
    part(
      "Measurements",
      true,
      run.measurements.map((own) => measurementPart(own)),
      run.measurements.length ? null : el("p", {}, "None."),
    ),
    part("Cost", true, facts(flat(run.cost))),
    part("Settings", false, facts(flat(run.network))),
    part(
      "Provenance",
      false,
      facts({
        ...flat(run.provenance),
        "records in": run.place,
        form: run.form,
        "converted from": run.converted,
      }),
    ),
    run.attempts.length > 0 && part("Attempts", run.provenance.attempts > 1, attemptList(run.attempts)),
  ];
}

const attemptList = (attempts) =>
  el(
    "ol",
    { class: "attempts" },
    attempts.map((event) => el("li", {}, attemptText(event))),
  );

function lossChart(chapter, run) {
  const points = run.curve.step.map((step, place) => ({ x: step, y: run.curve.values.loss?.[place] }));
  const series = [{ name: "loss", ...lookOf(chapter, run.c), dash: "", marks: false, points }];
  const size = { width: 520, height: 200, names: false };
  return chart({ finding: lossFinding(run), x: { label: "step" }, y: { label: "loss" }, series, ...size });
}

const part = (name, open, ...content) => el("details", { open }, el("summary", {}, name), content);
const logPart = (name, log) => log && part(name, true, el("pre", { tabindex: "0" }, log));
const attemptText = (event) =>
  Object.entries(event)
    .map(([key, value]) =>
      key === "time" || key === "event"
        ? value
        : `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`,
    )
    .join(" · ");

function lossFinding(run) {
  const values = (run.curve.values.loss || []).filter(Number.isFinite);
  return `Loss from ${short(values[0])} to ${short(values.at(-1))} over ${run.curve.step.at(-1)} steps.`;
}

const shownMetric = ([, value, unit]) =>
  unit === "fraction" && Number.isFinite(value) ? `${(100 * value).toFixed(1)} %` : short(value);

// The protocol of each metric is its measurement's; they are told apart by what differs.
function measurementPart(own) {
  const rows = own.metrics.map(([name, value, unit, sd]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el("td", { class: "number" }, shownMetric([name, value, unit])),
      el("td", { class: "number" }, known(sd) ? `${(100 * sd).toFixed(2)}` : ""),
    ),
  );
  const seconds = own.cost.seconds === null ? "" : `, ${short(own.cost.seconds)} s`;
  return el(
    "details",
    { class: "measurement", open: own.status !== "done" },
    el(
      "summary",
      {},
      own.probe,
      " ",
      el("span", { class: own.status === "done" ? "done" : "lost" }, own.status),
      `${seconds} `,
      el("span", { class: "of" }, own.metrics.slice(0, 4).map(shownMetric).join(" · ")),
    ),
    own.message && el("p", { class: "message" }, own.message),
    logPart("Log of the failure", own.log),
    rows.length > 0 &&
      el(
        "table",
        {},
        el("caption", { class: "unseen" }, `${own.probe}: metrics`),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["Metric", "Value", "sd over draws"].map((title) => el("th", { scope: "col" }, title)),
          ),
        ),
        el("tbody", {}, rows),
      ),
    facts({
      id: own.id,
      ...flat(own.settings),
      ...(own.provenance ? flat({ measured: own.provenance }) : {}),
    }),
  );
}

function flat(tree, prefix = "") {
  return Object.assign(
    {},
    ...Object.entries(tree).map(([key, value]) =>
      value && typeof value === "object" && !Array.isArray(value)
        ? flat(value, `${prefix}${key}.`)
        : { [prefix + key]: value },
    ),
  );
}

function facts(values) {
  const text = (value) =>
    Array.isArray(value)
      ? JSON.stringify(value)
      : typeof value === "number" && !Number.isInteger(value)
        ? String(Number(value.toPrecision(6)))
        : String(value);
  return el(
    "dl",
    { class: "settings" },
    Object.entries(values)
      .filter(([, value]) => known(value))
      .map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, text(value)))),
  );
}

// Published figures beside ours, and every network of a suite.

function drawPublished(chapter) {
  const { tables, missing } = chapter.published;
  if (!tables.length && !missing.length) return null;
  return [
    el("h2", {}, "Beside published figures"),
    tables.map((table, place) => plainTable(`published-${place}`, table)),
    missing.map((sentence) => el("p", { class: "note" }, sentence)),
  ];
}

// Every network: what became of it, and its drawer.
function drawRuns(chapter) {
  const statuses = unique(chapter.runs.map(fate)).sort();
  const wanted = state.status;
  const rows = chapter.runs
    .filter(
      (run) =>
        passesConfiguration(chapter, run.c) &&
        (!wanted || fate(run) === wanted || (wanted === "not done" && fate(run) !== "done")),
    )
    .map((run) => ({ ...run, m: methodOf(chapter, run.c) }))
    .sort((a, b) => (fate(a) === "done") - (fate(b) === "done"));
  const columns = [
    {
      title: "Network",
      cell: (run) =>
        el(
          "button",
          {
            type: "button",
            class: "link",
            id: `runs-${run.id}`,
            on: { click: () => go({ run: run.id }, { step: true }) },
          },
          run.id,
        ),
      by: (run) => run.id,
    },
    { title: "Method", cell: (run) => labelOf(chapter, run.c), by: (run) => labelOf(chapter, run.c) },
    {
      title: "D",
      number: true,
      cell: (run) => dimOf(chapter, run.c) ?? "",
      by: (run) => dimOf(chapter, run.c),
    },
    { title: "Seed", number: true, cell: (run) => run.network.seed ?? "–", by: (run) => run.network.seed },
    {
      title: "Status",
      cell: (run) => el("span", { class: fate(run) === "done" ? "done" : "lost" }, fate(run)),
      by: fate,
    },
    { title: "What it said", cell: (run) => el("span", { class: "message" }, said(run)), by: said },
    {
      title: "Measured",
      number: true,
      cell: (run) =>
        `${run.measurements.filter((own) => own.status === "done").length} of ${run.measurements.length}`,
      by: (run) => run.measurements.length,
    },
    {
      title: "Training (s)",
      number: true,
      cell: (run) => short(run.cost.train_seconds || null),
      by: (run) => run.cost.train_seconds,
    },
    {
      title: "Attempts",
      number: true,
      cell: (run) => run.provenance.attempts,
      by: (run) => run.provenance.attempts,
    },
  ];
  const options = [
    ["", "all"],
    ...(statuses.length > 1 ? [["not done", "not done"]] : []),
    ...statuses.map((own) => [own, own]),
  ];
  return [
    el(
      "div",
      { class: "head" },
      el("h2", {}, "Runs"),
      statuses.length > 1 && choice("status", "Status", options, wanted || ""),
    ),
    rows.length
      ? sortable(
          "runs-table",
          `${chapter.name}: every network`,
          columns.filter((own) => own.title !== "What it said" || rows.some(said)),
          rows,
          { limit: 40 },
        )
      : el("p", {}, "None."),
  ];
}

const lostMeasurements = (run) => run.measurements.filter((own) => own.status !== "done");
const fate = (run) =>
  run.status !== "done"
    ? run.status
    : lostMeasurements(run).length
      ? `${lostMeasurements(run)[0].probe} ${lostMeasurements(run)[0].status}`
      : "done";
const said = (run) =>
  run.message ||
  lostMeasurements(run)
    .map((own) => own.message)
    .join("; ");

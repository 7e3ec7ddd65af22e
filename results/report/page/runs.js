// Published figures beside ours, and every network of a suite.

function drawPublished(chapter) {
  const { tables, missing } = chapter.published;
  if (!tables.length && !missing.length) return null;
  return [
    el("h2", {}, "Beside published figures"),
    tables.map((table, place) => plainTable(`published-${place}`, table)),
    missing.map(note),
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
  const options = [["", "all"], ...(statuses.length > 1 ? ["not done"] : []), ...statuses];
  const columns = runColumns(chapter).filter((own) => own.by !== said || rows.some(said));
  return [
    head("Runs", statuses.length > 1 && choice("status", "Status", options, wanted || "")),
    rows.length
      ? sortable("runs-table", `${chapter.name}: every network`, columns, rows, { limit: 40 })
      : el("p", {}, "None."),
  ];
}

function runColumns(chapter) {
  const opener = (run) => {
    const open = { click: () => go({ run: run.id }, { step: true }) };
    return el("button", { type: "button", class: "link", id: `runs-${run.id}`, on: open }, run.id);
  };
  const status = (run) => el("span", { class: fate(run) === "done" ? "done" : "lost" }, fate(run));
  const done = (run) => run.measurements.filter((own) => own.status === "done").length;
  return [
    { title: "Network", cell: opener, by: (run) => run.id },
    { title: "Method", cell: (run) => labelOf(chapter, run.c), by: (run) => labelOf(chapter, run.c) },
    dimColumn(chapter),
    column(
      "Seed",
      (run) => run.network.seed,
      (run) => run.network.seed ?? "–",
    ),
    { title: "Status", cell: status, by: fate },
    { title: "Message", cell: (run) => el("span", { class: "message" }, said(run)), by: said },
    column("Measured", done, (run) => `${done(run)} of ${run.measurements.length}`),
    column(
      "Training (s)",
      (run) => run.cost.train_seconds,
      (run) => threeDigits(run.cost.train_seconds || null),
    ),
    column("Attempts", (run) => run.provenance.attempts),
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

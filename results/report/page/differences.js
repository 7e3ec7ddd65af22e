// Differences paired by seed, and by draw where these were kept, to a method that the reader chooses.
function drawDifferences(chapter, table) {
  const found = chapter.differences[chapter.tables.indexOf(table)];
  const bases = Object.keys(found || {}).map(Number);
  if (!bases.length) return null;
  const name = (method) => chapter.methods[method].label;
  const base =
    bases.find((method) => name(method) === state.base) ??
    bases.find((method) => !chapter.methods[method].reference) ??
    bases[0];
  const [factor, unit] = shownUnit(table);
  const rows = found[base].rows
    .filter(
      (row) =>
        passesConfiguration(chapter, row.c) &&
        (dimOf(chapter, row.base) === null || passes("D", dimOf(chapter, row.base))),
    )
    .map((row) => ({ ...row, m: methodOf(chapter, row.c) }));
  if (!rows.length) return null;
  const scale = intervalScale(
    [...rows.map((row) => row.difference), ...middle(rows.flatMap((row) => [row.low, row.high]))],
    { zero: 0, factor, width: 260 },
  );
  const dim = (row) => dimOf(chapter, row.base) ?? dimOf(chapter, row.c);
  const columns = [
    { title: "Method", cell: (row) => methodCell(chapter, row.c), by: (row) => labelOf(chapter, row.c) },
    { title: "D", number: true, cell: (row) => dim(row) ?? "", by: dim },
    {
      title: `below ← ${name(base)} → above`,
      axis: scale.axis,
      cell: (row) =>
        intervalCell(scale, [{ x: row.difference, low: row.low, high: row.high, ...lookOf(chapter, row.c) }]),
    },
    {
      title: `Difference (${unit})`,
      number: true,
      cell: (row) => el("span", { class: row.p_holm <= 0.05 ? "marked" : null }, row.text.replace("-", "−")),
      by: (row) => row.difference,
    },
    { title: "p (Holm)", number: true, cell: (row) => row.p_text, by: (row) => row.p_holm },
    { title: "Test", cell: (row) => row.test || "–", by: (row) => row.test },
    { title: "Seeds", number: true, cell: (row) => row.n, by: (row) => row.n },
  ];
  const finding = differencesFinding(chapter, base, rows);
  return [
    el(
      "div",
      { class: "head" },
      el("h2", {}, "Paired differences"),
      choice(
        "base",
        "To",
        bases.map((method) => [name(method), name(method)]),
        name(base),
      ),
    ),
    el("p", { class: "finding" }, el("span", { class: "of" }, `${tableName(chapter, table)}. `), finding),
    sortable(
      "differences-table",
      `Differences to ${name(base)}: ${tableName(chapter, table)}`,
      columns,
      rows,
    ),
    el(
      "p",
      { class: "note" },
      `Mean paired difference ± 95 % interval; bold: told from 0 at the 5 % level. Tests: ${found[base].tests}.`,
    ),
  ];
}

// The middle of some ends, so that one interval that says nothing does not hide what the others say.
function middle(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length
    ? [sorted[Math.floor(sorted.length * 0.1)], sorted[Math.ceil(sorted.length * 0.9) - 1]]
    : [];
}

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
  return [
    head("Paired differences", choice("base", "To", bases.map(name), name(base))),
    el(
      "p",
      { class: "finding" },
      findingOf(tableName(chapter, table), differencesFinding(chapter, base, rows)),
    ),
    sortable(
      "differences-table",
      `Differences to ${name(base)}: ${tableName(chapter, table)}`,
      differenceColumns(chapter, name(base), unit, scale),
      rows,
    ),
    note(
      `Mean paired difference ± 95 % interval; bold: significant at the 5 % level. Tests: ${found[base].tests}.`,
    ),
  ];
}

function differenceColumns(chapter, base, unit, scale) {
  const mark = (row) => ({ x: row.difference, low: row.low, high: row.high, ...lookOf(chapter, row.c) });
  const bold = (row) =>
    el("span", { class: row.p_holm <= 0.05 ? "marked" : null }, row.text.replace("-", "−"));
  return [
    methodColumn(chapter),
    dimColumn(chapter, (row) => dimOf(chapter, row.base) ?? dimOf(chapter, row.c)),
    { title: `below ← ${base} → above`, axis: scale.axis, cell: (row) => intervalCell(scale, [mark(row)]) },
    column(`Difference (${unit})`, (row) => row.difference, bold),
    column(
      "p (Holm)",
      (row) => row.p_holm,
      (row) => row.p_text,
    ),
    { title: "Test", cell: (row) => row.test || "–", by: (row) => row.test },
    column("Seeds", (row) => row.n),
  ];
}

// The middle of some ends, so that one interval that says nothing does not hide what the others say.
function middle(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length
    ? [sorted[Math.floor(sorted.length * 0.1)], sorted[Math.ceil(sorted.length * 0.9) - 1]]
    : [];
}

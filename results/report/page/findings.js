// What a table or figure found, in a sentence: its caption, and what is read in its place.

const at = (dim) => (dim === null ? "" : `At D = ${dim}, `);
const withUnit = (table, row) => `${row.text} ${shownUnit(table)[1]}`;

// The best of each dimension, and whether it is significantly better than the others.
function bestFinding(chapter, table, rows) {
  const isMethod = (row) => row.n && !chapter.methods[methodOf(chapter, row.c)].reference;
  const some = rows.some(isMethod) ? rows.filter(isMethod) : rows.filter((row) => row.n);
  if (!some.length) return "";
  const isWhole = rows.length === table.rows.length;
  const found = ascending(some.map((row) => dimOf(chapter, row.c) ?? 0)).map((dim) => {
    const here = some.filter((row) => (dimOf(chapter, row.c) ?? 0) === dim);
    return bestAt(chapter, table, here, dim || null, isWhole);
  });
  const last = found.at(-1);
  const isOne = unique(found.map((own) => own.name)).length === 1;
  const before = found.slice(0, -1).map((own) => `${own.name} (${own.dim ? `D = ${own.dim}` : "no D"})`);
  const elsewhere = !isOne && before.length < 4 && before.length ? `best elsewhere: ${before.join(", ")}` : "";
  const start = last.isAlone
    ? `${at(last.dim)}${last.name} reaches ${last.text}`
    : isOne && found.length > 1
      ? `${last.name} ${last.verb} best at every D shown, with ${last.text} at D = ${last.dim}`
      : `${at(last.dim)}${last.name} ${last.verb} best, with ${last.text}`;
  return unparted(`${[start, last.doubt, elsewhere].filter(Boolean).join("; ")}.`);
}

// Of the rows of one dimension: the best by their means, and what tests say of it, where all are shown.
function bestAt(chapter, table, rows, dim, isWhole) {
  const most = highest(rows).mean;
  const best = rows.filter((row) => row.mean === most);
  const names = listed(best.map((row) => labelOf(chapter, row.c)));
  const untold = rows.filter((row) => row.mark === "†").length;
  const doubt = table.unsure.includes(dim)
    ? table.tested
      ? "not significantly better than any other"
      : "one seed is too few to test"
    : untold
      ? `not significantly better than ${plural(untold, "other")}`
      : best[0].mark && table.tested && "significantly better than every other";
  return {
    dim,
    name: best.length > 3 ? `${best.length} methods alike` : names,
    verb: best.length > 1 ? "are" : "is",
    isAlone: rows.length === 1,
    text: withUnit(table, best[0]),
    doubt: isWhole && rows.length > best.length ? doubt : "",
  };
}

// From the smallest to the largest of a quantity over D.
function growthFinding(chapter, table, rows) {
  const [factor, unit] = shownUnit(table);
  const grown = unique(rows.map((row) => chapter.configurations[row.c].method))
    .map((method) => {
      const own = rows.filter((row) => chapter.configurations[row.c].method === method && row.n);
      const sorted = own.sort((a, b) => chapter.configurations[a.c].D - chapter.configurations[b.c].D);
      return { name: chapter.methods[method].label, first: sorted[0], last: sorted.at(-1) };
    })
    .filter((own) => own.first && own.last);
  if (!grown.length) return "";
  const value = (row) => row.mean * factor;
  const largest = Math.max(...grown.map((own) => chapter.configurations[own.last.c].D));
  const there = grown
    .filter((own) => chapter.configurations[own.last.c].D === largest)
    .sort((a, b) => value(a.last) - value(b.last));
  const [least, most] = [there[0], there.at(-1)];
  const [low, high] = [value(least.last), value(most.last)];
  if (high / low < 1.005)
    return unparted(`At D = ${largest}, ${short(high)} ${unit} for ${least === most ? least.name : "all"}.`);
  const ends = `from ${short(low)} ${unit} (${least.name}) to ${short(high)} ${unit} (${most.name})`;
  return unparted(`At D = ${largest}, ${ends}, ${short(high / low)} times as much.`);
}

function differencesFinding(chapter, base, rows) {
  const told = rows.filter((row) => row.p_holm <= 0.05);
  const name = chapter.methods[base].label;
  if (!told.length)
    return `None of the ${plural(rows.length, "difference")} to ${name} is significant at the 5\u00a0% level.`;
  const above = told.filter((row) => row.difference > 0).length;
  const parts = [
    above && `${above} positive`,
    told.length - above && `${told.length - above} negative`,
  ].filter(Boolean);
  return `${told.length} of ${plural(rows.length, "difference")} to ${name} ${told.length === 1 ? "is" : "are"} significant at the 5\u00a0% level: ${listed(parts)}.`;
}

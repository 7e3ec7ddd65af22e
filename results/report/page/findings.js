// What a table or figure found, in a sentence: its caption, and what is read in its place.

const at = (dim) => (dim === null ? "" : `At D = ${dim} `);
const withUnit = (table, row) => `${row.text} ${shownUnit(table)[1]}`;

// The best of each dimension, and whether a test tells it from the others.
function bestFinding(chapter, table, rows) {
  const dims = unique(rows.map((row) => chapter.configurations[row.c].D)).sort(
    (a, b) => (a ?? -1) - (b ?? -1),
  );
  const name = (row) => chapter.methods[chapter.configurations[row.c].method].label;
  const whole = rows.length === table.rows.length;
  const told = dims
    .map((dim) => {
      const here = rows.filter((row) => chapter.configurations[row.c].D === dim && row.n);
      const methods = here.filter((row) => !chapter.methods[chapter.configurations[row.c].method].reference);
      if (methods.length < 2) return null;
      const best = methods.reduce((a, b) => (b.mean > a.mean ? b : a));
      const doubt = table.unsure.includes(dim)
        ? "no test tells it from any other"
        : methods.some((row) => row.mark === "†")
          ? `no test tells it from ${plural(methods.filter((row) => row.mark === "†").length, "other")}`
          : best.mark === "*"
            ? "and every other is told from it"
            : "";
      return { dim, best, name: name(best), text: withUnit(table, best), doubt: whole ? doubt : "" };
    })
    .filter(Boolean);
  if (!told.length) return "";
  const last = told[told.length - 1];
  const named = unique(told.map((own) => own.name));
  const start =
    told.length > 1 && named.length === 1
      ? `${named[0]} is best at every D shown, at D = ${last.dim} with ${last.text}`
      : `${at(last.dim)}${last.dim === null ? `${last.name} is best` : `${last.name} is best`}, with ${last.text}`;
  const others =
    named.length > 1 ? `; ${listed(told.slice(0, -1).map((own) => `${own.name} at D = ${own.dim}`))}` : "";
  return unparted(`${start}${last.doubt ? `; ${last.doubt}` : ""}${others}.`);
}

// From the smallest to the largest of a quantity over D.
function growthFinding(chapter, table, rows) {
  const [factor, unit] = shownUnit(table);
  const grown = unique(rows.map((row) => chapter.configurations[row.c].method))
    .map((method) => {
      const own = rows.filter((row) => chapter.configurations[row.c].method === method && row.n);
      const sorted = own.sort((a, b) => chapter.configurations[a.c].D - chapter.configurations[b.c].D);
      return { name: chapter.methods[method].label, first: sorted[0], last: sorted[sorted.length - 1] };
    })
    .filter((own) => own.first && own.last);
  if (!grown.length) return "";
  const value = (row) => row.mean * factor;
  const largest = Math.max(...grown.map((own) => chapter.configurations[own.last.c].D));
  const there = grown
    .filter((own) => chapter.configurations[own.last.c].D === largest)
    .sort((a, b) => value(a.last) - value(b.last));
  const [least, most] = [there[0], there[there.length - 1]];
  if (least === most)
    return `${least.name}: ${short(value(least.first))} to ${short(value(least.last))} ${unit}.`;
  return unparted(
    `At D = ${largest} from ${short(value(least.last))} ${unit} (${least.name}) to ${short(value(most.last))} ${unit} (${most.name}), ${short(value(most.last) / value(least.last))} times as much.`,
  );
}

function differencesFinding(chapter, base, rows) {
  const told = rows.filter((row) => row.p_holm <= 0.05);
  const name = chapter.methods[base].label;
  if (!told.length)
    return `None of the ${plural(rows.length, "difference")} to ${name} is told from 0 at the 5\u00a0% level.`;
  const above = told.filter((row) => row.difference > 0).length;
  const parts = [above && `${above} above it`, told.length - above && `${told.length - above} below`].filter(
    Boolean,
  );
  return `${told.length} of ${plural(rows.length, "difference")} to ${name} ${told.length === 1 ? "is" : "are"} told from 0 at the 5\u00a0% level: ${listed(parts)}.`;
}

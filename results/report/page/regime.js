// The kernel regime: few labels by probe, over views and images, ridge and rank, spectra, neighbourhoods.

function fewLabelRows(chapter) {
  const tables = figureTables(chapter).filter(
    (table) => table.metric === "fewshot_top1" && table.protocol.labels_per_class,
  );
  return tables.flatMap((table) =>
    visible(chapter, table.rows)
      .filter((row) => row.n)
      .map((row) => ({
        ...row,
        own: chapter.configurations[row.c],
        shots: table.protocol.labels_per_class,
        by: table.protocol.probe || table.probe,
      })),
  );
}

function drawRegime(chapter) {
  const { over, spectra, pictures } = chapter.regime;
  const rows = fewLabelRows(chapter);
  if (!chapter.methods.some((method) => method.kind === "kernel")) return null;
  const parts = [
    drawFewLabels(chapter, rows),
    Object.keys(over).map((axis) => drawOver(chapter, rows, axis, over[axis])),
    drawRidgeRank(chapter, rows),
    drawSpectra(chapter, spectra),
    pictures.map(drawPictures),
    pictures.length > 0 &&
      note(
        "Cosine with the point marked by a star, from −1 (violet) to 1 (orange); points of its class are black.",
      ),
  ]
    .flat(Infinity)
    .filter(Boolean);
  return parts.length ? [el("h2", {}, "Kernel regime"), parts] : null;
}

const shotsText = (shots) => plural(shots, "label");

// A row a method, a column a number of labels, a mark a probe.
function drawFewLabels(chapter, all) {
  const rows = all.filter((row) => row.own.largest);
  const names = unique(rows.map((row) => row.own.name));
  const probes = unique(rows.map((row) => row.by));
  const ranks = (name) => unique(rows.filter((row) => row.own.name === name).map((row) => row.own.D));
  if (names.length < 2 || names.some((name) => ranks(name).length > 1)) return null;
  const shots = ascending(rows.map((row) => row.shots));
  const looks = new Map(probes.map((probe, place) => [probe, lookAt(ORDER[place % COLOURS])]));
  const legend = probes.map((probe) =>
    el("span", { class: "key" }, glyph({ ...looks.get(probe), dash: "0 99" }), probe),
  );
  const leaders = shots.map((count) => {
    const top = highest(rows.filter((row) => row.shots === count));
    return `${shotsText(count)} per class: ${top.own.name}, ${top.text} % (${top.by})`;
  });
  const columns = [
    { title: "Method", cell: (row) => row.name, by: (row) => row.name },
    ...shots.map((count) =>
      fewLabelColumn(
        rows.filter((row) => row.shots === count),
        looks,
      ),
    ),
  ];
  const table = names.map((name) => ({ name }));
  return [
    el("h3", {}, "Few labels, by probe"),
    el("p", { class: "finding" }, unparted(`Best with ${leaders.join("; with ")}.`)),
    el("p", { class: "legend" }, legend),
    sortable("few-labels", "Few-label accuracy by method, number of labels and probe", columns, table),
  ];
}

const highest = (rows) => rows.reduce((a, b) => (b.mean > a.mean ? b : a));

function fewLabelColumn(rows, looks) {
  const means = rows.map((row) => row.mean);
  const scale = intervalScale(means, { factor: 100, width: 200 });
  const of = (name) => rows.filter((row) => row.own.name === name);
  const mark = (row) => ({ x: row.mean, low: row.low, high: row.high, ...looks.get(row.by) });
  const text = (name) => of(name).map((own) => `${own.by}: ${own.text}`);
  return {
    title: `${shotsText(rows[0].shots)} per class (%)`,
    axis: scale.axis,
    by: ({ name }) => (of(name).length ? highest(of(name)).mean : null),
    cell: ({ name }) => [
      intervalCell(scale, of(name).map(mark), 8 + 9 * looks.size),
      unseen(text(name).join(", ")),
    ],
  };
}

// Accuracy over the number of views, or of images: a panel a number of labels, for the first probe.
function drawOver(chapter, all, axis, title) {
  const rows = all.filter((row) => row.by === all[0].by && known(row.own.axes[axis]));
  const of = (name) => rows.filter((row) => row.own.name === name);
  const values = (own) => ascending(own.map((row) => row.own.axes[axis]));
  const names = unique(rows.map((row) => row.own.name)).filter((name) => values(of(name)).length > 1);
  if (!names.length) return null;
  const kept = names.sort((a, b) => highest(of(b)).mean - highest(of(a)).mean).slice(0, COLOURS);
  const others = Object.keys(chapter.regime.over).filter((name) => name !== axis);
  const panels = ascending(rows.map((row) => row.shots)).map((count) => {
    const own = kept.map((name) =>
      mostOf(
        of(name).filter((row) => row.shots === count),
        others,
      ),
    );
    return overPanel(chapter, own, axis, { label: title, log: true, ticks: values(rows) });
  });
  const some = names.length > kept.length ? `; the best ${kept.length} of ${names.length} methods` : "";
  return [
    el("h3", {}, `Over ${title.toLowerCase()}`),
    el("div", { class: "panels" }, panels),
    note(`${all[0].by}; mean and 95 % interval over seeds${some}.`),
  ];
}

// The rows with the most along each of some axes.
function mostOf(rows, axes) {
  for (const axis of axes) {
    const most = Math.max(...rows.map((row) => row.own.axes[axis] ?? 0));
    rows = rows.filter((row) => (row.own.axes[axis] ?? 0) === most);
  }
  return rows;
}

function overPanel(chapter, methods, axis, x) {
  const percent = (value) => (known(value) ? 100 * value : null);
  const point = (row) => ({
    x: row.own.axes[axis],
    y: 100 * row.mean,
    low: percent(row.low),
    high: percent(row.high),
    title: `${row.own.name}, ${row.own.axes[axis]}: ${row.text} %`,
  });
  const series = methods.filter((rows) => rows.length).map((rows) => ({
    name: rows[0].own.name,
    ...lookOf(chapter, rows[0].c),
    points: rows.map(point).sort((a, b) => a.x - b.x),
  }));
  const gain = (own) => own.points.at(-1).y - own.points[0].y;
  const [most] = series.filter((own) => own.points.length > 1).sort((a, b) => gain(b) - gain(a));
  const [first, last] = [x.ticks[0], x.ticks.at(-1)];
  const finding = most
    ? `${most.name} gains most, from ${first} to ${last}: ${gain(most) > 0 ? "+" : ""}${gain(most).toFixed(1)} points.`
    : "";
  const title = `${shotsText(methods.flat()[0].shots)} per class`;
  const y = { label: "Top-1 (%)", clip: meansFirst };
  return figure(chart({ finding, title, x, y, series, width: half(), height: 340 }), finding);
}

const STAR = "M0-5L1.5-1.7L5-1.5L2.3 .8L3.1 4.4L0 2.5L-3.1 4.4L-2.3 .8L-5-1.5L-1.5-1.7Z";
const RIDGE = "regime.ridge";

// A cell a ridge and rank, coloured by how far it is from the base kernel.
function drawRidgeRank(chapter, all) {
  const methodRow = (row) => chapter.methods[row.own.method];
  const first = all.filter((row) => row.by === all[0].by);
  const rows = first.filter((row) => known(row.own.axes[RIDGE]) && known(row.own.D));
  const of = (title) => rows.filter((row) => methodRow(row).title === title);
  const count = (own, value) => unique(own.map(value)).length;
  const isWide = (own) => count(own, (row) => row.own.axes[RIDGE]) > 2 && count(own, (row) => row.own.D) > 2;
  const title = unique(rows.map((row) => methodRow(row).title)).find((name) => isWide(of(name)));
  if (!title) return null;
  const tables = ascending(of(title).map((row) => row.shots)).map((shots) => {
    const base = first.find((row) => row.shots === shots && methodRow(row).method === "base_kernel");
    return heatMap(
      of(title).filter((row) => row.shots === shots),
      base,
    );
  });
  return [
    el("h3", {}, `${title}: ridge and rank`),
    el("div", { class: "panels" }, tables),
    note(`Few-label accuracy (%), ${all[0].by}. Orange: above the base kernel; blue: below.`),
  ];
}

function heatMap(rows, base) {
  const means = rows.map((row) => row.mean).sort((a, b) => a - b);
  const level = base ? base.mean : means[Math.floor(means.length / 2)];
  const reach = Math.max(...means.map((mean) => Math.abs(mean - level))) || 1;
  const ranks = ascending(rows.map((row) => row.own.D));
  const ridges = ascending(rows.map((row) => row.own.axes[RIDGE])).reverse();
  const cell = (ridge, rank) => {
    const row = rows.find((own) => own.own.D === rank && own.own.axes[RIDGE] === ridge);
    if (!row) return el("td", {}, "–");
    const share = (row.mean - level) / reach;
    const style = { "--share": `${Math.round(70 * Math.abs(share))}%` };
    return el("td", { class: `heat ${share > 0 ? "above" : "below"}`, style }, (100 * row.mean).toFixed(1));
  };
  const top = highest(rows);
  const beside = base ? `; base kernel ${(100 * level).toFixed(1)} %` : "";
  const most = `${(100 * top.mean).toFixed(1)} % at rank ${top.own.D}, ridge ${top.own.axes[RIDGE]}`;
  const finding = unparted(`${shotsText(top.shots)} per class: at most ${most}${beside}.`);
  const heading = (rank) => el("th", { scope: "col", class: "number" }, rank);
  const tableRow = (ridge) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, short(ridge)),
      ranks.map((rank) => cell(ridge, rank)),
    );
  const body = [
    el("caption", {}, finding),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Ridge \\ rank"), ranks.map(heading))),
    el("tbody", {}, ridges.map(tableRow)),
  ];
  const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": finding };
  return el("div", region, el("table", { class: "heatmap" }, body));
}

function drawSpectra(chapter, spectra) {
  const names = Object.keys(spectra);
  if (!names.length) return null;
  const configuration = (name) => chapter.configurations.findIndex((own) => own.name === name);
  const series = names.map((name) => ({
    name,
    ...lookOf(chapter, configuration(name)),
    marks: false,
    points: spectra[name]
      .map((share, index) => ({ x: index + 1, y: share }))
      .filter((point) => point.y >= 1e-5),
  }));
  const half_of = (shares) => {
    let sum = 0;
    const total = shares.reduce((a, b) => a + b, 0);
    return shares.findIndex((share) => (sum += share) >= total / 2) + 1;
  };
  const counts = names
    .map((name) => ({ name, count: half_of(spectra[name]) }))
    .sort((a, b) => a.count - b.count);
  const [least, most] = [counts[0], counts.at(-1)];
  const finding = `Half of the variance lies in ${plural(least.count, "eigenvalue")} of ${least.name}, in ${most.count} of ${most.name}.`;
  const drawing = chart({
    finding,
    x: { label: "Eigenvalue", log: true },
    y: { label: "Share of the variance", log: true },
    series,
    width: chart.width,
    height: 380,
  });
  return [
    el("h3", {}, "Spectra"),
    figure(drawing, finding),
    note("Covariance of the representation, first seed."),
  ];
}

// The cosine of k(x₀, x) over the plane, base kernel first; x₀ is the star.
function drawPictures(picture) {
  const panels = Object.entries(picture.grids).map(([name, grid]) => {
    const canvas = el("canvas", {
      width: grid.size,
      height: grid.size,
      role: "img",
      "aria-label": pictureFinding(picture, grid, name),
    });
    paint(canvas, grid);
    const at_ = ([x, y]) => [
      (50 * (x + picture.edge)) / picture.edge,
      (50 * (picture.edge - y)) / picture.edge,
    ];
    const nearest = picture.points.map(([x, y]) => Math.hypot(x - picture.origin[0], y - picture.origin[1]));
    const label = picture.labels[nearest.indexOf(Math.min(...nearest))];
    const dots = picture.points.map((point, place) => {
      const [x, y] = at_(point);
      return svg("circle", {
        cx: x,
        cy: y,
        r: 0.7,
        class: picture.labels[place] === label ? "same" : "other",
      });
    });
    const [x, y] = at_(picture.origin);
    const star = svg("path", { d: STAR, transform: `translate(${x} ${y}) scale(.9)`, class: "star" });
    return el(
      "figure",
      { class: "picture" },
      el("div", {}, canvas, svg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" }, dots, star)),
      el("figcaption", {}, name),
    );
  });
  return [el("h3", {}, `Neighbourhoods: ${picture.title}`), el("div", { class: "pictures" }, panels)];
}

const cosines = (grid) => Uint8Array.from(atob(grid.cosines), (letter) => letter.charCodeAt(0));

function pictureFinding(picture, grid, name) {
  const values = cosines(grid);
  const close = values.filter((value) => value > 127 * 1.5).length / values.length;
  return `${picture.title}, ${name}: the cosine is above one half over ${Math.round(100 * close)} % of the plane.`;
}

function paint(canvas, grid) {
  const ends = [
    [84, 39, 136],
    [247, 247, 247],
    [179, 88, 6],
  ];
  const image = new ImageData(grid.size, grid.size);
  cosines(grid).forEach((value, place) => {
    const share = value / 127 - 1;
    const [from, to] = [ends[1], share < 0 ? ends[0] : ends[2]];
    const row = grid.size - 1 - Math.floor(place / grid.size); // rows come from below
    const pixel = 4 * (row * grid.size + (place % grid.size));
    for (let colour = 0; colour < 3; colour++)
      image.data[pixel + colour] = from[colour] + (to[colour] - from[colour]) * Math.abs(share);
    image.data[pixel + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

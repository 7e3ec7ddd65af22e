// The kernel regime: few labels by probe, over views and images, ridge and rank, spectra, neighbourhoods.

const PROBE_NAMES = ["fewshot_top1"];

function fewLabelRows(chapter) {
  const tables = figureTables(chapter).filter(
    (table) => PROBE_NAMES.includes(table.metric) && table.protocol.labels_per_class,
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
      el(
        "p",
        { class: "note" },
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
  const shots = unique(rows.map((row) => row.shots)).sort((a, b) => a - b);
  if (
    names.length < 2 ||
    names.some(
      (name) => unique(rows.filter((row) => row.own.name === name).map((row) => row.own.D)).length > 1,
    )
  )
    return null;
  const of = (name, count) => rows.filter((row) => row.own.name === name && row.shots === count);
  const marks = (own) =>
    own.map((row) => ({
      x: row.mean,
      low: row.low,
      high: row.high,
      look: `c${probes.indexOf(row.by) % COLOURS}`,
      symbol: probes.indexOf(row.by),
    }));
  const scales = new Map(
    shots.map((count) => [
      count,
      intervalScale(
        rows.filter((row) => row.shots === count).map((row) => row.mean),
        { factor: 100, width: 200 },
      ),
    ]),
  );
  const best = (name, count) => Math.max(...of(name, count).map((row) => row.mean));
  const columns = [
    { title: "Method", cell: (row) => row.name, by: (row) => row.name },
    ...shots.map((count) => ({
      title: `${shotsText(count)} a class (%)`,
      axis: scales.get(count).axis,
      by: (row) => best(row.name, count),
      cell: (row) => [
        intervalCell(scales.get(count), marks(of(row.name, count)), 8 + 9 * probes.length),
        el(
          "span",
          { class: "unseen" },
          of(row.name, count)
            .map((own) => `${own.by}: ${own.text}`)
            .join(", "),
        ),
      ],
    })),
  ];
  const legend = probes.map((probe, place) =>
    el("span", { class: "key" }, glyph({ look: `c${place % COLOURS}`, symbol: place, dash: "0 99" }), probe),
  );
  const leaders = shots.map((count) => {
    const top = rows.filter((row) => row.shots === count).reduce((a, b) => (b.mean > a.mean ? b : a));
    return `${shotsText(count)} a class: ${top.own.name}, ${top.text} % (${top.by})`;
  });
  const table = names.map((name) => ({ name }));
  return [
    el("h3", {}, "Few labels, by probe"),
    el("p", { class: "finding" }, unparted(`Best with ${leaders.join("; with ")}.`)),
    el("p", { class: "legend" }, legend),
    sortable("few-labels", "Few-label accuracy by method, number of labels and probe", columns, table, {
      limit: 40,
    }),
  ];
}

// Accuracy over the number of views, or of images: a panel a number of labels, for the first probe.
function drawOver(chapter, all, axis, label) {
  const rows = all.filter((row) => row.by === all[0].by && known(row.own.axes[axis]));
  const names = unique(rows.map((row) => row.own.name)).filter(
    (name) => unique(rows.filter((row) => row.own.name === name).map((row) => row.own.axes[axis])).length > 1,
  );
  if (!names.length) return null;
  const most = (name) => Math.max(...rows.filter((row) => row.own.name === name).map((row) => row.mean));
  const kept = [...names].sort((a, b) => most(b) - most(a)).slice(0, COLOURS);
  const ticks = unique(rows.map((row) => row.own.axes[axis])).sort((a, b) => a - b);
  const others = Object.keys(chapter.regime.over).filter((name) => name !== axis);
  const panels = unique(rows.map((row) => row.shots))
    .sort((a, b) => a - b)
    .map((count) => {
      const series = kept.map((name, place) => {
        let own = rows.filter((row) => row.own.name === name && row.shots === count);
        for (const other of others) {
          const top = Math.max(...own.map((row) => row.own.axes[other] ?? 0));
          own = own.filter((row) => (row.own.axes[other] ?? 0) === top);
        }
        return {
          name,
          look: `c${place}`,
          symbol: place,
          dash: DASHES[place % DASHES.length],
          points: own
            .sort((a, b) => a.own.axes[axis] - b.own.axes[axis])
            .map((row) => ({
              x: row.own.axes[axis],
              y: 100 * row.mean,
              low: known(row.low) ? 100 * row.low : null,
              high: known(row.high) ? 100 * row.high : null,
              title: `${name}, ${row.own.axes[axis]}: ${row.text} %`,
            })),
        };
      });
      const gains = series
        .filter((own) => own.points.length > 1)
        .map((own) => ({ name: own.name, gain: own.points[own.points.length - 1].y - own.points[0].y }))
        .sort((a, b) => b.gain - a.gain);
      const finding = gains.length
        ? `${gains[0].name} gains most from ${ticks[0]} to ${ticks[ticks.length - 1]}: ${gains[0].gain > 0 ? "+" : ""}${gains[0].gain.toFixed(1)} points.`
        : "";
      return figure(
        chart({
          finding,
          title: `${shotsText(count)} a class`,
          x: { label, log: true, ticks },
          y: { label: "Top-1 (%)", clip: meansFirst },
          series,
          width: half(),
          height: 340,
        }),
        finding,
      );
    });
  return [
    el("h3", {}, `Over ${label.toLowerCase()}`),
    el("div", { class: "panels" }, panels),
    el(
      "p",
      { class: "note" },
      `${all[0].by}; mean and 95 % interval over seeds${names.length > kept.length ? `; the best ${kept.length} of ${names.length} methods` : ""}.`,
    ),
  ];
}

// A cell a ridge and rank, coloured by how far it is from the base kernel.
function drawRidgeRank(chapter, all) {
  const rows = all.filter(
    (row) => row.by === all[0].by && known(row.own.axes["regime.ridge"]) && known(row.own.D),
  );
  const titles = unique(rows.map((row) => chapter.methods[row.own.method].title));
  const wide = (own) =>
    unique(own.map((row) => row.own.axes["regime.ridge"])).length > 2 &&
    unique(own.map((row) => row.own.D)).length > 2;
  const title = titles.find((name) =>
    wide(rows.filter((row) => chapter.methods[row.own.method].title === name)),
  );
  if (!title) return null;
  const own = rows.filter((row) => chapter.methods[row.own.method].title === title);
  const tables = unique(own.map((row) => row.shots))
    .sort((a, b) => a - b)
    .map((count) => {
      const here = own.filter((row) => row.shots === count);
      const base = all.find(
        (row) =>
          row.shots === count &&
          row.by === all[0].by &&
          chapter.methods[row.own.method].method === "base_kernel",
      );
      const level = base ? base.mean : here.map((row) => row.mean).sort()[Math.floor(here.length / 2)];
      const reach = Math.max(...here.map((row) => Math.abs(row.mean - level))) || 1;
      const ranks = unique(here.map((row) => row.own.D)).sort((a, b) => a - b);
      const ridges = unique(here.map((row) => row.own.axes["regime.ridge"])).sort((a, b) => b - a);
      const cell = (ridge, rank) => {
        const row = here.find((one) => one.own.D === rank && one.own.axes["regime.ridge"] === ridge);
        if (!row) return el("td", {}, "–");
        const share = (row.mean - level) / reach;
        return el(
          "td",
          {
            class: `heat ${share > 0 ? "above" : "below"}`,
            style: { "--share": `${Math.round(70 * Math.abs(share))}%` },
          },
          (100 * row.mean).toFixed(1),
        );
      };
      const top = here.reduce((a, b) => (b.mean > a.mean ? b : a));
      const finding = `${shotsText(count)} a class: at most ${(100 * top.mean).toFixed(1)} % at rank ${top.own.D}, ridge ${top.own.axes["regime.ridge"]}${base ? `; base kernel ${(100 * level).toFixed(1)} %` : ""}.`;
      return el(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": finding },
        el(
          "table",
          { class: "heatmap" },
          el("caption", {}, finding),
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              el("th", { scope: "col" }, "Ridge \\ rank"),
              ranks.map((rank) => el("th", { scope: "col", class: "number" }, rank)),
            ),
          ),
          el(
            "tbody",
            {},
            ridges.map((ridge) =>
              el(
                "tr",
                {},
                el("th", { scope: "row" }, short(ridge)),
                ranks.map((rank) => cell(ridge, rank)),
              ),
            ),
          ),
        ),
      );
    });
  return [
    el("h3", {}, `${title}: ridge and rank`),
    el("div", { class: "panels" }, tables),
    el(
      "p",
      { class: "note" },
      `Few-label accuracy (%), ${all[0].by}. Orange: above the base kernel; blue: below.`,
    ),
  ];
}

function drawSpectra(chapter, spectra) {
  const names = Object.keys(spectra);
  if (!names.length) return null;
  const series = names.map((name, place) => ({
    name,
    look: `c${place % COLOURS}`,
    symbol: place,
    dash: DASHES[Math.floor(place / COLOURS) % DASHES.length],
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
  const [least, most] = [counts[0], counts[counts.length - 1]];
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
    el("p", { class: "note" }, "Covariance of the representation, first seed."),
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
    paint(canvas, grid, picture);
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
    const star = svg("path", { d: SYMBOLS[6], transform: `translate(${x} ${y}) scale(.9)`, class: "star" });
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

// Lines and points as SVG. A method keeps its colour, mark and dash over the page: any one of the three tells it apart.

// The look of a place in the palette, whose SYMBOLS, DASHES, ORDER and number of COLOURS come with the page.
const lookAt = (place) => ({
  look: `c${place % COLOURS}`,
  symbol: place,
  dash: DASHES[place % DASHES.length],
});

// References are grey.
function look(chapter, method) {
  const { place, reference } = chapter.methods[method];
  return reference ? { ...lookAt(place), look: "reference" } : lookAt(place);
}

function glyph(style) {
  const line = svg("line", { x1: 0, x2: 24, y1: 7, y2: 7, "stroke-dasharray": style.dash, class: "line" });
  const mark = svg("path", {
    d: SYMBOLS[style.symbol % SYMBOLS.length],
    transform: "translate(12 7)",
    class: "mark",
  });
  return svg(
    "svg",
    { viewBox: "0 0 24 14", width: 24, height: 14, class: `glyph m ${style.look}`, "aria-hidden": "true" },
    line,
    mark,
  );
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step)
    ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  if (high < 4 * low) return niceTicks(low, high, 6);
  const ticks = [];
  const wide = high / low > 200;
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of wide ? [1] : high / low > 12 ? [1, 3] : [1, 1.5, 2, 3, 5, 7])
      if (factor * 10 ** power >= low && factor * 10 ** power <= high)
        ticks.push(Number((factor * 10 ** power).toPrecision(3)));
  return ticks;
}

// A scale from values to pixels; `axis`: {label, log, ticks, low, high}.
function scaleOf(axis, values, from, to) {
  const finite = values.filter((value) => Number.isFinite(value) && (!axis.log || value > 0));
  let [low, high] = [axis.low ?? Math.min(...finite), axis.high ?? Math.max(...finite)];
  if (!finite.length) [low, high] = [1, 10];
  const turn = axis.log ? Math.log : (value) => value;
  const room =
    (turn(high) - turn(low)) * (axis.room ?? 0.06) || (axis.log ? 0.3 : Math.abs(high) * 0.05 || 1);
  const [first, last] = [turn(low) - room, turn(high) + room];
  const at = (value) => from + ((to - from) * (turn(value) - first)) / (last - first);
  const back = axis.log ? Math.exp : (value) => value;
  const ticks =
    axis.ticks ||
    (axis.log ? logTicks(back(first), back(last)) : niceTicks(first, last, Math.abs(to - from) / 45));
  return { at, ticks, clamp: (value) => (axis.log && value <= 0 ? from : at(value)) };
}

// `series`: {name, look, symbol, dash, m, points: [{x, y, low, high, title}], band, marks, line}; `levels`: {name, y}.
// The finding is the figure's caption, and what is read for it.
function chart({ finding, x, y, series, levels = [], width = 660, height = 330, names = true, title = "" }) {
  series = series.filter((own) => own.lost?.length || own.points.some((point) => Number.isFinite(point.y)));
  if (!series.some((own) => own.points.length)) return null;
  const left = 52,
    top = title ? 24 : 10,
    bottom = 40;
  const right = names
    ? Math.min(190, 26 + 6.4 * Math.max(...[...series, ...levels].map((own) => own.name.length)))
    : 12;
  const points = series.flatMap((own) => own.points);
  const ticks = x.ticks && { ...x, text: String };
  const across = scaleOf(x, points.map((point) => point.x).concat(x.ticks || []), left, width - right);
  const values = points
    .flatMap((point) => [point.y, point.low, point.high])
    .concat(levels.map((own) => own.y));
  const up = scaleOf(y, y.clip ? y.clip(points) : values, height - bottom, top);
  const frame = { left, right: width - right, top, bottom: height - bottom, width, height };
  const isInside = (own) => up.at(own.y) >= top && up.at(own.y) <= frame.bottom;
  const inside = levels.filter(isInside);
  const clip = `clip-${(chart.count = (chart.count || 0) + 1)}`;
  const box = { x: left, y: top - 4, width: frame.right - left + 6, height: frame.bottom - top + 4 };
  const told = { role: "img", "aria-label": `${title ? `${title}: ` : ""}${finding}` };
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, ...told, class: "chart", width, height },
    svg("clipPath", { id: clip }, svg("rect", box)),
    title && label(left, 12, "start", title, { class: "title" }),
    axes(ticks || x, y, across, up, frame),
    inside.map((own) => line(left, up.at(own.y), frame.right, up.at(own.y), "level")),
    series.map((own) => drawLost(own, across, frame)),
    series.map((own) => drawSeries(own, across, up, clip)),
    remarks(
      levels.filter((own) => !isInside(own)),
      up,
      frame,
    ),
    names && drawNames(series, inside, across, up, frame),
  );
}

// At the foot, where no run of a series came to its end.
function drawLost(own, across, frame) {
  const places = (own.lost || []).map((x) => ({ px: across.at(x) + (own.shift || 0), py: frame.bottom - 8 }));
  const marks = places.map((place) => svg("path", { d: CROSS, transform: placed(place), class: "lost" }));
  return marks.length > 0 && svg("g", { class: `m ${own.look}`, "data-m": own.m }, marks);
}

// Levels that lie beyond the panel, in words at its foot.
function remarks(levels, up, frame) {
  return levels.map((own, place) => {
    const text = `${up.at(own.y) < frame.top ? "↑" : "↓"} ${own.name} ${short(own.y)}`;
    return label(frame.right, frame.bottom - 6 - 14 * (levels.length - 1 - place), "end", text, {
      class: "remark",
    });
  });
}

function axes(x, y, across, up, frame) {
  const { left, right, top, bottom, height } = frame;
  const turned = { class: "label", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)` };
  return [
    up.ticks.map((tick) => [
      line(left, up.at(tick), right, up.at(tick), "grid"),
      label(left - 7, up.at(tick) + 4, "end", (y.text || short)(tick)),
    ]),
    across.ticks.map((tick) => [
      line(across.at(tick), bottom, across.at(tick), bottom + 4, "axis"),
      label(across.at(tick), bottom + 17, "middle", (x.text || short)(tick)),
    ]),
    line(left, bottom, right, bottom, "axis"),
    label((left + right) / 2, height - 5, "middle", x.label, { class: "label" }),
    label(0, 0, "middle", y.label, turned),
  ];
}

const CROSS = "M-5-5L5 5M-5 5L5-5";
const path = (points) =>
  points.map(([a, b], place) => `${place ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
const placed = (point) => `translate(${point.px} ${point.py})`;

function drawSeries(own, across, up, clip) {
  const points = own.points
    .filter((point) => Number.isFinite(point.y))
    .map((point) => ({ ...point, px: across.clamp(point.x) + (own.shift || 0), py: up.clamp(point.y) }));
  const ranged = points.filter((point) => Number.isFinite(point.low));
  const isLine = own.line !== false && points.length > 1;
  const way = path(points.map((point) => [point.px, point.py]));
  return svg(
    "g",
    { class: `m ${own.look}`, "data-m": own.m, "clip-path": `url(#${clip})` },
    svg("title", {}, own.name),
    own.band ? drawBand(ranged, up) : drawIntervals(points, ranged, up),
    isLine && svg("path", { d: way, "stroke-dasharray": own.dash, class: "line" }),
    own.marks !== false && points.map((point) => drawMark(own, point)),
    points
      .filter((point) => point.cross)
      .map((point) => svg("path", { d: CROSS, transform: placed(point), class: "lost" })),
  );
}

function drawMark(own, point) {
  const d = SYMBOLS[own.symbol % SYMBOLS.length];
  const mark = { d, transform: `${placed(point)} scale(${point.size || 1})`, class: "mark" };
  return svg("path", mark, svg("title", {}, point.title || own.name));
}

function drawBand(ranged, up) {
  if (ranged.length < 2) return null;
  const upper = ranged.map((point) => [point.px, up.clamp(point.high)]);
  const lower = ranged.map((point) => [point.px, up.clamp(point.low)]);
  return svg("path", { d: `${path([...upper, ...lower.reverse()])}Z`, class: "band" });
}

// The interval of each point, and a tick for each of its seeds.
function drawIntervals(points, ranged, up) {
  return [
    ranged.map(({ px, low, high }) => line(px, up.clamp(low), px, up.clamp(high), "interval")),
    points.flatMap(({ px, seeds }) =>
      (seeds || []).map((seed) => line(px - 3, up.clamp(seed), px + 3, up.clamp(seed), "seed")),
    ),
  ];
}

// A long name without its middle: what tells variants of a method apart stands at the end.
const shortened = (name, most) =>
  name.length > most ? `${name.slice(0, most / 2 - 1).trimEnd()}…${name.slice(1 - most / 2)}` : name;

// Names beside the ends of lines, kept apart, each led to where it belongs.
function drawNames(series, levels, across, up, { right: edge, top, bottom }) {
  const ended = series.filter((own) => own.points.some((point) => Number.isFinite(point.y)));
  const ends = ended.map((own) => {
    const last = own.points
      .filter((point) => Number.isFinite(point.y))
      .reduce((a, b) => (b.x >= a.x ? b : a));
    return {
      name: own.name,
      y: up.clamp(last.y),
      x: across.clamp(last.x) + (own.shift || 0),
      look: own.look,
      m: own.m,
    };
  });
  const all = [
    ...ends,
    ...levels.map((own) => ({ name: own.name, y: up.at(own.y), x: edge, look: "reference" })),
  ].sort((a, b) => a.y - b.y);
  const gap = Math.min(14, (bottom - top) / all.length);
  all.forEach((own, place) => (own.at = Math.max(own.y, place ? all[place - 1].at + gap : top + 4)));
  for (let place = all.length - 1, floor = bottom; place >= 0; place--, floor -= gap)
    all[place].at = Math.min(all[place].at, floor);
  return all.map((own) =>
    svg(
      "g",
      { class: `m ${own.look}`, "data-m": own.m },
      svg("path", {
        d: `M${(own.x + 7).toFixed(1)} ${own.y.toFixed(1)}L${edge + 8} ${own.at.toFixed(1)}`,
        class: "leader",
      }),
      svg("text", { x: edge + 11, y: own.at + 4, class: "name" }, shortened(own.name, 27)),
    ),
  );
}

const figure = (drawing, finding) => drawing && el("figure", {}, el("figcaption", {}, finding), drawing);

// Widths of a half and of a third of the page, where there is room for as many.
const half = () => (chart.width > 700 ? Math.floor(chart.width / 2) - 12 : chart.width);
const third = () =>
  chart.width > 900
    ? Math.floor(chart.width / 3) - 14
    : chart.width > 560
      ? Math.floor(chart.width / 2) - 12
      : chart.width;

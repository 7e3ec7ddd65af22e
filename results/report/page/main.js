// The page: chapters, what the address says of them, and, where it is served, what is new.

let content;
let live = { under_way: [] };

function currentChapter() {
  return content.chapters.find((chapter) => chapter.name === state.chapter) || content.chapters[0];
}

function render() {
  const main = byId("main");
  chart.width = Math.max(300, Math.min(1120, main.clientWidth || 900));
  const chapter = currentChapter();
  main.latest = null;
  for (const own of main.children) own.classList.remove("current");
  drawHeader(chapter);
  if (chapter) {
    drawFilters(chapter);
    (chapter.kind === "runs" ? drawSuite : drawSweep)(chapter, main);
  } else {
    byId("filters").hidden = true;
    section(main, "summary", [content.empty], () => [
      el("h1", {}, "No records yet"),
      el("p", {}, content.empty || ""),
    ]);
    followed(main);
  }
  for (const own of [...main.children]) if (!own.classList.contains("current")) own.remove();
  for (const own of main.children) own.hidden = !own.firstChild;
  drawFooter();
  drawDrawer(content.chapters);
}

function drawHeader(chapter) {
  const header = byId("header");
  const key = JSON.stringify([content.chapters.map((own) => own.name), chapter?.name]);
  if (header.key === key) return;
  header.key = key;
  const focused = header.contains(document.activeElement) ? document.activeElement.id : null;
  const link = (own, place) =>
    el(
      "a",
      {
        href: `#chapter=${encodeURIComponent(own.name)}`,
        id: `chapter-${place}`,
        "aria-current": own === chapter ? "page" : null,
        on: {
          click: (event) => {
            event.preventDefault();
            turn(own.name);
          },
        },
      },
      own.name,
    );
  const group = (own) => (own?.kind === "costs" ? "costs" : /-tune$/.test(own?.name) ? "tuning" : "suites");
  const links = content.chapters.map((own, place) => {
    const isNew = place > 0 && group(own) !== group(content.chapters[place - 1]);
    return el("li", { class: isNew ? "group" : null }, link(own, place));
  });
  header.replaceChildren(
    el("span", { class: "brand" }, "spherebench"),
    content.chapters.length > 1
      ? el("nav", { "aria-label": "Suites and cost sweeps" }, el("ul", {}, links))
      : "",
  );
  if (focused) byId(focused)?.focus();
  if (chapter) document.title = `${chapter.name} – spherebench report`;
}

// Another chapter: choices in one mean nothing in the next.
function turn(name) {
  history.pushState(null, "", `#chapter=${encodeURIComponent(name)}`);
  render();
  scrollTo(0, 0);
}

function drawFooter() {
  const notes = content.left_out.length
    ? [
        el("h2", {}, "Left out"),
        el(
          "ul",
          {},
          content.left_out.map((sentence) => el("li", {}, sentence)),
        ),
      ]
    : [];
  byId("footer").replaceChildren(
    ...notes,
    el(
      "p",
      {},
      `spherebench ${content.version}. spherebench tables --format csv prints every figure in full precision.`,
    ),
  );
}

// Where the page is served: what is under way.
function followed(main) {
  if (document.body.classList.contains("live")) section(main, "under-way", [live, chart.width], drawUnderWay);
}

// Networks that have logged and have no record yet.
function drawUnderWay() {
  if (!live.under_way.length) return [];
  const cards = live.under_way.map((own) => {
    const losses = own.curve.values.loss || [];
    const done = known(own.step) && own.total_steps ? own.step / own.total_steps : null;
    const finding = `${own.id}: step ${own.step ?? "?"}${own.total_steps ? ` of ${own.total_steps}` : ""}, loss ${short(losses.at(-1))}.`;
    const series = [
      {
        name: "loss",
        ...lookAt(0),
        marks: false,
        points: own.curve.step.map((step, place) => ({ x: step, y: losses[place] })),
      },
    ];
    return el(
      "figure",
      {},
      el(
        "figcaption",
        {},
        el("code", {}, own.id),
        ` step ${own.step ?? "?"}${own.total_steps ? ` of ${own.total_steps}` : ""}`,
      ),
      done !== null && el("progress", { max: 1, value: done, "aria-label": `${own.id}: part done` }),
      chart({
        finding,
        x: { label: "step" },
        y: { label: "loss" },
        series,
        width: third(),
        height: 130,
        names: false,
      }),
    );
  });
  return [
    el("h2", {}, `Under way: ${plural(cards.length, "network")}`),
    el("div", { class: "panels small" }, cards),
  ];
}

// Point at a method anywhere, and the others step back.
function highlight(event) {
  const own = event.type === "pointerover" ? event.target.closest?.("[data-m]")?.dataset.m : undefined;
  document.body.classList.toggle("pointed", own !== undefined);
  for (const other of document.querySelectorAll("[data-m]"))
    other.classList.toggle("meant", other.dataset.m === own);
}

// Ask where the page came from for what is new, twice a second; nothing of it is kept there.
const tags = { "content.json": document.body.dataset.tag };
async function ask(path) {
  const answer = await fetch(path, {
    headers: tags[path] ? { "If-None-Match": tags[path] } : {},
    cache: "no-store",
  });
  if (answer.status === 304 || !answer.ok) return null;
  tags[path] = answer.headers.get("ETag");
  return answer.json();
}

async function follow() {
  try {
    const [records, curves] = [await ask("content.json"), await ask("live.json")];
    if (records) content = records;
    if (curves) live = curves;
    if (records || curves) render();
    byId("status").textContent = "";
    document.body.classList.remove("lost-server");
  } catch {
    document.body.classList.add("lost-server");
    byId("status").textContent = "The server does not answer: what is shown may be old.";
  }
  setTimeout(follow, 250);
}

byId("drawer").addEventListener("cancel", (event) => {
  event.preventDefault();
  closeDrawer();
});
byId("drawer").addEventListener("click", (event) => {
  if (event.target === byId("drawer")) closeDrawer();
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  (document.querySelector("main table") || byId("main")).scrollIntoView();
  byId("main").focus();
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest("details[open]");
  if (open) {
    open.open = false;
    open.firstChild.focus();
  }
});
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("#filters details[open]"))
    if (!open.contains(event.target)) open.open = false;
});
for (const kind of ["pointerover", "pointerleave"])
  document.documentElement.addEventListener(kind, highlight);
let resizing;

// What the page holds is packed: JSON, by gzip, in base 64.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    byId("main").append(el("p", { class: "notice" }, "This page needs a browser of 2023 or later."));
    return;
  }
  content = await unpacked(byId("content").textContent);
  render();
  addEventListener("popstate", render);
  addEventListener("hashchange", render);
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(render, 120);
  });
  if (document.body.classList.contains("live")) follow();
}
start();

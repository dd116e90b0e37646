"use strict";
// Draws what /cluster.json tells: this instance's last quarter of an hour and its peers'. Every text that comes from
// outside becomes text, never markup.

const STEP = 2000, KEPT = 450, ALL = "all";
// Steps of an axis of bytes: 1, 2 and 5 would give odd numbers of MiB.
const BINARY = Array.from({ length: 45 }, (_, at) => 2 ** at);
const SECTIONS = [
  ["Clients", ["connection", "message"]],
  ["Events", ["ingest", "verify"]],
  ["Queries", ["query", "cache"]],
  ["Log and delivery", ["log", "matcher"]],
  ["Store", ["store"]],
  ["Machine", ["machine"]],
];
const TILES = [
  ["Connections", "connections", 0],
  ["Events accepted", "events", 0],
  ["REQs", "requests", 0],
  ["EOSE, p95", "answers", 0],
  ["Delivered live", "deliveries", 0],
  ["Refused", "refusals", 0],
  ["Behind the log", "behind", 0],
  ["Cores used", "processor", 0],
  ["Memory", "memory", 0],
];

const $ = (id) => document.getElementById(id);
const instances = new Map();
let panels = [], own = null, shown = location.hash === "#all" ? ALL : null, charts = [], lost = [], since = 0;

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const short = (number) => {
  const digits = number === 0 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
  return number.toLocaleString("en", { maximumFractionDigits: digits });
};
const scaled = (number, steps, by) => {
  let at = 0;
  while (number >= by && at < steps.length - 1) { number /= by; at += 1; }
  return `${short(number)} ${steps[at]}`;
};
function format(number, unit) {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  switch (unit) {
    case "bytes": return scaled(number, ["B", "KiB", "MiB", "GiB", "TiB"], 1024);
    case "seconds": return number >= 1 ? `${short(number)} s` : number >= 0.001 || number === 0 ? `${short(number * 1e3)} ms` : `${short(number * 1e6)} µs`;
    case "rate": return `${short(number)}/s`;
    default: return short(number);
  }
}
function ago(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const [name, size] = units.find(([, size]) => seconds >= size) || units[3];
  return `${Math.floor(seconds / size)} ${name}`;
}

/* ---- what has come ---- */

function take(cluster) {
  panels = cluster.panels;
  lost = [];
  const seen = new Set();
  for (const told of cluster.instances) {
    if (told.error) { lost.push(told); continue; }
    own = own || told.id;
    seen.add(told.id);
    const known = instances.get(told.id) || { times: [], panels: {} };
    const { times, panels: values } = told.points;
    const last = known.times.at(-1) || 0;
    const from = times.findIndex((time) => time > last);
    if (from >= 0) {
      known.times = known.times.concat(times.slice(from)).slice(-KEPT);
      for (const [id, lines] of Object.entries(values)) {
        const before = known.panels[id] || lines.map(() => []);
        known.panels[id] = lines.map((line, at) => before[at].concat(line.slice(from)).slice(-KEPT));
      }
    }
    instances.set(told.id, Object.assign(known, { told }));
  }
  // The first answer is of the instance that serves this page; one that was restarted has a new name for itself.
  const first = cluster.instances[0];
  if (first && !first.error) own = first.id;
  for (const id of [...instances.keys()]) if (!seen.has(id)) instances.delete(id);
  if (shown !== ALL && !instances.has(shown)) shown = own;
  // Clocks of peers differ a little: what came lately is asked for again, and known points are left out above.
  since = Math.max(0, (instances.get(own)?.times.at(-1) || 0) - 15000);
}

/* ---- charts ---- */

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function linesOf(panel) {
  if (shown !== ALL) return panel.lines.map((line) => line.label);
  return [...instances.values()].map((instance) => instance.told.name);
}

function dataOf(panel) {
  if (shown !== ALL) {
    const { times, panels: values } = instances.get(shown);
    return [times.map((time) => time / 1000), ...values[panel.id]];
  }
  // On the steps of one grid, since instances do not look at the same moment.
  const grid = new Map();
  [...instances.values()].forEach((instance, at) => instance.times.forEach((time, index) => {
    const step = Math.round(time / STEP) * STEP / 1000;
    if (!grid.has(step)) grid.set(step, Array(instances.size).fill(null));
    grid.get(step)[at] = instance.panels[panel.id][0][index];
  }));
  const steps = [...grid.keys()].sort((one, other) => one - other);
  return [steps, ...[...instances.keys()].map((_, at) => steps.map((step) => grid.get(step)[at]))];
}

function chart(panel) {
  const legend = h("div", { class: "legend" });
  const place = h("div", { class: "chart" });
  const title = shown === ALL && panel.lines.length > 1 ? `${panel.title}: ${panel.lines[0].label}` : panel.title;
  const card = h("div", { class: "card", "data-panel": panel.id }, h("h3", {}, title), legend, place);
  const labels = linesOf(panel);
  const values = labels.map((label, at) => {
    const value = h("b", { "data-line": label });
    legend.append(h("span", {}, h("i", { class: `key k${at % 6 + 1}` }), `${label} `, value));
    return value;
  });
  return { panel, card, place, labels, values, plot: null };
}

function draw(chart) {
  const { panel, place, labels, values } = chart;
  const data = dataOf(panel);
  const tell = (index) => values.forEach((value, at) => {
    value.textContent = format(index === null ? latest(data[at + 1]) : data[at + 1][index], panel.unit);
  });
  chart.tell = tell;
  tell(null);
  if (chart.plot) { chart.plot.setData(data); return; }
  const soft = color("--soft"), line = color("--line");
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
  const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  chart.plot = new uPlot({
    width: Math.max(200, place.clientWidth), height: 150, legend: { show: false }, padding: [8, 12, 0, 0],
    cursor: { sync: { key: "time" }, drag: { x: false, y: false }, points: { size: 5 } },
    scales: {
      x: { range: (_, from, to) => [Math.min(from, to - 60), Math.max(to, from + 1)] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] },
    },
    axes: [
      { ...axis, size: 28, space: 70, values: (_, ticks, __, ___, step) => ticks.map((at) => (step < 60 ? clock : minute).format(at * 1000)) },
      { ...axis, size: 62, space: 28, incrs: panel.unit === "bytes" ? BINARY : undefined, values: (_, ticks) => ticks.map((at) => format(at, panel.unit)) },
    ],
    series: [{}, ...labels.map((label, at) => ({
      label, stroke: color(`--c${at % 6 + 1}`), width: at === 0 ? 2 : 1.5, spanGaps: panel.unit === "seconds",
      fill: at === 0 && shown !== ALL ? color("--c1") + "1c" : undefined, points: { show: false },
    }))],
    hooks: { setCursor: [(plot) => chart.tell(plot.cursor.idx ?? null)] },
  }, data, place);
}

const latest = (line) => {
  for (let at = line.length - 1; at >= Math.max(0, line.length - 15); at -= 1) if (line[at] !== null) return line[at];
  return null;
};

function lay() {
  const known = new Set(panels.filter((panel) => instances.get(own).panels[panel.id]).map((panel) => panel.id));
  charts = [];
  const sections = SECTIONS.map(([title, stations]) => {
    const mine = panels.filter((panel) => stations.includes(panel.station) && known.has(panel.id)).map(chart);
    if (!mine.length) return null;
    charts.push(...mine);
    return h("section", {}, h("h2", {}, title), h("div", { class: "grid" }, ...mine.map(({ card }) => card)));
  });
  $("charts").replaceChildren(...sections.filter(Boolean));
}

let laid = "";
function show() {
  if (!own) return;
  const key = [shown, ...(shown === ALL ? instances.keys() : [])].join() + matchMedia("(prefers-color-scheme: dark)").matches;
  if (key !== laid) { lay(); laid = key; }
  charts.forEach(draw);
  heading();
  tiles();
  tables();
  document.body.dataset.drawn = "yes";
}

/* ---- words and numbers ---- */

function heading() {
  const { told } = instances.get(shown === ALL ? own : shown);
  const up = told.now / 1000 - told.started;
  $("about").textContent = shown === ALL
    ? `${instances.size} instances`
    : `${told.name} · ${told.store} · version ${told.version} · up ${ago(up)}`;
  const state = told.health.status;
  $("status").textContent = `${state}, ${ago(told.health.seconds)}`;
  $("status").className = `pill ${state === "ready" ? "good" : state === "draining" ? "warn" : "bad"}`;
  document.title = `${state === "ready" ? "" : `${state}: `}Skein ${told.name}`;

  const several = instances.size + lost.length > 1;
  const button = (id, words, kind) => h("button", { type: "button", class: kind, "aria-pressed": String(shown === id), onclick: () => { shown = id; history.replaceState(null, "", id === ALL ? "#all" : "#"); show(); } }, words);
  $("instances").replaceChildren(...(several ? [
    button(ALL, "All instances"),
    ...[...instances].map(([id, { told }]) => button(id, id === own ? `${told.name} (here)` : told.name)),
    ...lost.map(({ peer }) => h("button", { type: "button", class: "lost", disabled: "" }, `${peer} is silent`)),
  ] : []));

  const notices = [];
  for (const { told } of instances.values()) {
    const who = several ? `${told.name}: ` : "";
    const { health } = told;
    if (health.status === "draining") notices.push(h("div", { class: "notice" }, `${who}draining for ${ago(health.seconds)}: new clients are sent elsewhere`));
    if (health.status === "starting") notices.push(h("div", { class: "notice bad" }, `${who}still starting (for ${ago(health.seconds)})`));
    for (const shared of health.dependencies.filter(({ works }) => !works)) notices.push(h("div", { class: "notice bad" }, `${who}${shared.name} is ${shared.state} (for ${ago(shared.seconds)})`));
  }
  for (const { peer, error } of lost) notices.push(h("div", { class: "notice bad" }, `${peer} does not answer: ${error}`));
  $("notices").replaceChildren(...notices);
  $("clock").textContent = new Date(told.now).toLocaleTimeString("en-GB");
}

function tiles() {
  $("tiles").replaceChildren(...TILES.map(([label, id, line]) => {
    const panel = panels.find((panel) => panel.id === id);
    if (!panel) return null;
    const of = (instance) => latest(instance.panels[id]?.[line] || []);
    let value;
    if (shown === ALL) {
      const all = [...instances.values()].map(of).filter((value) => value !== null);
      // Times of several instances do not add up: the worst is told.
      value = all.length ? (panel.unit === "seconds" ? Math.max(...all) : all.reduce((sum, value) => sum + value, 0)) : null;
    } else value = of(instances.get(shown));
    return h("div", { class: "tile", "data-tile": id }, h("div", { class: "label" }, label), h("div", { class: "value" }, format(value, panel.unit)));
  }).filter(Boolean));
}

function table(title, columns, rows, none) {
  if (!rows.length && none === null) return null;
  const number = (at) => rows.length > 0 && rows.every((row) => row[at].text === undefined && /^[–\d]/.test(row[at]));
  const kind = columns.map((_, at) => (number(at) ? "number" : "word"));
  const cell = (value, at) => h("td", { class: `${kind[at]} ${value.kind || ""}` }, String(value.text ?? value));
  const body = rows.length
    ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...columns.map((name, at) => h("th", { class: kind[at] }, name)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map(cell))))))
    : h("p", { class: "empty" }, none);
  return h("div", { class: "card" }, h("h3", {}, title), body);
}

let cache = null;
function tables() {
  const chosen = shown === ALL ? [...instances.values()] : [instances.get(shown)];
  const told = chosen.map((instance) => instance.told);
  const rows = (list) => told.flatMap((one) => one[list]);
  const slow = rows("slow_queries").sort((one, other) => other.seconds - one.seconds).slice(0, 12);
  const said = new Map();
  for (const { address, messages } of rows("talkers")) said.set(address, (said.get(address) || 0) + messages);
  const talkers = [...said].sort((one, other) => other[1] - one[1]).slice(0, 12);
  const { nodes, health } = told[0];
  $("tables").replaceChildren(...[
    table("Slowest reads of the last hour", ["filter", "form", "time", "at"],
      slow.map(({ shape, form, seconds, at }) => [shape, form, format(seconds, "seconds"), new Date(at * 1000).toLocaleTimeString("en-GB")]),
      "No reads yet."),
    hottest(),
    table("Who sends most", ["address", "messages lately"], talkers.map(([address, messages]) => [{ text: address }, format(messages)]), "Nobody has said much."),
    table("Database servers", ["server", "role", "condition", "behind", "lag", "reads", "open", "idle", "waiting"],
      nodes.map((node) => [{ text: node.node, kind: "word" }, String(node.role).toLowerCase(), { text: String(node.condition).toLowerCase(), kind: /down|behind/i.test(node.condition) ? "bad" : "good" },
        format(node.lag_positions), format(node.lag_seconds, "seconds"), format(node.reads), format(node.connections), format(node.idle), format(node.waiting)]), null),
    table("What it leans on", ["name", "state", "for"],
      health.dependencies.map(({ name, state, works, seconds }) => [{ text: name }, { text: state, kind: works ? "good" : "bad" }, ago(seconds)]), null),
  ].filter(Boolean));
}

function hottest() {
  const list = cache && (cache.hottest || cache.filters || cache.hottest_filters);
  if (!Array.isArray(list) || !list.length) return null;
  const columns = Object.keys(list[0]).slice(0, 6);
  const value = (value) => typeof value === "number" ? short(value) : typeof value === "string" ? value : JSON.stringify(value);
  return table("Hottest filters", columns.map((name) => name.replaceAll("_", " ")), list.slice(0, 12).map((row) => columns.map((name) => value(row[name]))), null);
}

/* ---- the loop ---- */

async function look() {
  try {
    const answer = await fetch(`/cluster.json?since=${since}`);
    if (!answer.ok) throw new Error(`the instance answers ${answer.status}`);
    take(await answer.json());
    const hot = await fetch("/cache.json").catch(() => null);
    cache = hot && hot.ok ? await hot.json().catch(() => null) : null;
    show();
  } catch (error) {
    $("status").textContent = "no answer";
    $("status").className = "pill bad";
    $("notices").replaceChildren(h("div", { class: "notice bad" }, `This instance does not answer (${error.message}). What is shown is old; the page keeps asking.`));
    if (instances.size) charts.forEach(draw);
  }
  setTimeout(look, document.hidden ? 5 * STEP : STEP);
}

new ResizeObserver(() => charts.forEach(({ plot, place }) => plot && plot.setSize({ width: Math.max(200, place.clientWidth), height: 150 }))).observe($("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
look();

// The viewer's page: a canvas of tiles, and the panel beside it. No libraries, nothing from other hosts.
//
// Coordinates of a plane are elements of the finest level: element (i, j) covers [j, j+1) horizontally and [i, i+1)
// vertically. A tile of zoom (zy, zx) has 256 x 256 pixels of 2**zy by 2**zx elements. `look` identifies all settings that
// a tile's picture depends on; tiles with the previous look stay on screen until the new ones are loaded.

const $ = (id) => document.getElementById(id);
const stage = $("stage"), canvas = $("canvas"), context = canvas.getContext("2d");
const KEPT_TILES = 500, AT_ONCE = 6, MAX_SCALE = 64, WIDE_RATIO = 12;

const state = {
  path: "", variable: "", info: null, plane: null, colors: "viridis", reverse: false, low: 0, high: 1, part: "abs", hide: "auto",
  centre: [0, 0], scale: [1, 1], stretched: false, limitsChosen: false, statistics: null, tables: {},
};
const tiles = new Map();  // key -> {look, zy, zx, row, column, status, bitmap, controller, skipped, problem}
let look = "", lookBefore = "", loading = 0, frame = 0, revalidate = false, generation = 0;
let pointer = null;

// Requests to the server

class Problem extends Error {
  constructor(document) { super(document.detail || document.title); this.title = document.title; this.status = document.status; }
}

async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The viewer does not answer", detail: "It may have been stopped: is the program still running?", status: 0 });
  }
  if (answer.ok) return answer;
  let document = { title: `The viewer answered ${answer.status}`, detail: answer.statusText, status: answer.status };
  try { document = { ...document, ...await answer.json() }; } catch { /* no JSON: a proxy's page */ }
  throw new Problem(document);
}

const get = async (address, query = {}, options = {}) => (await ask(`${address}?${new URLSearchParams(query)}`, options)).json();
const place = () => (state.variable ? { path: state.path, variable: state.variable } : { path: state.path });
const axisName = (axis) => (axis === null ? "none" : String(axis));
const planeQuery = () => ({ ...place(), y: axisName(state.plane.y), x: axisName(state.plane.x), at: state.plane.at.join(","), part: state.part, hide: state.hide });

function fail(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) console.error(error);
  $("message-title").textContent = error.title || "Something went wrong in this page";
  $("message-text").textContent = error.message;
  $("message").hidden = false;
  document.body.dataset.state = "error";
}

function forgive() {
  $("message").hidden = true;
  for (const [key, tile] of tiles) if (tile.status === "failed") tiles.delete(key);
  draw();
}

// Nodes

/** List the members of a group; for an array or a multiscale group, those of its parent group. */
async function browse(path) {
  const found = await get("api/nodes", { path });
  if (found.kind === "group" || !path) showMembers(found);
  else {
    const parent = path.split("/").slice(0, -1).join("/");
    await get("api/nodes", { path: parent }).then((above) => showMembers(above, path)).catch(() => showMembers({ ...found, members: [], complete: true }));
  }
  return found;
}

function showMembers({ path, url, members, complete }, shown = path) {
  $("crumbs").dataset.root = url.slice(0, path ? -(path.length + 1) : undefined) || url;
  showCrumbs(shown);
  const list = $("members");
  list.replaceChildren();
  for (const member of members) {
    const below = path ? `${path}/${member.name}` : member.name;
    const button = document.createElement("button");
    button.type = "button";
    const described = { array: () => `${member.dtype} ${member.shape.join("×")}`, unreadable: () => "unreadable" }[member.kind] || (() => member.kind);
    button.append(span(member.name), span(described()));
    button.title = member.error || member.name;
    button.disabled = member.kind === "unreadable";
    button.dataset.path = below;
    button.onclick = () => go(below, member.kind);
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
  }
  if (!complete) list.append(Object.assign(document.createElement("li"), { textContent: `only the first ${count(members.length)} are listed` }));
}

function showCrumbs(path) {
  const crumbs = $("crumbs"), parts = path ? path.split("/") : [];
  crumbs.replaceChildren();
  [crumbs.dataset.root, ...parts].forEach((name, i) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    button.onclick = () => go(parts.slice(0, i).join("/"));
    crumbs.append(...(i ? [" / "] : []), button);
  });
}

function span(text) { return Object.assign(document.createElement("span"), { textContent: text }); }

function markCurrent() {
  showCrumbs(state.path);
  for (const button of $("members").querySelectorAll("button")) {
    button.toggleAttribute("aria-current", button.dataset.path === state.path || button.dataset.path === `${state.path}/${state.variable}`);
  }
}

/** Open the node at a path: an array, a multiscale group, or a group, whose largest array is shown. */
async function go(path, kind, saved = null) {
  const mine = ++generation;
  forgive();
  document.body.dataset.state = "loading";
  try {
    if (kind === "array" && $("members").childElementCount) { await open(path, "", saved); return; }
    const found = await browse(path);
    if (mine !== generation) return;
    if (found.kind === "array") await open(path, "", saved);
    else if (found.kind === "multiscale") await openLevels(path, found, saved);
    else {
      const arrays = found.members.filter((member) => member.kind === "array");
      const size = (member) => member.shape.reduce((a, b) => a * b, 1) * (/^(int|uint|float|bool|complex|datetime|timedelta)/.test(member.dtype) ? 1 : 0);
      const pictures = found.members.filter((member) => member.kind === "multiscale");
      const largest = arrays.reduce((best, member) => (best === null || size(member) > size(best) ? member : best), null);
      const first = pictures[0] || largest;
      if (first) await go(path ? `${path}/${first.name}` : first.name, first.kind === "array" ? "array" : undefined, saved);
      else {
        clearPicture();
        say(found.members.length ? "Choose an array in the panel" : "This group is empty");
        document.body.dataset.state = "idle";
      }
    }
  } catch (error) { if (mine === generation) { clearPicture(); fail(error); } }
}

async function openLevels(path, found, saved) {
  try {
    await open(path, saved?.variable || "", saved);
  } catch (error) {
    const level = found.members.find((member) => member.kind === "group");
    if (!(error instanceof Problem) || error.status !== 404 || !level) throw error;
    const below = await get("api/nodes", { path: path ? `${path}/${level.name}` : level.name });  // the levels are groups
    const variable = below.members.find((member) => member.kind === "array" && member.shape.length > 1) || below.members.find((member) => member.kind === "array");
    if (!variable) throw error;
    await open(path, variable.name, saved);
  }
}

function clearPicture() {
  state.info = null;
  dropTiles();
  $("facts").replaceChildren(); $("sliders").replaceChildren(); $("attributes").textContent = "";
  draw();
}

async function open(path, variable, saved) {
  const mine = generation;
  const info = await get("api/array", variable ? { path, variable } : { path });
  if (mine !== generation) return;
  Object.assign(state, { path, variable, info, part: "abs", limitsChosen: false, statistics: null });
  const ndim = info.shape.length;
  state.plane = saved?.at?.length === ndim ? { y: saved.y, x: saved.x, at: saved.at } : { ...info.plane, at: [...info.plane.at] };
  dropTiles();
  look = lookBefore = "";
  document.title = `${path || info.url.split("/").pop()} – Zarr viewer`;
  markCurrent();
  showFacts(); showAxes(); showSliders();
  $("part-row").hidden = info.kind !== "c";
  $("part").value = "abs";
  if (info.cannot_draw) { say(info.cannot_draw); state.statistics = null; drawHistogram(); document.body.dataset.state = "idle"; fit(); return; }
  if (info.shape.some((n) => n === 0)) { say("This array is empty"); document.body.dataset.state = "idle"; fit(); return; }
  if (saved?.scale) Object.assign(state, { centre: saved.centre, scale: saved.scale, stretched: saved.stretched }); else fit(true);
  $("fill-window").checked = state.stretched;
  if (saved?.limits) { [state.low, state.high] = saved.limits; state.limitsChosen = true; showLimits(); }
  await statistics();
}

async function statistics() {
  const mine = generation;
  const query = planeQuery();
  const found = await get("api/statistics", query, revalidate ? { cache: "no-cache" } : {});
  if (mine !== generation || JSON.stringify(query) !== JSON.stringify(planeQuery())) return;
  state.statistics = found;
  if (!state.limitsChosen) { state.low = found.low; state.high = found.high; }
  showLimits();
  renew();
}

// The panel

const bytes = (n) => { let i = 0; while (n >= 1024 && i < 6) { n /= 1024; i++; } return `${i ? n.toPrecision(3) : n} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][i]}`; };
const count = (n) => n.toLocaleString("en");
const number = (v) => (typeof v !== "number" ? String(v) : v !== 0 && (Math.abs(v) >= 1e7 || Math.abs(v) < 1e-4) ? v.toExponential(4) : String(Number(v.toPrecision(7))));

function list(target, pairs) {
  target.replaceChildren(...pairs.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value })]));
}

function showFacts() {
  const { info } = state;
  list($("facts"), [
    ["shape", info.shape.map(count).join(" × ") || "one element"], ["type", info.dtype], ["chunks", info.chunks.map(count).join(" × ") || "one"],
    ...(info.shards ? [["shards", info.shards.map(count).join(" × ")]] : []),
    ["size", bytes(info.nbytes)], ["fill value", info.fill_value], ["format", `Zarr v${info.zarr_format}`],
    ["levels", info.levels.length === 1 ? "none: elements are picked" : `${info.levels.length}, the coarsest ${info.levels.at(-1).shape.map(count).join(" × ")}`],
  ]);
  $("attributes").textContent = JSON.stringify(info.attributes, null, 2);
}

const nameOf = (axis) => state.info.names[axis] || `dimension ${axis}`;

function showAxes() {
  for (const [id, chosen] of [["axis-y", state.plane.y], ["axis-x", state.plane.x]]) {
    const options = state.info.shape.map((n, axis) => new Option(`${nameOf(axis)} (${count(n)})`, axis));
    $(id).replaceChildren(new Option("none", "none"), ...options);
    $(id).value = axisName(chosen);
  }
}

function showSliders() {
  const box = $("sliders");
  box.replaceChildren();
  state.info.shape.forEach((n, axis) => {
    if (axis === state.plane.y || axis === state.plane.x) return;
    const row = document.createElement("div");
    row.className = "slider";
    const head = Object.assign(document.createElement("div"), { className: "head" });
    const title = Object.assign(document.createElement("b"), { textContent: nameOf(axis) });
    head.append(title, span(`0 to ${count(Math.max(0, n - 1))}`));
    const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: Math.max(0, n - 1), step: 1, value: state.plane.at[axis] });
    const field = Object.assign(document.createElement("input"), { type: "number", min: 0, max: Math.max(0, n - 1), step: 1, value: state.plane.at[axis] });
    range.setAttribute("aria-label", `Index of ${nameOf(axis)}`);
    field.setAttribute("aria-label", `Index of ${nameOf(axis)} as a number`);
    row.dataset.axis = axis;
    const set = (value) => {
      const index = Math.min(Math.max(0, Math.round(Number(value) || 0)), Math.max(0, n - 1));
      range.value = field.value = index;
      if (state.plane.at[axis] === index) return;
      state.plane.at[axis] = index;
      renew();
      clearTimeout(showSliders.timer);
      showSliders.timer = setTimeout(() => { if (state.info) statistics().catch(() => {}); }, 300);  // the histogram follows when the slider rests
      if (pointer) probe(pointer);
    };
    range.oninput = () => set(range.value);
    field.onchange = () => set(field.value);
    const step = (by, text) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      button.setAttribute("aria-label", `${by < 0 ? "Previous" : "Next"} index of ${nameOf(axis)}`);
      button.onclick = () => set(state.plane.at[axis] + by);
      return button;
    };
    const line = Object.assign(document.createElement("div"), { className: "row" });
    line.append(step(-1, "‹"), range, step(1, "›"), field);
    row.append(head, line);
    box.append(row);
  });
}

function chooseAxes(y, x) {
  const { plane } = state;
  if (y !== null && y === x) [y, x] = y === plane.y ? [plane.x, x] : [y, plane.y];  // the one that was taken goes to the other
  Object.assign(plane, { y, x });
  showAxes(); showSliders(); fit(true);
  $("fill-window").checked = state.stretched;
  state.limitsChosen = false;
  refreshStatistics();
}

function refreshStatistics() {
  if (!drawable()) return;
  forgive();
  statistics().catch(fail);
}

const drawable = () => state.info && !state.info.cannot_draw && !state.info.shape.some((n) => n === 0);

function showLimits() {
  $("low").value = number(state.low);
  $("high").value = number(state.high);
  drawHistogram();
}

function setLimits(low, high) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) { showLimits(); return; }
  [state.low, state.high] = low <= high ? [low, high] : [high, low];
  state.limitsChosen = true;
  showLimits();
  renew();
}

function tableOf() {
  const hex = state.tables[state.colors];
  if (!hex) return (t) => `rgb(${t * 255} ${t * 255} ${t * 255})`;
  return (t) => {
    const i = Math.max(0, Math.min(254, Math.round((state.reverse ? 1 - t : t) * 254)));
    return `#${hex.slice(6 * i, 6 * i + 6)}`;
  };
}

function sized(target) {
  const ratio = devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = target;
  if (target.width !== Math.round(width * ratio) || target.height !== Math.round(height * ratio)) {
    target.width = Math.round(width * ratio); target.height = Math.round(height * ratio);
  }
  const painter = target.getContext("2d");
  painter.setTransform(ratio, 0, 0, ratio, 0, 0);
  painter.clearRect(0, 0, width, height);
  return [painter, width, height];
}

function histogramScale() {
  const { statistics: s, low, high } = state;
  let first = Math.min(s.first, low), last = Math.max(s.last, high);
  if (!(last > first)) last = first + 1;
  const margin = (last - first) * 0.03;
  return [first - margin, last + margin];
}

function drawHistogram() {
  const [painter, width, height] = sized($("histogram"));
  const s = state.statistics;
  const style = getComputedStyle(document.documentElement);
  painter.font = "11px system-ui, sans-serif";
  painter.fillStyle = style.getPropertyValue("--soft");
  if (!s || !state.info) return;
  if (s.min === null) { painter.fillText("nothing but NaN or fill in the sample", 4, height / 2); return; }
  const [first, last] = histogramScale(), color = tableOf(), bar = 12, base = height - bar - 4;
  const at = (v) => (v - first) / (last - first) * width;
  const most = Math.max(1, ...s.counts.map((n) => Math.sqrt(n))), step = (s.last - s.first) / s.counts.length;
  s.counts.forEach((n, i) => {
    const value = s.first + (i + 0.5) * step, t = state.high > state.low ? (value - state.low) / (state.high - state.low) : value > state.low ? 1 : 0;
    painter.fillStyle = t < 0 || t > 1 ? style.getPropertyValue("--line") : color(t);
    const left = at(s.first + i * step), tall = Math.sqrt(n) / most * (base - 8);
    painter.fillRect(left, base - tall, Math.max(1, at(s.first + (i + 1) * step) - left - 0.4), tall);
  });
  for (let x = 0; x < width; x++) {
    const value = first + x / width * (last - first), t = state.high > state.low ? (value - state.low) / (state.high - state.low) : value > state.low ? 1 : 0;
    painter.fillStyle = color(Math.max(0, Math.min(1, t)));
    painter.fillRect(x, base + 4, 1, bar);
  }
  painter.strokeStyle = painter.fillStyle = style.getPropertyValue("--ink");
  for (const value of [state.low, state.high]) {
    const x = at(value);
    painter.beginPath(); painter.moveTo(x, 4); painter.lineTo(x, height); painter.lineWidth = 1.5; painter.stroke();
    painter.beginPath(); painter.arc(x, 6, 4.5, 0, 7); painter.fill();
  }
}

function dragLimits() {
  const target = $("histogram");
  let which = null;
  const valueAt = (event) => {
    const [first, last] = target.scale, box = target.getBoundingClientRect();
    return first + (event.clientX - box.left) / box.width * (last - first);
  };
  target.onpointerdown = (event) => {
    if (!state.statistics) return;
    target.scale = histogramScale();
    const value = valueAt(event);
    which = Math.abs(value - state.low) <= Math.abs(value - state.high) ? "low" : "high";
    if (state.low === state.high) which = value < state.low ? "low" : "high";
    target.setPointerCapture(event.pointerId);
    target.onpointermove(event);
  };
  target.onpointermove = (event) => {
    if (which === null) return;
    const value = valueAt(event);
    if (which === "low") setLimits(Math.min(value, state.high), state.high); else setLimits(state.low, Math.max(value, state.low));
  };
  target.onpointerup = target.onpointercancel = () => { which = null; };
  target.ondblclick = automatic;
}

function automatic() {
  if (!state.statistics) return;
  state.limitsChosen = false;
  [state.low, state.high] = [state.statistics.low, state.statistics.high];
  showLimits();
  renew();
}

// Where the plane is on the screen

const extent = () => {
  const { plane, info } = state;
  return [plane.x === null ? 1 : info.shape[plane.x], plane.y === null ? 1 : info.shape[plane.y]];
};

/** Show the whole plane. `decide`: also decide whether it is stretched to the window. */
function fit(decide = false) {
  if (!state.info || !state.plane) return;
  const [nx, ny] = extent(), width = stage.clientWidth, height = stage.clientHeight;
  if (!nx || !ny || !width || !height) { draw(); return; }
  if (decide) state.stretched = Math.max(nx / ny, ny / nx) > WIDE_RATIO;
  let sx = (width - 32) / nx, sy = (height - 32) / ny;
  if (!state.stretched) sx = sy = Math.min(sx, sy, MAX_SCALE);
  else if (state.plane.y === null || ny === 1) sy = Math.min(sy, 160);
  state.scale = [sx, sy];
  state.centre = [nx / 2, ny / 2];
  moved();
}

function zoomBy(factor, at = [stage.clientWidth / 2, stage.clientHeight / 2]) {
  if (!state.info) return;
  const [nx, ny] = extent();
  const least = Math.min(1, 64 / (Math.max(nx, ny) * Math.max(...state.scale))) , most = Math.max(1, MAX_SCALE * (state.stretched ? 8 : 1) / Math.max(Math.min(...state.scale), 1e-12));
  const f = Math.min(Math.max(factor, least), most);
  const world = toWorld(at);
  state.scale = state.scale.map((s) => s * f);
  state.centre = [world[0] - (at[0] - stage.clientWidth / 2) / state.scale[0], world[1] - (at[1] - stage.clientHeight / 2) / state.scale[1]];
  moved();
}

function toWorld([px, py]) {
  return [state.centre[0] + (px - stage.clientWidth / 2) / state.scale[0], state.centre[1] + (py - stage.clientHeight / 2) / state.scale[1]];
}

function panBy(dx, dy) {
  state.centre = [state.centre[0] - dx / state.scale[0], state.centre[1] - dy / state.scale[1]];
  moved();
}

function moved() {
  const [nx, ny] = extent();
  state.centre = [Math.min(Math.max(state.centre[0], 0), nx), Math.min(Math.max(state.centre[1], 0), ny)];
  draw();
  remember();
}

// Tiles

/** Called when a setting that tiles depend on has changed. */
function renew() {
  if (!drawable()) return;
  const query = { ...planeQuery(), colors: state.colors, reverse: state.reverse ? 1 : 0, low: state.low, high: state.high, thin: 1 };
  const next = String(new URLSearchParams(query));
  if (next !== look) {
    if ([...tiles.values()].some((tile) => tile.look === look && tile.status === "ready")) lookBefore = look;
    look = next;
  }
  $("message").hidden = true;
  draw();
  remember();
}

function zooms() {
  const ratio = devicePixelRatio || 1;  // a little too fine looks better than a little too coarse
  return state.scale.map((s) => Math.max(0, Math.min(62, Math.floor(0.25 - Math.log2(s * ratio))))).reverse();  // down, across
}

function visible(zy, zx) {
  const [nx, ny] = extent(), size = state.info.tile;
  const [left, top] = toWorld([0, 0]), [right, bottom] = toWorld([stage.clientWidth, stage.clientHeight]);
  const wide = size * 2 ** zx, tall = size * 2 ** zy, found = [];
  const lastColumn = Math.floor((nx - 1) / wide), lastRow = Math.floor((ny - 1) / tall);
  for (let row = Math.max(0, Math.floor(top / tall)); row <= Math.min(lastRow, Math.floor(bottom / tall)); row++) {
    for (let column = Math.max(0, Math.floor(left / wide)); column <= Math.min(lastColumn, Math.floor(right / wide)); column++) found.push([row, column]);
  }
  const middle = [state.centre[1] / tall - 0.5, state.centre[0] / wide - 0.5];
  return found.sort((a, b) => Math.hypot(a[0] - middle[0], a[1] - middle[1]) - Math.hypot(b[0] - middle[0], b[1] - middle[1]));
}

const keyOf = (zy, zx, row, column) => `${look}|${zy},${zx}/${row}/${column}`;

function dropTiles() {
  for (const tile of tiles.values()) { tile.controller?.abort(); tile.bitmap?.close(); }
  tiles.clear();
}

function draw() { if (!frame) frame = requestAnimationFrame(paint); }

function paint() {
  frame = 0;
  const ratio = devicePixelRatio || 1, width = stage.clientWidth, height = stage.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!drawable() || !look) return;
  const [zy, zx] = zooms();
  const wanted = visible(zy, zx).map(([row, column]) => [keyOf(zy, zx, row, column), row, column]);
  const isWanted = new Set(wanted.map(([key]) => key));
  for (const [key, tile] of tiles) if (tile.status === "loading" && !isWanted.has(key)) { tile.controller.abort(); tiles.delete(key); }

  const missing = wanted.filter(([key]) => tiles.get(key)?.status !== "ready");
  if (missing.length) {  // until they are loaded, draw other tiles of these areas, from coarse to fine
    const others = [...tiles.values()].filter((tile) => tile.status === "ready" && (tile.look === look || tile.look === lookBefore));
    others.sort((a, b) => (a.look === look) - (b.look === look) || b.zy + b.zx - a.zy - a.zx);
    for (const tile of others) put(tile, ratio, false);
  }
  let ready = 0, failed = null, skipped = null;
  for (const [key] of wanted) {
    const tile = tiles.get(key);
    if (!tile) continue;
    tile.used = performance.now();
    if (tile.status === "ready") { ready++; put(tile, ratio, missing.length > 0); skipped ||= tile.skipped; }
    else if (tile.status === "failed") { failed ||= tile; putFailed(tile, ratio); }
  }
  outline(ratio);
  load(wanted, zy, zx);
  tell(wanted.length, ready, failed, skipped);
}

function box(tile, ratio) {
  const size = state.info.tile, [nx, ny] = extent(), [sx, sy] = state.scale;
  const x0 = tile.column * size * 2 ** tile.zx, y0 = tile.row * size * 2 ** tile.zy;
  // The last pixel of a coarse tile may extend beyond the plane: it is drawn at full size and clipped at the edge.
  const x1 = x0 + (tile.bitmap ? tile.bitmap.width : size) * 2 ** tile.zx, y1 = y0 + (tile.bitmap ? tile.bitmap.height : size) * 2 ** tile.zy;
  const device = (world, centre, scale, length) => ((world - centre) * scale + length / 2) * ratio;
  return {
    x: device(x0, state.centre[0], sx, stage.clientWidth), y: device(y0, state.centre[1], sy, stage.clientHeight),
    right: device(x1, state.centre[0], sx, stage.clientWidth), bottom: device(y1, state.centre[1], sy, stage.clientHeight),
    cutRight: device(Math.min(x1, nx), state.centre[0], sx, stage.clientWidth), cutBottom: device(Math.min(y1, ny), state.centre[1], sy, stage.clientHeight),
  };
}

function put(tile, ratio, clear) {
  const b = box(tile, ratio);
  if (b.cutRight < 0 || b.cutBottom < 0 || b.x > canvas.width || b.y > canvas.height) return;
  const x = Math.round(b.x), y = Math.round(b.y), right = Math.round(b.cutRight), bottom = Math.round(b.cutBottom);
  const { width, height } = tile.bitmap;
  const usedX = width * (b.cutRight - b.x) / (b.right - b.x), usedY = height * (b.cutBottom - b.y) / (b.bottom - b.y);
  if (clear) context.clearRect(x, y, Math.max(1, right - x), Math.max(1, bottom - y));
  context.imageSmoothingEnabled = (b.right - b.x) < width * 0.95;  // elements stay squares when they are magnified
  context.drawImage(tile.bitmap, 0, 0, usedX, usedY, x, y, Math.max(1, right - x), Math.max(1, bottom - y));
}

function putFailed(tile, ratio) {
  const b = box(tile, ratio);
  context.save();
  context.globalAlpha = 0.25;
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--bad");
  context.lineWidth = ratio;
  context.beginPath(); context.rect(b.x, b.y, b.cutRight - b.x, b.cutBottom - b.y); context.clip();
  for (let i = b.x - (b.bottom - b.y); i < b.right; i += 12 * ratio) { context.moveTo(i, b.y); context.lineTo(i + (b.bottom - b.y), b.bottom); }
  context.stroke();
  context.restore();
}

function outline(ratio) {
  const [nx, ny] = extent(), [sx, sy] = state.scale;
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--soft");
  context.globalAlpha = 0.5;
  context.lineWidth = 1;
  context.strokeRect(Math.round((-state.centre[0] * sx + stage.clientWidth / 2) * ratio) - 0.5, Math.round((-state.centre[1] * sy + stage.clientHeight / 2) * ratio) - 0.5,
    Math.round(nx * sx * ratio) + 1, Math.round(ny * sy * ratio) + 1);
  context.globalAlpha = 1;
}

function load(wanted, zy, zx) {
  for (const [key, row, column] of wanted) {
    if (loading >= AT_ONCE) return;
    if (!tiles.has(key)) loadTile(key, { look, zy, zx, row, column, status: "loading", controller: new AbortController(), used: performance.now() });
  }
}

async function loadTile(key, tile) {
  tiles.set(key, tile);
  loading++;
  try {
    const options = { signal: tile.controller.signal, ...(revalidate ? { cache: "no-cache" } : {}) };
    const answer = await ask(`api/tile/${tile.zy},${tile.zx}/${tile.row}/${tile.column}.png?${tile.look}`, options);
    tile.skipped = answer.headers.get("X-Skipped-Chunks");
    const bitmap = await createImageBitmap(await answer.blob());
    if (tiles.get(key) !== tile) { bitmap.close(); return; }
    tile.bitmap = bitmap;
    tile.status = "ready";
    if (tiles.size > KEPT_TILES) evict();
  } catch (error) {
    if (tiles.get(key) !== tile) return;
    if (error.name === "AbortError") { tiles.delete(key); return; }
    tile.status = "failed";
    tile.problem = error;
  } finally {
    loading--;
    draw();
  }
}

function evict() {
  const old = [...tiles].filter(([, tile]) => tile.status !== "loading").sort((a, b) => a[1].used - b[1].used);
  for (const [key, tile] of old.slice(0, KEPT_TILES / 5)) { tile.bitmap?.close(); tiles.delete(key); }
}

function tell(total, ready, failed, skipped) {
  const [zy, zx] = zooms();
  const percent = state.scale[0] * 100;  // across, where the plane is stretched
  $("zoom-level").textContent = percent >= 1 ? `${percent >= 10 ? Math.round(percent) : percent.toFixed(1)}%` : `1:${count(Math.round(100 / percent))}`;
  $("progress").style.width = `${total ? 100 * ready / total : 100}%`;
  if (failed) { if ($("message").hidden && !failed.told) { failed.told = true; fail(failed.problem); } }
  const busy = ready < total && !failed;
  document.body.dataset.state = failed ? "error" : busy ? "loading" : "idle";
  if (!busy && !failed) revalidate = false;
  document.body.dataset.zoom = `${zy},${zx}`;
  if (skipped) {
    const [left, all] = skipped.split("/").map(Number);
    say(`Preview from ${count(all - left)} of ${count(all)} chunks per tile: zoom in for all of them`);
  } else say("");
}

function say(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// The value under the cursor

const probing = { controller: null, timer: 0, last: "" };

function probe(at) {
  if (!state.info || !state.plane) return;
  const [wx, wy] = toWorld(at), [nx, ny] = extent(), { plane, info } = state;
  const column = Math.floor(wx), row = Math.floor(wy);
  if (column < 0 || row < 0 || column >= nx || row >= ny) { clearProbe(); return; }
  const index = [...plane.at];
  if (plane.x !== null) index[plane.x] = column;
  if (plane.y !== null) index[plane.y] = row;
  const name = `${state.path}|${state.variable}|${index}`;
  if (name === probing.last) return;
  probing.last = name;
  probing.controller?.abort();
  clearTimeout(probing.timer);
  showWhere(index, info.shape.map(() => null));
  $("value").textContent = "…";
  probing.timer = setTimeout(async () => {
    probing.controller = new AbortController();
    try {
      const found = await get("api/value", { ...place(), at: index.join(",") }, { signal: probing.controller.signal });
      if (probing.last !== name) return;
      showWhere(index, found.coordinates);
      $("value").textContent = found.text;
    } catch (error) {
      if (error.name !== "AbortError" && probing.last === name) { $("value").textContent = error.title || "?"; probing.last = ""; }
    }
  }, 50);
}

function showWhere(index, coordinates) {
  const parts = index.flatMap((i, axis) => {
    const bold = Object.assign(document.createElement("b"), { textContent: count(i) });
    return [axis ? ", " : "", `${state.info.names[axis] || axis} `, bold, ...(coordinates[axis] === null ? [] : [` (${coordinates[axis]})`])];
  });
  $("where").replaceChildren(...(parts.length ? parts : ["the element"]));
}

function clearProbe() {
  probing.controller?.abort();
  clearTimeout(probing.timer);
  probing.last = "";
  $("value").textContent = "";
  $("where").textContent = "Move over the picture to read values";
}

// Input events

function hands() {
  const down = new Map();
  const at = (event) => { const b = stage.getBoundingClientRect(); return [event.clientX - b.left, event.clientY - b.top]; };
  stage.addEventListener("pointerdown", (event) => {
    if (event.target !== stage && event.target !== canvas) return;
    down.set(event.pointerId, at(event));
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("dragging");
  });
  stage.addEventListener("pointermove", (event) => {
    const now = at(event);
    if (down.has(event.pointerId)) {
      const before = down.get(event.pointerId);
      if (down.size === 1) panBy(now[0] - before[0], now[1] - before[1]);
      else if (down.size === 2) {
        const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
        const wide = (a) => Math.max(8, Math.hypot(a[0] - other[0], a[1] - other[1]));
        const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
        const from = middle(before), to = middle(now);
        panBy(to[0] - from[0], to[1] - from[1]);
        zoomBy(wide(now) / wide(before), to);
      }
      down.set(event.pointerId, now);
    }
    pointer = now;
    if (event.target === stage || event.target === canvas) probe(now); else clearProbe();
  });
  const up = (event) => { down.delete(event.pointerId); if (!down.size) stage.classList.remove("dragging"); };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => { pointer = null; clearProbe(); });
  stage.addEventListener("dblclick", (event) => { if (event.target === canvas || event.target === stage) zoomBy(2, at(event)); });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 400 : 1;
    zoomBy(Math.exp(-Math.max(-400, Math.min(400, event.deltaY * unit)) * (event.ctrlKey ? 0.01 : 0.002)), at(event));
    if (pointer) probe(pointer);
  }, { passive: false });
  const keys = {
    ArrowLeft: () => panBy(80, 0), ArrowRight: () => panBy(-80, 0), ArrowUp: () => panBy(0, 80), ArrowDown: () => panBy(0, -80),
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: () => fit(), 1: natural,
    "[": () => stepSlider(-1), "]": () => stepSlider(1), x: () => $("swap").click(), a: automatic, r: refresh, p: () => $("toggle").click(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const action = keys[event.key];
    if (!action || (event.key.startsWith("Arrow") && event.target !== stage && event.target !== document.body)) return;
    event.preventDefault();
    action();
    if (/^(Arrow|[-+=01[\]])/.test(event.key)) probe([stage.clientWidth / 2, stage.clientHeight / 2]);
  });
}

function natural() {
  if (!state.info) return;
  const ratio = devicePixelRatio || 1;
  state.stretched = false;
  $("fill-window").checked = false;
  state.scale = [1 / ratio, 1 / ratio];
  moved();
}

function stepSlider(by) {
  const buttons = $("sliders").querySelector(".slider")?.querySelectorAll("button");
  if (buttons) buttons[by < 0 ? 0 : 1].click();
}

async function refresh() {
  if (!state.info) { go(state.path); return; }
  revalidate = true;
  try {
    const info = await get("api/array", place(), { cache: "no-cache" });
    const grown = JSON.stringify(info.shape) !== JSON.stringify(state.info.shape);
    state.info = info;
    if (grown) { state.plane.at = state.plane.at.map((i, axis) => Math.min(i, Math.max(0, info.shape[axis] - 1))); showSliders(); showAxes(); }
    showFacts();
    for (const tile of tiles.values()) { if (tile.status === "loading") tile.controller.abort(); tile.look = tile.look === look ? `${look}&` : tile.look; }
    const before = [...tiles.values()];
    tiles.clear();
    before.filter((tile) => tile.status === "ready").forEach((tile, i) => tiles.set(`before ${i}`, tile));
    lookBefore = `${look}&`;
    refreshStatistics();
  } catch (error) { fail(error); }
}

// State in the URL, so that a reload or a bookmark shows the same view

function remember() {
  clearTimeout(remember.timer);
  remember.timer = setTimeout(() => {
    if (!state.info || !state.plane) return;
    const kept = {
      path: state.path, y: axisName(state.plane.y), x: axisName(state.plane.x), at: state.plane.at.join(","), colors: state.colors,
      centre: state.centre.map((v) => +v.toPrecision(9)).join(","), scale: state.scale.map((v) => +v.toPrecision(6)).join(","),
      ...(state.variable ? { variable: state.variable } : {}), ...(state.reverse ? { reverse: 1 } : {}), ...(state.stretched ? { stretched: 1 } : {}),
      ...(state.limitsChosen ? { limits: `${state.low},${state.high}` } : {}),
    };
    history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  }, 250);
}

function remembered() {
  const kept = new URLSearchParams(location.hash.slice(1));
  if (!kept.has("path")) return null;
  const numbers = (name) => { const found = (kept.get(name) || "").split(",").map(Number); return kept.get(name) && found.every(Number.isFinite) ? found : null; };
  const axis = (name) => (/^\d+$/.test(kept.get(name) || "") ? Number(kept.get(name)) : null);
  const two = (found) => (found?.length === 2 ? found : null);
  const scale = two(numbers("scale")), centre = two(numbers("centre"));
  return {
    path: kept.get("path"), variable: kept.get("variable") || "", y: axis("y"), x: axis("x"), at: numbers("at") || [], colors: kept.get("colors"),
    reverse: kept.has("reverse"), limits: two(numbers("limits")), stretched: kept.has("stretched"),
    ...(scale && centre && scale.every((s) => s > 0) ? { scale, centre } : {}),
  };
}

// Metrics of the session

const rates = [];

async function figures() {
  if (document.visibilityState === "visible") {
    try {
      const f = await get("api/session");
      const looked = f.cache_hits + f.cache_misses, before = rates.at(-1);
      rates.push({ time: performance.now(), bytes: f.bytes_received, requests: f.requests });
      if (rates.length > 61) rates.shift();
      const seconds = before ? (rates.at(-1).time - before.time) / 1000 : 1;
      const rate = before ? (f.bytes_received - before.bytes) / seconds : 0;
      list($("figures"), [
        ["requests", count(f.requests)], ["received", bytes(f.bytes_received)], ["now", `${bytes(Math.round(rate))}/s`],
        ["in flight", `${f.in_flight} of ${f.requests_limit}${f.waiting ? `, ${count(f.waiting)} waiting` : ""}`],
        ["chunks from the cache", looked ? `${count(f.cache_hits)} (${Math.round(100 * f.cache_hits / looked)}%)` : "none yet"],
        ["cached", bytes(f.cached_bytes)], ["shared reads", count(f.shared_reads)], ["tiles", `${count(f.tiles)}${f.unchanged_tiles ? `, ${count(f.unchanged_tiles)} unchanged` : ""}`],
        ["retries, errors", `${count(f.retries)}, ${count(f.errors)}`],
      ]);
      drawRate();
    } catch { list($("figures"), [["viewer", "does not answer"]]); }
  }
  setTimeout(figures, 1000);
}

function drawRate() {
  const [painter, width, height] = sized($("rate"));
  const speeds = rates.slice(1).map((r, i) => Math.max(0, (r.bytes - rates[i].bytes) / (r.time - rates[i].time)));
  const most = Math.max(1e-9, ...speeds), step = width / 60;
  painter.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  painter.globalAlpha = 0.8;
  speeds.forEach((speed, i) => { const tall = Math.max(speed > 0 ? 1 : 0, speed / most * (height - 2)); painter.fillRect(width - (speeds.length - i) * step, height - tall, Math.max(1, step - 1), tall); });
  painter.globalAlpha = 0.3;
  painter.fillRect(0, height - 1, width, 1);
}

// Start

function wire() {
  hands(); dragLimits();
  $("retry").onclick = () => { forgive(); if (state.info) refreshStatistics(); else go(state.path); };
  $("dismiss").onclick = () => { $("message").hidden = true; };
  $("zoom-in").onclick = () => zoomBy(1.5);
  $("zoom-out").onclick = () => zoomBy(1 / 1.5);
  $("fit").onclick = () => fit();
  $("one").onclick = natural;
  $("auto").onclick = automatic;
  $("refresh").onclick = refresh;
  $("swap").onclick = () => { if (state.plane) chooseAxes(state.plane.x, state.plane.y); };
  $("toggle").onclick = () => { const wide = document.body.classList.toggle("wide"); $("toggle").setAttribute("aria-expanded", String(!wide)); draw(); };
  const axis = (id) => ($(id).value === "none" ? null : Number($(id).value));
  $("axis-y").onchange = () => { const y = axis("axis-y"); chooseAxes(y, y !== null && y === state.plane.x ? state.plane.y : state.plane.x); };
  $("axis-x").onchange = () => { const x = axis("axis-x"); chooseAxes(x !== null && x === state.plane.y ? state.plane.x : state.plane.y, x); };
  $("fill-window").onchange = () => { state.stretched = $("fill-window").checked; fit(); };
  $("colors").onchange = () => { state.colors = $("colors").value; drawHistogram(); renew(); };
  $("reverse").onchange = () => { state.reverse = $("reverse").checked; drawHistogram(); renew(); };
  $("low").onchange = $("high").onchange = () => setLimits(Number($("low").value.trim() || NaN), Number($("high").value.trim() || NaN));
  $("part").onchange = () => { state.part = $("part").value; if (state.part === "phase") { state.colors = $("colors").value = "cyclic"; } state.limitsChosen = false; refreshStatistics(); };
  $("hide").onchange = () => { state.hide = $("hide").value; refreshStatistics(); };
  new ResizeObserver(() => { draw(); drawHistogram(); }).observe(stage);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); drawHistogram(); drawRate(); });
  if (innerWidth <= 720) $("toggle").click();
}

async function begin() {
  wire();
  const saved = remembered();
  try {
    state.tables = await get("api/colors");
    $("colors").replaceChildren(...Object.keys(state.tables).map((name) => new Option(name, name)));
    if (saved && saved.colors in state.tables) state.colors = saved.colors;
    state.reverse = Boolean(saved?.reverse);
    $("colors").value = state.colors; $("reverse").checked = state.reverse;
    $("hide").value = state.hide;
  } catch (error) { fail(error); return; }
  figures();
  state.path = saved?.path || "";
  await go(state.path, undefined, saved);
}

addEventListener("hashchange", () => { const saved = remembered(); if (saved && saved.path !== state.path) go(saved.path, undefined, saved); });
window.viewer = { state, tiles, toWorld, zooms, extent };
begin();

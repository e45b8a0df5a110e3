"use strict";

const GRID = 24;      // pictures on a page of seeds
const AT_ONCE = 4;    // pictures of the grid in one request
const REACH = 3;      // ends of the sliders of directions, in standard deviations
const PAUSE = 2000;    // milliseconds that end a series of changes of one slider, such as by arrow keys
const LAST_SEED = Number.MAX_SAFE_INTEGER;
const page = Array.from(crypto.getRandomValues(new Uint32Array(2)), n => n.toString(36)).join("");
const by = id => document.getElementById(id);

let run = null;        // what the server says of the run
let point = null;      // what is shown or about to be
let drawn = null;      // the point of the picture that is shown
let history = [];      // committed points
let at = -1;           // the place of the present one in the history
let start = 0;         // the first seed of the grid
let ends = { a: null, b: null };
let picked = { a: null, b: null };      // the parts of the latent when the ends were picked
let slid = { control: null, time: 0 };  // the last slider that was changed
let known = null;      // the checkpoints that exist
let search = null;     // number of the search in progress

// Requests ------------------------------------------------------------------------------------------------------------

async function ask(path, body, method = "POST") {
  const options = { method, cache: "no-store" };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) options.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(`${path}${path.includes("?") ? "&" : "?"}page=${page}`, options);
  } catch {
    throw new Error("The server does not answer. Is gancore explore still running?");
  }
  if (answer.status === 204) return null;
  if (!answer.ok) throw new Error(await answer.text());
  if (answer.headers.get("content-type") === "image/png") return answer.blob();
  const document = await answer.json();
  if (document && document.problem && document.hint !== undefined)
    throw new Error(document.hint ? `${document.problem}. Next: ${document.hint}` : document.problem);
  return document;
}

function complain(error) {
  by("problem").textContent = error ? error.message : "";
  by("problem").hidden = !error;
}

const later = (milliseconds, act) => {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
};

// At most one request at a time; while it runs, only the newest wish is kept.
function newest(act) {
  let wish = null, busy = false;
  return async value => {
    wish = { value };
    if (busy) return;
    busy = true;
    while (wish) {
      const { value: next } = wish;
      wish = null;
      try { await act(next); } catch (error) { complain(error); }
    }
    busy = false;
  };
}

// The point -----------------------------------------------------------------------------------------------------------

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const nameOf = base => typeof base === "number" ? `seed ${base}` : "found picture";
const labelOf = name => name.startsWith("best") ? "best" : `step ${Number(name.match(/\d+/)[0]).toLocaleString("en")}`;

function describe(p) {
  const parts = [p.other !== null && p.amount > 0
    ? `${nameOf(p.base)} to ${nameOf(p.other)}, ${Math.round(100 * p.amount)} %` : nameOf(p.base)];
  if (p.condition !== null) parts.push(run.classes.length ? `class ${run.classes[p.condition]}` : `condition ${p.condition + 1}`);
  if (p.truncation < 1) parts.push(`truncation ${p.truncation}`);
  for (const [number, amount] of Object.entries(p.moves)) parts.push(`direction ${number}: ${signed(amount)}`);
  parts.push(labelOf(p.checkpoint));
  if (p.raw) parts.push("raw");
  if (p.ema !== null) parts.push(`average over ${p.ema} kimg`);
  return parts.join(" · ");
}

const kindOf = ({ raw = false, ema = null }) => ({ raw, ema });
const weightsOf = p => JSON.stringify([p.checkpoint, kindOf(p)]);
const signed = amount => (amount > 0 ? "+" : amount < 0 ? "−" : "") + Math.abs(amount).toFixed(1);

function set(changes, commit = true, control = null) {
  point = { ...point, ...changes };
  if (commit && !same(point, history[at])) {
    const now = performance.now();
    const continues = control && control === slid.control && now - slid.time < PAUSE && at === history.length - 1;
    history = [...history.slice(0, continues ? at : at + 1), point].slice(-500);
    at = history.length - 1;
    slid = { control, time: now };
  }
  showControls();
  draw(point);
  afterChange();
}

function travel(by_) {
  if (!history[at + by_]) return;
  at += by_;
  slid.control = null;
  point = history[at];
  showControls();
  draw(point);
  afterChange();
}

const draw = newest(async wanted => {
  by("picture").parentElement.classList.add("busy");
  try {
    const png = await ask("picture", { point: wanted });
    if (!png) return;
    await showPicture(png, wanted);
    complain(null);
  } catch (error) {
    if (drawn && point === wanted) { // else a newer wish is drawn next
      if (weightsOf(drawn) !== weightsOf(wanted)) error.message += ` Still showing ${labelOf(drawn.checkpoint)}.`;
      const place = history.findLastIndex(each => same(each, drawn)); // what failed stays, for Redo or Undo
      if (place >= 0) at = place;
      else if (same(history[at], wanted)) history[at] = drawn;
      point = drawn;
      showControls();
      afterChange();
    }
    refreshCheckpoints();
    throw error;
  } finally {
    by("picture").parentElement.classList.remove("busy");
  }
});

async function showPicture(png, wanted) {
  const image = by("picture"), old = image.src;
  image.src = URL.createObjectURL(png);
  await image.decode();
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  drawn = wanted;
  image.alt = `Generated picture: ${describe(wanted)}`;
  image.dataset.point = JSON.stringify(wanted);
  by("status").textContent = describe(wanted);
  by("download").href = image.src;
  by("download").download = wanted.other === null && typeof wanted.base === "number" ? `seed-${wanted.base}.png` : "point.png";
}

const afterChange = later(250, () => {
  repeat(point);
  const others = JSON.stringify({ ...point, base: 0, other: null, amount: 0 });
  if (others !== gridOf) fillGrid();
  if (weightsOf(point) !== directionsOf) findDirections();
});

// Controls ------------------------------------------------------------------------------------------------------------

function showControls() {
  const isSeed = typeof point.base === "number";
  by("seed").value = isSeed ? point.base : "";
  by("previous").disabled = !isSeed || point.base === 0;
  by("next").disabled = !isSeed || point.base >= LAST_SEED;
  by("found").hidden = isSeed;
  by("found").textContent = isSeed ? "" : "Shown is a found picture. A seed replaces it.";
  by("truncation").value = point.truncation;
  by("truncation-value").textContent = String(point.truncation);
  by("class").value = point.condition ?? "";
  for (const tile of by("conditions").children) tile.setAttribute("aria-pressed", tile.dataset.number === String(point.condition));
  for (const slider of document.querySelectorAll("[data-direction]")) {
    const amount = point.moves[slider.dataset.direction] ?? 0;
    slider.value = amount;
    slider.nextElementSibling.textContent = signed(amount);
  }
  by("reset-directions").disabled = !Object.keys(point.moves).length;
  by("weights").value = JSON.stringify(kindOf(point));
  showCheckpoint();
  for (const tile of by("grid").children) {
    tile.setAttribute("aria-pressed", point.other === null && tile.dataset.seed === String(point.base));
  }
  const between = ends.a !== null && ends.b !== null;
  const amount = between ? amountOfB() : null;
  by("mix").disabled = !between;
  by("mix").value = amount ?? 0;
  by("mix-value").textContent = !between ? "choose A and B first"
    : amount === null ? "drag to begin" : `${Math.round(100 * amount)} % of B`;
  by("undo").disabled = at <= 0;
  by("redo").disabled = at >= history.length - 1;
}

// The place of the shown latent between A and B; null where it is elsewhere.
function amountOfB() {
  if (point.base === ends.a && point.other === ends.b) return point.amount;
  const latent = latentOf(point);
  return same(latent, picked.a) || same(latent, latentOf({ base: ends.a })) ? 0
    : same(latent, picked.b) || same(latent, latentOf({ base: ends.b })) ? 1 : null;
}

function latentOf({ base, other = null, amount = 0 }) {
  return other === null || amount === 0 ? [base] : [base, other, amount];
}

function showCheckpoint() {
  const gone = known !== null && !known.some(({ name }) => name === point.checkpoint);
  if (by("gone").hidden === gone) {
    by("gone").textContent = gone ? "The file of this checkpoint is gone. Save the favorite or download the picture now." : "";
    by("gone").hidden = !gone;
    repeat(point);
  }
  const listed = [...known ?? []];
  if (gone) listed.unshift({ name: point.checkpoint, label: `${labelOf(point.checkpoint)} (removed, still loaded)` });
  // Options that stay are left alone, since the user may be choosing.
  const select = by("checkpoint"), labels = new Map(listed.map(({ name, label }) => [name, label]));
  for (const option of [...select.options]) if (labels.get(option.value) !== option.text) option.remove();
  listed.forEach(({ name, label }, place) => {
    if (select.options[place]?.value !== name) select.add(new Option(label, name), place);
  });
  if (select.value !== point.checkpoint) select.value = point.checkpoint;
}

async function refreshCheckpoints() {
  try { known = await ask("checkpoints", undefined, "GET") ?? known; } catch (error) { complain(error); return; }
  showCheckpoint();
}

function slide(input, change) {
  input.addEventListener("input", () => set(change(Number(input.value)), false));
  input.addEventListener("change", () => set(change(Number(input.value)), true, input.id));
}

function changeMove(number, amount) {
  const moves = { ...point.moves };
  if (amount) moves[number] = amount; else delete moves[number];
  return { moves };
}

let directionsOf = "";
async function findDirections() {
  const asked = weightsOf(point);
  const found = await ask("directions", { point }).catch(error => ({ shares: [], problem: error.message, method: "" }));
  if (!found || asked !== weightsOf(point)) return; // else they are those of weights that were left meanwhile
  directionsOf = asked;
  const note = by("directions-note");
  note.textContent = found.shares.length
    ? "What changes the pictures most, with its share of the change; in standard deviations." : found.problem;
  by("directions").replaceChildren(...found.shares.map((share, place) => {
    const number = place + 1, row = document.createElement("div");
    row.className = "row slider";
    const label = Object.assign(document.createElement("label"), { htmlFor: `direction-${number}` });
    label.textContent = `Direction ${number} (${share < 0.01 ? "<1" : Math.round(100 * share)}\u00a0%)`;
    const input = Object.assign(document.createElement("input"),
      { type: "range", id: `direction-${number}`, min: -REACH, max: REACH, step: 0.1, value: 0 });
    input.dataset.direction = number;
    const value = Object.assign(document.createElement("output"), { textContent: "0.0" });
    value.htmlFor = input.id;
    const reset = Object.assign(document.createElement("button"), { type: "button", className: "reset", textContent: "↺" });
    reset.setAttribute("aria-label", `Reset direction ${number}`);
    reset.addEventListener("click", () => set(changeMove(number, 0)));
    slide(input, amount => changeMove(number, amount));
    row.append(label, input, value, reset);
    return row;
  }));
  showControls();
}

// The grid of seeds ---------------------------------------------------------------------------------------------------

let gridOf = "", gridTurn = 0;
async function fillGrid() {
  gridOf = JSON.stringify({ ...point, base: 0, other: null, amount: 0 });
  const turn = ++gridTurn, wanted = point;
  const seeds = Array.from({ length: GRID }, (_, place) => start + place);
  by("grid-range").textContent = `${start.toLocaleString("en")} – ${(start + GRID - 1).toLocaleString("en")}`;
  by("grid-back").disabled = start === 0;
  if (by("grid").children.length !== GRID || by("grid").children[0].dataset.seed !== String(start)) {
    by("grid").replaceChildren(...seeds.map(seed => {
      const tile = makeTile(`seed ${seed}`, () => set({ base: seed, other: null, amount: 0 }));
      tile.dataset.seed = seed;
      return tile;
    }));
    showControls();
  }
  for (let place = 0; place < GRID; place += AT_ONCE) {
    let pictures;
    try {
      pictures = await ask("grid", { point: wanted, bases: seeds.slice(place, place + AT_ONCE) });
    } catch { // the picture itself says what is wrong
      if (turn !== gridTurn) return;
      gridOf = ""; // the next change asks again
      for (const tile of [...by("grid").children].slice(place)) tile.firstElementChild.replaceWith(blank());
      return;
    }
    if (turn !== gridTurn || !pictures) return;
    pictures.forEach((picture, index) => fill(by("grid").children[place + index], picture));
  }
}

const blank = () => Object.assign(document.createElement("div"), { className: "blank" });

function makeTile(text, act) {
  const tile = Object.assign(document.createElement("button"), { type: "button", className: "tile" });
  const label = Object.assign(document.createElement("span"), { textContent: text });
  tile.append(blank(), label);
  tile.setAttribute("aria-pressed", "false");
  tile.addEventListener("click", act);
  return tile;
}

function fill(tile, source) {
  const image = new Image();
  image.alt = "";
  image.src = source.startsWith("data:") || source.includes("/") && !source.startsWith("iVBOR") ? source : `data:image/png;base64,${source}`;
  if (run.tiny) image.className = "tiny";
  tile.firstElementChild.replaceWith(image);
}

// Between A and B -----------------------------------------------------------------------------------------------------

async function pick(end) {
  try {
    const wanted = point;
    let base = wanted.base;
    if (wanted.other !== null && wanted.amount > 0) {
      const kept = await ask("keep", { point: wanted, end });
      if (!kept) return;
      base = kept.latent;
    }
    const other = { ...wanted, base, other: null, amount: 0 };
    const pictures = await ask("grid", { point: other, bases: [base], end });
    if (!pictures) return;
    ends[end] = base;
    picked[end] = latentOf(wanted);
    const image = by(`image-${end}`);
    image.src = `data:image/png;base64,${pictures[0]}`;
    image.hidden = false;
    image.alt = nameOf(base);
    by(`text-${end}`).textContent = `${end.toUpperCase()}: ${nameOf(base)}`;
    showControls();
  } catch (error) { complain(error); }
}

// Favorites -----------------------------------------------------------------------------------------------------------

async function showFavorites() {
  try {
    const favorites = await ask("favorites", undefined, "GET");
    if (!favorites) return;
    by("favorites-note").textContent = favorites.length ? `Saved in ${run.run}/explore.`
      : `None yet. They are saved in ${run.run}/explore, each with its picture.`;
    by("favorites").replaceChildren(...favorites.map(favorite => {
      const kept = Object.assign(document.createElement("div"), { className: "kept" });
      const tile = makeTile(favorite.title, () => { forgetFind(); set(favorite.point); });
      tile.removeAttribute("aria-pressed");
      fill(tile, `favorites/${favorite.name}`);
      const remove = Object.assign(document.createElement("button"),
        { type: "button", className: "remove", textContent: "Delete" });
      remove.setAttribute("aria-label", `Delete favorite ${favorite.title}`);
      remove.addEventListener("click", async () => {
        remove.disabled = true;
        try { await ask(`favorites/${favorite.name}`, undefined, "DELETE"); } catch (error) { complain(error); }
        await showFavorites();
        by("favorites-title").focus(); // the focused button is gone
      });
      kept.append(tile, remove);
      return kept;
    }));
  } catch (error) {
    by("favorites-note").textContent = error.message;
    by("favorites").replaceChildren();
  }
}

// Command and Python --------------------------------------------------------------------------------------------------

const repeat = newest(async wanted => {
  const text = await ask("repeat", { point: wanted });
  if (!text) return;
  by("command").textContent = text.command;
  by("python").textContent = text.python;
  const needed = text.files.length ? ` They read ${text.files.join(" and ")}, which Copy and Save as favorite write.` : "";
  const exact = run.shape.length > 1 ? "Both give exactly these pixels,"
    : "The command gives exactly these pixels, and Python the values of the point,";
  by("repeat-note").textContent = text.gone || `${exact} on this machine and device.${needed}`;
  for (const id of ["command", "python"]) {
    by(id).hidden = Boolean(text.gone);
    by(`copy-${id}`).disabled = Boolean(text.gone);
  }
});

const COPY = { command: "Copy command", python: "Copy Python" };
async function copy(id) {
  const button = by(`copy-${id}`);
  try {
    const text = await ask("files", { point }); // the page may still show those of the point before
    if (!text) return;
    if (text.gone) throw new Error(text.gone);
    await navigator.clipboard.writeText(text[id]);
    button.textContent = "Copied";
    repeat(point); // its note names files that did not exist
  } catch (error) {
    complain(error.name === "NotAllowedError" ? new Error("The browser does not let a page copy. Select the text.") : error);
  }
  setTimeout(() => { button.textContent = COPY[id]; }, 1500);
}

// Find ----------------------------------------------------------------------------------------------------------------

function forgetFind() {
  if (search === null) by("find-state").hidden = true;
}

async function find(file) {
  if (!run.find || !file) return;
  if (file.size > 16 * 2 ** 20) return complain(new Error(`${file.name} has more than 16 MB. Choose a smaller picture.`));
  complain(null);
  let number = null;
  try {
    const begun = await ask(`find?point=${encodeURIComponent(JSON.stringify(point))}`, file);
    if (!begun) return;
    search = number = begun.search;
    by("find-state").hidden = false;
    by("find-cancel").hidden = false;
    by("target").src = `data:image/png;base64,${begun.target}`;
    by("nearest").removeAttribute("src");
    await follow(number);
  } catch (error) {
    if (number === null) complain(error);
    else if (search === number) { // else it was canceled, or this page has begun another
      search = null;
      by("find-cancel").hidden = true;
      by("find-text").textContent = error.message;
      ask(`find/${number}`, undefined, "DELETE").catch(() => {}); // if it still runs
    }
  }
}

async function follow(number) {
  while (search === number) {
    const state = await ask(`find/${number}`, undefined, "GET");
    if (!state || search !== number) return;
    by("find-progress").value = state.steps ? state.step / state.steps : 0;
    if (state.picture) by("nearest").src = `data:image/png;base64,${state.picture}`;
    const distance = state.distance === null ? "" : `, distance ${state.distance.toPrecision(3)}${run.unit}`;
    by("find-text").textContent = `${state.ended ? (state.failed || "Found") : state.step ? `Step ${state.step} of ${state.steps}` : "Looking for a start"}${distance}`;
    if (state.ended) {
      search = null;
      by("find-cancel").hidden = true;
      if (state.point) set(state.point);
      return;
    }
    await new Promise(resolve => setTimeout(resolve, 200));
  }
}

async function cancelFind() {
  const number = search;
  search = null;
  by("find-cancel").hidden = true;
  by("find-text").textContent = "Canceled";
  try { await ask(`find/${number}`, undefined, "DELETE"); } catch (error) { complain(error); }
}

// Start ---------------------------------------------------------------------------------------------------------------

function connect() {
  const seedTo = base => set({ base: Math.min(Math.max(Math.trunc(base) || 0, 0), LAST_SEED), other: null, amount: 0 });
  by("seed").addEventListener("change", () => by("seed").value === "" ? showControls() : seedTo(Number(by("seed").value)));
  by("previous").addEventListener("click", () => seedTo(point.base - 1));
  by("next").addEventListener("click", () => seedTo(point.base + 1));
  by("random").addEventListener("click", () => seedTo(Math.random() * 1e6));
  slide(by("truncation"), truncation => ({ truncation }));
  document.querySelector("[data-reset]").addEventListener("click", () => set({ truncation: 1 }));
  by("class").addEventListener("change", () => set({ condition: Number(by("class").value) }));
  by("checkpoint").addEventListener("change", () => set({ checkpoint: by("checkpoint").value }));
  by("checkpoint").addEventListener("focus", refreshCheckpoints);
  by("weights").addEventListener("change", () => set(JSON.parse(by("weights").value)));
  by("reset-directions").addEventListener("click", () => set({ moves: {} }));
  slide(by("mix"), amount => ({ base: ends.a, other: ends.b, amount }));
  by("pick-a").addEventListener("click", () => pick("a"));
  by("pick-b").addEventListener("click", () => pick("b"));
  by("grid-back").addEventListener("click", () => { start = Math.max(0, start - GRID); fillGrid(); });
  by("grid-on").addEventListener("click", () => { start += GRID; fillGrid(); });
  by("undo").addEventListener("click", () => travel(-1));
  by("redo").addEventListener("click", () => travel(1));
  by("favorite").addEventListener("click", async () => {
    by("favorite").disabled = true;
    try {
      await ask("favorites", { point, title: describe(point) });
      complain(null);
    } catch (error) { complain(error); }
    by("favorite").disabled = false;
    await showFavorites();
    repeat(point);
  });
  by("copy-command").addEventListener("click", () => copy("command"));
  by("copy-python").addEventListener("click", () => copy("python"));
  by("file").addEventListener("change", () => { find(by("file").files[0]); by("file").value = ""; });
  by("find-cancel").addEventListener("click", cancelFind);
  document.addEventListener("keydown", event => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") {
      event.preventDefault();
      travel(key === "y" || event.shiftKey ? 1 : -1);
    }
  });
  for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, event => {
    if (!run.find || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", event => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    find(event.dataTransfer.files[0]);
  });
  setInterval(() => { if (!document.hidden) refreshCheckpoints(); }, 2000);
}

async function begin() {
  run = await ask("run", undefined, "GET");
  run.tiny = run.shape.length === 3 && Math.max(...run.shape.slice(1)) <= 96;
  document.title = `Explore ${run.run}`;
  by("run").textContent = run.run;
  document.body.classList.toggle("tiny", run.tiny);
  by("warnings").hidden = !run.warnings.length;
  by("warnings").textContent = run.warnings.join(" ");
  point = run.point;
  by("weights-row").hidden = !run.averaged;
  const kinds = [["averaged (EMA)", {}], ...run.averages.map(ema => [`averaged over ${ema} kimg`, { ema }]), ["current (raw)", { raw: true }]];
  by("weights").replaceChildren(...kinds.map(([text, kind]) => new Option(text, JSON.stringify(kindOf(kind)))));
  by("find-panel").hidden = !run.find;
  by("class-row").hidden = !run.classes.length;
  by("class").replaceChildren(...run.classes.map((name, number) => new Option(name, number)));
  by("condition-set").hidden = !run.conditions;
  by("condition-problem").hidden = !run.problem;
  by("condition-problem").textContent = run.problem;
  by("conditions").replaceChildren(...run.labels.map((label, number) => {
    const tile = makeTile(label || `${number + 1}`, () => set({ condition: number }));
    tile.dataset.number = number;
    if (label) tile.firstElementChild.remove(); else fill(tile, `conditions/${number}`);
    return tile;
  }));
  connect();
  await refreshCheckpoints();
  set({});
  showFavorites();
}

begin().catch(complain);

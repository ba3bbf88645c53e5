// State, filters, the list by pages, keys. The state is in the address, so that a view can be shared.

const PAGE_SIZE = 50;
const VIEWS = ["tables", "plots", "samples"];
const CONTROLS = ["q", "task", "result", "low", "high", "sort"];
const DEFAULTS = { view: "tables", q: "", task: "", result: "", low: "", high: "", sort: "data", page: "1", sample: "" };
const byId = (id) => document.getElementById(id);
const viewLinks = document.querySelectorAll(".views a");

let state = { ...DEFAULTS };
let matches = []; // indices into data.samples that pass the filters, in the chosen order
let unpacking = false; // whether a search waits for the texts that it looks in
const groupOfTask = new Map(data.tasks.map((task) => [task.name, task.group]));

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, given.get(name) ?? value]));
  if (!VIEWS.includes(state.view)) state.view = DEFAULTS.view;
  for (const name of ["low", "high"]) if (Number.isNaN(Number(state[name]))) state[name] = "";
  for (const name of CONTROLS) byId(name).value = state[name];
  for (const name of ["task", "result", "sort"]) { // a choice that there is not
    if (byId(name).selectedIndex < 0) byId(name).value = state[name] = DEFAULTS[name];
  }
}

function addressOf(someState) {
  const changed = Object.entries(someState).filter(([name, value]) => name === "view" || value !== DEFAULTS[name]);
  return `#${new URLSearchParams(changed)}`;
}

function writeAddress() {
  history.replaceState(null, "", addressOf(state));
  // Going to another view and back keeps the filters.
  for (const link of viewLinks) link.href = addressOf({ ...state, view: link.dataset.view });
}

function passes(sample) {
  const [kind, name] = [state.task.split(":", 1)[0], state.task.slice(state.task.indexOf(":") + 1)];
  if (kind === "task" && sample.task !== name) return false;
  if (kind === "group" && groupOfTask.get(sample.task) !== name) return false;
  if (state.result && !RESULTS.get(state.result)(sample)) return false;
  if (state.low === "" && state.high === "") return true;
  const [low, high] = [Number(state.low || 0), Number(state.high || 1)];
  return confidences(sample).some((confidence) => confidence >= low && confidence <= high);
}

function findMatches() {
  unpacking = false;
  matches = [...data.samples.keys()].filter((i) => passes(data.samples[i]));
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    const all = searchTexts();
    unpacking = all === null; // the view comes again when they are there
    matches = unpacking ? [] : matches.filter((i) => words.every((word) => all[i].includes(word)));
  }
  const order = ORDERS[state.sort];
  if (order) {
    // Samples without a confidence come last.
    const keyOf = (sample) => (confidences(sample).length ? order(sample) : -Infinity);
    const keys = new Map(matches.map((i) => [i, keyOf(data.samples[i])]));
    const difference = (a, b) => (keys.get(b) === keys.get(a) ? a - b : keys.get(b) - keys.get(a));
    matches.sort(difference);
  }
}

function countText() {
  if (unpacking) return "unpacking the responses for the search …";
  let text = `${matches.length.toLocaleString("en")} of ${data.samples.length.toLocaleString("en")} samples`;
  text += metricsText(matches.map((i) => data.samples[i]));
  if (data.samples.length < data.total) {
    text += ` · ${data.whose} ${data.total.toLocaleString("en")}; the first are here`;
  }
  return text;
}

const pageCount = () => Math.max(1, Math.ceil(matches.length / PAGE_SIZE));

function showPage() {
  const page = Math.min(Math.max(1, Math.trunc(Number(state.page)) || 1), pageCount());
  state.page = String(page);
  const first = (page - 1) * PAGE_SIZE;
  const visible = matches.slice(first, first + PAGE_SIZE);
  byId("list").start = first + 1;
  byId("list").replaceChildren(...visible.map((i) => sampleItem(data.samples[i], i)));
  byId("page").textContent = `Page ${page} of ${pageCount()}`;
  byId("previous").disabled = page === 1;
  byId("next").disabled = page === pageCount();
}

function update() {
  findMatches();
  byId("count").textContent = countText();
  showPage();
  writeAddress();
}

function showView() {
  for (const view of VIEWS) byId(view).hidden = view !== state.view;
  for (const link of viewLinks) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function toggle(item, open = !item.querySelector(".details")) {
  const index = Number(item.dataset.index);
  item.querySelector(".details")?.remove();
  if (open) item.append(details(data.samples[index], index));
  item.querySelector(".row").setAttribute("aria-expanded", String(open));
  state.sample = open ? data.samples[index].id : "";
  writeAddress();
}

// A shared address may name a sample: its page is shown, and it is open.
function openNamedSample() {
  const place = matches.findIndex((i) => data.samples[i].id === state.sample);
  if (!state.sample || place < 0) return;
  state.page = String(Math.floor(place / PAGE_SIZE) + 1);
  showPage();
  const item = byId("list").children[place % PAGE_SIZE];
  toggle(item, true);
  item.querySelector(".row").focus();
}

function turnPage(step) {
  state.page = String(Number(state.page) + step);
  showPage();
  writeAddress();
}

function move(step) {
  const rows = [...byId("list").querySelectorAll(".row")];
  const current = rows.indexOf(document.activeElement.closest?.(".sample")?.querySelector(".row"));
  const next = current < 0 ? 0 : current + step;
  if (next >= 0 && next < rows.length) {
    rows[next].focus();
  } else if (next < 0 ? Number(state.page) > 1 : Number(state.page) < pageCount()) {
    turnPage(step);
    const turned = byId("list").querySelectorAll(".row");
    turned[step > 0 ? 0 : turned.length - 1].focus();
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const focused = document.activeElement;
  if (focused.matches("input, select, textarea")) {
    if (event.key === "Escape") focused.blur();
    return;
  }
  const inList = byId("list").contains(focused);
  if (event.key === "/") {
    if (state.view !== "samples") {
      state.view = "samples";
      showView();
      writeAddress();
    }
    byId("q").focus();
  } else if (state.view === "samples" && (event.key === "j" || (inList && event.key === "ArrowDown"))) {
    move(1);
  } else if (state.view === "samples" && (event.key === "k" || (inList && event.key === "ArrowUp"))) {
    move(-1);
  } else {
    return;
  }
  event.preventDefault();
}

function fillTasks() {
  const option = (text, value) => new Option(text, value);
  byId("task").append(option("all", ""), ...data.groups.map((group) => option(group, `group:${group}`)));
  for (const task of data.tasks) byId("task").append(option(task.name, `task:${task.name}`));
}

function onAddress() {
  readAddress();
  showView();
  update();
  if (state.view === "samples") openNamedSample();
}

fillTasks();
onAddress();
window.addEventListener("hashchange", () => {
  scrollTo(0, 0);
  onAddress();
});
document.addEventListener("keydown", onKey);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("controls").addEventListener("input", () => {
  for (const name of CONTROLS) state[name] = byId(name).value;
  Object.assign(state, { page: "1", sample: "" });
  update();
});
byId("controls").addEventListener("reset", (event) => {
  event.preventDefault();
  state = { ...DEFAULTS, view: "samples" };
  for (const name of CONTROLS) byId(name).value = state[name];
  update();
});
byId("list").addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (row) toggle(row.closest(".sample"));
});
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  byId(id).addEventListener("click", () => {
    turnPage(step);
    byId("controls").scrollIntoView();
  });
}

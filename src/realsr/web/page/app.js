// The local page: sends photos and options, follows the jobs, and shows their results.
const settings = await (await fetch("settings")).json();
const jobs = new Map(); // the job of each panel; its files are deleted when it is replaced
const find = (selector, parent = document) => parent.querySelector(selector);

async function request(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body });
  } catch {
    throw new Error("realsr app does not answer: start it again, and open its new address");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the server answers ${response.status}`);
  return answer;
}

function release(panel) {
  if (jobs.has(panel)) fetch(`jobs/${jobs.get(panel)}`, { method: "DELETE", keepalive: true });
  jobs.delete(panel);
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

function showError(panel, text) {
  find(".status", panel).replaceChildren(element("p", { className: "error", role: "alert", textContent: text }));
}

function formatSeconds(seconds) {
  const [s, m, h] = [seconds % 60, Math.floor(seconds / 60) % 60, Math.floor(seconds / 3600)];
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function formatBytes(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function describeProgress(state) {
  if (state.state === "waiting") {
    return state.before ? `waiting; jobs before this one: ${state.before}` : "waiting";
  }
  if (state.fraction === null) return state.stage;
  return `${state.stage}, ${Math.floor(100 * state.fraction)} %, ${formatSeconds(state.seconds_left)} left`;
}

// Sends photos (by set) and options, then follows the job. Returns its final state, or null after Cancel.
async function run(panel, work, sets, options) {
  release(panel);
  const { job } = await request("POST", "jobs");
  jobs.set(panel, job);
  const bar = element("progress", { max: 1 });
  const line = element("p", { textContent: "sending" });
  const cancel = element("button", { type: "button", textContent: "Cancel" });
  cancel.addEventListener("click", () => {
    release(panel);
    find(".status", panel).hidden = true;
  });
  find(".status", panel).replaceChildren(bar, line, cancel);
  for (const [set, photos] of Object.entries(sets)) {
    for (const photo of photos) {
      if (photo.size > 1e6 * settings.max_megabytes) {
        throw new Error(`${photo.name}: the file has more than ${settings.max_megabytes} MB`);
      }
      await request("PUT", `jobs/${job}/photos/${set}?name=${encodeURIComponent(photo.name)}`, photo);
    }
  }
  await request("POST", `jobs/${job}/${work}`, JSON.stringify(options));
  for (;;) {
    if (jobs.get(panel) !== job) return null;
    const state = await request("GET", `jobs/${job}`);
    if (state.state === "finished") return state;
    if (state.state === "failed") throw new Error(state.error);
    if (state.fraction === null || state.state === "waiting") bar.removeAttribute("value");
    else bar.value = state.fraction;
    line.textContent = describeProgress(state);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

function connect(panel, collect, show) {
  const form = find("form", panel);
  const [button, status, result] = [find("[type=submit]", form), find(".status", panel), find(".result", panel)];
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { work, sets, options } = collect(form);
    [button.disabled, status.hidden, result.hidden] = [true, false, true];
    try {
      const state = await run(panel, work, sets, options);
      status.replaceChildren(...(state?.notes ?? []).map((text) => element("p", { className: "note", textContent: text })));
      if (state) {
        result.hidden = false;
        await show(result, state.result, `jobs/${jobs.get(panel)}/files/`);
      }
    } catch (error) {
      showError(panel, error.message); // hidden after Cancel
      release(panel);
    }
    button.disabled = false;
  });
  button.disabled = false;
}

// Drop zones: a file input also takes files that are dropped on its label.
for (const zone of document.querySelectorAll(".drop")) {
  const [input, text] = [find("input", zone), find(".choice-text", zone)];
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    zone.addEventListener(type, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", type === "dragenter" || type === "dragover");
    });
  }
  zone.addEventListener("drop", (event) => {
    const files = new DataTransfer();
    for (const file of input.multiple ? event.dataTransfer.files : [...event.dataTransfer.files].slice(0, 1)) {
      files.items.add(file);
    }
    input.files = files.files;
    input.dispatchEvent(new Event("change"));
  });
  input.addEventListener("change", () => {
    text.textContent = formatBytes([...input.files].reduce((sum, file) => sum + file.size, 0));
  });
}
for (const type of ["dragover", "drop"]) {
  addEventListener(type, (event) => event.preventDefault()); // the browser would open the photo
}

// Tabs
const tabs = [...document.querySelectorAll("[role=tab]")];
function select(tab) {
  for (const other of tabs) {
    other.ariaSelected = String(other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
}
for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
}

// The comparison: at full size, an image pixel is a pixel of the page, and the overview moves the part shown.
const viewer = find(".viewer");
const slider = find("img-comparison-slider", viewer);
const [first, second] = slider.querySelectorAll("img");
const overview = find(".overview", viewer);
const view = { x: 0.5, y: 0.5 }; // centre of the part, of the image's size

function draw() {
  const [width, height] = [second.naturalWidth, second.naturalHeight];
  if (!width) return;
  const full = find("[name=zoom]:checked", viewer).value === "full";
  const room = [viewer.clientWidth, Math.max(240, 0.75 * innerHeight)];
  const factor = full ? 1 : Math.min(room[0] / width, room[1] / height);
  const size = [Math.min(room[0], width * factor), Math.min(room[1], height * factor)];
  viewer.classList.toggle("full", full);
  slider.style.width = `${size[0]}px`;
  const share = [size[0] / width, size[1] / height]; // of the image that is shown at full size
  overview.hidden = !full || (share[0] >= 1 && share[1] >= 1);
  view.x = Math.min(1 - share[0] / 2, Math.max(share[0] / 2, view.x));
  view.y = Math.min(1 - share[1] / 2, Math.max(share[1] / 2, view.y));
  const corner = [view.x - share[0] / 2, view.y - share[1] / 2];
  for (const image of [first, second]) {
    image.style.height = `${size[1]}px`;
    image.style.objectPosition = full ? `${Math.round(-corner[0] * width)}px ${Math.round(-corner[1] * height)}px` : "";
  }
  const frame = find(".window", overview).style;
  [frame.left, frame.top] = [`${100 * corner[0]}%`, `${100 * corner[1]}%`];
  [frame.width, frame.height] = [`${100 * share[0]}%`, `${100 * share[1]}%`];
}

function move(event) {
  const box = overview.getBoundingClientRect();
  [view.x, view.y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  draw();
}
overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  move(event);
});
overview.addEventListener("pointermove", (event) => event.buttons && move(event));
overview.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  [view.x, view.y] = [view.x + 0.05 * step[0], view.y + 0.05 * step[1]];
  draw();
});
for (const input of viewer.querySelectorAll("[name=zoom]")) input.addEventListener("change", draw);
addEventListener("resize", draw);
const reportDivider = () => slider.setAttribute("aria-valuenow", Math.round(slider.value));
slider.addEventListener("slide", reportDivider);

connect(
  find("#upscale"),
  (form) => ({
    work: "upscale",
    sets: { photo: [...form.elements.photo.files] },
    options: {
      weights: form.elements.weights.value,
      strength: form.elements.strength.valueAsNumber,
      tile: form.elements.tile.value ? form.elements.tile.valueAsNumber : null,
      format: form.elements.format.value || null,
    },
  }),
  async (panel, result, folder) => {
    const address = (name) => folder + encodeURIComponent(name);
    const link = find("[data-download]", panel);
    [link.href, link.download] = [address(result.file), result.file];
    find("[data-size]", panel).textContent = `${result.file}, ${formatBytes(result.bytes)}`;
    find("[data-model]", panel).textContent = `right: ${result.model}`;
    first.src = address(result.bicubic);
    second.src = find("img", overview).src = address(result.shown);
    const isShown = await Promise.all([first.decode(), second.decode()]).then(() => true, () => false);
    [viewer.hidden, find("[data-too-large]", panel).hidden] = [!isShown, isShown];
    slider.value = 50;
    reportDivider();
    draw();
  },
);
connect(
  find("#pool"),
  (form) => ({ work: "pool", sets: {}, options: { pool: form.elements.pool.value } }),
  (panel, result, folder) => {
    find("iframe", panel).src = folder + result.page;
  },
);
connect(
  find("#domains"),
  (form) => ({
    work: "domains",
    sets: { a: form.elements["photos-a"].files, b: form.elements["photos-b"].files },
    options: { a: form.elements.a.value, b: form.elements.b.value },
  }),
  (panel, result, folder) => {
    find("[data-summary]", panel).textContent = result.summary;
    find("pre", panel).textContent = result.table;
    find("img", panel).src = folder + result.figure;
    const link = find("[data-numbers]", panel);
    [link.href, link.download] = [folder + result.numbers, result.numbers];
  },
);

// Choices, initial values and limits
const { elements } = find("#upscale form");
for (const [name, scale] of Object.entries(settings.models)) {
  elements.weights.add(new Option(`${name} (x${scale})`, name));
}
for (const format of settings.formats) elements.format.add(new Option(format.toUpperCase(), format));
const showStrength = () => (elements.percent.value = elements.strength.valueAsNumber.toFixed(2));
elements.strength.value = settings.strength;
elements.strength.addEventListener("input", showStrength);
showStrength();
elements.tile.min = settings.min_tile;
elements.tile.value = settings.tile ?? "";
find("#pool [name=pool]").value = settings.pool;
find("[data-limit]").textContent = `up to ${settings.max_megapixels} megapixels and ${settings.max_megabytes} MB`;
find("[data-photos]").textContent = settings.max_photos;
find("[data-version]").textContent = settings.version;

addEventListener("pagehide", () => [...jobs.keys()].forEach(release));

"use strict";
// Search of the tasks that are in the page. What is shown is text, never markup.
(() => {
  const STEP = 200;
  const byId = (id) => document.getElementById(id);
  const time = (seconds) => (seconds === null ? "-" : new Date(seconds * 1000).toISOString().slice(0, 19) + "Z");

  async function unpacked() {
    const bytes = Uint8Array.from(atob(byId("tasks").textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function row(data, at) {
    const made = document.createElement("tr");
    const reason = data.reason[at];
    const duration = data.duration[at];
    const cells = [
      data.key[at],
      data.states[data.state[at]],
      data.attempts[at],
      data.ended[at] === null ? "-" : time(data.base + data.ended[at]),
      duration === null ? "-" : (duration / 1000).toFixed(1),
      data.worker[at] === null ? "-" : data.workers[data.worker[at]],
      reason === null ? "" : data.reasons[reason],
    ];
    cells.forEach((value, column) => {
      const cell = document.createElement("td");
      cell.textContent = value;
      if (column === 2 || column === 4) cell.className = "n";
      made.appendChild(cell);
    });
    return made;
  }

  function search(data, shown) {
    const wanted = byId("q").value.toLowerCase();
    const state = byId("state").value;
    const body = byId("found");
    const reasons = data.reasons.map((text) => text.toLowerCase().includes(wanted));
    const workers = data.workers.map((text) => text.toLowerCase().includes(wanted));
    const rows = document.createDocumentFragment();
    let count = 0;
    for (let at = 0; at < data.key.length; at++) {
      if (state !== "" && data.states[data.state[at]] !== state) continue;
      const hit = wanted === "" || data.key[at].toLowerCase().includes(wanted)
        || (data.reason[at] !== null && reasons[data.reason[at]])
        || (data.worker[at] !== null && workers[data.worker[at]]);
      if (!hit) continue;
      count++;
      if (count <= shown) rows.appendChild(row(data, at));
    }
    body.replaceChildren(rows);
    byId("count").textContent = `${count.toLocaleString("en")} of ${data.key.length.toLocaleString("en")} tasks`
      + (count > shown ? `, the first ${shown.toLocaleString("en")} are shown` : "");
    byId("more").hidden = count <= shown;
  }

  async function start() {
    let data;
    try {
      data = await unpacked();
    } catch (error) {
      byId("count").textContent = `This browser can't unpack the list of tasks: ${error}`;
      return;
    }
    let shown = STEP;
    const again = () => search(data, shown);
    const given = new URLSearchParams(location.hash.slice(1));
    byId("q").value = given.get("q") ?? "";
    byId("state").value = given.get("state") ?? "";
    for (const id of ["q", "state"]) byId(id).addEventListener("input", () => { shown = STEP; again(); });
    byId("more").addEventListener("click", () => { shown += 5 * STEP; again(); });
    again();
  }
  start();
})();

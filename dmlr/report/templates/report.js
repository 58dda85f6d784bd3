"use strict";
(() => {
  const body = document.querySelector("#table tbody");
  const rows = Array.from(body.rows);
  const search = document.getElementById("search");
  const ofRun = document.getElementById("of-run");
  const shown = document.getElementById("shown");
  const empty = document.getElementById("empty");
  const palette = JSON.parse(document.getElementById("palette").textContent);
  const state = { filter: "all", words: [] };

  // ---- sorting ----
  const keyOf = (row, column, numeric) => {
    const cell = row.cells[column];
    const value = cell.dataset.value ?? cell.textContent;
    if (!numeric) return value.trim().toLowerCase();
    return value === "" ? null : Number(value);
  };

  const sortBy = (header) => {
    const column = header.cellIndex;
    const numeric = header.dataset.sort === "number";
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    closeAll();
    const keyed = rows.map((row, place) => ({ row, place, key: keyOf(row, column, numeric) }));
    keyed.sort((a, b) => {
      if (a.key === b.key) return a.place - b.place;
      if (a.key === null) return 1; // samples without the number stay last, whichever the direction
      if (b.key === null) return -1;
      return direction * (numeric ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true }));
    });
    body.append(...keyed.map((item) => item.row));
  };

  for (const header of document.querySelectorAll("#table thead th")) {
    header.firstElementChild.addEventListener("click", () => sortBy(header));
  }

  // ---- search and filter ----
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) {
      const template = document.getElementById(`t-${row.dataset.index}`);
      texts.set(row, `${row.textContent} ${template.content.textContent}`.toLowerCase());
    }
    return texts.get(row);
  };

  const wanted = (row) => {
    if (state.filter === "flipped" && row.dataset.flipped !== "yes") return false;
    if (state.filter !== "all" && state.filter !== "flipped") {
      const outcomes = row.dataset.outcomes.split(" ");
      if (outcomes[ofRun ? Number(ofRun.value) : 0] !== state.filter) return false;
    }
    return state.words.length === 0 || state.words.every((word) => textOf(row).includes(word));
  };

  const refresh = () => {
    closeAll();
    let count = 0;
    for (const row of rows) {
      row.hidden = !wanted(row);
      if (!row.hidden) count += 1;
    }
    shown.textContent = `${count} of ${rows.length}`;
    empty.hidden = count > 0;
  };

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      refresh();
    }, 120);
  });
  if (ofRun) ofRun.addEventListener("change", refresh);
  const chips = Array.from(document.querySelectorAll(".chip"));
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      state.filter = chip.dataset.filter;
      for (const other of chips) other.setAttribute("aria-pressed", String(other === chip));
      refresh();
    });
  }

  // ---- one sample ----
  const closeAll = () => {
    for (const panel of body.querySelectorAll("tr.panel")) closePanel(panel.previousElementSibling, panel);
  };

  const closePanel = (row, panel) => {
    panel.remove();
    row.classList.remove("opened");
    row.querySelector(".open").setAttribute("aria-expanded", "false");
  };

  const toggle = (row) => {
    const next = row.nextElementSibling;
    if (next && next.classList.contains("panel")) {
      closePanel(row, next);
      return;
    }
    const panel = document.createElement("tr");
    panel.className = "panel";
    const cell = panel.insertCell();
    cell.colSpan = row.cells.length;
    cell.append(document.getElementById(`t-${row.dataset.index}`).content.cloneNode(true));
    row.after(panel);
    row.classList.add("opened");
    row.querySelector(".open").setAttribute("aria-expanded", "true");
    for (const article of cell.querySelectorAll(".answer")) bring(article);
  };

  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr.row");
    if (row && !window.getSelection().toString()) toggle(row);
  });

  const bring = (article) => {
    const stage = article.querySelector(".stage");
    if (!stage) return;
    const image = stage.querySelector("img");
    image.addEventListener("load", () => {
      if (stage.dataset.maps) overlay(article, stage);
    });
    image.src = document.getElementById(`p-${stage.dataset.picture}`).textContent;
  };

  const overlay = (article, stage) => {
    const maps = JSON.parse(document.getElementById(stage.dataset.maps).textContent);
    const levels = Uint8Array.from(atob(maps.data), (c) => c.charCodeAt(0));
    const find = (name) => article.querySelector(name);
    const [slider, thought] = [find(".step"), find(".thought")];
    const checked = (name) => !find(name) || find(name).checked;
    const draw = () => {
      const step = slider ? Number(slider.value) : 0;
      if (slider) find(".step-name").textContent = `${step} / ${maps.steps}`;
      paint(stage, maps, levels, {
        step,
        thought: thought ? Number(thought.value) : -1,
        heat: Boolean(slider) && checked(".show-heat"),
        patches: checked(".show-patches"),
        evidence: checked(".show-evidence"),
      });
      moveCursor(find("svg.spark"), step, maps.steps);
    };
    for (const control of article.querySelectorAll(".controls input, .controls select")) {
      control.addEventListener("input", draw);
    }
    new ResizeObserver(draw).observe(stage);
    draw();
  };

  const moveCursor = (chart, step, steps) => {
    const cursor = chart && chart.querySelector(".cursor");
    if (!cursor || step === 0) return;
    const [left, right] = [Number(chart.dataset.left), Number(chart.dataset.right)];
    const x = left + ((right - left) * step) / steps;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
  };

  const paint = (stage, maps, levels, view) => {
    const canvas = stage.querySelector("canvas");
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(stage.clientWidth * scale);
    canvas.height = Math.round(stage.clientHeight * scale);
    const pen = canvas.getContext("2d");
    const [rowCount, columnCount] = maps.grid;
    const [cellWidth, cellHeight] = [canvas.width / columnCount, canvas.height / rowCount];
    const chosen = view.thought < 0 ? Array.from({ length: maps.thoughts }, (_, l) => l) : [view.thought];
    if (view.heat) {
      const tokens = rowCount * columnCount;
      for (let token = 0; token < tokens; token += 1) {
        let sum = 0;
        for (const l of chosen) sum += levels[((view.step - 1) * maps.thoughts + l) * tokens + token] ** 2;
        const level = Math.sqrt(sum / chosen.length) / 255; // the bytes are square roots: average what they stand for
        const [red, green, blue] = palette[Math.round(level * 255)];
        pen.fillStyle = `rgba(${red},${green},${blue},${0.12 + 0.68 * level})`;
        const [row, column] = [Math.floor(token / columnCount), token % columnCount];
        const [x, y] = [Math.round(column * cellWidth), Math.round(row * cellHeight)];
        pen.fillRect(x, y, Math.round((column + 1) * cellWidth) - x, Math.round((row + 1) * cellHeight) - y);
      }
    }
    const outline = (x, y, width, height, colour) => {
      pen.lineWidth = 4 * scale;
      pen.strokeStyle = "rgba(0,0,0,0.75)";
      pen.strokeRect(x, y, width, height);
      pen.lineWidth = 2 * scale;
      pen.strokeStyle = colour;
      pen.strokeRect(x, y, width, height);
    };
    if (view.evidence) {
      const [sx, sy] = [canvas.width / maps.size[0], canvas.height / maps.size[1]];
      for (const [x0, y0, x1, y1] of maps.evidence) outline(x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy, "#39ff14");
    }
    const taken = maps.patches[Math.max(0, view.step - 1)];
    if (view.patches && taken) {
      for (const token of new Set(chosen.flatMap((l) => taken[l] || []))) {
        const [row, column] = [Math.floor(token / columnCount), token % columnCount];
        outline(column * cellWidth + 1, row * cellHeight + 1, cellWidth - 2, cellHeight - 2, "#00e5ff");
      }
    }
  };

  // ---- #r-12 opens sample 12 ----
  const fromAddress = () => {
    const row = /^#r-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (row && !row.classList.contains("opened")) {
      toggle(row);
      row.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
})();

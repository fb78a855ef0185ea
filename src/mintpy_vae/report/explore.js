// The section Explore: maps of velocity, of a date or of a pair, the series of a pixel, and a profile.
"use strict";
(() => {
  const element = document.getElementById("explore-data");
  if (!element) return;
  const data = JSON.parse(element.textContent);
  const [length, width] = data.shape, { x: X, y: Y } = data.axes;
  const INK = "rgb(36, 36, 36)", CLEAR = "rgba(0,0,0,0)", BAND = "rgba(0,114,178,0.35)", OPACITY = data.opacity;
  const part = unpacked();
  const MAPS = ["before", "atmosphere", "after", "motion"];
  const KINDS = part.motion ? MAPS : MAPS.slice(0, 3);
  const LOOK = {
    before: { color: data.colours.before }, after: { color: data.colours.after },
    atmosphere: { color: INK, dash: "dot" }, motion: { color: data.colours.motion, dash: "dash" },
  };
  const state = { mode: "velocity", date: 0, pair: 0, pixel: null, end: null, profiling: false, ends: 0 };
  const by = (id) => document.getElementById("explore-" + id);
  const chart = Object.fromEntries([...MAPS, "series", "line"].map((name) => [name, by(name)]));

  // ------------------------------------------------------------------------------------------------------- numbers
  function unpacked() {
    const bytes = Uint8Array.from(atob(data.packed), (c) => c.charCodeAt(0));
    const parts = {};
    let start = 0;
    for (const [name, size] of data.layout) {
      parts[name] = new Int16Array(bytes.buffer, 2 * start, size);
      start += size;
    }
    return parts;
  }

  const number = (count, unit) => (count === data.nothing ? null : count * unit);

  // series of a pixel, mm
  function series(name, index) {
    if (name === "atmosphere") {
      const after = series("after", index);
      return series("before", index).map((v, k) => v - after[k]);
    }
    return data.dates.map((_, k) => number(part[name][k * data.pixels + index], data.unit));
  }

  // what the maps show is a weighted sum of the dates: [[date, weight], ...]
  function weights(mode = state.mode, which = state[mode]) {
    if (mode === "date") return [[which, 1]];
    if (mode === "pair") return [[data.pairs[which][1], 1], [data.pairs[which][0], -1]];
    const mean = data.years.reduce((a, b) => a + b) / data.years.length;
    const energy = data.years.reduce((sum, t) => sum + (t - mean) ** 2, 0);
    return data.years.map((t, k) => [k, (t - mean) / energy]);
  }

  function combined(name, terms) {
    if (name === "atmosphere") {
      const after = combined("after", terms);
      return combined("before", terms).map((v, k) => v - after[k]);
    }
    const sum = new Float32Array(data.pixels);
    for (const [k, weight] of terms) {
      const from = k * data.pixels;
      for (let p = 0; p < data.pixels; p++) sum[p] += weight * data.unit * part[name][from + p];
    }
    return sum;
  }

  const indexAt = (row, column) => part.index[row * width + column];

  function grid(value) {
    return Array.from({ length }, (_, r) => Array.from({ length: width }, (_, c) => value(r, c)));
  }

  function robustLimit(values) {
    const sorted = values.map(Math.abs).sort();
    return sorted[Math.floor(0.99 * (sorted.length - 1))] || 1;
  }

  // one scale for all dates and one for all pairs, so that they can be compared
  const limits = {};
  function limit() {
    if (!limits[state.mode]) {
      const number = { velocity: 1, date: data.dates.length, pair: data.pairs.length }[state.mode];
      const found = [];
      for (let k = 0; k < number; k += Math.ceil(number / 20)) {
        found.push(robustLimit(combined("before", weights(state.mode, k))));
      }
      limits[state.mode] = Math.max(...found);
    }
    return limits[state.mode];
  }

  const title = (name) => (name === "motion" ? "motion found" : name);
  const unit = () => (state.mode === "velocity" ? "mm/yr" : "mm");
  const place = (row, column) => [X.first + column * X.step, Y.first + row * Y.step];
  const cell = (x, y) => [Math.round((y - Y.first) / Y.step), Math.round((x - X.first) / X.step)];
  const shown = (value, digits = 1) => (value === null || value === undefined ? "unknown" : value.toFixed(digits).replace("-", "\u2212"));

  function where([row, column]) {
    const [x, y] = place(row, column), digits = data.axes.degrees ? 4 : 0;
    return data.axes.degrees ? `latitude ${shown(y, digits)}\u00b0, longitude ${shown(x, digits)}\u00b0` : `${Y.title} ${shown(y, digits)}, ${X.title} ${shown(x, digits)}`;
  }

  // ---------------------------------------------------------------------------------------------------------- maps
  function axis(of, more) {
    return { title: { text: of.title, standoff: 4, font: { size: 11 } }, ticks: "outside", ticklen: 3, nticks: 4,
      tickfont: { size: 10 }, showgrid: false, zeroline: false, showline: true, mirror: true, linecolor: INK, tickcolor: INK,
      ticksuffix: data.axes.degrees ? "\u00b0" : "", constrain: "domain", ...more };
  }

  const edges = (of, n) => [of.first - of.step / 2, of.first + (n - 0.5) * of.step];

  function mapLayout() {
    const [left, right] = edges(X, width), [top, bottom] = edges(Y, length);
    return { margin: { l: 56, r: 10, t: 30, b: 40 }, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, showlegend: false,
      font: { family: "system-ui, sans-serif", size: 12, color: INK }, modebar: { bgcolor: CLEAR, color: "rgb(130,130,130)" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      xaxis: axis(X, { range: [left, right] }),
      yaxis: axis(Y, { range: [bottom, top], scaleanchor: "x", scaleratio: Y.metres / X.metres }),
      images: [{ source: data.ground, xref: "x", yref: "y", x: left, y: top, sizex: Math.abs(right - left), sizey: Math.abs(top - bottom), sizing: "stretch", layer: "below" }] };
  }

  function mapTraces() {
    const x = { x0: X.first, dx: X.step }, y = { y0: Y.first, dy: Y.step };
    const values = { type: "heatmap", ...x, ...y, z: [[null]], colorscale: data.colours.scale.map((c, k, all) => [k / (all.length - 1), c]), showscale: false, opacity: OPACITY };
    const outline = { type: "contour", ...x, ...y, z: grid((r, c) => part.moving[r * width + c]), showscale: false, hoverinfo: "skip", autocontour: false,
      contours: { start: 0.5, end: 0.5, size: 1, coloring: "none" }, line: { color: "rgb(20,20,20)", width: 1.3, smoothing: 0 }, visible: part.moving.some((m) => m) };
    const line = { type: "scatter", x: [], y: [], mode: "lines+markers", hoverinfo: "skip", line: { color: "#ffffff", width: 2, dash: "dot" },
      marker: { color: "#ffffff", size: [], line: { color: "#000000", width: 1.5 } } };
    const marks = data.marks.map((mark) => ({ type: "scatter", x: mark.places.map((p) => p[0]), y: mark.places.map((p) => p[1]), mode: "markers+text",
      text: mark.places.map(() => String(mark.number)), textfont: { color: "white", size: 11 }, marker: { size: 18, color: data.colours.alarm },
      hovertext: mark.text, hoverinfo: "text" }));
    return [values, outline, line, ...marks];
  }

  function scaleBar(range) {
    const metres = Math.abs(range[1] - range[0]) * X.metres * 0.3;
    const power = 10 ** Math.floor(Math.log10(metres));
    const nice = [5, 2, 1].find((k) => k * power <= metres) * power;
    const start = range[0] + 0.06 * (range[1] - range[0]);
    const end = start + (Math.sign(range[1] - range[0]) * nice) / X.metres;
    const label = { xref: "x", yref: "y domain", yanchor: "bottom", showarrow: false, bgcolor: "rgba(255,255,255,0.75)", borderpad: 1, font: { size: 11, color: INK } };
    const annotations = [{ ...label, x: (start + end) / 2, y: 0.07, text: nice < 1000 ? `${nice} m` : `${nice / 1000} km` }];
    if (data.axes.north) annotations.push({ ...label, xref: "x domain", x: 0.97, xanchor: "right", y: 0.97, yanchor: "top", text: "N \u2191" });
    const stroke = (color, w) => ({ type: "line", xref: "x", yref: "y domain", x0: start, x1: end, y0: 0.05, y1: 0.05, line: { color, width: w } });
    return { annotations, shapes: [stroke("#ffffff", 6), stroke("#111111", 3)] };
  }

  function drawMaps() {
    const terms = weights(), end = limit();
    for (const name of MAPS) {
      const values = KINDS.includes(name) ? combined(name, terms) : null;
      const z = grid((r, c) => {
        const index = indexAt(r, c);
        if (index === data.nothing) return null;
        return values ? values[index] : end * part.moving[r * width + c];
      });
      Plotly.restyle(chart[name], { z: [z], zmin: -end, zmax: end, hovertemplate: `%{x}, %{y}<br>${values ? "%{z:.1f} " + unit() : ""}<extra></extra>` }, [0]);
    }
    by("low").textContent = shown(-end, 0);
    by("high").textContent = `${shown(end, 0)} ${unit()}`;
    by("motion-title").textContent = part.motion ? "motion found" : "where motion was found (dark)";
  }

  function linkZoom() {
    const whole = { "xaxis.range": edges(X, width), "yaxis.range": edges(Y, length).reverse() };
    let linking = false;
    const zoom = async (ranges) => {
      if (linking) return;
      linking = true;
      for (const name of MAPS) await Plotly.relayout(chart[name], ranges);
      await Plotly.relayout(chart.before, scaleBar(chart.before._fullLayout.xaxis.range));
      linking = false;
    };
    for (const name of MAPS) {
      chart[name].on("plotly_relayout", (change) => {
        if (change["xaxis.autorange"] || change["yaxis.autorange"]) return zoom(whole);
        if (!Object.keys(change).some((key) => key.startsWith("xaxis.range") || key.startsWith("yaxis.range"))) return;
        const full = chart[name]._fullLayout;
        return zoom({ "xaxis.range": [...full.xaxis.range], "yaxis.range": [...full.yaxis.range] });
      });
    }
    by("whole").addEventListener("click", () => zoom(whole));
  }

  // ------------------------------------------------------------------------------------------- series and profile
  function plotLayout(xTitle, yTitle, more) {
    const line = { showgrid: false, zeroline: false, showline: true, linecolor: INK, ticks: "outside", tickcolor: INK, automargin: true };
    return { margin: { l: 52, r: 10, t: 30, b: 40 }, showlegend: false, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, font: { family: "system-ui, sans-serif", size: 12, color: INK },
      modebar: { bgcolor: CLEAR, color: "rgb(130,130,130)" }, hovermode: "closest",
      xaxis: { ...line, title: { text: xTitle, standoff: 6 } }, yaxis: { ...line, title: { text: yTitle, standoff: 6 } }, ...more };
  }

  // legends stand above the charts, where they wrap and the toolbar is not
  function drawKeys() {
    const key = (name, style) => {
      const entry = Object.assign(document.createElement("span"), { textContent: name });
      const swatch = document.createElement("i");
      Object.assign(swatch.style, style);
      entry.prepend(swatch);
      return entry;
    };
    const styles = { solid: "solid", dot: "dotted", dash: "dashed" };
    const curve = (name) => key(title(name), { borderTop: `3px ${styles[LOOK[name].dash || "solid"]} ${name === "atmosphere" ? "currentColor" : LOOK[name].color}` });
    by("series-keys").append(...KINDS.filter((name) => name !== "atmosphere").map(curve));
    if (part.std) by("series-keys").append(key("\u00b1 1 sigma", { height: "10px", background: BAND }));
    by("line-keys").append(...KINDS.map(curve));
  }

  function band(index) {
    if (!part.std) return [];
    const std = series("std", index), after = series("after", index);
    const known = data.dates.map((_, k) => k).filter((k) => std[k] !== null);
    const edge = (sign) => known.map((k) => after[k] + sign * std[k]);
    const look = { x: known.map((k) => data.dates[k]), mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
    return [{ ...look, y: edge(-1), name: "" },
      { ...look, y: edge(1), fill: "tonexty", fillcolor: BAND, name: "\u00b1 1 sigma" }];
  }

  function drawSeries() {
    const index = indexAt(...state.pixel);
    const named = KINDS.filter((name) => name !== "atmosphere");
    const curves = named.map((name) => ({ x: data.dates, y: series(name, index), name: title(name),
      mode: name === "motion" ? "lines" : "lines+markers", line: LOOK[name], hovertemplate: "%{x|%Y-%m-%d}: %{y:.1f} mm" }));
    const marks = state.mode === "velocity" ? [] : weights().map(([k]) => ({ type: "line", xref: "x", yref: "paper", x0: data.dates[k], x1: data.dates[k], y0: 0, y1: 1, line: { color: "rgb(130,130,130)", width: 1, dash: "dot" } }));
    Plotly.react(chart.series, [...band(index), ...curves], plotLayout("", "displacement [mm]", { shapes: marks }), data.config);
    describe(index);
  }

  function describe(index) {
    const terms = weights("velocity");
    const of = (name) => shown(terms.reduce((sum, [k, w]) => sum + w * series(name, index)[k], 0));
    const sigma = part.std ? series("std", index).filter((v) => v !== null).sort((a, b) => a - b) : [];
    const height = number(part.height[state.pixel[0] * width + state.pixel[1]], 1);
    by("readout").textContent = `${where(state.pixel)}; height ${shown(height, 0)} m. Velocity ${of("before")} before, ${of("after")} after` +
      (part.motion ? `, ${of("motion")} of the motion found` : "") + " [mm/yr]." + (sigma.length ? ` Median sigma of a date ${shown(sigma[sigma.length >> 1])} mm.` : "");
  }

  // pixels on the line, or on the row of the pixel while there is no second end
  function profileCells() {
    const [a, b] = state.end ? [state.pixel, state.end] : [[state.pixel[0], 0], [state.pixel[0], width - 1]];
    const number = Math.max(Math.abs(b[0] - a[0]), Math.abs(b[1] - a[1]), 1);
    return Array.from({ length: number + 1 }, (_, k) => [0, 1].map((d) => Math.round(a[d] + ((b[d] - a[d]) * k) / number)));
  }

  function drawProfile() {
    const cells = profileCells(), terms = weights();
    const along = ([row, column]) => Math.hypot((row - cells[0][0]) * Y.step * Y.metres, (column - cells[0][1]) * X.step * X.metres) / 1000;
    const curves = KINDS.map((name) => {
      const values = combined(name, terms);
      return { x: cells.map(along), y: cells.map((c) => (indexAt(...c) === data.nothing ? null : values[indexAt(...c)])),
        name: title(name), mode: "lines", line: LOOK[name], hovertemplate: `%{x:.2f} km: %{y:.1f} ${unit()}` };
    });
    Plotly.react(chart.line, curves, plotLayout("distance [km]", `${state.mode === "velocity" ? "velocity" : "displacement"} [${unit()}]`, {}), data.config);
    by("along").textContent = state.end ? `Profile from ${where(state.pixel)} to ${where(state.end)}.` : "Profile along the row of the pixel.";
    const ends = [cells[0], cells.at(-1)].map((c) => place(...c)), here = place(...state.pixel);
    const points = [ends[0], here, ends[1]];
    if (state.end) points.splice(1, 1);
    const sizes = state.end ? [11, 8] : [0, 11, 0];
    for (const name of MAPS) Plotly.restyle(chart[name], { x: [points.map((p) => p[0])], y: [points.map((p) => p[1])], "marker.size": [sizes] }, [2]);
  }

  // --------------------------------------------------------------------------------------------------- the reader
  function choose(row, column, shift) {
    if (row < 0 || column < 0 || row >= length || column >= width || indexAt(row, column) === data.nothing) return;
    const second = shift || (state.profiling && state.ends % 2 === 1);
    if (state.profiling) state.ends += 1;
    if (second) state.end = [row, column];
    else Object.assign(state, { pixel: [row, column], end: null });
    drawSeries();
    drawProfile();
  }

  function listenToMaps() {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    for (const name of MAPS) {
      chart[name].on("plotly_click", ({ points, event }) => choose(...cell(points[0].x, points[0].y), event.shiftKey));
      chart[name].addEventListener("keydown", (event) => {
        const move = moves[event.key];
        if (!move) return;
        event.preventDefault();
        const from = event.shiftKey ? state.end || state.pixel : state.pixel;
        choose(from[0] + move[0], from[1] + move[1], event.shiftKey);
      });
    }
  }

  function drawAll() {
    drawMaps();
    drawSeries();
    drawProfile();
  }

  function fillChoice() {
    by("choice").hidden = state.mode === "velocity";
    if (state.mode === "velocity") return;
    const names = state.mode === "date" ? data.names : data.pairNames;
    by("list").replaceChildren(...names.map((name, k) => new Option(name, k)));
    by("slider").max = names.length - 1;
    by("slider").value = by("list").value = state[state.mode];
  }

  function listenToControls() {
    let waiting = false;
    const pick = (event) => {
      state[state.mode] = Number(event.target.value);
      by("slider").value = by("list").value = state[state.mode];
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; drawAll(); });
    };
    by("slider").addEventListener("input", pick);
    by("list").addEventListener("change", pick);
    for (const radio of document.querySelectorAll(".controls [name=mode]")) {
      radio.addEventListener("change", () => { state.mode = radio.value; fillChoice(); drawAll(); });
    }
    by("profile").addEventListener("click", () => {
      Object.assign(state, { profiling: !state.profiling, ends: 0 });
      by("profile").setAttribute("aria-pressed", state.profiling);
    });
  }

  function fastest() {
    const velocity = combined("after", weights()).map(Math.abs);
    const best = velocity.indexOf(Math.max(...velocity));
    const at = part.index.indexOf(best);
    return [Math.floor(at / width), at % width];
  }

  function start() {
    for (const name of MAPS) Plotly.newPlot(chart[name], mapTraces(), mapLayout(), data.config);
    by("bar").style.background = `linear-gradient(to right, ${data.colours.scale.join(", ")})`;
    by("bar").style.opacity = OPACITY;
    drawKeys();
    state.pixel = fastest();
    document.querySelector(".controls").reset();
    drawAll();
    Plotly.relayout(chart.before, scaleBar(chart.before._fullLayout.xaxis.range));
    linkZoom();
    listenToMaps();
    listenToControls();
  }

  try {
    start();
  } catch (error) {
    by("readout").textContent = `This section could not be drawn (${error}).`;
    throw error;
  }
})();

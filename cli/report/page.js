// Draws what the page holds. Names come from network files: they are set as text, and escaped
// where Plotly would read markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const FIRST = "#0072b2", SECOND = "#d55e00", THIRD = "#009e73", BOTH = "#46525e", INK = "#1b2733";
  const MANY = [FIRST, SECOND, THIRD, "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const MOST_MARKS = 200;

  const element = (id) => document.getElementById(id);
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text) => plain(text.length > 26 ? text.slice(0, 25) + "…" : text);
  const small = () => window.innerWidth < 760;

  function layout(height, extra) {
    const axis = { gridcolor: "#e6ebef", zerolinecolor: "#c3ccd4", linecolor: "#c3ccd4", automargin: true };
    const all = {
      height, autosize: true, hovermode: "closest", dragmode: "zoom",
      font: { family: "system-ui, Segoe UI, Liberation Sans, Arial, sans-serif", size: 13, color: INK },
      paper_bgcolor: "#fff", plot_bgcolor: "#fff", margin: { l: 58, r: 14, t: 40, b: 46 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      ...extra,
    };
    all.xaxis = { ...axis, ...(extra.xaxis || {}) };
    all.yaxis = { ...axis, ...(extra.yaxis || {}) };
    return all;
  }

  let drawing = 0;
  function wait(promise) {
    drawing += 1;
    document.body.dataset.ready = "no";
    return promise.finally(() => { drawing -= 1; if (!drawing) document.body.dataset.ready = "yes"; });
  }

  function draw(name, traces, about) {
    return wait(Plotly.react(element("plot-" + name), traces, about, CONFIG));
  }

  function options(select, labels, chosen) {
    select.replaceChildren(...labels.map((label, index) => new Option(label, String(index))));
    if (labels.length) select.selectedIndex = Math.min(Math.max(chosen, 0), labels.length - 1);
  }

  function picker(name, items, show) {
    const select = element("pick-" + name);
    options(select, items.map((item) => item.name || item.population), 0);
    select.addEventListener("change", () => show(items[select.selectedIndex]));
    if (items.length) show(items[0]);
    else element("figure-" + name).hidden = true;
  }

  function hide(name) { element("figure-" + name).hidden = true; }

  // Layers, steps, rates

  function bars(name, items, kinds) {
    const places = items.map((_, index) => index);
    const traces = kinds.filter(([key]) => items.some((item) => item[key] !== undefined && item[key] !== null))
      .map(([key, label, color, pattern]) => ({
        type: "bar", orientation: "h", name: label, y: places, x: items.map((item) => item[key]),
        text: items.map((item) => (item[key] === undefined || item[key] === null ? "" : item[key].toPrecision(3) + " %")),
        textposition: "outside", cliponaxis: false, marker: { color, pattern: { shape: pattern, fillmode: "overlay", fgcolor: "#fff", fgopacity: 0.55, size: 6, solidity: 0.25 } },
        hovertemplate: "%{x:.4g} %<extra></extra>",
      }));
    const labels = items.map((item) => short(item.name) + (item.voltage ? " (voltage)" : ""));
    const most = Math.max(...traces.flatMap((trace) => trace.x.map((value) => value || 0)), 0.001);
    draw(name, traces, layout(90 + items.length * (18 * traces.length + 14), {
      barmode: "group", bargap: 0.25,
      xaxis: { title: { text: "error (%)" }, range: [0, most * 1.18] },
      yaxis: { tickvals: places, ticktext: labels, autorange: "reversed" },
    }));
  }

  function layers() {
    if (!data.layers.length) return hide("layers");
    bars("layers", data.layers, [
      ["end to end", "F to Q, end to end", FIRST, ""], ["teacher-forced", "F to Q, teacher-forced", SECOND, "/"],
      ["rounding", "Q to I, rounding", BOTH, "."],
    ]);
  }

  function steps() {
    const { courses, together } = data.steps;
    if (!courses.length) return hide("steps");
    draw("steps", courses.map(({ name, values: y }, index) => {
      return {
        type: "scatter", mode: "lines", name: short(name), y, x: y.map((_, place) => place * together),
        line: { color: MANY[index % MANY.length], width: 2, dash: ["solid", "dash", "dot"][Math.floor(index / MANY.length) % 3] },
        hovertemplate: "step %{x}: %{y:.4g}<extra></extra>",
      };
    }), layout(280, { showlegend: true, xaxis: { title: { text: "time step" } },
      yaxis: { title: { text: "differing spikes" }, rangemode: "tozero" } }));
  }

  function rates(item) {
    const most = 1.06 * Math.max(...item.lower, ...item.upper, 1e-6);
    const every = item.neurons.length === item.total ? "all " + item.total : item.neurons.length + " of " + item.total;
    draw("rates", [
      { type: "scatter", mode: "lines", x: [0, most], y: [0, most], line: { color: "#9aa5b0", dash: "dot" }, hoverinfo: "skip", showlegend: false },
      { type: "scatter", mode: "markers", x: item.lower, y: item.upper, customdata: item.neurons, showlegend: false,
        marker: { color: FIRST, size: 7, opacity: 0.65 }, hovertemplate: "neuron %{customdata}: %{x:.4g} to %{y:.4g}<extra></extra>" },
    ], layout(360, {
      title: { text: every + " neurons of " + short(item.population), font: { size: 14 } },
      xaxis: { title: { text: "spikes a step, " + plain(data.rungs[0]) }, range: [-0.02 * most, most] },
      yaxis: { title: { text: "spikes a step, I" }, range: [-0.02 * most, most] },
    }));
  }

  // Histograms

  function histogram(name, item, unit) {
    const middle = item.after.map((_, index) => item.start + (index + 0.5) * item.width);
    const kind = (label, y, color, opacity) => ({
      type: "bar", name: label, x: middle, y, width: item.width, marker: { color, opacity, line: { width: 0 } },
      hovertemplate: "%{x:.5g}: %{y}<extra>" + label + "</extra>",
    });
    const traces = [];
    if (item.before) traces.push(kind("before (float)", item.before, FIRST, 0.55));
    const after = kind("after (integers)", item.after, SECOND, 1);
    traces.push(item.before ? { ...after, width: item.width * 0.4 } : after);
    draw(name, traces, layout(300, { barmode: "overlay", showlegend: true,
      xaxis: { title: { text: unit }, range: [item.start - 4 * item.width, item.start + (item.after.length + 4) * item.width] }, yaxis: { title: { text: "count" } } }));
  }

  // Samples

  const state = { sample: 0, population: "", left: "", right: "", neuron: -1 };
  const exhibit = () => data.samples[state.sample];
  const ran = (item) => {
    const names = Object.keys(item.predictions);
    return [...data.rungs, ...names.filter((name) => !data.rungs.includes(name))].filter((name) => names.includes(name));
  };
  const panel = () => exhibit().panels.find((item) => item.population === state.population);

  function place(shape, flat) {
    const found = [];
    for (const extent of [...shape].reverse()) { found.unshift(flat % extent); flat = Math.floor(flat / extent); }
    return found.join(",");
  }

  function events(item, rung) {
    const found = new Map(), packed = item.spikes[rung];
    let at = 0;
    packed.at.forEach((step, index) => { at += step; found.set(at, packed.n ? packed.n[index] : 1); });
    return found;
  }

  function pickSample(index) {
    state.sample = index;
    const names = exhibit().panels.map((item) => item.population);
    if (!names.includes(state.population) && names.includes(exhibit().focus)) state.population = exhibit().focus;
    if (!names.includes(state.population)) {
      const most = Math.max(...exhibit().panels.map((item) => item.differing));
      state.population = exhibit().panels.find((item) => item.differing === most).population;
    }
    options(element("pick-sample"), data.samples.map((item) => "sample " + item.sample + " - " + item.why), index);
    options(element("pick-population"), names, names.indexOf(state.population));
    const rungs = ran(exhibit());
    const extra = rungs.find((rung) => !data.rungs.includes(rung));
    if (!rungs.includes(state.left)) state.left = extra ? "I" : rungs[0];
    if (!rungs.includes(state.right)) state.right = extra || "I";
    options(element("pick-left"), rungs, rungs.indexOf(state.left));
    options(element("pick-right"), rungs, rungs.indexOf(state.right));
    element("previous").disabled = index === 0;
    element("next").disabled = index === data.samples.length - 1;
    pickNeuron(-1);
    about();
    rasters();
  }

  function about() {
    const item = exhibit();
    const said = ran(item).map((rung) => rung + " says " + item.predictions[rung]).join(", ");
    const label = item.label === null ? "" : " Its label is " + item.label + ".";
    const differing = item.panels.filter((one) => Object.keys(one.spikes).length)
      .map((one) => one.differing + " in " + one.population).join(", ");
    element("about-sample").textContent = "Sample " + item.sample + ": " + said + "." + label +
      (differing ? " Spikes of I that differ from " + data.rungs[0] + ": " + differing + "." : "");
  }

  function differs(item, neuron) {
    if (!item.spikes[state.left] || !item.spikes[state.right]) return 0;
    const one = events(item, state.left), two = events(item, state.right), count = item.neurons.length;
    let found = 0;
    for (let step = 0; step < item.steps; step++) {
      const at = step * count + neuron;
      if ((one.get(at) || 0) !== (two.get(at) || 0)) found += 1;
    }
    return found;
  }

  function pickNeuron(row) {
    const item = panel(), courses = item.volts[state.left].length;
    state.neuron = row >= 0 && row < courses ? row : 0;
    options(element("pick-neuron"), item.neurons.slice(0, courses).map((neuron, index) => {
      const parts = differs(item, index);
      return place(item.shape, neuron) + (parts ? " - differs at " + parts + (parts === 1 ? " step" : " steps") : "");
    }), state.neuron);
    voltage();
  }

  function ticks(item, rows) {
    const every = Math.max(1, Math.ceil(rows.length / 8));
    const shown = rows.map((row, index) => [index, row]).filter(([index]) => index % every === 0);
    return { tickvals: shown.map(([index]) => index), ticktext: shown.map(([, row]) => place(item.shape, item.neurons[row])) };
  }

  function raster(side, rung, other, item, rows) {
    const count = item.neurons.length, height = new Map(rows.map((row, index) => [row, index]));
    const own = events(item, rung), theirs = events(item, other), first = exhibit().start;
    const groups = { both: [], more: [], less: [] };
    for (const [at, number] of own) {
      const there = theirs.get(at) || 0;
      groups[number === there ? "both" : number > there ? "more" : "less"].push(at);
    }
    for (const at of theirs.keys()) if (!own.has(at)) groups.less.push(at);
    const color = side === "left" ? FIRST : SECOND, dense = own.size + theirs.size > 3000 ? 0.65 : 1;
    const only = item.spikes[rung].n || item.spikes[other].n ? "more in " : "only in ";
    const kinds = [
      ["both", "in both", { symbol: "line-ns", size: 6 * dense, color: BOTH, line: { width: 1.6 * dense, color: BOTH } }],
      ["less", only + other, { symbol: "circle-open", size: 7 * dense, color: side === "left" ? SECOND : FIRST, line: { width: 1.3 } }],
      ["more", only + rung, { symbol: "diamond", size: 7.5 * dense, color }],
    ];
    const traces = kinds.map(([key, label, marker]) => ({
      type: "scatter", mode: "markers", name: plain(label) + " (" + groups[key].length + ")", marker,
      x: groups[key].map((at) => first + Math.floor(at / count)), y: groups[key].map((at) => height.get(at % count)),
      customdata: groups[key].map((at) => [at % count, place(item.shape, item.neurons[at % count])]),
      hovertemplate: "step %{x}, neuron %{customdata[1]}<extra></extra>",
    }));
    const shown = count === item.total ? "" : " (" + count + " of " + item.total + ")";
    draw(side, traces, layout(small() ? 340 : 430, {
      title: { text: "<b>" + plain(rung) + "</b>  " + short(item.population), x: 0.01, y: 0.985, yanchor: "top", font: { size: 15, color } },
      margin: { l: 58, r: 14, t: 66, b: 46 },
      legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0, font: { size: 12 } }, showlegend: true,
      xaxis: { title: { text: "time step" }, range: span(item) },
      yaxis: { title: { text: "neuron" + shown }, range: [-1 - rows.length / 50, rows.length * 1.02], ...ticks(item, rows) },
      shapes: [row(rows)],
    }));
  }

  const span = (item) => [exhibit().start - 0.7, exhibit().start + item.steps - 0.3];

  function row(rows) {
    const height = rows.indexOf(state.neuron);
    return { type: "rect", xref: "paper", x0: 0, x1: 1, y0: height - 0.5, y1: height + 0.5, layer: "below",
      line: { width: 0 }, fillcolor: "rgba(230,159,0,0.28)" };
  }

  const order = (item) => item.neurons.map((_, index) => index).sort((one, two) => item.neurons[one] - item.neurons[two]);

  function rasters() {
    const item = panel(), spiking = Object.keys(item.spikes).length > 0;
    element("plot-left").hidden = element("plot-right").hidden = !spiking;
    if (!spiking) return;
    raster("left", state.left, state.right, item, order(item));
    raster("right", state.right, state.left, item, order(item));
    for (const side of ["left", "right"]) {
      const plot = element("plot-" + side);
      if (plot.dataset.ready) continue;
      plot.dataset.ready = "yes";
      plot.on("plotly_click", (event) => clicked(event.points[0].customdata[0]));
      plot.on("plotly_relayout", (change) => follow(side, change));
    }
  }

  function clicked(neuron) {
    if (neuron >= panel().volts[state.left].length) return; // its voltage is not in the file
    pickNeuron(neuron);
    highlight();
  }

  function highlight() {
    const item = panel();
    if (!Object.keys(item.spikes).length) return;
    for (const side of ["left", "right"]) wait(Plotly.relayout(element("plot-" + side), { shapes: [row(order(item))] }));
  }

  let following = false;
  function follow(side, change) {
    const moved = Object.keys(change).some((key) => key.includes("axis."));
    if (following || !moved) return;
    following = true;
    const { xaxis, yaxis } = element("plot-" + side).layout;
    const other = element("plot-" + (side === "left" ? "right" : "left"));
    const range = { "xaxis.range": [...xaxis.range], "yaxis.range": [...yaxis.range] };
    wait(Promise.all([
      Plotly.relayout(other, range), Plotly.relayout(element("plot-voltage"), { "xaxis.range": [...xaxis.range] }),
    ])).finally(() => { following = false; });
  }

  // Far below the threshold nothing is decided: what is shown at first is around it.
  function near(item) {
    const vth = item.vth[state.left];
    if (!vth) return {};
    const values = [state.left, state.right].flatMap((rung) => [...item.volts[rung][state.neuron], item.vth[rung][state.neuron]]);
    const level = vth[state.neuron], most = Math.max(...values), least = Math.min(...values);
    const low = Math.max(least, level - 4 * Math.max(Math.abs(level), most - level));
    const room = 0.06 * (most - low);
    return { range: [low - room, most + room] };
  }

  function voltage() {
    const item = panel(), first = exhibit().start, sides = [[state.left, FIRST, "solid"], [state.right, SECOND, "dash"]];
    const traces = [], at = item.volts[state.left][state.neuron].map((_, step) => first + step);
    const sent = sides.map(([rung]) => (item.spikes[rung] ? events(item, rung) : new Map()));
    const spikes = (which, step) => sent[which].get(step * item.neurons.length + state.neuron) || 0;
    sides.forEach(([rung, color, dash], which) => {
      const y = item.volts[rung][state.neuron];
      traces.push({ type: "scatter", mode: "lines", name: plain(rung), x: at, y, line: { color, dash, width: 2 },
        hovertemplate: "step %{x}: %{y:.6g}<extra>" + plain(rung) + "</extra>" });
      const fired = y.map((_, step) => step).filter((step) => spikes(which, step));
      if (fired.length) traces.push({ type: "scatter", mode: "markers", name: plain("spike of " + rung), x: fired.map((step) => first + step),
        y: fired.map((step) => y[step]), marker: { color, size: 8, symbol: which ? "triangle-down" : "triangle-up", line: { color: "#fff", width: 1 } }, hoverinfo: "skip" });
      const vth = item.vth[rung];
      if (vth && (which === 0 || Math.abs(vth[state.neuron] - item.vth[state.left][state.neuron]) > 1e-3 * Math.abs(vth[state.neuron]))) {
        traces.push({ type: "scatter", mode: "lines", name: "threshold" + (which ? " of " + plain(rung) : ""), x: span(item), y: [vth[state.neuron], vth[state.neuron]],
          line: { color: which ? "#8a5a00" : "#000", width: 1.2, dash: "dot" }, hovertemplate: "threshold %{y:.6g}<extra></extra>" });
      }
    });
    const parts = at.filter((_, step) => spikes(0, step) !== spikes(1, step)).slice(0, MOST_MARKS);
    draw("voltage", traces, layout(small() ? 320 : 340, {
      title: { text: "voltage of " + short(item.population) + " [" + place(item.shape, item.neurons[state.neuron]) + "]", font: { size: 14 }, x: 0.01, y: 0.985, yanchor: "top" },
      margin: { l: 58, r: 14, t: 66, b: 46 }, showlegend: true,
      xaxis: { title: { text: "time step" }, range: span(item) }, yaxis: { title: { text: "voltage" }, ...near(item) },
      shapes: parts.map((step) => ({ type: "rect", yref: "paper", y0: 0, y1: 1, x0: step - 0.5, x1: step + 0.5, layer: "below",
        line: { width: 0 }, fillcolor: "rgba(230,159,0,0.28)" })),
    }));
  }

  function samples() {
    if (!data.samples.length) return hide("samples");
    const on = (name, action) => element("pick-" + name).addEventListener("change", (event) => action(event.target));
    on("sample", (select) => pickSample(select.selectedIndex));
    on("population", (select) => { state.population = exhibit().panels[select.selectedIndex].population; pickSample(state.sample); });
    for (const side of ["left", "right"]) {
      on(side, (select) => { state[side] = select.selectedOptions[0].textContent; pickNeuron(state.neuron); rasters(); });
    }
    on("neuron", (select) => { pickNeuron(select.selectedIndex); highlight(); });
    element("previous").addEventListener("click", () => pickSample(state.sample - 1));
    element("next").addEventListener("click", () => pickSample(state.sample + 1));
    element("selection").textContent = data.selection;
    pickSample(0);
  }

  function attribution() {
    if (!data.attribution.length) return;
    bars("attribution", data.attribution, [["alone", "quantized alone", FIRST, ""], ["without", "all but this", SECOND, "/"]]);
  }

  layers();
  steps();
  picker("rates", data.rates, rates);
  if (element("figure-samples")) samples();
  picker("weights", data.weights, (item) => histogram("weights", item, "weight"));
  picker("decays", data.decays, (item) => histogram("decays", item, "kept a step"));
  attribution();
})();

function (root, facts) {
  "use strict";
  const k = facts.corners.length - 1,
    line = facts.kind === "line",
    drawn = facts.kind !== "table";
  const K = facts.names.length,
    space = "http://www.w3.org/2000/svg";
  const one = (selector) => root.querySelector(selector);

  // -- elements

  function make(tag, attributes, ...children) {
    const element = tag.startsWith("svg:") ? document.createElementNS(space, tag.slice(4)) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }
  const tell = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const cut = (text, length) => {
    const signs = Array.from(text.slice(0, 2 * length + 2));
    return signs.length > length ? signs.slice(0, length).join("") + "…" : text;
  };

  // -- numbers

  const number = (x, digits = 2) =>
    Number.isFinite(x) ? (Math.round(x * 10 ** digits) / 10 ** digits + 0).toFixed(digits).replace("-", "−") : "not known";
  const signed = (x, digits = 2) => (Number(x.toFixed(digits)) > 0 ? "+" : "") + number(x, digits);
  const small = (x) => (x >= 0.095 ? x.toFixed(2) : Number(x.toPrecision(2)).toString());
  const portion = (x) =>
    x >= 1 - 1e-9 ? "100 %" : x <= 0 ? "0 %" : x < 1e-4 ? "under 0.01 %" : x >= 0.9999 ? "over 99.99 %" : (100 * x).toFixed(2) + " %";
  const brief = (x) => portion(x).replace("under ", "< ").replace("over ", "> "); // in a column
  const counted = (n, what) => n.toLocaleString("en") + " " + what + (n === 1 ? "" : "s");
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const weightsOf = (t) => [1 - sum(t), ...t];
  const scaled = (list) => list.map((x) => x / facts.unit);

  // -- geometry: points t hold the last k weights (the knobs); flat coordinates u keep the distances between weights

  const flat = (t) => [Math.SQRT2 * t[0] + t[1] / Math.SQRT2, Math.sqrt(1.5) * t[1]];
  const pixel = (t) => {
    const w = weightsOf(t);
    return [0, 1].map((axis) => sum(w.map((x, i) => x * facts.places[i][axis])));
  };
  const corner = facts.places;
  function fromPixel(x, y) {
    if (line) return [(x - corner[0][0]) / (corner[1][0] - corner[0][0])];
    const [a, b, c, d] = [
      corner[1][0] - corner[0][0],
      corner[2][0] - corner[0][0],
      corner[1][1] - corner[0][1],
      corner[2][1] - corner[0][1],
    ];
    const det = a * d - b * c,
      dx = x - corner[0][0],
      dy = y - corner[0][1];
    return [(d * dx - b * dy) / det, (a * dy - c * dx) / det];
  }
  const area = (polygon) =>
    Math.abs(
      sum(
        polygon.map((p, i) => {
          const q = polygon[(i + 1) % polygon.length];
          return p[0] * q[1] - q[0] * p[1];
        }),
      ),
    ) / 2;
  const middle = (points) => points[0].map((_, i) => sum(points.map((p) => p[i])) / points.length);

  function edgesOf(outline) {
    // half-planes a·u + b·v + c >= 0 inside; their value is the distance between weights
    const points = outline.map(flat),
      centre = middle(points),
      edges = [];
    for (let i = 0; i < points.length; i++) {
      const p = points[i],
        q = points[(i + 1) % points.length];
      let a = p[1] - q[1],
        b = q[0] - p[0];
      const length = Math.hypot(a, b);
      if (length < 1e-9) continue;
      a /= length;
      b /= length;
      let c = -(a * p[0] + b * p[1]);
      if (a * centre[0] + b * centre[1] + c < 0) {
        a = -a;
        b = -b;
        c = -c;
      }
      edges.push({ a, b, c, own: isOwn(p, q) });
    }
    return edges;
  }
  const domain = { points: facts.vertices.map(scaled), edges: [] };
  const near = 4 / facts.unit;
  const isOwn = (p, q) =>
    domain.edges.some((e) => Math.abs(e.a * p[0] + e.b * p[1] + e.c) < near && Math.abs(e.a * q[0] + e.b * q[1] + e.c) < near);
  if (k === 2) domain.edges = edgesOf(domain.points);
  const height = (facet, t) => {
    let value = facet[0];
    for (let i = 0; i < k; i++) value += facet[i + 1] * t[i];
    return value;
  };
  const ends = line ? [domain.points[0][0], domain.points[1][0]] : null;

  function within(t) {
    // the nearest point of the domain, in the picture
    if (line) return [Math.min(Math.max(t[0], ends[0]), ends[1])];
    const u = flat(t);
    if (domain.edges.every((e) => e.a * u[0] + e.b * u[1] + e.c >= -1e-12)) return t;
    const [x, y] = pixel(t),
      points = domain.points.map(pixel);
    let best = null,
      least = Infinity;
    points.forEach((p, i) => {
      const q = points[(i + 1) % points.length],
        d = [q[0] - p[0], q[1] - p[1]];
      const s = Math.min(1, Math.max(0, ((x - p[0]) * d[0] + (y - p[1]) * d[1]) / (d[0] ** 2 + d[1] ** 2 || 1)));
      const far = Math.hypot(p[0] + s * d[0] - x, p[1] + s * d[1] - y);
      if (far < least) {
        least = far;
        best = domain.points[i].map((v, j) => v + s * (domain.points[(i + 1) % points.length][j] - v));
      }
    });
    return best;
  }
  function towards(from, to) {
    // as far as the domain reaches
    let share = 1;
    for (const facet of facts.facets) {
      const a = height(facet, from),
        b = height(facet, to);
      if (b < 0 && a - b > 0) share = Math.min(share, Math.max(0, a / (a - b)));
    }
    return from.map((v, i) => v + share * (to[i] - v));
  }
  function clip(polygon, edges) {
    // a convex polygon of flat points
    for (const e of edges) {
      const inside = polygon.map((p) => e.a * p[0] + e.b * p[1] + e.c);
      if (inside.every((v) => v >= 0)) continue;
      const kept = [];
      polygon.forEach((p, i) => {
        const j = (i + 1) % polygon.length,
          q = polygon[j];
        if (inside[i] >= 0) kept.push(p);
        if (inside[i] * inside[j] < 0) {
          const s = inside[i] / (inside[i] - inside[j]);
          kept.push([p[0] + s * (q[0] - p[0]), p[1] + s * (q[1] - p[1])]);
        }
      });
      if (kept.length < 3) return polygon; // thinner than what is kept of it
      polygon = kept;
    }
    return polygon;
  }
  const unflat = (u) => {
    const second = u[1] / Math.sqrt(1.5);
    return [(u[0] - second / Math.SQRT2) / Math.SQRT2, second];
  };

  // -- regions of a prompt and sample, made when they are asked for

  const rows = facts.prompts.map((prompt) => prompt.rows.map((row) => ({ prompt, row, regions: null })));
  const chosen = facts.prompts.map((_, i) => i).filter((i) => facts.prompts[i].text !== null);

  function ready(p, s) {
    const held = rows[p][s];
    if (held.regions) return held;
    const { prompt, row } = held,
      shared = drawn ? row.p.map(scaled) : row.p;
    held.regions = row.a.map((answer, i) => {
      const [reply, scores] = prompt.answers[answer],
        region = { i, p, s, reply, scores, share: row.m[i] };
      if (drawn) {
        region.outline = row.o[i].map((j) => shared[j]);
        region.centre = middle(region.outline);
        if (k === 2) {
          const us = region.outline.map(flat);
          region.edges = edgesOf(region.outline);
          region.box = [0, 1].flatMap((axis) => [Math.min(...us.map((u) => u[axis])), Math.max(...us.map((u) => u[axis]))]);
        }
      } else {
        region.facets = row.o[i].map((j) => (j >= 0 ? shared[j] : shared[~j].map((x) => -x)));
        region.centre = scaled(row.c[i]);
      }
      return region;
    });
    held.order = held.regions.map((_, i) => i).sort((a, b) => held.regions[b].share - held.regions[a].share);
    if (line) held.sorted = [...held.regions].sort((a, b) => a.outline[0][0] - b.outline[0][0]);
    if (k === 2) held.index = gridIndex(held.regions);
    return held;
  }
  function gridIndex(regions) {
    // squares of the picture, each with the regions that may reach into it
    const us = domain.points.map(flat),
      low = [0, 1].map((axis) => Math.min(...us.map((u) => u[axis])));
    const high = [0, 1].map((axis) => Math.max(...us.map((u) => u[axis])));
    const n = Math.max(4, Math.min(256, Math.ceil(2 * Math.sqrt(regions.length)))),
      squares = Array.from({ length: n * n }, () => []);
    const at = (value, axis) => Math.max(0, Math.min(n - 1, Math.floor((n * (value - low[axis])) / (high[axis] - low[axis]))));
    for (const region of regions) {
      const [x0, x1, y0, y1] = region.box;
      for (let x = at(x0 - 1e-6, 0); x <= at(x1 + 1e-6, 0); x++)
        for (let y = at(y0 - 1e-6, 1); y <= at(y1 + 1e-6, 1); y++) squares[y * n + x].push(region);
    }
    return (u) => squares[at(u[1], 1) * n + at(u[0], 0)];
  }
  function locate(p, s, t) {
    // the region that holds t, or null in a hole
    const held = ready(p, s);
    if (line) {
      let low = 0,
        high = held.sorted.length - 1;
      while (low < high) {
        const mid = (low + high + 1) >> 1;
        if (held.sorted[mid].outline[0][0] <= t[0]) low = mid;
        else high = mid - 1;
      }
      const found = held.sorted[low];
      return found && t[0] >= found.outline[0][0] - near && t[0] <= found.outline[1][0] + near ? found : null;
    }
    let best = null,
      deepest = -Infinity;
    const u = k === 2 ? flat(t) : null;
    for (const region of u ? held.index(u) : held.regions) {
      let depth = Infinity;
      if (u)
        for (const e of region.edges) {
          depth = Math.min(depth, e.a * u[0] + e.b * u[1] + e.c);
          if (depth < deepest) break;
        }
      else
        for (const facet of region.facets) {
          depth = Math.min(depth, height(facet, t));
          if (depth < deepest) break;
        }
      if (depth > deepest) {
        deepest = depth;
        best = region;
      }
    }
    return deepest >= -10 * near ? best : null;
  }
  function marginOf(region, t) {
    // how far the weights may move before the reply changes
    if (line) {
      const [a, b] = [region.outline[0][0], region.outline[1][0]];
      return Math.SQRT2 * Math.max(0, Math.min(a > ends[0] + near ? t[0] - a : Infinity, b < ends[1] - near ? b - t[0] : Infinity));
    }
    const u = k === 2 ? flat(t) : null;
    const distances = u
      ? region.edges.filter((e) => !e.own).map((e) => e.a * u[0] + e.b * u[1] + e.c)
      : region.facets.map((f) => height(f, t));
    return Math.max(0, Math.min(...distances, Infinity));
  }

  // -- what there is at a point

  const value = (scores, colour) =>
    colour === 0 ? sum(scores) / K : colour <= K ? scores[colour - 1] : sum(scores.map((x, i) => x * facts.utility[i]));
  const all = facts.prompts.flatMap((_, p) => Array.from({ length: facts.samples }, (_, s) => [p, s]));
  const whole = facts.prompts.length === facts.total;
  const everyone = "all prompts" + (facts.samples > 1 ? " and samples" : "");

  function onePrompt(p, s, t, region) {
    const found = region || locate(p, s, t);
    if (!found) return { key: "hole", t, hole: true };
    return {
      key: `${p}/${s}/${found.i}`,
      t,
      p,
      s,
      region: found,
      reply: found.reply,
      scores: found.scores,
      share: found.share,
      margin: marginOf(found, t),
    };
  }
  function meanOver(t) {
    if (!whole) return gridMean(t);
    const found = all.map(([p, s]) => locate(p, s, t));
    if (found.includes(null)) return { key: "hole", t, hole: true };
    const scores = facts.names.map((_, j) => sum(found.map((r) => r.scores[j])) / found.length);
    const here = {
      key: "mean/" + found.map((r) => r.i).join(","),
      t,
      mean: true,
      found,
      scores,
      margin: Math.min(...found.map((r) => marginOf(r, t))),
    };
    if (line) {
      here.outline = [[Math.max(...found.map((r) => r.outline[0][0]))], [Math.min(...found.map((r) => r.outline[1][0]))]];
      here.share = Math.max(0, here.outline[1][0] - here.outline[0][0]) / (ends[1] - ends[0]);
    } else if (drawn) {
      const cell = found.reduce((polygon, r) => clip(polygon, r.edges), domain.points.map(flat));
      here.outline = cell.map(unflat);
      here.share = area(cell) / area(domain.points.map(flat));
    }
    return here;
  }
  function gridMean(t) {
    // the nearest point of the grid
    if (!facts.grid) return { key: "none", t, none: true };
    let best = 0,
      least = Infinity;
    facts.grid.points.forEach((point, i) => {
      const far = sum(point.map((x, j) => (x / facts.unit - t[j]) ** 2));
      if (far < least) {
        least = far;
        best = i;
      }
    });
    return { key: "grid/" + best, t, mean: true, grid: true, scores: facts.grid.scores[best], margin: NaN };
  }

  // -- state

  const state = { view: chosen[0], sample: 0, colour: 0, here: null, pinned: null };
  const centre = middle(domain.points);
  const isMean = () => state.view === "mean";
  const look = (t, region) => (isMean() ? meanOver(t) : onePrompt(state.view, state.sample, t, region));
  const columns = facts.knobs.length ? facts.knobs : facts.corners;
  const valuesOf = (t) => (facts.knobs.length ? t : weightsOf(t));
  const pointText = (t) => columns.map((name, i) => `${name} ${number(valuesOf(t)[i], 3)}`).join(", ");
  const viewName = (here) =>
    here.mean
      ? `mean over all ${counted(facts.total, "prompt")}`
      : `prompt ${facts.prompts[here.p].n}` + (facts.samples > 1 ? `, sample ${here.s + 1}` : "");

  // -- controls

  const controls = one(".controls"),
    field = (name, control) => make("label", {}, make("span", {}, name), control);
  const promptChoice = make("select", { class: "prompts" });
  if (all.length > 1) promptChoice.append(make("option", { value: "mean" }, `Mean over all ${counted(facts.total, "prompt")}`));
  for (const p of chosen)
    promptChoice.append(make("option", { value: p, dir: "auto" }, `${facts.prompts[p].n}. ${cut(facts.prompts[p].text, 90)}`));
  const sampleChoice = make("select", { class: "samples" });
  for (let s = 0; s < facts.samples; s++) sampleChoice.append(make("option", { value: s }, `${s + 1} of ${facts.samples}`));
  const sampleField = field("Sample", sampleChoice);
  const colourChoice = make("select", { class: "colours" });
  ["mean score", ...facts.names, ...(facts.utility ? ["utility"] : [])].forEach((name, i) =>
    colourChoice.append(make("option", { value: i }, name)),
  );
  const goChoice = make("select", { class: "places" }),
    places = [];
  const place = (name, t) => {
    goChoice.append(make("option", { value: places.length }, name));
    places.push(t);
  };
  goChoice.append(make("option", { value: "" }, "choose a place"));
  place("the middle", centre);
  if (facts.best) place("the optimum", scaled(facts.best));
  domain.points.forEach((t) => {
    const w = weightsOf(t),
      alone = w.findIndex((x) => Math.abs(x - 1) < 1e-9);
    place(alone >= 0 && facts.directions ? `only ${facts.corners[alone]}` : pointText(t), t);
  });
  (facts.front || []).slice(0, 20).forEach((t, i) => place(`Pareto front ${i + 1}: ${pointText(scaled(t))}`, scaled(t)));
  const bestButton = make("button", { type: "button", class: "to-best" }, "★ Go to the optimum");
  const search = make("input", {
    type: "search",
    class: "search",
    placeholder: "words of a reply or a prompt",
    autocomplete: "off",
    spellcheck: "false",
  });
  const pinButton = make("button", { type: "button", class: "pin", "aria-pressed": "false" }, "Pin to compare");
  controls.append(field("Prompt", promptChoice));
  if (facts.samples > 1) controls.append(sampleField);
  if (drawn) controls.append(field("Colour by", colourChoice));
  controls.append(field("Go to", goChoice));
  if (facts.best) controls.append(bestButton);
  controls.append(field("Search replies", search));
  controls.hidden = false;

  // -- sliders: one a corner, or one a knob

  const sliders = columns.map((name, i) => {
    const [low, high] = facts.knobs.length
      ? [facts.low[i], facts.high[i]]
      : [Math.min(0, ...domain.points.map((t) => weightsOf(t)[i])), Math.max(1, ...domain.points.map((t) => weightsOf(t)[i]))];
    const input = make("input", {
      type: "range",
      min: low,
      max: high,
      step: (high - low) / 1000,
      "aria-label": facts.knobs.length ? name : `weight of ${name}`,
    });
    const shown = make("output", {}, "");
    input.addEventListener("input", () => slide(i, Number(input.value)));
    one(".sliders").append(make("label", {}, make("span", { dir: "auto" }, name), input, shown));
    return { input, shown };
  });
  one(".sliders").hidden = false;
  function slide(i, x) {
    let to;
    if (facts.knobs.length) to = state.here.t.map((v, j) => (j === i ? x : v));
    else {
      // the others share the rest as they did
      const w = weightsOf(state.here.t),
        rest = sum(w) - w[i];
      to = w.map((v, j) => (j === i ? x : rest > 1e-9 ? (v * (1 - x)) / rest : (1 - x) / k)).slice(1);
    }
    moveTo(towards(state.here.t, to));
  }

  // -- the picture: regions on a canvas, what moves in one drawing above it

  const picture = one(".picture");
  let canvas = null,
    context = null,
    svg = null,
    marker = null,
    halo = null,
    outline = null,
    fronts = null,
    frontBox = null;
  if (drawn) {
    const image = picture.querySelector("img");
    if (image) {
      const frame = new DOMParser().parseFromString(image.dataset.frame, "image/svg+xml").documentElement;
      image.replaceWith(document.importNode(frame, true));
    }
    svg = picture.querySelector("svg");
    svg.querySelectorAll(".still").forEach((e) => e.remove());
    canvas = make("canvas", { "aria-hidden": "true" });
    picture.prepend(canvas);
    context = canvas.getContext("2d");
    for (const [key, text] of Object.entries({ tabindex: 0, role: "application", "aria-roledescription": "map of replies" }))
      svg.setAttribute(key, text);
    Object.assign(picture.style, { position: "relative" }); // also where the style sheet is gone
    Object.assign(canvas.style, { position: "absolute", inset: "0", width: "100%", height: "100%" });
    Object.assign(svg.style, { position: "relative", width: "100%", height: "auto" });
    const keys = line ? "Left and right arrows move" : "Arrow keys move";
    tell(one(".hint"), "Drag the point, or use the arrow keys; page down and up go through the regions, enter pins the reply.");
    one(".hint").hidden = false;
    svg.setAttribute(
      "aria-label",
      `Map of replies over ${columns.join(", ")}. ${keys} the point, with shift in larger steps; ` +
        "page up and page down go through the regions by size; home goes to the optimum; enter pins the reply to compare.",
    );
    halo = make("svg:path", { fill: "none", stroke: "#fff", "stroke-width": 5, "stroke-linejoin": "round", "pointer-events": "none" });
    outline = make("svg:path", {
      fill: "none",
      stroke: "#d00000",
      "stroke-width": 2.5,
      "stroke-linejoin": "round",
      "pointer-events": "none",
      class: "region",
    });
    marker = make(
      "svg:g",
      { class: "here", "pointer-events": "none" },
      make("svg:circle", { r: 5, fill: "none", stroke: "#fff", "stroke-width": 6 }),
      make("svg:circle", { r: 5, fill: "none", stroke: "#d00000", "stroke-width": 2.5 }),
    );
    const many = (facts.front || []).length > 60,
      r = many ? 2 : 4;
    const diamonds = (facts.front || []).map((t) => {
      const [x, y] = pixel(scaled(t));
      return `M${x.toFixed(1)},${((line ? 32 : y) - r).toFixed(1)}l${r},${r}l-${r},${r}l-${r},-${r}z`;
    });
    fronts = make("svg:path", {
      class: "fronts",
      "pointer-events": "none",
      d: diamonds.join(""),
      fill: "#fff",
      stroke: "#000",
      "stroke-width": many ? 0.4 : 1,
    });
    const legendFront = one(".legend .front");
    if (legendFront) {
      // many marks hide what they mark
      frontBox = make("input", { type: "checkbox", checked: !many });
      const label = make("label", { class: legendFront.className }, frontBox, " ", ...legendFront.childNodes);
      const listed = facts.front.length < facts.marks ? `${facts.front.length.toLocaleString("en")} of ` : "";
      label.append(` (${listed}${counted(facts.marks, "point")})`);
      legendFront.replaceWith(label);
      frontBox.addEventListener("change", () => legend());
    }
    const star = svg.querySelector(".best");
    if (star) {
      star.setAttribute("pointer-events", "none");
      svg.insertBefore(halo, star);
      svg.insertBefore(outline, star);
      svg.insertBefore(fronts, star);
    } else svg.append(halo, outline, fronts);
    const edge = domain.points.map(pixel),
      reach = line
        ? [
            [edge[0][0], 0],
            [edge[1][0], 0],
            [edge[1][0], facts.height - 54],
            [edge[0][0], facts.height - 54],
          ]
        : edge;
    // what a finger drags; beside it the page scrolls
    const hit = make("svg:path", { class: "hit", fill: "transparent", d: "M" + reach.map((p) => p.join(",")).join("L") + "Z" });
    svg.append(marker, hit);
    let lastWidth = 0;
    new ResizeObserver(() => {
      if (state.here && svg.clientWidth !== lastWidth) {
        lastWidth = svg.clientWidth;
        paintRegions();
      }
    }).observe(svg);
    let waiting = null;
    const follow = (event) => {
      if (!waiting)
        requestAnimationFrame(() => {
          const box = svg.getBoundingClientRect(),
            scale = 440 / box.width;
          moveTo(within(fromPixel((waiting[0] - box.left) * scale, (waiting[1] - box.top) * scale)));
          waiting = null;
        });
      waiting = [event.clientX, event.clientY];
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.button || (event.pointerType === "touch" && event.target !== hit)) return;
      svg.focus({ preventScroll: true });
      try {
        svg.setPointerCapture(event.pointerId);
      } catch (_) {
        /* a made-up pointer */
      }
      follow(event);
      event.preventDefault();
    });
    svg.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) follow(event);
    });
    svg.addEventListener("keydown", (event) => {
      const [x, y] = pixel(state.here.t),
        step = event.shiftKey ? 20 : 4,
        moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) {
        let [dx, dy] = moves[event.key];
        if (line && dy) [dx, dy] = [-dy, 0];
        moveTo(within(fromPixel(x + step * dx, y + step * dy)));
      } else if (event.key === "Home" && facts.best) moveTo(scaled(facts.best));
      else if (event.key === "PageDown" || event.key === "PageUp") next(event.key === "PageDown" ? 1 : -1);
      else if (event.key === "Enter" || event.key === " ") pin();
      else if (event.key === "Escape" && state.pinned) pin();
      else return;
      event.preventDefault();
    });
  }
  function next(step) {
    // the next region by size
    if (isMean() || state.here.hole) return;
    const held = ready(state.view, state.sample),
      n = held.order.length,
      at = held.order.indexOf(state.here.region.i);
    const region = held.regions[held.order[(at + step + n) % n]];
    moveTo(region.centre, region);
  }

  const rgb = facts.colors.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const shades = Array.from({ length: 256 }, (_, i) => {
    const x = (i / 255) * (rgb.length - 1),
      j = Math.min(rgb.length - 2, Math.floor(x));
    return rgb[j].map((v, c) => Math.round(v + (x - j) * (rgb[j + 1][c] - v)));
  });
  const shade = (x, [low, high]) => shades[Math.max(0, Math.min(255, Math.round((255 * (x - low)) / Math.max(high - low, 1e-12))))];
  let span = facts.scale[0];
  const shapeOf = (outlineOf, score) => {
    const points = outlineOf.map(pixel);
    if (!line) return points;
    const bottom = facts.height - 54,
      y = bottom - (0.06 + (0.88 * (score - span[0])) / Math.max(span[1] - span[0], 1e-12)) * (bottom - 22);
    return [
      [points[0][0], bottom],
      [points[1][0], bottom],
      [points[1][0], y],
      [points[0][0], y],
    ];
  };
  const pathOf = (points) => "M" + points.map((p) => p[0].toFixed(2) + "," + p[1].toFixed(2)).join("L") + "Z";
  const scaleOf = (colour) =>
    colour <= K ? facts.scale[colour] : span2(facts.prompts.flatMap((p) => p.answers.map((a) => value(a[1], colour))));
  const span2 = (list) => list.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);

  function paintRegions() {
    if (!drawn) return;
    const width = svg.clientWidth || 440,
      ratio = (Math.min(3, window.devicePixelRatio || 1) * width) / 440;
    canvas.width = Math.round(440 * ratio);
    canvas.height = Math.round(facts.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!isMean()) {
      span = scaleOf(state.colour);
      paintShapes(ready(state.view, state.sample).regions);
    } else if (!whole) paintGrid();
    else if (line) {
      const cells = segments();
      span = span2(cells.map((c) => value(c.scores, state.colour)));
      paintShapes(cells);
    } else paintMean(ratio);
    legend();
  }
  function paintShapes(regions) {
    context.lineWidth = regions.length > 3000 ? 0.2 : 0.8;
    context.strokeStyle = "#fff";
    for (const region of regions) {
      const score = value(region.scores, state.colour),
        points = shapeOf(region.outline, score);
      context.fillStyle = `rgb(${shade(score, span)})`;
      context.beginPath();
      points.forEach((p, i) => (i ? context.lineTo(p[0], p[1]) : context.moveTo(p[0], p[1])));
      context.closePath();
      context.fill();
      if (regions.length > 600 && !line) {
        context.strokeStyle = context.fillStyle;
        context.stroke();
        context.strokeStyle = "#fff";
      } // no cracks
      context.stroke();
    }
  }
  function segments() {
    // the mean on a line: between any two neighbouring borders it is constant
    const borders = [...new Set(all.flatMap(([p, s]) => ready(p, s).regions.flatMap((r) => r.outline.map((o) => o[0]))))].sort(
      (a, b) => a - b,
    );
    return borders
      .slice(1)
      .map((b, i) => ({ outline: [[borders[i]], [b]], here: meanOver([(borders[i] + b) / 2]) }))
      .filter((c) => !c.here.hole)
      .map((c) => ({ outline: c.outline, scores: c.here.scores }));
  }
  function paintMean(ratio) {
    // each pixel has the exact mean at its middle: the regions of every prompt are added up
    const share = Math.min(1, Math.sqrt(4e7 / (all.length * canvas.width * canvas.height))),
      w = Math.round(canvas.width * share),
      h = Math.round(canvas.height * share);
    const total = new Float64Array(w * h),
      hits = new Uint16Array(w * h),
      size = ratio * share;
    for (const [p, s] of all)
      for (const region of ready(p, s).regions)
        addUp(
          region.outline.map((t) => pixel(t).map((v) => v * size)),
          value(region.scores, state.colour),
          total,
          hits,
          w,
          h,
        );
    let low = Infinity,
      high = -Infinity;
    for (let i = 0; i < total.length; i++)
      if (hits[i] === all.length) {
        total[i] /= all.length;
        low = Math.min(low, total[i]);
        high = Math.max(high, total[i]);
      }
    span = [low, high];
    const image = new ImageData(w, h),
      inside = new Uint16Array(w * h);
    addUp(
      domain.points.map((t) => pixel(t).map((v) => v * size)),
      0,
      total,
      inside,
      w,
      h,
    );
    for (let i = 0; i < total.length; i++) {
      if (!inside[i]) continue;
      let mean = total[i];
      if (hits[i] !== all.length) {
        // on a border, where rounded polygons leave a crack or overlap
        const here = meanOver(within(fromPixel(((i % w) + 0.5) / size, (Math.floor(i / w) + 0.5) / size)));
        if (here.hole) continue;
        mean = value(here.scores, state.colour);
      }
      const c = shade(mean, span);
      image.data.set([c[0], c[1], c[2], 255], 4 * i);
    }
    const small_ = make("canvas", { width: w, height: h });
    small_.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small_, 0, 0, 440, facts.height);
  }
  function addUp(points, score, total, hits, w, h) {
    // the pixels whose middles lie in a convex polygon
    const ys = points.map((p) => p[1]),
      first = Math.max(0, Math.ceil(Math.min(...ys) - 0.5)),
      last = Math.min(h - 1, Math.ceil(Math.max(...ys) - 0.5) - 1);
    for (let y = first; y <= last; y++) {
      let left = Infinity,
        right = -Infinity;
      for (let i = 0; i < points.length; i++) {
        const p = points[i],
          q = points[(i + 1) % points.length];
        if (p[1] <= y + 0.5 === q[1] <= y + 0.5) continue;
        const x = p[0] + ((y + 0.5 - p[1]) / (q[1] - p[1])) * (q[0] - p[0]);
        left = Math.min(left, x);
        right = Math.max(right, x);
      }
      const from = Math.max(0, Math.ceil(left - 0.5)),
        to = Math.min(w - 1, Math.ceil(right - 0.5) - 1);
      for (let x = from; x <= to; x++) {
        total[y * w + x] += score;
        hits[y * w + x]++;
      }
    }
  }
  function paintGrid() {
    const values = facts.grid.scores.map((s) => value(s, state.colour));
    span = span2(values);
    const size = 440 / facts.grid.steps;
    facts.grid.points.forEach((point, i) => {
      const [x, y] = pixel(scaled(point));
      context.fillStyle = `rgb(${shade(values[i], span)})`;
      if (line) {
        const [, , c, d] = shapeOf([scaled(point), scaled(point)], values[i]);
        context.fillRect(x - size / 2, c[1], size, facts.height - 54 - d[1]);
      } else context.fillRect(x - size / 2, y - size / 2, size, size);
    });
  }
  function legend() {
    const name = state.colour === 0 ? "mean score" : colourChoice.options[state.colour].textContent;
    tell(
      one(".legend .what"),
      isMean() ? `${name} over ${everyone} (${whole ? "exact" : `on a grid with ${facts.grid.steps} steps`})` : `${name} of the reply`,
    );
    tell(one(".legend .low"), number(span[0]));
    tell(one(".legend .high"), number(span[1]));
    svg.querySelectorAll(".tick").forEach((e) => tell(e, number(span[0] + (e.dataset.k / 2) * (span[1] - span[0]))));
    const front = one(".legend .front");
    if (front) front.hidden = !isMean();
    fronts.setAttribute("visibility", isMean() && frontBox && frontBox.checked ? "visible" : "hidden");
  }

  // -- the chosen and the pinned reply beside each other

  const right = one(".right"),
    status = make("div", { class: "spoken", role: "status", "aria-live": "polite" });
  function card(name) {
    const parts = {
      where: make("p", { class: "where", dir: "auto" }),
      prompt: make("p", { class: "asked", dir: "auto" }),
      reply: make("p", { class: "reply", dir: "auto" }),
      more: make("p", { class: "more" }),
    };
    return {
      ...parts,
      box: make(
        "section",
        { class: "card " + name, "aria-label": name === "chosen" ? "The chosen point" : "The pinned point" },
        make("p", { class: "which" }, make("b", {}, name === "chosen" ? "Chosen" : "Pinned")),
        parts.where,
        parts.prompt,
        parts.reply,
        parts.more,
      ),
    };
  }
  const cards = { chosen: card("chosen"), pinned: card("pinned") };
  cards.pinned.box.hidden = true;
  const bounds = [Math.min(0, ...facts.scale.map((s) => s[0])), Math.max(1, ...facts.scale.map((s) => s[1]))];
  const bars = ["mean", ...facts.names, ...(facts.utility ? ["utility"] : [])].map((name, i) => {
    const bar = () => {
      const fill = make("span", { class: "fill" }),
        shown = make("span", { class: "score" });
      return { fill, shown, cell: make("td", {}, make("span", { class: "bar", "aria-hidden": "true" }, fill), shown) };
    };
    const [one_, other, gap] = [bar(), bar(), make("td", { class: "gap" })];
    other.cell.className = "second";
    gap.className = "gap second";
    return {
      one: one_,
      other,
      gap,
      colour: i,
      row: make("tr", {}, make("th", { scope: "row", dir: "auto", title: name }, cut(name, 30)), one_.cell, other.cell, gap),
    };
  });
  const scoresTable = make(
    "table",
    { class: "scores" },
    make("caption", {}, "Scores"),
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        make("th", { scope: "col" }, "objective"),
        make("th", { scope: "col" }, "chosen"),
        make("th", { scope: "col", class: "second" }, "pinned"),
        make("th", { scope: "col", class: "second" }, "chosen − pinned"),
      ),
    ),
    make("tbody", {}, ...bars.map((b) => b.row)),
  );
  right.append(make("div", { class: "cards" }, cards.chosen.box, cards.pinned.box), pinButton, scoresTable, status);
  right.hidden = false;
  one(".prompt").remove();
  root.querySelectorAll(".intro .still").forEach((e) => e.remove());

  function said(here) {
    if (here.none) return "The mean over all prompts is not in this page: it was made for some prompts only.";
    if (here.hole) return "The map has a hole here: no reply is known.";
    if (here.mean)
      return here.grid
        ? "Mean scores at the nearest point of the grid."
        : drawn
          ? `Mean scores over ${everyone}. In the cell that is outlined no reply changes.`
          : `Mean scores over ${everyone} at these weights.`;
    return here.reply === null ? "The reply is not in this page." : here.reply;
  }
  function stays(here) {
    if (here.hole || here.none || here.grid) return "";
    const unit = facts.knobs.length ? "settings" : "weights",
      what = here.mean
        ? here.share === undefined
          ? ""
          : `This cell is ${portion(here.share)} of all ${unit}. `
        : `${portion(here.share)} of all ${unit} give this reply. `;
    const shape = here.outline || (here.region && here.region.outline);
    if (line && shape)
      return (
        what +
        `It stays for ${facts.knobs.length ? facts.knobs[0] : "a weight of " + facts.corners[1]} ` +
        `from ${number(shape[0][0], 3)} to ${number(shape[1][0], 3)}.`
      );
    if (!Number.isFinite(here.margin)) return what + "Nothing changes anywhere.";
    return what + `It stays for at least ${small(here.margin)} in any direction${facts.knobs.length ? " of the weights" : ""}.`;
  }
  function fill(parts, here) {
    tell(parts.where, `${here.hole || here.none ? "" : viewName(here) + " · "}${pointText(here.t)}`);
    tell(parts.prompt, here.region && facts.prompts[here.p].text !== null ? facts.prompts[here.p].text : "");
    tell(parts.reply, said(here));
    tell(parts.more, stays(here));
  }
  function bar(part, score) {
    const known = Number.isFinite(score);
    part.fill.style.width = known ? `${(100 * Math.max(0, Math.min(1, (score - bounds[0]) / (bounds[1] - bounds[0])))).toFixed(1)}%` : "0";
    tell(part.shown, known ? number(score, 3) : "–");
  }
  let speak = 0,
    relist = 0;
  function showPoint(before) {
    const here = state.here,
      values = valuesOf(here.t);
    sliders.forEach(({ input, shown }, i) => {
      input.value = values[i];
      tell(shown, number(values[i], 3));
    });
    if (marker) {
      const [x, y] = pixel(here.t),
        scores = here.scores;
      const top = line && scores ? shapeOf([here.t, here.t], value(scores, state.colour))[2][1] : y;
      marker.setAttribute("transform", `translate(${x.toFixed(2)},${top.toFixed(2)})`);
    }
    tell(cards.chosen.where, `${here.hole || here.none ? "" : viewName(here) + " · "}${pointText(here.t)}`);
    tell(cards.chosen.more, stays(here));
    if (before && before.key === here.key) return;
    fill(cards.chosen, here);
    if (outline) {
      const shape = here.outline || (here.region && here.region.outline),
        path = shape ? pathOf(shapeOf(shape, value(here.scores, state.colour))) : "";
      outline.setAttribute("d", path);
      halo.setAttribute("d", path);
    }
    compare();
    markRow();
    clearTimeout(speak);
    speak = setTimeout(
      () =>
        tell(
          status,
          `${viewName(here.scores ? here : { mean: true })}. ` +
            `${here.scores ? "Mean score " + number(value(here.scores, 0)) + ". " : ""}${cut(said(here), 300)}`,
        ),
      500,
    );
    if (isMean() && !search.value.trim()) {
      clearTimeout(relist);
      relist = setTimeout(list, 200);
    }
  }
  function compare() {
    const { here, pinned } = state;
    for (const b of bars) {
      const [x, y] = [here, pinned].map((at) => (at && at.scores ? value(at.scores, b.colour) : NaN));
      bar(b.one, x);
      if (pinned) {
        bar(b.other, y);
        tell(b.gap, Number.isFinite(x - y) ? signed(Number(x.toFixed(3)) - Number(y.toFixed(3)), 3) : "–");
      }
    }
  }
  function pin() {
    state.pinned = state.pinned ? null : state.here;
    if (state.pinned) fill(cards.pinned, state.pinned);
    cards.pinned.box.hidden = !state.pinned;
    root.classList.toggle("two", !!state.pinned);
    pinButton.setAttribute("aria-pressed", String(!!state.pinned));
    tell(pinButton, state.pinned ? "Unpin" : "Pin to compare");
    compare();
    tell(status, state.pinned ? "Pinned. Move the point to compare another reply with it." : "Unpinned.");
  }
  pinButton.addEventListener("click", pin);

  function moveTo(t, region) {
    const before = state.here;
    state.here = look(t, region);
    showPoint(before);
  }
  function show(view, sample, t, region) {
    state.view = view;
    state.sample = sample;
    promptChoice.value = String(view);
    sampleChoice.value = String(sample);
    sampleField.hidden = view === "mean";
    state.here = look(t, region);
    paintRegions();
    showPoint(null);
    if (!search.value.trim()) list();
  }
  promptChoice.addEventListener("change", () =>
    show(promptChoice.value === "mean" ? "mean" : Number(promptChoice.value), state.sample, state.here.t),
  );
  sampleChoice.addEventListener("change", () => show(state.view, Number(sampleChoice.value), state.here.t));
  colourChoice.addEventListener("change", () => {
    state.colour = Number(colourChoice.value);
    paintRegions();
    showPoint(null);
  });
  goChoice.addEventListener("change", () => {
    if (goChoice.value !== "") moveTo(places[Number(goChoice.value)]);
    goChoice.value = "";
  });
  bestButton.addEventListener("click", () => moveTo(scaled(facts.best)));

  // -- the list: this prompt's regions, or what the search finds in all prompts, sorted by any column

  const found = one(".found"),
    PAGE = 50;
  let sorted = { column: "share", down: true },
    shownRows = PAGE,
    current = null;
  const heading = one(".list h2, .list .heading b"),
    titles = [
      ["where", "prompt"],
      ["share", "share"],
      ["0", "mean"],
      ...facts.names.map((name, i) => [String(i + 1), name]),
      ["reply", "reply"],
    ];
  const keyOf = (region, column) =>
    column === "share"
      ? region.share
      : column === "where"
        ? -(1e6 * facts.prompts[region.p].n + region.s)
        : column === "reply"
          ? region.reply || ""
          : value(region.scores, Number(column));
  const texts = new Map();
  function textOf(p, answer) {
    const key = p + "/" + answer;
    if (!texts.has(key)) texts.set(key, ((facts.prompts[p].answers[answer][0] || "") + "\n" + facts.prompts[p].text).toLowerCase());
    return texts.get(key);
  }
  function hits() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean),
      regions = [];
    if (!words.length)
      return isMean()
        ? (state.here.found || []).filter((r) => facts.prompts[r.p].text !== null)
        : [...ready(state.view, state.sample).regions];
    for (const p of chosen)
      for (let s = 0; s < facts.samples; s++) {
        const row = facts.prompts[p].rows[s];
        row.a.forEach((answer, i) => {
          const text = textOf(p, answer);
          if (words.every((word) => text.includes(word))) regions.push(ready(p, s).regions[i]);
        });
      }
    return regions;
  }
  function list() {
    const searching = search.value.trim() !== "",
      regions = hits(),
      several = searching || isMean();
    const sign = sorted.down ? -1 : 1,
      { column } = sorted;
    regions.sort((a, b) => {
      const x = keyOf(a, column),
        y = keyOf(b, column);
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
    tell(
      heading,
      searching
        ? `${counted(regions.length, "region")} found in all prompts`
        : isMean()
          ? "Every prompt's reply at this point"
          : `All ${counted(regions.length, "region")} of prompt ${facts.prompts[state.view].n}`,
    );
    const heads = titles
      .filter(([id]) => several || id !== "where")
      .map(([id, name]) =>
        make(
          "th",
          {
            scope: "col",
            class: /^[1-9]/.test(id) ? "each" : null,
            "aria-sort": id === column ? (sorted.down ? "descending" : "ascending") : null,
          },
          make(
            "button",
            {
              type: "button",
              dir: "auto",
              title: name,
              onclick: () => {
                sorted = { column: id, down: id === column ? !sorted.down : id !== "reply" };
                list();
                found.querySelector(`th:nth-child(${heads.findIndex((h) => h.dataset.id === id) + 1}) button`).focus();
              },
            },
            cut(name, 30) + (id === column ? (sorted.down ? " ▾" : " ▴") : ""),
          ),
        ),
      );
    heads.forEach((h, i) => {
      h.dataset.id = titles.filter(([id]) => several || id !== "where")[i][0];
    });
    const body = make("tbody", {}, ...regions.slice(0, shownRows).map((region) => rowOf(region, several)));
    const parts = [make("table", { class: "regions" }, make("thead", {}, make("tr", {}, ...heads)), body)];
    if (regions.length > shownRows)
      parts.push(
        make(
          "button",
          {
            type: "button",
            onclick: () => {
              shownRows += 4 * PAGE;
              list();
            },
          },
          `Show more (${counted(regions.length - shownRows, "region")} left)`,
        ),
      );
    found.replaceChildren(...parts);
    current = null;
    markRow();
  }
  function rowOf(region, several) {
    const go = make(
      "button",
      {
        type: "button",
        dir: "auto",
        onclick: () => {
          goTo(region);
        },
      },
      cut(region.reply || "(empty)", 160),
    );
    const cells = [
      make("td", {}, brief(region.share)),
      make("td", {}, number(value(region.scores, 0))),
      ...region.scores.map((x) => make("td", { class: "each" }, number(x))),
      make("td", { class: "text" }, go),
    ];
    if (several) cells.unshift(make("td", {}, String(facts.prompts[region.p].n) + (facts.samples > 1 ? `, sample ${region.s + 1}` : "")));
    return make("tr", { "data-region": `${region.p}/${region.s}/${region.i}` }, ...cells);
  }
  function markRow() {
    if (current) {
      current.classList.remove("now");
      current.removeAttribute("aria-current");
    }
    current = (!isMean() && found.querySelector(`tr[data-region="${state.here.key}"]`)) || null;
    if (current) {
      current.classList.add("now");
      current.setAttribute("aria-current", "true");
    }
  }
  function goTo(region) {
    const same = !isMean() && region.p === state.view && region.s === state.sample,
      t = isMean() && !search.value.trim() ? state.here.t : region.centre;
    if (same) moveTo(t, region);
    else show(region.p, region.s, t, region);
  }
  let typed = 0;
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => {
      shownRows = PAGE;
      list();
      tell(status, heading.textContent);
    }, 150);
  });

  // -- begin

  root.classList.add("live");
  show(chosen[0], 0, facts.best ? scaled(facts.best) : centre);
  root.emorlMap = {
    // for scripts: knobs (the last k weights) in, what is shown out
    moveTo: (t) => moveTo(drawn ? within(t) : towards(centre, t)),
    show: (view, sample) => show(view, sample || 0, state.here.t),
    at: () => ({
      t: state.here.t,
      view: state.view,
      reply: state.here.reply,
      scores: state.here.scores,
      share: state.here.share,
      margin: state.here.margin,
      region: state.here.region ? state.here.region.i : null,
    }),
    pixel,
  };
}

"use strict";
(() => {
  const $ = id => document.getElementById(id);

  /* ---- cards: find, sort, show ---- */
  const box = $("cards");
  if (box) {
    const form = document.querySelector(".controls");
    const number = s => (s === "-" || s === "" ? NaN : Number(s));
    const cards = [...box.children].map((el, i) => ({
      el, i,
      n: Number(el.dataset.n),
      s: el.dataset.s.split(" ").map(number),
      m: el.dataset.m,
      error: el.classList.contains("error"),
      text: null,
    }));
    for (const c of cards) c.gain = c.s.length > 1 ? c.s[c.s.length - 1] - c.s[0] : NaN;
    /* What is not known comes last, whichever way is sorted. */
    const by = (key, sign) => (a, b) => {
      const x = key(a), y = key(b);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.i - b.i;
      return sign * (x - y) || a.i - b.i;
    };
    const orders = {
      o: () => (a, b) => a.i - b.i,
      w: run => by(c => c.s[run], 1),
      b: run => by(c => c.s[run], -1),
      g: () => by(c => c.gain, -1),
      l: () => by(c => c.gain, 1),
      s: () => by(c => (c.error ? NaN : c.n), 1),
      n: () => by(c => (c.error ? NaN : c.n), -1),
    };
    const shows = {
      all: () => true,
      match: c => c.m.endsWith("1"),
      differ: c => c.m.endsWith("0"),
      changed: c => {
        const said = [...c.el.querySelectorAll(".cap")].map(p => p.textContent);
        return said.length > 1 && said[0] !== said[said.length - 1];
      },
      error: c => c.error,
    };
    const plain = s => s.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

    const find = () => {
      const words = plain($("find").value).split(/\s+/).filter(Boolean), show = shows[$("show").value];
      let seen = 0;
      for (const c of cards) {
        if (words.length && c.text === null) c.text = plain(c.el.textContent);
        c.el.hidden = !show(c) || !words.every(w => c.text.includes(w));
        seen += !c.el.hidden;
      }
      $("count").textContent = seen + " of " + cards.length;
    };
    const sort = () => {
      const v = $("sort").value;
      const order = [...cards].sort(orders[v[0]](Number(v.slice(1))));
      box.append(...order.map(c => c.el));
    };
    let later;
    $("find").addEventListener("input", () => { clearTimeout(later); later = setTimeout(find, 120); });
    $("show").addEventListener("change", find);
    $("sort").addEventListener("change", sort);
    form.addEventListener("submit", e => e.preventDefault());
    form.hidden = false;
    sort();
    find();
  }

  /* ---- the curve: values where the pointer is ---- */
  const plot = document.querySelector(".plot"), svg = plot && plot.querySelector("svg");
  if (svg && svg.dataset.left !== undefined) {
    const runs = JSON.parse($("curves").textContent), tip = plot.querySelector(".tip"), d = svg.dataset;
    const [x0, x1, left, right] = [d.x0, d.x1, d.left, d.right].map(Number);
    const steps = [...new Set(runs.flatMap(r => [...r.train, ...r.val].map(p => p[0])))].sort((a, b) => a - b);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", d.top);
    line.setAttribute("y2", d.bottom);
    line.style.display = "none";
    svg.append(line);
    const place = step => x0 + (step - left) / (right - left) * (x1 - x0);
    const nearest = (list, step) => list.reduce((a, b) => (a && Math.abs(a[0] - step) <= Math.abs(b[0] - step) ? a : b), null);
    const text = v => (v === null ? "–" : Number(v.toPrecision(4)).toString());
    const whole = step => Number(step.toFixed(1)).toString(); // a point that stands for several lies between them
    let at = -1;
    const show = i => {
      at = Math.max(0, Math.min(steps.length - 1, i));
      const step = steps[at], lines = ["step " + whole(step)];
      for (const r of runs) {
        const name = runs.length > 1 ? r.label + ": " : "", t = nearest(r.train, step), v = nearest(r.val, step);
        if (t) lines.push(name + "loss " + text(t[1]) + (runs.length > 1 ? "" : "\nlearning rate " + text(t[2])));
        if (v) lines.push(name + "held-out loss " + text(v[1]) + " (step " + whole(v[0]) + ")");
        if (v && v[3] !== null) lines.push(name + "CIDEr " + text(v[3]));
        if (v && v[2] !== null) lines.push(name + "exact " + text(100 * v[2]) + " %");
      }
      const x = place(step), wide = svg.getBoundingClientRect().width;
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.style.display = "";
      tip.textContent = lines.join("\n");
      tip.hidden = false;
      const px = x / svg.viewBox.baseVal.width * wide;
      tip.style.left = Math.max(4, px + (px > wide / 2 ? -tip.offsetWidth - 12 : 12)) + "px";
    };
    const hide = () => { tip.hidden = true; line.style.display = "none"; };
    const from = e => {
      const r = svg.getBoundingClientRect();
      const step = left + ((e.clientX - r.left) / r.width * svg.viewBox.baseVal.width - x0) / (x1 - x0) * (right - left);
      let lo = 0, hi = steps.length - 1;
      while (lo < hi) {
        const mid = (lo + hi) >> 1;
        if (steps[mid] < step) lo = mid + 1; else hi = mid;
      }
      return lo > 0 && step - steps[lo - 1] < steps[lo] - step ? lo - 1 : lo;
    };
    svg.addEventListener("pointermove", e => show(from(e)));
    svg.addEventListener("pointerdown", e => show(from(e)));
    svg.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", e => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[e.key];
      if (step === undefined) return;
      e.preventDefault();
      show(step === -Infinity ? 0 : step === Infinity ? steps.length - 1 : at + step);
    });
  }
})();

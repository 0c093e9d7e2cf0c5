"use strict";
// The page: pictures go out one request each, captions come back as events. Nothing is loaded from elsewhere.
document.documentElement.classList.add("js");

const AT_ONCE = 4; // requests; the server has a queue of its own
const TRIES = 8; // where the server is busy
const KEPT = "pictures"; // key in this tab's storage
const THUMBNAIL = 240; // pixels a side, for the history

const $ = (id) => document.getElementById(id);
const limits = document.body.dataset;
const items = []; // newest first
let running = 0;
let order = 0;

// ---- words ----
const plain = {
    network: "The server cannot be reached. Is it still running?",
    picture: "This picture cannot be read; the file may be damaged.",
    command_died: "The captioner stopped in the middle of this picture. It is being started again.",
    timeout: "The captioner took too long over this picture.",
    unauthorized: "You are not signed in. Reload the page to sign in again.",
    gone: "The page was closed before the caption had come.",
};

// Refusals that lie in the picture itself.
const final = ["picture", "not_a_picture", "too_large", "too_many_pixels"];

function sentence(text) {
    const s = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!?]$/.test(s) ? s : s + ".";
}

function size(n) {
    return n < 1048576 ? `${Math.ceil(n / 1024)} KB` : (n / 1048576).toFixed(1).replace(/\.0$/, "") + " MB";
}

function say(text) {
    $("say").textContent = text;
}

// ---- one picture, one card ----
function addItem(file, order) {
    const item = { file, order, name: file.name || "picture", state: "waiting", caption: "", note: "", facts: "", prefix: chosen() };
    items.unshift(item);
    makeCard(item);
    item.url = URL.createObjectURL(file);
    item.card.querySelector("img").src = item.url;
    return item;
}

function makeCard(item) {
    const card = $("card").content.firstElementChild.cloneNode(true);
    const img = card.querySelector("img");
    item.card = card;
    img.addEventListener("error", () => img.parentElement.replaceChildren());
    card.querySelector(".name").textContent = item.name;
    card.querySelector(".copy").addEventListener("click", (e) => copy(item, e.target));
    card.querySelector(".again").addEventListener("click", () => again(item));
    card.querySelector(".remove").addEventListener("click", () => remove(item));
    card.querySelector(".remove").setAttribute("aria-label", "Remove " + item.name);
    $("cards").prepend(card);
    show(item);
}

function show(item) {
    const card = item.card;
    const caption = card.querySelector(".caption");
    card.dataset.state = item.state;
    card.setAttribute("aria-busy", String(!["done", "failed"].includes(item.state)));
    caption.textContent = item.caption;
    caption.lang = language(item.prefix);
    card.querySelector(".state").textContent = item.note;
    card.querySelector(".more").textContent = item.facts;
    card.querySelector("img")?.setAttribute("alt", item.state === "done" ? item.caption : item.name);
    card.querySelector(".copy").hidden = item.state !== "done";
    card.querySelector(".again").hidden = item.state !== "failed" || !item.file;
    summarize();
}

function summarize() {
    const done = items.filter((i) => i.state === "done").length;
    const failed = items.filter((i) => i.state === "failed").length;
    const open = items.length - done - failed;
    const parts = [];
    if (open) parts.push(`${open} in progress`);
    if (done) parts.push(`${done} captioned`);
    if (failed) parts.push(`${failed} failed`);
    $("bar").hidden = !items.length;
    document.body.classList.toggle("full", items.length > 0);
    $("summary").textContent = parts.join(", ");
    $("csv").disabled = $("texts").disabled = !done;
}

function fail(item, text) {
    item.state = "failed";
    item.note = text;
    item.caption = "";
    show(item);
    say(`${item.name}: ${text}`);
    keep();
}

// What no second try can change.
function hopeless(item, text) {
    item.file = null;
    fail(item, text);
}

function failWith(item, code, text) {
    (final.includes(code) ? hopeless : fail)(item, plain[code] || sentence(text));
}

function language(prefix) {
    const m = /^(?:caption|cap|describe|answer) ([a-z]{2})\b/.exec(prefix || "");
    return m ? m[1] : "";
}

function chosen() {
    const option = $("prefix").selectedOptions[0];
    return "own" in option.dataset ? $("own").value.trim() : option.value;
}

// ---- files ----
// The first of several files lies on top, and is the first to go out.
function addFiles(files) {
    for (const [i, file] of [...files.entries()].reverse()) prepare(addItem(file, order + i));
    order += files.length;
}

async function kindOf(file) {
    const b = new Uint8Array(await file.slice(0, 8).arrayBuffer());
    if (b[0] === 0xff && b[1] === 0xd8) return "jpeg";
    return b[0] === 0x89 && b[1] === 0x50 && b[2] === 0x4e && b[3] === 0x47 ? "png" : "";
}

// What the server does not read but the browser does (WebP, GIF, ...) goes out as PNG.
async function converted(file) {
    const bitmap = await createImageBitmap(file);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
}

async function prepare(item) {
    item.state = "waiting";
    item.note = "Waiting";
    show(item);
    try {
        if (!(await kindOf(item.file))) item.file = await converted(item.file);
    } catch {
        return hopeless(item, "This is no picture that can be read here. PNG and JPEG work.");
    }
    if (item.file.size > Number(limits.maxBytes))
        return hopeless(item, `This picture has ${size(item.file.size)}; at most ${limits.maxText} are taken.`);
    item.checked = true;
    startSome();
}

function startSome() {
    const next = items.filter((i) => i.state === "waiting" && i.checked && !i.busyUntil).sort((a, b) => a.order - b.order);
    for (const item of next) {
        if (running >= AT_ONCE) return;
        running++;
        caption(item).finally(() => {
            running--;
            startSome();
        });
    }
}

function again(item) {
    item.tries = 0;
    prepare(item);
}

function remove(item) {
    const next = item.card.nextElementSibling || item.card.previousElementSibling;
    item.abort?.abort();
    if (item.url) URL.revokeObjectURL(item.url);
    items.splice(items.indexOf(item), 1);
    item.card.remove();
    item.state = "gone";
    summarize();
    keep();
    (next ? next.querySelector(".remove") : $("file")).focus();
}

// ---- the request ----
async function caption(item) {
    const form = new FormData();
    form.append("image", item.file, item.name);
    if (item.prefix) form.append("prefix", item.prefix);
    item.abort = new AbortController();
    item.state = "sent";
    item.note = "Sending";
    show(item);
    try {
        const answer = await fetch("/caption", {
            method: "POST",
            body: form,
            headers: { Accept: "text/event-stream" },
            signal: item.abort.signal,
        });
        if (!answer.ok) return await refused(item, answer);
        await listen(item, answer.body);
        if (item.state === "sent" || item.state === "writing") fail(item, plain.network);
    } catch {
        if (item.state !== "gone") fail(item, plain.network);
    }
}

async function refused(item, answer) {
    const said = await answer.json().catch(() => ({}));
    if ((answer.status === 429 || answer.status === 503) && later(item, Number(answer.headers.get("Retry-After")) || 2)) return;
    failWith(item, said.code, said.error || `The server answered with ${answer.status}`);
}

function later(item, seconds) {
    item.tries = (item.tries || 0) + 1;
    if (item.tries > TRIES) return false;
    item.state = "waiting";
    item.note = "The server is busy; trying again soon";
    item.busyUntil = setTimeout(() => {
        item.busyUntil = 0;
        startSome();
    }, seconds * 1000);
    show(item);
    return true;
}

async function listen(item, body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
            const event = /^event: (.*)$/m.exec(block);
            const data = /^data: (.*)$/m.exec(block);
            if (event && data) heard(item, event[1], JSON.parse(data[1]));
        }
    }
}

function heard(item, event, data) {
    if (item.state === "gone") return;
    if (event === "queued") {
        if (data.starting) item.note = "The model is being loaded";
        else item.note = data.ahead ? `Waiting for ${data.ahead} other${data.ahead > 1 ? "s" : ""}` : "Looking at it";
    } else if (event === "partial") {
        item.state = "writing";
        item.note = "";
        item.caption = data.partial;
    } else if (event === "caption") {
        item.state = "done";
        item.note = data.truncated ? "The caption was cut at the longest length." : "";
        item.caption = data.caption;
        item.logprob = data.logprob;
        item.facts = data.ms < 1000 ? `${Math.max(1, Math.round(data.ms))} ms` : `${(data.ms / 1000).toFixed(1)} s`;
        say(`${item.name}: ${item.caption}`);
        keep();
    } else if (event === "error") {
        if (data.code === "starting" && later(item, 5)) return;
        return failWith(item, data.code, data.error);
    }
    show(item);
}

// ---- the history: this tab's, until it is closed ----
async function thumbnail(item) {
    if (item.thumb || !item.file) return;
    try {
        const bitmap = await createImageBitmap(item.file);
        const scale = Math.min(1, THUMBNAIL / Math.max(bitmap.width, bitmap.height));
        const canvas = document.createElement("canvas");
        canvas.width = Math.max(1, Math.round(bitmap.width * scale));
        canvas.height = Math.max(1, Math.round(bitmap.height * scale));
        canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
        item.thumb = canvas.toDataURL("image/webp", 0.8);
    } catch {
        item.thumb = "";
    }
}

let keeping = Promise.resolve();
function keep() {
    keeping = keeping.then(async () => {
        await Promise.all(items.filter((i) => i.state === "done").map(thumbnail));
        const rows = items.map(({ name, state, caption, note, facts, prefix, logprob, thumb }) =>
            ({ name, state, caption, note, facts, prefix, logprob, thumb }));
        for (let n = rows.length; n >= 0; n = Math.floor(n / 2)) {
            try {
                sessionStorage.setItem(KEPT, JSON.stringify(rows.slice(0, n)));
                return;
            } catch {
                if (!n) return; // no storage here
            }
        }
    });
}

function recall() {
    let rows = [];
    try {
        rows = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
    } catch {
        return;
    }
    for (const row of rows.reverse()) {
        const item = { ...row };
        if (item.state !== "done" && item.state !== "failed") Object.assign(item, { state: "failed", note: plain.gone, caption: "" });
        items.unshift(item);
        makeCard(item);
        const img = item.card.querySelector("img");
        if (item.thumb) img.src = item.thumb;
        else img.remove();
    }
}

// ---- taking captions away ----
async function copy(item, button) {
    try {
        await navigator.clipboard.writeText(item.caption);
    } catch { // not a secure context
        const area = document.createElement("textarea");
        area.value = item.caption;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
        button.focus();
    }
    button.textContent = "Copied";
    say("Copied");
    setTimeout(() => (button.textContent = "Copy"), 1500);
}

function save(name, blob) {
    const a = document.createElement("a");
    a.href = URL.createObjectURL(blob);
    a.download = name;
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

const finished = () => items.filter((i) => i.state === "done").reverse();

// A leading = + - @ would be a formula to a spreadsheet.
function csvField(v) {
    const s = String(v ?? "").replace(/^[=+\-@\t\r]/, "'$&");
    return /[",\n\r]/.test(s) ? '"' + s.replace(/"/g, '""') + '"' : s;
}

function saveCsv() {
    const rows = [["name", "caption", "prefix", "logprob"]];
    for (const i of finished()) rows.push([i.name, i.caption, i.prefix, i.logprob == null ? "" : i.logprob.toFixed(4)]);
    const text = rows.map((r) => r.slice(0, 3).map(csvField).concat(r.slice(3)).join(",")).join("\r\n") + "\r\n";
    save("captions.csv", new Blob(["\ufeff", text], { type: "text/csv" }));
}

// name.txt for name.jpg, as pg-render's sidecar form; two pictures of one name are numbered.
function sidecarName(name, used) {
    const stem = name.replace(/\.[^.]*$/, "") || "picture";
    let s = stem + ".txt";
    for (let n = 2; used.has(s); n++) s = `${stem}-${n}.txt`;
    used.add(s);
    return s;
}

function saveTexts() {
    const used = new Set();
    const files = finished().map((i) => [sidecarName(i.name, used), i.caption + "\n"]);
    if (files.length === 1) save(files[0][0], new Blob([files[0][1]], { type: "text/plain" }));
    else save("captions.zip", zip(files));
}

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n;
});

function crc32(bytes) {
    let c = 0xffffffff;
    for (const b of bytes) c = crcTable[(c ^ b) & 255] ^ (c >>> 8);
    return (c ^ 0xffffffff) >>> 0;
}

// A ZIP of uncompressed texts (APPNOTE 4.3): local headers with their data, the central directory, its end.
function zip(files) {
    const encoder = new TextEncoder();
    const bytes = (...fields) => { // [size, value]
        const view = new DataView(new ArrayBuffer(fields.reduce((n, f) => n + f[0], 0)));
        let at = 0;
        for (const [size, value] of fields) {
            if (size === 2) view.setUint16(at, value, true);
            else view.setUint32(at, value, true);
            at += size;
        }
        return new Uint8Array(view.buffer);
    };
    const day = [[2, 0], [2, 0x21]]; // the first day that ZIP can tell
    const parts = [];
    const directory = [];
    let offset = 0;
    for (const [name, text] of files) {
        const n = encoder.encode(name);
        const t = encoder.encode(text);
        const common = [[2, 20], [2, 0x800], [2, 0], ...day, [4, crc32(t)], [4, t.length], [4, t.length], [2, n.length], [2, 0]];
        const local = bytes([4, 0x04034b50], ...common);
        directory.push(bytes([4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), n);
        parts.push(local, n, t);
        offset += local.length + n.length + t.length;
    }
    const size = directory.reduce((sum, d) => sum + d.length, 0);
    const end = bytes([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]);
    return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// ---- what the user does ----
function showOwn() {
    const own = "own" in $("prefix").selectedOptions[0].dataset;
    $("own-line").hidden = !own;
    return own;
}

function begin() {
    $("file").multiple = true;
    $("file").accept = "image/*";
    $("form").addEventListener("submit", (e) => e.preventDefault());
    for (const id of ["file", "camera"])
        $(id).addEventListener("change", (e) => {
            addFiles([...e.target.files]);
            e.target.value = ""; // the same file may be chosen again
        });
    $("prefix").addEventListener("change", () => showOwn() && $("own").focus());
    showOwn();
    document.addEventListener("paste", (e) => {
        const files = [...(e.clipboardData?.files || [])];
        if (files.length) addFiles(files);
    });
    let inside = 0; // dragenter and dragleave come for every element
    const over = (n) => document.body.classList.toggle("over", (inside = Math.max(0, n)) > 0);
    document.addEventListener("dragenter", () => over(inside + 1));
    document.addEventListener("dragleave", () => over(inside - 1));
    document.addEventListener("dragover", (e) => e.preventDefault());
    document.addEventListener("drop", (e) => {
        e.preventDefault();
        over(0);
        addFiles([...e.dataTransfer.files]);
    });
    $("csv").addEventListener("click", saveCsv);
    $("texts").addEventListener("click", saveTexts);
    $("clear").addEventListener("click", () => {
        for (const item of [...items]) remove(item);
    });
    recall();
    summarize();
}

begin();

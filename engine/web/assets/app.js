// What pages do by themselves: they stay live, copy texts, keep times fresh and listen to keys. Without it every page works as a
// page of links and forms.
(function () {
  "use strict";

  // ---- Live parts. A part is fetched anew when its topic ticks: one request of it at a time, with a rest of four times what the
  // last one took, so that a busy engine or a slow page is never asked more than it can answer.
  const LEAST_REST = 900;
  // How long after an answer that is no stream it is tried again.
  const AGAIN = 10000;
  const parts = new WeakMap();
  let source = null;

  function liveParts() {
    return document.querySelectorAll("[data-live], [data-tick]");
  }

  // Whether somebody is at work in a part: then it is left as it is until he has finished.
  function isHeld(part) {
    const at = document.activeElement;
    if (at && part.contains(at) && at.matches("input, textarea, select")) return true;
    if (part.querySelector("details.menu[open], details.offer[open], details.how[open]")) return true;
    const selection = window.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  // A list takes in new rows only where nobody can be about to press one: no pointer, no chosen row, at the top of the page.
  function address(part) {
    const fresh = part.dataset.fresh;
    if (fresh && !part.matches(":hover") && !part.querySelector(".at, :focus") && window.scrollY < 60) return fresh;
    return part.dataset.url;
  }

  function refresh(part) {
    const state = parts.get(part) || {};
    parts.set(part, state);
    if (state.timer) return;
    // What ticks while the part is on its way is asked for after its rest: htmx would send a second request right behind the first.
    if (state.live) { state.again = true; return; }
    const wait = Math.max(0, (state.next || 0) - Date.now());
    state.timer = setTimeout(function () {
      state.timer = null;
      if (!part.isConnected || document.hidden || isHeld(part)) return;
      const began = Date.now();
      state.live = true;
      state.url = address(part);
      const swap = part.dataset.swap || "innerHTML";
      const target = part.id;
      const done = function () {
        const now = document.getElementById(target) || part;
        parts.set(now, { next: Date.now() + Math.max(LEAST_REST, 4 * (Date.now() - began)) });
        ages();
        fold();
        if (state.again) refresh(now);
      };
      htmx.ajax("GET", state.url, { target: part, source: part, swap: swap }).then(done, done);
    }, wait);
  }

  // Somebody may have begun to work in a part while it was on its way, or to choose a row of a list whose new rows were.
  document.addEventListener("htmx:beforeSwap", function (event) {
    const part = event.detail.target;
    const state = parts.get(part);
    if (!state || !state.live) return;
    const isLate = state.url === part.dataset.fresh && address(part) !== state.url;
    if (isLate) state.again = true;
    if (isLate || isHeld(part)) event.detail.shouldSwap = false;
  });

  function told(topics) {
    liveParts().forEach(function (part) {
      if (topics.includes(part.dataset.live) || (topics.includes("tick") && part.dataset.tick)) refresh(part);
    });
  }

  function say(text) {
    const place = document.getElementById("live-state");
    if (place && place.textContent !== text) place.textContent = text;
  }

  // A page in the background closes its stream: browsers open only a few to one host.
  function connect() {
    if (source || document.hidden || !document.querySelector("[data-live]")) return;
    const run = document.body.dataset.liveRun;
    const own = new EventSource("/live" + (run ? "?run=" + encodeURIComponent(run) : ""));
    source = own;
    own.addEventListener("live", function (event) { told(event.data.split(" ")); });
    own.onopen = function () { say(""); told(["runs", "run", "logs", "tick"]); };
    own.onerror = function () {
      say("not live: the engine does not answer");
      // A browser tries again by itself where the stream broke off, and never where the answer was no stream.
      if (own.readyState !== EventSource.CLOSED || source !== own) return;
      source = null;
      setTimeout(connect, AGAIN);
    };
  }

  function disconnect() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", function () { if (document.hidden) disconnect(); else connect(); });
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);

  // ---- Times that say how long ago they were.
  function took(ms) {
    const two = function (large, unit, small, less) { return large + unit + (small ? small + less : ""); };
    if (ms < 1000) return "just now";
    if (ms < 10000) return Math.floor(ms / 1000) + "." + Math.floor((ms % 1000) / 100) + " s";
    if (ms < 60000) return Math.floor(ms / 1000) + " s";
    if (ms < 3600000) return two(Math.floor(ms / 60000), "m", Math.floor((ms % 60000) / 1000), "s");
    if (ms < 86400000) return two(Math.floor(ms / 3600000), "h", Math.floor((ms % 3600000) / 60000), "m");
    return two(Math.floor(ms / 86400000), "d", Math.floor((ms % 86400000) / 3600000), "h");
  }

  function ages() {
    const now = Date.now();
    document.querySelectorAll("time[data-ago]").forEach(function (time) {
      const away = Number(time.dataset.ago) - now;
      const text = Math.abs(away) < 1000 ? "just now" : away > 0 ? "in " + took(away) : took(-away) + " ago";
      if (time.textContent !== text) time.textContent = text;
    });
  }
  setInterval(function () { if (!document.hidden) ages(); }, 1000);

  // ---- What somebody has folded stays so when its part comes anew.
  const folded = new Set();
  document.addEventListener("toggle", function (event) {
    const key = event.target.dataset && event.target.dataset.fold;
    if (!key) return;
    if (event.target.open) folded.delete(key); else folded.add(key);
  }, true);

  function fold() {
    document.querySelectorAll("details[data-fold]").forEach(function (part) { if (folded.has(part.dataset.fold)) part.open = false; });
  }

  // ---- Copying.
  function copied(button, text) {
    const done = function () {
      // Pressed again while it says that it is done, it would keep the sign for its label.
      if (button.classList.contains("done")) return;
      const label = button.textContent;
      button.classList.add("done");
      button.textContent = "✓";
      setTimeout(function () { button.classList.remove("done"); button.textContent = label; }, 1200);
    };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, function () {});
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-copy], [data-copy-shown], [data-copy-url], [data-help]");
    if (!button) {
      // A menu closes when something beside it is pressed.
      document.querySelectorAll("details.menu[open]").forEach(function (menu) { if (!menu.contains(event.target)) menu.open = false; });
      return;
    }
    if (button.dataset.help !== undefined) return help();
    if (button.dataset.copy !== undefined) return copied(button, button.dataset.copy);
    if (button.dataset.copyShown !== undefined) return copied(button, button.closest(".data").querySelector("pre").textContent);
    fetch(button.dataset.copyUrl).then(function (answer) { return answer.text(); }).then(function (text) {
      copied(button, new DOMParser().parseFromString(text, "text/html").body.textContent);
    });
  });

  // ---- Commands that hold what the fields of their form do: `{name}` is a field's value, `{a=b}` those of two, and what stands in
  // brackets is there once for each value of its fields.
  function quoted(text) {
    return /^[A-Za-z0-9/._:=@%+,-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
  }

  function filled(form, template) {
    const values = function (name) {
      return Array.from(form.querySelectorAll("[name]")).filter(function (field) { return field.name === name; })
        .map(function (field) { return field.value.trim(); });
    };
    const words = function (part, at, needed) {
      let whole = true;
      const text = part.replace(/\{([^}]*)\}/g, function (_, names) {
        return quoted(names.split("=").map(function (name) {
          const value = values(name)[at] || "";
          if (needed && !value) whole = false;
          return value;
        }).join("="));
      });
      return whole ? text : "";
    };
    return template.split(/[[\]]/).map(function (part, number) {
      if (number % 2 === 0) return words(part, 0, false);
      const times = Math.max(0, ...Array.from(part.matchAll(/[{=]([^}=]*)/g)).map(function (name) { return values(name[1]).length; }));
      return Array.from({ length: times }, function (_, at) { return words(part, at, true); }).join("");
    }).join("");
  }

  function follow(form) {
    form.querySelectorAll("[data-follows]").forEach(function (command) {
      const text = (command.dataset.before || "") + filled(form, command.dataset.follows);
      command.textContent = text;
      command.parentElement.querySelector("[data-copy]").dataset.copy = text;
    });
  }

  ["input", "change"].forEach(function (kind) {
    document.addEventListener(kind, function (event) { if (event.target.form) follow(event.target.form); });
  });

  // ---- Forms: filters are sent off by a choice.
  document.addEventListener("change", function (event) {
    const form = event.target.closest("form[data-auto]");
    if (form && event.target.matches("select")) form.requestSubmit();
  });
  // Empty fields need not stand in the address.
  document.addEventListener("formdata", function (event) {
    if (!event.target.matches("form.filters")) return;
    for (const name of Array.from(event.formData.keys())) if (!event.formData.get(name)) event.formData.delete(name);
  });

  // ---- Keys.
  function help() {
    const dialog = document.getElementById("help");
    if (dialog && !dialog.open) dialog.showModal();
  }

  function rows() {
    // What is folded away is not gone to.
    return Array.from(document.querySelectorAll("[data-row]")).filter(function (row) { return row.getClientRects().length > 0; });
  }

  // The row that was chosen last: a part that comes anew has it chosen still.
  let last = null;

  function choose(row, scroll) {
    if (!row) return;
    last = row.dataset.row;
    document.querySelectorAll("[data-row].at").forEach(function (other) { other.classList.remove("at"); });
    row.classList.add("at");
    if (scroll !== false) row.scrollIntoView({ block: "nearest" });
  }

  function move(by) {
    const all = rows();
    const at = all.findIndex(function (row) { return row.classList.contains("at"); });
    choose(all[Math.min(all.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by))]);
  }

  function act(key) {
    const row = document.querySelector("[data-row].at");
    const there = row && row.dataset[key];
    if (there) { window.location.href = there; return true; }
    const button = document.querySelector('[data-key="' + key + '"]');
    if (!button) return false;
    button.click();
    const menu = button.closest("details");
    const field = menu && menu.querySelector("input:not([type=hidden]), select, textarea, button");
    if (field) setTimeout(function () { field.focus(); }, 0);
    return true;
  }

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const field = event.target.matches("input, textarea, select");
    if (event.key === "Escape") {
      document.querySelectorAll("details.menu[open]").forEach(function (menu) { menu.open = false; });
      if (field) event.target.blur();
      return;
    }
    if (field || document.querySelector("dialog[open]")) return;
    const chosen = document.querySelector("[data-row].at");
    let done = true;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "Enter" && chosen && !event.target.closest("a, button, summary")) {
      const link = chosen.querySelector("a.main");
      if (link) link.click();
    } else if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) { search.focus(); search.select(); } else done = false;
    } else if (event.key === "?") help();
    else if (event.key === "r" || event.key === "c") done = act(event.key);
    else done = false;
    if (done) event.preventDefault();
  });

  document.addEventListener("htmx:afterSwap", function () {
    ages();
    fold();
    if (last && !document.querySelector("[data-row].at")) choose(document.querySelector('[data-row="' + CSS.escape(last) + '"]'), false);
  });
  connect();
  ages();
})();

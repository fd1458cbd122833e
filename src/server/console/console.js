"use strict";
(() => {
	const EVERY = 1000;     // milliseconds between two looks at the metrics
	const SAMPLES = 180;    // that a chart shows
	const ROWS = 100;       // of the feed
	const PARSED = 200;     // lines of one piece of the feed that are worth reading: the newest
	const TOKEN = "tallyd-token";
	const RETRY = 1000;     // milliseconds before a lost feed is asked for again
	const PATIENCE = 5000;  // milliseconds until an answer is there: who is stopped still takes connections
	const SILENCE = 20000;  // milliseconds without even a heartbeat (feed_heartbeat, 15 s) of a feed that lives
	const FAR = 4 << 20;    // bytes of journal that a page which was away still catches up with

	const at = id => document.getElementById(id);
	const say = (id, text) => { at(id).textContent = text; };

	// A number beyond 2^53 stays exact: it becomes a string before it is read.
	const parse = text => JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}/g,
		part => part[0] === '"' ? part : `"${part}"`));
	const whole = value => value === null || value === undefined ? "none" : BigInt(value).toLocaleString("en");
	const signed = value => (BigInt(value) > 0n ? "+" : "") + whole(value);
	const few = value => value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "");
	const span = seconds => !isFinite(seconds) ? "–" : seconds >= 1 ? few(seconds) + " s"
		: seconds >= 1e-3 ? few(seconds * 1e3) + " ms" : few(seconds * 1e6) + " µs";
	const bytes = value => { let unit = 0; while (value >= 1024 && unit < 4) { value /= 1024; unit++; } return few(value) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit]; };
	const age = seconds => seconds < 120 ? Math.round(seconds) + " s" : seconds < 7200 ? Math.round(seconds / 60) + " min"
		: seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " d";
	const clock = time => new Date(time).toLocaleTimeString([], { hour12: false });

	const moment = time => new Date(time).toLocaleString([], { hour12: false });

	const element = (name, text, kind) => {
		const made = document.createElement(name);
		if (text !== undefined) made.textContent = text;
		if (kind) made.className = kind;
		return made;
	};
	const row = cells => { const made = element("tr"); made.append(...cells); return made; };
	const money = value => element("td", signed(value), "number " + (BigInt(value) < 0n ? "minus" : "plus"));

	// ---- asking: with a token where one is needed, which is kept until this tab is closed

	const denied = new Set();    // what was asked for and not given: one answer does not hide the form for another
	const ask = async (path, options = {}) => {
		const token = sessionStorage.getItem(TOKEN), headers = { ...options.headers };
		if (token) headers.Authorization = "Bearer " + token;
		const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...options, headers });
		const no = answer.status === 401 || answer.status === 403;
		if (no)
			say("locked", !token ? "tallyd asks for one." : answer.status === 401 ? "It is not valid." : "It does not permit all of this: read, and no prefix.");
		denied[no ? "add" : "delete"](path.split(/[/?]/)[1]);
		at("unlock").hidden = denied.size === 0;
		return answer;
	};
	at("unlock").addEventListener("submit", event => {
		event.preventDefault();
		sessionStorage.setItem(TOKEN, at("token").value.trim());
		at("token").value = "";
		denied.clear();
		at("unlock").hidden = true;
	});

	// ---- metrics: the text format of Prometheus, read into a list of samples

	const read = text => {
		const samples = [];
		for (const line of text.split("\n")) {
			const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
			if (!found) continue;
			const labels = {};
			for (const pair of (found[2] || "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[pair[1]] = pair[2];
			samples.push({ name: found[1], labels, value: found[3] === "+Inf" ? Infinity : Number(found[3]) });
		}
		return {
			all: name => samples.filter(sample => sample.name === name),
			sum: (name, want = {}) => samples.reduce((sum, sample) => sample.name === name &&
				Object.keys(want).every(key => sample.labels[key] === want[key]) ? sum + sample.value : sum, 0),
		};
	};

	// The value below which SHARE of what came between two looks lies.
	const quantile = (now, before, name, share) => {
		const buckets = {};
		for (const sample of now.all(name + "_bucket")) buckets[sample.labels.le] = (buckets[sample.labels.le] || 0) + sample.value;
		for (const sample of before.all(name + "_bucket")) buckets[sample.labels.le] -= sample.value;
		const edges = Object.keys(buckets).map(edge => [edge === "+Inf" ? Infinity : Number(edge), buckets[edge]]).sort((a, b) => a[0] - b[0]);
		const total = edges.length ? edges[edges.length - 1][1] : 0;
		let low = 0, below = 0;
		for (const [edge, count] of edges) {
			if (total > 0 && count >= share * total)
				return isFinite(edge) ? low + (edge - low) * (share * total - below) / Math.max(1, count - below) : low;
			low = edge; below = count;
		}
		return NaN;
	};

	// ---- charts

	const chart = (id, lines, label) => {
		const canvas = at(id), values = lines.map(() => []);
		const draw = () => {
			const scale = window.devicePixelRatio || 1, style = getComputedStyle(document.documentElement);
			const width = canvas.clientWidth, height = canvas.clientHeight, pen = canvas.getContext("2d");
			canvas.width = width * scale; canvas.height = height * scale;
			pen.scale(scale, scale);
			const most = Math.max(...values.flat().filter(isFinite), 0) * 1.15 || 1;
			pen.font = "11px system-ui, sans-serif";
			for (const part of [0, .5, 1]) {
				const y = height - 6 - part * (height - 20);
				pen.strokeStyle = style.getPropertyValue("--line");
				pen.beginPath(); pen.moveTo(0, y); pen.lineTo(width, y); pen.stroke();
				pen.fillStyle = style.getPropertyValue("--fine");
				pen.fillText(label(most * part), 2, y - 3);
			}
			lines.forEach((colour, line) => {
				pen.strokeStyle = style.getPropertyValue(colour); pen.lineWidth = 1.6;
				pen.beginPath();
				let drawn = false;
				values[line].forEach((value, index) => {
					const x = width - (values[line].length - 1 - index) * width / (SAMPLES - 1);
					const y = height - 6 - value / most * (height - 20);
					if (!isFinite(value)) drawn = false;
					else if (drawn) pen.lineTo(x, y);
					else { pen.moveTo(x, y); drawn = true; }
				});
				pen.stroke();
			});
		};
		new ResizeObserver(draw).observe(canvas);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
		return (...more) => {
			more.forEach((value, line) => { values[line].push(value); if (values[line].length > SAMPLES) values[line].shift(); });
			draw();
		};
	};
	const rates = chart("rates", ["--accent"], value => few(value));
	const latencies = chart("latencies", ["--accent", "--second"], span);

	// ---- what is shown of the metrics

	const workers = (now, before, seconds) => {
		const rows = [];
		for (const sample of now.all("tallyd_worker_pid")) {
			const who = { slot: sample.labels.slot };
			const open = state => now.sum("tallyd_connections", state ? { ...who, state } : who);
			const grown = name => now.sum(name, who) - before.sum(name, who);
			const rate = before ? few(Math.max(0, grown("tallyd_worker_requests_total")) / seconds) : "–";
			rows.push(row([element("td", who.slot), ...[sample.value, open(), open("idle"), open("streaming"), rate]
				.map(value => element("td", String(value), "number"))]));
		}
		at("workers").tBodies[0].replaceChildren(...rows);
		const roles = now.all("tallyd_respawns_total").filter(sample => sample.value > 0).map(sample => `${sample.labels.role} ${sample.value}`);
		say("respawns", `Replaced after their death: ${roles.join(", ") || "nobody"}. Locks repaired: ${now.sum("tallyd_lock_recoveries_total")}.`);
	};

	const gauges = now => {
		const ring = now.sum("tallyd_ring_bytes"), limit = now.sum("tallyd_ring_bytes_limit") || 1;
		say("queue", few(now.sum("tallyd_queue_events")));
		at("ring").value = ring / limit;
		at("ring").title = `${bytes(ring)} of ${bytes(limit)}`;
		say("drain", `drains ${few(now.sum("tallyd_drain_events_per_second"))} events/s`);
		say("accounts", few(now.sum("tallyd_accounts")));
		say("tables", `of ${few(now.sum("tallyd_accounts_limit"))}; open holds ${few(now.sum("tallyd_holds"))}, ids ${few(now.sum("tallyd_ids"))}`);
		say("journal", bytes(now.sum("tallyd_journal_bytes")));
		const snapshots = now.all("tallyd_snapshot_age_seconds");
		say("snapshot", snapshots.length ? `snapshot ${age(snapshots[0].value)} old` : "no snapshot yet");
	};

	const changes = (now, before, seconds) => {
		const grown = (name, want) => Math.max(0, now.sum(name, want) - before.sum(name, want));
		const accepted = grown("tallyd_events_total", { outcome: "accepted" });
		const other = ["refused", "rejected", "invalid"].map(outcome => grown("tallyd_events_total", { outcome }));
		const commits = grown("tallyd_group_commit_events_count"), syncs = grown("tallyd_fdatasync_seconds_count");
		const p50 = quantile(now, before, "tallyd_request_seconds", .5), p99 = quantile(now, before, "tallyd_request_seconds", .99);
		say("rate", few(accepted / seconds));
		say("refused", `${few(other[0] / seconds)} refused, ${few(other[1] / seconds)} rejected, ${few(other[2] / seconds)} invalid`);
		say("p50", span(p50)); say("p99", span(p99));
		say("group", commits ? few(grown("tallyd_group_commit_events_sum") / commits) : "–");
		say("sync", syncs ? `fdatasync ${span(grown("tallyd_fdatasync_seconds_sum") / syncs)}` : "");
		rates(accepted / seconds); latencies(p50, p99);
	};

	let before, then, durable = 0, feed = {};
	const look = async () => {
		const limit = { signal: AbortSignal.timeout(PATIENCE) };
		try {
			const answer = await ask("/metrics", limit);
			if (!answer.ok) throw new Error(answer.status);
			const now = read(await answer.text()), time = performance.now();
			// The page was hidden, or nobody answered: the charts have a hole as long as that.
			if (time - then > PATIENCE) {
				before = undefined;
				for (let missed = Math.min(SAMPLES, (time - then) / EVERY); missed > 1; missed--) { rates(NaN); latencies(NaN, NaN); }
			}
			durable = now.sum("tallyd_journal_durable_lsn");
			gauges(now);
			workers(now, before, (time - then) / 1000);
			if (before) changes(now, before, (time - then) / 1000);
			before = now; then = time;
		} catch { before = undefined; }
		document.body.classList.toggle("old", !before);
		try {
			const answer = await ask("/healthz", limit);
			const told = await answer.json();
			say("health", answer.ok ? "taking updates" : `${told.reason}: ${told.detail}`);
			at("health").className = "pill " + (answer.ok ? "good" : "bad");
		} catch {
			say("health", "no answer"); at("health").className = "pill bad";
			feed.cut?.abort(); // which comes from where nobody answers
		}
	};

	const about = async () => {
		try {
			const told = await (await ask("/", { headers: { Accept: "application/json" } })).json();
			if (!told.version) throw new Error(told.reason);
			say("version", told.version);
			say("about", `up ${age(told.uptime)}, ${told.workers} workers on ${location.host}`);
		} catch { /* The next time will tell. */ }
	};

	// ---- an account

	const fetched = async path => {
		const answer = await ask(path);
		const told = parse(await answer.text());
		if (!answer.ok) throw new Error(told.detail || told.reason || answer.status);
		return told;
	};
	const table = (heads, rows) => {
		const made = element("table"), head = element("thead"), body = element("tbody"), wide = element("div", undefined, "wide");
		head.append(row(heads.map(([text, kind]) => element("th", text, kind))));
		body.append(...rows); made.append(head, body); wide.append(made);
		return wide;
	};
	const show = async name => {
		const place = at("account"), path = "/accounts/" + encodeURIComponent(name);
		try {
			const [account, statement, holds] = await Promise.all([fetched(path), fetched(path + "/events?limit=25"), fetched(path + "/holds?limit=25")]);
			const list = element("dl");
			for (const [term, value] of [["Balance", whole(account.balance)], ["Held", whole(account.held)], ["Available", account.available === null ? "without limit" : whole(account.available)],
				["Floor", whole(account.floor)], ["Ceiling", whole(account.ceiling)], ["Frozen", account.frozen], ["Version", whole(account.version)],
				["Created", moment(account.created)], ["Changed", moment(account.updated)]])
				list.append(element("dt", term), element("dd", value));
			place.replaceChildren(element("h3", name), list, element("h3", "Open holds"),
				holds.holds.length ? table([["Hold"], ["Amount", "number"], ["Expires"]], holds.holds.map(hold => row([element("td", hold.hold, "text"),
					element("td", whole(hold.amount), "number"), element("td", moment(hold.expires))]))) : element("p", "none", "fine"),
				element("h3", "Statement, newest first"),
				table([["Time"], ["Amount", "number"], ["Balance", "number"], ["Held", "number"], ["Operation"], ["With"], ["Id, note"]],
					statement.events.map(entry => row([element("td", moment(entry.time)), money(entry.amount), element("td", whole(entry.balance), "number"),
						element("td", whole(entry.held), "number"), element("td", entry.type), element("td", entry.counterparty || "", "text"),
						element("td", [entry.id, entry.note].filter(Boolean).join(" · "), "text")]))));
		} catch (error) { place.replaceChildren(element("p", `${name}: ${error.message}`, "error")); }
	};
	at("lookup").addEventListener("submit", event => { event.preventDefault(); show(at("name").value); });

	// ---- the feed

	// FEED is what is followed now: LAST is the position up to which it has come, CUT ends its connection.
	let held = false, waiting = [], drawing = false;
	const draw = () => {
		drawing = false;
		const rows = [];
		for (const event of waiting.slice(-ROWS).reverse()) {
			if (event.gap) { const cell = element("td", event.gap, "fine"); cell.colSpan = 6; rows.push(row([cell])); }
			else event.legs.forEach((leg, index) => rows.push(row([element("td", index ? "" : clock(event.time)), element("td", leg.account, "text"),
				money(leg.amount), element("td", whole(leg.balance), "number"), element("td", index ? "" : event.type),
				element("td", index ? "" : [event.id, event.note].filter(Boolean).join(" · "), "text")])));
		}
		waiting = [];
		const body = at("feed").tBodies[0];
		body.prepend(...rows);
		while (body.rows.length > ROWS) body.deleteRow(-1);
	};
	const paint = () => {
		waiting = waiting.slice(-ROWS);
		if (waiting.length && !drawing) { drawing = true; requestAnimationFrame(draw); }
	};
	// What came since LAST cannot be had: the table says so, and the feed begins now.
	const skip = (mine, why) => { mine.last = undefined; waiting.push({ gap: why }); paint(); };

	// A piece of a stream of Server-Sent Events: an id, which may stand alone, and the data of an event.
	const take = (mine, piece) => {
		const told = {};
		for (const line of piece.split("\n")) { const colon = line.indexOf(": "); if (colon > 0) told[line.slice(0, colon)] = line.slice(colon + 2); }
		if (told.id) mine.last = told.id;
		if (told.event === "pruned") skip(mine, "what came next is no longer kept");
		else if (told.data && !told.event && !held) waiting.push(parse(told.data));
	};
	const halt = () => { feed.over = true; feed.cut?.abort(); };
	const follow = async last => {
		halt();
		const mine = feed = { last, over: false };
		while (!mine.over) {
			const cut = mine.cut = new AbortController();
			let silent = false, timer;
			const heard = () => { clearTimeout(timer); timer = setTimeout(() => { silent = true; cut.abort(); }, SILENCE); };
			try {
				heard();
				if (durable - Number(mine.last) > FAR) skip(mine, "much came meanwhile that is not shown");
				const query = new URLSearchParams({ format: "sse" });
				if (at("prefix").value) query.set("account", at("prefix").value);
				if (mine.last !== undefined) query.set("after", mine.last);
				const answer = await ask("/feed?" + query, { signal: cut.signal });
				if (answer.status === 410) skip(mine, "what came meanwhile is no longer kept");
				if (answer.status === 400 && mine.last !== undefined) skip(mine, "this is another journal");
				if (!answer.ok) throw new Error(answer.status);
				say("following", "following");
				const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
				for (let rest = "", part = await reader.read(); !part.done && !mine.over; part = await reader.read()) {
					heard();
					const pieces = (rest + part.value).split("\n\n");
					rest = pieces.pop();
					for (const piece of pieces.slice(-PARSED)) take(mine, piece);
					paint();
				}
			} catch { /* Asked for again below. */ }
			clearTimeout(timer);
			if (mine.over) return;
			// A daemon may have a longer heartbeat: then nothing is lost.
			say("following", silent ? "silent; asking again" : "lost; trying again");
			if (!silent) await new Promise(done => setTimeout(done, RETRY));
		}
	};
	at("prefix").form.addEventListener("submit", event => event.preventDefault());
	at("prefix").addEventListener("change", () => { at("feed").tBodies[0].replaceChildren(); waiting = []; follow(); });
	at("hold").addEventListener("click", () => {
		held = !held;
		at("hold").setAttribute("aria-pressed", String(held));
		say("hold", held ? "Go on" : "Pause");
	});

	// ---- only while somebody sees it: a browser has six connections for all tabs, and a feed keeps one

	// A function that begins to do TASK again and again, REST milliseconds after its end.
	const again = (task, rest) => {
		let busy = false, timer;
		const go = async () => {
			if (busy || document.hidden) return;
			clearTimeout(timer); busy = true;
			await task();
			busy = false; timer = setTimeout(go, rest);
		};
		return go;
	};
	const asking = again(about, 10 * EVERY), looking = again(look, EVERY);
	const seen = async () => {
		if (document.hidden) { halt(); say("following", ""); return; }
		asking();
		await looking();    // how far the journal is by now
		if (!document.hidden && feed.over !== false) follow(feed.last);
	};
	document.addEventListener("visibilitychange", seen);
	seen();
})();

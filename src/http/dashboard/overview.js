/* The service as it is now: pools drawn as their hosts and workers, and the last minutes in plots. */
import {get, poll} from "./api.js";
import {element, icon, keyed, panel, replace, setAttribute, setState, setText, table} from "./dom.js";
import {bytes, count, duration, elapsed, known, number, plural, rate, shortId, time} from "./format.js";
import {DECADES, plot, seriesColor, seriesDash, seriesKey, setLegend} from "./plots.js";

export const title = "Overview";

const POLL_MS = 1000;
const WINDOW_MS = 300000;
const FRESH_MS = 6000;
const COMPACT_FROM = 33; /* workers of a pool: with so many, each is drawn small */

/* [{t, pools: {name: {throughput, queue, p50, p99, rss}}, server}]; kept while other pages are
 * shown, and a gap is null. */
const samples = [];
const generations = new Map(); /* "pool/host": {generation, since} */

/* Each process once, though it has several workers. */
function poolRss(pool) {
	const hosts = new Map();
	for (const worker of pool.worker_list)
		if (known(worker.rss_bytes))
			hosts.set(worker.pid, worker.rss_bytes);
	return hosts.size ? [...hosts.values()].reduce((sum, rss) => sum + rss, 0) : null;
}

function record(stats) {
	const now = Date.now();
	const pools = {};
	for (const [name, pool] of Object.entries(stats.pools)) {
		const total = pool.latency.total_ms;
		pools[name] = {throughput: pool.throughput["10s"], queue: pool.queue.length, rss: poolRss(pool),
			p50: total.count ? total.p50 : null, p99: total.count ? total.p99 : null};
	}
	if (samples.length && now - samples.at(-1).t > 3 * POLL_MS)
		samples.push({t: samples.at(-1).t + POLL_MS, pools: {}, server: null});
	samples.push({t: now, pools, server: stats.server.rss_bytes});
	while (samples.length && now - samples[0].t > WINDOW_MS)
		samples.shift();
}

/* --- pools ------------------------------------------------------------------------------------ */

/* A host of a slot and a generation: while one leaves, another may be there already. */
function hostsOf(pool) {
	const hosts = new Map();
	for (const worker of pool.worker_list) {
		const key = `${worker.host}/${worker.generation}`;
		if (!hosts.has(key))
			hosts.set(key, {key, host: worker.host, generation: worker.generation, pid: worker.pid,
				rss: worker.rss_bytes, workers: []});
		hosts.get(key).workers.push(worker);
	}
	return [...hosts.values()];
}

/* Whether the host has taken over from another a moment ago. */
function isFresh(pool, host) {
	const slot = `${pool}/${host.host}`;
	const seen = generations.get(slot);
	if (!seen || seen.generation < host.generation)
		generations.set(slot, {generation: host.generation, since: seen ? performance.now() : -FRESH_MS});
	const {generation, since} = generations.get(slot);
	return generation === host.generation && performance.now() - since < FRESH_MS;
}

function workerRow() {
	const state = element("span", {class: "state"});
	const took = element("span", {class: "took"});
	const what = element("span", {class: "what"});
	const node = element("li", {class: "worker"}, element("span", {class: "line"}, state, took), what);
	return {node, state, took, what, shown: null};
}

function updateWorker(row, worker) {
	row.node.dataset.state = worker.state;
	setState(row.state, worker.state);
	setText(row.took, known(worker.busy_ms) ? elapsed(worker.busy_ms) : "");
	if (row.shown !== (worker.job ?? "")) {
		row.shown = worker.job ?? "";
		replace(row.what, worker.job
			? element("a", {href: `#/jobs/${encodeURIComponent(worker.job)}`, title: `Job ${worker.job}`,
				"aria-label": `${worker.task}, job ${shortId(worker.job)}`}, worker.task)
			: "");
	}
	if (!worker.job)
		setText(row.what, `${count(worker.jobs_done)} done`);
}

function hostRow(host) {
	const tag = element("span", {class: "tag"}, "just started");
	const name = element("span", {class: "name"}, `host ${host.host}`);
	const about = element("span", {class: "about"});
	const workers = element("ul", {class: "workers"});
	return {node: element("li", {class: "host"}, element("div", {class: "head"}, name, tag, about), workers), tag, about, workers};
}

function updateHost(poolName, row, host) {
	const fresh = isFresh(poolName, host);
	setAttribute(row.node, "data-fresh", fresh);
	row.tag.hidden = !fresh;
	setText(row.about, host.pid ? `pid ${host.pid} · gen. ${host.generation} · ${bytes(host.rss)}` : `gen. ${host.generation}`);
	keyed(row.workers, host.workers, (worker) => worker.thread, workerRow, updateWorker);
}

const FIGURES = [
	["Busy", (pool) => `${pool.workers.busy} of ${pool.workers.total}`],
	["Queue", (pool) => count(pool.queue.length)],
	["Oldest waits", (pool) => (pool.queue.length ? duration(pool.queue.oldest_wait_ms) : "–")],
	["Last 10 s", (pool) => rate(pool.throughput["10s"])],
	["Last 60 s", (pool) => rate(pool.throughput["60s"])],
	["Memory", (pool) => bytes(poolRss(pool))],
];
const TALLIES = [
	["succeeded", (pool) => pool.ended.succeeded],
	["failed", (pool) => pool.ended.failed],
	["timed out", (pool) => pool.ended.timed_out],
	["crashed", (pool) => pool.ended.crashed],
	["cancelled", (pool) => pool.ended.cancelled],
	["expired", (pool) => pool.ended.expired],
	["retries", (pool) => pool.retries],
	["rejected", (pool) => pool.rejected],
	["scheduled", (pool) => pool.scheduled],
	["hosts replaced", (pool) => pool.restarts.total],
];

/* A list of terms with values, and how to show them anew. */
function terms(entries, format, properties) {
	const values = entries.map(() => element("dd"));
	const node = element("dl", properties,
		entries.map(([label], i) => element("div", {}, element("dt", {}, label), values[i])));
	const show = (pool) => entries.forEach(([, read], i) => {
		const value = read(pool);
		setText(values[i], format(value));
		setAttribute(values[i].parentNode, "data-zero", value === 0);
	});
	return {node, show};
}

function poolRow({name, index}) {
	const shape = element("span", {class: "hint"});
	const paused = element("span", {class: "tag"}, "paused");
	const hosts = element("ul", {class: "hosts"});
	const figures = terms(FIGURES, String, {class: "figures"});
	const tallies = terms(TALLIES, count, {class: "tallies"});
	const last = element("p", {class: "hint"});
	const node = panel(name, hosts, figures.node, tallies.node, last);
	const heading = node.firstChild;
	heading.prepend(seriesKey(index));
	node.classList.add("pool");
	node.prepend(element("div", {class: "head-line"}, heading, shape, paused));
	return {node, shape, paused, hosts, figures, tallies, last};
}

function updatePool(row, {name, pool}) {
	const range = pool.min_hosts === pool.max_hosts ? "" : `, ${pool.min_hosts} to ${pool.max_hosts} by demand`;
	setText(row.shape, `${plural(pool.hosts, "host")} × ${plural(pool.threads, "thread")}${range}`);
	row.paused.hidden = !pool.paused;
	setAttribute(row.hosts, "data-compact", pool.worker_list.length >= COMPACT_FROM);
	keyed(row.hosts, hostsOf(pool), (host) => host.key, hostRow, (host, entry) => updateHost(name, host, entry));
	row.figures.show(pool);
	row.tallies.show(pool);
	setText(row.last, pool.restarts.last ? `Last replaced: ${pool.restarts.last.replace(/\d{4}-\S+Z/, time)}` : "");
}

/* --- plots ------------------------------------------------------------------------------------ */

function seriesOf(names) {
	return names.map((name, index) => ({name, index}));
}

function lines(series, read, more = () => ({})) {
	const now = samples.at(-1)?.t;
	return series.map(({name, index}) => ({
		label: name,
		data: samples.map((sample) => ({x: sample.t - now, y: read(sample, name) ?? null})),
		borderColor: seriesColor(index), borderDash: seriesDash(index), borderWidth: 1.5,
		pointRadius: 0, pointHitRadius: 6, ...more(index),
	}));
}

function timePlot({heading, label, signal, format, tick, datasets, y = {}}) {
	return plot({title: heading, label, signal, height: 150, configure: (axis) => ({
		type: "line",
		data: {datasets: datasets()},
		options: {
			parsing: false,
			interaction: {mode: "nearest", axis: "x", intersect: false},
			plugins: {tooltip: {callbacks: {
				title: (items) => `${duration(-items[0].parsed.x)} ago`,
				label: (item) => `${item.dataset.label}: ${format(item.parsed.y)}`,
			}}},
			scales: {
				x: axis({type: "linear", min: -WINDOW_MS, max: 0, format: (t) => (t === 0 ? "now" : `−${-t / 60000} min`),
					ticks: {stepSize: 60000}}),
				y: axis({beginAtZero: true, suggestedMax: 1, format: tick ?? format, ticks: {maxTicksLimit: 5}, ...y}),
			},
		},
	})});
}

/* Of an axis: no more digits than it takes. */
function short(value) {
	return String(Number(value.toPrecision(3)));
}

function makePlots(names, signal) {
	const series = seriesOf(names);
	const newest = (read, format) => () => series.map(({name, index}) => ({name, index, value: format(read(samples.at(-1), name))}));
	const withServer = [...series, {name: "server", index: names.length}];
	const mib = (value) => (known(value) ? value / 1048576 : null);
	const memory = (sample, name) => mib(name === "server" ? sample.server : sample.pools[name]?.rss);
	const showMib = (value) => (known(value) ? `${number(value)} MiB` : "–");
	const plots = [
		{heading: "Throughput, mean of 10 s", label: "Jobs that ended in a second, over the last five minutes", format: rate,
			tick: (value) => `${short(value)}/s`,
			read: (sample, name) => sample.pools[name]?.throughput},
		{heading: "Queue", label: "Jobs that wait, over the last five minutes", format: count,
			read: (sample, name) => sample.pools[name]?.queue, y: {ticks: {precision: 0, maxTicksLimit: 5}}},
	].map(({read, ...rest}) => {
		const one = timePlot({...rest, signal, datasets: () => lines(series, read)});
		return {one, legend: newest(read, rest.format)};
	});
	const latency = timePlot({heading: "Latency, p50 and p99", signal, format: duration,
		tick: (ms) => (ms < 1000 ? `${short(ms)} ms` : `${short(ms / 1000)} s`), y: {...DECADES, beginAtZero: false},
		label: "Time from submission to end, median and 99th percentile of all jobs since the start, over the last five minutes",
		datasets: () => [
			...lines(series, (sample, name) => sample.pools[name]?.p50),
			...lines(series, (sample, name) => sample.pools[name]?.p99, () => ({borderWidth: 2.5}))
				.map((set) => ({...set, label: `${set.label} p99`})),
		]});
	const memoryPlot = timePlot({heading: "Memory, resident", signal, format: showMib, tick: (value) => `${short(value)} MiB`,
		label: "Resident memory of the hosts of each pool and of the server, over the last five minutes",
		datasets: () => lines(withServer, memory)});
	return [...plots,
		{one: latency, legend: () => series.map(({name, index}) => {
			const {p50, p99} = samples.at(-1).pools[name] ?? {};
			return {name, index, value: `${duration(p50)}, ${duration(p99)}`};
		})},
		{one: memoryPlot, legend: () => withServer.map(({name, index}) =>
			({name, index, value: showMib(memory(samples.at(-1), name))}))},
	];
}

/* --- latencies -------------------------------------------------------------------------------- */

const PHASES = [["queued_ms", "queued"], ["run_ms", "run"], ["total_ms", "total"]];
const COLUMNS = ["mean", "p50", "p90", "p95", "p99", "p999", "max"];

function latencyRow({pool, phase}) {
	const cells = COLUMNS.map(() => element("td", {class: "number"}));
	const jobs = element("td", {class: "number"});
	return {node: element("tr", {}, element("th", {scope: "row"}, pool), element("td", {}, phase), jobs, cells), cells, jobs};
}

function updateLatency(row, {latency}) {
	setText(row.jobs, count(latency.count));
	COLUMNS.forEach((name, i) => setText(row.cells[i], latency.count ? duration(latency[name]) : "–"));
}

function latencyEntries(pools) {
	return Object.entries(pools).flatMap(([pool, stats]) =>
		PHASES.map(([name, phase]) => ({pool, phase, latency: stats.latency[name]})));
}

/* --- the page --------------------------------------------------------------------------------- */

export function open(main, {signal}) {
	const problem = element("p", {class: "problem", role: "alert", hidden: true});
	const summary = element("p", {class: "hint"}, "Loading");
	const pools = element("div", {class: "pools"});
	const plots = element("div", {class: "plots"});
	const latencies = table("Latencies since the start, by pool",
		[["Pool"], ["Phase"], ["Jobs", true], ["Mean", true], ["p50", true], ["p90", true], ["p95", true],
			["p99", true], ["p99.9", true], ["Max", true]]);
	const plotPanel = panel("Last five minutes", plots);
	const latencyPanel = panel("Latency since the start", latencies.node);
	let drawn = null;

	main.append(element("h1", {}, title), summary, problem, pools, plotPanel, latencyPanel);
	plotPanel.hidden = true;
	latencyPanel.hidden = true;

	poll(POLL_MS, signal, async () => {
		const stats = await get("stats", signal);
		record(stats);
		problem.hidden = true;
		setText(summary, `${plural(stats.jobs.live, "live job")}, ${count(stats.jobs.kept)} ended and kept · `
			+ `server pid ${stats.server.pid}, `
			+ `${bytes(stats.server.rss_bytes)}, ${plural(stats.server.connections, "connection")} · started ${time(stats.started_at)}`);
		const names = Object.keys(stats.pools);
		keyed(pools, names.map((name, index) => ({name, index, pool: stats.pools[name]})), (entry) => entry.name, poolRow, updatePool);
		keyed(latencies.body, latencyEntries(stats.pools), (entry) => `${entry.pool}/${entry.phase}`, latencyRow, updateLatency);
		plotPanel.hidden = false;
		latencyPanel.hidden = false;
		if (!drawn || drawn.names !== names.join()) {
			drawn = {names: names.join(), plots: makePlots(names, signal)};
			replace(plots, drawn.plots.map(({one}) => one.node));
		}
		for (const {one, legend} of drawn.plots) {
			one.draw();
			setLegend(one.legend, legend());
		}
	}, (error) => {
		replace(problem, icon("warning"), ` ${error.message}`);
		problem.hidden = false;
	});
}

/*
 * One comparison or experiment: its progress as it runs, then the verdict, plots and all figures.
 * The page's address is its link.
 */
import {call, events, get, Problem} from "./api.js";
import {bearingOf} from "./comparisons.js";
import {announce, cells, element, facts, panel, progressBar, replace, setState, setText, stateBadge, table} from "./dom.js";
import {bytes, count, duration, heading as headingOf, interval, known, number, percent, rate, time} from "./format.js";
import {fewTicks, plot, seriesColor, seriesDash, setLegend} from "./plots.js";

export const title = "Comparison";

const BINS = 32;
const LINES_MAX = 4; /* contenders whose distributions can be told apart in one plot */
const CROP = 3; /* greatest bars that an axis is long at most; lines that go beyond are cut */
const ENDED = ["succeeded", "failed", "cancelled"];

/* --- plots ------------------------------------------------------------------------------------ */

const short = (value) => String(Number(value.toPrecision(3)));
const boundsOf = (figure) => (figure ? [figure.low ?? null, figure.high ?? null] : null);
const measured = (contenders, name) => contenders.filter((one) => known(one[name]?.value));

/* Contenders that differ in their number of workers alone are a curve: "1 thread" and "2 threads". */
function curvesOf(contenders) {
	const curves = new Map();
	for (const one of measured(contenders, "speedup")) {
		const kind = one.name.replace(/[\d\s]+/g, "");
		const curve = [...curves.keys()].find((key) => key.startsWith(kind) || kind.startsWith(key)) ?? kind;
		curves.set(curve, [...(curves.get(curve) ?? []), one]);
	}
	for (const [kind, points] of curves) {
		points.sort((a, b) => a.workers - b.workers);
		if (new Set(points.map((one) => one.workers)).size < 2)
			curves.delete(kind);
	}
	return [...curves];
}

/* Of each contender: that of its curve, if there are curves, else its own. */
function seriesIndices(contenders) {
	const curves = curvesOf(contenders);
	const curveOf = (one) => Math.max(0, curves.findIndex(([, points]) => points.includes(one)));
	return contenders.map((one, index) => (curves.length ? curveOf(one) : index));
}

function legendOf(contenders) {
	return contenders.map(({name}, index) => ({name, index, value: ""}));
}

/* How many samples of each contender lie in each of the common bins; decades apart, the bins are
 * equal by ratio. */
function histogram(contenders) {
	const all = contenders.flatMap((one) => one.run_ms.samples);
	const low = Math.min(...all);
	const high = Math.max(...all, low * 1.001 + 1e-6);
	const isWide = low > 0 && high / low > 20;
	const [from, to] = isWide ? [Math.log10(low), Math.log10(high)] : [low, high];
	const step = (to - from) / BINS;
	const edges = Array.from({length: BINS + 1}, (_, i) => (isWide ? 10 ** (from + i * step) : from + i * step));
	const counts = contenders.map((one) => {
		const bins = new Array(BINS).fill(0);
		for (const sample of one.run_ms.samples)
			bins[Math.min(BINS - 1, Math.floor(((isWide ? Math.log10(sample) : sample) - from) / step))] += 1;
		return bins.map((jobs) => 100 * jobs / one.run_ms.samples.length);
	});
	return {edges, counts, isWide};
}

function distributionPlot(contenders, signal) {
	const shown = contenders.filter((one) => one.run_ms?.samples?.length);
	if (!shown.length || contenders.length > LINES_MAX)
		return null;
	const {edges, counts, isWide} = histogram(shown);
	const self = plot({title: "Run times", signal, height: 220,
		label: `Distribution of the run times of ${shown.map((one) => one.name).join(" and ")}; the table below has its quantiles`,
		configure: (axis) => ({
			type: "line",
			data: {datasets: shown.map((one, i) => {
				const index = contenders.indexOf(one);
				return {label: one.name, stepped: "after", pointRadius: 0, pointHitRadius: 6, borderWidth: 1.75,
					borderColor: seriesColor(index), borderDash: seriesDash(index),
					data: [...counts[i].map((share, bin) => ({x: edges[bin], y: share})), {x: edges[BINS], y: counts[i][BINS - 1]}]};
			})},
			options: {
				parsing: false,
				plugins: {tooltip: {callbacks: {title: (items) => `from ${duration(items[0].parsed.x)} on`,
					label: (item) => `${item.dataset.label}: ${number(item.parsed.y)} % of the jobs`}}},
				scales: {
					x: axis({...(isWide ? {type: "logarithmic", afterBuildTicks: fewTicks} : {type: "linear"}),
						min: edges[0], max: edges[BINS], title: "Run time, ms", format: short}),
					y: axis({beginAtZero: true, title: "Share of the jobs", format: (value) => `${short(value)} %`}),
				},
			},
		})});
	setLegend(self.legend, legendOf(contenders).filter((_, index) => shown.includes(contenders[index])));
	return self;
}

/* One bar for each contender, from `from` or 0 to `to`, with a line from `low` to `high`. rows: those,
 * with the index of the contender and what is said of it in words. */
function barPlot(contenders, {rows, heading, tick, height, signal}) {
	if (!rows.length)
		return null;
	const indices = seriesIndices(contenders);
	const names = rows.map((row) => contenders[row.index].name);
	const greatest = Math.max(...rows.map((row) => row.to));
	const highest = Math.max(...rows.map((row) => row.high ?? row.to));
	return plot({title: heading, signal, height: height ?? barsHeight(rows.length),
		label: `${heading}: ${rows.map((row, i) => `${names[i]} ${row.text}`).join("; ")}`,
		configure: (axis) => ({
			type: "bar",
			data: {labels: names, datasets: [{
				data: rows.map((row) => (known(row.from) ? [row.from, row.to] : row.to)),
				intervals: rows.map((row) => [row.low ?? null, row.high ?? null]),
				backgroundColor: rows.map((row) => seriesColor(indices[row.index])), maxBarThickness: 18}]},
			options: {
				indexAxis: "y",
				plugins: {tooltip: {callbacks: {label: (item) => rows[item.dataIndex].text}}},
				scales: {
					x: axis({beginAtZero: true, format: tick, suggestedMax: Math.min(highest, CROP * greatest)}),
					y: axis({grid: {display: false}, ticks: {autoSkip: false, maxTicksLimit: 100}}),
				},
			},
		})});
}

function barsHeight(bars) {
	return Math.max(90, 28 * bars + 46);
}

/* Of a figure with a confidence interval. */
function figurePlot(contenders, {name, format, ...more}) {
	const rows = contenders.map((one, index) => ({index, figure: one[name]})).filter(({figure}) => known(figure?.value))
		.map(({index, figure}) => ({index, to: figure.value, low: figure.low, high: figure.high, text: interval(figure, format)}));
	return barPlot(contenders, {rows, ...more});
}

/* Where there are too many contenders for lines and groups of bars. */
function manyPlots(contenders, signal) {
	const times = contenders.map((one, index) => ({index, run: one.run_ms})).filter(({run}) => run?.count)
		.map(({index, run}) => ({index, from: run.p50, to: run.p95, low: run.min, high: run.max,
			text: ["min", "p50", "p95", "max"].map((name) => `${name} ${duration(run[name])}`).join(", ")}));
	const sizes = contenders.map((one, index) => ({index, pss: one.memory?.pss_bytes})).filter(({pss}) => known(pss))
		.map(({index, pss}) => ({index, to: pss / 1048576, text: bytes(pss)}));
	return [
		barPlot(contenders, {rows: times, signal, heading: "Run times: p50 to p95, and from the least to the most",
			tick: (value) => `${short(value)} ms`}),
		barPlot(contenders, {rows: sizes, signal, heading: "Memory of all hosts, shared pages divided (PSS)",
			tick: (value) => `${short(value)} MiB`}),
	];
}

const MEMORY = [["pss_bytes", "PSS"], ["private_bytes", "Private"], ["rss_bytes", "RSS"]];

function memoryPlot(contenders, signal) {
	const shown = contenders.filter((one) => MEMORY.some(([name]) => known(one.memory?.[name])));
	if (!shown.length || contenders.length > LINES_MAX)
		return null;
	const self = plot({title: "Memory of all hosts", signal, height: 220,
		label: `Memory: ${shown.map(({name, memory}) => `${name} ${bytes(memory.pss_bytes)} PSS, ${bytes(memory.rss_bytes)} RSS`).join("; ")}`,
		configure: (axis) => ({
			type: "bar",
			data: {labels: MEMORY.map(([, label]) => label), datasets: shown.map((one) => ({
				label: one.name, data: MEMORY.map(([name]) => (one.memory[name] ?? null) / 1048576),
				backgroundColor: seriesColor(contenders.indexOf(one)), maxBarThickness: 32}))},
			options: {
				plugins: {tooltip: {callbacks: {label: (item) => `${item.dataset.label}: ${number(item.parsed.y)} MiB`}}},
				scales: {x: axis({grid: {display: false}}), y: axis({beginAtZero: true, format: (value) => `${short(value)} MiB`})},
			},
		})});
	setLegend(self.legend, legendOf(contenders).filter((_, index) => shown.includes(contenders[index])), true);
	return self;
}

function scalingPlot(contenders, height, signal) {
	const curves = curvesOf(contenders);
	if (!curves.length)
		return null;
	const inWords = ([kind, points]) => `${kind} ${points.map((one) => `${number(one.speedup.value)} with ${one.workers}`).join(", ")}`;
	const most = Math.max(...curves.flatMap(([, points]) => points.map((one) => one.workers)));
	const self = plot({title: "Speed-up by workers", signal, height,
		label: `Speed-up: ${curves.map(inWords).join("; ")}`,
		configure: (axis, colors) => ({
			type: "line",
			data: {datasets: [
				...curves.map(([pool, points], index) => ({label: pool, borderColor: seriesColor(index), backgroundColor: seriesColor(index),
					borderDash: seriesDash(index), borderWidth: 1.75, pointRadius: 3, intervals: points.map((one) => boundsOf(one.speedup)),
					data: points.map((one) => ({x: one.workers, y: one.speedup.value}))})),
				{label: "as many times as workers", borderColor: colors.text, borderWidth: 1, borderDash: [1, 3], pointRadius: 0,
					data: [{x: 1, y: 1}, {x: most, y: most}]},
			]},
			options: {
				parsing: false,
				plugins: {tooltip: {callbacks: {title: (items) => `${items[0].parsed.x} workers`,
					label: (item) => `${item.dataset.label}: ${number(item.parsed.y)}×`}}},
				scales: {
					x: axis({type: "linear", min: 1, max: most, title: "Workers", format: short, ticks: {precision: 0}}),
					y: axis({beginAtZero: true, format: (value) => `${short(value)}×`}),
				},
			},
		})});
	setLegend(self.legend, [...curves.map(([name], index) => ({name, index, value: ""})),
		{name: "as many times as workers (dotted)", index: 4, value: ""}]);
	return self;
}

function plotsOf(contenders, signal) {
	const height = Math.max(240, barsHeight(contenders.length));
	const scaling = scalingPlot(contenders, height, signal);
	return [
		figurePlot(contenders, {name: "throughput_per_s", heading: "Throughput", format: rate, tick: (value) => `${short(value)}/s`,
			height: scaling ? height : null, signal}),
		scaling ?? figurePlot(contenders, {name: "speedup", heading: "Speed-up against one worker", signal,
			format: (value) => `${number(value)}×`, tick: (value) => `${short(value)}×`}),
		distributionPlot(contenders, signal),
		memoryPlot(contenders, signal),
		...(contenders.length > LINES_MAX ? manyPlots(contenders, signal) : []),
	].filter(Boolean);
}

/* --- figures ---------------------------------------------------------------------------------- */

const quantiles = (figure) => (figure?.count === 1 ? duration(figure.p50) : figure?.count
	? ["min", "p50", "p95", "p99", "max"].map((name) => duration(figure[name])).join(" · ") : "–");
const pairOf = (a, b, format) => `${format(a)} · ${format(b)}`;
const FIGURES = [
	["Pool", (one) => one.pool],
	["Hosts × threads", (one) => `${one.hosts} × ${one.threads}`],
	["At once", (one) => count(one.concurrency)],
	["Jobs", (one) => Object.entries(one.jobs ?? {}).map(([state, jobs]) => `${count(jobs)} ${state.replaceAll("_", " ")}`).join(", ")],
	["Throughput (95 % CI)", (one) => interval(one.throughput_per_s, rate)],
	["Wall time of a round", (one) => interval(one.wall_ms, duration)],
	["Speed-up against one worker", (one) => interval(one.speedup, (value) => `${number(value)}×`)],
	["Efficiency", (one) => (known(one.efficiency) ? percent(100 * one.efficiency) : "–")],
	["Run: min · p50 · p95 · p99 · max", (one) => quantiles(one.run_ms)],
	["Queued", (one) => quantiles(one.queued_ms)],
	["Dispatch", (one) => quantiles(one.dispatch_ms)],
	["Collect", (one) => quantiles(one.collect_ms)],
	["CPU a job: user · system", (one) => one.per_job && pairOf(one.per_job.cpu_user_ms, one.per_job.cpu_system_ms, duration)],
	["Faults a job: minor · major", (one) => one.per_job && pairOf(one.per_job.minor_faults, one.per_job.major_faults, number)],
	["Switches a job: voluntary · not", (one) => one.per_job
		&& pairOf(one.per_job.voluntary_switches, one.per_job.involuntary_switches, number)],
	["Peak of a job", (one) => bytes(one.per_job?.peak_bytes)],
	["Memory, PSS", (one) => bytes(one.memory?.pss_bytes)],
	["Memory, PSS a worker", (one) => bytes(one.memory?.per_worker_bytes)],
	["Memory, private", (one) => bytes(one.memory?.private_bytes)],
	["Memory, RSS", (one) => bytes(one.memory?.rss_bytes)],
	["Cold start of a host", (one) => quantiles(one.cold_start?.host_ms)],
	["Cold start of a thread", (one) => quantiles(one.cold_start?.thread_ms)],
	["A crash takes", (one) => (one.blast_radius ? `${one.blast_radius.lost} of ${one.blast_radius.running} running jobs` : "–")],
	["First failure", (one) => one.failure ?? "–"],
];

function figuresTable(contenders) {
	const {node, body} = table("All figures", [["Figure"], ...contenders.map((one) => [one.name])]);
	for (const [label, read] of FIGURES) {
		const values = contenders.map((one) => read(one) || "–");
		if (values.some((value) => value !== "–"))
			body.append(element("tr", {}, element("th", {scope: "row"}, label), cells(...values)));
	}
	return node;
}

const UNITS = {jobs_per_s: rate, ms: duration, bytes};

function differencesTable(differences) {
	const {node, body} = table("Differences, with 95 % confidence intervals",
		[["Figure"], ["Of"], ["Against"], ["Ratio"], ["Difference"], ["Told apart"]]);
	for (const entry of differences)
		body.append(element("tr", {}, element("th", {scope: "row"}, String(entry.figure).replaceAll("_", " ")),
			cells(entry.a, entry.b, interval(entry.ratio, (value) => `${number(value)}×`),
				interval(entry.difference, UNITS[entry.unit] ?? number), entry.told_apart ? "yes" : "no")));
	return node;
}

function noiseOf(noise) {
	const {cpu, memory, io} = noise.pressure_percent ?? {};
	return [
		element("p", {}, noise.quiet ? "The machine was quiet." : "The machine was not quiet:"),
		noise.warnings?.length ? element("ul", {class: "warnings"}, noise.warnings.map((warning) => element("li", {}, warning))) : null,
		facts([["Measured for", duration(noise.measured_ms)], ["Taken by the hypervisor", percent(noise.steal_percent)],
			["Used by others", percent(noise.other_cpu_percent)],
			["Pressure: CPU · memory · I/O", [cpu, memory, io].map(percent).join(" · ")],
			["Throttled", known(noise.throttled_ms) ? duration(noise.throttled_ms) : "–"], ["Other jobs", count(noise.other_jobs)]]),
	];
}

/* What an experiment found: [{name, value, unit}]. */
export function findingsOf(findings) {
	return facts(findings.map(({name, value, unit}) => [name.replaceAll("_", " "),
		unit === "bytes" ? bytes(value) : unit === "ms" ? duration(value)
			: unit === "ratio" || unit === "times" ? `${number(value)}×` : `${number(value)} ${unit ?? ""}`]));
}

/* --- the page --------------------------------------------------------------------------------- */

function nameOf(document) {
	const {experiment, request} = document;
	if (experiment)
		return `Experiment: ${headingOf(experiment.name)}`;
	return request ? `${request.task} on ${(request.pools ?? []).join(" and ")}` : title;
}

function requestOf(request) {
	const {task, args, pools, ...more} = request;
	return facts([["Task", task], ["Arguments", args === undefined ? null : element("code", {class: "mono"}, JSON.stringify(args))],
		["Pools", (pools ?? []).join(", ")], ...Object.entries(more).map(([name, value]) => [name, String(value)])]);
}

function verdictOf(document) {
	const {experiment, verdict, error, state} = document;
	const why = experiment?.why;
	const text = verdict?.text ?? (typeof verdict === "string" ? verdict : null) ?? error?.message ?? `It was ${state}.`;
	return [
		experiment ? element("p", {}, `The claim: ${experiment.claim}`) : null,
		element("p", {class: "verdict", id: "verdict"}, text),
		experiment ? element("p", {}, bearingOf(experiment.borne_out, state), why && !text.includes(why) ? ` ${why}` : "") : null,
		experiment?.findings?.length ? findingsOf(experiment.findings) : null,
	];
}

function resultsOf(document, signal) {
	const {contenders = [], differences = [], noise, request} = document;
	const plots = plotsOf(contenders, signal);
	return {
		plots,
		nodes: [
			plots.length ? panel("Plots", element("div", {class: "plots"}, plots.map((one) => one.node))) : null,
			differences.length ? panel("Differences, with 95 % confidence intervals", differencesTable(differences)) : null,
			contenders.length ? panel("All figures", figuresTable(contenders)) : null,
			noise ? panel("Noise", noiseOf(noise)) : null,
			request ? panel("What was asked for", requestOf(request)) : null,
		],
	};
}

export function open(main, {id, signal}) {
	const path = `comparisons/${encodeURIComponent(id)}`;
	const state = stateBadge("queued");
	const heading = element("h1", {}, title);
	const cancelButton = element("button", {type: "button", disabled: true}, "Cancel");
	const about = element("p", {class: "hint"}, "Loading");
	const wrong = element("p", {class: "problem", role: "alert", hidden: true});
	const progress = progressBar("Progress of the comparison");
	const progressPanel = element("section", {class: "panel", "aria-label": "Progress"}, progress.nodes);
	const outcome = panel("Verdict");
	const results = element("div");
	const verdict = element("div");
	let isOver = false;

	outcome.append(verdict);
	outcome.hidden = true;
	progressPanel.hidden = true;
	state.hidden = true;
	main.append(element("div", {class: "head-line"}, heading, state, element("div", {class: "actions"}, cancelButton)),
		about, wrong, progressPanel, outcome, results);

	function fail(error) {
		if (signal.aborted)
			return;
		setText(about, "");
		setText(wrong, error.status === 404
			? "There is no such comparison, or it is kept no longer." : error.message);
		wrong.hidden = false;
	}

	function showState(name) {
		setState(state, name);
		state.hidden = false;
		cancelButton.disabled = ENDED.includes(name) || name === "stopping";
	}

	function showEnd(document) {
		isOver = true;
		progressPanel.hidden = true;
		replace(verdict, verdictOf(document));
		outcome.hidden = false;
		const {plots, nodes} = resultsOf(document, signal);
		replace(results, nodes);
		for (const one of plots)
			one.draw();
	}

	/* Answers may come in another order than they were given: what has ended stays ended. */
	function show(document) {
		if (isOver)
			return;
		setText(heading, nameOf(document));
		globalThis.document.title = `${nameOf(document)} · twinpool`;
		const took = known(document.elapsed_ms) ? `, took ${duration(document.elapsed_ms)}` : "";
		setText(about, `Submitted ${time(document.submitted_at)}${took}`
			+ " · this page's address opens it again, as long as it is kept");
		showState(document.state);
		if (ENDED.includes(document.state)) {
			showEnd(document);
			return;
		}
		progressPanel.hidden = false;
		progress.show(document.progress ?? {}, "Waiting for its turn");
	}

	cancelButton.addEventListener("click", async () => {
		cancelButton.disabled = true;
		try {
			show(await call("DELETE", path));
		} catch (error) {
			if (!(error instanceof Problem))
				throw error;
			fail(error);
		}
	});

	async function begin() {
		const first = await get(path, signal);
		show(first);
		if (isOver)
			return;
		for await (const {name, data} of events(`${path}/events`, signal)) {
			if (name === "progress") {
				if (data.state)
					showState(data.state);
				progress.show(data, "Waiting for its turn");
			} else if (name === "end") {
				show(data);
				announce(`Comparison ${data.state}. ${data.verdict?.text ?? ""}`);
			}
		}
	}

	begin().catch(fail);
}

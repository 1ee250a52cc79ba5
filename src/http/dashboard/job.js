/* One job: its state and progress as they change, its timing as a waterfall, its output as it comes. */
import {call, events, get, poll, Problem} from "./api.js";
import {announce, element, facts, keyed, panel, progressBar, replace, setState, setText, stateBadge} from "./dom.js";
import {bytes, count, duration, instant, json, known, time} from "./format.js";

export const title = "Job";

const POLL_MS = 1000;
const OUTPUT_MAX = 1000000; /* characters of a stream that are kept on the page */
const ENDED = ["succeeded", "failed", "timed_out", "cancelled", "crashed", "expired"];

const hasEnded = (job) => ENDED.includes(job.state);

/* --- the waterfall ---------------------------------------------------------------------------- */

/* The phases of an attempt, in milliseconds since the submission. */
function phasesOf(attempt, submitted, number_) {
	const {queued_ms: queued, dispatch_ms: dispatch, run_ms: run, collect_ms: collect,
		cpu_user_ms: user, cpu_system_ms: system} = attempt.timing;
	const began = attempt.started_at ? instant(attempt.started_at) - submitted : null;
	const from = began === null ? null : Math.max(0, began - (dispatch ?? 0) - (queued ?? 0));
	const phases = [];
	let at = from ?? 0;
	for (const [phase, length] of [["queued", queued], ["dispatch", dispatch], ["run", run]]) {
		if (!known(length))
			continue;
		phases.push({key: `${number_}/${phase}`, phase, at, length});
		at += length;
	}
	if (known(user) && known(run))
		phases.push({key: `${number_}/cpu`, phase: "cpu", at: at - run, length: user + (system ?? 0), drawn: run});
	if (known(collect))
		phases.push({key: `${number_}/collect`, phase: "collect", at, length: collect});
	return {from, end: at + (collect ?? 0), phases};
}

const PHASES = {
	scheduled: "Scheduled",
	queued: "Queued",
	dispatch: "Dispatch",
	run: "Run",
	cpu: "CPU in it",
	collect: "Collect",
};

/* Rows of the waterfall: all attempts, the pauses before them, and the total. */
function waterfallRows(job) {
	const submitted = instant(job.submitted_at);
	const attempts = [...job.previous_attempts, {...job, attempt: job.attempt || 1}];
	const rows = [];
	let reached = 0;
	for (const attempt of attempts) {
		const {from, end, phases} = phasesOf(attempt, submitted, attempt.attempt);
		if (attempts.length > 1)
			rows.push({key: `${attempt.attempt}`, heading: `Attempt ${attempt.attempt}: ${attempt.state.replaceAll("_", " ")}`
				+ (attempt.error ? `, ${attempt.error.code.replaceAll("_", " ")}` : "")});
		if (from !== null && from - reached > 0.5)
			rows.push({key: `${attempt.attempt}/scheduled`, phase: "scheduled", at: reached, length: from - reached});
		else if (from === null && job.state === "scheduled")
			rows.push({key: `${attempt.attempt}/scheduled`, phase: "scheduled", at: reached, length: job.timing.total_ms - reached});
		const shift = from === null ? reached : 0;
		rows.push(...phases.map((phase) => ({...phase, at: phase.at + shift})));
		reached = Math.max(reached, end + shift);
	}
	rows.push({key: "total", phase: "total", at: 0, length: job.timing.total_ms});
	return rows;
}

function waterfallRow(entry) {
	if (entry.heading)
		return {node: element("tr", {class: "attempt"}, element("th", {scope: "rowgroup", colspan: "3"}, entry.heading))};
	const isTotal = entry.phase === "total";
	const bar = element("span", {dataset: {phase: entry.phase}});
	const took = element("td", {class: "number"});
	const node = element("tr", {class: isTotal ? "total" : null},
		element("th", {scope: "row"}, isTotal ? "Total" : PHASES[entry.phase]),
		element("td", {class: "track", "aria-hidden": "true"}, isTotal ? null : element("div", {}, bar)), took);
	return {node, bar, took};
}

function updateWaterfall(body, job) {
	const total = Math.max(job.timing.total_ms ?? 0, 0.001);
	const share = (value) => `${Math.min(100, Math.max(0, 100 * value / total)).toFixed(3)}%`;
	keyed(body, waterfallRows(job), (row) => row.key, waterfallRow, (row, entry) => {
		if (entry.heading) {
			setText(row.node.firstChild, entry.heading);
			return;
		}
		row.bar.style.left = `min(${share(entry.at)}, 100% - 2px)`;
		row.bar.style.width = share(Math.min(entry.length, entry.drawn ?? entry.length, total - entry.at));
		setText(row.took, duration(entry.length));
	});
}

function waterfall() {
	const body = element("tbody");
	const node = element("table", {class: "waterfall"}, element("caption", {class: "unseen"}, "Where the time went"),
		element("thead", {class: "unseen"}, element("tr", {}, ["Phase", "From the submission on", "Time"].map((name) =>
			element("th", {scope: "col"}, name)))),
		body);
	return {node: element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Timing"}, node), body};
}

/* --- output ----------------------------------------------------------------------------------- */

/* What a job writes to one stream. Stays at the end while the reader is there. */
function outputView(name) {
	const pre = element("pre", {tabindex: "0", role: "region", "aria-label": `${name} of the job`});
	const about = element("p", {class: "hint"});
	const node = panel(name, about, pre);
	let length = 0;

	function put(text) {
		node.hidden = false;
		const isAtEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
		pre.append(document.createTextNode(text));
		length += text.length;
		while (length > OUTPUT_MAX && pre.childNodes.length > 1) {
			length -= pre.firstChild.length;
			pre.firstChild.remove();
		}
		if (isAtEnd)
			pre.scrollTop = pre.scrollHeight;
	}

	node.hidden = true;
	return {
		node,
		put,
		clear: () => {
			replace(pre);
			length = 0;
		},
		skip: (lost) => put(`\n[… ${count(lost)} bytes are not kept …]\n`),
		/* Of the job's document. */
		show: (output) => {
			replace(pre);
			length = 0;
			const kept = new TextEncoder().encode(output.text + (output.tail ?? "")).length;
			if (output.total_bytes === 0)
				return;
			put(output.text);
			if (output.truncated)
				put(`\n[… ${count(Math.max(0, output.total_bytes - kept))} bytes are not kept …]\n`);
			if (output.tail)
				put(output.tail);
			setText(about, output.truncated ? `${bytes(output.total_bytes)} written, beginning and end kept` : bytes(output.total_bytes));
		},
	};
}

/* --- the rest --------------------------------------------------------------------------------- */

function outcomeOf(job) {
	if (job.error) {
		const {code, message, ...more} = job.error;
		return [element("p", {}, message), facts([["Cause", code.replaceAll("_", " ")], ...Object.entries(more).map(([name, value]) =>
			[name.replaceAll("_", " "), name === "culprit"
				? element("a", {href: `#/jobs/${encodeURIComponent(value)}`, class: "mono"}, value) : String(value)])])];
	}
	return [element("pre", {tabindex: "0", role: "region", "aria-label": "Result"}, json(job.result))];
}

function detailsOf(job) {
	const {memory, worker, limits, switches, timing} = job;
	return [
		facts([
			["Task", job.task], ["Pool", job.pool], ["Attempt", `${job.attempt} of at most ${job.max_attempts}`],
			["Priority", String(job.priority)], ["Submitted", time(job.submitted_at)],
			["Due", job.scheduled_for && time(job.scheduled_for)],
			["Place in the queue", job.queue_position && count(job.queue_position)],
			["Started", job.started_at && time(job.started_at)], ["Finished", job.finished_at && time(job.finished_at)],
			["Timeout", job.timeout_ms && duration(job.timeout_ms)],
			["CPU limit", limits.cpu_ms && duration(limits.cpu_ms)],
			["Memory limit", limits.memory_bytes && bytes(limits.memory_bytes)],
			["Output kept", known(limits.output_bytes) ? `${bytes(limits.output_bytes)}, then ${limits.on_output}` : null],
			["Batch", job.batch && element("span", {class: "mono"}, job.batch)],
		]),
		worker && [element("h3", {}, "Worker"), facts([
			["Host", `${worker.host}, generation ${worker.generation}`], ["Thread", String(worker.thread)],
			["Process", String(worker.pid)], ["Thread id", String(worker.tid)], ["Jobs before", count(worker.jobs_before)]])],
		memory && [element("h3", {}, "Memory and CPU"), facts([
			["Peak", known(memory.peak_bytes) ? `${bytes(memory.peak_bytes)} (${memory.scope}, ${memory.source})` : null],
			["Before", bytes(memory.baseline_bytes)], ["Heap at its highest", bytes(memory.heap_peak_bytes)],
			["Host after it", bytes(memory.host_rss_bytes)],
			["CPU, user and system", `${duration(timing.cpu_user_ms)} and ${duration(timing.cpu_system_ms)}`],
			["Page faults, minor and major", `${count(memory.minor_faults)} and ${count(memory.major_faults)}`],
			["Switches, voluntary and not", switches && `${count(switches.voluntary)} and ${count(switches.involuntary)}`]])],
		job.labels && [element("h3", {}, "Labels"), facts(Object.entries(job.labels))],
	];
}

function headOf(id, cancel) {
	const state = stateBadge("queued");
	const heading = element("h1", {}, "Job");
	const cancelButton = element("button", {type: "button", onclick: cancel, disabled: true}, "Cancel");
	const again = element("a", {class: "button", href: `#/submit?from=${encodeURIComponent(id)}`}, "Submit again");
	const node = element("div", {class: "head-line"}, heading, state, element("div", {class: "actions"}, cancelButton, again));
	state.hidden = true; /* until it is known */
	return {node, heading, state, cancelButton};
}

export function open(main, {id, signal}) {
	const path = `jobs/${encodeURIComponent(id)}`;
	const head = headOf(id, cancel);
	const wrong = element("p", {class: "problem", role: "alert", hidden: true});
	const progress = progressBar("Progress of the job");
	const progressPanel = element("section", {class: "panel", "aria-label": "Progress"}, progress.nodes);
	const timing = waterfall();
	const outcome = element("div");
	const outcomePanel = panel("Result", outcome);
	const details = element("div");
	const streams = {stdout: outputView("stdout"), stderr: outputView("stderr")};
	const body = element("div", {}, progressPanel, panel("Timing", timing.node), outcomePanel,
		streams.stdout.node, streams.stderr.node, panel("Details", details));
	let shown = null; /* the state that was announced */
	let detailed = null;
	let isOver = false;

	main.append(head.node, element("p", {class: "hint mono"}, id), wrong, body);
	body.hidden = true;
	outcomePanel.hidden = true;

	function fail(error) {
		setText(wrong, error.status === 404 ? "This job does not exist, or is kept no longer." : error.message);
		wrong.hidden = false;
	}

	function showProgress(now) {
		progressPanel.hidden = !now;
		if (now)
			progress.show(now, "Progress");
	}

	async function cancel() {
		head.cancelButton.disabled = true;
		try {
			show(await call("DELETE", path));
		} catch (error) {
			if (!(error instanceof Problem))
				throw error;
			if (error.status !== 409)
				fail(error);
		}
	}

	function showState(state) {
		setState(head.state, state);
		head.state.hidden = false;
		head.cancelButton.disabled = ENDED.includes(state) || state === "stopping";
		if (shown !== null && shown !== state)
			announce(`Job ${state.replaceAll("_", " ")}`);
		shown = state;
	}

	/* Answers may come in another order than they were given: what has ended stays ended. */
	function show(job) {
		if (isOver)
			return;
		setText(head.heading, `${job.task} on ${job.pool}`);
		document.title = `${job.task}, ${job.state.replaceAll("_", " ")} · twinpool`;
		showState(job.state);
		showProgress(job.progress);
		updateWaterfall(timing.body, job);
		/* Not for a clock that goes on: what somebody has selected there stays so. */
		const facts = JSON.stringify({...job, timing: hasEnded(job) ? job.timing : null, progress: null, stdout: null, stderr: null});
		if (facts !== detailed) {
			detailed = facts;
			replace(details, detailsOf(job));
		}
		wrong.hidden = true;
		body.hidden = false;
		if (!hasEnded(job))
			return;
		isOver = true;
		setText(outcomePanel.firstChild, job.error ? "Error" : "Result");
		replace(outcome, outcomeOf(job));
		outcomePanel.hidden = false;
		streams.stdout.show(job.stdout);
		streams.stderr.show(job.stderr);
	}

	async function follow() {
		for await (const {name, data} of events(`${path}/events`, signal)) {
			if (name === "state") {
				showState(data.state);
				if (data.state === "running")
					Object.values(streams).forEach((stream) => stream.clear());
			} else if (name === "progress") {
				showProgress(data);
			} else if (name === "output") {
				streams[data.stream]?.put(data.text);
			} else if (name === "gap" && data.stream) {
				streams[data.stream]?.skip(data.bytes);
			} else if (name === "end") {
				show(data);
			}
		}
	}

	async function begin() {
		const job = await get(path, signal);
		show(job);
		if (hasEnded(job))
			return;
		follow().catch((error) => (signal.aborted ? null : fail(error)));
		poll(POLL_MS, signal, async () => {
			if (isOver)
				return false;
			show(await get(path, signal));
			return !isOver;
		});
	}

	begin().catch((error) => (signal.aborted ? null : fail(error)));
}

/* The ready-made experiments: each states a claim, runs at a click, and says whether it holds here. */
import {call, get, poll, Problem} from "./api.js";
import {bearingOf} from "./comparisons.js";
import {findingsOf} from "./comparison.js";
import {announce, element, keyed, progressBar, replace, setText, stateBadge} from "./dom.js";
import {heading, time} from "./format.js";

export const title = "Experiments";

const POLL_MS = 1000;
const ENDED = ["succeeded", "failed", "cancelled"];

/* The newest run of each experiment, by name: those of the list, and what was begun here. */
async function newestRuns(signal) {
	const {comparisons = []} = await get("comparisons", signal);
	const runs = new Map();
	for (const entry of comparisons)
		if (entry.experiment && !runs.has(entry.experiment))
			runs.set(entry.experiment, entry);
	return runs;
}

function rowOf(experiment) {
	const run = element("button", {type: "button", class: "run", "aria-label": `Run ${heading(experiment.name)}`}, "Run");
	const outcome = element("div", {class: "outcome"});
	const claim = element("p", {class: "claim"}, experiment.claim);
	const reason = element("p", {class: "hint"}, experiment.available === false ? `Not available: ${experiment.reason ?? ""}` : "");
	const node = element("li", {class: "experiment"}, element("h2", {}, heading(experiment.name)), run,
		element("div", {}, claim, reason), outcome);
	return {node, run, outcome, shown: null, wasRunning: false};
}

/* A run that goes on: told once, then its numbers change in place. */
function showRunning(row, run, document) {
	if (row.shown !== `${run.id} runs`) {
		row.shown = `${run.id} runs`;
		row.progress = progressBar("Progress of the experiment");
		replace(row.outcome, row.progress.nodes);
	}
	row.progress.show(document.progress ?? {}, "Waiting for its turn");
}

async function showEnded(row, run, signal) {
	if (row.shown === run.id)
		return;
	row.shown = run.id;
	const document = await get(`comparisons/${encodeURIComponent(run.id)}`, signal);
	const {experiment, verdict, error} = document;
	const name = heading(experiment?.name ?? "experiment");
	replace(row.outcome,
		element("p", {}, bearingOf(experiment?.borne_out, document.state) ?? stateBadge(document.state), ": ",
			experiment?.why ?? verdict?.text ?? error?.message ?? ""),
		experiment?.findings?.length ? findingsOf(experiment.findings) : null,
		element("p", {class: "hint"}, element("a", {href: `#/comparisons/${encodeURIComponent(run.id)}`,
			"aria-label": `All figures of ${name}`}, "All figures"),
			` of the run of ${time(document.submitted_at)}`));
	if (row.wasRunning)
		announce(`${name}: ${verdict?.text ?? document.state}`);
	row.wasRunning = false;
}

async function showRun(row, run, signal) {
	const isRunning = run && !ENDED.includes(run.state);
	row.run.disabled = row.isAway || Boolean(isRunning) || row.isBegun === true;
	if (!run)
		return;
	if (isRunning) {
		row.wasRunning = true;
		showRunning(row, run, await get(`comparisons/${encodeURIComponent(run.id)}`, signal));
	} else {
		await showEnded(row, run, signal);
	}
}

export function open(main, {signal}) {
	const list = element("ul", {class: "experiments"});
	const note = element("p", {class: "hint"}, "Loading");
	const wrong = element("p", {class: "problem", role: "alert", hidden: true});
	const frame = element("section", {class: "panel", "aria-label": "Experiments"}, list);

	main.append(element("h1", {}, title), note, wrong, frame);
	frame.hidden = true;

	async function run(row, name) {
		row.run.disabled = true;
		row.isBegun = true;
		wrong.hidden = true;
		try {
			await call("POST", `experiments/${encodeURIComponent(name)}?wait=0`);
		} catch (error) {
			if (!(error instanceof Problem))
				throw error;
			setText(wrong, error.message);
			wrong.hidden = false;
		} finally {
			row.isBegun = false;
		}
	}

	get("experiments", signal).then(({experiments = []}) => {
		const rows = new Map();
		keyed(list, experiments, (entry) => entry.name, (entry) => {
			const row = rowOf(entry);
			row.isAway = entry.available === false;
			row.run.disabled = row.isAway;
			row.run.addEventListener("click", () => run(row, entry.name));
			rows.set(entry.name, row);
			return row;
		});
		setText(note, "Each puts one claim about processes and threads to the test, on workers of its own.");
		frame.hidden = false;
		poll(POLL_MS, signal, async () => {
			const runs = await newestRuns(signal);
			for (const [name, row] of rows)
				await showRun(row, runs.get(name), signal);
		});
	}).catch((error) => {
		if (!signal.aborted)
			setText(note, error.message);
	});
}

/* The jobs that the service knows, newest first, by filter and page by page. */
import {get, poll} from "./api.js";
import {element, keyed, setState, setText, stateBadge, table} from "./dom.js";
import {bytes, duration, known, plural, shortId, time} from "./format.js";
import {field} from "./schema_form.js";

export const title = "Jobs";

const PAGE = 50;
const POLL_MS = 2000;
const STATES = ["scheduled", "queued", "running", "stopping",
	"succeeded", "failed", "timed_out", "cancelled", "crashed", "expired"];

function rowOf(job) {
	const state = stateBadge(job.state);
	const cells = {submitted: element("td"), queued: element("td", {class: "number"}), run: element("td", {class: "number"}),
		total: element("td", {class: "number"}), memory: element("td", {class: "number"}), why: element("td", {class: "wrap"})};
	const link = element("a", {href: `#/jobs/${encodeURIComponent(job.id)}`, class: "mono", title: job.id,
		"aria-label": `Job ${shortId(job.id)}, ${job.task}`}, shortId(job.id));
	const node = element("tr", {}, element("th", {scope: "row"}, link), element("td", {}, state),
		element("td", {}, job.task), element("td", {}, job.pool), Object.values(cells));
	return {node, state, cells};
}

function whyOf(job) {
	if (job.error)
		return job.error.code.replaceAll("_", " ");
	if (job.state === "running" && job.progress)
		return job.progress.total ? `${job.progress.done} of ${job.progress.total}` : `${job.progress.done} done`;
	return job.labels ? Object.entries(job.labels).map(([name, value]) => `${name}: ${value}`).join(", ") : "";
}

function updateRow(row, job) {
	const {timing, memory} = job;
	setState(row.state, job.state);
	setText(row.cells.submitted, time(job.submitted_at));
	setText(row.cells.queued, duration(timing.queued_ms));
	setText(row.cells.run, duration(timing.run_ms));
	setText(row.cells.total, duration(timing.total_ms));
	setText(row.cells.memory, known(memory?.peak_bytes) ? bytes(memory.peak_bytes) : "–");
	setText(row.cells.why, whyOf(job));
}

function choice(label, all, values, value) {
	const input = element("select", {}, element("option", {value: ""}, all),
		values.map((name) => element("option", {value: name}, name.replaceAll("_", " "))));
	input.value = value ?? "";
	return field({label, input});
}

/* The filters, and live updates, which stop where the user is at work in the list. */
function controls(query, tasks, pools) {
	const state = choice("State", "All states", STATES, query.get("state"));
	const pool = choice("Pool", "All pools", pools.pools.map((entry) => entry.name), query.get("pool"));
	const task = choice("Task", "All tasks", tasks.tasks.map((entry) => entry.name), query.get("task"));
	const live = element("input", {type: "checkbox", id: "live"});
	live.checked = true;
	return {
		node: element("div", {class: "filters", role: "search", "aria-label": "Filters"}, state.node, pool.node, task.node,
			element("div", {class: "check"}, live, element("label", {for: "live"}, "Live"))),
		live,
		read: () => Object.fromEntries(Object.entries({state: state.input.value, pool: pool.input.value, task: task.input.value})
			.filter(([, value]) => value)),
	};
}

function showPage(main, filters, signal) {
	const list = table("Jobs", [["Job"], ["State"], ["Task"], ["Pool"], ["Submitted"], ["Queued", true], ["Run", true],
		["Total", true], ["Peak memory", true], ["Cause, progress or labels"]]);
	const empty = element("p", {class: "empty", hidden: true}, "There are no such jobs.");
	const wrong = element("p", {class: "problem", role: "alert", hidden: true});
	const newer = element("button", {type: "button"}, "Newer");
	const older = element("button", {type: "button"}, "Older");
	const where = element("span", {class: "hint", role: "status"});
	const cursors = []; /* of the pages before this one; the first page has none */
	let cursor = null;
	let next = null;
	let turn = 0;

	async function load() {
		const mine = ++turn;
		const query = new URLSearchParams({...filters.read(), limit: PAGE, ...(cursor ? {cursor} : {})});
		let {jobs, next_cursor: after} = await get(`jobs?${query}`, signal);
		/* A filter may leave a page short; it is filled up from those behind it. */
		for (let more = 0; after && jobs.length < PAGE && more < 8; more++) {
			query.set("cursor", after);
			const page = await get(`jobs?${query}`, signal);
			jobs = [...jobs, ...page.jobs];
			after = page.next_cursor;
		}
		if (mine !== turn)
			return;
		next = after;
		keyed(list.body, jobs, (job) => job.id, rowOf, updateRow);
		empty.hidden = jobs.length > 0;
		list.node.hidden = jobs.length === 0;
		wrong.hidden = true;
		newer.disabled = cursor === null;
		older.disabled = next === null;
		setText(where, jobs.length ? `Page ${cursors.length + 1}, ${plural(jobs.length, "job")}` : "");
	}

	function fail(error) {
		if (signal.aborted)
			return;
		setText(wrong, error.message);
		wrong.hidden = false;
	}

	function turnTo(page) {
		cursor = page;
		load().catch(fail);
	}

	newer.addEventListener("click", () => turnTo(cursors.pop() ?? null));
	older.addEventListener("click", () => {
		cursors.push(cursor);
		turnTo(next);
	});
	filters.node.addEventListener("change", (event) => {
		if (event.target === filters.live)
			return;
		const query = new URLSearchParams(filters.read()).toString();
		history.replaceState(null, "", `#/jobs${query ? `?${query}` : ""}`);
		cursors.length = 0;
		turnTo(null);
	});
	const isBusyHere = () => list.node.contains(document.activeElement) || list.node.matches(":hover");
	poll(POLL_MS, signal, () => (turn === 0 || (filters.live.checked && cursor === null && !isBusyHere()) ? load() : null), fail);
	main.append(element("section", {class: "panel", "aria-label": "List of jobs"}, wrong, list.node, empty,
		element("div", {class: "actions"}, newer, older, where)));
}

export async function open(main, {query, signal}) {
	main.append(element("h1", {}, title));
	try {
		const [tasks, pools] = await Promise.all([get("tasks", signal), get("pools", signal)]);
		const filters = controls(query, tasks, pools);
		main.append(filters.node);
		showPage(main, filters, signal);
	} catch (error) {
		if (!signal.aborted)
			main.append(element("p", {class: "problem", role: "alert"}, error.message));
	}
}

/* Comparisons: a form for a new one, and the list of those that are kept. */
import {call, get, poll, Problem} from "./api.js";
import {element, icon, keyed, panel, replace, setState, setText, stateBadge} from "./dom.js";
import {heading, time} from "./format.js";
import {argumentsForm, EntryError, field} from "./schema_form.js";

export const title = "Comparisons";

const POLL_MS = 2000;
const FIGURES = [
	["jobs", "Jobs", "Of each round of a pool.", 40, 1, 2000],
	["concurrency", "At once", "How many are submitted at a time.", 4, 1, 256],
	["warmup", "Warm-up jobs", "Of each pool; not counted.", 5, 0, 1000],
	["repeats", "Rounds", "From two on there are confidence intervals.", 5, 1, 30],
];

/* Whether an experiment's claim holds here, as a sign and words; nothing while that is open. */
export function bearingOf(borneOut, state) {
	if (borneOut === true)
		return element("span", {class: "state", dataset: {state: "succeeded"}}, icon("succeeded"), "borne out");
	if (borneOut === false)
		return element("span", {class: "state", dataset: {state: "failed"}}, icon("failed"), "not borne out");
	return state === "succeeded"
		? element("span", {class: "state", dataset: {state: "stopping"}}, icon("warning"), "cannot be told") : null;
}

function poolsField(pools) {
	const boxes = pools.map((pool, index) => {
		const box = element("input", {type: "checkbox", id: `compare-${index}`, value: pool.name});
		box.checked = index < 2;
		return {box, node: element("div", {class: "check"}, box, element("label", {for: box.id}, pool.name))};
	});
	const wrong = element("p", {class: "wrong", role: "alert"});
	return {
		node: element("fieldset", {class: "field"}, element("legend", {}, "Pools"),
			element("div", {class: "choices"}, boxes.map(({node}) => node)), wrong),
		mark: (message) => setText(wrong, message),
		focus: () => boxes[0].box.focus(),
		read: () => boxes.filter(({box}) => box.checked).map(({box}) => box.value),
	};
}

function makeForm(tasks, pools) {
	const enabled = tasks.filter((task) => task.enabled);
	const select = element("select", {}, enabled.map((task) => element("option", {value: task.name}, task.name)));
	const task = field({label: "Task", input: select, hint: " "});
	const about = task.node.querySelector(".hint");
	const argsFrame = element("div");
	const poolChoice = poolsField(pools);
	const figures = FIGURES.map(([name, label, hint, value, min, max]) => {
		const input = element("input", {type: "number", min, max, step: "1", value, inputmode: "numeric"});
		return {name, input, ...field({label, hint, input})};
	});
	const wrong = element("p", {class: "problem", role: "alert", hidden: true});
	const send = element("button", {type: "submit", class: "primary"}, "Compare");
	const form = element("form", {novalidate: true}, task.node,
		element("fieldset", {class: "group"}, element("legend", {}, "Arguments of every job"), argsFrame),
		poolChoice.node, element("div", {class: "grid"}, figures.map((figure) => figure.node)), wrong,
		element("div", {class: "actions"}, send));
	let args = null;

	function showTask() {
		const chosen = enabled.find((entry) => entry.name === select.value);
		setText(about, chosen.description);
		args = argumentsForm(chosen.args_schema);
		replace(argsFrame, args.node);
		if (chosen.name === "primes")
			args.write({n: 2000000});
	}

	function find(path) {
		if (/^args\b/.test(path))
			return args.find(path.replace(/^args\.?/, ""));
		return /^pools\b/.test(path) ? poolChoice : path === "task" ? task : figures.find((figure) => figure.name === path);
	}

	function fail(control, message) {
		setText(wrong, message);
		wrong.hidden = Boolean(control?.mark);
		control?.mark?.(message);
		control?.focus();
	}

	function read() {
		const given = args.read();
		const body = {task: select.value, ...(given === undefined ? {} : {args: given}), pools: poolChoice.read()};
		for (const figure of figures) {
			if (figure.input.validity.badInput)
				throw new EntryError(figure, "This is no number.");
			if (figure.input.value !== "")
				body[figure.name] = Number(figure.input.value);
		}
		return body;
	}

	select.value = enabled.some((entry) => entry.name === "primes") ? "primes" : enabled[0]?.name;
	select.addEventListener("change", showTask);
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		wrong.hidden = true;
		poolChoice.mark("");
		send.disabled = true;
		try {
			const {id} = await call("POST", "comparisons?wait=0", {body: read()});
			location.hash = `#/comparisons/${encodeURIComponent(id)}`;
		} catch (error) {
			if (error instanceof EntryError)
				fail(error.control, error.message);
			else if (error instanceof Problem)
				fail(error.field ? find(error.field) : null, error.field ? `${error.field}: ${error.message}` : error.message);
			else
				throw error;
		} finally {
			send.disabled = false;
		}
	});
	showTask();
	return form;
}

function rowOf(entry) {
	const state = stateBadge(entry.state);
	const verdict = element("p");
	const what = entry.experiment ? `Experiment: ${heading(entry.experiment)}`
		: `${entry.task} on ${(entry.pools ?? []).join(" and ")}`;
	const node = element("li", {}, element("div", {class: "head-line"},
		element("a", {href: `#/comparisons/${encodeURIComponent(entry.id)}`}, what), state,
		element("span", {class: "hint"}, time(entry.submitted_at))), verdict);
	return {node, state, verdict};
}

export async function open(main, {signal}) {
	const list = element("ul", {class: "kept"});
	const note = element("p", {class: "empty"}, "Loading");
	const formFrame = panel("Compare pools");

	main.append(element("h1", {}, title),
		element("p", {class: "hint"}, "The same work on several pools, in turn, on workers set aside for it."),
		formFrame, panel("Kept", note, list));
	formFrame.hidden = true;
	list.hidden = true;
	try {
		const [{tasks}, {pools}] = await Promise.all([get("tasks", signal), get("pools", signal)]);
		formFrame.append(makeForm(tasks, pools));
		formFrame.hidden = false;
	} catch (error) {
		if (!signal.aborted)
			setText(note, error.message);
		return;
	}
	poll(POLL_MS, signal, async () => {
		const {comparisons = []} = await get("comparisons", signal);
		keyed(list, comparisons, (entry) => entry.id, rowOf, (row, entry) => {
			setState(row.state, entry.state);
			setText(row.verdict, entry.verdict ?? "");
		});
		list.hidden = comparisons.length === 0;
		note.hidden = comparisons.length > 0;
		setText(note, "There are none yet.");
	}, (error) => {
		setText(note, error.message);
		note.hidden = false;
	});
}

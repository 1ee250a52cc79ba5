/* A form for any task, made from the schema of its arguments. */
import {call, get, Problem, recallSubmission, rememberSubmission} from "./api.js";
import {element, panel, replace, setText} from "./dom.js";
import {json} from "./format.js";
import {argumentsForm, EntryError, field} from "./schema_form.js";

export const title = "Submit a job";

const integer = (name, label, hint, more = {}) => ({name, label, hint, ...more});
const OPTIONS = [
	integer("timeout_ms", "Timeout, ms", "How long an attempt may run.", {min: 1}),
	integer("priority", "Priority", "−10 to 10; higher goes first.", {min: -10, max: 10}),
	integer("delay_ms", "Delay, ms", "Before it is queued.", {min: 0}),
	integer("queue_ttl_ms", "Queue time to live, ms", "How long it may wait.", {min: 1}),
	integer("max_attempts", "Attempts", "How often it may be run in all.", {min: 1}),
	integer("limits.cpu_ms", "CPU limit, ms", "User and system time.", {min: 1}),
	integer("limits.memory_bytes", "Memory limit, bytes", "Above what the worker held before.", {min: 1048576}),
	integer("limits.output_bytes", "Output kept, bytes", "Of each of stdout and stderr.", {min: 0}),
];

function optionField({name, label, hint, min, max}) {
	const input = element("input", {type: "number", step: "1", min, max, inputmode: "numeric", autocomplete: "off"});
	return {name, ...field({label, input, hint}), input};
}

/* Pairs of texts that are kept with the job. */
function labelsForm() {
	const rows = [];
	const list = element("div");
	const add = element("button", {type: "button", onclick: () => addRow("", "").focus()}, "Add a label");

	function addRow(name, value) {
		const nameInput = element("input", {type: "text", maxlength: "63", placeholder: "name", autocomplete: "off",
			"aria-label": "Name of a label"});
		const valueInput = element("input", {type: "text", maxlength: "255", placeholder: "value", autocomplete: "off",
			"aria-label": "Value of the label"});
		const row = {nameInput, valueInput};
		const remove = element("button", {type: "button", "aria-label": "Remove the label", onclick: () => {
			rows.splice(rows.indexOf(row), 1);
			node.remove();
			add.focus();
			list.dispatchEvent(new Event("input", {bubbles: true}));
		}}, "Remove");
		const node = element("div", {class: "pair"}, nameInput, valueInput, remove);
		nameInput.value = name;
		valueInput.value = value;
		rows.push(row);
		list.append(node);
		return nameInput;
	}

	return {
		node: element("fieldset", {}, element("legend", {}, "Labels"), list, element("div", {class: "actions"}, add)),
		read: () => Object.fromEntries(rows.filter((row) => row.nameInput.value !== "")
			.map((row) => [row.nameInput.value, row.valueInput.value])),
		write: (labels) => Object.entries(labels ?? {}).forEach(([name, value]) => addRow(name, value)),
		find: () => (rows.length ? {mark() {}, focus: () => rows[0].nameInput.focus()} : null),
	};
}

/* The fields of a submission beside its task, its arguments and its pool. */
function optionsForm() {
	const options = OPTIONS.map(optionField);
	const onOutput = field({label: "If it writes more", hint: "Than the output that is kept.",
		input: element("select", {}, element("option", {value: ""}, "Left out: truncate"),
			element("option", {value: "truncate"}, "truncate"), element("option", {value: "stop"}, "stop"))});
	const labels = labelsForm();
	const details = element("details", {}, element("summary", {}, "Limits, order, retries, labels"),
		element("div", {class: "grid"}, options.map((option) => option.node), onOutput.node), labels.node);

	return {
		node: details,
		read: () => {
			const body = {};
			const limits = {};
			for (const option of options) {
				if (option.input.validity.badInput)
					throw new EntryError(option, "This is no number.");
				if (option.input.value === "")
					continue;
				const [group, name] = option.name.startsWith("limits.") ? [limits, option.name.slice(7)] : [body, option.name];
				group[name] = Number(option.input.value);
			}
			if (onOutput.input.value)
				limits.on_output = onOutput.input.value;
			if (Object.keys(limits).length)
				body.limits = limits;
			const named = labels.read();
			return Object.keys(named).length ? {...body, labels: named} : body;
		},
		write: (body) => {
			for (const option of options) {
				const value = option.name.startsWith("limits.") ? body.limits?.[option.name.slice(7)] : body[option.name];
				option.input.value = value ?? "";
			}
			onOutput.input.value = body.limits?.on_output ?? "";
			labels.write(body.labels);
			details.open = options.some((option) => option.input.value !== "") || Object.keys(body.labels ?? {}).length > 0;
		},
		find: (path) => {
			const found = path.startsWith("labels") ? labels.find()
				: path === "limits.on_output" ? onOutput : options.find((option) => option.name === path);
			if (found)
				details.open = true;
			return found ?? null;
		},
	};
}

function taskOption(task) {
	return element("option", {value: task.name, disabled: !task.enabled},
		task.enabled ? task.name : `${task.name} (not enabled)`);
}

/* What a job was submitted with: kept in this tab, or else as far as its document has it. */
async function earlier(id, signal) {
	const kept = recallSubmission(id);
	if (kept)
		return {submission: kept, isWhole: true};
	const job = await get(`jobs/${encodeURIComponent(id)}`, signal);
	const {task, pool, priority, max_attempts, timeout_ms, labels, limits} = job;
	const asked = Object.fromEntries(Object.entries(limits ?? {})
		.filter(([name, value]) => value !== null && name !== "queue_ttl_ms"));
	const args = job.args === undefined ? {} : {args: job.args};
	return {isWhole: job.args !== undefined, submission: {task, pool, priority, max_attempts, labels: labels ?? undefined,
		timeout_ms: timeout_ms ?? undefined, queue_ttl_ms: limits?.queue_ttl_ms ?? undefined, limits: asked, ...args}};
}

function makeForm(main, tasks, pools) {
	const taskSelect = element("select", {}, tasks.map(taskOption));
	const task = field({label: "Task", input: taskSelect, hint: " "});
	const about = task.node.querySelector(".hint");
	const poolSelect = element("select");
	const pool = field({label: "Pool", input: poolSelect});
	const argsFrame = element("div");
	const options = optionsForm();
	const wrong = element("p", {class: "problem", role: "alert", hidden: true});
	const preview = element("pre", {"aria-label": "The request that is sent", tabindex: "0"});
	const send = element("button", {type: "submit", class: "primary"}, "Submit");
	const note = element("p", {class: "hint"});
	const form = element("form", {novalidate: true},
		task.node, element("fieldset", {class: "group"}, element("legend", {}, "Arguments"), argsFrame),
		pool.node, options.node, wrong, element("div", {class: "actions"}, send, note));
	let args = argumentsForm({});

	function chosenTask() {
		return tasks.find((entry) => entry.name === taskSelect.value);
	}

	function showTask() {
		const entry = chosenTask();
		setText(about, `${entry.description}${entry.kind === "builtin" ? "" : ` (${entry.kind})`}`);
		args = argumentsForm(entry.args_schema);
		replace(argsFrame, args.node);
		const wanted = poolSelect.value;
		const offered = entry.pools;
		replace(poolSelect, offered.map((name) => element("option", {value: name},
			name === pools.default ? `${name} (default)` : name)));
		poolSelect.value = offered.includes(wanted) ? wanted : offered.includes(pools.default) ? pools.default : offered[0] ?? "";
	}

	function read() {
		const given = args.read();
		return {task: taskSelect.value, ...(given === undefined ? {} : {args: given}), pool: poolSelect.value, ...options.read()};
	}

	function showPreview() {
		try {
			setText(preview, `POST /jobs\n\n${json(read())}`);
		} catch (error) {
			if (!(error instanceof EntryError))
				throw error;
			setText(preview, "Not complete yet.");
		}
	}

	function find(path) {
		if (path === "task" || path === "pool")
			return path === "task" ? task : pool;
		return /^args\b/.test(path) ? args.find(path.replace(/^args\.?/, "")) : options.find(path);
	}

	function fail(control, message) {
		setText(wrong, message);
		wrong.hidden = Boolean(control?.mark);
		if (control) {
			control.mark?.(message);
			control.focus();
		}
	}

	async function submit(event) {
		event.preventDefault();
		wrong.hidden = true;
		let submission;
		try {
			submission = read();
			send.disabled = true;
			const job = await call("POST", "jobs?wait=0", {body: submission});
			rememberSubmission(job.id, submission);
			location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
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
	}

	taskSelect.addEventListener("change", showTask);
	form.addEventListener("input", showPreview);
	form.addEventListener("change", showPreview);
	form.addEventListener("click", () => queueMicrotask(showPreview));
	form.addEventListener("submit", submit);
	main.append(element("div", {class: "columns"}, panel("Job", form), panel("Request", preview)));
	showTask();
	showPreview();
	return {
		write: ({submission, isWhole}) => {
			taskSelect.value = submission.task;
			poolSelect.value = submission.pool ?? "";
			showTask();
			if (submission.pool)
				poolSelect.value = submission.pool;
			if ("args" in submission)
				args.write(submission.args);
			options.write(submission);
			setText(note, isWhole ? "" : "The service does not keep arguments: enter them again.");
			showPreview();
		},
		choose: (name) => {
			taskSelect.value = name;
			showTask();
			showPreview();
		},
	};
}

export async function open(main, {query, signal}) {
	const loading = element("p", {class: "hint"}, "Loading");
	main.append(element("h1", {}, title), loading);
	try {
		const [{tasks}, pools] = await Promise.all([get("tasks", signal), get("pools", signal)]);
		const from = query.get("from");
		const before = from ? await earlier(from, signal) : null;
		loading.remove();
		const form = makeForm(main, tasks, pools);
		const first = query.get("task") ?? "primes";
		if (before)
			form.write(before);
		else if (tasks.some((task) => task.name === first))
			form.choose(first);
	} catch (error) {
		if (signal.aborted)
			return;
		replace(main, element("h1", {}, title), element("p", {class: "problem", role: "alert"}, error.message));
	}
}

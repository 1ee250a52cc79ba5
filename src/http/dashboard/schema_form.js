/*
 * A form made from a JSON Schema, of the subset that tasks use (src/base/schema.h). What has no
 * fields of its own is entered as JSON, and the whole may be: nothing that a task takes is out of
 * reach.
 *
 * A control has node, read() (undefined: left out), write(value), and find(path), which answers the
 * control that a path such as "n" or "items[3].name" leads to. read() throws an EntryError where
 * what was entered cannot be read.
 */
import {append, element, newId, replace, setAttribute, setText} from "./dom.js";

export class EntryError extends Error {
	constructor(control, message) {
		super(message);
		this.control = control;
	}
}

const number = (value) => value.toLocaleString("en", {maximumFractionDigits: 20});

function rangeText(schema) {
	const low = schema.minimum ?? schema.exclusiveMinimum;
	const high = schema.maximum ?? schema.exclusiveMaximum;
	const parts = [];
	if (low !== undefined && high !== undefined)
		parts.push(`From ${number(low)} to ${number(high)}`);
	else if (low !== undefined)
		parts.push(`At least ${number(low)}`);
	else if (high !== undefined)
		parts.push(`At most ${number(high)}`);
	if (schema.default !== undefined)
		parts.push(`${JSON.stringify(schema.default)} if left out`);
	return parts.length ? `${parts.join("; ")}.` : "";
}

/*
 * A label, an input, a hint and a place for what is wrong with it, tied together for everybody. The
 * control's mark(message) shows that message, "" nothing.
 */
export function field({label, input, hint, isRequired}) {
	const id = newId("field");
	const hintNode = hint ? element("p", {class: "hint", id: `${id}-hint`}, hint) : null;
	const wrong = element("p", {class: "wrong", id: `${id}-wrong`});
	const isCheck = input.type === "checkbox";
	const labelNode = element("label", {for: id}, label, isRequired ? " (required)" : "");
	const node = element("div", {class: "field"},
		isCheck ? element("div", {class: "check"}, input, labelNode) : [labelNode, input], hintNode, wrong);
	input.id = id;
	setAttribute(input, "aria-describedby", [hintNode?.id, wrong.id].filter(Boolean).join(" "));
	if (isRequired && !isCheck)
		input.required = true;
	const mark = (message) => {
		setText(wrong, message);
		setAttribute(input, "aria-invalid", message ? "true" : null);
	};
	input.addEventListener("input", () => mark(""));
	return {node, input, mark, focus: () => input.focus()};
}

function hintOf(schema) {
	return [schema.description, rangeText(schema)].filter(Boolean).join(" ").trim() || null;
}

function leaf(base, read, write) {
	const control = {...base, read: () => read(control), write, find: (path) => (path === "" ? control : null)};
	return control;
}

function requireEntry(control, isRequired) {
	if (isRequired)
		throw new EntryError(control, "This is needed.");
	return undefined;
}

function numberControl(schema, {label, isRequired}) {
	const isInteger = schema.type === "integer";
	const input = element("input", {type: "number", inputmode: isInteger ? "numeric" : "decimal", step: isInteger ? "1" : "any",
		min: schema.minimum, max: schema.maximum, placeholder: schema.default, autocomplete: "off"});
	const base = field({label, input, hint: hintOf(schema), isRequired});
	return leaf(base, (control) => {
		if (input.validity.badInput)
			throw new EntryError(control, "This is no number.");
		if (input.value === "")
			return requireEntry(control, isRequired);
		if (isInteger && !Number.isSafeInteger(Number(input.value)))
			throw new EntryError(control, "This is no whole number.");
		return Number(input.value);
	}, (value) => { input.value = value ?? ""; });
}

function textControl(schema, {label, isRequired}) {
	const isShort = schema.maxLength !== undefined && schema.maxLength <= 255;
	const input = isShort ? element("input", {type: "text", autocomplete: "off"}) : element("textarea", {rows: 1});
	const base = field({label, input, hint: hintOf(schema), isRequired});
	return leaf(base, (control) => (input.value === "" && !(isRequired && !schema.minLength)
		? requireEntry(control, isRequired) : input.value), (value) => { input.value = value ?? ""; });
}

function switchControl(schema, {label}) {
	const input = element("input", {type: "checkbox"});
	const base = field({label, input, hint: schema.description ?? null});
	input.checked = schema.default === true;
	return leaf(base, () => (schema.default === undefined && !input.checked ? undefined : input.checked),
		(value) => { input.checked = value === true; });
}

function choiceControl(schema, {label, isRequired}) {
	const none = isRequired ? "Choose one"
		: schema.default === undefined ? "Left out" : `Left out: ${JSON.stringify(schema.default)}`;
	const input = element("select", {}, element("option", {value: ""}, none),
		schema.enum.map((value, i) =>
			element("option", {value: String(i)}, typeof value === "string" ? value : JSON.stringify(value))));
	const base = field({label, input, hint: schema.description ?? null, isRequired});
	return leaf(base, (control) => (input.value === "" ? requireEntry(control, isRequired) : schema.enum[Number(input.value)]),
		(value) => {
			const place = schema.enum.findIndex((entry) => JSON.stringify(entry) === JSON.stringify(value));
			input.value = place < 0 ? "" : String(place);
		});
}

export function jsonControl(schema, {label, isRequired}) {
	const input = element("textarea", {rows: 3, class: "code", spellcheck: "false"});
	const hint = [schema.description, "As JSON.", isRequired ? "" : "Nothing: left out."].filter(Boolean).join(" ");
	const base = field({label, input, isRequired, hint});
	return leaf(base, (control) => {
		if (input.value.trim() === "")
			return requireEntry(control, isRequired);
		try {
			return JSON.parse(input.value);
		} catch (error) {
			throw new EntryError(control, `This is no JSON: ${error.message}`);
		}
	}, (value) => { input.value = value === undefined ? "" : JSON.stringify(value, null, 2); });
}

function listControl(schema, {label, isRequired}) {
	const list = element("div");
	const items = [];
	const add = element("button", {type: "button", onclick: () => addItem().focus()}, "Add one");
	const node = element("fieldset", {class: "group"}, element("legend", {}, label, isRequired ? " (required)" : ""),
		hintOf(schema) ? element("p", {class: "hint"}, hintOf(schema)) : null, list,
		element("div", {class: "actions field"}, add));

	function addItem(value) {
		const control = makeControl(schema.items, {label: `${label}, item ${items.length + 1}`, isRequired: true});
		const remove = element("button", {type: "button", "aria-label": `Remove one of ${label}`, onclick: () => {
			items.splice(items.indexOf(control), 1);
			row.remove();
			add.focus();
			node.dispatchEvent(new Event("input", {bubbles: true}));
		}}, "Remove");
		const row = element("div", {class: "item"}, control.node, remove);
		if (value !== undefined)
			control.write(value);
		items.push(control);
		list.append(row);
		return control;
	}

	return {
		node,
		focus: () => add.focus(),
		read: () => (items.length || isRequired ? items.map((item) => item.read()) : undefined),
		write: (value) => {
			items.length = 0;
			replace(list);
			for (const item of value ?? [])
				addItem(item);
		},
		find: (path) => {
			const match = /^\[(\d+)\]\.?(.*)$/s.exec(path);
			return match ? items[Number(match[1])]?.find(match[2]) ?? null : null;
		},
	};
}

function objectControl(schema, {label, isRequired}) {
	const controls = Object.entries(schema.properties).map(([name, property]) =>
		[name, makeControl(property, {label: property.title ?? name, isRequired: (schema.required ?? []).includes(name)})]);
	const hint = label && schema.description ? element("p", {class: "hint"}, schema.description) : null;
	const node = element("fieldset", {class: label ? "group" : null}, label ? element("legend", {}, label) : null, hint);
	append(node, controls.map(([, control]) => control.node));
	return {
		node,
		focus: () => controls[0]?.[1].focus(),
		read: () => {
			const entries = controls.map(([name, control]) => [name, control.read()]).filter(([, value]) => value !== undefined);
			return entries.length || isRequired ? Object.fromEntries(entries) : undefined;
		},
		write: (value) => {
			for (const [name, control] of controls)
				control.write(value?.[name]);
		},
		find: (path) => {
			for (const [name, control] of controls)
				if (path === name || path.startsWith(`${name}.`) || path.startsWith(`${name}[`))
					return control.find(path.slice(name.length).replace(/^\./, "")) ?? control;
			return null;
		},
	};
}

/* The first type that is not null; "" if the schema names none. */
function typeOf(schema) {
	return [schema.type ?? ""].flat().find((name) => name !== "null") ?? "";
}

/* A schema may be `true`: anything goes. */
function makeControl(given, options) {
	const schema = typeof given === "object" && given !== null ? {...given, type: typeOf(given)} : {};
	if (Array.isArray(schema.enum) && schema.enum.length)
		return choiceControl(schema, options);
	switch (schema.type) {
	case "integer":
	case "number":
		return numberControl(schema, options);
	case "string":
		return textControl(schema, options);
	case "boolean":
		return switchControl(schema, options);
	case "array":
		return schema.items ? listControl(schema, options) : jsonControl(schema, options);
	case "object":
		return schema.properties && !schema.additionalProperties ? objectControl(schema, options) : jsonControl(schema, options);
	default:
		return jsonControl(schema, options);
	}
}

/*
 * The arguments of a task: fields, or JSON instead, as the user likes. What is entered in one way is
 * there in the other as far as it can be read.
 */
export function argumentsForm(schema) {
	const hasFields = schema?.type === "object" && schema.properties;
	const fields = hasFields ? makeControl(schema, {label: "", isRequired: true}) : null;
	const raw = jsonControl({description: hasFields ? "" : schema?.description ?? ""}, {label: "Arguments", isRequired: false});
	const asJson = element("input", {type: "checkbox", id: newId("raw")});
	const choice = element("div", {class: "check field"}, asJson, element("label", {for: asJson.id}, "Enter the arguments as JSON"));
	const node = element("div", {}, fields ? choice : null, fields?.node, raw.node);
	let isRaw = !fields;

	function show() {
		if (fields)
			fields.node.hidden = isRaw;
		raw.node.hidden = !isRaw;
		asJson.checked = isRaw;
	}

	function carryOver(from, to) {
		try {
			to.write(from.read());
		} catch (error) {
			if (!(error instanceof EntryError))
				throw error;
		}
	}

	asJson.addEventListener("change", () => {
		isRaw = asJson.checked;
		carryOver(isRaw ? fields : raw, isRaw ? raw : fields);
		show();
	});
	show();
	if (fields && Object.keys(schema.properties).length === 0)
		append(fields.node, element("p", {class: "hint"}, "It takes no arguments."));
	return {
		node,
		read: () => (isRaw ? raw : fields).read(),
		/* Into the fields, unless there is more in value than they can hold. */
		write: (value) => {
			raw.write(value);
			if (fields) {
				fields.write(value);
				const isWhole = sameKeys(value, schema.properties);
				isRaw = !isWhole;
			}
			show();
		},
		find: (path) => (isRaw ? raw : fields.find(path)),
	};
}

function sameKeys(value, properties) {
	return value === undefined || (typeof value === "object" && value !== null && !Array.isArray(value)
		&& Object.keys(value).every((key) => key in properties));
}

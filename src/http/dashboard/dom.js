/*
 * Making and updating the page. Text comes into it as text nodes and attributes only, never as HTML.
 * What is shown again and again is updated in place, so that focus, selection and scrolling stay.
 */

import {count} from "./format.js";

/* element("a", {class: "x", href: "#/"}, "text", child, null, [more]). A property that begins with
 * "on" is a listener, "dataset" and "style" are objects, true is an attribute without a value. */
export function element(tag, properties = {}, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(properties)) {
		if (value === null || value === undefined || value === false)
			continue;
		if (name.startsWith("on"))
			node.addEventListener(name.slice(2), value);
		else if (name === "dataset" || name === "style")
			Object.assign(node[name], value);
		else
			node.setAttribute(name, value === true ? "" : value);
	}
	append(node, ...children);
	return node;
}

export function append(node, ...children) {
	for (const child of children.flat(Infinity)) {
		if (child === null || child === undefined || child === false)
			continue;
		node.append(child instanceof Node ? child : document.createTextNode(String(child)));
	}
	return node;
}

export function replace(node, ...children) {
	node.replaceChildren();
	return append(node, ...children);
}

export function setText(node, text) {
	const wanted = String(text);
	if (node.textContent !== wanted)
		node.textContent = wanted;
}

/* null takes the attribute away. */
export function setAttribute(node, name, value) {
	if (value === null || value === undefined || value === false)
		node.removeAttribute(name);
	else if (node.getAttribute(name) !== String(value))
		node.setAttribute(name, value === true ? "" : value);
}

const rowsOf = new WeakMap();

/*
 * Makes the children of container those of items, in their order. create(item) answers a row, an
 * object with a `node`; update(row, item) is called for old and new ones. A row stays that of its
 * key, and is not moved when others come or go round it.
 */
export function keyed(container, items, keyOf, create, update) {
	const rows = rowsOf.get(container) ?? new Map();
	const keys = new Set(items.map(keyOf));
	rowsOf.set(container, rows);
	for (const [key, row] of rows) {
		if (!keys.has(key)) {
			row.node.remove();
			rows.delete(key);
		}
	}
	let place = container.firstElementChild;
	for (const item of items) {
		const key = keyOf(item);
		let row = rows.get(key);
		if (!row) {
			row = create(item);
			rows.set(key, row);
		}
		update?.(row, item);
		if (row.node === place)
			place = place.nextElementSibling;
		else
			container.insertBefore(row.node, place);
	}
}

let lastId = 0;

export function newId(prefix) {
	lastId += 1;
	return `${prefix}-${lastId}`;
}

const SVG = "http://www.w3.org/2000/svg";
const CIRCLE = "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2z";
const SHAPES = {
	scheduled: `${CIRCLE} M8 5v3.2l2.2 1.4`,
	queued: "M3 4.5h10 M3 8h10 M3 11.5h6",
	running: "M5 3.2v9.6L12.6 8z",
	busy: "M5 3.2v9.6L12.6 8z",
	idle: "M8 4.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z",
	stopping: "M4.5 4.5h7v7h-7z",
	succeeded: "M3 8.6l3.4 3.4L13 4.8",
	failed: "M4 4l8 8 M12 4l-8 8",
	timed_out: "M8 4.5a5 5 0 1 0 0 10a5 5 0 1 0 0-10z M6.3 1.6h3.4 M8 7v2.6",
	cancelled: `${CIRCLE} M4 4l8 8`,
	crashed: "M9 1.8L4 9h3.6L6.8 14.2L12 6.8H8.4z",
	expired: "M4.5 2h7 M4.5 14h7 M5 2c0 4 6 8 6 12 M11 2c0 4-6 8-6 12",
	starting: "M8 13V4 M4.4 7.4L8 3.8l3.6 3.6",
	draining: "M8 3v9 M4.4 8.6L8 12.2l3.6-3.6",
	backoff: "M5.5 3.5v9 M10.5 3.5v9",
	warning: "M8 2.2L14.4 13.4H1.6z M8 6.4v3.4 M8 11.6v.2",
};

/* An element of a drawing. */
export function vector(tag, attributes, ...children) {
	const node = document.createElementNS(SVG, tag);
	for (const [name, value] of Object.entries(attributes))
		node.setAttribute(name, value);
	return append(node, ...children);
}

/* Decoration: what it means is said in words beside it. */
export function icon(name) {
	return vector("svg", {viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true"},
		vector("path", {d: SHAPES[name] ?? SHAPES.idle}));
}

/* A state as a word and a sign; update it by setState(). */
export function stateBadge(state) {
	const badge = element("span", {class: "state"});
	setState(badge, state);
	return badge;
}

export function setState(badge, state, word = state) {
	if (badge.dataset.state === state && badge.lastChild?.textContent === word)
		return;
	badge.dataset.state = state;
	replace(badge, icon(state), element("span", {}, word.replaceAll("_", " ")));
}

/* A list of [name, value]; what is null is left out. */
export function facts(entries) {
	return element("dl", {class: "facts"},
		entries.filter(([, value]) => value !== null && value !== undefined)
			.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

export function panel(title, ...children) {
	const id = newId("panel");
	return element("section", {class: "panel", "aria-labelledby": id},
		element("h2", {id}, title), ...children);
}

/* A table that can be scrolled sideways by keyboard, too. columns: [title, is it a number]. */
export function table(caption, columns) {
	const body = element("tbody");
	const node = element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
		element("table", {},
			element("caption", {class: "unseen"}, caption),
			element("thead", {}, element("tr", {}, columns.map(([title, isNumber]) =>
				element("th", {scope: "col", class: isNumber ? "number" : null}, title)))),
			body));
	return {node, body};
}

export function cells(...values) {
	return values.map((value) => element("td", {}, value));
}

/* How far something is; show({done, total, message}), in which total and message may be null. */
export function progressBar(label) {
	const bar = element("progress", {"aria-label": label});
	const message = element("span");
	const amount = element("span");
	const show = ({done, total, message: text}, otherwise) => {
		setText(message, text ?? otherwise);
		setText(amount, total ? `${count(done)} of ${count(total)}` : done ? `${count(done)} done` : "");
		if (total) {
			bar.max = total;
			bar.value = done;
		} else {
			bar.removeAttribute("value");
		}
	};
	return {nodes: [element("div", {class: "progress-line"}, message, amount), bar], show};
}

/* Tells a screen reader, once nothing else is said. */
export function announce(text) {
	setText(document.getElementById("announcer"), text);
}

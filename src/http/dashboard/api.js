/*
 * Calls of the service. Paths are relative, so the dashboard works under whatever prefix a proxy
 * gives it. If the service wants a token, it is asked for once and kept for this tab alone.
 */
import {element} from "./dom.js";

const KEY = "twinpool.token";
let asking = null;
let isDeclined = false;

/* What the service answered instead of what was asked for. status 0: it could not be reached. */
export class Problem extends Error {
	constructor(status, document) {
		super(document?.detail ?? document?.title ?? `the service answered ${status}`);
		this.status = status;
		this.field = document?.field ?? null;
	}
}

const connection = {isUp: null, listener: () => {}};

/* listener("up" | "down" | "token") is called when that changes. */
export function watchConnection(listener) {
	connection.listener = listener;
}

function setConnection(state) {
	if (connection.state !== state) {
		connection.state = state;
		connection.listener(state);
	}
}

function askToken(isWrong) {
	const input = element("input", {id: "token", type: "password", autocomplete: "off", required: true,
		"aria-describedby": "token-hint"});
	const cancel = element("button", {type: "button"}, "Cancel");
	const form = element("form", {},
		element("h2", {id: "token-title"}, "This service wants a token"),
		element("p", {id: "token-hint"},
			isWrong ? "The token is not known to the service. " : "",
			"It is kept for this tab only, until the tab is closed."),
		element("label", {for: "token"}, "Bearer token"), input,
		element("div", {class: "actions"}, element("button", {type: "submit", class: "primary"}, "Use it"), cancel));
	const dialog = element("dialog", {"aria-labelledby": "token-title"}, form);

	return new Promise((resolve) => {
		form.addEventListener("submit", (event) => {
			event.preventDefault();
			sessionStorage.setItem(KEY, input.value.trim());
			isDeclined = false;
			dialog.close("given");
		});
		cancel.addEventListener("click", () => dialog.close());
		dialog.addEventListener("close", () => {
			isDeclined = dialog.returnValue !== "given";
			dialog.remove();
			asking = null;
			resolve(!isDeclined);
		});
		document.body.append(dialog);
		dialog.showModal();
	});
}

/* Asks again, after the question had been declined. */
export function enterToken() {
	asking ??= askToken(false);
	return asking;
}

async function send(method, path, {body, signal, headers = {}} = {}) {
	const options = {method, signal, headers: {...headers}, cache: "no-store", credentials: "same-origin"};
	const token = sessionStorage.getItem(KEY);

	if (token)
		options.headers.Authorization = `Bearer ${token}`;
	if (body !== undefined) {
		options.headers["Content-Type"] = "application/json";
		options.body = typeof body === "string" ? body : JSON.stringify(body);
	}
	try {
		return {response: await fetch(path, options), token};
	} catch (error) {
		if (error.name === "AbortError")
			throw error;
		setConnection("down");
		throw new Problem(0, {detail: "the service cannot be reached"});
	}
}

/* The Response, whatever its status is, once a token is there if one is needed. */
async function request(method, path, options) {
	for (;;) {
		const {response, token} = await send(method, path, options);
		if (response.status !== 401 || !/^Bearer\b/i.test(response.headers.get("WWW-Authenticate") ?? "")) {
			setConnection("up");
			return response;
		}
		setConnection("token");
		if (isDeclined)
			return response;
		/* Another call may have got a token meanwhile. */
		if (token !== sessionStorage.getItem(KEY))
			continue;
		asking ??= askToken(token !== null);
		if (!await asking)
			return response;
	}
}

/* The decoded answer; throws a Problem where there is none. */
export async function call(method, path, options) {
	const response = await request(method, path, options);
	const text = await response.text();
	let document = null;
	try {
		document = text ? JSON.parse(text) : null;
	} catch {
		throw new Problem(response.status, {detail: `the answer to ${method} ${path} is no JSON`});
	}
	if (!response.ok)
		throw new Problem(response.status, document);
	return document;
}

export const get = (path, signal) => call("GET", path, {signal});

/* Resolves after ms, or at once when signal is aborted. */
export function pause(ms, signal) {
	return new Promise((resolve) => {
		const timer = setTimeout(resolve, ms);
		signal?.addEventListener("abort", () => {
			clearTimeout(timer);
			resolve();
		}, {once: true});
	});
}

function untilVisible(signal) {
	if (!document.hidden)
		return Promise.resolve();
	return new Promise((resolve) => {
		document.addEventListener("visibilitychange", resolve, {once: true, signal});
		signal.addEventListener("abort", resolve, {once: true});
	});
}

/* Calls look() about every ms milliseconds while the page is to be seen, until signal is aborted or
 * look() answers false. A Problem goes to fail(). */
export async function poll(ms, signal, look, fail = () => {}) {
	while (!signal.aborted) {
		const begun = performance.now();
		try {
			if (await look() === false)
				return;
		} catch (error) {
			if (signal.aborted)
				return;
			if (!(error instanceof Problem))
				throw error;
			fail(error);
		}
		await pause(Math.max(100, ms - (performance.now() - begun)), signal);
		await untilVisible(signal);
	}
}

function parseEvent(block) {
	const event = {id: null, name: "message", data: ""};
	for (const line of block.split("\n")) {
		const colon = line.indexOf(":");
		const field = colon < 0 ? line : line.slice(0, colon);
		const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
		if (field === "id")
			event.id = value;
		else if (field === "event")
			event.name = value;
		else if (field === "data")
			event.data += (event.data ? "\n" : "") + value;
	}
	return event.data ? {...event, data: JSON.parse(event.data)} : null;
}

async function* readEvents(response) {
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	for (;;) {
		const {done, value} = await reader.read();
		if (done)
			return;
		const blocks = (rest + value).split("\n\n");
		rest = blocks.pop();
		for (const block of blocks) {
			const event = parseEvent(block);
			if (event)
				yield event;
		}
	}
}

/* The server-sent events at path, up to `end`; comes back where it was when the line is lost. */
export async function* events(path, signal) {
	let last = null;
	let wait = 500;
	while (!signal.aborted) {
		try {
			const headers = {Accept: "text/event-stream", ...(last === null ? {} : {"Last-Event-ID": last})};
			const response = await request("GET", path, {signal, headers});
			if (response.status === 204)
				return;
			if (!response.ok)
				throw new Problem(response.status, await response.json().catch(() => null));
			for await (const event of readEvents(response)) {
				last = event.id ?? last;
				wait = 500;
				yield event;
				if (event.name === "end")
					return;
			}
		} catch (error) {
			if (signal.aborted)
				return;
			if (error instanceof Problem && error.status !== 0 && error.status < 500)
				throw error;
		}
		await pause(wait, signal);
		wait = Math.min(wait * 2, 8000);
	}
}

/* What was submitted from this tab, to be submitted again: the service does not keep arguments. */
const SUBMITTED = "twinpool.submitted";
const SUBMITTED_MAX = 100;

export function rememberSubmission(id, submission) {
	const entries = recall();
	entries.push([id, submission]);
	try {
		sessionStorage.setItem(SUBMITTED, JSON.stringify(entries.slice(-SUBMITTED_MAX)));
	} catch {
		sessionStorage.removeItem(SUBMITTED); /* too large to be kept */
	}
}

function recall() {
	try {
		return JSON.parse(sessionStorage.getItem(SUBMITTED)) ?? [];
	} catch {
		return [];
	}
}

export function recallSubmission(id) {
	return recall().find(([known]) => known === id)?.[1] ?? null;
}

/* The frame round the pages: which is shown, the theme, the connection. */
import {enterToken, get, watchConnection} from "./api.js";
import {announce, element, replace, setAttribute, setText} from "./dom.js";
import * as comparison from "./comparison.js";
import * as comparisons from "./comparisons.js";
import * as experiments from "./experiments.js";
import * as job from "./job.js";
import * as jobs from "./jobs.js";
import * as overview from "./overview.js";
import {repaint} from "./plots.js";
import * as submit from "./submit.js";

/* A page has a title and open(main, {id, query, signal}); what it began ends with the signal. */
const PAGES = [
	[/^#?\/?$/, overview],
	[/^#\/submit\/?$/, submit],
	[/^#\/jobs\/?$/, jobs],
	[/^#\/jobs\/([^/]+)$/, job],
	[/^#\/comparisons\/?$/, comparisons],
	[/^#\/comparisons\/([^/]+)$/, comparison],
	[/^#\/experiments\/?$/, experiments],
];
const main = document.getElementById("main");
let leave = new AbortController();
let isFirst = true;

function findPage(path) {
	for (const [pattern, page] of PAGES) {
		const match = pattern.exec(path);
		if (match)
			return {page, id: match[1] ? decodeURIComponent(match[1]) : null};
	}
	return null;
}

function showMissing() {
	replace(main, element("h1", {tabindex: "-1"}, "There is no such page"),
		element("p", {}, element("a", {href: "#/"}, "To the overview")));
}

function markCurrent(path) {
	for (const link of document.querySelectorAll("#pages a")) {
		const target = link.getAttribute("href");
		const isCurrent = path === target || (path === "" && target === "#/") || path.startsWith(`${target}/`);
		setAttribute(link, "aria-current", isCurrent && (target !== "#/" || path.length < 3) ? "page" : null);
	}
}

function showPage() {
	const [path, query] = location.hash.split("?");
	const found = findPage(path);

	leave.abort();
	leave = new AbortController();
	main.replaceChildren();
	markCurrent(path);
	if (found)
		found.page.open(main, {id: found.id, query: new URLSearchParams(query ?? ""), signal: leave.signal});
	else
		showMissing();
	const heading = main.querySelector("h1");
	document.title = `${heading?.textContent ?? "twinpool"} · twinpool`;
	if (!isFirst) {
		setAttribute(heading, "tabindex", "-1");
		heading.focus({preventScroll: true});
		window.scrollTo(0, 0);
	}
	isFirst = false;
}

function showConnection(state) {
	const node = document.getElementById("connection");
	node.dataset.state = state;
	if (state === "token")
		replace(node, element("button", {type: "button", onclick: enterToken}, "Enter a token"));
	else
		setText(node, state === "up" ? "Connected" : "No connection");
	if (state === "down")
		announce("The service cannot be reached; trying again.");
}

function setTheme(theme) {
	if (theme === "system") {
		delete document.documentElement.dataset.theme;
		localStorage.removeItem("twinpool.theme");
	} else {
		document.documentElement.dataset.theme = theme;
		localStorage.setItem("twinpool.theme", theme);
	}
	repaint();
}

function start() {
	const theme = document.getElementById("theme");
	theme.value = document.documentElement.dataset.theme ?? "system";
	theme.addEventListener("change", () => setTheme(theme.value));
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
	document.getElementById("skip").addEventListener("click", () => main.focus());
	watchConnection(showConnection);
	window.addEventListener("hashchange", showPage);
	showPage();
	get("stats").then(({version}) => setText(document.getElementById("version"), `twinpool ${version}`), () => null);
}

start();

/* Numbers, sizes and times for people. null and undefined are a dash: not known. */

const DASH = "–";
const grouped = new Intl.NumberFormat("en", {maximumFractionDigits: 0});

export function plural(value, word) {
	return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

function digits(value, significant) {
	if (Number.isInteger(value))
		return grouped.format(value);
	const places = Math.max(0, significant - 1 - Math.floor(Math.log10(Math.abs(value))));
	return places === 0 ? grouped.format(value) : value.toFixed(Math.min(places, 3));
}

export function known(value) {
	return value !== null && value !== undefined && !Number.isNaN(value);
}

export function count(value) {
	return known(value) ? grouped.format(value) : DASH;
}

export function number(value, significant = 3) {
	return known(value) ? digits(value, significant) : DASH;
}

/* Milliseconds, in the unit that fits. */
export function duration(ms) {
	if (!known(ms))
		return DASH;
	if (ms < 1000)
		return `${digits(ms, 3)} ms`;
	if (ms < 60000)
		return `${digits(ms / 1000, 3)} s`;
	const s = Math.floor(ms / 1000);
	if (s < 3600)
		return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
	if (s < 86400)
		return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, "0")} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/* How long something has been going on: steps of a tenth of a second are enough. */
export function elapsed(ms) {
	if (!known(ms))
		return DASH;
	return ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms);
}

export function bytes(value) {
	if (!known(value))
		return DASH;
	let size = Math.abs(value);
	let unit = 0;
	while (size >= 1024 && unit < 4) {
		size /= 1024;
		unit += 1;
	}
	const text = unit === 0 ? String(size) : digits(size, 3);
	return `${value < 0 ? "−" : ""}${text} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function rate(value) {
	return known(value) ? `${digits(value, 3)}/s` : DASH;
}

export function percent(value) {
	return known(value) ? `${digits(value, 3)} %` : DASH;
}

/* A time of day here; with the date if that is another day. */
export function time(text) {
	if (!text)
		return DASH;
	const date = new Date(text);
	const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString("sv")} `;
	return day + date.toLocaleTimeString("sv");
}

/* Milliseconds since 1970 of an RFC 3339 time, microseconds kept. */
export function instant(text) {
	return text ? Date.parse(`${text.slice(0, 23)}Z`) + Number(text.slice(23, 26)) / 1000 : null;
}

export function json(value) {
	return JSON.stringify(value, null, 2);
}

const CAPITALS = {cpu: "CPU", io: "I/O", gil: "GIL"};

/* "cpu_scaling" as "CPU scaling". */
export function heading(name) {
	const text = name.split("_").map((word) => CAPITALS[word] ?? word).join(" ");
	return text.charAt(0).toUpperCase() + text.slice(1);
}

/* The end of an id, by which people tell jobs apart; its beginning is the time. */
export function shortId(id) {
	return id.slice(-8);
}

/* {value, low, high} as "1.93 (1.88 to 1.97)". */
export function interval(figure, format = number) {
	if (!figure || !known(figure.value))
		return DASH;
	if (!known(figure.low) || !known(figure.high))
		return format(figure.value);
	return `${format(figure.value)} (${format(figure.low)} to ${format(figure.high)})`;
}

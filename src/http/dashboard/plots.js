/*
 * Plots, drawn by Chart.js on a canvas. Colours come from the style sheet, so a plot is painted anew
 * when the theme changes. No plot stands alone: what it shows is in text beside it as well.
 */
import {element, keyed, newId, setText, vector} from "./dom.js";

const live = new Set();
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 2], [10, 4]];

function css(name) {
	return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function seriesColor(index) {
	return css(`--series-${index % 6}`);
}

export function seriesDash(index) {
	return DASHES[index % DASHES.length];
}

function palette() {
	return {text: css("--muted"), strong: css("--text"), grid: css("--line"), surface: css("--panel")};
}

/* Draws the lines of confidence intervals: of a dataset's `intervals`, [low, high] or null by index. */
const intervalPlugin = {
	id: "intervals",
	afterDatasetsDraw(chart) {
		const {ctx} = chart;
		chart.data.datasets.forEach((dataset, number) => {
			const meta = chart.getDatasetMeta(number);
			if (!dataset.intervals || meta.hidden)
				return;
			const scale = meta.vScale;
			const isSideways = scale.axis === "x";
			const {left, top, width, height} = chart.chartArea;
			ctx.save();
			ctx.beginPath();
			ctx.rect(left, top, width, height);
			ctx.clip();
			ctx.strokeStyle = chart.options.plugins.intervals.color;
			ctx.lineWidth = 1.25;
			dataset.intervals.forEach((interval, index) => {
				const point = meta.data[index];
				if (!interval || interval[0] === null || interval[1] === null || !point)
					return;
				const [low, high] = interval.map((value) => scale.getPixelForValue(value));
				const across = isSideways ? point.y : point.x;
				const line = (a, b, c, d) => {
					ctx.moveTo(...(isSideways ? [b, a] : [a, b]));
					ctx.lineTo(...(isSideways ? [d, c] : [c, d]));
				};
				ctx.beginPath();
				line(across, low, across, high);
				line(across - 4, low, across + 4, low);
				line(across - 4, high, across + 4, high);
				ctx.stroke();
			});
			ctx.restore();
		});
	},
};

function baseOptions(colors) {
	const font = {family: css("--font") || "system-ui", size: 11};
	return {
		animation: false,
		responsive: true,
		maintainAspectRatio: false,
		color: colors.text,
		font,
		plugins: {
			legend: {display: false, labels: {color: colors.text, font, boxWidth: 12, boxHeight: 8}},
			intervals: {color: colors.strong},
			tooltip: {backgroundColor: colors.strong, titleColor: colors.surface, bodyColor: colors.surface,
				cornerRadius: 3, padding: 6, displayColors: false, titleFont: font, bodyFont: font},
		},
	};
}

/* An axis: options of Chart.js laid over what all axes have. */
function axis(colors, {title, format, ...more}) {
	const font = {size: 11};
	return {
		grid: {color: colors.grid, borderColor: colors.grid, tickLength: 4},
		title: {display: Boolean(title), text: title, color: colors.text, font},
		...more,
		ticks: {color: colors.text, font, maxRotation: 0, maxTicksLimit: 6,
			...(format ? {callback: (value) => format(value)} : {}), ...more.ticks},
	};
}

/*
 * A figure with a caption and a plot. configure(axis) answers {type, data, options}, in which an
 * axis is made by axis({title, format, ...}); it is called again when the theme changes. label says
 * in words what is to be seen. The plot goes when signal is aborted.
 */
export function plot({title, label, height = 160, signal, configure}) {
	const canvas = element("canvas", {role: "img", "aria-label": label});
	const frame = element("div", {class: "plot", style: {height: `${height}px`}}, canvas);
	const legend = element("ul", {class: "legend"});
	const id = newId("plot");
	const node = element("figure", {"aria-labelledby": id},
		element("figcaption", {}, element("span", {class: "title", id}, title), legend), frame);
	const self = {node, legend, canvas, chart: null};

	self.draw = () => {
		const colors = palette();
		const wanted = configure((options) => axis(colors, options), colors);
		const base = baseOptions(colors);
		const options = {...base, ...wanted.options, plugins: {...base.plugins, ...wanted.options?.plugins}};
		for (const name of ["tooltip", "legend"])
			options.plugins[name] = {...base.plugins[name], ...wanted.options?.plugins?.[name]};
		if (!self.chart) {
			self.chart = new window.Chart(canvas, {...wanted, options, plugins: [intervalPlugin]});
			return;
		}
		self.chart.data = wanted.data;
		self.chart.options = options;
		self.chart.update("none");
	};
	live.add(self);
	signal.addEventListener("abort", () => {
		live.delete(self);
		self.chart?.destroy();
	}, {once: true});
	return self;
}

/* A piece of the line that stands for a series, or a piece of its bar. */
export function seriesKey(index, isBar = false) {
	const width = isBar ? 8 : 2.5;
	return vector("svg", {class: "key", viewBox: "0 0 20 8", "aria-hidden": "true", "data-series": index % 6},
		vector("path", {d: isBar ? "M6 4h8" : "M0 4h20", "stroke-width": width,
			"stroke-dasharray": isBar ? "" : seriesDash(index).join(" ")}));
}

/* items: {name, index, value}: the index is that of the series' colour and dash. */
export function setLegend(list, items, isBars = false) {
	keyed(list, items, (item) => item.name, (item) => {
		const value = element("b");
		const node = element("li", {}, seriesKey(item.index, isBars), element("span", {}, item.name), value);
		return {node, value};
	}, (row, item) => setText(row.value, item.value ?? ""));
}

export function repaint() {
	for (const one of live)
		if (one.chart)
			one.draw();
}

/* Of a logarithmic axis within given ends: 1, 2 and 5 of each decade. */
export function fewTicks(scale) {
	const ticks = [];
	for (let decade = 10 ** Math.floor(Math.log10(scale.min)); decade <= scale.max; decade *= 10)
		for (const step of [1, 2, 5])
			if (step * decade >= scale.min && step * decade <= scale.max)
				ticks.push({value: step * decade});
	scale.ticks = ticks;
}

/* Of a logarithmic axis: whole decades, and no others named. */
export const DECADES = {
	type: "logarithmic",
	afterDataLimits(scale) {
		if (!(scale.min > 0 && Number.isFinite(scale.max)))
			return;
		scale.min = 10 ** Math.floor(Math.log10(scale.min));
		scale.max = 10 ** Math.ceil(Math.log10(scale.max * 1.001));
	},
	afterBuildTicks(scale) {
		const ticks = [];
		for (let value = scale.min; value <= scale.max * 1.001; value *= 10)
			ticks.push({value});
		if (ticks.length > 1)
			scale.ticks = ticks;
	},
};

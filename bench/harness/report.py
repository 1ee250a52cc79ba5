"""Tables for people, JSON for programs."""


def number(value):
    """Three significant digits, without exponents."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def people(clients):
    """ "1 client", "64 clients"."""
    return "1 client" if clients == 1 else f"{clients:,} clients"


def spread_text(spread):
    """ "0.53 (0.51 – 0.55)"; the spread is left out where there is one sample only."""
    if spread is None:
        return ""
    if spread.count == 1:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)} – {number(spread.high)})"


def table(rows, heads):
    """Lines of a Markdown table, padded for terminals too; the first column to the left, others to the right."""
    widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]

    def line(cells):
        padded = [str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
                  for i, (cell, width) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = "| " + " | ".join("-" * width if i == 0 else "-" * (width - 1) + ":"
                             for i, width in enumerate(widths)) + " |"
    return [line(heads), rule, *map(line, rows)]


def part_lines(part, figures):
    """The table of one part; none if nothing was measured."""
    rows = [(row.label, spread_text(figures.spread(row.name)), figures.unit(row.name),
             spread_text(row.ratio(figures)))
            for row in part.rows() if figures.has(row.name)]
    if not rows:
        return []
    notes = [line for note in part.notes() for line in ("", note)]
    return ["", f"## {part.title}", "",
            *table(rows, ("", "median (least – most)", "unit", "ratio (least – most)")), *notes]


def bar_lines(bars):
    """What was to be reached, and whether it was."""
    if not bars:
        return []
    rows = [(bar["bar"], bar["text"], spread_text(bar["spread"]),
             "pass" if bar["passed"] else "MISS") for bar in bars]
    return ["", "## Bars", "", *table(rows, ("", "bar", "measured", ""))]


def machine_lines(machine, noise, rounds, seconds):
    """Where, when quiet, how long."""
    about = [f"{machine['cpu']}, {machine['cores']} cores{' (virtual)' if machine['hypervisor'] else ''},"
             f" Linux {machine['kernel']}, {machine['system']}; libmicrohttpd {machine['libmicrohttpd']},"
             f" jansson {machine['jansson']}.",
             f"{rounds} rounds, {seconds} s a load; wrk runs on the same machine."]
    about.append("During the run the machine was busy for "
                 f"{noise['busy_percent']} % of its time; {noise['steal_percent']} % was stolen by the hypervisor, "
                 f"and others on it used about {noise['others_percent']} %.")
    if noise["others_percent"] + noise["steal_percent"] > 5:
        about.append("**It was not quiet: these figures are good for trying the benchmark out, not for judging.**")
    return ["# twinpool, measured", "", *about]


def as_json(bench, parts, bars, machine, noise):
    """Everything, as one document."""
    figures = bench.figures
    ratios = [{"part": part.name, "label": row.label, "of": row.base if row.inverted else row.name,
               "to": row.name if row.inverted else row.base, **row.ratio(figures).as_json()}
              for part in parts for row in part.rows() if row.ratio(figures)]
    return {"machine": machine, "noise": noise, "rounds": bench.rounds_done,
            "seconds_per_load": bench.options.seconds, "figures": figures.as_json(), "ratios": ratios,
            "bars": [{**bar, "spread": bar["spread"].as_json()} for bar in bars],
            "skipped": bench.skipped, "failures": bench.failures}

"""What was measured, as a table to read (standard output and Markdown), as JSON, and as a chart."""
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

import chart
from peers import ANSWER, CIPHER, GROUP, ROOT
from rig import SMALL, Failed

# What a column is called, and how its numbers are shown.
COLUMNS = {
    "cpu_us": ("CPU", "{:.1f} us"), "requests_per_second": ("per second", "{:.0f}"), "p50_us": ("p50", "{:.0f} us"), "p99_us": ("p99", "{:.0f} us"),
    "p999_us": ("p99.9", "{:.0f} us"), "redis_commands": ("Redis commands", "{:.4f}"), "first_byte_p50_us": ("first byte p50", "{:.0f} us"),
    "first_byte_p99_us": ("first byte p99", "{:.0f} us"), "resumed": ("resumed", "{:.0%}"), "delay_p50_us": ("delay p50", "{:.0f} us"),
    "delay_p99_us": ("delay p99", "{:.0f} us"), "added_p99_us": ("added p99", "{:.0f} us"), "kib": ("memory each", "{:.1f} KiB"), "mib": ("memory", "{:.1f} MiB"), "quiet_p99_us": ("p99 quiet", "{:.0f} us"),
    "storm_p99_us": ("p99 in the storm", "{:.0f} us"), "storm_seconds": ("storm", "{:.2f} s"), "cpu_ratio": ("CPU, grown to small", "{:.2f}"), "slower": ("times slower", "{:.2f}"),
}
LAST = "## Last tables"  # in the README: what follows is replaced
MEASURES = ("cpu_us", "kib", "slower", "cpu_ratio")  # what a row is compared by: the first that it has

# What is to be reached: work, row, what, the row it is compared with (None: an absolute bound), at most.
LEASED, STRICT = "whole policy leased", "whole policy strict"
GOALS = [
    ("keep-alive", LEASED, "cpu_us", "haproxy", 0.90), ("keep-alive", LEASED, "cpu_us", "floor", 1.15), ("keep-alive", LEASED, "cpu_us", "haproxy + JWT + table", 0.36),
    ("keep-alive", STRICT, "cpu_us", "haproxy", 1.25), ("keep-alive", STRICT, "cpu_us", "nginx + Lua + Redis", 0.60),
    ("prompt of 214 KB", LEASED, "cpu_us", "floor", 1.10), ("prompt of 214 KB", LEASED, "first_byte_p50_us", "haproxy", 1.0),
    ("new connection", "sallyport", "cpu_us", "best of haproxy, nginx", 0.90), ("resumed connection", "sallyport", "cpu_us", "best of haproxy, nginx", 0.90),
    ("new token RS256", LEASED, "cpu_us", "haproxy + JWT + table", 0.50), ("new token ES256", LEASED, "cpu_us", "haproxy + JWT + table", 0.50),
    ("streams", LEASED, "cpu_us", "nginx", 1.0), ("streams", LEASED, "added_p99_us", None, 1000),
    ("idle connections", "sallyport", "kib", None, 15), ("open streams", LEASED, "kib", None, 24),
    ("growth of connections", LEASED, "cpu_ratio", None, 1.10), ("growth of callers", "whole policy, this machine", "cpu_ratio", None, 1.10),
    ("growth of callers", STRICT, "cpu_ratio", None, 1.10), ("growth of workers", LEASED, "cpu_ratio", None, 1.10),
    ("growth of gateways", LEASED, "cpu_ratio", None, 1.10), ("storm", "sallyport", "slower", None, 2.0),
]


class Row:
    """One peer at one work."""

    def __init__(self, work, name, void=None):
        self.work, self.name, self.void, self.rounds = work, name, void, []

    def attempt(self, measure, keep=True):
        """What `measure` finds is one round; what goes wrong voids the row."""
        if self.void:
            return
        try:
            found = measure()
        except (Failed, OSError, AssertionError, subprocess.SubprocessError) as problem:
            self.void = f"{type(problem).__name__}: {problem}"[:200]
            return
        if keep:
            self.rounds.append(found)

    def keys(self):
        return [] if self.void or not self.rounds else list(self.rounds[0])

    def median(self, key):
        return statistics.median(one[key] for one in self.rounds) if key in self.keys() else None

    def spread(self, key):
        values = [one[key] for one in self.rounds]
        return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def shown(row, key):
    if key not in row.keys():
        return "-"
    form, spread = COLUMNS[key][1], row.spread(key)
    text = form.format(spread["median"])
    if key in MEASURES and len(row.rounds) > 1:
        number = form.split(" ")[0]
        text += f" ({number.format(spread['least'])} - {number.format(spread['most'])})"
    return text


def works(rows):
    found = {}
    for row in rows:
        found.setdefault(row.work, []).append(row)
    return found


def table(rows):
    """Header and lines of one work: what it measured, and how that compares with those who do the same work."""
    keys = [key for key in COLUMNS if any(key in row.keys() for row in rows)]
    measure = next((key for key in MEASURES if key in keys), None)
    bases = {row.name: row.median(measure) for row in rows if row.name in ("floor", "haproxy", "nginx") and row.median(measure)}
    lines = [["", *(COLUMNS[key][0] for key in keys), *(f"to {name}" for name in bases)]]
    for row in rows:
        if row.void:
            lines.append([row.name, f"void: {row.void}", *[""] * (len(keys) + len(bases) - 1)])
            continue
        ratios = [f"{row.median(measure) / base:.2f}" if row.median(measure) else "-" for base in bases.values()]
        lines.append([row.name, *(shown(row, key) for key in keys), *ratios])
    return lines


def reached(rows):
    """Each goal with what was found: (text, value, bound), value None where it was not measured."""
    found = {(row.work, row.name): row for row in rows}

    def value(work, name, key):
        several = name[len("best of "):].split(", ") if name.startswith("best of ") else [name]
        values = [found[work, one].median(key) for one in several if (work, one) in found]
        values = [one for one in values if one is not None]
        return min(values) if values else None
    for work, name, key, base, bound in GOALS:
        ours = value(work, name, key)
        theirs = 1 if base is None else value(work, base, key)
        text = f"{work}: {name}, {COLUMNS[key][0]}" + (f", to {base}" if base else "")
        yield text, None if ours is None or not theirs else ours / theirs, bound


def goals(rows):
    lines = [["goal", "at most", "found", "reached"]]
    for text, value, bound in reached(rows):
        if value is not None:
            lines.append([text, f"{bound:g}", f"{value:.2f}", "yes" if value <= bound else "no"])
    return lines


def plain(lines):
    widths = [max(len(line[i]) for line in lines if "void:" not in "".join(line)) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(line, widths))).rstrip())


def markdown(lines):
    head, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "| --- " * len(lines[0]) + "|", *rest])


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    versions = {}
    for name, flag in (("nginx", "-v"), ("haproxy", "-v"), ("openssl", "version"), ("redis-server", "--version"), ("wrk", "-v")):
        done = subprocess.run([name, flag], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()[0]
        versions[name] = re.search(r"\d+\.\d[\w.+-]*", said)[0]
    return {"processor": model, "processors": os.cpu_count(), "system": " ".join(os.uname()[i] for i in (0, 2, 4)), "versions": versions}


def write(rows, options):
    about = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": options.rounds, "seconds": options.seconds, "connections": options.connections,
             "rate": options.rate, "cipher": CIPHER, "group": GROUP, "body_bytes": len(SMALL), "answer_bytes": len(ANSWER),
             "load_before": options.load_before, **machine()}
    told = [f"{about['at']}, {about['processors']} x {about['processor']}, {about['system']}, load before it {about['load_before']:.1f}; {', '.join(f'{name} {version}' for name, version in about['versions'].items())}; "
            f"{options.rounds} rounds of {options.seconds} s, {options.connections} connections, latencies at {options.rate} requests a second"]
    for work, some in works(rows).items():
        print(f"\n== {work}")
        plain(table(some))
        told.append(f"### {work}\n\n{markdown(table(some))}")
    compared = goals(rows)
    if len(compared) > 1:
        print("\n== goals")
        plain(compared)
        told.append(f"### Goals\n\n{markdown(compared)}")
    about["rows"] = [{"work": row.work, "name": row.name, "void": row.void, **{key: row.spread(key) for key in row.keys()}} for row in rows]
    about["goals"] = [{"goal": text, "reached": value, "at_most": bound} for text, value, bound in reached(rows)]
    pathlib.Path(options.output + ".json").write_text(json.dumps(about, indent=1) + "\n")
    pathlib.Path(options.output + ".md").write_text("\n\n".join(told) + "\n")
    bars = {work: [(row.name, row.spread("cpu_us")) for row in some if "cpu_us" in row.keys()] for work, some in works(rows).items()}
    drawn = chart.svg({work: some for work, some in bars.items() if some}, "CPU per request or event, µs")
    pathlib.Path(options.output + ".svg").write_text(drawn)
    if options.readme:
        readme = ROOT / "bench" / "README.md"
        kept = readme.read_text().split(LAST)[0]
        readme.write_text(f"{kept}{LAST}\n\n![CPU per request](last.svg)\n\n" + "\n\n".join(told) + "\n")
        (ROOT / "bench" / "last.svg").write_text(drawn)
    print(f"\nwritten to {options.output}.json, .md, .svg")

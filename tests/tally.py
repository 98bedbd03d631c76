#!/usr/bin/python3
"""Adds up what the parts of a test run reported: tally.py FILE...

*.junit.xml  pytest's report; when it could not write one, what it noted beside it in *.running is counted
*.meson.json meson's testlog.json: cmocka programs count each of their tests, others count as one
*.lines      "ok NAME" and "FAILED NAME", one a line

Ends with one line "N passed, N failed[, N skipped]". Status 0 only when nothing failed and something passed in every file.
"""
import json
import os
import re
import sys
import xml.etree.ElementTree as tree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "e2e"))
import watchdog  # noqa: E402


def pytest_report(path):
    notes = path.replace(".junit.xml", ".running")
    if not os.path.exists(path) and os.path.exists(notes):
        passed, failed, skipped, _ = watchdog.noted(notes)  # who did not end is counted by tests/run.sh
        return passed, failed, skipped
    total = failed = skipped = 0
    for suite in tree.parse(path).getroot().iter("testsuite"):
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    return total - failed - skipped, failed, skipped


def meson_report(path):
    passed = failed = 0
    with open(path) as file:
        for line in file:
            test = json.loads(line)
            said = test.get("stdout", "") + test.get("stderr", "")
            good, bad = len(re.findall(r"^\[       OK \] ", said, re.M)), len(set(re.findall(r"^\[  FAILED  \] (\w+)$", said, re.M)))
            if test["result"] == "OK":
                passed += max(1, good)
            elif test["result"] not in ("SKIP", "EXPECTEDFAIL"):
                passed, failed = passed + good, failed + max(1, bad)
                print(f"FAILED {test['name']} ({test['result']})")
    return passed, failed, 0


def lines_report(path):
    with open(path, errors="replace") as file:
        lines = file.read().splitlines()
    return sum(line.startswith("ok ") for line in lines), sum(line.startswith("FAILED ") for line in lines), 0


def report(path):
    try:
        if path.endswith(".junit.xml"):
            return pytest_report(path)
        return meson_report(path) if path.endswith(".meson.json") else lines_report(path)
    except (OSError, ValueError, tree.ParseError) as problem:
        print(f"FAILED no report: {path}: {problem}")
        return 0, 1, 0


def main():
    passed = failed = skipped = 0
    for path in sys.argv[1:]:
        good, bad, left_out = report(path)
        if good + bad == 0:
            print(f"FAILED {path}: not one test ran")
            bad = 1
        print(f"{path.rsplit('/', 1)[-1]}: {good} good, {bad} bad, {left_out} left out")
        passed, failed, skipped = passed + good, failed + bad, skipped + left_out
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if failed == 0 and passed > 0 else 1


sys.exit(main())

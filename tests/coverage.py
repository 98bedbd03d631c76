#!/usr/bin/python3
"""Line coverage of some folders of src/, from what gcc --coverage left in a build: coverage.py BUILD PERCENT FOLDER...

One line per folder: "ok …" when at least PERCENT of its lines ran, else "FAILED …"; below it, with --lines, the lines that did not.
A line of a header counts for the folder that holds the header.
"""
import collections
import concurrent.futures
import json
import os
import subprocess
import sys


def notes(build):
    for directory, _, names in os.walk(os.path.join(build, "src")):
        for name in names:
            if name.endswith(".gcno"):
                yield os.path.join(directory, name)


def counted(note):
    """gcov's JSON for one object; an object that never ran has no counts, and all its lines are zero."""
    done = subprocess.run(["gcov", "--json-format", "--stdout", os.path.abspath(note)], cwd=os.path.dirname(note), capture_output=True, text=True)
    documents, decoder, text = [], json.JSONDecoder(), done.stdout.strip()
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    return documents


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--lines"]
    build, wanted, folders = arguments[0], float(arguments[1]), arguments[2:]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    ran = {folder: collections.defaultdict(dict) for folder in folders}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        documents = [document for found in pool.map(counted, notes(build)) for document in found]
    for document in documents:
        for file in document["files"]:
            path = os.path.relpath(os.path.join(document["current_working_directory"], file["file"]), root)
            parts = path.split(os.sep)
            if len(parts) != 3 or parts[0] != "src" or parts[1] not in ran:
                continue
            lines = ran[parts[1]][path]
            for line in file["lines"]:
                lines[line["line_number"]] = max(lines.get(line["line_number"], 0), line["count"])
    failed = False
    for folder, files in ran.items():
        total = sum(len(lines) for lines in files.values())
        good = sum(count > 0 for lines in files.values() for count in lines.values())
        percent = 100 * good / total if total else 0
        failed |= percent < wanted
        print(f"{'ok' if percent >= wanted else 'FAILED'} {folder}/: {percent:.1f} % of {total} lines ran in the tests, {wanted:g} % is wanted")
        if "--lines" in sys.argv:
            for path, lines in sorted(files.items()):
                missed = [str(number) for number, count in sorted(lines.items()) if count == 0]
                if missed:
                    print(f"    {path}: {' '.join(missed)}")
    return 1 if failed else 0


sys.exit(main())

"""What a run has found so far: a file of records, one a line, each on disk before the next begins.

A run that is cut off loses only what it was at; another run with the same file goes on from there.
"""
import json
import os
import time


class Journal:
    def __init__(self, folder, prepared):
        """`prepared` names what the records are of; a file of another preparation is refused."""
        os.makedirs(folder, exist_ok=True)
        self.log = os.path.join(folder, "log.txt")
        self.records = []
        self.begun = time.monotonic()
        path = os.path.join(folder, "journal.jsonl")
        if os.path.exists(path):
            with open(path, "rb") as file:
                whole, _, cut = file.read().rpartition(b"\n")
            if cut:
                os.truncate(path, os.path.getsize(path) - len(cut))
            self.records = [json.loads(line) for line in whole.split(b"\n") if line]
        others = {r["prepared"] for r in self.records if r["part"] == "run"} - {prepared}
        if others:
            raise SystemExit(f"{path} is of another preparation ({', '.join(others)}); record it, then take another OUT")
        self.file = open(path, "a", encoding="utf8")

    def add(self, part, **record):
        record = {"part": part, **record}
        self.records.append(record)
        self.file.write(f"{json.dumps(record)}\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        return record

    def of(self, part):
        return [r for r in self.records if r["part"] == part]

    def say(self, text):
        """A line for whoever watches, and for the log."""
        line = f"{time.monotonic() - self.begun:6.1f} {text}"
        print(line, flush=True)
        with open(self.log, "a", encoding="utf8") as log:
            log.write(f"{line}\n")

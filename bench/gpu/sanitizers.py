"""compute-sanitizer over cases one by one: those that failed first, then one of every kernel, each tool in turn."""
import os
import re
import shutil
import tempfile

from worker import Ended, Silent, Worker

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Under a tool everything is slower by a factor of ten to some hundred.
CASE_SECONDS = 40
FAILING = 12
SAID = 20_000
# Lines that a tool writes where it finds nothing.
EXPECTED = re.compile(r"^(=+ )?(COMPUTE-SANITIZER|ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards.*)?\s*$")


class Sanitizers:
    """Work that can be done piece by piece, also while something else is awaited."""

    def __init__(self, run):
        self.run = run
        self.installed = shutil.which("compute-sanitizer") is not None
        self.todo = self.pieces() if self.installed else iter(())
        self.workers, self.read = {}, {}
        self.folder = tempfile.mkdtemp(prefix="sanitizers-")

    def pieces(self):
        done = {(r["tool"], r["case"]) for r in self.run.journal.of("sanitizers")}
        verdicts = {r["case"]: r for r in self.run.journal.of("verify")}
        failing = [c for c, r in verdicts.items() if not r["pass"] and r.get("code") not in ("skipped", "hang")]
        seen, one_each = set(), []
        for one in self.run.cases["vectors"]:
            if verdicts.get(one["case"], {}).get("pass") and not seen.issuperset(one["kernels"]):
                seen.update(one["kernels"])
                one_each.append(one["case"])
        for cases in (failing[:FAILING], one_each):
            for tool in TOOLS:
                for case in cases:
                    if (tool, case) not in done:
                        yield tool, case

    def next(self):
        """Does one piece; False where none is left."""
        piece = next(self.todo, None)
        if piece is None:
            return False
        tool, case = piece
        findings = os.path.join(self.folder, tool)
        if tool not in self.workers:
            self.end()
            driver = ["--driver", self.run.options.driver] if self.run.options.driver else []
            command = ["compute-sanitizer", "--tool", tool, "--log-file", findings, self.run.options.run, "verify"]
            command += [self.run.folder("vectors"), "--asked", "--json", *driver]
            self.workers[tool] = Worker(command, self.run.journal.log)
        worker = self.workers[tool]
        if not worker.process:
            # It begins its file anew.
            self.read[tool] = 0
        record = {"tool": tool, "case": case}
        try:
            record["pass"] = worker.ask(case, CASE_SECONDS)["pass"]
        except (Silent, Ended) as error:
            record |= {"pass": False, "error": str(error)}
        self.run.journal.add("sanitizers", **record, **self.findings(tool, case))
        return True

    def findings(self, tool, case):
        """What the tool has said since it was last looked at."""
        path = os.path.join(self.folder, tool)
        if not os.path.exists(path):
            return {}
        with open(path, encoding="utf8", errors="replace") as file:
            file.seek(self.read.get(tool, 0))
            lines = [line for line in file.read().splitlines() if not EXPECTED.search(line)]
            self.read[tool] = file.tell()
        if not lines:
            return {}
        self.run.journal.say(f"{tool} {case}: {lines[0][:160]}")
        return {"findings": "\n".join(lines)[:SAID]}

    def end(self):
        """Some tools say more when their program ends."""
        for tool, worker in self.workers.items():
            worker.finish(20)
            found = self.findings(tool, "when it ended")
            if found:
                self.run.journal.add("sanitizers", tool=tool, case="when it ended", **found)
        self.workers = {}

    def finish(self):
        if not self.installed:
            return self.run.journal.say("sanitizers: skipped, compute-sanitizer is not installed")
        while self.run.left() > CASE_SECONDS and self.next():
            pass
        self.end()
        records = self.run.journal.of("sanitizers")
        found = sum("findings" in r for r in records)
        self.run.failed |= found > 0
        self.run.journal.say(f"sanitizers: {len(records)} cases, findings in {found}")

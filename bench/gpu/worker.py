"""A child process that answers each line of its input with a line of JSON, and whose silence or end is an answer too."""
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

# What a process may take to begin: opening a GPU that nobody holds, importing PyTorch.
START_SECONDS = 90


class Silent(Exception):
    """It took longer than it had, and was killed."""


class Ended(Exception):
    """It ended instead of answering; says how, and what it last said."""


def end_with_parent():
    """The kernel ends the child when this process ends, however it does: nothing may hold the GPU after a run."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Worker:
    """`command` is started when it is first asked; its words on standard error go to the file `log` when it ends."""

    def __init__(self, command, log, environment=None):
        self.command = [str(part) for part in command]
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.process = None

    def start(self):
        if self.process:
            return
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=self.environment,
            process_group=0,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        self.answers = b""
        self.extra = START_SECONDS

    def ask(self, line, seconds):
        """Its answer; raises Silent or Ended, after which the next question starts it anew."""
        self.start()
        try:
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Ended(self.end()) from None
        return self.answer(seconds)

    def answer(self, seconds):
        """The next line it says: of a question, or unasked after the start."""
        until = time.monotonic() + seconds + self.extra
        while b"\n" not in self.answers:
            left = until - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            part = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not ready:
                raise Silent(f"no answer in {seconds + self.extra:.0f} s; {self.end()}")
            if not part:
                raise Ended(self.end())
            self.answers += part
        line, _, self.answers = self.answers.partition(b"\n")
        self.extra = 0
        return json.loads(line)

    def has_answer(self):
        """Whether `answer` would return, or raise, at once."""
        return b"\n" in self.answers or bool(select.select([self.process.stdout], [], [], 0)[0])

    def finish(self, seconds):
        """Lets it end by itself, for want of questions, where it does so in time."""
        if self.process:
            self.process.stdin.close()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        return self.end()

    def end(self):
        """Ends it, and says how it ended and what it last said on standard error."""
        if not self.process:
            return ""
        process, self.process = self.process, None
        code = process.poll()
        how = "killed"
        if code is None:
            # One that closed its output is ending by itself.
            try:
                code = process.wait(0.5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    how = "killed, but the driver does not let go of it"
        if code is not None:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        with self.errors:
            self.errors.seek(0)
            said = self.errors.read()
        with open(self.log, "ab") as log:
            log.write(said)
        last = said.decode(errors="replace").strip()[-400:]
        return f"{how}: {last}" if last else how

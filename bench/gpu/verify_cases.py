"""Cases in a process of their own, so that a kernel that hangs, traps or poisons the device costs seconds.

Kernels that hang or lose the device are suspects: their other cases are skipped with the reason, here and wherever they
would be timed, and after two such cases of a file so are its kernels that have not run to an end yet.
"""
import time

from worker import Ended, Silent, Worker

# Losses of the device by one kernel before its other cases are skipped; one that hangs has one.
LOSSES = 2
# A file whose every kernel hangs would take a run's time.
CASES_OF_A_FILE = 2
# Wrong outputs told whole: so many of a kernel, and so many bytes in all.
TOLD_OF_A_KERNEL = 2
TOLD_BYTES = 8 << 20
# A case of every folder that needs next to nothing: whether the device still works.
PROBE = "probe/device"


class DeviceGone(Exception):
    pass


class Kernels:
    """What is known of kernels, from the records of all parts."""

    def __init__(self, modules):
        self.modules = modules
        # Kernels that came to an end, be it a wrong one; losses by kernel; what kernels are suspected for.
        self.ran, self.losses, self.suspects = set(), {}, {}
        self.told, self.told_bytes = {}, 0

    def learn(self, kernels, record):
        code = record.get("code")
        if code is None:
            self.ran.update(kernels)
        elif code in ("hang", "device_lost", "ended"):
            blamed = [record["kernel"]] if record.get("kernel") else [k for k in kernels if k not in self.ran]
            for kernel in blamed or kernels:
                self.losses[kernel] = self.losses.get(kernel, 0) + (LOSSES if code == "hang" else 1)
                if self.losses[kernel] >= LOSSES:
                    self.suspects.setdefault(kernel, (record["case"], code))
        if "gotBytes" in record:
            self.told_bytes += len(record["gotBytes"])
            for kernel in kernels:
                self.told[kernel] = self.told.get(kernel, 0) + 1

    def why_not(self, kernels):
        """Why a case of these kernels is skipped; empty where it is not."""
        for kernel in kernels:
            if kernel in self.suspects:
                return f"{kernel}: {' '.join(reversed(self.suspects[kernel]))}"
            module = self.modules[kernel]
            cases = {case for other, (case, _) in self.suspects.items() if self.modules[other] == module}
            if kernel not in self.ran and len(cases) >= CASES_OF_A_FILE:
                return f"{module}.cu: {', '.join(sorted(cases))} hung or lost the device"
        return ""

    def tells(self, kernels):
        """Whether a wrong output of these kernels is still worth its bytes."""
        return self.told_bytes < TOLD_BYTES and any(self.told.get(k, 0) < TOLD_OF_A_KERNEL for k in kernels)


class Verifier:
    """Runs cases of a folder by the executable; a fresh process after whatever may have spoilt the device."""

    def __init__(self, options, folder, log, kernels, seconds):
        driver = ["--driver", options.driver] if options.driver else []
        command = [options.run, "verify", folder, "--asked", "--json", "--bytes", *driver]
        self.worker = Worker(command, log)
        self.kernels = kernels
        self.seconds = seconds

    def run(self, case, kernels):
        """The record of a case: the executable's, or why there is none."""
        reason = self.kernels.why_not(kernels)
        if reason:
            return {"case": case, "pass": False, "code": "skipped", "error": reason}
        self.probe()
        try:
            record = self.worker.ask(case, self.seconds)
            if record.get("code") == "device_lost":
                self.worker.end()
        except Silent as hang:
            record = {"case": case, "pass": False, "code": "hang", "error": str(hang)}
        except Ended as end:
            record = {"case": case, "pass": False, "code": "ended", "error": str(end)}
        if "gotBytes" in record and not self.kernels.tells(kernels):
            del record["gotBytes"]
        self.kernels.learn(kernels, record)
        return record

    def probe(self):
        """Starts a process where none runs; raises DeviceGone where it can't use the device."""
        for last in (False, True):
            if self.worker.process:
                return
            try:
                record = self.worker.ask(PROBE, self.seconds)
                if record["pass"]:
                    return
                why = record.get("error", "its result is wrong")
            except (Silent, Ended) as error:
                why = str(error)
            self.worker.end()
            if last:
                raise DeviceGone(f"{PROBE} in a fresh process: {why}")
            # The driver may still be putting away the last process.
            time.sleep(5)

    def end(self):
        self.worker.end()

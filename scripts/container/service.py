"""A service of the compose file, started from an image's root as an engine would start it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.container.chroot import Bind, Chroot, ChrootError, Started, tool
from scripts.container.compose import Service, environment, mounts, seconds, size_bytes
from scripts.container.image import Image

INIT = """
trap 'kill -TERM "$child"' TERM
"$@" &
child=$!
while :; do
    wait "$child" && exit 0
    code=$?
    kill -0 "$child" 2>/dev/null || exit "$code"
done
"""
"""What `init: true` adds, as a shell's commands: a first process that passes SIGTERM on. The kernel
keeps it from a first process that does not ask for it."""


class Container:
    """One service; `start` it, ask its `health`, `execute` something beside it, `stop` it."""

    def __init__(
        self,
        service: Service,
        compose: Mapping[str, Any],
        image: Image,
        root: Path,
        work: Path,
        patience: float = 1.0,
    ) -> None:
        """`root`: the folder that the compose file's paths begin at. `work` keeps volumes, the log
        and the file of hosts. `patience`: by what all times that are granted are multiplied."""
        self.patience = patience
        self.service = service
        self.image = image
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        binds = [self._hosts(compose)]
        for name in service.get("secrets", []):
            binds.append(Bind(root / compose["secrets"][name]["file"], f"/run/secrets/{name}"))
        for source, target, read_only in mounts(service):
            named = source in compose.get("volumes", {})
            origin = self._volume(source, target) if named else root / source
            binds.append(Bind(origin.resolve(), target, read_only))
        self.environment = {
            "HOME": f"/home/{image.user}",
            **image.environment,
            **environment(service),
        }
        self.chroot = Chroot(
            image.root,
            binds,
            tmpfs=service.get("tmpfs", []),
            shm_bytes=size_bytes(str(service.get("shm_size", "64m"))),
            read_only=bool(service.get("read_only")),
            user=str(service.get("user", image.user)),
            folder=image.folder,
            environment=self.environment,
            no_capabilities=service.get("cap_drop") == ["ALL"],
            no_new_privileges="no-new-privileges:true" in service.get("security_opt", []),
        )
        self.started: Started | None = None
        self.log = work / "output.log"

    def _hosts(self, compose: Mapping[str, Any]) -> Bind:
        """Services by name: all are started in one network here, at the loopback address."""
        names = {"localhost", *compose["services"]}
        for service in compose["services"].values():
            for network in (service.get("networks") or {}).values():
                names.update((network or {}).get("aliases", []))
        path = self.work / "hosts"
        path.write_text(f"127.0.0.1 {' '.join(sorted(names))}\n")
        return Bind(path.resolve(), "/etc/hosts")

    def _volume(self, name: str, target: str) -> Path:
        """A named volume. A new one is as the image has that folder, its owner too."""
        place = self.work / "volumes" / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            origin = self.image.root / target.lstrip("/")
            if origin.exists():
                subprocess.run([tool("cp"), "-a", origin, place], check=True)
            else:
                place.mkdir()
        return place

    def words(self) -> list[str]:
        """What is executed: the image's entry, then the service's command or the image's."""
        init = ["/bin/sh", "-c", INIT, "init"] if self.service.get("init") else []
        command = self.service.get("command") or self.image.command
        return [*init, *self.image.entrypoint, *command]

    def start(self, beside: Container | None = None) -> None:
        other = beside.running() if beside else None
        self.started = self.chroot.start(self.words(), self.log, other)

    def running(self) -> Started:
        if self.started is None:
            raise ChrootError("it is not started")
        return self.started

    def execute(
        self, *words: str, timeout_s: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.running().execute(words, timeout_s or 60 * self.patience)

    def wait_healthy(self) -> tuple[float, str]:
        """Run the image's health check until it passes: (seconds that took, what it said).

        Errors: ChrootError where it does not pass in the time that the Dockerfile grants, or where
        the service ends.
        """
        health = self.image.health
        if health is None:
            raise ChrootError("the image has no HEALTHCHECK")
        every = seconds(health.flags["interval"])
        limit = seconds(health.flags["timeout"]) * self.patience
        granted = seconds(health.flags["start-period"]) + every * int(health.flags["retries"])
        granted *= self.patience
        kind, _, rest = health.text.partition(" ")
        if kind != "CMD":
            raise ChrootError(f"line {health.line}: expected HEALTHCHECK CMD")
        words = type(health)("CMD", rest.strip(), {}, health.line).words()
        began = time.monotonic()
        last = ""
        while (passed := time.monotonic() - began) < granted:
            if self.running().process.poll() is not None:
                raise ChrootError(f"the service ended:\n{self.running().said()}")
            asked = self.execute(*words, timeout_s=limit)
            if asked.returncode == 0:
                return time.monotonic() - began, asked.stdout.strip()
            last = (asked.stdout + asked.stderr).strip()
            time.sleep(min(every, max(0.5, passed / 10)))
        raise ChrootError(f"not healthy after {granted:g} s: {last}\n{self.running().said()}")

    def stop(self) -> tuple[int, float]:
        """SIGTERM: (exit code, seconds). Errors: ChrootError if the grace period is not enough."""
        grace = seconds(str(self.service.get("stop_grace_period", "10s"))) * self.patience
        code, took = self.running().stop(grace)
        if code is None:
            raise ChrootError(
                f"SIGTERM did not end it within {grace:g} s:\n{self.running().said()}"
            )
        return code, took

    def kill(self) -> None:
        if self.started is not None:
            self.started.kill()

    def volume(self, name: str) -> Path:
        return self.work / "volumes" / name


def remove(folder: Path) -> None:
    """Remove a work folder, unless something is still mounted in it."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    below = [one for one in mounted if Path(one).is_relative_to(folder)]
    if below:
        raise ChrootError(f"still mounted below {folder}: {', '.join(below)}")
    shutil.rmtree(folder)

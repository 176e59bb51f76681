"""The faces of the gateway itself: built once, beside those that applications add."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable

from gateway.answers import Reloaded
from gateway.api.budgets import BudgetsFace
from gateway.api.chat import ChatFace
from gateway.api.credentials import CredentialsFace
from gateway.api.egress import EgressFace
from gateway.api.file_links import FileLinksFace
from gateway.api.file_watch import FileWatchFace
from gateway.api.files import FileAccess, FilesFace
from gateway.api.finding import FindingFace
from gateway.api.following import Following
from gateway.api.forks import ForksFace
from gateway.api.health import OpsFace
from gateway.api.history import HistoryFace
from gateway.api.identity import IdentityFace
from gateway.api.operators import AdminFace
from gateway.api.own_keys import OwnKeysFace
from gateway.api.people import PeopleFace
from gateway.api.ports.face import PortsFace
from gateway.api.queued import QueuedFace
from gateway.api.readiness import ReadinessChecks
from gateway.api.records import RecordsFace
from gateway.api.sessions import SessionsFace
from gateway.api.shared import SharedFace
from gateway.api.shares import Links, SharesFace
from gateway.api.tenants import TenantsFace
from gateway.api.uploads import UploadsFace
from gateway.api.usage import UsageFace
from gateway.api.watching import WatchingFace
from gateway.api.workspaces import WorkspacesFace
from gateway.auth.opening import Authentication
from gateway.http.gate import Gate
from gateway.http.operation import Operation
from gateway.sessions.census import Census
from gateway.sessions.opening import Sessions
from gateway.sessions.pulse import Pulse
from gateway.telemetry.clocks import Clock
from gateway.telemetry.history import DayHistory
from gateway.telemetry.recent_log import RecentLog
from gateway.telemetry.tasks import BackgroundTasks
from gateway.version import VERSION
from gateway.workers.opening import Workers


class OwnFaces:
    """What the gateway offers without any application."""

    def __init__(
        self,
        sessions: Sessions,
        gate: Gate,
        auth: Authentication,
        workers: Workers,
        *,
        tasks: BackgroundTasks,
        reload: Callable[[], Reloaded],
        tenants_changed: Callable[[], None],
    ) -> None:
        manager, services = sessions.manager, sessions.for_faces
        membership = sessions.services.membership
        self._services = services
        chat = ChatFace(manager, services, gate)
        self._census = Census(manager, sessions.services, readers=chat.readers)
        self.readiness = ReadinessChecks(
            services,
            is_draining=lambda: manager.is_going,
            has_forkserver=lambda: workers.spawner.is_ready,
            tasks_down=lambda: tasks.down,
            membership=membership,
        )
        config, metrics = services.config, services.metrics
        self.pulse = Pulse(
            self._census,
            DayHistory(None if config.is_in_memory else config.data_path),
            metrics=metrics,
            clock=Clock(services.monotonic, services.wall_ms),
            tasks_down=lambda: tasks.down,
        )
        self.log = RecentLog()
        watching = WatchingFace(
            self._census,
            self.pulse,
            self.readiness,
            metrics=metrics,
            spawner=workers.spawner,
            store=services.store,
            wall_ms=services.wall_ms,
        )
        self.health = OpsFace(
            version=VERSION,
            is_draining=lambda: manager.is_going,
            monotonic=services.monotonic,
            wall_ms=services.wall_ms,
            readiness=self.readiness,
            scrape=self._scrape,
        )
        self.identity = IdentityFace(
            manager,
            services,
            gate=gate,
            credentials=auth.credentials,
            provider=auth.provider(services.config),
            signed_in=auth.signed_in,
        )
        files = FileAccess(
            manager, services, workspaces=workers.workspaces, snapshots=sessions.services.snapshots
        )
        links = Links(services, auth.credentials, gate)
        self.following = Following(
            services.store.changes, manager, auth, gate, links, tenants_changed=tenants_changed
        )
        self.ports = PortsFace(manager, services, nodes=lambda: membership.nodes if membership else ())
        credentials = CredentialsFace(auth.keys, gate, auth.credentials, services, reload=reload)
        self._operations = [
            *chat.operations(),
            *SessionsFace(manager, services).operations(),
            *QueuedFace(manager, services).operations(),
            *HistoryFace(manager).operations(),
            *FindingFace(manager, services).operations(),
            *UploadsFace(manager, services, sessions.services.uploads).operations(),
            *ForksFace(manager, services, sessions.forks, sessions.services.snapshots).operations(),
            *WorkspacesFace(manager, services, sessions.services.snapshots).operations(),
            *EgressFace(manager, services).operations(),
            *BudgetsFace(manager, services).operations(),
            *self.ports.operations(),
            *AdminFace(manager, services, self._census, drain=_terminate).operations(),
            *watching.operations(),
            *RecordsFace(services, self.log).operations(),
            *UsageFace(services).operations(),
            *self.identity.operations(),
            *OwnKeysFace(auth.vault, auth.own_keys, services).operations(),
            *SharesFace(manager, services, auth.credentials, gate, links).operations(),
            *SharedFace(manager, services, auth.credentials, gate, links).operations(),
            *PeopleFace(manager, services, gate=gate, keys=auth.keys, vault=auth.vault).operations(),
            *FilesFace(files, services, gate).operations(),
            *FileWatchFace(files, manager, services, gate).operations(),
            *FileLinksFace(files, services, gate).operations(),
            *credentials.operations(),
            *TenantsFace(
                services, auth.kept_tenants, apply=tenants_changed, summary=credentials.tenant
            ).operations(),
        ]

    def operations(self, added: Iterable[Operation]) -> list[Operation]:
        """All of them, with those that applications add."""
        return [*self._operations, *added, *self.health.operations()]

    async def _scrape(self) -> bytes:
        standing = await self._census.standing()
        return await asyncio.to_thread(self._services.metrics.exposition, standing)


def _terminate() -> None:
    """Asks this process to end, as a service manager does."""
    signal.raise_signal(signal.SIGTERM)

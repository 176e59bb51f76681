"""What a scrape reads: the families of this gateway, in a registry of its own.

Counters and histograms are moved where something happens, by a plain call; whatever is a number of things
that exist now is counted on the scrape (`Standing`), so that it cannot drift. No label names a person, a
tenant or a session, and every label's values come from a bounded list. `docs/metrics.md` says what each
family means; a test holds the table, the alert rules and the dashboard to what a real scrape gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from msgspec import Struct, field
from prometheus_client.metrics import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry

from gateway.events.facts import EgressAnswer
from gateway.telemetry.heavy import lazily
from gateway.telemetry.recent import Recent

if TYPE_CHECKING:
    from prometheus_client import exposition
else:
    exposition = lazily("prometheus_client.exposition")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "agent_gateway_"
OTHER: Final = "other"
"""The label of a value that is on no list: an agent must not invent series."""

STOP_REASONS: Final = frozenset(
    {"end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled", "error", "budget_reached"}
)
"""ACP's, and ours for a turn that failed or that a budget ended."""
MOST_MODELS: Final = 200
"""So many models have series of their own; providers are those of the configuration."""
OddSource = Literal["agent", "model", "mcp", "issuer"]
"""Whose words are read: agents over ACP, the model's endpoint, MCP servers of sessions, who signs tokens and
signs people in."""
_MILLISECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TURNS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_MODEL: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""The buckets that the GenAI semantic conventions recommend, as the row above."""


_MODEL_STATUSES: Final = frozenset({0, 200, 400, 401, 403, 404, 429, 499, 500, 502, 503, 529})
"""Statuses of model calls that have a series of their own: 0 is no answer, 499 a call that was given up."""


SentKind = Literal["file", "archive", "preview"]
"""What of a session's files was sent: a download, a folder as a zip, or something to look at."""


class Readers(Struct):
    """Open streams of one view."""

    count: int = 0
    lag: int = 0
    """Events that they have not sent yet, together."""
    max_lag: int = 0


class Standing(Struct, kw_only=True):
    """What there is at the moment of a scrape."""

    sessions: dict[tuple[str, str], int] = field(default_factory=dict)
    """(state, agent) → how many."""
    workers: dict[str, int] = field(default_factory=dict)
    """agent → how many."""
    worker_bytes: dict[str, int] = field(default_factory=dict)
    turns_running: int = 0
    queued: int = 0
    readers: dict[str, Readers] = field(default_factory=dict)
    store_waiting: int = 0
    worker_limit: int = 0
    waiting_turns: int = 0
    spares: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, int] = field(default_factory=dict)
    """agent → how many of its workers are frozen."""
    is_draining: bool = False
    lease_seconds: float = math.inf
    """Left of its lease on the store; no end if it needs none."""
    nodes: int = 1
    """Gateways that share the store."""


DOORS: Final = ("gateway", "https", "http", "further")
"""At which door of its own network a worker connects: each has a series from the start."""
MCP_OUTCOMES: Final = ("answered", "failed", "refused")
"""How a request to an MCP server ends; each has a series from the start."""

CLAIM_REASONS: Final = ("asked", "born", "taken_over", "expired")
"""Somebody asked for it; it is new; a gateway that died left it in the middle of a turn; its time is over."""
SPARE_OUTCOMES: Final = ("adopted", "unfit", "died")
"""`unfit`: its session asked for another worker."""
SNAPSHOT_OUTCOMES: Final = ("taken", "unchanged", "failed")
"""What comes of a snapshot; each has a series from the start."""


PERMISSION_KINDS: Final = ("allow_once", "allow_always", "reject_once", "reject_always")
"""ACP's kinds of answers to a permission request."""
PERMISSION_OUTCOMES: Final = (*PERMISSION_KINDS, "cancelled", OTHER)
QUESTION_OUTCOMES: Final = ("accept", "decline", "cancel", "complete")
MIRROR_OUTCOMES: Final = ("written", "erased", "failed", "left_out", "of_another")
"""Of a session that Redis is to show: `failed` is a try of several that is followed by another."""
WEBHOOK_OUTCOMES: Final = ("delivered", "failed", "given_up")
"""Of a message to the webhook's receiver: `failed` is a try that is followed by another."""


def answer_kind(kind: str | None) -> str:
    """How a permission request was answered, of a bounded list; None: no option was chosen."""
    if kind is None:
        return "cancelled"
    return kind if kind in PERMISSION_KINDS else OTHER


class Tally:
    """A count that a hot path moves; a scrape reads it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Metrics:
    """The families; see the module."""

    def __init__(self, *, version: str, monotonic: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter, which nobody reads
        registry = self.registry = CollectorRegistry()
        self.events = Tally()
        self.starts = Recent(monotonic)
        """Seconds of each start of a worker, with its tenant."""
        self.first_tokens = Recent(monotonic)
        self.turns_lately = Recent(monotonic)
        self.tokens_lately = Recent(monotonic)
        self.loop_lags = Recent(monotonic, window_seconds=60)

        def counter(name: str, words: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(PREFIX + name, words, labels, registry=registry)

        def histogram(
            name: str, words: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _SECONDS
        ) -> Histogram:
            return Histogram(PREFIX + name, words, labels, registry=registry, buckets=buckets)

        self.spawn_seconds = histogram("spawn_seconds", "Start of a new session's first worker.", ("agent",))
        self.wake_seconds = histogram("wake_seconds", "Start of a parked session's next worker.", ("agent",))
        self.park_seconds = histogram("park_seconds", "Stop of a worker that was parked.")
        self.teardown_seconds = histogram("teardown_seconds", "Stop of a worker, whatever ended it.")
        self.teardown_processes = counter("teardown_processes", "Processes that ended with their workers.")
        self.teardown_survivors = counter("teardown_survivors", "Processes that outlived their worker.")
        self.teardown_bytes = counter("teardown_bytes", "Memory given back by workers that ended.")
        self.worker_ends = counter("worker_ends", "Workers that ended, by why.", ("reason",))
        self.worker_cpu = counter("worker_cpu_seconds", "CPU time that workers used.", ("agent",))
        self.turns = counter("turns", "Turns that ended, by how.", ("outcome",))
        self.turn_seconds = histogram("turn_seconds", "From a turn's start to its end.", (), _TURNS)
        self.first_token_seconds = histogram(
            "time_to_first_token_seconds", "From a turn's start to the first word of its answer."
        )
        self.loop_lag = histogram("event_loop_lag_seconds", "How late the event loop was.", (), _MILLISECONDS)
        self.commit_seconds = histogram(
            "store_commit_seconds", "A group commit, with its fsync.", (), _MILLISECONDS
        )
        self.store_failures = counter("store_failures", "Group commits that failed and are tried again.")
        self.store_healed = counter(
            "store_healed", "Commits that the database had lost and that were written again from memory."
        )
        self.store_losses = counter(
            "store_losses", "Times that it had lost commits of which some were not in memory any more."
        )
        self.orphans = counter("orphans_swept", "Processes of the last gateway that this one ended.")
        self.permissions = counter(
            "permissions", "Permission requests that were answered, by whom and how.", ("by", "outcome")
        )
        for outcome in PERMISSION_OUTCOMES:
            self.permissions.labels("rule", outcome)
            self.permissions.labels("person" if outcome != "cancelled" else "nobody", outcome)
        self.questions = counter("questions", "Questions of agents that were answered, by how.", ("outcome",))
        for outcome in QUESTION_OUTCOMES:
            self.questions.labels(outcome)
        self.snapshots = counter(
            "snapshots", "Snapshots of sessions' files, by what came of it.", ("outcome",)
        )
        for outcome in SNAPSHOT_OUTCOMES:
            self.snapshots.labels(outcome)
        self.snapshot_seconds = histogram(
            "snapshot_seconds", "One snapshot of a session's files.", (), _MILLISECONDS
        )
        self.files_brought = histogram(
            "files_brought_seconds",
            "Files of one session, put on the disk of this gateway.",
            (),
            _MILLISECONDS,
        )
        self.mcp_calls = counter("mcp_calls", "Requests to the MCP servers of sessions.", ("outcome",))
        for outcome in MCP_OUTCOMES:
            self.mcp_calls.labels(outcome)
        self.egress_denied = counter(
            "egress_denied", "Connections of workers behind the broker that were refused.", ("why",)
        )
        self.egress_connections = counter(
            "egress_connections", "Connections that workers behind the broker made, by door.", ("door",)
        )
        for door in DOORS:
            self.egress_connections.labels(door)
        self.egress_bytes = counter(
            "egress_bytes", "Bytes between workers behind the broker and hosts.", ("direction",)
        )
        for direction in ("sent", "received"):
            self.egress_bytes.labels(direction)
        self.egress_answers = counter(
            "egress_answers", "Answers to questions about hosts that no list names.", ("answer",)
        )
        for answer in get_args(EgressAnswer):
            self.egress_answers.labels(answer)
        self.credential_requests = counter(
            "credential_requests",
            "Requests of workers to hosts that a credential is added for.",
            ("credential", "outcome"),
        )
        self.file_downloads = counter(
            "file_downloads", "Files and folders that were sent, by kind.", ("kind",)
        )
        self.file_bytes = counter("file_sent_bytes", "Bytes of files that were sent, by kind.", ("kind",))
        for kind in get_args(SentKind):
            self.file_downloads.labels(kind)
            self.file_bytes.labels(kind)
        self.spares = counter("spare_outcomes", "Spares, by what became of them.", ("outcome",))
        for outcome in SPARE_OUTCOMES:
            self.spares.labels(outcome)
        self.file_uploads = counter("file_uploads", "Files that people put into sessions.")
        self.file_received_bytes = counter("file_received_bytes", "Bytes of files that arrived.")
        self.rejections = counter("rejections", "Requests past a quota, a rate or a limit.", ("limit",))
        self.webhooks = counter("webhook", "Messages to the webhook's receiver, by outcome.", ("outcome",))
        for outcome in WEBHOOK_OUTCOMES:
            self.webhooks.labels(outcome)
        self.mirrored = counter("redis_mirror", "Sessions for the mirror in Redis, by outcome.", ("outcome",))
        for outcome in MIRROR_OUTCOMES:
            self.mirrored.labels(outcome)
        self.odd_values = counter(
            "odd_values", "Optional values of others that were left out as odd.", ("source",)
        )
        for source in get_args(OddSource):
            self.odd_values.labels(source)
        self.forwarded = counter(
            "forwarded", "Requests that were passed on to the gateway that has their session.", ("reason",)
        )
        self.forward_failures = counter(
            "forward_failures", "Times that another gateway could not answer what was passed on.", ("reason",)
        )
        self.told = counter("told", "What other gateways were told, by what came of it.", ("what", "outcome"))
        for what in ("fact", "moved", "left", "word"):
            for outcome in ("told", "nobody", "dropped"):
                self.told.labels(what, outcome)
        self.claims = counter("claims", "Sessions that this gateway took, of several.", ("why",))
        for why in CLAIM_REASONS:
            self.claims.labels(why)
        for reason in ("verb", "stream", "socket"):
            self.forwarded.labels(reason)
        for reason in ("unreachable", "misdirected", "refused", "lost", "unknown"):
            self.forward_failures.labels(reason)
        self.fenced = counter("fenced", "Times that this gateway has lost its place at the store.")
        self.errors = counter("errors", "Error answers, by their code.", ("code",))
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        """The series of operations, which take a lock and a look to find."""
        self.requests = counter("http_requests", "Answers, by operation and status class.", _BY_STATUS)
        self.request_seconds = histogram(
            "http_request_seconds", "From a request to the head of its answer.", ("operation",)
        )
        self.model_seconds = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Model calls of the built-in agent (gen_ai.client.operation.duration).",
            ("gen_ai_operation_name", "gen_ai_request_model", "error_type"),
            registry=registry,
            buckets=_MODEL,
        )
        self.model_tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a model call (gen_ai.client.token.usage).",
            ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_token_type"),
            registry=registry,
            buckets=_TOKENS,
        )
        self.model_requests = counter(
            "model_requests", "Calls to providers of models.", ("provider", "model", "dialect", "status")
        )
        self.model_first_byte = histogram(
            "model_first_byte_seconds", "From a call to the first byte of its answer.", ("provider",)
        )
        self.model_dropped = counter(
            "model_dropped", "Tools of providers that were taken out of calls.", ("tool",)
        )
        self.model_breaker_open = Gauge(
            PREFIX + "model_breaker_open",
            "1 while a provider is not called because it failed.",
            ("provider",),
            registry=registry,
        )
        by_model = ("provider", "model")
        self.model_cost = counter("model_cost_usd", "What model calls cost, in dollars.", by_model)
        self.model_used = counter("model_tokens", "Tokens of model calls, by kind.", (*by_model, "kind"))
        self.model_estimated = counter("model_estimated", "Calls whose tokens are an estimate.", by_model)
        self.model_unpriced = counter("model_unpriced", "Calls of models without a price.", by_model)
        self._models: set[tuple[str, str]] = set()
        self.is_store_lost = False
        self.disk_now = (0, 0)
        """Free bytes, and how many would be too few; both 0 before the first look."""
        self.is_memory_short = False
        self.store_lost = Gauge(
            PREFIX + "store_lost", "1 while the database is not the file that was opened.", registry=registry
        )
        self.disk_free = Gauge(PREFIX + "disk_free_bytes", "Room where the data is.", registry=registry)
        self.disk_low = Gauge(PREFIX + "disk_low_bytes", "Less room is too little.", registry=registry)
        self.memory_limit = Gauge(PREFIX + "memory_limit_bytes", "Memory that there is.", registry=registry)
        self.memory_available = Gauge(
            PREFIX + "memory_available_bytes", "What is left of it.", registry=registry
        )
        self.memory_short = Gauge(
            PREFIX + "memory_short", "1 while idle workers are parked for want of memory.", registry=registry
        )
        self.freezes = counter("freezes", "Idle workers that were frozen before they are parked.")
        self.memory_parked = counter("memory_parked", "Idle workers that were parked for want of memory.")
        self.tasks_up = Gauge(
            PREFIX + "background_task_up",
            "1 while it runs, 0 while it waits to start again.",
            ("task",),
            registry=registry,
        )
        self.task_failures = counter("background_task_failures", "Background tasks that failed.", ("task",))
        build = Gauge(PREFIX + "build_info", "Always 1; the version.", ("version",), registry=registry)
        build.labels(version).set(1)

    def disk_seen(self, free: int, low: int) -> None:
        """How much room there is, and what would be too little."""
        self.disk_now = free, low
        self.disk_free.set(free)
        self.disk_low.set(low)

    def memory_seen(self, limit: int, available: int, *, is_short: bool) -> None:
        """How much memory there is, and how much is left."""
        self.memory_limit.set(limit)
        self.memory_available.set(available)
        self.memory_short.set(is_short)
        self.is_memory_short = is_short

    def task_changed(self, name: str, is_up: bool) -> None:
        """A background task started, or failed."""
        self.tasks_up.labels(name).set(int(is_up))
        self.task_failures.labels(name).inc(0 if is_up else 1)

    def committed(self, seconds: float, is_done: bool) -> None:
        """A group commit, or a try that failed; called in the writer's thread."""
        self.commit_seconds.observe(seconds)
        if not is_done:
            self.store_failures.inc()

    def store_was_healed(self, commits: int, is_all: bool) -> None:
        """The database had lost so many commits, which were done again; all of them, or not."""
        self.store_healed.inc(commits)
        self.store_losses.inc(0 if is_all else 1)

    def store_troubled(self, is_lost: bool) -> None:
        """The database was taken away underneath, or is back; called in the writer's thread."""
        self.is_store_lost = is_lost
        self.store_lost.set(is_lost)

    def odd(self, source: OddSource) -> Callable[[str], None]:
        """Counts values that were left out of what others said (worker/foreign.py)."""
        count = self.odd_values.labels(source)
        return lambda _path: count.inc()

    def turn_ended(self, outcome: str, seconds: float, *, tenant: str) -> None:
        """A turn is over; `outcome` is its stop reason, or why it was interrupted."""
        self.turns.labels(outcome).inc()
        self.turn_seconds.observe(seconds)
        self.turns_lately.note(1, tenant)

    def permission_answered(self, kind: str | None, *, is_by_rule: bool) -> None:
        """A permission request was answered; `kind` is that of the chosen option, None if none was."""
        by = "rule" if is_by_rule else "nobody" if kind is None else "person"
        self.permissions.labels(by, answer_kind(kind)).inc()

    def first_token(self, seconds: float) -> None:
        """The first word of an answer."""
        self.first_token_seconds.observe(seconds)
        self.first_tokens.note(seconds)

    def worker_started(self, *, agent: str, is_new: bool, seconds: float, tenant: str) -> None:
        """A worker is ready for its turn."""
        family = self.spawn_seconds if is_new else self.wake_seconds
        family.labels(agent).observe(seconds)
        self.starts.note(seconds, tenant)

    def worker_ended(
        self, reason: str, *, processes: int, survivors: int, bytes_freed: int, seconds: float
    ) -> None:
        """A worker's receipt."""
        self.worker_ends.labels(reason).inc()
        self.teardown_processes.inc(processes)
        self.teardown_survivors.inc(survivors)
        self.teardown_bytes.inc(bytes_freed)
        self.teardown_seconds.observe(seconds)
        if reason == "parked":
            self.park_seconds.observe(seconds)

    def model_called(self, model: str, seconds: float, *, error: str = "") -> None:
        """A model call is over; `error` is the slug of its failure."""
        self.model_seconds.labels("chat", model, error).observe(seconds)

    def know_providers(self, providers: Iterable[str], *, tools: Iterable[str]) -> None:
        """Begins the series of these, so that they are there before anything happens."""
        for name in providers:
            self.model_breaker_open.labels(name)
        for tool in tools:
            self.model_dropped.labels(tool)

    def model_answered(
        self,
        provider: str,
        model: str,
        dialect: str,
        *,
        status: int,
        first_byte_seconds: float | None,
    ) -> None:
        """A call to a provider is settled; `status` as `models.meter.Reservation.settle` has it."""
        label = str(status) if status in _MODEL_STATUSES else f"{status // 100}xx"
        self.model_requests.labels(provider, model, dialect, label).inc()
        if first_byte_seconds is not None:
            self.model_first_byte.labels(provider).observe(first_byte_seconds)

    def tokens_used(self, model: str, *, input_tokens: int, output_tokens: int, tenant: str) -> None:
        """What a model call, or an agent, says that it used."""
        self.model_tokens.labels("chat", model, "input").observe(input_tokens)
        self.model_tokens.labels("chat", model, "output").observe(output_tokens)
        self.tokens_lately.note(input_tokens + output_tokens, tenant)

    def model_settled(
        self, provider: str, model: str, *, tokens: Mapping[str, int], cost: int | None, is_estimated: bool
    ) -> None:
        """A model call is counted; `cost` in millionths of a dollar, None if it is not known."""
        names = (provider, model)
        if names not in self._models:
            if len(self._models) >= MOST_MODELS:
                names = (provider, OTHER)
            self._models.add(names)
        for kind, count in tokens.items():
            if count:
                self.model_used.labels(*names, kind).inc(count)
        if cost is None:
            self.model_unpriced.labels(*names).inc()
        else:
            self.model_cost.labels(*names).inc(cost / 1_000_000)
        if is_estimated:
            self.model_estimated.labels(*names).inc()

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """The head of an answer was sent."""
        name = operation, status // 100
        known = self._answered.get(name)
        if known is None:
            count = self.requests.labels(operation, f"{status // 100}xx")
            known = self._answered[name] = count, self.request_seconds.labels(operation)
        known[0].inc()
        known[1].observe(seconds)

    def exposition(self, standing: Standing) -> bytes:
        """Everything, in Prometheus' text format."""
        return exposition.generate_latest(_Scrape(self, standing))


_BY_STATUS: Final = ("operation", "status")


class _Scrape:
    """The registry and what there is at the moment, as one thing that prometheus_client writes."""

    def __init__(self, metrics: Metrics, standing: Standing) -> None:
        self._metrics = metrics
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.registry.collect()
        events = CounterMetricFamily(PREFIX + "events", "Events appended to sessions' logs.")
        events.add_metric([], self._metrics.events.count)
        yield events
        yield from _standing(self._standing)


def _standing(now: Standing) -> Iterator[Metric]:
    yield _gauge("sessions", "Sessions in memory.", ("state", "agent"), now.sessions)
    agents = {(agent,): count for agent, count in now.workers.items()}
    yield _gauge("workers", "Workers that live.", ("agent",), agents)
    sizes = {(agent,): size for agent, size in now.worker_bytes.items()}
    yield _gauge("worker_memory_bytes", "Memory of workers, shared pages by share.", ("agent",), sizes)
    spares = {(agent,): count for agent, count in now.spares.items()}
    yield _gauge("spares", "Workers that wait for a session.", ("agent",), spares)
    frozen = {(agent,): count for agent, count in now.frozen.items()}
    yield _gauge("workers_frozen", "Workers that are frozen.", ("agent",), frozen)
    yield _gauge("worker_limit", "How many workers may live.", (), {(): now.worker_limit})
    yield _gauge("turns_waiting", "Turns that wait for a worker.", (), {(): now.waiting_turns})
    yield _gauge("turns_running", "Turns that run or wait for a person.", (), {(): now.turns_running})
    yield _gauge("queued_messages", "Messages that wait for a turn.", (), {(): now.queued})
    views = now.readers.items()
    yield _gauge("stream_readers", "Open streams.", ("view",), {(v,): r.count for v, r in views})
    yield _gauge(
        "stream_lag_events",
        "Events not sent yet, of all streams.",
        ("view",),
        {(v,): r.lag for v, r in views},
    )
    yield _gauge(
        "stream_lag_max_events", "The same, of the slowest.", ("view",), {(v,): r.max_lag for v, r in views}
    )
    yield _gauge("store_waiting", "Events and writes that wait for a commit.", (), {(): now.store_waiting})
    yield _gauge("draining", "1 while no new work is taken.", (), {(): int(now.is_draining)})
    yield _gauge("nodes", "Gateways that share the store.", (), {(): now.nodes})
    yield _gauge("lease_seconds_left", "Left of its lease on the store.", (), {(): now.lease_seconds})


def _gauge(name: str, words: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    """`values`: the labels' values, as a tuple → number."""
    family = GaugeMetricFamily(PREFIX + name, words, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family

// Canned conversations for fake-server.mjs: one of everything that the page draws.

const ago = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();
const row = (session_id, title, minutes, state = "parked") => ({
  session_id,
  title,
  state,
  agent: "builtin",
  created_at: ago(minutes + 30),
  last_active_at: ago(minutes),
  messages: 6,
});

export const sessions = [
  row("demo", "Fix the flaky session reaper test", 1, "idle"),
  row("permission", "Release 0.4 to staging", 4, "waiting"),
  row("streaming", "Compare queue designs", 9, "running"),
  row("hebrew", "תוכנית שיווק לחנות הטבע", 47),
  row("trouble", "Import last year’s orders", 130),
  row("wallet", "Swap on Sepolia", 60 * 26),
  row("long", "Weekly numbers for the board, with the regional breakdown and notes", 60 * 30),
  row("x1", "Draft the on-call handbook", 60 * 90),
  row("x2", "Why is the nightly build slow?", 60 * 120),
];

const user = (id, content, turn_id = "t1") => ({
  type: "message",
  message_id: id,
  sender: "user",
  content,
  turn_id,
  is_streaming: false,
});
const text = (message_id, text_, turn_id = "t1") => ({ type: "text_delta", message_id, turn_id, text: text_ });
const created = (id) => ({ type: "session_created", session_id: id, agent: "builtin" });
const commands = {
  type: "agent_commands",
  commands: [
    { name: "help", description: "What can be done here" },
    { name: "echo", description: "Says the text back", input: { hint: "TEXT" } },
    { name: "count", description: "Counts, one number at a time", input: { hint: "N [MS]" } },
    { name: "plan", description: "Shows a plan" },
    { name: "ask", description: "Asks for permission" },
  ],
};

const ANSWER = `The test is flaky because it **races the sweep**: \`reap()\` reads the clock before the turn’s last event moves it.

## What happens

1. The turn ends at *t*, and the worker’s report is still in the pipe.
2. The sweep wakes up, sees \`idle_seconds ≥ limit\`, and nominates the session.
3. The report arrives one tick later, too late for the nomination.

| step | before | after |
|:-----|-------:|------:|
| p50 | 12 ms | 11 ms |
| p99 | 840 ms | 14 ms |
| failures in 1,000 runs | 37 | 0 |

So the session has to decide in *one synchronous check*:

\`\`\`python
def may_park(self, now: float) -> bool:
    """Whether nobody needs the worker: no turn, no question, no unread report."""
    if self.state in BUSY or self._reports.pending:
        return False
    return now - self.last_used >= self.limits.park_after_seconds  # decided here, nowhere else
\`\`\`

> The reaper nominates; the session decides.

Run it again with \`pytest -k reaper --count 1000\`. Details are in the [asyncio documentation](https://docs.python.org/3/library/asyncio.html).`;

const BEFORE = `class Reaper:
    def __init__(self, clock):
        self.clock = clock

    def sweep(self, sessions):
        for session in sessions:
            if self.clock() - session.last_used > LIMIT:
                session.close()
        return len(sessions)
`;
const AFTER = `class Reaper:
    def __init__(self, clock):
        self.clock = clock

    def sweep(self, sessions):
        now = self.clock()
        for session in sessions:
            if session.may_park(now):
                session.ask_to_park()
        return len(sessions)
`;

const plan = (done) => ({
  type: "plan",
  turn_id: "t1",
  entries: ["Reproduce the failure", "Find the race", "Let the session decide", "Run it a thousand times"].map(
    (content, place) => ({
      content,
      priority: "medium",
      status: place < done ? "completed" : place === done ? "in_progress" : "pending",
    }),
  ),
});

const demo = [
  created("demo"),
  commands,
  user("u1", "The reaper test fails about once in thirty runs. Can you find out why, and fix it?"),
  { type: "turn_started", turn_id: "t1", message_id: "u1", reply_id: "r1" },
  {
    type: "thought_delta",
    thought_id: "th1",
    turn_id: "t1",
    text: "A failure once in thirty runs smells of a race. First see what the test waits for, then look at who writes last_used.",
  },
  plan(3),
  {
    type: "tool_call",
    tool_call_id: "c1",
    turn_id: "t1",
    title: "gateway/reaper.py",
    kind: "read",
    status: "completed",
    raw_input: { path: "gateway/reaper.py" },
    content: [{ type: "content", content: { type: "text", text: BEFORE } }],
  },
  {
    type: "tool_call",
    tool_call_id: "c2",
    turn_id: "t1",
    title: "pytest -k reaper --count 100",
    kind: "execute",
    status: "failed",
    raw_input: { command: "pytest -k reaper --count 100" },
    raw_output: "3 failed, 97 passed in 4.12s",
  },
  {
    type: "tool_call",
    tool_call_id: "c3",
    turn_id: "t1",
    title: "Edit gateway/reaper.py",
    kind: "edit",
    status: "completed",
    content: [{ type: "diff", path: "gateway/reaper.py", oldText: BEFORE, newText: AFTER }],
  },
  {
    type: "permission_asked",
    permission_id: "p1",
    turn_id: "t1",
    title: "Run pytest -k reaper --count 1000",
    options: [
      { option_id: "y", name: "Allow", kind: "allow_once" },
      { option_id: "n", name: "Reject", kind: "reject_once" },
    ],
    tool_call_id: "c4",
  },
  { type: "permission_answered", permission_id: "p1", outcome: "selected", option_id: "y" },
  {
    type: "tool_call",
    tool_call_id: "c4",
    turn_id: "t1",
    title: "pytest -k reaper --count 1000",
    kind: "execute",
    status: "completed",
    raw_output: "1000 passed in 38.9s",
  },
  text("a1", ANSWER),
  plan(4),
  { type: "usage", used: 18_400, size: 200_000, input_tokens: 9_000, output_tokens: 1_200, cost: null },
  { type: "turn_ended", turn_id: "t1", stop_reason: "end_turn", error: null },
  user("u2", "Thank you. Say it to me in one sentence for the changelog.", "t2"),
  { type: "turn_started", turn_id: "t2", message_id: "u2", reply_id: "r2" },
  text(
    "a2",
    "A session that has just finished a turn is no longer parked while its last report is still on the way.",
    "t2",
  ),
  { type: "turn_ended", turn_id: "t2", stop_reason: "end_turn", error: null },
];

const permission = [
  created("permission"),
  commands,
  user("u1", "Put 0.4 on staging and tell me when the health check is green."),
  { type: "turn_started", turn_id: "t1", message_id: "u1", reply_id: "r1" },
  text("a0", "The image is built and signed. Staging still runs 0.3.2; I will roll it forward now."),
  {
    type: "tool_call",
    tool_call_id: "c1",
    turn_id: "t1",
    title: "kubectl rollout restart deploy/gateway -n staging",
    kind: "execute",
    status: "pending",
    raw_input: { namespace: "staging" },
  },
  { type: "session_state", state: "waiting", reason: null, detail: null },
  {
    type: "permission_asked",
    permission_id: "p1",
    turn_id: "t1",
    title: "kubectl rollout restart deploy/gateway -n staging",
    options: [
      { option_id: "y", name: "Allow once", kind: "allow_once" },
      { option_id: "a", name: "Always allow", kind: "allow_always" },
      { option_id: "n", name: "Reject", kind: "reject_once" },
    ],
    tool_call_id: "c1",
  },
];

const streaming = [
  created("streaming"),
  commands,
  user("u1", "Compare a bounded queue per client with a cursor into one log."),
  { type: "turn_started", turn_id: "t1", message_id: "u1", reply_id: "r1" },
  text(
    "a1",
    "Both deliver the same events; they differ in **who pays for a slow reader**.\n\n- A queue per client holds every unread event once more for each reader.\n- A cursor holds one integer, and the reader takes what it has not",
  ),
  {
    type: "queue",
    waiting: [
      { message_id: "w1", text: "And what about memory with 500 readers?" },
      { message_id: "w2", text: "Give me a table at the end." },
    ],
    is_held: false,
  },
];

const hebrew = [
  created("hebrew"),
  commands,
  user("u1", "תכין לי תוכנית שיווק קצרה לחנות הטבע, עם תקציב של 5,000 ₪."),
  { type: "turn_started", turn_id: "t1", message_id: "u1", reply_id: "r1" },
  {
    type: "tool_call",
    tool_call_id: "c1",
    turn_id: "t1",
    title: "search_products: מזון אורגני",
    kind: "search",
    status: "completed",
    raw_input: { search: "אורגני" },
  },
  text(
    "a1",
    "## תוכנית לשלושה שבועות\n\nהרעיון: **לקוחות קיימים קודם**, ורק אחר כך פרסום ממומן.\n\n1. ניוזלטר עם קופון `TEVA10` ללקוחות של השנה האחרונה.\n2. שיתוף פעולה עם שתי מאפיות בשכונה.\n3. קמפיין ממומן קטן ב־Instagram.\n\n| סעיף | תקציב |\n|---|---|\n| ניוזלטר | 400 ₪ |\n| שיתופי פעולה | 1,600 ₪ |\n| פרסום | 3,000 ₪ |\n\n> כדאי למדוד כל שבוע, ולהעביר תקציב למה שעובד.",
  ),
  { type: "turn_ended", turn_id: "t1", stop_reason: "end_turn", error: null },
];

const trouble = [
  created("trouble"),
  user("u1", "Import the orders of last year."),
  { type: "turn_started", turn_id: "t1", message_id: "u1", reply_id: "r1" },
  text("a1", "Reading the export: 41,203 rows, two of them without a date. I start with"),
  { type: "turn_ended", turn_id: "t1", stop_reason: "cancelled", error: null },
  {
    type: "message",
    message_id: "s1",
    sender: "system",
    content: "Interrupted by user",
    turn_id: null,
    is_streaming: false,
  },
  {
    type: "queue",
    waiting: [
      { message_id: "w1", text: "Skip the rows without a date." },
      { message_id: "w2", text: "Then send me the totals by month." },
    ],
    is_held: true,
  },
  {
    type: "notice",
    notice_id: "n1",
    level: "info",
    code: "queue_held",
    text: "Two messages were waiting. Send them or drop them.",
  },
  {
    type: "notice",
    notice_id: "n2",
    level: "warning",
    code: "store_slow",
    text: "The store is slow: answers are kept in memory for the moment.",
  },
  user("u2", "Go on.", "t2"),
  { type: "turn_started", turn_id: "t2", message_id: "u2", reply_id: "r2" },
  {
    type: "turn_ended",
    turn_id: "t2",
    stop_reason: "error",
    error: {
      code: "model_unreachable",
      message: "The model’s endpoint refused the connection. Nothing was lost; try again in a moment.",
      retryable: true,
    },
  },
];

const wallet = [
  created("wallet"),
  user("u1", "Swap 0.1 ETH to USDC."),
  { type: "turn_started", turn_id: "t1", message_id: "u1", reply_id: "r1" },
  text("a1", "Here is the transaction for your wallet."),
  { type: "turn_ended", turn_id: "t1", stop_reason: "end_turn", error: null },
  { type: "wallet", pending: '{"chain":"sepolia","to":"0x7a25…488d","value":"0.1 ETH"}' },
];

const long = [created("long")];
for (let turn = 1; turn <= 40; turn += 1) {
  long.push(user(`u${turn}`, `Numbers of week ${turn}, please.`, `t${turn}`));
  long.push({ type: "turn_started", turn_id: `t${turn}`, message_id: `u${turn}`, reply_id: `r${turn}` });
  long.push(
    text(
      `a${turn}`,
      `Week ${turn}: revenue **${(turn * 7919) % 900}k**, up ${turn % 9} %.\n\n- North ${turn * 3}\n- South ${turn * 2}`,
      `t${turn}`,
    ),
  );
  long.push({ type: "turn_ended", turn_id: `t${turn}`, stop_reason: "end_turn", error: null });
}

export const demos = { demo, permission, streaming, hebrew, trouble, wallet, long };

#!/usr/bin/env bash
# Checks from the outside that sessions are what they promise to be: isolated, lasting, interruptible, resumable.
#
#   ./test-sessions.sh                                   starts a gateway of its own and stops it at the end
#   BASE_URL=http://127.0.0.1:8080 ./test-sessions.sh    checks a running one
#
# It needs bash, curl and python3 (to read JSON), talks to the built-in agent, and deletes the sessions it made.
# One line a check, PASS or FAIL; the exit code is 0 only if all passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

WORK=$(mktemp -d)
RUN="check-$$-$RANDOM" # every id begins with it, so that runs do not meet
GATEWAY_PIDS=""
PASSED=0
FAILED=0

# -- reporting ------------------------------------------------------------------------------------------------

pass() { PASSED=$((PASSED + 1)) && echo "PASS  $1"; }
fail() { FAILED=$((FAILED + 1)) && echo "FAIL  $1 — $2"; }

# is NAME EXPECTED ACTUAL: both are the same
is() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected '$2', got '${3:0:200}'"; fi; }
# has NAME NEEDLE TEXT: the text contains it
has() { if [[ "$3" == *"$2"* ]]; then pass "$1"; else fail "$1" "no '$2' in '${3:0:200}'"; fi; }
# lacks NAME NEEDLE TEXT: the text is there and does not contain it
lacks() { if [[ -n "$3" && "$3" != *"$2"* ]]; then pass "$1"; else fail "$1" "'$2' in '${3:0:200}'"; fi; }

# -- asking ---------------------------------------------------------------------------------------------------

# pick EXPRESSION: a value of the JSON on stdin, which is called d; nothing where it is not there
pick() { python3 -c "import json, sys; d = json.load(sys.stdin); print($1)" 2>/dev/null; }
get() { curl -s --max-time 30 "$BASE_URL$1" "${@:2}"; }
post() { get "$1" -H 'Content-Type: application/json' -d "$2" "${@:3}"; }
# follow PATH: a stream, only ever in the background, where exec makes the job curl itself, so that it can be killed
follow() { exec curl -sN --max-time 30 "$BASE_URL$1" "${@:2}"; }
# chat ID TEXT: State when the turn is over
chat() { post "/api/chat?wait=25" "{\"session_id\": \"$1\", \"agent\": \"built-in\", \"message\": \"$2\"}"; }
state() { get "/api/state?session_id=$1"; }
said() { pick "' | '.join(m['content'] for m in d['messages'] if m['sender'] == 'agent')"; }
count() { get /api/sessions/count | pick "d['active_sessions']"; }
delete() { get "/api/sessions/$1" -X DELETE; }

# frames: reads SSE from stdin up to a turn's end; prints the ids on one line, the text on the next
frames() {
  python3 -c '
import json, sys
ids, text, lines = [], "", []
for line in sys.stdin:
    lines.append(line.rstrip("\n"))
    if lines[-1]:
        continue
    frame = dict(part.split(": ", 1) for part in lines if ": " in part and not part.startswith(":"))
    lines = []
    if "id" in frame:
        ids.append(frame["id"])
    if frame.get("event") == "text_delta":
        text += json.loads(frame["data"])["text"]
    if frame.get("event") == "turn_ended":
        break
print(*ids)
print(text)
'
}

# -- a gateway to talk to -------------------------------------------------------------------------------------

stop() {
  local job
  for job in $(jobs -p); do
    case " $GATEWAY_PIDS " in *" $job "*) ;; *) kill "$job" 2>/dev/null ;; esac
  done
  for job in $GATEWAY_PIDS; do
    kill -TERM "$job" 2>/dev/null
    wait "$job" 2>/dev/null
  done
  rm -rf "$WORK"
}
trap stop EXIT
trap 'exit 130' INT TERM

if [ -x .venv/bin/python ]; then command=(.venv/bin/python -m gateway); else command=(agent-gateway); fi

# start NAME [OPTIONS]: a gateway of our own, whose address becomes BASE_URL
start() {
  "${command[@]}" serve --port 0 --data-dir "$WORK/$1" "${@:2}" >"$WORK/$1.out" 2>"$WORK/$1.log" &
  local pid=$!
  GATEWAY_PIDS="$GATEWAY_PIDS $pid"
  for _ in $(seq 300); do
    BASE_URL=$(grep -o 'http://[^ ]*' "$WORK/$1.out" | head -1)
    [ -n "$BASE_URL" ] || ! kill -0 "$pid" 2>/dev/null && break
    sleep 0.1
  done
}
# reached: waits for the gateway at BASE_URL, or ends everything
reached() {
  for _ in $(seq 20); do
    [ "$(get /health)" = OK ] && break
    sleep 0.1
  done
  if [ "$(get /health)" != OK ]; then
    echo "FAIL  no gateway at '$BASE_URL': $(cat "$WORK"/*.log 2>/dev/null)"
    exit 1
  fi
  echo "Checking $BASE_URL"
}

IS_OWN=""
if [ -z "${BASE_URL:-}" ]; then
  IS_OWN=yes
  start data
fi
reached

# -- two sessions at once stay isolated -----------------------------------------------------------------------

A="$RUN-a" B="$RUN-b"
CANARY_A="canary-$RANDOM$RANDOM-for-a" CANARY_B="canary-$RANDOM$RANDOM-for-b"
follow "/api/chat/stream?session_id=$A" >"$WORK/stream-a" &
follow "/api/chat/stream?session_id=$B" >"$WORK/stream-b" &
chat "$A" "/echo $CANARY_A" >"$WORK/chat-a" &
CHAT_A=$!
chat "$B" "/echo $CANARY_B" >"$WORK/chat-b" &
wait "$CHAT_A" "$!"
for _ in $(seq 50); do # the streams follow within a moment
  grep -q "$CANARY_A" "$WORK/stream-a" && grep -q "$CANARY_B" "$WORK/stream-b" && break
  sleep 0.1
done
is "a session answers" "$CANARY_A" "$(said <"$WORK/chat-a")"
is "another one answers at the same time" "$CANARY_B" "$(said <"$WORK/chat-b")"
has "the first one's stream shows its own answer" "$CANARY_A" "$(cat "$WORK/stream-a")"
lacks "nothing of the second in the first one's State" "$CANARY_B" "$(state "$A")"
lacks "nothing of the first in the second one's State" "$CANARY_A" "$(state "$B")"
lacks "nothing of the second in the first one's stream" "$CANARY_B" "$(cat "$WORK/stream-a")"
lacks "nothing of the first in the second one's stream" "$CANARY_A" "$(cat "$WORK/stream-b")"

# -- ids ------------------------------------------------------------------------------------------------------

is "the same id goes on in its session" "$CANARY_A | again" "$(chat "$A" "/echo again" | said)"

post "/api/chat?wait=25" '{"agent": "built-in", "message": "/echo one"}' \
  -D "$WORK/head" -c "$WORK/jar" >"$WORK/new"
NEW=$(pick "d['session_id']" <"$WORK/new")
is "a chat without id works" one "$(said <"$WORK/new")"
has "the new session is named in the header" "${NEW:-none}" "$(grep -i '^x-session-id:' "$WORK/head")"
has "and in the cookie" "agw_session=${NEW:-none}" "$(grep -i '^set-cookie:' "$WORK/head")"
is "the cookie leads back to it" "one | two" \
  "$(post "/api/chat?wait=25" '{"message": "/echo two"}' -b "$WORK/jar" | said)"
is "a malformed id is refused" 422 \
  "$(get "/api/state?session_id=.%2F..%2Fetc" -o /dev/null -w '%{http_code}')"

# -- the other verbs ------------------------------------------------------------------------------------------

post /api/chat "{\"session_id\": \"$A\", \"message\": \"/count 1000 50\"}" >/dev/null
for _ in $(seq 100); do
  [[ "$(state "$A" | said)" == *"| 1 2 3"* ]] && break
  sleep 0.05
done
post /api/interrupt "{\"session_id\": \"$A\"}" >"$WORK/cut"
is "an interrupt stops the answer" False "$(pick "d['is_processing']" <"$WORK/cut")"
is "and says so" "Interrupted by user" "$(pick "d['messages'][-1]['content']" <"$WORK/cut")"
has "what was said is kept" "| 1 2 3" "$(said <"$WORK/cut")"

TEXT='  Transaction sent: 0xabc,\t\"exactly\" like this ✓ '
post /api/system "{\"session_id\": \"$A\", \"message\": \"$TEXT\"}" >"$WORK/system"
is "a system message is kept exactly" "$(printf '"%s"' "$TEXT" | pick "repr(d)")" \
  "$(pick "repr(d['messages'][-1]['content'])" <"$WORK/system")"
is "and is the answer's res" system "$(pick "d['res'] == d['messages'][-1] and d['res']['sender']" <"$WORK/system")"

is "mcp-command set_network" "True sepolia" \
  "$(post /api/mcp-command "{\"session_id\": \"$A\", \"command\": \"set_network\", \"args\": {\"network\": \"sepolia\"}}" |
    pick "d['success'], d['data']['network'], sep=' '")"
is "an unknown mcp-command fails and is named" "False True" \
  "$(post /api/mcp-command "{\"session_id\": \"$A\", \"command\": \"no_such_thing\", \"args\": {}}" |
    pick "d['success'], 'no_such_thing' in d['message'], sep=' '")"

# -- a question of the agent ----------------------------------------------------------------------------------

Q="$RUN-q"
post /api/chat "{\"session_id\": \"$Q\", \"agent\": \"built-in\", \"message\": \"/question Which colour?\"}" >/dev/null
for _ in $(seq 100); do
  QUESTION=$(state "$Q" | pick "d['questions'][0]['question_id']")
  [[ -n "$QUESTION" ]] && break
  sleep 0.05
done
is "a question of the agent is shown" "Which colour?" "$(state "$Q" | pick "d['questions'][0]['message']")"
# answer BODY: answers the question
answer() { post "/api/sessions/$Q/questions/$QUESTION" "$1" "${@:2}"; }
has "an answer that does not fit names its field" "'answer' must be answered" "$(answer '{"action": "accept"}')"
is "an answer is taken once" "200 409" "$(
  for _ in 1 2; do answer '{"action": "accept", "content": {"answer": "blue"}}' -o /dev/null -w '%{http_code} '; done |
    sed 's/ $//'
)"
for _ in $(seq 100); do
  [[ "$(state "$Q" | pick "d['is_processing']")" == False ]] && break
  sleep 0.05
done
is "and reaches the agent" "You answered: blue" "$(state "$Q" | said)"
delete "$Q" >/dev/null

# -- a stream that breaks and is resumed ----------------------------------------------------------------------

C="$RUN-c"
LOG="/api/chat/stream?session_id=$C&view=events"
post /api/chat "{\"session_id\": \"$C\", \"agent\": \"built-in\", \"message\": \"/count 40 30\"}" >/dev/null
get "$LOG" -N --max-time 0.7 >"$WORK/first"
frames <"$WORK/first" >"$WORK/part-1"
LAST=$(awk 'NR == 1 { print $NF }' "$WORK/part-1")
frames < <(follow "$LOG" -H "Last-Event-ID: $LAST") >"$WORK/part-2"
kill "$!" 2>/dev/null # the stream itself goes on
is "a resumed stream has no gap and no repeat" "$(seq -s ' ' 40)" \
  "$(sed -n 2p "$WORK/part-1")$(sed -n 2p "$WORK/part-2")"
is "its ids only grow" True "$(head -qn 1 "$WORK/part-1" "$WORK/part-2" | python3 -c '
import sys
ids = [int(word) for word in sys.stdin.read().split()]
print(len(ids) > 5 and ids == sorted(set(ids)))')"

# -- a permission, and the rule that an answer for always makes -----------------------------------------------

P="$RUN-p"
# write TEXT: asks the agent to write a file, for which it needs permission
write() {
  post /api/chat "{\"session_id\": \"$P\", \"agent\": \"built-in\", \"message\": \"/tool write_file {\\\"path\\\": \\\"note.txt\\\", \\\"content\\\": \\\"$1\\\"}\"}" >/dev/null
}
# asked: State once the agent asks or the turn is over
asked() {
  for _ in $(seq 100); do
    state "$P" >"$WORK/asked"
    [ "$(pick "d['pending_permission'] is not None or not d['is_processing']" <"$WORK/asked")" = True ] && break
    sleep 0.1
  done
  cat "$WORK/asked"
}
# answer OPTION: answers what is asked
answer() {
  post "/api/sessions/$P/permission" "{\"permission_id\": \"$(asked | pick "d['pending_permission']['permission_id']")\", \"option_id\": \"$1\"}" \
    -o /dev/null -w '%{http_code}'
}
write one
is "a permission is asked, with the rule that always would make" "allow edit" \
  "$(asked | pick "d['pending_permission']['always']['action'], d['pending_permission']['always']['kind'], sep=' '")"
is "the answer for always is taken" 200 "$(answer allow_always)"
RULE=$(asked | pick "d['rules'][0]['rule_id']")
is "it is a rule of the session" "${RULE:-none}" "$(get "/api/sessions/$P/rules" | pick "d['rules'][0]['rule_id']")"
write two
is "the rule answers the next request" None "$(asked | pick "d['pending_permission']")"
is "a rule is revoked" True "$(get "/api/sessions/$P/rules/$RULE" -X DELETE | pick "d['revoked']")"
write three
is "and the next request waits for a person again" 200 "$(answer reject_once)"

# -- counting and deleting ------------------------------------------------------------------------------------

D="$RUN-d"
BEFORE=$(count)
chat "$D" "/echo counted" >/dev/null
is "the count of sessions goes up" "$((BEFORE + 1))" "$(count)"
is "a deletion leaves no process" "True 0" "$(delete "$D" | pick "d['deleted'], d['receipt']['survivors'], sep=' '")"
is "and the count goes down" "$BEFORE" "$(count)"
is "a deleted session is empty" "0" "$(state "$D" | pick "len(d['messages'])")"

for id in "$A" "$B" "$C" "$P" ${NEW:+"$NEW"}; do delete "$id" >/dev/null; done

# -- two tenants in one gateway, each with a key --------------------------------------------------------------

# as KEY PATH [BODY]: a request with a key
as() { get "$2" -H "Authorization: Bearer $1" ${3:+-H 'Content-Type: application/json' -d "$3"} "${@:4}"; }
# status KEY PATH [BODY]: its status
status() { as "$1" "$2" "${3:-}" -o /dev/null -w '%{http_code}'; }
# key TENANT: makes a key, as an operator does
key() { "${command[@]}" keys create "$1-person" --tenant "$1" --data-dir "$WORK/tenants" --config "$WORK/tenants.toml" 2>/dev/null; }

if [ -n "$IS_OWN" ]; then
  cat >"$WORK/tenants.toml" <<'TOML'
[auth]
modes = ["keys"]
[tenants.acme]
[tenants.beta.quota]
messages_per_day = 2
TOML
  start tenants --config "$WORK/tenants.toml"
  reached
  ACME=$(key acme) BETA=$(key beta)
  says() { printf '{"session_id": "shared-id", "message": "/echo %s"}' "$1"; }

  is "without a key nobody gets in" 401 "$(get /api/sessions -o /dev/null -w '%{http_code}')"
  is "a key of one tenant chats" "acme-word" "$(as "$ACME" "/api/chat?wait=25" "$(says acme-word)" | said)"
  is "the other's may use the same id" "beta-word" "$(as "$BETA" "/api/chat?wait=25" "$(says beta-word)" | said)"
  lacks "and sees nothing of the first" "acme-word" "$(as "$BETA" "/api/state?session_id=shared-id")"
  as "$ACME" /api/sessions '{"session_id": "acme-only"}' >/dev/null
  is "a foreign session is not there" 404 "$(status "$BETA" /api/sessions/acme-only)"
  is "for its owner it is" 200 "$(status "$ACME" /api/sessions/acme-only)"
  as "$BETA" "/api/chat?wait=25" "$(says again)" >/dev/null
  has "a quota that is used up says which" "tenant.messages_per_day" "$(as "$BETA" /api/chat "$(says more)")"
  is "while the other tenant goes on" "acme-word | on" "$(as "$ACME" "/api/chat?wait=25" "$(says on)" | said)"
  is "a key opens nothing of the operators'" 403 "$(status "$ACME" /api/admin/tenants)"
  "${command[@]}" keys revoke "$(cut -d_ -f2 <<<"$BETA")" --data-dir "$WORK/tenants" --config "$WORK/tenants.toml" >/dev/null
  is "a revoked key is over at once" 401 "$(status "$BETA" /api/sessions)"
fi

echo "$PASSED passed, $FAILED failed"
[ "$FAILED" -eq 0 ]

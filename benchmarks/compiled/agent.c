/* An ACP agent that says the time, in C so that it costs next to nothing: each chunk of an answer begins with
 * `@`, the monotonic clock in nanoseconds when it was sent, and a space.
 *
 * A prompt with `stream=COUNT,MICROSECONDS,START` is answered by so many chunks, one every so many microseconds,
 * from the moment START (ns) on, shifted by a random part of the interval; 0 microseconds: as fast as it goes,
 * twenty in a write. A chunk that is late is sent at once; those that are not sent when the time of all is over
 * are left out. `flood=COUNT` is answered by so many chunks of one letter, as fast as it goes. Any other prompt is
 * answered by one chunk.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 60, BATCH = 20 };

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void until(long long at) {
    struct timespec t = {at / 1000000000LL, at % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

static void put(const char *data, size_t size) {
    while (size > 0) {
        ssize_t done = write(1, data, size);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) exit(0);
        data += done;
        size -= done;
    }
}

static int chunk(char *out) {
    char text[TEXT + 1];
    memset(text, 'x', TEXT);
    text[TEXT] = 0;
    text[snprintf(text, sizeof text, "@%lld ", now())] = 'x';
    return sprintf(out,
                   "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",\"update\":"
                   "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"%s\"}}}}\n",
                   text);
}

static void answer(const char *stream) {
    static char out[BATCH * 512];
    long count = 1, micros = 0;
    long long start = 0;
    if (stream != NULL && sscanf(stream, "stream=%ld,%ld,%lld", &count, &micros, &start) != 3) exit(1);
    unsigned int shift = 0;
    if (micros > 0 && getrandom(&shift, sizeof shift, 0) > 0) start += shift % (micros * 1000);
    if (start > 0) until(start);
    for (long number = 0; number < count;) {
        int size = 0;
        if (micros > 0) {
            if (now() > start + count * micros * 1000) break;
            until(start + number * micros * 1000);
            size = chunk(out);
            number++;
        }
        for (int i = 0; micros == 0 && i < BATCH && number < count; i++, number++) size += chunk(out + size);
        put(out, size);
    }
}

static void flood(const char *prompt) {
    static char out[BATCH * 512];
    static const char one[] =
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",\"update\":"
        "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"x\"}}}}\n";
    for (long left = atol(prompt + 6); left > 0; left -= BATCH) {
        for (int i = 0; i < BATCH; i++) memcpy(out + i * (sizeof one - 1), one, sizeof one - 1);
        put(out, BATCH * (sizeof one - 1));
    }
}

static void reply(const char *line, const char *result) {
    char out[512];
    const char *id = strstr(line, "\"id\":");
    if (id == NULL) return;
    id += 5;
    put(out, snprintf(out, sizeof out, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":%s}\n",
                      (int)strcspn(id, ",}"), id, result));
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        if (strstr(line, "\"method\":\"initialize\"")) {
            reply(line, "{\"protocolVersion\":1,\"agentCapabilities\":{}}");
        } else if (strstr(line, "\"method\":\"session/new\"")) {
            reply(line, "{\"sessionId\":\"s\"}");
        } else if (strstr(line, "\"method\":\"session/prompt\"")) {
            if (strstr(line, "flood=")) flood(strstr(line, "flood="));
            else answer(strstr(line, "stream="));
            reply(line, "{\"stopReason\":\"end_turn\"}");
        }
    }
    return 0;
}

/* Many readers of server-sent events in one process, in C so that they cost next to nothing.
 *
 *     client PORT < PATHS
 *
 * Opens one connection for each line of standard input, up to an empty line, and says `ready` once all are
 * answered. Then a line `FROM TO END COUNT` (nanoseconds of the monotonic clock) has it read until END, or until
 * it has seen COUNT chunks, and print one line of JSON:
 *
 *   chunks, frames      of those sent between FROM and TO
 *   carried             chunks that arrived between FROM and TO
 *   p50, p90, p99, max  from an agent's write to this read, in milliseconds, of `chunks`
 *   first, last         when the first chunk was sent, and the last one arrived
 *   lost                connections that ended
 *
 * The end of its input ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 4096, ROOM = 1 << 18, KEPT = 64, MOST = 8 << 20 };

struct stream {
    int fd, is_open, held;
    char kept[KEPT]; /* the end of the last read: a stamp, or a line's beginning, may be cut there */
};

static struct stream streams[STREAMS];
static int count, opened, lost;
static unsigned int *waits; /* of each chunk in the window, in nanoseconds */
static long chunks, frames, carried, seen;
static long long from, to, first, last;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int connected(int port, const char *path) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char request[1024];
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    if (write(fd, request, size) != size) fail("write");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void take(long long stamp, long long at) {
    if (stamp < at - 600000000000LL || stamp > at) return; /* no stamp */
    seen++;
    if (first == 0 || stamp < first) first = stamp;
    last = at;
    if (at >= from && at < to) carried++;
    if (stamp < from || stamp >= to || chunks >= MOST) return;
    waits[chunks++] = at - stamp > 4000000000LL ? 4000000000U : (unsigned int)(at - stamp);
}

/* Finds every `@DIGITS ` and every delta's frame; returns how many last bytes belong to the next read. */
static int scan(char *data, int size, long long at) {
    static const char frame[] = "event: text_delta\n";
    char *end = data + size;
    int is_window = at >= from && at < to, left = 0;
    for (char *mark = data; (mark = memchr(mark, '@', end - mark)) != NULL;) {
        char *digit = mark + 1;
        long long stamp = 0;
        while (digit < end && *digit >= '0' && *digit <= '9') stamp = stamp * 10 + *digit++ - '0';
        if (digit == end) {
            left = end - mark;
            break;
        }
        if (digit - mark > 10) take(stamp, at);
        mark = digit;
    }
    for (char *mark = data; (mark = memmem(mark, end - mark, frame, sizeof frame - 1)) != NULL; mark += sizeof frame)
        frames += is_window;
    return left < KEPT ? left : 0;
}

static void receive(struct stream *stream) {
    static char data[ROOM + KEPT];
    for (;;) {
        memcpy(data, stream->kept, stream->held);
        ssize_t size = read(stream->fd, data + stream->held, ROOM);
        if (size <= 0) {
            if (size == 0) {
                lost++;
                close(stream->fd);
            }
            return;
        }
        if (!stream->is_open) {
            if (strncmp(data, "HTTP/1.1 200", 12) != 0) {
                fprintf(stderr, "not answered: %.300s\n", data);
                exit(1);
            }
            stream->is_open = 1;
            opened++;
        }
        long long at = now();
        int total = stream->held + size, left = scan(data, total, at);
        memcpy(stream->kept, data + total - left, left);
        stream->held = left;
        if (size < ROOM) return;
    }
}

static int by_value(const void *a, const void *b) {
    unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;
    return (x > y) - (x < y);
}

static double part(double share) {
    return chunks ? waits[(long)((chunks - 1) * share)] / 1e6 : 0;
}

static void print(void) {
    qsort(waits, chunks, sizeof *waits, by_value);
    printf("{\"chunks\": %ld, \"frames\": %ld, \"carried\": %ld, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, "
           "\"max\": %.3f, \"first\": %lld, \"last\": %lld, \"seen\": %ld, \"lost\": %d}\n",
           chunks, frames, carried, part(0.5), part(0.9), part(0.99), part(1), first, last, seen, lost);
    fflush(stdout);
}

int main(int argc, char **argv) {
    char line[1024];
    int epoll = epoll_create1(0), has_said = 0;
    long long end = 0;
    long wanted = 0;
    if (argc != 2) return 2;
    waits = malloc(MOST * sizeof *waits);
    while (fgets(line, sizeof line, stdin) && line[0] != '\n' && count < STREAMS) {
        line[strcspn(line, "\n")] = 0;
        streams[count].fd = connected(atoi(argv[1]), line);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &streams[count]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, streams[count++].fd, &event);
    }
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
    for (;;) {
        int found = epoll_wait(epoll, ready, 256, end ? 10 : -1);
        for (int i = 0; i < found; i++) {
            if (ready[i].data.ptr != NULL) {
                receive(ready[i].data.ptr);
                continue;
            }
            ssize_t size = read(0, line, sizeof line - 1);
            if (size <= 0) return 0;
            line[size] = 0;
            if (sscanf(line, "%lld %lld %lld %ld", &from, &to, &end, &wanted) != 4) return 2;
            chunks = frames = carried = seen = first = last = 0;
        }
        if (!has_said && opened == count) {
            has_said = 1;
            printf("ready\n");
            fflush(stdout);
        }
        if (end && (now() >= end || seen >= wanted)) {
            print();
            end = 0;
        }
    }
}

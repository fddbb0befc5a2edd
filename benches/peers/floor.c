/* What the kernel alone costs: the least that a server can do that takes mail over SMTP and answers 250
 * when it is on the disk. It checks nothing, routes nothing, and cannot give back what it wrote.
 *
 *     floor PORT FILE        FILE `-`: nothing is stored; port 0 lets the system choose
 *
 * Two threads. The first waits for sockets, reads as much as there is, looks at each octet once (the end
 * of the text, and the dots to be taken off), and sends the answers of a turn with one call a connection.
 * The second takes all messages that have come since its last time, writes them with one call, syncs
 * with one call, and wakes the first, which then answers. It knows EHLO, PIPELINING and BDAT.
 *
 * Exit: 64 wrong usage, 70 any call that fails. It runs until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__SSE4_2__)
#include <nmmintrin.h>
#endif

enum { TURN_EVENTS_MAX = 256, BACKLOG = 4096, HEADER_OCTETS = 64, ROOM_OCTETS_MIN = 8 << 10 };

/* Octets that grow. */
typedef struct {
    char *at;
    size_t size, room;
} Octets;

typedef enum { COMMAND, TEXT, CHUNK, STORING } State;

typedef struct Connection {
    int socket;
    State state;
    Octets in, out;
    size_t used;    /* of `in`: what has been understood */
    size_t scanned; /* of `in`: up to where the text has been looked at */
    size_t dots;    /* lines of the text that begin with a dot */
    size_t chunk;   /* octets of the chunk that are to come */
    bool last;      /* the chunk is the last one */
    bool chunked;   /* chunks have come that are not stored yet */
    bool closed;    /* the client has gone */
    struct Connection *next;
} Connection;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    Octets batch;
    Connection *stored; /* being stored with `batch` */
    Connection *done;   /* on the disk */
} shared = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0, 0};

/* Those that have gone; freed at the end of a turn, whose events may still name them. */
static Connection *gone;

static int file = -1, poller, wake;

static void need(bool good, const char *call) {
    if (good) return;
    perror(call);
    exit(70);
}

static void make_room(Octets *octets, size_t more) {
    if (octets->size + more <= octets->room) return;
    octets->room = (octets->size + more) * 2;
    if (octets->room < ROOM_OCTETS_MIN) octets->room = ROOM_OCTETS_MIN;
    octets->at = realloc(octets->at, octets->room);
    need(octets->at != NULL, "realloc");
}

static void append(Octets *octets, const void *from, size_t size) {
    make_room(octets, size);
    memcpy(octets->at + octets->size, from, size);
    octets->size += size;
}

static void say(Connection *c, const char *text) { append(&c->out, text, strlen(text)); }

static void flush(Connection *c) {
    if (c->out.size == 0) return;
    /* Answers are short: a socket that has no room for one is given up. */
    ssize_t sent = send(c->socket, c->out.at, c->out.size, MSG_NOSIGNAL);
    if (sent != (ssize_t)c->out.size) shutdown(c->socket, SHUT_RDWR);
    c->out.size = 0;
}

static uint64_t checksum(const char *from, size_t size) {
    uint64_t sum = 0, word;
    for (size_t at = 0; at + 8 <= size; at += 8) {
        memcpy(&word, from + at, 8);
#if defined(__SSE4_2__)
        sum = _mm_crc32_u64(sum, word);
#else
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
#endif
    }
    return sum;
}

static void *store(void *unused) {
    (void)unused;
    Octets mine = {0};
    for (;;) {
        pthread_mutex_lock(&shared.lock);
        while (!shared.stored) pthread_cond_wait(&shared.filled, &shared.lock);
        Octets batch = shared.batch;
        mine.size = 0;
        shared.batch = mine;
        mine = batch;
        Connection *first = shared.stored;
        shared.stored = NULL;
        pthread_mutex_unlock(&shared.lock);

        need(write(file, mine.at, mine.size) == (ssize_t)mine.size, "write");
        need(fdatasync(file) == 0, "fdatasync");

        Connection *last = first;
        while (last->next) last = last->next;
        pthread_mutex_lock(&shared.lock);
        last->next = shared.done;
        shared.done = first;
        pthread_mutex_unlock(&shared.lock);
        uint64_t one = 1;
        need(write(wake, &one, sizeof one) == sizeof one, "eventfd");
    }
    return NULL;
}

static const char ACCEPTED[] = "250 2.0.0 Ok: queued as 0123456789ABCDEF\r\n";

/* The message is `c->in` up to `end`. Whether it was answered at once. */
static bool take(Connection *c, size_t end) {
    c->used = end;
    c->chunked = false;
    if (file < 0) {
        say(c, ACCEPTED);
        c->state = COMMAND;
        return true;
    }
    char header[HEADER_OCTETS] = {0};
    uint64_t facts[3] = {checksum(c->in.at, end), end, c->dots};
    memcpy(header, facts, sizeof facts);
    c->state = STORING;
    pthread_mutex_lock(&shared.lock);
    append(&shared.batch, header, sizeof header);
    append(&shared.batch, c->in.at, end);
    c->next = shared.stored;
    shared.stored = c;
    pthread_mutex_unlock(&shared.lock);
    return false;
}

/* Whether there was enough to go on with. */
static bool text(Connection *c) {
    char *end = c->in.at + c->in.size;
    char *from = c->in.at + c->scanned, *feed;
    while (from < end && (feed = memchr(from, '\n', end - from))) {
        if (end - feed < 4) break;
        if (feed[1] == '.') {
            c->dots++;
            bool ends = feed[2] == '\r' && feed[3] == '\n' && feed > c->in.at && feed[-1] == '\r';
            if (ends) return take(c, feed + 4 - c->in.at);
        }
        from = feed + 1;
    }
    /* A line feed too near to the end is looked at again. */
    if (c->in.size > c->scanned + 3) c->scanned = c->in.size - 3;
    return false;
}

static bool chunk(Connection *c) {
    size_t there = c->in.size - c->used;
    if (there < c->chunk) return false;
    c->used += c->chunk;
    if (c->last) return take(c, c->used);
    c->state = COMMAND;
    c->chunked = true;
    say(c, "250 2.0.0 Ok\r\n");
    return true;
}

static bool command(Connection *c) {
    char *line = c->in.at + c->used;
    char *feed = memchr(line, '\n', c->in.size - c->used);
    if (!feed) return false;
    c->used = feed + 1 - c->in.at;
    switch (line[0] | 32) {
    case 'e':
        say(c, "250-floor\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 SIZE 100000000\r\n");
        break;
    case 'd':
        c->state = TEXT;
        c->dots = 0;
        c->scanned = c->used - 1; /* the line feed that a first dot would follow */
        say(c, "354 End data with <CR><LF>.<CR><LF>\r\n");
        break;
    case 'b':
        c->state = CHUNK;
        c->chunk = strtoul(line + 4, NULL, 10);
        c->last = memmem(line, feed - line, "LAST", 4) != NULL;
        break;
    case 'q':
        say(c, "221 2.0.0 Bye\r\n");
        break;
    default:
        say(c, "250 2.1.0 Ok\r\n");
    }
    return true;
}

static void understand(Connection *c) {
    bool more = true;
    while (more && c->used < c->in.size) {
        switch (c->state) {
        case COMMAND: more = command(c); break;
        case TEXT: more = text(c); break;
        case CHUNK: more = chunk(c); break;
        case STORING: more = false; break;
        }
    }
    /* What stands before a message is kept until it is stored, and then goes with it. */
    bool kept = c->state != COMMAND || c->chunked;
    if (!kept && c->used == c->in.size) c->in.size = c->used = 0;
    flush(c);
}

static void forget(Connection *c) {
    close(c->socket);
    c->socket = -1;
    c->next = gone;
    gone = c;
}

static void free_gone(void) {
    while (gone) {
        Connection *c = gone;
        gone = c->next;
        free(c->in.at);
        free(c->out.at);
        free(c);
    }
}

static void receive(Connection *c, bool to_the_end) {
    if (c->socket < 0) return;
    for (;;) {
        make_room(&c->in, 4 << 10);
        size_t room = c->in.room - c->in.size;
        ssize_t got = recv(c->socket, c->in.at + c->in.size, room, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            c->closed = true;
            break;
        }
        if (got < 0) break;
        c->in.size += got;
        if ((size_t)got < room && !to_the_end) break;
    }
    if (c->state != STORING) understand(c);
    if (c->closed && c->state != STORING) forget(c);
}

static void watch(int fd, void *what, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    need(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void accept_all(int listener) {
    int one = 1, socket;
    while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Connection *c = calloc(1, sizeof *c);
        need(c != NULL, "calloc");
        c->socket = socket;
        watch(socket, c, EPOLLIN | EPOLLRDHUP | EPOLLET);
        say(c, "220 floor ESMTP\r\n");
        flush(c);
    }
}

static void answer_stored(void) {
    uint64_t count;
    need(read(wake, &count, sizeof count) == sizeof count, "eventfd");
    pthread_mutex_lock(&shared.lock);
    Connection *done = shared.done;
    shared.done = NULL;
    pthread_mutex_unlock(&shared.lock);
    while (done) {
        Connection *c = done;
        done = c->next;
        memmove(c->in.at, c->in.at + c->used, c->in.size - c->used);
        c->in.size -= c->used;
        c->used = 0;
        c->state = COMMAND;
        say(c, ACCEPTED);
        understand(c);
        if (c->closed) forget(c);
    }
}

static int listen_on(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    need(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
    need(listen(listener, BACKLOG) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("ready smtp=127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **words) {
    if (count != 3) {
        fputs("usage: floor PORT FILE\n", stderr);
        return 64;
    }
    if (strcmp(words[2], "-") != 0) {
        file = open(words[2], O_CREAT | O_TRUNC | O_WRONLY, 0600);
        need(file >= 0, words[2]);
        pthread_t thread;
        need(pthread_create(&thread, NULL, store, NULL) == 0, "pthread_create");
    }
    poller = epoll_create1(0);
    wake = eventfd(0, EFD_NONBLOCK);
    int listener = listen_on(atoi(words[1]));
    /* The two that are no connections are known by their addresses. */
    watch(listener, &listener, EPOLLIN);
    watch(wake, &wake, EPOLLIN);
    for (;;) {
        struct epoll_event events[TURN_EVENTS_MAX];
        int ready = epoll_wait(poller, events, TURN_EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            void *what = events[i].data.ptr;
            if (what == &listener) accept_all(listener);
            else if (what == &wake) answer_stored();
            else receive(what, events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
        }
        free_gone();
        /* Once a turn, so that a turn's messages share a sync. */
        if (file >= 0) {
            pthread_mutex_lock(&shared.lock);
            if (shared.stored) pthread_cond_signal(&shared.filled);
            pthread_mutex_unlock(&shared.lock);
        }
    }
}

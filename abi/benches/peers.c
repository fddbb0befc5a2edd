/* What others take for the same: a bare epoll loop, and libev. Each function returns nanoseconds for each of
   its rounds. */
#include <ev.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static uint64_t drawn = 88172645463325252u;

static uint64_t draw(void)
{
    drawn ^= drawn << 13;
    drawn ^= drawn >> 7;
    drawn ^= drawn << 17;
    return drawn;
}

/* A step is held, and handed back by the callback of its descriptor. */
struct step {
    int fd;
    long left;
};

static void hold(struct step *step)
{
    uint64_t one = 1;
    if (write(step->fd, &one, sizeof one) != sizeof one) abort();
}

static void hand_back(struct step *step)
{
    uint64_t value;
    if (read(step->fd, &value, sizeof value) != sizeof value) abort();
    step->left--;
}

double epoll_handovers(long rounds)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct step step = {eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), rounds};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &step};
    epoll_ctl(set, EPOLL_CTL_ADD, step.fd, &event);
    double start = now_ns();
    while (step.left > 0) {
        hold(&step);
        struct epoll_event ready[256];
        int count = epoll_wait(set, ready, 256, -1);
        for (int at = 0; at < count; at++) hand_back(ready[at].data.ptr);
    }
    double taken = now_ns() - start;
    close(step.fd);
    close(set);
    return taken / rounds;
}

static void on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct step *step = io->data;
    (void)events;
    hand_back(step);
    if (step->left == 0)
        ev_break(loop, EVBREAK_ALL);
    else
        hold(step);
}

double libev_handovers(long rounds)
{
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL);
    struct step step = {eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), rounds};
    ev_io io;
    ev_io_init(&io, on_ready, step.fd, EV_READ);
    io.data = &step;
    ev_io_start(loop, &io);
    double start = now_ns();
    hold(&step);
    ev_run(loop, 0);
    double taken = now_ns() - start;
    ev_io_stop(loop, &io);
    ev_loop_destroy(loop);
    close(step.fd);
    return taken / rounds;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)timer, (void)events;
}

static struct ev_loop *timers_loop;
static ev_timer *timers;
static long timers_count;

/* Which timers are given which times. */
enum { ANY_TO_ANY, ANY_OFF, EACH_OFF };

/* Arms so many timers, of any times or of one time. */
void libev_arm(long count, int which)
{
    timers_loop = ev_loop_new(EVBACKEND_EPOLL);
    timers = calloc(count, sizeof *timers);
    timers_count = count;
    for (long at = 0; at < count; at++) {
        ev_timer_init(&timers[at], on_timer, 0., which == EACH_OFF ? 300. : .001 * (1 + draw() % 300000));
        ev_timer_again(timers_loop, &timers[at]);
    }
}

/* Gives timers new times: any timer any time; any timer the whole time from now, which goes on by a second
   in 100,000 rounds; or one timer after the other the same. */
double libev_rearm(long rounds, int which)
{
    static long next;
    double start = now_ns();
    for (long round = 0; round < rounds; round++) {
        next++;
        ev_timer *timer = &timers[which == EACH_OFF ? next % timers_count : draw() % timers_count];
        if (which == ANY_TO_ANY) timer->repeat = .001 * (1 + draw() % 300000);
        if (which == ANY_OFF) timer->repeat = 300. + .00001 * next;
        ev_timer_again(timers_loop, timer);
    }
    return (now_ns() - start) / rounds;
}

void libev_disarm(void)
{
    for (long at = 0; at < timers_count; at++) ev_timer_stop(timers_loop, &timers[at]);
    ev_loop_destroy(timers_loop);
    free(timers);
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A kick runs the queue, the port's handle and the queue's wake_at_ns wake it. Each answers with events, which
 * server_queue_events acts on: call line, error line, another turn at the end of the loop's list, a note to the
 * control thread. Nothing here calls the state machine: stops and breakages reach it by message.
 *
 * A queue gets its place, and with it its thread, when it first gets a kick line or is to be polled, so queues that a
 * driver never uses cost nothing. It keeps the place until the end.
 *
 * A queue that has nothing left to do looks on before it sleeps, if its policy says so and for as long as that says
 * (poll_policy.h), or for as long as it runs. Meanwhile kicks are off, what the driver offered is served and shown in
 * small pieces, and the loop gets its turn after a burst, after POLL_TURN_NS, and as soon as another thread has a
 * message. Before sleeping kicks are turned on, the ring is looked at once more, and the port is told to use its
 * handle: docs/decisions/0009-adaptive-polling.md.
 *
 * A ring without a kick line is looked at again and again: after POLL_PAUSE_MIN_NS when something came, and then in
 * pauses that double up to POLL_PAUSE_MAX_NS. So an idle polled ring costs a thousand wakes a second, and a request
 * that comes after a long silence waits up to a millisecond. Such a pause is a sleep like any other, before which a
 * queue may look on; one that looks always has no pauses.
 *
 * Limits
 *
 * A line that was handed over and cannot be watched makes the front end unusable: it is disconnected.
 */
#include "platform/linux/server_queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define POLL_PAUSE_MIN_NS 10000u
#define POLL_PAUSE_MAX_NS 1000000u

/* A source of entropy that has none and cannot be polled (some hardware generators) is asked again after this. */
#define PORT_RETRY_NS 100000000u

#define SERVER_QUEUE_BURST VIRTIO_BURST_DEFAULT
/* Looks between two looks at the clock, and at what other threads want: about a microsecond. */
#define LOOKS_PER_PIECE 32u
/*
 * While it looks on, what a driver offered is served and shown in pieces of this: the driver refills while the rest is
 * served, and neither side goes to sleep. Each piece costs a turn of the model, and of a disk a system call; smaller
 * ones bring more of that, larger ones leave the driver of a usual depth of 32 nothing to do meanwhile.
 */
#define SERVE_PIECE 16u
/* Always looking: how long before the loop gets its turn, which costs a system call. */
#define POLL_TURN_NS 50000u
/* The same where something may come that only a handle tells of. */
#define POLL_TURN_BLIND_NS 2000u

static struct virtqueue *server_queue_ring(const struct server_queue *queue)
{
    return &queue->device->queues[queue->index];
}

static void server_queue_tell_control(struct server_queue *queue, unsigned what)
{
    atomic_fetch_or(&queue->told, what);
    loop_post(queue->control, &queue->message);
}

/* The driver wants to know that something was used. */
static void server_queue_notify(struct server_queue *queue)
{
    if (queue->call.handle < 0 && queue->notify)
        queue->notify(queue);
    else
        line_signal(&queue->call);
}

static void server_queue_deliver(struct loop_message *message)
{
    struct server_queue *queue = container_of(message, struct server_queue, message);
    unsigned told = atomic_exchange(&queue->told, 0);
    if (told)
        queue->tell(queue, told);
}

/* Of two times, 0 being never. */
static uint64_t earlier_ns(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns == 0 || (b_ns != 0 && b_ns < a_ns) ? b_ns : a_ns;
}

/* When to look next though nobody kicks: the model's wish, or the polled ring's pause. */
static void server_queue_arm(struct server_queue *queue)
{
    const struct virtqueue *ring = server_queue_ring(queue);
    uint64_t at_ns = ring->wake_at_ns;
    queue->poll_at_ns = 0;
    if (queue->polled && ring->state == VIRTQUEUE_RUNNING && !ring->broken && !queue->turn.queued) {
        bool moved = ring->popped_total != queue->polled_popped;
        queue->polled_popped = ring->popped_total;
        uint64_t doubled = u64_min(queue->poll_pause_ns * 2, POLL_PAUSE_MAX_NS);
        queue->poll_pause_ns = moved || doubled == 0 ? POLL_PAUSE_MIN_NS : doubled;
        queue->poll_at_ns = loop_now_ns() + queue->poll_pause_ns;
        at_ns = earlier_ns(at_ns, queue->poll_at_ns);
    }
    if (queue->port_deaf)
        at_ns = earlier_ns(at_ns, loop_now_ns() + PORT_RETRY_NS);
    loop_timer_set(queue->loop, &queue->timer, at_ns);
}

static void server_queue_port_ready(struct loop_watch *watch, unsigned events);

static void server_queue_watch_port(struct server_queue *queue)
{
    const struct server_queue_port *port = queue->port;
    int handle = port->handle ? port->handle(port->context, queue->index) : -1;
    if (handle < 0)
        queue->port_deaf = false; /* or its retries would go on: a handle that cannot be watched left none behind */
    if (handle == queue->port_watch.handle)
        return;
    loop_unwatch(queue->loop, &queue->port_watch);
    queue->port_deaf =
        handle >= 0 && loop_watch(queue->loop, &queue->port_watch, handle, LOOP_READABLE, server_queue_port_ready) < 0;
}

/* May it look on? Not where nobody could tell what it waits for, and not on a loop that others wait for. */
static bool server_queue_may_look(const struct server_queue *queue)
{
    const struct virtqueue *ring = server_queue_ring(queue);
    if (queue->polling == SERVER_POLLING_OFF || !queue->own_loop || ring->state != VIRTQUEUE_RUNNING || ring->broken)
        return false;
    if (queue->polling == SERVER_POLLING_ALWAYS)
        return true;
    return ring->wake_at_ns == 0 && (ring->out_count == 0 ? !ring->starved : queue->port->ready != NULL);
}

/* For how long, when nothing is left to do. 0: not at all. */
static uint32_t server_queue_look_ns(const struct server_queue *queue)
{
    const struct virtqueue *ring = server_queue_ring(queue);
    if (!server_queue_may_look(queue))
        return 0;
    if (queue->polling == SERVER_POLLING_ADAPTIVE)
        return poll_policy_look_ns(&queue->policy);
    bool blind =
        ring->wake_at_ns != 0 || queue->port_deaf ||
        (queue->port_watch.handle >= 0 && !queue->port->ready && (ring->out_count > 0 || queue->port->handle_changes));
    return blind ? POLL_TURN_BLIND_NS : POLL_TURN_NS;
}

/* Is there something to do? Then what. */
static inline bool server_queue_find(const struct server_queue *queue, enum server_queue_next *ret_next)
{
    const struct virtqueue *ring = server_queue_ring(queue);
    const struct server_queue_port *port = queue->port;
    /* A starved queue has left requests in the ring: those that come back make it go on. */
    if (!ring->starved && virtqueue_fresh(ring))
        *ret_next = SERVER_QUEUE_RUN;
    else if (ring->out_count > 0 && port->ready && port->ready(port->context, queue->index))
        *ret_next = SERVER_QUEUE_WAKE;
    else
        return false;
    return true;
}

/* A piece of looks is over. The least that one took is believed, or nearly: in the others something else ran. */
static void server_queue_judge_piece(struct server_queue *queue, uint64_t took_ns)
{
    uint32_t piece_ns = (uint32_t)u64_min(took_ns, POLL_LOOK_NS_MAX);
    bool less = queue->piece_ns == 0 || piece_ns < queue->piece_ns;
    queue->piece_ns = less ? piece_ns : queue->piece_ns + (queue->piece_ns + 63) / 64;
}

/* Look on for up to @most_ns. The clock is read between pieces alone: at a find, the looks since then tell the time. */
static bool server_queue_look_on(struct server_queue *queue, uint32_t most_ns, enum server_queue_next *ret_next)
{
    uint64_t began_ns = loop_now_ns(), now_ns = began_ns;
    unsigned looks = 0;
    bool found = false, called = false;
    do {
        for (looks = 0; looks < LOOKS_PER_PIECE; looks++) {
            found = server_queue_find(queue, ret_next);
            if (found)
                break;
            cpu_relax();
        }
        if (found)
            break;
        uint64_t before_ns = now_ns;
        looks = 0;
        now_ns = loop_now_ns();
        server_queue_judge_piece(queue, now_ns - before_ns);
        called = loop_called(queue->own_loop);
    } while (now_ns - began_ns < most_ns && !called);
    uint64_t looked_ns = now_ns - began_ns + (uint64_t)looks * queue->piece_ns / LOOKS_PER_PIECE;
    queue->looks_total++;
    queue->looks_paid_total += found;
    queue->looked_ns += looked_ns;
    if (queue->polling == SERVER_POLLING_ADAPTIVE && !called)
        poll_policy_looked(&queue->policy, looked_ns, found);
    return found;
}

/*
 * Serve up to a burst, beginning with @next, and look on when nothing is left, if that is to be. Returns events,
 * notifications left out; with AGAIN, queue->next says with what to come back.
 */
static unsigned server_queue_serve(struct server_queue *queue, enum server_queue_next next)
{
    struct virtqueue *ring = server_queue_ring(queue);
    unsigned left = SERVER_QUEUE_BURST, events = 0;
    bool ran = false;
    bool attends = server_queue_look_ns(queue) > 0;
    ring->attended = attends;
    if (attends && next == SERVER_QUEUE_WAKE)
        virtqueue_kicks_off(ring); /* a run does so by itself */
    for (;;) {
        if (next == SERVER_QUEUE_LOOK) {
            uint32_t look_ns = attends ? server_queue_look_ns(queue) : 0;
            if (look_ns == 0 || !server_queue_look_on(queue, look_ns, &next))
                break;
        }
        ran = true;
        uint64_t before = ring->popped_total;
        unsigned burst = attends ? u32_min(SERVE_PIECE, left) : left;
        unsigned now = next == SERVER_QUEUE_WAKE ? virtio_device_wake(queue->device, queue->index, burst)
                                                 : virtio_device_run(queue->device, queue->index, burst);
        if (now & VIRTIO_EVENT_NOTIFY)
            server_queue_notify(queue);
        events = (events & ~(unsigned)VIRTIO_EVENT_AGAIN) | (now & ~(unsigned)VIRTIO_EVENT_NOTIFY);
        uint64_t popped = ring->popped_total - before;
        left -= popped > 0 ? (unsigned)u64_min(popped, left) : 1;
        if (left == 0)
            break;
        if (now & VIRTIO_EVENT_AGAIN)
            next = SERVER_QUEUE_RUN;
        else if (next == SERVER_QUEUE_RUN && attends && popped == 0 && !ring->starved && virtqueue_fresh_once(ring))
            continue; /* it came meanwhile, or the device leaves it there: then this is its last run for it */
        else
            next = SERVER_QUEUE_LOOK;
    }
    ring->attended = false;
    if (ran && queue->port->handle_changes)
        server_queue_watch_port(queue);
    if (attends && left == 0)
        events |= VIRTIO_EVENT_AGAIN; /* kicks are off: come back after the others had their turn */
    else if (attends && !(queue->polling == SERVER_POLLING_ALWAYS && server_queue_may_look(queue)))
        events |= virtio_device_rest(queue->device, queue->index);
    if (events & VIRTIO_EVENT_AGAIN)
        queue->next = SERVER_QUEUE_RUN;
    return events;
}

/* It goes to sleep, unless the port has something already. */
static void server_queue_rest(struct server_queue *queue)
{
    const struct virtqueue *ring = server_queue_ring(queue);
    const struct server_queue_port *port = queue->port;
    if (ring->out_count > 0 && port->rest && port->rest(port->context, queue->index)) {
        queue->port_waits = true;
        loop_task_queue(queue->loop, &queue->turn);
        return;
    }
    if (queue->asleep || ring->state != VIRTQUEUE_RUNNING)
        return;
    queue->asleep = true;
    queue->sleeps_total++;
    if (queue->polling != SERVER_POLLING_ADAPTIVE || !server_queue_may_look(queue))
        return;
    queue->slept_at_ns = loop_now_ns();
    if (poll_policy_wants_price(&queue->policy))
        loop_measure_wait(queue->loop);
}

/* Its sleep is over, by work that has come if @by_work. */
static void server_queue_awake(struct server_queue *queue, bool by_work)
{
    if (queue->slept_at_ns != 0 && by_work) {
        uint64_t price_ns = loop_measured_wait(queue->loop);
        if (price_ns != 0)
            poll_policy_price(&queue->policy, price_ns);
        poll_policy_slept(&queue->policy, loop_now_ns() - queue->slept_at_ns);
    }
    queue->slept_at_ns = 0;
    queue->asleep = false;
}

/* Do what @events and the state of the queue ask for. */
static void server_queue_act(struct server_queue *queue, unsigned events)
{
    if (events & VIRTIO_EVENT_NOTIFY)
        server_queue_notify(queue);
    if (events & VIRTIO_EVENT_AGAIN)
        loop_task_queue(queue->loop, &queue->turn);
    if (events & VIRTIO_EVENT_NEEDS_RESET) {
        line_signal(&queue->error);
        server_queue_tell_control(queue, SERVER_QUEUE_BROKEN);
    }
    if (events & VIRTIO_EVENT_STOPPED)
        server_queue_tell_control(queue, SERVER_QUEUE_STOPPED);
    if (queue->polling == SERVER_POLLING_ALWAYS && server_queue_may_look(queue))
        loop_task_queue(queue->loop, &queue->turn);
    if (!queue->turn.queued)
        server_queue_rest(queue);
    server_queue_arm(queue);
}

void server_queue_events(struct server_queue *queue, unsigned events)
{
    if (!queue->loop) {
        queue->pending_events |= events;
        return;
    }
    if (events & VIRTIO_EVENT_AGAIN)
        queue->next = SERVER_QUEUE_RUN;
    if (queue->port->handle_changes)
        server_queue_watch_port(queue);
    server_queue_act(queue, events);
}

static void server_queue_turn(struct loop_task *task)
{
    struct server_queue *queue = container_of(task, struct server_queue, turn);
    enum server_queue_next next = queue->next;
    server_queue_awake(queue, false);
    queue->next = SERVER_QUEUE_LOOK;
    if (!queue->port_waits) {
        server_queue_act(queue, server_queue_serve(queue, next));
        return;
    }
    queue->port_waits = false;
    unsigned events = server_queue_serve(queue, SERVER_QUEUE_WAKE);
    if (next == SERVER_QUEUE_RUN) {
        queue->next = SERVER_QUEUE_RUN; /* that is still to be done */
        events |= VIRTIO_EVENT_AGAIN;
    }
    server_queue_act(queue, events);
}

static void server_queue_kicked(struct loop_watch *watch, unsigned events)
{
    struct server_queue *queue = container_of(watch, struct server_queue, kick_watch);
    (void)events;
    if (!line_drain(&queue->kick))
        loop_unwatch(queue->loop, watch); /* the other end is closed: it would be told for ever */
    /* With a turn in the list already, kicks do not get it another one before the others; but that one is to see it. */
    if (queue->turn.queued) {
        queue->next = SERVER_QUEUE_RUN;
        return;
    }
    server_queue_awake(queue, true);
    server_queue_act(queue, server_queue_serve(queue, SERVER_QUEUE_RUN));
}

static void server_queue_port_ready(struct loop_watch *watch, unsigned events)
{
    struct server_queue *queue = container_of(watch, struct server_queue, port_watch);
    if (events & LOOP_HANGUP && !(events & LOOP_READABLE))
        loop_unwatch(queue->loop, watch); /* it would be told for ever */
    server_queue_awake(queue, true);
    server_queue_act(queue, server_queue_serve(queue, SERVER_QUEUE_WAKE));
}

static void server_queue_expired(struct loop_timer *timer)
{
    struct server_queue *queue = container_of(timer, struct server_queue, timer);
    uint64_t wake_at_ns = server_queue_ring(queue)->wake_at_ns;
    bool wakes = queue->port_deaf || (wake_at_ns != 0 && wake_at_ns <= loop_now_ns());
    /* In the pauses of a polled ring that stays empty it sleeps on. */
    if (wakes || virtqueue_fresh(server_queue_ring(queue)))
        server_queue_awake(queue, !wakes);
    server_queue_act(queue, server_queue_serve(queue, wakes ? SERVER_QUEUE_WAKE : SERVER_QUEUE_RUN));
}

void server_queue_init(struct server_queue *queue, unsigned index, struct virtio_device *device,
                       struct device_queues *queues, const struct server_queue_port *port, enum server_polling polling,
                       struct loop *control, void (*tell)(struct server_queue *queue, unsigned told))
{
    *queue = (struct server_queue){
        .index = index,
        .device = device,
        .queues = queues,
        .port = port,
        .control = control,
        .kick = LINE_INIT,
        .call = LINE_INIT,
        .error = LINE_INIT,
        .kick_watch = LOOP_WATCH_NONE,
        .port_watch = LOOP_WATCH_NONE,
        .timer.expired = server_queue_expired,
        .turn.run = server_queue_turn,
        .polling = polling,
        .message.deliver = server_queue_deliver,
        .tell = tell,
    };
    poll_policy_init(&queue->policy);
}

void server_queue_close_lines(struct server_queue *queue)
{
    if (queue->loop)
        loop_unwatch(queue->loop, &queue->kick_watch);
    line_close(&queue->kick);
    line_close(&queue->call);
    line_close(&queue->error);
    queue->polled = false;
    if (queue->loop)
        server_queue_arm(queue);
}

static void server_queue_leave(void *argument)
{
    struct server_queue *queue = argument;
    server_queue_close_lines(queue);
    if (!queue->loop)
        return;
    loop_unwatch(queue->loop, &queue->port_watch);
    loop_timer_set(queue->loop, &queue->timer, 0);
    loop_task_drop(queue->loop, &queue->turn);
}

void server_queue_done(struct server_queue *queue)
{
    server_queue_call(queue, server_queue_leave, queue);
    if (queue->own_loop) {
        loop_done(queue->own_loop);
        free(queue->own_loop);
        queue->own_loop = NULL;
    }
    queue->loop = NULL;
    loop_unpost(queue->control, &queue->message);
}

/* Make own_loop, and its thread. */
static int server_queue_make_loop(struct server_queue *queue)
{
    char name[16]; /* what the kernel keeps of a thread's name */
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    int r = loop_init(loop);
    if (r == 0) {
        snprintf(name, sizeof(name), "queue-%u", queue->index);
        r = loop_start_thread(loop, name);
        if (r < 0)
            loop_done(loop);
    }
    if (r < 0)
        free(loop);
    else
        queue->own_loop = loop;
    return r;
}

static int server_queue_watch_kick(struct server_queue *queue)
{
    if (queue->kick.handle < 0)
        return 0;
    return loop_watch(queue->loop, &queue->kick_watch, queue->kick.handle, line_watch_events(&queue->kick),
                      server_queue_kicked);
}

static void server_queue_arrive(void *argument)
{
    struct server_queue *queue = argument;
    if (server_queue_watch_kick(queue) < 0)
        server_queue_tell_control(queue, SERVER_QUEUE_UNUSABLE);
    server_queue_watch_port(queue);
    server_queue_events(queue, queue->pending_events);
    queue->pending_events = 0;
}

bool server_queue_wants_place(const struct server_queue *queue)
{
    return !queue->loop && (queue->kick.handle >= 0 || queue->polled);
}

int server_queue_start_thread(struct server_queue *queue, void (*begins)(void *context), void *context)
{
    ASSERT(!queue->loop && !queue->own_loop);
    int r = server_queue_make_loop(queue);
    if (r == 0 && begins)
        loop_call(queue->own_loop, begins, context);
    return r;
}

int server_queue_pin(struct server_queue *queue, unsigned processor)
{
    ASSERT(queue->own_loop);
    return loop_pin_thread(queue->own_loop, processor);
}

void server_queue_place(struct server_queue *queue, struct loop *loop)
{
    ASSERT(!queue->loop);
    queue->loop = queue->own_loop ? queue->own_loop : loop;
    loop_call(queue->loop, server_queue_arrive, queue);
}

void server_queue_call(struct server_queue *queue, void (*function)(void *argument), void *argument)
{
    if (queue->loop)
        loop_call(queue->loop, function, argument);
    else
        function(argument);
}

static struct line *server_queue_line(struct server_queue *queue, enum queue_line which)
{
    return which == QUEUE_LINE_KICK ? &queue->kick : which == QUEUE_LINE_CALL ? &queue->call : &queue->error;
}

/* @open takes @handle for the line. Then 0, or an error: there is no line, or it cannot be watched. */
static int server_queue_change_line(struct server_queue *queue, enum queue_line which, int handle,
                                    int (*open)(struct line *line, int handle))
{
    struct line *line = server_queue_line(queue, which);
    if (line == &queue->kick) {
        if (queue->loop)
            loop_unwatch(queue->loop, &queue->kick_watch);
        line_clear(line);
        if (handle >= 0)
            device_queues_prepare(queue->queues, queue->index); /* it may start from now on */
    }
    bool unheard = line->handle < 0 && !queue->notify && server_queue_ring(queue)->state != VIRTQUEUE_STOPPED;
    line_close(line);
    if (handle < 0)
        return 0;
    int r = open(line, handle);
    if (r < 0)
        return r;
    if (line == &queue->kick && queue->loop)
        r = server_queue_watch_kick(queue);
    if (line == &queue->call && unheard)
        line_signal(line); /* notifications found no line until now: this one stands for them all */
    return r;
}

void server_queue_set_line(struct server_queue *queue, enum queue_line which, int handle)
{
    if (server_queue_change_line(queue, which, handle, line_open) < 0)
        server_queue_tell_control(queue, SERVER_QUEUE_UNUSABLE);
}

int server_queue_borrow_line(struct server_queue *queue, enum queue_line which, int handle)
{
    return server_queue_change_line(queue, which, handle, line_borrow);
}

void server_queue_set_polled(struct server_queue *queue, bool polled)
{
    if (polled)
        device_queues_prepare(queue->queues, queue->index);
    queue->polled = polled;
    queue->poll_pause_ns = 0;
    if (queue->loop)
        server_queue_arm(queue);
}

void server_queue_look(const struct server_queue *queue, struct server_queue_statistics *ret_statistics)
{
    const struct virtqueue *ring = server_queue_ring(queue);
    *ret_statistics = (struct server_queue_statistics){
        .running = ring->state == VIRTQUEUE_RUNNING,
        .broken = ring->broken,
        .in_flight = ring->out_count,
        .popped_total = ring->popped_total,
        .pushed_total = ring->pushed_total,
        .broken_total = ring->broken_total,
        .broken_reason = ring->broken_reason,
        .looks_total = queue->looks_total,
        .looks_paid_total = queue->looks_paid_total,
        .looked_ns = queue->looked_ns,
        .sleeps_total = queue->sleeps_total,
        .sleep_price_ns = queue->policy.samples > 0 ? queue->policy.price_ns : 0,
    };
}

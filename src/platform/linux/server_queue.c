/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A kick runs the queue, the port's handle and the queue's wake_at_ns wake it. Each answers with events, which
 * server_queue_events acts on: call line, error line, another turn at the end of the loop's list, a note to the
 * control thread. Nothing here calls the state machine: stops and breakages reach it by message.
 *
 * A queue gets its place, and with it its thread, when it first gets a kick line or is to be polled, so queues that a
 * front end never uses cost nothing. It keeps the place until the program ends.
 *
 * A ring without a kick line is looked at again and again: after POLL_PAUSE_MIN_NS when something came, and then in
 * pauses that double up to POLL_PAUSE_MAX_NS. So an idle polled ring costs a thousand wakes a second, and a request
 * that comes after a long silence waits up to a millisecond. Front ends that mind give a kick line.
 *
 * A queue whose kicks come soon after it went to sleep looks on for a while before it does, without asking for kicks,
 * and shows what it has done in small pieces: docs/decisions/0008-looking-on-before-sleeping.md.
 *
 * Limits
 *
 * A line that cannot be watched makes the front end unusable: it is disconnected.
 */
#include "platform/linux/server_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define POLL_PAUSE_MIN_NS 10000u
#define POLL_PAUSE_MAX_NS 1000000u

/* A source of entropy that has none and cannot be polled (some hardware generators) is asked again after this. */
#define PORT_RETRY_NS 100000000u

#define SERVER_QUEUE_BURST VIRTIO_BURST_DEFAULT
/*
 * Lingering: to sleep and be woken costs both sides about this much together (3 us on bare metal, over 20 in a virtual
 * machine), so looking on for as long at most doubles the price of a guess that was wrong.
 */
#define LINGER_NS 20000u
/* Looks at the ring between two looks at the clock. */
#define LINGER_LOOKS 32
/*
 * While it lingers, what a driver offered is served and shown in pieces as small as this: it refills while the rest is
 * served, and neither side goes to sleep.
 */
#define LINGER_PIECE 4
static_assert(SERVER_QUEUE_BURST % LINGER_PIECE == 0, "a burst is used up to the last request");
/* After a vain look, so many kicks that came soon are let pass before the next one: doubled with each, up to the most.
 */
#define LINGER_PAUSE_MIN 2u
#define LINGER_PAUSE_MAX 64u

static struct virtqueue *server_queue_ring(const struct server_queue *queue)
{
    return &queue->device->queues[queue->index];
}

static void server_queue_tell_control(struct server_queue *queue, unsigned what)
{
    atomic_fetch_or(&queue->told, what);
    loop_post(queue->control, &queue->message);
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
    if (handle == queue->port_watch.handle)
        return;
    loop_unwatch(queue->loop, &queue->port_watch);
    queue->port_deaf =
        handle >= 0 && loop_watch(queue->loop, &queue->port_watch, handle, LOOP_READABLE, server_queue_port_ready) < 0;
}

void server_queue_events(struct server_queue *queue, unsigned events)
{
    if (!queue->loop) {
        queue->pending_events |= events;
        return;
    }
    if (events & VIRTIO_EVENT_NOTIFY)
        line_signal(&queue->call);
    if (events & VIRTIO_EVENT_AGAIN)
        loop_task_queue(queue->loop, &queue->turn);
    if (events & VIRTIO_EVENT_NEEDS_RESET) {
        line_signal(&queue->error);
        server_queue_tell_control(queue, SERVER_QUEUE_BROKEN);
    }
    if (events & VIRTIO_EVENT_STOPPED)
        server_queue_tell_control(queue, SERVER_QUEUE_STOPPED);
    if (queue->port->handle_changes)
        server_queue_watch_port(queue);
    server_queue_arm(queue);
}

/*
 * Look on for a while before going to sleep: true when something came. Only on a thread of its own, where nobody is
 * kept waiting, and only with nothing in flight, since completions come by the loop.
 */
static bool server_queue_linger(struct server_queue *queue)
{
    struct virtqueue *ring = server_queue_ring(queue);
    if (!ring->attended || ring->out_count > 0 || ring->wake_at_ns != 0 || ring->state != VIRTQUEUE_RUNNING ||
        ring->broken || ring->starved)
        return false;
    queue->idle_since_ns = loop_now_ns();
    do {
        for (unsigned i = 0; i < LINGER_LOOKS; i++) {
            if (virtqueue_fresh(ring)) {
                queue->linger_pause = queue->linger_pause / 2 | LINGER_PAUSE_MIN;
                return true;
            }
            cpu_relax();
        }
    } while (loop_now_ns() - queue->idle_since_ns < LINGER_NS);
    queue->linger_pause = u32_min(queue->linger_pause * 2, LINGER_PAUSE_MAX);
    queue->linger_skip = queue->linger_pause;
    queue->lingers = false;
    return false;
}

/* A kick has come: would lingering have caught it? */
static void server_queue_judge_kick(struct server_queue *queue)
{
    if (!queue->own_loop || loop_now_ns() - queue->idle_since_ns >= LINGER_NS)
        return;
    if (queue->linger_skip > 0)
        queue->linger_skip--;
    else
        queue->lingers = true;
}

/* Serve up to a burst, or pieces of it while lingering. Returns the last answer's AGAIN, and all other events. */
static unsigned server_queue_serve(struct server_queue *queue, bool *ret_spent)
{
    unsigned left = SERVER_QUEUE_BURST;
    unsigned piece = server_queue_ring(queue)->attended ? LINGER_PIECE : SERVER_QUEUE_BURST;
    unsigned events = 0;
    for (;;) {
        unsigned now = virtio_device_run(queue->device, queue->index, piece);
        left -= piece;
        if (now & VIRTIO_EVENT_NOTIFY)
            line_signal(&queue->call);
        events = (events & ~(unsigned)VIRTIO_EVENT_AGAIN) | (now & ~(unsigned)VIRTIO_EVENT_NOTIFY);
        *ret_spent = left == 0;
        if (left == 0 || !(now & VIRTIO_EVENT_AGAIN || server_queue_linger(queue)))
            return events;
    }
}

static void server_queue_run(struct server_queue *queue)
{
    struct virtqueue *ring = server_queue_ring(queue);
    bool attended = queue->lingers, spent;
    ring->attended = attended;
    if (queue->own_loop)
        queue->idle_since_ns = 0;
    unsigned events = server_queue_serve(queue, &spent);
    ring->attended = false;
    if (attended && spent)
        events |= VIRTIO_EVENT_AGAIN; /* kicks are off: come back after the others had their turn */
    else if (attended)
        events |= virtio_device_rest(queue->device, queue->index);
    if (queue->own_loop && queue->idle_since_ns == 0)
        queue->idle_since_ns = loop_now_ns();
    server_queue_events(queue, events);
}

static void server_queue_wake(struct server_queue *queue)
{
    server_queue_events(queue, virtio_device_wake(queue->device, queue->index, SERVER_QUEUE_BURST));
}

static void server_queue_turn(struct loop_task *task)
{
    struct server_queue *queue = container_of(task, struct server_queue, turn);
    server_queue_run(queue);
}

static void server_queue_kicked(struct loop_watch *watch, unsigned events)
{
    struct server_queue *queue = container_of(watch, struct server_queue, kick_watch);
    (void)events;
    if (!line_drain(&queue->kick))
        loop_unwatch(queue->loop, watch); /* the other end is closed: it would be told for ever */
    /* With a turn in the list already, kicks do not get it another one before the others. */
    if (queue->turn.queued)
        return;
    server_queue_judge_kick(queue);
    server_queue_run(queue);
}

static void server_queue_port_ready(struct loop_watch *watch, unsigned events)
{
    struct server_queue *queue = container_of(watch, struct server_queue, port_watch);
    if (events & LOOP_HANGUP && !(events & LOOP_READABLE))
        loop_unwatch(queue->loop, watch); /* it would be told for ever */
    server_queue_wake(queue);
}

static void server_queue_expired(struct loop_timer *timer)
{
    struct server_queue *queue = container_of(timer, struct server_queue, timer);
    uint64_t now_ns = loop_now_ns();
    uint64_t wake_at_ns = server_queue_ring(queue)->wake_at_ns;
    if (queue->port_deaf || (wake_at_ns != 0 && wake_at_ns <= now_ns))
        server_queue_wake(queue);
    else
        server_queue_run(queue);
}

void server_queue_init(struct server_queue *queue, unsigned index, struct virtio_device *device,
                       struct device_queues *queues, const struct server_queue_port *port, struct loop *control,
                       void (*tell)(struct server_queue *queue, unsigned told))
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
        .linger_pause = LINGER_PAUSE_MIN,
        .message.deliver = server_queue_deliver,
        .tell = tell,
    };
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
}

static struct loop *server_queue_make_loop(struct server_queue *queue)
{
    char name[16]; /* what the kernel keeps of a thread's name */
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return NULL;
    if (loop_init(loop) == 0) {
        snprintf(name, sizeof(name), "queue-%u", queue->index);
        if (loop_start_thread(loop, name) == 0)
            return loop;
        loop_done(loop);
    }
    free(loop);
    return NULL;
}

static void server_queue_watch_kick(struct server_queue *queue)
{
    if (queue->kick.handle < 0)
        return;
    if (loop_watch(queue->loop, &queue->kick_watch, queue->kick.handle, line_watch_events(&queue->kick),
                   server_queue_kicked) < 0)
        server_queue_tell_control(queue, SERVER_QUEUE_UNUSABLE);
}

static void server_queue_arrive(void *argument)
{
    struct server_queue *queue = argument;
    server_queue_watch_kick(queue);
    server_queue_watch_port(queue);
    server_queue_events(queue, queue->pending_events);
    queue->pending_events = 0;
}

bool server_queue_wants_place(const struct server_queue *queue)
{
    return !queue->loop && (queue->kick.handle >= 0 || queue->polled);
}

void server_queue_place(struct server_queue *queue, bool own_thread)
{
    ASSERT(!queue->loop);
    if (own_thread)
        queue->own_loop = server_queue_make_loop(queue);
    queue->loop = queue->own_loop ? queue->own_loop : queue->control;
    loop_call(queue->loop, server_queue_arrive, queue);
}

void server_queue_call(struct server_queue *queue, void (*function)(void *argument), void *argument)
{
    if (queue->loop)
        loop_call(queue->loop, function, argument);
    else
        function(argument);
}

void server_queue_set_line(struct server_queue *queue, enum vhost_user_line which, int handle)
{
    struct line *line = which == VHOST_USER_LINE_KICK   ? &queue->kick
                        : which == VHOST_USER_LINE_CALL ? &queue->call
                                                        : &queue->error;
    if (line == &queue->kick) {
        if (queue->loop)
            loop_unwatch(queue->loop, &queue->kick_watch);
        line_clear(line);
        if (handle >= 0)
            device_queues_prepare(queue->queues, queue->index); /* it may start from now on */
    }
    bool unheard = line->handle < 0 && server_queue_ring(queue)->state != VIRTQUEUE_STOPPED;
    line_close(line);
    if (handle < 0)
        return;
    if (line_open(line, handle) < 0) {
        server_queue_tell_control(queue, SERVER_QUEUE_UNUSABLE);
        return;
    }
    if (line == &queue->kick && queue->loop)
        server_queue_watch_kick(queue);
    if (line == &queue->call && unheard)
        line_signal(line); /* notifications found no line until now: this one stands for them all */
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
    };
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/linux/loop.h"

/* What happened, in order, as letters. */
static char story[64];

static void tell(char letter)
{
    size_t length = strlen(story);
    assert_true(length < sizeof(story) - 1);
    story[length] = letter;
    story[length + 1] = '\0';
}

static struct loop loop;

static int set_up(void **state)
{
    (void)state;
    story[0] = '\0';
    return loop_init(&loop);
}

static int tear_down(void **state)
{
    (void)state;
    loop_done(&loop);
    return 0;
}

struct event_watch {
    struct loop_watch watch;
    struct loop_watch *unwatch; /* when it is told */
    unsigned told, stop_after;
};

static int event_ready(void)
{
    int handle = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(handle >= 0);
    return handle;
}

static void event_told(struct loop_watch *watch, unsigned events)
{
    struct event_watch *event = container_of(watch, struct event_watch, watch);
    assert_true(events & LOOP_READABLE);
    tell('w');
    event->told++;
    if (event->unwatch)
        loop_unwatch(&loop, event->unwatch);
    if (event->told >= event->stop_after)
        loop_stop(&loop);
}

static void a_watch_that_an_earlier_handler_took_back_is_not_told(void **state)
{
    (void)state;
    struct event_watch first = {.stop_after = 1}, second = {.stop_after = 1};
    int handles[2] = {event_ready(), event_ready()};
    first.unwatch = &second.watch;
    second.unwatch = &first.watch;
    assert_int_equal(loop_watch(&loop, &first.watch, handles[0], LOOP_READABLE, event_told), 0);
    assert_int_equal(loop_watch(&loop, &second.watch, handles[1], LOOP_READABLE, event_told), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(first.told + second.told, 1);
    close(handles[0]);
    close(handles[1]);
}

struct writer {
    struct loop_task task;
    int handle;
};

static void write_again(struct loop_task *task)
{
    const struct writer *writer = container_of(task, struct writer, task);
    uint64_t one = 1;
    assert_int_equal(write(writer->handle, &one, sizeof(one)), sizeof(one));
    loop_task_queue(&loop, task);
}

static void an_edge_watch_tells_each_write_though_nobody_reads(void **state)
{
    (void)state;
    struct event_watch event = {.stop_after = 3};
    struct writer writer = {.task.run = write_again, .handle = event_ready()};
    assert_int_equal(loop_watch(&loop, &event.watch, writer.handle, LOOP_READABLE | LOOP_EDGE, event_told), 0);
    loop_task_queue(&loop, &writer.task);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(event.told, 3);
    loop_task_drop(&loop, &writer.task);
    loop_unwatch(&loop, &event.watch);
    close(writer.handle);
}

static void a_regular_file_cannot_be_watched(void **state)
{
    (void)state;
    struct loop_watch watch = LOOP_WATCH_NONE;
    int handle = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(loop_watch(&loop, &watch, handle, LOOP_READABLE, event_told), -EPERM);
    assert_int_equal(watch.handle, -1);
    close(handle);
}

struct counted_task {
    struct loop_task task;
    char letter;
    unsigned left;
};

static void run_counted(struct loop_task *task)
{
    struct counted_task *counted = container_of(task, struct counted_task, task);
    tell(counted->letter);
    if (--counted->left > 0)
        loop_task_queue(&loop, task);
    else
        loop_stop(&loop);
}

static void a_task_that_queues_itself_lets_the_others_have_their_turn(void **state)
{
    (void)state;
    struct counted_task a = {.task.run = run_counted, .letter = 'a', .left = 3};
    struct counted_task b = {.task.run = run_counted, .letter = 'b', .left = 3};
    loop_task_queue(&loop, &a.task);
    loop_task_queue(&loop, &b.task);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(story, "ababab");
}

static void a_dropped_task_does_not_run(void **state)
{
    (void)state;
    struct counted_task a = {.task.run = run_counted, .letter = 'a', .left = 1};
    struct counted_task b = {.task.run = run_counted, .letter = 'b', .left = 1};
    struct counted_task c = {.task.run = run_counted, .letter = 'c', .left = 1};
    loop_task_queue(&loop, &a.task);
    loop_task_queue(&loop, &b.task);
    loop_task_drop(&loop, &b.task);
    loop_task_queue(&loop, &c.task);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(story, "ac");
}

struct letter_timer {
    struct loop_timer timer;
    char letter;
    unsigned left;
};

static void expire(struct loop_timer *timer)
{
    struct letter_timer *letter = container_of(timer, struct letter_timer, timer);
    tell(letter->letter);
    if (--letter->left > 0)
        loop_timer_set(&loop, timer, 1); /* long ago */
    else if (letter->letter == 'z')
        loop_stop(&loop);
}

static void timers_expire_in_the_order_of_their_times(void **state)
{
    (void)state;
    struct letter_timer last = {.timer.expired = expire, .letter = 'z', .left = 1};
    struct letter_timer first = {.timer.expired = expire, .letter = 'a', .left = 1};
    struct letter_timer second = {.timer.expired = expire, .letter = 'b', .left = 1};
    struct letter_timer disarmed = {.timer.expired = expire, .letter = 'x', .left = 1};
    uint64_t now_ns = loop_now_ns();
    loop_timer_set(&loop, &last.timer, now_ns + 2000000);
    loop_timer_set(&loop, &second.timer, now_ns + 1000000);
    loop_timer_set(&loop, &disarmed.timer, now_ns);
    loop_timer_set(&loop, &first.timer, now_ns);
    loop_timer_set(&loop, &disarmed.timer, 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_true(loop_now_ns() >= now_ns + 2000000);
    assert_string_equal(story, "abz");
}

#if !defined(TEST_IN_USER_EMULATION) && defined(SYS_epoll_pwait2) /* QEMU has no seccomp */
struct refusal {
    unsigned error;
    int result;
    bool expired;
};

/* A thread without epoll_pwait2, since a filter is of the thread that asks for it. */
static void *wait_without_the_call(void *argument)
{
    struct refusal *refusal = argument;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | refusal->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = ARRAY_SIZE(code), .filter = code};
    struct letter_timer timer = {.timer.expired = expire, .letter = 'a', .left = 1};
    struct loop own;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ||
        syscall(SYS_epoll_pwait2, -1, NULL, 0, NULL, NULL, 0) != -1 || errno != (int)refusal->error) {
        refusal->result = -ENOTSUP;
        return NULL;
    }
    refusal->result = loop_init(&own);
    if (refusal->result < 0)
        return NULL;
    loop_timer_set(&own, &timer.timer, loop_now_ns() + 1000000);
    while (refusal->result == 0 && own.timers != NULL)
        refusal->result = loop_turn(&own, UINT64_MAX);
    refusal->expired = timer.left == 0;
    loop_done(&own);
    return NULL;
}

static void timers_expire_where_the_newer_call_is_absent_or_forbidden(void **state)
{
    static const unsigned errors[] = {ENOSYS, EPERM};
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        struct refusal refusal = {.error = errors[i]};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wait_without_the_call, &refusal), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (refusal.result == -ENOTSUP) {
            print_message("no seccomp filter is to be had here\n");
            skip();
        }
        assert_int_equal(refusal.result, 0);
        assert_true(refusal.expired);
    }
}
#endif

static void a_timer_that_sets_itself_for_the_past_does_not_keep_others_waiting(void **state)
{
    (void)state;
    struct letter_timer greedy = {.timer.expired = expire, .letter = 'g', .left = 1000};
    struct letter_timer other = {.timer.expired = expire, .letter = 'z', .left = 1};
    loop_timer_set(&loop, &greedy.timer, 1);
    loop_timer_set(&loop, &other.timer, 2);
    assert_int_equal(loop_run(&loop), 0);
    assert_true(strlen(story) <= 3);
    loop_timer_set(&loop, &greedy.timer, 0);
}

struct thread_note {
    pthread_t thread;
    unsigned calls;
};

static void note_thread(void *argument)
{
    struct thread_note *note = argument;
    note->thread = pthread_self();
    note->calls++;
}

static void a_call_is_made_at_once_on_the_own_thread_and_has_returned_from_another(void **state)
{
    (void)state;
    struct thread_note note = {.calls = 0};
    loop_call(&loop, note_thread, &note);
    assert_int_equal(note.calls, 1);
    assert_true(pthread_equal(note.thread, pthread_self()));

    struct loop other;
    assert_int_equal(loop_init(&other), 0);
    assert_int_equal(loop_start_thread(&other, "other"), 0);
    for (unsigned i = 0; i < 100; i++) {
        loop_call(&other, note_thread, &note);
        assert_int_equal(note.calls, 2 + i);
    }
    assert_true(pthread_equal(note.thread, other.owner));
    loop_done(&other);
}

struct waits {
    struct loop *loop;
    uint64_t total;
};

static void count_waits(void *argument)
{
    struct waits *waits = argument;
    waits->total = waits->loop->waits_total;
}

static void an_idle_loop_wakes_for_nothing_but_its_calls(void **state)
{
    (void)state;
    struct loop other;
    assert_int_equal(loop_init(&other), 0);
    assert_int_equal(loop_start_thread(&other, "other"), 0);
    struct waits first = {.loop = &other}, second = {.loop = &other};
    loop_call(&other, count_waits, &first);
    loop_call(&other, count_waits, &second);
    assert_in_range(second.total - first.total, 0, 1); /* 0: both calls came with one wake */
    loop_done(&other);
}

struct letter_message {
    struct loop_message message;
    char letter;
};

static void deliver(struct loop_message *message)
{
    struct letter_message *letter = container_of(message, struct letter_message, message);
    tell(letter->letter);
    if (letter->letter == 'z')
        loop_stop(&loop);
}

static void messages_arrive_in_order_and_once_though_posted_twice(void **state)
{
    (void)state;
    struct letter_message a = {.message.deliver = deliver, .letter = 'a'};
    struct letter_message b = {.message.deliver = deliver, .letter = 'b'};
    struct letter_message z = {.message.deliver = deliver, .letter = 'z'};
    loop_post(&loop, &a.message);
    loop_post(&loop, &b.message);
    loop_post(&loop, &a.message);
    loop_post(&loop, &z.message);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(story, "abz");
}

static void a_message_that_was_taken_back_is_not_delivered(void **state)
{
    (void)state;
    struct letter_message a = {.message.deliver = deliver, .letter = 'a'};
    struct letter_message b = {.message.deliver = deliver, .letter = 'b'};
    struct letter_message z = {.message.deliver = deliver, .letter = 'z'};
    loop_post(&loop, &a.message);
    loop_post(&loop, &b.message);
    loop_unpost(&loop, &b.message);
    loop_unpost(&loop, &z.message); /* not posted: nothing */
    loop_post(&loop, &z.message);
    loop_unpost(&loop, &a.message);
    assert_int_equal(loop_run(&loop), 0);
    assert_string_equal(story, "z");
}

static void deliver_thrice(struct loop_message *message)
{
    tell('m');
    if (strlen(story) < 3)
        loop_post(&loop, message);
    else
        loop_stop(&loop);
}

static void a_message_may_be_posted_again_once_it_has_been_delivered(void **state)
{
    (void)state;
    struct loop_message message = {.deliver = deliver_thrice};
    struct letter_timer end = {.timer.expired = expire, .letter = 'z', .left = 1};
    loop_timer_set(&loop, &end.timer, loop_now_ns() + 30000000000u); /* or it would wait for ever */
    loop_post(&loop, &message);
    assert_int_equal(loop_run(&loop), 0);
    loop_timer_set(&loop, &end.timer, 0);
    assert_string_equal(story, "mmm");
}

struct stuck {
    struct loop_message message;
    int handle;
    atomic_int result;
};

static void get_stuck(struct loop_message *message)
{
    struct stuck *stuck = container_of(message, struct stuck, message);
    char bytes[4096] = {0};
    ssize_t written = 0;
    while (written >= 0)
        written = write(stuck->handle, bytes, sizeof(bytes)); /* a pipe that nobody reads: full before long */
    atomic_store(&stuck->result, errno);
}

static void a_call_gets_through_to_a_thread_that_hangs_in_a_write(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct loop other;
    assert_int_equal(loop_init(&other), 0);
    assert_int_equal(loop_start_thread(&other, "other"), 0);
    struct stuck stuck = {.message.deliver = get_stuck, .handle = ends[1]};
    loop_post(&other, &stuck.message);
    struct thread_note note = {.calls = 0};
    loop_call(&other, note_thread, &note);
    assert_int_equal(note.calls, 1);
    assert_int_equal(atomic_load(&stuck.result), EINTR);
    loop_done(&other);
    close(ends[0]);
    close(ends[1]);
}

static void note_message(struct loop_message *message)
{
    (void)message;
    tell('m');
}

static void a_task_that_looks_on_sees_that_there_is_a_message(void **state)
{
    (void)state;
    struct loop_message message = {.deliver = note_message};
    assert_false(loop_called(&loop));
    loop_post(&loop, &message);
    assert_true(loop_called(&loop));
    assert_int_equal(loop_turn(&loop, 0), 0);
    assert_string_equal(story, "m");
    assert_false(loop_called(&loop));
    loop_stop(&loop);
    assert_true(loop_called(&loop));
}

static void a_wait_is_measured_when_that_was_asked_for(void **state)
{
    (void)state;
    assert_int_equal(loop_turn(&loop, 1), 0);
    assert_int_equal(loop_measured_wait(&loop), 0);
    loop_measure_wait(&loop);
    assert_int_equal(loop_turn(&loop, 0), 0); /* not a wait */
    assert_int_equal(loop_measured_wait(&loop), 0);
    assert_int_equal(loop_turn(&loop, 1), 0);
    assert_true(loop_measured_wait(&loop) > 0);
    assert_int_equal(loop_measured_wait(&loop), 0);
}

static void where_am_i(void *argument)
{
    *(int *)argument = sched_getcpu();
}

static void a_thread_runs_where_it_is_pinned(void **state)
{
    (void)state;
    struct loop threaded;
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    assert_int_equal(loop_init(&threaded), 0);
    assert_int_equal(loop_start_thread(&threaded, "pinned"), 0);
    for (unsigned processor = 0; processor < CPU_SETSIZE; processor++) {
        int where = -1;
        if (!CPU_ISSET(processor, &allowed))
            continue;
        assert_int_equal(loop_pin_thread(&threaded, processor), 0);
        loop_call(&threaded, where_am_i, &where);
        assert_int_equal(where, processor);
    }
    assert_int_equal(loop_pin_thread(&threaded, CPU_SETSIZE - 1), -EINVAL); /* no test runs on 1024 of them */
    assert_int_equal(loop_pin_thread(&threaded, CPU_SETSIZE), -EINVAL);
    loop_done(&threaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_watch_that_an_earlier_handler_took_back_is_not_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_edge_watch_tells_each_write_though_nobody_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_regular_file_cannot_be_watched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_task_that_queues_itself_lets_the_others_have_their_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dropped_task_does_not_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(timers_expire_in_the_order_of_their_times, set_up, tear_down),
#if !defined(TEST_IN_USER_EMULATION) && defined(SYS_epoll_pwait2)
        cmocka_unit_test_setup_teardown(timers_expire_where_the_newer_call_is_absent_or_forbidden, set_up, tear_down),
#endif
        cmocka_unit_test_setup_teardown(a_timer_that_sets_itself_for_the_past_does_not_keep_others_waiting, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_call_is_made_at_once_on_the_own_thread_and_has_returned_from_another, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_idle_loop_wakes_for_nothing_but_its_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_arrive_in_order_and_once_though_posted_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_that_was_taken_back_is_not_delivered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_may_be_posted_again_once_it_has_been_delivered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_call_gets_through_to_a_thread_that_hangs_in_a_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_task_that_looks_on_sees_that_there_is_a_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wait_is_measured_when_that_was_asked_for, set_up, tear_down),
        cmocka_unit_test(a_thread_runs_where_it_is_pinned),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}

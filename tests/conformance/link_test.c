/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Our front end against our back ends, each the real thing: `backplane blk` and `rng` as processes, the link on a loop.
 * Requests and data, stops and resets, back ends that are killed with requests in flight and come back, that come late,
 * and that never answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "link_bed.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define DISK_BYTES UINT64_C(0x1000000)
#define SECTORS_EACH (BED_DATA_BYTES / 512)
#define LIVES 12

static uint64_t layout_features;
static const char *const blk_options[] = {"--queues=4", "--in-order", NULL};

static const uint64_t all_features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                                     VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_MQ | VIRTIO_BLK_F_CONFIG_WCE |
                                     VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE;

struct world {
    struct daemon daemon;
    struct bed bed;
    int opened;
};

static int set_up(void **state)
{
    struct world *world = test_calloc(1, sizeof(*world));
    daemon_prepare(&world->daemon, DISK_BYTES);
    bed_open(&world->bed);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    bed_close(&world->bed);
    if (world->daemon.pid > 0) {
        kill(world->daemon.pid, SIGCONT); /* a test that failed may have left it held */
        daemon_stop(&world->daemon);
    }
    daemon_done(&world->daemon);
    test_free(world);
    return 0;
}

static void link_blk(struct world *world)
{
    daemon_start(&world->daemon, "blk", blk_options);
    const struct vhost_user_link_options options = bed_options(&world->bed, world->daemon.socket_path);
    if (bed_link(&world->bed, &options) < 0)
        fail_msg("%s", world->bed.problem);
    bed_choose(&world->bed, all_features | layout_features);
}

static void a_disk_is_served_on_all_queues(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    assert_int_equal(bed_device(bed)->queue_count, 4);
    uint8_t capacity[8];
    bed_lock(bed);
    bed_device(bed)->class->config_read(bed_device(bed), 0, capacity, sizeof(capacity));
    bed_unlock(bed);
    assert_int_equal(get_le64(capacity), DISK_BYTES / 512);
    for (unsigned i = 0; i < BED_QUEUES; i++) {
        bed->by_listener[i] = i % 2 == 1; /* without an interrupt's handle, too */
        bed_start(bed, i);
    }
    for (unsigned i = 0; i < BED_QUEUES; i++)
        bed_write_then_read(bed, i, i * SECTORS_EACH, (uint8_t)(i + 1));
    assert_int_equal(bed->broken, 0);
}

static void a_queue_stops_and_goes_on_where_it_was(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    for (unsigned i = 0; i < 30; i++) {
        bed_write_then_read(bed, 0, 0, (uint8_t)i);
        uint32_t base = bed_stop(bed, 0);
        if (layout_features == 0)
            assert_int_equal(base, 2 * (i + 1));
        bed_resume(bed, 0, base);
    }
}

static bool was_reset(const struct bed *bed, unsigned argument)
{
    (void)argument;
    return bed->resets > 0;
}

static void a_device_is_reset_and_used_anew(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    for (unsigned i = 0; i < 5; i++) {
        bed_start(bed, 0);
        bed_write_then_read(bed, 0, 0, (uint8_t)i);
        (void)bed_stop(bed, 0);
        bed_lock(bed);
        bed->resets = 0;
        int r = bed_device(bed)->class->reset(bed_device(bed));
        bed_unlock(bed);
        assert_int_equal(r, -EINPROGRESS);
        bed_wait(bed, was_reset, 0);
        /* The other layout, and back. */
        bed_choose(bed, all_features | (i % 2 == 0 ? 0 : layout_features));
    }
}

/* The back end lives, and does nothing any more. */
static void hold(struct world *world)
{
    int status;
    assert_int_equal(kill(world->daemon.pid, SIGSTOP), 0);
    assert_int_equal(waitpid(world->daemon.pid, &status, WUNTRACED), world->daemon.pid);
    assert_true(WIFSTOPPED(status));
}

/*
 * Kill it with requests in flight, and see the next one finish them. In every other life it sees none of them: it is
 * held still before.
 */
static void live_and_die(struct world *world, unsigned life)
{
    struct bed *bed = &world->bed;
    if (life % 2 == 0)
        hold(world);
    for (unsigned i = 0; i < BED_SLOTS; i++)
        bed_offer(bed, 0, i % 2 == 0 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i / 2 * SECTORS_EACH, 9);
    unsigned taken = 0;
    for (unsigned i = 0; i < life / 2 % 3; i++)
        taken += bed_take(bed, 0, 9);
    assert_true(life % 2 != 0 || taken == 0);
    daemon_kill(&world->daemon);
    daemon_start(&world->daemon, "blk", blk_options);
    if (taken < BED_SLOTS)
        bed_take_all(bed, 0, BED_SLOTS - taken, 9);
    /* The queue that was idle meanwhile; and so the next life begins with a back end that is there. */
    bed_write_then_read(bed, 1, 64 * SECTORS_EACH, (uint8_t)life);
}

static void a_successor_finishes_what_was_in_flight(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    bed_start(bed, 1);
    for (unsigned i = 0; i < BED_SLOTS / 2; i++)
        bed_write_then_read(bed, 0, i * SECTORS_EACH, 9);
    for (unsigned life = 0; life < LIVES; life++)
        live_and_die(world, life);
    assert_int_equal(bed->broken, 0);
    assert_true(bed->link.frontend.lost_total >= LIVES);
}

static void kicks_wait_for_the_next_back_end(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    daemon_kill(&world->daemon);
    for (unsigned i = 0; i < 4; i++)
        bed_offer(bed, 0, VIRTIO_BLK_T_OUT, i * SECTORS_EACH, 3);
    daemon_start(&world->daemon, "blk", blk_options);
    bed_take_all(bed, 0, 4, 3);
}

static bool is_away(const struct bed *bed, unsigned argument)
{
    (void)argument;
    return bed->link.frontend.phase == VHOST_USER_FRONTEND_AWAY;
}

static void gone(void *argument)
{
    struct bed *bed = argument;
    bed_lock(bed);
    vhost_user_frontend_lost(&bed->link.frontend, "the test hangs up");
    bed_unlock(bed);
}

static void stop_and_reset_do_not_wait_for_a_dead_back_end(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    bed_write_then_read(bed, 0, 0, 1);
    daemon_kill(&world->daemon);
    loop_call(&bed->loop, gone, bed); /* whichever comes first, this or the end of the connection */
    bed_wait(bed, is_away, 0);
    uint32_t base = bed_stop(bed, 0);
    if (layout_features == 0)
        assert_int_equal(base, 2);
    bed_lock(bed);
    int r = bed_device(bed)->class->reset(bed_device(bed));
    bed_unlock(bed);
    assert_int_equal(r, 0);
    /* The driver begins anew before there is anybody. */
    bed_choose(bed, all_features | layout_features);
    bed_start(bed, 0);
    bed_offer(bed, 0, VIRTIO_BLK_T_OUT, 0, 4);
    daemon_start(&world->daemon, "blk", blk_options);
    bed_take_all(bed, 0, 1, 4);
}

static void set_memory(struct bed *bed, const struct vhost_user_frontend_region *regions, unsigned count)
{
    bed_lock(bed);
    int r = vhost_user_frontend_set_memory(&bed->link.frontend, regions, count);
    bed_unlock(bed);
    assert_int_equal(r, 0);
}

static void memory_comes_and_goes_under_requests(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    struct vhost_user_frontend_region regions[2] = {bed->region, bed->region};
    regions[1].guest_base += BED_MEMORY_BYTES;
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned j = 0; j < 8; j++)
            bed_offer(bed, 0, VIRTIO_BLK_T_OUT, j * SECTORS_EACH, (uint8_t)i);
        set_memory(bed, regions, 2);
        set_memory(bed, regions, 1);
        bed_take_all(bed, 0, 8, (uint8_t)i);
    }
    assert_int_equal(bed->broken, 0);
}

static bool config_was_changed(const struct bed *bed, unsigned argument)
{
    (void)argument;
    return bed->configs > 0;
}

static void tell_daemon(const struct daemon *daemon, const char *command)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon->control_path);
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(handle >= 0);
    assert_int_equal(connect(handle, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(handle, command, strlen(command), MSG_NOSIGNAL), strlen(command));
    char answer[256];
    assert_true(recv(handle, answer, sizeof(answer), 0) > 0);
    close(handle);
}

static void a_disk_that_grows_is_announced(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    bed_write_then_read(bed, 0, 0, 1);
    assert_int_equal(truncate(world->daemon.disk_path, (off_t)DISK_BYTES * 2), 0);
    tell_daemon(&world->daemon, "{\"command\":\"resize\"}\n");
    bed_wait(bed, config_was_changed, 0);
    uint8_t capacity[8];
    bed_lock(bed);
    bed_device(bed)->class->config_read(bed_device(bed), 0, capacity, sizeof(capacity));
    bed_unlock(bed);
    assert_int_equal(get_le64(capacity), 2 * DISK_BYTES / 512);
}

static void a_cache_mode_outlives_the_back_end(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    uint8_t mode = 0;
    link_blk(world);
    bed_start(bed, 0);
    bed_lock(bed);
    assert_int_equal(bed_device(bed)->class->config_write(bed_device(bed), 32, &mode, 1), 0);
    bed_unlock(bed);
    bed_write_then_read(bed, 0, 0, 1);
    daemon_kill(&world->daemon);
    daemon_start(&world->daemon, "blk", blk_options);
    bed_offer(bed, 0, VIRTIO_BLK_T_OUT, 0, 2);
    bed_take_all(bed, 0, 1, 2);
    mode = 0xff;
    bed_lock(bed);
    bed_device(bed)->class->config_read(bed_device(bed), 32, &mode, 1);
    bed_unlock(bed);
    assert_int_equal(mode, 0);
}

static bool is_broken(const struct bed *bed, unsigned argument)
{
    (void)argument;
    return bed->broken > 0;
}

static void what_a_driver_breaks_reaches_it(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_blk(world);
    bed_start(bed, 0);
    struct fake_driver *driver = &bed->drivers[0];
    if (driver->packed) /* a request outside of memory; or more requests than the ring has */
        fake_driver_packed_desc(driver, 0, UINT64_MAX - 0x1000, 16, 0, driver->avail_mark);
    else
        fake_driver_set_avail_index(driver, 1000);
    bed_lock(bed);
    bed_device(bed)->class->queue_kick(bed_device(bed), 0);
    bed_unlock(bed);
    bed_wait(bed, is_broken, 0);
    (void)bed_stop(bed, 0);
}

/* Opening */

static void nobody_there_is_said_in_time(void **state)
{
    struct world *world = *state;
    struct vhost_user_link_options options = bed_options(&world->bed, world->daemon.socket_path);
    options.start_timeout_ms = 50;
    assert_int_equal(bed_link(&world->bed, &options), -ETIMEDOUT);
    assert_non_null(strstr(world->bed.problem, "no back end was there in time"));
}

static void *open_early(void *argument)
{
    struct world *world = argument;
    const struct vhost_user_link_options options = bed_options(&world->bed, world->daemon.socket_path);
    world->opened = bed_link(&world->bed, &options);
    return NULL;
}

static void a_back_end_may_come_late(void **state)
{
    struct world *world = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, open_early, world), 0);
    daemon_start(&world->daemon, "blk", blk_options);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(world->opened, 0);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(handle >= 0);
    assert_int_equal(bind(handle, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(handle, 4), 0);
    return handle;
}

static void one_who_never_answers_is_not_waited_for(void **state)
{
    struct world *world = *state;
    int listener = listen_at(world->daemon.socket_path);
    struct vhost_user_link_options options = bed_options(&world->bed, world->daemon.socket_path);
    options.start_timeout_ms = 50;
    assert_int_equal(bed_link(&world->bed, &options), -ETIMEDOUT);
    assert_non_null(strstr(world->bed.problem, "does not answer"));
    close(listener);
}

static void one_that_is_no_back_end_is_told_apart(void **state)
{
    struct world *world = *state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(send(pair[1], "HTTP/1.1 400 Bad Request\r\n", 26, MSG_NOSIGNAL), 26);
    struct vhost_user_link_options options = bed_options(&world->bed, NULL);
    options.socket = pair[0];
    assert_int_equal(bed_link(&world->bed, &options), -EPROTO);
    assert_non_null(strstr(world->bed.problem, "header"));
    close(pair[1]);
}

static void an_answer_that_stays_away_ends_the_connection(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    daemon_start(&world->daemon, "blk", blk_options);
    struct vhost_user_link_options options = bed_options(bed, world->daemon.socket_path);
    options.reply_timeout_ms = 1000;
    assert_int_equal(bed_link(bed, &options), 0);
    bed_choose(bed, all_features | layout_features);
    bed_start(bed, 0);
    bed_write_then_read(bed, 0, 0, 1);
    hold(world);
    uint32_t base = bed_stop(bed, 0);
    if (layout_features == 0)
        assert_int_equal(base, 2);
    assert_int_equal(kill(world->daemon.pid, SIGCONT), 0);
    bed_resume(bed, 0, base);
    bed_write_then_read(bed, 0, 0, 2);
}

static void a_source_of_entropy_is_killed_and_goes_on(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    unlink(world->daemon.disk_path);
    world->daemon.disk_path[0] = '\0'; /* it has none */
    daemon_start(&world->daemon, "rng", NULL);
    struct vhost_user_link_options options = bed_options(bed, world->daemon.socket_path);
    options.device_id = VIRTIO_ID_ENTROPY;
    assert_int_equal(bed_link(bed, &options), 0);
    bed_choose(bed, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | layout_features);
    bed_start(bed, 0);
    for (unsigned life = 0; life < 4; life++) {
        const struct fake_piece piece = {BED_SLOT(0, 0), 64, true};
        uint8_t zeros[64] = {0}, *host = bed->memory.host + BED_SLOT(0, 0);
        memset(host, 0, sizeof(zeros));
        int head = fake_driver_add(&bed->drivers[0], &piece, 1);
        assert_true(head >= 0);
        bed->slot_of_head[0][head] = 0;
        fake_driver_show(&bed->drivers[0]);
        bed_lock(bed);
        bed_device(bed)->class->queue_kick(bed_device(bed), 0);
        bed_unlock(bed);
        uint32_t used_head, length;
        while (!fake_driver_get(&bed->drivers[0], &used_head, &length))
            if (!fake_driver_interrupts_on(&bed->drivers[0]))
                bed_wait_notify(bed, 0);
        assert_int_equal(used_head, head);
        assert_memory_not_equal(host, zeros, sizeof(zeros));
        if (life == 3)
            break;
        daemon_kill(&world->daemon);
        daemon_start(&world->daemon, "rng", NULL);
    }
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(a_disk_is_served_on_all_queues),
        TEST(a_queue_stops_and_goes_on_where_it_was),
        TEST(a_device_is_reset_and_used_anew),
        TEST(a_successor_finishes_what_was_in_flight),
        TEST(kicks_wait_for_the_next_back_end),
        TEST(stop_and_reset_do_not_wait_for_a_dead_back_end),
        TEST(memory_comes_and_goes_under_requests),
        TEST(a_disk_that_grows_is_announced),
        TEST(a_cache_mode_outlives_the_back_end),
        TEST(what_a_driver_breaks_reaches_it),
        TEST(nobody_there_is_said_in_time),
        TEST(a_back_end_may_come_late),
        TEST(one_who_never_answers_is_not_waited_for),
        TEST(one_that_is_no_back_end_is_told_apart),
        TEST(an_answer_that_stays_away_ends_the_connection),
        TEST(a_source_of_entropy_is_killed_and_goes_on),
    };
    if (argc != 3 || (strcmp(argv[2], "split") != 0 && strcmp(argv[2], "packed") != 0)) {
        fprintf(stderr, "usage: %s PROGRAM split|packed\n", argv[0]);
        return 2;
    }
    daemon_program = argv[1];
    layout_features = strcmp(argv[2], "packed") == 0 ? VIRTIO_F_RING_PACKED : 0;
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER")); /* to look at one alone */
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}

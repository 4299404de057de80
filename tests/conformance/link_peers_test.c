/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Our front end and other people's back ends: the disk of qemu-storage-daemon and the file system of virtiofsd, the C
 * one of Debian 12 or the Rust one of Debian 13. What is not installed is skipped, with its name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link_bed.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define DISK_BYTES 0x1000000
#define SECTORS_EACH (BED_DATA_BYTES / 512)

static const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_BLK_F_FLUSH |
                                 VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE;

struct world {
    struct bed bed;
    char folder[64];
    char socket_path[128];
    char disk_path[128];
    pid_t pid;
};

static int set_up(void **state)
{
    struct world *world = test_calloc(1, sizeof(*world));
    snprintf(world->folder, sizeof(world->folder), "/tmp/backplane-test-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->socket_path, sizeof(world->socket_path), "%s/sock", world->folder);
    snprintf(world->disk_path, sizeof(world->disk_path), "%s/disk", world->folder);
    int handle = open(world->disk_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(handle >= 0);
    assert_int_equal(ftruncate(handle, DISK_BYTES), 0);
    close(handle);
    bed_open(&world->bed);
    *state = world;
    return 0;
}

static void end_peer(struct world *world)
{
    if (world->pid <= 0)
        return;
    kill(world->pid, SIGKILL);
    assert_int_equal(waitpid(world->pid, NULL, 0), world->pid);
    world->pid = 0;
    unlink(world->socket_path);
}

static int tear_down(void **state)
{
    struct world *world = *state;
    char command[128];
    bed_close(&world->bed);
    end_peer(world);
    snprintf(command, sizeof(command), "rm -rf '%s'", world->folder);
    assert_int_equal(system(command), 0);
    test_free(world);
    return 0;
}

static void start_peer(struct world *world, const char *const *arguments)
{
    world->pid = fork();
    assert_true(world->pid >= 0);
    if (world->pid != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is ended leaves nothing behind */
    /* What it says of itself is not for the test's own output. */
    int log = open("/dev/null", O_WRONLY);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static void start_qsd(struct world *world)
{
    char blockdev[256], export[256];
    snprintf(blockdev, sizeof(blockdev), "driver=file,filename=%s,node-name=disk", world->disk_path);
    snprintf(export, sizeof(export),
             "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=%s,writable=on,num-queues=2",
             world->socket_path);
    const char *const arguments[] = {"qemu-storage-daemon", "--blockdev", blockdev, "--export", export, NULL};
    start_peer(world, arguments);
}

static void link_qsd(struct world *world)
{
    if (system("qemu-storage-daemon --version >/dev/null 2>&1") != 0) {
        print_message("skipped: qemu-storage-daemon is not installed\n");
        skip();
    }
    start_qsd(world);
    const struct vhost_user_link_options options = bed_options(&world->bed, world->socket_path);
    if (bed_link(&world->bed, &options) < 0)
        fail_msg("%s", world->bed.problem);
    bed_choose(&world->bed, features);
}

static void qemus_disk_is_served_stopped_and_reset(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_qsd(world);
    assert_int_equal(bed_device(bed)->queue_count, 2);
    for (unsigned life = 0; life < 3; life++) {
        bed_start(bed, 0);
        bed_start(bed, 1);
        bed_write_then_read(bed, 0, 0, (uint8_t)(life + 1));
        bed_write_then_read(bed, 1, SECTORS_EACH, (uint8_t)(life + 1));
        assert_int_equal(bed_stop(bed, 0), 2);
        bed_resume(bed, 0, 2);
        bed_write_then_read(bed, 0, 2 * SECTORS_EACH, (uint8_t)(life + 1));
        assert_int_equal(bed_stop(bed, 0), 4);
        assert_int_equal(bed_stop(bed, 1), 2);
        bed_lock(bed);
        int r = bed_device(bed)->class->reset(bed_device(bed));
        bed_unlock(bed);
        assert_int_equal(r, 0); /* it offers neither way to say it */
        bed_choose(bed, features);
    }
    assert_int_equal(bed->broken, 0);
}

static void qemus_disk_is_killed_and_its_successor_goes_on(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_qsd(world);
    bed_start(bed, 0);
    for (unsigned i = 0; i < BED_SLOTS; i++) {
        bed_offer(bed, 0, VIRTIO_BLK_T_OUT, i * SECTORS_EACH, 7);
        bed_take_all(bed, 0, 1, 7);
    }
    for (unsigned life = 0; life < 4; life++) {
        end_peer(world);
        for (unsigned i = 0; i < BED_SLOTS; i++)
            bed_offer(bed, 0, VIRTIO_BLK_T_IN, i * SECTORS_EACH, 7);
        start_qsd(world);
        bed_take_all(bed, 0, BED_SLOTS, 7);
    }
    assert_int_equal(bed->broken, 0);
}

static void memory_of_qemus_disk_is_exchanged(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    link_qsd(world);
    bed_start(bed, 0);
    struct vhost_user_frontend_region regions[2] = {bed->region, bed->region};
    regions[1].guest_base += BED_MEMORY_BYTES;
    for (unsigned i = 0; i < 6; i++) {
        bed_lock(bed);
        int r = vhost_user_frontend_set_memory(&bed->link.frontend, regions, 1 + i % 2);
        bed_unlock(bed);
        assert_int_equal(r, 0);
        bed_write_then_read(bed, 0, 0, (uint8_t)i);
    }
    assert_int_equal(bed->link.frontend.lost_total, 0);
}

/* virtiofsd */

#define FUSE_INIT 26
#define FUSE_IN_BYTES (40 + 16)
#define FUSE_OUT_BYTES (16 + 64)

static const char *find_virtiofsd(void)
{
    static const char *const places[] = {"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

static void start_virtiofsd(struct world *world, const char *program)
{
    char socket_option[160], source[128], shared[128];
    snprintf(socket_option, sizeof(socket_option), "--socket-path=%s", world->socket_path);
    snprintf(source, sizeof(source), "source=%s", world->folder);
    snprintf(shared, sizeof(shared), "--shared-dir=%s", world->folder);
    const char *const of_c[] = {program, "-f", socket_option, "-o", source, "-o", "sandbox=chroot", NULL};
    const char *const of_rust[] = {program, socket_option, shared, "--sandbox=none", NULL};
    start_peer(world, strstr(program, "libexec") ? of_rust : of_c);
}

static void init_file_system(struct bed *bed, uint64_t unique)
{
    uint64_t at = BED_SLOT(1, 0);
    uint8_t *in = bed->memory.host + at, *out = in + 0x1000;
    memset(in, 0, 0x2000);
    put_le32(in, FUSE_IN_BYTES);
    put_le32(in + 4, FUSE_INIT);
    put_le64(in + 8, unique);
    put_le32(in + 40, 7); /* FUSE 7.31 */
    put_le32(in + 44, 31);
    put_le32(in + 48, 0x20000);
    const struct fake_piece pieces[] = {{at, FUSE_IN_BYTES, false}, {at + 0x1000, FUSE_OUT_BYTES, true}};
    int head = fake_driver_add(&bed->drivers[1], pieces, ARRAY_SIZE(pieces));
    assert_true(head >= 0);
    fake_driver_show(&bed->drivers[1]);
    bed_lock(bed);
    bed_device(bed)->class->queue_kick(bed_device(bed), 1);
    bed_unlock(bed);
    uint32_t used, length;
    while (!fake_driver_get(&bed->drivers[1], &used, &length))
        if (!fake_driver_interrupts_on(&bed->drivers[1]))
            bed_wait_notify(bed, 1);
    assert_int_equal(used, head);
    assert_int_equal(get_le32(out), length);
    assert_int_equal(get_le32(out + 4), 0); /* no error */
    assert_int_equal(get_le64(out + 8), unique);
    assert_int_equal(get_le32(out + 16), 7);
}

static void a_file_system_is_served_killed_and_served_again(void **state)
{
    struct world *world = *state;
    struct bed *bed = &world->bed;
    const char *program = find_virtiofsd();
    if (!program || geteuid() != 0) {
        print_message("skipped: %s\n", program ? "virtiofsd wants to be root" : "virtiofsd is not installed");
        skip();
    }
    start_virtiofsd(world, program);
    struct vhost_user_link_options options = bed_options(bed, world->socket_path);
    options.device_id = VIRTIO_ID_FS;
    options.queue_count = 2; /* one of high priority, one for requests */
    /* 5.11.4: the tag, and one queue for requests: back ends do not know the first. */
    uint8_t space[40] = "shared";
    put_le32(space + 36, 1);
    options.config_space = space;
    if (bed_link(bed, &options) < 0)
        fail_msg("%s", bed->problem);
    bed_choose(bed, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
    bed_start(bed, 0);
    bed_start(bed, 1);
    for (unsigned life = 0; life < 3; life++) {
        init_file_system(bed, life + 1);
        end_peer(world);
        start_virtiofsd(world, program);
    }
    init_file_system(bed, 99);
    assert_int_equal(bed->broken, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(qemus_disk_is_served_stopped_and_reset),
        TEST(qemus_disk_is_killed_and_its_successor_goes_on),
        TEST(memory_of_qemus_disk_is_exchanged),
        TEST(a_file_system_is_served_killed_and_served_again),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER")); /* to look at one alone */
    return cmocka_run_group_tests_name("link-peers", tests, NULL, NULL);
}

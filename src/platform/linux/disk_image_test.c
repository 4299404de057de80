/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Images are told apart by bytes that are written here, and by what the real qemu-img makes, where it is installed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/linux/blk_test_support.h"
#include "platform/linux/disk_format.h"
#include "platform/linux/disk_image.h"

#define IMAGE_BYTES (1u << 20)

static struct disk_image image;
static char error[DISK_IMAGE_ERROR_BYTES];
static char folder[64];
static char path[80];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/backplane-image-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/disk", folder);
    image.fd = -1;
    error[0] = '\0';
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    disk_image_close(&image);
    unlink(path);
    rmdir(folder);
    return 0;
}

static void make_image(uint64_t size, const void *head, size_t head_bytes, uint64_t at)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(pwrite(fd, head, head_bytes, (off_t)at), head_bytes);
    close(fd);
}

static int open_image(bool read_only)
{
    const struct disk_image_options options = {.path = path, .read_only = read_only};
    return disk_image_open(&image, &options, error, sizeof(error));
}

/* One line that has each of these in it. */
static void says(const char *what, const char *advice)
{
    assert_non_null(strstr(error, what));
    assert_non_null(strstr(error, advice));
    assert_null(strchr(error, '\n'));
}

static void is_refused_as(const char *title, const char *qemu_name)
{
    char advice[256];
    assert_int_equal(open_image(true), -EMEDIUMTYPE);
    assert_int_equal(image.fd, -1);
    snprintf(advice, sizeof(advice), "qemu-img convert -f %s -O raw %s %s.raw", qemu_name, path, path);
    says(path, advice);
    snprintf(advice, sizeof(advice), "it is a %s image", title);
    says(advice, "");
}

static void every_other_format_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *title, *qemu_name, *bytes;
        size_t bytes_count;
        uint64_t at;
    } formats[] = {
        {"qcow2", "qcow2", "QFI\xfb\0\0\0\3", 8, 0},
        {"qcow2", "qcow2", "QFI\xfb\0\0\0\2", 8, 0},
        {"qcow2", "qcow2", "QFI\xfb\0\0\0\x9", 8, 0},
        {"qcow", "qcow", "QFI\xfb\0\0\0\1", 8, 0},
        {"VHD", "vpc", "conectix", 8, 0},
        {"VHDX", "vhdx", "vhdxfile", 8, 0},
        {"VMDK", "vmdk", "KDMV", 4, 0},
        {"VMDK", "vmdk", "COWD", 4, 0},
        {"VMDK", "vmdk", "# Disk DescriptorFile", 21, 0},
        {"VDI", "vdi", "\x7f\x10\xda\xbe", 4, 64},
        {"QED", "qed", "QED\0", 4, 0},
        {"Parallels", "parallels", "WithoutFreeSpace", 16, 0},
        {"Parallels", "parallels", "WithouFreSpacExt", 16, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        make_image(IMAGE_BYTES, formats[i].bytes, formats[i].bytes_count, formats[i].at);
        is_refused_as(formats[i].title, formats[i].qemu_name);
        /* elsewhere they are nothing but bytes */
        make_image(IMAGE_BYTES, formats[i].bytes, formats[i].bytes_count, formats[i].at + 512);
        assert_int_equal(open_image(true), 0);
        disk_image_close(&image);
    }
}

static void a_descriptor_shorter_than_a_sector_is_told_by_name_too(void **state)
{
    (void)state;
    static const char text[] = "# Disk DescriptorFile\nversion=1\n";
    make_image(sizeof(text), text, sizeof(text), 0);
    is_refused_as("VMDK", "vmdk");
}

static void a_fixed_vhd_is_told_by_its_footer_and_not_by_its_magic_alone(void **state)
{
    (void)state;
    uint8_t footer[512] = "conectix";
    make_image(IMAGE_BYTES, footer, sizeof(footer), IMAGE_BYTES - sizeof(footer));
    assert_int_equal(open_image(true), 0); /* a guest may write what it likes into its last sector */
    disk_image_close(&image);

    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof(footer); i++)
        sum += footer[i];
    for (unsigned i = 0; i < 4; i++)
        footer[64 + i] = (uint8_t)(~sum >> (24 - 8 * i));
    make_image(IMAGE_BYTES, footer, sizeof(footer), IMAGE_BYTES - sizeof(footer));
    is_refused_as("VHD", "vpc");
}

static bool make_by_qemu(const char *format, const char *options)
{
    char command[256];
    snprintf(command, sizeof(command), "qemu-img create -q -f %s %s %s 8M 2>/dev/null", format, options, path);
    unlink(path);
    return system(command) == 0;
}

static void what_qemu_img_makes_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *title, *qemu_name, *options;
    } formats[] = {
        {"qcow2", "qcow2", ""}, {"qcow2", "qcow2", "-o compat=0.10"},
        {"qcow", "qcow", ""},   {"VHD", "vpc", ""},
        {"VHDX", "vhdx", ""},   {"VHD", "vpc", "-o subformat=fixed,force_size=on"},
        {"VMDK", "vmdk", ""},   {"VMDK", "vmdk", "-o subformat=streamOptimized"},
        {"VDI", "vdi", ""},     {"QED", "qed", ""},
    };
    if (system("qemu-img --version >/dev/null 2>&1") != 0) {
        print_message("skipped: qemu-img is not installed\n");
        skip();
    }
    unsigned made = 0;
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (!make_by_qemu(formats[i].qemu_name, formats[i].options))
            continue; /* distributions leave some out */
        is_refused_as(formats[i].title, formats[i].qemu_name);
        made++;
    }
    assert_true(made >= 4);
    assert_true(make_by_qemu("raw", ""));
    assert_int_equal(open_image(false), 0);
    assert_int_equal(image.size_bytes, 8 << 20);
}

static void an_encrypted_disk_is_a_disk(void **state)
{
    (void)state;
    make_image(IMAGE_BYTES, "LUKS\xba\xbe", 6, 0);
    assert_int_equal(open_image(false), 0);
}

static void a_file_is_measured(void **state)
{
    (void)state;
    make_image(IMAGE_BYTES + 512, "raw", 3, 0);
    assert_int_equal(open_image(false), 0);
    assert_false(image.read_only);
    assert_false(image.block_device);
    assert_int_equal(image.size_bytes, IMAGE_BYTES + 512);
    assert_int_equal(image.logical_block_bytes, 512);
    assert_true(image.physical_block_bytes >= 512 && is_power_of_two(image.physical_block_bytes));
    assert_true(image.discard_granularity_bytes >= 512);
    assert_int_equal(fcntl(image.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    assert_int_equal(fcntl(image.fd, F_GETFD), FD_CLOEXEC);
}

static void measuring_changes_neither_bytes_nor_blocks(void **state)
{
    (void)state;
    struct stat before;
    struct stat after;
    make_image(IMAGE_BYTES, "raw", 3, IMAGE_BYTES - 3);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &before), 0);
    assert_int_equal(open_image(false), 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &after), 0);
    close(fd);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(before.st_blocks, after.st_blocks);
}

static void a_read_only_image_offers_nothing_that_writes(void **state)
{
    (void)state;
    make_image(IMAGE_BYTES, "raw", 3, 0);
    assert_int_equal(open_image(true), 0);
    assert_true(image.read_only);
    assert_false(image.discard);
    assert_int_equal(fcntl(image.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

static void a_new_size_is_seen_when_asked_for(void **state)
{
    (void)state;
    uint64_t size = 0;
    make_image(IMAGE_BYTES, "raw", 3, 0);
    assert_int_equal(open_image(false), 0);
    assert_int_equal(truncate(path, 3 * IMAGE_BYTES), 0);
    assert_int_equal(image.size_bytes, IMAGE_BYTES);
    assert_int_equal(disk_image_refresh_size(&image, &size), 0);
    assert_int_equal(size, 3 * IMAGE_BYTES);
    assert_int_equal(image.size_bytes, 3 * IMAGE_BYTES);
}

static void what_is_no_disk_is_refused_with_what_to_do(void **state)
{
    (void)state;
    assert_int_equal(open_image(false), -ENOENT);
    says(path, "No such file or directory: check the path, or make a disk there: truncate -s 10G");

    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_image(false), -ENOTBLK);
    says(path, "it is a directory: give a file or a block device");
    rmdir(path);

    assert_int_equal(mkfifo(path, 0600), 0); /* which must not make us wait for its other end either */
    assert_int_equal(open_image(true), -ENOTBLK);
    says(path, "it is a FIFO");
    unlink(path);

    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(open_image(false), -ENOTBLK);
    says(path, "it is a character device");
    unlink(path);

    make_image(511, "raw", 3, 0);
    assert_int_equal(open_image(false), -ENODATA);
    says(path, "it has 511 bytes, less than one sector: make it larger: truncate -s 10G");
}

/* In a process that is not root, since root may open everything. */
static int open_as_nobody(bool read_only, const char *expected)
{
    if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
        return 77;
    if (open_image(read_only) != -EACCES)
        return 1;
    return strstr(error, expected) != NULL ? 0 : 2;
}

static void in_a_child(int (*function)(bool, const char *), bool read_only, const char *expected)
{
    fflush(NULL); /* or the child would write it again */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        end_child(function(read_only, expected));
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: no other user can be had here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void wrong_permissions_are_told_with_what_to_do(void **state)
{
    (void)state;
    make_image(IMAGE_BYTES, "raw", 3, 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(path, 0444), 0);
    in_a_child(open_as_nobody, false,
               "for reading and writing: Permission denied: run as a user who may, or serve it "
               "read-only (--read-only)");
    assert_int_equal(chmod(path, 0), 0);
    in_a_child(open_as_nobody, true, "for reading: Permission denied: run as a user who may");
}

#define HERE(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

static int open_direct(enum disk_direct direct)
{
    const struct disk_image_options options = {.path = path, .direct = direct};
    return disk_image_open(&image, &options, error, sizeof(error));
}

static bool is_direct(void)
{
    int flags = fcntl(image.fd, F_GETFL);
    assert_true(flags >= 0);
    assert_int_equal((flags & O_DIRECT) != 0, image.direct);
    assert_int_equal((flags & O_NONBLOCK) != 0, image.non_blocking);
    return image.direct;
}

static void past_the_page_cache_the_alignments_are_known_or_it_is_refused(void **state)
{
    (void)state;
    make_image(IMAGE_BYTES, "", 1, 0);
    int r = open_direct(DISK_DIRECT_ON);
    if (r == -EOPNOTSUPP) {
        assert_non_null(strstr(error, "past the page cache"));
        print_message("skipped: the file system of /tmp has no O_DIRECT\n");
        skip();
    }
    assert_int_equal(r, 0);
    assert_true(is_direct());
    assert_in_range(image.direct_block_bytes, 512, 4096);
    assert_in_range(image.direct_memory_bytes, 1, 4096);
    assert_true(is_power_of_two(image.direct_block_bytes) && is_power_of_two(image.direct_memory_bytes));
    assert_in_range(image.logical_block_bytes, image.direct_block_bytes, 4096);
    assert_in_range(image.physical_block_bytes, image.logical_block_bytes, 1u << 20);
    /* The lock is on the one descriptor, through which all is done. */
    struct disk_image second;
    const struct disk_image_options options = {.path = path, .direct = DISK_DIRECT_ON};
    assert_int_equal(disk_image_open(&second, &options, error, sizeof(error)), -EBUSY);
}

static void a_file_goes_through_the_page_cache_unless_told_otherwise(void **state)
{
    (void)state;
    make_image(IMAGE_BYTES, "", 1, 0);
    assert_int_equal(open_direct(DISK_DIRECT_OFF), 0);
    assert_false(is_direct());
    disk_image_close(&image);
    assert_int_equal(open_direct(DISK_DIRECT_AUTO), 0);
    assert_int_equal(is_direct(), image.non_blocking); /* true only if /tmp is in memory */
}

static void a_file_in_memory_has_nobody_to_wait_for(void **state)
{
    (void)state;
    struct statfs system;
    static uint8_t back[2];
    if (statfs("/dev/shm", &system) < 0 || system.f_type != TMPFS_MAGIC || access("/dev/shm", W_OK) < 0) {
        print_message("skipped: /dev/shm is no tmpfs\n");
        skip();
    }
    snprintf(path, sizeof(path), "/dev/shm/backplane-image-%d", (int)getpid());
    make_image(IMAGE_BYTES, "ab", 2, 513);
    assert_int_equal(open_direct(DISK_DIRECT_OFF), 0);
    assert_false(is_direct());
    assert_true(image.non_blocking);
    disk_image_close(&image);
    assert_int_equal(open_direct(DISK_DIRECT_AUTO), 0);
    assert_true(image.non_blocking);
    if (is_direct()) { /* Linux 6.6 */
        assert_int_equal(image.direct_block_bytes, 512);
        assert_int_equal(image.direct_memory_bytes, 1);
        assert_int_equal(pread(image.fd, back + 1, 1, 513), 1); /* nothing is really aligned */
        assert_int_equal(back[1], 'a');
    }
}

static void where_there_is_no_o_direct_it_is_told(void **state)
{
    (void)state;
    int fd = memfd_create("disk", MFD_HUGETLB); /* hugetlbfs has none */
    if (fd < 0 || ftruncate(fd, 4 << 20) < 0) {
        print_message("skipped: this kernel has no huge pages\n");
        if (fd >= 0)
            close(fd);
        skip();
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const struct disk_image_options options = {.path = path, .direct = DISK_DIRECT_ON, .without_lock = true};
    int r = disk_image_open(&image, &options, error, sizeof(error));
    close(fd);
    assert_int_equal(r, -EOPNOTSUPP);
    assert_non_null(strstr(error, "there is no O_DIRECT"));
    assert_non_null(strstr(error, "leave --direct=on out"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HERE(every_other_format_is_refused_by_name),
        HERE(a_descriptor_shorter_than_a_sector_is_told_by_name_too),
        HERE(a_fixed_vhd_is_told_by_its_footer_and_not_by_its_magic_alone),
        HERE(what_qemu_img_makes_is_refused_by_name),
        HERE(an_encrypted_disk_is_a_disk),
        HERE(a_file_is_measured),
        HERE(measuring_changes_neither_bytes_nor_blocks),
        HERE(a_read_only_image_offers_nothing_that_writes),
        HERE(a_new_size_is_seen_when_asked_for),
        HERE(what_is_no_disk_is_refused_with_what_to_do),
        HERE(wrong_permissions_are_told_with_what_to_do),
        cmocka_unit_test_setup_teardown(past_the_page_cache_the_alignments_are_known_or_it_is_refused, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_file_goes_through_the_page_cache_unless_told_otherwise, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_file_in_memory_has_nobody_to_wait_for, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(where_there_is_no_o_direct_it_is_told, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Lies about memory: regions, rings' places, logs, in-flight records, and memory that goes away. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lies.h"

/* ADD_MEM_REG of @region with @handle. */
static enum outcome add_region(struct vhost_user_client *client, struct vhost_user_region region, int handle)
{
    struct vhost_user_single_region single = {.region = region};
    return tell(client, VHOST_USER_ADD_MEM_REG, &single, sizeof(single), &handle, handle >= 0 ? 1 : 0);
}

/* A region far from the honest one. */
static struct vhost_user_region other_region(const struct vhost_user_client *client)
{
    return (struct vhost_user_region){
        .guest_base = client->memory.guest_base + UINT64_C(0x100000000),
        .size = client->memory.size,
        .frontend_base = client->frontend_base + UINT64_C(0x100000000),
    };
}

static enum outcome region_of_no_bytes(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.size = 0;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_wraps_in_guest(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.guest_base = UINT64_MAX - 4095;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_wraps_in_front_end(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.frontend_base = UINT64_MAX - 4095;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_offset_wraps(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.mmap_offset = UINT64_MAX - 4095;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_past_the_end_of_its_file(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.mmap_offset = 4096;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_larger_than_any_space(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.size = UINT64_C(1) << 62;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_overlaps_in_guest(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.guest_base = client->memory.guest_base + client->memory.size - 4096;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_overlaps_in_front_end(struct vhost_user_client *client)
{
    struct vhost_user_region region = other_region(client);
    region.frontend_base = client->frontend_base + client->memory.size - 4096;
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_twice(struct vhost_user_client *client)
{
    struct vhost_user_region region = {client->memory.guest_base, client->memory.size, client->frontend_base, 0};
    return add_region(client, region, client->memory_handle);
}

static enum outcome region_without_handle(struct vhost_user_client *client)
{
    return add_region(client, other_region(client), -1);
}

static enum outcome region_with_two_handles(struct vhost_user_client *client)
{
    struct vhost_user_single_region single = {.region = other_region(client)};
    int handles[2] = {client->memory_handle, client->memory_handle};
    return tell(client, VHOST_USER_ADD_MEM_REG, &single, sizeof(single), handles, 2);
}

static enum outcome region_of_an_eventfd(struct vhost_user_client *client)
{
    int handle = eventfd(0, EFD_CLOEXEC);
    enum outcome outcome = add_region(client, other_region(client), handle);
    close(handle);
    return outcome;
}

static enum outcome region_of_read_only_memory(struct vhost_user_client *client)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", client->memory_handle);
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    enum outcome outcome = add_region(client, other_region(client), handle);
    close(handle);
    return outcome;
}

static enum outcome region_removed_that_is_not_there(struct vhost_user_client *client)
{
    struct vhost_user_single_region single = {.region = other_region(client)};
    return tell(client, VHOST_USER_REM_MEM_REG, &single, sizeof(single), NULL, 0);
}

static enum outcome region_removed_in_half(struct vhost_user_client *client)
{
    struct vhost_user_single_region single = {
        .region = {client->memory.guest_base, client->memory.size / 2, client->frontend_base, 0}};
    return tell(client, VHOST_USER_REM_MEM_REG, &single, sizeof(single), NULL, 0);
}

/*
 * All memory goes from under a running ring: the removal is granted, and the ring waits until memory holds it again, as
 * some front ends take a region away to give it back in another shape.
 */
static enum outcome memory_removed_under_a_running_ring(struct vhost_user_client *client)
{
    struct vhost_user_single_region single = {
        .region = {client->memory.guest_base, client->memory.size, client->frontend_base, 0}};
    enum outcome outcome = tell(client, VHOST_USER_REM_MEM_REG, &single, sizeof(single), NULL, 0);
    client_kick(client, 0);
    return outcome;
}

static enum outcome table_replaced_under_a_running_ring(struct vhost_user_client *client)
{
    struct vhost_user_memory_table table = {.region_count = 1, .regions = {other_region(client)}};
    return tell(client, VHOST_USER_SET_MEM_TABLE, &table, 8 + sizeof(table.regions[0]), &client->memory_handle, 1);
}

/* The memory's file shrinks while it is mapped: touching it raises SIGBUS in the back end. */
static enum outcome memory_truncated_under_a_running_ring(struct vhost_user_client *client)
{
    if (ftruncate(client->memory_handle, 0) < 0)
        return OUTCOME_NONE;
    client_kick(client, 0);
    enum outcome outcome = wait_hung_up(client);
    if (ftruncate(client->memory_handle, (off_t)client->memory.size) < 0)
        return OUTCOME_NONE;
    return outcome;
}

static enum outcome set_table(struct vhost_user_client *client, uint32_t count, uint32_t regions, unsigned handles)
{
    struct vhost_user_memory_table table = {.region_count = count};
    int list[VHOST_USER_TABLE_REGIONS_MAX];
    for (unsigned i = 0; i < VHOST_USER_TABLE_REGIONS_MAX; i++) {
        table.regions[i] = (struct vhost_user_region){
            .guest_base = LIES_GUEST_BASE + i * client->memory.size,
            .size = client->memory.size,
            .frontend_base = client->frontend_base + i * client->memory.size,
        };
        list[i] = client->memory_handle;
    }
    return tell(client, VHOST_USER_SET_MEM_TABLE, &table, 8 + regions * (uint32_t)sizeof(table.regions[0]), list,
                handles);
}

static enum outcome table_of_nine(struct vhost_user_client *client)
{
    return set_table(client, 9, 8, 8);
}

static enum outcome table_that_says_three_and_has_two(struct vhost_user_client *client)
{
    return set_table(client, 3, 2, 3);
}

static enum outcome table_with_a_handle_missing(struct vhost_user_client *client)
{
    return set_table(client, 3, 3, 2);
}

static enum outcome table_with_a_handle_too_many(struct vhost_user_client *client)
{
    return set_table(client, 2, 2, 3);
}

static enum outcome table_that_overlaps_itself(struct vhost_user_client *client)
{
    struct vhost_user_memory_table table = {.region_count = 2};
    table.regions[0] = other_region(client);
    table.regions[1] = other_region(client);
    table.regions[1].guest_base += 4096;
    table.regions[1].frontend_base += client->memory.size;
    int handles[2] = {client->memory_handle, client->memory_handle};
    return tell(client, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * sizeof(table.regions[0]), handles, 2);
}

/* Rings: an address for queue 0 whose ring is otherwise ready, then its kick line. */
static enum outcome place_ring(struct vhost_user_client *client, uint64_t desc, uint64_t avail, uint64_t used)
{
    struct vhost_user_vring_state state = {.index = 0, .num = LIES_RING_SIZE};
    client_call_ack(client, VHOST_USER_SET_VRING_NUM, &state, sizeof(state), NULL, 0);
    uint64_t none = VHOST_USER_VRING_NO_FD, line = 0;
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->queues[0].error = handle;
    client_call_ack(client, VHOST_USER_SET_VRING_ERR, &line, sizeof(line), &handle, 1);
    struct vhost_user_vring_address address = {
        .index = 0, .desc = client->frontend_base + desc, .avail = client->frontend_base + avail};
    address.used = client->frontend_base + used;
    enum outcome outcome = tell(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    if (outcome != OUTCOME_SERVED)
        return outcome;
    state.num = 1;
    outcome = tell(client, VHOST_USER_SET_VRING_ENABLE, &state, sizeof(state), NULL, 0);
    if (outcome != OUTCOME_SERVED)
        return outcome;
    outcome = tell(client, VHOST_USER_SET_VRING_KICK, &none, sizeof(none), NULL, 0);
    return outcome == OUTCOME_SERVED ? wait_broken(client, 0) : outcome;
}

static enum outcome descriptors_outside_memory(struct vhost_user_client *client)
{
    return place_ring(client, client->memory.size + 4096, 0x2000, 0x3000);
}

static enum outcome available_ring_past_the_end(struct vhost_user_client *client)
{
    return place_ring(client, 0x1000, client->memory.size - 16, 0x3000);
}

static enum outcome used_ring_past_the_end(struct vhost_user_client *client)
{
    return place_ring(client, 0x1000, 0x2000, client->memory.size - 16);
}

static enum outcome descriptors_unaligned(struct vhost_user_client *client)
{
    return place_ring(client, 0x1008, 0x2000, 0x3000);
}

static enum outcome available_ring_unaligned(struct vhost_user_client *client)
{
    return place_ring(client, 0x1000, 0x2001, 0x3000);
}

static enum outcome used_ring_unaligned(struct vhost_user_client *client)
{
    return place_ring(client, 0x1000, 0x2000, 0x3002);
}

static enum outcome ring_moved_outside_while_it_runs(struct vhost_user_client *client)
{
    struct vhost_user_vring_address address = {.index = 0, .desc = 16, .avail = 16, .used = 16};
    enum outcome outcome = tell(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    return outcome == OUTCOME_SERVED ? wait_broken(client, 0) : outcome;
}

/* SET_LOG_BASE answers with a u64 (0: done) where LOG_SHMFD is negotiated. */
static enum outcome set_log(struct vhost_user_client *client, uint64_t size, uint64_t offset, int handle)
{
    struct vhost_user_log log = {.size = size, .offset = offset};
    return tell(client, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), &handle, handle >= 0 ? 1 : 0);
}

static enum outcome log_without_handle(struct vhost_user_client *client)
{
    return set_log(client, 4096, 0, -1);
}

static enum outcome log_larger_than_its_file(struct vhost_user_client *client)
{
    return set_log(client, client->memory.size * 2, 0, client->memory_handle);
}

static enum outcome log_offset_wraps(struct vhost_user_client *client)
{
    return set_log(client, 4096, UINT64_MAX - 100, client->memory_handle);
}

static enum outcome log_of_no_bytes(struct vhost_user_client *client)
{
    return set_log(client, 0, 0, client->memory_handle);
}

static enum outcome get_inflight(struct vhost_user_client *client, uint16_t queues, uint16_t size)
{
    struct vhost_user_inflight inflight = {.queue_count = queues, .queue_size = size};
    struct vhost_user_message answer = {0};
    int r = client_call(client, VHOST_USER_GET_INFLIGHT_FD, &inflight, VHOST_USER_INFLIGHT_BYTES, &answer);
    if (r < 0)
        return OUTCOME_HUNG_UP;
    for (unsigned i = 0; i < answer.handle_count; i++)
        close(answer.handles[i]);
    return answer.payload.inflight.mmap_size == 0 ? OUTCOME_EMPTY : OUTCOME_SERVED;
}

static enum outcome inflight_of_no_queues(struct vhost_user_client *client)
{
    return get_inflight(client, 0, 64);
}

static enum outcome inflight_of_too_many_queues(struct vhost_user_client *client)
{
    return get_inflight(client, 60000, 64);
}

static enum outcome inflight_of_odd_size(struct vhost_user_client *client)
{
    return get_inflight(client, 1, 100);
}

static enum outcome inflight_of_size_zero(struct vhost_user_client *client)
{
    return get_inflight(client, 1, 0);
}

static enum outcome set_inflight(struct vhost_user_client *client, struct vhost_user_inflight inflight)
{
    return tell(client, VHOST_USER_SET_INFLIGHT_FD, &inflight, VHOST_USER_INFLIGHT_BYTES, &client->memory_handle, 1);
}

static enum outcome inflight_record_too_small(struct vhost_user_client *client)
{
    return set_inflight(client, (struct vhost_user_inflight){.mmap_size = 64, .queue_count = 1, .queue_size = 64});
}

static enum outcome inflight_record_past_its_file(struct vhost_user_client *client)
{
    return set_inflight(
        client, (struct vhost_user_inflight){
                    .mmap_size = 8192, .mmap_offset = client->memory.size - 1024, .queue_count = 1, .queue_size = 64});
}

static enum outcome inflight_record_of_another_version(struct vhost_user_client *client)
{
    struct virtq_record_split *record = (void *)(client->memory.host + 0x80000);
    record->version = 77;
    struct vhost_user_inflight inflight = {
        .mmap_size = 0x10000, .mmap_offset = 0x80000, .queue_count = 1, .queue_size = 64};
    return set_inflight(client, inflight);
}

static enum outcome inflight_record_unaligned(struct vhost_user_client *client)
{
    return set_inflight(client, (struct vhost_user_inflight){
                                    .mmap_size = 0x10000, .mmap_offset = 3, .queue_count = 1, .queue_size = 64});
}

static enum outcome inflight_record_under_a_running_ring(struct vhost_user_client *client)
{
    return set_inflight(client, (struct vhost_user_inflight){.mmap_size = 0x10000, .queue_count = 1, .queue_size = 64});
}

static enum outcome inflight_record_without_handle(struct vhost_user_client *client)
{
    struct vhost_user_inflight inflight = {.mmap_size = 8192, .queue_count = 1, .queue_size = 64};
    return tell(client, VHOST_USER_SET_INFLIGHT_FD, &inflight, VHOST_USER_INFLIGHT_BYTES, NULL, 0);
}

/* A record with entries that are neither in flight nor not, given to a ring about to start. */
static enum outcome inflight_record_contradicts_itself(struct vhost_user_client *client)
{
    struct virtq_record_split *record = (void *)(client->memory.host + 0x80000);
    record->version = 1;
    record->desc_num = 64;
    record->desc[5].inflight = 9;
    struct vhost_user_inflight inflight = {
        .mmap_size = 0x10000, .mmap_offset = 0x80000, .queue_count = 1, .queue_size = 64};
    enum outcome outcome = set_inflight(client, inflight);
    return outcome == OUTCOME_SERVED ? place_ring(client, 0x1000, 0x2000, 0x3000) : outcome;
}

const struct lie memory_lies[] = {
    {"a region of no bytes", STAGE_MEMORY, OUTCOME_REFUSED, region_of_no_bytes},
    {"a region that wraps in guest addresses", STAGE_MEMORY, OUTCOME_REFUSED, region_wraps_in_guest},
    {"a region that wraps in front-end addresses", STAGE_MEMORY, OUTCOME_REFUSED, region_wraps_in_front_end},
    {"a region whose file offset wraps", STAGE_MEMORY, OUTCOME_REFUSED, region_offset_wraps},
    {"a region past the end of its file", STAGE_MEMORY, OUTCOME_REFUSED, region_past_the_end_of_its_file},
    {"a region of 2^62 bytes", STAGE_MEMORY, OUTCOME_REFUSED, region_larger_than_any_space},
    {"a region that overlaps in guest addresses", STAGE_MEMORY, OUTCOME_REFUSED, region_overlaps_in_guest},
    {"a region that overlaps in front-end addresses", STAGE_MEMORY, OUTCOME_REFUSED, region_overlaps_in_front_end},
    {"a region twice", STAGE_MEMORY, OUTCOME_REFUSED, region_twice},
    {"a region without a descriptor", STAGE_MEMORY, OUTCOME_REFUSED, region_without_handle},
    {"a region with two descriptors", STAGE_MEMORY, OUTCOME_REFUSED, region_with_two_handles},
    {"an eventfd for memory", STAGE_MEMORY, OUTCOME_REFUSED, region_of_an_eventfd},
    {"memory that may only be read", STAGE_MEMORY, OUTCOME_REFUSED, region_of_read_only_memory},
    {"a region removed that is not there", STAGE_MEMORY, OUTCOME_REFUSED, region_removed_that_is_not_there},
    {"half a region removed", STAGE_MEMORY, OUTCOME_REFUSED, region_removed_in_half},
    {"memory removed under a running ring", STAGE_RUNNING, OUTCOME_SERVED, memory_removed_under_a_running_ring},
    {"the table replaced under a running ring", STAGE_RUNNING, OUTCOME_REFUSED, table_replaced_under_a_running_ring},
    {"memory truncated under a running ring", STAGE_RUNNING, OUTCOME_HUNG_UP, memory_truncated_under_a_running_ring},
    {"a table of nine regions", STAGE_NEGOTIATED, OUTCOME_REFUSED, table_of_nine},
    {"a table that says three and has two", STAGE_NEGOTIATED, OUTCOME_REFUSED, table_that_says_three_and_has_two},
    {"a table with a descriptor missing", STAGE_NEGOTIATED, OUTCOME_REFUSED, table_with_a_handle_missing},
    {"a table with a descriptor too many", STAGE_NEGOTIATED, OUTCOME_REFUSED, table_with_a_handle_too_many},
    {"a table that overlaps itself", STAGE_NEGOTIATED, OUTCOME_REFUSED, table_that_overlaps_itself},
    {"descriptors outside memory", STAGE_MEMORY, OUTCOME_REFUSED, descriptors_outside_memory},
    {"an available ring past the end of memory", STAGE_MEMORY, OUTCOME_REFUSED, available_ring_past_the_end},
    {"a used ring past the end of memory", STAGE_MEMORY, OUTCOME_REFUSED, used_ring_past_the_end},
    {"descriptors not aligned to 16", STAGE_MEMORY, OUTCOME_REFUSED, descriptors_unaligned},
    {"an available ring not aligned to 2", STAGE_MEMORY, OUTCOME_REFUSED, available_ring_unaligned},
    {"a used ring not aligned to 4", STAGE_MEMORY, OUTCOME_REFUSED, used_ring_unaligned},
    {"a running ring moved outside memory", STAGE_RUNNING, OUTCOME_REFUSED, ring_moved_outside_while_it_runs},
    {"a log without a descriptor", STAGE_MEMORY, OUTCOME_REFUSED, log_without_handle},
    {"a log larger than its file", STAGE_MEMORY, OUTCOME_REFUSED, log_larger_than_its_file},
    {"a log whose offset wraps", STAGE_MEMORY, OUTCOME_REFUSED, log_offset_wraps},
    {"a log of no bytes", STAGE_MEMORY, OUTCOME_REFUSED, log_of_no_bytes},
    {"an in-flight record of no queues", STAGE_MEMORY, OUTCOME_EMPTY, inflight_of_no_queues},
    {"an in-flight record of 60000 queues", STAGE_MEMORY, OUTCOME_EMPTY, inflight_of_too_many_queues},
    {"an in-flight record of 100 entries", STAGE_MEMORY, OUTCOME_EMPTY, inflight_of_odd_size},
    {"an in-flight record of 0 entries", STAGE_MEMORY, OUTCOME_EMPTY, inflight_of_size_zero},
    {"an in-flight record too small", STAGE_MEMORY, OUTCOME_REFUSED, inflight_record_too_small},
    {"an in-flight record past its file", STAGE_MEMORY, OUTCOME_REFUSED, inflight_record_past_its_file},
    {"an in-flight record without a descriptor", STAGE_MEMORY, OUTCOME_REFUSED, inflight_record_without_handle},
    {"an in-flight record of another version", STAGE_MEMORY, OUTCOME_REFUSED, inflight_record_of_another_version},
    {"an in-flight record askew", STAGE_MEMORY, OUTCOME_REFUSED, inflight_record_unaligned},
    {"an in-flight record under a running ring", STAGE_RUNNING, OUTCOME_REFUSED, inflight_record_under_a_running_ring},
    {"an in-flight record that contradicts itself", STAGE_MEMORY, OUTCOME_REFUSED, inflight_record_contradicts_itself},
};
const unsigned memory_lie_count = ARRAY_SIZE(memory_lies);

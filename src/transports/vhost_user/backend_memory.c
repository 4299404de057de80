/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front end's memory: guest memory ("Memory access") and the log of dirty pages ("Migration").
 *
 * Theory of operation
 *
 * There are two maps. Queues read the current one; the next is built in the other, and a message that is refused leaves
 * it empty again, with its mappings undone.
 *
 * Memory that is added needs no queue to stop: the next map is the current one and more, each queue exchanges it
 * between two runs, and after the last one nobody reads the old map, though its mappings live on in the new one.
 * Memory that is taken away must wait until every queue has stopped, since requests in flight point into it. A new
 * table replaces everything; it is judged first, rings that run must lie in it, and only then queues are stopped,
 * mappings undone, and queues started where they were.
 *
 * REM_MEM_REG may take away the memory of a running ring: QEMU does so when a region grows or is split, and adds it
 * anew with the next message. Such a ring does not start again until its memory is back, and then goes on.
 *
 * The log is exchanged like added memory: a page is marked after the write, with the log that is current then.
 *
 * Limits
 *
 * GUEST_MEMORY_REGIONS_MAX regions. No postcopy. Bits past the end of the log are dropped (memory/dirty_log.h). Without
 * LOG_SHMFD a log would be an address in the front end, which we cannot reach: it is refused.
 */
#include <errno.h>

#include "transports/vhost_user/backend_private.h"

static struct guest_memory *current_map(struct vhost_user_backend *backend)
{
    return &backend->maps[backend->current_map];
}

static struct guest_memory *next_map(struct vhost_user_backend *backend)
{
    return &backend->maps[1 - backend->current_map];
}

static void unmap_region(struct vhost_user_backend *backend, const struct guest_region *region)
{
    const struct vhost_user_mapping mapping = {.base = region->host, .bytes = region->size, .owner = region->owner};
    backend->port->class->unmap(backend->port, &mapping);
}

static void unmap_all(struct vhost_user_backend *backend, struct guest_memory *memory)
{
    for (uint32_t i = 0; i < memory->region_count; i++)
        unmap_region(backend, &memory->regions[i]);
    guest_memory_init(memory, NULL);
}

/* Map @region from @handle, which stays the caller's, and add it to @memory. All or nothing. */
static int map_region(struct vhost_user_backend *backend, struct guest_memory *memory,
                      const struct vhost_user_region *region, int handle)
{
    uint64_t end;
    if (region->size == 0)
        return backend_wrong(backend, -EINVAL, "a region of no bytes");
    if (add_overflows_u64(region->mmap_offset, region->size, &end))
        return backend_wrong(backend, -EINVAL, "a region whose file offset wraps");

    struct vhost_user_mapping mapping;
    int r = backend->port->class->map(backend->port, handle, region->mmap_offset, region->size, &mapping);
    if (r < 0)
        return backend_wrong(backend, r,
                             r == -ENXIO ? "a region past the end of its file" : "a region cannot be mapped");

    const struct guest_region added = {
        .guest_base = region->guest_base,
        .size = region->size,
        .frontend_base = region->frontend_base,
        .host = mapping.base,
        .owner = mapping.owner,
    };
    r = guest_memory_add(memory, &added);
    if (r == 0)
        return 0;
    backend->port->class->unmap(backend->port, &mapping);
    return backend_wrong(backend, r,
                         r == -EEXIST   ? "a region overlaps another"
                         : r == -ENOSPC ? "more regions than there are slots"
                                        : "a region's addresses wrap");
}

int backend_set_mem_table(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_memory_table *table = &message->payload.table;
    struct guest_memory *next = next_map(backend);

    guest_memory_init(next, NULL);
    int r = 0;
    for (uint32_t i = 0; i < table->region_count && r == 0; i++)
        r = map_region(backend, next, &table->regions[i], message->handles[i]);
    if (r == 0)
        r = backend_rings_fit(backend, next);
    if (r < 0) {
        unmap_all(backend, next);
        return r;
    }
    return backend_wait_begin(backend, VHOST_USER_WAIT_MEMORY, message, BACKEND_ALL_RINGS);
}

int backend_add_mem_region(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    struct guest_memory *next = next_map(backend);

    *next = *current_map(backend);
    int r = map_region(backend, next, &message->payload.region.region, message->handles[0]);
    if (r == 0) {
        backend->current_map = 1 - backend->current_map;
        backend_rings_exchange(backend);
    }
    /* Whichever lost: its mappings are those of the other. */
    guest_memory_init(next_map(backend), NULL);
    if (r == 0)
        backend_rings_start(backend);
    return r;
}

static bool has_region(const struct guest_memory *memory, const struct vhost_user_region *region)
{
    const struct guest_region *found = guest_memory_find(memory, region->guest_base);
    return found != NULL && found->guest_base == region->guest_base && found->size == region->size &&
           found->frontend_base == region->frontend_base;
}

int backend_remove_mem_region(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    if (!has_region(current_map(backend), &message->payload.region.region))
        return backend_wrong(backend, -ENOENT, "no region is exactly this one");
    return backend_wait_begin(backend, VHOST_USER_WAIT_MEMORY, message, BACKEND_ALL_RINGS);
}

void backend_memory_finish(struct vhost_user_backend *backend)
{
    if (backend->waiting.header.request == VHOST_USER_SET_MEM_TABLE) {
        unmap_all(backend, current_map(backend));
        backend->current_map = 1 - backend->current_map;
        return;
    }
    const struct vhost_user_region *region = &backend->waiting.payload.region.region;
    struct guest_region removed;
    int r =
        guest_memory_remove(current_map(backend), region->guest_base, region->size, region->frontend_base, &removed);
    ASSERT(r == 0);
    unmap_region(backend, &removed);
}

void backend_memory_abandon(struct vhost_user_backend *backend)
{
    /* No queue has seen the next map. */
    if (backend->waiting.header.request == VHOST_USER_SET_MEM_TABLE)
        unmap_all(backend, next_map(backend));
}

void backend_memory_done(struct vhost_user_backend *backend)
{
    unmap_all(backend, current_map(backend));
}

/* Go on with log @next of the two, and let the other go. */
static void exchange_log(struct vhost_user_backend *backend, unsigned next)
{
    unsigned old = backend->current_log;
    backend->current_log = next;
    backend_rings_exchange(backend);
    if (backend->log_mappings[old].base != NULL)
        backend->port->class->unmap(backend->port, &backend->log_mappings[old]);
    backend->log_mappings[old] = (struct vhost_user_mapping){0};
    backend->logs[old] = (struct dirty_log){0};
}

static int map_log(struct vhost_user_backend *backend, const struct vhost_user_message *message)
{
    const struct vhost_user_log *log = &message->payload.log;
    uint64_t end;
    if (message->header.size != sizeof(*log) || message->handle_count != 1)
        return backend_wrong(backend, -EBADMSG, "a log needs its size, its offset and one descriptor");
    if (log->size == 0)
        return backend_wrong(backend, -EINVAL, "a log of no bytes");
    if (add_overflows_u64(log->offset, log->size, &end))
        return backend_wrong(backend, -EINVAL, "a log whose file offset wraps");

    unsigned next = 1 - backend->current_log;
    struct vhost_user_mapping mapping;
    int r = backend->port->class->map(backend->port, message->handles[0], log->offset, log->size, &mapping);
    if (r < 0)
        return backend_wrong(backend, r, r == -ENXIO ? "a log past the end of its file" : "a log cannot be mapped");
    backend->log_mappings[next] = mapping;
    backend->logs[next] = (struct dirty_log){.bits = mapping.base, .size_bytes = log->size};
    exchange_log(backend, next);
    return 0;
}

int backend_set_log_base(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    if (!backend_negotiated(backend, VHOST_USER_PROTOCOL_F_LOG_SHMFD))
        return backend_wrong(backend, -EOPNOTSUPP, "a log needs LOG_SHMFD");
    int r = map_log(backend, message);
    if (r < 0)
        return r;
    backend_reply_u64(backend, VHOST_USER_SET_LOG_BASE, 0);
    return BACKEND_ANSWERED;
}

int backend_set_log_line(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    backend_close(backend, &backend->log_line);
    backend->log_line = backend_take_handle(message, 0);
    return 0;
}

void backend_log_done(struct vhost_user_backend *backend)
{
    ASSERT(!backend_any_running(backend));
    exchange_log(backend, 1 - backend->current_log);
    backend_close(backend, &backend->log_line);
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The kernel is given what it needs by ioctls: memory by our addresses, each ring, an eventfd for kicks and one for
 * interrupts. A network queue moves data while it has the tap (VHOST_NET_SET_BACKEND); a socket's two queues begin
 * together (VHOST_VSOCK_SET_RUNNING), when both are set up, and stop together, when one of them does.
 *
 * The kernel knows features of the ring and few more. A network card's offloads are the tap's (TUNSETOFFLOAD), its
 * address and the like are ours. Queue 2 of a socket, for events, is the device's own: it is taken, and never has
 * anything, since connections outlive nothing here.
 *
 * Limits
 *
 * One pair of network queues, no control queue. Split rings: the kernel has no others. No dirty log.
 */
#include "platform/linux/vhost_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/linux/vhost_ioctl.h"

static const unsigned vhost_kernel_requests[] = {
    VHOST_SET_FEATURES,      VHOST_SET_MEM_TABLE,  VHOST_SET_VRING_NUM,  VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE,
    VHOST_GET_VRING_BASE,    VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,  VHOST_NET_SET_BACKEND,
    VHOST_VSOCK_SET_RUNNING, TUNSETOFFLOAD,        TUNSETVNETHDRSZ,
};
const struct sandbox_calls vhost_kernel_system_calls = {.requests = vhost_kernel_requests,
                                                        .request_count = ARRAY_SIZE(vhost_kernel_requests)};

#define VHOST_KERNEL_QUEUE_SIZE_DEFAULT 256

/* 5.1.3 */
#define NET_F_CSUM (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_MTU (UINT64_C(1) << 3)
#define NET_F_MAC (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_GUEST_ECN (UINT64_C(1) << 9)
#define NET_F_HOST_TSO4 (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6 (UINT64_C(1) << 12)
#define NET_F_HOST_ECN (UINT64_C(1) << 13)
#define NET_F_MRG_RXBUF (UINT64_C(1) << 15)
#define NET_F_STATUS (UINT64_C(1) << 16)
#define NET_GUEST_OFFLOADS (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN)

/* 5.1.4: mac, status, max_virtqueue_pairs, mtu */
#define NET_CONFIG_BYTES 12
#define NET_CONFIG_STATUS 6
#define NET_CONFIG_PAIRS 8
#define NET_CONFIG_MTU 10
#define NET_STATUS_LINK_UP 1
/* 5.1.6: of a header with num_buffers, as every modern one is */
#define NET_HEADER_BYTES 12

/* 5.10.4 */
#define VSOCK_CONFIG_BYTES 8
#define VSOCK_QUEUES 3
#define VSOCK_DATA_QUEUES 2
/* 5.10.3 */
#define VSOCK_F_SEQPACKET (UINT64_C(1) << 1)
/* 0 to 2 are the hypervisor, loopback and host; the last one is "any". */
#define VSOCK_CID_MIN 3
#define VSOCK_CID_MAX (UINT64_C(0xffffffff) - 1)

#define RING_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

static struct vhost_kernel *device_of(struct virtio_backend *virtio)
{
    return container_of(virtio, struct vhost_kernel, virtio);
}

static const struct vhost_kernel *device_of_const(const struct virtio_backend *virtio)
{
    return (const struct vhost_kernel *)(const void *)((const char *)virtio - offsetof(struct vhost_kernel, virtio));
}

static int system_open(struct vhost_kernel_port *port, const char *path)
{
    (void)port;
    int handle = open(path, O_RDWR | O_CLOEXEC);
    return handle < 0 ? -errno : handle;
}

static int system_control(struct vhost_kernel_port *port, int handle, unsigned long request, void *argument)
{
    (void)port;
    int r = ioctl(handle, request, argument);
    return r < 0 ? -errno : r;
}

static const struct vhost_kernel_port_class system_class = {.open = system_open, .control = system_control};
static const struct vhost_kernel_port system_port = {.class = &system_class};

static int control(struct vhost_kernel *device, unsigned long request, void *argument)
{
    struct vhost_kernel_port *port = device->options.port;
    return port->class->control(port, device->handle, request, argument);
}

static int refuse(struct vhost_kernel *device, int error, const char *reason)
{
    device->refused_reason = reason;
    return error;
}

static void signal_handle(int handle)
{
    const uint64_t one = 1;
    ssize_t written = write(handle, &one, sizeof(one));
    (void)written; /* a full one is signalled already */
}

/* Memory */

/* Where [@address, @address + @bytes) is in this process, or NULL. */
static uint8_t *host_of(const struct vhost_kernel_region *regions, unsigned count, uint64_t address, uint64_t bytes)
{
    for (unsigned i = 0; i < count; i++)
        if (address >= regions[i].guest_base && range_within(address - regions[i].guest_base, bytes, regions[i].size))
            return regions[i].host + (address - regions[i].guest_base);
    return NULL;
}

/* The parts of a ring as the kernel wants them. */
static int find_ring(struct vhost_kernel *device, const struct vhost_kernel_region *regions, unsigned count,
                     const struct virtqueue_config *config, struct vhost_vring_addr *ret_address)
{
    uint32_t size = config->size;
    if (!is_power_of_two(size) || size > device->virtio.queue_size_max)
        return refuse(device, -EINVAL, "a ring of a size that no ring has here");
    if (!is_aligned(config->desc_address, VRING_DESC_ALIGN) || !is_aligned(config->avail_address, VRING_AVAIL_ALIGN) ||
        !is_aligned(config->used_address, VRING_USED_ALIGN))
        return refuse(device, -EINVAL, "a ring that is not aligned");
    const uint8_t *desc = host_of(regions, count, config->desc_address, vring_desc_bytes(size));
    const uint8_t *avail = host_of(regions, count, config->avail_address, vring_avail_bytes(size));
    const uint8_t *used = host_of(regions, count, config->used_address, vring_used_bytes(size));
    if (!desc || !avail || !used)
        return refuse(device, -EFAULT, "a ring outside of guest memory");
    ret_address->desc_user_addr = (uintptr_t)desc;
    ret_address->avail_user_addr = (uintptr_t)avail;
    ret_address->used_user_addr = (uintptr_t)used;
    return 0;
}

static int send_memory(struct vhost_kernel *device, const struct vhost_kernel_region *regions, unsigned count)
{
    union {
        struct vhost_memory table;
        uint8_t bytes[sizeof(struct vhost_memory) + VHOST_KERNEL_REGIONS_MAX * sizeof(struct vhost_memory_region)];
    } memory;
    memset(&memory, 0, sizeof(memory));
    memory.table.nregions = count;
    for (unsigned i = 0; i < count; i++)
        memory.table.regions[i] = (struct vhost_memory_region){
            .guest_phys_addr = regions[i].guest_base,
            .memory_size = regions[i].size,
            .userspace_addr = (uintptr_t)regions[i].host,
        };
    int r = control(device, VHOST_SET_MEM_TABLE, &memory);
    if (r == -E2BIG)
        r = -ENOSPC;
    return r < 0 ? refuse(device, r, "the kernel does not take the memory") : 0;
}

int vhost_kernel_set_memory(struct vhost_kernel *device, const struct vhost_kernel_region *regions, unsigned count)
{
    if (count > VHOST_KERNEL_REGIONS_MAX)
        return refuse(device, -ENOSPC, "more memory regions than the kernel takes");
    for (unsigned i = 0; i < device->virtio.queue_count; i++) {
        struct vhost_vring_addr address;
        if (device->queues[i].running && find_ring(device, regions, count, &device->queues[i].config, &address) < 0)
            return refuse(device, -EBUSY, "a queue that runs does not lie in the regions");
    }
    int r = send_memory(device, regions, count);
    if (r < 0)
        return r;
    memcpy(device->regions, regions, count * sizeof(regions[0]));
    device->region_count = count;
    return 0;
}

/* Features and configuration */

static uint64_t features(const struct virtio_backend *virtio)
{
    return device_of_const(virtio)->offered;
}

static int set_offloads(struct vhost_kernel *device, uint64_t chosen)
{
    unsigned long offloads = 0;
    if ((chosen & NET_F_GUEST_CSUM) != 0) {
        offloads |= TUN_F_CSUM;
        offloads |= (chosen & NET_F_GUEST_TSO4) != 0 ? TUN_F_TSO4 : 0;
        offloads |= (chosen & NET_F_GUEST_TSO6) != 0 ? TUN_F_TSO6 : 0;
        offloads |= (chosen & NET_F_GUEST_ECN) != 0 ? TUN_F_TSO_ECN : 0;
    }
    struct vhost_kernel_port *port = device->options.port;
    return port->class->control(port, device->tap, TUNSETOFFLOAD, (void *)(uintptr_t)offloads);
}

static int set_features(struct virtio_backend *virtio, uint64_t chosen)
{
    struct vhost_kernel *device = device_of(virtio);
    if ((chosen & ~device->offered) != 0)
        return refuse(device, -EINVAL, "features that are not on offer");
    /* The tap's header has the length of a modern device's. */
    if ((chosen & VIRTIO_F_VERSION_1) == 0)
        return refuse(device, -EINVAL, "a legacy driver");
    if (device->tap >= 0 && set_offloads(device, chosen) < 0)
        return refuse(device, -EINVAL, "the tap does not take these offloads");
    uint64_t kernel_features = chosen & device->kernel_features;
    int r = control(device, VHOST_SET_FEATURES, &kernel_features);
    if (r < 0)
        return refuse(device, r, "the kernel does not take the features");
    device->features = chosen;
    device->features_set = true;
    return 0;
}

static void config_read(const struct virtio_backend *virtio, uint32_t offset, void *to, uint32_t size)
{
    const struct vhost_kernel *device = device_of_const(virtio);
    uint32_t bytes = offset < virtio->config_bytes ? u32_min(size, virtio->config_bytes - offset) : 0;
    memset(to, 0, size);
    memcpy(to, device->config + (bytes > 0 ? offset : 0), bytes);
}

/* 5.1.4.2, 5.10.4: a modern driver writes nothing there. */
static int config_write(struct virtio_backend *virtio, uint32_t offset, const void *from, uint32_t size)
{
    (void)from;
    return size > 0 && range_within(offset, size, virtio->config_bytes) ? -EPERM : -EINVAL;
}

static uint32_t config_generation(const struct virtio_backend *virtio)
{
    (void)virtio;
    return 0;
}

/* Queues */

static bool is_data_queue(const struct vhost_kernel *device, unsigned index)
{
    return device->tap >= 0 || index < VSOCK_DATA_QUEUES;
}

/* Sockets: both queues, or neither. */
static int sync_vsock(struct vhost_kernel *device, bool may_run)
{
    int runs = may_run && device->queues[0].running && device->queues[1].running;
    if (device->tap >= 0 || device->vsock_runs == (runs != 0))
        return 0;
    int r = control(device, VHOST_VSOCK_SET_RUNNING, &runs);
    if (r == 0)
        device->vsock_runs = runs != 0;
    return r;
}

static int set_tap(struct vhost_kernel *device, unsigned index, int tap)
{
    struct vhost_vring_file file = {.index = index, .fd = tap};
    return device->tap >= 0 ? control(device, VHOST_NET_SET_BACKEND, &file) : 0;
}

static void call_ready(struct loop_watch *watch, unsigned events)
{
    const struct vhost_kernel_queue *queue = container_of(watch, struct vhost_kernel_queue, watch);
    struct virtio_listener *listener = queue->device->virtio.listener;
    (void)events;
    if (listener)
        listener->class->queue_notify(listener, (unsigned)(queue - queue->device->queues));
}

static int set_call(struct vhost_kernel *device, unsigned index)
{
    const struct vhost_kernel_queue *queue = &device->queues[index];
    struct vhost_vring_file file = {.index = index, .fd = queue->notify >= 0 ? queue->notify : queue->call};
    return control(device, VHOST_SET_VRING_CALL, &file);
}

/* All that the kernel must know of a ring, and that it is to serve it. */
static int start_ring(struct vhost_kernel *device, unsigned index, struct vhost_vring_addr *address)
{
    const struct vhost_kernel_queue *queue = &device->queues[index];
    struct vhost_vring_state size = {.index = index, .num = queue->config.size};
    struct vhost_vring_state base = {.index = index, .num = queue->config.base};
    struct vhost_vring_file kick = {.index = index, .fd = queue->kick};
    struct vhost_vring_file error = {.index = index, .fd = device->error_handle};
    address->index = index;
    int r = control(device, VHOST_SET_VRING_NUM, &size);
    if (r == 0)
        r = control(device, VHOST_SET_VRING_BASE, &base);
    if (r == 0)
        r = control(device, VHOST_SET_VRING_ADDR, address);
    if (r == 0)
        r = control(device, VHOST_SET_VRING_ERR, &error);
    if (r == 0)
        r = set_call(device, index);
    if (r == 0)
        r = control(device, VHOST_SET_VRING_KICK, &kick);
    if (r == 0)
        r = set_tap(device, index, device->tap);
    return r;
}

static int queue_start(struct virtio_backend *virtio, unsigned index, const struct virtqueue_config *config, int notify)
{
    struct vhost_kernel *device = device_of(virtio);
    ASSERT(index < virtio->queue_count && !device->queues[index].running);
    struct vhost_kernel_queue *queue = &device->queues[index];
    struct vhost_vring_addr address = {.index = index};
    if (notify < 0 && !virtio->notifies_listener)
        return refuse(device, -EINVAL, "a queue that notifies nobody");
    if (config->base > UINT16_MAX)
        return refuse(device, -EINVAL, "the base of a split ring has 16 bits");
    int r = find_ring(device, device->regions, device->region_count, config, &address);
    if (r < 0)
        return r;
    queue->config = *config;
    queue->notify = notify;
    if (!is_data_queue(device, index)) {
        queue->running = true;
        return 0;
    }
    r = start_ring(device, index, &address);
    if (r < 0)
        return refuse(device, r, "the kernel does not take the ring");
    queue->running = true;
    r = sync_vsock(device, true);
    if (r < 0) {
        queue->running = false;
        return refuse(device, r, "the kernel does not take the rings");
    }
    signal_handle(queue->kick); /* what is in the ring already */
    return 0;
}

static int queue_stop(struct virtio_backend *virtio, unsigned index)
{
    struct vhost_kernel *device = device_of(virtio);
    ASSERT(index < virtio->queue_count);
    struct vhost_kernel_queue *queue = &device->queues[index];
    struct vhost_vring_state state = {.index = index};
    if (!queue->running)
        return 0;
    queue->base = queue->config.base;
    if (is_data_queue(device, index)) {
        int r = sync_vsock(device, false);
        if (r == 0)
            r = set_tap(device, index, -1);
        if (r == 0)
            r = control(device, VHOST_GET_VRING_BASE, &state);
        /* Of a ring that it has taken the kernel lets go. */
        ASSERT(r == 0);
        queue->base = state.num;
    }
    queue->running = false;
    return 0;
}

static uint32_t queue_base(const struct virtio_backend *virtio, unsigned index)
{
    ASSERT(index < virtio->queue_count);
    return device_of_const(virtio)->queues[index].base;
}

static int queue_notify_by(struct virtio_backend *virtio, unsigned index, int notify)
{
    struct vhost_kernel *device = device_of(virtio);
    ASSERT(index < virtio->queue_count);
    struct vhost_kernel_queue *queue = &device->queues[index];
    if (notify < 0 && !virtio->notifies_listener)
        return refuse(device, -EINVAL, "a queue that notifies nobody");
    int old = queue->notify;
    queue->notify = notify;
    if (!queue->running || !is_data_queue(device, index))
        return 0;
    int r = set_call(device, index);
    if (r < 0) {
        queue->notify = old;
        return refuse(device, r, "the kernel does not take the handle");
    }
    /* The old one may have been signalled meanwhile, and lead nowhere any more. */
    signal_handle(notify >= 0 ? notify : queue->call);
    return 0;
}

static int queue_kick_handle(struct virtio_backend *virtio, unsigned index)
{
    ASSERT(index < virtio->queue_count);
    return device_of(virtio)->queues[index].kick;
}

static void queue_kick(struct virtio_backend *virtio, unsigned index)
{
    signal_handle(queue_kick_handle(virtio, index));
}

static int reset(struct virtio_backend *virtio)
{
    struct vhost_kernel *device = device_of(virtio);
    for (unsigned i = 0; i < virtio->queue_count; i++) {
        ASSERT(!device->queues[i].running);
        device->queues[i].base = 0;
    }
    device->features = 0;
    device->features_set = false;
    return 0;
}

static const struct virtio_backend_class vhost_kernel_class = {
    .name = "vhost",
    .features = features,
    .set_features = set_features,
    .config_read = config_read,
    .config_write = config_write,
    .config_generation = config_generation,
    .queue_start = queue_start,
    .queue_stop = queue_stop,
    .queue_base = queue_base,
    .queue_notify_by = queue_notify_by,
    .queue_kick = queue_kick,
    .queue_kick_handle = queue_kick_handle,
    .reset = reset,
};

/* The kernel found a ring that it cannot follow. */
static void error_ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_kernel *device = container_of(watch, struct vhost_kernel, error_watch);
    struct virtio_listener *listener = device->virtio.listener;
    (void)events;
    if (device->options.lock)
        device->options.lock(device->options.lock_argument);
    if (listener && device->features_set)
        listener->class->broken(listener);
    if (device->options.unlock)
        device->options.unlock(device->options.lock_argument);
}

/* Opening */

static int open_net(struct vhost_kernel *device)
{
    const struct vhost_kernel_options *options = &device->options;
    struct vhost_kernel_port *port = options->port;
    static const uint8_t no_mac[sizeof(options->mac)];
    struct ifreq request = {.ifr_flags = 0};
    int r = port->class->control(port, device->tap, TUNGETIFF, &request);
    if (r < 0)
        return refuse(device, -EINVAL, "the handle is not that of a tap");
    if ((request.ifr_flags & (IFF_TAP | IFF_VNET_HDR | IFF_NO_PI)) != (IFF_TAP | IFF_VNET_HDR | IFF_NO_PI))
        return refuse(device, -EINVAL, "the tap is not made with IFF_VNET_HDR and IFF_NO_PI");
    int header_bytes = NET_HEADER_BYTES;
    r = port->class->control(port, device->tap, TUNSETVNETHDRSZ, &header_bytes);
    if (r < 0)
        return refuse(device, r, "the tap does not take a header of 12 bytes");

    uint64_t ours = NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN | NET_F_STATUS;
    if (set_offloads(device, NET_GUEST_OFFLOADS) == 0)
        ours |= NET_GUEST_OFFLOADS;
    if (memcmp(options->mac, no_mac, sizeof(no_mac)) != 0)
        ours |= NET_F_MAC;
    if (options->mtu != 0)
        ours |= NET_F_MTU;
    device->offered = ours | (device->kernel_features & (RING_FEATURES | NET_F_MRG_RXBUF));
    device->virtio.queue_count = 2;
    device->virtio.config_bytes = NET_CONFIG_BYTES;
    memcpy(device->config, options->mac, sizeof(options->mac));
    put_le16(device->config + NET_CONFIG_STATUS, NET_STATUS_LINK_UP);
    put_le16(device->config + NET_CONFIG_PAIRS, 1);
    put_le16(device->config + NET_CONFIG_MTU, options->mtu);
    return 0;
}

static int open_vsock(struct vhost_kernel *device)
{
    uint64_t cid = device->options.guest_cid;
    if (cid < VSOCK_CID_MIN || cid > VSOCK_CID_MAX)
        return refuse(device, -EINVAL, "a guest's CID is 3 or more, and has 32 bits");
    int r = control(device, VHOST_VSOCK_SET_GUEST_CID, &cid);
    if (r < 0)
        return refuse(device, r, r == -EADDRINUSE ? "another guest has this CID" : "the kernel does not take the CID");
    device->offered = device->kernel_features & (RING_FEATURES | VSOCK_F_SEQPACKET);
    device->virtio.queue_count = VSOCK_QUEUES;
    device->virtio.config_bytes = VSOCK_CONFIG_BYTES;
    put_le64(device->config, cid);
    return 0;
}

static int open_event(int *ret_handle)
{
    *ret_handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *ret_handle < 0 ? -errno : 0;
}

static int open_events(struct vhost_kernel *device)
{
    struct loop *loop = device->options.loop;
    int r = open_event(&device->error_handle);
    for (unsigned i = 0; i < device->virtio.queue_count && r == 0; i++) {
        struct vhost_kernel_queue *queue = &device->queues[i];
        r = open_event(&queue->kick);
        if (r == 0)
            r = open_event(&queue->call);
        if (r == 0 && loop)
            r = loop_watch(loop, &queue->watch, queue->call, LOOP_READABLE | LOOP_EDGE, call_ready);
    }
    if (r == 0 && loop)
        r = loop_watch(loop, &device->error_watch, device->error_handle, LOOP_READABLE | LOOP_EDGE, error_ready);
    return r < 0 ? refuse(device, r, "this process has no descriptors left") : 0;
}

static int open_kernel(struct vhost_kernel *device)
{
    struct vhost_kernel_port *port = device->options.port;
    bool is_net = device->options.device_id == VIRTIO_ID_NET;
    ASSERT(is_net || device->options.device_id == VIRTIO_ID_VSOCK);
    device->handle = port->class->open(port, is_net ? "/dev/vhost-net" : "/dev/vhost-vsock");
    if (device->handle < 0)
        return refuse(device, device->handle, "the kernel has no such device for us");
    int r = control(device, VHOST_SET_OWNER, NULL);
    if (r == 0)
        r = control(device, VHOST_GET_FEATURES, &device->kernel_features);
    if (r < 0)
        return refuse(device, r, "the kernel's device does not answer");
    if ((device->kernel_features & VIRTIO_F_VERSION_1) == 0)
        return refuse(device, -ENOTSUP, "the kernel's device is a legacy one");
    r = is_net ? open_net(device) : open_vsock(device);
    if (r == 0)
        r = open_events(device);
    if (r == 0)
        r = vhost_kernel_set_memory(device, device->options.regions, device->options.region_count);
    return r;
}

int vhost_kernel_open(struct vhost_kernel *device, const struct vhost_kernel_options *options)
{
    memset(device, 0, sizeof(*device));
    device->options = *options;
    if (!options->port)
        device->options.port = (struct vhost_kernel_port *)(uintptr_t)&system_port;
    device->handle = device->error_handle = -1;
    device->error_watch = (struct loop_watch)LOOP_WATCH_NONE;
    device->tap = options->device_id == VIRTIO_ID_NET ? options->tap : -1;
    for (unsigned i = 0; i < VHOST_KERNEL_QUEUES_MAX; i++)
        device->queues[i] = (struct vhost_kernel_queue){
            .kick = -1, .call = -1, .notify = -1, .watch = (struct loop_watch)LOOP_WATCH_NONE, .device = device};
    device->virtio = (struct virtio_backend){
        .class = &vhost_kernel_class,
        .device_id = options->device_id,
        .queue_size_max = options->queue_size_max ? options->queue_size_max : VHOST_KERNEL_QUEUE_SIZE_DEFAULT,
        .notifies_listener = options->loop != NULL,
    };
    int r = open_kernel(device);
    if (r < 0) {
        const char *reason = device->refused_reason;
        vhost_kernel_close(device);
        device->refused_reason = reason;
    }
    return r;
}

static void close_handle(int handle)
{
    if (handle >= 0)
        close(handle);
}

void vhost_kernel_close(struct vhost_kernel *device)
{
    if (!device->virtio.class)
        return;
    for (unsigned i = 0; i < device->virtio.queue_count; i++)
        (void)queue_stop(&device->virtio, i);
    for (unsigned i = 0; i < VHOST_KERNEL_QUEUES_MAX; i++) {
        if (device->options.loop)
            loop_unwatch(device->options.loop, &device->queues[i].watch);
        close_handle(device->queues[i].kick);
        close_handle(device->queues[i].call);
    }
    if (device->options.loop)
        loop_unwatch(device->options.loop, &device->error_watch);
    close_handle(device->error_handle);
    close_handle(device->handle);
    close_handle(device->tap);
    memset(device, 0, sizeof(*device));
}

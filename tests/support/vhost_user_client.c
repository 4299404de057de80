/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _GNU_SOURCE
#include "vhost_user_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Front-end addresses are far from guest addresses, so that a back end that mixes them up is found out. */
#define CLIENT_FRONTEND_OFFSET UINT64_C(0x7f0000000000)

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until @handle can be read. */
static int wait_readable(int handle, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - now_ms();
        if (left < 0)
            left = 0;
        struct pollfd entry = {.fd = handle, .events = POLLIN};
        int count = poll(&entry, 1, (int)left);
        if (count > 0)
            return 0;
        if (count == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static void close_handle(int *handle)
{
    if (*handle >= 0)
        close(*handle);
    *handle = -1;
}

int client_init(struct vhost_user_client *client, uint64_t guest_base, uint64_t memory_bytes, int timeout_ms)
{
    memset(client, 0, sizeof(*client));
    client->socket = -1;
    client->backend_channel = -1;
    client->memory_handle = -1;
    client->timeout_ms = timeout_ms;
    for (unsigned i = 0; i < CLIENT_QUEUES_MAX; i++)
        client->queues[i] = (struct vhost_user_client_queue){.kick = -1, .call = -1, .error = -1};
    client->memory_handle = memfd_create("guest", MFD_CLOEXEC);
    if (client->memory_handle < 0)
        return -errno;
    if (ftruncate(client->memory_handle, (off_t)memory_bytes) < 0) {
        int error = errno;
        close_handle(&client->memory_handle);
        return -error;
    }
    void *host = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, client->memory_handle, 0);
    if (host == MAP_FAILED) {
        int error = errno;
        close_handle(&client->memory_handle);
        return -error;
    }
    client->memory = (struct fake_memory){.guest_base = guest_base, .size = memory_bytes, .host = host};
    client->frontend_base = guest_base + CLIENT_FRONTEND_OFFSET;
    return 0;
}

void client_disconnect(struct vhost_user_client *client)
{
    close_handle(&client->socket);
    close_handle(&client->backend_channel);
    for (unsigned i = 0; i < CLIENT_QUEUES_MAX; i++) {
        struct vhost_user_client_queue *queue = &client->queues[i];
        close_handle(&queue->kick);
        close_handle(&queue->call);
        close_handle(&queue->error);
        free(queue->driver);
        queue->driver = NULL;
    }
    client->features = 0;
    client->protocol_features = 0;
}

void client_done(struct vhost_user_client *client)
{
    client_disconnect(client);
    if (client->memory.host != NULL)
        munmap(client->memory.host, client->memory.size);
    client->memory.host = NULL;
    close_handle(&client->memory_handle);
}

int client_connect(struct vhost_user_client *client, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    int64_t deadline = now_ms() + client->timeout_ms;
    client_disconnect(client);
    for (;;) {
        client->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->socket < 0)
            return -errno;
        if (connect(client->socket, (struct sockaddr *)&address, sizeof(address)) == 0)
            return 0;
        int error = errno;
        close_handle(&client->socket);
        if ((error != ENOENT && error != ECONNREFUSED) || now_ms() >= deadline)
            return -error;
        poll(NULL, 0, 5); /* the back end is still starting */
    }
}

int client_send_bytes(struct vhost_user_client *client, const void *bytes, size_t size, const int *handles,
                      unsigned handle_count)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * 64)];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (handle_count > 64)
        return -EINVAL;
    if (handle_count > 0) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * handle_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * handle_count);
        memcpy(CMSG_DATA(header), handles, sizeof(int) * handle_count);
    }
    while (iov.iov_len > 0) {
        ssize_t sent = sendmsg(client->socket, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EPIPE ? -ECONNRESET : -errno;
        iov.iov_base = (char *)iov.iov_base + sent;
        iov.iov_len -= (size_t)sent;
        message.msg_control = NULL; /* descriptors went with the first byte */
        message.msg_controllen = 0;
    }
    return 0;
}

int client_send(struct vhost_user_client *client, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
                const int *handles, unsigned handle_count)
{
    uint8_t bytes[sizeof(struct vhost_user_header) + 4096];
    struct vhost_user_header header = {.request = request, .flags = VHOST_USER_VERSION | flags, .size = size};
    if (size > 4096)
        return -EMSGSIZE;
    if (client->socket < 0)
        return -ECONNRESET;
    memcpy(bytes, &header, sizeof(header));
    if (size > 0)
        memcpy(bytes + sizeof(header), payload, size);
    size_t whole = sizeof(header) + size;
    bool last = client->vanish_after != 0 && ++client->messages_sent == client->vanish_after;
    int r = client_send_bytes(client, bytes, last && client->vanish_in_half ? whole / 2 : whole, handles, handle_count);
    if (!last)
        return r;
    close_handle(&client->socket);
    return r < 0 ? r : -ECONNRESET;
}

/* Read exactly @size bytes; descriptors that come along go to @message. */
static int read_whole(struct vhost_user_client *client, void *to, size_t size, struct vhost_user_message *message,
                      int64_t deadline_ms)
{
    uint8_t *at = to;
    while (size > 0) {
        int r = wait_readable(client->socket, deadline_ms);
        if (r < 0)
            return r;
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(sizeof(int) * VHOST_USER_HANDLES_MAX)];
        } control;
        struct iovec iov = {.iov_base = at, .iov_len = size};
        struct msghdr header = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
        ssize_t got = recvmsg(client->socket, &header, MSG_CMSG_CLOEXEC);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return errno == EPIPE ? -ECONNRESET : -errno;
        if (got == 0)
            return -ECONNRESET;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        if (rights != NULL && rights->cmsg_type == SCM_RIGHTS) {
            size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < count; i++) {
                int handle;
                memcpy(&handle, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
                if (message->handle_count < VHOST_USER_HANDLES_MAX)
                    message->handles[message->handle_count++] = handle;
                else
                    close(handle);
            }
        }
        at += got;
        size -= (size_t)got;
    }
    return 0;
}

int client_receive(struct vhost_user_client *client, uint32_t request, struct vhost_user_message *ret_message)
{
    int64_t deadline = now_ms() + client->timeout_ms;
    struct vhost_user_message message = {0};
    int r = read_whole(client, &message.header, sizeof(message.header), &message, deadline);
    if (r < 0)
        return r;
    if (message.header.request != request || (message.header.flags & VHOST_USER_FLAG_REPLY) == 0)
        return -EBADMSG;
    if ((message.header.flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_VERSION)
        return -EBADMSG;
    if (message.header.size > VHOST_USER_PAYLOAD_BYTES_MAX)
        return -EMSGSIZE;
    r = read_whole(client, message.payload.bytes, message.header.size, &message, deadline);
    if (r < 0)
        return r;
    *ret_message = message;
    return 0;
}

int client_call(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
                struct vhost_user_message *ret_message)
{
    int r = client_send(client, request, 0, payload, size, NULL, 0);
    return r < 0 ? r : client_receive(client, request, ret_message);
}

int64_t client_call_ack(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
                        const int *handles, unsigned handle_count)
{
    bool ack = (client->protocol_features & VHOST_USER_PROTOCOL_F_REPLY_ACK) != 0;
    int r = client_send(client, request, ack ? VHOST_USER_FLAG_NEED_REPLY : 0, payload, size, handles, handle_count);
    if (r < 0 || !ack)
        return r;
    struct vhost_user_message answer;
    r = client_receive(client, request, &answer);
    if (r < 0)
        return r;
    if (answer.header.size != sizeof(uint64_t))
        return -EBADMSG;
    return answer.payload.u64 == 0 ? 0 : 1;
}

/* A message whose answer, if any, must be "done". */
static int set(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
               const int *handles, unsigned handle_count)
{
    int64_t r = client_call_ack(client, request, payload, size, handles, handle_count);
    return r > 0 ? -EREMOTEIO : (int)r;
}

static int get_u64(struct vhost_user_client *client, uint32_t request, uint64_t *ret_value)
{
    struct vhost_user_message answer;
    int r = client_call(client, request, NULL, 0, &answer);
    if (r < 0)
        return r;
    if (answer.header.size != sizeof(uint64_t))
        return -EBADMSG;
    *ret_value = answer.payload.u64;
    return 0;
}

/* Give the back end its channel for requests of its own. */
static int give_backend_channel(struct vhost_user_client *client)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    int r = set(client, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
    close(pair[1]);
    close_handle(&client->backend_channel);
    client->backend_channel = pair[0];
    return r;
}

int client_negotiate(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features)
{
    uint64_t offered = 0;
    int r = get_u64(client, VHOST_USER_GET_FEATURES, &client->features);
    if (r < 0)
        return r;
    r = set(client, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
    if (r < 0)
        return r;
    if ((client->features & features & VHOST_USER_F_PROTOCOL_FEATURES) != 0) {
        r = get_u64(client, VHOST_USER_GET_PROTOCOL_FEATURES, &offered);
        if (r < 0)
            return r;
        offered &= protocol_features;
        r = set(client, VHOST_USER_SET_PROTOCOL_FEATURES, &offered, sizeof(offered), NULL, 0);
        if (r < 0)
            return r;
        client->protocol_features = offered;
    }
    uint64_t accepted = client->features & features;
    r = set(client, VHOST_USER_SET_FEATURES, &accepted, sizeof(accepted), NULL, 0);
    if (r == 0 && (offered & VHOST_USER_PROTOCOL_F_BACKEND_REQ) != 0)
        r = give_backend_channel(client);
    client->features = accepted;
    return r;
}

int client_share_memory(struct vhost_user_client *client)
{
    struct vhost_user_region region = {
        .guest_base = client->memory.guest_base,
        .size = client->memory.size,
        .frontend_base = client->frontend_base,
    };
    if ((client->protocol_features & VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) != 0) {
        struct vhost_user_single_region single = {.region = region};
        return set(client, VHOST_USER_ADD_MEM_REG, &single, sizeof(single), &client->memory_handle, 1);
    }
    struct vhost_user_memory_table table = {.region_count = 1, .regions = {region}};
    return set(client, VHOST_USER_SET_MEM_TABLE, &table, 8 + sizeof(region), &client->memory_handle, 1);
}

/* SET_VRING_KICK, CALL, ERR with one descriptor. */
static int set_line(struct vhost_user_client *client, uint32_t request, unsigned index, int handle)
{
    uint64_t payload = index;
    return set(client, request, &payload, sizeof(payload), &handle, 1);
}

/* The order is QEMU's (vhost_virtqueue_start): size, base, address, error, call, kick; then enable. */
static int start_ring(struct vhost_user_client *client, unsigned index, const struct fake_driver *driver, uint32_t base)
{
    struct vhost_user_client_queue *queue = &client->queues[index];
    uint64_t offset = client->frontend_base - client->memory.guest_base;
    struct vhost_user_vring_state state = {.index = index, .num = driver->size};
    int r = set(client, VHOST_USER_SET_VRING_NUM, &state, sizeof(state), NULL, 0);
    if (r < 0)
        return r;
    state.num = base;
    r = set(client, VHOST_USER_SET_VRING_BASE, &state, sizeof(state), NULL, 0);
    if (r < 0)
        return r;
    struct vhost_user_vring_address address = {
        .index = index,
        .desc = driver->desc_address + offset,
        .used = driver->used_address + offset,
        .avail = driver->avail_address + offset,
        .log = driver->used_address,
    };
    r = set(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    if (r == 0)
        r = set_line(client, VHOST_USER_SET_VRING_ERR, index, queue->error);
    if (r == 0)
        r = set_line(client, VHOST_USER_SET_VRING_CALL, index, queue->call);
    if (r == 0)
        r = set_line(client, VHOST_USER_SET_VRING_KICK, index, queue->kick);
    if (r < 0 || (client->features & VHOST_USER_F_PROTOCOL_FEATURES) == 0)
        return r;
    state.num = 1;
    return set(client, VHOST_USER_SET_VRING_ENABLE, &state, sizeof(state), NULL, 0);
}

int client_start_queue(struct vhost_user_client *client, unsigned index, uint64_t ring_address, uint32_t size)
{
    if (index >= CLIENT_QUEUES_MAX)
        return -EINVAL;
    struct vhost_user_client_queue *queue = &client->queues[index];
    if (queue->driver == NULL)
        queue->driver = malloc(sizeof(*queue->driver));
    if (queue->driver == NULL)
        return -ENOMEM;
    fake_driver_init(queue->driver, &client->memory, ring_address, size, client->features);
    return client_resume_queue(client, index, virtqueue_base_initial(client->features));
}

int client_resume_queue(struct vhost_user_client *client, unsigned index, uint32_t base)
{
    struct vhost_user_client_queue *queue = &client->queues[index];
    int *lines[] = {&queue->kick, &queue->call, &queue->error};
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        close_handle(lines[i]);
        *lines[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (*lines[i] < 0)
            return -errno;
    }
    return start_ring(client, index, queue->driver, base);
}

int client_stop_queue(struct vhost_user_client *client, unsigned index, uint32_t *ret_base)
{
    struct vhost_user_vring_state state = {.index = index};
    struct vhost_user_message answer;
    int r = client_call(client, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), &answer);
    if (r < 0)
        return r;
    if (answer.header.size != sizeof(state) || answer.payload.state.index != index)
        return -EBADMSG;
    *ret_base = answer.payload.state.num;
    return 0;
}

int client_kick(struct vhost_user_client *client, unsigned index)
{
    uint64_t one = 1;
    ssize_t written = write(client->queues[index].kick, &one, sizeof(one));
    return written == (ssize_t)sizeof(one) ? 0 : -errno;
}

int client_wait_call(struct vhost_user_client *client, unsigned index)
{
    int r = wait_readable(client->queues[index].call, now_ms() + client->timeout_ms);
    if (r < 0)
        return r;
    uint64_t count;
    ssize_t got = read(client->queues[index].call, &count, sizeof(count));
    return got == (ssize_t)sizeof(count) || errno == EAGAIN ? 0 : -errno;
}

int client_request(struct vhost_user_client *client, unsigned index, const struct fake_piece *pieces, unsigned count)
{
    struct fake_driver *driver = client->queues[index].driver;
    int head = fake_driver_add(driver, pieces, count);
    if (head < 0)
        return -ENOSPC;
    if (fake_driver_show(driver)) {
        int r = client_kick(client, index);
        if (r < 0)
            return r;
    }
    for (;;) {
        uint32_t used_head, length;
        if (fake_driver_get(driver, &used_head, &length))
            return used_head == (uint32_t)head ? (int)length : -EBADMSG;
        if (fake_driver_interrupts_on(driver))
            continue;
        int r = client_wait_call(client, index);
        if (r < 0)
            return r;
    }
}

int client_get_config(struct vhost_user_client *client, uint32_t offset, uint32_t size, void *to)
{
    struct vhost_user_config config = {.offset = offset, .size = size};
    if (size > VHOST_USER_CONFIG_BYTES_MAX)
        return -EINVAL;
    uint32_t bytes = (uint32_t)offsetof(struct vhost_user_config, bytes) + size;
    struct vhost_user_message answer;
    int r = client_call(client, VHOST_USER_GET_CONFIG, &config, bytes, &answer);
    if (r < 0)
        return r;
    if (answer.header.size != bytes)
        return -EBADMSG;
    memcpy(to, answer.payload.config.bytes, size);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the tests and the fuzz harness of the vhost-user back end share: a port that keeps count of handles and
 * mappings, a device whose requests can be held back, two pieces of guest memory, and drivers for its rings. One thread
 * plays all.
 *
 * Any misuse of the port (a handle closed twice or never, a mapping undone twice, a queue touched from outside its
 * thread) ends the program by an assertion.
 */
#ifndef TESTS_SUPPORT_BACKEND_RIG_H
#define TESTS_SUPPORT_BACKEND_RIG_H

#include "fake_driver.h"
#include "transports/vhost_user/backend.h"

#define RIG_QUEUES_MAX 4
#define RIG_RING_SIZE 16
#define RIG_SLOTS 32
#define RIG_HANDLES_MAX 4096
#define RIG_MAPPINGS_MAX 1024
#define RIG_OBJECTS_MAX 256
#define RIG_REPLIES_MAX 16
#define RIG_CONFIG_BYTES 40
/* The configuration byte that a driver may write. */
#define RIG_CONFIG_WRITABLE 32
/* A feature bit of the device's own. */
#define RIG_FEATURE (UINT64_C(1) << 3)
/* One that it refuses together with RIG_FEATURE. */
#define RIG_FEATURE_RIVAL (UINT64_C(1) << 4)

/* Guest memory: object 0 and object 1, each this large. */
#define RIG_REGION_BYTES UINT64_C(0x100000)
#define RIG_GUEST_0 UINT64_C(0)
#define RIG_GUEST_1 UINT64_C(0x40000000)
#define RIG_FRONTEND_0 UINT64_C(0x7f0000000000)
#define RIG_FRONTEND_1 UINT64_C(0x7f2000000000)
/* Where the ring of queue n lies, and free space for data. */
#define RIG_RING(n) (RIG_GUEST_0 + UINT64_C(0x10000) * ((n) + 1))
#define RIG_DATA_0 (RIG_GUEST_0 + 0x80000)
#define RIG_DATA_1 (RIG_GUEST_1)

struct rig_object {
    uint8_t *bytes; /* the front end's own mapping; NULL: a line, nothing to map */
    uint64_t size;
    int file;
};

/* Each has addresses of its own, which are gone after its end: whoever still points there does not go unnoticed. */
struct rig_mapping {
    bool mapped;
    uint8_t *base;
    uint64_t bytes;
    uint8_t *pages;
    size_t pages_bytes;
};

struct rig_reply {
    struct vhost_user_message message;
    int object; /* of the handle that came along; -1 none */
};

struct rig_queue {
    int lines[3]; /* handles, by enum queue_line; -1 none */
    bool polled;
    bool again;
    unsigned notified; /* signals of the call line */
    unsigned errors;   /* of the error line */
    /* requests held back, in the order of their arrival */
    struct virtq_chain *held[RIG_SLOTS];
    unsigned held_count;
    struct fake_driver driver;
};

struct rig {
    struct vhost_user_port port;
    struct vhost_user_backend backend;
    struct virtio_device device;
    struct virtqueue virtqueues[RIG_QUEUES_MAX];
    struct virtq_arena arenas[RIG_QUEUES_MAX];
    void *arena_blocks[RIG_QUEUES_MAX];
    struct rig_queue queues[RIG_QUEUES_MAX];
    /* the device */
    uint64_t ring_features; /* which of RING_PACKED and IN_ORDER the front end takes */
    uint32_t ring_size;     /* RIG_RING_SIZE, until a test says otherwise and lays the ring anew */
    bool hold;              /* keep requests until rig_complete */
    uint8_t config[RIG_CONFIG_BYTES];
    unsigned device_resets;
    /* the world behind the port */
    bool handle_open[RIG_HANDLES_MAX];
    int handle_object[RIG_HANDLES_MAX];
    int handle_count; /* numbers given out; none comes twice */
    struct rig_object objects[RIG_OBJECTS_MAX];
    int object_count;
    struct rig_mapping mappings[RIG_MAPPINGS_MAX];
    int on_queue;      /* whose thread we are on; -1 control */
    int maps_left;     /* before mapping fails with -ENOMEM; -1: never */
    bool shared_fails; /* shared_memory answers -ENOMEM */
    bool request_fails;
    struct rig_reply replies[RIG_REPLIES_MAX];
    unsigned reply_count;
    unsigned request_count; /* on the back-end channel */
    struct vhost_user_message last_request;
    int last_request_object;
};

/* What the argument of a test program says of the rings: split, packed or in-order (which is packed, too). */
uint64_t rig_layout(int argc, char **argv);

/*
 * Make one, with a device of @queue_count queues, whose front end takes split rings, or what @ring_features says. The
 * back end has seen no message.
 */
struct rig *rig_open(unsigned queue_count);
struct rig *rig_open_rings(unsigned queue_count, uint64_t ring_features);

/* Hang up, complete what is held, and check that nothing is left open or mapped. Frees it. */
void rig_close(struct rig *rig);

/* The front end hangs up. With requests held the back end stays busy. */
void rig_disconnect(struct rig *rig);

/* How many handles are open on our side; how many mappings there are. */
unsigned rig_handles(const struct rig *rig);
unsigned rig_mappings(const struct rig *rig);

/* A new handle, as it arrives with a message: of object @object, or of a line of its own. */
int rig_handle(struct rig *rig, int object);
int rig_line(struct rig *rig);
/* A new object of @bytes bytes, zeroed. */
int rig_object(struct rig *rig, uint64_t bytes);

/* Give the back end a message. @handle -1: it brings none. Returns what the back end returned. */
int rig_send(struct rig *rig, uint32_t request, uint32_t flags, const void *payload, uint32_t size, int handle);
int rig_send_handles(struct rig *rig, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
                     const int *handles, unsigned handle_count);

#define RIG_NO_ANSWER INT64_C(-1)
#define RIG_HUNG_UP INT64_C(-2)

/* Send with need_reply; the number that came back, or RIG_NO_ANSWER (also: not yet), or RIG_HUNG_UP. */
int64_t rig_ack(struct rig *rig, uint32_t request, const void *payload, uint32_t size, int handle);
int64_t rig_ack_u64(struct rig *rig, uint32_t request, uint64_t value, int handle);
int64_t rig_ack_state(struct rig *rig, uint32_t request, uint32_t index, uint32_t num);
int64_t rig_ack_region(struct rig *rig, uint32_t request, const struct vhost_user_region *region, int handle);
/* The u64 of an answer that a request without payload gets, or as above. */
int64_t rig_get(struct rig *rig, uint32_t request);
/* Take the oldest answer, a u64 to @request, or RIG_NO_ANSWER. */
int64_t rig_take_u64(struct rig *rig, uint32_t request);
/* Take the oldest answer whatever it is; false: there is none. */
bool rig_take(struct rig *rig, struct rig_reply *ret_reply);

/*
 * What QEMU sends first: owner, all features on offer but RIG_FEATURE_RIVAL and those of the ring that the front end
 * does not take, all protocol features.
 */
void rig_negotiate(struct rig *rig);
void rig_negotiate_some(struct rig *rig, uint64_t features, uint64_t protocol_features);
/* SET_MEM_TABLE of both pieces. Returns as rig_ack. */
int64_t rig_share(struct rig *rig);
void rig_table(struct vhost_user_memory_table *ret_table);
int64_t rig_set_table(struct rig *rig, const struct vhost_user_memory_table *table);
struct vhost_user_region rig_region(unsigned object);

/* Lay out the ring of queue @index anew; the addresses of it as the front end says them. */
void rig_lay_ring(struct rig *rig, unsigned index);
struct vhost_user_vring_address rig_ring_address(const struct rig *rig, unsigned index);
/* The driver knows its ring by a copy of it, @move bytes further on. */
void rig_move_ring(struct rig *rig, unsigned index, uint64_t move);
/* Memory and drivers of @from, as they are, are now @to's: its back end is @from's successor. */
void rig_inherit(struct rig *to, const struct rig *from);
/* One step each, acknowledged. */
int64_t rig_ring_num(struct rig *rig, unsigned index);
int64_t rig_ring_set_address(struct rig *rig, unsigned index);
int64_t rig_ring_kick_line(struct rig *rig, unsigned index);
int64_t rig_ring_call_line(struct rig *rig, unsigned index);
int64_t rig_ring_enable(struct rig *rig, unsigned index, bool on);
/* All of it, in QEMU's order. */
void rig_start_ring(struct rig *rig, unsigned index);
/* Negotiate, share, start every ring. */
void rig_start(struct rig *rig);
/* GET_VRING_BASE: the base, or as rig_ack. */
int64_t rig_get_base(struct rig *rig, unsigned index);
/* The base of a ring that has served @descriptors, and has none in flight. */
uint32_t rig_base_after(const struct rig *rig, uint32_t descriptors);

/* The driver offers a request of 16 bytes to be filled at guest address @address. The back end is not told. */
void rig_offer(struct rig *rig, unsigned index, uint64_t address);
/* The driver offers a chain that loops (packed: a table with a next descriptor); and kicks. */
void rig_offer_broken(struct rig *rig, unsigned index);
void rig_break(struct rig *rig, unsigned index);
/* Kick, and let the queues run until there is nothing to do. Lost when there is no kick line. */
void rig_kick(struct rig *rig, unsigned index);
void rig_run(struct rig *rig);
/* How many requests the driver got back since it last looked. */
unsigned rig_used(struct rig *rig, unsigned index);
/* Complete the oldest @count requests that are held. */
void rig_complete(struct rig *rig, unsigned index, unsigned count);

/* Is the queue running, for the back end and the device both? */
bool rig_running(const struct rig *rig, unsigned index);

#endif

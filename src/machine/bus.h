/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * An address space that devices answer in: memory-mapped I/O, port I/O, or the configuration space of PCI (addressed by
 * its offset in ECAM). One struct bus is one space; a machine has one of each.
 *
 * Besides registers a device may have doorbells, which are handles that a write signals without an exit (ioeventfd),
 * and memory, which the guest reaches without an exit (a memory slot). Both follow the device wherever it is moved: the
 * bus tells its port.
 *
 * Threads: every function is called by one thread at a time. In the VMM that is under the machine's lock, which a
 * virtual processor takes for an exit; what must not wait for it goes by doorbells and irqfds. Nothing here blocks or
 * allocates, but for what the port does. Addresses are the guest's; offsets are from a device's first byte.
 */
#ifndef MACHINE_BUS_H
#define MACHINE_BUS_H

#include "base/base.h"

struct bus;
struct bus_device;

/* What came of an access. */
enum bus_result {
    BUS_DONE,
    /*
     * It has begun, and the guest is not to go on before bus_device_busy(device) is false: a reset that waits for I/O
     * in flight, say. Of a read the value is already there. Whoever ends the wait says so through the device's own
     * port.
     */
    BUS_LATER,
    BUS_NOBODY, /* no device is there: a read gives ones, a write is lost */
};

struct bus_device_class {
    const char *name;
    /*
     * @size is 1, 2, 4 or 8, and the access lies inside the device; its alignment is the guest's choice. What makes no
     * sense is answered as hardware would (zeros or ones) or ignored. *ret_value is 0 at the call; bits above @size are
     * cut off by the bus.
     */
    enum bus_result (*read)(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value);
    /* Bits of @value above @size are 0. */
    enum bus_result (*write)(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value);
    /* Is an access that answered BUS_LATER still to wait? NULL: no access of this device ever does. */
    bool (*busy)(const struct bus_device *device);
};

/* A write there signals @handle and causes no exit. */
struct bus_doorbell {
    uint64_t offset;
    unsigned size; /* of the write: 1, 2, 4 or 8; 0: any */
    bool by_value; /* only a write of @value; else of any value */
    uint64_t value;
    int handle; /* borrowed; opaque here */
    bool bound; /* the port knows it, at the place where the device is now */
    struct bus_doorbell *next;
};

/* A part of a device that is memory: reached without an exit where the port can do that. */
struct bus_memory {
    uint64_t offset, size; /* whole pages of the host */
    uint8_t *host;         /* borrowed; in this process */
    bool read_only;        /* for the guest: its writes are exits */
    bool bound;
    uint64_t owner; /* for the port: which memory slot */
    struct bus_memory *next;
};

struct bus_device {
    const struct bus_device_class *class;
    struct bus_doorbell *doorbells; /* those that bus_doorbell_add gave it */
    struct bus_memory *memories;
};

/* The port: how the world lets writes and memory of the guest arrive without an exit. */
struct bus_port {
    const struct bus_port_class *class;
};

struct bus_port_class {
    /* @address: where the doorbell is now. -ENOSPC, …: writes there go on causing exits, which are served as well. */
    int (*bind)(struct bus_port *port, struct bus *bus, uint64_t address, const struct bus_doorbell *doorbell);
    void (*unbind)(struct bus_port *port, struct bus *bus, uint64_t address, const struct bus_doorbell *doorbell);
    /* A failure undoes the change that placed the device there. */
    int (*map)(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory);
    /* Called for whatever was mapped, before the address is given to anybody else. */
    void (*unmap)(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory);
};

struct bus_range {
    uint64_t base, size;
    struct bus_device *device; /* borrowed: until it is removed */
};

/* A lookup takes the same steps whether one device is there or this many. */
#define BUS_RANGES_MAX 4096

struct bus {
    const char *name;      /* "mmio", for messages */
    struct bus_port *port; /* borrowed; NULL: every access is an exit */
    uint32_t count;
    uint64_t bases[BUS_RANGES_MAX];          /* of the ranges, for the search; all ones behind the last */
    struct bus_range ranges[BUS_RANGES_MAX]; /* sorted by base, never overlapping; empty behind the last */
    /* counted, for people */
    uint64_t accesses_total;
    uint64_t nobody_total;        /* accesses that no device answered */
    uint64_t nobody_last_address; /* of the last of them */
};

/* @name and @port are borrowed. The object is 128 KiB: not for a stack. */
void bus_init(struct bus *bus, const char *name, struct bus_port *port);

/*
 * Place @device at @base. A device has at most one place in one bus. -EINVAL: no bytes, or the end does not fit into 64
 * bits, or its memory is not inside; -EEXIST: another device is there, or it has a place; -ENOSPC: BUS_RANGES_MAX; or
 * what the port says of its memory. Nothing has changed on failure.
 */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, struct bus_device *device);
/* Take it away; its doorbells and memory remain its own. -ENOENT: it is not there. */
int bus_remove(struct bus *bus, const struct bus_device *device);

/* One step of a change: @device goes from where it is (if anywhere) to @base, or away when @size is 0. */
struct bus_move {
    struct bus_device *device;
    uint64_t base, size;
    struct bus_range before; /* the bus's own: where it was */
};
/*
 * All of the @count steps at once, or none: two devices may change places. A device is in one step at most. Errors as
 * of bus_add; then everything is as before, doorbells and memory too. (Should the port then refuse what it had a moment
 * ago, that window or doorbell is not bound any more, and accesses to it are exits, which the device answers.)
 */
int bus_move(struct bus *bus, struct bus_move *moves, unsigned count);

/* Who answers at @address, or NULL. */
const struct bus_range *bus_find(const struct bus *bus, uint64_t address);
/* Where @device is, or NULL. Slow: looks at all. */
const struct bus_range *bus_place_of(const struct bus *bus, const struct bus_device *device);

/*
 * An access of the guest of 1 to 8 bytes. One of 3, 5, 6 or 7, as the hypervisor makes of one that crosses a page, is
 * several to the device. One that begins in a device and ends outside it goes to nobody. *ret_device (may be NULL): who
 * answered, or NULL, for bus_device_busy.
 */
enum bus_result bus_read(struct bus *bus, uint64_t address, unsigned size, uint64_t *ret_value,
                         struct bus_device **ret_device);
enum bus_result bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value,
                          struct bus_device **ret_device);

static inline bool bus_device_busy(const struct bus_device *device)
{
    return device->class->busy && device->class->busy(device);
}

/*
 * Give @device a doorbell or memory; both are borrowed until removed. It is bound at once where the device has a place
 * in @bus. A doorbell that the port cannot bind is kept all the same: writes to it are exits. bus_memory_add fails with
 * what the port says, and with -EINVAL where the window is not inside the device's range.
 */
void bus_doorbell_add(struct bus *bus, struct bus_device *device, struct bus_doorbell *doorbell);
void bus_doorbell_remove(struct bus *bus, struct bus_device *device, struct bus_doorbell *doorbell);
int bus_memory_add(struct bus *bus, struct bus_device *device, struct bus_memory *memory);
void bus_memory_remove(struct bus *bus, struct bus_device *device, struct bus_memory *memory);

#endif

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "transports/virtio_mmio/virtio_mmio_test_rig.h"

#include <stdlib.h>

static int bind_doorbell(struct bus_port *port, struct bus *bus, uint64_t address, const struct bus_doorbell *doorbell)
{
    struct rig_port *fake = container_of(port, struct rig_port, port);

    (void)bus;
    if (fake->bound == fake->room)
        return -ENOSPC;
    fake->bound++;
    fake->last_address = address;
    fake->last_value = doorbell->value;
    fake->last_size = doorbell->size;
    fake->last_handle = doorbell->handle;
    assert_true(doorbell->by_value);
    return 0;
}

static void unbind_doorbell(struct bus_port *port, struct bus *bus, uint64_t address,
                            const struct bus_doorbell *doorbell)
{
    (void)bus;
    (void)address;
    (void)doorbell;
    container_of(port, struct rig_port, port)->bound--;
}

static int map_memory(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    struct rig_port *fake = container_of(port, struct rig_port, port);

    (void)bus;
    (void)address;
    (void)memory;
    if (fake->refuses_memory)
        return -ENOSPC;
    fake->mapped++;
    return 0;
}

static void unmap_memory(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)bus;
    (void)address;
    (void)memory;
    container_of(port, struct rig_port, port)->mapped--;
}

static const struct bus_port_class port_class = {bind_doorbell, unbind_doorbell, map_memory, unmap_memory};

void rig_make(struct rig *rig, struct virtio_backend *backend, bool level)
{
    memset(rig, 0, sizeof(*rig));
    rig->port = (struct rig_port){.port.class = &port_class, .room = FAKE_BACKEND_QUEUES};
    bus_init(&rig->bus, "mmio", &rig->port.port);
    fake_backend_init(&rig->fake);
    fake_owner_init(&rig->owner);
    struct virtio_mmio_config config = {
        .control =
            {
                .backend = backend != NULL ? backend : &rig->fake.backend,
                .port = &rig->owner.port,
                .queues = rig->queues,
                .features_added = VIRTIO_CONTROL_FEATURES,
            },
        .doorbells = rig->doorbells,
        .bus = &rig->bus,
        .line = &rig->owner.line,
        .level = level,
    };
    virtio_mmio_init(&rig->mmio, &config);
    assert_int_equal(bus_add(&rig->bus, RIG_BASE, VIRTIO_MMIO_BYTES, &rig->mmio.device), 0);
    assert_true(transport_driver_find_mmio(&rig->driver, &rig->bus, RIG_BASE));
    rig->ring.size = 64;
    rig->ring.desc_address = 0x100001000;
    rig->ring.avail_address = 0x200002000;
    rig->ring.used_address = 0x300003000;
}

static int setup(void **state, bool level)
{
    struct rig *rig = malloc(sizeof(*rig));

    if (rig == NULL)
        return -1;
    rig_make(rig, NULL, level);
    *state = rig;
    return 0;
}

int rig_setup(void **state)
{
    return setup(state, false);
}

int rig_setup_level(void **state)
{
    return setup(state, true);
}

int rig_teardown(void **state)
{
    free(*state);
    return 0;
}

void rig_work(struct rig *rig, uint64_t features)
{
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1 | features));
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    assert_true(transport_driver_set_up(&rig->driver, 1, &rig->ring));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
}

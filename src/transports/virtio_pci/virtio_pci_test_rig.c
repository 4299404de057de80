/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "transports/virtio_pci/virtio_pci_test_rig.h"

#include <stdlib.h>

static int bind_doorbell(struct bus_port *port, struct bus *bus, uint64_t address, const struct bus_doorbell *doorbell)
{
    struct rig *rig = container_of(port, struct rig, port);

    (void)bus;
    assert_false(doorbell->by_value);
    rig->bound++;
    rig->last_address = address;
    rig->last_size = doorbell->size;
    rig->last_handle = doorbell->handle;
    return 0;
}

static void unbind_doorbell(struct bus_port *port, struct bus *bus, uint64_t address,
                            const struct bus_doorbell *doorbell)
{
    (void)bus;
    (void)address;
    (void)doorbell;
    container_of(port, struct rig, port)->bound--;
}

static int map_memory(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)bus;
    (void)address;
    (void)memory;
    container_of(port, struct rig, port)->mapped++;
    return 0;
}

static void unmap_memory(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)bus;
    (void)address;
    (void)memory;
    container_of(port, struct rig, port)->mapped--;
}

static const struct bus_port_class port_class = {bind_doorbell, unbind_doorbell, map_memory, unmap_memory};

static void send_message(struct msi_port *port, uint16_t source, const struct msi_message *message)
{
    struct rig *rig = container_of(port, struct rig, msi);

    assert_int_equal(source, 3 << 3);
    rig->messages++;
    rig->last_message = *message;
}

static const struct msi_port_class msi_class = {send_message};

void rig_make(struct rig *rig, struct virtio_backend *backend, unsigned vector_count)
{
    rig->port.class = &port_class;
    rig->bound = rig->mapped = rig->messages = 0;
    bus_init(&rig->bus, "mmio", &rig->port);
    fake_owner_init(&rig->owner);
    rig->msi.class = &msi_class;
    struct pci_root_options options = {
        .mmio = &rig->bus,
        .ecam_base = RIG_ECAM,
        .buses = 1,
        .wires = {&rig->owner.line, &rig->owner.line, &rig->owner.line, &rig->owner.line},
        .msi = &rig->msi,
    };
    assert_int_equal(pci_root_init(&rig->root, &options), 0);
    struct pci_bar_window window = {.space = PCI_BAR_MEMORY, .base = RIG_WINDOW, .size = RIG_WINDOW_BYTES};
    assert_int_equal(pci_bar_engine_add_window(&rig->root.engine, &window), 0);
    struct virtio_pci_config config = {
        .control =
            {
                .backend = backend != NULL ? backend : &rig->fake.backend,
                .port = &rig->owner.port,
                .queues = rig->queues,
                .features_added = VIRTIO_CONTROL_FEATURES,
                .one_thread = true,
            },
        .queues = rig->pci_queues,
        .bus = &rig->bus,
        .vectors = rig->vectors,
        .vector_count = vector_count,
        .integrated = true,
        .shared_page_bytes = RIG_PAGE,
    };
    assert_int_equal(virtio_pci_init(&rig->pci, &config), 0);
    assert_int_equal(pci_function_plug(&rig->root, &rig->root.bus, 3, 0, &rig->pci.function), 0);
    assert_true(transport_driver_find_pci(&rig->driver, &rig->bus, &rig->pci.function, RIG_BARS));
    rig->ring.size = 64;
    rig->ring.desc_address = 0x100001000;
    rig->ring.avail_address = 0x200002000;
    rig->ring.used_address = 0x300003000;
}

static int setup(void **state, unsigned vectors)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    if (rig == NULL)
        return -1;
    fake_backend_init(&rig->fake);
    rig_make(rig, NULL, vectors);
    *state = rig;
    return 0;
}

int rig_setup(void **state)
{
    return setup(state, RIG_VECTORS);
}

int rig_setup_intx(void **state)
{
    return setup(state, 0);
}

int rig_teardown(void **state)
{
    free(*state);
    return 0;
}

void rig_negotiate(struct rig *rig, uint64_t features)
{
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1 | features));
}

void rig_work(struct rig *rig, uint64_t features)
{
    rig_negotiate(rig, features);
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    assert_true(transport_driver_set_up(&rig->driver, 1, &rig->ring));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
}

uint32_t rig_config_read(struct rig *rig, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    assert_int_equal(pci_function_read(&rig->pci.function, offset, size, &value), BUS_DONE);
    return (uint32_t)value;
}

void rig_config_write(struct rig *rig, unsigned offset, unsigned size, uint32_t value)
{
    assert_int_equal(pci_function_write(&rig->pci.function, offset, size, value), BUS_DONE);
}

uint64_t rig_read(struct rig *rig, uint64_t offset, unsigned size)
{
    return transport_driver_read(&rig->driver, rig->driver.registers + offset, size);
}

void rig_write(struct rig *rig, uint64_t offset, unsigned size, uint64_t value)
{
    transport_driver_write(&rig->driver, rig->driver.registers + offset, size, value);
}

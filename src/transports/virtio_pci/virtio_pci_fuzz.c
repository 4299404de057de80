/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-pci against a driver without manners and a back end that takes its time. The input is a list of steps: any
 * access to BARs and configuration space (the window of 4.1.4.9, MSI-X, function-level reset and moved BARs included),
 * what a driver does in whatever order, stops and resets that end when they like, pauses, state that is saved, damaged
 * and loaded. Held against it, after each step: what transport_check says; a doorbell for each live queue while BAR 0
 * has a place; a wire that is the ISR status where MSI-X is off. At the end a reset always helps.
 */
#include "transport_steps.h"
#include "transports/virtio_pci/virtio_pci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300 /* keeps one input to some milliseconds */
#define ECAM UINT64_C(0x10000000)
#define WINDOW UINT64_C(0x20000000)
#define WINDOW_BYTES UINT64_C(0x1000000)
#define VECTORS 3
#define PAGE 4096
#define STATE_BYTES (1 << 16)

static struct world {
    struct counting_port port;
    struct bus bus;
    struct pci_root root;
    struct msi_port msi;
    struct fake_backend fake;
    struct fake_owner owner;
    struct virtio_pci pci;
    struct virtio_control_queue queues[FAKE_BACKEND_QUEUES];
    struct virtio_pci_queue pci_queues[FAKE_BACKEND_QUEUES];
    struct pci_msix_vector vectors[VECTORS];
    uint8_t shared[PAGE];
    struct transport_driver driver;
    unsigned vector_count;
} world;

static void send_message(struct msi_port *port, uint16_t source, const struct msi_message *message)
{
    (void)port;
    (void)message;
    ASSERT(source == 1 << 3);
    ASSERT(pci_msix_is_enabled(&world.pci.msix) && pci_function_is_bus_master(&world.pci.function));
}

static const struct msi_port_class msi_class = {send_message};

static void make(void)
{
    int r;

    counting_port_init(&world.port);
    bus_init(&world.bus, "mmio", &world.port.port);
    fake_backend_init(&world.fake);
    world.fake.region_count = 1;
    world.fake.regions[0] = (struct virtio_shared_region){.id = 1, .size = PAGE, .host = world.shared};
    fake_owner_init(&world.owner);
    world.msi.class = &msi_class;
    struct pci_root_options options = {
        .mmio = &world.bus,
        .ecam_base = ECAM,
        .buses = 1,
        .wires = {&world.owner.line, &world.owner.line, &world.owner.line, &world.owner.line},
        .msi = &world.msi,
    };
    r = pci_root_init(&world.root, &options);
    ASSERT(r == 0);
    struct pci_bar_window window = {.space = PCI_BAR_MEMORY, .base = WINDOW, .size = WINDOW_BYTES};
    r = pci_bar_engine_add_window(&world.root.engine, &window);
    ASSERT(r == 0);
    struct virtio_pci_config config = {
        .control =
            {
                .backend = &world.fake.backend,
                .port = &world.owner.port,
                .queues = world.queues,
                .features_added = VIRTIO_CONTROL_FEATURES,
                .one_thread = true,
            },
        .queues = world.pci_queues,
        .bus = &world.bus,
        .vectors = world.vectors,
        .vector_count = world.vector_count,
        .integrated = true,
        .shared_page_bytes = PAGE,
    };
    r = virtio_pci_init(&world.pci, &config);
    ASSERT(r == 0);
    r = pci_function_plug(&world.root, &world.root.bus, 1, 0, &world.pci.function);
    ASSERT(r == 0);
    bool found = transport_driver_find_pci(&world.driver, &world.bus, &world.pci.function, WINDOW);
    ASSERT(found);
    if (world.vector_count > 0)
        transport_driver_use_msix(&world.driver, world.vector_count);
}

/* The machine is saved and loaded, with some of the bytes damaged; one that cannot be loaded is reset. */
static void save_and_load(struct fuzz_input *input)
{
    static uint8_t bytes[STATE_BYTES];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    uint8_t damages = fuzz_u8(input) & 3;

    virtio_control_pause(&world.pci.control);
    if (!virtio_control_is_settled(&world.pci.control))
        return;
    int r = pci_root_save(&world.root, &writer);
    ASSERT(r == 0);
    for (unsigned i = 0; i < damages; i++) {
        size_t at = fuzz_u16(input) % writer.used;
        bytes[at] ^= fuzz_u8(input);
    }
    make();
    virtio_control_pause(&world.pci.control);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    r = pci_root_load(&world.root, &reader);
    ASSERT(r == 0 || damages > 0);
    if (r < 0)
        (void)pci_root_reset(&world.root);
}

/* BARs where they were at first, and everything on. */
static void find_again(void)
{
    (void)transport_driver_find_pci(&world.driver, &world.bus, &world.pci.function, WINDOW);
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    unsigned size = (code & 0x40) != 0 ? 1u << fuzz_u8(input) % 4 : 2;
    uint64_t address = WINDOW + ((code & 0x80) != 0 ? fuzz_u16(input) : fuzz_u8(input));
    uint8_t offset;

    switch (code & 15) {
    case 0:
    case 1:
        transport_driver_write(&world.driver, address, size, fuzz_u32(input));
        break;
    case 2:
        (void)transport_driver_read(&world.driver, address, size);
        break;
    case 3:
    case 4:
        offset = fuzz_u8(input); /* before the value: the order of arguments is the compiler's */
        (void)pci_function_write(&world.pci.function, offset, size, fuzz_u32(input));
        break;
    case 5: {
        uint64_t value;
        (void)pci_function_read(&world.pci.function, fuzz_u8(input), size, &value);
        break;
    }
    case 6:
        save_and_load(input);
        break;
    case 7:
        find_again();
        break;
    case 8:
        offset = fuzz_u8(input);
        (void)transport_driver_set_vector(&world.driver, offset % 4, fuzz_u8(input) % (VECTORS + 1u));
        break;
    case 9:
        if (world.vector_count > 0)
            transport_driver_use_msix(&world.driver, fuzz_u8(input) % (world.vector_count + 1));
        break;
    default:
        transport_step(&world.pci.control, &world.fake, &world.owner, &world.driver, input);
        break;
    }
}

static void check(void)
{
    const struct virtio_control *control = &world.pci.control;
    bool placed = bus_place_of(&world.bus, &world.pci.registers) != NULL;
    bool msix = world.pci.has_msix && pci_msix_is_enabled(&world.pci.msix);
    bool wanted = !msix && atomic_load(&control->interrupt_status) != 0;
    bool disabled = (pci_function_get(&world.pci.function, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) != 0;

    transport_check(control, &world.fake);
    ASSERT(world.port.bound == (placed ? transport_live_count(control) : 0));
    ASSERT(world.pci.function.intx == wanted);
    ASSERT(world.owner.raised == (wanted && !disabled));
    ASSERT(control->cut_off == !pci_function_is_bus_master(&world.pci.function));
    ASSERT(world.pci.msix_enabled == msix);
    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++) {
        uint16_t vector = atomic_load(&world.pci_queues[i].vector);
        ASSERT(vector == VIRTIO_NO_VECTOR || vector < world.vector_count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    world.vector_count = fuzz_u8(&input) % (VECTORS + 1);
    make();
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step(&input);
        check();
    }
    transport_end(&world.pci.control, &world.fake);
    check();
    return 0;
}

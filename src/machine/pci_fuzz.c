/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A guest without manners and a small machine: a root port with two functions behind it, one with MSI-X, and one on the
 * root bus. It reads and writes configuration space through both ways, writes to BARs wherever they are, and devices
 * come and go. After every step the machine agrees with itself: what is placed on the buses is what the engine says,
 * wires are what the functions drive, a saved state loads, and a state made of the input does no harm.
 */
#include "fuzz_input.h"
#include "machine/pci_assign.h"
#include "machine/pci_msix.h"
#include "machine/pci_port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300
#define ECAM UINT64_C(0xb0000000)
#define LOW UINT64_C(0xc0000000)
#define HIGH UINT64_C(0x4000000000)
#define VECTORS 5
#define FUNCTIONS 3

struct content {
    struct bus_device device;
};

static struct bus mmio, pio;
static struct pci_root root;
static struct pci_port port;
static struct pci_function functions[FUNCTIONS];
static struct content contents[FUNCTIONS][PCI_BAR_REGISTERS];
static struct pci_capability capabilities[FUNCTIONS][2];
static struct pci_msix msix;
static struct pci_msix_vector vectors[VECTORS];
static bool wires[PCI_WIRES];
static struct irq_line lines[PCI_WIRES];
static bool told[VECTORS];
static unsigned ejected;

static void set_line(struct irq_line *line, bool raised)
{
    wires[line - lines] = raised;
}

static const struct irq_line_class line_class = {.set = set_line};

static void take_message(struct msi_port *self, uint16_t source, const struct msi_message *message)
{
    (void)self;
    (void)source;
    ASSERT((message->address & 3) == 0);
}

static const struct msi_port_class msi_class = {.send = take_message};
static struct msi_port msi = {.class = &msi_class};

static void vector_changed(struct pci_msix_port *self, unsigned index, const struct msi_message *message)
{
    (void)self;
    ASSERT(told[index] || message); /* never closed twice */
    told[index] = message != NULL;
}

static const struct pci_msix_port_class msix_port_class = {.changed = vector_changed};
static struct pci_msix_port msix_port = {.class = &msix_port_class};

static enum bus_result content_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    (void)device;
    *ret_value = offset + size;
    return BUS_DONE;
}

static enum bus_result content_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    (void)offset;
    (void)size;
    (void)value;
    return BUS_DONE;
}

static const struct bus_device_class content_class = {.name = "content", .read = content_read, .write = content_write};
static const struct pci_function_class function_class = {.name = "fuzz"};

static void note_ejected(struct pci_port_listener *self, struct pci_port *from)
{
    (void)self;
    ASSERT(pci_port_is_occupied(from) && !pci_port_has_power(from));
    ejected++;
}

static const struct pci_port_listener_class listener_class = {.ejected = note_ejected};
static struct pci_port_listener listener = {.class = &listener_class};

static void add_bar(unsigned f, unsigned index, enum pci_bar_kind kind, bool prefetchable, uint64_t size)
{
    contents[f][index].device.class = &content_class;
    int r = pci_function_add_bar(&functions[f], index, kind, prefetchable, size, &contents[f][index].device);
    ASSERT(r == 0);
}

static void build_functions(void)
{
    memset(contents, 0, sizeof(contents));
    memset(told, 0, sizeof(told));
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        const struct pci_identity identity = {
            .vendor = 0x1234, .device = (uint16_t)f, .class_code = 0xff0000, .pin = 1};
        pci_function_init(&functions[f], &function_class, &identity);
        int r = pci_function_add_express(&functions[f], &capabilities[f][0], f == 2, true);
        r |= pci_function_add_power(&functions[f], &capabilities[f][1]);
        ASSERT(r == 0);
        add_bar(f, 0, PCI_BAR_MEMORY_32, false, 0x1000u << f);
        add_bar(f, 2, PCI_BAR_MEMORY_64, true, 0x100000);
        add_bar(f, 4, PCI_BAR_PORTS, false, 0x20);
        add_bar(f, PCI_BAR_ROM, PCI_BAR_EXPANSION_ROM, false, 0x800);
    }
    int r = pci_msix_init(&msix, &functions[0], &msix_port, vectors, VECTORS, 1, 0, 0x800);
    r |= pci_function_add_bar(&functions[0], 1, PCI_BAR_MEMORY_32, false, 0x1000, &msix.device);
    ASSERT(r == 0);
}

static void build(void)
{
    bus_init(&mmio, "mmio", NULL);
    bus_init(&pio, "pio", NULL);
    memset(wires, 0, sizeof(wires));
    ejected = 0;
    struct pci_root_options options = {
        .mmio = &mmio, .pio = &pio, .ecam_base = ECAM, .buses = 8, .mechanism_1 = true, .msi = &msi};
    for (unsigned i = 0; i < PCI_WIRES; i++) {
        lines[i].class = &line_class;
        options.wires[i] = &lines[i];
    }
    static const struct pci_bar_window windows[] = {
        {PCI_BAR_MEMORY, LOW, 0x10000000}, {PCI_BAR_MEMORY, HIGH, 0x10000000}, {PCI_BAR_IO, 0x1000, 0xf000}};
    const struct pci_port_options port_options = {
        .slot_number = 1, .vendor = 0x1234, .device = 9, .pin = 1, .listener = &listener};
    int r = pci_root_init(&root, &options);
    for (unsigned i = 0; i < ARRAY_SIZE(windows); i++)
        r |= pci_bar_engine_add_window(&root.engine, &windows[i]);
    r |= pci_port_init(&port, &port_options);
    r |= pci_port_connect(&port, &root, 1, 0);
    build_functions();
    r |= pci_port_plug(&port, 1, &functions[1], false);
    r |= pci_port_plug(&port, 0, &functions[0], false);
    r |= pci_function_plug(&root, &root.bus, 2, 0, &functions[2]);
    r |= pci_assign(&root, &(struct pci_assign_options){.reserve_memory = 1});
    ASSERT(r == 0);
}

static void compare(void)
{
    unsigned placed = 0, levels[PCI_WIRES] = {0};
    for (struct pci_function *function = NULL; (function = pci_root_next(&root, function));) {
        for (unsigned i = 0; i < PCI_BAR_REGISTERS; i++) {
            const struct pci_bar *bar = &function->bars.bars[i];
            if (!bar->placed || !bar->content)
                continue;
            const struct bus_range *range =
                bus_find(bar->kind == PCI_BAR_PORTS ? &pio : &mmio, bar->base + bar->size - 1);
            ASSERT(range && range->device == bar->content && range->base == bar->base && range->size == bar->size);
            placed++;
        }
        levels[function->wire] += function->wire_raised;
    }
    ASSERT(placed + 2 == mmio.count + pio.count); /* besides ECAM and mechanism #1 */
    for (unsigned i = 0; i < PCI_WIRES; i++)
        ASSERT(root.wire_levels[i] == levels[i] && wires[i] == (levels[i] > 0));
    for (unsigned i = 0; i < VECTORS; i++) {
        struct msi_message message;
        ASSERT(pci_msix_message(&msix, i, &message) == told[i]);
    }
    ASSERT(pci_function_get(&port.function, port.express.offset + 0x1au, 2) & 0x40 ? pci_port_is_occupied(&port)
                                                                                   : !pci_port_is_occupied(&port));
}

static void access(struct fuzz_input *input, uint8_t how)
{
    static const unsigned slots[] = {0x00, 0x08, 0x10, 0x08};
    static const unsigned sizes[] = {1, 2, 4, 8};
    uint64_t value;
    uint8_t where = fuzz_u8(input);
    unsigned offset = where & 0x80 ? fuzz_u16(input) & 0xfff : where & 0x7f;
    unsigned behind = port.bus.number < 8 ? port.bus.number : 1;
    uint64_t address = how & 0x10 ? ECAM + ((uint64_t)behind << 20) + ((uint64_t)(how >> 5 & 1) << 12)
                                  : ECAM + ((uint64_t)slots[how >> 5 & 3] << 12);
    if (how & 0x80)
        (void)bus_write(&mmio, address + offset, sizes[how >> 2 & 3],
                        how & 0x20 ? fuzz_u8(input) * UINT64_C(0x0101010101010101) : fuzz_u64(input), NULL);
    else
        (void)bus_read(&mmio, address + offset, sizes[how >> 2 & 3], &value, NULL);
}

static void touch_bars(struct fuzz_input *input)
{
    uint8_t which = fuzz_u8(input);
    const struct pci_bar *bar = &functions[which % FUNCTIONS].bars.bars[which / FUNCTIONS % PCI_BAR_REGISTERS];
    uint64_t value;
    if (!bar->placed)
        return;
    struct bus *bus = bar->kind == PCI_BAR_PORTS ? &pio : &mmio;
    (void)bus_write(bus, bar->base + fuzz_u16(input) % bar->size, 1 + which % 8, fuzz_u32(input), NULL);
    (void)bus_read(bus, bar->base + fuzz_u16(input) % bar->size, 1 + which % 8, &value, NULL);
}

static void save_and_load(void)
{
    static uint8_t bytes[16384], again[16384];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)}, second = {again, sizeof(again), 0};
    int r = pci_root_save(&root, &writer);
    ASSERT(r == 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    r = pci_root_load(&root, &reader);
    ASSERT(r == 0);
    r = pci_root_save(&root, &second);
    ASSERT(r == 0 && second.used == writer.used && memcmp(bytes, again, writer.used) == 0);
}

/* The device behind the port: taken out, or put in as it was. */
static void come_or_go(void)
{
    if (pci_port_unplug(&port) == 0)
        return;
    int r = pci_port_plug(&port, 1, &functions[1], true);
    r |= pci_port_plug(&port, 0, &functions[0], true);
    ASSERT(r == 0);
}

static void step(struct fuzz_input *input)
{
    uint8_t what = fuzz_u8(input);
    uint64_t value;
    switch (what % 16) {
    case 0:
        pci_function_set_intx(&functions[what / 16 % FUNCTIONS], what & 0x80);
        break;
    case 1:
        pci_msix_send(&msix, what / 16);
        break;
    case 2:
        (void)pci_port_unplug_request(&port);
        break;
    case 3:
        come_or_go();
        break;
    case 4:
        (void)bus_write(&pio, 0xcf8 + (what >> 4), 1 + (what >> 6), fuzz_u32(input), NULL);
        (void)bus_read(&pio, 0xcfc, 4, &value, NULL);
        break;
    case 5:
        touch_bars(input);
        break;
    case 6:
        save_and_load();
        break;
    case 7:
        if (what & 0x80)
            (void)pci_root_reset(&root);
        break;
    default:
        access(input, fuzz_u8(input));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.bytes = data, .left = size};
    build();
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step(&input);
        compare();
    }
    struct state_reader reader = {.bytes = data, .size = size};
    (void)pci_root_load(&root, &reader);
    compare();
    return 0;
}

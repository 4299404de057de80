/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "transport_driver.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>

#define MAGIC 0x74726976
#define MMIO_QUEUE_RESET 0x0c0 /* younger than the headers */
#define MSIX_CONTROL 2
#define MSIX_TABLE 4
#define MSIX_ENABLE 0x8000
#define MSIX_ENTRY 16
#define CAPABILITIES_MAX 48 /* 192 bytes, each 4 at least */

static const struct transport_place mmio_places[TRANSPORT_FIELDS] = {
    [TRANSPORT_DEVICE_SELECT] = {VIRTIO_MMIO_DEVICE_FEATURES_SEL, 4},
    [TRANSPORT_DEVICE_FEATURES] = {VIRTIO_MMIO_DEVICE_FEATURES, 4},
    [TRANSPORT_DRIVER_SELECT] = {VIRTIO_MMIO_DRIVER_FEATURES_SEL, 4},
    [TRANSPORT_DRIVER_FEATURES] = {VIRTIO_MMIO_DRIVER_FEATURES, 4},
    [TRANSPORT_STATUS] = {VIRTIO_MMIO_STATUS, 4},
    [TRANSPORT_GENERATION] = {VIRTIO_MMIO_CONFIG_GENERATION, 4},
    [TRANSPORT_QUEUE_SELECT] = {VIRTIO_MMIO_QUEUE_SEL, 4},
    [TRANSPORT_QUEUE_SIZE_MAX] = {VIRTIO_MMIO_QUEUE_NUM_MAX, 4},
    [TRANSPORT_QUEUE_SIZE] = {VIRTIO_MMIO_QUEUE_NUM, 4},
    [TRANSPORT_QUEUE_ENABLE] = {VIRTIO_MMIO_QUEUE_READY, 4},
    [TRANSPORT_QUEUE_RESET] = {MMIO_QUEUE_RESET, 4},
    [TRANSPORT_DESC_LOW] = {VIRTIO_MMIO_QUEUE_DESC_LOW, 4},
    [TRANSPORT_DESC_HIGH] = {VIRTIO_MMIO_QUEUE_DESC_HIGH, 4},
    [TRANSPORT_DRIVER_LOW] = {VIRTIO_MMIO_QUEUE_AVAIL_LOW, 4},
    [TRANSPORT_DRIVER_HIGH] = {VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 4},
    [TRANSPORT_DEVICE_LOW] = {VIRTIO_MMIO_QUEUE_USED_LOW, 4},
    [TRANSPORT_DEVICE_HIGH] = {VIRTIO_MMIO_QUEUE_USED_HIGH, 4},
};

static const struct transport_place pci_places[TRANSPORT_FIELDS] = {
    [TRANSPORT_DEVICE_SELECT] = {VIRTIO_PCI_COMMON_DFSELECT, 4},
    [TRANSPORT_DEVICE_FEATURES] = {VIRTIO_PCI_COMMON_DF, 4},
    [TRANSPORT_DRIVER_SELECT] = {VIRTIO_PCI_COMMON_GFSELECT, 4},
    [TRANSPORT_DRIVER_FEATURES] = {VIRTIO_PCI_COMMON_GF, 4},
    [TRANSPORT_STATUS] = {VIRTIO_PCI_COMMON_STATUS, 1},
    [TRANSPORT_GENERATION] = {VIRTIO_PCI_COMMON_CFGGENERATION, 1},
    [TRANSPORT_QUEUE_SELECT] = {VIRTIO_PCI_COMMON_Q_SELECT, 2},
    [TRANSPORT_QUEUE_SIZE_MAX] = {VIRTIO_PCI_COMMON_Q_SIZE, 2},
    [TRANSPORT_QUEUE_SIZE] = {VIRTIO_PCI_COMMON_Q_SIZE, 2},
    [TRANSPORT_QUEUE_ENABLE] = {VIRTIO_PCI_COMMON_Q_ENABLE, 2},
    [TRANSPORT_QUEUE_RESET] = {VIRTIO_PCI_COMMON_Q_RESET, 2},
    [TRANSPORT_DESC_LOW] = {VIRTIO_PCI_COMMON_Q_DESCLO, 4},
    [TRANSPORT_DESC_HIGH] = {VIRTIO_PCI_COMMON_Q_DESCHI, 4},
    [TRANSPORT_DRIVER_LOW] = {VIRTIO_PCI_COMMON_Q_AVAILLO, 4},
    [TRANSPORT_DRIVER_HIGH] = {VIRTIO_PCI_COMMON_Q_AVAILHI, 4},
    [TRANSPORT_DEVICE_LOW] = {VIRTIO_PCI_COMMON_Q_USEDLO, 4},
    [TRANSPORT_DEVICE_HIGH] = {VIRTIO_PCI_COMMON_Q_USEDHI, 4},
};

/* ---- accesses ---- */

uint64_t transport_driver_read(struct transport_driver *driver, uint64_t address, unsigned size)
{
    uint64_t value = 0;

    driver->later += bus_read(driver->bus, address, size, &value, NULL) == BUS_LATER;
    return value;
}

void transport_driver_write(struct transport_driver *driver, uint64_t address, unsigned size, uint64_t value)
{
    driver->later += bus_write(driver->bus, address, size, value, NULL) == BUS_LATER;
}

uint32_t transport_driver_get(struct transport_driver *driver, enum transport_field field)
{
    return (uint32_t)transport_driver_read(driver, driver->registers + driver->places[field].offset,
                                           driver->places[field].size);
}

void transport_driver_set(struct transport_driver *driver, enum transport_field field, uint32_t value)
{
    transport_driver_write(driver, driver->registers + driver->places[field].offset, driver->places[field].size, value);
}

static uint32_t config_get(const struct transport_driver *driver, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    (void)pci_function_read(driver->function, offset, size, &value);
    return (uint32_t)value;
}

static void config_put(struct transport_driver *driver, unsigned offset, unsigned size, uint32_t value)
{
    driver->later += pci_function_write(driver->function, offset, size, value) == BUS_LATER;
}

/* ---- finding the device ---- */

bool transport_driver_find_mmio(struct transport_driver *driver, struct bus *bus, uint64_t address)
{
    *driver = (struct transport_driver){
        .bus = bus,
        .places = mmio_places,
        .registers = address,
        .config = address + VIRTIO_MMIO_CONFIG,
        .notify = address + VIRTIO_MMIO_QUEUE_NOTIFY,
    };
    return transport_driver_read(driver, address + VIRTIO_MMIO_MAGIC_VALUE, 4) == MAGIC &&
           transport_driver_read(driver, address + VIRTIO_MMIO_VERSION, 4) == 2 &&
           transport_driver_read(driver, address + VIRTIO_MMIO_DEVICE_ID, 4) != 0;
}

/* Size each memory BAR as firmware does, and place it behind the last one; where each is, in @bases. */
static void place_bars(struct transport_driver *driver, uint64_t address, uint64_t bases[6])
{
    for (unsigned i = 0; i < 6; i++) {
        unsigned at = PCI_BAR0 + 4 * i;
        config_put(driver, at, 4, UINT32_MAX);
        uint32_t low = config_get(driver, at, 4);
        bool wide = (low & 6) == 4;
        uint64_t mask = (low & ~UINT32_C(15)) | (wide ? 0 : (uint64_t)UINT32_MAX << 32);
        if (wide) {
            config_put(driver, at + 4, 4, UINT32_MAX);
            mask |= (uint64_t)config_get(driver, at + 4, 4) << 32;
        }
        if ((mask & ~((uint64_t)UINT32_MAX << 32)) == 0 && !wide)
            continue;
        uint64_t size = ~mask + 1;
        bases[i] = align_up(address, size);
        config_put(driver, at, 4, (uint32_t)bases[i]);
        if (wide)
            config_put(driver, at + 4, 4, (uint32_t)(bases[i] >> 32));
        address = bases[i] + size;
        i += wide;
    }
    config_put(driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
}

static void note_capability(struct transport_driver *driver, unsigned at, const uint64_t bases[6])
{
    uint8_t bar = (uint8_t)config_get(driver, at + VIRTIO_PCI_CAP_BAR, 1);
    uint64_t base = (bar < 6 ? bases[bar] : 0) + config_get(driver, at + VIRTIO_PCI_CAP_OFFSET, 4);

    switch (config_get(driver, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
    case VIRTIO_PCI_CAP_COMMON_CFG:
        driver->registers = base;
        break;
    case VIRTIO_PCI_CAP_NOTIFY_CFG:
        driver->notify = base;
        driver->notify_multiplier = config_get(driver, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
        break;
    case VIRTIO_PCI_CAP_ISR_CFG:
        driver->isr = base;
        break;
    case VIRTIO_PCI_CAP_DEVICE_CFG:
        driver->config = base;
        break;
    case VIRTIO_PCI_CAP_PCI_CFG:
        driver->window = at;
        break;
    case VIRTIO_PCI_CAP_SHARED_MEMORY_CFG:
        driver->shared = base | (uint64_t)config_get(driver, at + 16, 4) << 32;
        driver->shared_bytes =
            config_get(driver, at + VIRTIO_PCI_CAP_LENGTH, 4) | (uint64_t)config_get(driver, at + 20, 4) << 32;
        driver->shared_id = (uint8_t)config_get(driver, at + 5, 1);
        break;
    default:
        break;
    }
}

bool transport_driver_find_pci(struct transport_driver *driver, struct bus *bus, struct pci_function *function,
                               uint64_t address)
{
    uint64_t bases[6] = {0};

    *driver = (struct transport_driver){.bus = bus, .places = pci_places, .function = function};
    uint32_t id = config_get(driver, PCI_DEVICE_ID, 2);
    if (config_get(driver, PCI_VENDOR_ID, 2) != 0x1af4 || id < 0x1040 || id > 0x107f)
        return false;
    place_bars(driver, address, bases);
    unsigned at = config_get(driver, PCI_CAPABILITIES, 1);
    for (unsigned i = 0; i < CAPABILITIES_MAX && at != 0; i++, at = config_get(driver, at + 1, 1)) {
        uint32_t kind = config_get(driver, at, 1);
        if (kind == PCI_CAPABILITY_VENDOR)
            note_capability(driver, at, bases);
        if (kind != PCI_CAPABILITY_MSIX)
            continue;
        uint32_t table = config_get(driver, at + MSIX_TABLE, 4);
        driver->msix = at;
        driver->msix_table = bases[table & 7] + (table & ~UINT32_C(7));
    }
    return driver->registers != 0 && driver->notify != 0 && driver->isr != 0;
}

void transport_driver_use_msix(struct transport_driver *driver, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t entry = driver->msix_table + (uint64_t)MSIX_ENTRY * i;
        transport_driver_write(driver, entry, 4, 0xfee00000);
        transport_driver_write(driver, entry + 4, 4, 0);
        transport_driver_write(driver, entry + 8, 4, 0x40 + i);
        transport_driver_write(driver, entry + 12, 4, 0);
    }
    config_put(driver, driver->msix + MSIX_CONTROL, 2, count > 0 ? MSIX_ENABLE : 0);
}

/* ---- driving it ---- */

void transport_driver_add_status(struct transport_driver *driver, uint8_t bits)
{
    transport_driver_set(driver, TRANSPORT_STATUS, transport_driver_get(driver, TRANSPORT_STATUS) | bits);
}

uint64_t transport_driver_offered(struct transport_driver *driver)
{
    transport_driver_set(driver, TRANSPORT_DEVICE_SELECT, 1);
    uint64_t upper = transport_driver_get(driver, TRANSPORT_DEVICE_FEATURES);
    transport_driver_set(driver, TRANSPORT_DEVICE_SELECT, 0);
    return upper << 32 | transport_driver_get(driver, TRANSPORT_DEVICE_FEATURES);
}

bool transport_driver_negotiate(struct transport_driver *driver, uint64_t wanted)
{
    transport_driver_reset(driver);
    transport_driver_add_status(driver, VIRTIO_STATUS_ACKNOWLEDGE);
    transport_driver_add_status(driver, VIRTIO_STATUS_DRIVER);
    driver->features = transport_driver_offered(driver) & wanted;
    transport_driver_set(driver, TRANSPORT_DRIVER_SELECT, 0);
    transport_driver_set(driver, TRANSPORT_DRIVER_FEATURES, (uint32_t)driver->features);
    transport_driver_set(driver, TRANSPORT_DRIVER_SELECT, 1);
    transport_driver_set(driver, TRANSPORT_DRIVER_FEATURES, (uint32_t)(driver->features >> 32));
    transport_driver_add_status(driver, VIRTIO_STATUS_FEATURES_OK);
    return (transport_driver_get(driver, TRANSPORT_STATUS) & VIRTIO_STATUS_FEATURES_OK) != 0;
}

static void set_address(struct transport_driver *driver, enum transport_field low, uint64_t address)
{
    transport_driver_set(driver, low, (uint32_t)address);
    transport_driver_set(driver, low + 1, (uint32_t)(address >> 32));
}

bool transport_driver_set_up(struct transport_driver *driver, unsigned index, const struct fake_driver *ring)
{
    transport_driver_set(driver, TRANSPORT_QUEUE_SELECT, index);
    uint32_t size_max = transport_driver_get(driver, TRANSPORT_QUEUE_SIZE_MAX);
    if (size_max == 0 || size_max < ring->size || transport_driver_get(driver, TRANSPORT_QUEUE_ENABLE) != 0)
        return false;
    transport_driver_set(driver, TRANSPORT_QUEUE_SIZE, ring->size);
    set_address(driver, TRANSPORT_DESC_LOW, ring->desc_address);
    set_address(driver, TRANSPORT_DRIVER_LOW, ring->avail_address);
    set_address(driver, TRANSPORT_DEVICE_LOW, ring->used_address);
    transport_driver_set(driver, TRANSPORT_QUEUE_ENABLE, 1);
    return transport_driver_get(driver, TRANSPORT_QUEUE_ENABLE) == 1;
}

uint16_t transport_driver_set_vector(struct transport_driver *driver, unsigned index, uint16_t vector)
{
    uint64_t at = driver->registers + (index == UINT16_MAX ? VIRTIO_PCI_COMMON_MSIX : VIRTIO_PCI_COMMON_Q_MSIX);

    if (index != UINT16_MAX)
        transport_driver_set(driver, TRANSPORT_QUEUE_SELECT, index);
    transport_driver_write(driver, at, 2, vector);
    return (uint16_t)transport_driver_read(driver, at, 2);
}

void transport_driver_kick(struct transport_driver *driver, unsigned index, const struct fake_driver *ring)
{
    uint64_t address = driver->notify;
    uint32_t value = index;
    unsigned size = 4;

    if (driver->function != NULL) {
        transport_driver_set(driver, TRANSPORT_QUEUE_SELECT, index);
        uint64_t off = transport_driver_read(driver, driver->registers + VIRTIO_PCI_COMMON_Q_NOFF, 2);
        address += off * driver->notify_multiplier;
        size = (driver->features & VIRTIO_F_NOTIFICATION_DATA) != 0 ? 4 : 2;
    }
    if ((driver->features & VIRTIO_F_NOTIFICATION_DATA) != 0)
        value |= (uint32_t)ring->next_avail << 16;
    transport_driver_write(driver, address, size, value);
}

uint32_t transport_driver_interrupts(struct transport_driver *driver)
{
    if (driver->function != NULL)
        return (uint32_t)transport_driver_read(driver, driver->isr, 1);
    uint32_t events = (uint32_t)transport_driver_read(driver, driver->registers + VIRTIO_MMIO_INTERRUPT_STATUS, 4);
    transport_driver_write(driver, driver->registers + VIRTIO_MMIO_INTERRUPT_ACK, 4, events);
    return events;
}

void transport_driver_reset(struct transport_driver *driver)
{
    transport_driver_set(driver, TRANSPORT_STATUS, 0);
    driver->features = 0;
}

bool transport_driver_is_reset(struct transport_driver *driver)
{
    return transport_driver_get(driver, TRANSPORT_STATUS) == 0;
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Writes that mean something go to the port and are not kept: sleep control and reset read as 0. A press sets the
 * button's bit in the event status and makes one edge; the guest's event method reads the status, tells its system, and
 * clears what it has read. A press that comes before the last one was cleared adds an edge but no event.
 *
 * Limits
 *
 * No sleeping state but off (S5), so no waking. One button.
 */
#include "devices/acpi_power/acpi_power.h"

#include <assert.h>
#include <errno.h>

#include "machine/bus_bytes.h"

#define SLEEP_ENABLE (1u << 5) /* SLP_EN */
#define SLEEP_TYPE_SHIFT 2     /* SLP_TYPx */
#define SLEEP_TYPE_ALL 7u

#define STATE_VERSION 1
#define STATE_BYTES 4

static_assert(STATE_BYTES + STATE_RECORD_HEADER_BYTES <= ACPI_POWER_STATE_BYTES_MAX, "room for the record");

static uint8_t read_register(struct bus_device *device, uint64_t offset)
{
    return offset == ACPI_POWER_EVENT_STATUS ? container_of(device, struct acpi_power, device)->events : 0;
}

static void write_register(struct bus_device *device, uint64_t offset, uint8_t value)
{
    struct acpi_power *power = container_of(device, struct acpi_power, device);

    switch (offset) {
    case ACPI_POWER_SLEEP_CONTROL:
        if ((value & SLEEP_ENABLE) && (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_ALL) == ACPI_POWER_OFF_TYPE)
            power->port->class->power_off(power->port);
        break;
    case ACPI_POWER_RESET:
        if (value == ACPI_POWER_RESET_VALUE)
            power->port->class->reset(power->port);
        break;
    case ACPI_POWER_EVENT_STATUS:
        power->events &= (uint8_t)~value;
        break;
    default: /* WAK_STS is never set, so there is nothing to clear */
        break;
    }
}

static enum bus_result acpi_power_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    return bus_bytes_read(device, offset, size, ret_value, read_register);
}

static enum bus_result acpi_power_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    return bus_bytes_write(device, offset, size, value, write_register);
}

static const struct bus_device_class acpi_power_class = {
    .name = "acpi-power",
    .read = acpi_power_read,
    .write = acpi_power_write,
};

void acpi_power_init(struct acpi_power *power, struct acpi_power_port *port, struct irq_line *irq)
{
    *power = (struct acpi_power){.device.class = &acpi_power_class, .port = port, .irq = irq};
}

void acpi_power_reset(struct acpi_power *power)
{
    power->events = 0;
}

void acpi_power_press(struct acpi_power *power)
{
    power->events |= ACPI_POWER_EVENT_BUTTON;
    irq_line_pulse(power->irq);
}

int acpi_power_save(const struct acpi_power *power, struct state_writer *writer)
{
    uint8_t record[STATE_BYTES] = {power->events};

    return state_put(writer, ACPI_POWER_STATE_TAG, STATE_VERSION, record, sizeof(record));
}

int acpi_power_load(struct acpi_power *power, const struct state_record *record)
{
    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    if (record->length != STATE_BYTES || (record->payload[0] & ~ACPI_POWER_EVENT_BUTTON))
        return -EBADMSG;
    power->events = record->payload[0];
    if (power->events)
        irq_line_pulse(power->irq);
    return 0;
}

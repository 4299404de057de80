/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The panic register against a guest that writes any bytes: the port hears of known events, once for each write. */
#include "devices/pvpanic/pvpanic.h"
#include "chip_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned calls, last;

static void note_event(struct pvpanic_port *port, unsigned events)
{
    (void)port;
    calls++;
    last = events;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pvpanic_port_class class = {.event = note_event};
    struct pvpanic_port port = {&class};
    struct pvpanic pvpanic;

    pvpanic_init(&pvpanic, &port);
    for (size_t i = 0; i < size; i++) {
        unsigned before = calls;
        chip_write(&pvpanic.device, 0, 1, data[i]);
        ASSERT(calls == before + ((data[i] & 7) != 0) && (calls == before || last == (data[i] & 7u)));
        ASSERT(chip_read(&pvpanic.device, 0, 1) == 7);
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The packed half of the fake driver: what fake_driver.c calls for such a ring. */
#ifndef TESTS_SUPPORT_FAKE_DRIVER_PRIVATE_H
#define TESTS_SUPPORT_FAKE_DRIVER_PRIVATE_H

#include "fake_driver.h"

/* WRITE and NEXT of piece @index of @count: the same bits in both layouts. */
uint16_t fake_driver_piece_flags(const struct fake_piece *pieces, unsigned index, unsigned count);

/* As the calls without "packed"; arguments have been checked. @ring, @table: in this process. */
void fake_driver_packed_init(struct fake_driver *driver, uint8_t *ring);
int fake_driver_packed_add(struct fake_driver *driver, const struct fake_piece *pieces, unsigned count);
int fake_driver_packed_add_indirect(struct fake_driver *driver, uint8_t *table, uint64_t table_address,
                                    const struct fake_piece *pieces, unsigned count);
bool fake_driver_packed_show(struct fake_driver *driver);
bool fake_driver_packed_get(struct fake_driver *driver, uint32_t *ret_head, uint32_t *ret_length);
bool fake_driver_packed_interrupts_on(struct fake_driver *driver);
void fake_driver_packed_interrupts_off(struct fake_driver *driver);

#endif

/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "machine/pci_msi.h"

/* From the capability (PCI Local Bus 3.0, 6.8.1). */
#define MSI_BYTES 14u
#define MSI_CONTROL 2u
#define MSI_ENABLE 0x0001u
#define MSI_64_BIT 0x0080u
#define MSI_ADDRESS 4u
#define MSI_UPPER_ADDRESS 8u
#define MSI_DATA 12u

int pci_msi_init(struct pci_msi *msi, struct pci_function *function)
{
    uint8_t bytes[MSI_BYTES - 2] = {MSI_64_BIT};
    *msi = (struct pci_msi){.function = function};
    int r = pci_function_add_capability(function, &msi->capability, PCI_CAPABILITY_MSI, bytes, MSI_BYTES);
    if (r < 0)
        return r;
    unsigned offset = msi->capability.offset;
    pci_function_set_writable(function, offset + MSI_CONTROL, 2, MSI_ENABLE);
    pci_function_set_writable(function, offset + MSI_ADDRESS, 4, 0xfffffffc);
    pci_function_set_writable(function, offset + MSI_UPPER_ADDRESS, 4, 0xffffffff);
    pci_function_set_writable(function, offset + MSI_DATA, 2, 0xffff);
    return 0;
}

bool pci_msi_is_enabled(const struct pci_msi *msi)
{
    return (pci_function_get(msi->function, msi->capability.offset + MSI_CONTROL, 2) & MSI_ENABLE) != 0;
}

void pci_msi_send(struct pci_msi *msi)
{
    const struct pci_function *function = msi->function;
    unsigned offset = msi->capability.offset;
    if (!function->root || !function->root->options.msi || !pci_msi_is_enabled(msi) ||
        !pci_function_is_bus_master(function))
        return;
    const struct msi_message message = {
        .address = pci_function_get(function, offset + MSI_ADDRESS, 4) |
                   (uint64_t)pci_function_get(function, offset + MSI_UPPER_ADDRESS, 4) << 32,
        .data = pci_function_get(function, offset + MSI_DATA, 2),
    };
    msi_send(function->root->options.msi, pci_function_id(function), &message);
}

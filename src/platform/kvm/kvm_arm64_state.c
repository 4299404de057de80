/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. A processor's state is every register that KVM lists, in the order of the list, which is the
 * order in which they can be set; then its pending events, and whether it is on. The records of registers are small
 * ones, and as many as it takes.
 *
 * The GIC's state is a list of attributes and values in the order in which they are to be set: reading it writes the
 * list, and restoring plays it. What can only be set bit by bit is cleared first; the kind of an interrupt comes before
 * whether it is pending, and the redistributors' tables before messages are turned on.
 *
 * Limits. A GICv2 does not tell the level of its wires: whoever raised one raises it again after a restore. The lengths
 * of SVE vectors are the host's, and are not set.
 */
#include <errno.h>

#include "platform/kvm/kvm_arm64.h"

#define TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define STATE_VERSION 1

enum {
    VCPU_HEADER = TAG('k', 'a', 'c', 'p'),
    VCPU_REGS = TAG('r', 'e', 'g', 's'), /* {number, value} again and again */
    VCPU_EVENTS = TAG('e', 'v', 'n', 't'),
    VCPU_STATE = TAG('m', 'p', 's', 't'),

    GIC_HEADER = TAG('k', 'g', 'i', 'c'), /* version of the GIC, number of interrupts: 32 bits each */
    GIC_ATTRIBUTES = TAG('g', 'a', 't', 'r'),
    ITS_ATTRIBUTES = TAG('i', 't', 's', 'r'),
    ITS_CONTROL = TAG('i', 't', 's', 'c'), /* after the tables */
};

/* What is collected on the stack before it becomes a record. */
#define CHUNK_BYTES 4096

struct chunk {
    struct state_writer *writer;
    uint32_t tag;
    uint32_t used;
    uint8_t bytes[CHUNK_BYTES];
};

static int chunk_flush(struct chunk *chunk)
{
    if (chunk->used == 0)
        return 0;
    int r = state_put(chunk->writer, chunk->tag, STATE_VERSION, chunk->bytes, chunk->used);
    chunk->used = 0;
    return r;
}

/* Room for one item of @bytes, far below CHUNK_BYTES. */
static int chunk_room(struct chunk *chunk, size_t bytes)
{
    return chunk->used + bytes > CHUNK_BYTES ? chunk_flush(chunk) : 0;
}

/* ---- processors */

/* The largest there is: a vector of 2048 bits. */
#define REG_BYTES_MAX 256

static int save_regs(const struct kvm_vcpu *vcpu, const struct kvm_arm64_reg_list *list, struct state_writer *writer)
{
    struct chunk chunk = {.writer = writer, .tag = VCPU_REGS};
    for (uint64_t i = 0; i < list->count; i++) {
        size_t bytes = kvm_arm64_reg_bytes(list->ids[i]);
        if (list->ids[i] == KVM_REG_ARM64_SVE_VLS)
            continue;
        if (bytes > REG_BYTES_MAX)
            return -E2BIG;
        int r = chunk_room(&chunk, sizeof(uint64_t) + bytes);
        if (r < 0)
            return r;
        put_le64(chunk.bytes + chunk.used, list->ids[i]);
        r = kvm_arm64_reg_get(vcpu, list->ids[i], chunk.bytes + chunk.used + sizeof(uint64_t));
        if (r < 0)
            return r;
        chunk.used += (uint32_t)(sizeof(uint64_t) + bytes);
    }
    return chunk_flush(&chunk);
}

static int events_ioctl(const struct kvm_vcpu *vcpu, unsigned long request, struct kvm_vcpu_events *events)
{
    return kvm_ioctl(vcpu->vm->host->system, vcpu->handle, request, events);
}

int kvm_arm64_vcpu_save(struct kvm_vcpu *vcpu, struct kvm_arm64_reg_list *list, struct state_writer *writer)
{
    int r = state_put(writer, VCPU_HEADER, STATE_VERSION, NULL, 0);
    if (r == 0)
        r = kvm_arm64_reg_list(vcpu, list);
    if (r == 0)
        r = save_regs(vcpu, list, writer);
    if (r == 0 && kvm_vm_check(vcpu->vm, KVM_CAP_VCPU_EVENTS) != 0) {
        struct kvm_vcpu_events events = {0};
        r = events_ioctl(vcpu, KVM_GET_VCPU_EVENTS, &events);
        if (r == 0)
            r = state_put(writer, VCPU_EVENTS, STATE_VERSION, &events, sizeof(events));
    }
    uint32_t state;
    if (r == 0)
        r = kvm_vcpu_get_state(vcpu, &state);
    return r < 0 ? r : state_put(writer, VCPU_STATE, STATE_VERSION, &state, sizeof(state));
}

/* A register that cannot be set is no harm where it has that value anyhow: what identifies a processor. */
static int restore_reg(struct kvm_vcpu *vcpu, uint64_t id, const uint8_t *value, size_t bytes)
{
    uint8_t now[REG_BYTES_MAX] = {0};
    int r = kvm_arm64_reg_set(vcpu, id, value);
    if (r >= 0)
        return 0;
    if (kvm_arm64_reg_get(vcpu, id, now) >= 0 && memcmp(now, value, bytes) == 0)
        return 0;
    return r;
}

static int restore_regs(struct kvm_vcpu *vcpu, const struct state_record *record)
{
    for (size_t at = 0; at < record->length;) {
        if (record->length - at < sizeof(uint64_t))
            return -EBADMSG;
        uint64_t id = get_le64(record->payload + at);
        at += sizeof(uint64_t);
        size_t bytes = kvm_arm64_reg_bytes(id);
        if (bytes > REG_BYTES_MAX || bytes > record->length - at)
            return -EBADMSG;
        int r = restore_reg(vcpu, id, record->payload + at, bytes);
        if (r < 0)
            return r;
        at += bytes;
    }
    return 0;
}

static int restore_record(struct kvm_vcpu *vcpu, const struct state_record *record)
{
    struct kvm_vcpu_events events;
    uint32_t state;
    switch (record->tag) {
    case VCPU_REGS:
        return restore_regs(vcpu, record);
    case VCPU_EVENTS:
        if (record->length != sizeof(events))
            return -EBADMSG;
        memcpy(&events, record->payload, sizeof(events));
        return events_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
    case VCPU_STATE:
        if (record->length != sizeof(state))
            return -EBADMSG;
        memcpy(&state, record->payload, sizeof(state));
        return kvm_vcpu_set_state(vcpu, state);
    default:
        return 0; /* of a later version */
    }
}

int kvm_arm64_vcpu_restore(struct kvm_vcpu *vcpu, struct state_reader *reader)
{
    struct state_record record;
    bool begun = false, whole = false;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        begun = begun || record.tag == VCPU_HEADER;
        whole = whole || record.tag == VCPU_STATE; /* the last one */
        if (!begun || record.version > STATE_VERSION)
            return -EBADMSG;
        r = restore_record(vcpu, &record);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : whole ? 0 : -EBADMSG;
}

/* ---- the GIC: {group 32, 0 32, attribute 64, value 64} again and again */

#define ATTRIBUTE_BYTES 24u

/* Registers of the distributor, and of a redistributor's second page (GIC architecture, IHI 0069, 12.8, 12.10). */
enum {
    GICD_CTLR = 0x0,
    GICD_IIDR = 0x8,
    GICD_IGROUPR = 0x80,
    GICD_ISENABLER = 0x100,
    GICD_ICENABLER = 0x180,
    GICD_ISPENDR = 0x200,
    GICD_ISACTIVER = 0x300,
    GICD_ICACTIVER = 0x380,
    GICD_IPRIORITYR = 0x400,
    GICD_ITARGETSR = 0x800, /* version 2 */
    GICD_ICFGR = 0xc00,
    GICD_SPENDSGIR = 0xf20, /* version 2 */
    GICD_IROUTER = 0x6000,
    GICR_CTLR = 0x0,
    GICR_WAKER = 0x14,
    GICR_PROPBASER = 0x70,
    GICR_PENDBASER = 0x78,
    GICR_PRIVATE = 0x10000, /* where the second page begins */
    GITS_CTLR = 0x0,
    GITS_IIDR = 0x4,
    GITS_CBASER = 0x80,
    GITS_CWRITER = 0x88,
    GITS_CREADR = 0x90,
    GITS_BASER = 0x100,
};

/* System registers of a processor's interface, as KVM numbers them: op0, op1, CRn, CRm, op2. */
#define ICC(crn, crm, op2) (3u << 14 | 0u << 11 | (crn) << 7 | (crm) << 3 | (op2))
#define ICC_PMR ICC(4u, 6u, 0u)
#define ICC_AP0R0 ICC(12u, 8u, 4u)
#define ICC_AP1R0 ICC(12u, 9u, 0u)
#define ICC_BPR0 ICC(12u, 8u, 3u)
#define ICC_BPR1 ICC(12u, 12u, 3u)
#define ICC_CTLR ICC(12u, 12u, 4u)
#define ICC_SRE ICC(12u, 12u, 5u)
#define ICC_IGRPEN0 ICC(12u, 12u, 6u)
#define ICC_IGRPEN1 ICC(12u, 12u, 7u)

struct gic_list {
    const struct kvm_arm64_gic *gic;
    int handle;
    struct chunk chunk;
};

static int list_add(struct gic_list *list, uint32_t group, uint64_t attribute, uint64_t value)
{
    int r = chunk_room(&list->chunk, ATTRIBUTE_BYTES);
    if (r < 0)
        return r;
    uint8_t *at = list->chunk.bytes + list->chunk.used;
    put_le32(at, group);
    put_le32(at + 4, 0);
    put_le64(at + 8, attribute);
    put_le64(at + 16, value);
    list->chunk.used += ATTRIBUTE_BYTES;
    return 0;
}

/* Values of the processors' system registers and of the ITS are of 64 bits; all others have 32. */
static bool is_wide(uint32_t group)
{
    return group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS || group == KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
}

static int list_read(struct gic_list *list, uint32_t group, uint64_t attribute)
{
    uint64_t wide = 0;
    uint32_t narrow = 0;
    int r = kvm_device_get(list->gic->vm, list->handle, group, attribute, is_wide(group) ? (void *)&wide : &narrow);
    return r < 0 ? r : list_add(list, group, attribute, is_wide(group) ? wide : narrow);
}

/*
 * Registers of the interrupts @first to @first + 31. @base: the attribute at offset 0 of their page, with the processor
 * in its upper half.
 */
static int list_interrupts(struct gic_list *list, uint32_t group, uint64_t base, uint32_t first)
{
    uint32_t word = first / 32 * 4;
    int r = list_read(list, group, base + GICD_IGROUPR + word);
    if (r == 0)
        r = list_add(list, group, base + GICD_ICENABLER + word, UINT32_MAX);
    if (r == 0)
        r = list_read(list, group, base + GICD_ISENABLER + word);
    for (uint32_t i = first == 0 ? 1 : 0; i < 2 && r == 0; i++) /* SGIs have one kind */
        r = list_read(list, group, base + GICD_ICFGR + first / 4 + i * 4);
    if (r == 0 && list->gic->version == 3)
        r = list_read(list, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, (base & ~(uint64_t)UINT32_MAX) | first);
    if (r == 0)
        r = list_read(list, group, base + GICD_ISPENDR + word);
    if (r == 0)
        r = list_add(list, group, base + GICD_ICACTIVER + word, UINT32_MAX);
    if (r == 0)
        r = list_read(list, group, base + GICD_ISACTIVER + word);
    for (uint32_t i = 0; i < 8 && r == 0; i++)
        r = list_read(list, group, base + GICD_IPRIORITYR + first + i * 4);
    return r;
}

/* Where the shared interrupts go comes before whether they are pending. */
static int list_shared(struct gic_list *list)
{
    const uint32_t group = KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
    int r = 0;
    for (uint32_t first = 32; first < list->gic->interrupts && r == 0; first += 32) {
        if (list->gic->version == 3) {
            for (uint32_t i = 0; i < 64 && r == 0; i++)
                r = list_read(list, group, GICD_IROUTER + first * 8 + i * 4);
        } else {
            for (uint32_t i = 0; i < 8 && r == 0; i++)
                r = list_read(list, group, GICD_ITARGETSR + first + i * 4);
        }
        if (r == 0)
            r = list_interrupts(list, group, 0, first);
    }
    return r;
}

static int list_redistributor(struct gic_list *list, uint64_t processor)
{
    const uint32_t group = KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
    static const uint32_t tables[] = {GICR_PROPBASER, GICR_PROPBASER + 4, GICR_PENDBASER, GICR_PENDBASER + 4};
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(tables) && r == 0 && list->gic->its_handle != -1; i++)
        r = list_read(list, group, processor | tables[i]);
    if (r == 0)
        r = list_read(list, group, processor | GICR_CTLR);
    if (r == 0)
        r = list_read(list, group, processor | GICR_WAKER);
    return r < 0 ? r : list_interrupts(list, group, processor | GICR_PRIVATE, 0);
}

static int list_interface_v3(struct gic_list *list, uint64_t processor)
{
    const uint32_t group = KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS;
    static const uint32_t registers[] = {ICC_SRE, ICC_CTLR, ICC_IGRPEN0, ICC_IGRPEN1, ICC_PMR, ICC_BPR0, ICC_BPR1};
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(registers) && r == 0; i++)
        r = list_read(list, group, processor | registers[i]);
    uint64_t control = 0;
    if (r == 0)
        r = kvm_device_get(list->gic->vm, list->handle, group, processor | ICC_CTLR, &control);
    /* Bits of priority, less one, decide how many registers say which are active. */
    uint32_t bits = (uint32_t)(control >> 8 & 7) + 1;
    uint32_t count = bits >= 7 ? 4 : bits == 6 ? 2 : 1;
    for (uint32_t i = 0; i < count && r == 0; i++) {
        r = list_read(list, group, processor | (ICC_AP0R0 + i));
        if (r == 0)
            r = list_read(list, group, processor | (ICC_AP1R0 + i));
    }
    return r;
}

static int list_processor_v2(struct gic_list *list, uint64_t processor)
{
    /* GICC_CTLR, PMR, BPR, ABPR, APR0 to 3 (IHI 0048, 4.1.3) */
    static const uint32_t registers[] = {0x0, 0x4, 0x8, 0x1c, 0xd0, 0xd4, 0xd8, 0xdc};
    int r = list_interrupts(list, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, processor, 0);
    for (uint32_t i = 0; i < 4 && r == 0; i++)
        r = list_read(list, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, processor | (GICD_SPENDSGIR + i * 4));
    for (size_t i = 0; i < ARRAY_SIZE(registers) && r == 0; i++)
        r = list_read(list, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, processor | registers[i]);
    return r;
}

/* As KVM names a processor in the upper half of an attribute: version 3 by its affinity, a byte each. */
static uint64_t processor_attribute(const struct kvm_arm64_gic *gic, const uint64_t *affinities, unsigned index)
{
    if (gic->version == 2)
        return (uint64_t)index << KVM_DEV_ARM_VGIC_CPUID_SHIFT;
    uint64_t affinity = affinities[index];
    return (affinity >> 32 << 24 | (affinity & 0xffffff)) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
}

static int control(const struct kvm_arm64_gic *gic, int handle, uint64_t attribute)
{
    return kvm_device_set(gic->vm, handle, KVM_DEV_ARM_VGIC_GRP_CTRL, attribute, NULL);
}

static int save_its(const struct kvm_arm64_gic *gic, struct state_writer *writer)
{
    const uint32_t group = KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
    static const uint32_t registers[] = {GITS_IIDR, GITS_CBASER, GITS_CREADR, GITS_CWRITER};
    struct gic_list list = {.gic = gic, .handle = gic->its_handle, .chunk = {.writer = writer, .tag = ITS_ATTRIBUTES}};
    int r = control(gic, gic->its_handle, KVM_DEV_ARM_ITS_SAVE_TABLES);
    for (size_t i = 0; i < ARRAY_SIZE(registers) && r == 0; i++)
        r = list_read(&list, group, registers[i]);
    for (uint32_t i = 0; i < 8 && r == 0; i++)
        r = list_read(&list, group, GITS_BASER + i * 8);
    if (r == 0)
        r = chunk_flush(&list.chunk);
    list.chunk.tag = ITS_CONTROL;
    if (r == 0)
        r = list_read(&list, group, GITS_CTLR);
    return r < 0 ? r : chunk_flush(&list.chunk);
}

int kvm_arm64_gic_save(const struct kvm_arm64_gic *gic, const uint64_t *affinities, struct state_writer *writer)
{
    uint8_t header[8];
    put_le32(header, gic->version);
    put_le32(header + 4, gic->interrupts);
    int r = state_put(writer, GIC_HEADER, STATE_VERSION, header, sizeof(header));
    if (r == 0 && gic->its_handle != -1)
        r = control(gic, gic->handle, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES);
    struct gic_list list = {.gic = gic, .handle = gic->handle, .chunk = {.writer = writer, .tag = GIC_ATTRIBUTES}};
    if (r == 0)
        r = list_read(&list, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_IIDR);
    if (r == 0)
        r = list_read(&list, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR);
    for (unsigned i = 0; i < gic->processors && r == 0; i++) {
        uint64_t processor = processor_attribute(gic, affinities, i);
        r = gic->version == 3 ? list_redistributor(&list, processor) : list_processor_v2(&list, processor);
    }
    if (r == 0)
        r = list_shared(&list);
    for (unsigned i = 0; i < gic->processors && r == 0 && gic->version == 3; i++)
        r = list_interface_v3(&list, processor_attribute(gic, affinities, i));
    if (r == 0)
        r = chunk_flush(&list.chunk);
    return r == 0 && gic->its_handle != -1 ? save_its(gic, writer) : r;
}

/* Registers, and nothing else that an attribute can do. */
static bool may_play(uint32_t group, bool is_its)
{
    if (is_its)
        return group == KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
    return group == KVM_DEV_ARM_VGIC_GRP_DIST_REGS || group == KVM_DEV_ARM_VGIC_GRP_CPU_REGS ||
           group == KVM_DEV_ARM_VGIC_GRP_REDIST_REGS || group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS ||
           group == KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO;
}

static int play(const struct kvm_arm64_gic *gic, int handle, const struct state_record *record, bool is_its)
{
    if (record->length % ATTRIBUTE_BYTES != 0 || handle == -1)
        return -EBADMSG;
    for (const uint8_t *at = record->payload; at < record->payload + record->length; at += ATTRIBUTE_BYTES) {
        uint32_t group = get_le32(at);
        uint64_t wide = get_le64(at + 16);
        uint32_t narrow = (uint32_t)wide;
        if (!may_play(group, is_its))
            return -EBADMSG;
        int r = kvm_device_set(gic->vm, handle, group, get_le64(at + 8), is_wide(group) ? (void *)&wide : &narrow);
        if (r < 0)
            return r;
    }
    return 0;
}

static int gic_restore_record(const struct kvm_arm64_gic *gic, const struct state_record *record)
{
    int r;
    switch (record->tag) {
    case GIC_HEADER:
        if (record->length != 8)
            return -EBADMSG;
        return get_le32(record->payload) == gic->version && get_le32(record->payload + 4) == gic->interrupts ? 0
                                                                                                             : -EINVAL;
    case GIC_ATTRIBUTES:
        return play(gic, gic->handle, record, false);
    case ITS_ATTRIBUTES:
        /* One that a guest has enabled refuses to have its command queue moved. */
        r = gic->its_handle == -1 ? -EBADMSG : control(gic, gic->its_handle, KVM_DEV_ARM_ITS_CTRL_RESET);
        return r < 0 ? r : play(gic, gic->its_handle, record, true);
    case ITS_CONTROL:
        r = gic->its_handle == -1 ? -EBADMSG : control(gic, gic->its_handle, KVM_DEV_ARM_ITS_RESTORE_TABLES);
        return r < 0 ? r : play(gic, gic->its_handle, record, true);
    default:
        return 0; /* of a later version */
    }
}

int kvm_arm64_gic_restore(const struct kvm_arm64_gic *gic, struct state_reader *reader)
{
    struct state_record record;
    bool begun = false;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        begun = begun || record.tag == GIC_HEADER;
        if (!begun || record.version > STATE_VERSION)
            return -EBADMSG;
        r = gic_restore_record(gic, &record);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : begun ? 0 : -EBADMSG;
}

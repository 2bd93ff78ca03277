/* unwind_rule.c: finds the FDE through _dl_find_object and .eh_frame_hdr, and runs its call frame program for
   the two registers that lead to the caller: the CFA and rbp.

   Formats: LSB 5.0 "Exception Frames", DWARF 5 section 6.4. */

#define _GNU_SOURCE
#include "unwind_rule.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

enum { REG_RBP = 6, REG_RSP = 7, REG_RA = 16 };

#define REMEMBERED_MAX 8

/* A pointer encoding: the format in the low four bits, what it is relative to above. */
#define ENC_OMIT 0xff
#define ENC_PCREL 0x10
#define ENC_DATAREL_SDATA4 0x3b
#define ENC_UDATA4 0x03

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

enum where { SAME, AT_OFFSET, AT_EXPRESSION, UNDEFINED, ELSEWHERE };

struct place {
    enum where where;
    int64_t offset; /* from the CFA */
    struct cursor expression;
};

struct row {
    uint64_t cfa_register;
    int64_t cfa_offset;
    bool cfa_is_expression;
    struct cursor cfa_expression;
    struct place rbp;
    struct place ra;
    struct place other; /* every other register's, which nobody asks for */
};

struct cie {
    uint64_t code_align;
    int64_t data_align;
    uint8_t encoding;
    bool has_augmentation_data;
    bool is_signal;
    struct cursor program;
};

struct machine {
    const struct cie *cie;
    struct row row;
    struct row initial;
    struct row remembered[REMEMBERED_MAX];
    unsigned depth;
    uintptr_t location;
    uintptr_t target;
};

static const struct unwind_rule cut = {.kind = UNWIND_CUT};

static uint64_t take_bytes(struct cursor *cursor, size_t size)
{
    uint64_t value = 0;
    if ((size_t)(cursor->end - cursor->at) < size) {
        cursor->bad = true;
        cursor->at = cursor->end;
        return 0;
    }
    memcpy(&value, cursor->at, size);
    cursor->at += size;
    return value;
}

/* The bits of a LEB128 number and how many there are; LAST receives its last byte. */
static uint64_t take_leb(struct cursor *cursor, unsigned *bits, uint8_t *last)
{
    uint64_t value = 0;
    *bits = 0;
    do {
        *last = (uint8_t)take_bytes(cursor, 1);
        if (*bits < 64)
            value |= (uint64_t)(*last & 0x7f) << *bits;
        *bits += 7;
    } while (*last & 0x80);
    return value;
}

static uint64_t take_uleb(struct cursor *cursor)
{
    unsigned bits;
    uint8_t last;
    return take_leb(cursor, &bits, &last);
}

static int64_t take_sleb(struct cursor *cursor)
{
    unsigned bits;
    uint8_t last;
    uint64_t value = take_leb(cursor, &bits, &last);
    if (bits < 64 && last & 0x40)
        value |= ~UINT64_C(0) << bits;
    return (int64_t)value;
}

static struct cursor take_block(struct cursor *cursor)
{
    uint64_t size = take_uleb(cursor);
    if ((uint64_t)(cursor->end - cursor->at) < size) {
        cursor->bad = true;
        size = 0;
    }
    struct cursor block = {.at = cursor->at, .end = cursor->at + size};
    cursor->at += size;
    return block;
}

/* A value in the format of ENCODING's low bits, not yet relative to anything. */
static int64_t take_encoded(struct cursor *cursor, uint8_t encoding)
{
    switch (encoding & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
        return (int64_t)take_bytes(cursor, 8);
    case 0x01:
        return (int64_t)take_uleb(cursor);
    case 0x02:
        return (int64_t)take_bytes(cursor, 2);
    case 0x03:
        return (int64_t)take_bytes(cursor, 4);
    case 0x09:
        return take_sleb(cursor);
    case 0x0a:
        return (int16_t)take_bytes(cursor, 2);
    case 0x0b:
        return (int32_t)take_bytes(cursor, 4);
    default:
        cursor->bad = true;
        return 0;
    }
}

/* The content of the CIE or FDE at AT, behind its length. */
static struct cursor open_record(const uint8_t *at)
{
    struct cursor cursor = {.at = at, .end = at + 4};
    uint32_t length = (uint32_t)take_bytes(&cursor, 4);
    cursor.bad = length == 0 || length >= 0xfffffff0u;
    cursor.end = cursor.bad ? cursor.at : cursor.at + length;
    return cursor;
}

static bool parse_augmentation(struct cursor *cursor, const char *letters, struct cie *cie)
{
    if (*letters == '\0')
        return true;
    if (*letters++ != 'z')
        return false;
    cie->has_augmentation_data = true;
    struct cursor data = take_block(cursor);
    for (; *letters; letters++) {
        if (*letters == 'R')
            cie->encoding = (uint8_t)take_bytes(&data, 1);
        else if (*letters == 'P')
            take_encoded(&data, (uint8_t)take_bytes(&data, 1));
        else if (*letters == 'L')
            take_bytes(&data, 1);
        else if (*letters == 'S')
            cie->is_signal = true;
        else
            return *letters == 'B';
    }
    return !data.bad;
}

static bool parse_cie(const uint8_t *at, struct cie *cie)
{
    struct cursor cursor = open_record(at);
    memset(cie, 0, sizeof *cie);
    if (take_bytes(&cursor, 4) != 0)
        return false;
    uint8_t version = (uint8_t)take_bytes(&cursor, 1);
    const char *letters = (const char *)cursor.at;
    const uint8_t *end = memchr(cursor.at, 0, (size_t)(cursor.end - cursor.at));
    if (!end || (version != 1 && version != 3))
        return false;
    cursor.at = end + 1;
    cie->code_align = take_uleb(&cursor);
    cie->data_align = take_sleb(&cursor);
    uint64_t return_register = version == 1 ? take_bytes(&cursor, 1) : take_uleb(&cursor);
    if (return_register != REG_RA || !parse_augmentation(&cursor, letters, cie))
        return false;
    cie->program = cursor;
    return !cursor.bad;
}

static struct place *place_of(struct row *row, uint64_t reg)
{
    return reg == REG_RBP ? &row->rbp : reg == REG_RA ? &row->ra : &row->other;
}

static void set_place(struct machine *machine, uint64_t reg, enum where where, int64_t offset)
{
    *place_of(&machine->row, reg) = (struct place){.where = where, .offset = offset};
}

static void restore_place(struct machine *machine, uint64_t reg)
{
    *place_of(&machine->row, reg) = *place_of(&machine->initial, reg);
}

static void set_cfa(struct machine *machine, uint64_t reg, int64_t offset)
{
    machine->row.cfa_register = reg;
    machine->row.cfa_offset = offset;
    machine->row.cfa_is_expression = false;
}

/* The operations whose operand is in their own low bits, and the moves of the location. True if it was one. */
static bool run_primary(struct machine *machine, struct cursor *program, uint8_t op)
{
    uint64_t low = op & 0x3f;
    switch (op >> 6) {
    case 1:
        machine->location += low * machine->cie->code_align;
        return true;
    case 2:
        set_place(machine, low, AT_OFFSET, (int64_t)take_uleb(program) * machine->cie->data_align);
        return true;
    case 3:
        restore_place(machine, low);
        return true;
    }
    if (op >= 0x02 && op <= 0x04) {
        machine->location += take_bytes(program, (size_t)1 << (op - 2)) * machine->cie->code_align;
        return true;
    }
    return false;
}

static bool run_cfa(struct machine *machine, struct cursor *program, uint8_t op)
{
    struct row *row = &machine->row;
    uint64_t reg = row->cfa_register;
    switch (op) {
    case 0x0c: /* def_cfa */
        reg = take_uleb(program);
        set_cfa(machine, reg, (int64_t)take_uleb(program));
        return true;
    case 0x0d: /* def_cfa_register */
        set_cfa(machine, take_uleb(program), row->cfa_offset);
        return true;
    case 0x0e: /* def_cfa_offset */
        set_cfa(machine, reg, (int64_t)take_uleb(program));
        return true;
    case 0x0f: /* def_cfa_expression */
        row->cfa_is_expression = true;
        row->cfa_expression = take_block(program);
        return true;
    case 0x12: /* def_cfa_sf */
        reg = take_uleb(program);
        set_cfa(machine, reg, take_sleb(program) * machine->cie->data_align);
        return true;
    case 0x13: /* def_cfa_offset_sf */
        set_cfa(machine, reg, take_sleb(program) * machine->cie->data_align);
        return true;
    }
    return false;
}

static bool run_register(struct machine *machine, struct cursor *program, uint8_t op)
{
    uint64_t reg;
    switch (op) {
    case 0x05: /* offset_extended */
        reg = take_uleb(program);
        set_place(machine, reg, AT_OFFSET, (int64_t)take_uleb(program) * machine->cie->data_align);
        return true;
    case 0x06: /* restore_extended */
        restore_place(machine, take_uleb(program));
        return true;
    case 0x07: /* undefined */
        set_place(machine, take_uleb(program), UNDEFINED, 0);
        return true;
    case 0x08: /* same_value */
        set_place(machine, take_uleb(program), SAME, 0);
        return true;
    case 0x09: /* register */
    case 0x14: /* val_offset */
        set_place(machine, take_uleb(program), ELSEWHERE, 0);
        take_uleb(program);
        return true;
    case 0x10: /* expression */
        reg = take_uleb(program);
        set_place(machine, reg, AT_EXPRESSION, 0);
        place_of(&machine->row, reg)->expression = take_block(program);
        return true;
    case 0x11: /* offset_extended_sf */
        reg = take_uleb(program);
        set_place(machine, reg, AT_OFFSET, take_sleb(program) * machine->cie->data_align);
        return true;
    case 0x15: /* val_offset_sf */
        set_place(machine, take_uleb(program), ELSEWHERE, 0);
        take_sleb(program);
        return true;
    case 0x16: /* val_expression */
        set_place(machine, take_uleb(program), ELSEWHERE, 0);
        take_block(program);
        return true;
    }
    return false;
}

static bool run_other(struct machine *machine, struct cursor *program, uint8_t op)
{
    switch (op) {
    case 0x00: /* nop */
        return true;
    case 0x0a: /* remember_state */
        if (machine->depth == REMEMBERED_MAX)
            return false;
        machine->remembered[machine->depth++] = machine->row;
        return true;
    case 0x0b: /* restore_state */
        if (machine->depth == 0)
            return false;
        machine->row = machine->remembered[--machine->depth];
        return true;
    case 0x2e: /* GNU_args_size */
        take_uleb(program);
        return true;
    }
    return false;
}

/* Runs PROGRAM up to the row that holds at the target. */
static bool run(struct machine *machine, struct cursor program)
{
    while (program.at < program.end && !program.bad) {
        uint8_t op = (uint8_t)take_bytes(&program, 1);
        if (run_primary(machine, &program, op)) {
            if (machine->location > machine->target)
                break;
        } else if (!run_cfa(machine, &program, op) && !run_register(machine, &program, op) &&
                   !run_other(machine, &program, op)) {
            return false;
        }
    }
    return !program.bad;
}

/* EXPRESSION as `rbp + offset`, with a final dereference if DEREF. */
static bool is_rbp_expression(struct cursor expression, bool deref, int64_t *offset)
{
    enum { OP_BREG_RBP = 0x70 + REG_RBP, OP_DEREF = 0x06 };
    if (take_bytes(&expression, 1) != OP_BREG_RBP)
        return false;
    *offset = take_sleb(&expression);
    if (deref && take_bytes(&expression, 1) != OP_DEREF)
        return false;
    return !expression.bad && expression.at == expression.end;
}

static struct unwind_rule drap_rule(const struct row *row)
{
    struct unwind_rule rule = {.kind = UNWIND_DRAP, .rbp_saved = true};
    if (!is_rbp_expression(row->cfa_expression, true, &rule.cfa_offset) || row->rbp.where != AT_EXPRESSION ||
        !is_rbp_expression(row->rbp.expression, false, &rule.rbp_offset))
        return cut;
    return rule;
}

static struct unwind_rule rule_of(const struct row *row, const struct cie *cie)
{
    if (row->ra.where == UNDEFINED)
        return (struct unwind_rule){.kind = UNWIND_END};
    if (cie->is_signal)
        return (struct unwind_rule){.kind = UNWIND_SIGNAL};
    if (row->ra.where != AT_OFFSET || row->ra.offset != -8)
        return cut;
    if (row->cfa_is_expression)
        return drap_rule(row);
    if (row->cfa_register != REG_RSP && row->cfa_register != REG_RBP)
        return cut;
    if (row->rbp.where == AT_EXPRESSION || row->rbp.where == ELSEWHERE)
        return cut;
    return (struct unwind_rule){
        .kind = row->cfa_register == REG_RSP ? UNWIND_RSP : UNWIND_RBP,
        .rbp_saved = row->rbp.where == AT_OFFSET,
        .cfa_offset = row->cfa_offset,
        .rbp_offset = row->rbp.offset,
    };
}

struct header_row {
    int32_t start; /* both relative to the header */
    int32_t fde;
};

/* The FDE that may cover TARGET, by the header's sorted table; START receives where its code begins. */
static const uint8_t *find_fde(const uint8_t *header, uintptr_t target, uintptr_t *start)
{
    if (header[0] != 1 || header[1] == ENC_OMIT || header[2] != ENC_UDATA4 || header[3] != ENC_DATAREL_SDATA4)
        return NULL;
    struct cursor cursor = {.at = header + 4, .end = header + 4 + 16};
    take_encoded(&cursor, header[1]);
    uint32_t count = (uint32_t)take_bytes(&cursor, 4);
    const struct header_row *rows = (const struct header_row *)(const void *)cursor.at;
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uintptr_t)header + (uintptr_t)(intptr_t)rows[middle].start <= target)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    *start = (uintptr_t)header + (uintptr_t)(intptr_t)rows[low - 1].start;
    return header + rows[low - 1].fde;
}

static struct unwind_rule rule_in_fde(const uint8_t *fde, uintptr_t start, uintptr_t target)
{
    struct cie cie;
    struct cursor cursor = open_record(fde);
    const uint8_t *cie_field = cursor.at;
    uint32_t distance = (uint32_t)take_bytes(&cursor, 4);
    if (distance == 0 || !parse_cie(cie_field - distance, &cie))
        return cut;
    take_encoded(&cursor, cie.encoding);
    uint64_t length = (uint64_t)take_encoded(&cursor, cie.encoding & 0x07);
    if (target - start >= length)
        return cut;
    if (cie.has_augmentation_data)
        take_block(&cursor);
    struct machine machine = {.cie = &cie, .location = start, .target = target};
    if (cursor.bad || !run(&machine, cie.program))
        return cut;
    machine.initial = machine.row;
    return run(&machine, cursor) ? rule_of(&machine.row, &cie) : cut;
}

struct unwind_rule unwind_rule_find(uintptr_t pc, bool exact)
{
    uintptr_t target = exact ? pc : pc - 1;
    struct dl_find_object object;
    uintptr_t start;
    if (_dl_find_object((void *)target, &object) != 0 || !object.dlfo_eh_frame)
        return cut;
    const uint8_t *fde = find_fde(object.dlfo_eh_frame, target, &start);
    return fde ? rule_in_fde(fde, start, target) : cut;
}

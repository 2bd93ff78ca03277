/* domains.c: a list that doubles by copy and one store; the old one is left behind, a reader may be stopped in it. */

#include "domains.h"

#include "arena.h"
#include "state.h"

#include <string.h>

#define NAMES_MAX 65536

static struct lock domains_lock;
static uint64_t room; /* by domains_lock */

static bool grow(void)
{
    uint64_t larger_room = room ? room * 2 : 16;
    struct tm_domain *larger =
        larger_room <= NAMES_MAX ? arena_take(TM_SLAB_OTHER, larger_room * sizeof(struct tm_domain)) : NULL;
    if (!larger)
        return false;
    if (room)
        memcpy(larger, tm_state.domains, room * sizeof(struct tm_domain));
    state_publish(tm_state.domains, larger);
    room = larger_room;
    return true;
}

/* Cuts between characters, not within one. */
static size_t cut_length(const char *name)
{
    size_t length = strlen(name);
    if (length < TM_DOMAIN_NAME_MAX)
        return length;
    length = TM_DOMAIN_NAME_MAX - 1;
    while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80)
        length--;
    return length;
}

bool domains_name(uint32_t domain, const char *name)
{
    lock_acquire(&domains_lock);
    bool has_room = tm_state.domain_count < room || grow();
    if (has_room) {
        struct tm_domain *entry = &tm_state.domains[tm_state.domain_count];
        entry->domain = domain;
        memcpy(entry->name, name, cut_length(name));
        state_publish(tm_state.domain_count, tm_state.domain_count + 1);
    }
    lock_release(&domains_lock);
    return has_room;
}

void domains_reset_lock(void)
{
    lock_reset(&domains_lock);
}

/* skiplist.c: nodes in the order of (domain, key).

   Locks, in the order in which they are taken: a page's, then order_lock. The other way round only for pages that
   have a node: whoever holds one of these never asks for order_lock.
   Links are made bottom up and unmade top down, each by one store, under order_lock. */

#include "skiplist.h"

#include "directory.h"
#include "node.h"
#include "state.h"

#include <stddef.h>

#define SWEEP_AT_LEAST 4096

static struct lock order_lock;
static struct tm_node head = {.height = TM_LEVELS};
static struct tm_level head_tower[TM_LEVELS - 1];
static struct tm_node *behind_last[TM_LEVELS];     /* the last nodes up to the one that was made last; by order_lock */
static uint64_t made_since_sweep;                  /* by order_lock */
static uint64_t random_state = 88172645463325252u; /* by order_lock */

static void forget_last(void)
{
    for (unsigned level = 0; level < TM_LEVELS; level++)
        behind_last[level] = &head;
}

void skiplist_init(void)
{
    head.tower = head_tower;
    forget_last();
    state_publish(tm_state.head, &head);
}

static struct tm_node **link_of(struct tm_node *node, unsigned level)
{
    return level == 0 ? &node->next : &node->tower[level - 1].next;
}

/* One in four nodes reaches the next level. */
static unsigned random_height(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    unsigned height = 1 + (unsigned)__builtin_ctzll(random_state | UINT64_C(1) << 62) / 2;
    return height < TM_LEVELS ? height : TM_LEVELS;
}

static bool is_before(const struct tm_node *node, uint32_t domain, uint64_t key)
{
    return node->domain < domain || (node->domain == domain && node->key < key);
}

/* Below LEVEL, BEFORE receives the last node before (domain, key), looked for from AT on. */
static void descend(struct tm_node *at, unsigned level, uint32_t domain, uint64_t key,
                    struct tm_node *before[TM_LEVELS])
{
    while (level-- > 0) {
        struct tm_node *next = *link_of(at, level);
        while (next && is_before(next, domain, key)) {
            at = next;
            next = *link_of(at, level);
        }
        before[level] = at;
    }
}

/* The node of (domain, key) or NULL; BEFORE receives the last node before it at every level. */
static struct tm_node *search(uint32_t domain, uint64_t key, struct tm_node *before[TM_LEVELS])
{
    descend(&head, TM_LEVELS, domain, key, before);
    struct tm_node *found = before[0]->next;
    return found && found->domain == domain && found->key == key ? found : NULL;
}

/* Whether a node of (domain, key) would come just behind AT at LEVEL. */
static bool comes_behind(struct tm_node *at, unsigned level, uint32_t domain, uint64_t key)
{
    const struct tm_node *next = *link_of(at, level);
    return (at == &head || is_before(at, domain, key)) && !(next && is_before(next, domain, key));
}

/* The same for a node that does not exist, beginning where the last one was made: heaps grow page by page. From where
   it is right at one level, it is at all higher ones. */
static void search_from_last(uint32_t domain, uint64_t key, struct tm_node *before[TM_LEVELS])
{
    unsigned level = 0;
    while (level < TM_LEVELS && !comes_behind(behind_last[level], level, domain, key))
        level++;
    for (unsigned above = level; above < TM_LEVELS; above++)
        before[above] = behind_last[above];
    descend(level < TM_LEVELS ? before[level] : &head, level, domain, key, before);
}

static bool uses_directory(uint32_t domain, uintptr_t address)
{
    return domain == 0 && ((uint64_t)address & (TM_PHASE_MASK | ~UINT64_C(0) << DIRECTORY_BITS)) == 0;
}

static void unlink_node(struct tm_node *node, struct tm_node *before[TM_LEVELS])
{
    for (unsigned level = node->height; level-- > 0;)
        state_publish(*link_of(before[level], level), *link_of(node, level));
    tm_state.node_count--;
    node_destroy(node);
}

static struct tm_page *directory_page(const struct tm_node *node)
{
    return uses_directory(node->domain, (uintptr_t)node->key) ? node->page : NULL;
}

/* Unlinks NODE if it has no blocks and nobody holds its page. */
static bool reclaim(struct tm_node *node, struct tm_node *before[TM_LEVELS])
{
    struct tm_page *page = directory_page(node);
    struct tm_node *held;
    if (page && !directory_try_lock(page, &held))
        return false;
    bool empty = page_is_empty(node->page);
    if (empty)
        unlink_node(node, before);
    if (page)
        directory_unlock(page, empty ? NULL : node);
    return empty;
}

/* Empty nodes stay for the next block of their page, until as many nodes were made as there are in use. */
static void sweep(void)
{
    struct tm_node *before[TM_LEVELS];
    for (unsigned level = 0; level < TM_LEVELS; level++)
        before[level] = &head;
    struct tm_node *next;
    for (struct tm_node *node = head.next; node; node = next) {
        next = node->next;
        if (!reclaim(node, before))
            for (unsigned level = 0; level < node->height; level++)
                before[level] = node;
    }
    made_since_sweep = 0;
    forget_last();
}

/* Makes and links the node of (domain, key), which has none. PAGE, SHAPE: as node_create takes them. */
static struct tm_node *link_new(uint32_t domain, uint64_t key, struct tm_page *page, unsigned shape)
{
    if (made_since_sweep >= SWEEP_AT_LEAST && made_since_sweep >= tm_state.node_count / 2)
        sweep();
    struct tm_node *before[TM_LEVELS];
    search_from_last(domain, key, before);
    struct tm_node *node = node_create(domain, key, random_height(), page, shape);
    if (!node)
        return NULL;
    for (unsigned level = 0; level < node->height; level++)
        *link_of(node, level) = *link_of(before[level], level);
    for (unsigned level = 0; level < node->height; level++)
        state_publish(*link_of(before[level], level), node);
    for (unsigned level = 0; level < TM_LEVELS; level++)
        behind_last[level] = level < node->height ? node : before[level];
    made_since_sweep++;
    tm_state.node_count++;
    return node;
}

/* A heap grows from one page to the next, and mostly with blocks of the same sizes. */
static unsigned shape_to_begin_with(uintptr_t address, const struct tm_page *page, uint64_t entry)
{
    return directory_index(address, 0) == 0 ? page_least_shape(entry) : page_guess_shape(page - 1, entry);
}

/* Under the lock of a page without a node. Asks once more whether we trace: skiplist_clear holds order_lock
   and would not find this node. */
static enum skiplist_result make_page_node(uintptr_t address, struct tm_page *page, uint64_t entry,
                                           struct tm_node **node)
{
    unsigned shape = shape_to_begin_with(address, page, entry);
    lock_acquire(&order_lock);
    bool tracing = state_is_tracing();
    *node = tracing ? link_new(0, node_key(address), page, shape) : NULL;
    lock_release(&order_lock);
    if (*node)
        return SKIPLIST_DONE;
    return tracing ? SKIPLIST_NO_MEMORY : SKIPLIST_OFF;
}

/* What takes more than to find the page's node: a wait, a new node. */
static __attribute__((noinline, cold)) enum skiplist_result put_patiently(uintptr_t address, uint64_t entry,
                                                                          uint64_t *old)
{
    struct tm_page *page = directory_make(address);
    if (!page)
        return SKIPLIST_NO_MEMORY;
    struct tm_node *node = directory_lock(page);
    enum skiplist_result result = state_is_tracing() ? SKIPLIST_DONE : SKIPLIST_OFF;
    if (result == SKIPLIST_DONE && !node)
        result = make_page_node(address, page, entry, &node);
    if (result == SKIPLIST_DONE && !page_put(page, page_offset(address), entry, old))
        result = SKIPLIST_NO_MEMORY;
    directory_unlock(page, node);
    return result;
}

static inline enum skiplist_result put_by_page(uintptr_t address, struct tm_page *page, uint64_t entry, uint64_t *old)
{
    struct tm_node *node;
    if (state_unlikely(!directory_try_lock(page, &node)))
        return put_patiently(address, entry, old);
    if (state_unlikely(!node || !state_surely_traces())) {
        directory_unlock(page, node);
        return put_patiently(address, entry, old);
    }
    bool has_room = page_put(page, page_offset(address), entry, old);
    directory_unlock(page, node);
    return state_likely(has_room) ? SKIPLIST_DONE : SKIPLIST_NO_MEMORY;
}

static __attribute__((noinline, cold)) enum skiplist_result put_by_search(uint32_t domain, uintptr_t address,
                                                                          uint64_t entry, uint64_t *old)
{
    enum skiplist_result result = SKIPLIST_OFF;
    state_acquire(&order_lock);
    if (state_is_tracing()) {
        struct tm_node *before[TM_LEVELS];
        struct tm_node *node = search(domain, node_key(address), before);
        if (!node)
            node = link_new(domain, node_key(address), NULL, page_least_shape(entry));
        result = node && page_put(node->page, page_offset(address), entry, old) ? SKIPLIST_DONE : SKIPLIST_NO_MEMORY;
    }
    lock_release(&order_lock);
    return result;
}

struct tm_page *skiplist_expect(uint32_t domain, uintptr_t address)
{
    struct tm_page *page = state_likely(uses_directory(domain, address)) ? directory_find(address) : NULL;
    if (state_likely(page != NULL))
        __builtin_prefetch(page_line_of(state_peek(page->lines), page_offset(address)), 1);
    return page;
}

enum skiplist_result skiplist_put(uint32_t domain, uintptr_t address, struct tm_page *expected, uint64_t entry,
                                  uint64_t *old)
{
    *old = 0;
    if (state_likely(expected != NULL))
        return put_by_page(address, expected, entry, old);
    return uses_directory(domain, address) ? put_patiently(address, entry, old)
                                           : put_by_search(domain, address, entry, old);
}

static uint64_t take_by_page(uintptr_t address)
{
    struct tm_page *page = directory_find(address);
    if (state_unlikely(!page))
        return 0;
    struct tm_node *node = directory_lock(page);
    uint64_t entry = state_likely(node != NULL) ? page_take(page, page_offset(address)) : 0;
    directory_unlock(page, node);
    return entry;
}

static uint64_t get_by_page(uintptr_t address)
{
    struct tm_page *page = directory_find(address);
    if (!page)
        return 0;
    struct tm_node *node = directory_lock(page);
    uint64_t entry = node ? page_get(page, page_offset(address)) : 0;
    directory_unlock(page, node);
    return entry;
}

static __attribute__((noinline, cold)) uint64_t look_by_search(uint32_t domain, uintptr_t address, bool take)
{
    struct tm_node *before[TM_LEVELS];
    state_acquire(&order_lock);
    struct tm_node *node = search(domain, node_key(address), before);
    uint8_t offset = page_offset(address);
    uint64_t entry = !node ? 0 : take ? page_take(node->page, offset) : page_get(node->page, offset);
    lock_release(&order_lock);
    return entry;
}

uint64_t skiplist_take(uint32_t domain, uintptr_t address)
{
    return state_likely(uses_directory(domain, address)) ? take_by_page(address)
                                                         : look_by_search(domain, address, true);
}

uint64_t skiplist_get(uint32_t domain, uintptr_t address)
{
    return uses_directory(domain, address) ? get_by_page(address) : look_by_search(domain, address, false);
}

/* The first node after the cursor's, NULL at the end. */
static struct tm_node *node_after(const struct skiplist_cursor *cursor)
{
    struct tm_node *before[TM_LEVELS];
    if (!cursor->started)
        return head.next;
    struct tm_node *found = search(cursor->domain, cursor->key, before);
    return found ? found->next : before[0]->next;
}

struct copy {
    const struct tm_node *node;
    struct skiplist_block *blocks;
    unsigned count;
};

static void copy_block(void *argument, uint8_t offset, uint64_t entry)
{
    struct copy *copy = argument;
    copy->blocks[copy->count++] = (struct skiplist_block){node_address(copy->node, offset), entry};
}

bool skiplist_read_node(struct skiplist_cursor *cursor, struct skiplist_block *blocks, unsigned *count)
{
    state_acquire(&order_lock);
    struct tm_node *node = node_after(cursor);
    if (node) {
        struct tm_page *page = directory_page(node);
        if (page)
            directory_lock_within(page);
        struct copy copy = {node, blocks, 0};
        page_visit(node->page, copy_block, &copy);
        *count = copy.count;
        *cursor = (struct skiplist_cursor){true, node->domain, node->key};
        if (page)
            directory_unlock(page, node);
    }
    lock_release(&order_lock);
    return node != NULL;
}

void skiplist_clear(void (*dropped)(void *argument, uint64_t entry), void *argument)
{
    state_acquire(&order_lock);
    for (struct tm_node *node = head.next; node; node = node->next) {
        struct tm_page *page = directory_page(node);
        if (page)
            directory_lock_within(page);
        page_clear(node->page, dropped, argument);
        if (page)
            directory_unlock(page, node);
    }
    sweep();
    lock_release(&order_lock);
}

void skiplist_quiesce(void)
{
    lock_await(&order_lock);
}

void skiplist_reset_locks(void)
{
    directory_reset_locks();
    lock_reset(&order_lock);
}

/* node.c: a node, its tower and its page's first lines; and its tm_page, where the directory has none for it. */

#include "node.h"

#include "arena.h"

static size_t tower_size(unsigned height)
{
    size_t size = (height - 1) * sizeof(struct tm_level);
    return size && size < 16 ? 16 : size;
}

/* That of the directory is locked while its node is made or unmade. */
static bool is_own(const struct tm_page *page)
{
    return page->node == NULL;
}

static void give_node(struct tm_node *node)
{
    arena_give(TM_SLAB_NODE, node, sizeof(struct tm_node));
}

struct tm_node *node_create(uint32_t domain, uint64_t key, unsigned height, struct tm_page *page, unsigned shape)
{
    struct tm_node *node = arena_take(TM_SLAB_NODE, sizeof(struct tm_node));
    if (!node)
        return NULL;
    struct tm_page *own = page ? NULL : arena_take(TM_SLAB_PAGE, sizeof(struct tm_page));
    page = page ? page : own;
    if (!page || !page_init(page, shape)) {
        if (own)
            arena_give(TM_SLAB_PAGE, own, sizeof(struct tm_page));
        give_node(node);
        return NULL;
    }
    node->domain = domain;
    node->key = key;
    node->page = page;
    node->tower = height > 1 ? arena_take(TM_SLAB_OTHER, tower_size(height)) : NULL;
    node->height = node->tower ? height : 1;
    return node;
}

void node_destroy(struct tm_node *node)
{
    struct tm_page *page = node->page;
    page_deinit(page);
    /* A reader that scans the slab for nodes must not find another node's blocks through this one. */
    state_publish(node->page, NULL);
    if (is_own(page))
        arena_give(TM_SLAB_PAGE, page, sizeof(struct tm_page));
    if (node->tower)
        arena_give(TM_SLAB_OTHER, node->tower, tower_size(node->height));
    give_node(node);
}

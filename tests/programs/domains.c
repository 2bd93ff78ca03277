/* domains.c: a pool whose pieces are tracked in domains of their own, two of them with names. */

#define CHECKPOINT_COUNTERS
#include "checkpoint.h"

#include <stdint.h>
#include <tracemalloc.h>

enum { TEXTURES = 3, NAMELESS = 4, DEVICE = 7, TEXTURE = 1000, COUNT = 20 };
char *pool;
void *on_heap;

__attribute__((noipa)) static void take(int number)
{
    tm_track(TEXTURES, (uintptr_t)pool + number * TEXTURE + 1, TEXTURE); /* line: texture */
}

int main(void)
{
    pool = malloc(TEXTURE * COUNT + 1); /* line: pool */
    on_heap = malloc(50);
    expect(2, TEXTURE * COUNT + 1 + 50);
    tm_domain_name(TEXTURES, "sprites");
    tm_domain_name(DEVICE, "device memory");
    for (int i = 0; i < COUNT; i++)
        take(i);
    tm_untrack(TEXTURES, (uintptr_t)pool + 1);
    expect(COUNT - 1, TEXTURE * (COUNT - 1));
    tm_domain_name(TEXTURES, "textures");
    tm_track(NAMELESS, (uintptr_t)pool, 5); /* line: nameless */
    tm_track(DEVICE, 0xfedc00000000, (size_t)5 << 40); /* line: device */
    expect(2, 5 + (5l << 40));
    checkpoint();
    take(0); /* line: again */
    checkpoint();
    return 0;
}

/* record.c: room for the frames: on the stack where few are asked for, from a pool where many are. */

#include "record.h"

#include "arena.h"
#include "state.h"

/* 2 KiB of stack: little beside what malloc itself may need. */
#define STACK_FRAMES_MAX 256

struct room {
    struct room *next;
    uint32_t limit;
    void *frames[];
};

_Thread_local bool record_is_busy;

static struct room *free_rooms; /* by room_lock */
static struct lock room_lock;

/* A room for LIMIT frames; those for less, from before a restart with a higher limit, are left behind. */
static struct room *borrow_room(uint32_t limit)
{
    lock_acquire(&room_lock);
    struct room *room = free_rooms;
    if (room)
        free_rooms = room->next;
    lock_release(&room_lock);
    if (room && room->limit >= limit)
        return room;
    room = arena_take(TM_SLAB_OTHER, sizeof(struct room) + (limit + CAPTURE_SPARE) * sizeof(void *));
    if (room)
        room->limit = limit;
    return room;
}

static void return_room(struct room *room)
{
    lock_acquire(&room_lock);
    room->next = free_rooms;
    free_rooms = room;
    lock_release(&room_lock);
}

static enum trace_result record_with(void **frames, uint32_t limit, uint32_t domain, uintptr_t address, size_t size,
                                     struct call_point caller)
{
    struct traceback traceback = {.frames = frames};
    capture_walk(caller, limit, &traceback);
    return trace_add(domain, address, size, &traceback);
}

static enum trace_result record_long(uint32_t limit, uint32_t domain, uintptr_t address, size_t size,
                                     struct call_point caller)
{
    struct room *room = borrow_room(limit);
    if (!room) {
        trace_remove(domain, address);
        state_add(tm_state.lost, 1);
        return TRACE_LOST;
    }
    enum trace_result result = record_with(room->frames, limit, domain, address, size, caller);
    return_room(room);
    return result;
}

void record_reset_lock(void)
{
    atomic_store(&room_lock.word, 0);
}

enum trace_result record_block(uint32_t domain, uintptr_t address, size_t size, struct call_point caller)
{
    uint32_t limit = state_peek(tm_state.frame_limit);
    if (state_unlikely(limit > STACK_FRAMES_MAX))
        return record_long(limit, domain, address, size, caller);
    void *frames[limit + CAPTURE_SPARE];
    return record_with(frames, limit, domain, address, size, caller);
}

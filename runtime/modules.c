/* modules.c: keeps a list of what is loaded, brought up to date around each dlclose; what left it was unloaded.

   Not all is told by dlclose and the loader's list: libc unloads some modules itself, and other namespaces have lists
   of their own. Of those modules it is asked without the loader, by capture_is_loaded, whether they are still there.

   The lock is taken inside the loader's (in dl_iterate_phdr's callback), never the other way round. */

#define _GNU_SOURCE
#include "modules.h"

#include "arena.h"
#include "capture.h"
#include "kernel.h"
#include "site.h"
#include "state.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define UNLOADED_MAX 4096

/* A table that doubles; the old one is left behind, a reader may be stopped in it. */
struct list {
    struct tm_module *modules;
    uint32_t count;
    uint32_t room;
};

static struct lock modules_lock;
/* Of a loaded one `when` is the pass that saw it last, and `unload` these flags. By modules_lock. */
enum {
    ELSEWHERE = 1, /* it is in another namespace */
    LEAVING = 2
}; /* its destructors have run */
static struct list loaded;
static uint32_t unsure;         /* how many of them have a flag; by modules_lock, read without */
static struct list unloaded;    /* published through tm_state; by modules_lock */
static uint64_t pass;           /* by modules_lock */
static uint64_t seen_additions; /* the loader's count at the last look; by modules_lock */
static uint64_t seen_removals;
static uint32_t threads_asking; /* atomic */

static struct tm_module *append(struct list *list, uint32_t most)
{
    if (list->count == list->room) {
        uint32_t room = list->room ? list->room * 2 : 32;
        struct tm_module *larger =
            list->count < most ? arena_take(TM_SLAB_OTHER, room * sizeof(struct tm_module)) : NULL;
        if (!larger)
            return NULL;
        if (list->count)
            memcpy(larger, list->modules, list->count * sizeof(struct tm_module));
        state_publish(list->modules, larger);
        list->room = room;
    }
    return &list->modules[list->count];
}

static void read_build_id(struct tm_module *module, const char *notes, size_t size)
{
    const ElfW(Nhdr) *note = (const void *)notes;
    for (size_t at = 0; at + sizeof *note <= size;) {
        note = (const void *)(notes + at);
        size_t name = (note->n_namesz + 3u) & ~(size_t)3;
        size_t content = (note->n_descsz + 3u) & ~(size_t)3;
        if (at + sizeof *note + name + content > size)
            return;
        const char *text = notes + at + sizeof *note;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(text, "GNU", 4) == 0 &&
            note->n_descsz <= TM_BUILD_ID_MAX) {
            module->build_id_length = note->n_descsz;
            memcpy(module->build_id, text + name, note->n_descsz);
            return;
        }
        at += sizeof *note + name + content;
    }
}

/* PATH without `./` before it: what is to be found behind the directory. */
static const char *behind_directory(const char *path)
{
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return path;
}

static bool is_relative(const char *path)
{
    /* The kernel's `linux-vdso.so.1` and the program's "" are no paths. */
    return path[0] != '/' && strchr(path, '/');
}

/* The loader's name for a module, made absolute, cut at the front where it is too long. */
static void set_path(struct tm_module *module, const char *name)
{
    char directory[TM_MODULE_PATH_MAX];
    size_t before = 0;
    if (is_relative(name)) {
        name = behind_directory(name);
        if (getcwd(directory, sizeof directory - 1)) {
            before = strlen(directory);
            directory[before++] = '/';
        }
    }
    size_t length = strlen(name);
    if (before + length < TM_MODULE_PATH_MAX) {
        memcpy(module->path, directory, before);
        memcpy(module->path + before, name, length + 1);
        return;
    }
    size_t kept = length < TM_MODULE_PATH_MAX - 4 ? length : TM_MODULE_PATH_MAX - 4;
    memcpy(module->path, "...", 3);
    memcpy(module->path + 3, name + length - kept, kept + 1);
}

/* Whether the loader's NAME may be MODULE's: a relative one was made absolute in what was the directory then. */
static bool has_path(const struct tm_module *module, const char *name)
{
    const char *tail = is_relative(name) ? behind_directory(name) : name;
    size_t length = strlen(tail), known = strlen(module->path);
    if (tail == name && length < TM_MODULE_PATH_MAX)
        return strcmp(module->path, name) == 0;
    size_t compared = length < known - 3 ? length : known - 3;
    return length >= 3 && known >= 3 &&
           memcmp(module->path + known - compared, tail + length - compared, compared) == 0;
}

static void measure(const struct dl_phdr_info *info, uint64_t *start, uint64_t *end)
{
    *start = UINT64_MAX;
    *end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uint64_t low = info->dlpi_addr + segment->p_vaddr;
        if (low < *start)
            *start = low;
        if (low + segment->p_memsz > *end)
            *end = low + segment->p_memsz;
    }
}

static bool is_mapped(const struct dl_phdr_info *info, const ElfW(Phdr) * part)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_vaddr <= part->p_vaddr &&
            part->p_vaddr + part->p_filesz <= segment->p_vaddr + segment->p_memsz)
            return true;
    }
    return false;
}

static void describe(const struct dl_phdr_info *info, struct tm_module *module)
{
    memset(module, 0, sizeof *module);
    measure(info, &module->start, &module->end);
    module->bias = info->dlpi_addr;
    set_path(module, info->dlpi_name);
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_NOTE && module->build_id_length == 0 &&
            is_mapped(info, &info->dlpi_phdr[i]))
            read_build_id(module, (const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
                          info->dlpi_phdr[i].p_filesz);
}

static void add_loaded(const struct dl_phdr_info *info, uint32_t flags)
{
    struct tm_module *module = append(&loaded, UINT32_MAX);
    if (!module)
        return;
    describe(info, module);
    module->when = pass;
    module->unload = flags;
    state_publish(unsure, unsure + (flags != 0));
    loaded.count++;
}

/* Under the loader's lock and ours: INFO is loaded. */
static void see(const struct dl_phdr_info *info, uint32_t flags)
{
    uint64_t start, end;
    measure(info, &start, &end);
    for (uint32_t i = 0; i < loaded.count; i++)
        if (loaded.modules[i].start == start && loaded.modules[i].end == end &&
            has_path(&loaded.modules[i], info->dlpi_name)) {
            loaded.modules[i].when = pass;
            return;
        }
    if (end != 0)
        add_loaded(info, flags);
}

static int see_if_new(struct dl_phdr_info *info, size_t size, void *first)
{
    (void)size;
    lock_acquire(&modules_lock);
    bool nothing_new = *(bool *)first && info->dlpi_adds == seen_additions;
    *(bool *)first = false;
    seen_additions = info->dlpi_adds;
    if (!nothing_new)
        see(info, 0);
    lock_release(&modules_lock);
    return nothing_new;
}

/* All of ours that asks the loader for its list: its lock would be held for good in a child forked meanwhile. */
static void ask_loader(int (*see_one)(struct dl_phdr_info *info, size_t size, void *argument), void *argument)
{
    __atomic_fetch_add(&threads_asking, 1, __ATOMIC_SEQ_CST);
    while (!state_may_change()) {
        __atomic_fetch_sub(&threads_asking, 1, __ATOMIC_SEQ_CST);
        state_wait_for_fork();
        __atomic_fetch_add(&threads_asking, 1, __ATOMIC_SEQ_CST);
    }
    dl_iterate_phdr(see_one, argument);
    __atomic_fetch_sub(&threads_asking, 1, __ATOMIC_SEQ_CST);
}

#ifdef HAVE__DL_FIND_OBJECT
/* Other namespaces are shown by nobody: the loader's own list, and the file's header where it is mapped. */
static void see_elsewhere(const struct link_map *map)
{
    struct dl_find_object object;
    if (_dl_find_object((void *)map->l_ld, &object) != 0 || object.dlfo_link_map != map)
        return; /* the loader itself, which all namespaces share */
    const ElfW(Ehdr) *header = object.dlfo_map_start;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return;
    struct dl_phdr_info info = {
        .dlpi_addr = map->l_addr,
        .dlpi_name = map->l_name,
        .dlpi_phdr = (const void *)((const char *)header + header->e_phoff),
        .dlpi_phnum = header->e_phnum,
    };
    see(&info, ELSEWHERE);
}

/* Under the loader's lock, whose list it is. */
static int see_namespace(struct dl_phdr_info *info, size_t size, void *argument)
{
    (void)info, (void)size;
    const struct link_map *map = argument;
    while (map->l_prev)
        map = map->l_prev;
    lock_acquire(&modules_lock);
    for (; map; map = map->l_next)
        see_elsewhere(map);
    lock_release(&modules_lock);
    return 1;
}

static void see_namespace_of(void *map)
{
    if (map)
        ask_loader(see_namespace, map);
}
#else
static void see_namespace_of(void *handle)
{
    (void)handle;
}
#endif

void modules_before_unload(void *map)
{
    bool first = true;
    ask_loader(see_if_new, &first);
    see_namespace_of(map);
}

void modules_expect_unload(uintptr_t address)
{
    bool first = true;
    ask_loader(see_if_new, &first);
    lock_acquire(&modules_lock);
    for (uint32_t i = 0; i < loaded.count; i++) {
        struct tm_module *module = &loaded.modules[i];
        if (module->unload || address < module->start || address >= module->end)
            continue;
        module->unload = LEAVING;
        state_publish(unsure, unsure + 1);
    }
    lock_release(&modules_lock);
}

struct look {
    bool first;
    bool anything_gone;
    uint64_t pass;
};

static int see_what_is_left(struct dl_phdr_info *info, size_t size, void *argument)
{
    (void)size;
    struct look *look = argument;
    lock_acquire(&modules_lock);
    if (look->first) {
        look->first = false;
        look->anything_gone = info->dlpi_subs != seen_removals;
        seen_removals = info->dlpi_subs;
        look->pass = ++pass;
    }
    if (look->anything_gone)
        see(info, 0);
    lock_release(&modules_lock);
    return !look->anything_gone;
}

static bool is_same_module(const struct tm_module *a, const struct tm_module *b)
{
    return a->start == b->start && a->end == b->end && a->build_id_length == b->build_id_length &&
           memcmp(a->build_id, b->build_id, sizeof a->build_id) == 0 && strcmp(a->path, b->path) == 0;
}

/* The entry that MODULE's unload may renew: the same module at the same place, nothing else there since. */
static struct tm_module *find_renewable(const struct tm_module *module)
{
    for (uint32_t i = unloaded.count; i-- > 0;) {
        struct tm_module *entry = &unloaded.modules[i];
        if (entry->start < module->end && module->start < entry->end)
            return is_same_module(entry, module) ? entry : NULL;
    }
    return NULL;
}

static void enter(const struct tm_module *gone)
{
    struct tm_module *entry = find_renewable(gone);
    if (entry) {
        state_publish(entry->unload, tm_state.unloads);
        state_publish(entry->when, kernel_now());
        return;
    }
    entry = append(&unloaded, UNLOADED_MAX);
    if (!entry) {
        state_add(tm_state.unloads_lost, 1);
        return;
    }
    *entry = *gone;
    entry->when = kernel_now();
    entry->unload = tm_state.unloads;
    unloaded.count++;
    state_publish(tm_state.modules, unloaded.modules);
    state_publish(tm_state.module_count, unloaded.count);
}

/* Whether MODULE was there at the look of pass BEFORE; 0: no look was taken. */
static bool is_gone(const struct tm_module *module, uint64_t before)
{
    if (module->unload && !capture_is_loaded((uintptr_t)module->start, (uintptr_t)module->end))
        return true;
    return !(module->unload & ELSEWHERE) && module->when < before;
}

/* Moves a module that is gone from the loaded to the unloaded. False if there is none. */
static bool take_gone(uint64_t before, struct tm_module *gone)
{
    bool found = false;
    lock_acquire(&modules_lock);
    for (uint32_t i = 0; i < loaded.count && !found; i++) {
        if (!is_gone(&loaded.modules[i], before))
            continue;
        found = true;
        *gone = loaded.modules[i];
        loaded.modules[i] = loaded.modules[--loaded.count];
        state_publish(unsure, unsure - (gone->unload != 0));
        enter(gone);
        state_publish(tm_state.unloads, tm_state.unloads + 1);
    }
    lock_release(&modules_lock);
    return found;
}

static void forget_gone(uint64_t before)
{
    struct tm_module gone;
    while (take_gone(before, &gone)) {
        capture_forget_range((uintptr_t)gone.start, (uintptr_t)gone.end);
        site_retire_range((uintptr_t)gone.start, (uintptr_t)gone.end);
        /* A walk in between may have kept a site that is retired now. */
        capture_forget_range((uintptr_t)gone.start, (uintptr_t)gone.end);
    }
}

void modules_after_unload(void)
{
    struct look look = {.first = true};
    ask_loader(see_what_is_left, &look);
    forget_gone(look.anything_gone ? look.pass : 0);
    /* What neither list has: modules that other namespaces opened and closed by themselves. */
    capture_forget_gone();
}

void modules_notice_unloads(void)
{
    if (state_peek(unsure) > 0)
        forget_gone(0);
}

struct visitor {
    void (*visit)(void *argument, const struct tm_module *module, uint64_t unload);
    void *argument;
};

static int visit_loaded(struct dl_phdr_info *info, size_t size, void *argument)
{
    (void)size;
    const struct visitor *visitor = argument;
    struct tm_module module;
    describe(info, &module);
    if (module.end != 0)
        visitor->visit(visitor->argument, &module, 0);
    return 0;
}

void modules_visit(void (*visit)(void *argument, const struct tm_module *module, uint64_t unload), void *argument)
{
    struct visitor visitor = {visit, argument};
    ask_loader(visit_loaded, &visitor);
    uint32_t count = state_load(tm_state.module_count);
    for (uint32_t i = 0; i < count; i++) {
        const struct tm_module *module = &state_load(tm_state.modules)[i];
        visit(argument, module, (uint64_t)module->unload + 1);
    }
}

/* A thread that waits for the loader may wait for the forking thread: not for ever. */
void modules_quiesce(void)
{
    for (unsigned turn = 0; turn < 2000 && __atomic_load_n(&threads_asking, __ATOMIC_SEQ_CST); turn++)
        lock_pause(turn);
}

void modules_reset_lock(void)
{
    threads_asking = 0;
    lock_reset(&modules_lock);
}
